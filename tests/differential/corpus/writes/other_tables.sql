-- Tables that are the same everywhere, and those that are at home.

UPDATE plans SET max_jobs = max_jobs + 1

UPDATE plans SET max_jobs = 4 WHERE id = 1 RETURNING *

UPDATE plans SET monthly_price = monthly_price * $1{2}, name = name || '!' WHERE id > $2{1} RETURNING id, name, monthly_price

INSERT INTO plans VALUES (4, 'huge', 500.00, 1000)

INSERT INTO plans (id, name, monthly_price, max_jobs) VALUES (4, 'a', 1, 1), (5, 'b', 2, 2) RETURNING id, name

INSERT INTO plans VALUES ($1{7}, $2{'seven'}, $3{7.77}, $4{7})

-- error 23505
INSERT INTO plans VALUES (4, 'pro', 1, 1)

INSERT INTO plans VALUES (1, 'x', 1, 1), (9, 'nine', 9, 9) ON CONFLICT (id) DO UPDATE SET max_jobs = plans.max_jobs + 100 RETURNING id, max_jobs

INSERT INTO plans VALUES (1, 'x', 1, 1) ON CONFLICT DO NOTHING

-- error 23503
DELETE FROM plans WHERE id = 3

DELETE FROM products WHERE cost > 2.5 RETURNING sku

DELETE FROM products

-- ignore lot, added
INSERT INTO products (sku, title) VALUES ('new1', 'New 1'), ('new2', 'New 2')

-- ignore lot, added
INSERT INTO products (sku, title, cost) VALUES ('new3', 'New 3', 3) RETURNING sku, cost, mood, added IS NULL

-- ignore lot
INSERT INTO products (sku, title, added) VALUES ('new4', 'New 4', '2025-05-05 00:00:00+00') RETURNING title, added

-- ignore lot, added, cost
INSERT INTO products (sku, title, cost) VALUES ('new5', 'New 5', random()), ('new6', 'New 6', random() * 100)

-- ignore lot, added, title
INSERT INTO products (sku, title) SELECT 'r' || g, clock_timestamp()::text FROM generate_series(1, 3) g

-- ignore lot, added
INSERT INTO products (sku, title) SELECT 'r' || id, name FROM plans

-- ignore added
UPDATE products SET added = now()

-- ignore cost
UPDATE products SET cost = random() WHERE cost > 1

UPDATE products SET mood = 'angry' WHERE mood IN ('sad', 'ok') RETURNING sku, mood

UPDATE products p SET cost = l.max_jobs FROM plans l WHERE l.id = 2 AND p.sku = 'sku1'

UPDATE products SET title = title || (SELECT count(*) FROM plans)

UPDATE products SET title = (SELECT value FROM app_settings WHERE key = 'default_plan')

UPDATE products SET cost = (SELECT count(*) FROM users)

DELETE FROM products WHERE sku IN (SELECT sku FROM items WHERE qty = 0)

TRUNCATE products

WITH d AS (DELETE FROM products WHERE cost < 3 RETURNING sku) SELECT count(*) FROM d

INSERT INTO app_settings VALUES ('k', 'v')

INSERT INTO app_settings VALUES ('a', '1'), ('b', '2') RETURNING key

UPDATE app_settings SET value = 'on' WHERE key = 'maintenance' RETURNING *

DELETE FROM app_settings WHERE value = $1{'30'}

UPDATE memos SET n = n * 2 WHERE id % 2 = 0

DELETE FROM memos WHERE body = 'memo 1' RETURNING id

INSERT INTO memos SELECT id + 100, name, monthly_price FROM plans

INSERT INTO memos SELECT id + 1000, name, 1 FROM users

UPDATE memos SET body = u.name FROM users u WHERE u.id = memos.id

UPDATE memos SET body = p.name FROM plans p WHERE p.id = memos.id

DELETE FROM memos WHERE id IN (SELECT user_id FROM lonely)

TRUNCATE memos
