//! Shards with replicas, and pgring in front of them.

use crate::support::{Config, Proxy, database, eventually, own_servers, unique_name};
use pgring::demo::cluster::{Cluster, SUPERUSER, Settings};
use pgring::demo::sample::APP;

/// A primary and its replicas.
pub(crate) struct Shard {
    pub(crate) primary: Cluster,
    pub(crate) replicas: Vec<Cluster>,
}

impl Shard {
    /// `primary`, or `replica1`, `replica2` … by its port.
    pub(crate) fn name_of(&self, port: &str) -> String {
        let is = |server: &Cluster| server.port().to_string() == port;
        match self.replicas.iter().position(is) {
            Some(at) => format!("replica{}", at + 1),
            None if is(&self.primary) => "primary".to_owned(),
            None => port.to_owned(),
        }
    }

    /// All its servers; the primary last, for it is not to be taken for being first.
    pub(crate) fn endpoints(&self) -> Vec<String> {
        self.replicas.iter().chain([&self.primary]).map(Cluster::address).collect()
    }

    /// Waits until the replicas have all that the primary has.
    pub(crate) fn catch_up(&self) {
        let position = sql(&self.primary, "SELECT pg_current_wal_insert_lsn()");
        for replica in &self.replicas {
            // At the beginning of a page the one stands behind the header, and the other does not.
            let question = format!("SELECT '{position}'::pg_lsn - pg_last_wal_replay_lsn() <= 40");
            eventually("a replica has caught up", || sql(replica, &question) == "t");
        }
    }
}

/// As the superuser, in the database `postgres`.
pub(crate) fn sql(server: &Cluster, statement: &str) -> String {
    server.psql(SUPERUSER, "postgres", statement).unwrap().trim().to_owned()
}

/// Shards of the caller's own with so many replicas each.
pub(crate) fn shards(count: usize, replicas: usize) -> Vec<Shard> {
    let with_replicas = |primary: Cluster| {
        let replica = |_| {
            let data = primary.data().with_file_name(unique_name("replica"));
            primary.replica(&data, Settings { disposable: true, ..Settings::default() }).unwrap()
        };
        let replicas = (0..replicas).map(replica).collect();
        Shard { primary, replicas }
    };
    own_servers(count).into_iter().map(with_replicas).collect()
}

/// A database of this script on all of them, `app`'s own; its name.
pub(crate) fn fill(shards: &[Shard], script: &str) -> String {
    let primaries: Vec<&Cluster> = shards.iter().map(|shard| &shard.primary).collect();
    let name = database(&primaries, script);
    shards.iter().for_each(Shard::catch_up);
    name
}

/// Probes come often, and reads go to replicas where there are any.
pub(crate) fn config(name: &str, shards: &[Shard]) -> Config {
    let endpoints: Vec<Vec<String>> = shards.iter().map(Shard::endpoints).collect();
    Config::new()
        .set("health", "interval", "\"100ms\"")
        .set("health", "failover_hold", "\"1s\"")
        .set("routing", "reads", "\"prefer-replica\"")
        .database_at(name, &endpoints)
}

/// Started, and all of its endpoints known.
pub(crate) fn start(config: Config, shards: &[Shard]) -> Proxy {
    let proxy = Proxy::start(config);
    let known = || {
        shards.iter().flat_map(Shard::endpoints).all(|endpoint| {
            let (_, page) = proxy.get("/metrics");
            page.lines().any(|line| {
                line.starts_with("pgring_endpoint_up") && line.contains(&endpoint) && line.ends_with(" 1")
            })
        })
    };
    eventually("all endpoints are up", known);
    // What proves reads is read when the primary is known.
    eventually("the catalogs have been read", || {
        let dsn = proxy.dsn(APP, &proxy_database(&proxy));
        let port = crate::support::psql(&dsn, "SELECT current_setting('port')");
        port.ok && shards.iter().all(|shard| shard.name_of(port.out.trim()) != "primary")
    });
    proxy
}

fn proxy_database(proxy: &Proxy) -> String {
    let text = std::fs::read_to_string(proxy.config_file()).unwrap();
    let at = text.find("[[database]]\nname = \"").unwrap() + "[[database]]\nname = \"".len();
    text[at..].split('"').next().unwrap().to_owned()
}
