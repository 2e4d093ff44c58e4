-- Rows as they lie, of all shards.

SELECT * FROM users

SELECT id, name FROM users WHERE plan_id = 2

SELECT name FROM users WHERE id > $1{140}

SELECT * FROM readings

SELECT id, user_id, n, price, big FROM readings WHERE n IS NULL

SELECT users.* FROM users WHERE is_active AND plan_id IN (1, 3)

SELECT u FROM users u WHERE u.id < 10

SELECT id AS "User", name AS "select" FROM users WHERE id < 20

SELECT id, id, name FROM users WHERE id < 20

SELECT 1 FROM users

SELECT FROM users

SELECT 'constant', NULL, 7.50, true FROM users WHERE id < 5

SELECT id + 1, name || '!', upper(name) FROM users

SELECT id * 2 AS twice, -id FROM users WHERE id BETWEEN 10 AND 30

SELECT id FROM users WHERE id = 2 + 3

SELECT id, name FROM users WHERE id = $1{2}::int + $2{3}

SELECT id FROM users WHERE id = 4 OR id = 5 OR id = 6

SELECT id FROM users WHERE id IN (1, 2, 3, 4, 5, 6, 7, 8, 9, 10)

SELECT id FROM users WHERE id = ANY($1{'{1,2,3,4,5,6}'})

SELECT id FROM users WHERE id = ANY('{1,2,3,4,5,6,NULL}'::bigint[])

SELECT id FROM users WHERE id IN ($1{7}, $2{8}, $3{9})

SELECT * FROM jobs WHERE user_id IN (1, 2, 3, 4) AND status = 'done'

SELECT id FROM users WHERE NOT (id > 3)

SELECT id FROM users WHERE id <> 7 AND id <= 12

SELECT id FROM users WHERE id::text LIKE '1%'

SELECT id FROM users WHERE id % 10 = 0

SELECT id FROM users WHERE (id, plan_id) IN ((1, 2), (2, 3), (3, 1))

SELECT id FROM users WHERE (id, name) < (5, 'M')

SELECT id FROM users WHERE name ~ '^A' AND name !~ 'n$'

SELECT id FROM users WHERE name ILIKE '%ada%'

SELECT id FROM users WHERE session_token IS NULL

SELECT id FROM users WHERE session_token IS NOT NULL AND is_active IS NOT TRUE

SELECT id, session_token IS NULL AS none FROM users WHERE coalesce(session_token, 'x') <> 'y'

SELECT id FROM users WHERE false

SELECT id FROM users WHERE NULL

SELECT * FROM empties

SELECT x, t FROM empties WHERE x > 1

SELECT * FROM lonely

SELECT id, user_id, v FROM bulk WHERE v > 900

SELECT * FROM bulk

SELECT id FROM ONLY users WHERE id < 9

TABLE lonely

SELECT id, CASE plan_id WHEN 1 THEN 'one' WHEN 2 THEN 'two' ELSE 'more' END FROM users

SELECT id, CASE WHEN id % 2 = 0 THEN name END AS even FROM users

SELECT id, greatest(id, 50), least(plan_id, 2), nullif(plan_id, 1) FROM users

SELECT id, created_at::date, extract(hour FROM created_at) AS hour, date_trunc('day', created_at) FROM users

SELECT id, age(created_at, '2025-01-01 00:00:00+00') FROM users WHERE id < 40

SELECT id, created_at AT TIME ZONE 'Europe/Berlin' FROM users WHERE id < 40

SELECT id, to_char(created_at, 'YYYY-MM-DD') FROM users WHERE id < 40

SELECT id, generate_series(1, 2) FROM users WHERE id < 6

SELECT id, unnest(tags) FROM readings WHERE id < 40

SELECT r.id, t.tag FROM readings r, unnest(r.tags) AS t (tag) WHERE r.id < 40

SELECT r.id, t.tag, t.place FROM readings r CROSS JOIN LATERAL unnest(r.tags) WITH ORDINALITY AS t (tag, place) WHERE r.id < 40

SELECT r.id, e.key, e.value FROM readings r, jsonb_each(r.doc) e WHERE r.id < 30

SELECT * FROM active_users

SELECT count(*) FROM active_users

SELECT a.name, p.name FROM active_users a JOIN plans p ON p.id = a.plan_id WHERE p.max_jobs > 3

SELECT job_count()

SELECT id, job_count() FROM plans

SELECT id, job_count() FROM users WHERE id < 4

SELECT * FROM plans

SELECT * FROM app_settings ORDER BY key

SELECT id, body, n FROM memos WHERE n > 2

SELECT 1 + 1

SELECT $1{5}::int + 1, $2{'x'}::text

SELECT id FROM users WHERE id = $1{NULL}

SELECT id, l.tableoid::regclass FROM lonely l, users u WHERE u.id = l.user_id

SELECT user_id, id FROM jobs WHERE schedule = '0 9 * * 1' AND priority >= $1{5} AND status <> $2{'done'}

SELECT id FROM users WHERE email = $1{'user77@example.com'}

SELECT id FROM users WHERE email = $1{'nobody@example.com'}

VALUES (1, 'a'), (2, 'b')

-- error 42703
SELECT nothing FROM users

-- error 42P01
SELECT 1 FROM nowhere

-- error 22012
SELECT id / (id - id) FROM users

-- error 22P02
SELECT id FROM users WHERE name::integer = 3

-- error 42803
SELECT plan_id, name, count(*) FROM users GROUP BY plan_id

-- error 42883
SELECT sum(name) FROM users

-- error 42703
SELECT id FROM users ORDER BY nothing

-- error 42P10
SELECT id FROM users ORDER BY 3

-- error 42702
SELECT id FROM users u JOIN jobs j ON j.user_id = u.id

-- error 2201W
SELECT id FROM users ORDER BY id LIMIT -1

-- error 22003
SELECT sum(i8 * 9000000000) FROM readings WHERE i8 > 0 AND (i8 * 1000000)::numeric > 0
