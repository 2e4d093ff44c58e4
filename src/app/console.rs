//! The console's commands, carried out.

use super::serve::{App, Stop};
use crate::admin::{self, Action, AdminRole, Command, ShutdownMode, courtesy};
use crate::error::{ClientError, SqlState};
use crate::session::{Answer, Console, ConsoleColumn, WorkerMessage};
use crate::wire::ColumnType;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Weak};

struct AppConsole {
    app: Weak<App>,
}

/// The console of an app that is being made.
pub(super) fn console(app: Weak<App>) -> Arc<dyn Console> {
    Arc::new(AppConsole { app })
}

impl App {
    pub(super) fn console(&self) -> Arc<dyn Console> {
        console(self.myself.clone())
    }

    fn role(&self, user: &str) -> Option<AdminRole> {
        let state = self.state();
        let admin = &state.settings.admin;
        if admin.users.iter().any(|name| name == user) {
            Some(AdminRole::Admin)
        } else if admin.stats_users.iter().any(|name| name == user) {
            Some(AdminRole::Stats)
        } else {
            None
        }
    }

    async fn act(&self, action: Action) -> Result<(), ClientError> {
        match action {
            Action::Reload => self.try_reload().await.map_err(|why| {
                self.metrics.config_read(false, std::time::SystemTime::now());
                ClientError::error(SqlState("F0000"), "the configuration is not valid; it stays as it was")
                    .with_detail(why)
            }),
            Action::Shutdown(mode) => {
                let how = match mode {
                    ShutdownMode::Now => Stop::Now,
                    ShutdownMode::Drain => Stop::Drain,
                };
                self.stop.send_replace(Some(how));
                Ok(())
            }
            Action::KillClient(id) => {
                let pid = u32::try_from(id).map_err(|_| no_such_client(id))?;
                if !self.client_infos().await.iter().any(|client| client.pid == pid) {
                    return Err(no_such_client(id));
                }
                self.tell_workers(|| WorkerMessage::Kill { pid: Some(pid), database: None });
                Ok(())
            }
            Action::Reconnect(database) => {
                self.known(database.as_deref())?;
                for pool in self.registry.all() {
                    if database.as_ref().is_none_or(|name| *name == pool.label.database) {
                        pool.renew();
                    }
                }
                Ok(())
            }
            Action::Pause(_) | Action::Resume(_) | Action::Kill(_) => Err(ClientError::refused(
                "PAUSE, RESUME and KILL of a database are not supported yet",
                "End one client with KILL_CLIENT, or pgring with SHUTDOWN.",
            )),
        }
    }

    fn known(&self, database: Option<&str>) -> Result<(), ClientError> {
        match database {
            Some(name) if !self.state().running.contains_key(name) => {
                Err(ClientError::error(SqlState::NO_DATABASE, format!("there is no database \"{name}\"")))
            }
            _ => Ok(()),
        }
    }
}

fn no_such_client(id: u64) -> ClientError {
    ClientError::error(SqlState::UNDEFINED_OBJECT, format!("there is no client {id}"))
        .with_hint("SHOW CLIENTS has them in its column id.")
}

fn gone() -> ClientError {
    ClientError::error(SqlState::SHUTTING_DOWN, "pgring is shutting down")
}

fn column(column: &admin::Column) -> ConsoleColumn {
    let kind = match column.kind {
        admin::Kind::Int8 => ColumnType::Int8,
        _ => ColumnType::Text,
    };
    ConsoleColumn { name: column.name.to_owned(), kind }
}

fn answer(table: admin::Table, tag: &str) -> Answer {
    Answer {
        columns: Some(table.columns.iter().map(column).collect()),
        rows: table.rows,
        tag: Some(tag.to_owned()),
    }
}

impl Console for AppConsole {
    fn admits(&self, user: &str) -> bool {
        self.app.upgrade().is_some_and(|app| app.role(user).is_some())
    }

    fn parameters(&self) -> Vec<(String, String)> {
        courtesy::PARAMETERS.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn describe(&self, sql: &str) -> Result<Option<Vec<ConsoleColumn>>, ClientError> {
        Ok(match admin::parse(sql)? {
            Command::Show(show) => Some(admin::columns(show).iter().map(column).collect()),
            Command::Answer { table, .. } => Some(table.columns.iter().map(column).collect()),
            Command::Nothing | Command::Do(_) | Command::Accepted { .. } => None,
        })
    }

    fn execute<'a>(
        &'a self,
        user: &'a str,
        sql: &'a str,
    ) -> Pin<Box<dyn Future<Output = Result<Answer, ClientError>> + Send + 'a>> {
        Box::pin(async move {
            let app = self.app.upgrade().ok_or_else(gone)?;
            let command = admin::parse(sql)?;
            let role = app.role(user).ok_or_else(|| {
                ClientError::error(SqlState::PRIVILEGE, "you may not use the console any more")
            })?;
            admin::allowed(&command, role)?;
            let tag = command.tag();
            match command {
                Command::Nothing => Ok(Answer::default()),
                Command::Show(show) => Ok(answer(admin::show(show, &app.overview().await), tag)),
                Command::Answer { table, .. } => Ok(answer(table, tag)),
                Command::Accepted { .. } => Ok(Answer { tag: Some(tag.to_owned()), ..Answer::default() }),
                Command::Do(action) => {
                    tracing::info!(user, "console: {sql}");
                    app.act(action).await?;
                    Ok(Answer { tag: Some(tag.to_owned()), ..Answer::default() })
                }
            }
        })
    }
}
