//! Sessions of the database `pgring`: the console. What it answers comes from whoever implements
//! [`Console`]; here it is put into messages, under both protocols: the simple one in this file,
//! the extended one in `extended`.
//!
//! A transaction here is a status that drivers like to see and nothing else: each command takes
//! effect at once.

mod extended;

use self::extended::{Portal, Statement};
use super::attach::Unattached;
use super::state::{End, Session};
use super::waiting::{Interruption, Until, interrupted};
use crate::error::{ClientError, SqlState};
use crate::wire::{self, ColumnType, Format, TxStatus};
use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;

/// A column of an answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConsoleColumn {
    /// Its name.
    pub name: String,
    /// Its type.
    pub kind: ColumnType,
}

/// What a command answers.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Answer {
    /// Columns of the result; none for a command without rows.
    pub columns: Option<Vec<ConsoleColumn>>,
    /// Its rows.
    pub rows: Vec<Vec<Option<String>>>,
    /// The command tag; `None` for an empty query.
    pub tag: Option<String>,
}

/// What can be said of a command before it is carried out.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ConsoleCommand {
    /// The columns it will answer with.
    pub columns: Option<Vec<ConsoleColumn>>,
    /// It is no command but a transaction's beginning or end, with this tag: the session's
    /// business.
    pub transaction: Option<(TransactionStep, &'static str)>,
}

/// What a command does to the transaction status.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TransactionStep {
    /// It begins.
    Begin,
    /// It ends.
    Commit,
    /// It is given up.
    Rollback,
    /// Something is said about a savepoint.
    Savepoint,
    /// It is as it was before it failed.
    RollbackTo,
}

/// Carries out console commands.
pub trait Console: Send + Sync {
    /// May this user connect to the console at all?
    fn admits(&self, user: &str) -> bool;

    /// The parameters a console session is told at its beginning.
    fn parameters(&self) -> Vec<(String, String)>;

    /// The commands of a query string.
    ///
    /// # Errors
    /// It does not read.
    fn split<'a>(&self, sql: &'a str) -> Result<Vec<&'a str>, ClientError>;

    /// Reads one command.
    ///
    /// # Errors
    /// It does not read.
    fn read(&self, sql: &str) -> Result<ConsoleCommand, ClientError>;

    /// Carries out one command as `user`. Dropped half-way, a command that waits stays in force.
    fn execute<'a>(
        &'a self,
        user: &'a str,
        sql: &'a str,
    ) -> Pin<Box<dyn Future<Output = Result<Answer, ClientError>> + Send + 'a>>;

    /// The client has cancelled a command that was waiting: what it has begun is undone.
    fn cancelled(&self, sql: &str);
}

/// What a console session remembers.
pub(super) struct Talk {
    transaction: TxStatus,
    /// Until the next `Sync`.
    skipping: bool,
    statements: HashMap<Vec<u8>, Rc<Statement>>,
    portals: HashMap<Vec<u8>, Portal>,
}

impl Session {
    /// Serves a console session to its end.
    pub(super) async fn run_console(&mut self) -> Result<(), End> {
        let mut talk = Talk {
            transaction: TxStatus::Idle,
            skipping: false,
            statements: HashMap::new(),
            portals: HashMap::new(),
        };
        loop {
            let head = self.console_frame().await?;
            let frame = self.inbox.filled()[..head.len].to_vec();
            self.inbox.consume(head.len);
            if head.tag == b'X' {
                return Ok(());
            }
            let ends = head.tag == b'S' || matches!(head.tag, b'Q' | b'F') && !talk.skipping;
            match self.console_message(&mut talk, head.tag, &frame[wire::HEADER_LEN..]).await {
                Ok(()) | Err(Unattached::Told | Unattached::Later) => {}
                Err(Unattached::End(end)) => return Err(end),
                Err(Unattached::Refused(error)) => {
                    wire::put_error(&mut self.outbox, &error);
                    talk.skipping = true;
                    if talk.transaction == TxStatus::Open {
                        talk.transaction = TxStatus::Failed;
                    }
                }
            }
            if ends {
                talk.ready();
                wire::put_ready(&mut self.outbox, talk.transaction);
            }
            // Also what a Flush asks for: nothing is kept back.
            self.stream.drain(&mut self.outbox).await?;
        }
    }

    /// Waits for a whole frame of the client's.
    async fn console_frame(&mut self) -> Result<wire::Header, End> {
        loop {
            if let Some(head) = wire::client_header(self.inbox.filled())?
                && self.inbox.len() >= head.len
            {
                return Ok(head);
            }
            self.console_read().await?;
        }
    }

    async fn console_message(&mut self, talk: &mut Talk, tag: u8, body: &[u8]) -> Result<(), Unattached> {
        match tag {
            b'S' => Ok(()),
            // Queries too, as PostgreSQL does.
            _ if talk.skipping => Ok(()),
            b'Q' => {
                let sql = String::from_utf8_lossy(wire::query_text(body).map_err(End::from)?).into_owned();
                talk.statements.remove(&b""[..]);
                talk.portals.remove(&b""[..]);
                self.console_query(talk, &sql).await
            }
            b'F' => {
                Err(ClientError::refused("the console has no functions", "SHOW HELP lists its commands.")
                    .into())
            }
            b'P' | b'B' | b'D' | b'E' | b'C' | b'H' => self.console_extended(talk, tag, body).await,
            // PostgreSQL ignores what is left of a COPY that has failed; here all have.
            b'd' | b'c' | b'f' => Ok(()),
            tag => {
                let error = ClientError::protocol(format!("invalid frontend message type {tag}"));
                Err(End::from(error).into())
            }
        }
    }

    async fn console_query(&mut self, talk: &mut Talk, sql: &str) -> Result<(), Unattached> {
        let console = self.directory.clone();
        // All of them are read before the first one runs, as PostgreSQL does.
        let mut commands = Vec::new();
        for text in console.console.split(sql)? {
            commands.push((text, console.console.read(text)?));
        }
        if commands.is_empty() {
            self.outbox.put(&wire::EMPTY_QUERY);
        }
        for (text, command) in commands {
            let answer = self.console_run(talk, text, &command).await?;
            if let Some(columns) = &answer.columns {
                self.console_columns(columns, &[]);
            }
            for row in &answer.rows {
                self.console_row(row, answer.columns.as_deref().unwrap_or_default(), &[]);
            }
            self.console_done(answer.tag.as_deref());
        }
        Ok(())
    }

    /// Carries out one command, or what stands for it.
    async fn console_run(
        &mut self,
        talk: &mut Talk,
        sql: &str,
        command: &ConsoleCommand,
    ) -> Result<Answer, Unattached> {
        if let Some((step, tag)) = command.transaction {
            let (tag, warning) = talk.step(step, tag)?;
            if let Some(warning) = warning {
                wire::put_warning(&mut self.outbox, &warning);
            }
            return Ok(Answer { tag: Some(tag.to_owned()), ..Answer::default() });
        }
        if talk.transaction == TxStatus::Failed {
            return Err(ClientError::error(
                SqlState::FAILED_TRANSACTION,
                "current transaction is aborted, commands ignored until end of transaction block",
            )
            .into());
        }
        // What the client was told before a command that waits should not wait with it.
        self.stream.drain(&mut self.outbox).await.map_err(End::from)?;
        let directory = self.directory.clone();
        let control = Rc::clone(&self.registration.control);
        let interruption = tokio::select! {
            biased;
            answer = directory.console.execute(&self.user_name, sql) => return Ok(answer?),
            interruption = interrupted(&self.worker, &control, &self.stream, Until::Rested(self.idle_since)) => interruption,
        };
        if matches!(interruption, Interruption::Cancelled) {
            directory.console.cancelled(sql);
        }
        Err(interruption.into())
    }

    fn console_columns(&mut self, columns: &[ConsoleColumn], formats: &[Format]) {
        let described = columns.iter().enumerate();
        let described =
            described.map(|(at, column)| (column.name.as_str(), column.kind, format(formats, at)));
        wire::put_row_description(&mut self.outbox, described);
    }

    fn console_row(&mut self, row: &[Option<String>], columns: &[ConsoleColumn], formats: &[Format]) {
        let values = row.iter().zip(columns).enumerate().map(|(at, (value, column))| {
            value.as_deref().map(|text| wire::encode(text, column.kind, format(formats, at)))
        });
        wire::put_data_row(&mut self.outbox, values.collect::<Vec<_>>().into_iter());
    }

    fn console_done(&mut self, tag: Option<&str>) {
        match tag {
            Some(tag) => wire::put_complete(&mut self.outbox, tag),
            None => self.outbox.put(&wire::EMPTY_QUERY),
        }
    }
}

impl Talk {
    /// A `Sync` or the end of a `Query`: portals live as long as their transaction.
    fn ready(&mut self) {
        self.skipping = false;
        if self.transaction == TxStatus::Idle {
            self.portals.clear();
        }
    }

    /// The tag to answer with, and a warning.
    fn step(
        &mut self,
        step: TransactionStep,
        tag: &'static str,
    ) -> Result<(&'static str, Option<ClientError>), ClientError> {
        let warning = |code, text: &'static str| Some(ClientError::error(code, text));
        let failed = self.transaction == TxStatus::Failed;
        match (step, self.transaction) {
            (TransactionStep::Begin | TransactionStep::Savepoint, TxStatus::Failed) => {
                Err(ClientError::error(
                    SqlState::FAILED_TRANSACTION,
                    "current transaction is aborted, commands ignored until end of transaction block",
                ))
            }
            (TransactionStep::Begin, TxStatus::Open) => {
                Ok((tag, warning(SqlState::new("25001"), "there is already a transaction in progress")))
            }
            (TransactionStep::Begin, TxStatus::Idle) => {
                self.transaction = TxStatus::Open;
                Ok((tag, None))
            }
            (TransactionStep::Commit | TransactionStep::Rollback, TxStatus::Idle) => {
                Ok((tag, warning(SqlState::NO_TRANSACTION, "there is no transaction in progress")))
            }
            (TransactionStep::Commit | TransactionStep::Rollback, _) => {
                self.transaction = TxStatus::Idle;
                Ok((if failed { "ROLLBACK" } else { tag }, None))
            }
            (TransactionStep::Savepoint | TransactionStep::RollbackTo, TxStatus::Idle) => {
                Err(ClientError::error(
                    SqlState::NO_TRANSACTION,
                    format!("{tag} can only be used in transaction blocks"),
                ))
            }
            (TransactionStep::RollbackTo, _) => {
                self.transaction = TxStatus::Open;
                Ok((tag, None))
            }
            (TransactionStep::Savepoint, TxStatus::Open) => Ok((tag, None)),
        }
    }
}

/// One code stands for all columns, none for text.
fn format(formats: &[Format], at: usize) -> Format {
    match formats {
        [all] => *all,
        each => each.get(at).copied().unwrap_or(Format::Text),
    }
}
