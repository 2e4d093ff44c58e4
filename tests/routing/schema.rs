//! Hints, keys of other types, and tables that come and go.

use pgring::demo::cluster::SUPERUSER;
use pgring::demo::sample::APP;
use pgring::ring::Key;
use tokio_postgres::Client;

use super::oracle::{Answer, STAGE, Users, ask, ask_with};
use crate::support::{self, Config, Proxy};

/// The one value of the one row.
async fn value(client: &Client, text: &str) -> String {
    match ask(client, text).await {
        Answer::Rows(answers) => match &answers[..] {
            [(rows, _)] if rows.len() == 1 => rows[0][0].clone().unwrap(),
            other => panic!("{text}: {other:?}"),
        },
        error => panic!("{text}: {error:?}"),
    }
}

async fn route(client: &Client) -> String {
    value(client, "SHOW pgring.route").await
}

#[tokio::test]
async fn hints_say_where_a_statement_goes() {
    let users = Users::of_three_shards();
    let client = support::connect(&STAGE.dsn()).await;
    for shard in 0..3 {
        let name = format!("s{}", shard + 1);
        let key = users.on(shard, 0);
        let local = STAGE.servers[shard].psql(APP, &STAGE.name, "SELECT count(*) FROM jobs").unwrap();
        let local = local.trim();
        let count = "SELECT count(*) FROM jobs";
        assert_eq!(value(&client, &format!("/* pgring: shard={name} */ {count}")).await, local);
        assert_eq!(value(&client, &format!("{count} /* pgring: key={key} */")).await, local);
        assert!(route(&client).await.contains(&name), "{}", route(&client).await);
        // A literal is no comment, and a comment's end ends the hint.
        assert!(
            ask(&client, &format!("SELECT count(*), '/* pgring: shard={name} */' FROM jobs"))
                .await
                .is_refusal()
        );

        client.batch_execute(&format!("SET pgring.shard = '{name}'")).await.unwrap();
        assert_eq!(value(&client, "SHOW pgring.shard").await, name);
        assert_eq!(value(&client, count).await, local);
        client.batch_execute("RESET pgring.shard").await.unwrap();
        assert!(ask(&client, count).await.is_refusal());

        client.batch_execute(&format!("SET pgring.key = '{key}'")).await.unwrap();
        assert_eq!(value(&client, count).await, local);
        // The statement's own key outweighs the session's only by being refused.
        let other = users.on(shard + 1, 0);
        let text = format!("SELECT * FROM users WHERE id = {other}");
        assert_eq!(ask(&client, &text).await.code(), Some("22023"), "{text}");
        client.batch_execute("SET pgring.key = DEFAULT").await.unwrap();
        assert!(ask(&client, count).await.is_refusal());

        // Undone with the transaction that set it.
        client.batch_execute(&format!("BEGIN; SET pgring.shard = '{name}'")).await.ok();
        client.batch_execute("ROLLBACK").await.unwrap();
        assert!(ask(&client, count).await.is_refusal());
    }
}

#[tokio::test]
async fn a_hint_that_cannot_be_followed_is_an_error() {
    let users = Users::of_three_shards();
    let client = support::connect(&STAGE.dsn()).await;
    let (a, b) = (users.on(0, 0), users.on(1, 0));
    for (text, code) in [
        ("/* pgring: shard=nowhere */ SELECT 1".to_owned(), "42704"),
        ("/* pgring: shard=nowhere */ SELECT count(*) FROM jobs".to_owned(), "42704"),
        ("SET pgring.shard = 'nowhere'".to_owned(), "42704"),
        ("SHOW pgring.nothing".to_owned(), "42704"),
        ("SET pgring.nothing = 1".to_owned(), "42704"),
        (format!("/* pgring: key={b} */ SELECT * FROM users WHERE id = {a}"), "22023"),
        (format!("/* pgring: key={b} */ UPDATE users SET name = 'x' WHERE id = {a}"), "22023"),
        ("/* pgring: shard=all */ SELECT count(*) FROM jobs".to_owned(), "0A000"),
    ] {
        let answer = ask(&client, &text).await;
        assert_eq!(answer.code(), Some(code), "{text}: {answer:?}");
        assert!(matches!(answer, Answer::Error { hint: Some(_), .. }), "{text}: {answer:?}");
    }
    assert_eq!(value(&client, "SELECT 1").await, "1");
}

#[tokio::test]
async fn show_route_says_where_and_why() {
    let users = Users::of_three_shards();
    let client = support::connect(&STAGE.dsn()).await;
    for shard in 0..3 {
        let key = users.on(shard, 0);
        value(&client, &format!("SELECT id FROM users WHERE id = {key}")).await;
        let said = route(&client).await;
        assert!(said.contains(&format!("s{}", shard + 1)) && said.contains(&format!("key {key}")), "{said}");
    }
    ask(&client, "SELECT count(*) FROM jobs").await;
    let said = route(&client).await;
    assert!(said.contains("user_id") && said.contains("jobs"), "{said}");
    ask(&client, "SELECT count(*) FROM app_settings").await;
    assert!(route(&client).await.contains("s1"), "{}", route(&client).await);
}

#[tokio::test]
async fn explain_goes_where_its_statement_goes() {
    let users = Users::of_three_shards();
    let client = support::connect(&STAGE.dsn()).await;
    for shard in 0..3 {
        let key = users.on(shard, 0);
        let text = format!(
            "EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) SELECT * FROM users WHERE id = {key}"
        );
        let Answer::Rows(rows) = ask(&client, &text).await else { panic!("{text}") };
        let plan = format!("{rows:?}");
        assert!(plan.contains("rows=1"), "the shard has the row: {plan}");
        assert!(route(&client).await.contains(&format!("s{}", shard + 1)));
    }
    assert!(ask(&client, "EXPLAIN SELECT * FROM users").await.is_refusal());
    assert!(ask(&client, "EXPLAIN ANALYZE UPDATE users SET name = 'x'").await.is_refusal());
}

const MEMO: &str = "CREATE TABLE memo (user_id bigint NOT NULL, note text)";

/// Where the rows of `memo` lie, shard by shard.
fn memos(name: &str) -> Vec<String> {
    let rows = |server: &&pgring::demo::cluster::Cluster| {
        server
            .psql(APP, name, "SELECT user_id || note FROM memo ORDER BY 1")
            .unwrap()
            .trim()
            .replace('\n', " ")
    };
    support::servers(3).iter().map(rows).collect()
}

#[tokio::test]
async fn a_new_table_is_routed_from_its_creation_on() {
    let servers = support::servers(3);
    let users = Users::of_three_shards();
    for extended in [false, true] {
        let name = support::database(&servers, "");
        let proxy =
            Proxy::start(Config::new().database(&name, &servers).set("routing", "cross_shard", "\"refuse\""));
        let client = support::connect(&proxy.dsn(APP, &name)).await;
        for shard in ["s2", "s1", "s3"] {
            let text = format!("/* pgring: shard={shard} */ {MEMO}");
            if extended {
                client.execute(&text, &[]).await.unwrap();
            } else {
                client.batch_execute(&text).await.unwrap();
            }
        }
        for shard in 0..3 {
            let key = users.on(shard, 0);
            // Another session's, which has not seen the table made.
            let other = support::connect(&proxy.dsn(APP, &name)).await;
            for client in [&client, &other] {
                let text = format!("INSERT INTO memo VALUES ({key}, 'x')");
                let answer =
                    if extended { ask_with(client, &text, &[], &[]).await } else { ask(client, &text).await };
                assert!(answer.code().is_none(), "{answer:?}");
            }
        }
        assert!(ask(&client, "SELECT * FROM memo").await.is_refusal());
        let expected: Vec<String> = (0..3).map(|shard| format!("{0}x {0}x", users.on(shard, 0))).collect();
        assert_eq!(memos(&name), expected);

        // And no more once it is gone, nor by what it was when it has another shape.
        for shard in ["s1", "s2", "s3"] {
            client
                .batch_execute(&format!(
                    "/* pgring: shard={shard} */ ALTER TABLE memo RENAME user_id TO owner"
                ))
                .await
                .unwrap();
        }
        let text = format!("SELECT * FROM memo WHERE user_id = {}", users.on(1, 0));
        assert_eq!(ask(&client, &text).await.code(), Some("42703"));
    }
}

#[tokio::test]
async fn a_table_made_behind_pgrings_back_is_never_taken_for_one_of_the_home_shard() {
    let servers = support::servers(3);
    let users = Users::of_three_shards();
    let name = support::database(&servers, "");
    let proxy =
        Proxy::start(Config::new().database(&name, &servers).set("routing", "cross_shard", "\"refuse\""));
    let client = support::connect(&proxy.dsn(APP, &name)).await;
    for server in &servers {
        server.psql(APP, &name, MEMO).unwrap();
    }
    for shard in [1, 2, 0] {
        let key = users.on(shard, 0);
        let answer = ask(&client, &format!("INSERT INTO memo VALUES ({key}, 'x')")).await;
        assert!(answer.code().is_none() || answer.is_refusal(), "{answer:?}");
    }
    let expected: Vec<String> = (0..3).map(|shard| format!("{}x", users.on(shard, 0))).collect();
    assert_eq!(memos(&name), expected);
}

/// A key column that appears later is the harder case: the table is known, and known as home's.
#[tokio::test]
async fn a_table_that_becomes_sharded_is_no_home_table_any_more() {
    let servers = support::servers(3);
    let users = Users::of_three_shards();
    let name = support::database(&servers, "CREATE TABLE memo (note text)");
    let proxy =
        Proxy::start(Config::new().database(&name, &servers).set("routing", "cross_shard", "\"refuse\""));
    let client = support::connect(&proxy.dsn(APP, &name)).await;
    for shard in ["s2", "s3", "s1"] {
        let text = format!("/* pgring: shard={shard} */ ALTER TABLE memo ADD user_id bigint NOT NULL");
        client.batch_execute(&text).await.unwrap();
    }
    for shard in 0..3 {
        let text = format!("INSERT INTO memo (user_id, note) VALUES ({}, 'x')", users.on(shard, 0));
        assert!(ask(&client, &text).await.code().is_none());
    }
    let expected: Vec<String> = (0..3).map(|shard| format!("{}x", users.on(shard, 0))).collect();
    assert_eq!(memos(&name), expected);
}

const TYPED: [(&str, &[&str]); 4] = [
    ("text", &["'ada'", "''", "'Ada'", "'naïve'", "E'tab\\there'", "'42'", "'it''s'"]),
    ("varchar(20)", &["'ada'", "'bob'", "'42'"]),
    (
        "uuid",
        &[
            "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'",
            "'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A12'",
            "'{a0eebc999c0b4ef8bb6d6bb9bd380a13}'",
            "'a0eebc999c0b4ef8bb6d6bb9bd380a14'::uuid",
        ],
    ),
    ("smallint", &["1", "-2", "'3'", "4::int2", "32767"]),
];

#[tokio::test]
async fn keys_that_are_text_uuid_and_small_numbers() {
    let servers = support::servers(3);
    for (kind, keys) in TYPED {
        let name = support::database(
            &servers,
            &format!("CREATE TABLE t (tenant {kind} NOT NULL, n int); CREATE TABLE d (tenant {kind}, n int)"),
        );
        let mut toml = format!("[[database]]\nname = \"{name}\"\nkey = \"tenant\"\n");
        for (number, server) in (1..).zip(&servers) {
            toml += &format!(
                "[[database.shard]]\nname = \"s{number}\"\nendpoints = [\"{}\"]\ntls = \"disable\"\n",
                server.address()
            );
        }
        let proxy = Proxy::start(Config::new().append(&toml).set("routing", "cross_shard", "\"refuse\""));
        let client = support::connect(&proxy.dsn(APP, &name)).await;
        for (n, key) in keys.iter().enumerate() {
            for text in [
                format!("INSERT INTO t VALUES ({key}, {n})"),
                format!("INSERT INTO d (n, tenant) VALUES ({n}, {key})"),
            ] {
                let answer = ask(&client, &text).await;
                assert!(answer.code().is_none(), "{kind}: {text}: {answer:?}");
            }
        }
        for (n, key) in keys.iter().enumerate() {
            for text in [
                format!("SELECT n FROM t WHERE tenant = {key}"),
                format!("SELECT n FROM t WHERE tenant IN ({key})"),
                format!("SELECT t.n FROM t JOIN d USING (tenant) WHERE tenant = {key}"),
                format!("SELECT t.n FROM t JOIN d ON t.tenant = d.tenant WHERE d.tenant = {key}"),
            ] {
                assert_eq!(value(&client, &text).await, n.to_string(), "{kind}: {text}");
            }
            let (plain, cast) =
                (format!("SELECT tenant::text FROM t WHERE n = {n} /* pgring: shard=s"), " */");
            let mut written = None;
            for shard in 1..=3 {
                if let Answer::Rows(rows) = ask(&client, &format!("{plain}{shard}{cast}")).await {
                    written = rows[0].0.first().and_then(|row| row[0].clone()).or(written);
                }
            }
            // As a parameter, in text and in the driver's binary form.
            let written = written.unwrap();
            let as_text = [super::oracle::Value::Text(written.clone())];
            let answer = ask_with(&client, "SELECT n FROM t WHERE tenant = $1", &[], &as_text).await;
            assert!(matches!(&answer, Answer::Rows(rows) if rows[0].1 == 1), "{kind} {written}: {answer:?}");
            let binary = match kind {
                "uuid" => {
                    let digits: String = written.chars().filter(|c| *c != '-').collect();
                    (0..16).map(|at| u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).unwrap()).collect()
                }
                "smallint" => written.parse::<i16>().unwrap().to_be_bytes().to_vec(),
                _ => written.clone().into_bytes(),
            };
            let binary = [super::oracle::Value::Binary(binary)];
            let answer = ask_with(&client, "SELECT n FROM t WHERE tenant = $1", &[], &binary).await;
            assert!(matches!(&answer, Answer::Rows(rows) if rows[0].1 == 1), "{kind} {written}: {answer:?}");
        }
        assert!(ask(&client, "SELECT * FROM t").await.is_refusal());
        // Equality that is not the column's own proves nothing.
        if kind == "text" {
            assert!(ask(&client, "SELECT * FROM t WHERE tenant ILIKE 'ada'").await.is_refusal());
            assert!(ask(&client, "SELECT * FROM t WHERE tenant::char(5) = 'ada'").await.is_refusal());
            let answer = ask(&client, "SELECT * FROM t WHERE tenant = 'ada'::char(5)").await;
            assert!(answer.is_refusal(), "{answer:?}");
        }
    }
}

#[tokio::test]
async fn a_shards_own_text_is_not_the_rings_business() {
    // The key 42 is the same key however it is written.
    let topology = support::topology(3);
    let client = support::connect(&STAGE.dsn()).await;
    let owner = topology.owner(Key::Integer(42).hash());
    for text in ["42", "'42'", "042", "'42'::int4", "42::smallint"] {
        ask(&client, &format!("SELECT id FROM users WHERE id = {text}")).await;
        assert!(route(&client).await.contains(&super::oracle::shard_name(owner)), "{text}");
    }
}

#[tokio::test]
async fn views_are_what_they_are_made_of_or_refused() {
    let servers = support::servers(3);
    let name = support::sample_database(&servers);
    for server in &servers {
        let script = "CREATE VIEW active AS SELECT * FROM users WHERE is_active; \
                      CREATE VIEW totals AS SELECT count(*) AS n FROM jobs; \
                      CREATE VIEW prices AS SELECT * FROM plans; \
                      CREATE VIEW renamed AS SELECT plan_id AS id, id AS user_id FROM users; \
                      CREATE VIEW best AS SELECT user_id, id FROM jobs ORDER BY priority LIMIT 1; \
                      CREATE MATERIALIZED VIEW frozen AS SELECT user_id, count(*) AS n FROM jobs GROUP BY user_id;";
        server.psql(APP, &name, script).unwrap();
    }
    let oracle = support::sample_database(&servers[..1]);
    let script = "CREATE VIEW active AS SELECT * FROM users WHERE is_active; \
                  CREATE VIEW totals AS SELECT count(*) AS n FROM jobs; \
                  CREATE VIEW prices AS SELECT * FROM plans; \
                  CREATE VIEW renamed AS SELECT plan_id AS id, id AS user_id FROM users; \
                  CREATE VIEW best AS SELECT user_id, id FROM jobs ORDER BY priority LIMIT 1; \
                  CREATE MATERIALIZED VIEW frozen AS SELECT user_id, count(*) AS n FROM jobs GROUP BY user_id;";
    servers[0].psql(APP, &oracle, script).unwrap();
    let proxy =
        Proxy::start(Config::new().database(&name, &servers).set("routing", "cross_shard", "\"refuse\""));
    let client = support::connect(&proxy.dsn(APP, &name)).await;
    let oracle = support::connect(&servers[0].dsn(SUPERUSER, &oracle)).await;
    let users = Users::of_three_shards();
    for template in [
        "SELECT * FROM active WHERE id = {a}",
        "SELECT * FROM active",
        "SELECT * FROM totals",
        "SELECT * FROM prices ORDER BY id",
        "SELECT * FROM renamed WHERE id = {a}",
        "SELECT * FROM renamed WHERE user_id = {a}",
        "SELECT * FROM best WHERE user_id = {a}",
        "SELECT * FROM frozen WHERE user_id = {a}",
        "SELECT * FROM users u JOIN frozen f ON f.user_id = u.id WHERE u.id = {a}",
        "SELECT * FROM users u, totals WHERE u.id = {a}",
        "UPDATE active SET name = name WHERE id = {a}",
        "DELETE FROM active WHERE id <> {a} AND id < 0",
    ] {
        for turn in 0..3 {
            let text = users.fill(template, turn);
            let (mine, theirs) = (ask(&client, &text).await, ask(&oracle, &text).await);
            assert!(mine.is_refusal() || mine.same(&theirs, false), "{text}\n{mine:?}\n{theirs:?}");
        }
    }
    assert!(ask(&client, "SELECT * FROM totals").await.is_refusal());
    assert!(ask(&client, "SELECT * FROM active").await.is_refusal());
}
