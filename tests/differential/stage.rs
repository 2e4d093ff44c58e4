//! The sample and more over three shards, and all of it in one database.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use pgring::demo::cluster::{Cluster, SUPERUSER};
use pgring::demo::sample::{self, APP, CONTROL};
use pgring::ring::{Key, ShardId, Topology};

use super::answer::Session;
use crate::support::{self, Config, Proxy};

const SHARDS: usize = 3;
/// Users on all shards together: enough for each shard to have its share.
const USERS: i64 = 150;

/// Tables, the column that says whose a row is, and where the rows are.
const TABLES: [(&str, &str); 16] = [
    ("users", "id"),
    ("jobs", "user_id"),
    ("job_executions", "user_id"),
    ("notifications", "user_id"),
    ("audit_logs", "user_id"),
    ("readings", "user_id"),
    ("items", "user_id"),
    ("ledger", "user_id"),
    ("empties", "user_id"),
    ("lonely", "user_id"),
    ("bulk", "user_id"),
    ("words", "user_id"),
    ("plans", EVERYWHERE),
    ("products", EVERYWHERE),
    ("app_settings", HOME),
    ("memos", HOME),
];
const EVERYWHERE: &str = "*";
const HOME: &str = "1";

/// How a database's text is sorted: what stands behind `CREATE DATABASE`.
pub(crate) type Collation = &'static str;

/// One database of three shards behind pgring, and its oracle.
pub(crate) struct Stage {
    pub(crate) proxy: Proxy,
    pub(crate) name: String,
    pub(crate) servers: Vec<&'static Cluster>,
    pub(crate) oracle: String,
    topology: Topology,
}

/// What [`Stage::new`] copies, the oracle last: making it takes seconds.
static ORIGINAL: LazyLock<[String; 2]> = LazyLock::new(|| originals(""));

fn originals(collation: Collation) -> [String; 2] {
    let servers = support::servers(SHARDS);
    let topology = support::topology(SHARDS);
    let names = [support::unique_name("shards"), support::unique_name("whole")];
    let single = support::topology(1);
    let places = topology.ids().map(|shard| (&names[0], servers[shard.index()], &topology, shard));
    std::thread::scope(|scope| {
        for (name, server, topology, shard) in places.chain([(&names[1], servers[0], &single, ShardId(0))]) {
            scope.spawn(move || {
                create(server, name, collation);
                sample::load(server, name, topology, shard).unwrap();
                server.psql(APP, name, &script(topology, shard)).unwrap();
                server.psql(SUPERUSER, name, &kept(shard)).unwrap();
            });
        }
    });
    names
}

/// As [`sample::create_database`], with a collation or a template.
fn create(server: &Cluster, name: &str, options: &str) {
    let (app, control) = (APP.name, CONTROL.name);
    let script = format!(
        "CREATE DATABASE {name} OWNER {app} {options};\nGRANT CREATE ON DATABASE {name} TO {control};\n"
    );
    server.psql(SUPERUSER, "postgres", &script).unwrap();
}

fn script(topology: &Topology, shard: ShardId) -> String {
    let owned: Vec<String> = sample::owned_users(topology, shard)
        .into_iter()
        .filter(|user| *user <= USERS)
        .map(|user| user.to_string())
        .collect();
    format!(
        "BEGIN;\nSET LOCAL demo.shard = {};\n\
         CREATE TEMPORARY TABLE owned ON COMMIT DROP AS SELECT unnest('{{{}}}'::bigint[]) AS id;\n{}\nCOMMIT;\n",
        shard.index() + 1,
        owned.join(","),
        include_str!("schema.sql")
    )
}

/// Copies of all rows, to go back to.
fn kept(shard: ShardId) -> String {
    let copies =
        here(shard).map(|(table, _)| format!("CREATE TABLE kept.{table} AS TABLE public.{table};\n"));
    format!("CREATE SCHEMA kept;\n{}", copies.collect::<String>())
}

/// The tables of a shard.
fn here(shard: ShardId) -> impl Iterator<Item = (&'static str, &'static str)> {
    TABLES.into_iter().filter(move |(_, key)| shard == ShardId(0) || *key != HOME)
}

impl Stage {
    pub(crate) fn new() -> Stage {
        let servers = support::servers(SHARDS);
        let names = [support::unique_name("shards"), support::unique_name("whole")];
        let originals = &*ORIGINAL;
        std::thread::scope(|scope| {
            for (position, server) in servers.iter().enumerate() {
                let names = &names;
                scope.spawn(move || {
                    create(server, &names[0], &format!("TEMPLATE {}", originals[0]));
                    if position == 0 {
                        create(server, &names[1], &format!("TEMPLATE {}", originals[1]));
                    }
                });
            }
        });
        Stage::over(names)
    }

    pub(crate) fn collated(collation: Collation) -> Stage {
        Stage::over(originals(collation))
    }

    fn over([name, oracle]: [String; 2]) -> Stage {
        let servers = support::servers(SHARDS);
        let reference = "[[database.table]]\nname = \"plans\"\nreference = true\n";
        let config = Config::new()
            .database(&name, &servers)
            .replace(reference, &format!("{reference}\n{}", reference.replace("plans", "products")));
        Stage { proxy: Proxy::start(config), name, servers, oracle, topology: support::topology(SHARDS) }
    }

    /// Sessions with pgring and with the oracle.
    pub(crate) fn pair(&self) -> Pair {
        Pair {
            pgring: Session::new(self.proxy.address(), APP, &self.name),
            oracle: Session::new(self.servers[0].address(), APP, &self.oracle),
        }
    }

    /// Sessions with the servers themselves.
    pub(crate) fn inspector(&self) -> Inspector {
        let places = self.topology.ids().map(|shard| (self.servers[shard.index()], &self.name, shard));
        let servers = places
            .chain([(self.servers[0], &self.oracle, ShardId(0))])
            .map(|(server, name, shard)| {
                let mut session = Session::new(server.address(), SUPERUSER, name);
                session.must("SET session_replication_role = replica");
                (session, shard)
            })
            .collect();
        let mut inspector =
            Inspector { topology: self.topology.clone(), servers, before: Vec::new(), seen: None };
        inspector.before = inspector.contents(&[]);
        inspector
    }
}

/// Both sides.
pub(crate) struct Pair {
    pub(crate) pgring: Session,
    pub(crate) oracle: Session,
}

/// Sees what tables hold, on each shard and at the oracle.
pub(crate) struct Inspector {
    topology: Topology,
    /// The shards' in order, and the oracle's.
    servers: Vec<(Session, ShardId)>,
    /// What each held at first.
    before: Vec<Contents>,
    /// What each was last seen to hold, if nothing has happened since.
    seen: Option<Vec<Contents>>,
}

/// Of each table the number of rows and the sum of their hashes.
type Contents = BTreeMap<String, (i128, i128)>;

impl Inspector {
    /// `ignore`: columns that do not count.
    fn contents(&mut self, ignore: &[String]) -> Vec<Contents> {
        let ignored = ignore.iter().map(|column| format!("'{column}'")).collect::<Vec<_>>().join(", ");
        let row = if ignore.is_empty() {
            "the_row::text".to_owned()
        } else {
            format!("(to_jsonb(the_row) - ARRAY[{ignored}])::text")
        };
        let look = |(session, shard): &mut (Session, ShardId)| {
            let parts = here(*shard).map(|(table, _)| {
                format!("SELECT '{table}', count(*), coalesce(sum(hashtextextended({row}, 0)::numeric), 0) FROM {table} the_row")
            });
            let answer = session.must(&parts.collect::<Vec<_>>().join(" UNION ALL "));
            let text = |value: &Option<Vec<u8>>| String::from_utf8(value.clone().unwrap()).unwrap();
            let line = |row: &Vec<Option<Vec<u8>>>| {
                (text(&row[0]), (text(&row[1]).parse().unwrap(), text(&row[2]).parse().unwrap()))
            };
            answer.rows.iter().map(line).collect()
        };
        self.servers.iter_mut().map(look).collect()
    }

    /// What is wrong with what the shards hold, taken together.
    pub(crate) fn difference(&mut self, ignore: &[String]) -> Option<String> {
        let mut all = self.contents(ignore);
        if ignore.is_empty() {
            self.seen = Some(all.clone());
            if all == self.before {
                return None;
            }
        }
        let oracle = all.pop().unwrap();
        let mut wrong = Vec::new();
        for (table, key) in TABLES {
            let held: Vec<(i128, i128)> = all.iter().filter_map(|shard| shard.get(table).copied()).collect();
            let together = match key {
                EVERYWHERE if held.windows(2).any(|pair| pair[0] != pair[1]) => {
                    wrong.push(format!("{table}: the copies differ, rows: {:?}", counts(&held)));
                    continue;
                }
                EVERYWHERE | HOME => held[0],
                _ => held.iter().fold((0, 0), |sum, of| (sum.0 + of.0, sum.1 + of.1)),
            };
            if together != oracle[table] {
                let rows = counts(&held);
                wrong.push(format!(
                    "{table}: rows on the shards {rows:?}, the oracle has {}",
                    oracle[table].0
                ));
            }
        }
        wrong.extend(self.strangers());
        if wrong.is_empty() { None } else { Some(wrong.join("; ")) }
    }

    /// Rows on shards that do not own them.
    fn strangers(&mut self) -> Vec<String> {
        let mut wrong = Vec::new();
        for (session, shard) in self.servers.iter_mut().take(SHARDS) {
            let parts = TABLES
                .iter()
                .filter(|(_, key)| ![EVERYWHERE, HOME].contains(key))
                .map(|(table, key)| format!("SELECT DISTINCT '{table}', {key} FROM {table}"));
            let answer = session.must(&parts.collect::<Vec<_>>().join(" UNION ALL "));
            for row in &answer.rows {
                let [table, key] =
                    [&row[0], &row[1]].map(|value| String::from_utf8(value.clone().unwrap()).unwrap());
                if self.topology.owner(Key::Integer(key.parse().unwrap()).hash()) != *shard {
                    wrong.push(format!("{table}: {key} is on {}", self.topology.name(*shard)));
                }
            }
        }
        wrong
    }

    /// Puts all tables back to what they held at first.
    pub(crate) fn restore(&mut self) {
        let now = self.seen.take().unwrap_or_else(|| self.contents(&[]));
        for (((session, shard), now), before) in self.servers.iter_mut().zip(now).zip(&self.before) {
            let script: String = here(*shard)
                .filter(|(table, _)| now[*table] != before[*table])
                .map(|(table, _)| format!("DELETE FROM {table}; INSERT INTO {table} TABLE kept.{table};"))
                .collect();
            if !script.is_empty() {
                session.must(&format!("BEGIN;{script}COMMIT"));
            }
        }
    }

    /// Runs a statement on one shard, past pgring.
    pub(crate) fn directly(&mut self, shard: ShardId, text: &str) {
        self.seen = None;
        self.servers[shard.index()].0.must(text);
    }
}

fn counts(held: &[(i128, i128)]) -> Vec<i128> {
    held.iter().map(|(count, _)| *count).collect()
}
