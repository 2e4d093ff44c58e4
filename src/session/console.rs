//! Sessions of the database `pgring`: the console. What it answers comes from whoever implements
//! [`Console`]; here it is put into messages, under both protocols.

use super::state::{End, Session};
use crate::error::ClientError;
use crate::wire::{self, ColumnType, Format, TxStatus};
use std::borrow::Cow;
use std::future::Future;
use std::pin::Pin;

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

/// Carries out console commands.
pub trait Console: Send + Sync {
    /// May this user connect to the console at all?
    fn admits(&self, user: &str) -> bool;

    /// The parameters a console session is told at its beginning.
    fn parameters(&self) -> Vec<(String, String)>;

    /// The columns a command will answer with.
    ///
    /// # Errors
    /// The command does not read.
    fn describe(&self, sql: &str) -> Result<Option<Vec<ConsoleColumn>>, ClientError>;

    /// Carries out one command as `user`.
    fn execute<'a>(
        &'a self,
        user: &'a str,
        sql: &'a str,
    ) -> Pin<Box<dyn Future<Output = Result<Answer, ClientError>> + Send + 'a>>;
}

impl Session {
    /// Serves a console session to its end.
    pub(super) async fn run_console(&mut self) -> Result<(), End> {
        let mut statement = String::new();
        let mut portal = String::new();
        let mut formats = Vec::new();
        let mut skipping = false;
        loop {
            let head = self.console_frame().await?;
            let frame = self.inbox.filled()[..head.len].to_vec();
            self.inbox.consume(head.len);
            let body = &frame[wire::HEADER_LEN..];
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let outcome = match head.tag {
                b'Q' => {
                    let sql = text(wire::query_text(body)?);
                    let outcome = self.console_run(&sql, true, &[]).await;
                    if let Err(error) = &outcome {
                        wire::put_error(&mut self.outbox, error);
                    }
                    wire::put_ready(&mut self.outbox, TxStatus::Idle);
                    Ok(())
                }
                b'S' => {
                    skipping = false;
                    wire::put_ready(&mut self.outbox, TxStatus::Idle);
                    Ok(())
                }
                b'X' => return Ok(()),
                _ if skipping => Ok(()),
                b'P' => {
                    statement = text(wire::Parse::read(body)?.query);
                    self.outbox.put(&wire::PARSE_COMPLETE);
                    Ok(())
                }
                b'B' => {
                    let names = wire::BindNames::read(body)?;
                    formats = wire::result_formats(&body[names.rest_at..])?;
                    portal.clone_from(&statement);
                    self.outbox.put(&wire::BIND_COMPLETE);
                    Ok(())
                }
                b'D' => match wire::Named::read(body)? {
                    wire::Named::Statement(_) => {
                        wire::put_frame(&mut self.outbox, b't', |out| out.put(&[0, 0]));
                        self.console_describe(&statement, &[])
                    }
                    wire::Named::Portal(_) => self.console_describe(&portal, &formats),
                },
                b'E' => self.console_run(&portal, false, &formats).await,
                b'C' => {
                    self.outbox.put(&wire::CLOSE_COMPLETE);
                    Ok(())
                }
                b'H' => Ok(()),
                tag => {
                    return Err(ClientError::protocol(format!("invalid frontend message type {tag}")).into());
                }
            };
            if let Err(error) = outcome {
                wire::put_error(&mut self.outbox, &error);
                skipping = true;
            }
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

    fn console_describe(&mut self, sql: &str, formats: &[Format]) -> Result<(), ClientError> {
        match self.directory.console.describe(sql)? {
            None => self.outbox.put(&wire::NO_DATA),
            Some(columns) => self.console_columns(&columns, formats),
        }
        Ok(())
    }

    fn console_columns(&mut self, columns: &[ConsoleColumn], formats: &[Format]) {
        let described = columns.iter().enumerate();
        let described =
            described.map(|(at, column)| (column.name.as_str(), column.kind, format(formats, at)));
        wire::put_row_description(&mut self.outbox, described);
    }

    async fn console_run(
        &mut self,
        sql: &str,
        describe: bool,
        formats: &[Format],
    ) -> Result<(), ClientError> {
        let directory = self.directory.clone();
        let answer = directory.console.execute(&self.user_name, sql).await?;
        let columns = answer.columns.as_deref().unwrap_or_default();
        if describe && answer.columns.is_some() {
            self.console_columns(columns, formats);
        }
        for row in &answer.rows {
            let values = row.iter().zip(columns).enumerate().map(|(at, (value, column))| {
                value.as_deref().map(|text| written(text, column.kind, format(formats, at)))
            });
            wire::put_data_row(&mut self.outbox, values.collect::<Vec<_>>().into_iter());
        }
        match &answer.tag {
            Some(tag) => wire::put_complete(&mut self.outbox, tag),
            None => self.outbox.put(&wire::EMPTY_QUERY),
        }
        Ok(())
    }
}

/// One code stands for all columns, none for text.
fn format(formats: &[Format], at: usize) -> Format {
    match formats {
        [all] => *all,
        each => each.get(at).copied().unwrap_or(Format::Text),
    }
}

/// A value as its column's format has it. Text is the same in both.
fn written(text: &str, kind: ColumnType, format: Format) -> Cow<'_, [u8]> {
    let number = match (format, kind) {
        (Format::Binary, ColumnType::Int8) => text.parse::<i64>().ok().map(i64::to_be_bytes),
        (Format::Binary, ColumnType::Float8) => text.parse::<f64>().ok().map(f64::to_be_bytes),
        _ => None,
    };
    number.map_or(Cow::Borrowed(text.as_bytes()), |bytes| Cow::Owned(bytes.to_vec()))
}
