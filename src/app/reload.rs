//! SIGHUP and `RELOAD`: read, validate, compare, publish.
//!
//! A change that would move rows is not taken over while the shards hold any: routing stays on
//! the ring in force, and what the file asks for is shown as pending. Rows must never become
//! unreachable because somebody edited a file.

use super::placement;
use super::serve::App;
use crate::config::{self, Settings, diff};
use crate::pool::health::{ControlConnection, Login, Tls};
use crate::ring::{ShardId, Topology};
use crate::session::Database;
use crate::sql::TableDetail;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

impl App {
    /// Takes up the configuration file, if it is valid.
    pub(super) async fn reload(&self) {
        if let Err(problem) = self.try_reload().await {
            for line in problem.lines() {
                tracing::error!("configuration not reloaded: {line}");
            }
            self.metrics.config_read(false, SystemTime::now());
        }
    }

    /// As [`App::reload`]; says why not.
    pub(super) async fn try_reload(&self) -> Result<(), String> {
        let new = config::load(&self.config_path).map_err(|problems| problems.to_string())?;
        let old = self.state().settings.clone();
        let changes = diff::changes(&old, &new);
        for key in &changes.needs_restart {
            tracing::warn!("a change of {key} needs a restart");
        }
        let (effective, pending, adopted) = self.guarded(&old, new).await;
        {
            let (running, users, generation, was_pending) = {
                let mut state = self.state();
                state.generation += 1;
                let was_pending = std::mem::replace(&mut state.pending, pending);
                (state.running.clone(), state.users.clone(), state.generation, was_pending)
            };
            let built = match self.build(&effective, &running, &users, generation) {
                Ok(built) => built,
                Err(error) => {
                    self.state().pending = was_pending;
                    for (database, text) in adopted {
                        if let Err(why) = placement::adopt(&database, &old, &text).await {
                            tracing::error!(database = database.name, "{why}");
                        }
                    }
                    return Err(error.to_string());
                }
            };
            self.directory.store(Arc::new(built.directory));
            let mut state = self.state();
            state.settings = effective;
            state.running = built.running;
            state.users = built.users;
        }
        self.metrics.config_read(true, SystemTime::now());
        tracing::info!("configuration reloaded");
        Ok(())
    }

    /// The settings to take over, the rings that have to wait, and which databases' shards have stored another
    /// placement now, with the one they had.
    async fn guarded(
        &self,
        old: &Settings,
        mut new: Settings,
    ) -> (Settings, HashMap<String, (Topology, f64)>, Vec<(Arc<Database>, String)>) {
        let (mut pending, mut adopted) = (HashMap::new(), Vec::new());
        for database in &mut new.databases {
            let Some(active) = old.database(&database.name) else { continue };
            if !diff::database_change(active, database).moves_rows() {
                continue;
            }
            let running = self.state().running.get(&database.name).map(|r| Arc::clone(&r.database));
            let Some(running) = running else { continue };
            if let Some(tables) = diff::tables_said_otherwise(active, database)
                && are_absent(&running, &tables).await
                && placement::adopt(&running, old, &diff::placement(database)).await.is_ok()
            {
                adopted.push((Arc::clone(&running), diff::placement(active)));
                tracing::info!(
                    database = database.name,
                    "what the file says of tables that do not exist yet is in force"
                );
                continue;
            }
            let mut found = holds_rows(&running, old).await;
            if let Rows::None = found
                && let Err(why) = placement::adopt(&running, old, &diff::placement(database)).await
            {
                found = Rows::Unknown(why);
            }
            match found {
                Rows::None => {
                    adopted.push((Arc::clone(&running), diff::placement(active)));
                    tracing::info!(
                        database = database.name,
                        "the shards hold no rows: the new ring is in force"
                    );
                }
                found => {
                    let wanted = topology(database);
                    // A sum of nothing is -0.0.
                    let moves: f64 =
                        running.topology.ring.moves_to(&wanted.ring).iter().map(|m| m.share).sum::<f64>()
                            + 0.0;
                    tracing::warn!(
                        database = database.name,
                        "the file asks for another placement of rows: {}; {}. It is pending, and routing stays as \
                         it is",
                        moved(&diff::database_change(active, database), moves),
                        found.reason()
                    );
                    *database = diff::keep_placement(active, database);
                    pending.insert(database.name.clone(), (wanted, moves));
                }
            }
        }
        (new, pending, adopted)
    }
}

/// What would be elsewhere.
fn moved(change: &diff::DatabaseChange, moves: f64) -> String {
    let mut said = Vec::new();
    if change.moves_keys {
        said.push(format!("{:.1} % of the keys would move", moves * 100.0));
    }
    if change.moves_home {
        said.push("tables that are not sharded would be on another shard".to_owned());
    }
    if change.moves_tables {
        said.push(
            "a table that exists would be sharded otherwise, or be a reference table or none".to_owned(),
        );
    }
    if !change.shards_with_other_dbname.is_empty() {
        said.push(format!("other databases behind {}", change.shards_with_other_dbname.join(", ")));
    }
    said.join("; ")
}

/// Whether there are no tables of these names, as the configuration writes them: nothing is known of where
/// their rows are but what it says. A table that is only configured is one without a detail.
async fn are_absent(database: &Database, names: &BTreeSet<&str>) -> bool {
    if !database.read_schema_again().await {
        return false;
    }
    let Some(schema) = database.schema.load_full() else { return false };
    names.iter().all(|name| {
        let (within, name) = match name.split_once('.') {
            Some((schema, name)) => (Some(schema), name),
            None => (None, *name),
        };
        let mut found = schema.named(name).filter(|table| within.is_none_or(|within| within == table.schema));
        found.all(|table| table.detail == TableDetail::default())
    })
}

fn topology(database: &config::Database) -> Topology {
    let home = ShardId(u16::try_from(database.home).expect("a database has at most 1024 shards"));
    Topology::new(&database.weights(), database.virtual_nodes, home)
}

/// Whether a database's shards hold rows of its own.
enum Rows {
    None,
    Some(String),
    Unknown(String),
}

impl Rows {
    fn reason(&self) -> String {
        match self {
            Rows::None => "the shards are empty".to_owned(),
            Rows::Some(shard) => format!("shard {shard} holds rows"),
            Rows::Unknown(why) => format!("whether the shards hold rows cannot be told: {why}"),
        }
    }
}

/// A table without a page has no row; one with pages may have, and that is enough to wait.
pub(super) const ANY_PAGE: &str = "SELECT EXISTS (SELECT FROM pg_catalog.pg_class c \
     JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
     WHERE c.relkind = 'r' AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pgring') \
       AND n.nspname !~ '^pg_t' AND pg_catalog.pg_relation_size(c.oid) > 0)";

async fn holds_rows(database: &Database, settings: &Settings) -> Rows {
    let login = Login { user: settings.control.user.clone(), password: settings.control.password.clone() };
    for shard in &database.shards {
        let snapshot = shard.board.load_full();
        let endpoint = match snapshot.primary() {
            Ok(primary) => primary.address.clone(),
            Err(why) => return Rows::Unknown(format!("shard {}: {why}", shard.name)),
        };
        let tls = Tls { mode: shard.tls, config: shard.tls_config.clone() };
        let limit = Duration::from_secs(5);
        let asked = async {
            let opened = ControlConnection::open(&endpoint, &shard.dbname, &login, &tls, limit, || {}).await;
            let connection = opened.map_err(|error| error.to_string())?;
            let row =
                connection.client().query_one(ANY_PAGE, &[]).await.map_err(|error| error.to_string())?;
            row.try_get::<_, bool>(0).map_err(|error| error.to_string())
        };
        match tokio::time::timeout(limit, asked).await {
            Ok(Ok(false)) => {}
            Ok(Ok(true)) => return Rows::Some(shard.name.clone()),
            Ok(Err(why)) => return Rows::Unknown(format!("shard {}: {why}", shard.name)),
            Err(_) => return Rows::Unknown(format!("shard {} did not answer", shard.name)),
        }
    }
    Rows::None
}
