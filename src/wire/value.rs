//! Values that pgring itself answers with, in the format the client has asked for.

use super::{ColumnType, Format};
use std::borrow::Cow;

/// A value, given as text, as its column's format has it. Text is the same in both. What does not
/// read as its type's text is sent as text: a column never holds such a value.
pub fn encode(text: &str, kind: ColumnType, format: Format) -> Cow<'_, [u8]> {
    let binary = match (format, kind) {
        (Format::Binary, ColumnType::Int4) => text.parse().ok().map(|n: i32| n.to_be_bytes().to_vec()),
        (Format::Binary, ColumnType::Int8) => text.parse().ok().map(|n: i64| n.to_be_bytes().to_vec()),
        (Format::Binary, ColumnType::Numeric) => numeric(text),
        (Format::Text, _) | (_, ColumnType::Text) => None,
    };
    binary.map_or(Cow::Borrowed(text.as_bytes()), Cow::Owned)
}

/// `numeric_send`: digits of base 10,000, the power of the first, sign, and decimals to show
/// (`utils/adt/numeric.c`).
fn numeric(text: &str) -> Option<Vec<u8>> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => (0x4000_u16, digits),
        None => (0, text),
    };
    let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
    if whole.is_empty() || !whole.bytes().chain(part.bytes()).all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let missing = |len: usize| (4 - len % 4) % 4;
    let padded = format!(
        "{:0>before$}{whole}{part}{:0>after$}",
        "",
        "",
        before = missing(whole.len()),
        after = missing(part.len())
    );
    let mut groups = Vec::new();
    for group in padded.as_bytes().chunks(4) {
        groups.push(group.iter().fold(0_u16, |number, digit| number * 10 + u16::from(digit - b'0')));
    }
    let mut weight = i16::try_from((whole.len() + missing(whole.len())) / 4).ok()? - 1;
    while groups.first() == Some(&0) {
        groups.remove(0);
        weight -= 1;
    }
    while groups.last() == Some(&0) {
        groups.pop();
    }
    let (weight, sign) = if groups.is_empty() { (0, 0) } else { (weight, sign) };
    let mut out = u16::try_from(groups.len()).ok()?.to_be_bytes().to_vec();
    out.extend(weight.to_be_bytes());
    out.extend(sign.to_be_bytes());
    out.extend(u16::try_from(part.len()).ok()?.to_be_bytes());
    groups.iter().for_each(|group| out.extend(group.to_be_bytes()));
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `SELECT numeric_send(…)` gives.
    #[test]
    fn numerics() {
        let check = |text: &str, expect: &[u16]| {
            let expect: Vec<u8> = expect.iter().flat_map(|word| word.to_be_bytes()).collect();
            assert_eq!(numeric(text), Some(expect), "{text}");
        };
        check("0", &[0, 0, 0, 0]);
        check("0.0000", &[0, 0, 0, 4]);
        check("1", &[1, 0, 0, 0, 1]);
        check("10000", &[1, 1, 0, 0, 1]);
        check("12345678", &[2, 1, 0, 0, 1234, 5678]);
        check("0.5003", &[1, 0xFFFF, 0, 4, 5003]);
        check("0.00001", &[1, 0xFFFE, 0, 5, 1000]);
        check("-12.5", &[2, 0, 0x4000, 1, 12, 5000]);
        check("7450000000000000000", &[1, 4, 0, 0, 745]);
        for text in ["", "-", "1e5", ".5", "NaN", "١"] {
            assert_eq!(numeric(text), None, "{text}");
        }
    }

    #[test]
    fn text_stays_text() {
        assert_eq!(&*encode("7", ColumnType::Int4, Format::Binary), [0, 0, 0, 7]);
        assert_eq!(&*encode("7", ColumnType::Int4, Format::Text), b"7");
        assert_eq!(&*encode("7", ColumnType::Text, Format::Binary), b"7");
    }
}
