//! Random messages, sent at once, on pgring and on PostgreSQL.

use std::collections::BTreeMap;
use std::time::Duration;

use pgring::demo::cluster::{Cluster, SUPERUSER, Settings};
use pgring::demo::sample::APP;

use crate::support::raw::{
    CLOSED, Frame, Raw, SILENCE, bind, close, describe, execute, flush, parse, query, run, sync,
};
use crate::support::{Config, Proxy, database, eventually, own_servers, servers, unique_name};

/// Of two shards, user 4 lives on the first.
const SCHEMA: &str = "
    CREATE TABLE t (user_id int NOT NULL, v text NOT NULL, PRIMARY KEY (user_id, v));
    INSERT INTO t SELECT 4, 'row ' || n FROM generate_series(1, 5) n;";

const PIPELINES: u64 = 400;

/// Seeds whose pipelines were answered otherwise once: an error about a statement that the client
/// has closed meanwhile; a portal whose `Bind` the server never came to; a `Describe` in a
/// transaction that only pgring knew to have failed; a confirmation taken for one of the next batch;
/// the unnamed statement lost to the check of a text whose name is taken; a portal that pgring was to
/// answer, lost to a `Bind` that went to the server; the unnamed statement that a `Query` behind a batch
/// dropped, back with that batch's failure; the end of a transaction on one shard, before a statement for
/// another, without a Sync between them;
/// a name free by a `Close` that was skipped.
const ONCE_WRONG: [u64; 12] = [5423, 9043, 9286, 9489, 9599, 20564, 20587, 20618, 20623, 20698, 30188, 41116];

pub(super) struct Random(u64);

impl Random {
    pub(super) fn from_seed(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(super) fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from((self.0 >> 11) % u64::try_from(end).unwrap()).unwrap()
    }

    pub(super) fn one_of<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        choices[self.below(choices.len())]
    }
}

/// Statements, and how many parameters they have.
const TEXTS: [(&str, usize); 17] = [
    ("SELECT v FROM t WHERE user_id = 4 ORDER BY v", 0),
    ("SELECT v FROM t WHERE user_id = 4 ORDER BY v", 0),
    ("SELECT v FROM t WHERE user_id = 4 AND v > $1 ORDER BY v", 1),
    ("SELECT count(*) FROM t WHERE user_id = 4", 0),
    ("INSERT INTO t VALUES (4, $1) ON CONFLICT DO NOTHING", 1),
    ("INSERT INTO t VALUES (4, 'row 1')", 0),
    ("DELETE FROM t WHERE user_id = 4 AND v = $1", 1),
    ("SELECT 1 / 0 FROM t WHERE user_id = 4", 0),
    ("SELECT nothing FROM t WHERE user_id = 4", 0),
    ("BEGIN", 0),
    ("COMMIT", 0),
    ("ROLLBACK", 0),
    ("SAVEPOINT s", 0),
    ("ROLLBACK TO s", 0),
    ("SET application_name = 'changed'", 0),
    ("SET LOCAL application_name = 'for now'", 0),
    ("SELECT current_setting('application_name'), v FROM t WHERE user_id = 4 AND v = 'row 1'", 0),
];

/// Bytes of a pipeline, and in words.
#[derive(Default)]
pub(super) struct Pipeline {
    pub(super) bytes: Vec<u8>,
    pub(super) words: Vec<String>,
}

impl Pipeline {
    fn random(random: &mut Random) -> Pipeline {
        let mut pipeline = Pipeline::default();
        // What the client believes each name takes; it may be wrong about what exists.
        let mut takes = [0, 0, 0];
        pipeline.push("P \"taken\" SELECT 1", parse("taken", "SELECT 1"));
        pipeline.push("S", sync());
        for _ in 0..5 + random.below(30) {
            let name = random.below(3);
            let called = ["", "a", "b"][name];
            let portal = random.one_of(&["", "", "", "p"]);
            match random.below(24) {
                0..=1 => {
                    let (text, parameters) = TEXTS[random.below(TEXTS.len())];
                    takes[name] = parameters;
                    pipeline.push(&format!("P {called:?} {text}"), parse(called, text));
                }
                2..=3 => pipeline.bind(portal, called, takes[name]),
                4 => pipeline.push(&format!("D S {called:?}"), describe('S', called)),
                5 => pipeline.push(&format!("D P {portal:?}"), describe('P', portal)),
                6 => pipeline.push(&format!("E {portal:?}"), execute(portal, 0)),
                7 => pipeline.push(&format!("E {portal:?} 2"), execute(portal, 2)),
                8 => pipeline.push(&format!("C S {called:?}"), close('S', called)),
                9 => pipeline.push("H", flush()),
                10..=12 => pipeline.push("S", sync()),
                13 => {
                    let (text, _) = TEXTS.into_iter().filter(|(_, n)| *n == 0).nth(random.below(14)).unwrap();
                    pipeline.push(&format!("Q {text}"), query(text));
                }
                14..=16 => pipeline.refused(random),
                _ => {
                    let (text, parameters) = TEXTS[random.below(TEXTS.len())];
                    takes[0] = parameters;
                    pipeline.push(&format!("P \"\" {text}"), parse("", text));
                    pipeline.bind("", "", parameters);
                    if random.below(2) == 0 {
                        pipeline.push("D P \"\"", describe('P', ""));
                    }
                    pipeline.push("E \"\"", execute("", 0));
                    if random.below(4) != 0 {
                        pipeline.push("S", sync());
                    }
                }
            }
        }
        pipeline.push("S", sync());
        pipeline
    }

    pub(super) fn push(&mut self, words: &str, bytes: Vec<u8>) {
        self.words.push(words.to_owned());
        self.bytes.extend(bytes);
    }

    /// Transactions begin and end in a batch that comes to something pgring refuses by itself.
    fn refused(&mut self, random: &mut Random) {
        for _ in 0..1 + random.below(4) {
            let text = match random.below(10) {
                0..=4 => random.one_of(&["BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT s", "COMMIT AND CHAIN"]),
                5..=7 => {
                    &format!("INSERT INTO t VALUES (4, 'new {}') ON CONFLICT DO NOTHING", random.below(100))
                }
                8 => "SET application_name = 'in between'",
                _ => TEXTS[0].0,
            };
            self.push(&format!("R {text}"), run(text, &[]));
            if random.below(6) == 0 {
                self.push("S", sync());
            }
        }
        match random.below(7) {
            0 => self.push("B \"\" \"nosuch\"", bind("", "nosuch", &[])),
            1 => self.push("P \"taken\"", parse("taken", "SELECT 2")),
            2 => self.push("D S \"nosuch\"", describe('S', "nosuch")),
            3 => self.push("D P \"nosuch\"", describe('P', "nosuch")),
            5 => self.push("R DISCARD ALL", run("DISCARD ALL", &[])),
            4 => self.push("E \"nosuch\"", execute("nosuch", 0)),
            _ => self.push("P \"\" of two", parse("", "SELECT 1; SELECT 2")),
        }
        if random.below(4) != 0 {
            self.push("S", sync());
        }
    }

    fn bind(&mut self, portal: &str, statement: &str, parameters: usize) {
        self.push(
            &format!("B {portal:?} {statement:?} {parameters}"),
            bind(portal, statement, &["row 3"][..parameters]),
        );
    }
}

/// What is answered up to the end of a mark that is sent behind.
pub(super) fn answer(client: &mut Raw, bytes: &[u8]) -> Vec<Frame> {
    let frames = heard(client, bytes);
    if frames.iter().any(|frame| matches!(frame.tag, CLOSED | SILENCE)) { frames } else { settled(frames) }
}

/// The same as it comes.
pub(super) fn heard(client: &mut Raw, bytes: &[u8]) -> Vec<Frame> {
    // What the client knew before.
    let mut frames: Vec<Frame> = Vec::new();
    for (name, value) in &client.parameters {
        let body = [name.as_bytes(), b"\0", value.as_bytes(), b"\0"].concat();
        frames.push(Frame { tag: b'S', body });
    }

    client.send(&[bytes, &query("ROLLBACK"), &query("SELECT 'the end'")].concat());
    loop {
        let frame = client.frame();
        let end = frame.tag == b'D' && frame.columns() == ["the end"];
        let over = matches!(frame.tag, CLOSED | SILENCE);
        if frame.tag == b'S' {
            let text = String::from_utf8_lossy(&frame.body).into_owned();
            let text = text.trim_end_matches('\0');
            let (name, value) = text.split_once('\0').unwrap_or((text, ""));
            client.parameters.retain(|(known, _)| known != name);
            client.parameters.push((name.to_owned(), value.to_owned()));
        }
        frames.push(frame);
        if over {
            return frames;
        }
        if end {
            frames.extend(client.until(b'Z', 1));
            return frames;
        }
    }
}

/// In a transaction that has failed everything is refused, for one reason or another; what counts
/// is that it is. And when a parameter's new value is told depends on PostgreSQL's version, and
/// pgring may be before its server: what counts is what the client knows in the end.
pub(super) fn settled(frames: Vec<Frame>) -> Vec<Frame> {
    let mut settled: Vec<Frame> = Vec::new();
    let mut known = BTreeMap::new();
    let (mut batch, mut failed) = (0, false);
    for frame in frames {
        match frame.tag {
            b'S' => {
                let name = frame.body.split(|byte| *byte == 0).next().unwrap_or_default().to_vec();
                known.insert(name, frame);
            }
            b'Z' => {
                if failed && frame.body == b"E" {
                    settled.truncate(batch);
                }
                failed = frame.body == b"E";
                settled.push(frame);
                batch = settled.len();
            }
            _ => settled.push(frame),
        }
    }
    // What the client knows of parameters in the end.
    settled.extend(known.into_values());
    settled
}

#[test]
fn random_pipelines_are_answered_as_postgresql_does() {
    compare(&servers(2), &[], PIPELINES);
}

/// What reads is answered by replicas, and the client sees nothing of it.
#[test]
fn random_pipelines_are_answered_so_where_reads_are_on_replicas() {
    let shards = own_servers(2);
    let replica = |primary: &Cluster| {
        let data = primary.data().with_file_name(unique_name("replica"));
        primary.replica(&data, Settings { disposable: true, ..Settings::default() }).unwrap()
    };
    let replicas: Vec<Cluster> = shards.iter().map(replica).collect();
    compare(&shards.iter().collect::<Vec<_>>(), &replicas, PIPELINES / 2);
}

fn compare(shards: &[&Cluster], replicas: &[Cluster], pipelines: u64) {
    let one = database(&shards[..1], SCHEMA);
    let two = database(shards, SCHEMA);
    // A server of its own: some of what is asked makes PostgreSQL itself fall over.
    let direct = own_servers(1);
    let direct = &direct[0];
    let plain = database(&[direct], SCHEMA);
    let endpoints: Vec<Vec<String>> = (0..shards.len())
        .map(|at| replicas.get(at).into_iter().chain([shards[at]]).map(Cluster::address).collect())
        .collect();
    let config = Config::new()
        .database_at(&one, &endpoints[..1])
        .database_at(&two, &endpoints)
        .set("pool", "size", "2")
        .set("routing", "reads", "\"prefer-replica\"");
    let proxy = Proxy::start(config);
    let mut watched: Vec<(Raw, Raw)> = (shards.iter().zip(replicas))
        .map(|(primary, replica)| {
            let login = |server: &Cluster| Raw::login(&server.address(), SUPERUSER, "postgres");
            (login(primary), login(replica))
        })
        .collect();
    // Before others are looked at, the replicas have what the servers have been told directly.
    let mut catch_up = || {
        for (primary, replica) in &mut watched {
            let position = primary.value("SELECT pg_current_wal_insert_lsn()");
            let question = format!("SELECT '{position}'::pg_lsn - pg_last_wal_replay_lsn() <= 40");
            eventually("a replica has caught up", || replica.value(&question) == "t");
        }
    };
    catch_up();
    if !replicas.is_empty() {
        eventually("reads are on replicas", || {
            [&one, &two].into_iter().all(|name| {
                let read = "SELECT pg_is_in_recovery() FROM t WHERE user_id = 4 LIMIT 1";
                Raw::login(&proxy.address(), APP, name).value(read) == "t"
            })
        });
    }
    // To look for more: PGRING_TEST_SEED=17 PGRING_TEST_PIPELINES=100000
    let (seed, count) = (number("PGRING_TEST_SEED", 1), number("PGRING_TEST_PIPELINES", pipelines));
    // Others leave their settings and statements on the servers.
    let mut noise: Vec<Raw> =
        [&one, &two].map(|name| Raw::login(&proxy.address(), APP, name)).into_iter().collect();
    for client in &mut noise {
        client.query("SET application_name = 'noise'; SET timezone = 'Asia/Tokyo'");
    }
    let mut wrong = Vec::new();
    let (mut answered, mut failed, mut refused, mut fell) = (0, 0, 0, 0);
    for seed in (seed..seed + count).chain(ONCE_WRONG) {
        let mut random = Random::from_seed(seed);
        let pipeline = Pipeline::random(&mut random);
        let reset = "TRUNCATE t; INSERT INTO t SELECT 4, 'row ' || n FROM generate_series(1, 5) n;";
        for (server, name) in [(shards[0], &one), (shards[0], &two), (direct, &plain)] {
            Raw::login(&server.address(), APP, name).query(reset);
        }
        catch_up();
        let ask = |address: &str, server: &Cluster, name: &str| {
            let mut client = Raw::login(address, APP, name);
            client.set_patience(Duration::from_secs(5));
            let first = answer(&mut client, &pipeline.bytes);
            if first.iter().any(|frame| frame.tag == CLOSED) {
                return (first, Vec::new());
            }
            // The same again meets what the first left, whoever was asked.
            let mut second = answer(&mut client, &pipeline.bytes);
            // And what is in the table in the end.
            if !second.iter().any(|frame| frame.tag == CLOSED) {
                second.extend(Raw::login(&server.address(), APP, name).query(TEXTS[0].0));
            }
            (first, second)
        };
        for client in &mut noise {
            client.send(&query("SELECT v FROM t WHERE user_id = 4"));
        }
        let expected = ask(&direct.address(), direct, &plain);
        answered += expected.0.iter().filter(|frame| frame.tag == b'C').count();
        failed += expected.0.iter().filter(|frame| frame.tag == b'E').count();
        for client in &mut noise {
            client.until(b'Z', 1);
        }
        if expected.0.iter().chain(&expected.1).any(|frame| frame.tag == CLOSED) {
            // It ran the shell of a portal whose Bind has failed, and that was its end.
            eventually("PostgreSQL is back", || direct.psql(APP, &plain, "SELECT 1").is_ok());
            fell += 1;
            continue;
        }
        let quirk = |frame: &Frame| frame.tag == b'I' || matches!(&*frame.code(), "42P03" | "01000");
        if expected.0.iter().chain(&expected.1).any(quirk) {
            // PostgreSQL runs the shell of a portal whose Bind has failed as if it were empty, and
            // keeps the portals of transactions' beginnings, which pgring answers itself.
            continue;
        }
        for name in [&one, &two] {
            let got = ask(&proxy.address(), shards[0], name);
            if name == &two && got.0.iter().chain(&got.1).any(|frame| frame.code() == "0A000") {
                // A batch that began on the other shard, with a statement that has none.
                refused += 1;
                continue;
            }
            if format!("{got:?}") != format!("{expected:?}") {
                wrong.push(format!(
                    "seed {}, on {}:\n{}\n{}",
                    seed,
                    if name == &one { "one shard" } else { "two shards" },
                    pipeline.words.join("; "),
                    difference(&expected, &got),
                ));
            }
        }
        if wrong.len() > 5 {
            break;
        }
    }
    println!("{answered} statements answered, {failed} errors, {refused} pipelines refused, {fell} too much");
    assert!(wrong.is_empty(), "{} pipelines were answered otherwise:\n\n{}", wrong.len(), wrong.join("\n\n"));
    assert!(answered > failed && (refused + fell) * 10 < count, "most pipelines were no use");
}

pub(super) fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |value| value.parse().expect("a number"))
}

/// Where two answers part.
pub(super) fn difference(expected: &(Vec<Frame>, Vec<Frame>), got: &(Vec<Frame>, Vec<Frame>)) -> String {
    for (round, (expected, got)) in [(&expected.0, &got.0), (&expected.1, &got.1)].into_iter().enumerate() {
        let same = expected.iter().zip(got.iter()).take_while(|(a, b)| format!("{a:?}") == format!("{b:?}"));
        let at = same.count();
        if at < expected.len().max(got.len()) {
            return format!(
                "round {round}, after {:?}\n  PostgreSQL: {:?}\n  pgring:     {:?}",
                &expected[at.saturating_sub(4)..at],
                &expected[at..expected.len().min(at + 4)],
                &got[at..got.len().min(at + 4)]
            );
        }
    }
    "nowhere".to_owned()
}
