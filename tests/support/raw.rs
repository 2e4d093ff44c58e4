//! A client that speaks the protocol byte by byte, for what no driver would send.
//!
//! It never fails while reading: a closed connection and a silence are frames too, so that a
//! conversation can be compared as a whole.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use pgring::demo::cluster::Login;
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{ChannelBinding, SCRAM_SHA_256, ScramSha256};

/// Longer than any answer takes; what has not come by then will not come.
const PATIENCE: Duration = Duration::from_secs(20);

/// Protocol versions, as in a start-up packet.
pub(crate) const V3_0: u32 = 0x0003_0000;
pub(crate) const V3_2: u32 = 0x0003_0002;

/// The connection has been closed.
pub(crate) const CLOSED: u8 = b'!';
/// Nothing came for too long.
pub(crate) const SILENCE: u8 = b'?';

/// One message of a server.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) tag: u8,
    pub(crate) body: Vec<u8>,
}

impl Frame {
    /// A field of an error or notice.
    pub(crate) fn field(&self, field: u8) -> Option<String> {
        let fields = self.body.split(|byte| *byte == 0);
        let mut found = fields.filter_map(|text| text.split_first()).filter(|(tag, _)| **tag == field);
        found.next().map(|(_, text)| String::from_utf8_lossy(text).into_owned())
    }

    /// The SQLSTATE of an error or notice.
    pub(crate) fn code(&self) -> String {
        self.field(b'C').unwrap_or_default()
    }

    /// The names of a row description.
    pub(crate) fn names(&self) -> Vec<String> {
        self.fields().iter().filter_map(|field| Some(field.rsplit_once(" [")?.0.to_owned())).collect()
    }

    /// The fields of a row description: name, type, format. (Where they come from differs from
    /// database to database.)
    fn fields(&self) -> Vec<String> {
        let mut rest = &self.body[2..];
        let mut fields = Vec::new();
        while let Some(end) = rest.iter().position(|byte| *byte == 0) {
            let (name, numbers) = rest.split_at(end);
            fields.push(format!("{} {:?}", name.escape_ascii(), &numbers[5..19]));
            rest = &numbers[19..];
        }
        fields
    }

    /// The columns of a row, as text.
    pub(crate) fn columns(&self) -> Vec<String> {
        let mut rest = &self.body[2..];
        let mut columns = Vec::new();
        while let Some((len, tail)) = rest.split_first_chunk::<4>() {
            let len = usize::try_from(i32::from_be_bytes(*len)).unwrap_or(0);
            columns.push(String::from_utf8_lossy(&tail[..len]).into_owned());
            rest = &tail[len..];
        }
        columns
    }
}

impl std::fmt::Debug for Frame {
    /// What a comparison goes by: everything but where in its sources PostgreSQL raised an error.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let tag = char::from(self.tag);
        match self.tag {
            CLOSED => write!(f, "closed"),
            SILENCE => write!(f, "SILENCE"),
            b'E' | b'N' => {
                write!(f, "{tag}")?;
                for field in b"SCMDHPW" {
                    if let Some(text) = self.field(*field) {
                        write!(f, " {}={text:?}", char::from(*field))?;
                    }
                }
                Ok(())
            }
            b'T' => write!(f, "T {:?}", self.fields()),
            b'D' if self.body.len() < 1000 => write!(f, "D {:?}", self.columns()),
            _ if self.body.len() > 1000 => write!(f, "{tag} of {} bytes", self.body.len()),
            _ => write!(f, "{tag} {}", self.body.escape_ascii()),
        }
    }
}

enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// One connection. Frames are read as they are asked for.
pub(crate) struct Raw {
    socket: Socket,
    inbox: Vec<u8>,
    start: usize,
    /// What it was told on start-up.
    pub(crate) parameters: Vec<(String, String)>,
    /// Its cancel key.
    pub(crate) pid: u32,
    pub(crate) secret: Vec<u8>,
}

impl Raw {
    fn of(socket: Socket) -> Raw {
        Raw { socket, inbox: Vec::new(), start: 0, parameters: Vec::new(), pid: 0, secret: Vec::new() }
    }

    /// A connection on which nothing has been said.
    pub(crate) fn tcp(address: &str) -> Raw {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Raw::of(Socket::Tcp(stream))
    }

    pub(crate) fn unix(path: &Path) -> Raw {
        let stream = UnixStream::connect(path).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Raw::of(Socket::Unix(stream))
    }

    /// Logs in; panics if that does not work.
    #[track_caller]
    pub(crate) fn login(address: &str, login: Login<'_>, database: &str) -> Raw {
        Raw::login_with(address, login, database, V3_0, &[])
    }

    #[track_caller]
    pub(crate) fn login_with(
        address: &str,
        login: Login<'_>,
        database: &str,
        version: u32,
        parameters: &[(&str, &str)],
    ) -> Raw {
        let mut raw = Raw::tcp(address);
        let frames = raw.start_up(login, database, version, parameters);
        assert_eq!(frames.last().map(|last| last.tag), Some(b'Z'), "{frames:?}");
        raw
    }

    /// Sends a start-up packet and goes through the login; all that came, up to the first
    /// `ReadyForQuery`, error or end.
    pub(crate) fn start_up(
        &mut self,
        login: Login<'_>,
        database: &str,
        version: u32,
        parameters: &[(&str, &str)],
    ) -> Vec<Frame> {
        let mut all = vec![("user", login.name), ("database", database)];
        all.extend(parameters);
        self.send(&startup(version, &all));
        self.authenticate(login)
    }

    /// What follows a start-up packet.
    pub(crate) fn authenticate(&mut self, login: Login<'_>) -> Vec<Frame> {
        let mut scram = None;
        let mut frames = Vec::new();
        loop {
            let frame = self.frame();
            match (frame.tag, frame.body.get(3)) {
                (b'R', Some(3)) => self.send(&message(b'p', &[login.password.as_bytes(), b"\0"])),
                (b'R', Some(5)) => {
                    let salt = frame.body[4..8].try_into().unwrap();
                    let hash = md5_hash(login.name.as_bytes(), login.password.as_bytes(), salt);
                    self.send(&message(b'p', &[hash.as_bytes(), b"\0"]));
                }
                (b'R', Some(10)) => {
                    let new = ScramSha256::new(login.password.as_bytes(), ChannelBinding::unsupported());
                    let data = new.message().to_vec();
                    let len = u32::try_from(data.len()).unwrap().to_be_bytes();
                    self.send(&message(b'p', &[SCRAM_SHA_256.as_bytes(), b"\0", &len, &data]));
                    scram = Some(new);
                }
                (b'R', Some(11)) => {
                    let scram = scram.as_mut().unwrap();
                    scram.update(&frame.body[4..]).unwrap();
                    let data = scram.message().to_vec();
                    self.send(&message(b'p', &[&data]));
                }
                (b'R', Some(12)) => scram.as_mut().unwrap().finish(&frame.body[4..]).unwrap(),
                (b'S', _) => {
                    let text = String::from_utf8_lossy(&frame.body).into_owned();
                    let text = text.trim_end_matches('\0');
                    let (name, value) = text.split_once('\0').unwrap_or((text, ""));
                    self.parameters.push((name.to_owned(), value.to_owned()));
                }
                (b'K', _) => {
                    self.pid = u32::from_be_bytes(frame.body[..4].try_into().unwrap());
                    self.secret = frame.body[4..].to_vec();
                }
                _ => {}
            }
            let ended = matches!(frame.tag, b'Z' | b'E' | CLOSED | SILENCE);
            frames.push(frame);
            if ended {
                return frames;
            }
        }
    }

    /// Sends bytes as they are.
    #[track_caller]
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.try_send(bytes).unwrap();
    }

    /// The same to one that may have hung up.
    pub(crate) fn try_send(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.socket {
            Socket::Tcp(stream) => stream.write_all(bytes),
            Socket::Unix(stream) => stream.write_all(bytes),
        }
    }

    /// Nothing more will be sent.
    pub(crate) fn hang_up_sending(&mut self) {
        if let Socket::Tcp(stream) = &self.socket {
            // The other side may have been faster.
            let _ = stream.shutdown(std::net::Shutdown::Write);
        }
    }

    /// Another handle of a TCP connection, to write while this one reads.
    pub(crate) fn writer(&self) -> TcpStream {
        match &self.socket {
            Socket::Tcp(stream) => stream.try_clone().unwrap(),
            Socket::Unix(_) => panic!("of TCP connections only"),
        }
    }

    /// How long to wait for a frame.
    pub(crate) fn set_patience(&mut self, patience: Duration) {
        match &self.socket {
            Socket::Tcp(stream) => stream.set_read_timeout(Some(patience)).unwrap(),
            Socket::Unix(stream) => stream.set_read_timeout(Some(patience)).unwrap(),
        }
    }

    fn read(&mut self, at_least: usize) -> Result<(), u8> {
        while self.inbox.len() - self.start < at_least {
            if self.start > 0 {
                self.inbox.drain(..self.start);
                self.start = 0;
            }
            let mut chunk = vec![0; 256 * 1024];
            let read = match &mut self.socket {
                Socket::Tcp(stream) => stream.read(&mut chunk),
                Socket::Unix(stream) => stream.read(&mut chunk),
            };
            match read {
                Ok(0) => return Err(CLOSED),
                Ok(n) => self.inbox.extend(&chunk[..n]),
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                    return Err(SILENCE);
                }
                // What a peer that did not read everything leaves behind.
                Err(_) => return Err(CLOSED),
            }
        }
        Ok(())
    }

    /// One byte that is not a frame, as the answer to `SSLRequest` is.
    pub(crate) fn byte(&mut self) -> u8 {
        match self.read(1) {
            Ok(()) => {
                self.start += 1;
                self.inbox[self.start - 1]
            }
            Err(end) => end,
        }
    }

    /// The next message.
    pub(crate) fn frame(&mut self) -> Frame {
        let end = |tag| Frame { tag, body: Vec::new() };
        if let Err(tag) = self.read(5) {
            return end(tag);
        }
        let head = &self.inbox[self.start..self.start + 5];
        let tag = head[0];
        let len = usize::try_from(i32::from_be_bytes(head[1..5].try_into().unwrap())).unwrap();
        if let Err(tag) = self.read(len + 1) {
            return end(tag);
        }
        let body = self.inbox[self.start + 5..self.start + 1 + len].to_vec();
        self.start += len + 1;
        Frame { tag, body }
    }

    /// Messages up to the `count`th with this tag, or the end.
    pub(crate) fn until(&mut self, tag: u8, mut count: usize) -> Vec<Frame> {
        let mut frames = Vec::new();
        while count > 0 {
            let frame = self.frame();
            let ended = matches!(frame.tag, CLOSED | SILENCE);
            count -= usize::from(frame.tag == tag);
            frames.push(frame);
            if ended {
                break;
            }
        }
        frames
    }

    /// Messages up to the `count`th with this tag, without keeping them: how many came of each.
    pub(crate) fn count_until(
        &mut self,
        tag: u8,
        mut count: usize,
    ) -> std::collections::BTreeMap<char, usize> {
        let mut seen = std::collections::BTreeMap::new();
        while count > 0 {
            let frame = self.frame();
            *seen.entry(char::from(frame.tag)).or_default() += 1;
            if matches!(frame.tag, CLOSED | SILENCE) {
                break;
            }
            count -= usize::from(frame.tag == tag);
        }
        seen
    }

    /// All that comes until the connection is closed.
    pub(crate) fn rest(&mut self) -> Vec<Frame> {
        self.until(CLOSED, 1)
    }

    /// Runs a simple query; all of its answer.
    pub(crate) fn query(&mut self, sql: &str) -> Vec<Frame> {
        self.send(&query(sql));
        self.until(b'Z', 1)
    }

    /// The first column of a simple query's first row; panics if there is none.
    #[track_caller]
    pub(crate) fn value(&mut self, sql: &str) -> String {
        let frames = self.query(sql);
        let row = frames.iter().find(|frame| frame.tag == b'D');
        row.unwrap_or_else(|| panic!("{sql}: {frames:?}")).columns().remove(0)
    }
}

/// A start-up packet.
pub(crate) fn startup(version: u32, parameters: &[(&str, &str)]) -> Vec<u8> {
    let mut body = version.to_be_bytes().to_vec();
    for text in parameters.iter().flat_map(|(name, value)| [name, value]) {
        body.extend(text.as_bytes());
        body.push(0);
    }
    body.push(0);
    packet(&body)
}

/// A packet without a tag.
pub(crate) fn packet(body: &[u8]) -> Vec<u8> {
    let mut packet = u32::try_from(body.len() + 4).unwrap().to_be_bytes().to_vec();
    packet.extend(body);
    packet
}

pub(crate) fn ssl_request() -> Vec<u8> {
    packet(&80_877_103_u32.to_be_bytes())
}

pub(crate) fn gss_request() -> Vec<u8> {
    packet(&80_877_104_u32.to_be_bytes())
}

pub(crate) fn cancel_request(pid: u32, secret: &[u8]) -> Vec<u8> {
    packet(&[&80_877_102_u32.to_be_bytes()[..], &pid.to_be_bytes(), secret].concat())
}

/// A message of these parts.
pub(crate) fn message(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let len: usize = parts.iter().map(|part| part.len()).sum();
    let mut message = vec![tag];
    message.extend(u32::try_from(len + 4).unwrap().to_be_bytes());
    parts.iter().for_each(|part| message.extend(*part));
    message
}

pub(crate) fn query(sql: &str) -> Vec<u8> {
    message(b'Q', &[sql.as_bytes(), b"\0"])
}

pub(crate) fn parse(name: &str, sql: &str) -> Vec<u8> {
    message(b'P', &[name.as_bytes(), b"\0", sql.as_bytes(), b"\0\0\0"])
}

/// `Bind` of text parameters, all results as text.
pub(crate) fn bind(portal: &str, statement: &str, parameters: &[&str]) -> Vec<u8> {
    let count = u16::try_from(parameters.len()).unwrap().to_be_bytes();
    let mut body = [portal.as_bytes(), b"\0", statement.as_bytes(), b"\0\0\0", &count].concat();
    for parameter in parameters {
        body.extend(u32::try_from(parameter.len()).unwrap().to_be_bytes());
        body.extend(parameter.as_bytes());
    }
    body.extend([0, 0]);
    message(b'B', &[&body])
}

pub(crate) fn describe(kind: char, name: &str) -> Vec<u8> {
    message(b'D', &[&[kind as u8], name.as_bytes(), b"\0"])
}

pub(crate) fn execute(portal: &str, rows: u32) -> Vec<u8> {
    message(b'E', &[portal.as_bytes(), b"\0", &rows.to_be_bytes()])
}

pub(crate) fn close(kind: char, name: &str) -> Vec<u8> {
    message(b'C', &[&[kind as u8], name.as_bytes(), b"\0"])
}

pub(crate) fn flush() -> Vec<u8> {
    message(b'H', &[])
}

pub(crate) fn sync() -> Vec<u8> {
    message(b'S', &[])
}

/// `Parse`, `Bind`, `Execute` of one statement through the unnamed ones.
pub(crate) fn run(sql: &str, parameters: &[&str]) -> Vec<u8> {
    [parse("", sql), bind("", "", parameters), execute("", 0)].concat()
}

/// `FunctionCall` with text arguments and a text result.
pub(crate) fn function_call(oid: u32, arguments: &[&str]) -> Vec<u8> {
    let count = u16::try_from(arguments.len()).unwrap().to_be_bytes();
    let mut body = [&oid.to_be_bytes()[..], &[0, 0], &count].concat();
    for argument in arguments {
        body.extend(u32::try_from(argument.len()).unwrap().to_be_bytes());
        body.extend(argument.as_bytes());
    }
    body.extend([0, 0]);
    message(b'F', &[&body])
}

pub(crate) fn copy_data(bytes: &[u8]) -> Vec<u8> {
    message(b'd', &[bytes])
}

pub(crate) fn copy_done() -> Vec<u8> {
    message(b'c', &[])
}

pub(crate) fn copy_fail(reason: &str) -> Vec<u8> {
    message(b'f', &[reason.as_bytes(), b"\0"])
}
