//! Where the state of all shards is kept and published.
//!
//! A shard's [`Watched`] state is behind a mutex which only probing tasks take, a few times a
//! second. Each observation ends in a new immutable [`ShardSnapshot`] behind an atomic pointer:
//! readers, among them the pools on every thread, never wait for a probe. Whoever waits for a
//! primary sleeps on a watch channel that ticks when roles change.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, Guard};
use tokio::sync::{Notify, watch};

use super::lag::PrimaryTrack;
use super::roles::{self, EndpointIndex, Memory, NoPrimary, Refusal, Seen, ShardRoles};
use super::state::{EndpointHealth, HealthSettings, Observation, Purpose, Transition};
use crate::config::Endpoint;

/// An endpoint in a snapshot.
#[derive(Clone, PartialEq, Debug)]
pub struct EndpointSnapshot {
    /// Where it listens.
    pub address: Endpoint,
    /// What it is configured for.
    pub purpose: Purpose,
    /// What it is.
    pub health: EndpointHealth,
}

/// A shard at one moment.
#[derive(Clone, PartialEq, Debug)]
pub struct ShardSnapshot {
    /// The configured database's name.
    pub database: String,
    /// The shard's name.
    pub shard: String,
    /// In the configured order; first the serving ones, then those for analytics.
    pub endpoints: Vec<EndpointSnapshot>,
    /// Who does what.
    pub roles: ShardRoles,
    /// Goes up when roles change.
    pub generation: u64,
}

impl ShardSnapshot {
    /// The endpoint that takes writes.
    pub fn primary(&self) -> Result<&EndpointSnapshot, &NoPrimary> {
        let index = self.roles.primary.as_ref()?.index();
        self.endpoints.get(index).ok_or(&NoPrimary::Unknown)
    }

    /// Has it no primary, though it is known who is there, or one that did not answer just now?
    pub fn is_troubled(&self) -> bool {
        match self.primary() {
            Ok(primary) => primary.health.failing.is_some(),
            Err(NoPrimary::Unknown) => false,
            Err(_) => true,
        }
    }

    /// Those that may serve reads.
    pub fn replicas(&self) -> impl Iterator<Item = &EndpointSnapshot> {
        self.roles.replicas.iter().filter_map(|index| self.endpoints.get(index.index()))
    }

    /// Those that may serve analytical reads.
    pub fn analytics(&self) -> impl Iterator<Item = &EndpointSnapshot> {
        self.roles.analytics.iter().filter_map(|index| self.endpoints.get(index.index()))
    }
}

/// Something about a shard worth a line in the log.
#[derive(Clone, PartialEq, Debug)]
pub enum Event {
    /// An endpoint changed.
    Endpoint(EndpointIndex, Transition),
    /// An endpoint that is up is not used.
    Refused(EndpointIndex, Refusal),
    /// The shard has a primary, where it had none or another one.
    Primary(EndpointIndex),
    /// The shard has no primary now, or for another reason.
    NoPrimary(NoPrimary),
}

/// What is known of a shard, and what it was learned from. No task, no clock.
#[derive(Debug)]
pub struct Watched {
    settings: HealthSettings,
    memory: Memory,
    track: PrimaryTrack,
    current: ShardSnapshot,
    /// The highest timeline seen when roles were decided last.
    timeline: Option<u32>,
}

impl Watched {
    /// Nothing known yet.
    pub fn new(
        database: &str,
        shard: &str,
        endpoints: Vec<(Purpose, Endpoint)>,
        settings: HealthSettings,
    ) -> Watched {
        let current = ShardSnapshot {
            database: database.to_owned(),
            shard: shard.to_owned(),
            endpoints: Vec::new(),
            roles: ShardRoles::default(),
            generation: 0,
        };
        let mut watched = Watched {
            settings,
            memory: Memory::default(),
            track: PrimaryTrack::default(),
            current,
            timeline: None,
        };
        watched.configure(endpoints, settings);
        watched
    }

    /// Another list of endpoints, other settings; what is known of endpoints that stay is kept.
    /// Where none stays of those that belong to the shard's cluster, or may, the shard is now
    /// another cluster, and starts from nothing.
    pub fn configure(&mut self, endpoints: Vec<(Purpose, Endpoint)>, settings: HealthSettings) -> Vec<Event> {
        let mut before = std::mem::take(&mut self.current.endpoints);
        let mut same_cluster = false;
        for (purpose, address) in endpoints {
            let same = |old: &EndpointSnapshot| old.address == address && old.purpose == purpose;
            let endpoint = match before.iter().position(same) {
                Some(position) => {
                    let kept = before.swap_remove(position);
                    let found = kept.health.probe.as_ref().and_then(|probe| probe.system_identifier);
                    same_cluster |= found.is_none() || found == self.memory.system_identifier;
                    kept
                }
                None => EndpointSnapshot { address, purpose, health: EndpointHealth::default() },
            };
            self.current.endpoints.push(endpoint);
        }
        if !same_cluster {
            self.memory = Memory::default();
            self.track = PrimaryTrack::default();
        }
        self.settings = settings;
        // Indexes may now mean other endpoints, though the roles look the same.
        self.current.generation += 1;
        self.decide()
    }

    /// Takes a probe's outcome in.
    pub fn observe(&mut self, endpoint: EndpointIndex, observation: Observation) -> Vec<Event> {
        let mut events = Vec::new();
        let is_primary = self.current.roles.primary.as_ref() == Ok(&endpoint);
        let Some(target) = self.current.endpoints.get_mut(endpoint.index()) else { return events };
        let at = observation.at;
        let lag = observation.result.as_ref().ok().and_then(|probe| self.track.lag(at, probe));
        let transition = target.health.observe(&self.settings, observation, lag);
        events.extend(transition.map(|transition| Event::Endpoint(endpoint, transition)));
        events.extend(self.decide());
        if is_primary || self.current.roles.primary.as_ref() == Ok(&endpoint) {
            self.follow_primary(at);
        }
        events
    }

    /// The state to publish.
    pub fn snapshot(&self) -> &ShardSnapshot {
        &self.current
    }

    fn follow_primary(&mut self, at: Instant) {
        let Ok(primary) = self.current.primary() else { return };
        let Some(probe) = &primary.health.probe else { return };
        // A failed probe leaves the old answer in place: not a position of now.
        if let (Some(lsn), None) = (probe.lsn, primary.health.failing) {
            self.track.record(at, lsn, probe.timeline, self.settings.max_replica_lag * 2);
        }
    }

    fn decide(&mut self) -> Vec<Event> {
        let endpoints = &self.current.endpoints;
        let seen: Vec<Seen<'_>> =
            endpoints.iter().map(|endpoint| (endpoint.purpose, &endpoint.health)).collect();
        self.memory.learn(&seen);
        let roles = roles::decide(&self.memory, &seen);
        let before = &self.current.roles;
        // The same roles on a later timeline may be other servers': a name can move on.
        let later = std::mem::replace(&mut self.timeline, self.memory.timeline) != self.memory.timeline;
        if roles == *before {
            self.current.generation += u64::from(later);
            return Vec::new();
        }
        let mut events: Vec<Event> = Vec::new();
        for (index, refusal) in &roles.refused {
            if !before.refused.contains(&(*index, refusal.clone())) {
                events.push(Event::Refused(*index, refusal.clone()));
            }
        }
        if roles.primary != before.primary {
            events.push(match &roles.primary {
                Ok(index) => Event::Primary(*index),
                Err(why) => Event::NoPrimary(why.clone()),
            });
        }
        self.current.roles = roles;
        self.current.generation += 1;
        events
    }
}

/// One shard's published state.
#[derive(Debug)]
pub struct ShardBoard {
    watched: Mutex<Watched>,
    published: ArcSwap<ShardSnapshot>,
    generation: watch::Sender<u64>,
    tasks: Mutex<Tasks>,
    alarm: Mutex<Alarm>,
}

/// The tasks that probe the endpoints, in their order.
#[derive(Debug, Default)]
struct Tasks {
    wake: Vec<Arc<Notify>>,
    /// When the last probe that has come to an end was begun.
    answered: Vec<Option<Instant>>,
}

/// Since when a shard is worth more probes than usual.
#[derive(Debug, Default)]
struct Alarm {
    /// It is troubled, by what probes say.
    troubled: Option<Instant>,
    /// Somebody else has said so.
    told: Option<Instant>,
}

/// How long probes are hurried: whatever takes longer is not what a failover waits for.
const HURRY: Duration = Duration::from_secs(60);

impl ShardBoard {
    /// Publishes `watched` as it is.
    pub fn new(watched: Watched) -> ShardBoard {
        let snapshot = watched.snapshot().clone();
        let (generation, _) = watch::channel(snapshot.generation);
        let published = ArcSwap::from_pointee(snapshot);
        ShardBoard {
            watched: Mutex::new(watched),
            published,
            generation,
            tasks: Mutex::default(),
            alarm: Mutex::default(),
        }
    }

    /// The state now: no lock, no allocation.
    pub fn load(&self) -> Guard<Arc<ShardSnapshot>> {
        self.published.load()
    }

    /// The state now, to keep.
    pub fn load_full(&self) -> Arc<ShardSnapshot> {
        self.published.load_full()
    }

    /// Ticks when roles change; its value is the snapshot's generation.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.generation.subscribe()
    }

    /// Has every endpoint probed at once: a server said something that does not fit
    /// (`25006`, a connection that broke). As often as one likes: probes do not pile up.
    pub fn probe_now(&self) {
        for task in &lock(&self.tasks).wake {
            task.notify_one();
        }
    }

    /// Somebody who is not to be believed, but may be right, says that roles are changing: probes
    /// are hurried, so that it is soon known.
    pub fn rumour(&self) {
        lock(&self.alarm).told = Some(Instant::now());
        self.probe_now();
    }

    /// Are roles likely to change? Then endpoints are probed more often than usual.
    pub(super) fn is_hurried(&self) -> bool {
        let alarm = lock(&self.alarm);
        [alarm.troubled, alarm.told].into_iter().flatten().any(|since| since.elapsed() < HURRY)
    }

    /// Looks whether the shard is troubled, and hurries all its probes when that begins: its new
    /// primary is one of the others.
    pub(super) fn look_for_trouble(&self) {
        let troubled = self.load().is_troubled();
        let begins = {
            let mut alarm = lock(&self.alarm);
            let before = alarm.troubled;
            alarm.troubled = if troubled { before.or_else(|| Some(Instant::now())) } else { None };
            troubled && before.is_none()
        };
        if begins {
            self.probe_now();
        }
    }

    /// A probe that was begun then has come to its end, whichever.
    pub(super) fn has_answered(&self, endpoint: EndpointIndex, begun: Instant) {
        if let Some(answered) = lock(&self.tasks).answered.get_mut(endpoint.index()) {
            *answered = Some(begun);
        }
    }

    /// Probes every endpoint and waits until each has answered or failed to, for `limit` at most;
    /// false if that was not enough. Those that were replaced are not waited for: a server that is
    /// switched off answers nobody. Cancel safe.
    pub async fn refresh(&self, limit: Duration) -> bool {
        let asked = Instant::now();
        let all = async {
            loop {
                let missing: Vec<usize> = {
                    let tasks = lock(&self.tasks);
                    let unheard = |begun: &Option<Instant>| begun.is_none_or(|begun| begun < asked);
                    (0..).zip(&tasks.answered).filter(|(_, at)| unheard(at)).map(|(index, _)| index).collect()
                };
                if missing.is_empty() || self.has_replaced(&missing) {
                    return;
                }
                self.probe_now();
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        };
        tokio::time::timeout(limit, all).await.is_ok()
    }

    /// Is the primary none of these, and on a later timeline than each of them was when it was heard
    /// of last?
    fn has_replaced(&self, others: &[usize]) -> bool {
        let snapshot = self.load();
        let timeline = |index: usize| snapshot.endpoints.get(index)?.health.probe.as_ref()?.timeline;
        let Ok(primary) = &snapshot.roles.primary else { return false };
        let Some(now) = timeline(primary.index()) else { return false };
        // None of its own is lower than itself.
        others.iter().all(|&other| timeline(other).is_some_and(|before| before < now))
    }

    /// Until another endpoint than this is the primary. Cancel safe.
    pub async fn moves_from(&self, endpoint: &Endpoint) {
        let mut changes = self.subscribe();
        loop {
            if self.load().primary().is_ok_and(|primary| primary.address != *endpoint) {
                return;
            }
            if changes.changed().await.is_err() {
                // The sender is ours: it lives as long as we do.
                std::future::pending::<()>().await;
            }
        }
    }

    /// Until this endpoint may serve reads no more. Cancel safe.
    pub async fn retires(&self, endpoint: EndpointIndex) {
        let mut changes = self.subscribe();
        loop {
            let snapshot = self.load_full();
            if !snapshot.roles.replicas.contains(&endpoint) && !snapshot.roles.analytics.contains(&endpoint) {
                return;
            }
            if changes.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// A snapshot that has a primary, at once if there is one, else as soon as there is, else
    /// after `hold` the reason why not. Cancel safe.
    pub async fn wait_for_primary(&self, hold: Duration) -> Result<Arc<ShardSnapshot>, NoPrimary> {
        let mut changes = self.subscribe();
        let waiting = async {
            loop {
                let snapshot = self.load_full();
                if snapshot.roles.primary.is_ok() {
                    return snapshot;
                }
                if changes.changed().await.is_err() {
                    // The sender is ours: it lives as long as we do.
                    std::future::pending::<()>().await;
                }
            }
        };
        let found = tokio::time::timeout(hold, waiting).await;
        found.or_else(|_| {
            let snapshot = self.load_full();
            match &snapshot.roles.primary {
                Ok(_) => Ok(Arc::clone(&snapshot)),
                Err(why) => Err(why.clone()),
            }
        })
    }

    /// Waits until every endpoint has been heard of or found down, so that there is a verdict
    /// whatever it is; for `limit` at most, then false. Cancel safe.
    pub async fn wait_for_verdict(&self, limit: Duration) -> bool {
        let mut changes = self.subscribe();
        let waiting = async {
            while matches!(self.load().roles.primary, Err(NoPrimary::Unknown)) {
                if changes.changed().await.is_err() {
                    // The sender is ours: it lives as long as we do.
                    std::future::pending::<()>().await;
                }
            }
        };
        tokio::time::timeout(limit, waiting).await.is_ok()
    }

    /// Changes the state and publishes it.
    pub(super) fn change(&self, change: impl FnOnce(&mut Watched) -> Vec<Event>) -> Vec<Event> {
        let mut watched = lock(&self.watched);
        let events = change(&mut watched);
        let snapshot = watched.snapshot().clone();
        let generation = snapshot.generation;
        // Under the lock: snapshots are published in the order they were made.
        self.published.store(Arc::new(snapshot));
        self.generation.send_if_modified(|last| std::mem::replace(last, generation) != generation);
        events
    }

    /// Which tasks [`ShardBoard::probe_now`] wakes.
    pub(super) fn set_tasks(&self, wake: Vec<Arc<Notify>>) {
        let answered = vec![None; wake.len()];
        *lock(&self.tasks) = Tasks { wake, answered };
    }
}

/// Between two looks at what has answered.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// A panic while the lock was held leaves a state that the next observation sets right.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// All shards at one moment.
#[derive(Clone, Debug)]
pub struct ClusterHealth {
    /// By database and shard, in the order of their names.
    pub shards: Vec<Arc<ShardSnapshot>>,
}

/// A database's and a shard's name.
pub(super) type ShardName = (String, String);

/// All shards' published states. A shard's board stays the same over reloads.
#[derive(Debug, Default)]
pub struct Board {
    shards: ArcSwap<BTreeMap<ShardName, Arc<ShardBoard>>>,
}

impl Board {
    /// A shard's board; to be kept by whoever asks often.
    pub fn shard(&self, database: &str, shard: &str) -> Option<Arc<ShardBoard>> {
        self.shards.load().get(&(database.to_owned(), shard.to_owned())).cloned()
    }

    /// For metrics and the status page.
    pub fn snapshot(&self) -> ClusterHealth {
        ClusterHealth { shards: self.shards.load().values().map(|shard| shard.load_full()).collect() }
    }

    /// Has every endpoint of every shard probed at once.
    pub fn probe_now(&self) {
        for shard in self.shards.load().values() {
            shard.probe_now();
        }
    }

    pub(super) fn boards(&self) -> Arc<BTreeMap<ShardName, Arc<ShardBoard>>> {
        self.shards.load_full()
    }

    pub(super) fn publish(&self, shards: BTreeMap<ShardName, Arc<ShardBoard>>) {
        self.shards.store(Arc::new(shards));
    }
}
