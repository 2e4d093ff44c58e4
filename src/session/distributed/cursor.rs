//! SQL's cursors in a transaction on several shards.
//!
//! One over several shards goes forward only: it is an answer that `FETCH` and `MOVE` ask for in
//! portions ([`super::portion`]). One of a single shard is the server's own, as any named portal is,
//! but what is asked of it has to go to that server whichever the transaction has turned to since.

use super::portion::{Keep, Opened};
use super::rows::misdescribed;
use super::{Asked, Destination, Fault};
use crate::error::{ClientError, SqlState};
use crate::execute::put_description;
use crate::ring::ShardId;
use crate::route::{Parameters, Why};
use crate::session::attach::Unattached;
use crate::session::state::Session;
use crate::sql::distribute::{CursorUse, CursorVerb, Plan, cursor_uses, declared};
use crate::sql::{Access, Kind, Lexed, Pin, Shape, Statement, Target};
use crate::txn::Phase;
use crate::wire::{self, Format};
use std::rc::Rc;

/// Where a cursor, or another named portal, is.
enum Place {
    Shard(ShardId),
    Several(Box<Opened>),
}

/// See the module.
pub(in crate::session) struct Cursor {
    place: Place,
    /// How many savepoints there were: going back before that, it is gone.
    savepoints: usize,
    /// `WITH HOLD`
    holds: bool,
}

fn exists(name: &str) -> ClientError {
    ClientError::error(SqlState::new("42P03"), format!("cursor \"{name}\" already exists"))
}

fn alone() -> ClientError {
    ClientError::refused(
        "a cursor of other shards cannot be used among other statements of one message",
        "Send the statements one by one.",
    )
}

/// `FETCH`, `MOVE` and `CLOSE`, as far as the analysis tells.
pub(in crate::session) fn may_use(statement: &Statement) -> bool {
    statement.target == Target::Nothing
        && statement.access == Access::Write
        && matches!(statement.kind, Kind::Query | Kind::Other)
}

impl Session {
    /// Where what a text asks of cursors has to go; `None`: it says nothing of any that is known.
    pub(in crate::session) fn route_to_cursor(
        &mut self,
        shape: &Rc<Shape>,
        text: &[u8],
        lexed: &Lexed,
        parameters: &Parameters<'_>,
    ) -> Result<Option<Destination>, Unattached> {
        if self.cursors.is_empty() && !self.has_company() || !shape.statements.iter().any(may_use) {
            return Ok(None);
        }
        let one = shape.statements.len() == 1;
        let mut shard = None;
        for CursorUse { name, .. } in cursor_uses(text, self.standard_conforming_strings) {
            let several = match name {
                None => self.has_company(),
                Some(name) => match self.cursors.get(name.as_bytes()).map(|cursor| &cursor.place) {
                    None => false,
                    Some(Place::Several(_)) => true,
                    Some(Place::Shard(at)) => {
                        if shard.replace(*at).is_some_and(|before| before != *at) {
                            return Err(alone().into());
                        }
                        false
                    }
                },
            };
            match several {
                true if one => return Ok(Some(Destination::Several(Vec::new(), Why::NoTable))),
                true => return Err(alone().into()),
                false => {}
            }
        }
        let Some(shard) = shard else { return Ok(None) };
        let destination = self.route(shape, text, lexed, parameters)?;
        // Without a table it stays where the transaction is.
        let anywhere = matches!(&self.last_route.taken, Some((_, decision)) if decision.why == Why::NoTable);
        match destination {
            Destination::One(other) if other == shard => {}
            _ if !anywhere => return Err(alone().into()),
            _ if self.relay.awaits_ready() => return Err(Unattached::Later),
            _ => {}
        }
        Ok(Some(Destination::One(shard)))
    }

    /// A cursor's name is one for the whole transaction.
    pub(in crate::session) fn refuse_cursor_twice(
        &self,
        shape: &Shape,
        shard: ShardId,
    ) -> Result<(), ClientError> {
        let elsewhere = |name: &String| match self.cursors.get(name.as_bytes()).map(|cursor| &cursor.place) {
            None => false,
            Some(Place::Several(_)) => true,
            Some(Place::Shard(at)) => *at != shard,
        };
        let twice = shape.statements.iter().find_map(|statement| match &statement.kind {
            Kind::Declare(name) if elsewhere(name) => Some(name),
            _ => None,
        });
        twice.map_or(Ok(()), |name| Err(exists(name)))
    }

    /// A text goes to a shard: which cursors it makes there, and closes.
    pub(in crate::session) fn note_cursors(&mut self, shape: &Shape, text: &[u8], shard: ShardId) {
        if self.database.is_one_shard() {
            return;
        }
        for statement in &shape.statements {
            if let Kind::Declare(name) = &statement.kind {
                self.note_portal(name.as_bytes(), shard, statement.pin == Some(Pin::HoldCursor));
            }
        }
        if self.cursors.is_empty() || !shape.statements.iter().any(may_use) {
            return;
        }
        for cursor_use in cursor_uses(text, self.standard_conforming_strings) {
            match cursor_use.name {
                _ if cursor_use.verb != CursorVerb::Close => {}
                Some(name) => _ = self.cursors.remove(name.as_bytes()),
                None => self.cursors.clear(),
            }
        }
    }

    /// A named portal is made on a shard.
    pub(in crate::session) fn note_portal(&mut self, name: &[u8], shard: ShardId, holds: bool) {
        let cursor = Cursor { place: Place::Shard(shard), savepoints: self.tx.savepoints(), holds };
        self.cursors.insert(name.into(), cursor);
    }

    pub(in crate::session) fn has_cursors(&self) -> bool {
        !self.cursors.is_empty()
    }

    /// The shard that a named portal is on, if it is known to be on one.
    pub(in crate::session) fn portal_shard(&self, name: &[u8]) -> Option<ShardId> {
        if self.cursors.is_empty() {
            return None;
        }
        match self.cursors.get(name)?.place {
            Place::Shard(shard) => Some(shard),
            Place::Several(_) => None,
        }
    }

    /// A cursor over several shards, by its name.
    pub(in crate::session) fn is_cursor_of_several(&self, name: &[u8]) -> bool {
        let place = self.cursors.get(name).map(|cursor| &cursor.place);
        matches!(place, Some(Place::Several(_)))
    }

    /// The cursor over several shards whose rows a statement fetches.
    pub(in crate::session) fn fetched_cursor(&self, shape: &Shape, text: &[u8]) -> Option<String> {
        if self.cursors.is_empty() || !shape.statements.iter().any(may_use) {
            return None;
        }
        let mut uses = cursor_uses(text, self.standard_conforming_strings).into_iter();
        let fetched = uses.find(|cursor_use| cursor_use.verb == CursorVerb::Fetch)?.name?;
        self.is_cursor_of_several(fetched.as_bytes()).then_some(fetched)
    }

    /// Describes a cursor's rows to the client.
    pub(in crate::session) fn describe_cursor(&mut self, name: &[u8]) {
        if let Some(Cursor { place: Place::Several(opened), .. }) = self.cursors.get(name) {
            put_description(&mut self.outbox, &opened.fields, &[]);
        }
    }

    /// What `ROLLBACK TO` the savepoint behind so many others takes with it.
    pub(in crate::session) fn forget_cursors_behind(&mut self, savepoints: usize) {
        self.cursors.retain(|_, cursor| cursor.savepoints <= savepoints);
    }

    /// The savepoint behind so many others is released: what is younger is the outer one's.
    pub(in crate::session) fn keep_cursors_behind(&mut self, savepoints: usize) {
        for cursor in self.cursors.values_mut() {
            cursor.savepoints = cursor.savepoints.min(savepoints);
        }
    }

    /// The transaction has ended.
    pub(in crate::session) fn forget_cursors(&mut self) {
        self.made.clear();
        self.cursors.retain(|_, cursor| cursor.holds);
    }

    pub(super) async fn declare(
        &mut self,
        asked: &Asked<'_>,
        statement: &Statement,
        name: &str,
        shards: &[ShardId],
        why: Why,
    ) -> Result<(), Fault> {
        let read = declared(asked.text, self.standard_conforming_strings).ok_or_else(misdescribed)?;
        if self.tx.phase() == Phase::Idle && !read.holds {
            let words = "DECLARE CURSOR can only be used in transaction blocks";
            return Err(ClientError::error(SqlState::NO_TRANSACTION, words).into());
        }
        if let Some(refused) = read.refused {
            return Err(ClientError::refused(
                format!("a cursor over several shards cannot be {refused}"),
                "Declare it NO SCROLL, without HOLD: its rows can be fetched forward, as text.",
            )
            .into());
        }
        if self.cursors.contains_key(name.as_bytes()) {
            return Err(exists(name).into());
        }
        self.may_cross(statement, true)?;
        let keep = Keep::new(0);
        let inner = asked.with_text(read.query.as_bytes());
        let inner = Asked { formats: Vec::new(), keep: Some(&keep), ..inner };
        let plan = self.plan(statement, &inner, why)?;
        if !matches!(plan, Plan::Merge(_) | Plan::Combine(_) | Plan::Gather(_)) {
            return Err(ClientError::refused(
                "a cursor over several shards cannot be of a statement that writes",
                "Declare it for a query.",
            )
            .into());
        }
        self.started();
        self.run_query(&inner, &plan, shards).await?;
        self.count_distributed(shards, statement.access);
        let place = Place::Several(Box::new(keep.take().ok_or_else(misdescribed)?));
        let cursor = Cursor { place, savepoints: self.tx.savepoints(), holds: false };
        self.cursors.insert(name.as_bytes().into(), cursor);
        wire::put_complete(&mut self.outbox, "DECLARE CURSOR");
        Ok(())
    }

    /// `FETCH`, `MOVE` or `CLOSE` of a cursor over several shards.
    pub(super) async fn use_cursor(
        &mut self,
        asked: &Asked<'_>,
        cursor_use: &CursorUse,
    ) -> Result<(), Fault> {
        self.started();
        let Some(name) = &cursor_use.name else { return self.close_all().await };
        if cursor_use.verb == CursorVerb::Close {
            self.close_cursor(name.as_bytes()).await?;
            wire::put_complete(&mut self.outbox, "CLOSE CURSOR");
            return Ok(());
        }
        if cursor_use.backward {
            return Err(ClientError::refused(
                "a cursor over several shards goes forward only",
                "Use FETCH NEXT, FETCH n or FETCH ALL.",
            )
            .into());
        }
        let shown = cursor_use.verb == CursorVerb::Fetch;
        if shown && asked.formats.contains(&Format::Binary) {
            return Err(ClientError::refused(
                "rows of a cursor over several shards are text",
                "Ask for the result of FETCH in text format.",
            )
            .into());
        }
        if shown && asked.describes {
            self.describe_cursor(name.as_bytes());
        }
        let rows = self.go_on(name.as_bytes(), cursor_use.count, shown).await?;
        let verb = if shown { "FETCH" } else { "MOVE" };
        wire::put_complete(&mut self.outbox, &format!("{verb} {rows}"));
        Ok(())
    }

    async fn go_on(&mut self, name: &[u8], count: Option<u64>, shown: bool) -> Result<u64, Fault> {
        let Some(mut cursor) = self.cursors.remove(name) else { return Err(no_cursor(name).into()) };
        let Place::Several(opened) = &mut cursor.place else { return Err(misdescribed().into()) };
        // Of one that has failed nothing more is to be had.
        let rows = self.portion(opened, count, shown).await?;
        self.cursors.insert(name.into(), cursor);
        Ok(rows)
    }

    async fn close_cursor(&mut self, name: &[u8]) -> Result<(), Fault> {
        match self.cursors.remove(name) {
            Some(Cursor { place: Place::Several(opened), .. }) => self.close_opened(&opened).await,
            _ => Err(no_cursor(name).into()),
        }
    }

    async fn close_all(&mut self) -> Result<(), Fault> {
        self.on_company("CLOSE ALL", false).await?;
        self.cursors.clear();
        self.distributed.clear();
        wire::put_complete(&mut self.outbox, "CLOSE CURSOR ALL");
        Ok(())
    }

    /// An `Execute` that names a cursor: every cursor is a portal.
    pub(in crate::session) async fn execute_cursor(
        &mut self,
        name: &[u8],
        most: u64,
    ) -> Result<(), Unattached> {
        self.stand_alone().await?;
        self.started();
        let count = (most > 0).then_some(most);
        match Box::pin(self.go_on(name, count, true)).await {
            Ok(rows) if Some(rows) == count => self.outbox.put(&wire::PORTAL_SUSPENDED),
            Ok(rows) => wire::put_complete(&mut self.outbox, &format!("SELECT {rows}")),
            Err(fault) => return self.fail_distributed(fault),
        }
        Ok(())
    }

    /// A `Close` that names one.
    pub(in crate::session) async fn close_cursor_as_portal(&mut self, name: &[u8]) -> Result<(), Unattached> {
        self.stand_alone().await?;
        match Box::pin(self.close_cursor(name)).await {
            Ok(()) => {
                self.say(&wire::CLOSE_COMPLETE);
                Ok(())
            }
            Err(fault) => self.fail_distributed(fault),
        }
    }
}

fn no_cursor(name: &[u8]) -> ClientError {
    let name = String::from_utf8_lossy(name);
    ClientError::error(SqlState::new("34000"), format!("cursor \"{name}\" does not exist"))
}
