//! What is remembered of users and for how long; shards that do not answer; reloads.

use std::time::{Duration, Instant};

use pgring::demo::sample::APP;

use crate::stage::{Stage, attempt, create, outcome, superuser};
use crate::support::raw::CLOSED;
use crate::support::{Config, Proxy, database, eventually, own_servers, unique_name};

/// A look-up that counts how often it is called.
const COUNTING: &str = "
    CREATE SCHEMA pgring AUTHORIZATION postgres;
    GRANT USAGE ON SCHEMA pgring TO pgring;
    CREATE SEQUENCE pgring.calls;
    CREATE FUNCTION pgring.counted(who text)
        RETURNS TABLE (name text, verifier text, valid_until timestamptz, can_login boolean)
        LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog
        AS $$BEGIN
            PERFORM nextval('pgring.calls'), pg_sleep(0.2);
            RETURN QUERY SELECT rolname::text, rolpassword::text, rolvaliduntil, rolcanlogin
                FROM pg_authid WHERE rolname = who;
        END$$";

fn counting(cache: &str, entries: &str) -> Stage {
    Stage::new(1, COUNTING, |config| {
        config.set("auth", "function", "\"pgring.counted\"").set("auth", "cache", cache).set(
            "auth",
            "cache_size",
            entries,
        )
    })
}

fn calls(stage: &Stage) -> usize {
    let calls = "SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM pgring.calls";
    stage.superuser(0, calls).parse().unwrap()
}

#[test]
fn one_question_serves_all_who_wait_and_those_who_come_soon_after() {
    let stage = counting("\"1h\"", "100");
    let role = stage.role("LOGIN PASSWORD 'p'");
    let together = |name: &str| -> Vec<String> {
        std::thread::scope(|scope| {
            let logins: Vec<_> = (0..20).map(|_| scope.spawn(|| stage.outcome(name, "p"))).collect();
            logins.into_iter().map(|login| login.join().unwrap()).collect()
        })
    };
    assert_eq!(together(&role), vec!["in"; 20]);
    assert_eq!(calls(&stage), 1);
    assert_eq!(together(&role), vec!["in"; 20]);
    assert_eq!(calls(&stage), 1);
    assert!(together("made_up").iter().all(|outcome| outcome.starts_with("28P01")));
    assert!(together("made_up").iter().all(|outcome| outcome.starts_with("28P01")));
    // Failures have it asked again, but not each of them.
    assert!(
        (2..=6).contains(&calls(&stage)),
        "that somebody does not exist is remembered too: {}",
        calls(&stage)
    );
}

#[test]
fn made_up_names_do_not_fill_the_memory_and_do_not_drive_out_who_exists() {
    let stage = counting("\"1h\"", "8");
    let role = stage.role("LOGIN PASSWORD 'p'");
    assert_eq!(stage.outcome(&role, "p"), "in");
    for number in 0..20 {
        assert!(stage.outcome(&format!("made_up_{number}"), "p").starts_with("28P01"));
    }
    assert_eq!(calls(&stage), 21);
    assert_eq!(stage.outcome(&role, "p"), "in");
    assert_eq!(calls(&stage), 21);
}

#[test]
fn a_changed_password_is_noticed_by_the_first_failure() {
    let stage = counting("\"1h\"", "100");
    let role = stage.role("LOGIN PASSWORD 'old'");
    assert_eq!(stage.outcome(&role, "old"), "in");
    stage.superuser(0, &format!("ALTER ROLE {role} PASSWORD 'new'"));
    assert!(stage.outcome(&role, "new").starts_with("28P01"), "against what is remembered");
    assert_eq!(stage.outcome(&role, "new"), "in");
    assert_eq!(calls(&stage), 2);
    assert!(stage.outcome(&role, "old").starts_with("28P01"));
    // Nor does who has just been made wait for the memory to fade.
    let late = unique_name("late");
    assert!(stage.outcome(&late, "p").starts_with("28P01"));
    create(&stage.servers, &late, "LOGIN PASSWORD 'p'");
    assert!(stage.outcome(&late, "p").starts_with("28P01"), "against what is remembered");
    assert_eq!(stage.outcome(&late, "p"), "in");
}

/// CVE-2025-2291 once more: what is remembered ends with the password.
#[test]
fn a_password_ends_in_the_middle_of_being_remembered() {
    let stage = counting("\"1h\"", "100");
    let role = stage.role("LOGIN PASSWORD 'p'");
    stage.superuser(
        0,
        &format!(
            "DO $$BEGIN EXECUTE format('ALTER ROLE {role} VALID UNTIL %L', clock_timestamp() + interval '4 s'); END$$"
        ),
    );
    assert_eq!(stage.outcome(&role, "p"), "in");
    eventually("it has expired", || stage.outcome(&role, "p").starts_with("28P01"));
    let still = format!("SELECT rolvaliduntil > clock_timestamp() FROM pg_authid WHERE rolname = '{role}'");
    // A moment early is possible, late is not.
    assert!(["f", "t"].contains(&stage.superuser(0, &still).as_str()));
    eventually("in the log too", || stage.proxy.log().contains("has expired"));
}

#[test]
fn an_answer_is_good_for_as_long_as_it_is_configured_to() {
    let stage = counting("\"0\"", "100");
    let role = stage.role("LOGIN PASSWORD 'p'");
    for expected in 1..4 {
        assert_eq!(stage.outcome(&role, "p"), "in");
        assert_eq!(calls(&stage), expected);
    }
}

/// Whose role is dropped loses the idle connections with the next attempt, and the pool.
#[test]
fn who_has_vanished_leaves_nothing_behind() {
    let stage = Stage::reading_the_catalog(1);
    let role = stage.role("LOGIN PASSWORD 'p'");
    let mut session = stage.session(&role, "p");
    assert_eq!(session.value("SELECT 1"), "1");
    drop(session);
    assert!(stage.connections_of(&role) > 0);
    stage.superuser(0, &format!("DROP ROLE {role}"));
    // The old password proves nothing any more, and asking again says why.
    eventually("it is refused", || stage.outcome(&role, "wrong").starts_with("28P01"));
    eventually("it is refused", || stage.outcome(&role, "p").starts_with("28P01"));
    let count = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND usename IS NULL \
                 AND backend_type = 'client backend'";
    eventually("its connections are closed", || stage.superuser(0, count) == "0");
    let mut console = attempt(&stage.proxy.address(), APP.name, APP.password, "pgring").0;
    eventually("its pool is gone", || !format!("{:?}", console.query("SHOW POOLS")).contains(&role));
}

#[test]
fn a_shard_that_is_down_is_said_to_be() {
    let mut server = own_servers(1).remove(0);
    let name = database(&[&server], "");
    superuser(&server, &name, "GRANT SELECT ON pg_catalog.pg_authid TO pgring");
    create(&[&server], "bob", "LOGIN PASSWORD 'p'");
    let config = Config::new()
        .database(&name, &[&server])
        .set("auth", "query", "true")
        .set("health", "interval", "\"100ms\"")
        .set("health", "failures", "1")
        .set("health", "failover_hold", "\"1s\"");
    let proxy = Proxy::start(config);
    let bob = || attempt(&proxy.address(), "bob", "p", &name).1;
    assert_eq!(outcome(&bob()), "in");
    server.stop().unwrap();
    // Remembered or not, there is nowhere to go.
    eventually("it is down", || proxy.get("/readyz").0 != 200);
    let began = Instant::now();
    let told = attempt(&proxy.address(), "eve", "p", &name).1.pop().unwrap();
    assert_eq!(told.code(), "57P03", "{told:?}");
    assert!(told.field(b'M').unwrap().contains("shard \"s1\" cannot be asked"), "{told:?}");
    assert!(told.field(b'H').is_some());
    assert!(began.elapsed() < Duration::from_secs(15));
    server.restart().unwrap();
    eventually("it is back", || proxy.get("/readyz").0 == 200);
    assert!(outcome(&attempt(&proxy.address(), "eve", "p", &name).1).starts_with("28P01"));
    assert_eq!(outcome(&bob()), "in");
}

/// A server that accepts and says no more: the login ends, and says why, before its time is over.
#[test]
fn a_login_waits_no_longer_than_it_may() {
    let mut server = own_servers(1).remove(0);
    let name = database(&[&server], "");
    superuser(&server, &name, "GRANT SELECT ON pg_catalog.pg_authid TO pgring");
    let config = Config::new()
        .database(&name, &[&server])
        .set("auth", "query", "true")
        .set("listen", "login_timeout", "\"3s\"")
        .set("health", "failover_hold", "\"60s\"")
        .set("health", "interval", "\"100ms\"")
        .set("health", "failures", "1");
    let proxy = Proxy::start(config);
    server.stop().unwrap();
    eventually("it is down", || proxy.get("/readyz").0 != 200);
    let began = Instant::now();
    let told = attempt(&proxy.address(), "eve", "p", &name).1.pop().unwrap();
    assert_eq!(told.code(), "57P03", "{told:?}");
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
}

#[test]
fn a_reload_turns_it_on_and_off() {
    let mut stage = Stage::new(1, "GRANT SELECT ON pg_catalog.pg_authid TO pgring", |config| config);
    let role = stage.role("LOGIN PASSWORD 'p'");
    assert!(stage.outcome(&role, "p").starts_with("28P01"));
    let off = stage.config.clone();
    let on = off.clone().set("auth", "query", "true");
    stage.reload(on.clone());
    let mut session = stage.session(&role, "p");
    stage.reload(on.set("auth", "cache", "\"1s\""));
    assert_eq!(session.value("SELECT current_user::text"), role, "another reload changes nothing");
    stage.reload(off);
    assert!(stage.outcome(&role, "p").starts_with("28P01"));
    session.send(&crate::support::raw::query("SELECT 1"));
    let told = session.until(CLOSED, 1);
    assert!(told.iter().any(|frame| frame.code() == "57P01"), "{told:?}");
    eventually("its connections are closed", || stage.connections_of(&role) == 0);
}
