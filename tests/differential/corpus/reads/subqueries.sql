-- Sub-queries: on the outer row's key or not, of each kind.

SELECT id FROM users WHERE id IN (SELECT user_id FROM jobs WHERE status = 'done')

SELECT id FROM users WHERE id NOT IN (SELECT user_id FROM jobs WHERE status = 'done')

SELECT id FROM users WHERE id IN (SELECT id FROM jobs)

SELECT id FROM users WHERE plan_id IN (SELECT id FROM plans WHERE max_jobs > 10)

SELECT id FROM users WHERE plan_id NOT IN (SELECT id FROM plans WHERE name LIKE 't%')

SELECT id FROM users WHERE id IN (SELECT id FROM memos)

SELECT id FROM users WHERE EXISTS (SELECT 1 FROM jobs WHERE user_id = users.id AND priority = 9)

SELECT id FROM users u WHERE NOT EXISTS (SELECT FROM notifications n WHERE n.user_id = u.id AND n.is_read)

SELECT id FROM users u WHERE EXISTS (SELECT FROM jobs j WHERE j.id = u.id AND j.status = 'done')

SELECT id FROM users WHERE EXISTS (SELECT FROM jobs WHERE priority > 8)

SELECT id FROM users WHERE EXISTS (SELECT FROM lonely WHERE x = 5)

SELECT id FROM users WHERE NOT EXISTS (SELECT FROM empties)

SELECT id, (SELECT count(*) FROM jobs j WHERE j.user_id = u.id) FROM users u ORDER BY id

SELECT id, (SELECT max(priority) FROM jobs j WHERE j.user_id = u.id AND j.status = 'pending') AS p FROM users u ORDER BY p NULLS FIRST, id

SELECT id, (SELECT count(*) FROM jobs) FROM users ORDER BY id LIMIT 4

SELECT id, (SELECT count(*) FROM users b WHERE b.id < a.id) FROM users a ORDER BY id

SELECT id, (SELECT name FROM plans p WHERE p.id = u.plan_id) FROM users u ORDER BY id LIMIT 10

SELECT id, (SELECT value FROM app_settings WHERE key = 'default_plan') FROM users WHERE id < 10

SELECT id FROM users WHERE id = (SELECT max(id) FROM users)

SELECT id, name FROM users WHERE created_at > (SELECT avg(id) * interval '7 hours' + timestamptz '2025-01-01 00:00:00+00' FROM users)

SELECT id FROM jobs WHERE priority > (SELECT avg(priority) FROM jobs)

SELECT id FROM jobs j WHERE priority > (SELECT avg(priority) FROM jobs k WHERE k.user_id = j.user_id)

SELECT id FROM jobs j WHERE priority = (SELECT max(priority) FROM jobs k WHERE k.name = j.name)

SELECT id FROM users WHERE id > ALL (SELECT user_id FROM jobs WHERE priority = 1 AND user_id < 140)

SELECT id FROM users WHERE id = ANY (SELECT user_id FROM lonely)

SELECT id FROM users WHERE (id, plan_id) IN (SELECT user_id, priority FROM jobs)

SELECT id FROM users WHERE (SELECT count(*) FROM jobs j WHERE j.user_id = users.id AND j.status = 'done') = 1

SELECT q.id FROM (SELECT id, plan_id FROM users WHERE is_active) q WHERE q.plan_id = 1 ORDER BY q.id

SELECT q.p, q.c FROM (SELECT plan_id AS p, count(*) AS c FROM users GROUP BY plan_id) q WHERE q.c > 10 ORDER BY q.p

SELECT sum(q.c) FROM (SELECT count(*) AS c FROM users) q

SELECT max(q.s) FROM (SELECT user_id, sum(priority) AS s FROM jobs GROUP BY user_id) q

SELECT q.id FROM (SELECT id FROM users ORDER BY id DESC LIMIT 10) q ORDER BY q.id

SELECT q.id, q.n FROM (SELECT id, row_number() OVER (ORDER BY name, id) AS n FROM users) q WHERE q.n BETWEEN 10 AND 20 ORDER BY q.n

SELECT * FROM (SELECT DISTINCT plan_id FROM users) a, (SELECT DISTINCT is_active FROM users) b ORDER BY 1, 2

SELECT count(*) FROM (SELECT u.id FROM users u JOIN jobs j ON j.user_id = u.id) q

SELECT id FROM (SELECT * FROM (SELECT id, plan_id FROM users) a WHERE plan_id = 2) b WHERE id > 100 ORDER BY 1

SELECT id, CASE WHEN EXISTS (SELECT FROM lonely l WHERE l.user_id = u.id) THEN 'lonely' END FROM users u WHERE id < 12

SELECT ARRAY(SELECT j.id FROM jobs j WHERE j.user_id = u.id ORDER BY j.id) FROM users u ORDER BY u.id

SELECT ARRAY(SELECT id FROM users WHERE plan_id = 2 ORDER BY id)

SELECT id FROM users ORDER BY (SELECT max(priority) FROM jobs j WHERE j.user_id = users.id) DESC, id LIMIT 10

SELECT plan_id, (SELECT count(*) FROM jobs) FROM users GROUP BY plan_id ORDER BY plan_id

SELECT plan_id, count(*) FROM users GROUP BY plan_id HAVING count(*) > (SELECT count(*) / 4 FROM users) ORDER BY plan_id

SELECT count(*) FROM users WHERE id IN (SELECT user_id FROM jobs WHERE id IN (SELECT job_id FROM job_executions WHERE status = 'failed'))

SELECT p.id, (SELECT count(*) FROM users u WHERE u.plan_id = p.id) FROM plans p ORDER BY p.id

SELECT p.name FROM plans p WHERE EXISTS (SELECT FROM users u WHERE u.plan_id = p.id AND u.id > 148)

SELECT p.name FROM plans p WHERE p.id IN (SELECT plan_id FROM users WHERE id = 5)

SELECT m.id FROM memos m WHERE m.id IN (SELECT user_id FROM jobs WHERE priority = 3) ORDER BY m.id

SELECT s.key FROM app_settings s WHERE EXISTS (SELECT FROM users WHERE name = s.value) ORDER BY 1

SELECT 1 WHERE EXISTS (SELECT FROM users WHERE id = 149)

SELECT 1 WHERE (SELECT count(*) FROM users) = 150

SELECT id FROM users WHERE id IN (SELECT user_id FROM jobs WHERE priority > $1{7}) AND plan_id = $2{2} ORDER BY id

SELECT id, (SELECT sum(price) FROM items WHERE user_id = users.id AND qty > $1{3}) FROM users WHERE id < $2{20} ORDER BY id

SELECT id, (SELECT string_agg(j.name, ',' ORDER BY j.id) FROM jobs j WHERE j.user_id = u.id) FROM users u ORDER BY id LIMIT 5

-- error 21000
SELECT (SELECT id FROM users)

SELECT (SELECT x FROM empties)

SELECT id FROM users u WHERE u.id IN (SELECT l.user_id FROM lonely l WHERE l.user_id = u.id)

SELECT count(*) FILTER (WHERE id IN (SELECT user_id FROM lonely)) FROM users
