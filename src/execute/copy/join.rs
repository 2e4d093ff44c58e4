//! The streams of `COPY … TO STDOUT` from several shards → one.
//!
//! PostgreSQL sends one row in each `CopyData`, so that messages of several shards may follow one
//! another as they come. What stands before and behind the rows must be there once.

use super::CopyFault;
use super::split::header_length;
use crate::sql::distribute::{CopyFormat, CopyKind};

const BINARY_END: [u8; 2] = [0xff, 0xff];

/// Joins the streams.
#[derive(Debug)]
pub struct CopyOutMerger {
    binary: bool,
    header: bool,
    /// Whether each shard's header has come.
    begun: Vec<bool>,
    /// One has been passed on.
    passed: bool,
}

impl CopyOutMerger {
    /// For this many shards.
    pub fn new(format: &CopyFormat, shards: usize) -> CopyOutMerger {
        let binary = format.kind == CopyKind::Binary;
        CopyOutMerger { binary, header: binary || format.header, begun: vec![false; shards], passed: false }
    }

    /// What of a shard's `CopyData` is passed on; may be nothing.
    ///
    /// # Errors
    /// It is not what PostgreSQL sends.
    pub fn pass<'m>(&mut self, shard: usize, message: &'m [u8]) -> Result<&'m [u8], CopyFault> {
        let first = self.begun.get_mut(shard).is_some_and(|begun| !std::mem::replace(begun, true));
        let mut rows = message;
        if first && self.header {
            let length = if self.binary {
                header_length(message)?.filter(|length| *length <= message.len()).ok_or(CopyFault::Header)?
            } else {
                message.len()
            };
            if std::mem::replace(&mut self.passed, true) {
                rows = message.get(length..).unwrap_or(&[]);
            } else if self.binary && message.get(length..) == Some(BINARY_END.as_slice()) {
                return Ok(message.get(..length).unwrap_or(message));
            } else {
                return Ok(message);
            }
        }
        if self.binary && rows == BINARY_END { Ok(&[]) } else { Ok(rows) }
    }

    /// What follows once all shards are done; may be nothing.
    pub fn end(&self) -> &'static [u8] {
        const END: &[u8] = &BINARY_END;
        if self.binary { END } else { &[] }
    }
}
