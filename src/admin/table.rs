//! What a command answers: columns and rows of text.

/// A column's type, among the few the console uses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// `text`.
    Text,
    /// `integer`.
    Int4,
    /// `bigint`.
    Int8,
    /// `numeric`.
    Numeric,
}

impl Kind {
    /// Its OID in `pg_type`.
    pub fn oid(self) -> u32 {
        match self {
            Kind::Text => 25,
            Kind::Int4 => 23,
            Kind::Int8 => 20,
            Kind::Numeric => 1700,
        }
    }

    /// Its `typlen`; -1 where it varies.
    pub fn size(self) -> i16 {
        match self {
            Kind::Text | Kind::Numeric => -1,
            Kind::Int4 => 4,
            Kind::Int8 => 8,
        }
    }
}

/// A column of an answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Column {
    /// PgBouncer's name where it has the column.
    pub name: &'static str,
    /// Its type.
    pub kind: Kind,
}

/// A value in text format; `None` is NULL.
pub type Cell = Option<String>;

/// An answer.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Table {
    /// Its columns.
    pub columns: Vec<Column>,
    /// Its rows, each as long as `columns`.
    pub rows: Vec<Vec<Cell>>,
}

/// A column together with how it is read from a row, so that the two cannot part.
pub(super) struct Field<R> {
    column: Column,
    value: fn(&R) -> Cell,
}

pub(super) const fn text<R>(name: &'static str, value: fn(&R) -> Cell) -> Field<R> {
    Field { column: Column { name, kind: Kind::Text }, value }
}

pub(super) const fn int4<R>(name: &'static str, value: fn(&R) -> Cell) -> Field<R> {
    Field { column: Column { name, kind: Kind::Int4 }, value }
}

pub(super) const fn int8<R>(name: &'static str, value: fn(&R) -> Cell) -> Field<R> {
    Field { column: Column { name, kind: Kind::Int8 }, value }
}

pub(super) const fn numeric<R>(name: &'static str, value: fn(&R) -> Cell) -> Field<R> {
    Field { column: Column { name, kind: Kind::Numeric }, value }
}

/// A value that is there.
pub(super) fn is(value: impl ToString) -> Cell {
    Some(value.to_string())
}

/// As a flag column of PgBouncer's has it.
pub(super) fn flag(set: bool) -> Cell {
    is(u8::from(set))
}

/// As `yes` or `no`.
pub(super) fn yes(set: bool) -> Cell {
    is(if set { "yes" } else { "no" })
}

impl Table {
    pub(super) fn of<R>(fields: &[Field<R>], rows: &[R]) -> Table {
        Table {
            columns: fields.iter().map(|field| field.column).collect(),
            rows: rows.iter().map(|row| fields.iter().map(|field| (field.value)(row)).collect()).collect(),
        }
    }

    /// One row of one value.
    pub(super) fn single(name: &'static str, kind: Kind, value: impl ToString) -> Table {
        Table { columns: vec![Column { name, kind }], rows: vec![vec![is(value)]] }
    }
}
