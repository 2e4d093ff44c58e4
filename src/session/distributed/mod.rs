//! Statements that several shards answer together.
//!
//! One is worked on from its beginning to its end while everything else waits: its servers are
//! brought together ([`team`]), asked ([`ask`]), and their answers driven through the plan
//! ([`drive`]): rows of the answer ([`rows`]), partial results ([`combine`]), copies for one
//! PostgreSQL to work over ([`gather`]), changes ([`write`]), for which keys may have to be computed
//! first ([`computed`]) or rows read ([`beyond`]); or one portion of it after the other ([`portion`], [`cursor`]), or only
//! described ([`explain`]). Several statements of one message take turns ([`turns`]). `BEGIN` to `COMMIT`
//! over several servers is [`control`]'s, and how that ends [`commit`]'s.
//!
//! When anything fails, every server is waited for before the client is told, so that none is left
//! in the middle of something; a server that is lost is closed.

mod ask;
mod beyond;
mod combine;
mod commit;
mod computed;
mod control;
mod copy;
mod cursor;
mod drive;
mod execute;
mod explain;
#[cfg(debug_assertions)]
mod fail_point;
mod gather;
mod portal;
mod portion;
mod rows;
mod team;
mod turns;
mod write;

use super::attach::Unattached;
use super::state::{End, Held, Session};
use crate::backend::quoted;
use crate::config::CrossShard;
use crate::error::ClientError;
use crate::ring::ShardId;
use crate::route::{ShardSet, Why};
use crate::sql::distribute::{self, Each, Impossible, Merge, Plan};
use crate::sql::{Access, Kind, Pin, Shape, Statement, TokenKind, tokenize};
use crate::txn::Phase;
use crate::wire::{self, TxStatus};
use std::rc::Rc;

use ask::type_bytes;

pub(super) use ask::Asked;
pub(super) use commit::Ending;
pub(super) use copy::Copying;
pub(super) use cursor::{Cursor, may_use};
pub(super) use portal::{AwaitsSync, Bound};
pub(super) use team::Member;

/// Why a statement of several servers has failed.
pub(super) enum Fault {
    /// A server's error, the whole message.
    Frame(Box<[u8]>),
    /// An error of pgring's own.
    Own(ClientError),
    /// The session ends.
    End(End),
}

impl From<Unattached> for Fault {
    fn from(unattached: Unattached) -> Fault {
        match unattached {
            Unattached::Refused(error) => Fault::Own(error),
            Unattached::End(end) => Fault::End(end),
            // Nothing is outstanding when a team is brought together.
            Unattached::Told | Unattached::Later => Fault::Own(super::simple::lost_at_once()),
        }
    }
}

impl From<End> for Fault {
    fn from(end: End) -> Fault {
        Fault::End(end)
    }
}

impl From<ClientError> for Fault {
    fn from(error: ClientError) -> Fault {
        Fault::Own(error)
    }
}

impl From<Impossible> for Fault {
    fn from(impossible: Impossible) -> Fault {
        Fault::Own(ClientError::refused(impossible.message, impossible.hint))
    }
}

/// With the types that its columns turn out to have, a plan would not be exact. Nothing has been
/// said to the client.
pub(super) struct Inexact;

/// Where a statement goes.
pub(super) enum Destination {
    /// To this shard.
    One(ShardId),
    /// To these, together.
    Several(Vec<ShardId>, Why),
}

impl Session {
    /// The shards of a set.
    pub(super) fn members_of(&self, set: &ShardSet) -> Vec<ShardId> {
        match set {
            ShardSet::All => self.database.topology.ids().collect(),
            ShardSet::Subset(shards) => shards.clone(),
        }
    }

    /// Answers a `Query` of one statement that several shards answer.
    pub(super) async fn query_distributed(
        &mut self,
        shape: &Rc<Shape>,
        text: &[u8],
        shards: Vec<ShardId>,
        why: Why,
    ) -> Result<(), Unattached> {
        let asked = Asked::simple(text);
        self.run_distributed(shape, &asked, shards, why).await?;
        if self.copying.is_some() {
            return Ok(());
        }
        self.finish_distributed().await
    }

    /// Before the `ReadyForQuery`: a changed schema is read again.
    pub(super) async fn finish_distributed(&mut self) -> Result<(), Unattached> {
        if self.tx.phase() == Phase::Idle {
            self.read_changed_schema().await;
        }
        self.ready_without_server();
        Ok(())
    }

    /// Nobody may be routed by the old schema who has seen a change acknowledged.
    async fn read_changed_schema(&mut self) {
        if std::mem::take(&mut self.batch.schema_changed) {
            self.database.read_changed_schema().await;
            self.context = None;
        }
    }

    /// Runs a statement on several shards and writes its answer, or its error; whether it succeeded.
    pub(super) async fn run_distributed(
        &mut self,
        shape: &Rc<Shape>,
        asked: &Asked<'_>,
        shards: Vec<ShardId>,
        why: Why,
    ) -> Result<bool, Unattached> {
        let fault = match Box::pin(self.distribute(shape, asked, shards, why)).await {
            Ok(()) => return Ok(true),
            Err(fault) => fault,
        };
        match fault {
            Fault::End(end) => return Err(Unattached::End(end)),
            Fault::Own(error) => wire::put_error(&mut self.outbox, &error),
            Fault::Frame(frame) => self.outbox.put(&frame),
        }
        self.refused();
        Ok(false)
    }

    async fn distribute(
        &mut self,
        shape: &Rc<Shape>,
        asked: &Asked<'_>,
        shards: Vec<ShardId>,
        why: Why,
    ) -> Result<(), Fault> {
        let [statement] = &shape.statements[..] else {
            return Err(ClientError::refused(
                "a statement for several shards cannot stand among others in one message",
                "Send the statements one by one.",
            )
            .into());
        };
        self.refuse_if_failed_there()?;
        self.registration.control.says(asked.text);
        if !shards.is_empty() {
            self.refuse_unknown_beginning()?;
            self.refuse_unplanned(shape)?;
            refuse_state(statement)?;
            self.in_doubt |= matches!(statement.pin, Some(Pin::Call | Pin::Suspect));
            self.refuse_temporary(asked.text).await?;
        }
        // One that takes its turn on one shard says what that shard says.
        let alone = shards.len() == 1 && why == Why::CommentShard;
        if let Some(explain) = distribute::explain(asked.text, self.standard_conforming_strings)
            && !alone
        {
            return self.explain(asked, &explain, &shards, why).await;
        }
        self.note_hidden_writes(statement, &shards, why).await?;
        if let Kind::Declare(name) = &statement.kind {
            return self.declare(asked, statement, name, &shards, why).await;
        }
        if shards.is_empty() {
            let uses = distribute::cursor_uses(asked.text, self.standard_conforming_strings);
            let cursor_use = uses.first().ok_or_else(rows::misdescribed)?;
            return self.use_cursor(asked, cursor_use).await;
        }
        if distribute::names_current_row(asked.text, self.standard_conforming_strings) {
            return Err(distribute::of_current_row().into());
        }
        let crossing = self.may_cross(statement, true);
        if let Kind::CopyIn | Kind::CopyOut = statement.kind {
            crossing?;
            self.started();
            let outcome = match statement.kind {
                Kind::CopyIn => self.begin_copy_in(asked, &shards, why).await,
                _ => self.copy_out(asked, &shards, why).await,
            };
            self.count_distributed(&shards, statement.access);
            return outcome;
        }
        let plan = match self.plan(statement, asked, why) {
            // Whether its rows have several owners is not known yet.
            Ok(split @ Plan::Split(_)) => split,
            plan => {
                crossing?;
                plan?
            }
        };
        self.started();
        let outcome = match plan {
            Plan::Each(each) => {
                let one_by_one = self.runs_one_by_one(statement, asked, why)?;
                self.change_each(statement, asked, &each, &shards, one_by_one).await
            }
            Plan::Split(split) => self.split(shape, asked, &split).await,
            Plan::Replicate(replicate) => self.replicate(asked, &replicate, &shards).await,
            Plan::Supply(supply) => self.supply(asked, &supply, &shards).await,
            Plan::Transfer(transfer) => self.transfer(asked, &transfer).await,
            Plan::Fold(fold) => self.fold(asked, &fold).await,
            query => self.run_query(asked, &query, &shards).await,
        };
        self.count_distributed(&shards, statement.access);
        outcome
    }

    /// Runs what is planned for a query; over copies, if that turns out not to be exact.
    async fn run_query(&mut self, asked: &Asked<'_>, plan: &Plan, shards: &[ShardId]) -> Result<(), Fault> {
        let inexact = match plan {
            Plan::Merge(merge) => self.merge(asked, merge, shards).await?,
            Plan::Combine(combine) => self.combine(asked, combine, shards).await?,
            Plan::Gather(gather) => return self.gather(asked, gather, shards).await,
            _ => return Err(rows::misdescribed().into()),
        };
        if inexact.is_none() {
            return Ok(());
        }
        let gather = {
            let schema = self.schema()?;
            distribute::gather(asked.text, &self.analysis_context(&schema))?
        };
        self.gather(asked, &gather, shards).await
    }

    /// A query may write as well, by a function that a hint has let pass, or lock rows.
    ///
    /// # Errors
    /// Outside a transaction nothing would make it end alike everywhere.
    async fn note_hidden_writes(
        &mut self,
        statement: &Statement,
        shards: &[ShardId],
        why: Why,
    ) -> Result<(), Fault> {
        let is_query = matches!(statement.kind, Kind::Query | Kind::CopyOut | Kind::Declare(_));
        if !is_query || statement.access == Access::Read {
            return Ok(());
        }
        if self.tx.phase() == Phase::Idle {
            let told = matches!(why, Why::CommentShard | Why::SessionShard);
            if told && shards.len() > 1 {
                return Err(ClientError::refused(
                    "a query that may write on several shards needs a transaction",
                    "Send BEGIN before it, and COMMIT behind it.",
                )
                .into());
            }
            return Ok(());
        }
        for shard in shards {
            self.note_writer(*shard, true);
        }
        if self.wants_decision() {
            self.can_commit_together().await?;
        }
        Ok(())
    }

    /// A temporary table is on one server: the others have, under its name, something else.
    async fn refuse_temporary(&mut self, text: &[u8]) -> Result<(), Fault> {
        let may_have = |held: &Held| {
            let pins = [Pin::TemporaryTable, Pin::Code, Pin::Call, Pin::Suspect, Pin::Unread];
            held.lease.status != TxStatus::Failed && pins.into_iter().any(|pin| held.pins.has(pin))
        };
        let mut question = None;
        for held in self.held.iter_mut().chain(&mut self.parked).filter(|held| may_have(held)) {
            let question =
                question.get_or_insert_with(|| temporary_named(text, self.standard_conforming_strings));
            held.lease.unnamed = 0;
            match held.lease.ask(question).await {
                Ok(None) => {}
                Ok(Some(name)) => {
                    return Err(ClientError::refused(
                        format!("\"{name}\" is a temporary table, and the statement concerns several shards"),
                        "Add a condition on the key, a hint /* pgring: shard=NAME */, or give the temporary table another name.",
                    )
                    .into());
                }
                Err(error) => {
                    let shard = held.shard;
                    return Err(self.server_error_of(shard, &error, false).into());
                }
            }
        }
        Ok(())
    }

    /// What has no plan over several shards.
    fn refuse_unplanned(&self, shape: &Shape) -> Result<(), ClientError> {
        if shape.mentions.execution.is_none() {
            return Ok(());
        }
        Err(ClientError::refused(
            "where EXECUTE has to run cannot be told: the value of an argument, or a parameter's type, is not known",
            "Give constants as arguments, in the form of the parameters' types (3 for an integer, not 3.0 or 1 + 2), \
             and name types that are PostgreSQL's own in PREPARE.",
        ))
    }

    /// What the configuration lets touch several shards; `runs`: it is not only explained.
    pub(super) fn may_cross(&self, statement: &Statement, runs: bool) -> Result<(), ClientError> {
        let refused = match self.directory.routing.cross_shard {
            CrossShard::Allow => return Ok(()),
            CrossShard::ReadOnly if !runs || statement.access == Access::Read => return Ok(()),
            CrossShard::ReadOnly => {
                "routing.cross_shard is \"read-only\": a write may not touch several shards"
            }
            CrossShard::Refuse => "routing.cross_shard is \"refuse\": no statement may touch several shards",
        };
        Err(ClientError::refused(refused, "Add a condition on the key, or a hint /* pgring: shard=NAME */."))
    }

    fn plan(&self, statement: &Statement, asked: &Asked<'_>, why: Why) -> Result<Plan, Fault> {
        let text = || String::from_utf8_lossy(asked.text).into_owned();
        let told = matches!(why, Why::CommentShard | Why::SessionShard);
        let changes = matches!(statement.kind, Kind::Write | Kind::Ddl | Kind::Maintenance | Kind::Other);
        let each = || Ok(Plan::Each(Each { sql: text(), returns: false }));
        if told {
            // Whoever names the shards knows what each of them will do.
            let merge = || Merge { sql: text(), sort: Vec::new(), limit: None, offset: None };
            return if changes { each() } else { Ok(Plan::Merge(merge())) };
        }
        let schema = self.schema()?;
        let cx = self.analysis_context(&schema);
        if why == Why::EachShard {
            return each();
        }
        Ok(distribute::plan(asked.text, &cx)?)
    }

    /// Cannot each shard's part be in one transaction with the others'?
    ///
    /// # Errors
    /// It is a change of the schema that would not hold across shards.
    fn runs_one_by_one(&self, statement: &Statement, asked: &Asked<'_>, why: Why) -> Result<bool, Fault> {
        if !matches!(statement.kind, Kind::Ddl | Kind::Maintenance | Kind::Other) {
            return Ok(false);
        }
        let schema = self.schema()?;
        match distribute::ddl(asked.text, &self.analysis_context(&schema)) {
            Ok(ddl) => Ok(ddl.one_by_one),
            // Whoever names the shards knows what each of them will do.
            Err(_) if why != Why::EachShard => Ok(statement.kind == Kind::Maintenance),
            Err(impossible) => Err(impossible.into()),
        }
    }

    fn count_distributed(&mut self, shards: &[ShardId], access: Access) {
        let metrics = self.metrics();
        if shards.len() == self.database.shards.len() {
            metrics.routes.all.inc();
        } else {
            metrics.routes.subset.inc();
        }
        if self.tx.phase() != Phase::Idle {
            // Counted at its end.
        } else if access == Access::Read {
            // A change is counted when it is committed.
            metrics.transactions.multi_read.inc();
        }
    }
}

/// Asks which of the names in a text is a temporary relation's.
fn temporary_named(text: &[u8], strings: bool) -> String {
    let mut names = std::collections::BTreeSet::new();
    let mut all = false;
    for token in tokenize(text, strings).unwrap_or_default() {
        let source = text.get(token.span.start as usize..token.span.end as usize).unwrap_or_default();
        match (token.kind, std::str::from_utf8(source)) {
            (TokenKind::Word, Ok(word)) => _ = names.insert(word.to_ascii_lowercase()),
            (TokenKind::QuotedIdent, Ok(quoted)) => {
                let inner = quoted.strip_prefix('"').unwrap_or(quoted);
                _ = names.insert(inner.strip_suffix('"').unwrap_or(inner).replace("\"\"", "\""));
            }
            (TokenKind::Word | TokenKind::QuotedIdent | TokenKind::UnicodeIdent, _) => all = true,
            _ => {}
        }
    }
    let names: Vec<String> = names.iter().map(|name| quoted(name)).collect();
    format!(
        "SELECT relname FROM pg_catalog.pg_class WHERE relnamespace OPERATOR(pg_catalog.=) \
         pg_catalog.pg_my_temp_schema() AND ({all} OR relname OPERATOR(pg_catalog.=) \
         ANY (ARRAY[{}]::pg_catalog.name[])) LIMIT 1",
        names.join(", ")
    )
}

/// A statement of several shards leaves none of its servers with the session, and the session none
/// the wiser: what would have to stay on them would be met by whoever has them next.
fn refuse_state(statement: &Statement) -> Result<(), ClientError> {
    let what = match (&statement.kind, statement.pin) {
        (Kind::Prepare(_), _) => "PREPARE",
        // What functions leave that are called so is undone when the servers are given back.
        (
            Kind::Query | Kind::Write | Kind::CopyIn | Kind::CopyOut | Kind::Ddl,
            Some(Pin::Call | Pin::Suspect),
        ) => {
            return Ok(());
        }
        (Kind::Declare(_), Some(Pin::HoldCursor)) | (_, None) => match statement.kind {
            Kind::Query | Kind::Write | Kind::CopyIn | Kind::CopyOut | Kind::Declare(_) => return Ok(()),
            Kind::Ddl | Kind::Maintenance | Kind::Other => return Ok(()),
            _ => "a statement that concerns the session or its transaction",
        },
        (_, Some(Pin::TemporaryTable)) => "a temporary table",
        (_, Some(Pin::AdvisoryLock)) => "an advisory lock beyond the transaction",
        (_, Some(Pin::Call | Pin::Suspect)) => "code that may change its session",
        (_, Some(_)) => "a statement that changes its session",
    };
    Err(ClientError::refused(
        format!("{what} cannot touch several shards"),
        "Add a condition on the key, or a hint /* pgring: shard=NAME */.",
    ))
}
