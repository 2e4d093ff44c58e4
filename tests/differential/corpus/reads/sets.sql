-- Set operations.

SELECT id FROM users WHERE id = 1 UNION SELECT id FROM users WHERE id = 2

SELECT id FROM users WHERE id = 3 UNION ALL SELECT id FROM users WHERE id = 4 UNION ALL SELECT id FROM users WHERE id = 5

SELECT id FROM users UNION SELECT user_id FROM jobs

SELECT id FROM users UNION ALL SELECT user_id FROM jobs

SELECT plan_id FROM users UNION SELECT priority FROM jobs ORDER BY 1

SELECT id FROM users EXCEPT SELECT user_id FROM jobs WHERE status = 'done' ORDER BY id

SELECT user_id FROM jobs EXCEPT ALL SELECT id FROM users ORDER BY 1

SELECT id FROM users INTERSECT SELECT user_id FROM lonely

SELECT priority FROM jobs INTERSECT ALL SELECT plan_id FROM users ORDER BY 1

SELECT name FROM users UNION SELECT name FROM jobs UNION SELECT name FROM plans ORDER BY name

SELECT name AS what, 1 AS n FROM users WHERE id < 5 UNION ALL SELECT name, 2 FROM plans ORDER BY n, what

SELECT id, name FROM users WHERE id < 10 UNION ALL SELECT id, name FROM jobs WHERE id < 10 ORDER BY 1, 2 LIMIT 8 OFFSET 2

(SELECT id FROM users ORDER BY id LIMIT 5) UNION (SELECT id FROM users ORDER BY id DESC LIMIT 5) ORDER BY 1

(SELECT plan_id FROM users EXCEPT SELECT 1) UNION ALL SELECT 9 ORDER BY 1

SELECT count(*) FROM users UNION ALL SELECT count(*) FROM jobs

SELECT 'users', count(*) FROM users UNION ALL SELECT 'jobs', count(*) FROM jobs ORDER BY 1

SELECT count(*) FROM (SELECT id FROM users UNION SELECT user_id FROM jobs) q

SELECT id FROM plans UNION SELECT plan_id FROM users

SELECT key FROM app_settings UNION SELECT name FROM users WHERE id < 4

SELECT 1 UNION SELECT 2 UNION SELECT 2 ORDER BY 1

SELECT id FROM users WHERE id < 5 UNION SELECT id FROM users WHERE id < 8 INTERSECT SELECT id FROM users WHERE id > 2

SELECT n FROM readings UNION SELECT price FROM readings WHERE id < 3 ORDER BY 1

SELECT NULL::int UNION SELECT i4 FROM readings ORDER BY 1 NULLS FIRST

SELECT mood FROM readings UNION SELECT mood FROM items ORDER BY 1

SELECT id FROM users WHERE id IN (SELECT user_id FROM lonely UNION SELECT user_id FROM jobs WHERE priority = 9) ORDER BY id

SELECT plan_id, count(*) FROM users GROUP BY plan_id UNION ALL SELECT NULL, count(*) FROM users ORDER BY 1

SELECT user_id FROM lonely UNION ALL SELECT user_id FROM empties

SELECT * FROM lonely EXCEPT SELECT * FROM lonely WHERE x > 2

TABLE empties UNION ALL TABLE empties

VALUES (1::bigint) UNION SELECT id FROM users WHERE id < 4

SELECT id FROM users WHERE id = $1{4} UNION SELECT id FROM users WHERE id = $2{5} ORDER BY 1
