-- Joins: on the keys, not on the keys, with tables that are everywhere or at home.

SELECT u.name, j.name FROM users u JOIN jobs j ON j.user_id = u.id

SELECT u.id, j.id FROM users u JOIN jobs j ON j.user_id = u.id WHERE j.status = 'done' ORDER BY j.id

SELECT u.id, j.id FROM users u, jobs j WHERE j.user_id = u.id AND u.plan_id = 2 ORDER BY 2

SELECT j.id, e.id FROM jobs j JOIN job_executions e ON e.job_id = j.id AND e.user_id = j.user_id WHERE e.status = 'failed' ORDER BY e.id

SELECT j.id, e.id FROM jobs j JOIN job_executions e USING (user_id) WHERE e.job_id = j.id AND j.id < 50

SELECT user_id, j.name, n.message FROM jobs j JOIN notifications n USING (user_id) WHERE user_id < 10

SELECT count(*) FROM jobs NATURAL JOIN (SELECT user_id, is_read FROM notifications) n

SELECT u.id, n.id FROM users u LEFT JOIN notifications n ON n.user_id = u.id AND n.is_read ORDER BY u.id, n.id

SELECT u.id FROM users u LEFT JOIN lonely l ON l.user_id = u.id WHERE l.user_id IS NULL

SELECT l.x, u.name FROM users u RIGHT JOIN lonely l ON l.user_id = u.id

SELECT u.id, l.x FROM users u FULL JOIN lonely l ON l.user_id = u.id ORDER BY 1, 2

SELECT u.id, e.x FROM users u LEFT JOIN empties e ON e.user_id = u.id WHERE u.id < 10

SELECT u.id, e.x FROM empties e LEFT JOIN users u ON e.user_id = u.id

SELECT u.id, j.id, e.id FROM users u JOIN jobs j ON j.user_id = u.id JOIN job_executions e ON e.user_id = u.id AND e.job_id = j.id WHERE u.plan_id = 1 AND e.status = 'failed'

SELECT u.name, p.name FROM users u JOIN plans p ON p.id = u.plan_id

SELECT u.id, p.name, p.monthly_price FROM users u JOIN plans p ON p.id = u.plan_id ORDER BY p.monthly_price DESC, u.id LIMIT 10

SELECT u.id, p.name FROM users u LEFT JOIN plans p ON p.id = u.plan_id AND p.max_jobs > 10 ORDER BY u.id

SELECT p.name, u.id FROM plans p LEFT JOIN users u ON u.plan_id = p.id AND u.id > 140

SELECT p.name, count(u.id) FROM plans p LEFT JOIN users u ON u.plan_id = p.id AND u.id % 2 = 0 GROUP BY p.name ORDER BY p.name

SELECT p.title, i.user_id FROM products p LEFT JOIN items i ON i.sku = p.sku AND i.user_id = 3

SELECT p.title, i.user_id FROM products p LEFT JOIN items i ON i.sku = p.sku AND i.user_id < 6

SELECT p.sku, i.sku FROM products p FULL JOIN items i ON i.sku = p.sku WHERE i.user_id IS NULL OR i.user_id < 5

SELECT i.user_id, i.id, p.title, i.qty * p.cost AS value FROM items i JOIN products p USING (sku) ORDER BY value DESC, 1, 2 LIMIT 20

SELECT i.user_id, p.title FROM items i RIGHT JOIN products p ON p.sku = i.sku AND i.qty > 10

SELECT p.name, count(*) FROM plans p CROSS JOIN users u GROUP BY p.name ORDER BY 1

SELECT u.id, p.id FROM users u CROSS JOIN plans p WHERE u.id < 4

SELECT u.id, s.value FROM users u, app_settings s WHERE s.key = 'retention_days' AND u.id < 30

SELECT u.id, m.body FROM users u JOIN memos m ON m.id = u.id

SELECT m.id, u.name FROM memos m LEFT JOIN users u ON u.id = m.id ORDER BY m.id

SELECT u.id, m.body FROM users u LEFT JOIN memos m ON m.id = u.id ORDER BY u.id

SELECT m.body, p.name FROM memos m JOIN plans p ON p.id = m.id

SELECT a.id, b.id FROM users a JOIN users b ON b.id = a.id + 1

SELECT a.id, b.id FROM users a JOIN users b ON b.id = a.id WHERE a.plan_id = 3

SELECT a.id, b.id FROM users a JOIN users b ON b.name = a.name AND b.id > a.id ORDER BY 1, 2

SELECT a.id, b.id FROM users a, users b WHERE a.id < 5 AND b.id < 5

SELECT count(*) FROM users a, users b WHERE a.id < b.id

SELECT j.id, k.id FROM jobs j JOIN jobs k ON k.name = j.name AND k.priority = j.priority AND k.id < j.id WHERE j.id < 60

SELECT j.id, e.id FROM jobs j JOIN job_executions e ON e.job_id = j.id WHERE e.status = 'running'

SELECT e.status, count(*) FROM jobs j JOIN job_executions e ON e.job_id = j.id GROUP BY e.status ORDER BY 1

SELECT u.id, j.id FROM users u JOIN jobs j ON j.id = u.id

SELECT u.id, j.id FROM users u JOIN jobs j ON j.user_id = u.plan_id WHERE u.id < 20

SELECT u.id, j.id FROM users u JOIN jobs j ON j.user_id = u.id + 0 WHERE u.id < 20

SELECT u.id, j.id FROM users u JOIN jobs j ON j.user_id >= u.id AND j.user_id <= u.id WHERE u.id < 20

SELECT u.id, j.id FROM users u LEFT JOIN jobs j ON j.id = u.id * 3 ORDER BY u.id

SELECT u.id, j.id FROM users u JOIN jobs j ON j.user_id = u.id OR j.id = u.id WHERE u.id < 20

SELECT u.id, x.id FROM users u CROSS JOIN LATERAL (SELECT id FROM jobs WHERE user_id = u.id ORDER BY priority DESC, id LIMIT 1) x ORDER BY u.id

SELECT u.id, x.id FROM users u LEFT JOIN LATERAL (SELECT id FROM jobs WHERE priority = u.plan_id ORDER BY id LIMIT 1) x ON true ORDER BY u.id

SELECT p.id, x.id FROM plans p CROSS JOIN LATERAL (SELECT id FROM users WHERE plan_id = p.id ORDER BY id DESC LIMIT 2) x ORDER BY 1, 2

SELECT u.id, q.c FROM users u JOIN (SELECT user_id, count(*) AS c FROM jobs GROUP BY user_id) q ON q.user_id = u.id ORDER BY u.id

SELECT u.id, q.c FROM users u JOIN (SELECT priority, count(*) AS c FROM jobs GROUP BY priority) q ON q.priority = u.plan_id ORDER BY u.id

SELECT u.id, q.total FROM users u CROSS JOIN (SELECT count(*) AS total FROM jobs) q WHERE u.id < 5

SELECT u.id, v.t FROM users u JOIN (VALUES (1, 'one'), (2, 'two'), (77, 'more')) v (id, t) ON v.id = u.id

SELECT g, u.id FROM generate_series(1, 20) g LEFT JOIN users u ON u.id = g * 10

SELECT u.id, j.id FROM users u JOIN jobs j ON j.user_id = u.id WHERE u.id IN (1, 2, 3, 4) ORDER BY 2

SELECT u.id, j.id FROM users u JOIN jobs j ON j.user_id = u.id WHERE u.id = 3 AND j.user_id = 4

SELECT u.id, j.id FROM users u JOIN jobs j ON u.id = 3 AND j.user_id = 4

SELECT u.id, r.label FROM users u JOIN readings r ON r.user_id = u.id AND r.mood = 'happy' ORDER BY r.label, r.id LIMIT 10

SELECT r.id, i.id FROM readings r JOIN items i ON i.user_id = r.user_id AND i.mood = r.mood ORDER BY 1, 2

SELECT u.plan_id, max(j.priority), count(DISTINCT j.name) FROM users u JOIN jobs j ON j.user_id = u.id GROUP BY u.plan_id ORDER BY 1

SELECT u.name, sum(i.qty * i.price) AS value FROM users u JOIN items i ON i.user_id = u.id GROUP BY u.name HAVING sum(i.qty) > 10 ORDER BY value DESC, u.name LIMIT 12

SELECT count(*) FROM users u WHERE u.id = $1{3} OR EXISTS (SELECT FROM lonely l WHERE l.user_id = u.id)

SELECT u.id FROM users u JOIN plans p ON p.id = u.plan_id JOIN items i ON i.user_id = u.id JOIN products r ON r.sku = i.sku WHERE r.cost > 5 AND p.name = 'pro' ORDER BY u.id, i.id

SELECT b.id, u.name FROM bulk b JOIN users u ON u.id = b.user_id WHERE b.v = 7 ORDER BY b.id

SELECT count(*), sum(a.v) FROM bulk a JOIN bulk b ON b.id = a.id + 1 AND b.v > a.v

SELECT k.user_id, i.id, l.entry FROM items i JOIN ledger l USING (user_id) AS k WHERE k.user_id < 9 ORDER BY 1, 2, 3

SELECT k.*, count(*) FROM items i JOIN ledger l USING (user_id) AS k GROUP BY k.user_id ORDER BY 1 LIMIT 5

SELECT k.id, j.name FROM jobs j JOIN job_executions e USING (id) AS k WHERE e.user_id = $1{3} ORDER BY k.id
