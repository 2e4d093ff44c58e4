-- Writes that pgring must refuse, and a part of what it says: a row would move to another shard, or it
-- is not known where it belongs.

-- refused cannot be changed
UPDATE items SET user_id = 1 WHERE user_id = 2

-- refused cannot be changed
UPDATE items SET user_id = user_id + 1000

-- refused cannot be changed
UPDATE items SET (sku, user_id) = ('x', 7) WHERE id = 1 RETURNING user_id

-- refused cannot be changed
UPDATE users SET id = users.id + 1 FROM plans WHERE plans.id = users.plan_id

-- refused cannot be changed
INSERT INTO items (user_id, id, sku) VALUES (1, 1, 'x'), (2, 1, 'y') ON CONFLICT (user_id, id) DO UPDATE SET user_id = excluded.user_id + 1

-- refused cannot be changed
MERGE INTO items i USING users u ON u.id = i.user_id WHEN MATCHED THEN UPDATE SET user_id = 1

-- refused does not give its key
INSERT INTO items (id, sku) VALUES (1, 'x')

-- refused does not give its key
INSERT INTO jobs (name, schedule) SELECT name, schedule FROM jobs

-- refused cannot be NULL
INSERT INTO empties (user_id, x) VALUES (1, 1), (NULL, 2)

-- refused NULL
INSERT INTO empties (user_id, x) SELECT NULLIF(id, 3), 1 FROM users

-- refused is not a constant
INSERT INTO items (user_id, id, sku) VALUES ((random() * 100)::int, 1, 'x')

-- refused is not a constant
INSERT INTO items (user_id, id, sku) VALUES (pgring.next_id(), 1, 'x')

-- refused is not a constant
INSERT INTO items (user_id, id, sku) VALUES (extract(epoch FROM now())::bigint, 1, 'x')

-- refused another type
INSERT INTO empties (user_id, x) SELECT avg(id), 1 FROM users GROUP BY plan_id

-- refused cannot be answered once
UPDATE items SET qty = 1 WHERE price > (SELECT u.plan_id FROM users u WHERE u.plan_id = items.id ORDER BY u.id LIMIT 1)

-- refused LIMIT
WITH u AS (SELECT id FROM users) DELETE FROM items WHERE qty IN (SELECT id FROM u ORDER BY id LIMIT 5)

-- refused random()
DELETE FROM items USING (SELECT avg(price) * random() AS p FROM items) a WHERE a.p > items.price

-- refused DISTINCT ON
UPDATE items SET note = u.name FROM (SELECT DISTINCT ON (plan_id) plan_id, name FROM users) u WHERE u.plan_id = items.id

-- refused no match
MERGE INTO items i USING jobs j ON j.id = i.id WHEN NOT MATCHED THEN INSERT (user_id, id, sku) VALUES (j.user_id, j.id, 'x')

-- refused other tables
WITH d AS (DELETE FROM items RETURNING user_id) SELECT count(*) FROM d WHERE d.user_id NOT IN (SELECT id FROM users)

-- refused locked
INSERT INTO empties (user_id, x) SELECT id + 1, 1 FROM users FOR UPDATE

-- refused pg_notify()
WITH d AS (DELETE FROM items WHERE qty > 2 RETURNING user_id) SELECT pg_notify('gone', user_id::text) FROM d

-- refused pg_try_advisory_xact_lock()
WITH d AS (UPDATE items SET qty = qty WHERE user_id IN (1, 2, 3, 4, 5, 6, 7, 8) RETURNING user_id) SELECT pg_try_advisory_xact_lock(7) FROM d
