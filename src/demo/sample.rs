//! The sample database: a job scheduler's, sharded by user.
//!
//! The SQL stands in files of its own, since the compose set-up uses it too. Which user is
//! whose follows from the ring alone, as for any other row.

use crate::ring::{Key, ShardId, Topology};

use super::cluster::{Cluster, Login, SUPERUSER};
use super::error::DemoError;

/// The database's name, on every shard and towards clients.
pub const DATABASE: &str = "novacron";
/// The application's role.
pub const APP: Login<'static> = Login { name: "app", password: "app" };
/// The role of pgring's own connections.
pub const CONTROL: Login<'static> = Login { name: "pgring", password: "pgring" };
/// Users on all shards together; their ids count from 1.
pub const USERS: i64 = 600;

const ROLES: &str = include_str!("roles.sql");
const SCHEMA: &str = include_str!("schema.sql");
const ROWS: &str = include_str!("rows.sql");

/// Statements for somebody who sees pgring for the first time, with a word on each.
pub const WORTH_TRYING: [(&str, &str); 5] = [
    ("one user, found by the shard key", "SELECT id, email, name FROM users WHERE id = 42;"),
    (
        "a join on the shard that owns the user",
        "SELECT j.name, count(*) AS runs, max(e.started_at) AS last FROM jobs j \
         JOIN job_executions e ON e.job_id = j.id AND e.user_id = j.user_id \
         WHERE j.user_id = 42 GROUP BY j.name;",
    ),
    (
        "a new row, beside the user's others",
        "INSERT INTO jobs (user_id, name, schedule) VALUES (42, 'tidy up', '0 4 * * *') RETURNING id, status;",
    ),
    ("the owner's plan", "EXPLAIN SELECT * FROM notifications WHERE user_id = 42 AND NOT is_read;"),
    ("where the last statement went, and why", "SHOW pgring.route;"),
];

/// Creates the roles `app` and `pgring`.
pub fn create_roles(server: &Cluster) -> Result<(), DemoError> {
    server.psql(SUPERUSER, "postgres", ROLES).map(drop)
}

/// Creates an empty database that `app` owns and `pgring` may keep its own schema in.
pub fn create_database(server: &Cluster, name: &str) -> Result<(), DemoError> {
    let quoted = name.replace('"', "\"\"");
    let script = format!(
        "CREATE DATABASE \"{quoted}\" OWNER {app};\nGRANT CREATE ON DATABASE \"{quoted}\" TO {control};\n",
        app = APP.name,
        control = CONTROL.name,
    );
    server.psql(SUPERUSER, "postgres", &script).map(drop)
}

/// Loads the sample's schema and one shard's rows into a database.
pub fn load(server: &Cluster, database: &str, topology: &Topology, shard: ShardId) -> Result<(), DemoError> {
    server.psql(APP, database, &script(topology, shard)).map(drop)
}

/// The users that lie on a shard.
pub fn owned_users(topology: &Topology, shard: ShardId) -> Vec<i64> {
    (1..=USERS).filter(|id| topology.owner(Key::Integer(*id).hash()) == shard).collect()
}

fn script(topology: &Topology, shard: ShardId) -> String {
    let owned: Vec<String> = owned_users(topology, shard).iter().map(i64::to_string).collect();
    format!(
        "BEGIN;\n\
         SET LOCAL demo.shard = {};\nSET LOCAL demo.shards = {};\nSET LOCAL demo.users = {USERS};\n\
         CREATE TEMPORARY TABLE owned ON COMMIT DROP AS SELECT unnest('{{{}}}'::bigint[]) AS id;\n\
         {SCHEMA}\n{ROWS}\nCOMMIT;\n",
        shard.index() + 1,
        topology.len(),
        owned.join(","),
    )
}
