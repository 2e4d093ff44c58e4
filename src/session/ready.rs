//! What the answers of a server mean for the session: which of its statements have run, and what
//! stands after a `ReadyForQuery`.

use super::attach::{ALIGNED, OPENED};
use super::batch::Committed;
use super::prepared::Prepared;
use super::state::{End, Session};
use crate::error::{ClientError, SqlState};
use crate::execute::Event;
use crate::sql::Access;
use crate::txn::{Change, Phase};
use crate::wire::{self, TxStatus};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

/// What a statement does to the session once it has run.
pub(super) enum Effect {
    None,
    Changes(Vec<Change>),
    Savepoint(String),
    RollbackTo(String),
    Release(String),
    /// With its options, as [`super::transaction::options_of`] puts them.
    Begin(Option<String>),
    /// `last`: nothing stands behind it in its message or batch.
    Commit {
        last: bool,
        chain: bool,
    },
    /// `PREPARE TRANSACTION`.
    PrepareTransaction,
    Rollback {
        chain: bool,
    },
    /// `code`: functions may be others now.
    Ddl {
        code: bool,
    },
    /// A server that joins the transaction has to run this too.
    Note(String),
    /// It says how the transaction is: so is the next one of a chain.
    Characterise(String),
    Prepare(Rc<Prepared>),
    Deallocate(String),
    ForgetPrepared,
    DiscardAll,
}

impl Session {
    /// After [`Session::io`]: takes note of what has happened.
    pub(super) async fn settle(&mut self) -> Result<(), End> {
        self.take_events()?;
        if self.has_to_fall() {
            Box::pin(self.fall()).await?;
        }
        if let Some(told) = self.ready_held.take() {
            if self.may_release() {
                Box::pin(self.release_pins()).await;
            }
            if !std::mem::take(&mut self.reads_schema) {
                self.tell_ready(told);
                return Ok(());
            }
            // Nobody may be routed by the old schema who has seen the change acknowledged.
            Box::pin(self.database.read_changed_schema()).await;
            self.context = None;
            self.tell_ready(told);
        }
        Ok(())
    }

    fn tell_ready(&mut self, told: TxStatus) {
        wire::put_ready(&mut self.outbox, told);
        let more = self.relay.awaits_ready();
        if more {
            self.waits_anew();
        } else {
            self.registration.control.rests();
        }
        self.registration.control.active.set(told != TxStatus::Idle || more);
    }

    pub(super) fn take_events(&mut self) -> Result<(), End> {
        if self.events.is_empty() {
            return Ok(());
        }
        let mut events = std::mem::take(&mut self.events);
        for event in events.drain(..) {
            match event {
                Event::Completed { note, rolled_back } => self.completed(note, rolled_back),
                Event::Confirmed => self.batch.confirmed(),
                Event::StalePlan => _ = self.database.schema_changes.fetch_add(1, Ordering::SeqCst),
                // It may have been demoted, or kept from writes, since the last probe.
                Event::ReadOnly => {
                    if let Some(held) = &self.held {
                        self.database.shards[held.shard.index()].board.probe_now();
                    }
                }
                Event::Failed { ended, parsing } => self.statement_failed(ended, parsing),
                Event::Ready(status) => self.ready(status)?,
                Event::Parameter(name, value) => {
                    self.told_ahead.remove(&name);
                    self.parameter(&name, value)?;
                }
                Event::Position { change, answer } => self.position_told(change, &answer),
                Event::CopyIn => {
                    if !self.relay.awaits_ready() {
                        // Under the extended protocol the Syncs sent so far do not count.
                        self.batch.revive();
                    }
                }
            }
        }
        // Keeps its memory for the next statement.
        self.events = events;
        Ok(())
    }

    fn completed(&mut self, note: u32, rolled_back: bool) {
        if note == OPENED {
            self.batch.opened = false;
            return;
        }
        if note == ALIGNED {
            self.batch.aligning = false;
            self.lost_setting &= self.batch.has_aimed();
            return;
        }
        let Some(effect) = self.effects.get_mut(note as usize) else { return };
        let effect = std::mem::replace(effect, Effect::None);
        // What stands behind a COMMIT may be lost yet.
        self.batch.committed.is_followed();
        self.take_effect_of(effect, rolled_back);
    }

    /// What a statement has done that ran on several servers.
    pub(super) fn take_effect_now(&mut self, effect: Effect) {
        self.take_effect_of(effect, false);
    }

    fn take_effect_of(&mut self, effect: Effect, rolled_back: bool) {
        match effect {
            // The server says with its ReadyForQuery that there is no transaction any more.
            Effect::None | Effect::PrepareTransaction => {}
            Effect::Changes(changes) => {
                for change in changes {
                    if change == Change::ResetAll {
                        self.own.reset();
                    }
                    self.tx.change(change);
                }
                self.settings_changed();
            }
            Effect::Savepoint(name) => self.set_savepoint(name, None),
            Effect::RollbackTo(name) => {
                // The server has the savepoint: if it is not known here, it was made in a way
                // that is not followed, and everything since is as the server has it.
                self.go_back_to(&name);
            }
            Effect::Release(name) => {
                self.release_savepoint(&name, None);
            }
            // What fails from here on is not a transaction of its own.
            Effect::Begin(options) => {
                self.batch.committed = Committed::No;
                self.tx.has_begun(options);
            }
            // With what the next one begins on a server where this one has failed is not known.
            Effect::Commit { .. } if rolled_back => self.ended(false, Session::undone),
            Effect::Commit { last, chain } => {
                self.batch.committed = match (chain, last) {
                    (true, _) => Committed::No,
                    (false, true) => Committed::Last,
                    (false, false) => Committed::Followed,
                };
                // Elsewhere the next one would begin by the new defaults.
                let known = chain && !self.tx.alters_defaults();
                self.ended(known, Session::committed);
            }
            Effect::Rollback { chain } => {
                let failed = self.has_failed_on_server();
                self.ended(chain && !failed, Session::undone);
            }
            Effect::Ddl { code } => {
                self.batch.schema_changed = true;
                self.batch.code_changed |= code;
                self.database.schema_changes.fetch_add(1, Ordering::SeqCst);
            }
            Effect::Note(statement) => self.tx.note(statement),
            Effect::Characterise(statement) => self.tx.characterise(statement),
            Effect::Prepare(statement) => self.prepared_by_sql(statement),
            Effect::Deallocate(name) => self.deallocated_by_sql(&name),
            Effect::ForgetPrepared => {
                self.statements.clear();
                self.control().prepared.set(0);
                if let Some(held) = &mut self.held {
                    held.lease.prepared.clear();
                    held.lease.unnamed = 0;
                }
            }
            Effect::DiscardAll => {
                if let Some(held) = &mut self.held {
                    held.lease.prepared.clear();
                    held.lease.unnamed = 0;
                    held.lease.settings = Arc::default();
                }
            }
        }
    }

    /// The transaction has ended before the `Sync`: an error after it is not one of its own.
    fn ended(&mut self, chain: bool, how: fn(&mut Session)) {
        how(self);
        self.tx.has_ended(chain);
        self.batch.opened = false;
    }

    pub(super) fn committed(&mut self) {
        if !self.tx.changes().is_empty()
            && let Some(held) = &mut self.held
        {
            let mut session = (*self.settings).clone();
            let mut server = (*held.lease.settings).clone();
            self.tx.commit(&self.initial, &mut session, &mut server);
            self.settings = Arc::new(session);
            held.lease.settings =
                if server == *self.settings { Arc::clone(&self.settings) } else { Arc::new(server) };
        }
        self.own.keep();
        self.settings_changed();
    }

    pub(super) fn undone(&mut self) {
        let had_changes = !self.tx.changes().is_empty();
        self.tx.forget_changes();
        self.own.undo();
        self.take_back_told();
        if had_changes {
            self.settings_changed();
        }
    }

    /// `ended`: the batch it was in has its `Sync` already.
    fn statement_failed(&mut self, ended: bool, parsing: bool) {
        if std::mem::take(&mut self.batch.aligning) {
            tracing::warn!(
                database = self.database.name,
                user = self.user_name,
                "a server's settings cannot be brought in line with a session's"
            );
            self.batch.misaligned = true;
            self.lost_setting = true;
        }
        if self.tx.phase() == Phase::Idle {
            // An implicit transaction is undone as a whole.
            self.undone();
        }
        self.pins_to_check |= self.held.as_ref().is_some_and(|held| !held.pins.is_empty());
        self.take_back(parsing);
        if !ended {
            // The server listens again after a Sync.
            self.batch.send();
            self.batch.skip();
        }
        self.batch.failed = true;
    }

    /// The server's settings are neither what they were nor what they should be.
    fn close_misaligned(&mut self) -> Result<(), End> {
        let pinned = self.held.as_ref().is_some_and(|held| !held.pins.is_empty());
        self.drop_held();
        self.undone();
        if pinned {
            return Err(End::Fatal(ClientError::fatal(
                SqlState::SERVER_LOST,
                "the connection's settings could not be restored, and with them its server was lost",
            )));
        }
        if self.tx.phase() == Phase::Idle {
            self.tx.finish();
        } else {
            self.tx.lost();
        }
        Ok(())
    }

    /// After a `Sync` that the client has not asked for: what its answer means for the session.
    pub(super) fn settle_hidden_sync(&mut self) -> Result<(), End> {
        if self.batch.misaligned {
            self.close_misaligned()?;
        } else if self.batch.failed && self.tx.phase() == Phase::Pending {
            self.refused();
        } else if self.held.as_ref().is_some_and(|held| held.lease.status == TxStatus::Failed) {
            self.fail_others();
        }
        Ok(())
    }

    /// A statement has failed on the server held: the transaction's others do not know.
    fn fail_others(&mut self) {
        if self.has_company() {
            self.tx.fail();
        }
    }

    fn ready(&mut self, status: TxStatus) -> Result<(), End> {
        let (mut schema_changed, mut code_changed) = (false, false);
        // What the client has sent since is under way as well.
        let more = self.relay.awaits_ready();
        let last = !more && !self.batch.is_begun();
        self.compare_told()?;
        if self.batch.aligned && !self.batch.misaligned {
            self.tell_what_was_reported()?;
        }
        match status {
            _ if self.batch.misaligned => self.close_misaligned()?,
            TxStatus::Idle if self.batch.opened && self.batch.failed && self.tx.phase() == Phase::Open => {
                // What was sent ahead failed before there was a transaction: the client believes
                // in one, and must not go on outside of it.
                self.undone();
                self.tx.lost();
                self.detach_if_free();
            }
            // Only a description was asked for: the transaction has not begun anywhere.
            TxStatus::Idle if self.tx.phase() == Phase::Pending => {
                if self.batch.failed {
                    self.refused();
                }
                self.detach_if_free();
            }
            TxStatus::Idle => {
                if self.tx.phase() == Phase::Open || !self.tx.changes().is_empty() || self.batch.failed {
                    if self.batch.failed {
                        self.undone();
                    } else {
                        self.committed();
                    }
                }
                self.tx.finish();
                self.strings.1 = self.standard_conforming_strings;
                self.complete_datestyle();
                if last {
                    self.forget_portals();
                    self.config_values.clear();
                }
                schema_changed = std::mem::take(&mut self.batch.schema_changed);
                code_changed = std::mem::take(&mut self.batch.code_changed);
                if schema_changed {
                    // Others have prepared by the old one until now, or it is back.
                    self.database.schema_changes.fetch_add(1, Ordering::SeqCst);
                }
                self.worker.totals.transactions.inc();
                self.tally.transactions.inc();
                self.detach_if_free();
                self.hold_listener();
            }
            TxStatus::Open | TxStatus::Failed => {
                self.tx.is_open();
                if status == TxStatus::Failed {
                    self.fail_others();
                }
            }
        }
        self.finish_measuring(status);
        if last {
            self.effects.clear();
            self.batch.is_sure();
        }
        self.batch.answered(more);
        let told = self.status();
        // Of a database with one shard only the functions are of interest, but where reads are proven.
        let proves = || self.database.proof.load().is_some();
        self.reads_schema = schema_changed && (code_changed || !self.database.is_one_shard() || proves());
        let judged = self.registration.control.judged.get();
        if self.reads_schema || judged || (status == TxStatus::Idle && self.may_release()) {
            self.ready_held = Some(told);
        } else {
            self.tell_ready(told);
        }
        Ok(())
    }

    /// A server tells what differs from what it told last, not what was one way for the session that
    /// had it before, another when it was brought in line, and is the first way again.
    fn tell_what_was_reported(&mut self) -> Result<(), End> {
        let Some(held) = &self.held else { return Ok(()) };
        let mut news = Vec::new();
        for (name, value) in &held.lease.reported {
            if self.told.tell(name, value) {
                wire::put_parameter(&mut self.outbox, name, value);
                news.push((name.clone(), value.clone()));
            }
        }
        news.into_iter().try_for_each(|(name, value)| self.parameter(&name, value))
    }

    fn finish_measuring(&mut self, status: TxStatus) {
        let now = Instant::now();
        self.idle_since = now;
        if status == TxStatus::Idle
            && let Some(began) = self.transaction_began.take()
        {
            self.tally.transaction_seconds.inc_by(now.duration_since(began).as_secs_f64());
        }
        if let Some((began, access)) = self.began.take() {
            let shard = self.batch.shard.index();
            let seconds = now.duration_since(began).as_secs_f64();
            match access {
                Access::Read => self.tally.query_read[shard].observe(seconds),
                Access::Write => self.tally.query_write[shard].observe(seconds),
            }
        }
        self.asked_since = None;
        if self.relay.awaits_ready() {
            self.began = Some((now, self.access_kind));
            self.asked_since = Some(now);
        }
    }

    /// `SET DateStyle` may name one of its two halves and keep the other: what is repeated on
    /// other servers has to be the whole, as the server reports it.
    fn complete_datestyle(&mut self) {
        let Some(made_by) = self.settings.get("datestyle") else { return };
        let Some(held) = &mut self.held else { return };
        let Some(whole) = held.lease.reported.get("DateStyle") else { return };
        let whole = crate::backend::set_config_statement("datestyle", whole);
        if held.lease.is_aligned(&self.settings) && made_by != whole {
            let mut settings = (*self.settings).clone();
            settings.set("datestyle", whole);
            self.settings = Arc::new(settings);
            held.lease.settings = Arc::clone(&self.settings);
        }
    }

    /// `standard_conforming_strings` is on, or off.
    pub(super) fn read_strings_as(&mut self, on: bool) {
        if on != self.standard_conforming_strings {
            self.standard_conforming_strings = on;
            self.context = None;
        }
    }

    pub(super) fn parameter(&mut self, name: &str, value: String) -> Result<(), End> {
        match name {
            "standard_conforming_strings" => {
                self.read_strings_as(value == "on");
            }
            "client_encoding" if !self.database.is_one_shard() && !is_ascii_superset(&value) => {
                // Nobody else may get a server that has it: the session knows nothing of it.
                self.drop_held();
                return Err(unreadable_encoding(&value).into());
            }
            "client_encoding" => {
                let server = self.held.as_ref().and_then(|held| held.lease.reported.get("server_encoding"));
                self.same_encoding = server == Some(&value);
            }
            "application_name" => *self.control().application_name.borrow_mut() = value,
            _ => {}
        }
        Ok(())
    }
}

/// In these encodings a byte below 128 is always that ASCII character, so that a text can be read
/// without decoding it; the others are client-only (`pg_wchar.h`, `PG_ENCODING_BE_LAST`). Spelt as
/// PostgreSQL takes them (`pg_encname_tbl`, `clean_encoding_name`).
pub(super) fn is_ascii_superset(encoding: &str) -> bool {
    let plain: String = encoding.chars().filter(char::is_ascii_alphanumeric).collect();
    !matches!(
        plain.to_ascii_lowercase().as_str(),
        "sjis"
            | "shiftjis"
            | "mskanji"
            | "win932"
            | "windows932"
            | "shiftjis2004"
            | "big5"
            | "win950"
            | "windows950"
            | "gbk"
            | "win936"
            | "windows936"
            | "uhc"
            | "win949"
            | "windows949"
            | "gb18030"
            | "johab"
    )
}

pub(super) fn unreadable_encoding(encoding: &str) -> ClientError {
    ClientError::refused(
        format!("client_encoding {encoding} cannot be routed: its characters may contain quotes"),
        "Use UTF8.",
    )
}
