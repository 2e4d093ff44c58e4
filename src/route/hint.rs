//! What a statement's comments and the session's settings ask for.
//!
//! | | comment | session |
//! |---|---|---|
//! | transaction control | nothing | nothing |
//! | `shard=s2` | obeyed | obeyed where sharded tables, schema or catalogs are concerned |
//! | `shard=all` | obeyed | obeyed where the keys do not say better |
//! | `key=42` | stands in where a sharded table's key is not known | the same |
//!
//! A key says nothing about tables that have none: it moves no statement off the home shard, and
//! does not make a schema change or a write to a reference table happen on one shard only.

use super::key::{Found, Reading};
use crate::error::{ClientError, SqlState};
use crate::ring::{ShardId, Topology};
use crate::sql::{Hints, KeyType, ReadHint};

/// The session's `SET pgring.…`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SessionHints {
    /// `pgring.key`
    pub key: Option<String>,
    /// `pgring.shard`
    pub shard: Option<String>,
    /// `pgring.read`
    pub read: Option<ReadHint>,
}

/// A hint that has been understood.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Hint {
    None,
    /// `shard=…` of a comment.
    ThisShard(ShardId),
    /// `shard=all` of a comment.
    ThisAll,
    /// `pgring.shard`.
    SessionShard(ShardId),
    /// `pgring.shard = 'all'`.
    SessionAll,
    /// Whose key it is.
    Key(ShardId),
}

/// How a hinted key is read: as the database's keys are.
pub(super) struct KeyReading<'a> {
    pub(super) topology: &'a Topology,
    pub(super) key_type: KeyType,
    pub(super) same_encoding: bool,
}

impl KeyReading<'_> {
    /// The hint that counts: a comment's before the session's.
    pub(super) fn hint(
        &self,
        text: &[u8],
        comment: &Hints,
        session: &SessionHints,
    ) -> Result<Hint, ClientError> {
        if let Some(span) = &comment.invalid {
            let inside = String::from_utf8_lossy(&text[span.start as usize..span.end as usize]);
            return Err(misunderstood(inside.trim()));
        }
        if let Some(span) = &comment.shard {
            return Ok(match self.shard(&String::from_utf8_lossy(&Hints::value(text, span)))? {
                Some(shard) => Hint::ThisShard(shard),
                None => Hint::ThisAll,
            });
        }
        if let Some(span) = &comment.key {
            return self.key(&Hints::value(text, span)).map(Hint::Key);
        }
        match (&session.shard, &session.key) {
            (None, None) => Ok(Hint::None),
            (None, Some(key)) => self.key(key.as_bytes()).map(Hint::Key),
            (Some(shard), None) => self.session_shard(shard),
            (Some(shard), Some(key)) => {
                let hint = self.session_shard(shard)?;
                if hint != Hint::SessionShard(self.key(key.as_bytes())?) {
                    return Err(ClientError::error(
                        SqlState::BAD_VALUE,
                        "pgring.key and pgring.shard contradict each other",
                    )
                    .with_hint("RESET one of them"));
                }
                Ok(hint)
            }
        }
    }

    fn session_shard(&self, name: &str) -> Result<Hint, ClientError> {
        Ok(self.shard(name)?.map_or(Hint::SessionAll, Hint::SessionShard))
    }

    /// `None` is `all`. A shard that is really named "all" is found first.
    fn shard(&self, name: &str) -> Result<Option<ShardId>, ClientError> {
        match self.topology.shard_named(name) {
            None if name.eq_ignore_ascii_case("all") => Ok(None),
            None => Err(unknown_shard(name, self.topology)),
            found => Ok(found),
        }
    }

    fn key(&self, text: &[u8]) -> Result<ShardId, ClientError> {
        // One shard has every key, whatever it looks like.
        if self.topology.len() == 1 {
            return Ok(ShardId(0));
        }
        let reading = Reading { key_type: self.key_type, same_encoding: self.same_encoding, stored: false };
        match reading.text(text) {
            Some(Found::Key(hash, _)) => Ok(self.topology.owner(hash)),
            _ => Err(unreadable_key(text, self.key_type)),
        }
    }
}

fn misunderstood(comment: &str) -> ClientError {
    ClientError::error(SqlState::BAD_VALUE, format!("hint cannot be understood: \"{}\"", shortened(comment)))
        .with_hint("hints are key=VALUE or shard=NAME, and one of fresh, replica, analytical")
}

fn unknown_shard(name: &str, topology: &Topology) -> ClientError {
    ClientError::error(SqlState::UNDEFINED_OBJECT, format!("shard \"{}\" does not exist", shortened(name)))
        .with_hint(format!("the shards are {}; all means each of them", topology.shards.join(", ")))
}

fn unreadable_key(text: &[u8], key_type: KeyType) -> ClientError {
    let kind = match key_type {
        KeyType::Integer => "an integer",
        KeyType::Text => "a text in the servers' encoding",
        KeyType::Uuid => "a uuid",
    };
    let text = String::from_utf8_lossy(text);
    ClientError::error(SqlState::BAD_VALUE, format!("the hinted key \"{}\" is not {kind}", shortened(&text)))
        .with_hint("write it as a plain value: key=42, or key='a b'")
}

/// What a client wrote may be long; the message repeats enough of it to be recognised.
fn shortened(text: &str) -> &str {
    text.char_indices().nth(60).map_or(text, |(end, _)| &text[..end])
}
