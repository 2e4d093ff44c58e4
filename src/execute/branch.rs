//! One server's part in a statement that several take part in.
//!
//! What is asked of it is always of the extended protocol and ends with a `Sync`: statements whose
//! answers nobody is to see (a `BEGIN`, say), then the one that matters. [`Branch::advance`] works
//! off what the server has sent up to the next row, and says where that lies; what becomes of rows
//! is for those who merge them.

use crate::backend::{Server, ServerError};
use crate::wire::{self, Buffer, Header, TxStatus};

/// A column of a server's `RowDescription`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Field {
    /// The whole entry as it came.
    pub raw: Box<[u8]>,
    /// Its type.
    pub oid: u32,
}

impl Field {
    /// What it is called.
    pub fn name(&self) -> String {
        let name = self.raw.split(|byte| *byte == 0).next().unwrap_or_default();
        String::from_utf8_lossy(name).into_owned()
    }
}

/// How a branch's statement ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// With this command tag.
    Complete(Box<str>),
    /// `EmptyQueryResponse`.
    Empty,
    /// More rows are to be had with another `Execute`.
    Suspended,
    /// With this `ErrorResponse`, the whole message.
    Failed(Box<[u8]>),
}

/// What [`Branch::advance`] has come to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// A whole `DataRow` lies at the start of the inbox; the caller consumes it.
    Row(Header),
    /// A whole `CopyData` likewise.
    Data(Header),
    /// The server waits for `CopyData`.
    CopyIn,
    /// More has to be read.
    Read,
    /// The `ReadyForQuery` has come.
    Ready,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Branch {
    /// Statements that stand before the one that matters and have not been answered.
    hidden: usize,
    /// Types of the parameters of each statement described, in order.
    pub parameters: Vec<Vec<u32>>,
    /// Columns of each that was described; empty where there are none.
    pub fields: Vec<Vec<Field>>,
    /// How the statement ended.
    pub outcome: Option<Outcome>,
    /// After the `Sync`.
    pub ready: Option<TxStatus>,
    /// It waits for `CopyData`.
    pub copying_in: bool,
    /// That is being sent.
    pub feeds: bool,
    /// Its answer has to wait for another server's.
    pub stalled: bool,
    /// `CopyInResponse` or `CopyOutResponse`, the whole message.
    pub copy_response: Option<Box<[u8]>>,
    /// The first value that a statement whose answer nobody is to see has yielded.
    said: Option<String>,
    /// Notices, notifications and parameter changes for the client, whole messages.
    pub asides: Buffer,
}

impl Branch {
    /// Of a server that has been asked for `hidden` statements first.
    pub fn new(hidden: usize) -> Branch {
        Branch { hidden, ..Branch::default() }
    }

    /// Are statements under way that nobody is to see the answer of?
    pub fn has_hidden(&self) -> bool {
        self.hidden > 0
    }

    /// The server has been asked for something else after a [`Step::Ready`].
    pub fn again(&mut self, hidden: usize) {
        let asides = std::mem::take(&mut self.asides);
        *self = Branch { asides, ..Branch::new(hidden) };
    }

    /// What the server has reported of its parameters is not the client's to know.
    pub fn forget_parameters(&mut self) {
        self.retain_asides(|frame| frame.first() != Some(&b'S'));
    }

    /// Drops the notices among these; the ones that are left.
    pub fn forget_notices(&mut self, said: &[Box<[u8]>]) -> Vec<Box<[u8]>> {
        let mut own = Vec::new();
        self.retain_asides(|frame| {
            let repeats = said.iter().any(|said| **said == *frame);
            if frame.first() == Some(&b'N') && !repeats {
                own.push(frame.into());
            }
            !repeats
        });
        own
    }

    fn retain_asides(&mut self, mut keep: impl FnMut(&[u8]) -> bool) {
        let mut kept = Buffer::new();
        while let Ok(Some(head)) = wire::header(self.asides.filled()) {
            let frame = &self.asides.filled()[..head.len];
            if keep(frame) {
                kept.put(frame);
            }
            self.asides.consume(head.len);
        }
        self.asides = kept;
    }

    /// Works off the server's inbox.
    ///
    /// # Errors
    /// The server broke the protocol or ended the connection.
    pub fn advance(&mut self, server: &mut Server) -> Result<Step, ServerError> {
        loop {
            if self.ready.is_some() {
                return Ok(Step::Ready);
            }
            let Some(head) = wire::header(server.inbox.filled())? else { return Ok(Step::Read) };
            if server.inbox.len() < head.len {
                return Ok(Step::Read);
            }
            match head.tag {
                b'D' if self.hidden == 0 => return Ok(Step::Row(head)),
                b'd' => return Ok(Step::Data(head)),
                _ => {}
            }
            if matches!(head.tag, b'T' | b't') {
                server.translate_types(head.len);
            }
            self.message(head, server)?;
            server.inbox.consume(head.len);
            if self.copying_in && head.tag == b'G' {
                return Ok(Step::CopyIn);
            }
        }
    }

    fn message(&mut self, head: Header, server: &mut Server) -> Result<(), ServerError> {
        let frame = &server.inbox.filled()[..head.len];
        let body = &frame[wire::HEADER_LEN..];
        match head.tag {
            b'D' if self.said.is_none() => {
                self.said = wire::first_value(body).map(|value| String::from_utf8_lossy(value).into_owned());
            }
            b'1' | b'2' | b'3' | b'D' | b'c' => {}
            b'H' => self.copy_response = Some(frame.into()),
            b'n' => self.fields.push(Vec::new()),
            b'T' => self.fields.push(fields(body).ok_or_else(|| broken("RowDescription"))?),
            b't' => self.parameters.push(parameters(body).ok_or_else(|| broken("ParameterDescription"))?),
            b'C' | b'I' | b's' if self.hidden > 0 => self.hidden -= 1,
            b'C' => {
                let tag = String::from_utf8_lossy(wire::command_tag(body));
                self.outcome = Some(Outcome::Complete(tag.into()));
                self.copying_in = false;
            }
            b'I' => self.outcome = Some(Outcome::Empty),
            b's' => self.outcome = Some(Outcome::Suspended),
            b'G' => {
                self.copying_in = true;
                self.copy_response = Some(frame.into());
            }
            b'E' => {
                if matches!(wire::error_field(body, b'V'), Some(b"FATAL" | b"PANIC")) {
                    return Err(ServerError::Refused { line: wire::error_line(body), body: body.to_vec() });
                }
                if !matches!(self.outcome, Some(Outcome::Failed(_))) {
                    self.outcome = Some(Outcome::Failed(frame.into()));
                }
                self.hidden = 0;
                self.copying_in = false;
            }
            b'Z' => {
                server.status = TxStatus::read(body)?;
                self.ready = Some(server.status);
            }
            b'S' => {
                let (name, value) = wire::parameter_status(body)?;
                let (name, value) = (String::from_utf8_lossy(name), String::from_utf8_lossy(value));
                server.reported.insert(name.into_owned(), value.into_owned());
                self.asides.put(frame);
            }
            b'A' | b'N' => self.asides.put(frame),
            tag => {
                return Err(ServerError::Protocol(format!(
                    "message {:?} that was not asked for",
                    tag as char
                )));
            }
        }
        Ok(())
    }

    /// What a statement before the one that matters has said: the first value of the first row.
    pub fn take_said(&mut self) -> Option<String> {
        self.said.take()
    }

    /// Has it failed?
    pub fn error(&self) -> Option<&[u8]> {
        match &self.outcome {
            Some(Outcome::Failed(frame)) => Some(frame),
            _ => None,
        }
    }

    /// The number at the end of the command tag: `UPDATE 3`.
    pub fn count(&self) -> u64 {
        match &self.outcome {
            Some(Outcome::Complete(tag)) => {
                tag.rsplit(' ').next().and_then(|count| count.parse().ok()).unwrap_or(0)
            }
            _ => 0,
        }
    }
}

fn broken(what: &str) -> ServerError {
    ServerError::Protocol(format!("a malformed {what}"))
}

/// What stands in a `RowDescription` entry behind the column's name.
const FIELD_TAIL: usize = 18;

fn fields(body: &[u8]) -> Option<Vec<Field>> {
    let (count, mut rest) = body.split_first_chunk::<2>()?;
    let mut fields = Vec::new();
    for _ in 0..u16::from_be_bytes(*count) {
        let len = rest.iter().position(|byte| *byte == 0)? + 1 + FIELD_TAIL;
        let raw = rest.get(..len)?;
        let oid = raw[len - FIELD_TAIL + 6..].first_chunk::<4>()?;
        fields.push(Field { raw: raw.into(), oid: u32::from_be_bytes(*oid) });
        rest = &rest[len..];
    }
    rest.is_empty().then_some(fields)
}

pub(super) fn parameters(body: &[u8]) -> Option<Vec<u32>> {
    let (count, rest) = body.split_first_chunk::<2>()?;
    let oids: Vec<u32> = rest.as_chunks::<4>().0.iter().map(|oid| u32::from_be_bytes(*oid)).collect();
    (oids.len() == usize::from(u16::from_be_bytes(*count))).then_some(oids)
}

/// `RowDescription` of these columns in text format, or as `formats` says: none, one for all, or
/// one for each.
pub fn put_description(out: &mut Buffer, fields: &[Field], formats: &[wire::Format]) {
    wire::put_frame(out, b'T', |out| {
        let count = u16::try_from(fields.len()).unwrap_or(u16::MAX);
        out.put(&count.to_be_bytes());
        for (at, field) in fields.iter().enumerate() {
            let format = formats.get(at).or(formats.first()).copied().unwrap_or(wire::Format::Text);
            out.put(&field.raw[..field.raw.len() - 2]);
            out.put(&[0, u8::from(format == wire::Format::Binary)]);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_description_is_passed_on_in_other_formats() {
        let mut out = Buffer::new();
        wire::put_row_description(
            &mut out,
            [
                ("a", wire::ColumnType::Int8, wire::Format::Text),
                ("b", wire::ColumnType::Text, wire::Format::Text),
            ]
            .into_iter(),
        );
        let read = fields(&out.filled()[wire::HEADER_LEN..]).unwrap();
        assert_eq!(read.iter().map(|field| field.oid).collect::<Vec<_>>(), [20, 25]);
        let mut again = Buffer::new();
        put_description(&mut again, &read, &[]);
        assert_eq!(again.filled(), out.filled());
        let mut binary = Buffer::new();
        put_description(&mut binary, &read, &[wire::Format::Text, wire::Format::Binary]);
        assert_eq!(binary.filled().last(), Some(&1));
    }

    proptest! {
        #[test]
        fn never_panics(body: Vec<u8>) {
            let _ = fields(&body);
            let _ = parameters(&body);
        }
    }
}
