//! `COPY` over three shards: rows, tags, errors and their lines are those of one PostgreSQL that
//! has it all.

use std::io::Write;
use std::sync::LazyLock;
use std::time::Duration;

use pgring::demo::cluster::{Cluster, SUPERUSER};
use pgring::demo::sample::APP;

use crate::support::raw::{self, Frame, Raw};
use crate::support::{self, Config, Proxy, eventually};

/// One table for each test, so that they can run at once.
const SCHEMA: &str = r#"
CREATE TABLE plans (id integer PRIMARY KEY, name text NOT NULL, since date, code integer DEFAULT 7);
DO $$
DECLARE t text;
BEGIN
    FOREACH t IN ARRAY ARRAY['good', 'bad', 'fails', 'refused', 'open', 'piped', 'gone', 'cut', 'slow',
                             'late', 'cancelled', 'driven', 'out', 'void'] LOOP
        EXECUTE format('CREATE TABLE %I (user_id bigint NOT NULL, n integer CHECK (n < 1000),
                        body text, price numeric(8, 2) DEFAULT 1.5)', t);
    END LOOP;
END
$$;
INSERT INTO good SELECT i, i % 7, repeat(chr(65 + i % 26), i % 5) || E'\t"\n\\,', i / 4.0
  FROM generate_series(-20, 60) i WHERE current_setting('demo.whole', true) = 'on';
CREATE TABLE made (LIKE good);
INSERT INTO made TABLE good;
"#;

struct Stage {
    proxy: Proxy,
    name: String,
    whole: String,
    servers: Vec<&'static Cluster>,
}

static SHARED: LazyLock<Stage> = LazyLock::new(|| Stage::new(Config::new()));

impl Stage {
    fn new(config: Config) -> Stage {
        let servers = support::servers(3);
        let name = support::database(&servers, SCHEMA);
        let whole = support::database(&servers[..1], &format!("SET demo.whole = 'on';{SCHEMA}"));
        let config = config.database(&name, &servers);
        Stage { proxy: Proxy::start(config), name, whole, servers }
    }

    fn session(&self) -> Raw {
        Raw::login(&self.proxy.address(), APP, &self.name)
    }

    /// On the server that has all rows.
    fn oracle(&self) -> Raw {
        Raw::login(&self.servers[0].address(), APP, &self.whole)
    }

    fn directly(&self, shard: usize, sql: &str) -> String {
        self.servers[shard].psql(SUPERUSER, &self.name, sql).unwrap().trim().to_owned()
    }

    /// How many rows of a table each shard has.
    fn counts(&self, table: &str) -> Vec<u64> {
        let count = format!("SELECT count(*) FROM {table}");
        (0..3).map(|shard| self.directly(shard, &count).parse().unwrap()).collect()
    }

    /// No `COPY` of this table is open on any shard.
    fn is_at_rest(&self, table: &str) -> bool {
        let open = format!(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = '{}' AND state <> 'idle' \
             AND query LIKE 'COPY {table} %'",
            self.name
        );
        (0..3).all(|shard| self.directly(shard, &open) == "0")
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Protocol {
    Simple,
    /// As libpq does it: everything at once, and a `Sync` more behind the data.
    Extended,
}

const BOTH: [Protocol; 2] = [Protocol::Simple, Protocol::Extended];

/// How the client's data end.
#[derive(Clone, Copy)]
enum Ending {
    Done,
    Fail,
}

impl Protocol {
    fn begin(self, sql: &str) -> Vec<u8> {
        match self {
            Protocol::Simple => raw::query(sql),
            Protocol::Extended => [
                raw::parse("", sql),
                raw::bind("", "", &[]),
                raw::describe('P', ""),
                raw::execute("", 0),
                raw::sync(),
            ]
            .concat(),
        }
    }

    fn end(self, ending: Ending) -> Vec<u8> {
        let mut end = match ending {
            Ending::Done => raw::copy_done(),
            Ending::Fail => raw::copy_fail("changed my mind"),
        };
        if self == Protocol::Extended {
            end.extend(raw::sync());
        }
        end
    }

    /// Copies in, in messages of this many bytes; the whole answer.
    fn copy_in(
        self,
        session: &mut Raw,
        sql: &str,
        data: &[u8],
        portion: usize,
        ending: Ending,
    ) -> Vec<Frame> {
        session.send(&self.begin(sql));
        let mut frames = Vec::new();
        loop {
            let frame = session.frame();
            let tag = frame.tag;
            frames.push(frame);
            match tag {
                b'G' => break,
                b'Z' | raw::CLOSED | raw::SILENCE => return frames,
                _ => {}
            }
        }
        let mut sent: Vec<u8> = data.chunks(portion).flat_map(raw::copy_data).collect();
        sent.extend(self.end(ending));
        session.send(&sent);
        frames.extend(session.until(b'Z', 1));
        frames
    }

    fn ask(self, session: &mut Raw, sql: &str) -> Vec<Frame> {
        session.send(&self.begin(sql));
        session.until(b'Z', 1)
    }
}

/// What matters of an answer, a line each. Of a place in the data only the line is compared.
fn told(frames: &[Frame]) -> String {
    let line = |frame: &Frame| match frame.tag {
        b'E' => {
            let context = frame.field(b'W').unwrap_or_default();
            let place = context.lines().last().unwrap_or_default();
            let place = place.split([':']).next().unwrap_or_default();
            let place = place.split(", column").next().unwrap_or_default();
            format!("E {} {} | {place}", frame.code(), frame.field(b'M').unwrap_or_default())
        }
        b'C' => format!("C {}", String::from_utf8_lossy(&frame.body).trim_end_matches('\0')),
        b'd' => format!("d {}", String::from_utf8_lossy(&frame.body)),
        tag => format!("{} {:?}", char::from(tag), frame.body),
    };
    frames.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// All rows of a table, in no order of the server's.
fn rows(session: &mut Raw, table: &str) -> Vec<Vec<String>> {
    let frames = session.query(&format!("SELECT user_id, n, body, price FROM {table}"));
    let mut rows: Vec<_> = frames.iter().filter(|frame| frame.tag == b'D').map(Frame::columns).collect();
    rows.sort();
    rows
}

/// The bytes of a `COPY … TO STDOUT`.
fn copied(frames: &[Frame]) -> Vec<u8> {
    frames.iter().filter(|frame| frame.tag == b'd').flat_map(|frame| frame.body.clone()).collect()
}

/// Runs it here and there, and compares answers and rows; the answer.
#[track_caller]
fn alike(table: &str, sql: &str, data: &[u8], ending: Ending) -> String {
    let mut last = String::new();
    for protocol in BOTH {
        for portion in [1, 13, usize::MAX] {
            let (mut here, mut there) = (SHARED.session(), SHARED.oracle());
            let clear = format!("DELETE FROM {table}");
            here.query(&clear);
            there.query(&clear);
            let found = told(&protocol.copy_in(&mut here, sql, data, portion, ending));
            let expected = told(&protocol.copy_in(&mut there, sql, data, portion, ending));
            assert_eq!(found, expected, "{sql} {protocol:?} {portion}\n{}", String::from_utf8_lossy(data));
            assert_eq!(rows(&mut here, table), rows(&mut there, table), "{sql} {protocol:?} {portion}");
            last = found;
        }
    }
    last
}

fn tagged(told: &str) -> &str {
    told.lines().find_map(|line| line.strip_prefix("C ")).unwrap_or(told)
}

#[test]
fn rows_come_to_their_owners_in_every_format() {
    let formats = [
        "",
        "(FORMAT csv)",
        "(FORMAT binary)",
        "(FORMAT csv, HEADER, QUOTE '~', DELIMITER ';', NULL 'nil')",
        "(DELIMITER '|', NULL '', HEADER match)",
        "CSV HEADER FORCE QUOTE *",
    ];
    let mut oracle = SHARED.oracle();
    for format in formats {
        let out = if format.contains("match") { "(DELIMITER '|', NULL '', HEADER)" } else { format };
        let into = format.replace(" FORCE QUOTE *", "");
        let data = copied(&oracle.query(&format!("COPY made TO STDOUT {out}")));
        assert!(data.len() > 1000, "{format}");
        let told = alike("good", &format!("COPY good FROM STDIN {into}"), &data, Ending::Done);
        assert_eq!(tagged(&told), "COPY 81", "{format}");
        let counts = SHARED.counts("good");
        assert!(counts.iter().all(|count| *count > 0), "{counts:?}");
        for shard in 0..3 {
            // The router finds each row where it is.
            let id = SHARED.directly(shard, "SELECT max(user_id) FROM good");
            let found = SHARED.session().value(&format!("SELECT count(*) FROM good WHERE user_id = {id}"));
            assert_eq!(found, "1");
        }
    }
}

#[test]
fn columns_conditions_and_ends_are_read_as_by_one_server() {
    let cases: &[(&str, &str, &str)] = &[
        ("COPY good (n, user_id) FROM STDIN", "1\t5\n2\t6\n3\t7\n", "COPY 3"),
        ("COPY good (n, user_id) FROM STDIN", "1\t5\n2\t6\n3\t7", "COPY 3"),
        ("COPY good (n, user_id) FROM STDIN", "1\t5\r\n2\t6\r\n\\.\r\n", "COPY 2"),
        ("COPY good (user_id) FROM STDIN WHERE user_id > 5", "4\n5\n6\n7\n", "COPY 2"),
        ("COPY good (user_id, body) FROM STDIN", "1\ta\\\nb\n2\t\\x41\\101\\N\n3\t\\N\n", "COPY 3"),
        ("COPY good (body, user_id) FROM STDIN CSV", "\"a\n\"\"b\",1\n,2\n\"\",3\n", "COPY 3"),
        ("COPY good (body, user_id) FROM STDIN CSV HEADER", "x,y\n", "COPY 0"),
        ("COPY good FROM STDIN", "", "COPY 0"),
        ("copy public.good(user_id) from stdin with (format 'csv')", " 12 \n\"13\"\n", "COPY 2"),
    ];
    // Not beside the test that has all rows in the same table.
    for (sql, data, tag) in cases {
        let sql = sql.replace("good", "void");
        assert_eq!(tagged(&alike("void", &sql, data.as_bytes(), Ending::Done)), *tag, "{sql}");
    }
}

#[test]
fn an_error_on_any_line_is_told_with_the_clients_line_and_undoes_all() {
    let line = |id: usize| format!("{id}\t{id}\tone\\\ntwo\t1\n");
    for at in 0..9 {
        for broken in
            ["7\t1000\tx\t1\n", "7\tseven\tx\t1\n", "7\t1\tx\n", "7\t1\tx\t1\t1\n", "7\t1\tx\t1234567\n"]
        {
            let data: String =
                (0..9).map(|id| if id == at { broken.to_owned() } else { line(id * 31) }).collect();
            let (mut here, mut there) = (SHARED.session(), SHARED.oracle());
            let sql = "COPY bad FROM STDIN";
            let protocol = BOTH[at % 2];
            let found = told(&protocol.copy_in(&mut here, sql, data.as_bytes(), 20, Ending::Done));
            let expected = told(&protocol.copy_in(&mut there, sql, data.as_bytes(), 20, Ending::Done));
            assert_eq!(found, expected, "{data}");
            assert!(found.contains(&format!("COPY bad, line {}", at + 1)), "{found}");
            assert_eq!(here.value("SELECT 1"), "1");
        }
    }
    assert_eq!(SHARED.counts("bad"), [0, 0, 0]);
    let csv = "h\n1,1,\"a\nb\",1\n2,2,\"c\n\nd\",1\n3,x,,\n";
    let told = alike("bad", "COPY bad FROM STDIN (FORMAT csv, HEADER)", csv.as_bytes(), Ending::Done);
    assert!(told.contains("COPY bad, line 7"), "{told}");
}

#[test]
fn a_client_that_fails_its_copy_leaves_nothing() {
    for data in ["", "1\n2\n3\n", "1\n2\n3"] {
        let told = alike("fails", "COPY fails (user_id) FROM STDIN", data.as_bytes(), Ending::Fail);
        assert!(told.contains("COPY from stdin failed: changed my mind"), "{told}");
    }
    assert_eq!(SHARED.counts("fails"), [0, 0, 0]);
    // What PostgreSQL finds out before it asks for data.
    for sql in ["COPY fails (user_id, x) FROM STDIN", "COPY fails FROM STDIN (HEADER, HEADER)"] {
        alike("fails", sql, b"1\n", Ending::Done);
    }
}

#[test]
fn what_has_no_owner_is_refused_with_its_line() {
    let cases: &[(&str, &str, &str, &str)] = &[
        ("(user_id)", "1\n2\n\\N\n4\n", "cannot be NULL", "COPY refused, line 3"),
        ("(user_id)", "1\n0x10\n", "cannot be read", "COPY refused, line 2"),
        ("(n)", "1\n", "does not give its key", ""),
    ];
    for (columns, data, words, place) in cases {
        for protocol in BOTH {
            let mut session = SHARED.session();
            let sql = format!("COPY refused {columns} FROM STDIN");
            let frames = protocol.copy_in(&mut session, &sql, data.as_bytes(), 3, Ending::Done);
            let error = frames.iter().find(|frame| frame.tag == b'E').unwrap();
            assert_eq!(error.code(), "0A000", "{error:?}");
            assert!(error.field(b'M').unwrap().contains(words), "{error:?}");
            assert_eq!(error.field(b'W').unwrap_or_default(), *place);
            assert_eq!(frames.iter().filter(|frame| frame.tag == b'Z').count(), 1);
            assert_eq!(session.value("SELECT 1"), "1");
        }
    }
    for sql in [
        "COPY refused FROM STDIN (ON_ERROR ignore)",
        "/* pgring: shard=all */ COPY refused FROM STDIN",
        "COPY refused FROM '/etc/passwd'",
        "COPY (DELETE FROM refused RETURNING n) TO STDOUT",
    ] {
        let frames = SHARED.session().query(sql);
        assert_eq!(frames[0].tag, b'E', "{sql}");
        assert_eq!(frames[0].code(), "0A000", "{sql}");
    }
    assert_eq!(SHARED.counts("refused"), [0, 0, 0]);
}

#[test]
fn within_a_transaction_it_is_a_part_of_it() {
    for protocol in BOTH {
        let mut session = SHARED.session();
        let copy = |session: &mut Raw, data: &str| {
            let sql = "COPY open (user_id) FROM STDIN";
            told(&protocol.copy_in(session, sql, data.as_bytes(), 100, Ending::Done))
        };
        session.query("BEGIN");
        session.query("INSERT INTO open (user_id) VALUES (1)");
        let told = copy(&mut session, "2\n3\n4\n5\n6\n");
        assert!(told.ends_with(&format!("C COPY 5\nZ [{}]", b'T')), "{told}");
        assert_eq!(session.value("SELECT count(*) FROM open"), "6");
        assert_eq!(SHARED.counts("open"), [0, 0, 0]);
        session.query("ROLLBACK");
        assert_eq!(session.value("SELECT count(*) FROM open"), "0");

        session.query("BEGIN");
        let told = copy(&mut session, "2\n3\nx\n5\n6\n");
        assert!(told.ends_with(&format!("Z [{}]", b'E')), "{told}");
        assert_eq!(session.query("SELECT count(*) FROM open")[0].code(), "25P02");
        session.query("COMMIT");
        assert_eq!(SHARED.counts("open"), [0, 0, 0]);

        session.query("BEGIN");
        copy(&mut session, "2\n3\n4\n");
        session.query("SAVEPOINT s");
        copy(&mut session, "5\n6\n7\n\\N\n");
        session.query("ROLLBACK TO s");
        copy(&mut session, "8\n9\n");
        session.query("COMMIT");
        assert_eq!(SHARED.counts("open").iter().sum::<u64>(), 5);
        session.query("DELETE FROM open");
    }
}

#[test]
fn what_follows_a_copy_that_has_failed_is_ignored_up_to_the_sync() {
    let mut session = SHARED.session();
    let sql = "COPY piped (user_id) FROM STDIN";
    // A Sync that was sent before the data does not count, nor does a Flush.
    session.send(&[raw::run(sql, &[]), raw::sync(), raw::flush()].concat());
    session.until(b'G', 1);
    session.send(&[raw::copy_data(b"4\n5\n6\n"), raw::copy_done()].concat());
    assert_eq!(session.until(b'C', 1).len(), 1);
    assert_eq!(SHARED.counts("piped"), [0, 0, 0]);
    session.send(&raw::sync());
    session.until(b'Z', 1);
    assert_eq!(SHARED.counts("piped").iter().sum::<u64>(), 3);
    session.query("DELETE FROM piped");
    session.send(&raw::run(sql, &[]));
    session.send(&raw::flush());
    session.until(b'G', 1);
    session.send(&[raw::copy_data(b"4\n\\N\n"), raw::copy_data(&[b'7'; 100_000]), raw::copy_done()].concat());
    session.send(&[raw::run("INSERT INTO piped (user_id) VALUES (1)", &[]), raw::sync()].concat());
    let tags: Vec<u8> = session.until(b'Z', 1).iter().map(|frame| frame.tag).collect();
    assert_eq!(tags, b"EZ");
    assert_eq!(SHARED.counts("piped"), [0, 0, 0]);
}

#[test]
fn a_client_that_is_gone_leaves_nothing() {
    for last in
        [raw::copy_data(b"7\n8\n9\n"), raw::copy_data(b"7\n8\n9\n")[..7].to_vec(), raw::message(b'X', &[])]
    {
        let mut session = SHARED.session();
        session.send(&raw::query("COPY gone (user_id) FROM STDIN"));
        session.until(b'G', 1);
        session.send(&[raw::copy_data(b"1\n2\n3\n4\n5\n6\n"), last].concat());
        drop(session);
    }
    eventually("nothing is open", || SHARED.is_at_rest("gone"));
    assert_eq!(SHARED.counts("gone"), [0, 0, 0]);
}

#[test]
fn a_server_that_is_lost_undoes_it_everywhere() {
    let mut session = SHARED.session();
    session.send(&raw::query("COPY cut (user_id) FROM STDIN"));
    session.until(b'G', 1);
    session.send(&raw::copy_data(b"1\n2\n3\n4\n5\n6\n7\n8\n"));
    let end = format!(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
         WHERE datname = '{}' AND query LIKE 'COPY cut %'",
        SHARED.name
    );
    eventually("the COPY is ended", || SHARED.directly(1, &end) == "1");
    session.send(&[raw::copy_data(b"9\n"), raw::copy_done()].concat());
    let frames = session.until(b'Z', 1);
    let code = frames.iter().find(|frame| frame.tag == b'E').unwrap().code();
    assert!(["57P01", "08006"].contains(&code.as_str()), "{frames:?}");
    assert_eq!(SHARED.counts("cut"), [0, 0, 0]);
    assert_eq!(session.value("SELECT count(*) FROM cut"), "0");
}

#[test]
fn a_cancel_reaches_every_shard() {
    let mut session = SHARED.session();
    session.send(&raw::query("COPY cancelled (user_id) FROM STDIN"));
    session.until(b'G', 1);
    session.send(&raw::copy_data(b"1\n2\n3\n4\n5\n6\n7\n8\n"));
    let mut other = Raw::tcp(&SHARED.proxy.address());
    other.send(&raw::cancel_request(session.pid, &session.secret));
    other.rest();
    // A server that waits for data notices when they come.
    let more: String = (0..20_000).map(|id| format!("{id}\n")).collect();
    session.send(&[raw::copy_data(more.as_bytes()), raw::copy_done()].concat());
    let frames = session.until(b'Z', 1);
    assert_eq!(frames[0].code(), "57014", "{frames:?}");
    assert_eq!(SHARED.counts("cancelled"), [0, 0, 0]);
    assert_eq!(session.value("SELECT 1"), "1");
}

#[test]
fn a_copy_that_takes_too_long_is_ended() {
    let stage = Stage::new(Config::new().set("pool", "query_timeout", "\"700ms\""));
    let mut session = stage.session();
    // The limit is each statement's own.
    session.query("SELECT count(*) FROM late");
    std::thread::sleep(Duration::from_millis(800));
    for protocol in BOTH {
        session.send(&protocol.begin("COPY late (user_id) FROM STDIN"));
        session.until(b'G', 1);
        session.send(&raw::copy_data(b"1\n2\n3\n4\n5\n6\n7\n8\n"));
        let frame = session.frame();
        assert_eq!((frame.tag, frame.code().as_str()), (b'E', "57014"));
        session.send(&protocol.end(Ending::Done));
        session.until(b'Z', 1);
        assert_eq!(session.value("SELECT count(*) FROM late"), "0");
    }
}

#[test]
fn a_slow_shard_stops_the_client() {
    let wait = "CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS \
                $$ BEGIN PERFORM pg_advisory_xact_lock(77); RETURN new; END $$; \
                CREATE TRIGGER wait BEFORE INSERT ON slow FOR EACH ROW EXECUTE FUNCTION wait();";
    SHARED.directly(1, wait);
    let mut gate = Raw::login(&SHARED.servers[1].address(), APP, &SHARED.name);
    gate.query("SELECT pg_advisory_lock(77)");
    let mut session = SHARED.session();
    session.send(&raw::query("COPY slow (user_id, body) FROM STDIN"));
    session.until(b'G', 1);
    let body = "x".repeat(1000);
    let rows: String = (0..60_000).map(|id| format!("{id}\t{body}\n")).collect();
    let writer = session.writer();
    let sending = std::thread::spawn(move || {
        let mut sent: Vec<u8> = rows.as_bytes().chunks(8000).flat_map(raw::copy_data).collect();
        sent.extend(raw::copy_done());
        (&writer).write_all(&sent).unwrap();
    });
    std::thread::sleep(Duration::from_millis(800));
    assert!(!sending.is_finished(), "60 MB were taken that a shard does not take");
    gate.query("SELECT pg_advisory_unlock(77)");
    session.set_patience(Duration::from_secs(60));
    let frames = session.until(b'Z', 1);
    sending.join().unwrap();
    assert_eq!(tagged(&told(&frames)), "COPY 60000");
    assert_eq!(SHARED.counts("slow").iter().sum::<u64>(), 60_000);
}

#[test]
fn a_reference_table_gets_the_same_rows_everywhere() {
    for protocol in BOTH {
        let mut session = SHARED.session();
        session.query("DELETE FROM plans");
        let mut copy = |sql: &str, data: &str| {
            told(&protocol.copy_in(&mut session, sql, data.as_bytes(), 5, Ending::Done))
        };
        let into = "COPY plans (id, name, since) FROM STDIN";
        assert_eq!(tagged(&copy(into, "1\tfree\t2020-01-01\n2\tpro\t\\N\n")), "COPY 2");
        let told = copy(into, "3\tteam\t2020-01-01\n2\tpro\t\\N\n");
        assert!(told.contains("E 23505") && told.contains("COPY plans, line 2"), "{told}");
        let told = copy(into, "4\tteam\tnow\n");
        assert!(told.contains("E 0A000"), "{told}");
        let all = "SELECT string_agg(plans::text, ' ' ORDER BY id) FROM plans";
        for shard in 0..3 {
            assert_eq!(SHARED.directly(shard, all), "(1,free,2020-01-01,7) (2,pro,,7)");
        }
        let frames = session.query("COPY plans TO STDOUT");
        assert_eq!(copied(&frames), b"1\tfree\t2020-01-01\t7\n2\tpro\t\\N\t7\n");
    }
}

#[test]
fn what_is_copied_out_is_one_stream() {
    let mut oracle = SHARED.oracle();
    let data = copied(&oracle.query("COPY made TO STDOUT"));
    let mut session = SHARED.session();
    oracle.query("DELETE FROM out");
    Protocol::Simple.copy_in(&mut oracle, "COPY out FROM STDIN", &data, 1000, Ending::Done);
    Protocol::Simple.copy_in(&mut session, "COPY out FROM STDIN", &data, 1000, Ending::Done);
    // Whether the rows come in order.
    let cases: &[(&str, bool)] = &[
        ("COPY out TO STDOUT", false),
        ("COPY out (n, body) TO STDOUT (FORMAT csv, HEADER)", false),
        ("COPY out TO STDOUT (FORMAT binary)", false),
        ("COPY out TO STDOUT CSV HEADER FORCE QUOTE *", false),
        ("COPY void TO STDOUT (FORMAT csv, HEADER)", true),
        ("COPY void TO STDOUT (FORMAT binary)", true),
        ("COPY void TO STDOUT", true),
        ("COPY (SELECT n, user_id FROM out WHERE n > 3) TO STDOUT (HEADER)", false),
        ("COPY (SELECT * FROM out WHERE user_id IN (1, 2, 3, 4, 5, 6)) TO STDOUT", false),
        ("COPY (SELECT * FROM out ORDER BY user_id DESC) TO STDOUT (FORMAT csv, HEADER)", true),
        ("COPY (SELECT user_id FROM out ORDER BY 1 LIMIT 3 OFFSET 2) TO STDOUT (FORMAT binary)", true),
        ("COPY (SELECT n, count(*), avg(price) FROM out GROUP BY n ORDER BY n) TO STDOUT CSV HEADER", true),
        ("copy ( /* all */ select count(*) from out -- them\n) to stdout", true),
        (
            "COPY (SELECT a.user_id, b.user_id FROM out a JOIN out b ON a.user_id = b.user_id + 1 \
          ORDER BY 1) TO STDOUT;",
            true,
        ),
        ("COPY (SELECT x FROM out) TO STDOUT", true),
        ("COPY (SELECT user_id, x FROM out ORDER BY 1) TO STDOUT", true),
        ("COPY (SELECT 1 / (user_id - user_id) FROM out) TO STDOUT", true),
    ];
    for (sql, ordered) in cases {
        for protocol in BOTH {
            let mut found = protocol.ask(&mut session, sql);
            let mut expected = protocol.ask(&mut oracle, sql);
            if found.iter().any(|frame| frame.tag == b'E') {
                let positions = |frames: &[Frame]| frames.iter().find_map(|frame| frame.field(b'P'));
                assert_eq!(positions(&found), positions(&expected), "{sql}");
                // Whether rows have come before it is nobody's business.
                found.retain(|frame| b"EZ".contains(&frame.tag));
                expected.retain(|frame| b"EZ".contains(&frame.tag));
            }
            if !ordered {
                // The header keeps its place.
                let head = usize::from(sql.contains("HEADER")) + usize::from(sql.contains("binary"));
                for frames in [&mut found, &mut expected] {
                    let first = frames.iter().position(|frame| frame.tag == b'd').unwrap();
                    let last = frames.iter().rposition(|frame| frame.tag == b'd').unwrap();
                    let binary = usize::from(sql.contains("binary"));
                    let rows = &mut frames[first + head - binary..=last - binary];
                    if binary == 1 {
                        // The header stands before the first row, in one message.
                        let header = rows[0].body.drain(..19).collect::<Vec<u8>>();
                        assert!(header.starts_with(b"PGCOPY\n\xff\r\n\0"));
                    }
                    rows.sort_by(|one, other| one.body.cmp(&other.body));
                }
            }
            let tags =
                |frames: &[Frame]| frames.iter().map(|frame| char::from(frame.tag)).collect::<String>();
            if sql.contains("binary") {
                assert_eq!(copied(&found), copied(&expected), "{sql} {protocol:?}");
            } else {
                assert_eq!(tags(&found), tags(&expected), "{sql} {protocol:?}");
            }
            let said = |frames: &[Frame]| {
                let others: Vec<String> = frames
                    .iter()
                    .filter(|frame| !(frame.tag == b'd' && sql.contains("binary")))
                    .map(|frame| told(std::slice::from_ref(frame)))
                    .collect();
                others.join("\n")
            };
            assert_eq!(said(&found), said(&expected), "{sql} {protocol:?}");
        }
    }
    session.query("BEGIN");
    session.query("DELETE FROM out WHERE user_id > 0");
    let left = copied(&session.query("COPY (SELECT count(*) FROM out) TO STDOUT"));
    assert_eq!(left, b"21\n");
    session.query("ROLLBACK");
}

#[test]
fn psycopg_copies_as_it_does_with_one_server() {
    let dsn = SHARED.proxy.dsn(APP, &SHARED.name);
    assert_eq!(support::python("distributed/psycopg_copy.py", &[&dsn]).expect_ok().trim(), "ok");
}
