//! The console under the extended protocol: statements and portals by name, as PostgreSQL has
//! them.

use super::{Answer, ConsoleColumn, ConsoleCommand, Talk};
use crate::error::{ClientError, SqlState};
use crate::session::attach::Unattached;
use crate::session::state::{End, Session};
use crate::wire::{self, Format};
use std::rc::Rc;

/// A prepared command.
pub(super) struct Statement {
    sql: String,
    command: ConsoleCommand,
}

/// A command that has been bound.
pub(super) struct Portal {
    statement: Rc<Statement>,
    formats: Vec<Format>,
    /// What is left of its answer, once it has run.
    rest: Option<Rest>,
}

struct Rest {
    rows: std::vec::IntoIter<Vec<Option<String>>>,
    columns: Option<Vec<ConsoleColumn>>,
    tag: Option<String>,
}

fn named(name: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(name)
}

fn no_statement(name: &[u8]) -> ClientError {
    let name = named(name);
    let text = match &*name {
        "" => "unnamed prepared statement does not exist".to_owned(),
        name => format!("prepared statement \"{name}\" does not exist"),
    };
    ClientError::error(SqlState::NO_STATEMENT, text)
}

fn no_portal(name: &[u8]) -> ClientError {
    ClientError::error(SqlState::NO_PORTAL, format!("portal \"{}\" does not exist", named(name)))
}

/// Clients that prepare without end are not the console's.
const MOST_STATEMENTS: usize = 1000;

impl Session {
    pub(super) async fn console_extended(
        &mut self,
        talk: &mut Talk,
        tag: u8,
        body: &[u8],
    ) -> Result<(), Unattached> {
        match tag {
            b'P' => self.console_parse(talk, &wire::Parse::read(body).map_err(End::from)?),
            b'B' => self.console_bind(talk, body),
            b'D' => self.console_describe(talk, wire::Named::read(body).map_err(End::from)?),
            b'E' => self.console_execute(talk, wire::Execute::read(body).map_err(End::from)?).await,
            b'C' => {
                // Closing what is not there is no error.
                match wire::Named::read(body).map_err(End::from)? {
                    wire::Named::Statement(name) => drop(talk.statements.remove(name)),
                    wire::Named::Portal(name) => drop(talk.portals.remove(name)),
                }
                self.outbox.put(&wire::CLOSE_COMPLETE);
                Ok(())
            }
            // Flush: what there is to send is sent after each message.
            _ => Ok(()),
        }
    }

    fn console_parse(&mut self, talk: &mut Talk, parse: &wire::Parse<'_>) -> Result<(), Unattached> {
        let sql = named(parse.query).into_owned();
        let command = self.directory.console.read(&sql)?;
        if !parse.name.is_empty() && talk.statements.contains_key(parse.name) {
            return Err(ClientError::error(
                SqlState::DUPLICATE_STATEMENT,
                format!("prepared statement \"{}\" already exists", named(parse.name)),
            )
            .into());
        }
        if talk.statements.len() >= MOST_STATEMENTS {
            return Err(
                ClientError::error(SqlState::LIMIT, "too many prepared statements on the console").into()
            );
        }
        talk.statements.insert(parse.name.to_vec(), Rc::new(Statement { sql, command }));
        self.outbox.put(&wire::PARSE_COMPLETE);
        Ok(())
    }

    fn console_bind(&mut self, talk: &mut Talk, body: &[u8]) -> Result<(), Unattached> {
        let names = wire::BindNames::read(body).map_err(End::from)?;
        let rest = &body[names.rest_at..];
        let formats = wire::result_formats(rest).map_err(End::from)?;
        let statement = talk.statements.get(names.statement).ok_or_else(|| no_statement(names.statement))?;
        let statement = Rc::clone(statement);
        let protocol = |message: String| ClientError::error(SqlState::PROTOCOL, message);
        let parameters = wire::bind_parameter_count(rest);
        if parameters > 0 {
            return Err(protocol(format!(
                "bind message supplies {parameters} parameters, but prepared statement \"{}\" requires 0",
                named(names.statement)
            ))
            .into());
        }
        let columns = statement.command.columns.as_ref().map_or(0, Vec::len);
        if formats.len() > 1 && formats.len() != columns {
            return Err(protocol(format!(
                "bind message has {} result formats but query has {columns} columns",
                formats.len()
            ))
            .into());
        }
        if !names.portal.is_empty() && talk.portals.contains_key(names.portal) {
            return Err(ClientError::error(
                SqlState::new("42P03"),
                format!("portal \"{}\" already exists", named(names.portal)),
            )
            .into());
        }
        talk.portals.insert(names.portal.to_vec(), Portal { statement, formats, rest: None });
        self.outbox.put(&wire::BIND_COMPLETE);
        Ok(())
    }

    fn console_describe(&mut self, talk: &Talk, what: wire::Named<'_>) -> Result<(), Unattached> {
        let (statement, formats) = match what {
            wire::Named::Statement(name) => {
                let statement = talk.statements.get(name).ok_or_else(|| no_statement(name))?;
                // ParameterDescription: none.
                wire::put_frame(&mut self.outbox, b't', |out| out.put(&[0, 0]));
                (statement, &[][..])
            }
            wire::Named::Portal(name) => {
                let portal = talk.portals.get(name).ok_or_else(|| no_portal(name))?;
                (&portal.statement, &portal.formats[..])
            }
        };
        match &statement.command.columns {
            None => self.outbox.put(&wire::NO_DATA),
            Some(columns) => self.console_columns(columns, formats),
        }
        Ok(())
    }

    async fn console_execute(
        &mut self,
        talk: &mut Talk,
        execute: wire::Execute<'_>,
    ) -> Result<(), Unattached> {
        let mut portal = talk.portals.remove(execute.portal).ok_or_else(|| no_portal(execute.portal))?;
        let mut rest = match portal.rest.take() {
            Some(rest) if rest.columns.is_some() => rest,
            Some(_) => {
                return Err(ClientError::error(
                    SqlState::new("55000"),
                    format!("portal \"{}\" cannot be run", named(execute.portal)),
                )
                .into());
            }
            None => {
                let statement = Rc::clone(&portal.statement);
                let answer = self.console_run(talk, &statement.sql, &statement.command).await?;
                let Answer { columns, rows, tag } = answer;
                Rest { rows: rows.into_iter(), columns, tag }
            }
        };
        // 0, and by PostgreSQL's reading anything below it, is no limit.
        let most = usize::try_from(execute.max_rows).ok().filter(|most| *most > 0).unwrap_or(usize::MAX);
        let columns = rest.columns.as_deref().unwrap_or_default();
        for row in rest.rows.by_ref().take(most) {
            self.console_row(&row, columns, &portal.formats);
        }
        if rest.rows.len() > 0 {
            self.outbox.put(&wire::PORTAL_SUSPENDED);
        } else {
            self.console_done(rest.tag.as_deref());
        }
        portal.rest = Some(rest);
        talk.portals.insert(execute.portal.to_vec(), portal);
        Ok(())
    }
}
