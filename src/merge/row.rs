//! `DataRow` bodies: a count of 2 bytes, then each value behind its length (manual, section 55.7).

/// The server has sent a row that is none.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a malformed DataRow")]
pub struct Malformed;

/// The values of a row, in order; `None` is NULL.
pub struct Values<'a> {
    rest: &'a [u8],
    left: u16,
}

/// Reads a `DataRow`'s body.
///
/// # Errors
/// It is too short to have a count.
pub fn values(body: &[u8]) -> Result<Values<'_>, Malformed> {
    let (count, rest) = body.split_first_chunk::<2>().ok_or(Malformed)?;
    Ok(Values { rest, left: u16::from_be_bytes(*count) })
}

/// As [`values`], of so many that stand without a count.
pub fn values_of(count: u16, bytes: &[u8]) -> Values<'_> {
    Values { rest: bytes, left: count }
}

impl Values<'_> {
    /// How many are still to come.
    pub fn left(&self) -> u16 {
        self.left
    }

    /// The bytes that are still to come.
    pub fn rest(&self) -> &[u8] {
        self.rest
    }
}

impl<'a> Iterator for Values<'a> {
    type Item = Result<Option<&'a [u8]>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let read = || {
            let (len, rest) = self.rest.split_first_chunk::<4>()?;
            match i32::from_be_bytes(*len) {
                -1 => Some((None, rest)),
                len => {
                    let len = usize::try_from(len).ok()?;
                    Some((Some(rest.get(..len)?), &rest[len..]))
                }
            }
        };
        match read() {
            Some((value, rest)) => {
                self.rest = rest;
                Some(Ok(value))
            }
            None => {
                self.left = 0;
                Some(Err(Malformed))
            }
        }
    }
}

/// Where the last `hidden` values of a row begin, and how many stand before them.
///
/// # Errors
/// There are not that many.
pub fn split(body: &[u8], hidden: usize) -> Result<(u16, usize), Malformed> {
    let mut values = values(body)?;
    let shown = usize::from(values.left()).checked_sub(hidden).ok_or(Malformed)?;
    for _ in 0..shown {
        values.next().ok_or(Malformed)??;
    }
    let count = u16::try_from(shown).map_err(|_| Malformed)?;
    Ok((count, body.len() - values.rest().len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn body(row: &[Option<Vec<u8>>]) -> Vec<u8> {
        let mut body = u16::try_from(row.len()).unwrap().to_be_bytes().to_vec();
        for value in row {
            match value {
                None => body.extend((-1_i32).to_be_bytes()),
                Some(value) => {
                    body.extend(i32::try_from(value.len()).unwrap().to_be_bytes());
                    body.extend(value);
                }
            }
        }
        body
    }

    proptest! {
        #[test]
        fn reads_back(row in proptest::collection::vec(proptest::option::of(proptest::collection::vec(any::<u8>(), 0..9)), 0..9)) {
            let made = body(&row);
            let read: Vec<Option<Vec<u8>>> =
                values(&made).unwrap().map(|value| value.unwrap().map(<[u8]>::to_vec)).collect();
            prop_assert_eq!(&read, &row);
            for hidden in 0..=row.len() {
                let (count, at) = split(&made, hidden).unwrap();
                prop_assert_eq!(usize::from(count), row.len() - hidden);
                prop_assert_eq!(&made[2..at], &body(&row[..row.len() - hidden])[2..]);
            }
            prop_assert_eq!(split(&made, row.len() + 1), Err(Malformed));
        }

        #[test]
        fn never_panics(bytes: Vec<u8>, hidden in 0usize..5) {
            let _ = values(&bytes).map(Iterator::count);
            let _ = split(&bytes, hidden);
        }
    }
}
