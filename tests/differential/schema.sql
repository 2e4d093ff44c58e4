-- Beside the sample's tables: columns of every other kind, and tables that are small, empty,
-- on one shard only, or not sharded. Run once on every shard and on the oracle, as `app`, with the
-- users whose rows belong there in the temporary table "owned" and demo.shard set to the number of
-- the shard. Values follow from the ids.
--
-- Values that are equal look alike (there is no 1.0 beside a 1.00): which one a group shows would be
-- PostgreSQL's choice. Floating-point numbers are multiples of 1/4, whose sums are exact.

SET client_min_messages = warning;

DELETE FROM users WHERE id NOT IN (SELECT id FROM owned);
-- What depends on the clock is nobody's answer.
ALTER TABLE users ALTER created_at SET DEFAULT '2025-06-01 12:00:00+00';
ALTER TABLE jobs ALTER created_at SET DEFAULT '2025-06-01 12:00:00+00';
ALTER TABLE job_executions ALTER started_at SET DEFAULT '2025-06-01 12:00:00+00';
ALTER TABLE notifications ALTER created_at SET DEFAULT '2025-06-01 12:00:00+00';
ALTER TABLE audit_logs ALTER created_at SET DEFAULT '2025-06-01 12:00:00+00';

CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy', 'angry');
CREATE DOMAIN percent AS integer CHECK (VALUE BETWEEN 0 AND 100);

CREATE TABLE readings (
    id      bigint PRIMARY KEY,
    user_id bigint NOT NULL,
    n       numeric,
    price   numeric(12, 2),
    big     numeric(40, 10),
    f8      double precision,
    odd     double precision,
    f4      real,
    i2      smallint,
    i4      integer,
    i8      bigint,
    share   percent,
    span    interval,
    at      timestamptz,
    ts      timestamp,
    d       date,
    tm      time,
    mood    mood,
    flag    boolean,
    tags    text[],
    nums    integer[],
    doc     jsonb,
    u       uuid,
    label   text,
    code    varchar(10),
    fixed   char(4),
    raw     bytea,
    bits    bit(8),
    addr    inet
);

INSERT INTO readings
SELECT id,
       user_id,
       CASE WHEN id % 11 <> 0 THEN
           (ARRAY[0.5, 1, 2.25, -3.125, 1000000.000001, 7.7, 0.1, 99999999999999999999.9, -0.0001, 42])[1 + id % 10]::numeric
       END,
       CASE WHEN id % 6 <> 5 THEN (id * 37 % 1000)::numeric / 8 END,
       id * 1234567.0000000891 * (CASE WHEN id % 2 = 0 THEN 1 ELSE -1 END),
       CASE WHEN id % 9 <> 0 THEN (id % 41) * 0.25 - 3 END,
       CASE id % 8 WHEN 0 THEN 'NaN' WHEN 1 THEN 'Infinity' WHEN 2 THEN '-Infinity' WHEN 3 THEN NULL ELSE (id % 13) / 3.0 END,
       CASE WHEN id % 10 <> 3 THEN (id % 17) * 0.25 END,
       id % 100,
       CASE WHEN id % 5 <> 0 THEN id % 23 - 11 END,
       id * 3000000007,
       id % 101,
       CASE WHEN id % 8 <> 6 THEN (id % 29) * interval '1 hour' + (id % 3) * interval '7 minutes 1.5 seconds' END,
       timestamptz '2025-01-01 00:00:00+00' + id * interval '13 hours',
       timestamp '2024-02-28 23:59:59.123456' + (id % 50) * interval '1 day',
       CASE WHEN id % 12 <> 0 THEN date '2025-01-31' + (id % 60)::int END,
       time '08:00' + (id % 20) * interval '17 minutes',
       CASE WHEN id % 7 <> 0 THEN (ARRAY['sad', 'ok', 'happy', 'angry'])[1 + id % 4]::mood END,
       CASE WHEN id % 3 <> 0 THEN id % 4 = 1 END,
       CASE WHEN id % 10 <> 0 THEN ARRAY[chr(97 + (id % 5)::int), 't' || id % 3] ELSE '{}' END,
       CASE WHEN id % 4 <> 2 THEN ARRAY[id % 3, id % 5, NULL]::int[] END,
       CASE WHEN id % 5 <> 1 THEN jsonb_build_object('k', id % 4, 'deep', jsonb_build_array(id % 2, 'x')) END,
       md5('reading ' || id % 300)::uuid,
       CASE id % 9 WHEN 0 THEN NULL WHEN 1 THEN '' WHEN 2 THEN 'Zebra' WHEN 3 THEN 'apple' WHEN 4 THEN 'Äpfel'
                   WHEN 5 THEN 'a b' WHEN 6 THEN 'émigré' WHEN 7 THEN 'tab' || chr(9) || 'ged' ELSE '日本' END,
       'c' || id % 30,
       chr(65 + (id % 26)::int),
       CASE WHEN id % 6 <> 0 THEN decode(md5('raw ' || id % 20), 'hex') END,
       (id % 256)::int::bit(8),
       ('10.0.' || id % 4 || '.' || id % 250)::inet
FROM (SELECT (o.id - 1) * 4 + k AS id, o.id AS user_id FROM owned o CROSS JOIN generate_series(1, 4) k) r;

-- What statements write to: nothing in it comes from a sequence or a clock.
CREATE TABLE items (
    user_id bigint NOT NULL,
    id      integer NOT NULL,
    sku     text NOT NULL,
    qty     integer NOT NULL DEFAULT 1 CHECK (qty >= 0),
    price   numeric(10, 2),
    note    text DEFAULT 'none',
    mood    mood DEFAULT 'ok',
    PRIMARY KEY (user_id, id)
);

INSERT INTO items
SELECT o.id, k, 'sku' || (o.id + k) % 7, (o.id * k) % 12, (o.id * 31 + k * 7) % 500 / 4.0,
       CASE WHEN (o.id + k) % 3 <> 0 THEN 'note ' || k END, (ARRAY['sad', 'ok', 'happy'])[k]::mood
FROM owned o CROSS JOIN generate_series(1, 3) k;

CREATE TABLE ledger (
    user_id bigint NOT NULL,
    entry   integer NOT NULL,
    amount  numeric NOT NULL,
    memo    text,
    UNIQUE (user_id, entry)
);

INSERT INTO ledger
SELECT o.id, k, (o.id % 17 - 8) * k + 0.25, CASE WHEN k > 1 THEN 'memo ' || o.id % 5 END
FROM owned o CROSS JOIN generate_series(1, 2) k;

CREATE TABLE empties (user_id bigint NOT NULL, x integer, n numeric, t text);

-- All rows are of one user.
CREATE TABLE lonely (user_id bigint NOT NULL, x integer, t text);
INSERT INTO lonely SELECT id, k, 'lonely ' || k FROM owned CROSS JOIN generate_series(1, 5) k WHERE id = 7;

-- Enough rows to fill buffers.
CREATE TABLE bulk (id bigint PRIMARY KEY, user_id bigint NOT NULL, v integer NOT NULL, pad text NOT NULL);
INSERT INTO bulk
SELECT (o.id - 1) * 25 + k, o.id, (o.id * 7919 + k * 104729) % 1000, repeat(md5(k::text), 4)
FROM owned o CROSS JOIN generate_series(1, 25) k;

-- Text that locales sort in ways of their own.
CREATE TABLE words (
    user_id bigint NOT NULL,
    w       text,
    v       varchar(20),
    c       text COLLATE "C",
    p       text COLLATE "POSIX",
    fixed   char(8)
);
INSERT INTO words
SELECT o.id, w, upper(w), w, w, left(w, 4)
FROM owned o
CROSS JOIN LATERAL (SELECT (ARRAY['a', 'A', 'b', 'B', 'ä', 'Ä', 'z', 'Z', '_x', '-x', 'x', 'a-b', 'ab', 'a b', 'aB',
                                  'é', 'e', 'E', 'ß', 'ss', '10', '9', '', NULL, 'co-op', 'coop', 'CO OP', 'œ', 'oe',
                                  'ñ', 'n', 'o'])[1 + o.id % 32] AS w) s
WHERE o.id <= 96;

-- Reference.
CREATE TABLE products (
    sku   text PRIMARY KEY,
    title text NOT NULL,
    cost  numeric(8, 2),
    mood  mood,
    added timestamptz DEFAULT now(),
    lot   serial
);
INSERT INTO products (sku, title, cost, mood, added)
SELECT 'sku' || k, 'Product ' || chr(70 - k), k * 1.25, (ARRAY['sad', 'ok', 'happy', 'angry'])[1 + k % 4]::mood,
       timestamptz '2025-01-01 00:00:00+00' + k * interval '1 day'
FROM generate_series(0, 5) k;

CREATE FUNCTION job_count() RETURNS bigint STABLE LANGUAGE sql AS 'SELECT count(*) FROM jobs';
CREATE VIEW active_users AS SELECT id, name, plan_id FROM users WHERE is_active;

DO $$
BEGIN
    -- On the home shard alone.
    IF current_setting('demo.shard') = '1' THEN
        CREATE TABLE memos (id integer PRIMARY KEY, body text NOT NULL, n numeric);
        INSERT INTO memos SELECT k, 'memo ' || k % 5, k * 0.5 FROM generate_series(1, 12) k;
    END IF;
END
$$;

ANALYZE;
