//! What a server answers, byte by byte, in each of the ways a statement can be sent.

use std::fmt;

use pgring::demo::cluster::Login;

use super::statement::Statement;
use crate::support::raw::{self, CLOSED, Frame, Raw, SILENCE};

/// Types from here on are users' own; their numbers differ from database to database.
const FIRST_OF_USERS: u32 = 16384;
/// `record` and `regclass`: their binary forms hold numbers of types and tables.
const WITH_NUMBERS: [u32; 2] = [2249, 2205];

/// How a statement is sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Mode {
    Simple,
    /// Parse, Describe, Bind, Execute; all as text.
    Text,
    /// The same, all as binary.
    Binary,
    /// The same, some rows at a time.
    Portal,
    /// `DECLARE`, `FETCH`, `FETCH` in a transaction.
    Cursor,
    /// Simple, in a transaction that has written before.
    Inside,
}

/// A transaction's own writes, of one user each.
const WRITES: [&str; 4] = [
    "UPDATE jobs SET priority = priority + 100, name = 'changed' WHERE user_id = 3",
    "DELETE FROM readings WHERE user_id = 4",
    "INSERT INTO notifications (id, user_id, message, created_at) VALUES (910001, 5, 'new', '2025-05-05')",
    "UPDATE users SET name = 'Zoe Zero', plan_id = 3 WHERE id = 6",
];

/// A column as it is described.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Column {
    pub(crate) name: String,
    /// 0 for any type of users' own.
    pub(crate) oid: u32,
    size: i16,
    modifier: i32,
    pub(crate) binary: bool,
}

pub(crate) type Row = Vec<Option<Vec<u8>>>;

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Failure {
    pub(crate) code: String,
    pub(crate) message: String,
    pub(crate) hint: String,
}

/// What came.
#[derive(Clone, PartialEq, Eq, Default)]
pub(crate) struct Answer {
    pub(crate) columns: Vec<Column>,
    pub(crate) rows: Vec<Row>,
    pub(crate) tags: Vec<String>,
    pub(crate) failure: Option<Failure>,
}

impl Answer {
    /// pgring's own refusal: it says what to do instead.
    pub(crate) fn is_refusal(&self) -> bool {
        self.failure.as_ref().is_some_and(|failure| failure.code == "0A000" && !failure.hint.is_empty())
    }

    fn of(frames: &[Frame]) -> Answer {
        let mut answer = Answer::default();
        frames.iter().for_each(|frame| answer.add(frame));
        answer
    }

    fn add(&mut self, frame: &Frame) {
        match frame.tag {
            b'T' => self.columns = columns(frame),
            b'D' => self.rows.push(row(frame)),
            b'C' => self.tags.push(String::from_utf8_lossy(&frame.body).trim_end_matches('\0').to_owned()),
            b'E' if self.failure.is_none() => {
                let field = |field| frame.field(field).unwrap_or_default();
                self.failure = Some(Failure { code: field(b'C'), message: field(b'M'), hint: field(b'H') });
            }
            CLOSED | SILENCE => {
                let code = if frame.tag == CLOSED { "closed" } else { "silence" };
                self.failure =
                    Some(Failure { code: code.to_owned(), message: String::new(), hint: String::new() });
            }
            _ => {}
        }
    }
}

/// The value as it is to be read; binary ones in hexadecimal.
pub(crate) fn shown(column: Option<&Column>, value: Option<&[u8]>) -> String {
    match value {
        None => "NULL".to_owned(),
        Some(bytes) if column.is_some_and(|column| column.binary) => {
            let text = matches!(column.map(|column| column.oid), Some(25 | 1043 | 19 | 1042));
            if text { String::from_utf8_lossy(bytes).into_owned() } else { format!("\\x{}", hex(bytes)) }
        }
        Some(bytes) => String::from_utf8_lossy(bytes).into_owned(),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(Failure { code, message, hint }) = &self.failure {
            return write!(f, "{code} {message} ({hint})");
        }
        let names: Vec<String> =
            self.columns.iter().map(|column| format!("{} {}", column.name, column.oid)).collect();
        write!(f, "{} [{}]", self.tags.join(", "), names.join(", "))?;
        for row in self.rows.iter().take(12) {
            let values: Vec<String> = row
                .iter()
                .enumerate()
                .map(|(at, value)| shown(self.columns.get(at), value.as_deref()))
                .collect();
            write!(f, "\n      {}", values.join(" | "))?;
        }
        if self.rows.len() > 12 {
            write!(f, "\n      … {} rows", self.rows.len())?;
        }
        Ok(())
    }
}

fn columns(frame: &Frame) -> Vec<Column> {
    let mut rest = &frame.body[2..];
    let mut columns = Vec::new();
    while let Some(end) = rest.iter().position(|byte| *byte == 0) {
        let (name, numbers) = rest.split_at(end);
        let oid = u32::from_be_bytes(numbers[7..11].try_into().unwrap());
        columns.push(Column {
            name: String::from_utf8_lossy(name).into_owned(),
            oid: if oid < FIRST_OF_USERS { oid } else { 0 },
            size: i16::from_be_bytes(numbers[11..13].try_into().unwrap()),
            modifier: i32::from_be_bytes(numbers[13..17].try_into().unwrap()),
            binary: numbers[18] == 1,
        });
        rest = &numbers[19..];
    }
    columns
}

fn row(frame: &Frame) -> Row {
    let mut rest = &frame.body[2..];
    let mut row = Vec::new();
    while let Some((len, tail)) = rest.split_first_chunk::<4>() {
        let value = usize::try_from(i32::from_be_bytes(*len)).ok();
        row.push(value.map(|len| tail[..len].to_vec()));
        rest = &tail[value.unwrap_or(0)..];
    }
    row
}

/// A session that is opened again when it has been lost.
pub(crate) struct Session {
    address: String,
    login: Login<'static>,
    database: String,
    raw: Option<Raw>,
}

impl Session {
    pub(crate) fn new(address: String, login: Login<'static>, database: &str) -> Session {
        Session { address, login, database: database.to_owned(), raw: None }
    }

    fn raw(&mut self) -> &mut Raw {
        let Session { address, login, database, raw } = self;
        raw.get_or_insert_with(|| Raw::login(address, *login, database))
    }

    /// Sends messages; what comes up to the `ReadyForQuery`.
    fn talk(&mut self, messages: &[u8]) -> Vec<Frame> {
        // One that has hung up is heard of on reading.
        let _ = self.raw().try_send(messages);
        let frames = self.raw().until(b'Z', 1);
        if frames.last().is_none_or(|last| last.tag != b'Z') {
            self.raw = None;
        }
        frames
    }

    /// A text under the simple protocol.
    pub(crate) fn query(&mut self, text: &str) -> Answer {
        Answer::of(&self.talk(&raw::query(text)))
    }

    /// The same; panics if it fails.
    #[track_caller]
    pub(crate) fn must(&mut self, text: &str) -> Answer {
        let answer = self.query(text);
        assert!(answer.failure.is_none(), "{text}: {answer:?}");
        answer
    }

    pub(crate) fn ask(&mut self, statement: &Statement, mode: Mode) -> Answer {
        match mode {
            Mode::Simple => self.query(&statement.simple),
            Mode::Text | Mode::Binary | Mode::Portal => self.extended(statement, mode),
            Mode::Cursor => self.cursor(&statement.simple),
            Mode::Inside => {
                self.must("BEGIN");
                let refused = WRITES.iter().map(|write| self.query(write)).find(Answer::is_refusal);
                let answer = refused.unwrap_or_else(|| self.query(&statement.simple));
                self.query("ROLLBACK");
                answer
            }
        }
    }

    fn cursor(&mut self, text: &str) -> Answer {
        self.must("BEGIN");
        let mut answer = self.query(&format!("DECLARE pieces NO SCROLL CURSOR FOR {text}"));
        for fetch in
            ["FETCH 3 FROM pieces", "FETCH FORWARD 5 FROM pieces", "FETCH ALL FROM pieces", "CLOSE pieces"]
        {
            if answer.failure.is_some() {
                break;
            }
            let piece = self.query(fetch);
            answer.tags.extend(piece.tags);
            answer.rows.extend(piece.rows);
            answer.failure = piece.failure;
            if !piece.columns.is_empty() {
                answer.columns = piece.columns;
            }
        }
        self.query("ROLLBACK");
        answer
    }

    fn extended(&mut self, statement: &Statement, mode: Mode) -> Answer {
        let prepare = [raw::parse("", &statement.extended), raw::describe('S', ""), raw::sync()].concat();
        let frames = self.talk(&prepare);
        let mut answer = Answer::of(&frames);
        if answer.failure.is_some() {
            return answer;
        }
        let types: Vec<u32> = frames
            .iter()
            .filter(|frame| frame.tag == b't')
            .flat_map(|frame| frame.body[2..].chunks(4))
            .map(|oid| u32::from_be_bytes(oid.try_into().unwrap()))
            .collect();
        let bind = bind(statement, &types, &mut answer.columns, mode == Mode::Binary);
        if mode != Mode::Portal {
            let frames = self.talk(&[bind, raw::execute("", 0), raw::sync()].concat());
            frames.iter().for_each(|frame| answer.add(frame));
            return answer;
        }
        let mut messages = [bind, raw::execute("", 7), raw::flush()].concat();
        let mut most = 7;
        loop {
            let _ = self.raw().try_send(&messages);
            let ended = loop {
                let frame = self.raw().frame();
                answer.add(&frame);
                match frame.tag {
                    b's' => break false,
                    b'C' | b'E' | b'I' | CLOSED | SILENCE => break true,
                    _ => {}
                }
            };
            if ended {
                break;
            }
            most *= 3;
            messages = [raw::execute("", most), raw::flush()].concat();
        }
        let frames = self.talk(&raw::sync());
        if frames.last().is_none_or(|last| last.tag != b'Z') {
            answer.add(&Frame { tag: CLOSED, body: Vec::new() });
        }
        answer
    }
}

/// `Bind`; in binary what both sides know the binary form of. The columns learn their formats.
fn bind(statement: &Statement, types: &[u32], columns: &mut [Column], binary: bool) -> Vec<u8> {
    let short = |number: usize| u16::try_from(number).unwrap().to_be_bytes();
    let values: Vec<(bool, Option<Vec<u8>>)> = statement
        .values
        .iter()
        .zip(types.iter().copied().chain(std::iter::repeat(0)))
        .map(|(value, oid)| match value {
            None => (binary, None),
            Some(text) => match encoded(text, oid).filter(|_| binary) {
                Some(bytes) => (true, Some(bytes)),
                None => (false, Some(text.clone().into_bytes())),
            },
        })
        .collect();
    let mut body = vec![0, 0];
    body.extend(short(values.len()));
    values.iter().for_each(|(binary, _)| body.extend(short(usize::from(*binary))));
    body.extend(short(values.len()));
    for (_, value) in &values {
        match value {
            None => body.extend((-1_i32).to_be_bytes()),
            Some(bytes) => {
                body.extend(u32::try_from(bytes.len()).unwrap().to_be_bytes());
                body.extend(bytes);
            }
        }
    }
    body.extend(short(columns.len()));
    for column in columns {
        column.binary = binary && column.oid != 0 && !WITH_NUMBERS.contains(&column.oid);
        body.extend(short(usize::from(column.binary)));
    }
    raw::message(b'B', &[&body])
}

fn encoded(text: &str, oid: u32) -> Option<Vec<u8>> {
    match oid {
        20 => Some(text.parse::<i64>().ok()?.to_be_bytes().into()),
        21 => Some(text.parse::<i16>().ok()?.to_be_bytes().into()),
        23 => Some(text.parse::<i32>().ok()?.to_be_bytes().into()),
        16 => Some(vec![u8::from(text == "true")]),
        701 => Some(text.parse::<f64>().ok()?.to_be_bytes().into()),
        25 | 1043 => Some(text.to_owned().into_bytes()),
        _ => None,
    }
}
