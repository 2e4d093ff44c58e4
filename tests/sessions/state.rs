//! Settings, and what clients are told of them, compared with PostgreSQL word for word: over one
//! shard and over three.

use std::collections::BTreeMap;

use pgring::demo::sample::APP;

use super::stage::{BOTH, ONE, Protocol, SHARED, Stage};
use crate::support;
use crate::support::raw::{self, Frame, Raw};

/// Each line is a session; statements are separated by `¦`.
const SETTINGS: &[&str] = &[
    // What a client is told, in a transaction that may have no server yet.
    "BEGIN¦SET TIME ZONE 'Europe/Berlin'¦SHOW timezone¦ROLLBACK¦SHOW timezone",
    "BEGIN¦SET TIME ZONE 'Europe/Berlin'¦ROLLBACK¦SELECT 1",
    "BEGIN¦SET TIME ZONE 'Europe/Berlin'¦COMMIT¦SHOW timezone",
    "BEGIN¦SET TIME ZONE 'europe/berlin'¦SELECT id FROM users WHERE id = {b}¦COMMIT¦SHOW timezone",
    "BEGIN¦SET LOCAL TIME ZONE 'Europe/Berlin'¦COMMIT¦SHOW timezone",
    "BEGIN¦SET TIME ZONE 'Mars/Olympus'¦SELECT 1¦ROLLBACK¦SHOW timezone",
    "BEGIN¦SET TIME ZONE 'Europe/Berlin'¦SET TIME ZONE 'Mars/Olympus'¦ROLLBACK¦SHOW timezone",
    "BEGIN¦SET TIME ZONE 'Asia/Tokyo'¦SELECT 1/0 FROM users WHERE id = {a}¦ROLLBACK¦SHOW timezone",
    "BEGIN¦SAVEPOINT s¦SET DateStyle = 'German'¦ROLLBACK TO s¦SHOW DateStyle¦COMMIT¦SHOW DateStyle",
    "BEGIN¦SET DateStyle = 'German'¦SAVEPOINT s¦SET DateStyle = 'SQL, DMY'¦ROLLBACK TO s¦COMMIT¦SHOW DateStyle",
    "BEGIN¦SET DateStyle = 'German'¦SAVEPOINT s¦RESET DateStyle¦RELEASE s¦COMMIT¦SHOW DateStyle",
    "BEGIN¦SET NAMES 'latin-1'¦SHOW client_encoding¦ROLLBACK¦SHOW client_encoding",
    "BEGIN¦SET client_encoding = 'nonsense'¦ROLLBACK",
    "BEGIN¦SET client_encoding TO 'UTF8'¦SELECT id FROM users WHERE id = {b}¦COMMIT",
    "BEGIN¦SET standard_conforming_strings = off¦SELECT id, 'a\\'b' FROM users WHERE id = {b}¦ROLLBACK¦SELECT id, '\\' FROM users WHERE id = {a}",
    "BEGIN¦SET standard_conforming_strings = of¦ROLLBACK¦SELECT '\\'",
    "BEGIN¦SET standard_conforming_strings = maybe¦ROLLBACK¦SELECT '\\'",
    "BEGIN¦SAVEPOINT s¦SET standard_conforming_strings = off¦ROLLBACK TO s¦SELECT id, '\\' FROM users WHERE id = {b}¦COMMIT",
    "BEGIN¦SET IntervalStyle = iso_8601¦SELECT interval '1 day'¦COMMIT¦SHOW intervalstyle",
    "BEGIN¦SET application_name = 'x'¦SET application_name = 'y'¦ROLLBACK¦SHOW application_name",
    "BEGIN¦SET application_name = 'x'¦COMMIT AND CHAIN¦SET application_name = 'y'¦ROLLBACK AND CHAIN¦SHOW application_name¦COMMIT",
    "BEGIN READ ONLY¦SET DateStyle = 'German'¦SHOW transaction_read_only¦COMMIT",
    // RESET.
    "BEGIN¦RESET ALL¦SELECT id FROM users WHERE id = {b}¦COMMIT",
    "SET TIME ZONE 'Europe/Berlin'¦BEGIN¦RESET ALL¦SELECT id FROM users WHERE id = {b}¦ROLLBACK¦SHOW timezone",
    "SET TIME ZONE 'Europe/Berlin'¦BEGIN¦RESET TIME ZONE¦COMMIT¦SHOW timezone",
    "SET TIME ZONE 'Europe/Berlin'¦SET work_mem = '7MB'¦DISCARD ALL¦SHOW timezone¦SHOW work_mem",
    "SET TIME ZONE 'Europe/Berlin'¦RESET ALL¦SHOW timezone",
    "RESET nonsense¦RESET server_version¦SET server_version = '1'",
    // Forms.
    "SET TIME ZONE INTERVAL '-08:00' HOUR TO MINUTE¦SHOW timezone¦SET TIME ZONE DEFAULT¦SHOW timezone",
    "BEGIN¦SET TIME ZONE INTERVAL '+02:30' HOUR TO MINUTE¦COMMIT¦SHOW timezone¦SET TIME ZONE LOCAL¦SHOW timezone",
    "SET XML OPTION DOCUMENT¦SHOW xmloption¦RESET xmloption¦SHOW xmloption",
    "SET SESSION TIME ZONE 'UTC'¦SET LOCAL TIME ZONE 'Asia/Tokyo'¦SHOW timezone",
    "SET NAMES¦SHOW client_encoding¦SET NAMES 'LATIN1'¦SET NAMES DEFAULT¦SHOW client_encoding",
    "SET ROLE app¦SELECT current_user¦RESET ROLE¦SHOW role",
    "SET LOCAL ROLE app¦SHOW role¦BEGIN¦SET LOCAL ROLE app¦SHOW role¦COMMIT¦SHOW role",
    "BEGIN¦SET ROLE app¦SELECT current_user¦ROLLBACK¦SHOW role",
    "SET SESSION AUTHORIZATION app¦SELECT session_user¦RESET SESSION AUTHORIZATION¦SELECT session_user",
    "SET SESSION AUTHORIZATION nobody¦SET ROLE nobody",
    "SET SESSION SCHEMA 'pg_catalog'¦SHOW search_path¦SET SCHEMA DEFAULT¦SHOW search_path",
    // set_config.
    "SELECT set_config('work_mem', '7MB', false), set_config('my.x', 'y', false)¦SHOW work_mem¦SHOW my.x",
    "BEGIN¦SELECT set_config('work_mem', '7MB', true) AS a, pg_catalog.set_config('DateStyle', 'German', true)¦SHOW work_mem¦SHOW DateStyle¦COMMIT¦SHOW work_mem¦SHOW DateStyle",
    "BEGIN¦SELECT set_config('work_mem', '7MB', false), set_config('work_mem', '8MB', false)¦SAVEPOINT s¦SELECT set_config('work_mem', '9MB', false)¦ROLLBACK TO s¦COMMIT¦SHOW work_mem",
    "SELECT set_config('search_path', 'pg_catalog', false), set_config('work_mem', '7MB', false)¦SELECT id FROM users WHERE id = {a}¦SELECT id FROM public.users WHERE id = {a}",
    "SELECT set_config('TimeZone', 'Asia/Tokyo', false)¦SHOW timezone¦RESET timezone¦SHOW timezone",
    "SELECT set_config('nonsense', 'x', false)¦SELECT set_config('work_mem', 'much', false)¦SHOW work_mem",
];

/// Of a session with start-up options.
const WITH_OPTIONS: &[&str] = &[
    "SHOW work_mem¦SHOW TimeZone¦SHOW DateStyle¦SHOW my.x",
    "RESET TimeZone¦SHOW TimeZone",
    "SET TIME ZONE 'UTC'¦RESET TimeZone¦SHOW TimeZone",
    "BEGIN¦SET TIME ZONE 'UTC'¦RESET TimeZone¦SHOW TimeZone¦COMMIT¦SHOW TimeZone",
    "BEGIN¦SELECT id FROM users WHERE id = {a}¦SET work_mem = '9MB'¦RESET work_mem¦SHOW work_mem¦COMMIT¦SHOW work_mem",
    "BEGIN¦SELECT id FROM users WHERE id = {a}¦SET work_mem = '9MB'¦RESET ALL¦SHOW work_mem¦SHOW TimeZone¦ROLLBACK¦SHOW TimeZone",
    "SET work_mem = '9MB'¦SET TIME ZONE 'UTC'¦BEGIN¦RESET ALL¦SELECT id FROM users WHERE id = {b}¦SHOW work_mem¦COMMIT¦SHOW work_mem¦SHOW TimeZone",
    "BEGIN¦SET LOCAL TIME ZONE 'UTC'¦SET LOCAL TIME ZONE DEFAULT¦SHOW TimeZone¦COMMIT",
    "BEGIN¦SELECT id FROM users WHERE id = {a}¦SET work_mem = '9MB'¦SET LOCAL work_mem TO DEFAULT¦SHOW work_mem¦COMMIT¦SHOW work_mem",
    "SET DateStyle = 'ISO'¦SHOW DateStyle¦DISCARD ALL¦SHOW DateStyle",
    "SET DateStyle = 'ISO, DMY'¦BEGIN¦SAVEPOINT s¦RESET DateStyle¦ROLLBACK TO s¦COMMIT¦SHOW DateStyle",
    "BEGIN¦SELECT 1/0 FROM users WHERE id = {a}¦RESET TimeZone¦RESET ALL¦ROLLBACK¦SHOW TimeZone",
    "RESET ALL¦SHOW TimeZone¦SHOW work_mem¦SHOW DateStyle¦SHOW my.x",
    "SET my.x = 'z'¦RESET my.x¦SHOW my.x",
];

const OPTIONS: &[(&str, &str)] = &[
    ("TimeZone", "Asia/Tokyo"),
    ("options", r"-c work_mem=7MB --datestyle=German -cmy.x=a\ b\\c  --statement-timeout=60s"),
];

/// A client that remembers what it has been told.
struct Client {
    session: Raw,
    told: BTreeMap<String, String>,
}

impl Client {
    fn new(mut session: Raw) -> Client {
        let told = std::mem::take(&mut session.parameters).into_iter().collect();
        Client { session, told }
    }

    /// An answer without what it says of parameters, and what is known of them after it.
    fn ask(&mut self, protocol: Protocol, statement: &str) -> (Vec<String>, BTreeMap<String, String>) {
        let frames = protocol.ask(&mut self.session, statement);
        (self.note(frames), self.told.clone())
    }

    fn note(&mut self, frames: Vec<Frame>) -> Vec<String> {
        let mut seen = Vec::new();
        for frame in frames {
            if frame.tag == b'S' {
                let text = String::from_utf8_lossy(&frame.body).into_owned();
                let (name, value) = text.trim_end_matches('\0').split_once('\0').unwrap_or((&text, ""));
                self.told.insert(name.trim_end_matches('\0').to_owned(), value.to_owned());
            } else {
                seen.push(format!("{frame:?}"));
            }
        }
        seen
    }
}

fn compare(stage: &Stage, conversations: &[&str], parameters: &[(&str, &str)]) {
    let servers = support::servers(1);
    let oracle = support::sample_database(&servers);
    let mut different = Vec::new();
    for protocol in BOTH {
        for conversation in conversations {
            let mut pgring = Client::new(stage.session_with(parameters));
            let direct = Raw::login_with(&servers[0].address(), APP, &oracle, raw::V3_0, parameters);
            let mut postgresql = Client::new(direct);
            for statement in stage.fill(conversation).split('¦') {
                let (mine, theirs) = (pgring.ask(protocol, statement), postgresql.ask(protocol, statement));
                if mine != theirs {
                    different.push(format!(
                        "{protocol:?} {conversation}\n  at {statement}\n  pgring     {mine:?}\n  PostgreSQL {theirs:?}"
                    ));
                    break;
                }
            }
        }
    }
    assert!(different.is_empty(), "{} differ:\n{}", different.len(), different.join("\n"));
}

#[test]
fn settings_and_what_is_told_of_them_over_one_shard() {
    compare(&ONE, SETTINGS, &[]);
}

#[test]
fn settings_and_what_is_told_of_them_over_three_shards() {
    compare(&SHARED, SETTINGS, &[]);
}

#[test]
fn start_up_options_over_one_shard() {
    compare(&ONE, WITH_OPTIONS, OPTIONS);
}

#[test]
fn start_up_options_over_three_shards() {
    compare(&SHARED, WITH_OPTIONS, OPTIONS);
}

/// What was set before there was a shard does not decide which one it is.
#[test]
fn no_setting_ties_a_transaction_to_a_shard() {
    let mut session = SHARED.session();
    for protocol in BOTH {
        for set in [
            "SET standard_conforming_strings = on",
            "SET NAMES 'UTF8'",
            "RESET ALL",
            "SET TIME ZONE 'Asia/Tokyo'",
            "SET search_path = public",
            "SET ROLE app",
            "SET LOCAL work_mem = '7MB'",
            "RESET DateStyle",
        ] {
            for shard in ["{a}", "{b}", "{c}"] {
                protocol.ask(&mut session, "BEGIN");
                assert!(protocol.short(&mut session, set).ends_with("T"), "{set}");
                let ask = SHARED.fill(&format!("SELECT id FROM users WHERE id = {shard}"));
                let row = SHARED.fill(&format!("{shard} | SELECT 1 | T"));
                assert_eq!(protocol.short(&mut session, &ask), row, "{set}");
                protocol.ask(&mut session, "ROLLBACK");
            }
        }
    }
}

#[test]
fn values_that_come_as_parameters_are_followed() {
    for stage in [&*ONE, &*SHARED] {
        let mut session = stage.session();
        let call = "SELECT set_config('work_mem', $1, false), set_config('search_path', $2::text, $3)";
        let unfollowed = [raw::run(call, &["7MB", "pg_catalog", "false"]), raw::sync()].concat();
        let call = "SELECT set_config('work_mem', $1, false), set_config('search_path', $2::text, false)";
        let followed = [raw::run(call, &["7MB", "pg_catalog"]), raw::sync()].concat();
        session.send(&followed);
        assert_eq!(super::stage::short(&session.until(b'Z', 1)), "7MB,pg_catalog | SELECT 1 | I");
        for shard in ["{a}", "{b}", "{c}"] {
            let ask = stage
                .fill(&format!("SELECT current_setting('work_mem') FROM public.users WHERE id = {shard}"));
            assert_eq!(session.value(&ask), "7MB");
            let hidden = stage.fill(&format!("SELECT id FROM users WHERE id = {shard}"));
            assert_eq!(Protocol::Simple.short(&mut session, &hidden), "E 42P01 | I");
        }
        // What cannot be followed is refused where texts are read by it, and pins elsewhere.
        session.send(&unfollowed);
        let answer = super::stage::short(&session.until(b'Z', 1));
        assert!(answer.starts_with("E 0A000") == std::ptr::eq(stage, &*SHARED), "{answer}");
        session.query("DISCARD ALL");
        // Within a transaction, and undone with it.
        session.query("BEGIN");
        session.send(&followed);
        assert_eq!(super::stage::short(&session.until(b'Z', 1)), "7MB,pg_catalog | SELECT 1 | T");
        session.query("ROLLBACK");
        for shard in ["{a}", "{b}", "{c}"] {
            let ask =
                stage.fill(&format!("SELECT current_setting('work_mem') FROM users WHERE id = {shard}"));
            assert_eq!(session.value(&ask), "4MB");
        }
    }
}

#[test]
fn pgrings_own_settings_go_back_with_a_savepoint() {
    let mut session = SHARED.session();
    for protocol in BOTH {
        for early in [true, false] {
            protocol.ask(&mut session, "BEGIN");
            protocol.ask(&mut session, "SET pgring.read = 'fresh'");
            if !early {
                protocol.ask(&mut session, &SHARED.fill("SELECT id FROM users WHERE id = {a}"));
            }
            for statement in
                ["SAVEPOINT s", "SET pgring.read = 'replica'", "SAVEPOINT t", "RESET pgring.read"]
            {
                protocol.ask(&mut session, statement);
            }
            let mut shown = |undo: &str| {
                protocol.ask(&mut session, undo);
                protocol.short(&mut session, "SHOW pgring.read")
            };
            assert_eq!(shown("ROLLBACK TO t"), "replica | SHOW | T");
            assert_eq!(shown("RELEASE t"), "replica | SHOW | T");
            assert_eq!(shown("ROLLBACK TO s"), "fresh | SHOW | T");
            assert_eq!(shown("COMMIT"), "fresh | SHOW | I");
            assert_eq!(shown("RESET pgring.read"), " | SHOW | I");
        }
    }
}

#[test]
fn pgrings_own_settings_may_come_with_the_start() {
    for (name, options) in [("pgring.shard", "s2"), ("options", "-c pgring.shard=s2")] {
        let mut session = SHARED.session_with(&[(name, options)]);
        let count = "SELECT count(*) > 0 FROM jobs";
        for undo in
            ["SELECT 1", "RESET ALL", "RESET pgring.shard", "DISCARD ALL", "SET pgring.shard TO DEFAULT"]
        {
            if undo != "SELECT 1" {
                session.query("SET pgring.shard = 's3'");
                assert_eq!(session.value("SHOW pgring.shard"), "s3");
            }
            session.query(undo);
            assert_eq!(session.value("SHOW pgring.shard"), "s2", "{undo}");
            assert_eq!(Protocol::Simple.short(&mut session, count), "t | SELECT 1 | I", "{undo}");
        }
    }
    let mut raw = Raw::tcp(&SHARED.proxy.address());
    let answer = raw.start_up(APP, &SHARED.name, raw::V3_0, &[("pgring.shard", "nowhere")]);
    assert_eq!(answer.iter().find(|frame| frame.tag == b'E').map(Frame::code).as_deref(), Some("42704"));
}

#[test]
fn set_config_of_pgrings_own_settings_is_refused() {
    for stage in [&*ONE, &*SHARED] {
        let answer =
            Protocol::Simple.short(&mut stage.session(), "SELECT set_config('pgring.key', '1', false)");
        assert_eq!(answer, "E 0A000 | I");
    }
}

/// A text in the session's own encoding is repeated on other servers as what it says.
#[test]
fn a_setting_says_the_same_in_any_encoding() {
    for stage in [&*ONE, &*SHARED] {
        let mut session = stage.session();
        session.query("SET my.word = 'é'");
        session.query("SET NAMES 'LATIN1'");
        for shard in ["{a}", "{b}", "{c}"] {
            for _ in 0..2 {
                let ask = stage.fill(&format!("SELECT ascii(current_setting('my.word')), length(current_setting('my.word')) FROM users WHERE id = {shard}"));
                assert_eq!(Protocol::Simple.short(&mut session, &ask), "233,1 | SELECT 1 | I");
            }
        }
    }
}
