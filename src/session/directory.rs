//! What a session looks up by name: databases, users, limits. An immutable snapshot; a reload
//! publishes a new one, and sessions take it up between transactions.

use super::company::Waiting;
use super::console::Console;
use super::lookup::Lookup;
use super::tls::ServerTls;
use super::two_phase::TwoPhase;
use crate::auth::Verifier;
use crate::backend::TypeMap;
use crate::config;
use crate::error::{ClientError, SqlState};
use crate::execute::Reported;
use crate::pool::{Shard, ShardUser};
use crate::ring::{ShardId, Topology};
use crate::sql::{KeyType, Schema};
use crate::telemetry::metrics::{DatabaseMetrics, ShardMetrics};
use arc_swap::ArcSwapOption;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{Notify, watch};

/// See the module.
pub struct Directory {
    /// Goes up with each one published.
    pub generation: u64,
    /// By the name clients use.
    pub databases: HashMap<String, Arc<Database>>,
    /// By name.
    pub users: HashMap<String, Arc<User>>,
    /// Where users are looked up who are not among these; `None`: nowhere.
    pub lookup: Option<Arc<Lookup>>,
    /// What unknown users are checked against.
    pub mock_secret: Arc<[u8]>,
    /// Limits and timeouts of clients.
    pub listen: config::Listen,
    /// How silence of a client is noticed.
    pub tcp: config::Tcp,
    /// Limits and timeouts of pools.
    pub pool: config::Pool,
    /// What may touch several shards, and what it may cost.
    pub routing: config::Routing,
    /// TLS towards clients; `None` when it is off.
    pub tls: Option<Arc<ServerTls>>,
    /// Clients without TLS are refused.
    pub tls_required: bool,
    /// What the console's sessions count as their database.
    pub console_database: Arc<Database>,
    /// Who answers in the database `pgring`.
    pub console: Arc<dyn Console>,
}

/// A user as clients know it.
#[derive(Debug)]
pub struct User {
    /// What its password is checked against.
    pub verifier: Verifier,
    /// Whom it is towards servers.
    pub server: Arc<ShardUser>,
}

/// A database at run time.
pub struct Database {
    /// As clients name it.
    pub name: String,
    /// The ring in force.
    pub topology: Arc<Topology>,
    /// In the order of [`ShardId`](crate::ring::ShardId)s.
    pub shards: Vec<Arc<Shard>>,
    /// The shards' names, in the same order.
    pub shard_names: Vec<Arc<str>>,
    /// Each shard's counters, in the same order.
    pub metrics: Vec<ShardMetrics>,
    /// The database's counters.
    pub counters: DatabaseMetrics,
    /// How users' types are called on each shard, in the same order. `None`: there it is as at home, or
    /// there is no other.
    pub types: Vec<Option<Arc<ArcSwapOption<TypeMap>>>>,
    /// The key column's usual name; empty in a database with one shard.
    pub key: String,
    /// Who waits in a transaction on several shards.
    pub waiting: Arc<Waiting>,
    /// What is known of its tables; `None` until a shard could be asked.
    pub schema: ArcSwapOption<Schema>,
    /// Of a database with one shard that has others than a primary: by what it is proven that a
    /// statement only reads. Its epoch is never older than the schema's.
    pub proof: ArcSwapOption<Schema>,
    /// Where its reads go that carry no hint; `None`: as everywhere.
    pub reads: Option<config::Reads>,
    /// It has others than primaries.
    pub has_readers: bool,
    /// A client has changed the schema: read it again.
    pub schema_stale: Notify,
    /// Goes up with each request to read it again.
    pub schema_wanted: AtomicU64,
    /// Goes up with each change of the schema that clients make: what a server has prepared before
    /// is not what the same text means now.
    pub schema_changes: AtomicU64,
    /// The last request that has been served.
    pub schema_reads: watch::Sender<u64>,
    /// A request of somebody who has changed the schema, and was not served in time; 0: there is none.
    pub schema_overdue: AtomicU64,
    /// What a change of several shards is committed with.
    pub two_phase: TwoPhase,
    /// What a session is told at its beginning, by user.
    pub greetings: Mutex<HashMap<String, Arc<Greeting>>>,
}

impl Database {
    /// Does everything belong on one shard?
    pub fn is_one_shard(&self) -> bool {
        self.shards.len() == 1
    }

    /// Are users' types called otherwise there than at home, as far as it is known?
    pub fn has_own_types(&self, shard: ShardId) -> bool {
        let map = self.types.get(shard.index()).and_then(Option::as_ref);
        map.is_some_and(|map| map.load().as_ref().is_some_and(|map| !map.is_same()))
    }

    /// Has the schema read again and waits until it has been, but not for ever: with the home
    /// shard down it cannot be. Cancel safe.
    pub async fn read_schema_again(&self) -> bool {
        let ticket = self.schema_wanted.fetch_add(1, Ordering::SeqCst) + 1;
        let mut reads = self.schema_reads.subscribe();
        self.schema_stale.notify_one();
        let read =
            tokio::time::timeout(Database::SCHEMA_PATIENCE, reads.wait_for(|served| *served >= ticket));
        let in_time = read.await.is_ok();
        if !in_time {
            tracing::warn!(database = self.name, "the schema could not be read again in time");
        }
        in_time
    }

    /// As [`Database::read_schema_again`], after a change of the schema that is acknowledged with this:
    /// should it not be read in time, nobody is routed by the old one.
    pub async fn read_changed_schema(&self) {
        if !self.read_schema_again().await {
            // Whoever has asked since is served later.
            self.schema_overdue.fetch_max(self.schema_wanted.load(Ordering::SeqCst), Ordering::SeqCst);
        }
    }

    /// # Errors
    /// The schema has been changed since it was read. A database with one shard is not concerned.
    pub fn is_read(&self) -> Result<(), ClientError> {
        let overdue = self.schema_overdue.load(Ordering::Relaxed);
        if overdue == 0 || self.is_one_shard() || *self.schema_reads.borrow() >= overdue {
            return Ok(());
        }
        Err(unread("the schema has been changed, and could not be read since"))
    }

    /// How long a session waits for the schema.
    pub const SCHEMA_PATIENCE: Duration = Duration::from_secs(10);

    /// How keys of this database are typed: as the first sharded table's.
    pub fn key_type(&self) -> KeyType {
        self.schema.load().as_ref().and_then(|schema| schema.key_type()).unwrap_or(KeyType::Integer)
    }
}

/// Whom a statement concerns is not known for now.
pub(super) fn unread(words: &'static str) -> ClientError {
    ClientError::error(SqlState::UNAVAILABLE, words).with_hint(
        "Try again; the log says why the home shard, or the first one that is up, cannot be asked.",
    )
}

/// What a real server reports to a new session of a user.
#[derive(Clone, Debug)]
pub struct Greeting {
    /// `ParameterStatus` names and values.
    pub reported: Arc<[Reported]>,
    /// `search_path` before the session changes it.
    pub search_path: String,
    /// When it was read; servers may be upgraded and roles altered.
    pub taken: std::time::Instant,
}

impl Greeting {
    /// How long one is good for.
    pub const LASTS: Duration = Duration::from_secs(60);

    /// A reported parameter.
    pub fn reported(&self, name: &str) -> Option<&str> {
        self.reported.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}
