//! A table of statements, each with users of every shard in turn.

use tokio_postgres::types::Type;

use super::oracle::{Answer, Pair, STAGE, Users, Value, ask, ask_with};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Expect {
    /// The oracle's answer, whatever it is.
    Same,
    /// 0A000 with a hint: an answer would be a guess, or take several shards.
    Refused,
    /// The oracle's answer or 0A000: what is refused here for want of a proof may be answered one
    /// day, and some rows are answered when the users happen to be neighbours.
    Either,
}
use Expect::{Either, Refused, Same};

/// `{a}` and `{a2}` are users of one shard, `{b}` and `{c}` of the two others. Writes are rolled
/// back.
#[rustfmt::skip]
const STATEMENTS: &[(&str, Expect)] = &[
    // The key as a literal.
    ("SELECT * FROM users WHERE id = {a}", Same),
    ("SELECT * FROM users WHERE {a} = id", Same),
    ("SELECT * FROM users WHERE (id) = ({a})", Same),
    ("SELECT * FROM users WHERE ((id = {a}))", Same),
    ("SELECT * FROM users WHERE id = '{a}'", Same),
    ("SELECT * FROM users WHERE id = {a}::int8", Same),
    ("SELECT * FROM users WHERE id = {a}::int4", Same),
    ("SELECT * FROM users WHERE id = '{a}'::int2", Same),
    ("SELECT * FROM users WHERE id = CAST({a} AS bigint)", Same),
    ("SELECT * FROM users WHERE id = CAST('{a}' AS integer)", Same),
    ("SELECT * FROM users WHERE id = int8 '{a}'", Same),
    ("SELECT * FROM users WHERE id = + {a}", Either),
    ("SELECT * FROM users WHERE id = 0{a}", Same),
    ("SELECT * FROM users WHERE id = -{a}", Same),
    ("SELECT * FROM users WHERE id = - -{a}", Either),
    ("SELECT * FROM users WHERE id = $${a}$$", Same),
    ("SELECT * FROM users WHERE id = $k${a}$k$", Same),
    ("SELECT * FROM users WHERE id = E'{a}'", Same),
    ("SELECT * FROM users WHERE id = E'\\x31'", Same),
    ("SELECT * FROM users WHERE id = ' {a} '", Same),
    ("SELECT * FROM users WHERE id = U&'\\0031'", Either),
    ("SELECT * FROM users WHERE id = '1'\n'0'", Same),
    ("SELECT * FROM users WHERE id = {a}.0", Either),
    ("SELECT * FROM users WHERE id = {a}.5", Either),
    ("SELECT * FROM users WHERE id = 1e2", Either),
    ("SELECT * FROM users WHERE id = 99999999999999999999", Either),
    ("SELECT * FROM users WHERE id = '99999999999999999999'", Either),
    ("SELECT * FROM users WHERE id = 'one'", Either),
    ("SELECT * FROM users WHERE id = ''", Either),
    ("SELECT * FROM users WHERE id = NULL", Same),
    ("SELECT * FROM users WHERE id IS NOT DISTINCT FROM {a}", Either),
    ("SELECT * FROM users WHERE \"id\" = {a}", Same),
    ("SELECT * FROM \"users\" WHERE \"users\".\"id\" = {a}", Same),
    ("SELECT * FROM public.users WHERE public.users.id = {a}", Same),
    ("SELECT * FROM PUBLIC.USERS WHERE ID = {a}", Same),
    ("SELECT * FROM ONLY users WHERE id = {a}", Same),
    ("select*from users where id={a}", Same),
    ("SELECT * FROM users WHERE id = {a} LIMIT 1 OFFSET 0", Same),
    ("TABLE plans", Same),
    ("SELECT * FROM users WHERE id = 4000000000", Same),
    ("SELECT count(*) FROM users WHERE id = -9223372036854775808", Same),

    // Several keys.
    ("SELECT * FROM users WHERE id IN ({a})", Same),
    ("SELECT * FROM users WHERE id IN ({a}, {a2})", Same),
    ("SELECT * FROM users WHERE id IN ({a}, {b})", Either),
    ("SELECT * FROM users WHERE id IN ({a}, {b}) AND id = {a}", Same),
    ("SELECT * FROM users WHERE id IN ({a}, '{a2}', NULL)", Same),
    ("SELECT * FROM users WHERE id NOT IN ({a})", Refused),
    ("SELECT * FROM users WHERE id = ANY (ARRAY[{a}, {a2}])", Same),
    ("SELECT * FROM users WHERE id = ANY ('{{a}, {a2}}')", Same),
    ("SELECT * FROM users WHERE id = ANY ('{{a},NULL}'::bigint[])", Same),
    ("SELECT * FROM users WHERE id = SOME (ARRAY[{a}, {b}])", Either),
    ("SELECT * FROM users WHERE id = ALL (ARRAY[{a}, {a}])", Either),
    ("SELECT * FROM users WHERE id <> ANY (ARRAY[{a}])", Either),
    ("SELECT * FROM users WHERE id = {a} OR id = {a2}", Same),
    ("SELECT * FROM users WHERE id = {a} OR id = {b}", Either),
    ("SELECT * FROM users WHERE id BETWEEN {a} AND {a}", Either),
    ("SELECT * FROM users WHERE (id, name) = ({a}, 'x')", Same),
    ("SELECT id FROM users WHERE (id, plan_id) IN (({a}, 1), ({a}, 2), ({a}, 3))", Same),
    ("SELECT * FROM jobs WHERE (user_id, id) IN (SELECT {a}, id FROM jobs WHERE user_id = {a})", Either),

    // What proves nothing.
    ("SELECT * FROM users", Refused),
    ("SELECT * FROM users WHERE true", Refused),
    ("SELECT * FROM users WHERE id <> {a}", Refused),
    ("SELECT * FROM users WHERE id > {a}", Refused),
    ("SELECT * FROM users WHERE NOT id = {a}", Refused),
    ("SELECT * FROM users WHERE NOT (NOT id = {a})", Either),
    ("SELECT * FROM users WHERE (id = {a}) IS TRUE", Either),
    ("SELECT * FROM users WHERE (id = {a}) IS NOT TRUE", Refused),
    ("SELECT * FROM users WHERE (id = {a}) = false", Refused),
    ("SELECT * FROM users WHERE id = {a} OR is_active", Refused),
    ("SELECT * FROM users WHERE id = {a} OR true", Refused),
    ("SELECT * FROM users WHERE is_active AND id = {a} OR plan_id = 1", Refused),
    ("SELECT * FROM users WHERE is_active AND (id = {a} OR plan_id = 1)", Refused),
    ("SELECT * FROM users WHERE (is_active OR plan_id = 1) AND id = {a}", Same),
    ("SELECT * FROM users WHERE CASE WHEN id = {a} THEN true ELSE plan_id = 1 END", Refused),
    ("SELECT id = {a} FROM users", Refused),
    ("SELECT * FROM users WHERE id + 1 = {a}", Refused),
    ("SELECT * FROM users WHERE id = {a} + 1", Either),
    ("SELECT * FROM users WHERE id % 7 = {a}", Refused),
    ("SELECT * FROM users WHERE id::text = '{a}'", Refused),
    ("SELECT * FROM users WHERE abs(id) = {a}", Refused),
    ("SELECT * FROM users WHERE coalesce(id, 0) = {a}", Refused),
    ("SELECT * FROM users WHERE id = plan_id", Refused),
    ("SELECT * FROM users WHERE plan_id = 1", Refused),
    ("SELECT * FROM users WHERE name = 'id = {a}'", Refused),
    ("SELECT * FROM jobs WHERE id = {a}", Refused),
    ("SELECT count(*) FROM users WHERE id = {a} HAVING count(*) > 0", Same),
    ("SELECT count(*) FROM users HAVING count(*) > {a}", Refused),
    ("SELECT id FROM users GROUP BY id HAVING id = {a}", Either),
    ("SELECT count(*) FILTER (WHERE id = {a}) FROM users", Refused),
    ("SELECT * FROM users WHERE id = (SELECT {a})", Either),
    ("SELECT * FROM users WHERE id = {a} IS NULL", Either),
    ("SELECT * FROM users WHERE id = {a} AND id = {b}", Same),
    ("SELECT * FROM users WHERE id = {a} AND false", Same),
    ("SELECT * FROM users WHERE id = {a} AND NULL", Same),

    // Comments, strings and names that look like conditions.
    ("SELECT * FROM users -- WHERE id = {a}", Refused),
    ("SELECT * FROM users /* WHERE id = {a} */", Refused),
    ("SELECT * FROM users /* a /* nested */ WHERE id = {b} */ WHERE id = {a}", Same),
    ("SELECT * FROM users WHERE id = {a} -- OR true", Same),
    ("SELECT * FROM users WHERE id = {a} -- '\n OR id = {b}", Either),
    ("SELECT * FROM users WHERE id = {a} /* ; */ AND name <> ';'", Same),
    ("SELECT * FROM users WHERE id = {a} AND name <> ' OR 1=1 '", Same),
    ("SELECT * FROM users WHERE id = {a} AND name <> E'\\' OR 1=1 --'", Same),
    ("SELECT * FROM users WHERE id = {a} AND name <> '\\' OR is_active --'\n", Refused),
    ("SELECT * FROM users WHERE id = {a} AND name <> $x$' OR id = {b}$x$", Same),
    ("SELECT * FROM users WHERE name = $$ AND id = {a} AND $$", Refused),
    ("SELECT id AS \"-- not a comment\" FROM users WHERE id = {a}", Same),
    ("SELECT 'FROM users' AS t", Same),
    ("SELECT /* users */ 1", Same),
    ("SELECT 1 AS users", Same),
    ("SELECT {a} AS id FROM plans WHERE id = 1", Same),

    // Aliases, renaming, shadowing.
    ("SELECT u.* FROM users u WHERE u.id = {a}", Same),
    ("SELECT u.* FROM users AS u (x, y) WHERE u.x = {a}", Same),
    ("SELECT * FROM users u (user_id, id) WHERE id = '{a}'", Refused),
    ("SELECT count(*) FROM users jobs, jobs users WHERE jobs.id = {a} AND users.user_id = {a}", Same),
    ("SELECT count(*) FROM jobs users WHERE users.id = {a}", Refused),
    ("SELECT count(*) FROM plans users WHERE users.id = 1", Same),
    ("SELECT s.id FROM (SELECT plan_id AS id FROM users) s WHERE s.id = {a}", Refused),
    ("SELECT s.k FROM (SELECT id AS k FROM users) s WHERE s.k = {a}", Same),
    ("SELECT s.id FROM (SELECT id + 0 AS id FROM users) s WHERE s.id = {a}", Refused),
    ("SELECT s.id FROM (SELECT id, count(*) FROM users GROUP BY id) s WHERE s.id = {a}", Either),
    ("SELECT s.id FROM (SELECT id FROM users ORDER BY id LIMIT 3) s WHERE s.id = {a}", Refused),
    ("SELECT s.id FROM (SELECT DISTINCT ON (plan_id) id FROM users ORDER BY plan_id, id) s WHERE s.id = {a}", Refused),
    ("SELECT s.id FROM (SELECT id, rank() OVER (ORDER BY id) r FROM users) s WHERE s.id = {a}", Refused),
    ("SELECT s.id FROM (SELECT id, row_number() OVER (PARTITION BY id) FROM users) s WHERE s.id = {a}", Either),
    ("SELECT * FROM (SELECT * FROM users WHERE id = {a}) s", Same),
    ("SELECT * FROM (SELECT * FROM users WHERE id = {a}) s WHERE s.id = {b}", Same),
    ("SELECT * FROM (VALUES ({a}), ({b})) v (id) WHERE id = {a}", Same),
    ("SELECT * FROM (VALUES ({a})) users (id) WHERE id = {a}", Same),
    ("SELECT u.id FROM users u, (VALUES ({a}), ({a2})) v (k) WHERE u.id = v.k", Either),
    ("SELECT id FROM users WHERE id = {a} UNION SELECT 1 FROM plans WHERE id = 1", Same),

    // Joins.
    ("SELECT j.id FROM users u JOIN jobs j ON j.user_id = u.id WHERE u.id = {a}", Same),
    ("SELECT j.id FROM users u JOIN jobs j ON j.user_id = u.id WHERE j.user_id = {a}", Same),
    ("SELECT j.id FROM users u, jobs j WHERE j.user_id = u.id AND u.id = {a}", Same),
    ("SELECT j.id FROM users u, jobs j WHERE u.id = {a} AND j.user_id = {a2}", Same),
    ("SELECT j.id FROM users u, jobs j WHERE u.id = {a} AND j.user_id = {b}", Either),
    ("SELECT j.id FROM users u, jobs j WHERE u.id = {a}", Refused),
    ("SELECT j.id FROM users u CROSS JOIN jobs j WHERE u.id = {a} AND j.user_id = u.id", Same),
    ("SELECT e.id FROM jobs j JOIN job_executions e USING (user_id) WHERE user_id = {a}", Same),
    ("SELECT e.id FROM jobs j JOIN job_executions e USING (user_id) WHERE j.user_id = {a}", Same),
    ("SELECT e.id FROM jobs j JOIN job_executions e ON e.job_id = j.id AND e.user_id = j.user_id WHERE j.user_id = {a}", Same),
    ("SELECT e.id FROM jobs j JOIN job_executions e ON e.job_id = j.id WHERE j.user_id = {a}", Refused),
    ("SELECT count(*) FROM notifications n NATURAL JOIN audit_logs a WHERE user_id = {a}", Same),
    ("SELECT u.id, p.name FROM users u JOIN plans p ON p.id = u.plan_id WHERE u.id = {a}", Same),
    ("SELECT u.id, p.name FROM plans p LEFT JOIN users u ON p.id = u.plan_id AND u.id = {a}", Same),
    ("SELECT u.id, p.name FROM plans p LEFT JOIN users u ON p.id = u.plan_id WHERE u.id = {a}", Same),
    ("SELECT u.id, p.name FROM plans p RIGHT JOIN users u ON p.id = u.plan_id WHERE u.id = {a}", Same),
    ("SELECT u.id, p.name FROM users u FULL JOIN plans p ON p.id = u.plan_id AND u.id = {a}", Refused),
    ("SELECT u.id, n.id FROM users u LEFT JOIN notifications n ON n.user_id = u.id WHERE u.id = {a}", Same),
    ("SELECT u.id, n.id FROM users u LEFT JOIN notifications n ON n.user_id = u.id AND u.id = {a}", Refused),
    ("SELECT u.id, n.id FROM users u LEFT JOIN notifications n ON n.user_id = u.id AND n.user_id = {a}", Refused),
    ("SELECT u.id, n.id FROM users u LEFT JOIN notifications n ON n.user_id = {b} WHERE u.id = {a}", Either),
    ("SELECT u.id, n.id FROM users u LEFT JOIN notifications n ON n.user_id = {a2} WHERE u.id = {a}", Same),
    ("SELECT u.id, n.id FROM users u LEFT JOIN notifications n ON n.user_id = u.id WHERE n.user_id = {a}", Either),
    ("SELECT u.id, n.id FROM users u RIGHT JOIN notifications n ON n.user_id = u.id WHERE u.id = {a}", Either),
    ("SELECT u.id, n.id FROM users u FULL JOIN notifications n ON n.user_id = u.id WHERE u.id = {a}", Either),
    ("SELECT u.id, n.id FROM users u FULL JOIN notifications n ON n.user_id = u.id AND u.id = {a}", Refused),
    ("SELECT u.id FROM users u LEFT JOIN jobs j ON false WHERE u.id = {a}", Either),
    ("SELECT u.id FROM users u LEFT JOIN jobs j ON j.user_id = u.id WHERE u.id = {a} AND j.id IS NULL", Same),
    ("SELECT u.id, x.id FROM users u, LATERAL (SELECT id FROM jobs WHERE user_id = u.id ORDER BY id LIMIT 1) x WHERE u.id = {a}", Same),
    ("SELECT u.id, g FROM users u, generate_series(1, 3) g WHERE u.id = {a}", Same),
    ("SELECT u.id, g FROM users u JOIN generate_series({a}, {a}) g ON g = u.id", Either),
    ("SELECT a.id FROM users a JOIN users b ON a.id = b.id JOIN users c ON b.id = c.id WHERE c.id = {a}", Same),
    ("SELECT a.id FROM users a JOIN users b ON a.id = b.plan_id WHERE b.id = {a}", Either),
    ("SELECT a.id FROM users a JOIN users b ON a.id <= b.id WHERE b.id = {a}", Refused),
    ("SELECT count(*) FROM users u JOIN app_settings s ON true WHERE u.id = {a}", Either),

    // Sub-queries and CTEs.
    ("SELECT id FROM jobs WHERE user_id = {a} AND id IN (SELECT job_id FROM job_executions WHERE user_id = {a})", Same),
    ("SELECT id FROM jobs WHERE user_id = {a} AND id IN (SELECT job_id FROM job_executions WHERE user_id = {b})", Either),
    ("SELECT id FROM jobs WHERE user_id = {a} AND id IN (SELECT job_id FROM job_executions)", Refused),
    ("SELECT id FROM jobs WHERE user_id = {a} AND id NOT IN (SELECT job_id FROM job_executions WHERE user_id = {a})", Same),
    ("SELECT id FROM jobs j WHERE user_id = {a} AND EXISTS (SELECT FROM job_executions e WHERE e.user_id = j.user_id AND e.job_id = j.id)", Same),
    ("SELECT id FROM jobs j WHERE user_id = {a} AND NOT EXISTS (SELECT FROM job_executions e WHERE e.job_id = j.id)", Refused),
    ("SELECT id FROM users WHERE EXISTS (SELECT FROM jobs WHERE user_id = {a})", Refused),
    ("SELECT id, (SELECT count(*) FROM jobs WHERE user_id = {a}) FROM users WHERE id = {a}", Same),
    ("SELECT id, (SELECT count(*) FROM jobs) FROM users WHERE id = {a}", Refused),
    ("SELECT id, (SELECT count(*) FROM jobs WHERE user_id = users.id) FROM users WHERE id = {a}", Same),
    ("SELECT id FROM users WHERE id = (SELECT user_id FROM jobs WHERE id = 1)", Refused),
    ("SELECT id FROM users WHERE id IN (SELECT user_id FROM jobs WHERE user_id = {a})", Same),
    ("SELECT id FROM users WHERE id = {a} AND plan_id IN (SELECT id FROM plans)", Same),
    ("SELECT (SELECT max(id) FROM jobs WHERE user_id = {a}), (SELECT max(id) FROM jobs WHERE user_id = {b})", Either),
    ("SELECT 1 WHERE EXISTS (SELECT FROM users WHERE id = {a})", Same),
    ("WITH u AS (SELECT * FROM users WHERE id = {a}) SELECT * FROM u", Same),
    ("WITH u AS (SELECT * FROM users) SELECT * FROM u WHERE id = {a}", Same),
    ("WITH u AS MATERIALIZED (SELECT * FROM users) SELECT * FROM u WHERE id = {a}", Same),
    ("WITH users AS (SELECT 1 AS id) SELECT * FROM users", Same),
    ("WITH users AS (SELECT {b} AS id) SELECT * FROM users WHERE id = {a}", Same),
    ("WITH plans AS (SELECT id FROM users) SELECT * FROM plans WHERE id = {a}", Same),
    ("WITH plans AS (SELECT id FROM users) SELECT * FROM plans", Refused),
    ("WITH users AS (SELECT * FROM users WHERE id = {a}) SELECT * FROM users", Same),
    ("WITH users AS (SELECT * FROM public.users WHERE id = {a}) SELECT * FROM users WHERE id = {b}", Same),
    ("WITH x AS (SELECT 1) SELECT * FROM public.users WHERE id = {a}", Same),
    ("WITH a AS (SELECT * FROM users WHERE id = {a}), b AS (SELECT * FROM a) SELECT id FROM b", Same),
    ("WITH a AS (SELECT id FROM users WHERE id = {a}) SELECT j.id FROM jobs j JOIN a ON a.id = j.user_id", Same),
    ("WITH RECURSIVE r (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r WHERE n < 5) SELECT n FROM r", Same),
    ("WITH RECURSIVE r (n) AS (SELECT id FROM users WHERE id = {a} UNION SELECT n + 1 FROM r WHERE n < 5) SELECT n FROM r", Same),
    ("WITH RECURSIVE r AS (SELECT id FROM users WHERE id = {a} UNION SELECT u.id FROM users u JOIN r ON u.id = r.id + 1 WHERE u.id < 20) SELECT id FROM r", Refused),
    ("SELECT * FROM (WITH users AS (SELECT 1 AS one) SELECT * FROM users) s, users u WHERE u.id = {a}", Same),

    // Set operations.
    ("SELECT id FROM users WHERE id = {a} UNION ALL SELECT user_id FROM jobs WHERE user_id = {a}", Same),
    ("SELECT id FROM users WHERE id = {a} UNION SELECT user_id FROM jobs WHERE user_id = {a2}", Same),
    ("SELECT id FROM users WHERE id = {a} UNION SELECT id FROM users WHERE id = {b}", Either),
    ("SELECT id FROM users WHERE id = {a} EXCEPT SELECT id FROM users WHERE id = {b}", Either),
    ("SELECT id FROM users WHERE id = {a} INTERSECT SELECT id FROM users", Refused),
    ("SELECT id FROM users EXCEPT SELECT id FROM users WHERE id = {a}", Refused),
    ("(SELECT id FROM users WHERE id = {a}) UNION ALL (SELECT 0) ORDER BY 1", Same),
    ("SELECT id FROM (SELECT id FROM users UNION SELECT user_id FROM jobs) s WHERE id = {a}", Either),
    ("SELECT id FROM (SELECT id FROM users UNION SELECT priority FROM jobs) s WHERE id = {a}", Refused),
    ("VALUES ({a}), ({b})", Same),

    // Sorting, grouping, limits on one shard.
    ("SELECT id, name FROM jobs WHERE user_id = {a} ORDER BY id DESC", Same),
    ("SELECT id, name FROM jobs WHERE user_id = {a} ORDER BY id DESC LIMIT 2 OFFSET 1", Same),
    ("SELECT status, count(*), min(id) FROM jobs WHERE user_id = {a} GROUP BY status ORDER BY status", Same),
    ("SELECT DISTINCT status FROM job_executions WHERE user_id = {a} ORDER BY 1", Same),
    ("SELECT id, row_number() OVER (ORDER BY id) FROM job_executions WHERE user_id = {a} ORDER BY id", Same),
    ("SELECT avg(priority), sum(id), stddev(priority) FROM jobs WHERE user_id = {a}", Same),
    ("SELECT id FROM jobs WHERE user_id = {a} ORDER BY id FOR UPDATE", Same),
    ("SELECT id FROM jobs WHERE user_id = {a} ORDER BY id FETCH FIRST ROW ONLY", Same),
    ("SELECT id FROM jobs WHERE user_id = {a} LIMIT (SELECT count(*) FROM users)", Refused),
    ("SELECT id FROM jobs WHERE user_id = {a} ORDER BY (SELECT count(*) FROM users), id", Refused),

    // Tables that are not sharded, and none.
    ("SELECT * FROM plans ORDER BY id", Same),
    ("SELECT * FROM plans WHERE id = 2", Same),
    ("SELECT * FROM app_settings ORDER BY key", Same),
    ("SELECT s.key, p.id FROM app_settings s JOIN plans p ON p.name = s.value", Same),
    ("SELECT value FROM app_settings WHERE key = 'user_id = {a}'", Same),
    ("SELECT 1 + 1", Same),
    ("SELECT upper('x'), length('user_id = {a}')", Same),
    ("SELECT * FROM generate_series(1, 3)", Same),
    ("SELECT relname FROM pg_class WHERE relname = 'users'", Same),
    ("SELECT count(*) FROM information_schema.columns WHERE table_name = 'jobs'", Same),
    ("SELECT * FROM nowhere", Same),
    ("SELECT nothing FROM users WHERE id = {a}", Same),
    ("SELECT * FROM users WHERE nothing = {a}", Refused),
    ("SELECT 1/0 FROM users WHERE id = {a}", Same),
    ("SELEC 1", Same),
    ("", Same),
    (";", Same),
    (" -- nothing", Same),
    ("SELECT id FROM users WHERE id = {a}; SELECT id FROM jobs WHERE user_id = {a}", Same),
    ("SELECT id FROM users WHERE id = {a}; SELECT id FROM jobs WHERE user_id = {b}", Refused),
    ("SELECT id FROM users WHERE id = {a}; SELECT count(*) FROM jobs", Refused),

    // Writes.
    ("UPDATE users SET name = 'n' WHERE id = {a}", Same),
    ("UPDATE users SET name = 'n' WHERE id = {a} RETURNING id, name", Same),
    ("UPDATE users u SET name = 'n' WHERE u.id = {a}", Same),
    ("UPDATE users SET name = 'n'", Refused),
    ("UPDATE users SET name = 'n' WHERE id IN ({a}, {a2})", Same),
    ("UPDATE users SET name = 'n' WHERE id IN ({a}, {b})", Refused),
    ("UPDATE users SET name = 'n' WHERE id = {a} OR plan_id = 2", Refused),
    ("UPDATE users SET id = 100000 WHERE id = {a}", Refused),
    ("UPDATE jobs SET user_id = {a} WHERE user_id = {a} AND id = 0", Either),
    ("UPDATE jobs SET user_id = {b} WHERE user_id = {a}", Refused),
    ("UPDATE jobs SET (name, user_id) = ('x', {b}) WHERE user_id = {a}", Refused),
    ("UPDATE jobs SET name = u.name FROM users u WHERE u.id = jobs.user_id AND jobs.user_id = {a}", Same),
    ("UPDATE jobs SET name = u.name FROM users u WHERE jobs.user_id = {a}", Refused),
    ("UPDATE jobs SET name = (SELECT name FROM users WHERE id = {a}) WHERE user_id = {a}", Same),
    ("UPDATE jobs SET name = (SELECT name FROM users WHERE id = {b}) WHERE user_id = {a}", Either),
    ("UPDATE jobs SET priority = 1 WHERE id = (SELECT min(id) FROM jobs WHERE user_id = {a})", Refused),
    ("UPDATE jobs SET priority = 1 WHERE user_id = {a} AND id = (SELECT min(id) FROM jobs WHERE user_id = {a})", Same),
    ("DELETE FROM notifications WHERE user_id = {a}", Same),
    ("DELETE FROM notifications WHERE user_id = {a} RETURNING id", Same),
    ("DELETE FROM notifications", Refused),
    ("DELETE FROM notifications WHERE user_id > {a}", Refused),
    ("DELETE FROM notifications n USING users u WHERE u.id = n.user_id AND u.id = {a}", Same),
    ("DELETE FROM notifications n USING users u WHERE u.id = {a}", Refused),
    ("DELETE FROM users WHERE id = {a}", Same),
    ("WITH d AS (DELETE FROM notifications WHERE user_id = {a} RETURNING id) SELECT count(*) FROM d", Same),
    ("WITH d AS (DELETE FROM notifications RETURNING id) SELECT count(*) FROM d", Refused),
    ("WITH d AS (DELETE FROM notifications WHERE user_id = {a} RETURNING *) INSERT INTO audit_logs (id, user_id, entity_type, action) SELECT 900001, {a}, 'x', count(*)::text FROM d", Same),
    ("INSERT INTO notifications (id, user_id, message) VALUES (900001, {a}, 'm')", Same),
    ("INSERT INTO notifications (id, message, user_id) VALUES (900001, 'm', {a}) RETURNING id, user_id", Same),
    ("INSERT INTO notifications VALUES (900001, {a}, 'm')", Same),
    ("INSERT INTO notifications VALUES (900001, {a}, 'm', true, '2025-01-01')", Same),
    ("INSERT INTO users VALUES (1000001, 'e', 'n')", Same),
    ("INSERT INTO users (email, name, id) VALUES ('e', 'n', '1000002')", Same),
    ("INSERT INTO notifications (id, user_id, message) VALUES (900001, {a}, 'm'), (900002, {a2}, 'm')", Same),
    ("INSERT INTO notifications (id, user_id, message) VALUES (900001, {a}, 'm'), (900002, {b}, 'm')", Refused),
    ("INSERT INTO notifications (id, message) VALUES (900001, 'm')", Refused),
    ("INSERT INTO notifications (id, user_id, message) VALUES (900001, DEFAULT, 'm')", Refused),
    ("INSERT INTO notifications (id, user_id, message) VALUES (900001, NULL, 'm')", Refused),
    ("INSERT INTO notifications DEFAULT VALUES", Refused),
    ("INSERT INTO notifications (id, user_id, message) VALUES (900001, {a} + (random() * 0)::int, 'm')", Refused),
    ("INSERT INTO notifications (id, user_id, message) SELECT 900001, {a}, 'm'", Same),
    ("INSERT INTO notifications (id, user_id, message) SELECT 900000 + id, user_id, name FROM jobs WHERE user_id = {a}", Same),
    ("INSERT INTO notifications (id, user_id, message) SELECT 900000 + id, user_id, name FROM jobs", Refused),
    ("INSERT INTO notifications (id, user_id, message) SELECT 900000 + id, id, name FROM jobs WHERE user_id = {a}", Refused),
    ("INSERT INTO notifications (id, user_id, message) SELECT 900000 + j.id, u.id, j.name FROM jobs j JOIN users u ON u.id = j.user_id WHERE u.id = {a}", Either),
    ("INSERT INTO users (id, email, name) VALUES ({a}, 'e', 'n') ON CONFLICT (id) DO UPDATE SET name = excluded.name RETURNING name", Same),
    ("INSERT INTO users (id, email, name) VALUES ({a}, 'e', 'n') ON CONFLICT DO NOTHING", Same),
    ("INSERT INTO users (id, email, name) VALUES ({a}, 'e', 'n') ON CONFLICT (id) DO UPDATE SET id = {b}", Refused),
    ("INSERT INTO users (id, email, name) VALUES ({a}, 'e', 'n')", Same),
    ("INSERT INTO app_settings VALUES ('k', 'v')", Same),
    ("INSERT INTO app_settings (value, key) SELECT name, name FROM plans", Same),
    ("UPDATE app_settings SET value = 'x' WHERE key = 'maintenance' RETURNING *", Same),
    ("DELETE FROM app_settings", Same),
    ("UPDATE plans SET max_jobs = 4 WHERE id = 1", Refused),
    ("INSERT INTO plans VALUES (4, 'huge', 1000, 1000)", Refused),
    ("DELETE FROM plans WHERE id = {a}", Refused),
    ("TRUNCATE notifications", Refused),
    ("MERGE INTO users u USING (VALUES ({a}::bigint)) v (id) ON u.id = v.id WHEN MATCHED THEN UPDATE SET name = 'm'", Either),
    ("MERGE INTO users u USING (VALUES ({a}::bigint)) v (id) ON u.id = {a} WHEN MATCHED THEN UPDATE SET name = 'm'", Same),
];

#[tokio::test]
async fn what_is_answered_is_what_one_postgresql_answers() {
    let users = Users::of_three_shards();
    let pair = STAGE.pair().await;
    let mut wrong = Vec::new();
    for (template, expect) in STATEMENTS {
        for turn in 0..3 {
            let text = users.fill(template, turn);
            let (pgring, oracle) = both(&pair, &text).await;
            let sorted = template.contains("ORDER BY");
            if !expect.is_met(&pgring, &oracle, sorted) {
                wrong
                    .push(format!("{text}\n  expected {expect:?}\n  pgring {pgring:?}\n  oracle {oracle:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{} wrong answers:\n{}", wrong.len(), wrong.join("\n"));
}

impl Expect {
    fn is_met(self, pgring: &Answer, oracle: &Answer, sorted: bool) -> bool {
        match self {
            Same => pgring.same(oracle, sorted),
            Refused => pgring.is_refusal(),
            Either => pgring.is_refusal() || pgring.same(oracle, sorted),
        }
    }
}

/// Both answers, inside transactions that are rolled back; a text of several statements brings
/// its own.
async fn both(pair: &Pair, text: &str) -> (Answer, Answer) {
    let alone = text.contains(';') && text.len() > 1;
    let mut answers = Vec::new();
    for client in [&pair.pgring, &pair.oracle] {
        if !alone {
            ask(client, "BEGIN").await;
        }
        answers.push(ask(client, text).await);
        ask(client, "ROLLBACK").await;
    }
    let oracle = answers.pop().unwrap();
    (answers.pop().unwrap(), oracle)
}

/// How a key is written as a parameter.
#[derive(Clone, Copy, Debug)]
enum As {
    Text,
    Int2,
    Int4,
    Int8,
}

impl As {
    fn value(self, key: i64) -> Value {
        match self {
            As::Text => Value::Text(key.to_string()),
            As::Int2 => Value::Binary(i16::try_from(key).unwrap().to_be_bytes().into()),
            As::Int4 => Value::Binary(i32::try_from(key).unwrap().to_be_bytes().into()),
            As::Int8 => Value::Binary(key.to_be_bytes().into()),
        }
    }

    /// The declared types it may have.
    fn types(self) -> &'static [Option<Type>] {
        const TEXT: &[Option<Type>] = &[
            None,
            Some(Type::UNKNOWN),
            Some(Type::INT8),
            Some(Type::INT4),
            Some(Type::INT2),
            Some(Type::NUMERIC),
        ];
        match self {
            As::Text => TEXT,
            As::Int2 => &[Some(Type::INT2)],
            As::Int4 => &[Some(Type::INT4)],
            As::Int8 => &[None, Some(Type::INT8)],
        }
    }
}

/// `$1` is the key; `$2`, where there is one, the same key again.
#[rustfmt::skip]
const PARAMETERS: &[(&str, Expect)] = &[
    ("SELECT * FROM users WHERE id = $1", Same),
    ("SELECT * FROM users WHERE $1 = id", Same),
    ("SELECT * FROM users WHERE id IN ($1)", Same),
    ("SELECT * FROM users WHERE id IN ($1, $2) ORDER BY id", Same),
    ("SELECT * FROM users WHERE id = $1 AND is_active", Same),
    ("SELECT j.* FROM users u JOIN jobs j ON j.user_id = u.id WHERE u.id = $1 ORDER BY j.id", Same),
    ("SELECT * FROM users WHERE id = $1 OR id = $2", Same),
    ("SELECT * FROM users WHERE id = $1 OR plan_id = 1", Refused),
    ("SELECT * FROM users WHERE NOT id = $1", Refused),
    ("SELECT * FROM users WHERE id = $1 + 0", Either),
    ("SELECT * FROM users WHERE plan_id = $1", Refused),
    ("SELECT count(*) FROM jobs WHERE user_id = $1 AND id > $2", Same),
    ("UPDATE users SET name = 'x' WHERE id = $1", Same),
    ("UPDATE users SET name = 'x' WHERE id = $1 RETURNING *", Same),
    ("DELETE FROM notifications WHERE user_id = $1", Same),
    ("INSERT INTO notifications (id, user_id, message) VALUES (900001, $1, 'm') RETURNING id, user_id", Same),
    ("INSERT INTO notifications (id, user_id, message) VALUES (900001, $1, 'm'), (900002, $2, 'm')", Same),
    ("WITH u AS (SELECT * FROM users WHERE id = $1) SELECT name FROM u", Same),
    ("SELECT name FROM users WHERE id = $1 UNION ALL SELECT name FROM jobs WHERE user_id = $2", Same),
    ("SELECT * FROM users WHERE id = $1::int8", Same),
    ("SELECT * FROM users WHERE id = $1::int4", Either),
    ("SELECT * FROM users WHERE id = CAST($1 AS bigint)", Same),
];

#[tokio::test]
async fn a_key_is_the_same_in_every_type_and_format() {
    let users = Users::of_three_shards();
    let pair = STAGE.pair().await;
    let mut wrong = Vec::new();
    for (text, expect) in PARAMETERS {
        for (turn, how) in [As::Text, As::Int2, As::Int4, As::Int8].into_iter().enumerate() {
            for declared in how.types() {
                let key = users.on(turn, 2);
                let count = if text.contains("$2") { 2 } else { 1 };
                let values = vec![how.value(key); count];
                let types: Vec<Type> =
                    declared.iter().cycle().take(count * usize::from(declared.is_some())).cloned().collect();
                let (pgring, oracle) = both_with(&pair, text, &types, &values).await;
                // A type that PostgreSQL does not take here is an error on both.
                let expect = if *declared == Some(Type::NUMERIC) { Either } else { *expect };
                if !expect.is_met(&pgring, &oracle, true) {
                    wrong.push(format!(
                        "{text} {how:?} {declared:?}\n  pgring {pgring:?}\n  oracle {oracle:?}"
                    ));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} wrong answers:\n{}", wrong.len(), wrong.join("\n"));
}

#[tokio::test]
async fn arrays_and_null_as_parameters() {
    let users = Users::of_three_shards();
    let pair = STAGE.pair().await;
    let list = |keys: &[i64]| {
        let keys: Vec<String> = keys.iter().map(i64::to_string).collect();
        Value::Text(format!("{{{}}}", keys.join(",")))
    };
    let binary = |keys: &[i64]| {
        let mut out = bytes::BytesMut::new();
        postgres_protocol::types::array_to_sql(
            [postgres_protocol::types::ArrayDimension {
                len: keys.len().try_into().unwrap(),
                lower_bound: 1,
            }],
            Type::INT8.oid(),
            keys.iter(),
            |key, out| {
                postgres_protocol::types::int8_to_sql(*key, out);
                Ok(postgres_protocol::IsNull::No)
            },
            &mut out,
        )
        .unwrap();
        Value::Binary(out.to_vec())
    };
    for turn in 0..3 {
        let (here, there) = ([users.on(turn, 0), users.on(turn, 1)], users.on(turn + 1, 0));
        let select = "SELECT * FROM users WHERE id = ANY($1) ORDER BY id";
        let write = "UPDATE users SET name = 'x' WHERE id = ANY($1::bigint[])";
        let rows: Vec<(&str, Value, Expect)> = vec![
            (select, list(&here), Same),
            (select, list(&[]), Same),
            (select, binary(&here), Same),
            (select, binary(&[here[0], there]), Refused),
            (select, list(&[here[0], there]), Refused),
            (select, Value::Null, Same),
            (select, Value::Text(format!("{{{},NULL}}", here[0])), Same),
            (select, Value::Text(format!("{{{{{}}},{{{}}}}}", here[0], here[1])), Either),
            (select, Value::Text("{nonsense}".into()), Either),
            (write, list(&here), Same),
            (write, binary(&here), Same),
            (write, list(&[here[0], there]), Refused),
            ("SELECT * FROM users WHERE id = $1", Value::Null, Same),
            ("SELECT * FROM users WHERE id = $1", Value::Text("nonsense".into()), Either),
            ("SELECT * FROM users WHERE id = $1", Value::Text(format!(" {} ", here[0])), Either),
            ("DELETE FROM users WHERE id = $1", Value::Null, Either),
            (
                "INSERT INTO notifications (id, user_id, message) VALUES (900001, $1, 'm')",
                Value::Null,
                Refused,
            ),
        ];
        for (text, value, expect) in rows {
            let (pgring, oracle) = both_with(&pair, text, &[], std::slice::from_ref(&value)).await;
            assert!(
                expect.is_met(&pgring, &oracle, true),
                "{text} {value:?}\n  pgring {pgring:?}\n  oracle {oracle:?}"
            );
        }
    }
}

async fn both_with(pair: &Pair, text: &str, types: &[Type], values: &[Value]) -> (Answer, Answer) {
    let mut answers = Vec::new();
    for client in [&pair.pgring, &pair.oracle] {
        ask(client, "BEGIN").await;
        answers.push(ask_with(client, text, types, values).await);
        ask(client, "ROLLBACK").await;
    }
    let oracle = answers.pop().unwrap();
    (answers.pop().unwrap(), oracle)
}

/// What depends on a session's settings, or has no oracle.
#[tokio::test]
async fn strings_are_read_as_the_session_reads_them() {
    let users = Users::of_three_shards();
    let pair = STAGE.pair().await;
    for setting in ["SET standard_conforming_strings = off", "SET standard_conforming_strings = on"] {
        for client in [&pair.pgring, &pair.oracle] {
            client.batch_execute(setting).await.unwrap();
        }
        for turn in 0..3 {
            for template in [
                "SELECT id FROM users WHERE id = {a} AND name <> '\\' OR id = {b} --'\n",
                "SELECT id FROM users WHERE id = {a} AND name <> '\\'' OR id = {b} --'\n",
                "SELECT id FROM users WHERE id = '\\x31' AND id = {a}",
            ] {
                let text = users.fill(template, turn);
                let (pgring, oracle) = both(&pair, &text).await;
                assert!(Either.is_met(&pgring, &oracle, false), "{setting}: {text}\n{pgring:?}\n{oracle:?}");
            }
        }
    }
}
