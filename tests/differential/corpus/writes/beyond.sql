-- Writes that need rows of other shards.

INSERT INTO empties (user_id, x, t) SELECT id + 1, plan_id, 'a constant' FROM users RETURNING *

INSERT INTO empties (user_id, x, n, t) SELECT id, NULL, '1.50', NULL FROM users ORDER BY id DESC LIMIT 7 RETURNING user_id, n

INSERT INTO empties (user_id, x) SELECT $1{3} + plan_id, $2{40} FROM users WHERE id < $3{9} ON CONFLICT DO NOTHING

INSERT INTO empties (user_id, x) SELECT j.id, u.plan_id FROM jobs j JOIN users u ON u.plan_id = j.priority WHERE j.id < 100 RETURNING user_id + x AS sum

INSERT INTO empties (user_id, t) SELECT id, name FROM users WHERE id < 4 UNION ALL SELECT id + 500, body FROM memos ORDER BY 1

INSERT INTO empties (user_id, x) SELECT a.id, b.id FROM users a CROSS JOIN plans b WHERE a.id <= 3 UNION SELECT 7, 7

INSERT INTO empties (user_id, x) SELECT 5, count(*) FROM users

INSERT INTO empties (user_id, x) SELECT 5, count(*) FROM jobs WHERE user_id = 7

INSERT INTO empties (user_id, x) SELECT DISTINCT ON (plan_id) id, plan_id FROM users ORDER BY plan_id, id

INSERT INTO empties SELECT id + 1, plan_id FROM users WHERE false RETURNING *

INSERT INTO items (user_id, id, sku, price) SELECT user_id + 1, id, sku, price FROM items WHERE id < 3 ON CONFLICT (user_id, id) DO UPDATE SET qty = items.qty + excluded.qty, note = 'met' RETURNING user_id, id, qty, note

-- error 23505
INSERT INTO items (user_id, id, sku) SELECT user_id + 1, id, sku FROM items

-- error 23514
INSERT INTO items (user_id, id, sku, qty) SELECT user_id + 1, id + 100, sku, -1 FROM items

-- error 42804
INSERT INTO empties (user_id, x) SELECT id + 1, name FROM users

-- error 22012
INSERT INTO empties (user_id, x) SELECT id + 1, 1 / (plan_id - 2) FROM users

INSERT INTO items (user_id, id, sku, mood) SELECT id + 1, 300, 'labelled', 'happy' FROM users WHERE id < 20 RETURNING mood

WITH big AS (SELECT user_id, sum(qty) AS n FROM items GROUP BY user_id), ranked AS (SELECT user_id, rank() OVER (ORDER BY n DESC, user_id) AS r FROM big) INSERT INTO empties (user_id, x) SELECT user_id, r FROM ranked WHERE r <= 10

INSERT INTO memos (id, body, n) SELECT 500 + id, name, plan_id FROM users WHERE plan_id = 2 RETURNING id

INSERT INTO memos (id, body) SELECT 900 + max(id), 'the last' FROM users

INSERT INTO plans (id, name, monthly_price, max_jobs) SELECT 100 + plan_id, 'plan ' || plan_id, count(*), 7 FROM users GROUP BY plan_id RETURNING id, monthly_price

INSERT INTO plans (id, name, monthly_price, max_jobs) SELECT 200 + id, body, 1, 1 FROM memos WHERE id < 5

UPDATE items SET qty = u.plan_id, note = u.name FROM users u WHERE u.id = items.id + 3

UPDATE items SET qty = u.plan_id FROM users u WHERE u.id = items.id + 3 RETURNING items.*, u.name, u.plan_id

UPDATE items i SET qty = $1{2} + j.priority FROM jobs j WHERE j.id = i.user_id AND j.status = $2{'done'} RETURNING i.user_id, i.id, j.name

UPDATE items SET qty = (SELECT count(*) FROM jobs j WHERE j.priority = items.qty)

UPDATE items SET price = price - (SELECT min(price) FROM items), note = (SELECT name FROM users WHERE id = 3) WHERE price IS NOT NULL RETURNING user_id, id, price, note

UPDATE items SET mood = r.mood FROM readings r WHERE r.id = items.user_id AND r.mood IS NOT NULL RETURNING items.user_id, items.mood

UPDATE items SET note = r.label || r.code || r.fixed || r.share || r.price || r.mood FROM readings r WHERE r.id = items.id RETURNING note

UPDATE items SET note = r.at || ' ' || r.span || ' ' || r.d || ' ' || r.addr || ' ' || r.bits || ' ' || r.u || ' ' || r.raw::text FROM readings r WHERE r.id = items.id * 7

UPDATE items SET qty = 77 WHERE user_id IN (SELECT j.id FROM jobs j WHERE j.priority > 5)

UPDATE items SET qty = 77 WHERE user_id NOT IN (SELECT j.id FROM jobs j) RETURNING user_id, id

UPDATE items SET qty = m.id, note = m.body FROM memos m, users u WHERE m.id = items.id AND u.id = m.id AND u.plan_id > $1{0}

-- error 22012
UPDATE items SET qty = 1 / (j.priority - j.priority) FROM jobs j WHERE j.id = items.user_id

-- error 23514
UPDATE items SET qty = -j.priority - 1 FROM jobs j WHERE j.id = items.user_id

-- error 42703
UPDATE items SET qty = j.nothing FROM jobs j WHERE j.id = items.user_id

DELETE FROM items USING jobs j, users u WHERE j.id = items.user_id AND u.id = j.priority AND u.is_active RETURNING items.user_id, items.id, u.email

DELETE FROM items WHERE EXISTS (SELECT FROM users u WHERE u.plan_id = items.id) RETURNING *

DELETE FROM items WHERE qty = (SELECT max(qty) FROM items)

DELETE FROM items i WHERE EXISTS (SELECT FROM items o WHERE o.id = i.id AND o.qty > i.qty)

DELETE FROM users WHERE plan_id = 1 AND id NOT IN (SELECT id FROM jobs) AND id NOT IN (SELECT user_id FROM jobs)

DELETE FROM memos USING users u WHERE u.id = memos.id AND u.plan_id = 2 RETURNING memos.id, u.name

UPDATE memos SET n = (SELECT count(*) FROM items WHERE items.id = memos.id) RETURNING *

UPDATE plans SET max_jobs = (SELECT count(*) FROM users WHERE users.plan_id = plans.id) RETURNING id, max_jobs

UPDATE plans SET max_jobs = (SELECT count(*) FROM jobs WHERE user_id = 5)

UPDATE plans SET name = name || ' ' || (SELECT value FROM app_settings WHERE key = 'default_plan') WHERE id = 2 RETURNING id

MERGE INTO items i USING (SELECT priority, count(*) AS n FROM jobs GROUP BY priority) j ON j.priority = i.qty WHEN MATCHED AND j.n > 3 THEN UPDATE SET note = j.n::text WHEN MATCHED THEN DELETE

MERGE INTO memos m USING users u ON u.id = m.id WHEN MATCHED THEN UPDATE SET body = u.name WHEN NOT MATCHED AND u.id < 30 THEN INSERT (id, body, n) VALUES (u.id, 'new', 0)

WITH u AS (UPDATE items SET qty = qty + 1 WHERE qty > 3 RETURNING user_id, qty, price, note) SELECT qty, count(*), sum(price), avg(price), string_agg(note, ',' ORDER BY user_id) FROM u GROUP BY qty HAVING count(*) > 1 ORDER BY qty

WITH u AS (UPDATE items SET qty = qty + $1{1} RETURNING *) SELECT u.user_id + $2{5} AS k, p.title FROM (SELECT user_id, id, sku, qty FROM u) u LEFT JOIN products p ON p.sku = u.sku ORDER BY u.user_id, u.id LIMIT $3{9}

WITH d (a, b) AS (DELETE FROM items WHERE qty > 5 RETURNING user_id, price) SELECT max(a), sum(b) FROM d

WITH i AS (INSERT INTO empties (user_id, x) VALUES (1, 10), (2, 20), (3, 30), (4, 40) RETURNING user_id, x) SELECT sum(x), array_agg(user_id ORDER BY user_id) FROM i

WITH d AS (DELETE FROM items WHERE qty = 3 RETURNING user_id, id), n AS (SELECT count(*) AS n FROM d) SELECT d.user_id, n.n FROM d, n ORDER BY 1, 2

WITH d AS (DELETE FROM products WHERE cost < 3 RETURNING sku, cost) SELECT count(*), sum(cost) FROM d

-- error 22012
WITH d AS (DELETE FROM items RETURNING qty) SELECT sum(1 / (qty - qty)) FROM d
