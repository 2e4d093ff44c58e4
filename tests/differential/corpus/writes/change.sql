-- UPDATE and DELETE, wherever the rows are.

UPDATE items SET qty = 1

UPDATE items SET qty = qty + 1 WHERE qty > 5

UPDATE items SET qty = qty + 1, note = 'changed' WHERE sku = 'sku3' RETURNING user_id, id, qty

UPDATE items SET qty = qty + 1 WHERE qty > 5 RETURNING *

UPDATE items AS i SET price = price * 1.1 WHERE i.price > $1{100} RETURNING i.user_id, i.id, i.price

UPDATE items SET note = DEFAULT, mood = DEFAULT WHERE note IS NULL

UPDATE items SET (qty, note) = (0, 'none left') WHERE qty < 3

UPDATE items SET (qty, price) = (SELECT 5, 1.5) WHERE id = 2

UPDATE items SET qty = $1{3} WHERE user_id IN (1, 2, 3, 4) RETURNING user_id, id

UPDATE items SET qty = 9 WHERE user_id = ANY($1{'{5,6,7,8}'})

UPDATE items SET qty = 9 WHERE false

UPDATE items SET qty = 9 WHERE user_id = 2 + 3

UPDATE items SET mood = 'angry' WHERE mood < 'happy' RETURNING mood

UPDATE users SET plan_id = 3 WHERE plan_id = 2

UPDATE users SET name = upper(name), session_token = NULL WHERE is_active RETURNING id, name

UPDATE jobs SET status = 'deleted' WHERE status = 'done' AND priority < 4

UPDATE items SET qty = u.plan_id FROM users u WHERE u.id = items.user_id

UPDATE items SET note = u.name FROM users u WHERE u.id = items.user_id AND u.plan_id = 2 RETURNING items.user_id, items.id, u.name

UPDATE items i SET price = p.cost FROM products p WHERE p.sku = i.sku

UPDATE items i SET price = p.cost FROM products p WHERE p.sku = i.sku AND i.qty > 3 RETURNING i.user_id, i.id, i.price, p.title

UPDATE items i SET qty = m.id FROM memos m WHERE m.id = i.qty

UPDATE items i SET qty = j.priority FROM jobs j WHERE j.id = i.user_id

UPDATE items SET qty = (SELECT count(*) FROM jobs j WHERE j.user_id = items.user_id)

UPDATE items SET qty = (SELECT count(*) FROM users)

UPDATE items SET qty = (SELECT max_jobs FROM plans WHERE id = 2) WHERE id = 1

UPDATE items SET qty = 50 WHERE EXISTS (SELECT FROM lonely l WHERE l.user_id = items.user_id)

UPDATE items SET qty = 50 WHERE user_id IN (SELECT id FROM users WHERE plan_id = 1)

UPDATE items SET qty = 50 WHERE price > (SELECT avg(price) FROM items)

UPDATE items SET qty = 50 WHERE id IN (SELECT id FROM memos)

-- error 23514
UPDATE items SET qty = qty - 11

-- error 23502
UPDATE items SET sku = NULL WHERE user_id > 140

-- error 22012
UPDATE items SET price = 1 / (qty - 5)

WITH u AS (UPDATE items SET qty = 0 WHERE user_id < 10 RETURNING user_id, qty) SELECT count(*) FROM u

WITH u AS (UPDATE items SET qty = 0 WHERE sku = 'sku1' RETURNING user_id) SELECT user_id FROM u ORDER BY user_id

WITH u AS (SELECT id FROM users WHERE plan_id = 3) UPDATE items SET qty = 4 FROM u WHERE u.id = items.user_id

DELETE FROM items

DELETE FROM items WHERE qty < 4

DELETE FROM items WHERE sku = $1{'sku5'} RETURNING user_id, id, sku

DELETE FROM items WHERE qty > 8 RETURNING *

DELETE FROM items AS i WHERE i.user_id IN (1, 2, 3) AND i.id <> 2

DELETE FROM items WHERE user_id = ANY($1{'{1,2,3,4}'}) RETURNING user_id, id

DELETE FROM items WHERE false RETURNING *

DELETE FROM users WHERE plan_id = 1 AND id > 100

DELETE FROM items USING users u WHERE u.id = items.user_id AND u.plan_id = 2

DELETE FROM items i USING users u WHERE u.id = i.user_id AND u.is_active RETURNING i.user_id, i.id, u.name

DELETE FROM items i USING products p WHERE p.sku = i.sku AND p.cost > 3

DELETE FROM items i USING jobs j WHERE j.id = i.user_id

DELETE FROM items WHERE NOT EXISTS (SELECT FROM jobs j WHERE j.user_id = items.user_id AND j.priority > 6)

DELETE FROM items WHERE user_id IN (SELECT user_id FROM lonely)

DELETE FROM items WHERE qty < (SELECT avg(qty) FROM items)

DELETE FROM bulk WHERE v % 2 = 0

WITH d AS (DELETE FROM items WHERE qty = 0 RETURNING user_id, id) SELECT count(*) FROM d

WITH d AS (DELETE FROM items WHERE qty = 0 RETURNING user_id, qty) INSERT INTO empties (user_id, x) SELECT user_id, qty FROM d

WITH d AS (DELETE FROM ledger RETURNING user_id, entry, amount) INSERT INTO empties (user_id, x, n) SELECT user_id, entry, amount FROM d RETURNING user_id, n

TRUNCATE items

TRUNCATE items, ledger

MERGE INTO items i USING users u ON u.id = i.user_id WHEN MATCHED AND u.plan_id = 1 THEN DELETE WHEN MATCHED THEN UPDATE SET qty = i.qty + 1

MERGE INTO ledger l USING (SELECT id, plan_id FROM users) u ON l.user_id = u.id AND l.entry = u.plan_id WHEN MATCHED THEN UPDATE SET amount = 0 WHEN NOT MATCHED THEN INSERT (user_id, entry, amount) VALUES (u.id, u.plan_id, 7)

MERGE INTO items i USING (VALUES (1, 1, 'm'), (2, 9, 'n'), (3, 9, 'o')) v (u, k, s) ON i.user_id = v.u AND i.id = v.k WHEN MATCHED THEN UPDATE SET sku = v.s WHEN NOT MATCHED THEN INSERT (user_id, id, sku) VALUES (v.u, v.k, v.s)

MERGE INTO items i USING products p ON p.sku = i.sku WHEN MATCHED THEN UPDATE SET price = p.cost

MERGE INTO items i USING jobs j ON j.id = i.user_id AND i.id = 1 WHEN MATCHED THEN UPDATE SET qty = j.priority

SELECT user_id, id FROM items WHERE qty = 3 FOR UPDATE

SELECT u.id FROM users u WHERE u.plan_id = 2 ORDER BY u.id FOR SHARE

SELECT user_id, id FROM items WHERE qty = 3 FOR NO KEY UPDATE

SELECT u.id FROM users u WHERE u.plan_id = 2 ORDER BY u.id FOR KEY SHARE OF u

UPDATE readings SET tags[2] = 'second', doc['k'] = '"new"' WHERE user_id = $1{7}

UPDATE readings SET nums[1:2] = ARRAY[7, 8], label = 'x' WHERE id BETWEEN SYMMETRIC 40 AND 12 RETURNING id, nums
