//! A server that has been taken over, or is none. It is pgring's client here, in the way: health
//! probes go on to a real server, and clients' logins get what the row says.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pgring::demo::sample::APP;

use crate::stage::{attempt, outcome};
use crate::support::raw::{SILENCE, message};
use crate::support::{Config, Proxy, database, servers, unique_name};

/// What is sent after each message of pgring's; `NONCE` is that of its SCRAM message.
type Replies = Vec<Vec<u8>>;

fn authentication(code: u32, data: &[u8]) -> Vec<u8> {
    message(b'R', &[&code.to_be_bytes(), data])
}

fn sasl() -> Vec<u8> {
    authentication(10, b"SCRAM-SHA-256\0\0")
}

fn logins() -> Vec<Replies> {
    let mut all: Vec<Replies> = [
        &b""[..],
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"R\0\0\0\x04",
        b"R\0\0\0\x05\0",
        b"R\0\0\0\0",
        b"R\0\0\0\x03",
        b"R\xff\xff\xff\xff",
        b"R\x80\0\0\0",
        b"R\x7f\xff\xff\xff\0\0\0\0",
        b"E\0\0\0\x04",
        b"E\0\0\0\x05\0",
        b"E\0\0\0\x06SX",
        b"E\0\0\0\x08\xff\xff\xff\xff",
        b"N\0\0\0\x04",
        b"Z\0\0\0\x04",
        b"Z\0\0\0\x05X",
        b"S\0\0\0\x04",
        b"K\0\0\0\x04",
        b"v\0\0\0\x04",
        b"T\0\0\0\x06\xff\xff",
        b"D\0\0\0\x06\x7f\xff",
        b"\0\0\0\0\0",
        b"R\0\0\0\x0c\0\0\0\x05\0\0",
    ]
    .iter()
    .map(|bytes| vec![bytes.to_vec()])
    .collect();
    for (code, data) in [
        (5, &b""[..]),
        (5, b"abc"),
        (5, b"abcde"),
        (7, b""),
        (9, b""),
        (10, b""),
        (10, b"\0"),
        (10, b"SCRAM-SHA-256"),
        (10, b"OAUTHBEARER\0\0"),
        (10, b"SCRAM-SHA-256-PLUS\0\0"),
        (10, b"\xff\xfe\0\0"),
        (11, b"r=a,s=AAAA,i=1"),
        (12, b"v=AAAA"),
        (4_294_967_295, b""),
    ] {
        all.push(vec![authentication(code, data)]);
    }
    for first in [
        "",
        ",",
        "r=",
        "r=x",
        "r=x,s=AAAA,i=4096",
        "r=NONCE,s=AAAA,i=4096",
        "r=NONCEx",
        "r=NONCEx,s=,i=4096",
        "r=NONCEx,s=!!!!,i=4096",
        "r=NONCEx,s=AAAA,i=",
        "r=NONCEx,s=AAAA,i=-1",
        "r=NONCEx,s=AAAA,i=0",
        "r=NONCEx,s=AAAA,i=4294967295",
        "r=NONCEx,s=AAAA,i=4294967296",
        "r=NONCEx,s=AAAA,i=99999999999999999999",
        "r=NONCEx,s=AAAA,i=2147483647",
        "m=x,r=NONCEx,s=AAAA,i=1",
        "e=other-error",
    ] {
        all.push(vec![sasl(), authentication(11, first.as_bytes())]);
    }
    all.push(vec![sasl(), authentication(11, b"\xff\xfe\xfd")]);
    all.push(vec![sasl(), authentication(0, b"")]);
    all.push(vec![sasl(), sasl(), authentication(0, b"")]);
    for last in ["", "v=", "v=!!!!", "v=AAAA", "e=", "e=other-error", "x", "\u{e9}"] {
        let first = authentication(11, b"r=NONCEx,s=AAAA,i=1");
        all.push(vec![sasl(), first, [authentication(12, last.as_bytes()), authentication(0, b"")].concat()]);
    }
    all.push(vec![sasl(), authentication(11, b"r=NONCEx,s=AAAA,i=1"), authentication(0, b"")]);
    // Let in, and then something that is none.
    for next in [
        message(b'S', &[b"no end"]),
        message(b'S', &[b"name\0no end"]),
        message(b'S', &[b"\xff\xfe\0\xff\0"]),
        message(b'S', &[b"client_encoding\0\0"]),
        message(b'K', &[b"abc"]),
        message(b'K', &[&[7; 5000]]),
        message(b'Z', &[b""]),
        message(b'Z', &[b"X"]),
        message(b'E', &[b""]),
        message(b'E', &[b"Cxx\0"]),
        message(b'E', &[b"SFATAL\0C\xff\xff\xff\xff\xff\0M\xff\0\0"]),
        message(b'E', &[&b"SERROR\0C57P03\0M"[..], &[b'x'; 30_000], b"\0\0"]),
        message(b'A', &[b""]),
        message(b'T', &[b"\x7f\xff"]),
        message(b'S', &[b"server_version\x00999\0"]).repeat(1000),
    ] {
        all.push(vec![[authentication(0, b""), next].concat()]);
    }
    let ready = [authentication(0, b""), message(b'K', &[&[0; 8]]), message(b'Z', &[b"I"])].concat();
    // Ready, and then nonsense as answers.
    for answer in [
        message(b'D', &[b""]),
        message(b'D', &[b"\x7f\xff"]),
        message(b'D', &[b"\0\x01\x7f\xff\xff\xff"]),
        message(b'D', &[b"\0\x01\xff\xff\xff\xfe"]),
        message(b'T', &[b"\xff\xff"]),
        message(b'C', &[b""]),
        message(b'C', &[b"SELECT \xff"]),
        message(b'Z', &[b""]),
        message(b'Z', &[b"Q"]),
        message(b'S', &[b"x"]),
        message(b'E', &[b""]),
        message(b'G', &[b""]),
        message(b'Z', &[b"I"]).repeat(50),
        b"Q\0\0\0\x01".to_vec(),
        b"Z\x7f\xff\xff\xff".to_vec(),
        Vec::new(),
    ] {
        all.push(vec![ready.clone(), answer.clone(), answer]);
    }
    all
}

/// Relays to a real server, or replies.
fn meet(mut near: TcpStream, real: &str, replies: &Mutex<Replies>) -> std::io::Result<()> {
    let mut packet = vec![0; 4096];
    let mut len = near.read(&mut packet)?;
    let is_probe = packet[..len].windows(12).any(|part| part == b"user\0pgring\0");
    if is_probe {
        let mut far = TcpStream::connect(real)?;
        far.write_all(&packet[..len])?;
        let (mut back, mut to) = (far.try_clone()?, near.try_clone()?);
        std::thread::spawn(move || {
            let copied = std::io::copy(&mut back, &mut to);
            let _ = to.shutdown(std::net::Shutdown::Both);
            copied
        });
        let copied = std::io::copy(&mut near, &mut far).map(|_| ());
        let _ = far.shutdown(std::net::Shutdown::Both);
        return copied;
    }
    let script = replies.lock().unwrap().clone();
    for reply in script {
        let sent = String::from_utf8_lossy(&packet[..len]).into_owned();
        let nonce = sent.split("r=").nth(1).and_then(|rest| rest.split(',').next()).unwrap_or("");
        near.write_all(&with_nonce(&reply, nonce))?;
        near.set_read_timeout(Some(Duration::from_millis(300)))?;
        len = near.read(&mut packet).unwrap_or(0);
    }
    Ok(())
}

/// The reply with the nonce in it, and the length that is then right.
fn with_nonce(reply: &[u8], nonce: &str) -> Vec<u8> {
    let Some(at) = reply.windows(5).position(|part| part == b"NONCE") else { return reply.to_vec() };
    let body = [&reply[5..at], nonce.as_bytes(), &reply[at + 5..]].concat();
    message(reply[0], &[&body])
}

#[test]
fn a_server_that_has_been_taken_over_hurts_its_own_clients_only() {
    let real = servers(1)[0];
    let (name, other) = (database(&[real], ""), database(&[real], ""));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let hostile = listener.local_addr().unwrap().to_string();
    let replies: Arc<Mutex<Replies>> = Arc::default();
    {
        let (replies, real) = (Arc::clone(&replies), real.address());
        std::thread::spawn(move || {
            for near in listener.incoming() {
                let (replies, real) = (Arc::clone(&replies), real.clone());
                // However it ends: pgring may have hung up.
                std::thread::spawn(move || meet(near.unwrap(), &real, &replies));
            }
        });
    }
    let taken = unique_name("taken");
    let config = Config::new()
        .database_at(&taken, &[vec![hostile]])
        .replace(&format!("name = \"{taken}\""), &format!("name = \"{name}\""))
        .database(&other, &[real])
        .set("pool", "connect_timeout", "\"2s\"")
        .set("pool", "query_timeout", "\"2s\"")
        .set("listen", "login_timeout", "\"5s\"");
    let proxy = Proxy::start(config);
    let mut innocent = attempt(&proxy.address(), APP.name, APP.password, &other).0;
    for script in logins() {
        let shown: Vec<String> =
            script.iter().map(|reply| reply[..reply.len().min(60)].escape_ascii().to_string()).collect();
        *replies.lock().unwrap() = script;
        let (_, frames) = attempt(&proxy.address(), APP.name, APP.password, &name);
        let got = outcome(&frames);
        assert!(got != "in" && frames.iter().all(|frame| frame.tag != SILENCE), "{shown:?}: {got}");
        assert_eq!(innocent.value("SELECT 'undisturbed'"), "undisturbed", "{shown:?}");
    }
    assert_eq!(proxy.get("/healthz").0, 200);
    assert!(!proxy.log().contains("panicked"), "{}", proxy.log());
}
