//! Accounts on two shards, and what is left of transactions between them.

use pgring::demo::cluster::{Cluster, SUPERUSER};
use pgring::demo::sample::{self, APP};
use pgring::ring::ShardId;

use crate::support::raw::Raw;
use crate::support::{self, Config, Proxy};

/// Two shards with an account of 100 each; both keys are known.
pub(crate) struct Bank<'s> {
    pub(crate) servers: Vec<&'s Cluster>,
    pub(crate) name: String,
    /// A key of each shard.
    pub(crate) keys: [i64; 2],
}

impl<'s> Bank<'s> {
    pub(crate) fn open(servers: &[&'s Cluster]) -> Bank<'s> {
        let script = "CREATE TABLE accounts (user_id bigint PRIMARY KEY, balance bigint NOT NULL)";
        let name = support::database(servers, script);
        let topology = support::topology(servers.len());
        let keys = [0, 1].map(|shard| sample::owned_users(&topology, ShardId(shard))[0]);
        for (server, key) in servers.iter().zip(keys) {
            let insert = format!("INSERT INTO accounts VALUES ({key}, 100)");
            server.psql(APP, &name, &insert).unwrap();
        }
        Bank { servers: servers.to_vec(), name, keys }
    }

    #[allow(dead_code, reason = "not every test binary has its servers alone")]
    pub(crate) fn config(&self) -> Config {
        Config::new().database(&self.name, &self.servers)
    }

    pub(crate) fn update(&self, shard: usize, by: i64) -> String {
        format!("UPDATE accounts SET balance = balance + ({by}) WHERE user_id = {}", self.keys[shard])
    }

    /// From the first shard's account to the second's, one statement after the other, without the end.
    pub(crate) fn begin_transfer(&self, raw: &mut Raw, amount: i64) {
        for sql in ["BEGIN".to_owned(), self.update(0, -amount), self.update(1, amount)] {
            let frames = raw.query(&sql);
            let error = frames.iter().find(|frame| frame.tag == b'E');
            assert!(error.is_none(), "{sql}: {error:?}");
        }
    }

    /// One value, asked of a shard itself.
    pub(crate) fn on(&self, shard: usize, sql: &str) -> String {
        self.servers[shard].psql(APP, &self.name, sql).unwrap().trim().to_owned()
    }

    pub(crate) fn balances(&self) -> [i64; 2] {
        [0, 1].map(|shard| self.on(shard, "SELECT sum(balance) FROM accounts").parse().unwrap())
    }

    /// How many transactions are prepared.
    pub(crate) fn prepared(&self) -> usize {
        let count = "SELECT count(*) FROM pg_prepared_xacts WHERE database = current_database()";
        (0..self.servers.len()).map(|shard| self.on(shard, count).parse::<usize>().unwrap()).sum()
    }

    /// What our cluster calls, on the others, what the first shard decides.
    #[allow(dead_code, reason = "not every test binary prepares by itself")]
    pub(crate) fn gid(&self, xid: &str) -> String {
        let identity = "SELECT system_identifier || '/' || current_database() FROM pg_control_system()";
        format!("pgring:test:{xid}:{}", self.rows(0, identity))
    }

    /// The lines of `SHOW TRANSACTIONS` that are about this bank.
    #[allow(dead_code, reason = "not every test binary asks")]
    pub(crate) fn in_doubt(&self, proxy: &Proxy) -> String {
        let mut console = Raw::login(&proxy.address(), APP, "pgring");
        let rows = console.query("SHOW TRANSACTIONS");
        let rows = rows.iter().filter(|frame| frame.tag == b'D');
        let lines = rows.map(|frame| String::from_utf8_lossy(&frame.body).into_owned());
        lines.filter(|line| line.contains(&self.name)).collect::<Vec<_>>().join("\n")
    }

    /// A shard's rows of a table of pgring's, as its superuser sees them.
    pub(crate) fn rows(&self, shard: usize, sql: &str) -> String {
        self.servers[shard].psql(SUPERUSER, &self.name, sql).unwrap().trim().to_owned()
    }
}

/// The tags or the SQLSTATEs, and the transaction's status.
pub(crate) fn said(raw: &mut Raw, sql: &str) -> String {
    let mut words = Vec::new();
    for frame in raw.query(sql) {
        match frame.tag {
            b'C' => words.push(String::from_utf8_lossy(&frame.body).trim_end_matches('\0').to_owned()),
            b'E' => words.push(frame.code()),
            b'Z' => words.push(String::from_utf8_lossy(&frame.body).into_owned()),
            _ => {}
        }
    }
    words.join(" ")
}
