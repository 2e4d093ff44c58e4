//! A value → the key the ring hashes, if the value is proven to denote one.
//!
//! Each reading here is the common part of what PostgreSQL 12 to 18 read. Where a newer server
//! takes more (`1_000` and `0x10` as integers), the value is left unproven.

use super::Value;
use super::array;
use super::explain::ShownKey;
use crate::ring::{Key, KeyHash};
use crate::sql::{KeyType, TokenKind};

/// Type OIDs (`pg_type.dat`).
mod oid {
    pub(super) const INT8: u32 = 20;
    pub(super) const INT2: u32 = 21;
    pub(super) const INT4: u32 = 23;
    pub(super) const TEXT: u32 = 25;
    pub(super) const UNKNOWN: u32 = 705;
    pub(super) const INT2_ARRAY: u32 = 1005;
    pub(super) const INT4_ARRAY: u32 = 1007;
    pub(super) const TEXT_ARRAY: u32 = 1009;
    pub(super) const VARCHAR_ARRAY: u32 = 1015;
    pub(super) const INT8_ARRAY: u32 = 1016;
    pub(super) const VARCHAR: u32 = 1043;
    pub(super) const UUID: u32 = 2950;
    pub(super) const UUID_ARRAY: u32 = 2951;
}

/// What a value turned out to be.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Found {
    Key(KeyHash, ShownKey),
    Null,
}

/// How values are read, beside their type.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Reading {
    pub(super) key_type: KeyType,
    /// Client and servers use one encoding. If not, the bytes seen here are not those that are
    /// stored, unless they are ASCII.
    pub(super) same_encoding: bool,
    /// The value may be stored: `varchar(n)` cuts trailing spaces off what is too long for it,
    /// so a text that has some is not proven to be what is stored.
    pub(super) stored: bool,
}

impl Reading {
    fn found(&self, key: Option<Key<'_>>) -> Option<Found> {
        let key = key?;
        let shown = match key {
            Key::Integer(value) => ShownKey::Integer(value),
            Key::Uuid(bytes) => ShownKey::Uuid(bytes),
            Key::Text(_) => ShownKey::Text,
        };
        Some(Found::Key(key.hash(), shown))
    }

    /// A value in its text form.
    pub(super) fn text(&self, text: &[u8]) -> Option<Found> {
        self.found(match self.key_type {
            KeyType::Integer => integer(text).map(Key::Integer),
            KeyType::Text => self.plain_text(text),
            KeyType::Uuid => uuid(text).map(Key::Uuid),
        })
    }

    fn plain_text<'v>(&self, text: &'v [u8]) -> Option<Key<'v>> {
        let same_bytes = self.same_encoding || text.is_ascii();
        let kept_whole = !self.stored || text.last() != Some(&b' ');
        (same_bytes && kept_whole).then_some(Key::Text(text))
    }

    /// A value in binary format; `declared` is its type, 0 if the server infers it.
    fn binary(&self, bytes: &[u8], declared: u32) -> Option<Found> {
        self.found(match (self.key_type, declared, bytes.len()) {
            (KeyType::Integer, oid::INT2 | 0, 2) => {
                bytes.try_into().ok().map(|bytes| Key::Integer(i16::from_be_bytes(bytes).into()))
            }
            (KeyType::Integer, oid::INT4 | 0, 4) => {
                bytes.try_into().ok().map(|bytes| Key::Integer(i32::from_be_bytes(bytes).into()))
            }
            (KeyType::Integer, oid::INT8 | 0, 8) => {
                bytes.try_into().ok().map(|bytes| Key::Integer(i64::from_be_bytes(bytes)))
            }
            (KeyType::Text, oid::TEXT | oid::VARCHAR | 0, _) => self.plain_text(bytes),
            (KeyType::Uuid, oid::UUID | 0, 16) => bytes.try_into().ok().map(Key::Uuid),
            _ => None,
        })
    }

    /// A literal: a number or a string, not one of a type of its own (`B''`, `N''`).
    pub(super) fn literal(&self, kind: TokenKind, value: &[u8]) -> Option<Found> {
        match kind {
            TokenKind::Integer if self.key_type == KeyType::Integer => self.text(value),
            kind if is_untyped_string(kind) => self.text(value),
            _ => None,
        }
    }

    /// `-` before a literal. Before a string, PostgreSQL takes it for a `double precision`.
    pub(super) fn negated(&self, kind: TokenKind, value: &[u8]) -> Option<Found> {
        let negated = kind == TokenKind::Integer && self.key_type == KeyType::Integer;
        self.found(negated.then(|| digits(value, true)).flatten().map(Key::Integer))
    }

    /// A string literal that holds an array.
    pub(super) fn literal_array(
        &self,
        kind: TokenKind,
        value: &[u8],
        visit: &mut impl FnMut(Found),
    ) -> Option<()> {
        if is_untyped_string(kind) { self.text_array(value, visit) } else { None }
    }

    pub(super) fn parameter(&self, value: Value<'_>, declared: u32) -> Option<Found> {
        let declared = if declared == oid::UNKNOWN { 0 } else { declared };
        let fits = match self.key_type {
            KeyType::Integer => matches!(declared, oid::INT2 | oid::INT4 | oid::INT8 | 0),
            KeyType::Text => matches!(declared, oid::TEXT | oid::VARCHAR | 0),
            KeyType::Uuid => matches!(declared, oid::UUID | 0),
        };
        match value {
            _ if !fits => None,
            Value::Null => Some(Found::Null),
            Value::Text(text) => self.text(text),
            Value::Binary(bytes) => self.binary(bytes, declared),
        }
    }

    pub(super) fn parameter_array(
        &self,
        value: Value<'_>,
        declared: u32,
        visit: &mut impl FnMut(Found),
    ) -> Option<()> {
        let element = match (self.key_type, declared) {
            (_, 0 | oid::UNKNOWN) => 0,
            (KeyType::Integer, oid::INT2_ARRAY) => oid::INT2,
            (KeyType::Integer, oid::INT4_ARRAY) => oid::INT4,
            (KeyType::Integer, oid::INT8_ARRAY) => oid::INT8,
            (KeyType::Text, oid::TEXT_ARRAY) => oid::TEXT,
            (KeyType::Text, oid::VARCHAR_ARRAY) => oid::VARCHAR,
            (KeyType::Uuid, oid::UUID_ARRAY) => oid::UUID,
            _ => return None,
        };
        match value {
            Value::Null => {
                visit(Found::Null);
                Some(())
            }
            Value::Text(text) => self.text_array(text, visit),
            Value::Binary(bytes) => array::binary_elements(bytes, &mut |declared, bytes| {
                if declared == 0 || (element != 0 && element != declared) {
                    return None;
                }
                visit(match bytes {
                    None => Found::Null,
                    Some(bytes) => self.binary(bytes, declared)?,
                });
                Some(())
            }),
        }
    }

    fn text_array(&self, text: &[u8], visit: &mut impl FnMut(Found)) -> Option<()> {
        array::text_elements(text, &mut |element| {
            visit(match element {
                // With `array_nulls` off it is the text "NULL".
                None if self.key_type == KeyType::Text => return None,
                None => Found::Null,
                Some(element) => self.text(&element)?,
            });
            Some(())
        })
    }
}

fn is_untyped_string(kind: TokenKind) -> bool {
    matches!(
        kind,
        TokenKind::String | TokenKind::EscapeString | TokenKind::DollarString | TokenKind::UnicodeString
    )
}

/// What every `int8in` reads: white space around, a sign, decimal digits.
fn integer(text: &[u8]) -> Option<i64> {
    let space = |byte: &u8| matches!(byte, b' ' | b'\t'..=b'\r');
    let start = text.iter().position(|byte| !space(byte))?;
    let end = text.iter().rposition(|byte| !space(byte))? + 1;
    match &text[start..end] {
        [b'-', rest @ ..] => digits(rest, true),
        [b'+', rest @ ..] => digits(rest, false),
        all => digits(all, false),
    }
}

fn digits(text: &[u8], negative: bool) -> Option<i64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0i64, |value, byte| {
        let digit = i64::from(byte.is_ascii_digit().then(|| byte - b'0')?);
        let value = value.checked_mul(10)?;
        if negative { value.checked_sub(digit) } else { value.checked_add(digit) }
    })
}

/// `string_to_uuid`: 32 hexadecimal digits, a hyphen allowed after each four, braces allowed
/// around all.
fn uuid(text: &[u8]) -> Option<[u8; 16]> {
    let mut rest = match text {
        [b'{', inside @ .., b'}'] => inside,
        [b'{', ..] => return None,
        all => all,
    };
    let mut bytes = [0; 16];
    for (index, byte) in bytes.iter_mut().enumerate() {
        let (pair, after) = rest.split_first_chunk::<2>()?;
        let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
        rest = match after {
            [b'-', after @ ..] if index % 2 == 1 && index < 15 => after,
            after => after,
        };
    }
    rest.is_empty().then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn reading(key_type: KeyType) -> Reading {
        Reading { key_type, same_encoding: true, stored: false }
    }

    fn key(key: Key<'_>) -> Option<Found> {
        reading(KeyType::Integer).found(Some(key))
    }

    const ID: [u8; 16] =
        [0xa0, 0xee, 0xbc, 0x99, 0x9c, 0x0b, 0x4e, 0xf8, 0xbb, 0x6d, 0x6b, 0xb9, 0xbd, 0x38, 0x0a, 0x11];

    #[test]
    fn integers() {
        let rows: &[(&str, Option<i64>)] = &[
            ("42", Some(42)),
            (" \t\n\u{b}\u{c}\r-42 ", Some(-42)),
            ("+0042", Some(42)),
            ("-0", Some(0)),
            ("9223372036854775807", Some(i64::MAX)),
            ("-9223372036854775808", Some(i64::MIN)),
            ("9223372036854775808", None),
            ("-9223372036854775809", None),
            ("", None),
            (" ", None),
            ("-", None),
            ("- 1", None),
            ("--1", None),
            ("1e2", None),
            ("1.0", None),
            ("0x10", None),
            ("1_000", None),
            ("4 2", None),
            ("\u{a0}1", None),
        ];
        for (text, expect) in rows {
            let found = reading(KeyType::Integer).text(text.as_bytes());
            assert_eq!(found, expect.and_then(|value| key(Key::Integer(value))), "{text:?}");
        }
    }

    #[test]
    fn uuids() {
        let good = [
            "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
            "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11",
            "{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}",
            "a0eebc999c0b4ef8bb6d6bb9bd380a11",
            "a0ee-bc99-9c0b-4ef8-bb6d-6bb9-bd38-0a11",
            "{a0eebc99-9c0b4ef8-bb6d6bb9-bd380a11}",
        ];
        for text in good {
            assert_eq!(reading(KeyType::Uuid).text(text.as_bytes()), key(Key::Uuid(ID)), "{text}");
        }
        let bad = [
            "",
            "{}",
            "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a1",
            "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a111",
            "a0-eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
            "a0eebc999c0b4ef8bb6d6bb9bd380a11-",
            "-a0eebc999c0b4ef8bb6d6bb9bd380a11",
            "a0eebc99--9c0b-4ef8-bb6d-6bb9bd380a11",
            "{a0eebc999c0b4ef8bb6d6bb9bd380a11",
            "a0eebc999c0b4ef8bb6d6bb9bd380a11}",
            " a0eebc999c0b4ef8bb6d6bb9bd380a11",
            "g0eebc999c0b4ef8bb6d6bb9bd380a11",
        ];
        for text in bad {
            assert_eq!(reading(KeyType::Uuid).text(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn texts() {
        let read = reading(KeyType::Text);
        assert_eq!(read.text(b"a "), key(Key::Text(b"a ")));
        assert_eq!(read.text(b""), key(Key::Text(b"")));
        assert_eq!(Reading { stored: true, ..read }.text(b"a "), None);
        assert_eq!(Reading { stored: true, ..read }.text(b" a"), key(Key::Text(b" a")));
        let other = Reading { same_encoding: false, ..read };
        assert_eq!(other.text(b"a"), key(Key::Text(b"a")));
        assert_eq!(other.text("\u{e9}".as_bytes()), None);
        assert_eq!(read.text("\u{e9}".as_bytes()), key(Key::Text("\u{e9}".as_bytes())));
    }

    #[test]
    fn literals() {
        let integer = reading(KeyType::Integer);
        let text = reading(KeyType::Text);
        assert_eq!(integer.literal(TokenKind::Integer, b"42"), key(Key::Integer(42)));
        assert_eq!(integer.literal(TokenKind::String, b"42"), key(Key::Integer(42)));
        assert_eq!(integer.literal(TokenKind::DollarString, b" 42"), key(Key::Integer(42)));
        assert_eq!(integer.literal(TokenKind::Integer, b"0x2A"), None);
        assert_eq!(integer.literal(TokenKind::Decimal, b"42"), None);
        assert_eq!(integer.literal(TokenKind::NationalString, b"42"), None);
        assert_eq!(integer.literal(TokenKind::BitString, b"1"), None);
        assert_eq!(text.literal(TokenKind::EscapeString, b"42"), key(Key::Text(b"42")));
        assert_eq!(text.literal(TokenKind::Integer, b"42"), None);
        assert_eq!(integer.negated(TokenKind::Integer, b"42"), key(Key::Integer(-42)));
        assert_eq!(integer.negated(TokenKind::Integer, b"9223372036854775808"), key(Key::Integer(i64::MIN)));
        assert_eq!(integer.negated(TokenKind::String, b"42"), None);
        assert_eq!(integer.negated(TokenKind::Integer, b"-42"), None);
        assert_eq!(text.negated(TokenKind::Integer, b"42"), None);
    }

    #[test]
    fn parameters_meet_on_one_shard_whatever_their_width() {
        let integer = reading(KeyType::Integer);
        let (two, four, eight) = (42i16.to_be_bytes(), 42i32.to_be_bytes(), 42i64.to_be_bytes());
        let expect = key(Key::Integer(42));
        let rows: &[(Value<'_>, u32, Option<Found>)] = &[
            (Value::Binary(&two), oid::INT2, expect),
            (Value::Binary(&four), oid::INT4, expect),
            (Value::Binary(&eight), oid::INT8, expect),
            (Value::Binary(&two), 0, expect),
            (Value::Binary(&four), 0, expect),
            (Value::Binary(&eight), oid::UNKNOWN, expect),
            (Value::Text(b"42"), oid::INT4, expect),
            (Value::Text(b"42"), 0, expect),
            (Value::Null, oid::INT4, Some(Found::Null)),
            (Value::Binary(&four), oid::INT8, None),
            (Value::Binary(&eight), oid::INT4, None),
            (Value::Binary(b"42"), oid::INT4, None),
            (Value::Binary(b""), 0, None),
            (Value::Binary(b"123"), 0, None),
            (Value::Text(b"42"), oid::TEXT, None),
            (Value::Text(b"42"), 1700, None),
            (Value::Text(b"42"), 701, None),
            (Value::Binary(&eight), 701, None),
            (Value::Null, 1700, None),
        ];
        for (value, declared, expect) in rows {
            assert_eq!(integer.parameter(*value, *declared), *expect, "{value:?} {declared}");
        }
        assert_eq!(key(Key::Integer(-2)), integer.parameter(Value::Binary(&(-2i16).to_be_bytes()), 0));
        let text = reading(KeyType::Text);
        assert_eq!(text.parameter(Value::Binary(b"x"), oid::VARCHAR), key(Key::Text(b"x")));
        assert_eq!(text.parameter(Value::Text(b"42"), oid::INT4), None);
        // `name` is cut at 63 bytes, `bpchar` ignores trailing spaces.
        assert_eq!(text.parameter(Value::Text(b"x"), 19), None);
        assert_eq!(text.parameter(Value::Text(b"x"), 1042), None);
        let uuid = reading(KeyType::Uuid);
        assert_eq!(uuid.parameter(Value::Binary(&ID), oid::UUID), key(Key::Uuid(ID)));
        assert_eq!(uuid.parameter(Value::Binary(&ID[..15]), 0), None);
        assert_eq!(uuid.parameter(Value::Text(b"a0eebc999c0b4ef8bb6d6bb9bd380a11"), oid::TEXT), None);
    }

    fn all(read: impl FnOnce(&mut dyn FnMut(Found)) -> Option<()>) -> Option<Vec<Found>> {
        let mut found = Vec::new();
        read(&mut |element| found.push(element))?;
        Some(found)
    }

    /// `{42, NULL, -1}`
    fn binary_array(element: u32, width: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        for number in [1, 1, element, 3, 1] {
            bytes.extend(number.to_be_bytes());
        }
        let mut push = |value: i64| {
            bytes.extend(u32::try_from(width).unwrap().to_be_bytes());
            bytes.extend(&value.to_be_bytes()[8 - width..]);
        };
        push(42);
        push(-1);
        let null = bytes.len() - 4 - width;
        bytes.splice(null..null, (-1i32).to_be_bytes());
        bytes
    }

    #[test]
    fn arrays() {
        let integer = reading(KeyType::Integer);
        let expect = Some(vec![key(Key::Integer(42)).unwrap(), Found::Null, key(Key::Integer(-1)).unwrap()]);
        let read = |value: Value<'_>, declared| {
            all(|mut visit| integer.parameter_array(value, declared, &mut visit))
        };
        assert_eq!(read(Value::Text(b"{42,null,\"-1\"}"), oid::INT4_ARRAY), expect);
        assert_eq!(read(Value::Text(b"{42,NULL,-1}"), 0), expect);
        assert_eq!(read(Value::Binary(&binary_array(oid::INT4, 4)), oid::INT4_ARRAY), expect);
        assert_eq!(read(Value::Binary(&binary_array(oid::INT8, 8)), 0), expect);
        assert_eq!(read(Value::Binary(&binary_array(oid::INT8, 8)), oid::INT4_ARRAY), None);
        assert_eq!(read(Value::Binary(&binary_array(oid::INT8, 4)), 0), None);
        assert_eq!(read(Value::Binary(&binary_array(701, 8)), 0), None);
        assert_eq!(read(Value::Binary(&binary_array(0, 8)), 0), None);
        assert_eq!(read(Value::Text(b"{42,1.5}"), 0), None);
        assert_eq!(read(Value::Text(b"{42}"), 1231), None);
        assert_eq!(read(Value::Text(b"{42}"), oid::INT4), None);
        assert_eq!(read(Value::Null, 0), Some(vec![Found::Null]));
        let literal = all(|mut visit| integer.literal_array(TokenKind::String, b"{42,null,-1}", &mut visit));
        assert_eq!(literal, expect);
        assert_eq!(all(|mut visit| integer.literal_array(TokenKind::Integer, b"42", &mut visit)), None);
        let text = reading(KeyType::Text);
        assert_eq!(
            all(|mut visit| text.parameter_array(Value::Text(b"{a,\"null\"}"), 0, &mut visit)),
            Some(vec![key(Key::Text(b"a")).unwrap(), key(Key::Text(b"null")).unwrap()])
        );
        assert_eq!(all(|mut visit| text.parameter_array(Value::Text(b"{a,null}"), 0, &mut visit)), None);
    }

    proptest! {
        #[test]
        fn never_panics(bytes in prop::collection::vec(any::<u8>(), 0..60), declared: u16) {
            for key_type in [KeyType::Integer, KeyType::Text, KeyType::Uuid] {
                let read = reading(key_type);
                for value in [Value::Text(&bytes), Value::Binary(&bytes)] {
                    for declared in [0, declared.into()] {
                        read.parameter(value, declared);
                        read.parameter_array(value, declared, &mut |_| {});
                    }
                }
            }
        }

        #[test]
        fn every_integer_is_read_back(value: i64) {
            let read = reading(KeyType::Integer);
            prop_assert_eq!(read.text(value.to_string().as_bytes()), key(Key::Integer(value)));
            prop_assert_eq!(read.parameter(Value::Binary(&value.to_be_bytes()), 20), key(Key::Integer(value)));
        }
    }
}
