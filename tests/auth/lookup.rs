//! What a role may do, as PostgreSQL itself would say; and who cannot influence that.

use pgring::demo::cluster::Login;
use pgring::demo::sample::APP;

use crate::stage::{Stage, attempt, outcome};
use crate::support::raw::{Raw, V3_0};
use crate::support::{eventually, psql_with, unique_name};

/// The function of the manual.
fn documented_function() -> String {
    let manual = include_str!("../../docs/authentication.md");
    let block = manual.split("```sql\n").nth(1).unwrap();
    block.split("```").next().unwrap().to_owned()
}

fn by_function() -> Stage {
    Stage::new(1, &documented_function(), |config| config.set("auth", "function", "\"pgring.user_lookup\""))
}

/// Every row is compared with a login to the server itself. The expired password is PgBouncer's
/// CVE-2025-2291.
#[test]
fn who_may_log_in_is_for_postgresql_to_say() {
    for stage in [Stage::reading_the_catalog(1), by_function()] {
        for (options, password, expect) in [
            ("LOGIN PASSWORD 'p'", "p", "in"),
            ("LOGIN PASSWORD 'p'", "wrong", "28P01"),
            ("LOGIN PASSWORD 'p'", "", "28P01"),
            ("LOGIN PASSWORD 'p' VALID UNTIL 'infinity'", "p", "in"),
            ("LOGIN PASSWORD 'p' VALID UNTIL '2999-01-01'", "p", "in"),
            ("LOGIN PASSWORD 'p' VALID UNTIL '2001-01-01'", "p", "28P01"),
            ("LOGIN PASSWORD 'p' VALID UNTIL '-infinity'", "p", "28P01"),
            ("LOGIN PASSWORD 'p' VALID UNTIL '2001-01-01'", "wrong", "28P01"),
            ("NOLOGIN PASSWORD 'p'", "p", "28000"),
            ("NOLOGIN PASSWORD 'p'", "wrong", "28P01"),
            ("NOLOGIN PASSWORD 'p' VALID UNTIL '2001-01-01'", "p", "28P01"),
            ("LOGIN", "p", "28P01"),
            ("LOGIN", "", "28P01"),
            ("NOLOGIN", "p", "28P01"),
        ] {
            let role = stage.role(options);
            let through = stage.outcome(&role, password);
            let direct = outcome(&attempt(&stage.servers[0].address(), &role, password, &stage.name).1);
            assert_eq!(through, direct, "{options}, {password:?}");
            assert!(through.starts_with(expect), "{options}, {password:?}: {through}");
        }
        let nobody = stage.attempt("nobody at all", "p").1;
        assert_eq!(outcome(&nobody), "28P01 password authentication failed for user \"nobody at all\"");
        assert_eq!(stage.session(APP.name, APP.password).value("SELECT current_user::text"), "app");
        let role = stage.role("LOGIN PASSWORD 'p'");
        assert_eq!(stage.session(&role, "p").value("SELECT current_user::text"), role);
    }
}

#[test]
fn odd_names_are_names() {
    let stage = Stage::reading_the_catalog(1);
    let long = "n".repeat(63);
    for name in ["O'Reilly", "semi;colon--", "two words", "gr\u{fc}n", "\\", "%s$1", long.as_str()] {
        stage.superuser(
            0,
            &format!("DROP ROLE IF EXISTS \"{name}\"; CREATE ROLE \"{name}\" LOGIN PASSWORD 'p'"),
        );
        assert_eq!(stage.session(name, "p").value("SELECT current_user::text"), name);
    }
    // A name that PostgreSQL would cut is not another's.
    let outcome = stage.outcome(&format!("{long}n"), "p");
    assert!(outcome.starts_with("28P01"), "{outcome}");
}

/// Nothing on the wire tells a role from a name that was made up.
#[test]
fn a_name_that_was_made_up_looks_like_a_wrong_password() {
    let stage = Stage::reading_the_catalog(1);
    let real = stage.role("LOGIN PASSWORD 'p'");
    let expired = stage.role("LOGIN PASSWORD 'p' VALID UNTIL '2001-01-01'");
    let bare = stage.role("LOGIN");
    let seen = |name: &str| {
        let frames = stage.attempt(name, "wrong").1;
        let challenge = String::from_utf8_lossy(&frames[1].body[4..]).into_owned();
        let (_, salt) = challenge.split_once(",s=").unwrap();
        let shape: Vec<_> = frames.iter().map(|frame| (frame.tag, frame.body.len())).collect();
        assert_eq!(shape.len(), 3);
        (salt.to_owned(), shape[..2].to_vec(), outcome(&frames).replace(name, "NAME"))
    };
    let expect = seen(&real);
    for name in [&expired, &bare, "made_up"] {
        let (salt, shape, told) = seen(name);
        assert_eq!((&shape, &told), (&expect.1, &expect.2), "{name}");
        assert_ne!(salt, expect.0);
        assert_eq!(salt, seen(name).0, "{name}: a real one's does not change either");
    }
}

/// PgBouncer's CVE-2025-12819: a `search_path` of the client's start-up packet was in force when
/// its user was looked up. Here it is the client's, the database's, and the control role's own.
#[test]
fn no_search_path_reaches_the_look_up() {
    let evil = "
        GRANT SELECT ON pg_catalog.pg_authid TO pgring;
        CREATE SCHEMA evil;
        GRANT USAGE ON SCHEMA evil TO PUBLIC;
        CREATE TABLE evil.hits (what text);
        GRANT INSERT ON evil.hits TO PUBLIC;
        CREATE TABLE evil.pg_authid AS SELECT * FROM pg_catalog.pg_authid LIMIT 0;
        GRANT SELECT ON evil.pg_authid TO PUBLIC;
        CREATE FUNCTION evil.now() RETURNS timestamptz LANGUAGE sql AS
            $$INSERT INTO evil.hits VALUES ('now'); SELECT 'epoch'::timestamptz$$;
        CREATE FUNCTION evil.equal(name, name) RETURNS boolean LANGUAGE sql AS
            $$INSERT INTO evil.hits VALUES ('='); SELECT true$$;
        CREATE OPERATOR evil.= (LEFTARG = name, RIGHTARG = name, FUNCTION = evil.equal);
        CREATE FUNCTION evil.equal(text, text) RETURNS boolean LANGUAGE sql AS
            $$INSERT INTO evil.hits VALUES ('='); SELECT true$$;
        CREATE OPERATOR evil.= (LEFTARG = text, RIGHTARG = text, FUNCTION = evil.equal);
        CREATE DOMAIN evil.name AS pg_catalog.text;
        CREATE DOMAIN evil.text AS pg_catalog.text;";
    for source in ["query", "function"] {
        let script = format!("{evil}\n{}", documented_function());
        let value = if source == "query" { "true" } else { "\"pgring.user_lookup\"" };
        let stage = Stage::new(1, &script, |config| config.set("auth", source, value));
        let name = &stage.name;
        let real = stage.role("LOGIN PASSWORD 'p'");
        let forged = unique_name("forged");
        // Whom the trap would let in, with the real one's verifier.
        stage.superuser(
            0,
            &format!(
                "INSERT INTO evil.pg_authid SELECT * FROM pg_catalog.pg_authid WHERE rolname = '{real}';
                 UPDATE evil.pg_authid SET rolname = '{forged}';
                 ALTER DATABASE {name} SET search_path = evil, pg_catalog;
                 ALTER ROLE pgring IN DATABASE {name} SET search_path = evil, pg_catalog"
            ),
        );
        for parameters in [
            &[("search_path", "evil, pg_catalog")][..],
            &[("options", "-c search_path=evil,pg_catalog")],
            &[("options", "-csearch_path=evil"), ("search_path", "evil")],
        ] {
            for (who, expect) in [(&real, "in"), (&forged, "28P01")] {
                let mut raw = Raw::tcp(&stage.proxy.address());
                let frames = raw.start_up(Login { name: who, password: "p" }, name, V3_0, parameters);
                let got = outcome(&frames);
                assert!(got.starts_with(expect), "{source} {who} {parameters:?}: {got}");
                if expect == "in" {
                    assert!(raw.value("SHOW search_path").contains("evil"), "the session itself has it");
                }
            }
        }
        assert_eq!(stage.superuser(0, "SELECT count(*) FROM evil.hits"), "0", "{source}");
    }
}

/// What PgBouncer's users have: name and hash, nothing else.
#[test]
fn a_function_may_return_less_or_what_is_no_use() {
    let stage = Stage::new(
        1,
        "CREATE SCHEMA pgring AUTHORIZATION postgres;
         CREATE FUNCTION pgring.f(INOUT p_user text, OUT p_password text) RETURNS record
             LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog
             AS $$SELECT usename, passwd FROM pg_shadow WHERE usename = $1$$;
         GRANT USAGE ON SCHEMA pgring TO pgring",
        |config| config.set("auth", "function", "\"pgring.f\"").set("auth", "cache", "\"0\""),
    );
    let role = stage.role("LOGIN PASSWORD 'p'");
    assert_eq!(stage.outcome(&role, "p"), "in");
    assert!(stage.outcome("made_up", "p").starts_with("28P01"));
    for (columns, body, expect) in [
        ("n text", "SELECT 'x'::text", "57P03"),
        ("n text, v text, u text", "SELECT $1, 'x'::text, 'x'::text", "57P03"),
        ("n text, v text", "SELECT 'another'::text, 'x'::text", "57P03"),
        ("n text, v text", "SELECT $1, 'x' FROM generate_series(1, 2)", "57P03"),
        ("n text, v text", "SELECT $1, (1 / 0)::text", "57P03"),
        ("n text, v text", "SELECT NULL::text, NULL::text", "28P01"),
        // PostgreSQL does not take these for verifiers.
        ("n text, v text", "SELECT $1, 'p'::text", "28P01"),
        ("n text, v text", "SELECT $1, ''::text", "28P01"),
        ("n text, v text", "SELECT $1, NULL::text", "28P01"),
        ("n text, v text", "SELECT $1, 'SCRAM-SHA-256$4096:x'::text", "28P01"),
        ("n text, v text", "SELECT $1, 'SCRAM-SHA-256$999999999999:AAAA$AAAA:AAAA'::text", "28P01"),
        ("n text, v text", "SELECT $1, 'md5'::text", "28P01"),
        (
            "n text, v text, u timestamptz, c boolean",
            "SELECT $1, 'p'::text, NULL::timestamptz, NULL::boolean",
            "28P01",
        ),
    ] {
        stage.superuser(
            0,
            &format!(
                "DROP FUNCTION pgring.f; CREATE FUNCTION pgring.f(who text) RETURNS TABLE ({columns})
                 LANGUAGE sql AS $$ {body} $$"
            ),
        );
        let outcome = stage.outcome(&role, "p");
        assert!(outcome.starts_with(expect), "{body}: {outcome}\n{}", stage.proxy.log());
    }
    stage.superuser(0, "DROP FUNCTION pgring.f");
    let told = stage.attempt(&role, "p").1.pop().unwrap();
    assert_eq!(told.code(), "57P03");
    assert!(told.field(b'H').unwrap().contains("log"));
    eventually("the log says why", || stage.proxy.log().contains("does not exist"));
    assert!(!stage.proxy.log().contains("panicked"));
}

#[test]
fn a_control_role_without_the_right_is_told_from_a_wrong_password() {
    let stage = Stage::new(1, "", |config| config.set("auth", "query", "true"));
    let role = stage.role("LOGIN PASSWORD 'p'");
    assert_eq!(stage.outcome(&role, "p"), "57P03 users cannot be looked up on shard \"s1\"");
    eventually("the log says why", || stage.proxy.log().contains("permission denied"));
    assert_eq!(stage.outcome(APP.name, APP.password), "in", "the file's users need no look-up");
}

#[test]
fn only_who_is_listed_is_an_operator() {
    let admin = unique_name("chief");
    let stage = Stage::new(1, "GRANT SELECT ON pg_catalog.pg_authid TO pgring", |config| {
        config.set("auth", "query", "true").set("admin", "users", &format!("[\"app\", \"{admin}\"]"))
    });
    stage.superuser(0, &format!("CREATE ROLE {admin} LOGIN PASSWORD 'p'"));
    let other = stage.role("LOGIN SUPERUSER PASSWORD 'p'");
    let show = |name: &str, password| {
        let dsn = stage.proxy.dsn(Login { name, password }, "pgring");
        psql_with(&dsn, &["-q", "-A", "-t", "-c", "SHOW VERSION"], "")
    };
    assert!(show(&admin, "p").ok, "{}", show(&admin, "p").err);
    assert!(show(&admin, "wrong").err.contains("password authentication failed"));
    assert!(show(&other, "p").err.contains("may not use the database \"pgring\""));
}
