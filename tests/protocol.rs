//! The protocol before a session and at its edges: start-up, login, limits, and what bad input
//! gets.

#![allow(clippy::unwrap_used, reason = "a test that cannot set up its stage has failed")]

use pgring::demo::cluster::{Login, SUPERUSER};
use pgring::demo::sample::APP;

mod support;
use support::raw::{
    CLOSED, Frame, Raw, SILENCE, V3_0, V3_2, bind, cancel_request, gss_request, message, packet, ssl_request,
    startup,
};
use support::{Config, Proxy, database, eventually, psql, servers, unique_name};

/// A database of one shard and one of two.
fn start(change: impl FnOnce(Config) -> Config) -> (Proxy, String, String) {
    let shards = servers(2);
    let (one, two) = (database(&shards[..1], ""), database(&shards, ""));
    let config = Config::new().database(&one, &shards[..1]).database(&two, &shards);
    (Proxy::start(change(config)), one, two)
}

/// What a login came to: codes of authentication requests, tags, codes of errors.
fn shape(frames: &[Frame]) -> String {
    let told: Vec<String> = frames
        .iter()
        .filter(|frame| frame.tag != b'S')
        .map(|frame| match frame.tag {
            b'R' => format!("R{}", frame.body[3]),
            b'E' => format!("{} {}", frame.field(b'S').unwrap_or_default(), frame.code()),
            tag => char::from(tag).to_string(),
        })
        .collect();
    told.join(" ")
}

const SCRAM_LOGIN: &str = "R10 R11 R12 R0 K Z";

/// A version and parameters; what is answered first, and how long the secret is.
type Negotiation<'a> = (u32, &'a [(&'a str, &'a str)], &'a [u8], usize);

#[test]
fn versions_are_negotiated() {
    let (proxy, one, two) = start(|config| config);
    let option = ("_pq_.of_the_future", "on");
    let rows: &[Negotiation<'_>] = &[
        (V3_0, &[], b"", 4),
        (V3_2, &[], b"", 32),
        (0x0003_0009, &[], b"\0\x03\0\x02\0\0\0\0", 32),
        (V3_0, &[option], b"\0\x03\0\0\0\0\0\x01_pq_.of_the_future\0", 4),
        (V3_2, &[option], b"\0\x03\0\x02\0\0\0\x01_pq_.of_the_future\0", 32),
        (0x0003_0009, &[option], b"\0\x03\0\x02\0\0\0\x01_pq_.of_the_future\0", 32),
    ];
    for database in [&one, &two] {
        for (version, parameters, negotiated, secret) in rows {
            let mut raw = Raw::tcp(&proxy.address());
            let frames = raw.start_up(APP, database, *version, parameters);
            let expected =
                if negotiated.is_empty() { SCRAM_LOGIN.to_owned() } else { format!("v {SCRAM_LOGIN}") };
            assert_eq!(shape(&frames), expected, "{version:#x} {parameters:?}");
            if !negotiated.is_empty() {
                assert_eq!(frames[0].body, *negotiated, "{version:#x} {parameters:?}");
            }
            assert_eq!(raw.secret.len(), *secret, "{version:#x}");
            assert_eq!(raw.value("SELECT 'in'"), "in");
        }
    }
    for version in [0x0002_0000, 0x0001_0000, 0x0004_0000, 0] {
        let mut raw = Raw::tcp(&proxy.address());
        raw.send(&startup(version, &[("user", APP.name)]));
        assert_eq!(shape(&raw.rest()), "FATAL 0A000 !", "{version:#x}");
    }
}

#[test]
fn encryption_that_is_off_is_declined_and_the_login_goes_on() {
    let (proxy, one, _) = start(|config| config);
    let rows = [
        vec![ssl_request()],
        vec![gss_request()],
        vec![gss_request(), ssl_request()],
        vec![ssl_request(), gss_request()],
    ];
    for requests in rows {
        let mut raw = Raw::tcp(&proxy.address());
        for request in &requests {
            raw.send(request);
            assert_eq!(raw.byte(), b'N');
        }
        assert_eq!(shape(&raw.start_up(APP, &one, V3_0, &[])), SCRAM_LOGIN);
    }
}

#[test]
fn a_cancel_request_is_never_answered() {
    let (proxy, one, _) = start(|config| config);
    let client = Raw::login(&proxy.address(), APP, &one);
    for (pid, secret) in
        [(client.pid, &client.secret[..]), (client.pid, b"wrong"), (1, b"none"), (u32::MAX, &[7; 32])]
    {
        let mut raw = Raw::tcp(&proxy.address());
        raw.send(&cancel_request(pid, secret));
        assert_eq!(raw.byte(), CLOSED);
    }
}

#[test]
fn an_unknown_user_looks_like_a_wrong_password() {
    let (proxy, one, _) = start(|config| config);
    let attempt = |name, database: &str| {
        let mut raw = Raw::tcp(&proxy.address());
        let mut frames = raw.start_up(Login { name, password: "wrong" }, database, V3_0, &[]);
        frames.extend(raw.rest());
        frames
    };
    let wrong = attempt(APP.name, &one);
    assert_eq!(shape(&wrong), "R10 R11 FATAL 28P01 !");
    assert_eq!(wrong.len(), 4);
    for (name, database) in
        [("nobody", one.as_str()), (APP.name, "no_such_database"), ("nobody", "no_such_database")]
    {
        let unknown = attempt(name, database);
        assert_eq!(shape(&unknown), shape(&wrong), "{name} {database}");
        assert_eq!(unknown[0], wrong[0]);
        assert_eq!(unknown[1].body.len(), wrong[1].body.len(), "the challenges are alike");
        let told = format!("{:?}", unknown[2]).replace(name, APP.name);
        assert_eq!(told, format!("{:?}", wrong[2]));
    }
    // A real user's salt is always the same: so is one of a user who does not exist.
    let salt = |frames: &[Frame]| {
        let text = String::from_utf8_lossy(&frames[1].body[4..]).into_owned();
        text.split_once(",s=").unwrap().1.to_owned()
    };
    assert_eq!(salt(&attempt(APP.name, &one)), salt(&wrong));
    assert_eq!(salt(&attempt("nobody", &one)), salt(&attempt("nobody", &one)));
    assert_ne!(salt(&attempt("nobody", &one)), salt(&attempt("no one", &one)));
}

#[test]
fn secrets_that_are_not_passwords_let_users_in() {
    let shards = servers(2);
    let (hashed, verified) = (unique_name("hashed"), unique_name("verified"));
    let mut verifier = String::new();
    for server in &shards {
        let roles =
            format!("CREATE ROLE {hashed} LOGIN PASSWORD 'h'; CREATE ROLE {verified} LOGIN PASSWORD 'v';");
        server.psql(SUPERUSER, "postgres", &roles).unwrap();
        let sql = format!("SELECT rolpassword FROM pg_authid WHERE rolname = '{verified}'");
        verifier = server.psql(SUPERUSER, "postgres", &sql).unwrap().trim().to_owned();
    }
    assert!(verifier.starts_with("SCRAM-SHA-256$"));
    let md5 = postgres_protocol::authentication::md5_hash(hashed.as_bytes(), b"h", [0; 4]);
    assert_eq!(md5.len(), 35);
    // The stored form is the inner hash: md5 of password and name.
    let stored = shards[0]
        .psql(SUPERUSER, "postgres", &format!("SELECT 'md5' || md5('h' || '{hashed}')"))
        .unwrap()
        .trim()
        .to_owned();
    let (proxy, one, two) = start(|config| {
        config.append(&format!(
            "[[user]]\nname = \"{hashed}\"\npassword = \"{stored}\"\nserver_password = \"h\"\n\
             [[user]]\nname = \"{verified}\"\npassword = \"{verifier}\"\nserver_password = \"v\"\n"
        ))
    });
    for database in [&one, &two] {
        for (name, password, expected) in [
            (&hashed, "h", "R5 R0 K Z"),
            (&hashed, "wrong", "R5 FATAL 28P01"),
            (&verified, "v", SCRAM_LOGIN),
            (&verified, "wrong", "R10 R11 FATAL 28P01"),
        ] {
            let mut raw = Raw::tcp(&proxy.address());
            assert_eq!(
                shape(&raw.start_up(Login { name, password }, database, V3_0, &[])),
                expected,
                "{name} {password}"
            );
            if expected.ends_with('Z') {
                assert_eq!(raw.value("SELECT current_user::text"), *name);
            }
        }
    }
}

/// What is sent, and what comes of it: the last error's code if there is one, and the end.
struct Bad {
    name: &'static str,
    bytes: Vec<u8>,
    expected: &'static str,
}

fn bad(name: &'static str, bytes: impl Into<Vec<u8>>, expected: &'static str) -> Bad {
    Bad { name, bytes: bytes.into(), expected }
}

fn frame_of(tag: u8, len: i32, body: &[u8]) -> Vec<u8> {
    [&[tag], &len.to_be_bytes()[..], body].concat()
}

fn first_packets() -> Vec<Bad> {
    let protocol = "FATAL 08P01 !";
    vec![
        bad("nothing", "", "!"),
        bad("half a length", b"\0\0", "!"),
        bad("half a packet", &startup(V3_0, &[("user", "app")])[..12], "!"),
        bad("length 0", [0; 8], protocol),
        bad("length 3", b"\0\0\0\x03", protocol),
        bad("length 4", b"\0\0\0\x04", protocol),
        bad("length 7", b"\0\0\0\x07\0\x03\0", protocol),
        bad("a negative length", [0xff; 8], protocol),
        bad("2 GB", b"\x7f\xff\xff\xff\0\x03\0\0", protocol),
        bad("longer than PostgreSQL's limit", b"\0\0\x27\x11\0\x03\0\0", protocol),
        bad("HTTP", "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", protocol),
        bad("TLS", [&b"\x16\x03\x01\0\xc8\x01\0\0\xc4\x03\x03"[..], &[7; 195]].concat(), "!"),
        bad("SSH", "SSH-2.0-OpenSSH_9.2\r\n", protocol),
        bad("no terminator", packet(b"\0\x03\0\0user\0app\0database\0x"), protocol),
        bad("something after the terminator", packet(b"\0\x03\0\0user\0app\0\0more"), protocol),
        bad("a name without a value", packet(b"\0\x03\0\0user\0"), protocol),
        bad("no parameters", packet(b"\0\x03\0\0"), protocol),
        bad("not UTF-8", packet(b"\0\x03\0\0user\0\xff\xfe\0\0"), protocol),
        bad("no user", startup(V3_0, &[("database", "x")]), "FATAL 28000 !"),
        bad("an empty user", startup(V3_0, &[("user", "")]), "FATAL 28000 !"),
        bad("a cancel request without a secret", packet(b"\x04\xd2\x16\x2e\0\0\0\x01"), protocol),
        bad("a cancel request that is too long", cancel_request(1, &[1; 300]), protocol),
        bad("an SSLRequest with more", packet(b"\x04\xd2\x16\x2fmore"), "FATAL 0A000 !"),
    ]
}

fn login_messages() -> Vec<Bad> {
    let protocol = "R10 FATAL 08P01 !";
    let sasl = |mechanism: &str, len: i32, data: &[u8]| {
        message(b'p', &[mechanism.as_bytes(), b"\0", &len.to_be_bytes(), data])
    };
    vec![
        bad("nothing", "", "R10 !"),
        bad("half a message", b"p\0\0\0\x20SCRAM", "R10 !"),
        bad("a query", message(b'Q', &[b"SELECT 1\0"]), protocol),
        bad("an empty message", message(b'p', &[]), protocol),
        bad("length 3", frame_of(b'p', 3, b""), protocol),
        bad("a negative length", frame_of(b'p', -1, b""), protocol),
        bad("2 GB", frame_of(b'p', i32::MAX, b"x"), protocol),
        bad("too long for a password", frame_of(b'p', 20_000, b"x"), protocol),
        bad("a plain password", message(b'p', &[b"app\0"]), protocol),
        bad("an unknown mechanism", sasl("PLAIN", 4, b"app\0"), protocol),
        bad("a length beyond the message", sasl("SCRAM-SHA-256", 100, b"n,,"), protocol),
        bad("a negative length inside", sasl("SCRAM-SHA-256", -1, b""), protocol),
        bad("not SCRAM", sasl("SCRAM-SHA-256", 3, b"???"), protocol),
        bad("HTTP", "GET / HTTP/1.1\r\n\r\n", protocol),
    ]
}

fn messages() -> Vec<Bad> {
    let protocol = "FATAL 08P01 !";
    vec![
        bad("nothing", "", "!"),
        bad("half a header", b"Q\0\0", "!"),
        bad("half a message", frame_of(b'Q', 100, b"SELECT"), "!"),
        bad("an unknown tag", frame_of(b'~', 4, b""), protocol),
        bad("a server's tag", frame_of(b'Z', 5, b"I"), protocol),
        bad("a password", message(b'p', &[b"app\0"]), protocol),
        bad("length 0", frame_of(b'Q', 0, b""), protocol),
        bad("length 3", frame_of(b'S', 3, b""), protocol),
        bad("a negative length", frame_of(b'P', -5, b""), protocol),
        bad("2 GB", frame_of(b'Q', i32::MAX, b"x"), protocol),
        bad("more than PostgreSQL takes", frame_of(b'B', 0x3fff_ffff, b"x"), protocol),
        bad("a Sync that is too long", frame_of(b'S', 20_000, &[0; 100]), protocol),
        bad("an Execute that is too long", frame_of(b'E', 10_001, &[0; 100]), protocol),
        bad("a Query without its end", message(b'Q', &[b"SELECT 1"]), protocol),
        bad("a Query with more", message(b'Q', &[b"SELECT 1\0SELECT 2\0"]), protocol),
        bad("a Parse without its end", message(b'P', &[b"name\0SELECT 1"]), protocol),
        bad("a Parse with types beyond it", message(b'P', &[b"\0SELECT 1\0\xff\xff"]), protocol),
        bad("a Bind without names", message(b'B', &[b"portal"]), protocol),
        bad("a Describe of neither", message(b'D', &[b"Xname\0"]), protocol),
        bad("an empty Describe", message(b'D', &[]), protocol),
        bad("an Execute without a limit", message(b'E', &[b"portal\0"]), protocol),
        bad("a Close without its end", message(b'C', &[b"Sname"]), protocol),
        bad("HTTP", "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", protocol),
    ]
}

/// Reproducible bytes.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn bytes(&mut self, most: u64) -> Vec<u8> {
        let len = 1 + self.next() % most;
        (0..len).map(|_| (self.next() >> 24) as u8).collect()
    }
}

#[test]
fn bad_input_gets_an_error_and_an_end_and_disturbs_nobody() {
    let (proxy, one, two) = start(|config| config);
    let mut innocents = [Raw::login(&proxy.address(), APP, &one), Raw::login(&proxy.address(), APP, &two)];
    let mut undisturbed = |after: &str| {
        for innocent in &mut innocents {
            assert_eq!(innocent.value("SELECT 'undisturbed'"), "undisturbed", "{after}");
        }
    };
    let mut wrong = Vec::new();
    let mut check = |stage: &str, raw: &mut Raw, row: &Bad| {
        // It may have hung up in the middle.
        let _ = raw.try_send(&row.bytes);
        raw.hang_up_sending();
        let got = shape(&raw.rest());
        if got != row.expected {
            wrong.push(format!("{stage}, {}: {got} instead of {}", row.name, row.expected));
        }
        undisturbed(row.name);
    };
    for row in first_packets() {
        check("first packet", &mut Raw::tcp(&proxy.address()), &row);
    }
    for row in login_messages() {
        let mut raw = Raw::tcp(&proxy.address());
        raw.send(&startup(V3_0, &[("user", APP.name), ("database", &one)]));
        check("login", &mut raw, &row);
    }
    for database in [&one, &two] {
        for row in messages() {
            check("session", &mut Raw::login(&proxy.address(), APP, database), &row);
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));

    let mut random = Random(0x5eed_0f9a_4ba9_e501);
    for round in 0..300 {
        let mut raw = Raw::tcp(&proxy.address());
        let bytes = match round % 3 {
            0 => random.bytes(300),
            // Past the length.
            1 => packet(&random.bytes(100)),
            _ => packet(&[&b"\0\x03\0\0"[..], &random.bytes(100)].concat()),
        };
        let _ = raw.try_send(&bytes);
        raw.hang_up_sending();
        assert_ne!(
            raw.rest().last().map(|last| last.tag),
            Some(SILENCE),
            "round {round}: {}",
            bytes.escape_ascii()
        );
    }
    for round in 0..60 {
        let mut raw = Raw::login(&proxy.address(), APP, if round % 2 == 0 { &one } else { &two });
        let tag = b"QPBDECHSFdcfX"[usize::try_from(random.next() % 13).unwrap()];
        let bytes = if round % 3 == 0 { random.bytes(300) } else { message(tag, &[&random.bytes(60)]) };
        let _ = raw.try_send(&bytes);
        raw.hang_up_sending();
        assert_ne!(
            raw.rest().last().map(|last| last.tag),
            Some(SILENCE),
            "round {round}: {}",
            bytes.escape_ascii()
        );
    }
    undisturbed("random bytes");
    assert_eq!(proxy.get("/healthz").0, 200);
    assert!(!proxy.log().contains("panicked"), "{}", proxy.log());
}

#[test]
fn a_malformed_bind_is_an_error_and_no_more() {
    let (proxy, one, two) = start(|config| config);
    for database in [&one, &two] {
        let mut raw = Raw::login(&proxy.address(), APP, database);
        let mut random = Random(7);
        for _ in 0..50 {
            let good = [support::raw::parse("", "SELECT $1::text"), bind("", "", &["some text"])].concat();
            let mut broken = good.clone();
            // Within the Bind's body, behind its names.
            let at = good.len() - 1 - usize::try_from(random.next() % 17).unwrap();
            broken[at] ^= 1 << (random.next() % 8);
            raw.send(&[broken, support::raw::execute("", 0), support::raw::sync()].concat());
            let frames = raw.until(b'Z', 1);
            assert_eq!(frames.last().map(|last| last.tag), Some(b'Z'), "{frames:?}");
        }
        assert_eq!(raw.value("SELECT 'in step'"), "in step");
    }
}

#[test]
fn a_login_that_takes_too_long_is_ended() {
    let (proxy, one, _) = start(|config| config.set("listen", "login_timeout", "\"300ms\""));
    let half = &startup(V3_0, &[("user", APP.name), ("database", &one)]);
    for bytes in [&b""[..], b"\0\0", &half[..half.len() - 3], half, &ssl_request()] {
        let mut raw = Raw::tcp(&proxy.address());
        raw.send(bytes);
        assert_eq!(raw.rest().last().map(|last| last.tag), Some(CLOSED));
    }
    // Sessions live longer.
    let mut client = Raw::login(&proxy.address(), APP, &one);
    let mut late = Raw::tcp(&proxy.address());
    assert_eq!(late.byte(), CLOSED);
    assert_eq!(client.value("SELECT 'still here'"), "still here");
}

#[test]
fn places_are_limited_and_free_again() {
    let (proxy, one, _) = start(|config| config.set("listen", "max_clients", "2"));
    let address = proxy.address();
    let attempt = |login: Login<'_>, database: &str| {
        let mut raw = Raw::tcp(&address);
        let frames = raw.start_up(login, database, V3_0, &[]);
        (raw, shape(&frames))
    };
    let mut first = Raw::login(&address, APP, &one);
    let second = Raw::login(&address, APP, &one);
    assert_eq!(attempt(APP, &one).1, "FATAL 53300");
    assert_eq!(first.value("SELECT 'undisturbed'"), "undisturbed");
    drop(second);
    eventually("the place is free again", || attempt(APP, &one).1 == SCRAM_LOGIN);

    let one_place = || eventually("one place is free", || attempt(APP, &one).1 != "FATAL 53300");
    for _ in 0..3 {
        for (login, database, expected) in [
            (Login { name: APP.name, password: "wrong" }, one.as_str(), "R10 R11 FATAL 28P01"),
            (Login { name: "nobody", password: "wrong" }, one.as_str(), "R10 R11 FATAL 28P01"),
            (APP, "no_such_database", "R10 R11 R12 R0 FATAL 3D000"),
        ] {
            one_place();
            eventually("the last one has left", || attempt(login, database).1 == expected);
        }
        one_place();
        // Gone in the middle of a login.
        eventually("the last one has left", || {
            let mut raw = Raw::tcp(&address);
            raw.send(&startup(V3_0, &[("user", APP.name), ("database", &one)]));
            raw.frame().tag == b'R'
        });
    }
    eventually("no failed login keeps its place", || attempt(APP, &one).1 == SCRAM_LOGIN);
}

#[test]
fn only_those_who_are_let_in_learn_which_databases_there_are() {
    let (proxy, _, _) = start(|config| config);
    for (password, expected) in
        [("wrong", "R10 R11 FATAL 28P01"), (APP.password, "R10 R11 R12 R0 FATAL 3D000")]
    {
        let mut raw = Raw::tcp(&proxy.address());
        let frames = raw.start_up(Login { name: APP.name, password }, "no_such_database", V3_0, &[]);
        assert_eq!(shape(&frames), expected);
    }
    let mut raw = Raw::tcp(&proxy.address());
    let frames = raw.start_up(APP, "no_such_database", V3_0, &[]);
    assert_eq!(frames.last().unwrap().field(b'M').unwrap(), "database \"no_such_database\" does not exist");
}

#[test]
fn what_is_reported_is_what_the_server_reports() {
    let (proxy, one, two) = start(|config| config);
    let server = servers(1)[0];
    let long = "x".repeat(65);
    let rows: &[&[(&str, &str)]] = &[
        &[],
        &[("application_name", &long)],
        &[("options", &format!("-c application_name={long}"))],
        &[("client_encoding", "LATIN1")],
        &[("client_encoding", "utf-8"), ("application_name", "somebody")],
        &[("TimeZone", "Asia/Tokyo"), ("DateStyle", "German, DMY"), ("IntervalStyle", "iso_8601")],
        &[("application_name", "f\u{fc}nf\ttabs")],
        &[("options", "-c statement_timeout=5s")],
        &[("options", "-c TimeZone=UTC --standard-conforming-strings=off -cgeqo=off")],
        &[("options", "-c application_name=a\\ b\\\\c"), ("extra_float_digits", "3")],
        &[("STATEMENT_TIMEOUT", "7s"), ("default_transaction_read_only", "on")],
        &[("search_path", "pg_catalog, public")],
        &[("replication", "false")],
        // Refused.
        &[("TimeZone", "Nowhere/Land")],
        &[("client_encoding", "klingon")],
        &[("DateStyle", "yesterday")],
        &[("no_such_setting", "1")],
        &[("work_mem", "lots")],
        &[("options", "-c work_mem=lots")],
        &[("options", "-c no_such_setting=1")],
        &[("shared_buffers", "1MB")],
        &[("session_replication_role", "replica")],
    ];
    let shown = [
        "statement_timeout",
        "search_path",
        "TimeZone",
        "geqo",
        "extra_float_digits",
        "default_transaction_read_only",
        "application_name",
    ];
    let mut differences = Vec::new();
    let ask = |address: &str, database: &str, parameters: &[(&str, &str)]| {
        let mut raw = Raw::tcp(address);
        let frames = raw.start_up(APP, database, V3_0, parameters);
        let last = frames.last().unwrap();
        let refused = (last.tag == b'E')
            .then(|| format!("{} {} {:?}", last.field(b'S').unwrap(), last.code(), last.field(b'M')));
        let mut told = std::mem::take(&mut raw.parameters);
        told.sort();
        let notices = frames.iter().filter(|frame| frame.tag == b'N').collect::<Vec<_>>();
        let notices = format!("{notices:?}");
        let values: Vec<String> = if refused.is_some() {
            Vec::new()
        } else {
            shown.iter().map(|name| raw.value(&format!("SHOW {name}"))).collect()
        };
        if refused.is_some() {
            // A server reports as it goes; what counts is that it refuses.
            told.clear();
        }
        format!("{told:?} {notices} {values:?} {refused:?}")
    };
    for parameters in rows {
        for database in [&one, &two] {
            let expected = ask(&server.address(), database, parameters);
            // Again, on a server that has had other settings since.
            for _ in 0..2 {
                let got = ask(&proxy.address(), database, parameters);
                if got != expected {
                    differences.push(format!("{parameters:?}:\n   pgring {got}\n   direct {expected}"));
                }
            }
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

#[test]
fn options_that_are_none_are_refused_and_replication_is_too() {
    let (proxy, one, _) = start(|config| config);
    for (parameter, code) in [
        (("options", "-c work_mem"), "42601"),
        (("options", "nonsense"), "42601"),
        (("options", "-c"), "42601"),
        (("replication", "database"), "0A000"),
        (("replication", "true"), "0A000"),
    ] {
        let mut raw = Raw::tcp(&proxy.address());
        let frames = raw.start_up(APP, &one, V3_0, &[parameter]);
        assert_eq!(shape(&frames), format!("R10 R11 R12 R0 FATAL {code}"), "{parameter:?}");
        assert_eq!(raw.byte(), CLOSED);
    }
}

#[test]
fn a_unix_socket_is_a_way_in() {
    let directory = tempfile::tempdir().unwrap();
    let shards = servers(1);
    let one = database(&shards, "");
    let config = Config::new();
    let port = config.port;
    let addresses = format!("[\"127.0.0.1:{port}\", \"unix:{}:{port}\"]", directory.path().display());
    let proxy = Proxy::start(config.set("listen", "address", &addresses).database(&one, &shards));
    let mut raw = Raw::unix(&directory.path().join(format!(".s.PGSQL.{port}")));
    // PostgreSQL has no encryption there, and neither has pgring.
    raw.send(&ssl_request());
    assert_eq!(raw.byte(), b'N');
    assert_eq!(shape(&raw.start_up(APP, &one, V3_2, &[])), SCRAM_LOGIN);
    assert_eq!(raw.value("SELECT 'by socket'"), "by socket");
    let dsn = format!(
        "host={} port={port} user={} password={} dbname={one}",
        directory.path().display(),
        APP.name,
        APP.password
    );
    assert_eq!(psql(&dsn, "SELECT 'by psql'").expect_ok().trim(), "by psql");
    assert_eq!(Raw::login(&proxy.address(), APP, &one).value("SELECT 'by TCP'"), "by TCP");
}
