-- Common table expressions.

WITH active AS (SELECT id, plan_id FROM users WHERE is_active) SELECT count(*) FROM active

WITH active AS (SELECT id, plan_id FROM users WHERE is_active) SELECT id FROM active WHERE plan_id = 3 ORDER BY id

WITH c AS (SELECT plan_id, count(*) AS n FROM users GROUP BY plan_id) SELECT max(n) FROM c

WITH c AS (SELECT plan_id, count(*) AS n FROM users GROUP BY plan_id) SELECT u.id, c.n FROM users u JOIN c USING (plan_id) ORDER BY u.id

WITH c AS (SELECT user_id, count(*) AS n FROM jobs GROUP BY user_id) SELECT u.id, c.n FROM users u JOIN c ON c.user_id = u.id ORDER BY u.id

WITH a AS (SELECT id FROM users WHERE id < 50), b AS (SELECT id FROM a WHERE id > 40) SELECT * FROM b ORDER BY id

WITH a AS MATERIALIZED (SELECT id, name FROM users) SELECT a.name, count(*) FROM a GROUP BY a.name ORDER BY 2 DESC, 1 LIMIT 5

WITH a AS NOT MATERIALIZED (SELECT id, name FROM users) SELECT x.id FROM a x JOIN a y ON y.id = x.id + 10 ORDER BY 1

WITH top AS (SELECT id FROM jobs ORDER BY priority DESC, id LIMIT 10) SELECT j.id, j.name FROM jobs j JOIN top ON top.id = j.id ORDER BY j.id

WITH RECURSIVE chain AS (SELECT id FROM users WHERE id = 1 UNION ALL SELECT u.id FROM users u JOIN chain c ON u.id = c.id * 2) SELECT id FROM chain ORDER BY id

WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n WHERE i < 10) SELECT sum(i) FROM n

WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n WHERE i < 10) SELECT n.i, u.name FROM n JOIN users u ON u.id = n.i ORDER BY n.i

WITH RECURSIVE walk AS (SELECT id, 1 AS depth FROM users WHERE id = 7 UNION SELECT j.id, w.depth + 1 FROM walk w JOIN jobs j ON j.user_id = w.id WHERE w.depth < 3) SELECT depth, count(*) FROM walk GROUP BY depth ORDER BY depth

WITH users AS (SELECT 1 AS id, 'shadow' AS name) SELECT * FROM users

WITH users AS (SELECT * FROM public.users WHERE id < 4) SELECT id, name FROM users ORDER BY id

WITH p AS (SELECT * FROM plans) SELECT u.id, p.name FROM users u JOIN p ON p.id = u.plan_id WHERE u.id < 10

WITH m AS (SELECT max(id) AS id FROM users) SELECT name FROM users WHERE id = (SELECT id FROM m)

WITH v (id, t) AS (VALUES (1, 'a'), (5, 'b')) SELECT u.name, v.t FROM users u JOIN v ON v.id = u.id ORDER BY 2

WITH unused AS (SELECT * FROM jobs) SELECT id FROM users WHERE id < 3

WITH s AS (SELECT id FROM users WHERE plan_id = $1{2}) SELECT count(*), min(id) FROM s WHERE id > $2{10}

WITH a AS (SELECT user_id, sum(priority) AS s FROM jobs GROUP BY user_id), b AS (SELECT user_id, count(*) AS c FROM notifications GROUP BY user_id) SELECT user_id, s, c FROM a JOIN b USING (user_id) ORDER BY user_id

WITH d AS (SELECT DISTINCT name FROM users) SELECT count(*) FROM d

WITH l AS (SELECT id FROM users LIMIT 10) SELECT count(*) FROM l

WITH w AS (SELECT id, rank() OVER (ORDER BY plan_id) AS r FROM users) SELECT r, count(*) FROM w GROUP BY r ORDER BY r

SELECT * FROM (WITH c AS (SELECT count(*) AS n FROM users) SELECT n + 1 AS m FROM c) q

WITH RECURSIVE t AS (SELECT id, name FROM users WHERE id = 3 UNION ALL SELECT t.id + 1, t.name FROM t WHERE t.id < 6) SELECT * FROM t ORDER BY id
