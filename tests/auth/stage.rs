//! Roles on servers, and a proxy that looks them up.

use pgring::demo::cluster::{Cluster, Login, SUPERUSER};

use crate::support::raw::{Frame, Raw, V3_0};
use crate::support::{Config, Proxy, database, eventually, servers, unique_name};

/// A database on some of the shared servers, and the proxy in front of it.
pub(crate) struct Stage {
    pub(crate) proxy: Proxy,
    pub(crate) config: Config,
    pub(crate) name: String,
    pub(crate) servers: Vec<&'static Cluster>,
}

impl Stage {
    /// That looks users up in `pg_authid`. Rights to a catalog are each database's own.
    pub(crate) fn reading_the_catalog(shards: usize) -> Stage {
        Stage::new(shards, "GRANT SELECT ON pg_catalog.pg_authid TO pgring", |config| {
            config.set("auth", "query", "true")
        })
    }

    pub(crate) fn new(shards: usize, script: &str, change: impl FnOnce(Config) -> Config) -> Stage {
        let servers = servers(shards);
        let name = database(&servers, "");
        for server in &servers {
            superuser(server, &name, script);
        }
        let config = change(Config::new().database(&name, &servers));
        Stage { proxy: Proxy::start(config.clone()), config, name, servers }
    }

    pub(crate) fn superuser(&self, shard: usize, sql: &str) -> String {
        superuser(self.servers[shard], &self.name, sql)
    }

    /// A new role with one verifier on all shards.
    pub(crate) fn role(&self, options: &str) -> String {
        let name = unique_name("role");
        create(&self.servers, &name, options);
        name
    }

    /// Logs in: all that came, up to the end or readiness.
    pub(crate) fn attempt(&self, name: &str, password: &str) -> (Raw, Vec<Frame>) {
        attempt(&self.proxy.address(), name, password, &self.name)
    }

    /// What became of a login.
    pub(crate) fn outcome(&self, name: &str, password: &str) -> String {
        outcome(&self.attempt(name, password).1)
    }

    #[track_caller]
    pub(crate) fn session(&self, name: &str, password: &str) -> Raw {
        let (raw, frames) = self.attempt(name, password);
        assert_eq!(outcome(&frames), "in", "{frames:?}\n{}", self.proxy.log());
        raw
    }

    /// pgring's server connections as this role, on all shards.
    pub(crate) fn connections_of(&self, role: &str) -> usize {
        let count = format!("SELECT count(*) FROM pg_stat_activity WHERE usename = '{role}'");
        (0..self.servers.len()).map(|shard| self.superuser(shard, &count).parse::<usize>().unwrap()).sum()
    }

    /// Reloads, and waits until it has been done.
    pub(crate) fn reload(&mut self, config: Config) {
        let before = self.proxy.log().matches("configuration reloaded").count();
        self.config = config.clone();
        self.proxy.reload(config);
        eventually("it is reloaded", || self.proxy.log().matches("configuration reloaded").count() > before);
    }
}

pub(crate) fn superuser(server: &Cluster, database: &str, sql: &str) -> String {
    server.psql(SUPERUSER, database, sql).unwrap().trim().to_owned()
}

pub(crate) fn verifier(server: &Cluster, role: &str) -> String {
    superuser(server, "postgres", &format!("SELECT rolpassword FROM pg_authid WHERE rolname = '{role}'"))
}

/// Creates a role on the first server, and with the same verifier on the others.
pub(crate) fn create(servers: &[&Cluster], name: &str, options: &str) {
    superuser(servers[0], "postgres", &format!("CREATE ROLE \"{name}\" {options}"));
    let verifier = verifier(servers[0], name);
    for other in &servers[1..] {
        superuser(other, "postgres", &format!("CREATE ROLE \"{name}\" {options}"));
        if !verifier.is_empty() {
            superuser(other, "postgres", &format!("ALTER ROLE \"{name}\" PASSWORD '{verifier}'"));
        }
    }
}

pub(crate) fn attempt(address: &str, name: &str, password: &str, database: &str) -> (Raw, Vec<Frame>) {
    let mut raw = Raw::tcp(address);
    let frames = raw.start_up(Login { name, password }, database, V3_0, &[]);
    (raw, frames)
}

/// `in`, or the error's code and message.
pub(crate) fn outcome(frames: &[Frame]) -> String {
    let last = frames.last().unwrap();
    match last.tag {
        b'Z' => "in".to_owned(),
        b'E' => format!("{} {}", last.code(), last.field(b'M').unwrap()),
        _ => format!("{last:?}"),
    }
}
