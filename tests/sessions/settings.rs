//! Settings belong to the session, whichever servers it uses.

use pgring::demo::cluster::SUPERUSER;
use pgring::demo::sample::APP;

use crate::support::{self, Config};

use super::stage::{BOTH, ONE, Protocol, SHARED, Stage, short};

#[test]
fn two_sessions_of_one_server_never_see_each_others_settings() {
    let stage = Stage::new(Config::new().set("pool", "size", "1"));
    for protocol in BOTH {
        let (mut one, mut other) = (stage.session(), stage.session());
        for set in [
            "SET work_mem = '7MB'",
            "SELECT set_config('work_mem', '7MB', false)",
            "SET my.own = 'one'",
            "SET TIME ZONE 'Europe/Berlin'",
            "SET DateStyle = 'German'",
            "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
            "SET search_path = pg_catalog",
            "SET NAMES 'LATIN1'",
            "SET standard_conforming_strings = off",
            "SET statement_timeout = '60s'",
        ] {
            protocol.ask(&mut one, set);
            for shard in ["{a}", "{b}", "{c}"] {
                let ask = stage.fill(&format!(
                    "SELECT current_setting('work_mem') || current_setting('TimeZone') || current_setting('DateStyle') \
                     || current_setting('default_transaction_read_only') || current_setting('search_path') \
                     || current_setting('client_encoding') || current_setting('standard_conforming_strings') \
                     || current_setting('statement_timeout') || coalesce(current_setting('my.own', true), '') \
                     FROM public.users WHERE id = {shard}"
                ));
                let fresh = protocol.short(&mut other, &ask);
                let changed = protocol.short(&mut one, &ask);
                assert_ne!(fresh, changed, "{set}");
                assert_eq!(fresh, protocol.short(&mut other, &ask), "{set}");
                assert_eq!(changed, protocol.short(&mut one, &ask), "{set}");
            }
            protocol.ask(&mut one, "RESET ALL");
            protocol.ask(&mut one, "SET my.own = ''");
        }
    }
}

#[test]
fn a_setting_holds_on_every_shard_until_it_is_undone() {
    let mut session = SHARED.session();
    let everywhere = |session: &mut _, expect: &str| {
        for shard in ["{a}", "{b}", "{c}"] {
            let ask = SHARED
                .fill(&format!("SELECT current_setting('work_mem') FROM public.users WHERE id = {shard}"));
            for protocol in BOTH {
                assert_eq!(protocol.short(session, &ask), format!("{expect} | SELECT 1 | I"));
            }
        }
    };
    everywhere(&mut session, "4MB");
    for (script, expect) in [
        (&["SET work_mem = '7MB'"][..], "7MB"),
        (&["BEGIN", "SET work_mem = '8MB'", "ROLLBACK"], "7MB"),
        (&["BEGIN", "SET work_mem = '8MB'", "COMMIT"], "8MB"),
        (&["BEGIN", "SAVEPOINT a", "SET work_mem = '9MB'", "ROLLBACK TO a", "COMMIT"], "8MB"),
        (&["BEGIN", "SET LOCAL work_mem = '9MB'", "SELECT 1", "COMMIT"], "8MB"),
        (&["BEGIN", "SELECT 1", "SET work_mem = '9MB'", "SELECT 1/0", "COMMIT"], "8MB"),
        (&["SET work_mem = '9MB'; SELECT 1/0"], "8MB"),
        (&["SELECT set_config('work_mem', '10MB', false)"], "10MB"),
        (&["SELECT set_config('work_mem', '11MB', true)"], "10MB"),
        (&["BEGIN", "RESET work_mem", "ROLLBACK"], "10MB"),
        (&["RESET work_mem"], "4MB"),
        (&["SET work_mem = '7MB'", "RESET ALL"], "4MB"),
        (&["SET work_mem = '7MB'", "DISCARD ALL"], "4MB"),
        (&["SET work_mem = '7MB'", "SET work_mem TO DEFAULT"], "4MB"),
    ] {
        for statement in script {
            session.query(statement);
        }
        everywhere(&mut session, expect);
    }
}

#[test]
fn start_up_options_outlive_every_reset() {
    let options = [
        ("TimeZone", "Asia/Tokyo"),
        ("options", "-c work_mem=7MB -c my.own=a\\ b"),
        ("application_name", "me"),
    ];
    let mut session = SHARED.session_with(&options);
    for undo in ["SELECT 1", "RESET ALL", "RESET work_mem", "DISCARD ALL", "SET work_mem TO DEFAULT"] {
        session.query("SET work_mem = '9MB'");
        session.query("SET TIME ZONE 'UTC'");
        if undo != "SELECT 1" {
            session.query(undo);
            session.query("RESET TimeZone");
            for shard in ["{a}", "{b}", "{c}"] {
                let ask = SHARED.fill(&format!(
                    "SELECT current_setting('work_mem'), current_setting('TimeZone'), current_setting('my.own'), \
                     current_setting('application_name') FROM users WHERE id = {shard}"
                ));
                assert_eq!(short(&session.query(&ask)), "7MB,Asia/Tokyo,a b,me | SELECT 1 | I", "{undo}");
            }
        }
    }
}

#[test]
fn a_change_of_a_reported_parameter_is_told() {
    let mut session = SHARED.session();
    for (statement, name, value) in [
        ("SET TIME ZONE 'Europe/Berlin'", "TimeZone", "Europe/Berlin"),
        ("RESET TimeZone", "TimeZone", ""),
        ("SET DateStyle = 'German'", "DateStyle", "German, DMY"),
        ("SET application_name = 'me'", "application_name", "me"),
        ("SET NAMES 'LATIN1'", "client_encoding", "LATIN1"),
        ("SET standard_conforming_strings = off", "standard_conforming_strings", "off"),
    ] {
        let answer = session.query(statement);
        let told = answer
            .iter()
            .find(|frame| frame.tag == b'S')
            .unwrap_or_else(|| panic!("{statement}: {answer:?}"));
        assert!(told.body.starts_with(name.as_bytes()), "{statement}: {told:?}");
        assert!(
            told.body.windows(value.len().max(1)).any(|part| part == value.as_bytes() || value.is_empty()),
            "{told:?}"
        );
    }
}

#[test]
fn the_search_path_decides_which_table_is_meant() {
    let servers = support::servers(3);
    let stage = Stage::with(Config::new(), |servers| {
        support::database(
            servers,
            "CREATE TABLE t (user_id bigint, n int); CREATE SCHEMA other; CREATE TABLE other.t (user_id text, k int)",
        )
    });
    let a = stage.fill("{a}");
    for (number, server) in servers.iter().enumerate() {
        server.psql(APP, &stage.name, &format!("INSERT INTO t VALUES ({a}, {number})")).unwrap();
    }
    for protocol in BOTH {
        let mut session = stage.session();
        let ask = format!("SELECT n FROM t WHERE user_id = {a}");
        assert_eq!(protocol.short(&mut session, &ask), "1 | SELECT 1 | I");
        // There the same words mean a comparison of text with a number.
        protocol.ask(&mut session, "SET search_path = other");
        let answer = protocol.short(&mut session, &ask);
        assert!(answer.starts_with("E "), "{answer}");
        protocol.ask(&mut session, "BEGIN");
        protocol.ask(&mut session, "SET LOCAL search_path = public");
        assert_eq!(protocol.short(&mut session, &ask), "1 | SELECT 1 | T");
        protocol.ask(&mut session, "ROLLBACK");
        let answer = protocol.short(&mut session, &ask);
        assert!(answer.starts_with("E "), "{answer}");
        protocol.ask(&mut session, "SELECT set_config('search_path', 'nowhere, public', false)");
        assert_eq!(protocol.short(&mut session, &ask), "1 | SELECT 1 | I");
    }
}

/// Each table is sharded and lives in a schema with a name that is read easily otherwise.
#[test]
fn a_search_path_is_read_as_postgresql_reads_it() {
    let long = "l".repeat(70);
    let kept = &long[..63];
    let schemas = ["tenant-1", "77", "\u{c4}rger", kept, "pub\"\"\"\"lic", "grp"];
    let script: String = schemas
        .iter()
        .map(|name| format!("CREATE SCHEMA \"{name}\"; CREATE TABLE \"{name}\".lone (user_id bigint);"))
        .collect();
    let stage = Stage::with(Config::new(), |servers| {
        let name = support::database(servers, &script);
        for server in servers {
            server.psql(SUPERUSER, "postgres", "SET client_min_messages = error; DO $$ BEGIN CREATE ROLE grp; EXCEPTION WHEN duplicate_object THEN END $$; GRANT grp TO app").unwrap();
            server
                .psql(SUPERUSER, &name, "GRANT ALL ON SCHEMA grp TO grp; GRANT ALL ON grp.lone TO grp")
                .unwrap();
        }
        name
    });
    let mut owner = stage.session();
    for schema in schemas {
        for user in ["{a}", "{b}", "{c}"] {
            let insert = format!("INSERT INTO \"{schema}\".lone VALUES ({user})");
            assert_eq!(short(&owner.query(&stage.fill(&insert))), "INSERT 0 1 | I", "{schema}");
        }
    }
    let long_list = format!("SELECT set_config('search_path', 'nowhere, {long}', false)");
    let long_set = format!("SET search_path = {long}");
    let scripts: &[&[&str]] = &[
        &["SELECT set_config('search_path', 'tenant-1,nowhere', false)"],
        &["SELECT set_config('search_path', ' TENANT-1 ,nowhere', false)"],
        &["SELECT set_config('search_path', '77,nowhere', false)"],
        &["SET search_path = 77"],
        &["SET search_path = \u{c4}rger"],
        &["SELECT set_config('search_path', '\u{c4}rger', false)"],
        &["SELECT set_config('search_path', 'pub\"\"lic', false)"],
        &[&long_list],
        &[&long_set],
        &["SET search_path = \"$user\"", "SELECT set_config('role', 'grp', false)"],
        &["SET search_path = \"$user\"", "SET role = E'gr\\x70'"],
        &["SET search_path = \"$user\"", "SET ROLE $$grp$$"],
        &["SET search_path = 'grp'", "BEGIN", "SET LOCAL search_path = nowhere", "COMMIT"],
    ];
    for protocol in BOTH {
        for script in scripts {
            let mut session = stage.session();
            for statement in *script {
                let said = protocol.short(&mut session, statement);
                assert!(!said.starts_with("E "), "{statement}: {said}");
            }
            for user in ["{a}", "{b}", "{c}"] {
                let ask = stage.fill(&format!("SELECT 'here' FROM lone WHERE user_id = {user}"));
                assert_eq!(protocol.short(&mut session, &ask), "here | SELECT 1 | I", "{script:?}");
            }
        }
        // What the session began with is where DEFAULT goes back to.
        for begun_with in ["tenant-1,nowhere", "77"] {
            let mut session = stage.session_with(&[("search_path", begun_with)]);
            for script in [&["SELECT 1"][..], &["BEGIN", "SET LOCAL search_path TO DEFAULT"]] {
                script.iter().for_each(|statement| _ = protocol.ask(&mut session, statement));
                for user in ["{a}", "{b}", "{c}"] {
                    let ask = stage.fill(&format!("SELECT 'here' FROM lone WHERE user_id = {user}"));
                    let said = protocol.short(&mut session, &ask);
                    assert!(said.starts_with("here | SELECT 1"), "{begun_with}, {script:?}: {said}");
                }
            }
        }
    }
}

/// A shard that joins a transaction later is told what `set_config(…, true)` has set, for as long.
#[test]
fn what_is_set_for_a_transaction_ends_with_it_on_every_shard() {
    let stage = Stage::with(Config::new().set("pool", "size", "1"), support::sample_database);
    let mut one = stage.session();
    let state =
        "SELECT current_setting('app.tenant', true) || current_setting('work_mem') FROM users WHERE id";
    for protocol in BOTH {
        let calls =
            ["SELECT set_config('app.tenant', 'mine', true)", "SELECT set_config('work_mem', '7MB', true)"];
        protocol.ask(&mut one, "BEGIN");
        // It runs on one of them.
        protocol.ask(&mut one, &stage.fill(&format!("{state} = {{c}}")));
        calls.iter().for_each(|call| _ = protocol.ask(&mut one, call));
        for user in ["{a}", "{b}", "{c}"] {
            let said = protocol.short(&mut one, &stage.fill(&format!("{state} = {user}")));
            assert_eq!(said, "mine7MB | SELECT 1 | T");
        }
        // By now it has to reach three.
        let said = protocol.short(&mut one, "SELECT set_config('app.tenant', 'other', true)");
        if matches!(protocol, Protocol::Simple) {
            assert_eq!(said, "E 0A000 | E");
        } else {
            assert_eq!(said, "other | SELECT 1 | T");
            for user in ["{a}", "{b}", "{c}"] {
                let said = protocol.short(&mut one, &stage.fill(&format!("{state} = {user}")));
                assert_eq!(said, "other7MB | SELECT 1 | T");
            }
        }
        protocol.ask(&mut one, "COMMIT");
        let mut other = stage.session();
        for user in ["{a}", "{b}", "{c}"] {
            for session in [&mut other, &mut one] {
                let said = protocol.short(session, &stage.fill(&format!("{state} = {user}")));
                assert!(said == "4MB | SELECT 1 | I" || said == "- | SELECT 1 | I", "{said}");
            }
        }
    }
}

/// What only a server knows is not repeated elsewhere: the session keeps it, or is refused it.
#[test]
fn a_setting_made_from_the_current_one_stays_with_its_session() {
    let stage = Stage::with_config(Config::new().set("pool", "size", "2"), "");
    let (mut one, mut other) = (stage.session(), stage.session());
    for statement in ["BEGIN", "SET LOCAL work_mem = '7MB'", "SET work_mem FROM CURRENT", "COMMIT"] {
        one.query(statement);
    }
    for _ in 0..3 {
        assert_eq!(other.value("SELECT current_setting('work_mem')"), "4MB");
        assert_eq!(one.value("SELECT current_setting('work_mem')"), "7MB");
    }
    drop(one);
    assert_eq!(stage.session().value("SELECT current_setting('work_mem')"), "4MB");
    assert!(short(&SHARED.session().query("SET work_mem FROM CURRENT")).starts_with("E 0A000"));
}

#[test]
fn a_sessions_characteristics_are_read_past_comments() {
    let stage = Stage::with_config(Config::new().set("pool", "size", "1"), "");
    let (mut one, mut other) = (stage.session(), stage.session());
    for level in
        ["LEVEL /* x */ SERIALIZABLE", "LEVEL/**/SERIALIZABLE, READ WRITE", "LEVEL -- x\n SERIALIZABLE"]
    {
        one.query(&format!("SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION {level}"));
        assert_eq!(other.value("SHOW default_transaction_isolation"), "read committed", "{level}");
        assert_eq!(one.value("SHOW default_transaction_isolation"), "serializable", "{level}");
        one.query("RESET ALL");
    }
}

#[test]
fn pgrings_own_settings_end_with_their_transaction() {
    let mut session = SHARED.session();
    let count = "SELECT count(*) > 0 FROM jobs";
    for protocol in BOTH {
        for (script, stands) in [
            (&["BEGIN", "SET LOCAL pgring.shard = 's2'", "COMMIT"][..], false),
            (&["BEGIN", "SET pgring.shard = 's2'", "ROLLBACK"], false),
            (&["BEGIN", "SET pgring.shard = 's2'", "COMMIT"], true),
            (&["RESET ALL"], false),
            (&["SET pgring.shard = 's2'"], true),
            (&["DISCARD ALL"], false),
            (&["SET LOCAL pgring.shard = 's2'"], false),
            (&["SET pgring.shard = 's2'; SELECT 1"], false),
        ] {
            for statement in script {
                protocol.ask(&mut session, statement);
            }
            let answer = protocol.short(&mut session, count);
            assert_eq!(answer == "t | SELECT 1 | I", stands, "{script:?}: {answer}");
        }
        protocol.ask(&mut session, "BEGIN");
        protocol.ask(&mut session, "SET LOCAL pgring.shard = 's2'");
        assert_eq!(protocol.short(&mut session, count), "t | SELECT 1 | T");
        protocol.ask(&mut session, "COMMIT");
    }
}

#[test]
fn a_session_can_leave_a_role_that_was_dropped_meanwhile() {
    let stage = Stage::single(Config::new().set("pool", "size", "1"));
    for protocol in BOTH {
        for (leave, answer) in [
            ("RESET ROLE", "RESET | I"),
            ("SET ROLE NONE", "SET | I"),
            ("RESET SESSION AUTHORIZATION", "RESET | I"),
            ("DISCARD ALL", "DISCARD ALL | I"),
        ] {
            stage.directly(0, "CREATE ROLE going; GRANT going TO app");
            let (mut session, mut other) = (stage.session(), stage.session());
            assert_eq!(protocol.short(&mut session, "SET ROLE going"), "SET | I");
            assert_eq!(protocol.short(&mut session, "SELECT current_user"), "going | SELECT 1 | I");
            // The server is the other's now.
            assert_eq!(protocol.short(&mut other, "SELECT current_user"), "app | SELECT 1 | I");
            stage.directly(0, "DROP ROLE going");
            let refused = protocol.ask(&mut session, "SELECT 'not as anybody else'");
            assert_eq!(short(&refused), "E 22023 | I", "{refused:?}");
            assert_eq!(protocol.short(&mut other, "SELECT current_user"), "app | SELECT 1 | I");
            assert_eq!(protocol.short(&mut session, "BEGIN"), "BEGIN | T");
            assert_eq!(short(&protocol.ask(&mut session, "SELECT 1")), "E 22023 | E");
            assert_eq!(protocol.short(&mut session, "ROLLBACK"), "ROLLBACK | I");
            assert_eq!(protocol.short(&mut session, leave), answer, "{leave}");
            assert_eq!(protocol.short(&mut session, "SELECT current_user"), "app | SELECT 1 | I", "{leave}");
        }
    }
}

/// Every statement that could be read no more comes too late to be refused.
#[test]
fn an_encoding_that_cannot_be_routed_reaches_no_server() {
    let config = Config::new().set("pool", "size", "1");
    let stage = Stage::with(config, |servers| {
        support::database(
            servers,
            "CREATE TABLE t (user_id bigint); CREATE FUNCTION set_it(text, text) RETURNS text
             LANGUAGE sql AS 'SELECT set_config($1, $2, false)'",
        )
    });
    let others_are_well = || {
        for shard in ["s1", "s2", "s3"] {
            let show = format!("/* pgring: shard={shard} */ SELECT current_setting('client_encoding')");
            assert_eq!(stage.session().value(&show), "UTF8");
        }
    };
    for protocol in BOTH {
        let mut session = stage.session();
        for set in [
            "SET client_encoding = 'SJIS'",
            "SET client_encoding TO sjis",
            "SET LOCAL client_encoding = 'Shift-JIS'",
            "SET NAMES 'gb18030'",
            "SET NAMES U&'BI!00475' UESCAPE '!'",
            "SELECT set_config('client_encoding', 'windows-950', false)",
            "SELECT set_config('client_encoding', 'JOHAB', true)",
            "SET U&\"client\\005fencoding\" = 'UHC'",
        ] {
            assert_eq!(protocol.short(&mut session, set), "E 0A000 | I", "{set}");
            protocol.ask(&mut session, "BEGIN");
            assert_eq!(protocol.short(&mut session, set), "E 0A000 | E", "{set}");
            protocol.ask(&mut session, "ROLLBACK");
            others_are_well();
        }
        assert_eq!(protocol.short(&mut session, "SET NAMES 'LATIN1'"), "SET | I");
        // Of what a function does the client is told when it has been done.
        let unseen = "/* pgring: shard=s2 */ SELECT set_it('client_encoding', 'SJIS')";
        let answer = protocol.short(&mut session, unseen);
        assert!(answer.contains("E 0A000"), "{answer}");
        others_are_well();
    }
}

#[test]
fn a_default_given_at_the_start_is_not_taken_for_the_servers() {
    let mut session = ONE.session_with(&[("options", "-c work_mem=7MB")]);
    for protocol in BOTH {
        let ask = "SELECT set_config('work_mem', NULL, false)";
        assert_eq!(protocol.short(&mut session, ask), "E 0A000 | I");
        assert_eq!(protocol.short(&mut session, "SHOW work_mem"), "7MB | SHOW | I");
        let other = "SELECT set_config('maintenance_work_mem', NULL, false)";
        assert_eq!(protocol.short(&mut session, other), "64MB | SELECT 1 | I");
    }
}
