//! What a shard's decisions have come to: whether every participant has followed, and when the rows
//! that prove it may go.

use super::asker::{Asker, Failure, Others, identities, shard_of};
use super::neighbours::Strangers;
use super::patience;
use crate::session::Database;
use crate::txn::recovery::{self, Decided, Review, Stage, Testimony, Trace};
use crate::txn::{Gid, Participant, Xid};
use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::time::Duration;
use tokio_postgres::Client;
use tokio_postgres::types::ToSql;

/// How many rows are looked at in one go.
const BATCH: i64 = 1000;

/// How far what is looked at in turns has been looked at: of what cannot be judged now there may be more than
/// is looked at in one go, and the others are not to wait behind it.
#[derive(Default)]
pub(super) struct Cursor {
    /// The last witness.
    witness: String,
    /// The last decision, by its stage.
    decisions: HashMap<Stage, After>,
    /// The last abort row.
    aborts: After,
}

/// A row after which, by age, the next go begins.
#[derive(Clone)]
struct After {
    since: String,
    xid: String,
}

/// At the beginning.
impl Default for After {
    fn default() -> After {
        After { since: "-infinity".to_owned(), xid: NO_XID.to_owned() }
    }
}

impl After {
    /// After a go that has found so many rows, the last of which is this.
    fn go(found: usize, last: Option<(&String, &String)>) -> After {
        match last {
            Some((since, xid)) if i64::try_from(found).is_ok_and(|found| found >= BATCH) => {
                After { since: since.clone(), xid: xid.clone() }
            }
            _ => After::default(),
        }
    }
}

/// Before all others.
const NO_XID: &str = "00000000-0000-0000-0000-000000000000";

/// A `commit` row.
struct Decision {
    xid: String,
    owner: String,
    participants: Vec<String>,
    /// Where they were seen, if they were, in their order.
    timelines: Vec<i32>,
    stage: Stage,
    /// As it was read: who changes the row sees to it that it still is so.
    since: String,
    age: Duration,
}

/// What a participant says of a batch.
struct Traces {
    prepared: HashSet<Xid>,
    /// With the role they belong to.
    witnesses: HashSet<(String, String)>,
    /// On which the last of these were seen.
    timeline: i32,
}

type Connections<'c> = (&'c Asker, &'c mut Others);

impl Cursor {
    /// Looks at some of the rows, if nobody else does.
    pub(super) async fn go_on(
        &mut self,
        database: &Database,
        shard: usize,
        client: &Client,
        (asker, others): Connections<'_>,
    ) -> Result<(), Failure> {
        let lock = "SELECT pg_catalog.pg_try_advisory_lock(8099004086716137475)";
        if !client.query_one(lock, &[]).await?.try_get::<_, bool>(0)? {
            return Ok(());
        }
        let outcome = self.look(database, shard, client, (asker, others)).await;
        client.batch_execute("SELECT pg_catalog.pg_advisory_unlock(8099004086716137475)").await?;
        outcome
    }

    async fn look(
        &mut self,
        database: &Database,
        shard: usize,
        client: &Client,
        (asker, others): Connections<'_>,
    ) -> Result<(), Failure> {
        for stage in [Stage::Fresh, Stage::Settled, Stage::Retiring] {
            let after = self.decisions.entry(stage).or_default();
            let decisions = decisions(client, stage, after).await?;
            let last = decisions.last().map(|decision| (&decision.since, &decision.xid));
            *after = After::go(decisions.len(), last);
            judge(database, shard, client, (asker, others), &decisions).await?;
        }
        forget_aborts(database, client, (asker, others), &mut self.aborts).await?;
        self.hear_witnesses(database, shard, client, (asker, others)).await
    }

    /// Is there a decision for what has been committed here?
    async fn hear_witnesses(
        &mut self,
        database: &Database,
        shard: usize,
        client: &Client,
        (asker, others): Connections<'_>,
    ) -> Result<(), Failure> {
        // The younger ones' row may be on its way to be seen: not by us, but by a standby that is promoted.
        let statement = "SELECT xid::text, extract(epoch FROM clock_timestamp() - made)::float8 \
                         FROM pgring.applied WHERE xid > $1::text::uuid \
                         AND made < clock_timestamp() - interval '30 seconds' ORDER BY xid LIMIT $2";
        let from = if self.witness.is_empty() { NO_XID } else { &self.witness };
        let rows = client.query(statement, &[&from, &BATCH]).await?;
        let mut witnesses: Vec<(String, Duration)> = Vec::with_capacity(rows.len());
        for row in rows {
            let age = Duration::try_from_secs_f64(row.try_get(1)?).unwrap_or_default();
            witnesses.push((row.try_get(0)?, age));
        }
        self.witness = witnesses.last().map(|(xid, _)| xid.clone()).unwrap_or_default();
        if witnesses.is_empty() {
            return Ok(());
        }
        let xids: Vec<&str> = witnesses.iter().map(|(xid, _)| xid.as_str()).collect();
        let mut rows: Vec<Option<HashMap<String, Decided>>> = Vec::new();
        for at in 0..database.shards.len() {
            rows.push(verdicts(database, at, (asker, others), &xids).await);
        }
        let strangers = Strangers::look(client, &identities(database)).await?;
        let mut stale = Vec::new();
        for (xid, age) in &witnesses {
            let said = rows.iter().map(|rows| rows.as_ref().map(|rows| rows.get(xid).copied()));
            let unheard = std::iter::repeat_n(None, strangers.deciders(*age, &patience()));
            match recovery::testimony(*age, said.chain(unheard), &patience()) {
                Testimony::Fine => {}
                Testimony::Stale => stale.push(xid.as_str()),
                Testimony::DeciderLost => {
                    // It may have been removed just now, with its decision.
                    let still = "UPDATE pgring.applied SET cried = true \
                                 WHERE xid = $1::text::uuid AND NOT cried";
                    if client.execute(still, &[xid]).await? > 0 {
                        cry(database, shard, xid, "the deciding shard has lost the decision");
                    }
                }
            }
        }
        if !stale.is_empty() {
            // A failover may have brought them back; or their decision was lost when nobody could look.
            tracing::info!(
                database = database.name,
                shard = database.shards[shard].name,
                "{} witnesses of commits that no shard remembers are removed",
                stale.len()
            );
        }
        forget_witnesses(client, &stale).await?;
        Ok(())
    }
}

async fn verdicts(
    database: &Database,
    shard: usize,
    (asker, others): Connections<'_>,
    xids: &[&str],
) -> Option<HashMap<String, Decided>> {
    let asking = async {
        let connection = others.get(asker, database, shard).await?;
        let statement = "SELECT xid::text, verdict = 'commit' FROM pgring.decision \
                         WHERE xid = ANY ($1::text[]::uuid[])";
        let rows = connection.client().query(statement, &[&xids]).await?;
        let each = rows.iter().map(|row| {
            let decided = if row.try_get(1)? { Decided::Commit } else { Decided::Abort };
            Ok((row.try_get(0)?, decided))
        });
        each.collect::<Result<_, Failure>>()
    };
    let asked: Result<_, Failure> = asking.await;
    keep_or_drop(others, shard, asked)
}

fn keep_or_drop<T>(others: &mut Others, shard: usize, asked: Result<T, Failure>) -> Option<T> {
    match asked {
        Ok(answer) => Some(answer),
        Err(failure) => {
            tracing::debug!("a participant cannot be asked: {failure}");
            others.drop(shard);
            None
        }
    }
}

fn name(stage: Stage) -> &'static str {
    match stage {
        Stage::Fresh => "fresh",
        Stage::Settled => "settled",
        Stage::Retiring => "retiring",
        Stage::Lost => "lost",
    }
}

/// Decisions of a stage for which it may be time.
async fn decisions(
    client: &Client,
    stage: Stage,
    after: &After,
) -> Result<Vec<Decision>, tokio_postgres::Error> {
    let patience = patience();
    let age = match stage {
        Stage::Fresh => patience.grace,
        Stage::Settled => patience.retention,
        Stage::Retiring | Stage::Lost => Duration::ZERO,
    };
    let statement = "SELECT xid::text, owner::text, participants, timelines, since::text, \
                     extract(epoch FROM clock_timestamp() - since)::float8 \
                     FROM pgring.decision WHERE stage = $1 AND verdict = 'commit' \
                     AND since <= clock_timestamp() - $2::float8 * interval '1 second' \
                     AND (since, xid) > ($3::text::timestamptz, $4::text::uuid) \
                     ORDER BY since, xid LIMIT $5";
    let bounds: [&(dyn ToSql + Sync); 5] =
        [&name(stage), &age.as_secs_f64(), &after.since, &after.xid, &BATCH];
    let rows = client.query(statement, &bounds).await?;
    let read = |row: &tokio_postgres::Row| {
        Ok(Decision {
            xid: row.try_get(0)?,
            owner: row.try_get::<_, Option<String>>(1)?.unwrap_or_default(),
            participants: row.try_get::<_, Option<Vec<String>>>(2)?.unwrap_or_default(),
            timelines: row.try_get::<_, Option<Vec<i32>>>(3)?.unwrap_or_default(),
            stage,
            since: row.try_get(4)?,
            age: Duration::try_from_secs_f64(row.try_get(5)?).unwrap_or_default(),
        })
    };
    rows.iter().map(read).collect()
}

/// What comes next for each of them.
async fn judge(
    database: &Database,
    shard: usize,
    client: &Client,
    (asker, others): Connections<'_>,
    decisions: &[Decision],
) -> Result<(), Failure> {
    if decisions.is_empty() {
        return Ok(());
    }
    let mut asked: HashMap<usize, Option<Traces>> = HashMap::new();
    let place = |participant: &String| Participant::parse(participant).and_then(|p| shard_of(database, &p));
    for at in decisions.iter().flat_map(|decision| &decision.participants).filter_map(place) {
        if let Entry::Vacant(vacant) = asked.entry(at) {
            let xids: Vec<&str> = decisions.iter().map(|decision| decision.xid.as_str()).collect();
            vacant.insert(traces(database, at, (asker, others), &xids).await);
        }
    }
    let mut advance: HashMap<(Stage, Vec<i32>), Vec<&Decision>> = HashMap::new();
    let mut remove = Vec::new();
    for decision in decisions {
        let traces = decision.participants.iter().enumerate().map(|(number, participant)| {
            let Some(Some(traces)) = place(participant).and_then(|at| asked.get(&at)) else {
                return Trace::Unknown;
            };
            let is_prepared = Xid::parse(&decision.xid).is_some_and(|xid| traces.prepared.contains(&xid));
            let witness = (decision.xid.clone(), decision.owner.clone());
            match (is_prepared, traces.witnesses.contains(&witness)) {
                (true, _) => Trace::Prepared,
                (false, true) => {
                    Trace::Witness { as_noted: decision.timelines.get(number) == Some(&traces.timeline) }
                }
                (false, false) => Trace::Nothing,
            }
        });
        match recovery::review(decision.stage, decision.age, traces, &patience()) {
            Review::Keep => {}
            Review::Advance(stage) => {
                let seen = decision.participants.iter().filter_map(|participant| {
                    let traces = asked.get(&place(participant)?)?.as_ref()?;
                    Some(traces.timeline)
                });
                advance.entry((stage, seen.collect())).or_default().push(decision);
            }
            Review::Remove => remove.push(decision),
            Review::Suspect => {
                let update = "UPDATE pgring.decision SET stage = 'lost', since = clock_timestamp() \
                              WHERE xid = $1::text::uuid AND stage = $2 AND since = $3::text::timestamptz";
                let seen: [&(dyn ToSql + Sync); 3] = [&decision.xid, &name(decision.stage), &decision.since];
                if client.execute(update, &seen).await? == 1 {
                    cry(database, shard, &decision.xid, "a participant has lost its part");
                }
            }
        }
    }
    for ((stage, timelines), decisions) in advance {
        let update = "UPDATE pgring.decision AS d SET stage = $1, since = clock_timestamp(), timelines = $2 \
                      FROM unnest($3::text[], $4::text[]) AS seen (xid, since) \
                      WHERE d.xid = seen.xid::uuid AND d.since = seen.since::timestamptz AND d.stage = $5";
        let xids: Vec<&str> = decisions.iter().map(|decision| decision.xid.as_str()).collect();
        let since: Vec<&str> = decisions.iter().map(|decision| decision.since.as_str()).collect();
        let Some(before) = decisions.first().map(|decision| name(decision.stage)) else { continue };
        client.execute(update, &[&name(stage), &timelines, &xids, &since, &before]).await?;
    }
    remove_decisions(database, client, (asker, others), &remove, &place).await
}

/// The witnesses, and when they are gone the decisions.
async fn remove_decisions(
    database: &Database,
    client: &Client,
    (asker, others): Connections<'_>,
    remove: &[&Decision],
    place: &impl Fn(&String) -> Option<usize>,
) -> Result<(), Failure> {
    if remove.is_empty() {
        return Ok(());
    }
    let mut by_shard: HashMap<usize, Vec<&str>> = HashMap::new();
    for decision in remove {
        for participant in &decision.participants {
            // One that is not configured any more keeps the row.
            let Some(at) = place(participant) else { continue };
            by_shard.entry(at).or_default().push(&decision.xid);
        }
    }
    for (at, xids) in by_shard {
        let connection = others.get(asker, database, at).await?;
        if let Err(error) = forget_witnesses(connection.client(), &xids).await {
            others.drop(at);
            return Err(error.into());
        }
    }
    let whole = |decision: &&&Decision| decision.participants.iter().all(|p| place(p).is_some());
    let xids: Vec<&str> = remove.iter().filter(whole).map(|decision| decision.xid.as_str()).collect();
    let delete = "DELETE FROM pgring.decision WHERE xid = ANY ($1::text[]::uuid[]) AND stage = 'retiring'";
    client.execute(delete, &[&xids]).await?;
    Ok(())
}

async fn forget_witnesses(client: &Client, xids: &[&str]) -> Result<(), tokio_postgres::Error> {
    if xids.is_empty() {
        return Ok(());
    }
    let delete = "DELETE FROM pgring.applied WHERE xid = ANY ($1::text[]::uuid[])";
    client.execute(delete, &[&xids]).await.map(drop)
}

/// What a shard has of these: what is prepared first, see [`recovery`].
async fn traces(
    database: &Database,
    shard: usize,
    (asker, others): Connections<'_>,
    xids: &[&str],
) -> Option<Traces> {
    let asking = async {
        let connection = others.get(asker, database, shard).await?;
        let client = connection.client();
        let prepared = gids(client, &database.two_phase.cluster).await?;
        let statement = "SELECT xid::text, owner::text, ('x' || pg_catalog.substr(pg_catalog.pg_walfile_name(\
                         pg_catalog.pg_current_wal_insert_lsn()), 1, 8))::bit(32)::int \
                         FROM pgring.applied WHERE xid = ANY ($1::text[]::uuid[])";
        let rows = client.query(statement, &[&xids]).await?;
        let timeline = rows.first().map_or(Ok(0), |row| row.try_get(2))?;
        let witnesses = rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?)));
        let witnesses = witnesses.collect::<Result<_, Failure>>()?;
        Ok::<Traces, Failure>(Traces { prepared, witnesses, timeline })
    };
    let asked = asking.await;
    keep_or_drop(others, shard, asked)
}

async fn gids(client: &Client, cluster: &str) -> Result<HashSet<Xid>, Failure> {
    let statement = "SELECT gid FROM pg_catalog.pg_prepared_xacts \
                     WHERE database = pg_catalog.current_database() AND pg_catalog.starts_with(gid, $1)";
    let rows = client.query(statement, &[&format!("pgring:{cluster}:")]).await?;
    let mut found = HashSet::new();
    for row in rows {
        let name: String = row.try_get(0)?;
        found.extend(Gid::parse(&name, cluster).map(|gid| gid.xid));
    }
    Ok(found)
}

/// Abort rows that nobody can come to need.
async fn forget_aborts(
    database: &Database,
    client: &Client,
    (asker, others): Connections<'_>,
    after: &mut After,
) -> Result<(), Failure> {
    let statement = "SELECT xid::text, since::text FROM pgring.decision \
                     WHERE verdict = 'abort' AND stage = 'fresh' \
                     AND since < clock_timestamp() - $1::float8 * interval '1 second' \
                     AND (since, xid) > ($2::text::timestamptz, $3::text::uuid) \
                     ORDER BY since, xid LIMIT $4";
    let retention = patience().retention;
    let rows = client.query(statement, &[&retention.as_secs_f64(), &after.since, &after.xid, &BATCH]).await?;
    let read =
        |row: &tokio_postgres::Row| Ok::<(String, String), Failure>((row.try_get(0)?, row.try_get(1)?));
    let rows = rows.iter().map(read).collect::<Result<Vec<_>, Failure>>()?;
    *after = After::go(rows.len(), rows.last().map(|(xid, since)| (since, xid)));
    if rows.is_empty() {
        return Ok(());
    }
    let mut everywhere = Vec::new();
    for at in 0..database.shards.len() {
        let asking = async {
            let connection = others.get(asker, database, at).await?;
            gids(connection.client(), &database.two_phase.cluster).await
        };
        let asked = asking.await;
        everywhere.push(keep_or_drop(others, at, asked));
    }
    let mut go: Vec<String> = Vec::new();
    for (xid, _) in rows {
        let Some(parsed) = Xid::parse(&xid) else { continue };
        let found = everywhere.iter().map(|gids| gids.as_ref().map(|gids| gids.contains(&parsed)));
        if recovery::abort_may_go(retention, found, &patience()) {
            go.push(xid);
        }
    }
    let delete = "DELETE FROM pgring.decision WHERE xid = ANY ($1::text[]::uuid[]) AND verdict = 'abort'";
    client.execute(delete, &[&go]).await?;
    Ok(())
}

/// An acknowledged commit has been lost. That is nothing that can be mended here.
fn cry(database: &Database, shard: usize, xid: &str, what: &str) {
    database.two_phase.lost.inc();
    tracing::error!(
        database = database.name,
        shard = database.shards[shard].name,
        xid,
        "a committed transaction is not whole any more: {what}. A shard that fails over without \
         synchronous replication can lose what it has acknowledged"
    );
}
