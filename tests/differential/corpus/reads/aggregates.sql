-- Aggregates over everything.

SELECT count(*) FROM users

SELECT count(*) FROM empties

SELECT count(*) FROM lonely

SELECT count(*) AS n FROM bulk WHERE v < $1{500}

SELECT count(session_token), count(*), count(1) FROM users

SELECT sum(id), min(id), max(id), avg(id) FROM users

SELECT sum(x), min(x), max(x), avg(x), count(x), count(*) FROM empties

SELECT sum(n), avg(n), min(t), max(t) FROM empties

SELECT sum(i2), sum(i4), sum(i8), sum(share) FROM readings

SELECT avg(i2), avg(i4), avg(i8), avg(share) FROM readings

SELECT sum(n), avg(n), min(n), max(n) FROM readings

SELECT sum(price), avg(price), min(price), max(price) FROM readings

SELECT sum(big), avg(big) FROM readings

SELECT avg(price) FROM readings WHERE id < 4

SELECT avg(n) FROM readings WHERE n > 1000

SELECT sum(f8), min(f8), max(f8) FROM readings

SELECT sum(f4), min(f4), max(f4) FROM readings

-- about
SELECT avg(f8), avg(f4) FROM readings

SELECT min(odd), max(odd) FROM readings

SELECT sum(odd) FROM readings

SELECT avg(odd) FROM readings WHERE odd <> 'NaN'

SELECT sum(odd) FROM readings WHERE odd > '-Infinity' AND odd <> 'NaN'

SELECT max(odd) FROM readings WHERE odd < 'Infinity'

SELECT sum(span), avg(span), min(span), max(span) FROM readings

SELECT min(at), max(at), min(ts), max(ts), min(d), max(d), min(tm), max(tm) FROM readings

SELECT sum(tm - '08:00') FROM readings

SELECT min(mood), max(mood) FROM readings

SELECT min(label), max(label), min(code), max(code), min(fixed), max(fixed) FROM readings

SELECT min(tags), max(nums) FROM readings

SELECT min(addr), max(addr) FROM readings

SELECT bool_and(flag), bool_or(flag), every(id > 0) FROM readings

SELECT bool_and(x > 1), bool_or(x > 1) FROM empties

SELECT bit_and(i4), bit_or(i4), bit_xor(i4) FROM readings

SELECT bit_and(bits), bit_or(bits) FROM readings

-- about
SELECT stddev(f8), variance(f8), stddev_pop(f8), var_pop(f8), stddev_samp(f8), var_samp(f8) FROM readings

SELECT stddev(i4), variance(i4), stddev_pop(i4), var_pop(i4), stddev_samp(i8), var_samp(i2) FROM readings

SELECT stddev(price), variance(price), stddev_pop(price), var_pop(price) FROM readings

SELECT stddev(x), var_pop(x) FROM lonely

SELECT stddev(x), var_samp(n) FROM empties

SELECT stddev(id), stddev_pop(id), variance(id) FROM users WHERE id = 5

SELECT count(DISTINCT plan_id) FROM users

SELECT count(DISTINCT name), count(DISTINCT plan_id), count(*) FROM users

SELECT count(DISTINCT n), count(DISTINCT mood), count(DISTINCT label) FROM readings

SELECT sum(DISTINCT i4), avg(DISTINCT i4), min(DISTINCT i4) FROM readings

SELECT count(DISTINCT (plan_id, is_active)) FROM users

SELECT count(DISTINCT user_id) FROM jobs

SELECT count(DISTINCT id % 7), sum(DISTINCT id % 7) FROM users

SELECT count(*) FILTER (WHERE is_active), count(*) FILTER (WHERE NOT is_active) FROM users

SELECT sum(price) FILTER (WHERE flag), avg(price) FILTER (WHERE id > 100000) FROM readings

SELECT count(DISTINCT name) FILTER (WHERE plan_id = 1) FROM users

SELECT string_agg(name, ',' ORDER BY id) FROM users WHERE id < 20

SELECT string_agg(DISTINCT name, ',' ORDER BY name) FROM users

SELECT array_agg(id ORDER BY id DESC) FROM users WHERE plan_id = 3

SELECT array_agg(DISTINCT plan_id) FROM users

SELECT array_agg(mood ORDER BY mood, id) FROM readings WHERE id < 30

SELECT json_agg(name ORDER BY id), jsonb_agg(id ORDER BY id) FROM users WHERE id < 8

SELECT jsonb_object_agg(id, name ORDER BY id) FROM users WHERE id < 8

SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY id) FROM users

SELECT percentile_cont(ARRAY[0.1, 0.9]) WITHIN GROUP (ORDER BY f8) FROM readings

SELECT percentile_disc(0.25) WITHIN GROUP (ORDER BY n), mode() WITHIN GROUP (ORDER BY plan_id) FROM readings, plans p (plan_id) WHERE p.plan_id = 2

SELECT mode() WITHIN GROUP (ORDER BY status) FROM jobs

SELECT rank(50) WITHIN GROUP (ORDER BY id), dense_rank(50) WITHIN GROUP (ORDER BY id) FROM users

-- about
SELECT corr(f8, i4), covar_pop(f8, i4), covar_samp(f8, i4), regr_slope(f8, i4), regr_count(f8, i4) FROM readings

SELECT count(*), count(*) FROM users WHERE false

SELECT max(name), min(name) FROM users

SELECT max(id) FROM users WHERE id > 1000

SELECT count(*) FROM users WHERE id IN (1, 2, 3, 4, 5, 6)

SELECT count(*), max(priority) FROM jobs WHERE user_id = ANY($1{'{3,4,5,6}'})

SELECT sum(id) FROM users HAVING count(*) > 100

SELECT sum(id) FROM users HAVING count(*) > 1000

SELECT 1 FROM users HAVING count(*) > 100

SELECT count(*) FROM plans

SELECT count(*), sum(n) FROM memos

SELECT count(u.*) FROM users u

SELECT max(length(name)), sum(length(name)) FROM users

SELECT any_value FROM (SELECT min(id) AS any_value FROM users) q

SELECT range_agg(int4range(i4, i4 + 2)) FROM readings

SELECT xmlagg(x) IS NULL FROM (SELECT NULL::xml AS x FROM users) q

SELECT max(at) - min(at) AS width FROM readings

SELECT sum(x ORDER BY x) FROM lonely

SELECT sum(amount), avg(amount), count(memo) FROM ledger

SELECT stddev(n), variance(n), stddev_pop(n), var_pop(n), var_samp(big), stddev_samp(big) FROM readings

SELECT mood, stddev(price) FILTER (WHERE i4 > 0), var_pop(i8 + 1), stddev(i2) * 2 + count(*) FROM readings GROUP BY mood ORDER BY mood

SELECT flag, variance(CASE WHEN id % 7 = 0 THEN 'NaN'::numeric ELSE price END), stddev_pop(CASE WHEN id % 9 = 0 THEN 'Infinity'::numeric END) FROM readings GROUP BY flag ORDER BY flag

SELECT variance(i4 * 0), stddev(i4 * 0), var_pop(1.50), stddev_pop(share) FROM readings

SELECT status, stddev(priority) FROM jobs GROUP BY status HAVING stddev(priority) > 1 ORDER BY stddev(priority) DESC, status

SELECT code, stddev(n * 10000000), var_samp(n / 3) FROM readings GROUP BY code ORDER BY code

-- about
SELECT user_id % 10, stddev(DISTINCT i4), stddev(f8), var_pop(f4) FROM readings WHERE user_id < 50 GROUP BY 1 ORDER BY 1
