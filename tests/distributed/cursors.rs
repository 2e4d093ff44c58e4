//! Answers in portions, and cursors: as one PostgreSQL has them.

use super::stage::{ONE, SHARDED, Stage};
use crate::support::{self, psql, python};
use pgring::ring::Key;

fn keys() -> Vec<String> {
    // One of each shard.
    let topology = support::topology(3);
    let owned = |shard| (1..100).find(|key| topology.owner(Key::Integer(*key).hash()).index() == shard);
    (0..3).filter_map(owned).map(|key: i64| key.to_string()).collect()
}

#[test]
fn cursors_are_as_on_one_server() {
    let run = |stage: &Stage| {
        let (dsn, keys) = (stage.dsn(), keys());
        let arguments: Vec<&str> =
            [dsn.as_str()].into_iter().chain(keys.iter().map(String::as_str)).collect();
        python("distributed/cursors.py", &arguments).expect_ok()
    };
    let (sharded, one) = (run(&SHARDED), run(&ONE));
    for (at, (got, expected)) in sharded.lines().zip(one.lines()).enumerate() {
        assert_eq!(got, expected, "line {}", at + 1);
    }
    assert_eq!(sharded.lines().count(), one.lines().count());
}

/// What portals yield, in portions of these sizes; in between, something else is asked.
async fn portions(stage: &Stage, statement: &str, sizes: &[i32]) -> Vec<Vec<String>> {
    let mut client = support::connect(&stage.dsn()).await;
    let transaction = client.transaction().await.unwrap();
    let prepared = transaction.prepare(statement).await.unwrap();
    let portal = transaction.bind(&prepared, &[&100i64]).await.unwrap();
    let mut portions = Vec::new();
    for size in sizes {
        let rows = transaction.query_portal(&portal, *size).await.unwrap();
        portions.push(rows.iter().map(|row| format!("{}", row.get::<_, i64>(0))).collect());
        let other = transaction.query_one("SELECT count(*) FROM jobs WHERE user_id = 5", &[]).await.unwrap();
        assert!(other.get::<_, i64>(0) > 0);
        transaction.query("SELECT count(*) FROM users", &[]).await.unwrap();
    }
    portions
}

#[tokio::test]
async fn portals_go_on_where_they_were_suspended() {
    for statement in [
        "SELECT id FROM users WHERE id < $1 ORDER BY id",
        "SELECT id FROM users WHERE id < $1 ORDER BY id DESC LIMIT 20 OFFSET 3",
        "SELECT id * 2 FROM users WHERE id < $1 AND id = 7",
        "SELECT count(*) FROM users WHERE id < $1 GROUP BY plan_id ORDER BY plan_id",
        "SELECT DISTINCT ON (plan_id) id FROM users WHERE id < $1 ORDER BY plan_id, id",
        "UPDATE users SET name = name WHERE id < $1 AND id = 7 RETURNING id",
    ] {
        for sizes in [&[1, 1, 1, 1][..], &[3, 2, 0], &[10, 10, 10, 10, 10], &[0], &[20, 5], &[1000, 5]] {
            let one = portions(&ONE, statement, sizes).await;
            assert_eq!(portions(&SHARDED, statement, sizes).await, one, "{statement} {sizes:?}");
        }
    }
    // In any order, but all of them.
    let mut all = portions(&SHARDED, "SELECT id FROM users WHERE id < $1", &[7, 1, 30, 0]).await.concat();
    let lengths = portions(&SHARDED, "SELECT id FROM users WHERE id < $1", &[7, 1, 30]).await;
    assert_eq!(lengths.iter().map(Vec::len).collect::<Vec<_>>(), [7, 1, 30]);
    all.sort_by_key(|id| id.parse::<i64>().unwrap());
    assert_eq!(all, portions(&ONE, "SELECT id FROM users WHERE id < $1 ORDER BY id", &[0]).await.concat());
}

#[test]
fn ways_back_are_refused() {
    let asked = |statement: &str| {
        let script = format!(
            "\\set VERBOSITY verbose\nBEGIN; DECLARE c CURSOR FOR SELECT id FROM users ORDER BY id; FETCH c; {statement};"
        );
        psql(&SHARDED.dsn(), &script)
    };
    for statement in [
        "FETCH BACKWARD 1 FROM c",
        "FETCH PRIOR FROM c",
        "FETCH 0 FROM c",
        "FETCH ABSOLUTE 1 FROM c",
        "MOVE -1 IN c",
        "UPDATE users SET name = 'x' WHERE CURRENT OF c",
        "DECLARE d SCROLL CURSOR FOR SELECT id FROM users",
        "DECLARE d CURSOR WITH HOLD FOR SELECT id FROM users",
        "DECLARE d BINARY CURSOR FOR SELECT id FROM users",
    ] {
        let printed = asked(statement);
        assert!(!printed.ok && printed.err.contains("0A000"), "{statement}: {}{}", printed.out, printed.err);
    }
}
