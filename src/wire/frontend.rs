//! What a client sends: the fields pgring decides by, read in place, and the messages pgring
//! itself sends to a server. Bodies are what follows the header.

use super::{Buffer, Format};
use thiserror::Error;

/// A body that is not what its tag promises.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("invalid {0} message")]
pub struct BodyError(pub &'static str);

/// `Parse`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Parse<'a> {
    /// The statement's name; empty is the unnamed statement.
    pub name: &'a [u8],
    /// SQL text.
    pub query: &'a [u8],
    /// Parameter type OIDs, 4 bytes each.
    pub types: &'a [u8],
}

impl<'a> Parse<'a> {
    /// Reads the body.
    pub fn read(body: &'a [u8]) -> Result<Parse<'a>, BodyError> {
        let mut rest = body;
        let parse = (|| {
            let name = cstr(&mut rest)?;
            let query = cstr(&mut rest)?;
            let count = u16(&mut rest)?;
            (rest.len() == usize::from(count) * 4).then_some(Parse { name, query, types: rest })
        })();
        parse.ok_or(BodyError("Parse"))
    }

    /// The parameter types, 0 where unspecified.
    pub fn type_oids(&self) -> impl Iterator<Item = u32> + 'a {
        self.types.as_chunks::<4>().0.iter().map(|oid| u32::from_be_bytes(*oid))
    }
}

/// The names at the start of a `Bind`; its parameters are read by the route room.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BindNames<'a> {
    /// The portal to be made.
    pub portal: &'a [u8],
    /// The statement it is made of.
    pub statement: &'a [u8],
    /// Where formats and parameters begin, counted in the body.
    pub rest_at: usize,
}

impl<'a> BindNames<'a> {
    /// Reads the start of the body; `None` when it does not hold two names.
    pub fn read(body: &'a [u8]) -> Result<BindNames<'a>, BodyError> {
        let mut rest = body;
        let names = (|| Some((cstr(&mut rest)?, cstr(&mut rest)?)))();
        let (portal, statement) = names.ok_or(BodyError("Bind"))?;
        Ok(BindNames { portal, statement, rest_at: body.len() - rest.len() })
    }
}

/// The format codes a `Bind` wants results in, given what stands from [`BindNames::rest_at`] on.
pub fn result_formats(mut rest: &[u8]) -> Result<Vec<Format>, BodyError> {
    fn word(rest: &mut &[u8]) -> Option<u16> {
        let (word, after) = rest.split_first_chunk()?;
        *rest = after;
        Some(u16::from_be_bytes(*word))
    }
    let mut read = || {
        for _ in 0..word(&mut rest)? {
            word(&mut rest)?;
        }
        for _ in 0..word(&mut rest)? {
            let (len, after) = rest.split_first_chunk()?;
            // A negative length is a NULL.
            let len = usize::try_from(i32::from_be_bytes(*len)).unwrap_or(0);
            rest = after.get(len..)?;
        }
        let mut formats = Vec::new();
        for _ in 0..word(&mut rest)? {
            formats.push(match word(&mut rest)? {
                0 => Format::Text,
                1 => Format::Binary,
                _ => return None,
            });
        }
        rest.is_empty().then_some(formats)
    };
    read().ok_or(BodyError("Bind"))
}

/// How many parameters a `Bind` has, given what stands from [`BindNames::rest_at`] on; 0 if that
/// cannot be read, which [`result_formats`] tells.
pub fn bind_parameter_count(mut rest: &[u8]) -> u16 {
    let mut read = || {
        let formats = usize::from(u16(&mut rest)?);
        rest = rest.get(2 * formats..)?;
        u16(&mut rest)
    };
    read().unwrap_or(0)
}

/// What `Describe` and `Close` are about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Named<'a> {
    /// A prepared statement.
    Statement(&'a [u8]),
    /// A portal.
    Portal(&'a [u8]),
}

impl<'a> Named<'a> {
    /// Reads the body of a `Describe` or `Close`.
    pub fn read(body: &'a [u8]) -> Result<Named<'a>, BodyError> {
        let error = BodyError("Describe or Close");
        let (kind, mut rest) = body.split_first().ok_or(error)?;
        let name = cstr(&mut rest).filter(|_| rest.is_empty()).ok_or(error)?;
        match kind {
            b'S' => Ok(Named::Statement(name)),
            b'P' => Ok(Named::Portal(name)),
            _ => Err(error),
        }
    }
}

/// `Execute`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Execute<'a> {
    /// The portal to run.
    pub portal: &'a [u8],
    /// Most rows to return; 0 is all.
    pub max_rows: i32,
}

impl<'a> Execute<'a> {
    /// Reads the body.
    pub fn read(body: &'a [u8]) -> Result<Execute<'a>, BodyError> {
        let mut rest = body;
        let portal = cstr(&mut rest).ok_or(BodyError("Execute"))?;
        let max_rows = rest.try_into().map(i32::from_be_bytes).map_err(|_| BodyError("Execute"))?;
        Ok(Execute { portal, max_rows })
    }
}

/// The text of a `Query`.
pub fn query_text(body: &[u8]) -> Result<&[u8], BodyError> {
    let mut rest = body;
    cstr(&mut rest).filter(|_| rest.is_empty()).ok_or(BodyError("Query"))
}

/// A zero-terminated string; `None` when the terminator is missing.
pub(super) fn cstr<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let end = rest.iter().position(|byte| *byte == 0)?;
    let text = &rest[..end];
    *rest = &rest[end + 1..];
    Some(text)
}

fn u16(rest: &mut &[u8]) -> Option<u16> {
    let (head, tail) = rest.split_first_chunk::<2>()?;
    *rest = tail;
    Some(u16::from_be_bytes(*head))
}

/// Appends a frame whose body `write` appends.
pub fn put_frame(out: &mut Buffer, tag: u8, write: impl FnOnce(&mut Buffer)) {
    let at = out.len();
    out.put(&[tag, 0, 0, 0, 0]);
    write(out);
    let len = i32::try_from(out.len() - at - 1)
        .expect("frames are written from frames, which are shorter than 2 GiB");
    out.patch_i32(at + 1, len);
}

/// Appends a zero-terminated string.
pub fn put_cstr(out: &mut Buffer, text: &[u8]) {
    out.put(text);
    out.put_u8(0);
}

/// `Query`.
pub fn put_query(out: &mut Buffer, sql: &[u8]) {
    put_frame(out, b'Q', |out| put_cstr(out, sql));
}

/// `Parse`; `types` are OIDs of 4 bytes each.
pub fn put_parse(out: &mut Buffer, name: &[u8], sql: &[u8], types: &[u8]) {
    put_frame(out, b'P', |out| {
        put_cstr(out, name);
        put_cstr(out, sql);
        let count = u16::try_from(types.len() / 4).expect("counted by a u16 when it was read");
        out.put(&count.to_be_bytes());
        out.put(types);
    });
}

/// The header and names of a `Bind` whose remaining `rest_len` bytes follow as they lie.
pub fn put_bind_head(out: &mut Buffer, portal: &[u8], statement: &[u8], rest_len: usize) {
    let len = i32::try_from(4 + portal.len() + 1 + statement.len() + 1 + rest_len)
        .expect("a Bind is at most 1 GiB, and names are short");
    out.put_all([&b"B"[..], &len.to_be_bytes(), portal, b"\0", statement, b"\0"]);
}

/// A `Bind` without parameters, all results as text.
pub fn put_bind_plain(out: &mut Buffer, portal: &[u8], statement: &[u8]) {
    put_bind_head(out, portal, statement, 6);
    out.put(&[0; 6]);
}

/// `Describe` of a statement.
pub fn put_describe_statement(out: &mut Buffer, name: &[u8]) {
    put_frame(out, b'D', |out| {
        out.put_u8(b'S');
        put_cstr(out, name);
    });
}

/// `Describe` of a portal.
pub fn put_describe_portal(out: &mut Buffer, name: &[u8]) {
    put_frame(out, b'D', |out| {
        out.put_u8(b'P');
        put_cstr(out, name);
    });
}

/// `Close` of a statement.
pub fn put_close_statement(out: &mut Buffer, name: &[u8]) {
    put_frame(out, b'C', |out| {
        out.put_u8(b'S');
        put_cstr(out, name);
    });
}

/// `Close` of a portal.
pub fn put_close_portal(out: &mut Buffer, name: &[u8]) {
    put_frame(out, b'C', |out| {
        out.put_u8(b'P');
        put_cstr(out, name);
    });
}

/// `Execute` without a row limit.
pub fn put_execute(out: &mut Buffer, portal: &[u8]) {
    put_frame(out, b'E', |out| {
        put_cstr(out, portal);
        out.put(&[0; 4]);
    });
}

/// `Sync`.
pub fn put_sync(out: &mut Buffer) {
    out.put(&[b'S', 0, 0, 0, 4]);
}

/// `Flush`.
pub fn put_flush(out: &mut Buffer) {
    out.put(&[b'H', 0, 0, 0, 4]);
}

/// `CopyFail`.
pub fn put_copy_fail(out: &mut Buffer, reason: &[u8]) {
    put_frame(out, b'f', |out| put_cstr(out, reason));
}

/// `Terminate`.
pub const TERMINATE: [u8; 5] = [b'X', 0, 0, 0, 4];

/// A `CancelRequest` for a server process.
pub fn cancel_request(pid: u32, secret: &[u8]) -> Vec<u8> {
    let len = u32::try_from(12 + secret.len()).expect("a cancel key is at most 256 bytes");
    let mut message = Vec::with_capacity(12 + secret.len());
    message.extend(len.to_be_bytes());
    message.extend(80_877_102_u32.to_be_bytes());
    message.extend(pid.to_be_bytes());
    message.extend(secret);
    message
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_what_it_writes() {
        let mut out = Buffer::new();
        put_parse(&mut out, b"s1", b"SELECT $1", &[0, 0, 0, 23]);
        let head = crate::wire::header(out.filled()).unwrap().unwrap();
        assert_eq!((head.tag, head.len), (b'P', out.len()));
        let parse = Parse::read(&out.filled()[5..]).unwrap();
        assert_eq!((parse.name, parse.query), (&b"s1"[..], &b"SELECT $1"[..]));
        assert_eq!(parse.type_oids().collect::<Vec<_>>(), [23]);

        let mut out = Buffer::new();
        put_bind_plain(&mut out, b"p", b"s");
        assert_eq!(crate::wire::header(out.filled()).unwrap().unwrap().len, out.len());
        let names = BindNames::read(&out.filled()[5..]).unwrap();
        assert_eq!((names.portal, names.statement, names.rest_at), (&b"p"[..], &b"s"[..], 4));
    }

    #[test]
    fn refuses_what_is_cut_short_or_too_long() {
        assert!(Parse::read(b"s\0SELECT\0\0\x01\0\0\0").is_err(), "a type is missing a byte");
        assert!(Parse::read(b"s\0SELECT\0\0\x00\0").is_err(), "a byte too many");
        assert!(Parse::read(b"s\0SELECT").is_err());
        assert!(Named::read(b"").is_err());
        assert!(Named::read(b"Xname\0").is_err());
        assert!(Named::read(b"Sname").is_err());
        assert!(Execute::read(b"p\0\0\0\0").is_err());
        assert!(query_text(b"SELECT 1").is_err());
        assert!(query_text(b"SELECT 1\0\0").is_err());
    }

    proptest! {
        #[test]
        fn never_panics(body: Vec<u8>) {
            let _ = Parse::read(&body).map(|p| p.type_oids().count());
            let _ = BindNames::read(&body);
            let _ = Named::read(&body);
            let _ = Execute::read(&body);
            let _ = query_text(&body);
        }
    }
}
