//! How PostgreSQL orders values of a type, read from their binary form.
//!
//! Each order is that of the type's default B-tree operator class. Values come from a server's
//! `typsend`; one of another length than its type's is [`Malformed`](super::row::Malformed).

use super::row::Malformed;
use std::cmp::Ordering;

/// A type whose order is known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SortType {
    /// `boolean`
    Bool,
    /// `smallint`, `integer`, `bigint`, and what is stored like them: `date`, `time`, `timestamp`,
    /// `timestamptz`, `money`, with the bytes they have.
    Signed(usize),
    /// `oid`, `xid8` and `"char"`, likewise.
    Unsigned(usize),
    /// `real`: NaN is greater than everything else and equal to itself (float.h).
    Float4,
    /// `double precision`
    Float8,
    /// `numeric`
    Numeric,
    /// `text`, `varchar`, `name` under a collation that orders by bytes, and `bytea`, `uuid`,
    /// `macaddr`.
    Bytes,
    /// `character(n)` likewise: trailing spaces do not count (varchar.c, `bpcharcmp`).
    Padded,
    /// `interval`: months are 30 days, days 24 hours (timestamp.c, `interval_cmp_value`).
    Interval,
    /// `time with time zone`: by the moment, then by the zone (date.c, `timetz_cmp_internal`).
    TimeTz,
}

impl SortType {
    /// The order of the type with this OID; `None` if it is not known here. A text's is known only if
    /// its collation orders by bytes.
    pub fn of(oid: u32, bytewise: bool) -> Option<SortType> {
        Some(match oid {
            16 => SortType::Bool,
            21 => SortType::Signed(2),
            23 | 1082 => SortType::Signed(4),
            20 | 790 | 1083 | 1114 | 1184 => SortType::Signed(8),
            18 => SortType::Unsigned(1),
            26 => SortType::Unsigned(4),
            5069 => SortType::Unsigned(8),
            700 => SortType::Float4,
            701 => SortType::Float8,
            1700 => SortType::Numeric,
            17 | 829 | 2950 => SortType::Bytes,
            // The collation of `name` is C unless the query says otherwise, which it has not said
            // with a collation that orders by bytes.
            25 | 1043 | 19 if bytewise => SortType::Bytes,
            1042 if bytewise => SortType::Padded,
            1186 => SortType::Interval,
            1266 => SortType::TimeTz,
            _ => return None,
        })
    }

    /// Is `a` before, at or behind `b`?
    ///
    /// # Errors
    /// One of them is no value of the type.
    pub fn compare(self, a: &[u8], b: &[u8]) -> Result<Ordering, Malformed> {
        Ok(match self {
            SortType::Bool => fixed::<1>(a)?.cmp(&fixed::<1>(b)?),
            SortType::Signed(width) => signed(a, width)?.cmp(&signed(b, width)?),
            SortType::Unsigned(width) => unsigned(a, width)?.cmp(&unsigned(b, width)?),
            SortType::Float4 => {
                let read = |v| Ok::<_, Malformed>(f64::from(f32::from_be_bytes(fixed(v)?)));
                floats(read(a)?, read(b)?)
            }
            SortType::Float8 => floats(f64::from_be_bytes(fixed(a)?), f64::from_be_bytes(fixed(b)?)),
            SortType::Numeric => Numeric::read(a)?.cmp(&Numeric::read(b)?),
            SortType::Bytes => a.cmp(b),
            SortType::Padded => unpadded(a).cmp(unpadded(b)),
            SortType::Interval => interval(a)?.cmp(&interval(b)?),
            SortType::TimeTz => time_with_zone(a)?.cmp(&time_with_zone(b)?),
        })
    }
}

fn fixed<const N: usize>(value: &[u8]) -> Result<[u8; N], Malformed> {
    value.try_into().map_err(|_| Malformed)
}

fn signed(value: &[u8], width: usize) -> Result<i64, Malformed> {
    match width {
        2 => Ok(i16::from_be_bytes(fixed(value)?).into()),
        4 => Ok(i32::from_be_bytes(fixed(value)?).into()),
        _ => Ok(i64::from_be_bytes(fixed(value)?)),
    }
}

fn unsigned(value: &[u8], width: usize) -> Result<u64, Malformed> {
    match width {
        1 => Ok(fixed::<1>(value)?[0].into()),
        4 => Ok(u32::from_be_bytes(fixed(value)?).into()),
        _ => Ok(u64::from_be_bytes(fixed(value)?)),
    }
}

fn floats(a: f64, b: f64) -> Ordering {
    match (a.is_nan(), b.is_nan()) {
        (false, false) => a.partial_cmp(&b).unwrap_or(Ordering::Equal),
        (a, b) => a.cmp(&b),
    }
}

fn unpadded(value: &[u8]) -> &[u8] {
    let len = value.iter().rposition(|byte| *byte != b' ').map_or(0, |last| last + 1);
    &value[..len]
}

fn interval(value: &[u8]) -> Result<i128, Malformed> {
    let value: [u8; 16] = fixed(value)?;
    let part = |at: usize| i32::from_be_bytes([value[at], value[at + 1], value[at + 2], value[at + 3]]);
    let micros = i64::from_be_bytes(fixed(&value[..8])?);
    let days = i128::from(part(8)) + 30 * i128::from(part(12));
    Ok(days * 86_400_000_000 + i128::from(micros))
}

fn time_with_zone(value: &[u8]) -> Result<(i64, i32), Malformed> {
    let (time, zone) = value.split_first_chunk::<8>().ok_or(Malformed)?;
    let zone = i32::from_be_bytes(fixed(zone)?);
    // The zone counts westwards.
    Ok((i64::from_be_bytes(*time) + i64::from(zone) * 1_000_000, zone))
}

/// numeric.c, `numeric_send`: digits of base 10,000, the weight of the first, a sign. It never sends
/// a zero before or behind, so that two of one sign and weight compare digit by digit.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Numeric<'a> {
    NegativeInfinity,
    Negative(std::cmp::Reverse<Magnitude<'a>>),
    Zero,
    Positive(Magnitude<'a>),
    Infinity,
    NaN,
}

/// By weight, then by the digits, big-endian words as they come.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Magnitude<'a>(i16, &'a [u8]);

impl Numeric<'_> {
    fn read(value: &[u8]) -> Result<Numeric<'_>, Malformed> {
        let (head, digits) = value.split_first_chunk::<8>().ok_or(Malformed)?;
        let word = |at: usize| [head[at], head[at + 1]];
        if digits.len() != 2 * usize::from(u16::from_be_bytes(word(0))) {
            return Err(Malformed);
        }
        let magnitude = Magnitude(i16::from_be_bytes(word(2)), digits);
        Ok(match u16::from_be_bytes(word(4)) {
            0xC000 => Numeric::NaN,
            0xD000 => Numeric::Infinity,
            0xF000 => Numeric::NegativeInfinity,
            _ if digits.is_empty() => Numeric::Zero,
            0x4000 => Numeric::Negative(std::cmp::Reverse(magnitude)),
            0 => Numeric::Positive(magnitude),
            _ => return Err(Malformed),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In their order, each twice for the equal ones.
    fn check(kind: SortType, ascending: &[&[u8]]) {
        for (i, a) in ascending.iter().enumerate() {
            for (j, b) in ascending.iter().enumerate() {
                assert_eq!(kind.compare(a, b), Ok(i.cmp(&j)), "{kind:?} {i} {j}");
            }
        }
    }

    fn numeric(weight: i16, sign: u16, digits: &[u16]) -> Vec<u8> {
        let mut value = u16::try_from(digits.len()).unwrap().to_be_bytes().to_vec();
        value.extend(weight.to_be_bytes());
        value.extend(sign.to_be_bytes());
        value.extend(4u16.to_be_bytes());
        digits.iter().for_each(|digit| value.extend(digit.to_be_bytes()));
        value
    }

    #[test]
    fn numbers() {
        check(SortType::Signed(2), &[&[0x80, 0], &[0xff, 0xff], &[0, 0], &[0, 1]]);
        check(SortType::Signed(8), &[&i64::MIN.to_be_bytes(), &(-1i64).to_be_bytes(), &7i64.to_be_bytes()]);
        check(SortType::Unsigned(4), &[&1u32.to_be_bytes(), &u32::MAX.to_be_bytes()]);
        check(
            SortType::Float8,
            &[f64::NEG_INFINITY, -1.5, 0.0, 1e-300, f64::INFINITY, f64::NAN]
                .map(f64::to_be_bytes)
                .each_ref()
                .map(|v| &v[..]),
        );
        let (zero, minus) = (0f64.to_be_bytes(), (-0f64).to_be_bytes());
        assert_eq!(SortType::Float8.compare(&zero, &minus), Ok(Ordering::Equal));
        assert_eq!(SortType::Signed(4).compare(&[0; 4], &[0; 8]), Err(Malformed));
    }

    #[test]
    fn numerics() {
        let values = [
            numeric(0, 0xF000, &[]),
            numeric(1, 0x4000, &[1]),
            numeric(0, 0x4000, &[2]),
            numeric(0, 0x4000, &[1, 5000]),
            numeric(0, 0x4000, &[1]),
            numeric(-1, 0x4000, &[5000]),
            numeric(0, 0, &[]),
            numeric(-2, 0, &[9999]),
            numeric(-1, 0, &[1]),
            numeric(0, 0, &[1]),
            numeric(0, 0, &[1, 1]),
            numeric(0, 0, &[2]),
            numeric(3, 0, &[1]),
            numeric(0, 0xD000, &[]),
            numeric(0, 0xC000, &[]),
        ];
        check(SortType::Numeric, &values.each_ref().map(|v| &v[..]));
        assert_eq!(SortType::Numeric.compare(&[0; 7], &values[0]), Err(Malformed));
    }

    #[test]
    fn texts() {
        check(SortType::Bytes, &[b"", b"A", b"Ab", b"a", "ä".as_bytes()]);
        check(SortType::Padded, &[b"", b"a", b"ab"]);
        assert_eq!(SortType::Padded.compare(b"a  ", b"a"), Ok(Ordering::Equal));
        assert_eq!(SortType::of(25, false), None);
        assert_eq!(SortType::of(25, true), Some(SortType::Bytes));
    }

    #[test]
    fn times() {
        let interval = |micros: i64, days: i32, months: i32| {
            let mut value = micros.to_be_bytes().to_vec();
            value.extend(days.to_be_bytes());
            value.extend(months.to_be_bytes());
            value
        };
        let values =
            [interval(0, -1, 0), interval(5, 0, 0), interval(0, 1, 0), interval(0, 29, 0), interval(1, 0, 1)];
        check(SortType::Interval, &values.each_ref().map(|v| &v[..]));
        assert_eq!(SortType::Interval.compare(&interval(0, 30, 0), &interval(0, 0, 1)), Ok(Ordering::Equal));
        let timetz = |hours: i64, zone: i32| {
            let mut value = (hours * 3_600_000_000).to_be_bytes().to_vec();
            value.extend((zone * 3600).to_be_bytes());
            value
        };
        // 10:00+01 is 09:00+00; 10:00+00 and 11:00+01 are one moment, and the zone decides.
        let values = [timetz(10, -1), timetz(11, -1), timetz(10, 0)];
        check(SortType::TimeTz, &values.each_ref().map(|v| &v[..]));
    }
}
