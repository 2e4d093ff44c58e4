//! The sample over three shards, and proxies of several kinds in front of it.

use std::sync::LazyLock;

use pgring::demo::cluster::{Cluster, SUPERUSER};
use pgring::demo::sample::{self, APP};
use pgring::ring::ShardId;

use crate::support::raw::{self, Frame, Raw};
use crate::support::{self, Config, Proxy};

/// One database of the three shared servers and the proxy in front of it.
pub(crate) struct Stage {
    pub(crate) proxy: Proxy,
    pub(crate) name: String,
    pub(crate) servers: Vec<&'static Cluster>,
    /// Users of each shard.
    pub(crate) users: Vec<Vec<i64>>,
}

/// With the defaults; shared by tests that leave nothing behind.
pub(crate) static SHARED: LazyLock<Stage> = LazyLock::new(|| Stage::new(Config::new()));

/// The same rows on one shard.
pub(crate) static ONE: LazyLock<Stage> = LazyLock::new(|| Stage::single(Config::new()));

impl Stage {
    /// Over the first server alone, which has all users.
    pub(crate) fn single(config: Config) -> Stage {
        let servers = support::servers(1);
        let name = support::sample_database(&servers);
        let proxy = Proxy::start(config.database(&name, &servers));
        Stage { proxy, name, servers, users: users() }
    }

    /// Over the first server alone, with tables of its own.
    pub(crate) fn with_one(script: &str) -> Stage {
        Stage::with_config(Config::new(), script)
    }

    /// The same, configured.
    pub(crate) fn with_config(config: Config, script: &str) -> Stage {
        let servers = support::servers(1);
        let name = support::database(&servers, script);
        let proxy = Proxy::start(config.database(&name, &servers));
        Stage { proxy, name, servers, users: users() }
    }

    pub(crate) fn new(config: Config) -> Stage {
        // What several shards answer together is compared elsewhere.
        let config = config.set("routing", "cross_shard", "\"refuse\"");
        Stage::with(config, support::sample_database)
    }

    pub(crate) fn with(config: Config, database: impl FnOnce(&[&'static Cluster]) -> String) -> Stage {
        let servers = support::servers(3);
        let name = database(&servers);
        let proxy = Proxy::start(config.database(&name, &servers));
        Stage { proxy, name, servers, users: users() }
    }

    pub(crate) fn session(&self) -> Raw {
        Raw::login(&self.proxy.address(), APP, &self.name)
    }

    pub(crate) fn session_with(&self, parameters: &[(&str, &str)]) -> Raw {
        Raw::login_with(&self.proxy.address(), APP, &self.name, raw::V3_0, parameters)
    }

    /// Asks a shard's server directly.
    pub(crate) fn directly(&self, shard: usize, sql: &str) -> String {
        self.servers[shard].psql(SUPERUSER, &self.name, sql).unwrap().trim().to_owned()
    }

    /// Server connections that pgring has for clients, on all shards.
    pub(crate) fn connections(&self) -> usize {
        let count = format!(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = '{}' AND usename = 'app' AND backend_type = 'client backend'",
            self.name
        );
        (0..self.servers.len()).map(|shard| self.directly(shard, &count).parse::<usize>().unwrap()).sum()
    }

    /// Fills in `{a}`, `{b}` and `{c}`: users of the second, third and first shard.
    pub(crate) fn fill(&self, text: &str) -> String {
        text.replace("{a}", &self.users[1][0].to_string())
            .replace("{b}", &self.users[2][0].to_string())
            .replace("{c}", &self.users[0][0].to_string())
    }
}

/// Users of each of three shards.
fn users() -> Vec<Vec<i64>> {
    let topology = support::topology(3);
    topology.ids().map(|shard: ShardId| sample::owned_users(&topology, shard)).collect()
}

/// How statements are sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Protocol {
    Simple,
    /// A message at a time, each statement with its `Sync`.
    Extended,
}

pub(crate) const BOTH: [Protocol; 2] = [Protocol::Simple, Protocol::Extended];

impl Protocol {
    /// One statement and all of its answer.
    pub(crate) fn ask(self, session: &mut Raw, sql: &str) -> Vec<Frame> {
        match self {
            Protocol::Simple => session.query(sql),
            Protocol::Extended => {
                session.send(&extended(sql));
                session.until(b'Z', 1)
            }
        }
    }

    /// The answer in short: rows, tags, SQLSTATEs, and the status at the end.
    pub(crate) fn short(self, session: &mut Raw, sql: &str) -> String {
        short(&self.ask(session, sql))
    }
}

/// A statement as drivers send it.
pub(crate) fn extended(sql: &str) -> Vec<u8> {
    [raw::parse("", sql), raw::bind("", "", &[]), raw::describe('P', ""), raw::execute("", 0), raw::sync()]
        .concat()
}

/// An answer in short: `7 | SELECT 1 | I`.
pub(crate) fn short(frames: &[Frame]) -> String {
    let text = |body: &[u8]| String::from_utf8_lossy(body).trim_end_matches('\0').to_owned();
    let said: Vec<String> = frames
        .iter()
        .filter_map(|frame| match frame.tag {
            b'D' => Some(frame.columns().join(",")),
            b'C' | b'Z' => Some(text(&frame.body)),
            b'E' => Some(format!("E {}", frame.code())),
            b'N' => Some(format!("N {}", frame.code())),
            raw::CLOSED => Some("closed".to_owned()),
            raw::SILENCE => Some("silence".to_owned()),
            _ => None,
        })
        .collect();
    said.join(" | ")
}

/// The first error of an answer.
#[track_caller]
pub(crate) fn error(frames: &[Frame]) -> &Frame {
    frames.iter().find(|frame| frame.tag == b'E').unwrap_or_else(|| panic!("no error: {frames:?}"))
}
