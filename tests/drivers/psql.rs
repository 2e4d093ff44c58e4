//! psql: what it asks by itself, and scripts that use what it can do.

use crate::stage::{SHARED, Scope, compare};
use crate::support::{psql, psql_with};

/// The output of a script, headings and command tags included, is the same line by line.
#[test]
fn psql_prints_the_same() {
    let keyed = include_str!("psql_keyed.sql");
    compare("psql", Scope::Keyed, |dsn, _| psql_with(dsn, &["-f", "-"], keyed));
    let whole = include_str!("psql_whole.sql");
    compare("psql", Scope::Whole, |dsn, _| psql_with(dsn, &["-f", "-"], whole));
}

#[test]
fn psql_describes_the_schema() {
    for (command, expect) in [
        ("\\d", "job_executions"),
        ("\\dt", "app_settings"),
        ("\\dt+ users", "users"),
        ("\\d users", "idx_users_email_active"),
        ("\\d+ jobs", "FOREIGN KEY (user_id) REFERENCES users(id)"),
        ("\\d app_settings", "app_settings_pkey"),
        ("\\di", "idx_jobs_user_id_status"),
        ("\\ds", "jobs_id_seq"),
        ("\\dn", "public"),
        ("\\l", SHARED.name.as_str()),
        ("\\du", "app"),
        ("\\df", ""),
        ("\\dv", ""),
        ("\\dp users", "users"),
        ("\\conninfo", SHARED.name.as_str()),
        ("\\encoding", "UTF8"),
        ("\\sf pg_catalog.lower(text)", "lower"),
    ] {
        let printed = psql_with(&SHARED.three, &["-v", "ON_ERROR_STOP=1", "-c", command], "");
        assert!(printed.ok && printed.out.contains(expect), "{command}: {printed:?}");
        assert!(!printed.err.contains("ERROR"), "{command}: {printed:?}");
    }
}

/// The queries of psql 15's tab completion.
#[test]
fn psql_completes_names() {
    let script = r"
        SELECT c.relname, NULL::pg_catalog.text FROM pg_catalog.pg_class c
        WHERE c.relkind IN ('r', 'S', 'v', 'm', 'f', 'p') AND (c.relname) LIKE 'use%'
          AND pg_catalog.pg_table_is_visible(c.oid)
          AND c.relnamespace <> (SELECT oid FROM pg_catalog.pg_namespace WHERE nspname = 'pg_catalog')
        UNION ALL
        SELECT NULL::pg_catalog.text, n.nspname FROM pg_catalog.pg_namespace n
        WHERE n.nspname LIKE 'use%' AND n.nspname NOT LIKE E'pg\\_%' LIMIT 1000;
        SELECT attname FROM pg_catalog.pg_attribute a, pg_catalog.pg_class c
        WHERE c.oid = a.attrelid AND a.attnum > 0 AND NOT a.attisdropped AND (attname) LIKE 'ema%'
          AND (c.relname) = ('users') AND pg_catalog.pg_table_is_visible(c.oid);
        SELECT pg_catalog.lower(name) FROM pg_catalog.pg_settings WHERE pg_catalog.lower(name) LIKE 'search_p%';
    ";
    let printed = psql(&SHARED.three, script).expect_ok();
    assert!(
        printed.contains("users") && printed.contains("email") && printed.contains("search_path"),
        "{printed}"
    );
}

#[test]
fn psql_copies_in_and_out() {
    let rows = "\\copy app_settings FROM STDIN\none\t1\ntwo\tzwei\n\\.\n\
                \\copy (SELECT key, value FROM app_settings WHERE key IN ('one', 'two') ORDER BY key) TO STDOUT CSV\n\
                COPY app_settings (key, value) FROM STDIN CSV;\nthree,3\n\\.\n\
                DELETE FROM app_settings WHERE key IN ('one', 'two', 'three') RETURNING value;\n";
    let printed = psql(&SHARED.three, rows).expect_ok();
    assert!(printed.starts_with("one,1\ntwo,zwei\n"), "{printed}");
    assert_eq!(printed.lines().count(), 5, "{printed}");
    let out = psql(&SHARED.three, "\\copy (SELECT id FROM jobs WHERE user_id = 7 ORDER BY id) TO STDOUT")
        .expect_ok();
    assert_eq!(out, "19\n20\n21\n");
    // What no shard can do for all says so, and the session goes on.
    let printed =
        psql_with(&SHARED.three, &["-A", "-t", "-f", "-"], "COPY users TO '/tmp/users';\nSELECT 'on';\n");
    assert!(printed.err.contains("HINT") && printed.out.contains("on"), "{printed:?}");
}

#[test]
fn psql_scripts() {
    let script = "\\set ON_ERROR_ROLLBACK on\nBEGIN;\nSELECT id FROM users WHERE id = 42;\nSELECT 1/0;\nSELECT id FROM jobs WHERE user_id = 42 ORDER BY id LIMIT 1;\nCOMMIT;\n\
                  SELECT :'HOST' <> '' AS h \\gset\n\\echo :h\nSELECT id FROM users WHERE id = 42 \\gdesc\n\\bind 42 \nSELECT 1;\n";
    let printed = psql_with(&SHARED.three, &["-q", "-A", "-t", "-f", "-"], script);
    assert!(printed.out.starts_with("42\n124\nt\nid|bigint\n"), "{printed:?}");
    assert!(printed.err.contains("division by zero"), "{printed:?}");
}
