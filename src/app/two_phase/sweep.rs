//! What is prepared on a shard, and what becomes of it.

use super::asker::{Asked, Asker, Failure, Others, shard_of};
use super::decider::Subject;
use super::witness::Place;
use super::{decider, objects, patience, review};
use crate::backend::quoted;
use crate::session::Database;
use crate::session::two_phase::Ability;
use crate::telemetry::Metrics;
use crate::telemetry::snapshot::TransactionRow;
use crate::txn::recovery::{Decider, Owner, Patience, Step, Why, step};
use crate::txn::{Gid, Participant};
use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant, SystemTime};
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

/// How often a shard is looked at.
const EVERY: Duration = Duration::from_secs(1);
/// Every so many times its decisions are, too.
const REVIEW: u32 = 5;
/// How long that may take.
const REVIEWING: Duration = Duration::from_secs(30);
/// From when on something in doubt is complained of, and how often.
const COMPLAINT: Duration = Duration::from_secs(60);

/// What hinders, and what helps.
const NOT_PREPARED: &str = "Set max_prepared_transactions to at least the server's max_connections, \
                            and restart it.";
const NO_RIGHTS: &str = "Give pgring's control role CREATE on the shard's database.";
const NOT_OURS: &str = "Drop it, or make it pgring's control role's: whoever owns it could forge decisions.";
const NO_IDENTITY: &str = "Let pgring's control role call pg_control_system().";

/// Why one is not finished.
enum Hindrance {
    /// The decider does not say.
    Undecided(String),
    /// It is decided; the server refuses.
    NotDone(&'static str, String),
    /// It is decided; the server does not answer.
    Lost(&'static str, String),
}

/// One transaction that is prepared on the shard.
struct Prepared {
    gid: Gid,
    name: String,
    /// The server's own number of it.
    transaction: String,
    /// As the shard calls it now; none if the role was dropped.
    owner: Option<String>,
    age: Duration,
}

/// Looks after one shard.
pub(super) struct Sweeper {
    database: Weak<Database>,
    shard: usize,
    asker: Arc<Asker>,
    metrics: Arc<Metrics>,
    own: Option<Asked>,
    others: Others,
    turns: u32,
    complained: Option<String>,
    complained_of_age: Option<Instant>,
    review: review::Cursor,
}

impl Sweeper {
    pub(super) fn new(
        database: &Arc<Database>,
        shard: usize,
        asker: Arc<Asker>,
        metrics: Arc<Metrics>,
    ) -> Sweeper {
        Sweeper {
            database: Arc::downgrade(database),
            shard,
            asker,
            metrics,
            own: None,
            others: Others::default(),
            turns: 0,
            complained: None,
            complained_of_age: None,
            review: review::Cursor::default(),
        }
    }

    pub(super) async fn run(mut self) {
        loop {
            let Some(database) = self.database.upgrade() else { return };
            if self.turns == 0 {
                // Whom to ask turns out soon after the start.
                let _ = database.shards[self.shard].board.wait_for_verdict(self.asker.timeout).await;
            }
            let failure = self.sweep(&database).await.err().map(|failure| failure.to_string());
            if let Some(why) = &failure {
                self.own = None;
                database.two_phase.ability.send_if_modified(|all| match &mut all[self.shard] {
                    Ability::Unknown(known) => {
                        known.clone_from(why);
                        true
                    }
                    // What it was it will be again, or a session will find out.
                    Ability::Able(_) | Ability::Unable(..) => false,
                });
                if self.complained != failure {
                    tracing::warn!(
                        database = database.name,
                        shard = database.shards[self.shard].name,
                        "cannot look for prepared transactions: {why}"
                    );
                }
            }
            self.complained = failure;
            self.turns = self.turns.wrapping_add(1).max(1);
            drop(database);
            tokio::time::sleep(EVERY).await;
        }
    }

    async fn sweep(&mut self, database: &Database) -> Result<(), Failure> {
        let kept = self.own.take().filter(|own| own.is_good());
        let own = match kept {
            Some(own) => own,
            None => {
                let own = self.asker.open(database, self.shard).await?;
                self.in_time(self.introduce(database, own.client())).await?;
                own
            }
        };
        let is_able = matches!(database.two_phase.ability.borrow()[self.shard], Ability::Able(_));
        let outcome = self.look(database, own.client()).await;
        let outcome = match outcome {
            Ok(()) if is_able && self.turns % REVIEW == REVIEW - 1 => {
                self.review_in_time(database, own.client()).await
            }
            outcome => outcome,
        };
        // After a failure it may be in the middle of something.
        self.own = outcome.is_ok().then_some(own);
        outcome
    }

    /// What its decisions have come to; what takes too long goes on the next time.
    async fn review_in_time(&mut self, database: &Database, client: &Client) -> Result<(), Failure> {
        let going = self.review.go_on(database, self.shard, client, (&self.asker, &mut self.others));
        match tokio::time::timeout(REVIEWING, going).await {
            Ok(outcome) => outcome,
            Err(_) => {
                self.others = Others::default();
                Err(Failure::Unreachable(format!("no answer within {REVIEWING:?}")))
            }
        }
    }

    /// No server is waited for for ever.
    async fn in_time<T>(&self, asking: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        let timeout = self.asker.timeout;
        let late = |_| Failure::Unreachable(format!("no answer within {timeout:?}"));
        tokio::time::timeout(timeout, asking).await.unwrap_or_else(|elapsed| Err(late(elapsed)))
    }

    /// Who is it, and can it take part?
    async fn introduce(&self, database: &Database, client: &Client) -> Result<(), Failure> {
        let name = &database.shards[self.shard].name;
        let ability = ability(client).await?;
        if let Ability::Unable(why, hint) = &ability {
            tracing::warn!(
                database = database.name,
                shard = name,
                "changes of several shards are refused: {why}. {hint}"
            );
        }
        database.two_phase.ability.send_modify(|all| all[self.shard] = ability);
        Ok(())
    }

    /// Sees to what is prepared.
    async fn look(&mut self, database: &Database, client: &Client) -> Result<(), Failure> {
        let cluster = &database.two_phase.cluster;
        let patience = patience();
        let name = database.shards[self.shard].name.clone();
        let mut rows = Vec::new();
        // Whoever has been waited for once is not waited for again: the others' turn is not to come late.
        let mut waits: HashMap<Participant, String> = HashMap::new();
        let mut failure = Ok(());
        let found = self.in_time(async { Ok(prepared(client, cluster).await?) }).await?;
        for prepared in found.into_iter().filter(|prepared| prepared.age >= patience.grace) {
            let decider = shard_of(database, &prepared.gid.decider);
            let (state, waits_for) = match waits.get(&prepared.gid.decider) {
                _ if failure.is_err() => ("undecided", "the server, which does not answer".to_owned()),
                Some(why) => ("undecided", why.clone()),
                None => match self.settle(database, client, &prepared, &patience).await {
                    Ok(Step::Commit | Step::RollBack) => continue,
                    Ok(Step::Wait(why)) => ("undecided", words(why)),
                    Ok(
                        Step::InsertAbort | Step::ReplaceForged | Step::AskWitness | Step::TerminateDecider,
                    ) => ("undecided", words(Why::InFlight)),
                    Err(Hindrance::Undecided(why)) => ("undecided", why),
                    Err(Hindrance::NotDone(state, why)) => (state, why),
                    Err(Hindrance::Lost(state, why)) => {
                        failure = Err(Failure::Unreachable(why.clone()));
                        (state, why)
                    }
                },
            };
            if state == "undecided" {
                waits.insert(prepared.gid.decider.clone(), waits_for.clone());
            }
            rows.push(TransactionRow {
                database: database.name.clone(),
                gid: prepared.name,
                decider: decider.map_or_else(
                    || prepared.gid.decider.to_string(),
                    |shard| database.shards[shard].name.clone(),
                ),
                participants: vec![name.clone()],
                state,
                age_seconds: prepared.age.as_secs_f64(),
                since: Some(SystemTime::now() - prepared.age),
                waits_for,
            });
        }
        self.complain(database, &rows);
        database.two_phase.found(&name, rows);
        failure
    }

    fn complain(&mut self, database: &Database, rows: &[TransactionRow]) {
        let Some(oldest) = rows.iter().max_by(|a, b| a.age_seconds.total_cmp(&b.age_seconds)) else { return };
        let is_old = oldest.age_seconds >= COMPLAINT.as_secs_f64();
        if is_old && self.complained_of_age.is_none_or(|then| then.elapsed() >= COMPLAINT) {
            self.complained_of_age = Some(Instant::now());
            tracing::error!(
                database = database.name,
                shard = database.shards[self.shard].name,
                gid = oldest.gid,
                state = oldest.state,
                age_seconds = oldest.age_seconds,
                "{} transactions are in doubt, waiting for: {}",
                rows.len(),
                oldest.waits_for
            );
        }
    }

    /// Finishes one as its decider says.
    async fn settle(
        &mut self,
        database: &Database,
        client: &Client,
        prepared: &Prepared,
        patience: &Patience,
    ) -> Result<Step, Hindrance> {
        let Some(shard) = shard_of(database, &prepared.gid.decider) else {
            return Ok(step(prepared.age, Decider::UnknownIdentity, patience));
        };
        let asked = async {
            let decider = self.others.get(&self.asker, database, shard).await?;
            let place = Place { shard: self.shard, gid: &prepared.name, transaction: &prepared.transaction };
            let subject = Subject {
                xid: prepared.gid.xid,
                owner: Owner::Now(prepared.owner.as_deref()),
                found: Some(&place),
                since: Instant::now().checked_sub(prepared.age).unwrap_or_else(Instant::now),
            };
            decider::ask(&self.asker, database, decider, shard, &subject, patience).await
        };
        // Dropped in the middle a connection is in an unknown state.
        let asked = tokio::time::timeout(self.asker.timeout, asked).await;
        let verdict = match asked {
            Ok(Ok(verdict)) => verdict,
            Ok(Err(failure)) => {
                self.others.drop(shard);
                let decider = &database.shards[shard].name;
                return Err(Hindrance::Undecided(format!("shard {decider}: {failure}")));
            }
            Err(_) => {
                self.others.drop(shard);
                return Err(Hindrance::Undecided(words(Why::Unreachable)));
            }
        };
        let (verb, state) = match verdict {
            Step::Commit => ("COMMIT", "committed"),
            Step::RollBack => ("ROLLBACK", "aborted"),
            other => return Ok(other),
        };
        let finishing = tokio::time::timeout(self.asker.timeout, finish(client, verb, prepared)).await;
        match finishing {
            Err(_) => Err(Hindrance::Lost(state, "the server, which does not answer".to_owned())),
            Ok(Ok(was_us)) => {
                if was_us {
                    let counters = &self.metrics.two_phase;
                    match verdict {
                        Step::Commit => counters.recovered_commit.inc(),
                        _ => counters.recovered_abort.inc(),
                    }
                    tracing::info!(
                        database = database.name,
                        shard = database.shards[self.shard].name,
                        gid = prepared.name,
                        "a transaction that was left prepared is {state}"
                    );
                }
                Ok(verdict)
            }
            Ok(Err(error)) => {
                let why = crate::pool::health::connector::cause(&error);
                Err(Hindrance::NotDone(
                    state,
                    match prepared.owner {
                        Some(_) => why,
                        None => format!("a superuser, since its role was dropped: {why}"),
                    },
                ))
            }
        }
    }
}

fn words(why: Why) -> String {
    match why {
        Why::Young => "its session",
        Why::InFlight => "the end of the deciding transaction",
        Why::Replicating => "a standby of the deciding shard",
        Why::Unreachable => "the deciding shard, which does not answer",
        Why::UnknownDecider => "a deciding shard that is not configured here",
        Why::UnknownAuthor => "a sight of whose the decision is",
    }
    .to_owned()
}

/// Whether the server can take part in a two-phase commit; makes what it needs.
async fn ability(client: &Client) -> Result<Ability, Failure> {
    let row = client
        .query_one(
            "SELECT pg_catalog.current_setting('max_prepared_transactions')::int, pg_catalog.current_database()::text",
            &[],
        )
        .await?;
    if row.try_get::<_, i32>(0)? == 0 {
        return Ok(Ability::Unable("max_prepared_transactions is 0".to_owned(), NOT_PREPARED));
    }
    let database: String = row.try_get(1)?;
    let is_right = |error: &tokio_postgres::Error| error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE);
    let system = "SELECT system_identifier FROM pg_catalog.pg_control_system()";
    let system: i64 = match client.query_one(system, &[]).await {
        Ok(row) => row.try_get(0)?,
        Err(error) if is_right(&error) => {
            return Ok(Ability::Unable("who it is cannot be asked".to_owned(), NO_IDENTITY));
        }
        Err(error) => return Err(error.into()),
    };
    if let Some(owner) = objects::stranger(client).await? {
        return Ok(Ability::Unable(format!("its schema \"pgring\" belongs to {owner}"), NOT_OURS));
    }
    match objects::install(client).await {
        Ok(()) => Ok(Ability::Able(Participant { system: system.cast_unsigned(), database })),
        Err(error) if is_right(&error) => {
            let why = format!(
                "the schema pgring cannot be made: {}",
                crate::pool::health::connector::cause(&error)
            );
            Ok(Ability::Unable(why, NO_RIGHTS))
        }
        Err(error) => Err(error.into()),
    }
}

/// What our cluster has prepared in this database. What others have is not even looked at.
async fn prepared(client: &Client, cluster: &str) -> Result<Vec<Prepared>, tokio_postgres::Error> {
    let statement = "SELECT gid, owner::text, transaction::text, \
                     greatest(extract(epoch FROM pg_catalog.clock_timestamp() - prepared), 0)::float8 \
                     FROM pg_catalog.pg_prepared_xacts \
                     WHERE database = pg_catalog.current_database() AND pg_catalog.starts_with(gid, $1) \
                     ORDER BY prepared";
    let rows = client.query(statement, &[&format!("pgring:{cluster}:")]).await?;
    let mut found = Vec::with_capacity(rows.len());
    for row in rows {
        let name: String = row.try_get(0)?;
        let Some(gid) = Gid::parse(&name, cluster) else { continue };
        let age = Duration::try_from_secs_f64(row.try_get(3)?).unwrap_or_default();
        found.push(Prepared { gid, name, owner: row.try_get(1)?, transaction: row.try_get(2)?, age });
    }
    Ok(found)
}

/// `COMMIT PREPARED` or `ROLLBACK PREPARED`, as the owner, or as what one is if there is none any more;
/// false when somebody else was faster.
async fn finish(client: &Client, verb: &str, prepared: &Prepared) -> Result<bool, tokio_postgres::Error> {
    if let Some(owner) = &prepared.owner {
        client.batch_execute(&format!("SET ROLE {}", quoted(owner))).await?;
    }
    let gid = prepared.name.replace('\'', "''");
    let outcome = client.batch_execute(&format!("{verb} PREPARED '{gid}'")).await;
    client.batch_execute("RESET ROLE").await?;
    match outcome {
        Ok(()) => Ok(true),
        Err(error) => match error.code() {
            // Gone, or "busy": another one is at it.
            Some(&SqlState::UNDEFINED_OBJECT | &SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE) => Ok(false),
            _ => Err(error),
        },
    }
}
