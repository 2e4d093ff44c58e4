//! Looks for deadlocks across shards, and has one transaction of each give way.
//!
//! Four times a second a database with several shards is asked who waits in a transaction on
//! several of them ([`Waiting`](crate::session::Waiting)): where nobody has for `deadlock_timeout`, that
//! is all. Else the servers concerned are asked by connections of pgring's own who blocks whom, and
//! [`Graph`] puts it together. Who blocks is not always known: it may be a transaction on one shard,
//! or another proxy's. So while there are such, the waiting transactions of this proxy stand in
//! `pgring.waiting` on the home shard, and those of the others are read there; then each of them sees
//! the whole, and only the victim's own does something about it.
//!
//! - `pgring.waiting` is nobody's but the control role's: it has texts of statements. It is unlogged,
//!   and a row that has not been renewed for two seconds counts for nothing.
//! - A server that cannot be asked leaves a hole, and no deadlock is found that goes through it.
//! - Where the control role may not make the table, the log says so once, and what is in one proxy is
//!   found as ever.

use super::serve::App;
use super::two_phase::objects;
use crate::config::{self, Endpoint, Settings};
use crate::error::{ClientError, SqlState};
use crate::pool::health::{ControlConnection, Login, Tls};
use crate::ring::ShardId;
use crate::session::{Database, Verdict, Wait, WorkerMessage};
use crate::txn::deadlock::{self, Deadlock, Graph, Hop, Id, Process, Transaction};
use rand::RngExt;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant, SystemTime};
use tokio::task::JoinSet;
use tokio_postgres::{Client, Row};

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(250);
/// Before the look that confirms what one has found.
const RECHECK: Duration = Duration::from_millis(100);
/// For so long after the limit other proxies may be just about to say who waits there.
const FRESH: Duration = Duration::from_secs(1);
/// What a server may take to answer.
const PATIENCE: Duration = Duration::from_secs(1);
/// Before one that could not be reached is tried again.
const AGAIN: Duration = Duration::from_secs(5);
/// How long a connection without use is kept.
const KEPT: Duration = Duration::from_secs(30);

/// Of the table. Another version of pgring would look elsewhere.
const VERSION: &str = "pgring 1";
const TABLE: &str = r"
CREATE SCHEMA IF NOT EXISTS pgring;
GRANT USAGE ON SCHEMA pgring TO PUBLIC;
DROP TABLE IF EXISTS pgring.waiting;
CREATE UNLOGGED TABLE pgring.waiting (
    proxy     uuid NOT NULL,
    session   bigint NOT NULL,
    wait      bigint NOT NULL,
    started   timestamptz NOT NULL,
    role      text NOT NULL,
    statement text NOT NULL,
    may_fall  boolean NOT NULL,
    parts     text[] NOT NULL,
    updated   timestamptz NOT NULL,
    PRIMARY KEY (proxy, session));
REVOKE ALL ON pgring.waiting FROM PUBLIC;
COMMENT ON TABLE pgring.waiting IS 'pgring 1';
COMMIT";

/// Two servers of one cluster, a primary and its replica, have the same system identifier.
const IDENTITY: &str = "SELECT system_identifier || '/' || \
    (extract(epoch FROM pg_postmaster_start_time()) * 1000000)::bigint FROM pg_control_system()";

/// From these processes on, as far as it goes.
const BLOCKED: &str = "WITH RECURSIVE w(waiter, blocker) AS ( \
    SELECT p, b FROM unnest($1::int[]) AS p, unnest(pg_blocking_pids(p)) AS b \
    UNION SELECT w.blocker, b FROM w, unnest(pg_blocking_pids(w.blocker)) AS b) \
    SELECT waiter, blocker FROM w";

const PUBLISH: &str = "INSERT INTO pgring.waiting AS w \
    (proxy, session, wait, started, role, statement, may_fall, parts, updated) \
    SELECT $1::text::uuid, n, v, t, r, q, m, string_to_array(p, ' '), clock_timestamp() \
    FROM unnest($2::bigint[], $3::bigint[], $4::timestamptz[], $5::text[], $6::text[], $7::boolean[], $8::text[]) \
    AS own(n, v, t, r, q, m, p) \
    ON CONFLICT (proxy, session) DO UPDATE SET wait = excluded.wait, started = excluded.started, \
    role = excluded.role, statement = excluded.statement, may_fall = excluded.may_fall, \
    parts = excluded.parts, updated = excluded.updated";
const RETRACT: &str =
    "DELETE FROM pgring.waiting WHERE proxy = $1::text::uuid AND session <> ALL ($2::bigint[])";
const OTHERS: &str = "SELECT proxy::text, session, wait, started, role, statement, may_fall, \
    array_to_string(parts, ' ') FROM pgring.waiting \
    WHERE proxy <> $1::text::uuid AND updated > clock_timestamp() - interval '2 s'";
/// What proxies that have died have left.
const SWEEP: &str = "DELETE FROM pgring.waiting WHERE updated < clock_timestamp() - interval '1 min'";

/// A waiting transaction, of any proxy.
struct Known {
    transaction: Transaction,
    role: String,
    statement: String,
}

/// A server that can be asked.
struct Server {
    connection: Arc<ControlConnection>,
    identity: Arc<str>,
    used: Instant,
}

type Address = (ShardId, Endpoint);

/// Looks for those of one database.
pub(super) struct Deadlocks {
    app: Weak<App>,
    database: Weak<Database>,
    proxy: u128,
    login: Login,
    tls: Vec<Tls>,
    servers: HashMap<Address, Server>,
    unreachable: HashMap<Address, Instant>,
    /// What the last look has seen.
    earlier: Graph,
    /// Others may have to know of the transactions that wait here.
    sharing: bool,
    complained: bool,
}

impl Deadlocks {
    /// Starts the task, which ends with the database.
    pub(super) fn watch(app: &App, settings: &Settings, database: &config::Database, made: &Arc<Database>) {
        if database.shards.len() == 1 {
            return;
        }
        let tls = made.shards.iter().map(|shard| Tls { mode: shard.tls, config: shard.tls_config.clone() });
        let deadlocks = Deadlocks {
            app: app.myself.clone(),
            database: Arc::downgrade(made),
            proxy: rand::rng().random(),
            login: Login { user: settings.control.user.clone(), password: settings.control.password.clone() },
            tls: tls.collect(),
            servers: HashMap::new(),
            unreachable: HashMap::new(),
            earlier: Graph::default(),
            sharing: false,
            complained: false,
        };
        app.runtime.spawn(deadlocks.run());
    }

    async fn run(mut self) {
        let mut pause = PAUSE;
        loop {
            tokio::time::sleep(pause).await;
            let (Some(app), Some(database)) = (self.app.upgrade(), self.database.upgrade()) else { return };
            let limit = app.directory.load().routing.deadlock_timeout;
            let own = if database.waiting.is_empty() { Vec::new() } else { database.waiting.all() };
            let is_due = own.iter().any(|wait| wait.since.elapsed() >= limit);
            pause = PAUSE;
            if is_due {
                let (graph, known) = self.look(&database, &own, limit).await;
                self.judge(&app, &database, &own, &graph, &known);
                let is_fresh = |wait: &Arc<Wait>| (limit..limit + FRESH).contains(&wait.since.elapsed());
                if !graph.deadlocks().is_empty() || self.sharing && own.iter().any(is_fresh) {
                    pause = RECHECK;
                }
                self.earlier = graph;
                continue;
            }
            self.rest(&database).await;
            for wait in own.iter().filter(|wait| wait.since.elapsed() >= limit / 2) {
                // So that no time goes by with that when it counts.
                self.known(&database, wait).await;
            }
        }
    }

    /// Nobody has waited for long.
    async fn rest(&mut self, database: &Database) {
        self.earlier = Graph::default();
        if std::mem::take(&mut self.sharing) {
            // Should it fail, the rows go out of date.
            let _ = self.exchange(database, &[]).await;
        }
        self.servers.retain(|_, server| server.used.elapsed() < KEPT);
    }

    /// Who waits for whom, and what is known of the transactions.
    async fn look(&mut self, database: &Database, own: &[Arc<Wait>], limit: Duration) -> (Graph, Vec<Known>) {
        let mut known = Vec::new();
        let mut long = Vec::new();
        for wait in own {
            let known_wait = self.known(database, wait).await;
            if wait.since.elapsed() >= limit {
                long.push(known.len());
            }
            known.push(known_wait);
        }
        let mut graph = Graph::default();
        known.iter().for_each(|one| graph.add(one.transaction.clone()));
        let asked = processes(&known);
        self.ask(&mut graph, &asked).await;
        self.sharing |= graph.has_strangers();
        if self.sharing {
            let published: Vec<&Known> = long.iter().filter_map(|at| known.get(*at)).collect();
            let others = self.exchange(database, &published).await;
            let theirs: BTreeSet<Process> = processes(&others).difference(&asked).cloned().collect();
            self.reach(database, &theirs).await;
            others.iter().for_each(|one| graph.add(one.transaction.clone()));
            known.extend(others);
            self.ask(&mut graph, &theirs).await;
        }
        (graph, known)
    }

    /// A wait of this proxy's. Parts on servers that cannot be asked are left out.
    async fn known(&mut self, database: &Database, wait: &Wait) -> Known {
        let mut parts = Vec::with_capacity(wait.parts.len());
        for part in &wait.parts {
            let address = (part.shard, part.key.endpoint.clone());
            if let Some(server) = self.server(database, &address).await {
                let process = Process { server, pid: part.key.pid };
                parts.push(deadlock::Part { process, bound: part.is_bound() });
            }
        }
        let transaction = Transaction {
            id: Id { proxy: self.proxy, session: wait.session },
            wait: wait.number,
            started: whole_microseconds(wait.started),
            may_fall: wait.may_fall,
            parts,
        };
        Known { transaction, role: wait.user.as_ref().into(), statement: wait.statement.as_ref().into() }
    }

    /// A server's identity, if it can be reached.
    async fn server(&mut self, database: &Database, address: &Address) -> Option<Arc<str>> {
        if let Some(server) = self.servers.get_mut(address)
            && !server.connection.is_closed()
        {
            server.used = Instant::now();
            return Some(Arc::clone(&server.identity));
        }
        if self.unreachable.get(address).is_some_and(|tried| tried.elapsed() < AGAIN) {
            return None;
        }
        match tokio::time::timeout(PATIENCE, self.connect(database, address)).await {
            Ok(Ok(server)) => {
                let identity = Arc::clone(&server.identity);
                self.unreachable.remove(address);
                self.servers.insert(address.clone(), server);
                Some(identity)
            }
            failed => {
                let why = match failed {
                    Ok(Err(why)) => why,
                    _ => format!("no answer within {PATIENCE:?}"),
                };
                tracing::warn!(
                    database = database.name,
                    shard = database.topology.name(address.0),
                    "deadlocks through this shard are not found: {why}"
                );
                self.unreachable.insert(address.clone(), Instant::now());
                None
            }
        }
    }

    async fn connect(&self, database: &Database, (shard, endpoint): &Address) -> Result<Server, String> {
        let (Some(at), Some(tls)) = (database.shards.get(shard.index()), self.tls.get(shard.index())) else {
            return Err("it is not configured".to_owned());
        };
        let opening = ControlConnection::open(endpoint, &at.dbname, &self.login, tls, PATIENCE, || {});
        let connection = opening.await.map_err(|error| error.to_string())?;
        let client = connection.client();
        let identity = async {
            client.batch_execute("SET search_path = pg_catalog").await?;
            client.query_one(IDENTITY, &[]).await?.try_get::<_, String>(0)
        };
        let identity = identity.await.map_err(|error| words(&error))?.into();
        Ok(Server { connection: Arc::new(connection), identity, used: Instant::now() })
    }

    /// Sees to it that the servers of these processes can be asked, as far as they are this
    /// database's.
    async fn reach(&mut self, database: &Database, processes: &BTreeSet<Process>) {
        let knows = |servers: &HashMap<Address, Server>, process: &Process| {
            servers.values().any(|server| server.identity == process.server)
        };
        if processes.iter().all(|process| knows(&self.servers, process)) {
            return;
        }
        for (shard, at) in database.topology.ids().zip(&database.shards) {
            let snapshot = at.board.load_full();
            if let Ok(primary) = snapshot.primary() {
                self.server(database, &(shard, primary.address.clone())).await;
            }
        }
    }

    /// Asks the servers who these processes wait for.
    async fn ask(&mut self, graph: &mut Graph, processes: &BTreeSet<Process>) {
        let mut asking = JoinSet::new();
        let mut asked = BTreeSet::new();
        for (address, server) in &self.servers {
            let own = processes.iter().filter(|process| process.server == server.identity);
            let pids: Vec<i32> = own.filter_map(|process| i32::try_from(process.pid).ok()).collect();
            // Two shards may be on one server.
            if pids.is_empty() || !asked.insert(Arc::clone(&server.identity)) {
                continue;
            }
            let (connection, identity) = (Arc::clone(&server.connection), Arc::clone(&server.identity));
            let address = address.clone();
            asking.spawn(async move {
                let asking = async { connection.client().query(BLOCKED, &[&pids]).await };
                (address, identity, tokio::time::timeout(PATIENCE, asking).await)
            });
        }
        while let Some(joined) = asking.join_next().await {
            let Ok((address, server, rows)) = joined else { continue };
            let Ok(Ok(rows)) = rows else {
                tracing::warn!(
                    "a server does not say who waits for whom; deadlocks through it are not found"
                );
                self.servers.remove(&address);
                continue;
            };
            for row in rows {
                let pid = |at| row.try_get::<_, i32>(at).ok().and_then(|pid| u32::try_from(pid).ok());
                if let (Some(waiter), Some(blocker)) = (pid(0), pid(1)) {
                    let process = |pid| Process { server: Arc::clone(&server), pid };
                    graph.blocked(process(waiter), process(blocker));
                }
            }
        }
    }

    /// Publishes who waits here, and reads who does elsewhere.
    async fn exchange(&mut self, database: &Database, own: &[&Known]) -> Vec<Known> {
        let home = database.topology.home;
        let primary = database.shards.get(home.index()).map(|shard| shard.board.load_full());
        let Some(Ok(primary)) = primary.as_ref().map(|snapshot| snapshot.primary()) else {
            return Vec::new();
        };
        let address = (home, primary.address.clone());
        if self.server(database, &address).await.is_none() {
            return Vec::new();
        }
        let Some(server) = self.servers.get(&address) else { return Vec::new() };
        let exchanged = async {
            let client = server.connection.client();
            prepare(client).await?;
            publish(client, self.proxy, own).await?;
            client.query(OTHERS, &[&uuid(self.proxy)]).await
        };
        match tokio::time::timeout(PATIENCE, exchanged).await {
            Ok(Ok(rows)) => rows.iter().filter_map(read).collect(),
            failed => {
                if !std::mem::replace(&mut self.complained, true) {
                    let why = match failed {
                        Ok(Err(error)) => words(&error),
                        _ => format!("no answer within {PATIENCE:?}"),
                    };
                    tracing::warn!(
                        database = database.name,
                        "deadlocks between several pgring are not found: {why} (the control role needs CREATE on \
                         the home shard's database)"
                    );
                }
                self.servers.remove(&address);
                Vec::new()
            }
        }
    }

    /// Has the victims among this proxy's transactions give way.
    fn judge(&self, app: &App, database: &Database, own: &[Arc<Wait>], graph: &Graph, known: &[Known]) {
        for deadlock in graph.persistent(&self.earlier).deadlocks() {
            if deadlock.victim.proxy != self.proxy {
                continue;
            }
            let Some(wait) = own.iter().find(|wait| wait.session == deadlock.victim.session) else {
                continue;
            };
            let shards = self.shards(database);
            let waiters: BTreeSet<(&Process, u32)> =
                deadlock.hops.iter().map(|hop| (&hop.waiter, hop.waiter.pid)).collect();
            let in_circle = |part: &crate::session::Part| {
                let server = self.servers.get(&(part.shard, part.key.endpoint.clone()));
                let pid = part.key.pid;
                server.is_some_and(|server| {
                    waiters.iter().any(|(waiter, own)| *own == pid && waiter.server == server.identity)
                })
            };
            let name = |shard: ShardId| Arc::from(database.topology.name(shard));
            let servers = wait.parts.iter().filter(|part| in_circle(part));
            let servers: Vec<_> = servers.map(|part| (Arc::clone(&part.key), name(part.shard))).collect();
            let detail = detail(&deadlock, graph, known, &shards);
            tracing::warn!(
                database = database.name,
                session = wait.session,
                transactions = detail.transactions,
                "a deadlock across shards; the youngest transaction gives way"
            );
            let error = ClientError::error(SqlState::DEADLOCK, "deadlock detected")
                .with_detail(detail.text)
                .with_hint(
                    "Repeat the transaction. Those that lock rows in one order do not block each other.",
                );
            let verdict = Verdict { session: wait.session, number: wait.number, servers, error };
            app.tell_workers(|| WorkerMessage::Fall(verdict.clone()));
        }
    }

    /// Which shard is on which server.
    fn shards<'d>(&self, database: &'d Database) -> BTreeMap<Arc<str>, &'d str> {
        let name = |((shard, _), server): (&Address, &Server)| {
            (Arc::clone(&server.identity), database.topology.name(*shard))
        };
        self.servers.iter().map(name).collect()
    }
}

/// What a client is told of a deadlock.
struct Detail {
    text: String,
    transactions: usize,
}

/// The circle, from the victim on. Texts of other roles' statements are not the client's to see.
fn detail(deadlock: &Deadlock, graph: &Graph, known: &[Known], shards: &BTreeMap<Arc<str>, &str>) -> Detail {
    let owner = |process: &Process| graph.owner(process).map(|transaction| transaction.id);
    let known_as = |id: Id| known.iter().find(|one| one.transaction.id == id);
    let role = known_as(deadlock.victim).map(|victim| victim.role.as_str());
    let own = |hop: &Hop| owner(&hop.waiter) == Some(deadlock.victim);
    let first = deadlock.hops.iter().position(own).unwrap_or(0);
    let (before, from) = deadlock.hops.split_at(first);
    let mut order = vec![deadlock.victim];
    let mut who = |process: &Process| match owner(process) {
        Some(id) if id == deadlock.victim => "this transaction".to_owned(),
        Some(id) => {
            let at = order.iter().position(|known| *known == id).unwrap_or_else(|| {
                order.push(id);
                order.len() - 1
            });
            format!("transaction {}", at + 1)
        }
        None => format!("process {}", process.pid),
    };
    let mut text = String::new();
    for hop in from.iter().chain(before) {
        let (waiter, blocker) = (who(&hop.waiter), who(&hop.blocker));
        let shard = shards.get(&hop.waiter.server).copied().unwrap_or("?");
        let separator = if text.is_empty() { "" } else { "\n" };
        // Writing to a string does not fail.
        let _ = write!(text, "{separator}On shard \"{shard}\" {waiter} waits for {blocker}");
        let statement = owner(&hop.waiter).and_then(known_as);
        let _ = match statement {
            Some(one) if Some(one.role.as_str()) == role => write!(text, ": {}", one.statement),
            Some(one) => write!(text, ": a statement of role \"{}\"", one.role),
            None => Ok(()),
        };
    }
    Detail { text, transactions: order.len() }
}

fn processes(of: &[Known]) -> BTreeSet<Process> {
    of.iter().flat_map(|one| &one.transaction.parts).map(|part| part.process.clone()).collect()
}

/// As a server keeps it.
fn whole_microseconds(time: SystemTime) -> SystemTime {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    SystemTime::UNIX_EPOCH + Duration::from_micros(u64::try_from(since.as_micros()).unwrap_or_default())
}

fn words(error: &tokio_postgres::Error) -> String {
    error.as_db_error().map_or_else(|| error.to_string(), |error| error.message().to_owned())
}

/// Makes the table where it is not, or not of this version.
/// An error of the server's.
const NOT_OURS: &str = "DO $$ BEGIN RAISE insufficient_privilege \
                        USING MESSAGE = 'the schema \"pgring\" belongs to somebody else'; END $$";

async fn prepare(client: &Client) -> Result<(), tokio_postgres::Error> {
    let made = "SELECT obj_description(to_regclass('pgring.waiting'), 'pg_class')";
    let version = |row: Row| row.try_get::<_, Option<String>>(0);
    if version(client.query_one(made, &[]).await?)?.as_deref() == Some(VERSION) {
        return Ok(());
    }
    if objects::stranger(client).await?.is_some() {
        return client.batch_execute(NOT_OURS).await;
    }
    client.batch_execute(objects::LOCK).await?;
    // Another proxy may have been first.
    if version(client.query_one(made, &[]).await?)?.as_deref() == Some(VERSION) {
        return client.batch_execute("COMMIT").await;
    }
    client.batch_execute(TABLE).await
}

async fn publish(client: &Client, proxy: u128, own: &[&Known]) -> Result<(), tokio_postgres::Error> {
    let proxy = uuid(proxy);
    let sessions: Vec<i64> = own.iter().map(|one| i64::from(one.transaction.id.session)).collect();
    client.execute(RETRACT, &[&proxy, &sessions]).await?;
    if own.is_empty() {
        return client.execute(SWEEP, &[]).await.map(drop);
    }
    // Numbers are counted, and have a thread's in front: 57 bits.
    let waits: Vec<i64> = own.iter().map(|one| one.transaction.wait.cast_signed()).collect();
    let started: Vec<SystemTime> = own.iter().map(|one| one.transaction.started).collect();
    let roles: Vec<&str> = own.iter().map(|one| one.role.as_str()).collect();
    let statements: Vec<&str> = own.iter().map(|one| one.statement.as_str()).collect();
    let may_fall: Vec<bool> = own.iter().map(|one| one.transaction.may_fall).collect();
    let parts: Vec<String> = own.iter().map(|one| written(&one.transaction.parts)).collect();
    let values: [&(dyn tokio_postgres::types::ToSql + Sync); 8] =
        [&proxy, &sessions, &waits, &started, &roles, &statements, &may_fall, &parts];
    client.execute(PUBLISH, &values).await.map(drop)
}

/// Another proxy's transaction; `None` where it cannot be read.
fn read(row: &Row) -> Option<Known> {
    let proxy: String = row.try_get(0).ok()?;
    let id = Id {
        proxy: u128::from_str_radix(&proxy.replace('-', ""), 16).ok()?,
        session: u32::try_from(row.try_get::<_, i64>(1).ok()?).ok()?,
    };
    let transaction = Transaction {
        id,
        wait: row.try_get::<_, i64>(2).ok()?.cast_unsigned(),
        started: row.try_get(3).ok()?,
        may_fall: row.try_get(6).ok()?,
        parts: parts(row.try_get(7).ok()?)?,
    };
    Some(Known { transaction, role: row.try_get(4).ok()?, statement: row.try_get(5).ok()? })
}

/// One word each: `server:pid:b`, or `f` for one that comes to its end by itself.
fn written(parts: &[deadlock::Part]) -> String {
    let word = |part: &deadlock::Part| {
        let deadlock::Part { process: Process { server, pid }, bound } = part;
        format!("{server}:{pid}:{}", if *bound { 'b' } else { 'f' })
    };
    parts.iter().map(word).collect::<Vec<_>>().join(" ")
}

fn parts(text: &str) -> Option<Vec<deadlock::Part>> {
    let part = |word: &str| {
        let (process, bound) = word.rsplit_once(':')?;
        let bound = match bound {
            "b" => true,
            "f" => false,
            _ => return None,
        };
        let (server, pid) = process.rsplit_once(':')?;
        Some(deadlock::Part { process: Process { server: server.into(), pid: pid.parse().ok()? }, bound })
    };
    text.split_whitespace().map(part).collect()
}

fn uuid(number: u128) -> String {
    let hex = format!("{number:032x}");
    let parts: Vec<&str> =
        [0..8, 8..12, 12..16, 16..20, 20..32].into_iter().filter_map(|range| hex.get(range)).collect();
    parts.join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_read_as_they_are_written() {
        for (text, count) in [("", Some(0)), ("7/9:4:b", Some(1)), ("7/9:4:b 8/1:5:f", Some(2))] {
            let read = parts(text);
            assert_eq!(read.as_ref().map(Vec::len), count, "{text}");
            assert_eq!(written(&read.unwrap()), text);
        }
        for text in ["7", "7:4", "7/9:4:x", "7/9:-4:b", "7/9:4:b 8"] {
            assert_eq!(parts(text), None, "{text}");
        }
    }

    #[test]
    fn proxies_are_named_as_uuids() {
        assert_eq!(uuid(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef), "01234567-89ab-cdef-0123-456789abcdef");
        assert_eq!(uuid(1), "00000000-0000-0000-0000-000000000001");
    }

    #[test]
    fn a_client_is_told_the_circle_and_nobody_elses_text() {
        let process = |server: &str, pid| Process { server: server.into(), pid };
        let known = |session, role: &str, statement: &str, processes: [Process; 2]| Known {
            transaction: Transaction {
                id: Id { proxy: 1, session },
                wait: 1,
                started: SystemTime::UNIX_EPOCH + Duration::from_secs(session.into()),
                may_fall: true,
                parts: processes.map(|process| deadlock::Part { process, bound: true }).into(),
            },
            role: role.into(),
            statement: statement.into(),
        };
        let check = |role: &str, expected: &str| {
            let known = [
                known(1, role, "UPDATE a", [process("x", 1), process("y", 1)]),
                known(2, "app", "UPDATE b", [process("x", 2), process("y", 2)]),
            ];
            let mut graph = Graph::default();
            known.iter().for_each(|one| graph.add(one.transaction.clone()));
            graph.blocked(process("x", 2), process("x", 7));
            graph.blocked(process("x", 7), process("x", 1));
            graph.blocked(process("y", 1), process("y", 2));
            let shards = BTreeMap::from([("x".into(), "s1"), ("y".into(), "s2")]);
            let found = graph.deadlocks();
            assert_eq!(found.len(), 1);
            let detail = detail(&found[0], &graph, &known, &shards);
            assert_eq!((detail.text.as_str(), detail.transactions), (expected, 2));
        };
        let circle = "On shard \"s1\" this transaction waits for process 7: UPDATE b\n\
                      On shard \"s1\" process 7 waits for transaction 2\n\
                      On shard \"s2\" transaction 2 waits for this transaction: ";
        check("app", &format!("{circle}UPDATE a"));
        check("boss", &format!("{circle}a statement of role \"boss\""));
    }
}
