//! Several statements in one `Query`, which one server alone cannot run: they run one after the
//! other, in one transaction, as PostgreSQL has it (`exec_simple_query`).
//!
//! Outside of a transaction block the message is a transaction of its own: whatever fails undoes all
//! of it, and its end commits. A `BEGIN` in it makes that transaction the client's, with what has run
//! before; a `COMMIT` or `ROLLBACK` ends it, and what follows is in another one.

use super::{Asked, Destination};
use crate::config::CrossShard;
use crate::error::{ClientError, SqlState};
use crate::route::{self, Parameters, Request, Route, Why};
use crate::session::attach::Unattached;
use crate::session::state::Session;
use crate::session::transaction::{Own, begin_tag, begun_already, failed_transaction};
use crate::sql::{Access, Kind, Lexed, Shape, Statement, Target, TokenKind, is_readable, tokenize};
use crate::txn::Phase;
use crate::wire;
use std::rc::Rc;

/// One of the statements.
struct Turn {
    /// Its own text.
    source: String,
    /// The same where it stands in the message, so that positions in errors are the client's.
    placed: String,
}

impl Session {
    /// Are the statements of this text, which has been read last, to run one after the other?
    pub(in crate::session) fn takes_turns(&self, shape: &Rc<Shape>, text: &[u8]) -> bool {
        let may = shape.statements.len() > 1
            && !self.database.is_one_shard()
            && self.directory.routing.cross_shard == CrossShard::Allow
            && shape.mentions.is_empty()
            && shape.statements.iter().all(may_take_turn);
        if !may {
            return false;
        }
        let lexed = self.worker.lexed.borrow();
        // A hint is about one of them, or about all: that cannot be told.
        let hints = lexed.hints();
        if hints.key.is_some() || hints.shard.is_some() || hints.invalid.is_some() {
            return false;
        }
        // PostgreSQL reads all of a message before it runs any of it. What cannot be read here may be
        // wrong there, when a part of it has been committed.
        let ends = |one: &Statement| matches!(one.kind, Kind::Commit { .. } | Kind::Rollback { .. });
        let strings = self.standard_conforming_strings;
        let turns = turns(text, strings);
        let mut pairs = shape.statements.iter().zip(&turns);
        let mut read = || {
            pairs.all(|(one, turn)| {
                let control = !matches!(one.kind, Kind::Query | Kind::Write | Kind::Ddl);
                control || is_readable(turn.source.as_bytes(), strings)
            })
        };
        if shape.statements.iter().any(ends) && !read() {
            return false;
        }
        if self.has_company() && shape.statements.iter().any(|one| self.concerns_company(&one.kind)) {
            return true;
        }
        let parameters = Parameters::none();
        let decision = route::route(&Request {
            shape,
            text,
            lexed: &lexed,
            parameters: &parameters,
            topology: &self.database.topology,
            key_type: self.key_type,
            same_encoding: self.same_encoding,
            session_hints: &self.own.hints,
            transaction_shard: None,
        });
        matches!(decision.route, Route::Several(_)) || matches!(decision.why, Why::Disagree { .. })
    }

    /// Answers a `Query` whose statements run one after the other.
    pub(in crate::session) async fn query_in_turns(
        &mut self,
        shape: &Shape,
        text: &[u8],
    ) -> Result<(), Unattached> {
        let turns = turns(text, self.standard_conforming_strings);
        if turns.len() != shape.statements.len() {
            return Err(ClientError::refused(
                "the statements of the message cannot be told apart",
                "Send them one by one.",
            )
            .into());
        }
        let mut implicit = false;
        let mut ran = true;
        for (statement, turn) in shape.statements.iter().zip(&turns) {
            ran = match self.take_turn(statement, turn, &mut implicit).await {
                Ok(ran) => ran,
                Err(Unattached::Refused(error)) => {
                    wire::put_error(&mut self.outbox, &error);
                    self.refused();
                    false
                }
                Err(other) => return Err(other),
            };
            if !ran {
                break;
            }
        }
        if implicit {
            self.end_turns(ran).await?;
        }
        self.finish_distributed().await
    }

    /// Runs one of them; whether it succeeded. What it says of a failure, the client has been told.
    async fn take_turn(
        &mut self,
        statement: &Statement,
        turn: &Turn,
        implicit: &mut bool,
    ) -> Result<bool, Unattached> {
        match &statement.kind {
            Kind::Query | Kind::Write | Kind::Ddl => {
                if self.tx.is_failed() {
                    return Err(failed_transaction().into());
                }
                if self.tx.phase() == Phase::Idle {
                    self.tx.begin("BEGIN".to_owned());
                    *implicit = true;
                }
                self.run_turn(turn.placed.as_bytes()).await
            }
            Kind::Begin if *implicit => {
                if has_options(turn.source.as_bytes(), self.standard_conforming_strings) {
                    return Err(ClientError::refused(
                        "a BEGIN with options behind other statements of one message",
                        "Send it before them, or as a message of its own.",
                    )
                    .into());
                }
                *implicit = false;
                self.answer(&Own::Tag(begin_tag(turn.source.as_bytes())), true);
                Ok(true)
            }
            Kind::Commit { chain: false } | Kind::Rollback { chain: false } if *implicit => {
                *implicit = false;
                let commits = matches!(statement.kind, Kind::Commit { .. });
                let none =
                    ClientError::error(SqlState::NO_TRANSACTION, "there is no transaction in progress");
                if !self.end_turns(commits).await? {
                    return Ok(false);
                }
                self.answer(&Own::Warned(none, if commits { "COMMIT" } else { "ROLLBACK" }), true);
                Ok(true)
            }
            Kind::Begin
                if self.tx.phase() == Phase::Open
                    && !has_options(turn.source.as_bytes(), self.standard_conforming_strings) =>
            {
                self.answer(&Own::Warned(begun_already(), begin_tag(turn.source.as_bytes())), true);
                Ok(true)
            }
            kind if *implicit => {
                let what = match kind {
                    Kind::Savepoint(_) => "SAVEPOINT",
                    Kind::RollbackTo(_) => "ROLLBACK TO SAVEPOINT",
                    Kind::Release(_) => "RELEASE SAVEPOINT",
                    Kind::Commit { .. } => "COMMIT AND CHAIN",
                    _ => "ROLLBACK AND CHAIN",
                };
                let words = format!("{what} can only be used in transaction blocks");
                Err(ClientError::error(SqlState::NO_TRANSACTION, words).into())
            }
            kind if self.tx.phase() == Phase::Idle && !is_end_or_begin(kind) => {
                let words = "a savepoint can only be used in transaction blocks";
                Err(ClientError::error(SqlState::NO_TRANSACTION, words).into())
            }
            _ => self.control_turn(statement, &turn.source).await,
        }
    }

    /// Runs one that reads or changes something.
    async fn run_turn(&mut self, text: &[u8]) -> Result<bool, Unattached> {
        let context = self.context()?;
        let mut lexed = Lexed::default();
        let mut shape = self.shape_with(text, &mut lexed, context, self.standard_conforming_strings)?;
        if Box::pin(self.knows_more_tables()).await? {
            let context = self.context()?;
            shape = self.shape_with(text, &mut lexed, context, self.standard_conforming_strings)?;
        }
        if self.unknown_table.replace(false) {
            self.refuse_new_tables(&shape, false)?;
        }
        let (shards, why) = match self.route(&shape, text, &lexed, &Parameters::none())? {
            Destination::Several(shards, why) => (shards, why),
            // It does what it does there, as if it had been told so.
            Destination::One(shard) => (vec![shard], Why::CommentShard),
        };
        self.run_distributed(&shape, &Asked::simple(text), shards, why).await
    }

    /// What begins, divides or ends a transaction of the client's.
    async fn control_turn(&mut self, statement: &Statement, source: &str) -> Result<bool, Unattached> {
        // One server alone is company enough.
        if self.tx.phase() == Phase::Open
            && let Some(held) = self.held.take()
        {
            self.registration.control.detached();
            self.parked.push(held);
        }
        let shape = Shape { statements: vec![statement.clone()], ..Shape::default() };
        let own = self.own_statement(&shape, source.as_bytes()).await?;
        self.tell_own(own)
    }

    /// The end of what the message has begun itself; whether that succeeded.
    async fn end_turns(&mut self, commits: bool) -> Result<bool, Unattached> {
        if self.tx.phase() == Phase::Pending || !self.holds_open() {
            // Nothing has been touched, or what was is lost, and the client has been told.
            self.undone();
            self.tx.finish();
            self.forget_portals();
            return Ok(true);
        }
        let (kind, source) = match commits {
            true => (Kind::Commit { chain: false }, "COMMIT"),
            false => (Kind::Rollback { chain: false }, "ROLLBACK"),
        };
        let end = Statement {
            kind,
            target: Target::Nothing,
            access: Access::Read,
            pin: None,
            at_primary: false,
            loose: Vec::new(),
        };
        if let Some(held) = self.held.take() {
            self.registration.control.detached();
            self.parked.push(held);
        }
        match self.control_company(&end, source.to_owned()).await? {
            Own::Tag(_) => Ok(true),
            own => self.tell_own(own),
        }
    }

    fn holds_open(&self) -> bool {
        let open = |held: &super::Held| held.lease.status != wire::TxStatus::Idle;
        self.held.iter().chain(&self.parked).any(open)
    }

    fn tell_own(&mut self, own: Own) -> Result<bool, Unattached> {
        match own {
            Own::Error(error) => Err(error.into()),
            Own::Refusal(frame) => {
                self.outbox.put(&frame);
                self.refused();
                Ok(false)
            }
            Own::Tag(_) | Own::Warned(..) | Own::Row { .. } => {
                self.answer(&own, true);
                Ok(true)
            }
            Own::NotOurs | Own::Instead(_) | Own::Reworded(_) => Err(ClientError::refused(
                "the transaction cannot be ended among other statements of one message",
                "Send the statements one by one.",
            )
            .into()),
        }
    }
}

fn may_take_turn(statement: &Statement) -> bool {
    let kind = matches!(statement.kind, Kind::Query | Kind::Write | Kind::Ddl | Kind::Begin)
        || matches!(statement.kind, Kind::Savepoint(_) | Kind::RollbackTo(_) | Kind::Release(_))
        || matches!(statement.kind, Kind::Commit { .. } | Kind::Rollback { .. });
    kind && statement.pin.is_none()
}

fn is_end_or_begin(kind: &Kind) -> bool {
    matches!(kind, Kind::Begin | Kind::Commit { .. } | Kind::Rollback { .. })
}

/// `BEGIN ISOLATION LEVEL …`
fn has_options(begin: &[u8], strings: bool) -> bool {
    let tokens = tokenize(begin, strings).unwrap_or_default();
    let plain = |token: &crate::sql::Token| {
        let word = begin.get(token.span.start as usize..token.span.end as usize).unwrap_or_default();
        [&b"begin"[..], b"start", b"work", b"transaction"]
            .iter()
            .any(|known| word.eq_ignore_ascii_case(known))
    };
    !tokens.iter().all(plain)
}

fn turns(text: &[u8], strings: bool) -> Vec<Turn> {
    let Ok(tokens) = tokenize(text, strings) else { return Vec::new() };
    let statements = tokens.split(|token| token.kind == TokenKind::Semicolon);
    let turn = |tokens: &[crate::sql::Token]| {
        let start = tokens.first()?.span.start as usize;
        let source = String::from_utf8_lossy(text.get(start..tokens.last()?.span.end as usize)?).into_owned();
        let before = String::from_utf8_lossy(text.get(..start)?).chars().count();
        Some(Turn { placed: format!("{}{source}", " ".repeat(before)), source })
    };
    statements.filter_map(turn).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_stand_where_they_stood() {
        let turns = turns("SELECT 'ä;';; /* x */ BEGIN ;".as_bytes(), true);
        let found: Vec<(&str, &str)> =
            turns.iter().map(|turn| (turn.source.as_str(), turn.placed.as_str())).collect();
        let begin = format!("{}BEGIN", " ".repeat(22));
        assert_eq!(found, [("SELECT 'ä;'", "SELECT 'ä;'"), ("BEGIN", &*begin)]);
        for (begin, options) in [
            ("BEGIN", false),
            ("start transaction", false),
            ("BEGIN WORK", false),
            ("BEGIN READ ONLY", true),
            ("START TRANSACTION ISOLATION LEVEL SERIALIZABLE", true),
        ] {
            assert_eq!(has_options(begin.as_bytes(), true), options, "{begin}");
        }
    }
}
