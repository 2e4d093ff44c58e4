-- INSERT: each row goes to its owner.

INSERT INTO items (user_id, id, sku) VALUES (1, 10, 'a')

INSERT INTO items (user_id, id, sku) VALUES (1, 10, 'a'), (2, 10, 'b'), (3, 10, 'c'), (4, 10, 'd')

INSERT INTO items VALUES (1, 10, 'a', 3, 1.5), (2, 10, 'b', 4, 2.5), (5, 10, 'c', 5, 3.5)

INSERT INTO items (sku, id, user_id) VALUES ('a', 10, 1), ('b', 10, 2), ('c', 10, 3)

INSERT INTO items (user_id, id, sku, qty) VALUES (1, 10, 'a', DEFAULT), (2, 10, 'b', 7), (3, 10, 'c', DEFAULT)

INSERT INTO items (user_id, id, sku) VALUES (1, 10, 'a'), (2, 10, 'b'), (3, 10, 'c') RETURNING *

INSERT INTO items (user_id, id, sku) VALUES (1, 10, 'a'), (2, 10, 'b'), (3, 10, 'c') RETURNING user_id, qty * 2 AS twice, note, mood

INSERT INTO items AS i (user_id, id, sku, price) VALUES (1, 10, 'a', 1), (4, 10, 'b', 2.5) RETURNING i.user_id, i.price + 1, upper(i.sku)

INSERT INTO items (user_id, id, sku) VALUES ($1{1}, $2{10}, $3{'a'}), ($4{2}, $5{11}, $6{'b'}), ($7{3}, $8{12}, $9{'y'}::text || 'x')

INSERT INTO items (user_id, id, sku, price) VALUES ($1{11}, 10, $2{'it''s'}, $3{1.25}), ($4{12}, 10, $2, $3), ($5{13}, 10, $2, NULL) RETURNING user_id, sku, price

INSERT INTO items (user_id, id, sku, mood) VALUES (1, 10, 'a', 'angry'), (2, 10, 'b', NULL), (3, 10, 'c', 'sad') RETURNING mood

INSERT INTO items (user_id, id, sku) VALUES (1 + 1, 10, 'a')

INSERT INTO items (user_id, id, sku) VALUES (1 + 1, 10, 'a'), (3 * 2, 10, 'b')

INSERT INTO items (user_id, id, sku) VALUES ($1{4}::int + 1, 10, 'a')

INSERT INTO items (user_id, id, sku) VALUES (length('four'), 10, 'a')

INSERT INTO items (user_id, id, sku) VALUES ('5', 10, 'a'), ('6', 10, 'b')

INSERT INTO items (user_id, id, sku) VALUES (1001, 10, lower('A')), (1002, 5 + 5, 'b' || 'c'), (1003, abs(-3), 'd')

-- error 23505
INSERT INTO items (user_id, id, sku) VALUES (1, 10, 'a'), (2, 1, 'b')

-- error 23505
INSERT INTO items (user_id, id, sku) VALUES (1, 10, 'a'), (1, 10, 'b')

-- error 23502
INSERT INTO items (user_id, id, sku) VALUES (1, 10, 'a'), (2, 10, NULL)

-- error 23514
INSERT INTO items (user_id, id, sku, qty) VALUES (1, 10, 'a', 1), (2, 10, 'b', -1), (3, 10, 'c', 1)

-- error 22P02
INSERT INTO items (user_id, id, sku, mood) VALUES (1, 10, 'a', 'ok'), (2, 10, 'b', 'no mood')

-- error 23503
INSERT INTO notifications (id, user_id, message) VALUES (910001, 1, 'a'), (910002, 2000, 'b')

INSERT INTO notifications (id, user_id, message) VALUES (910001, 1, 'a'), (910002, 2, 'b'), (910003, 3, 'c') RETURNING id, is_read, created_at

-- ignore id
INSERT INTO notifications (user_id, message) VALUES (1, 'a'), (2, 'b'), (3, 'c'), (1, 'd') RETURNING user_id, message

-- ignore id
INSERT INTO jobs (user_id, name, schedule) VALUES (1, 'a', 's'), (2, 'b', 's') RETURNING user_id, status, priority

INSERT INTO users (id, email, name) VALUES (5001, 'a', 'A'), (5002, 'b', 'B'), (5003, 'c', 'C') RETURNING id, plan_id, is_active

INSERT INTO items (user_id, id, sku) VALUES (1, 1, 'new'), (2, 1, 'new'), (3, 10, 'new') ON CONFLICT DO NOTHING

INSERT INTO items (user_id, id, sku) VALUES (1, 1, 'new'), (2, 1, 'new'), (3, 10, 'new') ON CONFLICT DO NOTHING RETURNING user_id, id

INSERT INTO items (user_id, id, sku, qty) VALUES (1, 1, 'new', 5), (2, 1, 'new', 6), (3, 10, 'new', 7) ON CONFLICT (user_id, id) DO UPDATE SET qty = excluded.qty, sku = items.sku || '+'

INSERT INTO items AS i (user_id, id, sku, qty) VALUES (1, 1, 'new', 5), (2, 1, 'new', 6), (3, 10, 'new', 7) ON CONFLICT (user_id, id) DO UPDATE SET qty = i.qty + excluded.qty WHERE i.qty < 100 RETURNING i.user_id, i.id, i.qty

INSERT INTO items (user_id, id, sku) VALUES (1, 1, 'x'), (4, 1, 'y') ON CONFLICT ON CONSTRAINT items_pkey DO UPDATE SET note = NULL RETURNING *

INSERT INTO ledger (user_id, entry, amount) VALUES (1, 1, 5), (2, 3, 6), (3, 1, 7) ON CONFLICT (user_id, entry) DO UPDATE SET amount = ledger.amount + excluded.amount RETURNING user_id, amount

-- error 21000
INSERT INTO items (user_id, id, sku) VALUES (1, 1, 'x'), (2, 1, 'y'), (1, 1, 'z') ON CONFLICT (user_id, id) DO UPDATE SET sku = excluded.sku

INSERT INTO empties VALUES (1, 1, 1.50, 'a'), (2, 2, NULL, 'b'), (3, 3, 'NaN', NULL)

INSERT INTO empties (user_id) VALUES (1), (2), (3), (4), (5), (6), (7), (8), (9), (10)

INSERT INTO empties (user_id, x) SELECT 1, 5

INSERT INTO empties (user_id, x, t) SELECT id, plan_id, name FROM users

INSERT INTO empties (user_id, x) SELECT user_id, count(*) FROM jobs GROUP BY user_id

INSERT INTO empties (user_id, x) SELECT user_id, priority FROM jobs WHERE status = 'done' RETURNING user_id, x

INSERT INTO empties (user_id, x, n) SELECT u.id, j.priority, 1.5 FROM users u JOIN jobs j ON j.user_id = u.id WHERE u.plan_id = 2

INSERT INTO empties (user_id, x, t) SELECT u.id, p.max_jobs, p.name FROM users u JOIN plans p ON p.id = u.plan_id WHERE u.id > $1{100}

INSERT INTO empties (user_id, x) SELECT id, id FROM jobs

INSERT INTO empties (user_id, x) SELECT id + 1, plan_id FROM users

INSERT INTO empties (user_id, x) SELECT plan_id, count(*) FROM users GROUP BY plan_id

INSERT INTO empties (user_id, x) SELECT id, row_number() OVER (ORDER BY id) FROM users

INSERT INTO empties (user_id, x) SELECT id, plan_id FROM users ORDER BY id LIMIT 10

INSERT INTO empties (user_id, x) SELECT g, g * 2 FROM generate_series(1, 10) g

INSERT INTO empties (user_id, x) SELECT id, (SELECT count(*) FROM users) FROM users WHERE id < 5

INSERT INTO empties TABLE empties

INSERT INTO items (user_id, id, sku) SELECT user_id, id + 100, sku FROM items ON CONFLICT DO NOTHING

WITH s AS (SELECT id, plan_id FROM users WHERE plan_id = 1) INSERT INTO empties (user_id, x) SELECT id, plan_id FROM s

WITH v (k, t) AS (VALUES (1, 'a'), (2, 'b')) INSERT INTO empties (user_id, t) SELECT k, t FROM v

INSERT INTO bulk (id, user_id, v, pad) SELECT 100000 + id, user_id, v, pad FROM bulk
