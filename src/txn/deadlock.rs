//! Which transactions wait for each other in a circle that no single PostgreSQL can see.
//!
//! Each server tells which of its processes wait for which ([`Graph::blocked`]); pgring knows which
//! processes of several servers are one transaction ([`Graph::add`]). A circle is a deadlock of
//! pgring's when it passes at least once from the process that blocks to another one of the same
//! transaction, which waits. One that does not is within a server, and its PostgreSQL finds it.
//!
//! - Servers are not asked at one instant, so what is put together may be halves of different times.
//!   Only what two looks have seen alike counts ([`Graph::persistent`]): a transaction that was in the
//!   same wait both times has had its locks in between, and who waited for them still did.
//! - The victim depends on nothing but the graph: proxies that see the same choose the same.
//! - A process that two transactions claim is nobody's: one of the claims is out of date.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::SystemTime;

/// A server's process.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Process {
    /// Of which running server.
    pub server: Arc<str>,
    /// Its number there.
    pub pid: u32,
}

/// A transaction, among those of all proxies. A session has one at a time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Id {
    /// The proxy.
    pub proxy: u128,
    /// Its session.
    pub session: u32,
}

/// A part of a transaction on one server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Part {
    /// Who runs it.
    pub process: Process,
    /// It keeps its locks until the other parts have come to an end too.
    pub bound: bool,
}

/// A transaction on several servers that waits for some of them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Transaction {
    /// Which one.
    pub id: Id,
    /// Which of its waits this is: another one has another number.
    pub wait: u64,
    /// When it began.
    pub started: SystemTime,
    /// May it be the victim?
    pub may_fall: bool,
    /// Where it is.
    pub parts: Vec<Part>,
}

impl Transaction {
    /// The same wait, apart from what of it is bound by now.
    fn is_same_wait(&self, other: &Transaction) -> bool {
        let processes =
            |of: &Transaction| of.parts.iter().map(|part| part.process.clone()).collect::<Vec<_>>();
        self.wait == other.wait && self.started == other.started && processes(self) == processes(other)
    }
}

/// One waits for the other, on their server.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Hop {
    /// Who waits.
    pub waiter: Process,
    /// For whom.
    pub blocker: Process,
}

/// A circle, and who is to give way.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Deadlock {
    /// The youngest of its transactions.
    pub victim: Id,
    /// The circle.
    pub hops: Vec<Hop>,
}

/// See the module.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Graph {
    transactions: BTreeMap<Id, Transaction>,
    /// `None`: several claim it.
    owners: BTreeMap<Process, Option<Id>>,
    waits: BTreeMap<Process, BTreeSet<Process>>,
}

impl Graph {
    /// There is this transaction.
    pub fn add(&mut self, transaction: Transaction) {
        for part in &transaction.parts {
            self.owners
                .entry(part.process.clone())
                .and_modify(|owner| *owner = owner.filter(|owner| *owner == transaction.id))
                .or_insert(Some(transaction.id));
        }
        self.transactions.insert(transaction.id, transaction);
    }

    /// A server says that one of its processes waits for another. A prepared transaction has no
    /// process (`pg_blocking_pids` says 0); it waits for nothing.
    pub fn blocked(&mut self, waiter: Process, blocker: Process) {
        if waiter != blocker && waiter.pid != 0 && blocker.pid != 0 {
            self.waits.entry(waiter).or_default().insert(blocker);
        }
    }

    /// Whose process it is, if it is known.
    pub fn owner(&self, process: &Process) -> Option<&Transaction> {
        self.transactions.get(self.owners.get(process)?.as_ref()?)
    }

    /// Somebody blocks whose transaction, if it has one on several servers, is not known.
    pub fn has_strangers(&self) -> bool {
        self.waits.values().flatten().any(|blocker| !self.owners.contains_key(blocker))
    }

    /// What was so in an earlier look as well.
    pub fn persistent(&self, earlier: &Graph) -> Graph {
        let stays = |process: &Process| match (self.owner(process), earlier.owner(process)) {
            (Some(now), Some(before)) => now.id == before.id && now.is_same_wait(before),
            (None, None) => self.owners.contains_key(process) == earlier.owners.contains_key(process),
            _ => false,
        };
        let mut graph = Graph { waits: BTreeMap::new(), ..self.clone() };
        for (waiter, blockers) in &self.waits {
            let Some(before) = earlier.waits.get(waiter) else { continue };
            for blocker in blockers.intersection(before) {
                if stays(waiter) && stays(blocker) {
                    graph.blocked(waiter.clone(), blocker.clone());
                }
            }
        }
        graph
    }

    /// A victim for each circle, until there is none left.
    pub fn deadlocks(&self) -> Vec<Deadlock> {
        let mut graph = self.clone();
        let mut found = Vec::new();
        // What only transactions that must not fall could undo, and who waits for itself: pgring has
        // two connections to a shard at work for one transaction, and ends that by a limit of its own.
        let mut hopeless = BTreeSet::new();
        while let Some((link, hops)) = graph.circle(&hopeless) {
            if hops.len() == 1 {
                hopeless.insert(link);
                continue;
            }
            let youngest = hops.iter().filter_map(|hop| graph.owner(&hop.waiter)).filter(|one| one.may_fall);
            let Some(victim) = youngest.max_by_key(|one| (one.started, one.id)).map(|one| one.id) else {
                hopeless.insert(link);
                continue;
            };
            graph.waits.retain(|waiter, _| graph.owners.get(waiter) != Some(&Some(victim)));
            found.push(Deadlock { victim, hops });
        }
        found
    }

    /// A shortest circle through the first link there is between two processes of a transaction.
    fn circle(&self, hopeless: &BTreeSet<(Process, Process)>) -> Option<((Process, Process), Vec<Hop>)> {
        let blockers: BTreeSet<&Process> = self.waits.values().flatten().collect();
        for blocker in blockers {
            for waiter in self.siblings(blocker) {
                let link = (blocker.clone(), waiter.clone());
                if !hopeless.contains(&link)
                    && let Some(hops) = self.path(waiter, blocker)
                {
                    return Some((link, hops));
                }
            }
        }
        None
    }

    /// Processes that have to come to an end before this one lets go of what it has, because they
    /// are of the same transaction.
    fn siblings<'g>(&'g self, process: &'g Process) -> impl Iterator<Item = &'g Process> {
        let parts = self.owner(process).map_or(&[][..], |owner| &owner.parts);
        let bound = parts.iter().any(|part| part.process == *process && part.bound);
        let others = parts.iter().filter(move |part| bound && part.process != *process);
        let known = |other: &&Process| self.owners.get(*other).is_some_and(Option::is_some);
        others.map(|part| &part.process).filter(|other| self.waits.contains_key(*other)).filter(known)
    }

    fn path(&self, from: &Process, to: &Process) -> Option<Vec<Hop>> {
        // How each was come to: by whose wait, or (`None`) as a sibling.
        let mut reached: BTreeMap<&Process, (&Process, bool)> = BTreeMap::new();
        let mut queue = VecDeque::from([from]);
        while let Some(at) = queue.pop_front() {
            let waits = self.waits.get(at).into_iter().flatten().map(|next| (next, true));
            let siblings = self.siblings(at).map(|next| (next, false));
            // From where the search begins it is by a wait: there a link has been taken already.
            for (next, is_wait) in waits.chain(siblings.filter(|_| at != from)) {
                if next == from || reached.contains_key(next) {
                    continue;
                }
                reached.insert(next, (at, is_wait));
                queue.push_back(next);
            }
            if reached.contains_key(to) {
                break;
            }
        }
        let mut hops = Vec::new();
        let mut at = to;
        while at != from {
            let (before, is_wait) = *reached.get(at)?;
            if is_wait {
                hops.push(Hop { waiter: before.clone(), blocker: at.clone() });
            }
            at = before;
        }
        hops.reverse();
        Some(hops)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    fn process(server: &str, pid: u32) -> Process {
        Process { server: server.into(), pid }
    }

    /// Its parts are written `a1 b2`: process 1 of server a, 2 of b; `a1?` is not bound.
    fn transaction(session: u32, started: u64, parts: &str) -> Transaction {
        let part = |word: &str| {
            let (word, bound) = word.strip_suffix('?').map_or((word, true), |word| (word, false));
            Part { process: read(word), bound }
        };
        Transaction {
            id: Id { proxy: 1, session },
            wait: 1,
            started: SystemTime::UNIX_EPOCH + Duration::from_secs(started),
            may_fall: true,
            parts: parts.split_whitespace().map(part).collect(),
        }
    }

    fn read(word: &str) -> Process {
        let (server, pid) = word.split_at(1);
        process(server, pid.parse().unwrap())
    }

    /// Waits are written `a1>a2`.
    fn graph(transactions: &[Transaction], waits: &str) -> Graph {
        let mut graph = Graph::default();
        transactions.iter().cloned().for_each(|transaction| graph.add(transaction));
        for wait in waits.split_whitespace() {
            let (waiter, blocker) = wait.split_once('>').unwrap();
            graph.blocked(read(waiter), read(blocker));
        }
        graph
    }

    fn victims(graph: &Graph) -> Vec<u32> {
        graph.deadlocks().iter().map(|deadlock| deadlock.victim.session).collect()
    }

    #[test]
    fn circles() {
        let two = || vec![transaction(1, 10, "a1 b1"), transaction(2, 20, "a2 b2")];
        let three =
            || vec![transaction(1, 10, "a1 b1"), transaction(2, 20, "b2 c2"), transaction(3, 15, "c3 a3")];
        let same_age = || vec![transaction(1, 10, "a1 b1"), transaction(2, 10, "a2 b2")];
        let stays = |mut of: Vec<Transaction>, at: usize| {
            of[at].may_fall = false;
            of
        };
        let alone = || vec![transaction(1, 10, "a1? b1"), transaction(2, 20, "a2 b2")];
        let twice = || {
            let mut of = two();
            of.push(transaction(3, 30, "c1 a1"));
            of
        };
        let rows: Vec<(Vec<Transaction>, &str, &[u32], &str)> = vec![
            (two(), "", &[], "nobody waits"),
            (two(), "a1>a2", &[], "one waits"),
            (two(), "a1>a2 b2>b1", &[2], "two, crossing"),
            (two(), "a1>a2 b1>b2", &[], "both parts of one wait for the other"),
            (two(), "a1>a2 a2>a1", &[], "PostgreSQL's own"),
            (two(), "a1>a2 a2>a1 b2>b1", &[2], "PostgreSQL's own, and one across"),
            (three(), "b1>b2 c2>c3 a3>a1", &[2], "three"),
            (three(), "b1>b2 c2>c3", &[], "three in a row"),
            (same_age(), "a1>a2 b2>b1", &[2], "of one age"),
            (two(), "a1>a9 a9>a2 b2>b1", &[2], "through somebody who is on one server"),
            (two(), "a1>a9 a2>a9 b2>b1", &[], "behind somebody who is on one server"),
            (two(), "a1>a0 b2>b1", &[], "a prepared transaction"),
            (stays(two(), 1), "a1>a2 b2>b1", &[1], "the youngest commits"),
            (stays(stays(two(), 1), 0), "a1>a2 b2>b1", &[], "both commit"),
            (vec![transaction(1, 10, "a1 a2")], "a1>a2", &[], "one that waits for itself"),
            (vec![transaction(1, 10, "a1 a2")], "a1>a3 a3>a2", &[1], "one that waits for who waits for it"),
            (alone(), "a2>a1 b1>b2", &[], "one part will come to its end by itself"),
            (alone(), "a1>a2 b2>b1", &[2], "which the other one will not"),
            (twice(), "a1>a2 b2>b1", &[], "a process that two claim, as one that waits"),
            (twice(), "a2>a1 b1>b2", &[], "a process that two claim, as one that is waited for"),
            (
                vec![
                    transaction(1, 10, "a1 b1"),
                    transaction(2, 20, "a2 b2"),
                    transaction(3, 30, "a3 b3"),
                    transaction(4, 40, "a4 b4"),
                ],
                "a1>a2 b2>b1 a3>a4 b4>b3",
                &[2, 4],
                "two circles",
            ),
            (
                vec![transaction(1, 10, "a1 b1"), transaction(2, 20, "a2 b2"), transaction(3, 5, "a3 b3")],
                "a1>a2 b2>b1 a3>a2 b2>b3",
                &[2],
                "two circles with one in common",
            ),
        ];
        for (transactions, waits, expected, what) in rows {
            assert_eq!(victims(&graph(&transactions, waits)), expected, "{what}");
        }
    }

    #[test]
    fn only_what_two_looks_have_seen_counts() {
        let two = || vec![transaction(1, 10, "a1 b1"), transaction(2, 20, "a2 b2")];
        let changed = |change: fn(&mut Transaction)| {
            let mut of = two();
            change(&mut of[0]);
            of
        };
        let circle = "a1>a2 b2>b1";
        type Look<'r> = (Vec<Transaction>, &'r str);
        let rows: Vec<(Look<'_>, Look<'_>, &[u32], &str)> = vec![
            ((vec![], ""), (vec![], circle), &[], "nobody is known"),
            ((vec![], ""), (two(), circle), &[], "the first look"),
            ((two(), circle), (two(), circle), &[2], "the same twice"),
            ((two(), "a1>a2"), (two(), circle), &[], "half of it is new"),
            ((two(), circle), (two(), "a1>a2"), &[], "half of it is gone"),
            ((two(), "a1>a2"), (two(), "b2>b1"), &[], "halves of different times"),
            ((changed(|one| one.wait = 2), circle), (two(), circle), &[], "another wait"),
            ((changed(|one| one.parts.truncate(1)), circle), (two(), circle), &[], "another part"),
            ((changed(|one| one.parts[0].bound = false), circle), (two(), circle), &[2], "bound by now"),
            ((two().split_off(1), circle), (two(), circle), &[], "heard of only now"),
        ];
        for ((before, earlier), (now, later), expected, what) in rows {
            let persistent = graph(&now, later).persistent(&graph(&before, earlier));
            assert_eq!(victims(&persistent), expected, "{what}");
        }
    }

    #[test]
    fn strangers() {
        let one = [transaction(1, 10, "a1 b1")];
        for (waits, expected) in [("", false), ("a1>a2", true), ("a3>a1", false), ("a1>a0", false)] {
            assert_eq!(graph(&one, waits).has_strangers(), expected, "{waits}");
        }
    }

    /// Transactions on three servers, and waits between their processes.
    fn crowds() -> impl Strategy<Value = Graph> {
        let waits = prop::collection::vec((0_u8..3, 1_u32..8, 1_u32..8), 0..24);
        (waits, prop::collection::vec(0_u64..4, 7)).prop_map(|(waits, ages)| {
            let transactions: Vec<Transaction> =
                (1..).zip(ages).map(|(n, age)| transaction(n, age, &format!("a{n} b{n} c{n}"))).collect();
            let name = |server| char::from(b'a' + server);
            let waits: Vec<String> =
                waits.iter().map(|(s, w, b)| format!("{0}{w}>{0}{b}", name(*s))).collect();
            graph(&transactions, &waits.join(" "))
        })
    }

    /// Can anybody be waited for for ever, other than within one server?
    fn has_circle(graph: &Graph) -> bool {
        graph.circle(&BTreeSet::new()).is_some()
    }

    /// Do some wait for each other within one server?
    fn has_own_circle(graph: &Graph) -> bool {
        let waits = |from: &Process| graph.waits.get(from).into_iter().flatten().cloned();
        graph.waits.keys().any(|from| {
            let mut reached: BTreeSet<Process> = waits(from).collect();
            loop {
                let grown: BTreeSet<Process> =
                    reached.iter().flat_map(waits).chain(reached.clone()).collect();
                if grown.len() == reached.len() {
                    return reached.contains(from);
                }
                reached = grown;
            }
        })
    }

    /// The same by who is reached from whom, until that does not grow any more. A step is a wait, and
    /// perhaps a link behind it.
    fn naive(graph: &Graph) -> bool {
        let waits = |from: &Process| -> Vec<Process> {
            graph.waits.get(from).into_iter().flatten().cloned().collect()
        };
        let linked = |from: &Process| -> Vec<Process> {
            waits(from)
                .iter()
                .flat_map(|blocker| graph.siblings(blocker).cloned().collect::<Vec<_>>())
                .collect()
        };
        let reached = |from: &Process| {
            let mut reached = BTreeSet::from([from.clone()]);
            loop {
                let beyond = reached.iter().flat_map(|at| waits(at).into_iter().chain(linked(at)));
                let grown: BTreeSet<Process> = reached.iter().cloned().chain(beyond).collect();
                if grown.len() == reached.len() {
                    return reached;
                }
                reached = grown;
            }
        };
        graph.waits.keys().any(|from| linked(from).iter().any(|next| reached(next).contains(from)))
    }

    proptest! {
        #[test]
        fn victims_are_enough_and_in_circles(graph in crowds()) {
            let deadlocks = graph.deadlocks();
            let mut left = graph.clone();
            for deadlock in &deadlocks {
                prop_assert!(has_circle(&left), "somebody falls for nothing");
                let hops = &deadlock.hops;
                let ends = hops.iter().zip(hops.iter().cycle().skip(1));
                for (hop, next) in ends {
                    prop_assert!(graph.waits[&hop.waiter].contains(&hop.blocker));
                    let (owner, next_owner) = (graph.owner(&hop.blocker), graph.owner(&next.waiter));
                    prop_assert_eq!(owner.unwrap().id, next_owner.unwrap().id);
                }
                let own = |hop: &&Hop| graph.owner(&hop.waiter).unwrap().id == deadlock.victim;
                let victim = graph.owner(&hops.iter().find(own).unwrap().waiter).unwrap();
                for hop in hops {
                    let other = graph.owner(&hop.waiter).unwrap();
                    prop_assert!((other.started, other.id) <= (victim.started, victim.id));
                }
                left.waits.retain(|waiter, _| graph.owner(waiter).unwrap().id != deadlock.victim);
            }
            prop_assert!(!has_circle(&left), "somebody waits for ever");
        }

        #[test]
        fn a_circle_is_found_where_there_is_one(graph in crowds()) {
            // Two servers' own circles, with a transaction in both, look like one that goes there and back;
            // each is its server's to break.
            if has_circle(&graph) || !has_own_circle(&graph) {
                prop_assert_eq!(has_circle(&graph), naive(&graph));
            }
        }
    }
}
