//! The elements of an array in text (`array_in`) and binary (`array_recv`) form.
//!
//! One dimension only, and only the spellings that cannot be read in two ways. `None` means that
//! the value was not understood, or that `visit` did not understand an element.

use std::borrow::Cow;

/// Calls `visit` for each element of `{1, "a b", NULL}`; a NULL is `None`.
pub(super) fn text_elements<'v>(
    text: &'v [u8],
    visit: &mut impl FnMut(Option<Cow<'v, [u8]>>) -> Option<()>,
) -> Option<()> {
    let mut rest = trim_start(text).strip_prefix(b"{")?;
    if let Some(end) = trim_start(rest).strip_prefix(b"}") {
        return trim_start(end).is_empty().then_some(());
    }
    loop {
        rest = trim_start(rest);
        let (element, after) = match rest.strip_prefix(b"\"") {
            Some(inside) => {
                let (element, after) = quoted(inside)?;
                (Some(element), trim_start(after))
            }
            None => {
                let length =
                    rest.iter().position(|byte| matches!(byte, b',' | b'{' | b'}' | b'"' | b'\\'))?;
                let (element, after) = rest.split_at(length);
                (bare(element)?, after)
            }
        };
        visit(element)?;
        match after.split_first()? {
            (b',', after) => rest = after,
            (b'}', after) => return trim_start(after).is_empty().then_some(()),
            _ => return None,
        }
    }
}

/// An element without quotes: NULL, or what is between the white space around it.
fn bare(element: &[u8]) -> Option<Option<Cow<'_, [u8]>>> {
    let end = element.iter().rposition(|byte| !is_space(byte))? + 1;
    let element = &element[..end];
    Some((!element.eq_ignore_ascii_case(b"null")).then_some(Cow::Borrowed(element)))
}

/// The element whose opening quote is before `inside`, and what follows its closing quote.
fn quoted(inside: &[u8]) -> Option<(Cow<'_, [u8]>, &[u8])> {
    let plain = inside.iter().position(|byte| matches!(byte, b'"' | b'\\'))?;
    if inside[plain] == b'"' {
        return Some((Cow::Borrowed(&inside[..plain]), &inside[plain + 1..]));
    }
    let mut element = inside[..plain].to_vec();
    let mut bytes = inside[plain..].iter();
    loop {
        match bytes.next()? {
            b'"' => return Some((Cow::Owned(element), bytes.as_slice())),
            b'\\' => element.push(*bytes.next()?),
            &byte => element.push(byte),
        }
    }
}

fn is_space(byte: &u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

fn trim_start(text: &[u8]) -> &[u8] {
    let start = text.iter().position(|byte| !is_space(byte)).unwrap_or(text.len());
    &text[start..]
}

/// Calls `visit` with the elements' type and the bytes of each; a NULL is `None`.
pub(super) fn binary_elements<'v>(
    bytes: &'v [u8],
    visit: &mut impl FnMut(u32, Option<&'v [u8]>) -> Option<()>,
) -> Option<()> {
    let (dimensions, rest) = number(bytes)?;
    let (_has_nulls, rest) = number(rest)?;
    let (element_type, mut rest) = number(rest)?;
    if dimensions == 0 {
        return rest.is_empty().then_some(());
    }
    if dimensions != 1 {
        return None;
    }
    let (count, after) = number(rest)?;
    let (_lower_bound, after) = number(after)?;
    rest = after;
    // Each element takes four bytes at least, so that the count is bounded by the message.
    for _ in 0..count {
        let (length, after) = number(rest)?;
        if length == u32::MAX {
            visit(element_type, None)?;
            rest = after;
        } else {
            let (element, after) = after.split_at_checked(usize::try_from(length).ok()?)?;
            visit(element_type, Some(element))?;
            rest = after;
        }
    }
    rest.is_empty().then_some(())
}

fn number(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let (number, rest) = bytes.split_first_chunk::<4>()?;
    Some((u32::from_be_bytes(*number), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_arrays() {
        let rows: &[(&str, Option<&[Option<&str>]>)] = &[
            ("{}", Some(&[])),
            (" { } ", Some(&[])),
            ("{1}", Some(&[Some("1")])),
            (" {1 ,\t2 } ", Some(&[Some("1"), Some("2")])),
            ("{NULL,null,\"NULL\"}", Some(&[None, None, Some("NULL")])),
            ("{a b,\"\",\" c \"}", Some(&[Some("a b"), Some(""), Some(" c ")])),
            (r#"{"a\"b\\c","x,}y"}"#, Some(&[Some(r#"a"b\c"#), Some("x,}y")])),
            ("", None),
            ("1", None),
            ("{", None),
            ("{1", None),
            ("{1,", None),
            ("{1,}", None),
            ("{,}", None),
            ("{1}}", None),
            ("{1}x", None),
            ("{{1},{2}}", None),
            ("[0:1]={1,2}", None),
            ("{a\"b\"}", None),
            ("{\"a\"b}", None),
            (r"{a\b}", None),
            (r#"{"a\"#, None),
            ("{\"a", None),
        ];
        for (text, expect) in rows {
            let mut elements = Vec::new();
            let read = text_elements(text.as_bytes(), &mut |element| {
                elements.push(element.map(|element| String::from_utf8(element.into_owned()).unwrap()));
                Some(())
            });
            let expect = expect.map(|all| all.iter().map(|text| text.map(str::to_owned)).collect::<Vec<_>>());
            assert_eq!(read.map(|()| elements), expect, "{text}");
        }
    }

    #[test]
    fn binary_arrays() {
        let array =
            |numbers: &[u32]| numbers.iter().flat_map(|number| number.to_be_bytes()).collect::<Vec<_>>();
        let rows: &[(&[u32], Option<usize>)] = &[
            (&[0, 0, 23], Some(0)),
            (&[1, 0, 23, 1, 1, 4, 42], Some(1)),
            (&[1, 1, 23, 2, 1, 4, 42, u32::MAX], Some(2)),
            (&[1, 0, 23, 0, 1], Some(0)),
            (&[], None),
            (&[0, 0], None),
            (&[0, 0, 23, 0], None),
            (&[2, 0, 23, 1, 1, 1, 1, 4, 42], None),
            (&[1, 0, 23, u32::MAX, 1, 4, 42], None),
            (&[1, 0, 23, 1, 1, 5, 42], None),
            (&[1, 0, 23, 1, 1, 0x8000_0000, 42], None),
            (&[1, 0, 23, 1, 1, 4, 42, 42], None),
        ];
        for (numbers, expect) in rows {
            let mut count = 0;
            let bytes = array(numbers);
            let read = binary_elements(&bytes, &mut |element_type, _| {
                assert_eq!(element_type, 23);
                count += 1;
                Some(())
            });
            assert_eq!(read.map(|()| count), *expect, "{numbers:?}");
        }
    }
}
