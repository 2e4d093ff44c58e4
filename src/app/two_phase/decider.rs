//! Asking the decider of a transaction how it went, and, where it has not gone at all, seeing to it
//! that it never will.

use super::asker::{Asked, Asker, Failure};
use super::witness::{self, Held};
use crate::session::Database;
use crate::txn::Xid;
use crate::txn::recovery::{Decided, Decider, Owner, Patience, Step, Why, author, verdict};
use std::time::{Duration, Instant};
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

/// How long an abort row waits for a decider in flight before somebody looks what keeps it.
const LOCK_TIMEOUT: &str = "SET LOCAL lock_timeout = '500ms'";

/// What a decision is looked for.
#[derive(Clone, Copy)]
pub(super) struct Subject<'s> {
    pub(super) xid: Xid,
    pub(super) owner: Owner<'s>,
    /// Where it is prepared, if recovery has found it.
    pub(super) found: Option<&'s witness::Place<'s>>,
    /// Since when its decider may be in flight.
    pub(super) since: Instant,
}

/// A row of `pgring.decision`.
#[derive(PartialEq, Eq)]
struct Row {
    decided: Decided,
    /// As it was written; none where the transaction committed without telling its participants.
    by: Option<String>,
}

/// What is decided, as far as it is.
pub(super) async fn ask(
    asker: &Asker,
    database: &Database,
    decider: &Asked,
    shard: usize,
    subject: &Subject<'_>,
    patience: &Patience,
) -> Result<Step, Failure> {
    // Each turn changes what the next one finds, or ends it; others may be faster.
    let (mut flying, mut replicating) = (false, false);
    // Whom the witness was asked for, and what it said.
    let mut witness: Option<(String, bool)> = None;
    for _ in 0..MOST_TURNS {
        let row = decision(decider.client(), subject.xid).await?;
        let known = match &row {
            Some(row) => {
                let by = row.by.as_deref();
                let said = witness.as_ref().filter(|(of, _)| Some(of.as_str()) == by).map(|(_, said)| *said);
                Decider::Row(row.decided, author(by, subject.owner, said))
            }
            None if flying => Decider::InFlight { since: subject.since.elapsed(), replicating },
            None => Decider::NoRow,
        };
        let step = verdict(known, patience);
        // What has been read may be what its successor knows nothing of.
        decider.is_primary()?;
        match step {
            Step::InsertAbort => flying = !write_abort(decider.client(), subject.xid, None).await?,
            Step::ReplaceForged => _ = write_abort(decider.client(), subject.xid, row.as_ref()).await?,
            Step::AskWitness => {
                let (Some(place), Some(by)) = (subject.found, row.and_then(|row| row.by)) else {
                    return Ok(Step::Wait(Why::UnknownAuthor));
                };
                match witness::look(asker, database, place, subject.xid, &by).await? {
                    Held::Yes => witness = Some((by, true)),
                    Held::No => witness = Some((by, false)),
                    Held::Over => return Ok(Step::Wait(Why::Young)),
                    Held::Unseen => return Ok(Step::Wait(Why::UnknownAuthor)),
                }
            }
            Step::TerminateDecider => {
                let looking = asker.open(database, shard).await?;
                (flying, replicating) = match end_decider(decider, &looking, subject.xid).await? {
                    Ended::Over => (false, false),
                    Ended::InFlight => (true, false),
                    Ended::Replicating => (true, true),
                };
            }
            Step::Commit | Step::RollBack | Step::Wait(_) => return Ok(step),
        }
    }
    Ok(Step::Wait(Why::InFlight))
}

/// A row written, a row found to be forged, a decider ended: and some for those who are faster.
const MOST_TURNS: usize = 8;

/// The row, if there is a committed one.
async fn decision(client: &Client, xid: Xid) -> Result<Option<Row>, tokio_postgres::Error> {
    let statement = "SELECT verdict = 'commit', CASE WHEN participants IS NOT NULL THEN owner::text END \
                     FROM pgring.decision WHERE xid = $1::text::uuid";
    let row = client.query_opt(statement, &[&xid.to_string()]).await?;
    row.map(|row| {
        let decided = if row.try_get(0)? { Decided::Commit } else { Decided::Abort };
        Ok(Row { decided, by: row.try_get(1)? })
    })
    .transpose()
}

/// Writes an abort row, in the place of a forged one if there is. False: the decider has its own in an open
/// transaction. Otherwise there is a row by now, this or another one.
async fn write_abort(client: &Client, xid: Xid, forged: Option<&Row>) -> Result<bool, tokio_postgres::Error> {
    let Err(error) = try_to_write(client, &xid.to_string(), forged).await else { return Ok(true) };
    client.batch_execute("ROLLBACK").await?;
    match error.code() {
        Some(&SqlState::UNIQUE_VIOLATION) => Ok(true),
        Some(&SqlState::LOCK_NOT_AVAILABLE) => Ok(false),
        _ => Err(error),
    }
}

async fn try_to_write(client: &Client, xid: &str, forged: Option<&Row>) -> Result<(), tokio_postgres::Error> {
    client.batch_execute("BEGIN").await?;
    client.batch_execute(LOCK_TIMEOUT).await?;
    // What others follow must not be taken back by a crash.
    client.batch_execute("SET LOCAL synchronous_commit = on").await?;
    if let Some(Row { by, .. }) = forged {
        // The row that was read, and no other: whoever is in doubt destroys nothing.
        let delete = "DELETE FROM pgring.decision WHERE xid = $1::text::uuid AND verdict = 'commit' \
                      AND CASE WHEN participants IS NOT NULL THEN owner::text END IS NOT DISTINCT FROM $2::text";
        client.execute(delete, &[&xid, by]).await?;
    }
    let insert = "INSERT INTO pgring.decision (xid, verdict, participants) \
                  VALUES ($1::text::uuid, 'abort', '{}')";
    client.execute(insert, &[&xid]).await?;
    client.batch_execute("COMMIT").await
}

/// What has become of a decider that was to be ended.
enum Ended {
    /// It has come to its end, by itself or not.
    Over,
    /// Not yet.
    InFlight,
    /// It has committed, and waits for a standby.
    Replicating,
}

/// Who has the row that an abort row waits for, other than somebody who writes an abort row too; and
/// whether it waits for a standby.
const HOLDERS: &str = "SELECT holder.pid, activity.wait_event IS NOT DISTINCT FROM 'SyncRep' \
    FROM pg_catalog.pg_locks AS wanted \
    JOIN pg_catalog.pg_locks AS holder ON holder.locktype = 'transactionid' AND holder.granted \
     AND holder.transactionid = wanted.transactionid \
    JOIN pg_catalog.pg_stat_activity AS activity ON activity.pid = holder.pid \
    WHERE wanted.pid = $1 AND wanted.locktype = 'transactionid' AND NOT wanted.granted \
    AND NOT (activity.usename = current_user AND activity.application_name = 'pgring')";

/// Ends the backend that keeps a decision in an open transaction: whichever comes first, its commit
/// or its end, has won. One that has committed and waits for a standby is let be: it would become
/// visible while a failover can still lose it.
async fn end_decider(asking: &Asked, looking: &Asked, xid: Xid) -> Result<Ended, tokio_postgres::Error> {
    let pid: i32 = asking.client().query_one("SELECT pg_catalog.pg_backend_pid()", &[]).await?.try_get(0)?;
    let waits = write_abort(asking.client(), xid, None);
    let ends = async {
        // The other one has to wait by then.
        tokio::time::sleep(Duration::from_millis(200)).await;
        let client = looking.client();
        let mut replicating = false;
        for holder in client.query(HOLDERS, &[&pid]).await? {
            let (pid, waits_for_standby): (i32, bool) = (holder.try_get(0)?, holder.try_get(1)?);
            replicating |= waits_for_standby;
            if !waits_for_standby {
                client.query_one("SELECT pg_catalog.pg_terminate_backend($1)", &[&pid]).await?;
                tracing::warn!(%xid, pid, "a deciding transaction that went on for too long was ended");
            }
        }
        Ok::<bool, tokio_postgres::Error>(replicating)
    };
    let (waited, replicating) = tokio::join!(waits, ends);
    Ok(match (waited?, replicating?) {
        (true, _) => Ended::Over,
        (false, true) => Ended::Replicating,
        (false, false) => Ended::InFlight,
    })
}
