//! From a text to its shape and its route: the thread's lexer and plan cache at work for one
//! session's schema, search path and string syntax.

use super::attach::Unattached;
use super::directory::unread;
use super::distributed::{Destination, may_use};

use super::own::LastRoute;
use super::settings::statement_texts;
use super::state::Session;
use crate::config::CrossShard;
use crate::error::{ClientError, SqlState};
use crate::ring::ShardId;
use crate::route::{self, Parameters, Request, Route, Why};
use crate::sql::distribute::{OfMade, of_made};
use crate::sql::{self, Access, KeyType, Kind, Lexed, Pin, Schema, Shape, Statement, Target};
use crate::txn::Phase;
use std::rc::Rc;
use std::sync::Arc;

/// Of a context: of a database with one shard, whose statements are looked at for whether they only read.
const PROVEN: u64 = 1 << 63;

impl Session {
    /// What is known of the tables.
    pub(super) fn schema(&self) -> Result<Arc<Schema>, ClientError> {
        self.database.schema.load_full().ok_or_else(|| {
            ClientError::error(SqlState::UNAVAILABLE, "no shard could be asked for the schema yet")
                .with_hint("Try again once a shard is up.")
        })
    }

    /// Which of the thread's contexts the analysis of this session's texts depends on.
    pub(super) fn context(&mut self) -> Result<u64, ClientError> {
        let epoch = self.schema_epoch();
        if let Some((known, context)) = self.context
            && known == epoch
        {
            return Ok(context);
        }
        self.key_type = self.schema()?.key_type().unwrap_or(KeyType::Integer);
        let key = (epoch, Rc::clone(&self.search_path), self.standard_conforming_strings);
        let context = self.worker.context_number(key);
        self.context = Some((epoch, context));
        Ok(context)
    }

    /// As [`Session::context`], of a text that is read with these `standard_conforming_strings`.
    pub(super) fn context_with(&mut self, strings: bool) -> Result<u64, ClientError> {
        if strings == self.standard_conforming_strings {
            return self.context();
        }
        Ok(self.worker.context_number((self.schema_epoch(), Rc::clone(&self.search_path), strings)))
    }

    /// The same of one that is kept as a statement: whether it is proven to read only is a part of that.
    pub(super) fn context_of_prepared(&mut self, strings: bool) -> Result<u64, ClientError> {
        let context = self.context_with(strings)?;
        // What the text's own hint says is the same whoever prepares it.
        Ok(if self.proof(None).is_some() { context | PROVEN } else { context })
    }

    fn schema_epoch(&self) -> u64 {
        // Each database's schema has an epoch of its own that no other's has.
        self.database.schema.load().as_ref().map_or(0, |schema| schema.epoch)
    }

    /// Reads a text with the thread's lexer, which keeps it until the next call, and gives its
    /// shape.
    ///
    /// # Errors
    /// The text cannot be split into tokens, or the schema is not known.
    pub(super) fn shape(&mut self, text: &[u8]) -> Result<Rc<Shape>, ClientError> {
        let context = self.context()?;
        let worker = Rc::clone(&self.worker);
        let mut lexed = worker.lexed.borrow_mut();
        self.shape_with(text, &mut lexed, context, self.standard_conforming_strings)
    }

    /// Did the text analysed last name a table that is not known? Then the schema is read again,
    /// and the analysis has to be too; false if there is nothing new to be found. A session with
    /// temporary tables names unknown ones all the time.
    ///
    /// # Errors
    /// It could not be read: whether there is such a table, and where, is not known.
    pub(super) async fn knows_more_tables(&mut self) -> Result<bool, ClientError> {
        if !self.unknown_table.replace(false) || self.database.is_one_shard() {
            return Ok(false);
        }
        let has_temporary = |held: &super::state::Held| held.pins.has(sql::Pin::TemporaryTable);
        if self.held.iter().chain(&self.parked).any(has_temporary) {
            return Ok(false);
        }
        let epoch = self.schema_epoch();
        if !self.database.read_schema_again().await {
            return Err(unread("a table is not known, and the schema cannot be read"));
        }
        Ok(self.schema_epoch() != epoch)
    }

    /// As [`Session::shape`], with a lexer that is the caller's to keep.
    pub(super) fn shape_with(
        &self,
        text: &[u8],
        lexed: &mut Lexed,
        context: u64,
        strings: bool,
    ) -> Result<Rc<Shape>, ClientError> {
        if let Err(error) = lexed.lex(text, strings)
            && !self.database.is_one_shard()
        {
            return Err(ClientError::error(SqlState::SYNTAX, format!("syntax error: {error}")));
        }
        // What cannot be read has no fingerprint; the only shard says what is wrong with it.
        let readable = lexed.is_complete();
        let proof = self.proof(lexed.hints().read);
        let context = if proof.is_some() { context | PROVEN } else { context };
        let mut plans = self.worker.plans.borrow_mut();
        if readable && let Some(shape) = plans.lookup(lexed, context) {
            self.unknown_table.set(false);
            self.worker.totals.plan_hit.inc();
            return Ok(shape);
        }
        self.worker.totals.plan_miss.inc();
        let schema = match proof {
            Some(proof) => proof,
            None => self.schema()?,
        };
        let cx = sql::Context { standard_conforming_strings: strings, ..self.analysis_context(&schema) };
        self.unknown_table.set(false);
        let shape = Rc::new(sql::analyze(text, lexed, &cx));
        if readable && !self.unknown_table.get() {
            plans.insert(lexed, context, Rc::clone(&shape));
        }
        Ok(shape)
    }

    /// What the analysis of this session's texts depends on.
    pub(super) fn analysis_context<'c>(&'c self, schema: &'c Schema) -> sql::Context<'c> {
        sql::Context {
            schema,
            search_path: &self.search_path,
            standard_conforming_strings: self.standard_conforming_strings,
            default_key: &self.database.key,
            unknown: &self.unknown_table,
        }
    }

    /// What a cursor's query may do was said of its `DECLARE`.
    fn only_uses_cursors(&self, shape: &Shape, text: &[u8]) -> bool {
        shape.statements.iter().all(may_use)
            && sql::distribute::cursor_uses(text, self.standard_conforming_strings).len()
                == shape.statements.len()
    }

    /// A table that is not known is one of the home shard, but for one that this transaction has made on
    /// every shard: nobody else sees it yet.
    fn route_to_made(
        &self,
        shape: &Shape,
        text: &[u8],
        decision: &mut route::Decision,
    ) -> Result<(), ClientError> {
        let changes = |statement: &Statement| matches!(statement.kind, Kind::Ddl | Kind::Maintenance);
        let alone =
            matches!(&shape.statements[..], [statement] if changes(statement) && statement.pin.is_none());
        match of_made(text, self.standard_conforming_strings, &self.made, alone) {
            OfMade::Nothing => Ok(()),
            OfMade::Each => {
                (decision.route, decision.why) = (Route::Several(route::ShardSet::All), Why::EachShard);
                Ok(())
            }
            OfMade::Unknown(name) => Err(ClientError::refused(
                format!(
                    "table \"{name}\" was made in this transaction, and where its rows belong is not known yet"
                ),
                "COMMIT after CREATE TABLE, and go on in another transaction; constraints may be given with it.",
            )),
        }
    }

    /// Where the row is that a statement is about with `WHERE CURRENT OF`: on its cursor's shard, if that is
    /// on one.
    fn shard_of_current_row(&self, shape: &Shape, text: &[u8]) -> Option<ShardId> {
        if shape.statements.len() != 1 || !self.has_cursors() {
            return None;
        }
        let cursor = sql::distribute::cursor_of_current_row(text, self.standard_conforming_strings)?;
        self.portal_shard(cursor.as_bytes())
    }

    /// The transaction may do there what cannot be prepared.
    ///
    /// # Errors
    /// It has written on several shards.
    fn note_unpreparable(&mut self, shape: &Shape, text: &[u8], settled: bool) -> Result<(), ClientError> {
        if self.tx.phase() == Phase::Idle || self.database.is_one_shard() {
            return Ok(());
        }
        let texts = || statement_texts(text, shape.statements.len(), self.standard_conforming_strings);
        let others = shape.statements.iter().any(|statement| statement.kind == Kind::Other);
        let mut texts = if others { texts() } else { Vec::new() }.into_iter();
        let what = shape.statements.iter().find_map(|statement| {
            let source = texts.next().unwrap_or_default();
            let notifies = || source.get(..6).is_some_and(|word| word.eq_ignore_ascii_case("notify"));
            match statement.pin {
                Some(Pin::TemporaryTable) => Some("a temporary table"),
                Some(Pin::Listen) => Some("LISTEN"),
                Some(Pin::HoldCursor) => Some("a cursor WITH HOLD"),
                _ => (statement.kind == Kind::Other && notifies()).then_some("NOTIFY"),
            }
        });
        if let Some(what) = what {
            // PostgreSQL remembers of a transaction that it has had one (`MyXactFlags`).
            let temporary = shape.statements.iter().any(|one| one.pin == Some(Pin::TemporaryTable));
            self.tx.cannot_be_prepared(what, settled && !temporary);
            if self.tx.has_several_writers() {
                return Err(cannot_be_prepared(what));
            }
        }
        Ok(())
    }

    /// The transaction may write there; `settled`: with the savepoints that it has now.
    pub(super) fn note_writer(&mut self, shard: ShardId, settled: bool) {
        if self.tx.phase() == Phase::Idle || self.database.is_one_shard() || self.only_reads() {
            return;
        }
        if settled {
            self.tx.wrote(shard);
        } else {
            self.tx.wrote_throughout(shard);
        }
    }

    /// Where a statement goes that may go anywhere.
    pub(super) fn nearest(&self) -> ShardId {
        let kept = self.held.iter().chain(&self.parked).next();
        kept.map_or(self.favourite, |held| held.shard)
    }

    /// Whose catalogs are read within a transaction on this shard. Clients know users' types by the OIDs
    /// of the home shard.
    fn catalogs_of(&self, shard: ShardId) -> ShardId {
        let keeps = self.held.as_ref().is_some_and(|held| !held.pins.is_empty());
        let apart = self.directory.routing.cross_shard == CrossShard::Refuse;
        let stays = keeps || apart || self.tx.phase() != Phase::Open || !self.database.has_own_types(shard);
        if stays { shard } else { self.database.topology.home }
    }

    /// Where a statement goes.
    ///
    /// # Errors
    /// It is refused.
    pub(super) fn route(
        &mut self,
        shape: &Rc<Shape>,
        text: &[u8],
        lexed: &Lexed,
        parameters: &Parameters<'_>,
    ) -> Result<Destination, Unattached> {
        if shape.statements.iter().any(|statement| statement.target != Target::Nothing) {
            self.database.is_read()?;
        }
        let transaction_shard = match (&self.held, self.tx.phase()) {
            (Some(held), Phase::Open) => Some(held.shard),
            (Some(held), _) if self.batch.has_run() => Some(held.shard),
            _ => None,
        };
        let request = Request {
            shape,
            text,
            lexed,
            parameters,
            topology: &self.database.topology,
            key_type: self.key_type,
            same_encoding: self.same_encoding,
            session_hints: &self.own.hints,
            transaction_shard,
        };
        let mut decision = route::route(&request);
        if let (Route::Several(_), Why::KeyUnknown { .. }) = (&decision.route, decision.why)
            && let Some(shard) = self.shard_of_current_row(shape, text)
        {
            (decision.route, decision.why) = (Route::Shard(shard), Why::CurrentRow);
        }
        let told = matches!(
            decision.why,
            Why::NoTable | Why::EachShard | Why::CommentShard | Why::SessionShard | Why::HintedKey
        );
        if !self.made.is_empty() && !told {
            self.route_to_made(shape, text, &mut decision)?;
        }
        let outcome = match &decision.route {
            // What the session keeps on a server (a cursor WITH HOLD, say) is met there again.
            Route::Any => Ok(Destination::One(transaction_shard.unwrap_or_else(|| self.nearest()))),
            Route::Shard(shard) if decision.why == Why::Catalog => {
                Ok(Destination::One(self.catalogs_of(*shard)))
            }
            Route::Shard(shard) => Ok(Destination::One(*shard)),
            Route::Several(set) => Ok(Destination::Several(self.members_of(set), decision.why)),
            Route::Refused(_) => Err(route::refusal(shape, &decision)),
        };
        let stays = match &outcome {
            Ok(Destination::One(shard)) => self.held.as_ref().is_some_and(|held| held.shard == *shard),
            _ => false,
        };
        if self.relay.awaits_ready() && !stays {
            return Err(Unattached::Later);
        }
        if outcome.is_ok() {
            let several = matches!(outcome, Ok(Destination::Several(..)));
            self.choose_source(shape, text, &decision, several)?;
        }
        if decision.access == Access::Write {
            match &outcome {
                Ok(Destination::One(shard)) => self.positions.writes(Some(*shard), self.tracked_shards()),
                Ok(Destination::Several(..)) => self.positions.writes(None, self.tracked_shards()),
                Err(_) => {}
            }
        }
        // What is on its way may go back behind a savepoint before this runs.
        let settled = shape.statements.len() == 1 && self.effects.is_empty() && !self.relay.is_busy();
        if decision.access == Access::Write
            && let Ok(Destination::One(shard)) = outcome
        {
            self.may_write_in_company()?;
            if !self.only_uses_cursors(shape, text) {
                self.note_writer(shard, settled);
            }
        }
        if matches!(outcome, Ok(Destination::One(_))) {
            self.note_unpreparable(shape, text, settled)?;
        }
        // Of several that are under way together each counts.
        if !(self.relay.is_busy() && self.access_kind == Access::Write) {
            self.access_kind = decision.access;
        }
        let totals = &self.worker.totals;
        match (&outcome, decision.why) {
            (Err(_), _) => self.worker.metrics.routes.refused.inc(),
            // Counted when it has run.
            (Ok(Destination::Several(..)), _) => {}
            (Ok(_), Why::Home) => totals.home.inc(),
            (Ok(_), Why::Reference) => totals.reference.inc(),
            (Ok(_), _) => totals.single.inc(),
        }
        self.last_route = LastRoute { taken: Some((Rc::clone(shape), decision)) };
        outcome.map_err(Unattached::from)
    }
}

/// PostgreSQL's `PREPARE TRANSACTION` refuses these; better said before anything else is done.
pub(super) fn cannot_be_prepared(what: &str) -> ClientError {
    ClientError::refused(
        format!("a transaction with {what} cannot write on several shards"),
        "Commit first, or keep to one key.",
    )
}
