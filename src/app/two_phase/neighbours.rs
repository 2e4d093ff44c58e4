//! Which shards have been beside a shard, in whosever file.
//!
//! A witness does not say who decided. That no shard knows of the decision means that it is lost only if
//! every shard was asked that can have decided, and the file of one pgring may lack some that another's has:
//! a shard is being added, or was just removed, or belongs to another cluster that shares this one. So each
//! pgring leaves on every shard who is beside it, and whoever lacks one of them does not judge.

use super::asker::Failure;
use crate::txn::recovery::{Patience, may_have_decided};
use std::time::Duration;
use tokio_postgres::Client;

/// How often what is so still is written again.
pub(super) const AGAIN: Duration = Duration::from_secs(600);

/// These are beside the shard now.
pub(super) async fn note(client: &Client, beside: &[String]) -> Result<(), tokio_postgres::Error> {
    // Whoever does this at the same time takes the rows in the same order.
    let statement = "INSERT INTO pgring.neighbour AS known (shard) \
                     SELECT shard FROM unnest($1::text[]) AS shard ORDER BY shard \
                     ON CONFLICT (shard) DO UPDATE SET seen = clock_timestamp() \
                     WHERE known.seen < clock_timestamp() - $2::float8 * interval '1 second'";
    client.execute(statement, &[&beside, &AGAIN.as_secs_f64()]).await.map(drop)
}

/// Those who have been beside a shard and are not known here: how long ago the last time.
pub(super) struct Strangers(Vec<Duration>);

impl Strangers {
    pub(super) async fn look(client: &Client, known: &[String]) -> Result<Strangers, Failure> {
        let statement = "SELECT greatest(extract(epoch FROM clock_timestamp() - seen), 0)::float8 \
                         FROM pgring.neighbour WHERE shard <> ALL ($1::text[])";
        let rows = client.query(statement, &[&known]).await?;
        let seen = rows.iter().map(|row| {
            // What cannot be reckoned was just now.
            Ok(Duration::try_from_secs_f64(row.try_get(0)?).unwrap_or_default())
        });
        Ok(Strangers(seen.collect::<Result<_, Failure>>()?))
    }

    /// How many of them may have made the decision of a witness of that age.
    pub(super) fn deciders(&self, age: Duration, patience: &Patience) -> usize {
        self.0.iter().filter(|seen| may_have_decided(age, **seen, patience)).count()
    }
}
