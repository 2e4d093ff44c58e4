//! What a server sends: the fields pgring reads, and the messages it writes to clients itself.

use super::frontend::{cstr, put_cstr, put_frame};
use super::{BodyError, Buffer};
use crate::error::{ClientError, Severity};
use std::hash::Hasher;
use twox_hash::XxHash3_64;

/// The transaction status of a `ReadyForQuery`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TxStatus {
    /// `I`
    Idle,
    /// `T`
    Open,
    /// `E`
    Failed,
}

impl TxStatus {
    /// Reads the body of a `ReadyForQuery`.
    pub fn read(body: &[u8]) -> Result<TxStatus, BodyError> {
        match body {
            b"I" => Ok(TxStatus::Idle),
            b"T" => Ok(TxStatus::Open),
            b"E" => Ok(TxStatus::Failed),
            _ => Err(BodyError("ReadyForQuery")),
        }
    }

    /// The byte on the wire.
    pub fn byte(self) -> u8 {
        match self {
            TxStatus::Idle => b'I',
            TxStatus::Open => b'T',
            TxStatus::Failed => b'E',
        }
    }
}

/// A field of an `ErrorResponse` or `NoticeResponse`: `C` code, `M` message, `S` severity …
pub fn error_field(body: &[u8], field: u8) -> Option<&[u8]> {
    let mut rest = body;
    loop {
        let (kind, tail) = rest.split_first()?;
        if *kind == 0 {
            return None;
        }
        rest = tail;
        let value = cstr(&mut rest)?;
        if *kind == field {
            return Some(value);
        }
    }
}

/// One line for the log: severity, code, message.
pub fn error_line(body: &[u8]) -> String {
    let field = |kind| error_field(body, kind).map(String::from_utf8_lossy).unwrap_or_default();
    format!("{} {}: {}", field(b'S'), field(b'C'), field(b'M'))
}

/// Name and value of a `ParameterStatus`.
pub fn parameter_status(body: &[u8]) -> Result<(&[u8], &[u8]), BodyError> {
    let mut rest = body;
    (|| Some((cstr(&mut rest)?, cstr(&mut rest)?)))().ok_or(BodyError("ParameterStatus"))
}

/// Process id and secret of a `BackendKeyData`.
pub fn backend_key(body: &[u8]) -> Result<(u32, &[u8]), BodyError> {
    match body.split_first_chunk::<4>() {
        Some((pid, secret)) if (4..=256).contains(&secret.len()) => Ok((u32::from_be_bytes(*pid), secret)),
        _ => Err(BodyError("BackendKeyData")),
    }
}

/// The first value of a `DataRow` in text format; `None` for NULL, or if there is none.
pub fn first_value(body: &[u8]) -> Option<&[u8]> {
    let (_, rest) = body.split_first_chunk::<2>()?;
    let (len, rest) = rest.split_first_chunk::<4>()?;
    rest.get(..usize::try_from(i32::from_be_bytes(*len)).ok()?)
}

/// The tag of a `CommandComplete`.
pub fn command_tag(body: &[u8]) -> &[u8] {
    body.strip_suffix(b"\0").unwrap_or(body)
}

/// `ErrorResponse`.
pub fn put_error(out: &mut Buffer, error: &ClientError) {
    let severity = match error.severity {
        Severity::Error => "ERROR",
        Severity::Fatal => "FATAL",
    };
    put_report(out, b'E', severity, error);
}

/// `NoticeResponse` of severity WARNING.
pub fn put_warning(out: &mut Buffer, warning: &ClientError) {
    put_report(out, b'N', "WARNING", warning);
}

/// `NoticeResponse` of severity NOTICE.
pub fn put_notice(out: &mut Buffer, notice: &ClientError) {
    put_report(out, b'N', "NOTICE", notice);
}

fn put_report(out: &mut Buffer, tag: u8, severity: &str, error: &ClientError) {
    put_frame(out, tag, |out| {
        let mut field = |kind: u8, text: &str| {
            out.put_u8(kind);
            // A zero byte would end the field early.
            let text = text.split('\0').next().unwrap_or_default();
            put_cstr(out, text.as_bytes());
        };
        field(b'S', severity);
        field(b'V', severity);
        field(b'C', error.code.as_str());
        field(b'M', &error.message);
        if let Some(detail) = &error.detail {
            field(b'D', detail);
        }
        if let Some(hint) = &error.hint {
            field(b'H', hint);
        }
        if let Some(routine) = error.routine {
            field(b'R', routine);
        }
        out.put_u8(0);
    });
}

/// What tells the results of two statements apart, of a `RowDescription` without its header: names,
/// types and type modifiers of the columns. `None` if it breaks the protocol.
pub fn result_shape(body: &[u8]) -> Option<u64> {
    let mut hasher = XxHash3_64::default();
    let (count, mut rest) = body.split_first_chunk::<2>()?;
    for _ in 0..u16::from_be_bytes(*count) {
        let name = rest.iter().position(|byte| *byte == 0)?;
        // Table and column, type, size, modifier, format. The first are not the result's own, and
        // the last may not be known yet.
        let (fields, next) = rest[name + 1..].split_first_chunk::<18>()?;
        hasher.write(&rest[..=name]);
        hasher.write(&fields[6..16]);
        rest = next;
    }
    Some(hasher.finish())
}

/// `ReadyForQuery`.
pub fn put_ready(out: &mut Buffer, status: TxStatus) {
    out.put(&[b'Z', 0, 0, 0, 5, status.byte()]);
}

/// `CommandComplete`.
pub fn put_complete(out: &mut Buffer, tag: &str) {
    put_frame(out, b'C', |out| put_cstr(out, tag.as_bytes()));
}

/// Appends `NotificationResponse`s. One that server process `server` has sent itself is its client's
/// own, who knows itself as process `client` (`BackendKeyData`) and may tell its own by that.
pub fn put_notifications(out: &mut Buffer, mut frames: &[u8], server: u32, client: u32) {
    const PID: usize = super::HEADER_LEN + 4;
    while let Ok(Some(head)) = super::header(frames) {
        let (frame, rest) = frames.split_at(head.len.min(frames.len()));
        match frame.get(super::HEADER_LEN..PID) {
            Some(pid) if pid == server.to_be_bytes() => {
                out.put(&frame[..super::HEADER_LEN]);
                out.put(&client.to_be_bytes());
                out.put(&frame[PID..]);
            }
            _ => out.put(frame),
        }
        frames = rest;
    }
}

/// `ParameterStatus`.
pub fn put_parameter(out: &mut Buffer, name: &str, value: &str) {
    put_frame(out, b'S', |out| {
        put_cstr(out, name.as_bytes());
        put_cstr(out, value.as_bytes());
    });
}

/// `BackendKeyData`.
pub fn put_backend_key(out: &mut Buffer, pid: u32, secret: &[u8]) {
    put_frame(out, b'K', |out| {
        out.put(&pid.to_be_bytes());
        out.put(secret);
    });
}

/// `ParseComplete`.
pub const PARSE_COMPLETE: [u8; 5] = [b'1', 0, 0, 0, 4];
/// `BindComplete`.
pub const BIND_COMPLETE: [u8; 5] = [b'2', 0, 0, 0, 4];
/// `CloseComplete`.
pub const CLOSE_COMPLETE: [u8; 5] = [b'3', 0, 0, 0, 4];
/// `PortalSuspended`.
pub const PORTAL_SUSPENDED: [u8; 5] = [b's', 0, 0, 0, 4];
/// `NoData`.
pub const NO_DATA: [u8; 5] = [b'n', 0, 0, 0, 4];
/// `EmptyQueryResponse`.
pub const EMPTY_QUERY: [u8; 5] = [b'I', 0, 0, 0, 4];

/// The type of a column pgring itself answers with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ColumnType {
    /// `text`
    Text,
    /// `integer`
    Int4,
    /// `bigint`
    Int8,
    /// `numeric`
    Numeric,
}

/// How a value is written (manual, section 55.1.3).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    /// As SQL shows it.
    Text,
    /// As PostgreSQL's `typsend` makes it.
    Binary,
}

impl ColumnType {
    fn oid_and_size(self) -> (u32, i16) {
        match self {
            ColumnType::Text => (25, -1),
            ColumnType::Int4 => (23, 4),
            ColumnType::Int8 => (20, 8),
            ColumnType::Numeric => (1700, -1),
        }
    }
}

/// `RowDescription` of columns in the format the client has asked for.
pub fn put_row_description<'a>(
    out: &mut Buffer,
    columns: impl ExactSizeIterator<Item = (&'a str, ColumnType, Format)>,
) {
    put_frame(out, b'T', |out| {
        out.put(&u16::try_from(columns.len()).expect("a console table is narrow").to_be_bytes());
        for (name, kind, format) in columns {
            let (oid, size) = kind.oid_and_size();
            put_cstr(out, name.as_bytes());
            out.put(&[0; 6]);
            out.put(&oid.to_be_bytes());
            out.put(&size.to_be_bytes());
            out.put(&(-1_i32).to_be_bytes());
            out.put(&[0, u8::from(format == Format::Binary)]);
        }
    });
}

/// `DataRow` of values in their columns' formats.
pub fn put_data_row<V: AsRef<[u8]>>(out: &mut Buffer, values: impl ExactSizeIterator<Item = Option<V>>) {
    put_frame(out, b'D', |out| {
        out.put(&u16::try_from(values.len()).expect("a console table is narrow").to_be_bytes());
        for value in values {
            match value {
                None => out.put(&(-1_i32).to_be_bytes()),
                Some(value) => {
                    let value = value.as_ref();
                    let len = i32::try_from(value.len()).expect("a console value is short");
                    out.put(&len.to_be_bytes());
                    out.put(value);
                }
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::SqlState;
    use proptest::prelude::*;

    #[test]
    fn an_error_reads_back() {
        let mut out = Buffer::new();
        put_error(&mut out, &ClientError::refused("no\0t this", "that"));
        let head = crate::wire::header(out.filled()).unwrap().unwrap();
        assert_eq!((head.tag, head.len), (b'E', out.len()));
        let body = &out.filled()[5..];
        assert_eq!(error_field(body, b'C'), Some(SqlState::REFUSED.as_str().as_bytes()));
        assert_eq!(error_field(body, b'M'), Some(&b"no"[..]));
        assert_eq!(error_field(body, b'H'), Some(&b"that"[..]));
        assert_eq!(error_field(body, b'D'), None);
        assert_eq!(error_line(body), "ERROR 0A000: no");
    }

    proptest! {
        #[test]
        fn never_panics(body: Vec<u8>, field: u8) {
            let _ = error_field(&body, field);
            let _ = error_line(&body);
            let _ = parameter_status(&body);
            let _ = backend_key(&body);
            let _ = first_value(&body);
            let _ = TxStatus::read(&body);
        }
    }
    #[test]
    fn results_differ_by_names_types_and_modifiers() {
        let column = |name: &str, table: u32, oid: u32, modifier: i32, format: u8| {
            let (table, oid, modifier) = (table.to_be_bytes(), oid.to_be_bytes(), modifier.to_be_bytes());
            [name.as_bytes(), b"\0", &table, &[0, 1], &oid, &[0, 4], &modifier, &[0, format]].concat()
        };
        let shape = |columns: &[Vec<u8>]| {
            let count = u16::try_from(columns.len()).unwrap().to_be_bytes();
            result_shape(&[&count[..], &columns.concat()].concat()).unwrap()
        };
        let one = shape(&[column("a", 1, 23, -1, 0)]);
        assert_eq!(shape(&[column("a", 2, 23, -1, 1)]), one);
        for other in [
            &[][..],
            &[column("b", 1, 23, -1, 0)],
            &[column("a", 1, 20, -1, 0)],
            &[column("a", 1, 23, 8, 0)],
            &[column("a", 1, 23, -1, 0), column("a", 1, 23, -1, 0)],
        ] {
            assert_ne!(shape(other), one);
        }
        let body = [&[0, 1][..], &column("a", 1, 23, -1, 0)].concat();
        assert!((0..body.len()).all(|len| result_shape(&body[..len]).is_none()));
    }
}
