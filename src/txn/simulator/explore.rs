//! Every order there is of what may happen, breadth first: a transaction of two shards, two
//! recovery processes beside its coordinator, and so many faults. A fault is a break of a connection,
//! a refusal, a process's or a server's death, a failover, silence, a forged row, or a role that is renamed.

use super::world::{Begin, Mutation, SERVERS, Setup, World};
use super::{Chance, HEALING, PROGRESS};
use std::collections::HashSet;
use std::hash::{BuildHasherDefault, Hash, Hasher};

/// FxHash, twice: a hundred and twenty-eight bits, so that no two states are taken for one.
#[derive(Default)]
struct Mix(u64, u64);

impl Hasher for Mix {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(0x517c_c1b7_2722_0a95);
        self.1 = (self.1.rotate_left(23) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn write_u8(&mut self, byte: u8) {
        self.write_u64(byte.into());
    }

    fn write_usize(&mut self, word: usize) {
        self.write_u64(word as u64);
    }

    fn write_isize(&mut self, word: isize) {
        self.write_u64(word as u64);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

fn key(world: &World) -> u128 {
    let mut mix = Mix::default();
    world.hash(&mut mix);
    u128::from(mix.0) << 64 | u128::from(mix.1)
}

/// How much there is to explore.
#[derive(Clone, Copy)]
pub(super) struct Scope {
    pub(super) faults: u8,
    pub(super) processes: usize,
    pub(super) synchronous: bool,
    pub(super) tidies: bool,
}

impl Scope {
    /// Nothing goes wrong, but recovery does not wait for its turn either.
    pub(super) const QUIET: Scope = Scope { faults: 0, processes: 1, synchronous: true, tidies: false };
    pub(super) const FAULT: Scope = Scope { faults: 1, ..Scope::QUIET };
    pub(super) const TIDY: Scope = Scope { tidies: true, ..Scope::QUIET };
    pub(super) const TIDY_TWICE: Scope = Scope { processes: 2, ..Scope::TIDY };
    pub(super) const TIDY_FAULT: Scope = Scope { faults: 1, ..Scope::TIDY };
    /// Standbys lag, and failovers lose.
    pub(super) const LOSS: Scope = Scope { synchronous: false, ..Scope::TIDY_FAULT };
}

/// What was found.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) states: usize,
    /// And how many events lead there.
    pub(super) violation: Option<(&'static str, usize)>,
}

/// Two shards that have both written.
const TWO: Begin = Begin { wrote: [true, true, false], decided: None, serializable: false };

/// Two shards and all that can happen.
pub(super) fn explore(scope: Scope, mutation: Mutation) -> Found {
    explore_from(scope, mutation, 2, TWO)
}

fn explore_from(scope: Scope, mutation: Mutation, servers: usize, begin: Begin) -> Found {
    let Scope { faults, processes, synchronous, tidies } = scope;
    let mut first = World::new(Setup { servers, processes, synchronous, mutation, faults, tidies }, &[begin]);
    first.canonicalise();
    let mut seen: HashSet<u128, BuildHasherDefault<Mix>> = HashSet::default();
    seen.insert(key(&first));
    let (mut now, mut next, mut events) = (vec![first], Vec::new(), Vec::new());
    let mut chance = Chance(1);
    for depth in 0.. {
        for world in now.drain(..) {
            events.clear();
            world.events(&mut events);
            for event in &events {
                let mut other = world.clone();
                other.apply(*event);
                if let Some(violation) = other.violation {
                    return Found { states: seen.len(), violation: Some((violation, depth + 1)) };
                }
                other.canonicalise();
                if seen.insert(key(&other)) {
                    next.push(other);
                }
            }
            // Whatever has happened, it comes to an end when nothing more does.
            let dead = events.iter().all(|event| event.is_fault()) && !world.settled();
            if dead || chance.one_in(50) && !ends(world, &mut chance) {
                return Found { states: seen.len(), violation: Some((PROGRESS, depth)) };
            }
        }
        if next.is_empty() {
            break;
        }
        std::mem::swap(&mut now, &mut next);
    }
    Found { states: seen.len(), violation: None }
}

/// (Or goes wrong, which is found out anyhow.)
fn ends(mut world: World, chance: &mut Chance) -> bool {
    let mut events = Vec::new();
    world.faults = 0;
    for _ in 0..HEALING {
        if world.settled() || world.violation.is_some() {
            return true;
        }
        events.clear();
        world.events(&mut events);
        if let Some(event) = events.get(chance.below(events.len().max(1))) {
            world.apply(*event);
        }
    }
    false
}

fn nothing_is_found(scope: Scope, servers: usize, begin: Begin) -> usize {
    let found = explore_from(scope, Mutation::Intact, servers, begin);
    assert_eq!(found.violation, None);
    println!("{} states", found.states);
    found.states
}

#[test]
fn two_proxies_and_two_faults() {
    let states = nothing_is_found(Scope { faults: 2, processes: 2, ..Scope::QUIET }, 2, TWO);
    assert!(states > 100_000);
}

#[test]
fn two_proxies_tidy_up_with_a_fault() {
    let states = nothing_is_found(Scope { processes: 2, ..Scope::TIDY_FAULT }, 2, TWO);
    assert!(states > 100_000);
}

#[test]
fn two_proxies_and_a_failover_that_loses() {
    nothing_is_found(Scope { processes: 2, tidies: false, ..Scope::LOSS }, 2, TWO);
}

#[test]
fn tidying_and_a_failover_that_loses() {
    nothing_is_found(Scope::LOSS, 2, TWO);
}

#[test]
fn other_beginnings() {
    let two_faults = Scope { faults: 2, ..Scope::QUIET };
    for decided in [0, 1] {
        nothing_is_found(two_faults, 2, Begin { decided: Some(decided), ..TWO });
    }
    let reader = Begin { wrote: [true, false, false], ..TWO };
    for serializable in [false, true] {
        nothing_is_found(two_faults, 2, Begin { serializable, ..reader });
        nothing_is_found(two_faults, 2, Begin { serializable, decided: Some(0), ..reader });
    }
    nothing_is_found(Scope::FAULT, 3, Begin { wrote: [false, true, true], ..TWO });
    nothing_is_found(Scope::FAULT, 3, Begin { wrote: [true, true, true], ..TWO });
}

/// Minutes: `cargo test --release txn::simulator -- --ignored`.
#[test]
#[ignore = "minutes"]
fn deep() {
    nothing_is_found(Scope { processes: 2, ..Scope::LOSS }, 2, TWO);
    nothing_is_found(Scope { faults: 2, ..Scope::LOSS }, 2, TWO);
    nothing_is_found(Scope { faults: 3, processes: 2, ..Scope::QUIET }, 2, TWO);
    nothing_is_found(Scope { faults: 2, ..Scope::QUIET }, 3, Begin { wrote: [true; SERVERS], ..TWO });
    nothing_is_found(Scope { faults: 2, processes: 2, ..Scope::TIDY }, 2, TWO);
}
