//! Logging in to servers with what a client has shown, instead of a password.

use pgring::demo::cluster::Installation;
use pgring::demo::sample::APP;

use crate::stage::{Stage, attempt, create, outcome, superuser, verifier};
use crate::support::raw::{Raw, query};
use crate::support::{Config, Proxy, database, eventually, own_servers, unique_name};

/// The answer of one shard: a value, or the error's code.
fn on_shard(raw: &mut Raw, shard: &str) -> String {
    let frames = raw.query(&format!("/* pgring: shard={shard} */ SELECT current_user::text"));
    match frames.iter().find(|frame| matches!(frame.tag, b'D' | b'E')) {
        Some(frame) if frame.tag == b'D' => frame.columns().remove(0),
        Some(frame) => format!("{} {}", frame.code(), frame.field(b'M').unwrap()),
        None => format!("{frames:?}"),
    }
}

#[test]
fn the_same_verifier_everywhere_is_enough() {
    let stage = Stage::reading_the_catalog(2);
    let role = stage.role("LOGIN PASSWORD 'p'");
    let mut session = stage.session(&role, "p");
    for shard in ["s1", "s2"] {
        assert_eq!(on_shard(&mut session, shard), role);
    }
    assert!(!stage.proxy.log().contains("SCRAM-SHA-256$"));
}

#[test]
fn another_verifier_is_named_with_its_shard_and_what_to_do() {
    let stage = Stage::reading_the_catalog(2);
    let role = stage.role("LOGIN PASSWORD 'p'");
    stage.superuser(1, &format!("ALTER ROLE {role} PASSWORD 'p'"));
    assert_ne!(verifier(stage.servers[0], &role), verifier(stage.servers[1], &role));
    let mut session = stage.session(&role, "p");
    for _ in 0..3 {
        session.send(&query("/* pgring: shard=s2 */ SELECT 1"));
        let told = session.until(b'Z', 1).into_iter().find(|frame| frame.tag == b'E').unwrap();
        assert_eq!(told.code(), "28000", "{told:?}");
        assert!(told.field(b'M').unwrap().contains("shard \"s2\" has another password verifier"), "{told:?}");
        assert!(told.field(b'H').unwrap().contains("ALTER ROLE"), "{told:?}");
        assert_eq!(on_shard(&mut session, "s1"), role, "the session goes on");
    }
    let copied = verifier(stage.servers[0], &role);
    stage.superuser(1, &format!("ALTER ROLE {role} PASSWORD '{copied}'"));
    assert_eq!(on_shard(&mut session, "s2"), role, "once it has been copied");
}

/// Only the first shard is asked who may log in; the others say it themselves.
#[test]
fn a_role_that_may_not_log_in_elsewhere_fails_there() {
    let stage = Stage::reading_the_catalog(2);
    for (change, expect) in [
        ("DROP ROLE", "28000 shard \"s2\" has another password verifier"),
        ("ALTER ROLE VALID UNTIL '2001-01-01'", "28000 shard \"s2\" has another password verifier"),
        ("ALTER ROLE NOLOGIN", "57P03 shard \"s2\" refused the login"),
    ] {
        let role = stage.role("LOGIN PASSWORD 'p'");
        stage.superuser(1, &change.replace("ROLE", &format!("ROLE {role}")));
        let mut session = stage.session(&role, "p");
        let told = on_shard(&mut session, "s2");
        assert!(told.starts_with(expect), "{change}: {told}");
        assert_eq!(on_shard(&mut session, "s1"), role, "the session goes on");
    }
}

/// The key of a verifier that is gone is gone too; the next login's serves the old sessions.
#[test]
fn a_changed_password_ends_the_key() {
    let stage = Stage::reading_the_catalog(1);
    let role = stage.role("LOGIN PASSWORD 'old'");
    let mut old = stage.session(&role, "old");
    assert_eq!(on_shard(&mut old, "s1"), role);
    stage.superuser(0, &format!("ALTER ROLE {role} PASSWORD 'new'"));
    // The first failure makes pgring ask, the second is against the new verifier.
    for _ in 0..2 {
        assert!(stage.outcome(&role, "wrong").starts_with("28P01"));
    }
    let (mut console, _) = attempt(&stage.proxy.address(), APP.name, APP.password, "pgring");
    console.query("RECONNECT");
    let refused = on_shard(&mut old, "s1");
    assert!(refused.starts_with("28000 the password of"), "{refused}");
    let mut new = stage.session(&role, "new");
    assert_eq!(on_shard(&mut new, "s1"), role);
    assert_eq!(on_shard(&mut old, "s1"), role);
}

/// Users of the file with a verifier and nothing else.
#[test]
fn a_verifier_in_the_file_is_enough() {
    let servers = crate::support::servers(2);
    let name = database(&servers, "");
    let role = unique_name("filed");
    create(&servers, &role, "LOGIN PASSWORD 'p'");
    let verifier = verifier(servers[0], &role);
    let config = Config::new()
        .database(&name, &servers)
        .append(&format!("[[user]]\nname = \"{role}\"\npassword = \"{verifier}\"\n"));
    let proxy = Proxy::start(config);
    let (mut session, frames) = attempt(&proxy.address(), &role, "p", &name);
    assert_eq!(outcome(&frames), "in", "{}", proxy.log());
    for shard in ["s1", "s2"] {
        assert_eq!(on_shard(&mut session, shard), role);
    }
    assert!(outcome(&attempt(&proxy.address(), &role, "wrong", &name).1).starts_with("28P01"));
}

/// An MD5 hash is as good as the password, to a server that asks for MD5; from the file or looked up.
#[test]
fn an_md5_hash_is_enough_for_a_server_that_asks_for_md5() {
    let server = own_servers(1).remove(0);
    let name = database(&[&server], "");
    superuser(&server, &name, "GRANT SELECT ON pg_catalog.pg_authid TO pgring");
    let roles = "SET password_encryption = 'md5'; CREATE ROLE old LOGIN PASSWORD 'p'; CREATE ROLE filed LOGIN PASSWORD 'p'";
    superuser(&server, "postgres", roles);
    let account = Installation::find().unwrap().account;
    let rules = "local all postgres trust\nhost all old,filed all md5\nhost all all all scram-sha-256\n";
    account.write(&server.data().join("pg_hba.conf"), rules).unwrap();
    superuser(&server, "postgres", "SELECT pg_reload_conf()");
    let hash = verifier(&server, "filed");
    assert!(hash.starts_with("md5"));
    let config = Config::new()
        .database(&name, &[&server])
        .set("auth", "query", "true")
        .append(&format!("[[user]]\nname = \"filed\"\npassword = \"{hash}\"\n"));
    let proxy = Proxy::start(config);
    for role in ["old", "filed"] {
        let (mut session, frames) = attempt(&proxy.address(), role, "p", &name);
        assert_eq!(outcome(&frames), "in", "{role}: {}", proxy.log());
        assert_eq!(session.value("SELECT current_user::text"), role);
        assert!(outcome(&attempt(&proxy.address(), role, "wrong", &name).1).starts_with("28P01"));
    }
    // A server that asks for SCRAM gets no further with a hash.
    let rules = rules.replace("all md5", "all scram-sha-256");
    account.write(&server.data().join("pg_hba.conf"), &rules).unwrap();
    superuser(&server, "postgres", "SELECT pg_reload_conf()");
    let proxy = Proxy::start(Config::new().database(&name, &[&server]).set("auth", "query", "true"));
    let refused = outcome(&attempt(&proxy.address(), "old", "p", &name).1);
    // The shard is up, and to try again is of no use.
    assert_eq!(refused, "28000 pgring cannot log in to shard \"s1\" as \"old\"");
    eventually("the log says why", || {
        proxy.log().contains("asks for SCRAM, which takes the password itself and not an MD5 hash")
    });
}
