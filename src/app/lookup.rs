//! Asking a database's first shard for a user: `[auth]`.
//!
//! On connections of pgring's own, one a database, logged in as the control role. Nothing a client
//! sends reaches them but the user's name, as a parameter: not its start-up parameters, not its
//! `search_path` (PgBouncer's CVE-2025-12819). Theirs is fixed, and every name in
//! their two statements is qualified all the same.

use super::serve::App;
use crate::auth::{Keyring, Verifier};
use crate::config::{Endpoint, FunctionName, Settings, UserSource};
use crate::pool::health::connector::cause;
use crate::pool::health::{ControlConnection, Login, NoPrimary, Tls};
use crate::pool::{Registry, Shard, ShardUser};
use crate::session::{AskDatabase, Database, Lookup, LookupAnswer as Answer, LookupError, Role, User};
use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant, SystemTime};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Row, SimpleQueryMessage};

/// The longest name of a role: `NAMEDATALEN` without its NUL.
const LONGEST_NAME: usize = 63;

/// A temporary object, which only the control role itself could have made, comes last.
const FIXED_PATH: &str = "SET search_path = pg_catalog, pg_temp";

/// The keyrings of users who were looked up, as long as a session or a pool has one. They outlive
/// what is remembered of the users, so that a user's sessions and pools all have the same.
#[derive(Default)]
pub(super) struct Keyrings(Mutex<HashMap<(String, String), Weak<Keyring>>>);

impl Keyrings {
    /// This user's, following the verifier in force.
    fn following(&self, database: &str, name: &str, verifier: &Verifier) -> Arc<Keyring> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (database.to_owned(), name.to_owned());
        if let Some(known) = all.get(&key).and_then(Weak::upgrade) {
            known.follow(Some(verifier));
            return known;
        }
        if all.len() == all.capacity() {
            all.retain(|_, keyring| keyring.strong_count() > 0);
        }
        let made = Arc::new(Keyring::of_verifier(verifier));
        all.insert(key, Arc::downgrade(&made));
        made
    }

    /// There is no verifier any more: what was on the keyring is forgotten.
    fn clear(&self, database: &str, name: &str) {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = all.get(&(database.to_owned(), name.to_owned())).and_then(Weak::upgrade) {
            known.follow(None);
        }
    }
}

/// Asks.
#[derive(Clone)]
struct Asker {
    runtime: Handle,
    shared: Arc<Shared>,
}

struct Shared {
    statement: String,
    login: Login,
    timeout: Duration,
    keyrings: Arc<Keyrings>,
    registry: Arc<Registry>,
    /// By database.
    connections: Mutex<HashMap<String, Arc<tokio::sync::Mutex<Option<Open>>>>>,
}

/// A connection, and where it leads.
#[derive(Clone)]
struct Open {
    endpoint: Endpoint,
    connection: Arc<ControlConnection>,
}

impl App {
    /// What looks users up as these settings say, if they do.
    pub(super) fn lookup(&self, settings: &Settings) -> Option<Arc<Lookup>> {
        let source = settings.auth.source.as_ref()?;
        let shared = Shared {
            statement: statement(source),
            login: Login { user: settings.control.user.clone(), password: settings.control.password.clone() },
            timeout: settings.pool.connect_timeout,
            keyrings: Arc::clone(&self.keyrings),
            registry: Arc::clone(&self.registry),
            connections: Mutex::default(),
        };
        let asker = Asker { runtime: self.runtime.clone(), shared: Arc::new(shared) };
        let console = settings.databases.first().map(|database| database.name.clone());
        Some(Arc::new(Lookup::new(Box::new(asker), &settings.auth, console.unwrap_or_default())))
    }
}

/// Name, verifier, end of its validity, whether it may log in, and the server's time to compare
/// with.
fn statement(source: &UserSource) -> String {
    match source {
        UserSource::Catalog => {
            "SELECT rolname::pg_catalog.text, rolpassword::pg_catalog.text, rolvaliduntil, \
             rolcanlogin, pg_catalog.now() FROM pg_catalog.pg_authid \
             WHERE rolname OPERATOR(pg_catalog.=) $1::pg_catalog.name"
                .to_owned()
        }
        // Validated as plain identifiers; quoted, they are no keywords either.
        UserSource::Function(FunctionName { schema, name }) => format!(
            "SELECT found.*, pg_catalog.now() FROM \"{schema}\".\"{name}\"($1::pg_catalog.text) AS found"
        ),
    }
}

impl AskDatabase for Asker {
    fn ask(&self, database: Arc<Database>, name: String, answer: watch::Sender<Option<Answer>>) {
        let shared = Arc::clone(&self.shared);
        self.runtime.spawn(async move {
            let found = shared.look_up(&database, &name).await;
            if let Err(error) = &found {
                tracing::warn!(database = database.name, "cannot look a user up: {error}");
            }
            answer.send_replace(Some(found));
        });
    }
}

impl Shared {
    async fn look_up(&self, database: &Database, name: &str) -> Answer {
        let Some(shard) = database.shards.first().filter(|_| name.len() <= LONGEST_NAME) else {
            return Ok(None);
        };
        let asked = Instant::now();
        let row = match self.ask_shard(database, shard, name).await {
            // A server that was restarted has closed the connection, which shows on use.
            Err(Failure::Lost(_)) => self.ask_shard(database, shard, name).await,
            answered => answered,
        };
        let row = row.map_err(|failure| failure.of(shard))?;
        let found = row.map(|row| RoleRow::read(&row)).transpose();
        // A function that returns no set has a row of NULLs for want of one.
        let found = found.map_err(|reason| refused(shard, reason))?.filter(|found| found.name.is_some());
        let Some(found) = found else {
            self.keyrings.clear(&database.name, name);
            self.registry.retire_user(&database.name, name);
            return Ok(None);
        };
        if found.name.as_deref() != Some(name) {
            return Err(refused(shard, "it answers with another name than it was asked for".to_owned()));
        }
        let verifier = found.verifier.as_deref().and_then(Verifier::stored);
        if verifier.is_none() {
            self.keyrings.clear(&database.name, name);
        }
        let user = verifier.map(|verifier| {
            let keyring = self.keyrings.following(&database.name, name, &verifier);
            let server = Arc::new(ShardUser { name: name.to_owned(), keyring });
            Arc::new(User { verifier, server })
        });
        let expires = found.left.map(|left| asked + left);
        Ok(Some(Arc::new(Role { user, expires, can_login: found.can_login })))
    }

    async fn ask_shard(
        &self,
        database: &Database,
        shard: &Shard,
        name: &str,
    ) -> Result<Option<Row>, Failure> {
        let connection = self.connection(database, shard).await?;
        let client = connection.client();
        let answered = tokio::time::timeout(self.timeout, client.query_opt(&self.statement, &[&name]))
            .await
            .map_err(|_| Failure::Slow(format!("no answer within {:?}", self.timeout)))?;
        match answered {
            Ok(row) => Ok(row),
            Err(error) if client.is_closed() => Err(Failure::Lost(cause(&error))),
            // A name that the server's encoding cannot write is nobody's.
            Err(error) if error.code().is_some_and(is_about_the_name) => Ok(None),
            Err(error) => match error.as_db_error() {
                Some(server) if server.code() == &SqlState::ADMIN_SHUTDOWN => {
                    Err(Failure::Lost(cause(&error)))
                }
                _ => Err(Failure::Refused(cause(&error))),
            },
        }
    }

    /// To the first shard's primary: the one that is open, or a new one.
    async fn connection(
        &self,
        database: &Database,
        shard: &Shard,
    ) -> Result<Arc<ControlConnection>, Failure> {
        let place = {
            let mut connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(connections.entry(database.name.clone()).or_default())
        };
        let endpoint = primary(shard).await?;
        let mut place = place.lock().await;
        if let Some(open) = place.as_ref().filter(|open| open.endpoint == endpoint)
            && !open.connection.is_closed()
        {
            return Ok(Arc::clone(&open.connection));
        }
        let tls = Tls { mode: shard.tls, config: shard.tls_config.clone() };
        let opening =
            ControlConnection::open(&endpoint, &shard.dbname, &self.login, &tls, self.timeout, || {});
        let opened = opening.await.map_err(|error| Failure::Unreachable(error.to_string()))?;
        let connection = Arc::new(opened);
        fix_path(&connection, self.timeout).await?;
        *place = Some(Open { endpoint, connection: Arc::clone(&connection) });
        Ok(connection)
    }
}

/// The shard's primary, waiting for one as a transaction would.
async fn primary(shard: &Shard) -> Result<Endpoint, Failure> {
    let now = || shard.board.load().primary().map(|endpoint| endpoint.address.clone()).map_err(Clone::clone);
    if let Err(NoPrimary::Unknown) = now() {
        shard.board.wait_for_verdict(shard.failover_hold).await;
    }
    if now().is_err() && shard.had_primary.load(Ordering::Relaxed) {
        // What it found, or why not, is what is looked at next.
        let _ = shard.board.wait_for_primary(shard.failover_hold).await;
    }
    let found = now().map_err(|why| Failure::Unreachable(why.to_string()))?;
    shard.had_primary.store(true, Ordering::Relaxed);
    Ok(found)
}

/// Before anything else is asked. `ALTER ROLE … SET search_path` has no say.
async fn fix_path(connection: &ControlConnection, timeout: Duration) -> Result<(), Failure> {
    let asking = connection.client().simple_query(FIXED_PATH);
    match tokio::time::timeout(timeout, asking).await {
        Ok(Ok(answer)) if answer.iter().any(|m| matches!(m, SimpleQueryMessage::CommandComplete(_))) => {
            Ok(())
        }
        Ok(Ok(_)) => Err(Failure::Refused("SET search_path had no effect".to_owned())),
        Ok(Err(error)) => Err(Failure::Unreachable(cause(&error))),
        Err(_) => Err(Failure::Slow(format!("no answer within {timeout:?}"))),
    }
}

/// `character_not_in_repertoire`, `untranslatable_character`, `name_too_long`.
fn is_about_the_name(code: &SqlState) -> bool {
    [&SqlState::CHARACTER_NOT_IN_REPERTOIRE, &SqlState::UNTRANSLATABLE_CHARACTER, &SqlState::NAME_TOO_LONG]
        .contains(&code)
}

enum Failure {
    Lost(String),
    Slow(String),
    Unreachable(String),
    Refused(String),
}

impl Failure {
    fn of(self, shard: &Shard) -> LookupError {
        match self {
            Failure::Lost(reason) | Failure::Slow(reason) | Failure::Unreachable(reason) => {
                LookupError::Shard { shard: shard.name.clone(), reason }
            }
            Failure::Refused(reason) => refused(shard, reason),
        }
    }
}

fn refused(shard: &Shard, reason: String) -> LookupError {
    LookupError::Refused { shard: shard.name.clone(), reason }
}

/// A row of either statement. A function may leave the third and the fourth column out.
struct RoleRow {
    name: Option<String>,
    verifier: Option<String>,
    /// How long the password is still good; for ever without.
    left: Option<Duration>,
    can_login: bool,
}

impl RoleRow {
    fn read(row: &Row) -> Result<RoleRow, String> {
        const EXPECTED: &str = "its columns must be (name text, verifier text, valid_until timestamptz, \
                                can_login boolean), of which the last two may be missing";
        let columns = row.len() - 1;
        if !(2..=4).contains(&columns) {
            return Err(EXPECTED.to_owned());
        }
        let wrong = |error: tokio_postgres::Error| format!("{EXPECTED}: {}", cause(&error));
        let now: SystemTime = row.try_get(columns).map_err(wrong)?;
        let until: Option<SystemTime> = match columns {
            2 => None,
            _ => row.try_get(2).map_err(wrong)?,
        };
        Ok(RoleRow {
            name: row.try_get(0).map_err(wrong)?,
            verifier: row.try_get(1).map_err(wrong)?,
            left: until.and_then(|until| left(until, now)),
            can_login: columns < 4 || row.try_get::<_, Option<bool>>(3).map_err(wrong)?.unwrap_or(false),
        })
    }
}

/// `infinity` is so far away that no clock of ours reaches it.
fn left(until: SystemTime, now: SystemTime) -> Option<Duration> {
    const AGES: Duration = Duration::from_secs(86_400 * 365 * 100);
    let left = until.duration_since(now).unwrap_or_default();
    (left < AGES).then_some(left)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_qualified() {
        let function = FunctionName { schema: "pgring".to_owned(), name: "user".to_owned() };
        assert_eq!(
            statement(&UserSource::Function(function)),
            "SELECT found.*, pg_catalog.now() FROM \"pgring\".\"user\"($1::pg_catalog.text) AS found"
        );
        let catalog = statement(&UserSource::Catalog);
        assert!(catalog.contains("FROM pg_catalog.pg_authid") && catalog.contains("OPERATOR(pg_catalog.=)"));
    }

    #[test]
    fn how_long_a_password_is_good() {
        let now = SystemTime::now();
        let second = Duration::from_secs(1);
        assert_eq!(left(now + second, now), Some(second));
        assert_eq!(left(now - second, now), Some(Duration::ZERO));
        assert_eq!(left(now, now), Some(Duration::ZERO));
        assert_eq!(left(now + Duration::from_secs(1 << 40), now), None);
    }

    #[test]
    fn keyrings_are_shared_while_somebody_has_them() {
        let keyrings = Keyrings::default();
        let verifier = Verifier::parse("secret").unwrap();
        let first = keyrings.following("d", "bob", &verifier);
        assert!(Arc::ptr_eq(&first, &keyrings.following("d", "bob", &verifier)));
        assert!(!Arc::ptr_eq(&first, &keyrings.following("e", "bob", &verifier)));
        for name in 0..1000 {
            keyrings.following("d", &name.to_string(), &verifier);
        }
        assert!(keyrings.0.lock().unwrap().len() < 500, "those that nobody has are forgotten");
        assert!(Arc::ptr_eq(&first, &keyrings.following("d", "bob", &verifier)));
    }
}
