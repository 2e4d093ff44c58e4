//! Settings that are pgring's own (`SET pgring.key = …`) and what it tells of itself
//! (`SHOW pgring.route`). No server hears of them.

use super::state::Session;
use crate::error::{ClientError, SqlState};
use crate::route::{Decision, SessionHints};
use crate::sql::{ReadHint, Shape};
use std::rc::Rc;

/// `SET pgring.…`, with a transaction's semantics.
#[derive(Default)]
pub(super) struct OwnSettings {
    pub(super) hints: SessionHints,
    /// What they were before the transaction under way changed them.
    before: Option<SessionHints>,
}

/// Where the last statement went.
#[derive(Default)]
pub(super) struct LastRoute {
    pub(super) taken: Option<(Rc<Shape>, Decision)>,
}

impl OwnSettings {
    fn changing(&mut self) -> &mut SessionHints {
        if self.before.is_none() {
            self.before = Some(self.hints.clone());
        }
        &mut self.hints
    }

    /// The transaction has committed.
    pub(super) fn keep(&mut self) {
        self.before = None;
    }

    /// The transaction is undone.
    pub(super) fn undo(&mut self) {
        if let Some(before) = self.before.take() {
            self.hints = before;
        }
    }

    /// `RESET ALL`, `DISCARD ALL`.
    pub(super) fn reset(&mut self) {
        *self.changing() = SessionHints::default();
    }
}

impl Session {
    /// `SET name = value` of a parameter that is pgring's own; `None` resets it.
    pub(super) fn set_own(&mut self, name: &str, value: Option<String>) -> Result<(), ClientError> {
        let value = value.filter(|value| !value.is_empty());
        match name {
            "pgring.key" => self.own.changing().key = value,
            "pgring.shard" => {
                if let Some(name) = &value
                    && name != "all"
                    && self.database.topology.shard_named(name).is_none()
                {
                    return Err(ClientError::error(
                        SqlState::UNDEFINED_OBJECT,
                        format!("there is no shard \"{name}\""),
                    )
                    .with_hint(format!("The shards are: {}.", self.database.topology.shards.join(", "))));
                }
                self.own.changing().shard = value;
            }
            "pgring.read" => {
                let read = match &value {
                    None => None,
                    Some(value) => Some(ReadHint::named(value.as_bytes()).ok_or_else(|| {
                        ClientError::error(
                            SqlState::BAD_VALUE,
                            format!("invalid value for parameter \"pgring.read\": \"{value}\""),
                        )
                        .with_hint("Available values: fresh, replica, analytical.")
                    })?),
                };
                self.own.changing().read = read;
            }
            _ => return Err(unknown(name)),
        }
        Ok(())
    }

    /// `SHOW name` of one of them.
    pub(super) fn show_own(&self, name: &str) -> Result<String, ClientError> {
        let hints = &self.own.hints;
        Ok(match name {
            "pgring.key" => hints.key.clone().unwrap_or_default(),
            "pgring.shard" => hints.shard.clone().unwrap_or_default(),
            "pgring.read" => hints.read.map(|read| format!("{read:?}").to_lowercase()).unwrap_or_default(),
            "pgring.route" => match &self.last_route.taken {
                Some((shape, decision)) => decision.explain(shape, &self.database.topology),
                None => "no statement has been routed yet".to_owned(),
            },
            _ => return Err(unknown(name)),
        })
    }
}

fn unknown(name: &str) -> ClientError {
    ClientError::error(SqlState::UNDEFINED_OBJECT, format!("unrecognized configuration parameter \"{name}\""))
        .with_hint("pgring has pgring.key, pgring.shard, pgring.read and, to SHOW, pgring.route.")
}
