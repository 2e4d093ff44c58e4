//! The validated settings. Each later room gets its own slice of them, never the whole.
//!
//! What a key means and its default stand in the manual and in `config/pgring.toml`; a field
//! here has the key's name.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// A whole, valid configuration.
#[derive(Clone, PartialEq, Debug)]
pub struct Settings {
    /// In gids, logs and metrics. Letters, digits, `_`, `-` and `.` only.
    pub cluster: String,
    /// Where clients connect.
    pub listen: Listen,
    /// Connections over TCP, on both sides.
    pub tcp: Tcp,
    /// Metrics and health.
    pub http: Http,
    /// pgring's own connections.
    pub control: Control,
    /// Users who are not in the file.
    pub auth: Auth,
    /// Who may use the console.
    pub admin: Admin,
    /// Pools of server connections.
    pub pool: Pool,
    /// Probing of endpoints.
    pub health: Health,
    /// Where statements may go.
    pub routing: Routing,
    /// Who may log in. Names are unique; none only where others are looked up.
    pub users: Vec<User>,
    /// What clients may connect to. Names are unique; at least one.
    pub databases: Vec<Database>,
}

impl Settings {
    /// The user with this name.
    pub fn user(&self, name: &str) -> Option<&User> {
        self.users.iter().find(|user| user.name == name)
    }

    /// The database with this name.
    pub fn database(&self, name: &str) -> Option<&Database> {
        self.databases.iter().find(|database| database.name == name)
    }
}

/// `[listen]`
#[derive(Clone, PartialEq, Debug)]
pub struct Listen {
    /// At least one; no two alike.
    pub addresses: Vec<ListenAddress>,
    /// How many clients at once.
    pub max_clients: usize,
    /// How long a client may take to log in.
    pub login_timeout: Duration,
    /// How long transactions may finish after SIGTERM; zero: not at all.
    pub drain_timeout: Duration,
    /// Where the pgrings of this host find each other.
    pub runtime_dir: RuntimeDir,
    /// TLS towards clients.
    pub tls: ListenTls,
}

/// Where the pgrings of a host find each other.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RuntimeDir {
    /// Where systems have such directories.
    Usual,
    /// Nowhere: each is on its own.
    Off,
    /// Here; absolute if the configuration's path is.
    At(PathBuf),
}

/// `[tcp]`: what the system is asked to do for a connection whose other end has gone silent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tcp {
    /// None: it is not probed.
    pub keepalive: Option<Keepalive>,
    /// How long sent data may stay unacknowledged. None: as long as the system retransmits.
    pub user_timeout: Option<Duration>,
}

/// Whole seconds, as the system counts them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Keepalive {
    /// Silence before the first probe.
    pub idle: Duration,
    /// Between two probes.
    pub interval: Duration,
    /// Unanswered probes before the connection is given up.
    pub count: u32,
}

/// A socket to listen on.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum ListenAddress {
    /// Port 0 lets the system choose.
    Tcp(SocketAddr),
    /// A socket file in a directory, named as PostgreSQL names its own.
    Unix {
        /// The directory; absolute if the configuration's path is.
        dir: PathBuf,
        /// The number in the socket file's name.
        port: u16,
    },
}

impl ListenAddress {
    /// The socket's file, for a Unix socket.
    pub fn socket_file(&self) -> Option<PathBuf> {
        match self {
            ListenAddress::Tcp(_) => None,
            ListenAddress::Unix { dir, port } => Some(dir.join(socket_name(*port))),
        }
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ListenAddress::Tcp(address) => address.fmt(f),
            ListenAddress::Unix { dir, port } => write!(f, "unix:{}:{port}", dir.display()),
        }
    }
}

/// TLS towards clients.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ListenTls {
    /// An SSLRequest is declined.
    Disable,
    /// The client chooses.
    Allow(TlsFiles),
    /// Without TLS a client is turned away.
    Require(TlsFiles),
}

/// Files that could be read when the settings were validated.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TlsFiles {
    /// PEM: the server's certificate and what signed it.
    pub certificate: PathBuf,
    /// PEM: its private key.
    pub key: PathBuf,
    /// PEM: who signs the certificates of clients; present: clients are asked for one.
    pub client_ca: Option<PathBuf>,
}

/// `[http]`
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Http {
    /// None: no HTTP.
    pub address: Option<SocketAddr>,
}

/// `[control]`
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Control {
    /// The role of health, recovery and schema connections.
    pub user: String,
    /// None: the server is expected to ask for none.
    pub password: Option<Secret>,
    /// Whether the file has a `[control]` section at all.
    pub given: bool,
}

/// `[auth]`
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Auth {
    /// Where users are looked up who are not in the file; none: nowhere.
    pub source: Option<UserSource>,
    /// How long an answer is good for; zero: for the logins that wait for it.
    pub cache: Duration,
    /// How many answers are kept at most; at least one.
    pub cache_size: usize,
}

/// Where users are looked up.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum UserSource {
    /// In `pg_authid`, which takes a superuser or a grant.
    Catalog,
    /// By a function of the database.
    Function(FunctionName),
}

/// A function as a statement may name it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FunctionName {
    /// As the catalog spells it.
    pub schema: String,
    /// As the catalog spells it.
    pub name: String,
}

impl fmt::Display for FunctionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.schema, self.name)
    }
}

/// `[admin]`: names of users that exist, or may exist in the database.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Admin {
    /// May do everything in the console.
    pub users: Vec<String>,
    /// May only look.
    pub stats_users: Vec<String>,
}

/// `[pool]`
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pool {
    /// When a server connection goes back to its pool.
    pub mode: PoolMode,
    /// Server connections for each endpoint, database and user; at least one.
    pub size: usize,
    /// At most `size`.
    pub min_idle: usize,
    /// How long a client waits for a server connection.
    pub checkout_timeout: Duration,
    /// How long a server connection may be idle.
    pub idle_timeout: Duration,
    /// How old a server connection may become.
    pub max_lifetime: Duration,
    /// How long connecting and logging in to a server may take.
    pub connect_timeout: Duration,
    /// None: for ever.
    pub query_timeout: Option<Duration>,
    /// None: for ever.
    pub idle_transaction_timeout: Option<Duration>,
    /// None: for ever.
    pub client_idle_timeout: Option<Duration>,
    /// Kept on each server connection; at least one.
    pub prepared_statements: usize,
}

/// When a server connection goes back to its pool.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PoolMode {
    /// At the end of a transaction.
    Transaction,
    /// When the client leaves.
    Session,
}

/// `[health]`
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Health {
    /// Between two probes of an endpoint.
    pub interval: Duration,
    /// How long a probe may take.
    pub timeout: Duration,
    /// In a row before an endpoint is down; at least one.
    pub failures: u32,
    /// A replica further behind serves no reads.
    pub max_replica_lag: Duration,
    /// How long new transactions wait for a new primary; zero: not at all.
    pub failover_hold: Duration,
}

/// `[routing]`
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Routing {
    /// Where reads go that carry no hint.
    pub reads: Reads,
    /// A session never reads behind its own writes.
    pub read_your_writes: bool,
    /// How long a read waits for a replica to have replayed them, before it goes to the primary.
    pub read_your_writes_wait: Duration,
    /// What may touch several shards.
    pub cross_shard: CrossShard,
    /// Most a cross-shard statement may hold in the proxy.
    pub gather_memory_bytes: u64,
    /// Most it may copy into temporary tables.
    pub gather_limit_bytes: u64,
    /// How long a transaction on several shards waits before a cycle is looked for.
    pub deadlock_timeout: Duration,
}

/// Where reads go that carry no hint.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reads {
    /// To the primary.
    Primary,
    /// To a replica, and nowhere else.
    Replica,
    /// To a replica if one is healthy.
    PreferReplica,
}

impl Reads {
    /// By their names; the first is the default.
    pub(super) const CHOICES: [(&'static str, Reads); 3] =
        [("primary", Reads::Primary), ("replica", Reads::Replica), ("prefer-replica", Reads::PreferReplica)];

    /// As the file spells it.
    pub fn name(self) -> &'static str {
        match self {
            Reads::Primary => "primary",
            Reads::Replica => "replica",
            Reads::PreferReplica => "prefer-replica",
        }
    }
}

/// What may touch several shards.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CrossShard {
    /// Everything that can be done rightly.
    Allow,
    /// Reads.
    ReadOnly,
    /// Nothing.
    Refuse,
}

/// `[[user]]`
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct User {
    /// Unique, at most 63 bytes.
    pub name: String,
    /// Plain, a well-formed `SCRAM-SHA-256$…` verifier, or `md5` and 32 hexadecimal digits.
    pub password: Secret,
    /// What pgring uses towards PostgreSQL; none: `password`, or if that is a hash, what the
    /// client shows.
    pub server_password: Option<Secret>,
}

/// `[[database]]`
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Database {
    /// What clients put in their DSN; never the console's.
    pub name: String,
    /// Every table with this column is sharded by it. Always there with several shards.
    pub key: Option<String>,
    /// For each unit of weight.
    pub virtual_nodes: u32,
    /// Index in `shards`: where tables live that are not sharded.
    pub home: usize,
    /// Where its reads go that carry no hint; none: as `routing.reads` says.
    pub reads: Option<Reads>,
    /// Tables that differ from the rule of `key`.
    pub tables: Vec<TableSetting>,
    /// At least one; names are unique.
    pub shards: Vec<Shard>,
}

impl Database {
    /// The shards' names and weights in their order, as a topology is made of.
    pub fn weights(&self) -> Vec<(String, u32)> {
        self.shards.iter().map(|shard| (shard.name.clone(), shard.weight)).collect()
    }
}

/// `[[database.table]]`: exactly one of `key` and `reference`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TableSetting {
    /// As the catalog spells it; may be `schema.table`.
    pub name: String,
    /// This table's own name for the key.
    pub key: Option<String>,
    /// The same rows on every shard.
    pub reference: bool,
}

/// `[[database.shard]]`
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Shard {
    /// Letters, digits, `_`, `-` and `.` only; never `all`.
    pub name: String,
    /// The database's name on the servers.
    pub dbname: String,
    /// Share of the ring; at least one.
    pub weight: u32,
    /// Primary and replicas; at least one.
    pub endpoints: Vec<Endpoint>,
    /// Replicas for analytical reads only.
    pub analytics: Vec<Endpoint>,
    /// Members of the Patroni that looks after them, by their REST interfaces; may be none.
    pub patroni: Vec<Endpoint>,
    /// TLS towards these servers.
    pub tls: ServerTls,
}

/// TLS towards a shard's servers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ServerTls {
    /// How much of it.
    pub mode: TlsMode,
    /// PEM: who signs the servers' certificates; none: the well-known authorities.
    pub ca: Option<PathBuf>,
}

/// As libpq's `sslmode`; as there, a CA that is named is checked under every mode with TLS.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TlsMode {
    /// Plain text.
    Disable,
    /// If the server can.
    Prefer,
    /// Encrypted; without a CA of its own, whoever the server is.
    Require,
    /// Encrypted, and the certificate is valid for the host's name.
    VerifyFull,
}

/// A PostgreSQL server's address.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Endpoint {
    /// Over TCP.
    Tcp {
        /// A name or an IP address, in lower case, without brackets.
        host: String,
        /// Never 0.
        port: u16,
    },
    /// Over a socket file.
    Unix {
        /// The directory of the socket file.
        dir: PathBuf,
        /// The number in its name.
        port: u16,
    },
}

impl Endpoint {
    /// The socket's file, for a Unix socket.
    pub fn socket_file(&self) -> Option<PathBuf> {
        match self {
            Endpoint::Tcp { .. } => None,
            Endpoint::Unix { dir, port } => Some(dir.join(socket_name(*port))),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Endpoint::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Endpoint::Tcp { host, port } => write!(f, "{host}:{port}"),
            Endpoint::Unix { dir, port } => write!(f, "unix:{}:{port}", dir.display()),
        }
    }
}

fn socket_name(port: u16) -> String {
    format!(".s.PGSQL.{port}")
}

/// A text that is neither logged nor shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Hides a text.
    pub fn new(text: impl Into<String>) -> Secret {
        Secret(text.into())
    }

    /// The text itself.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}
