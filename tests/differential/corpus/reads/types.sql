-- Values of every kind come through as they are.

SELECT * FROM readings ORDER BY id

SELECT id, n, -n, n * 2, round(n, 2), trunc(n), n::text FROM readings ORDER BY id

SELECT id, f8, f4, odd, odd::text FROM readings ORDER BY id

SELECT id, span, span * 2, justify_interval(span), extract(epoch FROM span) FROM readings ORDER BY id

SELECT id, at, ts, d, tm, at::date, ts::time, d + 1 FROM readings ORDER BY id

SELECT id, tags, nums, tags || 'x'::text, array_length(nums, 1), nums[1] FROM readings ORDER BY id

SELECT id, doc, doc -> 'deep', doc ->> 'k', doc #>> '{deep,1}' FROM readings ORDER BY id

SELECT id, u, raw, bits, addr, encode(raw, 'base64') FROM readings ORDER BY id

SELECT id, label, code, fixed, fixed || '|', length(label), quote_literal(label) FROM readings ORDER BY id

SELECT id, mood, mood::text, mood > 'ok' FROM readings ORDER BY id

SELECT id FROM readings WHERE mood > 'ok' ORDER BY mood, id

SELECT id FROM readings WHERE tags @> ARRAY['a'] ORDER BY id

SELECT id FROM readings WHERE doc @> '{"k": 2}' ORDER BY id

SELECT id FROM readings WHERE 2 = ANY(nums) ORDER BY id

SELECT id FROM readings WHERE span > '10 hours' ORDER BY span, id

SELECT id FROM readings WHERE odd = 'NaN' ORDER BY id

SELECT id FROM readings WHERE n > $1{1.5} ORDER BY id

SELECT id FROM readings WHERE at < $1{'2025-02-01 00:00:00+00'} ORDER BY at

SELECT id FROM readings WHERE u = $1{'00000000-0000-0000-0000-000000000000'} OR u::text < '1' ORDER BY id

SELECT id FROM readings WHERE flag = $1{true} AND f8 > $2{1.25} ORDER BY id

SELECT id FROM readings WHERE label = $1{'Äpfel'} OR label = $2{'日本'} ORDER BY id

SELECT id FROM readings WHERE label = $1{''} ORDER BY id

SELECT id, $1{'text'}::text AS t, $2{NULL}::int AS i FROM readings WHERE id < 5

SELECT id, (id, label) AS pair FROM readings WHERE id < 20

SELECT r FROM readings r WHERE id < 5

SELECT to_jsonb(r) FROM readings r WHERE id < 12 ORDER BY id

SELECT user_id, jsonb_agg(doc ORDER BY id) FROM readings GROUP BY user_id ORDER BY user_id

SELECT mood, sum(span), avg(span) FROM readings GROUP BY mood ORDER BY mood

SELECT flag, sum(big), avg(big), max(big) FROM readings GROUP BY flag ORDER BY flag

SELECT code, sum(n) FROM readings WHERE n < 1000000 GROUP BY code ORDER BY sum(n), code

SELECT share, avg(share) FROM readings WHERE share < 5 GROUP BY share ORDER BY share

SELECT min(u::text), max(u::text) FROM readings

SELECT max(raw) IS NULL FROM (SELECT max(encode(raw, 'hex')) AS raw FROM readings) q

SELECT NULL AS nothing, NULL::numeric(5, 2) AS n, ''::varchar(3) AS v, 'x'::char(3) AS c FROM users WHERE id < 4

SELECT id::smallint, id::numeric(8, 3), id::float4, id::text, id::varchar(2) FROM users WHERE id < 6 ORDER BY users.id

SELECT current_user, current_database() IS NOT NULL, 1 FROM users WHERE id < 3
