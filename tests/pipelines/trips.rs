//! Round trips between pgring and its server, seen from a relay between the two.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use pgring::demo::sample::APP;

use crate::support::raw::{Frame, Raw, bind, execute, function_call, message, parse, query, run, sync};
use crate::support::{Config, Proxy, database, eventually, servers};

/// Stands between pgring and a server and takes note of who speaks.
#[derive(Clone)]
struct Wire {
    address: String,
    state: Arc<(Mutex<State>, Condvar)>,
}

#[derive(Default)]
struct State {
    /// Of connections of the pool: `>` for bytes to the server, `<` from it; what follows in the
    /// same direction is the same turn.
    turns: String,
    /// `Sync` and `Query` messages that pgring has sent.
    asked: usize,
    /// The server's bytes are held back.
    held: bool,
    /// Where the server ends the connection.
    end: Option<End>,
}

/// The end of a connection.
#[derive(Clone, Copy)]
struct End {
    /// When the server says this,
    at: &'static [u8],
    /// which does not come any more, or does,
    said: bool,
    /// and last of all this severity, if any.
    severity: &'static str,
}

impl End {
    fn of(self, chunk: &[u8]) -> Option<Vec<u8>> {
        let at = chunk.windows(self.at.len()).position(|part| part == self.at)?;
        let mut last = chunk[..at + if self.said { self.at.len() } else { 0 }].to_vec();
        if !self.severity.is_empty() {
            let fields = format!("S{0}\0V{0}\0C57P01\0Mterminating connection\0\0", self.severity);
            last.extend(message(b'E', &[fields.as_bytes()]));
        }
        Some(last)
    }
}

impl Wire {
    fn to(server: String) -> Wire {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let wire = Wire { address, state: Arc::default() };
        let serving = wire.clone();
        thread::spawn(move || {
            for client in listener.incoming() {
                let (wire, server) = (serving.clone(), server.clone());
                thread::spawn(move || wire.serve(client.unwrap(), TcpStream::connect(server).unwrap()));
            }
        });
        wire
    }

    fn serve(&self, mut client: TcpStream, mut server: TcpStream) {
        client.set_nodelay(true).unwrap();
        server.set_nodelay(true).unwrap();
        let mut first = [0; 8192];
        let Ok(n) = client.read(&mut first) else { return };
        server.write_all(&first[..n]).unwrap();
        let pooled = first[..n].windows(9).any(|part| part == b"user\0app\0");
        let (mut from, mut to) = (server.try_clone().unwrap(), client.try_clone().unwrap());
        let wire = self.clone();
        thread::spawn(move || {
            let mut chunk = [0; 8192];
            while let Ok(n) = from.read(&mut chunk)
                && n > 0
            {
                if pooled {
                    let (state, changed) = &*wire.state;
                    let mut state = changed.wait_while(state.lock().unwrap(), |state| state.held).unwrap();
                    state.turn('<');
                    if let Some(last) = state.end.and_then(|end| end.of(&chunk[..n])) {
                        let _ = to.write_all(&last);
                        break;
                    }
                }
                if to.write_all(&chunk[..n]).is_err() {
                    break;
                }
            }
            let _ = to.shutdown(Shutdown::Both);
        });
        let (mut inbox, mut chunk) = (Vec::new(), [0; 8192]);
        while let Ok(n) = client.read(&mut chunk)
            && n > 0
        {
            if pooled {
                let mut state = self.state.0.lock().unwrap();
                state.turn('>');
                inbox.extend(&chunk[..n]);
                state.asked += ends(&mut inbox);
            }
            if server.write_all(&chunk[..n]).is_err() {
                break;
            }
        }
        let _ = server.shutdown(Shutdown::Both);
    }

    fn hold(&self, held: bool) {
        self.state.0.lock().unwrap().held = held;
        self.state.1.notify_all();
    }

    fn end(&self, end: Option<End>) {
        self.state.0.lock().unwrap().end = end;
    }

    /// Turns and questions since the last call.
    fn take(&self) -> (String, usize) {
        let mut state = self.state.0.lock().unwrap();
        (std::mem::take(&mut state.turns), std::mem::take(&mut state.asked))
    }

    fn asked(&self) -> usize {
        self.state.0.lock().unwrap().asked
    }
}

impl State {
    fn turn(&mut self, who: char) {
        if !self.turns.ends_with(who) {
            self.turns.push(who);
        }
    }
}

/// Takes whole messages off a client's bytes; how many of them end a batch.
fn ends(inbox: &mut Vec<u8>) -> usize {
    let mut ended = 0;
    while inbox.len() >= 5 {
        let len = usize::try_from(i32::from_be_bytes(inbox[1..5].try_into().unwrap())).unwrap() + 1;
        if inbox.len() < len {
            break;
        }
        ended += usize::from(matches!(inbox[0], b'S' | b'Q'));
        inbox.drain(..len);
    }
    ended
}

const SCHEMA: &str = "CREATE TABLE t (user_id int PRIMARY KEY, v text); INSERT INTO t VALUES (4, 'four')";

fn stage(pool: &str) -> (Proxy, Wire, String) {
    let shards = servers(1);
    let name = database(&shards, SCHEMA);
    let wire = Wire::to(shards[0].address());
    let config = Config::new().database_at(&name, &[vec![wire.address.clone()]]).set("pool", "size", pool);
    (Proxy::start(config), wire, name)
}

#[test]
fn messages_up_to_several_syncs_are_under_way_at_once() {
    let (proxy, wire, name) = stage("1");
    let mut client = Raw::login(&proxy.address(), APP, &name);
    let read = "SELECT v FROM t WHERE user_id = 4";
    client.query(read);
    let batch = [run("SELECT v FROM t WHERE user_id = $1", &["4"]), sync()].concat();
    let named = [bind("", "kept", &[]), execute("", 0), sync()].concat();
    client.send(&[parse("kept", read), sync()].concat());
    client.until(b'Z', 1);
    for (what, pipeline, ends) in [
        ("extended", batch.repeat(20), 20),
        ("named", named.repeat(20), 20),
        ("simple", query(read).repeat(20), 20),
        ("in a transaction", [run("BEGIN", &[]), batch.clone(), batch.repeat(10)].concat(), 11),
    ] {
        if what == "in a transaction" {
            // Its beginning has to be answered first: everything else hangs on it.
            client.query("BEGIN");
            client.query(read);
        }
        let pipeline = if what == "in a transaction" { batch.repeat(ends) } else { pipeline };
        wire.take();
        wire.hold(true);
        client.send(&pipeline);
        eventually(&format!("{what}: all is sent before anything is answered"), || wire.asked() == ends);
        wire.hold(false);
        let frames = client.until(b'Z', ends);
        let rows = frames.iter().filter(|frame| frame.tag == b'D').count();
        assert_eq!((rows, wire.take().0.as_str()), (ends, "><"), "{what}");
    }
}

#[test]
fn what_hangs_on_an_answer_waits_for_it() {
    let (proxy, wire, name) = stage("2");
    let mut client = Raw::login(&proxy.address(), APP, &name);
    let read = "SELECT v FROM t WHERE user_id = 4";
    client.query(read);
    wire.take();
    wire.hold(true);
    client.send(&[query("SET search_path = nowhere"), query(read)].concat());
    eventually("the first is sent", || wire.asked() == 1);
    // Nothing shows that something will not come; but what came after is there already.
    thread::sleep(Duration::from_millis(200));
    assert_eq!(wire.asked(), 1, "a statement was sent on although a setting before it was unanswered");
    wire.hold(false);
    let frames = client.until(b'Z', 2);
    assert!(frames.iter().any(|frame| frame.tag == b'E' && frame.code() == "42P01"), "{frames:?}");
}

#[test]
fn a_server_is_brought_in_line_in_the_round_trip_of_the_statement() {
    let (proxy, wire, name) = stage("1");
    let mut clients: Vec<Raw> = ["Asia/Tokyo", "Europe/Berlin", "America/New_York"]
        .into_iter()
        .map(|zone| {
            let mut client = Raw::login(&proxy.address(), APP, &name);
            client.query(&format!("SET timezone = '{zone}'"));
            client.query(&format!("SET application_name = '{zone}'"));
            client
        })
        .collect();
    let shows = "SELECT current_setting('timezone') || current_setting('application_name')";
    wire.take();
    for round in 0..4 {
        for (client, zone) in clients.iter_mut().zip(["Asia/Tokyo", "Europe/Berlin", "America/New_York"]) {
            let bytes = if round % 2 == 0 { query(shows) } else { [run(shows, &[]), sync()].concat() };
            client.send(&bytes);
            let frames = client.until(b'Z', 1);
            let row = frames.iter().find(|frame| frame.tag == b'D').map(|row| row.columns().concat());
            assert_eq!(row, Some(format!("{zone}{zone}")));
            assert!(!frames.iter().any(|frame| frame.tag == b'S'), "the client knows: {frames:?}");
            assert_eq!(wire.take().0, "><", "one round trip");
        }
    }
}

/// A server that is shut down may end a connection between a `COMMIT` and what follows: both come at once.
#[test]
fn what_was_answered_before_the_end_is_so() {
    let server = servers(1)[0];
    let name = database(&[server], "CREATE TABLE t (user_id int)");
    let wire = Wire::to(server.address());
    let proxy = Proxy::start(Config::new().database_at(&name, &[vec![wire.address.clone()]]));
    let mut raw = Raw::login(&proxy.address(), APP, &name);
    let words = |frames: Vec<Frame>| -> String {
        let word = |frame: Frame| match frame.tag {
            b'E' => frame.code(),
            b'C' | b'Z' => String::from_utf8_lossy(&frame.body).trim_end_matches('\0').to_owned(),
            _ => String::new(),
        };
        frames.into_iter().map(word).filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
    };
    const COMMIT: &[u8] = b"C\0\0\0\x0bCOMMIT\0";
    const INSERT: &[u8] = b"C\0\0\0\x0fINSERT 0 1\0";
    const PREPARED: &[u8] = b"C\0\0\0\x18PREPARE TRANSACTION\0";
    const CALLED: &[u8] = b"V\0\0\0";
    let insert = |value: u32| format!("INSERT INTO t VALUES ({value})");
    let fatal = |at| End { at, said: true, severity: "FATAL" };
    let silent = |at, severity| End { at, said: false, severity };
    for (begin, end, ends, expect) in [
        (true, fatal(COMMIT), [run("COMMIT", &[]), sync()].concat(), "COMMIT I"),
        (true, fatal(COMMIT), query("COMMIT"), "COMMIT I"),
        // Its commit is before its tag.
        (false, fatal(INSERT), query(&insert(2)), "INSERT 0 1 08007 I"),
        // Its commit would have come with the Sync.
        (false, fatal(INSERT), [run(&insert(3), &[]), sync()].concat(), "INSERT 0 1 57P01 I"),
        (
            true,
            fatal(INSERT),
            [run("COMMIT", &[]), run(&insert(4), &[]), sync()].concat(),
            "COMMIT INSERT 0 1 57P01 I",
        ),
        (
            true,
            silent(INSERT, ""),
            [run("COMMIT", &[]), run(&insert(5), &[]), sync()].concat(),
            "COMMIT 08007 I",
        ),
        // The next one is lost.
        (true, fatal(COMMIT), query("COMMIT AND CHAIN"), "COMMIT 57P01 E"),
        // It may have come behind the commit record.
        (true, silent(COMMIT, "PANIC"), query("COMMIT"), "08007 I"),
        (true, silent(COMMIT, ""), query("COMMIT"), "08007 I"),
        (true, silent(PREPARED, ""), query("PREPARE TRANSACTION 'lost'"), "08007 I"),
        // `lo_create(0)`
        (false, silent(CALLED, ""), function_call(715, &["0"]), "08007 I"),
    ] {
        if begin {
            assert_eq!(words(raw.query("BEGIN")), "BEGIN T");
            assert_eq!(words(raw.query(&insert(1))), "INSERT 0 1 T");
        }
        // The last statement before it was one that reads.
        assert_eq!(raw.value("SHOW pgring.read"), "");
        wire.end(Some(end));
        raw.send(&ends);
        assert_eq!(words(raw.until(b'Z', 1)), expect);
        wire.end(None);
        raw.query("ROLLBACK");
        assert_eq!(raw.value("SELECT 'on'"), "on");
    }
    server.psql(APP, &name, "ROLLBACK PREPARED 'lost'").unwrap();
}
