//! Statements that pgring answers itself, because they are about the session and no server has
//! to hear of them (yet): a transaction that has no shard, pgring's own settings, the session's
//! prepared statements.

use super::attach::Unattached;
use super::ready::Effect;
use super::reworded::Reworded;
use super::settings::{literal, statement_texts};
use super::simple::is_planted;
use super::state::Session;
use crate::config::CrossShard;
use crate::error::{ClientError, SqlState};
use crate::ring::ShardId;
use crate::sql::{Access, Kind, Shape, Token, TokenKind, tokenize};
use crate::txn::{Change, Phase};
use crate::wire::{self, ColumnType, TxStatus};

/// What pgring answers in a server's stead.
pub(super) enum Own {
    /// This command tag.
    Tag(&'static str),
    /// A warning, and the tag.
    Warned(ClientError, &'static str),
    /// One row of one column, and the tag `SHOW`.
    Row {
        /// The column.
        name: String,
        /// Its value.
        value: String,
    },
    /// An error.
    Error(ClientError),
    /// A server's error, the whole message.
    Refusal(Box<[u8]>),
    /// It is a server's to answer.
    NotOurs,
    /// It is a server's to answer, asked for this instead.
    Instead(&'static str),
    /// It is a server's to answer, in these words, and pgring's to tell.
    Reworded(Reworded),
}

impl Session {
    /// Is this statement one that pgring answers itself, the session being as it is?
    pub(super) fn may_be_own(kind: &Kind) -> bool {
        matches!(
            kind,
            Kind::Begin
                | Kind::Commit { .. }
                | Kind::Rollback { .. }
                | Kind::Savepoint(_)
                | Kind::RollbackTo(_)
                | Kind::Release(_)
                | Kind::SetTransaction
                | Kind::Set { .. }
                | Kind::Reset { .. }
                | Kind::ResetAll
                | Kind::ShowOwn(_)
                | Kind::DiscardAll
                | Kind::Deallocate(_)
        )
    }

    /// Carries out a statement that pgring answers itself.
    pub(super) async fn own_statement(&mut self, shape: &Shape, text: &[u8]) -> Result<Own, Unattached> {
        let Some(statement) = shape.statements.first() else { return Ok(Own::NotOurs) };
        let source = || statement_texts(text, 1, self.standard_conforming_strings).concat();
        let phase = self.tx.phase();
        let pending = phase == Phase::Pending;
        // An implicit transaction of a pipeline becomes the explicit one: its server's business.
        let elsewhere = phase == Phase::Open || self.batch.has_run();
        if self.concerns_company(&statement.kind) {
            let source = source();
            // Whether the server held has part in the transaction is not known before its Sync.
            Box::pin(self.settle_unsynced()).await?;
            return Box::pin(self.control_company(statement, source)).await;
        }
        Ok(match &statement.kind {
            Kind::Begin if elsewhere => Own::NotOurs,
            Kind::Begin if pending => {
                if let Some(options) = options_of(&source()) {
                    self.tx.characterise(options);
                }
                Own::Warned(begun_already(), begin_tag(text))
            }
            Kind::Begin => {
                self.tx.begin(source());
                Own::Tag(begin_tag(text))
            }
            Kind::Commit { chain } => self.end(true, *chain, elsewhere),
            Kind::Rollback { chain } => self.end(false, *chain, elsewhere),
            Kind::Savepoint(name) if pending => {
                self.set_savepoint(name.clone(), Some(source()));
                Own::Tag("SAVEPOINT")
            }
            Kind::RollbackTo(name) if pending => {
                if self.go_back_to(name) {
                    self.retell().await?;
                    Own::Tag("ROLLBACK")
                } else {
                    Own::Error(no_savepoint(name))
                }
            }
            Kind::Release(name) if pending => {
                if self.release_savepoint(name, Some(source())) {
                    Own::Tag("RELEASE")
                } else {
                    Own::Error(no_savepoint(name))
                }
            }
            Kind::SetTransaction if pending => {
                let source = source();
                if is_of_constraints(&source) {
                    self.tx.record(source);
                    Own::Tag("SET CONSTRAINTS")
                } else {
                    self.tx.characterise(source);
                    Own::Tag("SET")
                }
            }
            Kind::Set { name, default, value, local } if name.starts_with("pgring.") => {
                let value = match value {
                    Some(slot) if !default => match literal(text, slot, self.standard_conforming_strings) {
                        Some(value) => Some(value),
                        None => return Ok(Own::Error(needs_constant(name))),
                    },
                    _ => None,
                };
                if *local && phase == Phase::Idle {
                    return Ok(Own::Warned(
                        ClientError::error(
                            SqlState::NO_TRANSACTION,
                            "SET LOCAL can only be used in transaction blocks",
                        ),
                        "SET",
                    ));
                }
                self.own_change(name, value, *local, "SET")
            }
            Kind::Reset { name } if name.starts_with("pgring.") => {
                self.own_change(name, None, false, "RESET")
            }
            Kind::Set { name, .. } if is_planted(name) => Own::NotOurs,
            kind @ (Kind::Set { .. } | Kind::Reset { .. } | Kind::ResetAll) => {
                if self.keeps_settings() {
                    return Box::pin(self.set_while_pending(kind, source())).await;
                }
                self.resetting(kind).map_or(Own::NotOurs, Own::Reworded)
            }
            Kind::ShowOwn(name) if name == "pgring.lsn" => {
                Box::pin(self.learn_positions()).await?;
                Own::Row { name: name.clone(), value: self.show_positions() }
            }
            Kind::ShowOwn(name) => match self.show_own(name) {
                Ok(value) => Own::Row { name: name.clone(), value },
                Err(error) => Own::Error(error),
            },
            Kind::DiscardAll if pending => Own::Error(ClientError::error(
                SqlState::new("25001"),
                "DISCARD ALL cannot run inside a transaction block",
            )),
            Kind::DiscardAll => Box::pin(self.discard_all(elsewhere)).await?,
            // In a failed transaction it is the server's to refuse.
            Kind::Deallocate(_) if self.status() == TxStatus::Failed => Own::NotOurs,
            Kind::Deallocate(name) => self.deallocate(name.as_deref()),
            _ => Own::NotOurs,
        })
    }

    /// `COMMIT` and `ROLLBACK`.
    fn end(&mut self, commit: bool, chain: bool, elsewhere: bool) -> Own {
        let failed = self.tx.is_failed();
        if elsewhere {
            // The server does not know that pgring has failed the transaction.
            return match (failed, chain) {
                (false, _) => Own::NotOurs,
                (true, false) => Own::Instead("ROLLBACK"),
                (true, true) => Own::Instead("ROLLBACK AND CHAIN"),
            };
        }
        let verb = if commit { "COMMIT" } else { "ROLLBACK" };
        if self.tx.phase() == Phase::Idle {
            if chain {
                return Own::Error(ClientError::error(
                    SqlState::NO_TRANSACTION,
                    format!("{verb} AND CHAIN can only be used in transaction blocks"),
                ));
            }
            return Own::Warned(
                ClientError::error(SqlState::NO_TRANSACTION, "there is no transaction in progress"),
                verb,
            );
        }
        let commits = commit && !failed;
        if commits && !self.tx.changes().is_empty() {
            // The settings made in it have to be checked by a server before they stand.
            return Own::NotOurs;
        }
        if commits {
            self.own.keep();
            self.told_ahead.clear();
        } else {
            self.undone();
        }
        if chain {
            self.tx.chain();
        } else {
            self.tx.finish();
        }
        self.settings_changed();
        Own::Tag(if commits { "COMMIT" } else { "ROLLBACK" })
    }

    fn own_change(&mut self, name: &str, value: Option<String>, local: bool, tag: &'static str) -> Own {
        match self.set_own(name, value, local) {
            Ok(()) => {
                if self.tx.phase() == Phase::Idle {
                    self.own.keep();
                }
                Own::Tag(tag)
            }
            Err(error) => Own::Error(error),
        }
    }

    /// `on_server`: what is under way there decides whether it may be.
    async fn discard_all(&mut self, on_server: bool) -> Result<Own, Unattached> {
        if on_server {
            let note = u32::try_from(self.effects.len()).unwrap_or(u32::MAX);
            self.effects.push(Effect::DiscardAll);
            self.send_hidden("DISCARD ALL", Some(note));
            self.answers_known().await?;
        }
        self.sync_quietly().await?;
        self.tell_initial_settings(on_server).await?;
        // Not the unnamed one, nor does PostgreSQL (`DropAllPreparedStatements`).
        self.statements.clear();
        self.forget_portals();
        // What it has changed it goes on to see: to PostgreSQL this is no reason to look back.
        self.own.discard();
        self.strings.1 = self.strings.0;
        self.read_strings_as(self.strings.0);
        self.settings_changed();
        self.keeps_sequences = false;
        self.registration.control.cancels_done().await;
        let held = self.held.take();
        self.registration.control.detached();
        for mut held in self.parked.drain(..).chain(held) {
            if held.pins.outlives_discard() {
                // Closed, with what DISCARD ALL would leave.
                continue;
            }
            match held.lease.discard_all().await {
                Ok(()) => self.worker.local.give_back(held.lease),
                // Closed: its state goes with it, which is what was asked.
                Err(error) => {
                    tracing::info!("a server connection was closed instead of being reset: {error}")
                }
            }
        }
        self.note_pins();
        Ok(Own::Tag("DISCARD ALL"))
    }

    /// The settings become those the session began with, and the client is told of each reported
    /// one that changes by it, as a server would.
    async fn tell_initial_settings(&mut self, on_server: bool) -> Result<(), Unattached> {
        if self.settings == self.initial && !on_server {
            return Ok(());
        }
        let shard = self.held.as_ref().map_or(self.favourite, |held| held.shard);
        self.settings = std::sync::Arc::clone(&self.initial);
        self.settings_changed();
        if self.held.is_none() {
            self.take(shard).await?;
        }
        self.align().await?;
        let reported = self.held.as_ref().map(|held| held.lease.reported.clone()).unwrap_or_default();
        for (name, value) in reported {
            if self.told.tell(&name, &value) {
                self.say_with(|out| wire::put_parameter(out, &name, &value));
                self.parameter(&name, value)?;
            }
        }
        Ok(())
    }

    /// Servers keep what the session has no more until they need the room, or somebody else comes.
    fn deallocate(&mut self, name: Option<&str>) -> Own {
        let known = match name {
            None => {
                self.statements.clear();
                true
            }
            Some(name) => self.statements.remove(name.as_bytes()).is_some(),
        };
        self.control().prepared.set(self.statements.len());
        match name {
            None => Own::Tag("DEALLOCATE ALL"),
            Some(_) if known => Own::Tag("DEALLOCATE"),
            Some(name) => Own::Error(ClientError::error(
                SqlState::NO_STATEMENT,
                format!("prepared statement \"{name}\" does not exist"),
            )),
        }
    }

    /// Writes what pgring answers; `describe` puts a row's description before it. False when it
    /// is an error, which is the caller's to tell.
    pub(super) fn answer(&mut self, own: &Own, describe: bool) {
        match own {
            Own::Tag(tag) => self.say_with(|out| wire::put_complete(out, tag)),
            Own::Warned(warning, tag) => self.say_with(|out| {
                wire::put_warning(out, warning);
                wire::put_complete(out, tag);
            }),
            Own::Row { name, value } => self.say_with(|out| {
                if describe {
                    wire::put_row_description(
                        out,
                        [(name.as_str(), ColumnType::Text, wire::Format::Text)].into_iter(),
                    );
                }
                wire::put_data_row(out, [Some(value.as_str())].into_iter());
                wire::put_complete(out, "SHOW");
            }),
            Own::Error(_) | Own::Refusal(_) | Own::NotOurs | Own::Instead(_) | Own::Reworded(_) => {}
        }
    }

    /// A statement in the transaction has been refused: it has failed, and its settings with it.
    pub(super) fn refused(&mut self) {
        if self.tx.phase() == Phase::Pending {
            self.take_back_told();
        }
        self.tx.fail();
    }

    pub(super) fn set_savepoint(&mut self, name: String, statement: Option<String>) {
        self.tx.savepoint(name, statement);
        self.own.mark();
    }

    /// Portals live no longer than their transaction.
    pub(super) fn forget_portals(&mut self) {
        self.portals.clear();
        self.done_here.clear();
        self.unnamed_portal = None;
        self.distributed.clear();
        self.forget_cursors();
    }

    /// False when there is no such savepoint.
    pub(super) fn go_back_to(&mut self, name: &str) -> bool {
        if let Some(depth) = self.tx.depth_of(name) {
            self.forget_portals_behind(depth);
            self.forget_cursors_behind(depth);
            self.own.back_to(depth);
        }
        let found = self.tx.rollback_to(name);
        self.settings_changed();
        found
    }

    /// False when there is no such savepoint.
    pub(super) fn release_savepoint(&mut self, name: &str, statement: Option<String>) -> bool {
        if let Some(depth) = self.tx.depth_of(name) {
            self.keep_portals_behind(depth);
            self.keep_cursors_behind(depth);
            self.own.release(depth);
        }
        self.tx.release(name, statement)
    }

    /// What has failed on one server must not go on on another.
    pub(super) fn refuse_if_failed_there(&self) -> Result<(), ClientError> {
        if self.has_failed_on_server() { Err(failed_transaction()) } else { Ok(()) }
    }

    /// Has the held server refused a statement of the transaction?
    pub(super) fn has_failed_on_server(&self) -> bool {
        let failed = |held: &super::state::Held| held.lease.status == TxStatus::Failed;
        self.tx.phase() == Phase::Open && self.held.as_ref().is_some_and(failed)
    }

    /// A transaction that a server has begun by itself, in the middle of a pipeline or at the end of the one
    /// before, is not known well enough to be begun elsewhere.
    pub(super) fn refuse_unknown_beginning(&self) -> Result<(), ClientError> {
        if self.tx.phase() != Phase::Open || !self.tx.journal().is_empty() {
            return Ok(());
        }
        Err(ClientError::refused(
            "the transaction began on one shard in the middle of a pipeline, and cannot go on to another",
            "Send BEGIN at the beginning of a pipeline.",
        ))
    }

    /// May a transaction go on to another shard?
    pub(super) fn may_go_on(&self, from: ShardId, to: ShardId) -> Result<(), ClientError> {
        self.refuse_unknown_beginning()?;
        let reads = self.access_kind == Access::Read;
        let setting = match self.directory.routing.cross_shard {
            CrossShard::Allow => return Ok(()),
            CrossShard::ReadOnly if reads => return Ok(()),
            CrossShard::ReadOnly => "read-only",
            CrossShard::Refuse => "refuse",
        };
        let topology = &self.database.topology;
        Err(ClientError::refused(
            format!(
                "the transaction is on shard \"{}\" and cannot go on to shard \"{}\": routing.cross_shard is \"{setting}\"",
                topology.name(from),
                topology.name(to)
            ),
            "Commit first, or keep to one key.",
        ))
    }

    /// May a transaction on several shards write?
    pub(super) fn may_write_in_company(&self) -> Result<(), ClientError> {
        if self.directory.routing.cross_shard == CrossShard::Allow || !self.has_company() {
            return Ok(());
        }
        Err(ClientError::refused(
            "the transaction is on several shards, and routing.cross_shard lets it read only",
            "Commit first, then write.",
        ))
    }

    /// Where the rows of a table belong that this very transaction has made, or renamed, is not
    /// known before it commits. `told`: a hint says it.
    pub(super) fn refuse_new_tables(&self, shape: &Shape, told: bool) -> Result<(), ClientError> {
        let builds = |kind: &Kind| matches!(kind, Kind::Ddl | Kind::Maintenance | Kind::Other);
        if !self.tx.rebuilds()
            || told
            || self.own.hints.shard.is_some()
            || shape.statements.iter().all(|statement| builds(&statement.kind))
        {
            return Ok(());
        }
        Err(ClientError::refused(
            "a table that the transaction has made on several shards cannot be used in it",
            "Commit first.",
        ))
    }

    /// In a transaction that pgring has failed only its end is accepted.
    pub(super) fn refuse_if_failed(&self, shape: &Shape) -> Result<(), ClientError> {
        if !self.tx.is_failed() {
            return Ok(());
        }
        match shape.statements.first().map(|statement| &statement.kind) {
            Some(Kind::Commit { .. } | Kind::Rollback { .. } | Kind::RollbackTo(_))
                if shape.statements.len() == 1 =>
            {
                Ok(())
            }
            _ => Err(failed_transaction()),
        }
    }
}

/// `SET transaction_read_only` and the like.
pub(super) fn is_characteristic(kind: &Kind) -> bool {
    matches!(kind, Kind::Set { name, .. } if crate::txn::is_characteristic(name))
}

/// Is this, of a kind with `SET TRANSACTION`, `SET CONSTRAINTS`?
pub(super) fn is_of_constraints(source: &str) -> bool {
    word(source, tokenize(source.as_bytes(), true).unwrap_or_default().get(1)) == "constraints"
}

/// What a `BEGIN` says of the transaction that it begins, or that there is already: as PostgreSQL does,
/// it sets that for the transaction there is.
pub(super) fn options_of(begin: &str) -> Option<String> {
    let tokens = tokenize(begin.as_bytes(), true).ok()?;
    let mut rest = tokens.iter().enumerate();
    let (_, first) = rest.find(|(at, token)| {
        *at > 0 && !matches!(word(begin, Some(token)).as_str(), "work" | "transaction")
    })?;
    let options = begin.get(first.span.start as usize..)?.trim_end_matches([';', ' ']);
    (!options.is_empty()).then(|| format!("SET TRANSACTION {options}"))
}

/// The token's text, in lower case.
fn word(text: &str, token: Option<&Token>) -> String {
    let span = token.map(|token| token.span.start as usize..token.span.end as usize);
    span.and_then(|span| text.get(span)).unwrap_or_default().to_ascii_lowercase()
}

/// The warning that PostgreSQL has for a `BEGIN` in a transaction.
pub(super) fn begun_already() -> ClientError {
    ClientError::error(SqlState::new("25001"), "there is already a transaction in progress")
}

/// What a `SET`, as its client wrote it, changes.
pub(super) fn changes(kind: &Kind, source: &str) -> Vec<Change> {
    match kind {
        Kind::Set { name, .. } if is_planted(name) => Vec::new(),
        kind if is_characteristic(kind) => Vec::new(),
        // Three parameters in one.
        Kind::Set { name, .. } if name == "session characteristics" => characteristics(source),
        Kind::Set { name, default: true, local: false, .. } => vec![Change::Reset(name.clone())],
        Kind::Set { name, local, .. } => vec![Change::Set(name.clone(), source.to_owned(), *local)],
        _ => Vec::new(),
    }
}

/// `SET SESSION CHARACTERISTICS AS TRANSACTION` with any of the modes, one after the other.
fn characteristics(source: &str) -> Vec<Change> {
    let tokens = tokenize(source.as_bytes(), true).unwrap_or_default();
    let words = tokens.iter().filter(|token| token.kind == TokenKind::Word);
    let words: Vec<String> = words
        .map(|word| source[word.span.start as usize..word.span.end as usize].to_ascii_lowercase())
        .collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let set =
        |name: &str, value: &str| Change::Set(name.to_owned(), format!("SET {name} = '{value}'"), false);
    let isolation = |level: &str| set("default_transaction_isolation", level);
    let mut changes = Vec::new();
    for at in 0..words.len() {
        changes.push(match words[at..] {
            ["level", "serializable", ..] => isolation("serializable"),
            ["level", "repeatable", "read", ..] => isolation("repeatable read"),
            ["level", "read", "committed", ..] => isolation("read committed"),
            ["level", "read", "uncommitted", ..] => isolation("read uncommitted"),
            ["read", "only", ..] => set("default_transaction_read_only", "on"),
            ["read", "write", ..] => set("default_transaction_read_only", "off"),
            ["not", "deferrable", ..] => set("default_transaction_deferrable", "off"),
            ["deferrable", ..] if words[at - 1] != "not" => set("default_transaction_deferrable", "on"),
            _ => continue,
        });
    }
    changes
}

pub(super) fn begin_tag(text: &[u8]) -> &'static str {
    let word = text.trim_ascii_start().get(..5).unwrap_or_default();
    if word.eq_ignore_ascii_case(b"start") { "START TRANSACTION" } else { "BEGIN" }
}

pub(super) fn failed_transaction() -> ClientError {
    ClientError::error(
        SqlState::FAILED_TRANSACTION,
        "current transaction is aborted, commands ignored until end of transaction block",
    )
}

pub(super) fn no_savepoint(name: &str) -> ClientError {
    ClientError::error(SqlState::NO_SAVEPOINT, format!("savepoint \"{name}\" does not exist"))
}

fn needs_constant(name: &str) -> ClientError {
    ClientError::error(SqlState::BAD_VALUE, format!("parameter \"{name}\" takes one constant"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_of_a_begin() {
        for (begin, expect) in [
            ("BEGIN", None),
            ("begin work", None),
            ("START TRANSACTION", None),
            ("BEGIN READ ONLY", Some("SET TRANSACTION READ ONLY")),
            (
                "BEGIN /* x */ TRANSACTION ISOLATION LEVEL SERIALIZABLE, READ WRITE",
                Some("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE, READ WRITE"),
            ),
            ("start transaction deferrable ;", Some("SET TRANSACTION deferrable")),
        ] {
            assert_eq!(options_of(begin).as_deref(), expect, "{begin}");
        }
        assert!(is_of_constraints("SET /* x */ CONSTRAINTS ALL DEFERRED"));
        assert!(!is_of_constraints("SET TRANSACTION READ ONLY"));
    }

    #[test]
    fn session_characteristics_are_settings() {
        let check = |statement: &str, expect: &[&str]| {
            let got: Vec<String> = characteristics(statement)
                .into_iter()
                .map(|change| match change {
                    Change::Set(_, statement, false) => statement,
                    other => panic!("{other:?}"),
                })
                .collect();
            assert_eq!(got, expect, "{statement}");
        };
        let as_transaction = "SET SESSION CHARACTERISTICS AS TRANSACTION ";
        check(&format!("{as_transaction}READ ONLY"), &["SET default_transaction_read_only = 'on'"]);
        check(
            &format!("{as_transaction}ISOLATION LEVEL READ COMMITTED, READ WRITE"),
            &[
                "SET default_transaction_isolation = 'read committed'",
                "SET default_transaction_read_only = 'off'",
            ],
        );
        check(
            &format!("{as_transaction}ISOLATION LEVEL SERIALIZABLE NOT DEFERRABLE"),
            &[
                "SET default_transaction_isolation = 'serializable'",
                "SET default_transaction_deferrable = 'off'",
            ],
        );
    }
}
