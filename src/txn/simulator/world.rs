//! Servers, proxies and the network between them, as small integers.
//!
//! What the model is made of, and why that is enough:
//!
//! - A member's connection carries one message at a time, as the coordinator sends them. When it
//!   breaks, the message on the way may still arrive at any later time, or never.
//! - Recovery's reads happen at once: a delayed request is one that was made later, a delayed answer
//!   one that is acted upon later. Its writes may be left behind on the way, and happen whenever.
//! - Time is not counted. Whatever takes time may happen at any moment (the grace period is over, a
//!   decider has been in flight for too long), but for the hour: it passes when every standby has
//!   what was there at its beginning.
//! - A server that fails over goes on from what its standby has. Its old primary is fenced.

mod recovery;
mod servers;
mod sessions;

use super::super::commit::{Answer, Coordinator, Outcome, Step as Next, Verdict, Work};
use super::super::gid::Gid;
use super::super::recovery::{
    Author, Decided, Decider, Owner, Patience, Review, Stage, Step, Testimony, Trace, author, is_lost,
    resolution, review, testimony, verdict,
};
use std::hash::{Hash, Hasher};
use std::time::Duration;

pub(super) const SERVERS: usize = 3;
pub(super) const TXS: usize = 3;
/// How many changes a standby may lag.
const LAG: usize = 4;

const OWNER: &str = "app";
/// Every server has this prepared transaction.
const FOREIGN: &str = "pgring:other:0190163d-8694-739b-aea5-966c26f8ad91:1/app";
const HOUR: Duration = Duration::from_secs(3600);
const PATIENCE: Patience =
    Patience { grace: Duration::ZERO, in_flight: Duration::from_secs(30), retention: HOUR };

/// One way to get it wrong.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Mutation {
    Intact,
    /// `PREPARE` goes out with the decision's insert.
    PrepareBeforeDecided,
    /// And the decider commits without looking whether its row stands.
    DecidedUnchecked,
    /// `COMMIT PREPARED` and success without the decider's answer.
    CommitBeforeDecider,
    /// The tag `ROLLBACK` is taken for success.
    TagUnchecked,
    /// A decider that is lost is taken for one that refused.
    LostIsRefused,
    /// Or for one that has done what it was told.
    LostIsDone,
    /// The coordinator takes the absence of a row for an abort.
    ResolveByAbsence,
    /// Or does so when an hour has passed.
    BelievesOldAbsence,
    /// Recovery takes the absence of a row for an abort.
    RecoverByAbsence,
    /// The abort row does not wait for the decider in flight.
    NoPrimaryKey,
    /// A decider that does not answer is taken for one without a row.
    UnreachableIsNoRow,
    /// Whoever has written a row is believed.
    OwnerUnchecked,
    /// Who is called otherwise now is taken for somebody else.
    NamesStay,
    /// Recovery asks the shard at the decider's old place in the configuration.
    ByPosition,
    /// Recovery takes every cluster's gids for its own.
    ClusterUnchecked,
    /// A decider is ended while it waits for a standby.
    EndsReplicating,
    /// A missing gid is taken for a commit.
    MissingGidIsProof,
    /// What is still prepared is taken for committed.
    PreparedIsProof,
    /// No witness is written.
    NoWitness,
    /// Witnesses are read before the gids.
    WitnessBeforeGid,
    /// A loss is cried without a second look.
    NoSecondLook,
    /// Witnesses are removed without marking the row.
    RetireUnmarked,
    /// The hour counts from the decision, not from when all were seen to have committed.
    HourFromDecision,
    /// Nor from when they were seen to have done so again, after a failover.
    TimelineUnchecked,
    /// A row is marked whatever it is by now.
    MarksBlindly,
    /// The row goes before the witnesses.
    RowFirst,
    /// Nobody listens to witnesses without a row.
    DeafToWitnesses,
    /// Recovery does nothing.
    NoRecovery,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(super) enum Data {
    #[default]
    Nothing,
    Prepared,
    Committed,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(super) enum Row {
    #[default]
    None,
    Commit(Stage),
    Abort,
    /// `commit`, by somebody else.
    Forged,
}

/// Of each server, as far as they differ.
type Timelines = [u8; SERVERS];

/// What a server has of a transaction, for everybody to see.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Part {
    pub(super) data: Data,
    row: Row,
    /// The row has been so for an hour.
    row_old: bool,
    /// The timelines that it notes.
    noted: Timelines,
    witness: bool,
    witness_old: bool,
}

/// As one word: worlds are hashed by the million.
impl Hash for Part {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let Part { data, row, row_old, noted, witness, witness_old } = *self;
        let row = match row {
            Row::None => 0,
            Row::Abort => 1,
            Row::Forged => 2,
            Row::Commit(stage) => 3 + stage as u8,
        };
        let flags = u8::from(row_old) | u8::from(witness) << 1 | u8::from(witness_old) << 2;
        let [a, b, c] = noted;
        state.write_u64(u64::from_le_bytes([data as u8, row, flags, a, b, c, 0, 0]));
    }
}

/// A change that the standby does not have.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Lagging {
    tx: u8,
    part: Part,
    /// It is older than what the transaction's hour counts from.
    due: bool,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Server {
    pub(super) parts: [Part; TXS],
    standby: [Part; TXS],
    lag: Vec<Lagging>,
    timeline: u8,
    /// Another cluster's prepared transaction.
    foreign: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Backend {
    Open,
    /// With the decision's row.
    Decided,
    /// Which names the participants.
    Complete,
    /// Committed, and waits for the standby before anybody may see it.
    Waiting,
    /// No transaction.
    Idle,
    Gone,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Reply {
    Done,
    Error,
    /// The tag `ROLLBACK`.
    RolledBack,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Connection {
    /// The proxy's end.
    open: bool,
    backend: Backend,
    /// What the proxy waits for.
    asked: Option<Work>,
    /// On the way there.
    sent: Option<Work>,
    /// On the way back.
    reply: Option<Reply>,
}

const CLOSED: Connection =
    Connection { open: false, backend: Backend::Gone, asked: None, sent: None, reply: None };

/// What the client was told for certain.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Told {
    Nothing,
    Committed,
    Aborted,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Tx {
    coordinator: Option<Coordinator>,
    connections: [Connection; SERVERS],
    /// Members that write; member and server are one.
    wrote: [bool; SERVERS],
    decider: usize,
    two_phases: bool,
    resolving: Asking,
    /// It resolves for an hour.
    slow: bool,
    pub(super) told: Told,
    /// The decision's insert has been acknowledged.
    acknowledged: bool,
    /// Its role is called otherwise by now.
    renamed: bool,
    /// A failover has lost something of it.
    pub(super) lossy: bool,
    /// Somebody has cried that a shard lost its part.
    pub(super) alarm: bool,
}

/// Finding out what a decider has done.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) enum Asking {
    Look,
    InsertAbort,
    ReplaceForged,
    Witness,
    Terminate,
}

enum Found {
    Still(Asking),
    Final(bool),
    Nothing,
}

/// What a recovery process is about to do.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub(super) struct Seen {
    unknown: bool,
    prepared: bool,
    missing: bool,
    timelines: Timelines,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) enum Job {
    Idle,
    /// What becomes of the gid on this server?
    Verdict {
        tx: u8,
        server: u8,
        asking: Asking,
    },
    Finish {
        tx: u8,
        server: u8,
        commit: bool,
    },
    /// Looks at the participants, one after the other: first for the gid, then for the witness.
    Review {
        tx: u8,
        stage: Stage,
        old: bool,
        noted: Timelines,
        server: u8,
        /// What the first of two looks has found.
        first: Option<bool>,
        seen: Seen,
    },
    SecondLook {
        tx: u8,
    },
    Mark {
        tx: u8,
        from: Stage,
        old: bool,
        noted: Timelines,
        to: Stage,
        /// What it is to note.
        notes: Timelines,
    },
    /// Removes the witnesses, one after the other, then the row.
    Remove {
        tx: u8,
        server: u8,
    },
    RemoveRow {
        tx: u8,
    },
    /// Looks for gids of an abort row, one server after the other.
    Sweep {
        tx: u8,
        server: u8,
    },
    RemoveAbort {
        tx: u8,
    },
    /// Looks for the row of a witness, one server after the other.
    Testify {
        tx: u8,
        witness: u8,
        server: u8,
        found: bool,
        unknown: bool,
    },
    RemoveWitness {
        tx: u8,
        server: u8,
    },
    /// Ends what is not ours.
    Foreign {
        server: u8,
    },
}

impl Job {
    fn writes(self) -> bool {
        match self {
            Job::Verdict { asking, .. } => !matches!(asking, Asking::Look | Asking::Witness),
            Job::Finish { .. }
            | Job::Mark { .. }
            | Job::Remove { .. }
            | Job::RemoveRow { .. }
            | Job::RemoveAbort { .. }
            | Job::RemoveWitness { .. }
            | Job::Foreign { .. } => true,
            _ => false,
        }
    }
}

/// Anything that may happen next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Event {
    /// A message arrives and is done.
    Deliver(usize, usize),
    /// The standby has the decider's commit.
    Synced(usize),
    /// The answer arrives.
    Reply(usize, usize),
    /// The server sees that the proxy's end is gone; what was on the way never arrives.
    Notice(usize, usize),
    /// And the other way round.
    Broken(usize, usize),
    Resolve(usize),
    Replicate(usize),
    Start(usize, Job),
    Step(usize),
    Late(usize),
    Hour(usize),
    // Faults from here on.
    Refuse(usize, usize),
    RefuseByTag(usize, usize),
    Break(usize, usize),
    Crash(usize),
    ResolveBlind(usize),
    ResolveLost(usize),
    GiveUp(usize),
    Restart(usize),
    Failover(usize),
    Blind(usize),
    Kill(usize),
    Forge(usize),
    Rename(usize),
}

impl Event {
    pub(super) fn is_fault(self) -> bool {
        !matches!(
            self,
            Event::Deliver(..)
                | Event::Synced(_)
                | Event::Reply(..)
                | Event::Notice(..)
                | Event::Broken(..)
                | Event::Resolve(_)
                | Event::Replicate(_)
                | Event::Start(..)
                | Event::Step(_)
                | Event::Late(_)
                | Event::Hour(_)
        )
    }
}

/// How a world begins.
#[derive(Clone, Copy, Debug)]
pub(super) struct Setup {
    pub(super) servers: usize,
    /// Recovery processes; each transaction has a proxy of its own besides.
    pub(super) processes: usize,
    /// Standbys have what was acknowledged.
    pub(super) synchronous: bool,
    pub(super) mutation: Mutation,
    /// How many faults may yet happen.
    pub(super) faults: u8,
    /// The hour, and what comes after it.
    pub(super) tidies: bool,
}

/// A transaction as it comes to its `COMMIT`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Begin {
    pub(super) wrote: [bool; SERVERS],
    pub(super) decided: Option<usize>,
    pub(super) serializable: bool,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct World {
    pub(super) servers: Vec<Server>,
    pub(super) txs: Vec<Tx>,
    pub(super) processes: Vec<Job>,
    /// Writes on their way whose senders are gone.
    late: Vec<Job>,
    pub(super) faults: u8,
    synchronous: bool,
    tidies: bool,
    mutation: Mutation,
    /// Recovery takes a gid of another cluster for its own.
    takes_foreign: bool,
    pub(super) violation: Option<&'static str>,
}

impl Hash for Connection {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let Connection { open, backend, asked, sent, reply } = *self;
        let work = |work: Option<Work>| work.map_or(0, |work| 1 + work as u8);
        let reply = reply.map_or(0, |reply| 1 + reply as u8);
        let words = [u8::from(open), backend as u8, work(asked), work(sent), reply, 0, 0, 0];
        state.write_u64(u64::from_le_bytes(words));
    }
}

impl World {
    pub(super) fn new(setup: Setup, begins: &[Begin]) -> World {
        let server = Server {
            parts: [Part::default(); TXS],
            standby: [Part::default(); TXS],
            lag: Vec::new(),
            timeline: 0,
            foreign: true,
        };
        let mut world = World {
            servers: vec![server; setup.servers],
            txs: Vec::new(),
            processes: vec![Job::Idle; setup.processes],
            late: Vec::new(),
            faults: setup.faults,
            synchronous: setup.synchronous,
            tidies: setup.tidies,
            mutation: setup.mutation,
            takes_foreign: Gid::parse(
                FOREIGN,
                match setup.mutation {
                    Mutation::ClusterUnchecked => "other",
                    _ => "main",
                },
            )
            .is_some(),
            violation: None,
        };
        for begin in begins {
            world.begin(*begin, setup.servers);
        }
        world
    }

    fn begin(&mut self, begin: Begin, servers: usize) {
        let mut connections = [CLOSED; SERVERS];
        let mut wrote = begin.wrote;
        for (member, connection) in connections.iter_mut().enumerate().take(servers) {
            let decided = begin.decided == Some(member);
            wrote[member] |= decided;
            let backend = if decided { Backend::Decided } else { Backend::Open };
            *connection = Connection { open: true, backend, ..CLOSED };
        }
        let writers = wrote.iter().filter(|wrote| **wrote).count();
        let decider = begin.decided.or(wrote.iter().position(|wrote| *wrote)).unwrap_or_default();
        self.txs.push(Tx {
            coordinator: Some(Coordinator::new(
                begin.wrote[..servers].iter().copied(),
                begin.decided,
                begin.serializable,
            )),
            connections,
            wrote,
            decider,
            two_phases: writers > 1 || begin.decided.is_some(),
            resolving: Asking::Look,
            slow: false,
            told: Told::Nothing,
            acknowledged: begin.decided.is_some(),
            renamed: false,
            lossy: false,
            alarm: false,
        });
        self.send(self.txs.len() - 1);
    }

    fn fails(&mut self, what: &'static str) {
        self.violation = self.violation.or(Some(what));
    }

    // What may happen.

    pub(super) fn events(&self, events: &mut Vec<Event>) {
        let faults = self.faults > 0;
        for (at, tx) in self.txs.iter().enumerate() {
            self.events_of(at, tx, faults, events);
        }
        for (at, server) in self.servers.iter().enumerate() {
            if !server.lag.is_empty() {
                events.push(Event::Replicate(at));
            }
            if faults {
                events.extend([Event::Restart(at), Event::Failover(at)]);
            }
        }
        for (at, job) in self.processes.iter().enumerate() {
            if *job != Job::Idle {
                events.push(Event::Step(at));
                if faults {
                    events.extend([Event::Blind(at), Event::Kill(at)]);
                }
            } else if self.mutation != Mutation::NoRecovery
                // Idle processes are alike.
                && !self.processes[..at].contains(&Job::Idle)
            {
                for tx in 0..self.txs.len() {
                    self.starts(at, tx, events);
                }
                if self.takes_foreign {
                    events.extend(
                        (0..self.servers.len())
                            .map(|server| Event::Start(at, Job::Foreign { server: server as u8 })),
                    );
                }
            }
        }
        events.extend((0..self.late.len()).map(Event::Late));
    }

    fn events_of(&self, at: usize, tx: &Tx, faults: bool, events: &mut Vec<Event>) {
        for (member, connection) in tx.connections.iter().enumerate().take(self.servers.len()) {
            if *connection == CLOSED {
                continue;
            }
            if connection.sent.is_some() {
                events.push(Event::Deliver(at, member));
                if faults && connection.sent != Some(Work::Rollback) {
                    events.push(match self.mutation {
                        Mutation::TagUnchecked => Event::RefuseByTag(at, member),
                        _ => Event::Refuse(at, member),
                    });
                }
            }
            if connection.backend == Backend::Waiting {
                events.push(Event::Synced(at));
            }
            if connection.open {
                if connection.reply.is_some() {
                    events.push(Event::Reply(at, member));
                }
                if connection.backend == Backend::Gone && connection.reply.is_none() {
                    events.push(Event::Broken(at, member));
                } else if faults {
                    events.push(Event::Break(at, member));
                }
            } else if connection.backend != Backend::Waiting {
                events.push(Event::Notice(at, member));
            }
        }
        if let Some(coordinator) = &tx.coordinator {
            if faults {
                events.push(Event::Crash(at));
            }
            if let Next::Resolve(_) = coordinator.step() {
                events.push(Event::Resolve(at));
                if faults {
                    events.extend([Event::ResolveBlind(at), Event::GiveUp(at)]);
                    if tx.resolving != Asking::Look {
                        events.push(Event::ResolveLost(at));
                    }
                }
            }
        }
        if self.tidies && self.hour_may_pass(at) {
            events.push(Event::Hour(at));
        }
        let visible = self.servers.iter().any(|server| server.parts[at].data == Data::Prepared);
        if faults && visible && self.part(tx.decider, at).row == Row::None && !self.in_flight(at) {
            events.push(Event::Forge(at));
        }
        // Before that the names are compared as they are then.
        if faults && visible && !tx.renamed {
            events.push(Event::Rename(at));
        }
    }

    fn starts(&self, process: usize, at: usize, events: &mut Vec<Event>) {
        let tx = at as u8;
        for (server, state) in self.servers.iter().enumerate() {
            let part = &state.parts[at];
            let server = server as u8;
            if part.data == Data::Prepared {
                events.push(Event::Start(process, Job::Verdict { tx, server, asking: Asking::Look }));
            }
            match part.row {
                Row::Commit(stage) => events.push(Event::Start(
                    process,
                    Job::Review {
                        tx,
                        stage,
                        old: part.row_old,
                        noted: part.noted,
                        server: 0,
                        first: None,
                        seen: Seen::default(),
                    },
                )),
                Row::Abort if part.row_old => {
                    events.push(Event::Start(process, Job::Sweep { tx, server: 0 }));
                }
                _ => {}
            }
            if part.witness && self.mutation != Mutation::DeafToWitnesses {
                events.push(Event::Start(
                    process,
                    Job::Testify { tx, witness: server, server: 0, found: false, unknown: false },
                ));
            }
        }
    }

    // What happens.

    pub(super) fn apply(&mut self, event: Event) {
        if event.is_fault() {
            self.faults = self.faults.saturating_sub(1);
        }
        match event {
            Event::Deliver(tx, member) => self.deliver(tx, member, None),
            Event::Refuse(tx, member) => self.deliver(tx, member, Some(Reply::Error)),
            Event::RefuseByTag(tx, member) => self.deliver(tx, member, Some(Reply::RolledBack)),
            Event::Synced(tx) => {
                let member = self.txs[tx].decider;
                self.commit_decider(tx);
                let connection = &mut self.txs[tx].connections[member];
                connection.reply = connection.asked.map(|_| Reply::Done);
            }
            Event::Reply(tx, member) => self.reply(tx, member),
            Event::Break(tx, member) | Event::Broken(tx, member) => self.lose(tx, member),
            Event::Notice(tx, member) => self.txs[tx].connections[member].end(),
            Event::Crash(tx) => self.end(tx, None),
            Event::Resolve(tx) => self.resolve(tx, false),
            Event::ResolveBlind(tx) => self.resolve(tx, true),
            Event::ResolveLost(tx) => {
                let job = Job::Verdict { tx: tx as u8, server: u8::MAX, asking: self.txs[tx].resolving };
                self.txs[tx].resolving = Asking::Look;
                self.late.push(job);
                self.late.sort_unstable();
            }
            Event::GiveUp(tx) => self.resolved(tx, Verdict::Unknown),
            Event::Replicate(server) => self.servers[server].replicate(),
            Event::Restart(server) => self.restart(server),
            Event::Failover(server) => self.fail_over(server),
            Event::Start(process, job) => self.processes[process] = job,
            Event::Step(process) => self.processes[process] = self.run(self.processes[process], false),
            Event::Blind(process) => self.processes[process] = self.run(self.processes[process], true),
            Event::Kill(process) => {
                let job = std::mem::replace(&mut self.processes[process], Job::Idle);
                if job.writes() {
                    self.late.push(job);
                    self.late.sort_unstable();
                }
            }
            Event::Late(at) => {
                let job = self.late.remove(at);
                self.run(job, false);
            }
            Event::Hour(tx) => self.hour(tx),
            Event::Forge(tx) => {
                let decider = self.txs[tx].decider;
                let part = Part { row: Row::Forged, row_old: false, ..*self.part(decider, tx) };
                self.write(decider, tx, part);
            }
            Event::Rename(tx) => self.txs[tx].renamed = true,
        }
        self.check();
    }

    /// Recovery processes are alike.
    pub(super) fn canonicalise(&mut self) {
        self.processes.sort_unstable();
    }

    // What has to hold.

    fn check(&mut self) {
        for at in 0..self.txs.len() {
            if let Some(what) = self.wrong(at) {
                self.fails(what);
            }
        }
        if !self.servers.iter().all(|server| server.foreign) {
            self.fails("foreign gids are never touched");
        }
    }

    fn wrong(&self, at: usize) -> Option<&'static str> {
        let tx = &self.txs[at];
        if tx.lossy {
            return None;
        }
        let (mut any, mut all) = (false, true);
        for (server, state) in self.servers.iter().enumerate() {
            if tx.wrote[server] {
                any |= state.parts[at].data == Data::Committed;
                all &= state.parts[at].data != Data::Nothing;
            }
        }
        if any && !all {
            return Some("atomicity: one has committed, another never will");
        }
        if tx.two_phases && any && self.part(tx.decider, at).data != Data::Committed {
            return Some("atomicity: one has committed, and not the decider");
        }
        match tx.told {
            Told::Committed if tx.wrote.contains(&true) && !any => {
                return Some("a success is durable");
            }
            Told::Aborted if any => return Some("a definite error is true"),
            _ => {}
        }
        tx.alarm.then_some("no loss is cried where none was")
    }

    /// After healing: is a transaction decided, whole, and tidied up after?
    pub(super) fn settled(&self) -> bool {
        (0..self.txs.len()).all(|at| self.has_settled(at))
    }

    fn has_settled(&self, at: usize) -> bool {
        let tx = &self.txs[at];
        if tx.coordinator.is_some() {
            return false;
        }
        let (mut committed, mut not) = (false, false);
        for (server, state) in self.servers.iter().enumerate() {
            let part = &state.parts[at];
            if part.data == Data::Prepared {
                return false;
            }
            if tx.wrote[server] {
                committed |= part.data == Data::Committed;
                not |= part.data == Data::Nothing;
            }
            let row = matches!(part.row, Row::Commit(_) | Row::Abort);
            if self.tidies && !tx.lossy && (row || part.witness) {
                return false;
            }
        }
        !(committed && not) || tx.alarm
    }
}
