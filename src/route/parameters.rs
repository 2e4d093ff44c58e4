//! A `Bind`'s parameters, read where they lie (PostgreSQL manual, section 55.7).
//!
//! Nothing is copied and nothing is trusted: a length that leads out of the message, or out of
//! the part of it that has arrived, makes a value absent, never a panic. Whether the message is
//! whole is the framing's affair; the server judges the rest.

use crate::error::ClientError;
use std::cell::OnceCell;

/// One parameter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Value<'a> {
    /// NULL.
    Null,
    /// In text format.
    Text(&'a [u8]),
    /// In binary format.
    Binary(&'a [u8]),
}

/// A `Bind` whose head makes no sense.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ParametersError {
    /// It ends before the parameters begin.
    #[error("insufficient data left in message")]
    Truncated,
    /// A format that is neither text (0) nor binary (1).
    #[error("unsupported format code: {0}")]
    Format(u16),
    /// Neither none, nor one, nor one for each parameter.
    #[error("bind message has {formats} parameter formats but {parameters} parameters")]
    FormatCount {
        /// How many formats.
        formats: u16,
        /// How many parameters.
        parameters: u16,
    },
}

impl From<ParametersError> for ClientError {
    fn from(error: ParametersError) -> ClientError {
        ClientError::protocol(error.to_string())
    }
}

/// Parameters up to this number are found by walking; beyond it an index is made once, so that a
/// statement with thousands of keys is not walked thousands of times.
const WALKED: usize = 32;

/// The parameters of a `Bind`.
#[derive(Debug, Default)]
pub struct Parameters<'a> {
    /// Two bytes each.
    formats: &'a [u8],
    count: usize,
    /// Each a length and its bytes.
    values: &'a [u8],
    types: &'a [u32],
    offsets: OnceCell<Vec<usize>>,
}

impl<'a> Parameters<'a> {
    /// Of a statement without any.
    pub fn none() -> Parameters<'a> {
        Parameters::default()
    }

    /// From what follows the two names in a `Bind`, or from as much of it as has arrived.
    /// `types` are the OIDs its `Parse` declared (0: left to the server); there may be fewer.
    pub fn parse(body: &'a [u8], types: &'a [u32]) -> Result<Parameters<'a>, ParametersError> {
        let (format_count, rest) = u16_at_front(body).ok_or(ParametersError::Truncated)?;
        let (formats, rest) =
            rest.split_at_checked(2 * usize::from(format_count)).ok_or(ParametersError::Truncated)?;
        let (count, values) = u16_at_front(rest).ok_or(ParametersError::Truncated)?;
        for format in formats.chunks_exact(2) {
            match u16::from_be_bytes([format[0], format[1]]) {
                0 | 1 => {}
                other => return Err(ParametersError::Format(other)),
            }
        }
        if format_count > 1 && format_count != count {
            return Err(ParametersError::FormatCount { formats: format_count, parameters: count });
        }
        Ok(Parameters { formats, count: usize::from(count), values, types, offsets: OnceCell::new() })
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// `$number`. `None`: there is none, or its bytes are not all here.
    pub fn get(&self, number: u16) -> Option<Value<'a>> {
        let index = usize::from(number).checked_sub(1).filter(|&index| index < self.count)?;
        let at = if index < WALKED {
            (0..index).try_fold(0, |at, _| self.after(at))?
        } else {
            *self.offsets.get_or_init(|| self.index()).get(index)?
        };
        let (value, _) = self.value_at(at)?;
        let format =
            if self.formats.len() > 2 { self.formats.get(2 * index + 1) } else { self.formats.get(1) };
        Some(match (value, format) {
            (None, _) => Value::Null,
            (Some(bytes), Some(1)) => Value::Binary(bytes),
            (Some(bytes), _) => Value::Text(bytes),
        })
    }

    /// The OID declared for `$number`; 0 if it was left to the server, also as `unknown`.
    pub fn declared_type(&self, number: u16) -> u32 {
        const UNKNOWN: u32 = 705;
        let index = usize::from(number).checked_sub(1);
        let declared = index.and_then(|index| self.types.get(index)).copied();
        declared.filter(|declared| *declared != UNKNOWN).unwrap_or(0)
    }

    /// The value that begins at `at`, and where the next one does.
    fn value_at(&self, at: usize) -> Option<(Option<&'a [u8]>, usize)> {
        let (length, rest) = self.values.get(at..)?.split_first_chunk::<4>()?;
        let start = at + 4;
        match i32::from_be_bytes(*length) {
            -1 => Some((None, start)),
            length => {
                let length = usize::try_from(length).ok()?;
                Some((Some(rest.get(..length)?), start.checked_add(length)?))
            }
        }
    }

    fn after(&self, at: usize) -> Option<usize> {
        self.value_at(at).map(|(_, next)| next)
    }

    /// Where each value begins, as far as they are here.
    fn index(&self) -> Vec<usize> {
        std::iter::successors(Some(0), |&at| self.after(at)).take(self.count).collect()
    }
}

fn u16_at_front(bytes: &[u8]) -> Option<(u16, &[u8])> {
    let (number, rest) = bytes.split_first_chunk::<2>()?;
    Some((u16::from_be_bytes(*number), rest))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The body of a `Bind` after its names.
    pub(in crate::route) fn body(formats: &[u16], values: &[Option<&[u8]>]) -> Vec<u8> {
        let number = |number: usize| u16::try_from(number).unwrap().to_be_bytes();
        let mut body = number(formats.len()).to_vec();
        body.extend(formats.iter().flat_map(|format| format.to_be_bytes()));
        body.extend(number(values.len()));
        for value in values {
            match value {
                None => body.extend((-1i32).to_be_bytes()),
                Some(bytes) => {
                    body.extend(i32::try_from(bytes.len()).unwrap().to_be_bytes());
                    body.extend(*bytes);
                }
            }
        }
        body.extend([0, 0]);
        body
    }

    #[test]
    fn values_are_found_in_their_formats() {
        let values: [Option<&[u8]>; 3] = [Some(b"a"), None, Some(b"")];
        let expect = |formats: &[u16], kinds: [fn(&'static [u8]) -> Value<'static>; 2]| {
            let body = body(formats, &values);
            let parameters = Parameters::parse(&body, &[20]).unwrap();
            assert_eq!(parameters.get(0), None);
            assert_eq!(parameters.get(1), Some(kinds[0](b"a")));
            assert_eq!(parameters.get(2), Some(Value::Null));
            assert_eq!(parameters.get(3), Some(kinds[1](b"")));
            assert_eq!(parameters.get(4), None);
            assert_eq!((parameters.declared_type(1), parameters.declared_type(2)), (20, 0));
        };
        expect(&[], [Value::Text, Value::Text]);
        expect(&[0], [Value::Text, Value::Text]);
        expect(&[1], [Value::Binary, Value::Binary]);
        expect(&[1, 0, 0], [Value::Binary, Value::Text]);
        assert_eq!(Parameters::none().get(1), None);
    }

    #[test]
    fn many_are_found_by_an_index() {
        let texts: Vec<String> = (1..=40_000).map(|n: u32| n.to_string()).collect();
        let values: Vec<Option<&[u8]>> = texts.iter().map(|text| Some(text.as_bytes())).collect();
        let body = body(&[], &values);
        let parameters = Parameters::parse(&body, &[]).unwrap();
        for number in (1..=40_000u16).rev() {
            assert_eq!(parameters.get(number), Some(Value::Text(number.to_string().as_bytes())));
        }
    }

    #[test]
    fn a_head_that_makes_no_sense_is_an_error() {
        let parse = |body: &[u8]| Parameters::parse(body, &[]).err();
        assert_eq!(parse(&[]), Some(ParametersError::Truncated));
        assert_eq!(parse(&[0, 2, 0, 0]), Some(ParametersError::Truncated));
        assert_eq!(parse(&[0, 1, 0, 2, 0, 1]), Some(ParametersError::Format(2)));
        let count = ParametersError::FormatCount { formats: 2, parameters: 1 };
        assert_eq!(parse(&[0, 2, 0, 0, 0, 0, 0, 1]), Some(count));
    }

    #[test]
    fn a_value_that_is_not_all_here_is_absent() {
        let whole = body(&[], &[Some(b"one"), Some(b"two")]);
        let parameters = Parameters::parse(&whole[..12], &[]).unwrap();
        assert_eq!(parameters.get(1), Some(Value::Text(b"one")));
        assert_eq!(parameters.get(2), None);
        let lies = [0, 0, 0, 2, 0xff, 0xff, 0xff, 0xfe, 0, 0, 0, 0];
        assert_eq!(Parameters::parse(&lies, &[]).unwrap().get(1), None);
        assert_eq!(Parameters::parse(&lies, &[]).unwrap().get(2), None);
    }

    proptest! {
        #[test]
        fn never_panics(
            formats in prop::collection::vec(0..2u8, 0..3),
            count in 0..50u8,
            rest in prop::collection::vec(prop_oneof![Just(0u8), any::<u8>()], 0..300),
        ) {
            let mut bytes = vec![0, u8::try_from(formats.len()).unwrap()];
            bytes.extend(formats.iter().flat_map(|&format| [0, format]));
            bytes.extend([0, count]);
            bytes.extend(rest);
            if let Ok(parameters) = Parameters::parse(&bytes, &[]) {
                for number in 0..60 {
                    parameters.get(number);
                }
            }
        }
    }
}
