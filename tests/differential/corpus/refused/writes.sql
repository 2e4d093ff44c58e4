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

-- refused LIMIT
DELETE FROM items WHERE (user_id, id) IN (SELECT user_id, id FROM items ORDER BY qty LIMIT 5)

-- refused random()
UPDATE items SET qty = 1 WHERE price > (SELECT avg(price) * random() FROM items)

-- refused order of rows
UPDATE items SET note = (SELECT string_agg(u.name, ',') FROM users u JOIN jobs j ON j.id = u.id)

-- refused no match
MERGE INTO items i USING jobs j ON j.id = i.id WHEN NOT MATCHED THEN INSERT (user_id, id, sku) VALUES (j.user_id, j.id, 'x')

-- refused other tables
WITH d AS (DELETE FROM items RETURNING user_id) SELECT count(*) FROM d WHERE d.user_id NOT IN (SELECT id FROM users)

-- refused locked
INSERT INTO empties (user_id, x) SELECT id + 1, 1 FROM users FOR UPDATE
