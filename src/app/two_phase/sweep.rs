//! What is prepared on a shard, and what becomes of it.

use super::asker::{Asked, Asker, Failure, Others, identities, shard_of};
use super::decider::Subject;
use super::prepared::{Prepared, finish, prepared};
use super::witness::Place;
use super::{decider, neighbours, objects, patience, review};
use crate::session::Database;
use crate::session::two_phase::Ability;
use crate::telemetry::Metrics;
use crate::telemetry::snapshot::TransactionRow;
use crate::txn::Participant;
use crate::txn::recovery::{Decider, Owner, Patience, Step, Why, step};
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
/// How long locks are waited for when one decider is asked.
const LOCKS: Duration = Duration::from_secs(4);
/// What takes so long is tried after the others the next time, and only so many of these in one go: anybody
/// can leave prepared what waits for something of his own.
const IS_SLOW: Duration = Duration::from_millis(300);
const SLOW: usize = 4;
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
    /// It cannot be asked.
    Away(String),
    /// It is decided; the server refuses.
    NotDone(&'static str, String),
    /// It is decided; the server does not answer.
    Lost(&'static str, String),
}

/// Of a transaction that took long to ask for.
struct Slow {
    /// When that was.
    turn: u32,
    /// What it waited for.
    why: String,
}

/// Looks after one shard.
pub(super) struct Sweeper {
    database: Weak<Database>,
    shard: usize,
    asker: Arc<Asker>,
    metrics: Arc<Metrics>,
    own: Option<Asked>,
    /// Whom the server was told to be beside it, and when.
    beside: Option<(Vec<String>, Instant)>,
    others: Others,
    turns: u32,
    /// By gid.
    slow: HashMap<String, Slow>,
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
            beside: None,
            others: Others::default(),
            turns: 0,
            slow: HashMap::new(),
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
                // It may be another one.
                self.beside = None;
                own
            }
        };
        let is_able = matches!(database.two_phase.ability.borrow()[self.shard], Ability::Able(_));
        let mut outcome = self.look(database, own.client()).await;
        if outcome.is_ok() && is_able {
            outcome = self.note_neighbours(database, own.client()).await;
        }
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

    /// Before what is committed with a neighbour is half a minute old, which is when its witness is judged.
    async fn note_neighbours(&mut self, database: &Database, client: &Client) -> Result<(), Failure> {
        let beside = identities(database);
        let is_told =
            |(told, when): &(Vec<String>, Instant)| *told == beside && when.elapsed() < neighbours::AGAIN;
        if !self.beside.as_ref().is_some_and(is_told) {
            self.in_time(async { Ok(neighbours::note(client, &beside).await?) }).await?;
            self.beside = Some((beside, Instant::now()));
        }
        Ok(())
    }

    /// Sees to what is prepared.
    async fn look(&mut self, database: &Database, client: &Client) -> Result<(), Failure> {
        let cluster = &database.two_phase.cluster;
        let patience = patience();
        let name = database.shards[self.shard].name.clone();
        let mut rows = Vec::new();
        // Who cannot be asked is tried once: the others' turn is not to come late.
        let mut away: HashMap<Participant, String> = HashMap::new();
        let mut failure = Ok(());
        let found = self.in_time(async { Ok(prepared(client, cluster).await?) }).await?;
        let mut found: Vec<Prepared> =
            found.into_iter().filter(|prepared| prepared.age >= patience.grace).collect();
        self.slow.retain(|name, _| found.iter().any(|prepared| prepared.name == *name));
        found.sort_by_key(|prepared| self.slow.get(&prepared.name).map(|slow| slow.turn));
        let mut slow_left = SLOW;
        for prepared in found {
            let decider = shard_of(database, &prepared.gid.decider);
            let slow = self.slow.remove(&prepared.name);
            let (state, waits_for) = match (away.get(&prepared.gid.decider), slow) {
                _ if failure.is_err() => ("undecided", "the server, which does not answer".to_owned()),
                (Some(why), _) => ("undecided", why.clone()),
                (None, Some(slow)) if slow_left == 0 => {
                    let why = slow.why.clone();
                    self.slow.insert(prepared.name.clone(), slow);
                    ("undecided", why)
                }
                (None, slow) => {
                    slow_left -= usize::from(slow.is_some());
                    let began = Instant::now();
                    let (state, why) = match self.settle(database, client, &prepared, &patience).await {
                        Ok(Step::Commit | Step::RollBack) => continue,
                        Ok(Step::Wait(why)) => ("undecided", words(why)),
                        Ok(
                            Step::InsertAbort
                            | Step::ReplaceForged
                            | Step::AskWitness
                            | Step::TerminateDecider,
                        ) => ("undecided", words(Why::InFlight)),
                        Err(Hindrance::Undecided(why)) => ("undecided", why),
                        Err(Hindrance::Away(why)) => {
                            away.insert(prepared.gid.decider.clone(), why.clone());
                            ("undecided", why)
                        }
                        Err(Hindrance::NotDone(state, why)) => (state, why),
                        Err(Hindrance::Lost(state, why)) => {
                            failure = Err(Failure::Unreachable(why.clone()));
                            (state, why)
                        }
                    };
                    if began.elapsed() >= IS_SLOW {
                        let slow = Slow { turn: self.turns, why: why.clone() };
                        self.slow.insert(prepared.name.clone(), slow);
                    }
                    (state, why)
                }
            };
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
            let place = Place { shard: self.shard, prepared };
            let subject = Subject {
                xid: prepared.gid.xid,
                owner: Owner::Now(prepared.owner.as_deref()),
                found: Some(&place),
                since: Instant::now().checked_sub(prepared.age).unwrap_or_else(Instant::now),
            };
            decider::ask(&self.asker, database, decider, shard, &subject, patience).await
        };
        // Dropped in the middle a connection is in an unknown state.
        let asked = tokio::time::timeout(self.asker.timeout + LOCKS, asked).await;
        let verdict = match asked {
            Ok(Ok(verdict)) => verdict,
            Ok(Err(failure)) => {
                self.others.drop(shard);
                let why = format!("shard {}: {failure}", database.shards[shard].name);
                return Err(match failure {
                    Failure::Unreachable(_) => Hindrance::Away(why),
                    Failure::Refused(_) | Failure::Held(_) => Hindrance::Undecided(why),
                });
            }
            Err(_) => {
                self.others.drop(shard);
                return Err(Hindrance::Away(words(Why::Unreachable)));
            }
        };
        let (verb, state) = match verdict {
            Step::Commit => ("COMMIT", "committed"),
            Step::RollBack => ("ROLLBACK", "aborted"),
            other => return Ok(other),
        };
        let finishing = tokio::time::timeout(
            self.asker.timeout,
            finish(client, verb, &prepared.name, prepared.owner.as_deref()),
        )
        .await;
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
