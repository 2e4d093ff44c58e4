//! Whether a prepared transaction has a witness's row that nobody can read yet.
//!
//! Whoever inserts the same key waits for the transaction that has it: for which one, `pg_locks` says. The
//! row that is tried is never committed. Why it matters is in [`crate::txn::recovery::author`].

use super::asker::{Asker, Failure};
use crate::session::Database;
use crate::txn::Xid;
use std::time::Duration;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

/// How long a row waits for another transaction before it is taken back.
const LOCK_TIMEOUT: &str = "SET LOCAL lock_timeout = '2s'";
/// How often it is looked whom it waits for.
const LOOK: Duration = Duration::from_millis(50);

/// A transaction that is prepared.
pub(super) struct Place<'p> {
    /// On which shard.
    pub(super) shard: usize,
    pub(super) gid: &'p str,
    /// The server's own number of it.
    pub(super) transaction: &'p str,
}

/// Does it have the row?
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Held {
    Yes,
    No,
    /// It is prepared no more.
    Over,
    /// That could not be seen.
    Unseen,
}

/// Has what is prepared a row that names this role?
pub(super) async fn look(
    asker: &Asker,
    database: &Database,
    place: &Place<'_>,
    xid: Xid,
    owner: &str,
) -> Result<Held, Failure> {
    // Connections of its own: dropped in the middle, nothing of it is left.
    let trying = asker.open(database, place.shard).await?;
    let looking = asker.open(database, place.shard).await?;
    let pid: i32 = trying.client().query_one("SELECT pg_catalog.pg_backend_pid()", &[]).await?.try_get(0)?;
    let inserting = try_row(trying.client(), xid, owner);
    tokio::pin!(inserting);
    let held = loop {
        tokio::select! {
            outcome = &mut inserting => break outcome?,
            () = tokio::time::sleep(LOOK) => {
                let holder = "SELECT transactionid::text FROM pg_catalog.pg_locks \
                              WHERE pid = $1 AND locktype = 'transactionid' AND NOT granted";
                if let Some(row) = looking.client().query_opt(holder, &[&pid]).await? {
                    let holder: String = row.try_get(0)?;
                    // Two transactions in flight cannot both have a key.
                    break if holder == place.transaction { Held::Yes } else { Held::No };
                }
            }
        }
    };
    looking.is_primary()?;
    if held != Held::No {
        return Ok(held);
    }
    // It had none, or has ended just now.
    let still = "SELECT FROM pg_catalog.pg_prepared_xacts WHERE gid = $1 AND transaction::text = $2";
    let still = looking.client().query_opt(still, &[&place.gid, &place.transaction]).await?;
    Ok(if still.is_some() { Held::No } else { Held::Over })
}

/// Whether nobody in flight has the key; [`Held::Unseen`] when somebody has, and it was not seen who.
async fn try_row(client: &Client, xid: Xid, owner: &str) -> Result<Held, tokio_postgres::Error> {
    client.batch_execute("BEGIN").await?;
    client.batch_execute(LOCK_TIMEOUT).await?;
    let insert = "INSERT INTO pgring.applied (xid, owner) VALUES ($1::text::uuid, $2::text::name)";
    let outcome = client.execute(insert, &[&xid.to_string(), &owner]).await;
    client.batch_execute("ROLLBACK").await?;
    match outcome {
        Ok(_) => Ok(Held::No),
        Err(error) => match error.code() {
            Some(&SqlState::UNIQUE_VIOLATION) => Ok(Held::No),
            Some(&SqlState::LOCK_NOT_AVAILABLE) => Ok(Held::Unseen),
            _ => Err(error),
        },
    }
}
