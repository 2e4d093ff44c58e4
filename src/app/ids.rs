//! `pgring.next_id()` on every shard: ids that are unique over shards and proxies, in the order of time.
//!
//! An id is 41 bits of milliseconds since 2024, 10 bits of the shard's number and 12 bits that
//! count. Nothing of it is asked of a proxy: the function is a shard's own, so that it can be a
//! column's default.
//!
//! - Of two ids of one shard the later call has the greater one, whatever the clock does. A sequence
//!   holds the last time and count together; a call takes whichever is greater, its successor or
//!   the clock, and puts it back, under a lock that all calls share. (So more than 4096 in a
//!   millisecond borrow from the next one.) The lock ends with the call, not with the transaction:
//!   it is taken in a sub-transaction that is rolled back, and what is done to a sequence never is.
//! - Of two shards: each has a number of its own. Numbers are given on the home shard, under a lock, and
//!   stay given; every shard keeps the list of them, so that another home shard knows it. While a
//!   shard that is in nobody's list cannot be asked, no new number is given: it may have one.
//!
//! The objects are the control role's. Where it has no right to make them, the log says so once,
//! and everything else works as ever.

use super::serve::App;
use super::two_phase::objects::{LOCK, stranger};
use crate::config::{self, Settings};
use crate::pool::health::{ControlConnection, Login, Tls};
use crate::session::Database;
use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

/// Of what is made on a shard. What a newer pgring has made stays.
const VERSION: i32 = 1;
/// How soon after a failure, and while a shard is down.
const AGAIN: Duration = Duration::from_secs(5);
/// Numbers have 10 bits.
const NUMBERS: i32 = 1024;

/// What every shard has; it may be there already, of this version or an earlier one.
const TABLES: &str = r"
CREATE SCHEMA IF NOT EXISTS pgring;
GRANT USAGE ON SCHEMA pgring TO PUBLIC;
CREATE TABLE IF NOT EXISTS pgring.shard_number (
    number integer PRIMARY KEY CHECK (number BETWEEN 0 AND 1023),
    shard  text NOT NULL);
CREATE TABLE IF NOT EXISTS pgring.shard (
    sole    boolean PRIMARY KEY DEFAULT true CHECK (sole),
    number  integer NOT NULL CHECK (number BETWEEN 0 AND 1023),
    version integer NOT NULL);
CREATE SEQUENCE IF NOT EXISTS pgring.id_sequence MINVALUE 0";

/// 1704067200 is the beginning of 2024.
const FUNCTION: &str = r"
CREATE OR REPLACE FUNCTION pgring.next_id() RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $pgring$
DECLARE
    own bigint;
    next bigint;
BEGIN
    BEGIN
        PERFORM pg_advisory_xact_lock(8099004086716137474);
        SELECT number INTO STRICT own FROM pgring.shard;
        SELECT greatest(last_value + 1,
                        floor((extract(epoch FROM clock_timestamp()) - 1704067200) * 1000)::bigint << 12)
          INTO next FROM pgring.id_sequence;
        PERFORM setval('pgring.id_sequence', next);
        RAISE EXCEPTION USING ERRCODE = 'PGR01';
    EXCEPTION WHEN SQLSTATE 'PGR01' THEN
        -- The lock is free again; the sequence and the variables stay as they are.
        NULL;
    END;
    RETURN (next >> 12 << 22) | (own << 12) | (next & 4095);
END
$pgring$;
GRANT EXECUTE ON FUNCTION pgring.next_id() TO PUBLIC";

/// Which shard has which number.
type Numbers = BTreeMap<i32, String>;

/// What a shard has of all this.
#[derive(Default)]
struct Found {
    number: Option<i32>,
    version: i32,
    numbers: Numbers,
}

/// A shard that can be asked.
struct Asked {
    index: usize,
    connection: ControlConnection,
    found: Found,
}

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("shard {0}: {1}")]
    Unreachable(String, String),
    #[error("{}", .0.as_db_error().map_or_else(|| .0.to_string(), |error| error.message().to_owned()))]
    Refused(#[from] tokio_postgres::Error),
    #[error("shard {0}: its schema \"pgring\" belongs to {1}")]
    NotOurs(String, String),
    #[error("all {NUMBERS} numbers of shards have been given")]
    NoNumberLeft,
}

impl Failure {
    /// Will it be the same next time?
    fn is_final(&self) -> bool {
        match self {
            Failure::Unreachable(..) => false,
            Failure::Refused(error) => error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE),
            Failure::NotOurs(..) | Failure::NoNumberLeft => true,
        }
    }
}

/// Sees to it that one database's shards have the function.
pub(super) struct Ids {
    database: Weak<Database>,
    login: Login,
    tls: Vec<Tls>,
    timeout: Duration,
}

impl Ids {
    /// Starts the task, which ends when every shard has it.
    pub(super) fn install(app: &App, settings: &Settings, database: &config::Database, made: &Arc<Database>) {
        if database.shards.len() == 1 {
            // A plain pooler leaves nothing behind.
            return;
        }
        let tls = made.shards.iter().map(|shard| Tls { mode: shard.tls, config: shard.tls_config.clone() });
        let ids = Ids {
            database: Arc::downgrade(made),
            login: Login { user: settings.control.user.clone(), password: settings.control.password.clone() },
            tls: tls.collect(),
            timeout: settings.pool.connect_timeout,
        };
        app.runtime.spawn(ids.run());
    }

    async fn run(self) {
        let mut complained = false;
        loop {
            let Some(database) = self.database.upgrade() else { return };
            match self.see_to(&database).await {
                Ok(true) => return,
                Ok(false) => {}
                Err(failure) => {
                    if !complained {
                        tracing::warn!(
                            database = database.name,
                            "pgring.next_id() cannot be made on every shard: {failure} (the control role needs \
                             CREATE on each shard's database)"
                        );
                        complained = true;
                    }
                    if failure.is_final() {
                        return;
                    }
                }
            }
            drop(database);
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// Whether every shard has it now.
    async fn see_to(&self, database: &Database) -> Result<bool, Failure> {
        let mut asked = Vec::new();
        for index in 0..database.shards.len() {
            let Some(connection) = self.connect(database, index).await? else { continue };
            if let Some(owner) = stranger(connection.client()).await? {
                return Err(Failure::NotOurs(database.shards[index].name.clone(), owner));
            }
            let found = read(connection.client()).await?;
            asked.push(Asked { index, connection, found });
        }
        let names: Vec<&str> = database.shards.iter().map(|shard| shard.name.as_str()).collect();
        let complete = asked.len() == names.len();
        let home = database.topology.home.index();
        let Some(home) = asked.iter().position(|shard| shard.index == home) else { return Ok(false) };
        let is_settled = |shard: &Asked| {
            let known = shard.found.number.and_then(|number| asked[home].found.numbers.get(&number));
            known.is_some_and(|name| name == names[shard.index])
                && shard.found.version >= VERSION
                && shard.found.numbers == asked[home].found.numbers
        };
        if asked.iter().all(is_settled) {
            return Ok(complete);
        }
        let (numbers, own) = give(&asked, home, &names).await?;
        for (shard, own) in asked.iter().zip(own) {
            if let Some(own) = own {
                make(shard.connection.client(), shard.found.version, own, &numbers).await?;
            }
        }
        if complete {
            tracing::info!(database = database.name, "pgring.next_id() is on every shard");
        }
        Ok(complete)
    }

    /// To a shard's primary; `None` while it has none.
    async fn connect(&self, database: &Database, index: usize) -> Result<Option<ControlConnection>, Failure> {
        let shard = &database.shards[index];
        // Whom to ask turns out soon after the start.
        let _ = shard.board.wait_for_verdict(self.timeout).await;
        let snapshot = shard.board.load_full();
        let Ok(primary) = snapshot.primary() else { return Ok(None) };
        let (tls, dbname) = (&self.tls[index], &shard.dbname);
        let opening =
            ControlConnection::open(&primary.address, dbname, &self.login, tls, self.timeout, || {});
        let failed = |error| Failure::Unreachable(shard.name.clone(), format!("{error}"));
        opening.await.map(Some).map_err(failed)
    }
}

async fn read(client: &Client) -> Result<Found, tokio_postgres::Error> {
    let there =
        "SELECT to_regclass('pgring.shard') IS NOT NULL AND to_regclass('pgring.shard_number') IS NOT NULL";
    if !client.query_one(there, &[]).await?.try_get::<_, bool>(0)? {
        return Ok(Found::default());
    }
    let mut found = Found { numbers: numbers(client).await?, ..Found::default() };
    if let Some(row) = client.query_opt("SELECT number, version FROM pgring.shard", &[]).await? {
        (found.number, found.version) = (Some(row.try_get(0)?), row.try_get(1)?);
    }
    Ok(found)
}

async fn numbers(client: &Client) -> Result<Numbers, tokio_postgres::Error> {
    let rows = client.query("SELECT number, shard FROM pgring.shard_number", &[]).await?;
    rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
}

/// Gives the shards their numbers, on the home shard; all numbers that are given then, and those of
/// the shards that were asked. What fails is rolled back with the connection.
async fn give(asked: &[Asked], home: usize, names: &[&str]) -> Result<(Numbers, Vec<Option<i32>>), Failure> {
    let client = asked[home].connection.client();
    client.batch_execute(LOCK).await?;
    if asked[home].found.version < VERSION {
        client.batch_execute(TABLES).await?;
    }
    let mut given = numbers(client).await?;
    let before = given.clone();
    for (number, name) in asked.iter().flat_map(|shard| &shard.found.numbers) {
        given.entry(*number).or_insert_with(|| name.clone());
    }
    let has = |name: &str| asked.iter().any(|shard| names[shard.index] == name);
    let absent: Vec<&str> = names.iter().copied().filter(|name| !has(name)).collect();
    let own: Vec<_> = asked.iter().map(|shard| (names[shard.index], shard.found.number)).collect();
    let own = assign(&mut given, &own, &absent)?;
    for (number, name) in &given {
        if before.get(number) != Some(name) {
            put_number(client, *number, name).await?;
        }
    }
    client.batch_execute("COMMIT").await?;
    Ok((given, own))
}

/// Which numbers the shards get; `None` for one that has to wait. `own` has each shard that can be asked,
/// with the number it has; `absent` are those that cannot be asked.
fn assign(
    given: &mut Numbers,
    own: &[(&str, Option<i32>)],
    absent: &[&str],
) -> Result<Vec<Option<i32>>, Failure> {
    let is_configured = |name: &str| own.iter().any(|(own, _)| *own == name) || absent.contains(&name);
    let mut numbers = Vec::with_capacity(own.len());
    for (name, number) in own {
        // A shard may have been renamed; or it is a copy of another one, the number included.
        let is_copy =
            |number: &i32| given.get(number).is_some_and(|holder| holder != name && is_configured(holder));
        let number = number.filter(|number| !is_copy(number));
        if let Some(number) = number {
            given.insert(number, (*name).to_owned());
        }
        numbers.push(number);
    }
    let held = |given: &Numbers, name: &str| {
        given.iter().find(|(_, holder)| *holder == name).map(|(number, _)| *number)
    };
    let may_give = absent.iter().all(|name| held(given, name).is_some());
    for (number, (name, _)) in numbers.iter_mut().zip(own) {
        *number = number.or_else(|| held(given, name));
        if number.is_none() && may_give {
            let free = (0..NUMBERS).find(|number| !given.contains_key(number));
            let free = free.ok_or(Failure::NoNumberLeft)?;
            given.insert(free, (*name).to_owned());
            *number = Some(free);
        }
    }
    Ok(numbers)
}

async fn put_number(client: &Client, number: i32, name: &str) -> Result<(), tokio_postgres::Error> {
    let put = "INSERT INTO pgring.shard_number (number, shard) VALUES ($1, $2) \
               ON CONFLICT (number) DO UPDATE SET shard = excluded.shard";
    client.execute(put, &[&number, &name]).await.map(drop)
}

/// Makes on a shard what it lacks.
async fn make(
    client: &Client,
    version: i32,
    own: i32,
    numbers: &Numbers,
) -> Result<(), tokio_postgres::Error> {
    client.batch_execute(LOCK).await?;
    if version < VERSION {
        client.batch_execute(TABLES).await?;
        client.batch_execute(FUNCTION).await?;
    }
    for (number, name) in numbers {
        put_number(client, *number, name).await?;
    }
    let put = "INSERT INTO pgring.shard (number, version) VALUES ($1, $2) \
               ON CONFLICT (sole) DO UPDATE \
               SET number = excluded.number, version = greatest(shard.version, excluded.version)";
    client.execute(put, &[&own, &VERSION]).await?;
    client.batch_execute("COMMIT").await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_given_once() {
        type Row<'r> =
            (&'r [(i32, &'r str)], &'r [(&'r str, Option<i32>)], &'r [&'r str], &'r [Option<i32>], &'r str);
        let rows: &[Row<'_>] = &[
            (&[], &[("a", None), ("b", None)], &[], &[Some(0), Some(1)], "the first time"),
            (&[(0, "a")], &[("a", None), ("b", None)], &[], &[Some(0), Some(1)], "given, but not yet made"),
            (
                &[(0, "a"), (1, "b")],
                &[("a", Some(0)), ("b", Some(1)), ("c", None)],
                &[],
                &[Some(0), Some(1), Some(2)],
                "a new shard",
            ),
            (
                &[(0, "a"), (1, "b")],
                &[("a", Some(0)), ("c", None)],
                &[],
                &[Some(0), Some(2)],
                "what is gone keeps its number",
            ),
            (&[(0, "a"), (1, "b")], &[("a", Some(0)), ("c", Some(1))], &[], &[Some(0), Some(1)], "renamed"),
            (
                &[(0, "a"), (1, "b")],
                &[("a", Some(0)), ("b", Some(1)), ("c", Some(1))],
                &[],
                &[Some(0), Some(1), Some(2)],
                "a copy of another shard",
            ),
            (
                &[],
                &[("a", Some(5)), ("b", Some(3)), ("c", None)],
                &[],
                &[Some(5), Some(3), Some(0)],
                "home has no list",
            ),
            (
                &[],
                &[("a", None), ("b", Some(3))],
                &["c"],
                &[None, Some(3)],
                "a shard that is down may have any number",
            ),
            (&[(0, "c")], &[("a", None)], &["c"], &[Some(1)], "it is known which"),
        ];
        for (given, own, absent, expect, why) in rows {
            let mut given: Numbers =
                given.iter().map(|(number, name)| (*number, (*name).to_owned())).collect();
            assert_eq!(assign(&mut given, own, absent).unwrap(), *expect, "{why}");
            for ((name, _), number) in own.iter().zip(*expect) {
                assert!(
                    number.is_none_or(|number| given.get(&number).is_some_and(|holder| holder == name)),
                    "{why}"
                );
            }
        }
    }
}
