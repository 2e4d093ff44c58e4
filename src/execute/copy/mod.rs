//! The bytes of a `COPY` on several shards. Pure: portions of a stream in, records out.
//!
//! - [`Splitter`]: what a client copies in, cut into records with their keys; each one goes to its
//!   key's owner as it lies, so that PostgreSQL reads there what it would have read here;
//! - [`LineMap`]: which line of the client's a shard's error is about;
//! - [`CopyOutMerger`]: what the shards copy out, as one stream.
//!
//! A splitter reads no more than it must to find a record's end and its key. What it cannot be sure of
//! is an error, and so is what PostgreSQL would refuse because of how one record stands to another,
//! since each shard sees only some of them: a change of the newline's style, data after the end.

mod join;
mod lines;
mod split;
#[cfg(test)]
mod tests;

pub use join::CopyOutMerger;
pub use lines::LineMap;
pub use split::{Part, Record, Splitter};

use crate::error::{ClientError, SqlState};

/// What is wrong with a stream.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CopyFault {
    /// A `\r` where lines end otherwise.
    #[error("{}", if *.quoted { "unquoted carriage return found in data" } else { "literal carriage return found in data" })]
    CarriageReturn {
        /// The client's.
        line: u64,
        /// It is CSV.
        quoted: bool,
    },
    /// A `\n` where lines end otherwise.
    #[error("{}", if *.quoted { "unquoted newline found in data" } else { "literal newline found in data" })]
    Newline {
        /// The client's.
        line: u64,
        /// It is CSV.
        quoted: bool,
    },
    /// `\.` with something behind it.
    #[error("end-of-copy marker corrupt")]
    MarkerCorrupt {
        /// The client's.
        line: u64,
    },
    /// `\.` within a line.
    #[error("end-of-copy marker is not alone on its line")]
    MarkerNotAlone {
        /// The client's.
        line: u64,
    },
    /// `\.` and another newline than before.
    #[error("end-of-copy marker does not match previous newline style")]
    MarkerStyle {
        /// The client's.
        line: u64,
    },
    /// In CSV, versions of PostgreSQL differ in what `\.` ends.
    #[error("data after the end-of-copy marker")]
    AfterMarker {
        /// The client's.
        line: u64,
    },
    /// A quote that nothing closes.
    #[error("unterminated CSV quoted field")]
    Unterminated {
        /// The client's.
        line: u64,
    },
    /// Too few fields to have a key.
    #[error("missing data for column \"{column}\"")]
    NoKey {
        /// The client's.
        line: u64,
        /// The key's.
        column: String,
    },
    /// A NULL for a key.
    #[error("the key, column \"{column}\", cannot be NULL")]
    NullKey {
        /// The client's.
        line: u64,
        /// The key's.
        column: String,
    },
    /// A default for a key.
    #[error("the key, column \"{column}\", cannot be left to its default")]
    DefaultKey {
        /// The client's.
        line: u64,
        /// The key's.
        column: String,
    },
    /// `now` where each shard has its own clock.
    #[error("a word like \"now\" would be another value on each shard")]
    Clock {
        /// The client's.
        line: u64,
    },
    /// A record of more bytes than may be held.
    #[error("a record is longer than {bytes} bytes")]
    TooLong {
        /// The client's.
        line: u64,
        /// The limit.
        bytes: usize,
    },
    /// No binary `COPY`.
    #[error("COPY file signature not recognized")]
    Signature,
    /// A binary header of another kind.
    #[error("invalid COPY file header")]
    Header,
    /// Another number of fields than columns.
    #[error("row field count is {found}, expected {expected}")]
    Fields {
        /// The client's row.
        line: u64,
        /// What is there.
        found: i16,
        /// What should be.
        expected: usize,
    },
    /// A length under zero.
    #[error("invalid field size")]
    FieldSize {
        /// The client's row.
        line: u64,
    },
    /// The stream ends within a row.
    #[error("unexpected EOF in COPY data")]
    Ended {
        /// The client's row.
        line: u64,
    },
    /// More than the end of a binary stream.
    #[error("received copy data after EOF marker")]
    AfterEnd {
        /// The client's row.
        line: u64,
    },
}

impl CopyFault {
    /// The client's line, or row in binary, that it was found at.
    pub fn line(&self) -> Option<u64> {
        match self {
            CopyFault::CarriageReturn { line, .. }
            | CopyFault::Newline { line, .. }
            | CopyFault::MarkerCorrupt { line }
            | CopyFault::MarkerNotAlone { line }
            | CopyFault::MarkerStyle { line }
            | CopyFault::AfterMarker { line }
            | CopyFault::Unterminated { line }
            | CopyFault::NoKey { line, .. }
            | CopyFault::NullKey { line, .. }
            | CopyFault::DefaultKey { line, .. }
            | CopyFault::Clock { line }
            | CopyFault::TooLong { line, .. }
            | CopyFault::Fields { line, .. }
            | CopyFault::FieldSize { line }
            | CopyFault::Ended { line }
            | CopyFault::AfterEnd { line } => Some(*line),
            CopyFault::Signature | CopyFault::Header => None,
        }
    }
}

impl From<CopyFault> for ClientError {
    fn from(fault: CopyFault) -> ClientError {
        let code = match fault {
            CopyFault::NullKey { .. } | CopyFault::DefaultKey { .. } | CopyFault::Clock { .. } => {
                SqlState::REFUSED
            }
            CopyFault::TooLong { .. } => SqlState::LIMIT,
            _ => SqlState::BAD_COPY,
        };
        let line = fault.line();
        let error = ClientError::error(code, fault.to_string());
        match line {
            Some(line) => error.with_detail(format!("line {line}")),
            None => error,
        }
    }
}
