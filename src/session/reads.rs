//! Which statements a replica answers, and when it has seen what the session wrote.
//!
//! A statement that is proven to read goes to a replica where `reads` or a hint says so; a
//! transaction, if it begins `READ ONLY`, and then all of it: what a transaction sees is one server's.
//! What cannot be on a replica, or is not known not to be, is on the primary: whatever else the
//! session does there, it finds its server again.
//!
//! **Read your writes.** Behind each change the primary is asked, in the same flight, where its log is
//! by now ([`Expect::Position`]). That is no earlier than where the commit is, and a replica that has
//! replayed as much shows it. What comes to pass in other ways (several shards, `COPY`, a message of
//! many statements) is noted as a change of unknown position, and asked for when a replica is wanted.
//!
//! How far a replica is, is asked on the very connection that is to be used, unless the connection is
//! known to be far enough: a replica that was restarted may be behind what it has shown before, but
//! not behind what it has shown on a connection that lives. For the same reason a probe counts for
//! connections that were there well before it.
//!
//! A position belongs to a timeline. One of an older timeline than the primary's is asked for again:
//! on the new one other positions count. One of a newer timeline than is known here (another proxy may
//! know more) is waited for: a primary of the older one has been replaced.
//!
//! Where all reads are the primary's, no account is kept but that something has been changed: a read
//! that is hinted to a replica has the primary asked first, once after each change.

use super::attach::Unattached;
use super::state::{Held, Session};
use super::waiting::{Until, interrupted};
use crate::backend::ServerError;
use crate::config::{PoolMode, Reads};
use crate::error::{ClientError, SqlState};
use crate::execute::Expect;
use crate::pool::health::{EndpointIndex, Lsn};
use crate::pool::readers::{Reader, choose};
use crate::pool::{Lease, Pool, PoolError};
use crate::ring::ShardId;
use crate::route::Decision;
use crate::sql::{Access, Kind, ReadHint, Schema, Shape, Statement, Target};
use crate::txn::{Phase, says_read_only};
use crate::wire;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The servers of its shards that a statement, or a transaction, runs on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Servers {
    /// The primaries.
    #[default]
    Primary,
    /// Replicas.
    Replica {
        /// Those for analytical reads first.
        analytical: bool,
        /// Without a healthy replica it waits for one, and fails.
        strict: bool,
    },
}

/// What the session has to see of a shard.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Mark {
    /// It has changed nothing there.
    #[default]
    Nothing,
    /// Everything up to here.
    At(Position),
    /// What it has changed there, wherever that is in the log.
    Unknown,
}

/// Of a shard's log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Position {
    lsn: u64,
    /// Whose; `None` where pgring may not ask for it.
    timeline: Option<u32>,
}

impl Mark {
    /// With what another session has to see.
    fn and(self, other: Position) -> Mark {
        match self {
            // What is asked for is behind what has been told before.
            Mark::Unknown => Mark::Unknown,
            Mark::Nothing => Mark::At(other),
            Mark::At(own) => {
                let newer = match (own.timeline, other.timeline) {
                    (Some(own), Some(other)) if own != other => other > own,
                    _ => other.lsn > own.lsn,
                };
                Mark::At(if newer { other } else { own })
            }
        }
    }
}

/// What the session has to see, shard by shard.
#[derive(Default)]
pub(super) struct Positions {
    /// `None` until there is something to remember.
    marks: Option<Box<[Mark]>>,
    /// It has changed something that nobody has kept account of.
    untold: bool,
    /// The timelines that other sessions' changes are on, by shard (0: none); `None` where none is newer
    /// than what is known here.
    told: Option<Box<[u32]>>,
    /// How many statements that may change something have been routed: an answer that was asked for
    /// before the last of them says nothing of it.
    changes: u64,
}

impl Positions {
    /// Something is about to be changed on this shard, or on any. `tracked`: of how many shards
    /// account is to be kept; `None`: of none.
    pub(super) fn writes(&mut self, shard: Option<ShardId>, tracked: Option<usize>) {
        self.changes += 1;
        match (tracked, &mut self.marks) {
            (None, None) => self.untold = true,
            (Some(shards), None) => {
                self.marks(shards);
                self.writes(shard, tracked);
            }
            (_, Some(marks)) => match shard {
                Some(shard) => {
                    if let Some(mark) = marks.get_mut(shard.index()) {
                        *mark = Mark::Unknown;
                    }
                }
                None => marks.fill(Mark::Unknown),
            },
        }
    }

    fn marks(&mut self, shards: usize) -> &mut [Mark] {
        let before = if std::mem::take(&mut self.untold) { Mark::Unknown } else { Mark::Nothing };
        self.marks.get_or_insert_with(|| vec![before; shards].into())
    }

    fn of(&self, shard: ShardId) -> Mark {
        match &self.marks {
            Some(marks) => marks.get(shard.index()).copied().unwrap_or(Mark::Unknown),
            None if self.untold => Mark::Unknown,
            None => Mark::Nothing,
        }
    }

    /// The shards are others, or in another order.
    pub(super) fn move_to(&mut self, before: &[Arc<str>], now: &[Arc<str>]) {
        if let Some(marks) = &self.marks {
            let mark = |name: &Arc<str>| {
                let at = before.iter().position(|known| known == name);
                // What was there before may have moved to a shard that is new.
                at.and_then(|at| marks.get(at)).copied().unwrap_or(Mark::Unknown)
            };
            self.marks = Some(now.iter().map(mark).collect());
        }
        if let Some(told) = &self.told {
            let timeline = |name: &Arc<str>| {
                before.iter().position(|known| known == name).and_then(|at| told.get(at)).copied()
            };
            self.told = Some(now.iter().map(|name| timeline(name).unwrap_or_default()).collect());
        }
    }
}

/// Asks a primary where its log is, and how long its pages are.
const POSITION: &str = "SELECT pg_catalog.concat(pg_catalog.pg_current_wal_insert_lsn(), ' ', \
                        pg_catalog.current_setting('wal_block_size'))";
/// Asks a replica how far it has replayed.
const REPLAYED: &str = "SELECT pg_catalog.pg_last_wal_replay_lsn()";

/// How long such a question may take, beyond the time there is to wait: a server that hangs.
const ASKING: Duration = Duration::from_secs(1);
/// A probe says nothing about a connection that has been opened less than this before its answer came.
const PROBE_TAKES: Duration = Duration::from_secs(10);

/// The answer to [`POSITION`]. At the beginning of a page the log stands behind the page's header
/// (24 bytes, or 40), where no replica that has replayed everything before it ever says it is.
fn position(answer: &str) -> Option<u64> {
    let (lsn, page) = answer.split_once(' ')?;
    let Lsn(lsn) = lsn.parse().ok()?;
    let page: u64 = page.parse().ok()?;
    let within = lsn.checked_rem(page)?;
    Some(if matches!(within, 24 | 40) { lsn - within } else { lsn })
}

impl Session {
    /// Where reads go that carry no hint.
    fn reads(&self) -> Reads {
        self.database.reads.unwrap_or(self.directory.routing.reads)
    }

    /// Of how many shards account is kept where their logs are; `None`: of none.
    pub(super) fn tracked_shards(&self) -> Option<usize> {
        let tracks = self.database.has_readers
            && self.directory.pool.mode == PoolMode::Transaction
            && self.directory.routing.read_your_writes
            && self.reads() != Reads::Primary;
        tracks.then_some(self.database.shards.len())
    }

    /// By what the only shard's statements are to be proven to read only; `None`: they are not.
    pub(super) fn proof(&self, hint: Option<ReadHint>) -> Option<Arc<Schema>> {
        if !self.database.has_readers || !self.database.is_one_shard() {
            return None;
        }
        let asked = hint.or(self.own.hints.read);
        let wanted = match asked {
            Some(hint) => hint != ReadHint::Fresh,
            None => self.reads() != Reads::Primary,
        };
        if wanted { self.database.proof.load_full() } else { None }
    }

    /// What comes next is not the business of a replica, unless the transaction is.
    pub(super) fn read_at_primary(&mut self) {
        if !self.is_settled() {
            self.source = Servers::Primary;
        }
    }

    /// Has it been settled by what came before which servers the next statement runs on?
    fn is_settled(&self) -> bool {
        self.tx.phase() == Phase::Open || self.batch.has_run()
    }

    /// Is this server of the right kind for what is to be run on its shard? What the session keeps on
    /// a server is met there again.
    pub(super) fn suits(&self, held: &Held) -> bool {
        !held.replica || self.source != Servers::Primary || self.is_settled() || !held.pins.is_empty()
    }

    /// Decides which servers of its shards a statement runs on.
    ///
    /// # Errors
    /// The transaction is on replicas, and this cannot be there.
    pub(super) fn choose_source(
        &mut self,
        shape: &Shape,
        text: &[u8],
        decision: &Decision,
        several: bool,
    ) -> Result<(), ClientError> {
        self.on_replica = false;
        if !self.database.has_readers {
            return Ok(());
        }
        if !self.is_settled() {
            self.source = self.source_of(shape, text, decision, several);
            return Ok(());
        }
        if self.source == Servers::Primary {
            return Ok(());
        }
        if decision.read == Some(ReadHint::Fresh) {
            return Err(ClientError::refused(
                "the transaction reads from replicas, and \"fresh\" asks for the primary",
                "Put the hint on the transaction's first statement, or SET pgring.read = 'fresh' before it.",
            ));
        }
        if self.needs_primary(shape) {
            return Err(ClientError::refused(
                "the transaction reads from replicas, and the statement needs the primary: it locks or leaves \
                 something on its server, or reads what replicas do not have",
                "Put the hint /* pgring: fresh */ on the transaction's first statement.",
            ));
        }
        Ok(())
    }

    /// Would it be another thing on a replica, even if it only reads? What it executes counts, too.
    fn needs_primary(&self, shape: &Shape) -> bool {
        let needs = |shape: &Shape| shape.statements.iter().any(|one| one.pin.is_some() || one.at_primary);
        let executed = |name: &String| self.statements.get(name.as_bytes()).is_some_and(|p| needs(&p.shape));
        needs(shape) || (shape.mentions.execution.is_some() && shape.mentions.names.iter().any(executed))
    }

    fn source_of(&self, shape: &Shape, text: &[u8], decision: &Decision, several: bool) -> Servers {
        let wanted = match (decision.read, self.reads()) {
            (Some(ReadHint::Fresh), _) | (None, Reads::Primary) => return Servers::Primary,
            (Some(ReadHint::Replica), _) | (None, Reads::PreferReplica) => {
                Servers::Replica { analytical: false, strict: false }
            }
            (Some(ReadHint::Analytical), _) => Servers::Replica { analytical: true, strict: false },
            (None, Reads::Replica) => Servers::Replica { analytical: false, strict: true },
        };
        let stays = self.directory.pool.mode == PoolMode::Session || self.keeps_sequences;
        // No replica can be serializable.
        if stays || self.is_serializable() || self.needs_primary(shape) {
            return Servers::Primary;
        }
        let hinted = decision.read.is_some();
        let reads = |statement: &Statement| {
            statement.access == Access::Read
                && matches!(statement.kind, Kind::Query | Kind::CopyOut)
                // What the catalogs tell (who is connected, say) is each server's own.
                && (hinted || statement.target != Target::Catalog)
        };
        let may = match self.tx.phase() {
            Phase::Pending => self.only_reads(),
            // What comes behind it in its batch would have to run on the same server.
            _ => (several || self.alone) && shape.statements.iter().all(reads) && (hinted || !shows(text)),
        };
        if may { wanted } else { Servers::Primary }
    }

    /// Has the client said that its transaction only reads? What it sets in it is for the next ones.
    pub(super) fn only_reads(&self) -> bool {
        let default = self.settings.get("default_transaction_read_only").is_some_and(says_on);
        self.tx.is_read_only(default)
    }

    /// Has another session told of changes that may be on a timeline not known here?
    pub(super) fn awaits_timeline(&self) -> bool {
        self.positions.told.is_some()
    }

    /// Waits until the shard's primary is on the timeline that another session has told of, which another
    /// proxy may have seen first.
    ///
    /// # Errors
    /// It does not get there within `failover_hold`: what there is would be a server that was replaced.
    pub(super) async fn await_timeline(&mut self, shard: ShardId) -> Result<(), Unattached> {
        let database = Arc::clone(&self.database);
        let at = &database.shards[shard.index()];
        let until = Instant::now() + at.failover_hold;
        loop {
            let told = self.positions.told.as_ref().and_then(|told| told.get(shard.index())).copied();
            let Some(told @ 1..) = told else { return Ok(()) };
            // `None`: pgring may not ask, and has to believe in what there is.
            let primary = at.board.load().primary().is_ok();
            if primary && self.timeline(shard).is_none_or(|now| told <= now) {
                if let Some(told) = &mut self.positions.told {
                    told[shard.index()] = 0;
                }
                self.positions.told.take_if(|told| told.iter().all(|timeline| *timeline == 0));
                return Ok(());
            }
            at.board.probe_now();
            if !self.await_news(shard, until).await? {
                let words = format!(
                    "shard \"{}\" has no primary on timeline {told}, which pgring.lsn is of",
                    at.name
                );
                return Err(ClientError::error(SqlState::UNAVAILABLE, words)
                    .with_hint(
                        "Its new primary is not known here yet. RESET pgring.lsn forgets the position.",
                    )
                    .into());
            }
        }
    }

    /// A replica's connection for a read of this shard; `None`: the primary's is the one to take.
    pub(super) async fn checkout_reader(&mut self, shard: ShardId) -> Result<Option<Lease>, Unattached> {
        let Servers::Replica { analytical, strict } = self.source else { return Ok(None) };
        if self.awaits_timeline() {
            self.await_timeline(shard).await?;
        }
        let Some(needed) = self.needed(shard).await? else {
            self.database.metrics[shard.index()].reads.position.inc();
            return Ok(None);
        };
        let hold = self.database.shards.get(shard.index()).map(|shard| shard.failover_hold);
        let until = Instant::now() + hold.unwrap_or_default();
        let mut unreachable: Vec<EndpointIndex> = Vec::new();
        loop {
            let Some((endpoint, pool, known)) = self.choose_reader(shard, analytical, needed, &unreachable)
            else {
                if !strict {
                    self.database.metrics[shard.index()].reads.unhealthy.inc();
                    return Ok(None);
                }
                self.await_reader(shard, until).await?;
                unreachable.clear();
                continue;
            };
            match self.checkout_of(shard, &pool, endpoint).await {
                Ok(Ok(mut lease)) => {
                    let probed = known
                        .is_some_and(|at| at.saturating_duration_since(lease.facts.opened) > PROBE_TAKES);
                    if probed {
                        lease.replayed = lease.replayed.max(needed);
                    }
                    match self.has_replayed(&mut lease, needed).await {
                        Ok(true) => {
                            lease.reads();
                            self.database.metrics[shard.index()].reads.replica.inc();
                            return Ok(Some(lease));
                        }
                        Ok(false) => {
                            self.worker.local.give_back(lease);
                            self.database.metrics[shard.index()].reads.behind.inc();
                            return Ok(None);
                        }
                        Err(error) => tracing::debug!("a replica could not be asked how far it is: {error}"),
                    }
                }
                Ok(Err(error @ (PoolError::Connect(..) | PoolError::Moved(..)))) => {
                    tracing::debug!("a replica could not be reached: {error}");
                }
                // One that hangs keeps all its connections; nobody waits for one after the other.
                Ok(Err(error @ PoolError::Exhausted { .. })) if !strict => {
                    tracing::debug!("a replica is not to be had: {error}");
                    self.database.metrics[shard.index()].reads.unhealthy.inc();
                    return Ok(None);
                }
                Ok(Err(error)) => return Err(error.client_error().into()),
                Err(unattached) => return Err(unattached),
            }
            self.database.shards[shard.index()].board.probe_now();
            unreachable.push(endpoint);
        }
    }

    /// The position that a server of this shard has to have replayed; `None`: only the primary is known
    /// to have what the session has to see.
    async fn needed(&mut self, shard: ShardId) -> Result<Option<u64>, Unattached> {
        if !self.directory.routing.read_your_writes {
            return Ok(Some(0));
        }
        match self.positions.of(shard) {
            Mark::Nothing => return Ok(Some(0)),
            Mark::At(position) => match (position.timeline, self.timeline(shard)) {
                (Some(known), Some(now)) if known > now => return Ok(None),
                (Some(known), Some(now)) if known < now => {}
                _ => return Ok(Some(position.lsn)),
            },
            Mark::Unknown => {}
        }
        Ok(self.learn_position(shard).await?.map(|position| position.lsn))
    }

    /// The timeline that a shard's primary writes.
    fn timeline(&self, shard: ShardId) -> Option<u32> {
        let snapshot = self.database.shards.get(shard.index())?.board.load();
        snapshot.primary().ok()?.health.probe.as_ref()?.timeline
    }

    /// Asks the primary of a shard where its log is: whatever the session has changed there is before
    /// that. Nothing may be under way.
    async fn learn_position(&mut self, shard: ShardId) -> Result<Option<Position>, Unattached> {
        let timeline = self.timeline(shard);
        let mut lease = self.checkout_primary(shard).await?;
        lease.unnamed = 0;
        let answer = match tokio::time::timeout(ASKING, lease.ask(POSITION)).await {
            Ok(Ok(answer)) => answer,
            // It is in order, and has its reasons.
            Ok(Err(ServerError::Refused { .. })) => None,
            // It is closed.
            Ok(Err(_)) | Err(_) => return Ok(None),
        };
        self.worker.local.give_back(lease);
        let Some(lsn) = answer.as_deref().and_then(position) else { return Ok(None) };
        let found = Position { lsn, timeline };
        let shards = self.database.shards.len();
        if let Some(mark) = self.positions.marks(shards).get_mut(shard.index()) {
            *mark = Mark::At(found);
        }
        Ok(Some(found))
    }

    /// The replica to ask, what leads there, and if a probe has found it far enough, when.
    fn choose_reader(
        &mut self,
        shard: ShardId,
        analytical: bool,
        needed: u64,
        unreachable: &[EndpointIndex],
    ) -> Option<(EndpointIndex, Arc<Pool>, Option<Instant>)> {
        let database = Arc::clone(&self.database);
        let at = database.shards.get(shard.index())?;
        let readers = self.access.get_mut(shard.index())?.readers(at, &self.user);
        let snapshot = at.board.load();
        if snapshot.generation != readers.generation {
            // Between the two looks something has changed; the primary is always right.
            return None;
        }
        let probed = |reader: &Reader| {
            let health = &snapshot.endpoints.get(reader.endpoint.index())?.health;
            (health.probe.as_ref()?.lsn?.0 >= needed).then_some(health.answered?)
        };
        let of = |readers: &[Reader]| {
            let usable: Vec<&Reader> =
                readers.iter().filter(|reader| !unreachable.contains(&reader.endpoint)).collect();
            let known: Vec<&Reader> =
                usable.iter().copied().filter(|reader| probed(reader).is_some()).collect();
            choose(if known.is_empty() { &usable } else { &known })
                .map(|reader| (reader.endpoint, Arc::clone(&reader.pool), probed(reader)))
        };
        let first = if analytical { of(&readers.analytics) } else { None };
        first.or_else(|| of(&readers.replicas))
    }

    /// A connection of this pool; or that there is none, or what has ended the wait.
    async fn checkout_of(
        &mut self,
        shard: ShardId,
        pool: &Arc<Pool>,
        endpoint: EndpointIndex,
    ) -> Result<Result<Lease, PoolError>, Unattached> {
        if let Some(lease) = self.worker.local.checkout_idle(pool, self.caller(shard)) {
            return Ok(Ok(lease));
        }
        let began = Instant::now();
        let control = Rc::clone(&self.registration.control);
        let worker = Rc::clone(&self.worker);
        let database = Arc::clone(&self.database);
        let caller = self.caller(shard);
        let (gate, board) = (&database.shards[shard.index()].gate, &database.shards[shard.index()].board);
        let checkout = async {
            loop {
                gate.opened_to(caller).await;
                match worker.local.checkout(pool, caller).await {
                    Err(PoolError::Paused(_)) => {}
                    outcome => return outcome,
                }
            }
        };
        let outcome = tokio::select! {
            biased;
            outcome = checkout => outcome,
            () = board.retires(endpoint) => return Ok(Err(PoolError::Moved(Arc::clone(&pool.label)))),
            interruption = interrupted(&worker, &control, &self.stream, Until::Closed(gate, caller)) => {
                return Err(interruption.into());
            }
        };
        self.metrics().pool_wait_seconds.observe(began.elapsed().as_secs_f64());
        Ok(outcome)
    }

    /// Waits for a replica where there may be one.
    async fn await_reader(&mut self, shard: ShardId, until: Instant) -> Result<(), Unattached> {
        let serving = self.database.shards[shard.index()].board.load().endpoints.len();
        if serving > 1 && self.await_news(shard, until).await? {
            return Ok(());
        }
        let name = self.database.topology.name(shard);
        let error =
            ClientError::error(SqlState::UNAVAILABLE, format!("shard \"{name}\" has no healthy replica"));
        Err(error.with_hint("With reads = \"prefer-replica\" the primary answers then.").into())
    }

    /// Waits for a change of a shard's roles, and a little at most: what could not be reached may be back,
    /// though its role is the same. False: it is late.
    async fn await_news(&mut self, shard: ShardId, until: Instant) -> Result<bool, Unattached> {
        if Instant::now() >= until {
            return Ok(false);
        }
        let database = Arc::clone(&self.database);
        let at = &database.shards[shard.index()];
        let control = Rc::clone(&self.registration.control);
        let worker = Rc::clone(&self.worker);
        let mut changes = at.board.subscribe();
        tokio::select! {
            biased;
            // An error or a change: either way it is looked at again.
            _ = tokio::time::timeout(AGAIN, changes.changed()) => Ok(true),
            interruption = interrupted(&worker, &control, &self.stream, Until::Closed(&at.gate, self.caller(shard))) => {
                Err(interruption.into())
            }
        }
    }

    /// Has the replica replayed this, or does it in time?
    async fn has_replayed(&self, lease: &mut Lease, needed: u64) -> Result<bool, ServerError> {
        if lease.replayed >= needed {
            return Ok(true);
        }
        let wait = self.directory.routing.read_your_writes_wait;
        let deadline = Instant::now() + wait;
        lease.unnamed = 0;
        let asking = async {
            let mut pause = Duration::from_millis(1);
            loop {
                // None: it has never been a replica.
                let answer = lease.ask(REPLAYED).await?;
                if let Some(Lsn(lsn)) = answer.and_then(|answer| answer.parse().ok()) {
                    lease.replayed = lease.replayed.max(lsn);
                }
                let left = deadline.saturating_duration_since(Instant::now());
                if lease.replayed >= needed || left.is_zero() {
                    return Ok(lease.replayed >= needed);
                }
                tokio::time::sleep(pause.min(left)).await;
                pause = (pause * 2).min(Duration::from_millis(10));
            }
        };
        match tokio::time::timeout(wait + ASKING, asking).await {
            Ok(outcome) => outcome,
            Err(_) => Err(ServerError::Closed),
        }
    }

    /// Is the primary to be asked where its log is, behind what has been sent to it?
    pub(super) fn wants_position(&self) -> bool {
        let Some(held) = &self.held else { return false };
        self.positions.marks.is_some()
            && !held.replica
            && self.positions.of(held.shard) == Mark::Unknown
            && self.batch.ends_transaction(self.tx.phase() != Phase::Idle)
            && self.tracked_shards().is_some()
    }

    /// Asks it.
    pub(super) fn ask_position(&mut self) {
        let Some(held) = &mut self.held else { return };
        let server = &mut *held.lease;
        server.unnamed = 0;
        wire::put_parse(&mut server.outbox, b"", POSITION.as_bytes(), &[]);
        wire::put_bind_plain(&mut server.outbox, b"", b"");
        wire::put_execute(&mut server.outbox, b"");
        wire::put_sync(&mut server.outbox);
        self.relay.expect(Expect::Position { change: self.positions.changes });
    }

    /// It has answered.
    pub(super) fn position_told(&mut self, change: u64, answer: &str) {
        let Some(held) = self.held.as_ref().filter(|_| change == self.positions.changes) else { return };
        let shard = held.shard;
        let (Some(lsn), timeline) = (position(answer), self.timeline(shard)) else { return };
        let shards = self.database.shards.len();
        if let Some(mark) = self.positions.marks(shards).get_mut(shard.index()) {
            *mark = Mark::At(Position { lsn, timeline });
        }
    }

    /// Before they are shown: what is not known is asked for.
    ///
    /// # Errors
    /// A primary does not say; or there is a transaction, whose own changes have no position yet.
    pub(super) async fn learn_positions(&mut self) -> Result<(), Unattached> {
        if self.tx.phase() != Phase::Idle || self.is_settled() {
            let words = "SHOW pgring.lsn cannot run inside a transaction block";
            return Err(ClientError::error(SqlState::new("25001"), words)
                .with_hint("Where a change is in the log is known once it is committed.")
                .into());
        }
        let shards: Vec<ShardId> = self.database.topology.ids().collect();
        for shard in shards {
            if self.positions.of(shard) == Mark::Unknown && self.learn_position(shard).await?.is_none() {
                let name = self.database.topology.name(shard);
                let words = format!("shard \"{name}\" does not say where its log is");
                return Err(ClientError::error(SqlState::UNAVAILABLE, words).into());
            }
        }
        Ok(())
    }

    /// `SHOW pgring.lsn`: what another session has to be told to see what this one has changed.
    pub(super) fn show_positions(&self) -> String {
        let shown = self.database.topology.ids().filter_map(|shard| {
            let Mark::At(Position { lsn, timeline }) = self.positions.of(shard) else { return None };
            let timeline = timeline.map_or_else(String::new, |timeline| format!("@{timeline}"));
            Some(format!("{}={}{timeline}", self.database.topology.name(shard), Lsn(lsn)))
        });
        shown.collect::<Vec<_>>().join(",")
    }

    /// `SET pgring.lsn`: what another session has changed, this one has to see, beside its own;
    /// at once and whatever becomes of the transaction.
    pub(super) fn set_positions(&mut self, value: Option<String>, local: bool) -> Result<(), ClientError> {
        if local {
            return Err(ClientError::error(
                SqlState::BAD_VALUE,
                "pgring.lsn cannot be set for a transaction only",
            )
            .with_hint("Use SET, before the transaction."));
        }
        let Some(value) = value else {
            // RESET: to what the session began with. Its own changes stay.
            self.positions.told = None;
            return Ok(());
        };
        let mut told = Vec::new();
        for part in value.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (name, position) = read_position(part).ok_or_else(|| {
                ClientError::error(
                    SqlState::BAD_VALUE,
                    format!("invalid value for parameter \"pgring.lsn\": \"{part}\""),
                )
                .with_hint("It takes what SHOW pgring.lsn has shown to another session of the same database.")
            })?;
            let shard = self.database.topology.shard_named(name).ok_or_else(|| {
                ClientError::error(SqlState::UNDEFINED_OBJECT, format!("there is no shard \"{name}\""))
            })?;
            told.push((shard, position));
        }
        let shards = self.database.shards.len();
        for (shard, position) in told {
            if let Some(mark) = self.positions.marks(shards).get_mut(shard.index()) {
                *mark = mark.and(position);
            }
            let (timeline, known) = (position.timeline.unwrap_or_default(), self.timeline(shard));
            if known.is_some_and(|known| known < timeline) {
                let none = || vec![0; shards].into();
                let told: &mut Box<[u32]> = self.positions.told.get_or_insert_with(none);
                if let Some(told) = told.get_mut(shard.index()) {
                    *told = timeline.max(*told);
                }
            }
        }
        Ok(())
    }
}

/// How soon a replica that could not be reached is tried again.
const AGAIN: Duration = Duration::from_millis(200);

/// `s1=0/16B3748@1`
fn read_position(part: &str) -> Option<(&str, Position)> {
    let (name, position) = part.rsplit_once('=')?;
    let (lsn, timeline) = match position.split_once('@') {
        Some((lsn, timeline)) => (lsn, Some(timeline.parse().ok()?)),
        None => (position, None),
    };
    let Lsn(lsn) = lsn.parse().ok()?;
    Some((name, Position { lsn, timeline }))
}

/// `SET default_transaction_read_only = on`, in the usual spellings.
fn says_on(statement: &str) -> bool {
    says_read_only(statement) == Some(true)
}

/// `SHOW`: of a parameter that may be another one on a replica, such as `transaction_read_only`.
fn shows(text: &[u8]) -> bool {
    text.trim_ascii_start().get(..4).is_some_and(|word| word.eq_ignore_ascii_case(b"show"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_at_the_beginning_of_a_page_is_the_end_of_the_page_before() {
        for (answer, expect) in [
            ("0/16B3748 8192", Some(0x16B_3748)),
            ("0/2000000 8192", Some(0x200_0000)),
            ("0/2000028 8192", Some(0x200_0000)),
            ("0/2002018 8192", Some(0x200_2000)),
            ("0/2002020 8192", Some(0x200_2020)),
            // in the middle of a longer page a record may end there
            ("0/2002018 16384", Some(0x200_2018)),
            ("A/2000018 8192", Some(0xA_0200_0000)),
            ("0/2000018", None),
            ("0/2000018 0", None),
            ("x 8192", None),
        ] {
            assert_eq!(position(answer), expect, "{answer}");
        }
    }

    #[test]
    fn what_has_to_be_seen_grows() {
        let at = |lsn, timeline| Position { lsn, timeline };
        for (own, told, expect) in [
            (Mark::Nothing, at(5, Some(1)), Mark::At(at(5, Some(1)))),
            (Mark::Unknown, at(5, Some(1)), Mark::Unknown),
            (Mark::At(at(7, Some(1))), at(5, Some(1)), Mark::At(at(7, Some(1)))),
            (Mark::At(at(5, Some(1))), at(7, Some(1)), Mark::At(at(7, Some(1)))),
            (Mark::At(at(7, Some(1))), at(5, Some(2)), Mark::At(at(5, Some(2)))),
            (Mark::At(at(5, Some(2))), at(7, Some(1)), Mark::At(at(5, Some(2)))),
            (Mark::At(at(5, None)), at(7, Some(1)), Mark::At(at(7, Some(1)))),
        ] {
            assert_eq!(own.and(told), expect, "{own:?} {told:?}");
        }
    }

    #[test]
    fn account_is_kept_from_when_it_is_wanted() {
        let (one, two) = (ShardId(0), ShardId(1));
        let mut positions = Positions::default();
        assert_eq!(positions.of(one), Mark::Nothing);
        positions.writes(Some(one), None);
        // on which shard it was has not been kept
        assert_eq!((positions.of(one), positions.of(two)), (Mark::Unknown, Mark::Unknown));
        positions.marks(2)[0] = Mark::At(Position { lsn: 1, timeline: None });
        assert_eq!(positions.of(two), Mark::Unknown);
        positions.marks(2)[1] = Mark::Nothing;
        positions.writes(Some(two), None);
        assert_eq!(positions.of(two), Mark::Unknown);
        positions.move_to(&["a".into(), "b".into()], &["c".into(), "a".into()]);
        assert_eq!(positions.of(one), Mark::Unknown);
        assert_eq!(positions.of(two), Mark::At(Position { lsn: 1, timeline: None }));
        let mut positions = Positions::default();
        positions.writes(None, Some(2));
        assert_eq!((positions.of(one), positions.of(two)), (Mark::Unknown, Mark::Unknown));
    }

    #[test]
    fn a_token_is_read_as_it_is_shown() {
        let at = |lsn, timeline| Position { lsn, timeline };
        for (part, expect) in [
            ("s1=0/16B3748@1", Some(("s1", at(0x16B_3748, Some(1))))),
            ("s1=0/16B3748", Some(("s1", at(0x16B_3748, None)))),
            ("s1", None),
            ("s1=", None),
            ("s1=0/x", None),
            ("s1=0/1@", None),
            ("s1=0/1@-1", None),
            ("0/1", None),
        ] {
            assert_eq!(read_position(part), expect, "{part}");
        }
    }

    #[test]
    fn read_only_by_default() {
        for (statement, expect) in [
            ("SET default_transaction_read_only = 'on'", true),
            ("set default_transaction_read_only to TRUE;", true),
            ("SET default_transaction_read_only=1", true),
            ("SET default_transaction_read_only = off", false),
            ("SET default_transaction_read_only TO DEFAULT", false),
        ] {
            assert_eq!(says_on(statement), expect, "{statement}");
        }
    }
}
