//! Depth, length, and texts nobody would write.

use proptest::prelude::*;

use super::*;

fn target(sql: &str) -> String {
    shape(sql).statements.iter().map(|statement| describe(&statement.target)).collect::<Vec<_>>().join("; ")
}

#[test]
fn deep_nesting_is_refused() {
    let around = |open: &str, inner: &str, close: &str, n: usize| {
        format!("SELECT * FROM jobs WHERE user_id = 7 AND {}{inner}{}", open.repeat(n), close.repeat(n))
    };
    for (open, inner, close) in [
        ("(", "true", ")"),
        ("abs(", "1", ")"),
        ("ARRAY[", "1", "]"),
        ("EXISTS (SELECT ", "1", ")"),
        ("(SELECT * FROM ", "jobs", ")"),
    ] {
        let found = target(&around(open, inner, close, 10_000));
        assert!(found.contains("nested too deeply"), "{open}: {found}");
    }
    let found = target(&around("NOT ", "true", "", 10_000));
    assert!(found.starts_with("refused: "), "{found}");
    let found = target(&around("- ", "1", " = 1", 10_000));
    assert!(found.starts_with("refused: "), "{found}");
    let found = target(&around("CASE WHEN true THEN ", "1", " END", 10_000));
    assert!(found.starts_with("refused: "), "{found}");
    let found = target(&format!("SELECT * FROM {}jobs{}", "(".repeat(10_000), ")".repeat(10_000)));
    assert!(found.contains("nested too deeply"), "{found}");
}

#[test]
fn moderate_nesting_is_read() {
    for n in [1, 5, 20, 40] {
        let sql = format!("SELECT * FROM jobs WHERE {}user_id = 7{}", "(".repeat(n), ")".repeat(n));
        assert_eq!(target(&sql), "keys[lit0] colocated", "{n}");
        let sql = format!(
            "SELECT * FROM {}jobs{} WHERE user_id = 7",
            "(SELECT * FROM ".repeat(n.min(20)),
            ") x".repeat(n.min(20))
        );
        assert_eq!(target(&sql), "keys[lit0] colocated", "{n}");
    }
}

#[test]
fn long_chains_are_read_or_refused() {
    let chain = |n: usize| {
        let terms: Vec<String> = (0..n).map(|i| format!("user_id = {i}")).collect();
        format!("SELECT * FROM jobs WHERE {}", terms.join(" OR "))
    };
    assert!(target(&chain(5_000)).starts_with("keys[lit0 "));
    assert!(target(&chain(100_000)).contains("nested too deeply"));
    let sets = |n: usize| vec!["SELECT a, b FROM app_settings"; n].join(" UNION ALL ");
    assert_eq!(target(&sets(1_000)), "home");
    assert!(target(&sets(100_000)).contains("nested too deeply"));
    let casts = format!("SELECT 1{} FROM jobs", "::int".repeat(100_000));
    assert!(target(&casts).starts_with("refused: "));
    for link in ["::int", " ISNULL", " + 1", " AND true", "[1]", " COLLATE x", " NOT NULL", " || 'a' = 'b'"] {
        let sql = format!("SELECT * FROM jobs WHERE user_id{}", link.repeat(10_000));
        let found = target(&sql);
        assert!(found.starts_with("refused: ") || found.starts_with("everywhere "), "{link}: {found}");
    }
    for n in [1_000, 8_000] {
        let joins = " JOIN users u ON u.id = j.user_id".repeat(n);
        let found = target(&format!("SELECT * FROM jobs j{joins} WHERE j.user_id = 7"));
        assert!(found.starts_with("refused: ") || found.starts_with("everywhere "), "{n}: {found}");
        let joins = " JOIN users u".repeat(n) + &" ON true".repeat(n);
        let found = target(&format!("SELECT * FROM jobs j{joins}"));
        assert!(found.starts_with("refused: ") || found.starts_with("everywhere "), "{n}: {found}");
    }
    let crossed = format!("SELECT * FROM jobs{} WHERE jobs.user_id = 1", ", jobs".repeat(100_000));
    assert!(target(&crossed).starts_with("refused: "));
    let unbalanced = format!("SELECT * FROM jobs WHERE {}", "(".repeat(100_000));
    assert!(target(&unbalanced).starts_with("refused: "));
    let explains = format!("{} SELECT 1", "EXPLAIN ".repeat(100_000));
    assert_eq!(target(&explains), "home");
}

#[test]
fn a_long_list_is_read() {
    let list: Vec<String> = (0..100_000).map(|i| i.to_string()).collect();
    let shape = shape(&format!("SELECT * FROM jobs WHERE user_id IN ({})", list.join(",")));
    let Target::Keys { keys, colocated: true, .. } = &shape.statements[0].target else {
        panic!("{:?}", describe(&shape.statements[0].target));
    };
    assert_eq!(keys.len(), 100_000);
    assert_eq!(keys[99_999].slot, KeySlot::Literal(99_999));
}

#[test]
fn a_long_insert_is_read_off_its_tokens() {
    let rows: Vec<String> = (0..250_000).map(|i| format!("({i}, {i}, 'name of job {i}')")).collect();
    let sql = format!("INSERT INTO jobs (id, user_id, name) VALUES {}", rows.join(", "));
    assert!(sql.len() > 8_000_000);
    let shape = shape(&sql);
    let Target::Keys { keys, .. } = &shape.statements[0].target else {
        panic!("{:?}", describe(&shape.statements[0].target));
    };
    assert_eq!(keys.len(), 250_000);
    assert_eq!(keys[1].slot, KeySlot::Literal(4));
    assert_eq!(keys[249_999].slot, KeySlot::Literal(749_998));
}

#[test]
fn a_literal_decides_nothing() {
    // Texts with one fingerprint share a shape; of `set_config` the name is part of it.
    let pairs = [
        (
            "SELECT * FROM jobs WHERE user_id = 1 LIMIT 2",
            "SELECT * FROM jobs WHERE user_id = 99999999999 LIMIT 3",
        ),
        ("SELECT * FROM jobs WHERE user_id = ANY('{1}')", "SELECT * FROM jobs WHERE user_id = ANY('')"),
        ("INSERT INTO jobs VALUES (1, 2), (3, 4)", "INSERT INTO jobs VALUES (5, 6), (7, 8)"),
        ("SELECT interval '1 day', 'x'::varchar(3)", "SELECT interval 'nonsense', 'y'::varchar(99999999999)"),
        ("SET x = '1'", "SET x = 'default'"),
    ];
    for (one, other) in pairs {
        assert_eq!(shape(one), shape(other), "{one}");
    }
}

const SEEDS: &[&str] = &[
    "SELECT * FROM jobs j LEFT JOIN users u ON u.id = j.user_id WHERE j.user_id = 7 AND EXISTS (SELECT 1 FROM plans)",
    "WITH RECURSIVE a AS (SELECT 1), b(x) AS (TABLE a) INSERT INTO jobs (id, user_id) VALUES (1, 2), (3, $4::int) ON CONFLICT DO NOTHING RETURNING *",
    "UPDATE ONLY jobs SET name = E'\\'x', (a, b) = (1, 2) FROM users u WHERE u.id = jobs.user_id AND u.id = ANY('{1}'::int[])",
    "MERGE INTO jobs t USING plans s ON t.user_id = 7 WHEN NOT MATCHED THEN INSERT (id, user_id) VALUES (s.id, 7)",
    "CREATE TEMP TABLE IF NOT EXISTS t (LIKE jobs, user_id int) INHERITS (x); SET LOCAL a.b TO c, 'd'; COPY (SELECT 1) TO STDOUT",
    "EXPLAIN (ANALYZE) DECLARE c CURSOR WITH HOLD FOR SELECT set_config('a', 'b', true); GRANT SELECT ON a, b TO c; COMMENT ON COLUMN a.b IS 'c'",
    "REINDEX TABLE CONCURRENTLY jobs; ALTER TABLE IF EXISTS ONLY jobs RENAME TO x; DROP VIEW IF EXISTS a, b; LOCK TABLE ONLY jobs *",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn mutations_do_not_panic(seed in 0..SEEDS.len(), cuts in proptest::collection::vec((0usize..60, 0usize..60), 0..6)) {
        let mut words: Vec<&str> = SEEDS[seed].split_inclusive([' ', '(', ')', ',']).collect();
        for (one, other) in cuts {
            if words.is_empty() {
                break;
            }
            let (one, other) = (one % words.len(), other % words.len());
            match (one + other) % 3 {
                0 => words.swap(one, other),
                1 => { words.remove(one); }
                _ => words.insert(one, words[other]),
            }
        }
        let sql = words.concat();
        let _ = shape(&sql);
        let _ = shape_of(&sql, &Schema::one_shard(), &["public"], false);
    }

    #[test]
    fn any_text_is_survived(sql in ".{0,80}") {
        let _ = shape(&sql);
    }
}
