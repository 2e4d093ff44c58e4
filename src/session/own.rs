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
    /// What they go back to with the transaction under way, which has changed them.
    ends: Option<Ends>,
    /// As they were at each of the transaction's savepoints.
    marks: Vec<(SessionHints, Option<Ends>)>,
}

#[derive(Clone)]
struct Ends {
    /// If it is undone.
    undone: SessionHints,
    /// If it commits: without what was `SET LOCAL`.
    committed: SessionHints,
}

/// Where the last statement went.
#[derive(Default)]
pub(super) struct LastRoute {
    pub(super) taken: Option<(Rc<Shape>, Decision)>,
}

impl OwnSettings {
    fn change(&mut self, local: bool, change: impl Fn(&mut SessionHints)) {
        let hints = &self.hints;
        let ends = self.ends.get_or_insert_with(|| Ends { undone: hints.clone(), committed: hints.clone() });
        if !local {
            change(&mut ends.committed);
        }
        change(&mut self.hints);
    }

    /// A savepoint is set.
    pub(super) fn mark(&mut self) {
        self.marks.push((self.hints.clone(), self.ends.clone()));
    }

    /// Goes back to the savepoint that so many stand before; it stays.
    pub(super) fn back_to(&mut self, depth: usize) {
        self.marks.truncate(depth + 1);
        if let Some((hints, ends)) = self.marks.get(depth) {
            self.hints = hints.clone();
            self.ends = ends.clone();
        }
    }

    /// The savepoint that so many stand before is released, and those after it.
    pub(super) fn release(&mut self, depth: usize) {
        self.marks.truncate(depth);
    }

    /// The transaction has committed.
    pub(super) fn keep(&mut self) {
        self.marks.clear();
        if let Some(ends) = self.ends.take() {
            self.hints = ends.committed;
        }
    }

    /// The transaction is undone.
    pub(super) fn undo(&mut self) {
        self.marks.clear();
        if let Some(ends) = self.ends.take() {
            self.hints = ends.undone;
        }
    }

    /// `RESET ALL`.
    pub(super) fn reset(&mut self) {
        self.change(false, |hints| *hints = SessionHints::default());
    }
}

impl Session {
    /// `SET name = value` of a parameter that is pgring's own; `None` resets it.
    pub(super) fn set_own(
        &mut self,
        name: &str,
        value: Option<String>,
        local: bool,
    ) -> Result<(), ClientError> {
        let value = value.filter(|value| !value.is_empty());
        match name {
            "pgring.key" => self.own.change(local, |hints| hints.key.clone_from(&value)),
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
                self.own.change(local, |hints| hints.shard.clone_from(&value));
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
                self.own.change(local, |hints| hints.read = read);
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
