//! `EXPLAIN`: one tree of pgring's steps and the shards' plans.

use super::stage::SHARDED;
use crate::support::psql;

fn explain(statement: &str) -> String {
    psql(&SHARDED.dsn(), &format!("{statement};")).expect_ok()
}

#[track_caller]
fn has(printed: &str, expected: &[&str]) {
    for part in expected {
        assert!(printed.contains(part), "no {part:?} in\n{printed}");
    }
}

#[test]
fn each_shard_has_its_part_in_the_tree() {
    let shards = ["  ->  Shard s1\n        ", "  ->  Shard s2\n        ", "  ->  Shard s3\n        "];
    for (statement, expected) in [
        (
            "EXPLAIN SELECT id FROM jobs ORDER BY priority DESC, id LIMIT 3",
            &["Merge (3 shards)\n  Sort Key: priority DESC, id\n  Limit: 3\n", "Limit  (cost="][..],
        ),
        (
            "EXPLAIN (COSTS off) SELECT status, avg(id) FROM jobs GROUP BY status",
            &["Combine on shard s1\n", "Aggregate"],
        ),
        (
            "EXPLAIN (COSTS off) SELECT count(*) FROM jobs a JOIN jobs b ON a.name = b.name",
            &[
                "Gather on shard s1\n",
                "  ->  Copy to ",
                "        ->  Shard s3\n              Seq Scan on jobs",
            ],
        ),
        ("EXPLAIN (COSTS off) UPDATE jobs SET priority = 1", &["Each (3 shards)\n", "Update on jobs"]),
        (
            "EXPLAIN (COSTS off) INSERT INTO users (id, email, name) VALUES (901, 'a', 'a'), (902, 'b', 'b'), \
             (903, 'c', 'c'), (904, 'd', 'd')",
            &["Split by the owners of the rows\n", "Insert on users"],
        ),
        (
            "EXPLAIN (COSTS off) INSERT INTO users (id, email, name) VALUES (length('abc') + 900, 'a', 'a'), (904 - 2, 'b', 'b')",
            &["Split by the owners of the rows\n", "Insert on users"],
        ),
        (
            "/* pgring: shard=all */ EXPLAIN (COSTS off) SELECT * FROM jobs",
            &["Merge (3 shards)\n", "Seq Scan"],
        ),
    ] {
        let printed = explain(statement);
        has(&printed, expected);
        if !printed.starts_with("Gather") && !printed.starts_with("Split") {
            has(&printed, &shards);
        }
    }
}

#[test]
fn analyzed_it_is_run() {
    let options = "EXPLAIN (ANALYZE, TIMING off, BUFFERS off)";
    let merged = explain(&format!("{options} SELECT id FROM users ORDER BY id LIMIT 7"));
    has(&merged, &["Merge (3 shards)  (actual rows=7)", "(actual rows=7", "Execution Time: "]);
    let combined = explain(&format!("{options} SELECT plan_id, count(*) FROM users GROUP BY plan_id"));
    has(
        &combined,
        &["Combine on shard s1  (actual rows=3)", "->  Finish\n        ", "Function Scan on pgring_partial"],
    );
    let gathered =
        explain(&format!("{options} SELECT DISTINCT ON (plan_id) id FROM users ORDER BY plan_id, id"));
    has(&gathered, &["Gather on shard s1  (actual rows=3)", "->  Finish\n", "->  Copy to "]);
    let script = format!(
        "BEGIN; {options} UPDATE users SET name = 'explained' RETURNING id;
         SELECT count(*) = (SELECT count(*) FROM users) FROM users WHERE name = 'explained'; ROLLBACK;
         SELECT 'left', count(*) FROM users WHERE name = 'explained';"
    );
    let printed = psql(&SHARDED.dsn(), &script).expect_ok();
    has(&printed, &["Each (3 shards)", "\nt\n", "left|0\n"]);
    let alone = psql(
        &SHARDED.dsn(),
        &format!(
            "CREATE TABLE explained (user_id bigint PRIMARY KEY, n int);
             INSERT INTO explained SELECT 1, 0;
             {options} INSERT INTO explained VALUES (11, 1), (12, 1), (13, 1), (14, 1), (15, 1);
             {options} DELETE FROM explained WHERE n = 0;
             SELECT 'rows', count(*), sum(n) FROM explained; DROP TABLE explained;"
        )
        .replace("INSERT INTO explained SELECT 1, 0;", "INSERT INTO explained VALUES (1, 0);"),
    );
    has(&alone.expect_ok(), &["rows|5|5\n", "Split by the owners", "Delete on explained"]);
}

#[test]
fn in_json_it_is_one_document() {
    let script = "EXPLAIN (FORMAT json, ANALYZE) SELECT id FROM users ORDER BY id DESC LIMIT 2";
    let printed = explain(script);
    let json = printed.trim().replace('\'', "''");
    // PostgreSQL reads it.
    let check = format!(
        "SELECT j #>> '{{0,Plan,Node Type}}', j #>> '{{0,Plan,Actual Rows}}', j #>> '{{0,Plan,Plans,1,Shard}}', \
         j #>> '{{0,Plan,Plans,2,Plans,0,Node Type}}' FROM (SELECT '{json}'::jsonb) AS t (j);"
    );
    assert_eq!(psql(&SHARDED.dsn(), &check).expect_ok(), "Merge (3 shards)|2|s2|Limit\n", "{printed}");
    let told = psql(&SHARDED.dsn(), "EXPLAIN (FORMAT json) SELECT id FROM users \\gdesc\n").expect_ok();
    assert_eq!(told, "QUERY PLAN|json\n");
}

#[test]
fn what_it_cannot_show_is_refused() {
    for statement in [
        "EXPLAIN (FORMAT xml) SELECT id FROM users",
        "EXPLAIN (FORMAT yaml) SELECT id FROM users",
        "EXPLAIN (GENERIC_PLAN) SELECT id FROM users WHERE plan_id = $1",
        "EXPLAIN DECLARE c CURSOR FOR SELECT id FROM users",
    ] {
        let printed = psql(&SHARDED.dsn(), &format!("\\set VERBOSITY verbose\n{statement};"));
        assert!(!printed.ok && printed.err.contains("0A000"), "{statement}: {}{}", printed.out, printed.err);
    }
    let wrong = psql(&SHARDED.dsn(), "EXPLAIN SELECT nothing FROM users;");
    assert!(wrong.err.contains("column \"nothing\" does not exist"), "{}", wrong.err);
}
