//! From validated settings to what sessions look things up in.

use super::deadlocks::Deadlocks;
use super::ids::Ids;
use super::placement::Placement;
use super::schemas::Schemas;
use super::serve::App;
use super::two_phase;
use crate::auth::{Keyring, ServerLoginError, ServerSecret, Verifier, VerifierError};
use crate::backend::tls::{TlsError, client_config};
use crate::config::{self, ListenTls, Settings};
use crate::pool::health::state::Purpose;
use crate::pool::health::{EndpointSpec, Expected, HealthSettings, Login, PatroniSpec, Tls};
use crate::pool::{Shard, ShardUser};
use crate::ring::{ShardId, Topology};
use crate::session::tls::{ServerTls, server_config};
use crate::session::two_phase::TwoPhase;
use crate::session::{Database, Directory, User};
use crate::telemetry::metrics::EndpointLabel;
use arc_swap::ArcSwapOption;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use thiserror::Error;
use tokio::sync::{Notify, watch};

/// What the validation of the file cannot see.
#[derive(Debug, Error)]
pub(super) enum BuildError {
    #[error("shard {0}: {1}")]
    ShardTls(String, TlsError),
    #[error("listen: {0}")]
    ListenTls(TlsError),
    #[error("user {0}: {1}")]
    Verifier(String, VerifierError),
    #[error("user {0}: {1}")]
    ServerPassword(String, ServerLoginError),
}

/// A database that runs, and the settings it was made from.
#[derive(Clone)]
pub(super) struct Running {
    pub(super) settings: config::Database,
    /// Its tasks log in so for as long as they run.
    control: config::Control,
    connect_timeout: std::time::Duration,
    tcp: config::Tcp,
    failover_hold: std::time::Duration,
    pub(super) database: Arc<Database>,
}

/// A user that is known, and what it was made from.
#[derive(Clone)]
pub(super) struct KnownUser {
    settings: config::User,
    user: Arc<User>,
}

/// Everything that is made of a configuration.
pub(super) struct Built {
    pub(super) directory: Directory,
    pub(super) running: HashMap<String, Running>,
    pub(super) users: HashMap<String, KnownUser>,
}

impl App {
    /// Makes a directory of `settings`, keeping what has not changed: databases with their
    /// schemas, verifiers with their salts. Starts probes of new endpoints and ends those of
    /// endpoints that are gone.
    pub(super) fn build(
        &self,
        settings: &Settings,
        running: &HashMap<String, Running>,
        users: &HashMap<String, KnownUser>,
        generation: u64,
    ) -> Result<Built, BuildError> {
        let tls = listen_tls(&settings.listen.tls).map_err(BuildError::ListenTls)?;
        let users = known_users(settings, users)?;
        let mut tls_configs = HashMap::new();
        for database in &settings.databases {
            for shard in &database.shards {
                let config = client_config(shard.tls.mode, shard.tls.ca.as_deref())
                    .map_err(|error| BuildError::ShardTls(shard.name.clone(), error))?;
                tls_configs.insert((database.name.clone(), shard.name.clone()), config);
            }
        }
        // Nothing can fail from here on.
        self.registry.set_settings(settings.pool.clone());
        self.probe(settings, &tls_configs);
        let mut now_running = HashMap::new();
        for database in &settings.databases {
            let kept = running.get(&database.name).filter(|kept| {
                kept.settings == *database
                    && kept.control == settings.control
                    && kept.connect_timeout == settings.pool.connect_timeout
                    && kept.tcp == settings.tcp
                    && kept.failover_hold == settings.health.failover_hold
                    // New TLS files under the same names.
                    && database.shards.iter().all(|shard| shard.tls.mode == config::TlsMode::Disable)
            });
            let entry = match kept {
                Some(kept) => kept.clone(),
                None => Running {
                    settings: database.clone(),
                    control: settings.control.clone(),
                    connect_timeout: settings.pool.connect_timeout,
                    tcp: settings.tcp.clone(),
                    failover_hold: settings.health.failover_hold,
                    database: self.database(settings, database, &tls_configs, running.get(&database.name)),
                },
            };
            now_running.insert(database.name.clone(), entry);
        }
        self.count(settings, &now_running);
        let databases = now_running.iter().map(|(name, entry)| (name.clone(), Arc::clone(&entry.database)));
        let directory = Directory {
            generation,
            databases: databases.collect(),
            users: users.iter().map(|(name, known)| (name.clone(), Arc::clone(&known.user))).collect(),
            lookup: self.lookup(settings),
            mock_secret: Arc::clone(&self.mock_secret),
            listen: settings.listen.clone(),
            tcp: settings.tcp.clone(),
            pool: settings.pool.clone(),
            routing: settings.routing.clone(),
            tls_required: matches!(settings.listen.tls, ListenTls::Require(_)),
            tls,
            console_database: Arc::clone(&self.console_database),
            console: self.console(),
        };
        Ok(Built { directory, running: now_running, users })
    }

    /// Pools of users who are not in the file go when they are empty: there may be many such
    /// users, and those who have vanished do not come back.
    pub(super) fn forget_unused_pools(&self) {
        let configured: BTreeSet<String> =
            self.state().settings.users.iter().map(|user| user.name.clone()).collect();
        self.registry.forget_unused(|label| !configured.contains(&label.user));
    }

    fn probe(&self, settings: &Settings, tls: &TlsConfigs) {
        let login =
            Login { user: settings.control.user.clone(), password: settings.control.password.clone() };
        let mut specs = Vec::new();
        let mut rumours = Vec::new();
        for database in &settings.databases {
            for shard in &database.shards {
                rumours.push(PatroniSpec {
                    database: database.name.clone(),
                    shard: shard.name.clone(),
                    members: shard.patroni.clone(),
                });
                let config = tls.get(&(database.name.clone(), shard.name.clone())).cloned().flatten();
                let serving = shard.endpoints.iter().map(|at| (Purpose::Serving, at));
                let analytics = shard.analytics.iter().map(|at| (Purpose::Analytics, at));
                specs.extend(serving.chain(analytics).map(|(purpose, address)| EndpointSpec {
                    database: database.name.clone(),
                    shard: shard.name.clone(),
                    address: address.clone(),
                    purpose,
                    expected: expected(database, shard),
                    dbname: shard.dbname.clone(),
                    login: login.clone(),
                    tls: Tls { mode: shard.tls.mode, config: config.clone() },
                }));
            }
        }
        let health = HealthSettings::from(&settings.health);
        let mut prober = self.prober();
        prober.update(specs, health);
        prober.listen(rumours, health);
    }

    /// A database's run-time state, with what an earlier one of this name knew.
    fn database(
        &self,
        settings: &Settings,
        database: &config::Database,
        tls: &TlsConfigs,
        earlier: Option<&Running>,
    ) -> Arc<Database> {
        let home = ShardId(u16::try_from(database.home).expect("a database has at most 1024 shards"));
        let topology = Topology::new(&database.weights(), database.virtual_nodes, home);
        let board = self.prober().board();
        let shards = database.shards.iter().map(|shard| {
            let board =
                board.shard(&database.name, &shard.name).expect("its endpoints are probed, see probe()");
            Arc::new(Shard {
                database: database.name.clone(),
                name: shard.name.clone(),
                dbname: shard.dbname.clone(),
                tls: shard.tls.mode,
                tls_config: tls.get(&(database.name.clone(), shard.name.clone())).cloned().flatten(),
                connect_timeout: settings.pool.connect_timeout,
                tcp: settings.tcp.clone(),
                failover_hold: settings.health.failover_hold,
                had_primary: AtomicBool::new(board.load().roles.primary.is_ok()),
                board,
                metrics: self.metrics.shard(&database.name, &shard.name),
                gate: self.registry.gate(&database.name, &shard.name),
                registry: Arc::clone(&self.registry),
            })
        });
        let (schema_reads, _) = watch::channel(0);
        let lost = self.metrics.two_phase.lost.clone();
        let (two_phase, asked) = TwoPhase::new(&settings.cluster, database.shards.len(), lost);
        let made = Arc::new(Database {
            name: database.name.clone(),
            shard_names: database.shards.iter().map(|shard| Arc::from(shard.name.as_str())).collect(),
            metrics: database
                .shards
                .iter()
                .map(|shard| self.metrics.shard(&database.name, &shard.name))
                .collect(),
            counters: self.metrics.database(&database.name),
            shards: shards.collect(),
            types: topology
                .ids()
                .map(|shard| (shard != topology.home).then(|| Arc::new(ArcSwapOption::empty())))
                .collect(),
            topology: Arc::new(topology),
            key: database.key.clone().unwrap_or_default(),
            waiting: Arc::default(),
            schema: Default::default(),
            proof: Default::default(),
            reads: database.reads,
            has_readers: database
                .shards
                .iter()
                .any(|shard| shard.endpoints.len() > 1 || !shard.analytics.is_empty()),
            schema_stale: Notify::new(),
            schema_wanted: AtomicU64::new(1),
            schema_changes: AtomicU64::new(0),
            schema_overdue: Default::default(),
            schema_reads,
            two_phase,
            greetings: Default::default(),
        });
        if let Some(earlier) =
            earlier.filter(|e| super::schema::DatabaseRules::from(&e.settings) == database.into())
        {
            made.schema.store(earlier.database.schema.load_full());
        }
        if let Some(earlier) = earlier
            && earlier.database.topology.home == made.topology.home
            && earlier.database.shard_names == made.shard_names
        {
            for (known, new) in earlier.database.types.iter().zip(&made.types) {
                if let (Some(known), Some(new)) = (known, new) {
                    new.store(known.load_full());
                }
            }
        }
        for shard in &made.shards {
            self.runtime.spawn(crate::pool::fence(Arc::downgrade(shard)));
        }
        Schemas::watch(self, settings, database, &made);
        Placement::watch(self, settings, database, &made);
        Ids::install(self, settings, database, &made);
        two_phase::start(self, settings, database, &made, asked);
        Deadlocks::watch(self, settings, database, &made);
        made
    }

    fn count(&self, settings: &Settings, running: &HashMap<String, Running>) {
        let mut live = BTreeSet::new();
        for database in &settings.databases {
            for shard in &database.shards {
                for endpoint in shard.endpoints.iter().chain(&shard.analytics) {
                    live.insert(EndpointLabel {
                        database: database.name.clone(),
                        shard: shard.name.clone(),
                        endpoint: endpoint.to_string(),
                    });
                }
            }
        }
        self.metrics.retain(&live);
        let users: BTreeSet<&str> = settings.users.iter().map(|user| user.name.as_str()).collect();
        self.registry.retain(|label| {
            // Who is not in the file may be in the database.
            (users.contains(label.user.as_str()) || settings.auth.source.is_some())
                && live.contains(&EndpointLabel {
                    database: label.database.clone(),
                    shard: label.shard.clone(),
                    endpoint: label.endpoint.clone(),
                })
        });
        for (name, entry) in running {
            let topology = &entry.database.topology;
            let shares = topology.ring.shares();
            let named = topology.shards.iter().map(String::as_str).zip(shares);
            self.metrics.set_ring(name, named, self.pending_moves(name));
        }
    }
}

/// Whom a shard's servers have to be. A database's only shard may be one of several to somebody else.
pub(super) fn expected(database: &config::Database, shard: &config::Shard) -> Option<Expected> {
    (database.shards.len() > 1)
        .then(|| Expected { shard: shard.name.clone(), placement: config::diff::placement(database) })
}

type TlsConfigs = HashMap<(String, String), Option<Arc<tokio_rustls::rustls::ClientConfig>>>;

fn listen_tls(settings: &ListenTls) -> Result<Option<Arc<ServerTls>>, TlsError> {
    match settings {
        ListenTls::Disable => Ok(None),
        ListenTls::Allow(files) | ListenTls::Require(files) => {
            let tls = server_config(&files.certificate, &files.key, files.client_ca.as_deref())?;
            Ok(Some(Arc::new(tls)))
        }
    }
}

fn known_users(
    settings: &Settings,
    known: &HashMap<String, KnownUser>,
) -> Result<HashMap<String, KnownUser>, BuildError> {
    let mut users = HashMap::new();
    for user in &settings.users {
        // A new salt would tell clients that the user exists.
        let entry = match known.get(&user.name).filter(|known| known.settings == *user) {
            Some(known) => known.clone(),
            None => {
                let verifier = Verifier::parse(user.password.reveal())
                    .map_err(|error| BuildError::Verifier(user.name.clone(), error))?;
                let server = ShardUser { name: user.name.clone(), keyring: keyring(user, &verifier)? };
                KnownUser {
                    settings: user.clone(),
                    user: Arc::new(User { verifier, server: Arc::new(server) }),
                }
            }
        };
        users.insert(user.name.clone(), entry);
    }
    Ok(users)
}

/// What a user of the file logs in to servers with: `server_password`, or else what is known of
/// its password, which for a verifier is what its clients show.
fn keyring(user: &config::User, verifier: &Verifier) -> Result<Arc<Keyring>, BuildError> {
    let parsed = |secret: &config::Secret| {
        ServerSecret::parse(secret.reveal())
            .map_err(|error| BuildError::ServerPassword(user.name.clone(), error))
    };
    Ok(Arc::new(match &user.server_password {
        Some(none) if none.reveal().is_empty() => Keyring::of_secret(None),
        Some(password) => Keyring::of_secret(Some(parsed(password)?)),
        None if Verifier::stored(user.password.reveal()).is_some() => Keyring::of_verifier(verifier),
        None => Keyring::of_secret(Some(parsed(&user.password)?)),
    }))
}

/// A database for the console's sessions, which have none.
pub(super) fn console_database(metrics: &crate::telemetry::Metrics) -> Arc<Database> {
    let (schema_reads, _) = watch::channel(0);
    Arc::new(Database {
        name: config::CONSOLE_DATABASE.to_owned(),
        topology: Arc::new(Topology::new(&[("console".to_owned(), 1)], 1, ShardId(0))),
        shards: Vec::new(),
        shard_names: Vec::new(),
        metrics: Vec::new(),
        counters: metrics.database(config::CONSOLE_DATABASE),
        types: Vec::new(),
        key: String::new(),
        waiting: Arc::default(),
        schema: Default::default(),
        proof: Default::default(),
        reads: None,
        has_readers: false,
        schema_stale: Notify::new(),
        schema_wanted: AtomicU64::new(1),
        schema_changes: AtomicU64::new(0),
        schema_overdue: Default::default(),
        schema_reads,
        two_phase: TwoPhase::new("", 0, metrics.two_phase.lost.clone()).0,
        greetings: Default::default(),
    })
}

/// Clients of all databases.
pub(super) fn client_count(app: &App) -> usize {
    app.clients.load(Ordering::SeqCst)
}
