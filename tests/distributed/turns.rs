//! Several statements in one message, and `EXECUTE`, beside one PostgreSQL that holds all the rows:
//! the same messages, and the same rows afterwards.

use pgring::demo::sample::APP;

use crate::support::raw::{Frame, Raw};
use crate::support::{self, Config, Proxy};

/// Each line is a message; what is left open is rolled back before the next table's row.
const MESSAGES: &[&[&str]] = &[
    &["SELECT count(*) FROM users; SELECT 1"],
    &[
        "SELECT count(*) FROM users; SELECT id FROM users ORDER BY id LIMIT 3; SELECT sum(priority) FROM jobs;",
    ],
    &[
        "SELECT name FROM users WHERE id = 1; SELECT name FROM users WHERE id = 2; SELECT name FROM users WHERE id = 3",
    ],
    &[
        "UPDATE jobs SET priority = 1 WHERE user_id = 1; UPDATE jobs SET priority = 2 WHERE user_id = 2; SELECT sum(priority) FROM jobs WHERE user_id < 3",
    ],
    &[
        "UPDATE jobs SET priority = priority + 1; DELETE FROM jobs WHERE priority > 9; SELECT count(*) FROM jobs",
    ],
    // What fails undoes what has run before it.
    &["UPDATE jobs SET priority = 77; SELECT 1 / (count(*) - count(*)) FROM users; SELECT 2"],
    &[
        "UPDATE jobs SET priority = 77; SELECT nothing FROM users",
        "SELECT count(*) FROM jobs WHERE priority = 77",
    ],
    &[
        "UPDATE jobs SET priority = 77; INSERT INTO users (id, email, name) VALUES (1, 'a', 'b'), (2, 'c', 'd')",
    ],
    // Transactions that begin and end within a message.
    &["BEGIN; UPDATE jobs SET priority = 3 WHERE user_id < 9; COMMIT"],
    &["BEGIN; UPDATE jobs SET priority = 78; ROLLBACK; SELECT count(*) FROM jobs WHERE priority = 78"],
    &[
        "BEGIN; UPDATE jobs SET priority = 79",
        "SELECT count(*) FROM jobs WHERE priority = 79; ROLLBACK",
        "SELECT count(*) FROM jobs WHERE priority = 79",
    ],
    &["BEGIN; SELECT 1 / (count(*) - count(*)) FROM users; SELECT 2", "SELECT 3", "ROLLBACK"],
    &[
        "UPDATE jobs SET priority = 80; BEGIN; DELETE FROM jobs WHERE user_id = 1",
        "ROLLBACK; SELECT count(*) FROM jobs WHERE priority = 80",
    ],
    &[
        "UPDATE jobs SET priority = 81 WHERE user_id < 5; COMMIT; UPDATE jobs SET priority = 82; SELECT nothing",
        "SELECT priority, count(*) FROM jobs WHERE priority > 80 GROUP BY 1 ORDER BY 1",
    ],
    &["UPDATE jobs SET priority = 83; ROLLBACK; SELECT count(*) FROM jobs WHERE priority = 83"],
    &["COMMIT; SELECT count(*) FROM users"],
    &["BEGIN; SELECT count(*) FROM users; BEGIN; ROLLBACK"],
    &[
        "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM users; SHOW transaction_isolation",
        "ROLLBACK",
    ],
    &[
        "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM users; SELECT current_setting('transaction_isolation')",
        "ROLLBACK",
    ],
    &["SELECT count(*) FROM users; SAVEPOINT a"],
    &["SELECT count(*) FROM users; COMMIT AND CHAIN"],
    &[
        "BEGIN; UPDATE jobs SET priority = 84; SAVEPOINT a; DELETE FROM jobs; ROLLBACK TO a; SELECT count(*) FROM jobs WHERE priority = 84; RELEASE a; ROLLBACK",
    ],
    &[
        "BEGIN; UPDATE jobs SET priority = 85; SAVEPOINT a; SELECT nothing FROM users",
        "ROLLBACK TO a; SELECT count(*) FROM jobs WHERE priority = 85",
        "ROLLBACK",
    ],
    &["BEGIN; SELECT count(*) FROM jobs WHERE user_id = 1", "COMMIT; SELECT count(*) FROM users"],
    &["BEGIN; DELETE FROM notifications; COMMIT AND CHAIN; SELECT count(*) FROM notifications; ROLLBACK"],
    &[
        "CREATE TABLE turned (user_id bigint PRIMARY KEY, v int); SELECT count(*) FROM users",
        "INSERT INTO turned VALUES (1, 1), (2, 2), (3, 3); SELECT sum(v) FROM turned",
        "DROP TABLE turned; SELECT count(*) FROM users",
    ],
    &[
        "INSERT INTO plans (id, name) VALUES (9, 'nine'); UPDATE users SET plan_id = 9 WHERE id < 4; SELECT count(*) FROM users WHERE plan_id = 9",
    ],
    &["SELECT count(*) FROM users; EXPLAIN (COSTS off) VALUES (7)"],
    // What was prepared by name.
    &["PREPARE all_users AS SELECT count(*) FROM users", "EXECUTE all_users", "EXECUTE all_users"],
    &[
        "PREPARE some (bigint, text) AS SELECT id, name || $2 FROM users WHERE id < $1 ORDER BY id LIMIT $1 - 1",
        "EXECUTE some(4, '!')",
        "EXECUTE some('3', NULL)",
        "EXECUTE some(-1, 'x')",
        "EXECUTE some('x', 'y')",
    ],
    &[
        "PREPARE guessed AS SELECT count(*) FROM jobs WHERE priority > $1 AND name <> $2",
        "EXECUTE guessed(3, 'x')",
    ],
    &[
        "PREPARE ch (int) AS UPDATE jobs SET priority = $1 WHERE status = 'done' RETURNING priority",
        "BEGIN",
        "EXECUTE ch(5)",
        "ROLLBACK",
        "EXECUTE ch(6)",
    ],
    &[
        "PREPARE add (bigint, bigint) AS INSERT INTO notifications (id, user_id, message) VALUES (910001, $1, 'a'), (910002, $2, 'b')",
        "EXECUTE add(1, 2)",
        "EXECUTE add(3, 4)",
    ],
    &[
        "PREPARE dated (timestamptz, boolean, numeric) AS SELECT count(*) FROM users WHERE created_at < $1 AND is_active = $2 AND id > $3",
        "EXECUTE dated('2030-01-01', 'true', 7)",
    ],
];

/// Read on both at the end.
const LEFT: &str = "SELECT count(*), sum(priority) FROM jobs; SELECT count(*), sum(plan_id) FROM users; \
                    SELECT count(*) FROM notifications; SELECT count(*) FROM plans";

fn said(frame: &Frame) -> Option<String> {
    let field = |field| frame.field(field).unwrap_or_default();
    Some(match frame.tag {
        b'T' | b'D' | b'C' | b'Z' | b'I' => {
            let tag = char::from(frame.tag);
            let body = if frame.tag == b'T' { names(&frame.body) } else { frame.body.clone() };
            format!("{tag} {}", String::from_utf8_lossy(&body))
        }
        b'E' => format!("E {} {} at {}", field(b'C'), field(b'M'), field(b'P')),
        b'N' => format!("N {} {}", field(b'C'), field(b'M')),
        _ => return None,
    })
}

/// Of a `RowDescription` the names: the numbers of tables are each server's.
fn names(body: &[u8]) -> Vec<u8> {
    let mut rest = &body[2..];
    let mut names = Vec::new();
    while let Some(end) = rest.iter().position(|byte| *byte == 0) {
        names.extend_from_slice(&rest[..=end]);
        rest = &rest[end + 19..];
    }
    names
}

#[test]
fn messages_of_several_statements_are_answered_as_by_one_postgresql() {
    let servers = support::servers(3);
    let name = support::sample_database(&servers);
    let proxy = Proxy::start(Config::new().database(&name, &servers));
    let whole = support::sample_database(&servers[..1]);
    let mut pgring = Raw::login(&proxy.address(), APP, &name);
    let mut oracle = Raw::login(&servers[0].address(), APP, &whole);
    let mut ask = |text: &str| {
        let one = |session: &mut Raw| session.query(text).iter().filter_map(said).collect::<Vec<_>>();
        (one(&mut pgring), one(&mut oracle))
    };
    let mut wrong = Vec::new();
    for messages in MESSAGES {
        for message in *messages {
            let (ours, theirs) = ask(message);
            if ours != theirs {
                wrong.push(format!("{message}\n  pgring {ours:#?}\n  oracle {theirs:#?}"));
            }
        }
        ask("ROLLBACK");
    }
    let (ours, theirs) = ask(LEFT);
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
    assert_eq!(ours, theirs);
}

#[test]
fn what_cannot_take_turns_is_refused() {
    let servers = support::servers(3);
    let name = support::sample_database(&servers);
    let proxy = Proxy::start(Config::new().database(&name, &servers));
    let mut session = Raw::login(&proxy.address(), APP, &name);
    session.query("PREPARE p (int) AS SELECT count(*) FROM users WHERE plan_id = $1");
    for message in [
        "SET work_mem = '5MB'; SELECT count(*) FROM users",
        "SELECT count(*) FROM users; LISTEN x",
        // What cannot be read may be no SQL, which PostgreSQL sees before anything is committed.
        "UPDATE jobs SET priority = 1; COMMIT; CREATE STATISTICS s ON a, b FROM jobs WITH nonsense",
        "UPDATE jobs SET priority = 1; BEGIN ISOLATION LEVEL SERIALIZABLE",
        "EXECUTE p(1 + 1)",
        "EXECUTE p(1.5)",
        "EXECUTE p(1); SELECT 1",
        "EXPLAIN EXECUTE p(1)",
    ] {
        let answer = session.query(message);
        let error = answer.iter().find(|frame| frame.tag == b'E').expect(message);
        assert_eq!(error.code(), "0A000", "{message}: {answer:?}");
        assert!(error.field(b'H').is_some_and(|hint| !hint.is_empty()), "{message}: {answer:?}");
    }
    assert_eq!(session.value("SELECT count(*) FROM jobs WHERE priority = 1 AND id < 0"), "0");
}

/// The transaction's own server would be waited for.
#[test]
fn a_pool_of_one_is_told_to_grow() {
    let servers = support::servers(3);
    let name = support::sample_database(&servers);
    let config = Config::new().database(&name, &servers).set("pool", "size", "1");
    let proxy = Proxy::start(config);
    let mut session = Raw::login(&proxy.address(), APP, &name);
    let gathered = "SELECT count(*) FROM users u JOIN jobs j ON j.id = u.id WHERE u.id < 0";
    assert_eq!(session.value(gathered), "0");
    session.query("BEGIN");
    let answer = session.query(gathered);
    let error = answer.iter().find(|frame| frame.tag == b'E').expect("refused");
    assert_eq!((error.code(), error.field(b'H').is_some()), ("0A000".to_owned(), true), "{answer:?}");
    session.query("ROLLBACK");
}
