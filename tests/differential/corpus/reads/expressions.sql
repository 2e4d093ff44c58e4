-- Expressions over aggregates, and whatever else is easily answered once a shard.

SELECT count(*) + 1 FROM users

SELECT count(*) * 2 - 1 AS x FROM users

SELECT coalesce(sum(x), 0) FROM empties

SELECT coalesce(sum(x), 0) FROM lonely

SELECT coalesce(max(t), 'nothing') FROM empties

SELECT round(avg(price)) FROM readings

SELECT round(avg(price), 3) FROM readings

SELECT round(avg(i4)) AS rounded, avg(i4)::int, avg(i4)::text FROM readings

SELECT sum(price) / count(*) FROM readings

SELECT sum(i4) / count(*) FROM readings

SELECT sum(i4)::float8 / count(*) FROM readings

SELECT max(id) - min(id) FROM users

SELECT -count(*) FROM users

SELECT abs(sum(i4)) FROM readings

SELECT sqrt(count(*)) FROM users

SELECT count(*)::text || ' users' FROM users

SELECT count(*) || ' users' FROM users

SELECT format('%s of %s', count(session_token), count(*)) FROM users

SELECT count(*) > 100 FROM users

SELECT count(*) BETWEEN 100 AND 200 FROM users

SELECT count(*) IN (149, 150, 151) FROM users

SELECT sum(id) IS NULL, sum(id) IS NOT NULL FROM users WHERE id > 1000

SELECT CASE WHEN count(*) > 100 THEN 'many' ELSE 'few' END FROM users

SELECT CASE WHEN max(i4) > 10 THEN sum(i4) ELSE min(i4) END FROM readings

SELECT nullif(count(*), 150) FROM users

SELECT greatest(max(i2), max(i4)), least(min(i2), min(i4)) FROM readings

SELECT count(*) FILTER (WHERE flag) * 100.0 / count(*) AS percent FROM readings

SELECT 100 * count(session_token) / count(*) FROM users

SELECT (sum(price) + sum(n)) / 2 FROM readings

SELECT count(*) % 7, sum(id) % 7 FROM users

SELECT sum(id + 1), sum(id) + 1, sum(2 * id), 2 * sum(id) FROM users

SELECT sum(id * plan_id) FROM users

SELECT sum(CASE WHEN is_active THEN 1 ELSE 0 END) FROM users

SELECT avg(CASE WHEN is_active THEN 1.0 ELSE 0 END) FROM users

SELECT avg(length(name)) FROM users

SELECT avg(id) * 2, avg(id) + avg(plan_id) FROM users

SELECT array[min(id), max(id)] FROM users

SELECT ARRAY[count(*)] || 1::bigint FROM users

SELECT row(count(*), max(id)) FROM users

SELECT (SELECT count(*) FROM users)

SELECT (SELECT count(*) FROM users) + (SELECT count(*) FROM jobs)

SELECT (SELECT max(id) FROM users), (SELECT min(id) FROM users)

SELECT EXISTS (SELECT 1 FROM users WHERE id = 77)

SELECT EXISTS (SELECT FROM users WHERE name = 'Nobody')

SELECT NOT EXISTS (SELECT FROM jobs WHERE priority > 100)

SELECT 77 IN (SELECT id FROM users), 1000 IN (SELECT id FROM users)

SELECT array(SELECT id FROM users WHERE id < 10 ORDER BY id)

SELECT count(*) FROM users WHERE id > (SELECT avg(id) FROM users)

SELECT to_char(avg(price), 'FM999990.00') FROM readings

SELECT date_trunc('month', max(at)) FROM readings

SELECT justify_hours(sum(span)) FROM readings

SELECT max(at)::date - min(at)::date FROM readings

SELECT pg_typeof(sum(i4)), pg_typeof(avg(i4)), pg_typeof(sum(i8)), pg_typeof(count(*)) FROM readings

SELECT $1{10}::int * count(*) FROM users

SELECT count(*) + $1{5} FROM users WHERE id > $2{20}

SELECT coalesce(sum(id), $1{0}) FROM users WHERE id > $2{5000}

SELECT sum(id) AS count, count(*) AS sum FROM users

SELECT count(*), 'label' AS label, 7 FROM users

SELECT sum(id) / nullif(count(*) - 150, 0) FROM users

-- error 22012
SELECT sum(id) / (count(*) - 150) FROM users

SELECT upper(min(name)), length(max(name)) FROM users

SELECT substr(max(name), 1, 3) FROM users

SELECT max(name) || min(name) FROM users

SELECT min(name) < max(name), min(name) = 'Ada Allen' FROM users

SELECT jsonb_build_object('n', count(*), 'max', max(id)) FROM users

SELECT sum(f8) * 2, sum(f8) / count(f8) FROM readings

SELECT round(sum(f8)::numeric, 2), floor(sum(f8)), ceil(avg(price)) FROM readings

SELECT round(stddev(i4), 4), trunc(variance(price), 2) FROM readings

SELECT avg(price) = sum(price) / count(price) FROM readings

SELECT count(DISTINCT plan_id) * 10 FROM users

SELECT count(*) - count(DISTINCT name) FROM users

SELECT max(mood) = 'angry', max(mood)::text FROM readings

SELECT (max(at) AT TIME ZONE 'UTC')::date FROM readings

SELECT sum(n)::int8 FROM readings WHERE n < 100

SELECT avg(n)::numeric(10, 2) FROM readings WHERE n < 100

SELECT id FROM jobs WHERE priority BETWEEN SYMMETRIC $1{7} AND $2{3} ORDER BY id

SELECT user_id, qty NOT BETWEEN SYMMETRIC 9 AND id FROM items WHERE user_id BETWEEN SYMMETRIC 9 AND 4 ORDER BY user_id, id
