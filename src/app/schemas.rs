//! Keeping what is known of each database's tables up to date.
//!
//! A task a database reads the catalogs of the home shard, or of another one while the schema is
//! not known and the home shard is down: at the start, when a session says that
//! DDL has run, and every few seconds in case it ran elsewhere. Only a change is published, so
//! that the plan caches stay warm. Of a database with one shard only the functions are read that may
//! leave something on their server ([`Suspects`]); until they are, any statement may call one. If it has
//! replicas, the catalogs are read as well: they prove which statements only read.

use super::schema::{DatabaseRules, SchemaError, discover};
use super::serve::App;
use super::suspects::Watched;
use crate::backend::tls::client_config;
use crate::backend::{TypeMap, TypeNames};
use crate::config::{self, Endpoint, Settings};
use crate::pool::health::{ControlConnection, Login, Tls};
use crate::session::Database;
use crate::sql::{Schema, Suspects, Volatility};
use arc_swap::ArcSwapOption;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

/// How often the catalogs are looked at without being asked to.
const EVERY: Duration = Duration::from_secs(5);
/// How long shards that nothing is known of yet are waited for at the start.
const MOMENT: Duration = Duration::from_secs(1);
/// How soon after a failure.
const AGAIN: Duration = Duration::from_millis(500);

/// Every schema published has an epoch of its own, whatever its database.
static EPOCH: AtomicU64 = AtomicU64::new(1);

/// Reads the schemas of one database.
pub(super) struct Schemas {
    database: Weak<Database>,
    rules: DatabaseRules,
    login: Login,
    tls: Vec<Tls>,
    timeout: Duration,
    fingerprint: Option<u64>,
    /// And whom it leads to.
    connection: Option<(ControlConnection, Primary)>,
    /// Where the connection leads, and what is published came from.
    shard: usize,
    /// To the other shards, by number: their types are read there.
    others: HashMap<usize, (ControlConnection, Primary)>,
    complained: Option<String>,
    watched: Watched,
    /// Those published last.
    suspects: Option<Arc<Suspects>>,
    volatility: Option<Arc<Volatility>>,
}

impl Schemas {
    /// Starts the task, which ends with the database.
    pub(super) fn watch(app: &App, settings: &Settings, database: &config::Database, made: &Arc<Database>) {
        if database.shards.len() == 1 {
            let mut schema = Schema::one_shard().with_suspects(Arc::new(Suspects::unread()));
            schema.epoch = EPOCH.fetch_add(1, Ordering::Relaxed);
            made.schema.store(Some(Arc::new(schema)));
        }
        let tls = made.shards.iter().map(|shard| Tls { mode: shard.tls, config: shard.tls_config.clone() });
        let schemas = Schemas {
            database: Arc::downgrade(made),
            rules: DatabaseRules::from(database),
            login: Login { user: settings.control.user.clone(), password: settings.control.password.clone() },
            tls: tls.collect(),
            timeout: settings.pool.connect_timeout,
            fingerprint: None,
            connection: None,
            shard: made.topology.home.index(),
            others: HashMap::new(),
            complained: None,
            watched: Watched::default(),
            suspects: None,
            volatility: None,
        };
        app.runtime.spawn(schemas.run());
    }

    async fn run(mut self) {
        if let Some(database) = self.database.upgrade() {
            // Whom to ask; without an answer in time the first reading says why there is none.
            let home = &database.shards[database.topology.home.index()];
            let _ = home.board.wait_for_verdict(self.timeout).await;
            // With the first schema come the other shards' types, of those that are there by then.
            let others = async {
                for shard in &database.shards {
                    let _ = shard.board.wait_for_verdict(self.timeout).await;
                }
            };
            let _ = tokio::time::timeout(MOMENT, others).await;
        }
        loop {
            let Some(database) = self.database.upgrade() else { return };
            let ticket = database.schema_wanted.load(Ordering::SeqCst);
            let wait = match self.read(&database).await {
                Ok(()) => {
                    self.complained = None;
                    database.schema_reads.send_replace(ticket);
                    let whole = self.shard == database.topology.home.index() && !lacks_types(&database);
                    if whole { EVERY } else { AGAIN }
                }
                Err(why) => {
                    self.connection = None;
                    if self.complained.as_ref() != Some(&why) {
                        tracing::warn!(database = database.name, "cannot read the schema: {why}");
                        self.complained = Some(why);
                    }
                    AGAIN
                }
            };
            // A database that is gone from the configuration is not kept alive by waiting for it.
            let weak = Arc::downgrade(&database);
            let stale = async {
                database.schema_stale.notified().await;
            };
            tokio::select! {
                () = stale => {}
                () = tokio::time::sleep(wait) => {}
            }
            drop(database);
            self.database = weak;
        }
    }

    async fn read(&mut self, database: &Database) -> Result<(), String> {
        let shard = self.shard_to_ask(database);
        let primary = primary_of(database, shard)?;
        let is_good =
            |(connection, at): &(ControlConnection, Primary)| *at == primary && !connection.is_closed();
        if shard != self.shard || !self.connection.as_ref().is_some_and(is_good) {
            self.connection = Some((self.connect(database, shard, &primary.0).await?, primary.clone()));
            self.shard = shard;
        }
        let Some((connection, _)) = &self.connection else { return Err("no connection".to_owned()) };
        let epoch = EPOCH.fetch_add(1, Ordering::Relaxed);
        let (client, timeout) = (connection.client(), self.timeout);
        let late = |_| format!("no answer within {timeout:?}");
        let looking = self.watched.look(client);
        let suspects = tokio::time::timeout(timeout, looking).await.map_err(late)?;
        let suspects = suspects.map_err(|error| error.to_string())?;
        let same_suspects = self.suspects.as_ref() == Some(&suspects);
        let volatility = self.watched.volatility();
        let same_volatility = self.volatility.as_ref().is_some_and(|known| Arc::ptr_eq(known, &volatility));
        self.volatility = Some(Arc::clone(&volatility));
        if database.is_one_shard() {
            let mut same_proof = true;
            if database.has_readers {
                // Everything lives on the one shard, whatever else the configuration says of it.
                let rules = DatabaseRules::default();
                let reading = discover(client, &rules, epoch);
                let found = tokio::time::timeout(timeout, reading).await.map_err(late)?;
                let found = found.map_err(|error| error.to_string())?;
                is_still(&primary, database, shard)?;
                let fingerprint = found.catalog.fingerprint();
                same_proof = self.fingerprint == Some(fingerprint) && same_volatility && same_suspects;
                if !same_proof {
                    let proof = found.schema.with_suspects(Arc::clone(&suspects)).with_volatility(volatility);
                    database.proof.store(Some(Arc::new(proof.to_prove_reads())));
                    self.fingerprint = Some(fingerprint);
                }
            }
            if !same_suspects || !same_proof {
                let mut schema = Schema::one_shard().with_suspects(Arc::clone(&suspects));
                schema.epoch = epoch;
                database.schema.store(Some(Arc::new(schema)));
                self.suspects = Some(suspects);
            }
            return Ok(());
        }
        let reading = discover(client, &self.rules, epoch);
        let found = tokio::time::timeout(timeout, reading).await.map_err(late)?;
        let found = found.map_err(|error| error.to_string())?;
        is_still(&primary, database, shard)?;
        let types = match shard == database.topology.home.index() {
            true => Some(tokio::time::timeout(timeout, type_names(client)).await.map_err(late)??),
            false => None,
        };
        if let Some(types) = types {
            // Before the schema: what it lets statements do, their parameters' types are needed for.
            self.read_types(database, &types).await;
        }
        let fingerprint = found.catalog.fingerprint();
        if self.fingerprint == Some(fingerprint) && same_suspects && same_volatility {
            return Ok(());
        }
        for warning in &found.warnings {
            tracing::warn!(database = database.name, "{warning}");
        }
        let first = self.fingerprint.replace(fingerprint).is_none();
        tracing::info!(
            database = database.name,
            shard = database.shards[self.shard].name,
            tables = found.schema.tables().count(),
            "{}",
            if first { "schema read" } else { "schema has changed" }
        );
        let schema = found.schema.with_suspects(Arc::clone(&suspects)).with_volatility(volatility);
        database.schema.store(Some(Arc::new(schema)));
        self.suspects = Some(suspects);
        Ok(())
    }

    /// How users' types are called on the other shards. One that is down has none who ask it; one that
    /// cannot be asked keeps what is known of it.
    async fn read_types(&mut self, database: &Database, home: &TypeNames) {
        for (shard, known) in database.types.iter().enumerate() {
            let Some(known) = known else { continue };
            let Ok(primary) = primary_of(database, shard) else { continue };
            match self.types_of(database, shard, &primary).await {
                Ok(names) => {
                    let map = TypeMap::between(home, &names);
                    if known.load().as_deref() != Some(&map) {
                        known.store(Some(Arc::new(map)));
                    }
                }
                Err(why) => {
                    let was_asked = self.others.remove(&shard).is_some();
                    let shard = &database.shards[shard].name;
                    // Why one cannot be reached at all is told by its health.
                    if was_asked {
                        tracing::warn!(
                            database = database.name,
                            shard,
                            "cannot read the shard's types: {why}"
                        );
                    }
                }
            }
        }
    }

    async fn types_of(
        &mut self,
        database: &Database,
        shard: usize,
        primary: &Primary,
    ) -> Result<TypeNames, String> {
        let is_good =
            |(connection, at): &(ControlConnection, Primary)| at == primary && !connection.is_closed();
        if !self.others.get(&shard).is_some_and(is_good) {
            let connection = self.connect(database, shard, &primary.0).await?;
            self.others.insert(shard, (connection, primary.clone()));
        }
        let Some((connection, _)) = self.others.get(&shard) else { return Err("no connection".to_owned()) };
        let reading = tokio::time::timeout(self.timeout, type_names(connection.client()));
        let names = reading.await.map_err(|_| format!("no answer within {:?}", self.timeout))??;
        is_still(primary, database, shard)?;
        Ok(names)
    }

    /// The home shard. While that is down, another shard's schema does for sharded and reference
    /// tables, which is better than to refuse all; but only for want of any: one without the
    /// tables that live at home never replaces one that has them.
    fn shard_to_ask(&self, database: &Database) -> usize {
        let home = database.topology.home.index();
        let is_up = |shard: usize| database.shards[shard].board.load().roles.primary.is_ok();
        let from_home = self.shard == home && database.schema.load().is_some();
        if from_home || is_up(home) {
            return home;
        }
        (0..database.shards.len()).find(|shard| is_up(*shard)).unwrap_or(home)
    }

    /// To a shard's primary.
    async fn connect(
        &self,
        database: &Database,
        shard: usize,
        primary: &Endpoint,
    ) -> Result<ControlConnection, String> {
        let tls = &self.tls[shard];
        let shard = &database.shards[shard];
        let opening = ControlConnection::open(primary, &shard.dbname, &self.login, tls, self.timeout, || {});
        opening.await.map_err(|error| format!("shard {}: {error}", shard.name))
    }
}

/// Is there a shard that can be asked and has not been?
fn lacks_types(database: &Database) -> bool {
    let unread = |(shard, known): (usize, &Option<Arc<ArcSwapOption<TypeMap>>>)| {
        known.as_ref().is_some_and(|known| known.load().is_none()) && primary_of(database, shard).is_ok()
    };
    database.types.iter().enumerate().any(unread)
}

/// What users and extensions made; every table is a type, too.
async fn type_names(client: &tokio_postgres::Client) -> Result<TypeNames, String> {
    const QUERY: &str = "
        SELECT pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(t.typname), t.oid
          FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
         WHERE t.oid >= 16384 AND n.nspname !~ '^pg_(toast|temp)'";
    let rows = client.query(QUERY, &[]).await.map_err(|error| error.to_string())?;
    let named = |row: &tokio_postgres::Row| Some((row.try_get(0).ok()?, row.try_get(1).ok()?));
    rows.iter().map(named).collect::<Option<_>>().ok_or_else(|| "the types were not understood".to_owned())
}

/// Its address, and the timeline that it writes: another server may come to listen there.
type Primary = (Endpoint, Option<u32>);

/// Whom to ask: one that was replaced may live on, and know nothing of what is made since.
fn primary_of(database: &Database, shard: usize) -> Result<Primary, String> {
    let shard = &database.shards[shard];
    let snapshot = shard.board.load_full();
    let primary = snapshot.primary().map_err(|why| format!("shard {}: {why}", shard.name))?;
    let timeline = primary.health.probe.as_ref().and_then(|probe| probe.timeline);
    Ok((primary.address.clone(), timeline))
}

/// What it has said is worth nothing if it was replaced meanwhile.
fn is_still(primary: &Primary, database: &Database, shard: usize) -> Result<(), String> {
    match primary_of(database, shard)? == *primary {
        true => Ok(()),
        false => Err(format!("shard {}: its primary was replaced", database.shards[shard].name)),
    }
}

/// Reads a schema once, for a command that does not serve.
pub(super) async fn read_once(
    settings: &Settings,
    database: &config::Database,
    timeout: Duration,
) -> Result<Schema, String> {
    let shard = &database.shards[database.home];
    let config = client_config(shard.tls.mode, shard.tls.ca.as_deref()).map_err(|error| error.to_string())?;
    let tls = Tls { mode: shard.tls.mode, config };
    let login = Login { user: settings.control.user.clone(), password: settings.control.password.clone() };
    let mut failure = format!("shard {} has no endpoint", shard.name);
    for endpoint in &shard.endpoints {
        match ControlConnection::open(endpoint, &shard.dbname, &login, &tls, timeout, || {}).await {
            Ok(connection) => {
                let (client, mut watched) = (connection.client(), Watched::default());
                let reading = async {
                    let suspects = watched.look(client).await?;
                    let found = discover(client, &DatabaseRules::from(database), 1).await?;
                    Ok(found.schema.with_suspects(suspects).with_volatility(watched.volatility()))
                };
                return reading.await.map_err(|error: SchemaError| error.to_string());
            }
            Err(error) => failure = format!("shard {} at {endpoint}: {error}", shard.name),
        }
    }
    Err(failure)
}
