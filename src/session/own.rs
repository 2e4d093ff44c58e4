//! Settings that are pgring's own (`SET pgring.key = …`) and what it tells of itself
//! (`SHOW pgring.route`). No server hears of them.

use super::state::Session;
use crate::error::{ClientError, SqlState};
use crate::ring::Topology;
use crate::route::{Decision, SessionHints};
use crate::sql::{ReadHint, Shape};
use std::rc::Rc;

/// `SET pgring.…`, with a transaction's semantics.
#[derive(Default)]
pub(super) struct OwnSettings {
    pub(super) hints: SessionHints,
    /// What `RESET` goes back to; `None`: to nothing.
    begun_with: Option<Box<SessionHints>>,
    /// What they go back to with the transaction under way, which has changed them.
    ends: Option<Box<Ends>>,
    /// As they were at each of the transaction's savepoints.
    marks: Vec<(SessionHints, Option<Box<Ends>>)>,
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
        let ends = || Box::new(Ends { undone: hints.clone(), committed: hints.clone() });
        let ends = self.ends.get_or_insert_with(ends);
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
        let begun_with = self.begun();
        self.change(false, |hints| hints.clone_from(&begun_with));
    }

    fn begun(&self) -> SessionHints {
        self.begun_with.as_deref().cloned().unwrap_or_default()
    }
}

impl OwnSettings {
    /// `name` gets this value; `None` resets it.
    pub(super) fn assign(
        &mut self,
        topology: &Topology,
        name: &str,
        value: Option<String>,
        local: bool,
    ) -> Result<(), ClientError> {
        let begun = self.begun();
        let reset = value.is_none();
        let value = value.filter(|value| !value.is_empty());
        match name {
            "pgring.key" => {
                let value = if reset { begun.key } else { value };
                self.change(local, |hints| hints.key.clone_from(&value));
            }
            "pgring.shard" => {
                let value = if reset { begun.shard } else { value };
                if let Some(name) = &value
                    && name != "all"
                    && topology.shard_named(name).is_none()
                {
                    return Err(ClientError::error(
                        SqlState::UNDEFINED_OBJECT,
                        format!("there is no shard \"{name}\""),
                    )
                    .with_hint(format!("The shards are: {}.", topology.shards.join(", "))));
                }
                self.change(local, |hints| hints.shard.clone_from(&value));
            }
            "pgring.read" => {
                let read = match &value {
                    None if reset => begun.read,
                    None => None,
                    Some(value) => Some(ReadHint::named(value.as_bytes()).ok_or_else(|| {
                        ClientError::error(
                            SqlState::BAD_VALUE,
                            format!("invalid value for parameter \"pgring.read\": \"{value}\""),
                        )
                        .with_hint("Available values: fresh, replica, analytical.")
                    })?),
                };
                self.change(local, |hints| hints.read = read);
            }
            _ => return Err(unknown(name)),
        }
        Ok(())
    }

    /// With what a start-up packet asks for.
    pub(super) fn begun_with(
        topology: &Topology,
        wanted: Vec<(String, String)>,
    ) -> Result<OwnSettings, ClientError> {
        let mut own = OwnSettings::default();
        for (name, value) in wanted {
            own.assign(topology, &name, Some(value), false)?;
        }
        own.keep();
        own.begun_with = (own.hints != SessionHints::default()).then(|| Box::new(own.hints.clone()));
        Ok(own)
    }

    /// `DISCARD ALL`.
    pub(super) fn discard(&mut self) {
        let hints = self.begun();
        *self = OwnSettings { hints, begun_with: self.begun_with.take(), ..OwnSettings::default() };
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
        if name == "pgring.lsn" {
            return self.set_positions(value, local);
        }
        self.own.assign(&self.database.topology, name, value, local)
    }

    /// `SHOW name` of one of them.
    pub(super) fn show_own(&self, name: &str) -> Result<String, ClientError> {
        let hints = &self.own.hints;
        Ok(match name {
            "pgring.key" => hints.key.clone().unwrap_or_default(),
            "pgring.shard" => hints.shard.clone().unwrap_or_default(),
            "pgring.read" => hints.read.map(|read| format!("{read:?}").to_lowercase()).unwrap_or_default(),
            "pgring.lsn" => self.show_positions(),
            "pgring.route" => match &self.last_route.taken {
                Some((shape, decision)) => {
                    let told = decision.explain(shape, &self.database.topology);
                    if self.on_replica { told + ", on a replica" } else { told }
                }
                None => "no statement has been routed yet".to_owned(),
            },
            _ => return Err(unknown(name)),
        })
    }
}

fn unknown(name: &str) -> ClientError {
    ClientError::error(SqlState::UNDEFINED_OBJECT, format!("unrecognized configuration parameter \"{name}\""))
        .with_hint("pgring has pgring.key, pgring.shard, pgring.read, pgring.lsn and, to SHOW, pgring.route.")
}
