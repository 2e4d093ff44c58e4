-- Windows.

SELECT id, row_number() OVER (ORDER BY id) FROM users

SELECT id, row_number() OVER (ORDER BY id) FROM users ORDER BY id LIMIT 5

SELECT id, rank() OVER (ORDER BY plan_id) FROM users ORDER BY id

SELECT id, plan_id, dense_rank() OVER (ORDER BY plan_id DESC) AS r FROM users ORDER BY id LIMIT 20

SELECT id, count(*) OVER () FROM users WHERE id < 20

SELECT id, sum(id) OVER () FROM users ORDER BY id LIMIT 3

SELECT id, sum(id) OVER (ORDER BY id) FROM users ORDER BY id

SELECT id, sum(id) OVER (PARTITION BY plan_id) FROM users ORDER BY id

SELECT id, sum(id) OVER (PARTITION BY plan_id ORDER BY id) FROM users ORDER BY id

SELECT id, lag(id) OVER (ORDER BY id), lead(id, 2, 0) OVER (ORDER BY id) FROM users ORDER BY id

SELECT id, first_value(name) OVER (PARTITION BY plan_id ORDER BY id), last_value(id) OVER (PARTITION BY plan_id) > 0 FROM users

SELECT id, ntile(4) OVER (ORDER BY id), percent_rank() OVER (ORDER BY id), cume_dist() OVER (ORDER BY id) FROM users

SELECT id, avg(price) OVER (ORDER BY id ROWS BETWEEN 2 PRECEDING AND CURRENT ROW) FROM readings ORDER BY id

SELECT id, count(*) OVER (ORDER BY i4 RANGE BETWEEN 1 PRECEDING AND 1 FOLLOWING) FROM readings WHERE i4 IS NOT NULL

SELECT user_id, id, row_number() OVER (PARTITION BY user_id ORDER BY id) FROM jobs ORDER BY user_id, id

SELECT user_id, id, rank() OVER (PARTITION BY user_id ORDER BY priority DESC, id) AS r FROM jobs

SELECT user_id, id, sum(priority) OVER (PARTITION BY user_id) FROM jobs WHERE status <> 'done'

SELECT user_id, id, count(*) OVER (PARTITION BY user_id, status) FROM jobs ORDER BY id

SELECT id, count(*) OVER (PARTITION BY status) FROM jobs ORDER BY id LIMIT 30

SELECT * FROM (SELECT user_id, id, row_number() OVER (PARTITION BY user_id ORDER BY id DESC) AS n FROM jobs) q WHERE n = 1

SELECT user_id, id FROM (SELECT user_id, id, row_number() OVER (ORDER BY priority DESC, id) AS n FROM jobs) q WHERE n <= 5

SELECT plan_id, count(*), rank() OVER (ORDER BY count(*) DESC, plan_id) FROM users GROUP BY plan_id

SELECT plan_id, sum(count(*)) OVER () FROM users GROUP BY plan_id

SELECT plan_id, count(*) * 100.0 / sum(count(*)) OVER () AS percent FROM users GROUP BY plan_id ORDER BY plan_id

SELECT id, sum(id) OVER w, count(*) OVER w FROM users WINDOW w AS (PARTITION BY plan_id ORDER BY id) ORDER BY id

SELECT user_id, id, sum(priority) OVER w FROM jobs WINDOW w AS (PARTITION BY user_id ORDER BY id)

SELECT u.id, j.id, row_number() OVER (PARTITION BY u.id ORDER BY j.id) FROM users u JOIN jobs j ON j.user_id = u.id ORDER BY j.id

SELECT u.id, j.id, row_number() OVER (PARTITION BY u.plan_id ORDER BY j.id) FROM users u JOIN jobs j ON j.user_id = u.id ORDER BY j.id

SELECT id, row_number() OVER (ORDER BY mood, id), row_number() OVER (ORDER BY n DESC, id) FROM readings

SELECT id FROM users ORDER BY row_number() OVER (ORDER BY name, id)

SELECT id, sum(id) FILTER (WHERE is_active) OVER (PARTITION BY plan_id) FROM users ORDER BY id

SELECT id, max(label) OVER (PARTITION BY mood) FROM readings ORDER BY id

SELECT x, sum(x) OVER (ORDER BY x) FROM lonely

SELECT x, count(*) OVER () FROM empties

SELECT id, count(*) OVER (PARTITION BY plan_id) FROM users WHERE id IN (1, 2, 3, 4, 5, 6)

SELECT DISTINCT plan_id, count(*) OVER (PARTITION BY plan_id) FROM users ORDER BY 1

SELECT id, sum(qty) OVER (PARTITION BY user_id ORDER BY id ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING EXCLUDE CURRENT ROW) FROM items ORDER BY user_id, id

SELECT id, sum(priority) OVER w FROM jobs WINDOW w AS (ORDER BY priority, id GROUPS BETWEEN 1 PRECEDING AND 1 FOLLOWING EXCLUDE TIES) ORDER BY id

SELECT user_id, count(*) OVER (PARTITION BY user_id ORDER BY qty ROWS 2 PRECEDING EXCLUDE NO OTHERS) FROM items WHERE user_id IN (3, 4, 5) ORDER BY user_id, id
