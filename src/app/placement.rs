//! By which placement the shards hold their rows: kept on every shard, in `pgring.placement`.
//!
//! Rows must never become unreachable because somebody edited a file, were it while no pgring ran.
//! What [`diff::placement`] says of the file is stored at the first start that reaches all shards. A file that says
//! otherwise later has no shard served (see `pool/health/identity.rs`), unless it moves no rows, as at a reload: the
//! shards hold none, or it only speaks of tables that do not exist yet. Then the file's is stored.
//!
//! The home shard is written first: of two proxies that start at once with different files, one
//! finds the other's. Where the control role may not write, the log says so once; what is stored is compared
//! all the same. A database's only shard is left alone.

use super::reload::ANY_PAGE;
use super::serve::App;
use super::two_phase::objects::{LOCK, stranger};
use crate::config::{self, Settings, diff};
use crate::pool::health::{ControlConnection, EndpointIndex, Login, NoPrimary, Tls};
use crate::session::Database;
use std::collections::BTreeSet;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

/// How soon after a failure, and while the shards cannot be asked or hold rows otherwise.
const AGAIN: Duration = Duration::from_secs(2);
/// For one shard, at a reload.
const LIMIT: Duration = Duration::from_secs(5);

const TABLE: &str = "CREATE SCHEMA IF NOT EXISTS pgring; \
     GRANT USAGE ON SCHEMA pgring TO PUBLIC; \
     CREATE TABLE IF NOT EXISTS pgring.placement ( \
         sole  boolean PRIMARY KEY DEFAULT true CHECK (sole), \
         text  text NOT NULL, \
         since timestamptz NOT NULL DEFAULT clock_timestamp())";

/// Tables of these names, with or without their schema.
const ANY_TABLE: &str = "SELECT EXISTS (SELECT FROM pg_catalog.pg_class c \
     JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
     WHERE c.relkind IN ('r', 'p', 'f', 'v', 'm') AND n.nspname NOT IN ('pg_catalog', 'information_schema') \
       AND (c.relname::text = ANY ($1) OR n.nspname || '.' || c.relname = ANY ($1)))";

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("shard {0}: {1}")]
    Unreachable(String, String),
    #[error("{}", .0.as_db_error().map_or_else(|| .0.to_string(), |error| error.message().to_owned()))]
    Refused(#[from] tokio_postgres::Error),
    #[error("shard {0}: its schema \"pgring\" belongs to {1}")]
    NotOurs(String, String),
}

impl Failure {
    /// Will it be the same next time?
    fn is_final(&self) -> bool {
        match self {
            Failure::Unreachable(..) => false,
            Failure::Refused(error) => error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE),
            Failure::NotOurs(..) => true,
        }
    }
}

/// Sees to it that one database's shards have it.
pub(super) struct Placement {
    database: Weak<Database>,
    text: String,
    login: Login,
    timeout: Duration,
}

/// A shard that can be asked.
struct Asked {
    connection: ControlConnection,
    stored: Option<String>,
}

impl Placement {
    /// Starts the task, which ends when every shard has the file's placement.
    pub(super) fn watch(app: &App, settings: &Settings, database: &config::Database, made: &Arc<Database>) {
        if database.shards.len() == 1 {
            return;
        }
        let placement = Placement {
            database: Arc::downgrade(made),
            text: diff::placement(database),
            login: login(settings),
            timeout: settings.pool.connect_timeout,
        };
        app.runtime.spawn(placement.run());
    }

    async fn run(self) {
        let mut complained = false;
        loop {
            let Some(database) = self.database.upgrade() else { return };
            match self.see_to(&database).await {
                Ok(true) => return,
                Ok(false) => {}
                Err(failure) => {
                    if !complained {
                        tracing::warn!(
                            database = database.name,
                            "the placement of rows cannot be stored on every shard: {failure} (the control role \
                             needs CREATE on each shard's database)"
                        );
                        complained = true;
                    }
                    if failure.is_final() {
                        return;
                    }
                }
            }
            drop(database);
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// Whether every shard has it now.
    async fn see_to(&self, database: &Database) -> Result<bool, Failure> {
        let mut asked = Vec::with_capacity(database.shards.len());
        for index in home_first(database) {
            // One that cannot be asked may know better.
            let Some(connection) = self.connect(database, index).await? else { return Ok(false) };
            if let Some(owner) = stranger(connection.client()).await? {
                return Err(Failure::NotOurs(database.shards[index].name.clone(), owner));
            }
            let stored = stored(connection.client()).await?;
            asked.push(Asked { connection, stored });
        }
        let is_called_otherwise = database
            .shards
            .iter()
            .any(|shard| matches!(shard.board.load().roles.primary, Err(NoPrimary::Stranger { .. })));
        let fits = |shard: &Asked| shard.stored.as_ref() == Some(&self.text);
        if !is_called_otherwise && asked.iter().all(fits) {
            return Ok(true);
        }
        let differs = asked.iter().any(|shard| shard.stored.is_some() && !fits(shard));
        let is_empty = (differs || is_called_otherwise) && !any(&asked, ANY_PAGE, None).await?;
        let moves_nothing = is_empty
            || if differs { self.speaks_of_absent_tables(&asked).await? } else { !is_called_otherwise };
        if !moves_nothing {
            return Ok(false);
        }
        for shard in &asked {
            let client = shard.connection.client();
            if !put(client, &self.text, differs).await? {
                return Ok(false);
            }
            if is_empty && is_called_otherwise && is_there(client, "pgring.shard").await? {
                // It gets its name anew, see `ids.rs`.
                client.batch_execute("DELETE FROM pgring.shard").await?;
            }
        }
        if differs || is_called_otherwise {
            tracing::info!(database = database.name, "the file moves no rows: its placement is in force");
            for shard in &database.shards {
                shard.board.probe_now();
            }
        }
        // Whoever had another name is looked at again.
        Ok(!is_called_otherwise)
    }

    async fn speaks_of_absent_tables(&self, asked: &[Asked]) -> Result<bool, Failure> {
        let mut names = BTreeSet::new();
        for stored in asked.iter().filter_map(|shard| shard.stored.as_ref()) {
            let Some(tables) = diff::tables_placed_otherwise(stored, &self.text) else { return Ok(false) };
            names.extend(tables);
        }
        Ok(!any(asked, ANY_TABLE, Some(names.into_iter().collect())).await?)
    }

    /// To a shard's primary, or who would be it; `None` while there is none.
    async fn connect(&self, database: &Database, index: usize) -> Result<Option<ControlConnection>, Failure> {
        let shard = &database.shards[index];
        // Whom to ask turns out soon after the start.
        let _ = shard.board.wait_for_verdict(self.timeout).await;
        let snapshot = shard.board.load_full();
        let endpoint: EndpointIndex = match &snapshot.roles.primary {
            Ok(primary) => *primary,
            Err(NoPrimary::Stranger { claimant, .. }) => *claimant,
            Err(_) => return Ok(None),
        };
        let Some(endpoint) = snapshot.endpoints.get(endpoint.index()) else { return Ok(None) };
        let tls = Tls { mode: shard.tls, config: shard.tls_config.clone() };
        let opening =
            ControlConnection::open(&endpoint.address, &shard.dbname, &self.login, &tls, self.timeout, || {});
        let failed = |error| Failure::Unreachable(shard.name.clone(), format!("{error}"));
        opening.await.map(Some).map_err(failed)
    }
}

fn login(settings: &Settings) -> Login {
    Login { user: settings.control.user.clone(), password: settings.control.password.clone() }
}

fn home_first(database: &Database) -> impl Iterator<Item = usize> {
    let home = database.topology.home.index();
    std::iter::once(home).chain((0..database.shards.len()).filter(move |index| *index != home))
}

/// At a reload that moves no rows: the shards that have stored another placement get this one.
///
/// # Errors
/// Why not; then some may have it.
pub(super) async fn adopt(database: &Database, settings: &Settings, text: &str) -> Result<(), String> {
    if database.is_one_shard() {
        return Ok(());
    }
    let (text, database) = (text.to_owned(), database);
    let placement = Placement {
        database: Weak::new(),
        text,
        login: login(settings),
        timeout: settings.pool.connect_timeout,
    };
    for index in home_first(database) {
        let adopting = async {
            let unreachable =
                || Failure::Unreachable(database.shards[index].name.clone(), "it has no primary".to_owned());
            let connection = placement.connect(database, index).await?.ok_or_else(unreachable)?;
            let client = connection.client();
            match stranger(client).await?.is_none() && stored(client).await?.is_some() {
                true => put(client, &placement.text, true).await.map(drop),
                // It is stored once all shards can be asked.
                false => Ok(()),
            }
        };
        let late = |_| format!("shard {}: no answer within {LIMIT:?}", database.shards[index].name);
        let adopted = tokio::time::timeout(LIMIT, adopting).await.map_err(late)?;
        adopted.map_err(|failure| format!("the placement of rows cannot be stored: {failure}"))?;
    }
    Ok(())
}

async fn is_there(client: &Client, table: &str) -> Result<bool, Failure> {
    let there = "SELECT pg_catalog.to_regclass($1) IS NOT NULL";
    Ok(client.query_one(there, &[&table]).await?.try_get(0)?)
}

async fn stored(client: &Client) -> Result<Option<String>, Failure> {
    if !is_there(client, "pgring.placement").await? {
        return Ok(None);
    }
    let row = client.query_opt("SELECT text FROM pgring.placement", &[]).await?;
    Ok(row.map(|row| row.try_get(0)).transpose()?)
}

/// Does one of the shards say yes?
async fn any(asked: &[Asked], question: &str, names: Option<Vec<&str>>) -> Result<bool, Failure> {
    for shard in asked {
        let client = shard.connection.client();
        let row = match &names {
            Some(names) => client.query_one(question, &[names]).await?,
            None => client.query_one(question, &[]).await?,
        };
        if row.try_get(0)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Stores it; false if there is another one, which is left alone unless it is to be replaced. What fails is
/// rolled back with the connection.
async fn put(client: &Client, text: &str, replace: bool) -> Result<bool, Failure> {
    client.batch_execute(LOCK).await?;
    if !is_there(client, "pgring.placement").await? {
        client.batch_execute(TABLE).await?;
    }
    let there = client.query_opt("SELECT text FROM pgring.placement", &[]).await?;
    let there: Option<String> = there.map(|row| row.try_get(0)).transpose()?;
    let is_other = there.as_ref().is_some_and(|there| there != text);
    if is_other && !replace {
        client.batch_execute("ROLLBACK").await?;
        return Ok(false);
    }
    if there.is_none() || is_other {
        let put = "INSERT INTO pgring.placement (text) VALUES ($1) \
                   ON CONFLICT (sole) DO UPDATE SET text = excluded.text, since = clock_timestamp()";
        client.execute(put, &[&text]).await?;
    }
    client.batch_execute("COMMIT").await?;
    Ok(true)
}
