//! Where a frame begins and ends.

use thiserror::Error;

/// A frame's tag and length word.
pub const HEADER_LEN: usize = 5;

/// The longest frame a client may send whatever its type: `MaxAllocSize - 1` of PostgreSQL's
/// `libpq/libpq.h` (`PQ_LARGE_MESSAGE_LIMIT`).
pub const LARGE_LIMIT: usize = 0x3fff_fffe;

/// The longest frame of the types that carry no payload of the user's
/// (`PQ_SMALL_MESSAGE_LIMIT`).
pub const SMALL_LIMIT: usize = 10_000;

/// A frame's header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// The message type.
    pub tag: u8,
    /// The whole frame's length in bytes, tag and length word included.
    pub len: usize,
}

/// A length no frame can have.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("invalid length {len} of a message of type {tag:#04x}")]
pub struct FrameError {
    /// The message type.
    pub tag: u8,
    /// What the length word said.
    pub len: i32,
}

/// The header at the start of `bytes`; `None` while fewer than five bytes are there.
pub fn header(bytes: &[u8]) -> Result<Option<Header>, FrameError> {
    let Some(head) = bytes.first_chunk::<HEADER_LEN>() else { return Ok(None) };
    let tag = head[0];
    let word = i32::from_be_bytes([head[1], head[2], head[3], head[4]]);
    match usize::try_from(word) {
        Ok(len) if len >= 4 => Ok(Some(Header { tag, len: len + 1 })),
        _ => Err(FrameError { tag, len: word }),
    }
}

/// As [`header`], with the limits PostgreSQL puts on what a client sends
/// (`SocketBackend` in `tcop/postgres.c`).
pub fn client_header(bytes: &[u8]) -> Result<Option<Header>, FrameError> {
    let Some(found) = header(bytes)? else { return Ok(None) };
    let limit = match found.tag {
        b'Q' | b'P' | b'B' | b'F' | b'd' | b'p' => LARGE_LIMIT,
        _ => SMALL_LIMIT,
    };
    if found.len - 1 > limit {
        return Err(FrameError { tag: found.tag, len: i32::try_from(found.len - 1).unwrap_or(i32::MAX) });
    }
    Ok(Some(found))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers() {
        let check = |bytes: &[u8], expect: Result<Option<(u8, usize)>, i32>| {
            let got = header(bytes).map(|h| h.map(|h| (h.tag, h.len))).map_err(|e| e.len);
            assert_eq!(got, expect, "{bytes:?}");
        };
        check(b"", Ok(None));
        check(b"Z\0\0\0", Ok(None));
        check(b"S\0\0\0\x04", Ok(Some((b'S', 5))));
        check(b"Z\0\0\0\x05I", Ok(Some((b'Z', 6))));
        check(b"Z\0\0\0\x03", Err(3));
        check(b"Z\0\0\0\0", Err(0));
        check(b"Z\xff\xff\xff\xff", Err(-1));
        check(b"Z\x80\0\0\0", Err(i32::MIN));
        check(b"D\x7f\xff\xff\xff", Ok(Some((b'D', 0x8000_0000))));
        check(b"GET / HTTP/1.1", Ok(Some((b'G', 1 + 0x4554_202f))));
    }

    #[test]
    fn client_limits() {
        let frame = |tag: u8, len: i32| {
            let mut bytes = vec![tag];
            bytes.extend(len.to_be_bytes());
            client_header(&bytes).is_ok()
        };
        assert!(frame(b'S', 4));
        assert!(frame(b'E', 10_000));
        assert!(!frame(b'E', 10_001), "Execute carries nothing large");
        assert!(frame(b'B', 0x3fff_fffe));
        assert!(!frame(b'B', 0x3fff_ffff));
    }
}
