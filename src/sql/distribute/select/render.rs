//! A [`Combine`]'s last text, once the types of the partial results are known.

use std::fmt::Write as _;

use super::super::plan::given;
use super::super::{Combine, Partial, Piece};

/// PostgreSQL's own types that have no subtypes, and what arrays of them are called by number.
const ARRAYS: &[(u32, u32)] = &[
    (16, 1000), // bool
    (17, 1001), // bytea
    (18, 1002), // "char"
    (19, 1003), // name
    (20, INT8_ARRAY),
    (21, 1005),   // int2
    (23, 1007),   // int4
    (25, 1009),   // text
    (26, 1028),   // oid
    (650, 651),   // cidr
    (700, 1021),  // float4
    (701, 1022),  // float8
    (774, 775),   // macaddr8
    (790, 791),   // money
    (829, 1040),  // macaddr
    (869, 1041),  // inet
    (1042, 1014), // bpchar
    (1043, 1015), // varchar
    (1082, 1182), // date
    (1083, 1183), // time
    (1114, 1115), // timestamp
    (1184, 1185), // timestamptz
    (1186, 1187), // interval
    (1266, 1270), // timetz
    (1560, 1561), // bit
    (1562, 1563), // varbit
    (1700, 1231), // numeric
    (2950, 2951), // uuid
    (3220, 3221), // pg_lsn
    (3802, 3807), // jsonb
    (3904, 3905), // int4range
    (3906, 3907), // numrange
    (3908, 3909), // tsrange
    (3910, 3911), // tstzrange
    (3912, 3913), // daterange
    (3926, 3927), // int8range
];
const INT8_ARRAY: u32 = 1016;

const INT8: u32 = 20;
const FLOAT4: u32 = 700;
const FLOAT8: u32 = 701;
const MONEY: u32 = 790;
const INTERVAL: u32 = 1186;
const NUMERIC: u32 = 1700;

/// The type of arrays of this type, as far as values of it can be sent to `finish`.
pub fn array_type(type_oid: u32) -> Option<u32> {
    ARRAYS.iter().find(|(element, _)| *element == type_oid).map(|(_, array)| *array)
}

/// What is ordered by its collation: `text`, `bpchar`, `varchar`.
fn is_collated(type_oid: u32) -> bool {
    matches!(type_oid, 25 | 1042 | 1043)
}

impl Combine {
    /// The text of `finish`, where `types` are those of `fetch`'s columns and the client's statement
    /// has `parameters` of its own: behind them comes an array of each column's values. `None`: it
    /// would not be exact with these types.
    pub fn render(&self, types: &[u32], parameters: usize) -> Option<String> {
        if types.len() != self.columns.len() {
            return None;
        }
        for (column, type_oid) in self.columns.iter().zip(types) {
            let (Partial::Group { ordered, default_collation }
            | Partial::Aggregate { ordered, default_collation }) = *column;
            array_type(*type_oid)?;
            if ordered && !default_collation && is_collated(*type_oid) {
                return None;
            }
        }
        self.render_pieces(types, parameters)
    }

    /// The same of columns of which nothing has to be proven.
    pub fn render_pieces(&self, types: &[u32], parameters: usize) -> Option<String> {
        let mut sql = String::new();
        for piece in &self.finish {
            match piece {
                Piece::Text(text) => sql += text,
                Piece::Source => sql += &given("pgring_partial", types.len(), parameters),
                Piece::SumOf(column) => sql += &sum(*column, *types.get(*column)?)?,
                Piece::Quotient { sum, count } => sql += &quotient(*sum, *count, *types.get(*sum)?)?,
            }
        }
        Some(sql)
    }
}

fn sum(column: usize, type_oid: u32) -> Option<String> {
    let mut sql = format!("pg_catalog.sum(pgring_partial.c{})", column + 1);
    match type_oid {
        INT8 => sql += "::pg_catalog.int8",
        NUMERIC | FLOAT4 | FLOAT8 | INTERVAL | MONEY => {}
        _ => return None,
    }
    Some(sql)
}

fn quotient(sum: usize, count: usize, type_oid: u32) -> Option<String> {
    let mut sql = format!("(pg_catalog.sum(pgring_partial.c{})", sum + 1);
    let count = format!("nullif(pg_catalog.sum(pgring_partial.c{}), 0)", count + 1);
    let _ = match type_oid {
        INT8 | NUMERIC => write!(sql, " / {count})"),
        FLOAT8 | INTERVAL => write!(sql, " / {count}::pg_catalog.float8)"),
        _ => return None,
    };
    Some(sql)
}
