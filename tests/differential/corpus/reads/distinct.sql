-- DISTINCT.

SELECT DISTINCT plan_id FROM users

SELECT DISTINCT plan_id FROM users ORDER BY plan_id DESC

SELECT DISTINCT name FROM users ORDER BY name LIMIT 10

SELECT DISTINCT name, plan_id FROM users ORDER BY plan_id, name LIMIT 10 OFFSET 5

SELECT DISTINCT is_active, plan_id FROM users

SELECT DISTINCT ON (plan_id) plan_id, id FROM users ORDER BY plan_id, id

SELECT DISTINCT ON (plan_id) plan_id, id, name FROM users ORDER BY plan_id, id DESC

SELECT DISTINCT ON (name) name, id FROM users ORDER BY name, id DESC LIMIT 5

SELECT DISTINCT ON (user_id) user_id, id, priority FROM jobs ORDER BY user_id, priority DESC, id

SELECT DISTINCT ON (plan_id % 2) id FROM users ORDER BY plan_id % 2, id

SELECT DISTINCT id % 4 FROM users

SELECT DISTINCT id % 4 AS r, id % 2 = 0 FROM users ORDER BY r

SELECT DISTINCT label FROM readings ORDER BY label

SELECT DISTINCT n FROM readings ORDER BY n NULLS FIRST

SELECT DISTINCT odd FROM readings ORDER BY odd DESC

SELECT DISTINCT mood FROM readings ORDER BY mood

SELECT DISTINCT tags, flag FROM readings ORDER BY 1, 2

SELECT DISTINCT doc FROM readings

SELECT DISTINCT session_token IS NULL FROM users

SELECT DISTINCT user_id FROM jobs ORDER BY user_id

SELECT DISTINCT user_id FROM jobs WHERE priority = 9 ORDER BY user_id LIMIT 6

SELECT DISTINCT user_id, status FROM jobs ORDER BY 1, 2

SELECT DISTINCT u.plan_id, j.status FROM users u JOIN jobs j ON j.user_id = u.id ORDER BY 1, 2

SELECT DISTINCT count(*) FROM users GROUP BY plan_id

SELECT DISTINCT count(*) FROM jobs GROUP BY user_id, status ORDER BY 1

SELECT DISTINCT 1 FROM users

SELECT DISTINCT x FROM empties

SELECT DISTINCT * FROM lonely ORDER BY x

SELECT DISTINCT sum(id) OVER (PARTITION BY plan_id) FROM users

SELECT count(*) FROM (SELECT DISTINCT name FROM users) q

SELECT DISTINCT upper(name) FROM users ORDER BY upper(name) DESC LIMIT 4

SELECT DISTINCT ON (1) plan_id, max(id) FROM users GROUP BY plan_id, is_active ORDER BY 1, 2 DESC

SELECT DISTINCT plan_id FROM users WHERE id IN (1, 2, 3, 4, 5)

SELECT DISTINCT code FROM readings WHERE i4 > $1{3} ORDER BY code

SELECT DISTINCT p.name FROM plans p JOIN users u ON u.plan_id = p.id WHERE u.id > 20 ORDER BY 1

SELECT ALL plan_id FROM users WHERE id < 12
