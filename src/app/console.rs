//! The console's commands, carried out.

use super::serve::{App, Stop};
use crate::admin::{self, Action, AdminRole, Command, Scope, ShutdownMode, TransactionCommand, courtesy};
use crate::config;
use crate::error::{ClientError, SqlState};
use crate::pool::health::ShardBoard;
use crate::pool::{Gate, Paused};
use crate::session::{Answer, Console, ConsoleColumn, ConsoleCommand, TransactionStep, WorkerMessage};
use crate::wire::ColumnType;
use std::borrow::Cow;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::time::Duration;

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
                ClientError::error(
                    SqlState::new("F0000"),
                    "the configuration is not valid; it stays as it was",
                )
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
                self.registry.renew(database.as_deref());
                self.tell_workers(|| WorkerMessage::Tidy);
                Ok(())
            }
            Action::Pause(scope) => self.pause(&scope).await,
            Action::Resume(scope) => self.resume(&scope).await,
            Action::Kill(database) => self.kill(database.as_deref()).await,
        }
    }

    /// Answered when all server connections are closed. Dropped before that, it stays in force.
    async fn pause(&self, scope: &Scope) -> Result<(), ClientError> {
        self.known_scope(scope)?;
        let which = which(scope);
        if !self.registry.pause(which) && which == Paused::All {
            return Err(not_now("already suspended/paused"));
        }
        // Idle connections of a pool that has been renewed are closed by this.
        self.tell_workers(|| WorkerMessage::Tidy);
        if Gate::quiet_together(&self.registry.gates_of(which)).await {
            return Ok(());
        }
        Err(ClientError::error(
            SqlState::CANCELED,
            "RESUME has come before all server connections were closed",
        ))
    }

    /// Those who wait go on with the primary there is by now, whoever was it before the pause.
    async fn resume(&self, scope: &Scope) -> Result<(), ClientError> {
        self.known_scope(scope)?;
        let which = which(scope);
        let limit = self.state().settings.health.timeout;
        let boards = self.boards(scope);
        let looking: Vec<_> = boards
            .into_iter()
            .map(|board| self.runtime.spawn(async move { board.refresh(limit).await }))
            .collect();
        for look in looking {
            // What has not answered in time is judged as it would be without a pause.
            let _ = look.await;
        }
        if self.registry.resume(which) {
            return Ok(());
        }
        Err(match scope {
            Scope::Shard(database, shard) => {
                let error = not_now(format!("shard {shard} of database {database} is not paused"));
                match self.registry.is_paused(which) {
                    true => error.with_hint("RESUME what was paused: the database, or everything."),
                    false => error,
                }
            }
            Scope::Database(name) => not_now(format!("database {name} is not paused")),
            Scope::All => not_now("pooler is not paused/suspended"),
        })
    }

    /// What is known of the endpoints of these shards.
    fn boards(&self, scope: &Scope) -> Vec<Arc<ShardBoard>> {
        let state = self.state();
        let concerned = |database: &str, shard: &str| match scope {
            Scope::All => true,
            Scope::Database(name) => name == database,
            Scope::Shard(name, of) => name == database && of == shard,
        };
        let shards = state.running.iter().flat_map(|(name, running)| {
            running.database.shards.iter().map(move |shard| (name.as_str(), shard))
        });
        shards
            .filter(|(name, shard)| concerned(name, &shard.name))
            .map(|(_, shard)| Arc::clone(&shard.board))
            .collect()
    }

    /// Answered when the clients' server connections are closed, or have had the time for it.
    async fn kill(&self, database: Option<&str>) -> Result<(), ClientError> {
        self.known(database)?;
        let which = database.map_or(Paused::All, Paused::Database);
        self.registry.pause(which);
        for name in self.names(database) {
            self.tell_workers(|| WorkerMessage::Kill { pid: None, database: Some(name.clone()) });
        }
        self.tell_workers(|| WorkerMessage::Tidy);
        let closed = async {
            // A RESUME that comes meanwhile is none of this command's business.
            Gate::quiet_together(&self.registry.gates_of(which)).await;
        };
        if tokio::time::timeout(KILLING, closed).await.is_err() {
            tracing::warn!("server connections of killed clients are still open");
        }
        Ok(())
    }

    fn names(&self, database: Option<&str>) -> Vec<String> {
        match database {
            Some(name) => vec![name.to_owned()],
            None => self.state().running.keys().cloned().collect(),
        }
    }

    fn known_scope(&self, scope: &Scope) -> Result<(), ClientError> {
        let (database, shard) = match scope {
            Scope::All => (None, None),
            Scope::Database(database) => (Some(database.as_str()), None),
            Scope::Shard(database, shard) => (Some(database.as_str()), Some(shard)),
        };
        self.known(database)?;
        let (Some(database), Some(shard)) = (database, shard) else { return Ok(()) };
        let there =
            |running: &super::build::Running| running.database.shards.iter().any(|at| at.name == *shard);
        if self.state().running.get(database).is_some_and(there) {
            return Ok(());
        }
        Err(ClientError::error(
            SqlState::UNDEFINED_OBJECT,
            format!("database \"{database}\" has no shard \"{shard}\""),
        )
        .with_hint("SHOW SHARDS has them."))
    }

    fn known(&self, database: Option<&str>) -> Result<(), ClientError> {
        match database {
            Some(config::CONSOLE_DATABASE) => Err(ClientError::refused(
                "the console itself cannot be paused, killed or reconnected",
                "Name another database.",
            )),
            Some(name) if !self.state().running.contains_key(name) => {
                Err(ClientError::error(SqlState::NO_DATABASE, format!("there is no database \"{name}\"")))
            }
            _ => Ok(()),
        }
    }
}

fn which(scope: &Scope) -> Paused<'_> {
    match scope {
        Scope::All => Paused::All,
        Scope::Database(database) => Paused::Database(database),
        Scope::Shard(database, shard) => Paused::Shard(database, shard),
    }
}

/// How long statements of killed clients have to end.
const KILLING: Duration = Duration::from_secs(5);

/// In PgBouncer's words.
fn not_now(message: impl Into<Cow<'static, str>>) -> ClientError {
    ClientError::error(SqlState::new("55000"), message)
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
        admin::Kind::Text => ColumnType::Text,
        admin::Kind::Int4 => ColumnType::Int4,
        admin::Kind::Int8 => ColumnType::Int8,
        admin::Kind::Numeric => ColumnType::Numeric,
    };
    ConsoleColumn { name: column.name.to_owned(), kind }
}

fn step(what: TransactionCommand) -> TransactionStep {
    match what {
        TransactionCommand::Begin => TransactionStep::Begin,
        TransactionCommand::Commit => TransactionStep::Commit,
        TransactionCommand::Rollback => TransactionStep::Rollback,
        TransactionCommand::Savepoint => TransactionStep::Savepoint,
        TransactionCommand::RollbackTo => TransactionStep::RollbackTo,
    }
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

    fn split<'a>(&self, sql: &'a str) -> Result<Vec<&'a str>, ClientError> {
        admin::split(sql)
    }

    fn read(&self, sql: &str) -> Result<ConsoleCommand, ClientError> {
        let of = |columns: &[admin::Column]| ConsoleCommand {
            columns: Some(columns.iter().map(column).collect()),
            transaction: None,
        };
        Ok(match admin::parse(sql)? {
            Command::Show(show) => of(&admin::columns(show)),
            Command::Answer { table, .. } => of(&table.columns),
            Command::Transaction { what, tag } => {
                ConsoleCommand { columns: None, transaction: Some((step(what), tag)) }
            }
            Command::Nothing | Command::Do(_) | Command::Accepted { .. } => ConsoleCommand::default(),
        })
    }

    fn cancelled(&self, sql: &str) {
        // As with PgBouncer, a PAUSE that is cancelled while it waits is no longer in force.
        if let (Some(app), Ok(Command::Do(Action::Pause(scope)))) = (self.app.upgrade(), admin::parse(sql)) {
            app.registry.resume(which(&scope));
        }
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
                // The session has its own way with transactions.
                Command::Accepted { .. } | Command::Transaction { .. } => {
                    Ok(Answer { tag: Some(tag.to_owned()), ..Answer::default() })
                }
                Command::Do(action) => {
                    tracing::info!(user, "console: {sql}");
                    app.act(action).await?;
                    Ok(Answer { tag: Some(tag.to_owned()), ..Answer::default() })
                }
            }
        })
    }
}
