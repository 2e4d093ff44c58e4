-- ORDER BY, merged.

SELECT id, name FROM users ORDER BY id

SELECT id, name FROM users ORDER BY id DESC

SELECT id, name FROM users ORDER BY name, id

SELECT id, name FROM users ORDER BY name DESC, id ASC

SELECT name FROM users ORDER BY name

SELECT id, plan_id FROM users ORDER BY plan_id

SELECT id, plan_id FROM users ORDER BY 2 DESC, 1

SELECT id, name AS called FROM users ORDER BY called, id

SELECT id AS name, name AS id FROM users ORDER BY name DESC

SELECT name FROM users ORDER BY id

SELECT name FROM users ORDER BY id DESC LIMIT 10

SELECT name FROM users ORDER BY plan_id, id DESC

SELECT id FROM users ORDER BY session_token, id

SELECT id FROM users ORDER BY session_token NULLS FIRST, id

SELECT id FROM users ORDER BY session_token DESC, id DESC

SELECT id FROM users ORDER BY session_token DESC NULLS LAST, id

SELECT id, session_token FROM users ORDER BY session_token IS NULL, session_token, id

SELECT id, name FROM users ORDER BY lower(name), id

SELECT id, name FROM users ORDER BY length(name) DESC, name, id

SELECT id FROM users ORDER BY id % 10, id / 10

SELECT id, id % 7 AS r FROM users ORDER BY r, id

SELECT id FROM users ORDER BY CASE plan_id WHEN 2 THEN 0 ELSE plan_id END, id

SELECT id FROM users ORDER BY plan_id = 2 DESC, id

SELECT id FROM users ORDER BY -id

SELECT id FROM users ORDER BY created_at DESC

SELECT id FROM users ORDER BY created_at::date, id

SELECT u.id, u.name FROM users u ORDER BY u.plan_id DESC, u.id

SELECT * FROM users ORDER BY plan_id, id

SELECT * FROM jobs ORDER BY priority DESC, status, id

SELECT u.*, 1 AS one FROM users u ORDER BY one, id

SELECT id, n FROM readings ORDER BY n, id

SELECT id, n FROM readings ORDER BY n DESC, id

SELECT id, n FROM readings ORDER BY n DESC NULLS LAST, id

SELECT n FROM readings ORDER BY n

SELECT id, price FROM readings ORDER BY price, id

SELECT id FROM readings ORDER BY big

SELECT id FROM readings ORDER BY f8, id

SELECT id, odd FROM readings ORDER BY odd, id

SELECT id, odd FROM readings ORDER BY odd DESC NULLS LAST, id

SELECT id, f4 FROM readings ORDER BY f4 DESC, id DESC

SELECT id FROM readings ORDER BY i2 DESC, id

SELECT id FROM readings ORDER BY i4 NULLS FIRST, i8

SELECT id, share FROM readings ORDER BY share, id

SELECT id, span FROM readings ORDER BY span, id

SELECT id FROM readings ORDER BY at DESC

SELECT id, ts FROM readings ORDER BY ts, id

SELECT id, d FROM readings ORDER BY d DESC NULLS LAST, id

SELECT id FROM readings ORDER BY tm, id

SELECT id, mood FROM readings ORDER BY mood, id

SELECT id, mood FROM readings ORDER BY mood DESC, id

SELECT id, flag FROM readings ORDER BY flag, id

SELECT id, flag FROM readings ORDER BY flag DESC NULLS LAST, id DESC

SELECT id, tags FROM readings ORDER BY tags, id

SELECT id, nums FROM readings ORDER BY nums DESC, id

SELECT id, doc FROM readings ORDER BY doc, id

SELECT id, doc FROM readings ORDER BY doc ->> 'k' DESC, id

SELECT id, u FROM readings ORDER BY u, id

SELECT id, label FROM readings ORDER BY label, id

SELECT id, label FROM readings ORDER BY label DESC, id

SELECT id, label FROM readings ORDER BY label COLLATE "C", id

SELECT id, code FROM readings ORDER BY code, id

SELECT id, fixed FROM readings ORDER BY fixed, id

SELECT id FROM readings ORDER BY raw, id

SELECT id, bits FROM readings ORDER BY bits, id

SELECT id, addr FROM readings ORDER BY addr, id

SELECT id FROM readings ORDER BY (doc, id)

SELECT id FROM readings ORDER BY ROW(i4, id)

SELECT id FROM readings ORDER BY n + i4, id

SELECT id FROM readings ORDER BY n * -1 NULLS FIRST, id

SELECT id FROM readings ORDER BY f8 / 2 DESC, id

SELECT id, x FROM (SELECT id, id % 5 AS x FROM users) q ORDER BY x, id

SELECT id FROM users ORDER BY $1{'constant'}::text, id

SELECT id FROM users ORDER BY id USING >

SELECT id FROM users ORDER BY id + $1{1} DESC

SELECT id, plan_id FROM users ORDER BY plan_id, plan_id, id DESC

SELECT x FROM empties ORDER BY x

SELECT x, t FROM lonely ORDER BY x DESC

SELECT id FROM bulk ORDER BY v, id

SELECT id, v FROM bulk ORDER BY v DESC, id DESC

(SELECT id FROM users ORDER BY id DESC)

SELECT j.id, u.name FROM jobs j JOIN users u ON u.id = j.user_id ORDER BY u.name, j.id

SELECT j.id FROM jobs j JOIN users u ON u.id = j.user_id ORDER BY u.plan_id DESC, j.priority, j.id

SELECT name, max_jobs FROM plans ORDER BY max_jobs DESC

SELECT body FROM memos ORDER BY n DESC

SELECT id FROM users WHERE id IN (1, 2, 3, 4, 5, 6) ORDER BY name

SELECT id, name FROM users WHERE id > $1{100} ORDER BY name DESC, id

-- Parentheses around a position or a name are nothing.
SELECT plan_id, id FROM users ORDER BY (1), ((2)) DESC LIMIT 7

SELECT -id AS id, name FROM users ORDER BY (id) LIMIT 5

SELECT plan_id AS p, id FROM users ORDER BY (p) DESC, (id) LIMIT 9

SELECT -id AS q FROM users ORDER BY (q) OFFSET 3

SELECT * FROM users ORDER BY (1) DESC LIMIT 4

SELECT id, max(priority) FROM jobs GROUP BY id ORDER BY (2) DESC, (1) LIMIT 6
