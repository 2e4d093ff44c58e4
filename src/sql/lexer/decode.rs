//! What a literal's text denotes.
//!
//! Only what can be said without knowing the server: a `\u` escape beyond ASCII depends on the
//! server's encoding, `\v` on its version, and those literals have no value here.

use super::TokenKind;
use super::scan::continuation;
use std::borrow::Cow;

/// The contents of a literal token, or `None` where they cannot be told.
pub(super) fn decode(
    kind: TokenKind,
    raw: &[u8],
    standard_conforming_strings: bool,
) -> Option<Cow<'_, [u8]>> {
    match kind {
        TokenKind::Integer | TokenKind::Decimal => Some(Cow::Borrowed(raw)),
        TokenKind::String => quoted(raw, 1, !standard_conforming_strings),
        TokenKind::NationalString => quoted(raw, 2, !standard_conforming_strings),
        TokenKind::EscapeString => quoted(raw, 2, true),
        TokenKind::UnicodeString => quoted(raw, 3, false).filter(|value| !value.contains(&b'\\')),
        TokenKind::DollarString => {
            let tag = raw.iter().skip(1).position(|&byte| byte == b'$')? + 2;
            raw.get(tag..raw.len().checked_sub(tag)?).map(Cow::Borrowed)
        }
        _ => None,
    }
}

/// `raw` is a whole token: its last byte is the closing quote of its last part.
fn quoted(raw: &[u8], body: usize, escapes: bool) -> Option<Cow<'_, [u8]>> {
    let inside = raw.get(body..raw.len().checked_sub(1)?)?;
    if !inside.iter().any(|&byte| byte == b'\'' || (escapes && byte == b'\\')) {
        return Some(Cow::Borrowed(inside));
    }
    let mut value = Vec::with_capacity(inside.len());
    let mut at = body;
    loop {
        match *raw.get(at)? {
            b'\'' if raw.get(at + 1) == Some(&b'\'') => {
                value.push(b'\'');
                at += 2;
            }
            b'\'' => match continuation(raw, at + 1, &mut |_| {}) {
                Some(next) => at = next,
                None if at + 1 == raw.len() => return Some(Cow::Owned(value)),
                None => return None,
            },
            b'\\' if escapes => {
                let (byte, length) = escape(&raw[at + 1..])?;
                value.push(byte);
                at += 1 + length;
            }
            byte => {
                value.push(byte);
                at += 1;
            }
        }
    }
}

/// The byte an escape stands for and the escape's length after its backslash.
fn escape(rest: &[u8]) -> Option<(u8, usize)> {
    let (byte, length) = match *rest.first()? {
        b'b' => (0x08, 1),
        b'f' => (0x0c, 1),
        b'n' => (b'\n', 1),
        b'r' => (b'\r', 1),
        b't' => (b'\t', 1),
        b'v' => return None,
        b'0'..=b'7' => number(rest, 8, 1, 3)?,
        b'x' => match number(&rest[1..], 16, 1, 2) {
            Some((byte, length)) => (byte, length + 1),
            None => (b'x', 1),
        },
        long @ (b'u' | b'U') => {
            let digits = if long == b'u' { 4 } else { 8 };
            let (code, length) = code_point(&rest[1..], digits)?;
            (u8::try_from(code).ok().filter(u8::is_ascii)?, length + 1)
        }
        other => (other, 1),
    };
    // The server refuses a NUL.
    (byte != 0).then_some((byte, length))
}

/// Up to `most` digits; like PostgreSQL, an octal number over 255 keeps its low byte.
fn number(rest: &[u8], radix: u32, least: usize, most: usize) -> Option<(u8, usize)> {
    let digits = rest.iter().take(most).map_while(|&byte| char::from(byte).to_digit(radix));
    let (value, length) =
        digits.fold((0u32, 0), |(value, length), digit| (value * radix + digit, length + 1));
    (length >= least).then_some((value.to_le_bytes()[0], length))
}

/// Exactly `digits` hexadecimal digits.
fn code_point(rest: &[u8], digits: usize) -> Option<(u32, usize)> {
    let text = std::str::from_utf8(rest.get(..digits)?).ok()?;
    text.bytes().all(|byte| byte.is_ascii_hexdigit()).then_some(())?;
    Some((u32::from_str_radix(text, 16).ok()?, digits))
}
