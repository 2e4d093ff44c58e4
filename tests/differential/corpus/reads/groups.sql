-- GROUP BY.

SELECT plan_id, count(*) FROM users GROUP BY plan_id

SELECT plan_id, count(*) FROM users GROUP BY plan_id ORDER BY plan_id

SELECT plan_id, count(*) FROM users GROUP BY 1 ORDER BY 2 DESC, 1

SELECT count(*), plan_id FROM users GROUP BY 2 ORDER BY 2

SELECT plan_id AS p, count(*) AS c FROM users GROUP BY p ORDER BY c, p DESC

SELECT count(*) FROM users GROUP BY plan_id

SELECT count(*) FROM users GROUP BY plan_id ORDER BY plan_id DESC

SELECT name, count(*) FROM users GROUP BY name ORDER BY count(*) DESC, name

SELECT name, count(*) FROM users GROUP BY name ORDER BY 2 DESC, 1 LIMIT 7

SELECT name FROM users GROUP BY name ORDER BY max(id) DESC LIMIT 5

SELECT name FROM users GROUP BY name HAVING count(*) > 1

SELECT name, count(*) FROM users GROUP BY name HAVING count(*) = 1 AND max(id) > 100

SELECT plan_id FROM users GROUP BY plan_id HAVING sum(id) > $1{3700}

SELECT plan_id, avg(id) FROM users GROUP BY plan_id HAVING avg(id) > 75 ORDER BY 1

SELECT status, count(*) FROM jobs GROUP BY status HAVING min(priority) < 5 AND status <> 'done' ORDER BY status

SELECT status, priority, count(*), sum(id) FROM jobs GROUP BY status, priority ORDER BY status, priority

SELECT status, count(*) FROM jobs WHERE priority > $1{3} GROUP BY status HAVING count(*) > $2{10} ORDER BY status

SELECT id % 3, count(*) FROM users GROUP BY id % 3

SELECT id % 3 AS r, count(*) FROM users GROUP BY r ORDER BY r

SELECT id % 3 + 1, count(*) FROM users GROUP BY id % 3 + 1 ORDER BY 1

SELECT id % 3 + 1, count(*) FROM users GROUP BY id % 3 ORDER BY id % 3

SELECT lower(name), max(id) FROM users GROUP BY lower(name) ORDER BY lower(name)

SELECT upper(left(name, 1)) AS initial, count(*) FROM users GROUP BY 1 ORDER BY 1

SELECT length(name), count(*) FROM users GROUP BY length(name) ORDER BY length(name) DESC

SELECT date_trunc('month', created_at) AS month, count(*) FROM users GROUP BY month ORDER BY month

SELECT extract(dow FROM created_at) AS day, count(*) FROM users GROUP BY 1 ORDER BY 1

SELECT created_at::date, count(*) FROM users GROUP BY created_at::date ORDER BY 1 LIMIT 10

SELECT is_active, plan_id, count(*) FROM users GROUP BY is_active, plan_id ORDER BY is_active, plan_id

SELECT CASE WHEN id < 50 THEN 'low' ELSE 'high' END AS part, count(*), avg(plan_id) FROM users GROUP BY part ORDER BY part

SELECT session_token IS NULL, count(*) FROM users GROUP BY session_token IS NULL

SELECT session_token, count(*) FROM users GROUP BY session_token ORDER BY session_token NULLS FIRST LIMIT 5

SELECT plan_id, count(*) * 100.0 / 150 AS percent FROM users GROUP BY plan_id ORDER BY plan_id

SELECT plan_id * 10, sum(id) / count(*), plan_id + count(*) FROM users GROUP BY plan_id ORDER BY plan_id

SELECT plan_id, round(avg(id), 1), max(name) || '!' FROM users GROUP BY plan_id ORDER BY plan_id

SELECT plan_id, count(DISTINCT name) FROM users GROUP BY plan_id ORDER BY plan_id

SELECT plan_id, count(DISTINCT name), count(*), sum(id) FROM users GROUP BY plan_id ORDER BY 2, 1

SELECT plan_id, count(*) FILTER (WHERE is_active) FROM users GROUP BY plan_id ORDER BY plan_id

SELECT plan_id, string_agg(name, ', ' ORDER BY id) FROM users WHERE id < 30 GROUP BY plan_id ORDER BY plan_id

SELECT plan_id, array_agg(id ORDER BY id) FROM users GROUP BY plan_id ORDER BY plan_id

SELECT plan_id, percentile_disc(0.5) WITHIN GROUP (ORDER BY id) FROM users GROUP BY plan_id ORDER BY plan_id

SELECT user_id, count(*) FROM jobs GROUP BY user_id ORDER BY user_id

SELECT user_id, count(*), max(priority) FROM jobs GROUP BY user_id HAVING max(priority) > 8 ORDER BY user_id LIMIT 10

SELECT user_id, string_agg(name, ',' ORDER BY id) FROM jobs GROUP BY user_id ORDER BY user_id

SELECT user_id, count(DISTINCT status) FROM jobs GROUP BY user_id ORDER BY count(DISTINCT status) DESC, user_id

SELECT user_id % 5, count(*) FROM jobs GROUP BY user_id % 5 ORDER BY 1

SELECT user_id, status, count(*) FROM job_executions GROUP BY user_id, status ORDER BY 1, 2

SELECT id, name FROM users GROUP BY id ORDER BY id

SELECT id, count(*) FROM users GROUP BY id HAVING id > 140

SELECT u.id, u.name, count(j.id) FROM users u LEFT JOIN jobs j ON j.user_id = u.id GROUP BY u.id ORDER BY u.id

SELECT u.plan_id, count(j.id), avg(j.priority) FROM users u JOIN jobs j ON j.user_id = u.id GROUP BY u.plan_id ORDER BY u.plan_id

SELECT p.name, count(*) FROM users u JOIN plans p ON p.id = u.plan_id GROUP BY p.name ORDER BY p.name

SELECT p.name, p.max_jobs, count(*) FROM users u JOIN plans p ON p.id = u.plan_id GROUP BY p.id ORDER BY count(*), p.id

SELECT n, count(*) FROM readings GROUP BY n ORDER BY n

SELECT mood, count(*), avg(price), sum(n) FROM readings GROUP BY mood ORDER BY mood

SELECT mood, max(mood), min(label) FROM readings GROUP BY mood ORDER BY mood DESC

SELECT label, count(*) FROM readings GROUP BY label ORDER BY label

SELECT label, sum(f8) FROM readings GROUP BY label ORDER BY sum(f8), label

SELECT tags, count(*) FROM readings GROUP BY tags ORDER BY tags

SELECT doc, count(*) FROM readings GROUP BY doc ORDER BY doc

SELECT odd, count(*) FROM readings GROUP BY odd ORDER BY odd

SELECT d, count(*), sum(i4) FROM readings GROUP BY d ORDER BY d NULLS FIRST

SELECT flag, bool_and(i4 > 0), bool_or(i4 > 10) FROM readings GROUP BY flag ORDER BY flag

SELECT u, count(*) FROM readings GROUP BY u HAVING count(*) > 1 ORDER BY u

SELECT code, avg(i4), stddev(i4) FROM readings GROUP BY code ORDER BY code

SELECT fixed, count(*) FROM readings GROUP BY fixed ORDER BY fixed

SELECT span, count(*) FROM readings GROUP BY span ORDER BY span DESC

SELECT x, count(*) FROM empties GROUP BY x

SELECT x % 2, count(*), sum(x) FROM lonely GROUP BY x % 2 ORDER BY 1

SELECT plan_id, is_active, count(*) FROM users GROUP BY GROUPING SETS ((plan_id), (is_active), ()) ORDER BY 1, 2

SELECT plan_id, is_active, count(*), grouping(plan_id, is_active) FROM users GROUP BY CUBE (plan_id, is_active) ORDER BY 4, 1, 2

SELECT plan_id, is_active, sum(id) FROM users GROUP BY ROLLUP (plan_id, is_active) ORDER BY plan_id, is_active

SELECT plan_id, count(*) FROM users GROUP BY ROLLUP (plan_id) HAVING count(*) > 50 ORDER BY plan_id

SELECT plan_id, count(*) FROM users GROUP BY DISTINCT plan_id, plan_id ORDER BY 1

SELECT count(*) FROM users GROUP BY ()

SELECT count(*) FROM empties GROUP BY ()

SELECT max(c) FROM (SELECT count(*) AS c FROM users GROUP BY plan_id) q

SELECT c, count(*) FROM (SELECT plan_id, count(*) AS c FROM users GROUP BY plan_id) q GROUP BY c

SELECT c, count(*) FROM (SELECT user_id, count(*) AS c FROM jobs WHERE status <> 'done' GROUP BY user_id) q GROUP BY c ORDER BY c

SELECT avg(total) FROM (SELECT user_id, sum(price) AS total FROM readings GROUP BY user_id) q

SELECT plan_id, $1{2} * count(*) FROM users GROUP BY plan_id ORDER BY plan_id LIMIT $2{2} OFFSET $3{1}

SELECT plan_id, sum(id) AS total FROM users GROUP BY plan_id ORDER BY sum(id) / 2 DESC

SELECT plan_id FROM users GROUP BY plan_id, is_active ORDER BY plan_id, count(*)

SELECT coalesce(label, 'none') AS l, count(*) FROM readings GROUP BY coalesce(label, 'none') ORDER BY l

SELECT i4 / 5 AS fifth, avg(i4), avg(f8) FROM readings WHERE f8 IS NOT NULL GROUP BY i4 / 5 ORDER BY fifth

SELECT (plan_id, is_active) AS pair, count(*) FROM users GROUP BY (plan_id, is_active) ORDER BY 1

SELECT plan_id, count(*) FROM users WHERE id IN (1, 2, 3, 4, 5, 6, 7) GROUP BY plan_id ORDER BY plan_id

SELECT v / 100 AS bucket, count(*), sum(v), min(id) FROM bulk GROUP BY bucket ORDER BY bucket

SELECT user_id, v FROM bulk WHERE v < 20 GROUP BY user_id, v ORDER BY user_id, v

SELECT plan_id AS c, count(*) AS plan_id FROM users GROUP BY users.plan_id ORDER BY (plan_id), (1)

SELECT DISTINCT plan_id FROM users ORDER BY (1) DESC LIMIT 2
