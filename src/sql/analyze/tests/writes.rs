//! Writing.

use super::check;

#[test]
fn inserts() {
    check(&[
        ("INSERT INTO jobs (id, user_id) VALUES (1, 7)", "keys[lit1]", "by the column list"),
        ("INSERT INTO jobs (user_id, id) VALUES ($1, $2)", "keys[$1]", "in its order"),
        ("INSERT INTO jobs VALUES (1, 7, 'x')", "keys[lit1]", "by the table's order"),
        ("INSERT INTO jobs VALUES (1)", "refused: does not give its key", "too few values"),
        ("INSERT INTO jobs (id, user_id) VALUES (1, 7), (2, $1), (3, '9')", "keys[$1 lit1 lit4]", "row by row"),
        ("INSERT INTO jobs (id, user_id) VALUES (1, 7), (lower('x'), 8), (3, 9)", "keys[lit1 lit3 lit5]", "rows that need a tree"),
        ("INSERT INTO jobs (id, user_id) VALUES (1, 7), (2, -8::bigint)", "keys[-lit3 lit1]", "with sign and cast"),
        ("INSERT INTO jobs (id, user_id) VALUES (1, 7), (2, 8.5)", "refused: not a constant", "rounded by the server"),
        ("INSERT INTO jobs (id, user_id) VALUES (1, 7), (2, NULL)", "refused: cannot be NULL", "no owner"),
        ("INSERT INTO jobs (id, user_id) VALUES (1, DEFAULT)", "refused: does not give its key", "the server's choice"),
        ("INSERT INTO jobs (id, user_id) VALUES (1, 7), (2, DEFAULT)", "refused: key", "in a later row"),
        ("INSERT INTO jobs (id) VALUES (1)", "refused: column \"user_id\"", "the key's column is named"),
        ("INSERT INTO jobs DEFAULT VALUES", "refused: does not give its key", "no key"),
        ("INSERT INTO jobs (user_id) VALUES (1 + 1)", "refused: not a constant", "computed"),
        ("INSERT INTO jobs (user_id) VALUES (random()::int)", "refused: not a constant", "volatile"),
        ("INSERT INTO jobs (user_id) VALUES ((SELECT id FROM users WHERE id = 7))", "refused: not a constant", "a query"),
        ("INSERT INTO jobs (user_id, name) VALUES (7, (SELECT name FROM users WHERE id = 7))", "keys[lit0 lit1]", "a query beside the key"),
        ("INSERT INTO jobs (user_id, name) VALUES (7, 'a'), (8, (SELECT name FROM users))", "everywhere users.id", "a later row's query is read"),
        ("INSERT INTO jobs AS j (user_id) VALUES (7) RETURNING (SELECT count(*) FROM audit_logs)", "everywhere audit_logs.user_id", "RETURNING is read"),
        ("INSERT INTO jobs (user_id) VALUES (7) ON CONFLICT (id) DO NOTHING", "keys[lit0]", "no change of key"),
        ("INSERT INTO jobs (user_id) VALUES (7) ON CONFLICT (id) DO UPDATE SET name = excluded.name", "keys[lit0]", "no change of key"),
        ("INSERT INTO jobs (user_id) VALUES (7) ON CONFLICT (id) DO UPDATE SET user_id = 8", "refused: cannot be changed", "the row would move"),
        ("INSERT INTO jobs (user_id) VALUES (7) ON CONFLICT (id) DO UPDATE SET (name, user_id) = ('x', 8)", "refused: cannot be changed", "in a list"),
        ("INSERT INTO jobs (user_id) VALUES (7) ON CONFLICT (id) DO UPDATE SET name = (SELECT max(action) FROM audit_logs)", "everywhere audit_logs.user_id", "its query is read"),
        ("INSERT INTO jobs (user_id) OVERRIDING SYSTEM VALUE VALUES (7), (8)", "keys[lit0 lit1]", "what is given is stored"),
        ("INSERT INTO jobs (user_id) OVERRIDING USER VALUE VALUES (7)", "refused: cannot be read", "what is given may be ignored"),
        ("INSERT INTO public.\"jobs\" (\"user_id\") VALUES (7)", "keys[lit0]", "quoted"),
        ("INSERT INTO app_settings VALUES ('a', 'b')", "home", "not sharded"),
        ("INSERT INTO other.jobs (id) VALUES (1)", "home", "not sharded"),
        ("INSERT INTO plans VALUES (1, 'x', 2)", "reference", "all shards"),
        ("INSERT INTO nosuch VALUES (1)", "home", "a temporary table, say"),
        ("INSERT INTO active_jobs (user_id) VALUES (7)", "refused: view", "rules and triggers are not known"),
        ("INSERT INTO settings_view VALUES ('x')", "home", "a view of the home shard"),
        ("INSERT INTO pg_class VALUES (1)", "refused: catalogs", "no"),
        ("WITH jobs AS (SELECT 1) INSERT INTO jobs (user_id) VALUES (7)", "keys[lit1]", "WITH does not shadow the target"),
    ]);
}

#[test]
fn insert_select() {
    check(&[
        ("INSERT INTO notifications (user_id, body) SELECT user_id, name FROM jobs WHERE user_id = 7", "keys[lit0] colocated", "carried over and known"),
        ("INSERT INTO notifications (user_id, body) SELECT user_id, name FROM jobs", "everywhere notifications.user_id", "carried over, not known"),
        ("INSERT INTO notifications (user_id, body) SELECT 7, name FROM jobs WHERE user_id = 7", "keys[lit0 lit1]", "a constant"),
        ("INSERT INTO notifications (user_id, body) SELECT id, name FROM jobs WHERE user_id = 7", "refused: not a constant", "another column"),
        ("INSERT INTO notifications (body, user_id) SELECT name, user_id FROM jobs WHERE user_id = 7", "keys[lit0] colocated", "by the column list"),
        ("INSERT INTO notifications SELECT * FROM audit_logs WHERE user_id = 7", "keys[lit0] colocated", "position by position"),
        ("INSERT INTO users SELECT * FROM audit_logs WHERE user_id = 7", "refused: not a constant", "its first column is id"),
        ("INSERT INTO notifications (user_id) SELECT j.user_id FROM users u LEFT JOIN jobs j ON j.user_id = u.id WHERE u.id = 7", "refused: not a constant", "may be NULL"),
        ("INSERT INTO notifications (user_id) SELECT user_id FROM jobs WHERE user_id IN (7, 8) LIMIT 3", "keys[lit0 lit1]", "one limit for all owners"),
        ("INSERT INTO notifications (user_id, body) SELECT DISTINCT ON (name) user_id, name FROM jobs WHERE user_id IN (7, 8)", "keys[lit0 lit1]", "a choice among rows of all owners"),
        ("INSERT INTO notifications (user_id, body) SELECT user_id, count(*) FROM jobs WHERE user_id IN (7, 8) GROUP BY user_id", "keys[lit0 lit1] colocated", "grouped by the key"),
        ("INSERT INTO notifications (user_id) SELECT j.user_id FROM users u JOIN jobs j ON j.user_id = u.id WHERE u.id IN (7, 8)", "keys[lit0 lit1] colocated", "joined on the key"),
        ("INSERT INTO notifications (user_id) SELECT j.user_id FROM (users u LEFT JOIN jobs j ON j.user_id = u.id) WHERE u.id = 7", "refused: not a constant", "may be NULL, in parentheses"),
        ("INSERT INTO notifications (user_id) SELECT user_id FROM (SELECT j.user_id FROM users u LEFT JOIN jobs j ON j.user_id = u.id WHERE u.id = 7) d", "refused: not a constant", "may be NULL, further in"),
        ("INSERT INTO notifications (user_id) SELECT user_id FROM (SELECT user_id FROM jobs WHERE user_id IN (7, 8)) d", "keys[lit0 lit1] colocated", "out of a query"),
        ("INSERT INTO notifications (user_id) SELECT user_id FROM jobs WHERE user_id IN (7, 8) GROUP BY ROLLUP (user_id)", "refused: not a constant", "NULL in the total"),
        ("INSERT INTO notifications (user_id) SELECT 7 FROM plans", "keys[lit0]", "from a reference table"),
        ("INSERT INTO notifications (user_id) SELECT 7 FROM app_settings", "keys[lit0] home", "from the home shard"),
        ("INSERT INTO notifications (user_id) SELECT 7 UNION SELECT 8", "refused: not a constant", "two"),
        ("INSERT INTO app_settings SELECT name, status FROM jobs WHERE user_id = 7", "keys[lit0] home", "into the home shard"),
        ("INSERT INTO app_settings SELECT name, status FROM jobs", "refused: home shard", "from all shards"),
        ("INSERT INTO plans SELECT id, name FROM jobs WHERE user_id = 7", "refused: reference", "into all shards"),
        ("INSERT INTO plans SELECT 1, key FROM app_settings", "refused: reference", "the others cannot read it"),
        ("INSERT INTO plans SELECT id + 1, name FROM plans", "reference", "each from its own copy"),
    ]);
}

#[test]
fn updates_and_deletes() {
    check(&[
        ("UPDATE jobs SET name = 'x' WHERE user_id = 7", "keys[lit1] colocated", "by WHERE"),
        ("UPDATE jobs SET name = 'x'", "everywhere jobs.user_id", "all"),
        ("UPDATE jobs AS j SET name = 'x' WHERE j.user_id = 7", "keys[lit1] colocated", "by its alias"),
        ("UPDATE ONLY jobs SET name = 'x' WHERE user_id = 7", "keys[lit1] colocated", "ONLY"),
        ("UPDATE jobs SET user_id = 8 WHERE user_id = 7", "refused: cannot be changed", "the row would move"),
        ("UPDATE jobs SET user_id = user_id WHERE user_id = 7", "keys[lit0] colocated", "no change"),
        ("UPDATE jobs SET (name, user_id) = ('x', 8) WHERE user_id = 7", "refused: cannot be changed", "in a list"),
        ("UPDATE jobs SET \"user_id\" = 8 WHERE user_id = 7", "refused: cannot be changed", "quoted"),
        ("UPDATE users SET plan_id = 2 WHERE id = $1", "keys[$1] colocated", "users' key is id"),
        ("UPDATE jobs SET name = u.name FROM users u WHERE u.id = jobs.user_id AND u.id = 7", "keys[lit0] colocated", "FROM is a join"),
        ("UPDATE jobs SET name = u.name FROM users u WHERE u.id = 7", "everywhere jobs.user_id", "not joined"),
        ("UPDATE jobs SET name = (SELECT max(action) FROM audit_logs) WHERE user_id = 7", "everywhere audit_logs.user_id", "in SET"),
        ("UPDATE jobs SET priority = 1 WHERE user_id = 7 RETURNING (SELECT count(*) FROM audit_logs)", "everywhere audit_logs.user_id", "in RETURNING"),
        ("UPDATE plans SET price_cents = 1", "reference", "all copies"),
        ("UPDATE plans SET name = s.value FROM app_settings s", "refused: reference", "the others cannot read it"),
        ("UPDATE app_settings SET value = 'x'", "home", "not sharded"),
        ("UPDATE active_jobs SET name = 'x' WHERE user_id = 7", "refused: view", "a view"),
        ("UPDATE pg_settings SET setting = 'x'", "refused: catalogs", "a catalog"),
        ("DELETE FROM jobs WHERE user_id = 7", "keys[lit0] colocated", "by WHERE"),
        ("DELETE FROM jobs", "everywhere jobs.user_id", "all"),
        ("DELETE FROM jobs WHERE user_id = ANY($1) RETURNING id", "keys[$1[]] colocated", "each owner its own"),
        ("DELETE FROM jobs USING users u WHERE jobs.user_id = u.id AND u.id = 7", "keys[lit0] colocated", "USING is a join"),
        ("DELETE FROM jobs j USING users u WHERE u.id = 7", "everywhere jobs.user_id", "not joined"),
        ("DELETE FROM jobs WHERE user_id = 7 AND id IN (SELECT job_id FROM job_executions)", "everywhere job_executions.user_id", "a sub-query"),
        ("DELETE FROM jobs WHERE user_id = 7 OR priority = 1", "everywhere jobs.user_id", "OR"),
        ("WITH d AS (DELETE FROM jobs WHERE user_id = 7 RETURNING *) SELECT * FROM d", "keys[lit0] colocated", "in WITH"),
        ("WITH d AS (DELETE FROM jobs RETURNING *) SELECT 1", "everywhere jobs.user_id", "runs even if it is not read"),
        ("WITH d AS (DELETE FROM jobs WHERE user_id = 7 RETURNING *) SELECT * FROM d, users WHERE users.id = d.user_id", "keys[lit0] colocated", "what it returns has its key"),
        ("WITH d AS (DELETE FROM jobs RETURNING *) SELECT * FROM d WHERE user_id = 7", "everywhere jobs.user_id", "a condition on what it returns restricts nothing"),
        ("WITH d AS (DELETE FROM jobs WHERE user_id IN (7, 8) RETURNING *) INSERT INTO audit_logs (user_id, action) SELECT user_id, name FROM d", "keys[lit0 lit1] colocated", "rows that move to another table"),
        ("WITH d AS (DELETE FROM jobs WHERE user_id IN (7, 8) RETURNING *) SELECT * FROM d WHERE (SELECT count(*) FROM d) > 1", "keys[lit0 lit1]", "read twice"),
        ("WITH d AS (DELETE FROM jobs WHERE user_id IN (7, 8) RETURNING *), a AS (SELECT * FROM audit_logs WHERE user_id = 9) SELECT * FROM d, a", "keys[lit0 lit1 lit2]", "not joined"),
        ("WITH n AS (INSERT INTO users (id) VALUES ($1) RETURNING id) INSERT INTO jobs (user_id) SELECT id FROM n", "keys[$1]", "a row and what belongs to it"),
        ("DELETE FROM jobs WHERE user_id IN (SELECT id FROM users WHERE id IN (7, 8))", "keys[lit0 lit1] colocated", "a key among keys"),
        ("DELETE FROM jobs WHERE user_id IN (SELECT id FROM users WHERE id IN (7, 8) LIMIT 1)", "keys[lit0 lit1]", "one limit for all owners"),
        ("DELETE FROM jobs WHERE user_id IN (7, 8) AND user_id NOT IN (SELECT id FROM users WHERE id = 9)", "keys[lit0 lit1 lit2]", "NOT IN restricts nothing"),
        ("UPDATE jobs SET name = 'x' FROM (VALUES (7), (8)) v (u) WHERE jobs.user_id = v.u RETURNING *", "everywhere jobs.user_id", "values of a query"),
        ("WITH jobs AS (SELECT 1) DELETE FROM jobs WHERE user_id = 7", "keys[lit1] colocated", "WITH does not shadow the target"),
        ("DELETE FROM jobs WHERE CURRENT OF c", "refused: ", "a cursor's row"),
    ]);
}

#[test]
fn merges() {
    check(&[
        ("MERGE INTO jobs t USING plans s ON t.id = s.id AND t.user_id = 7 WHEN MATCHED THEN DELETE", "keys[lit0] colocated", "ON restricts the target"),
        ("MERGE INTO jobs t USING plans s ON t.id = s.id WHEN MATCHED THEN DELETE", "everywhere jobs.user_id", "not restricted"),
        ("MERGE INTO jobs t USING plans s ON t.user_id = 7 AND t.id = s.id WHEN NOT MATCHED THEN INSERT (id, user_id) VALUES (s.id, 7)", "keys[lit0 lit1]", "the inserted key is constant"),
        ("MERGE INTO jobs t USING plans s ON t.user_id = 7 AND t.id = s.id WHEN NOT MATCHED THEN INSERT (id, user_id) VALUES (s.id, s.id)", "refused: not a constant", "the inserted key varies"),
        ("MERGE INTO jobs t USING plans s ON t.user_id = 7 AND t.id = s.id WHEN NOT MATCHED THEN INSERT (id) VALUES (s.id)", "refused: does not give its key", "no key"),
        ("MERGE INTO jobs t USING plans s ON t.user_id = 7 WHEN MATCHED THEN UPDATE SET user_id = 8", "refused: cannot be changed", "the row would move"),
        ("MERGE INTO jobs t USING users s ON t.user_id = s.id AND s.id = 7 WHEN MATCHED THEN DELETE", "everywhere jobs.user_id", "the source is not restricted by ON"),
        ("MERGE INTO jobs t USING (SELECT * FROM users WHERE id = 7) s ON t.user_id = s.id WHEN NOT MATCHED THEN INSERT (user_id) VALUES (s.id)", "keys[lit0] colocated", "the source's key is known"),
        ("MERGE INTO jobs t USING (SELECT * FROM users WHERE id IN (7, 8)) s ON t.user_id = s.id WHEN MATCHED THEN UPDATE SET name = s.name WHEN NOT MATCHED THEN INSERT (user_id, name) VALUES (s.id, s.name)", "keys[lit0 lit1] colocated", "each owner its own"),
        ("MERGE INTO jobs t USING (SELECT * FROM users WHERE id IN (7, 8)) s ON t.id = s.id WHEN NOT MATCHED THEN INSERT (user_id) VALUES (s.id)", "everywhere jobs.user_id", "not joined"),
        ("MERGE INTO jobs t USING (SELECT 7 AS u) s ON t.user_id = 7 WHEN NOT MATCHED THEN DO NOTHING", "keys[lit1] colocated", "nothing is inserted"),
        ("MERGE INTO jobs t USING (SELECT u.id, j.user_id AS k FROM users u LEFT JOIN jobs j ON j.user_id = u.id WHERE u.id IN (7, 8)) s ON t.user_id = s.id WHEN NOT MATCHED THEN INSERT (user_id) VALUES (s.k)", "refused: not a constant", "may be NULL"),
        ("MERGE INTO app_settings t USING plans s ON t.key = s.name WHEN MATCHED THEN DELETE", "home", "not sharded"),
    ]);
}
