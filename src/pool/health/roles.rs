//! What a shard's endpoints mean together: who is its primary, who may serve reads.
//!
//! The primary is the writable endpoint with the highest timeline: PostgreSQL starts a new
//! timeline at each promotion, so that a primary that was replaced and comes back is known by
//! its lower one. From that follow the rules here:
//! - two writable endpoints on one timeline cannot be told apart, and both are refused;
//! - a timeline once seen, be it on a replica, fences all lower ones, though whoever writes on
//!   it cannot be reached: the rows written there would be missing in the old primary;
//! - a server with another system identifier than the shard's holds other data altogether. While
//!   the shard's own is not known and endpoints disagree, none of them is believed;
//! - a server that says it is another shard is not used, and nothing of it is believed;
//! - at start, no primary is named before each endpoint has been heard or found down: the first
//!   to answer may be the old one.
//!
//! What this cannot do: at start, with the new primary down and nobody following it, an old
//! primary that is up is taken for the primary. Only the servers' own fencing helps there.

use std::fmt;

use super::identity::Stranger;
use super::state::{EndpointHealth, Probe, Purpose, Role, State};

/// An endpoint's position in the snapshot it was read from.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct EndpointIndex(pub u16);

impl EndpointIndex {
    /// For indexing the snapshot's endpoints.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// Why a shard has no primary.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum NoPrimary {
    /// Not every endpoint has been heard of yet.
    Unknown,
    /// No endpoint that is up takes writes.
    NoneUp,
    /// Several take writes on one timeline.
    Conflict {
        /// Theirs, where they tell.
        timeline: Option<u32>,
        /// Who they are.
        claimants: Vec<EndpointIndex>,
    },
    /// The endpoints belong to different clusters, and which of them is the shard's is not known.
    DifferentSystem(Vec<EndpointIndex>),
    /// Only endpoints of a lower timeline than one already seen take writes.
    Fenced {
        /// The highest seen.
        timeline: u32,
        /// Who they are.
        claimants: Vec<EndpointIndex>,
    },
    /// Who takes writes is not what the file says.
    Stranger {
        /// Who that is.
        claimant: EndpointIndex,
        /// What it is.
        stranger: Stranger,
    },
}

impl fmt::Display for NoPrimary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NoPrimary::Unknown => f.write_str("not all endpoints have answered yet"),
            NoPrimary::NoneUp => f.write_str("no endpoint that is up takes writes"),
            NoPrimary::Conflict { timeline: Some(timeline), claimants } => {
                write!(f, "{} endpoints take writes on timeline {timeline}", claimants.len())
            }
            NoPrimary::Conflict { timeline: None, claimants } => {
                write!(f, "{} endpoints take writes, and their timelines cannot be read", claimants.len())
            }
            NoPrimary::DifferentSystem(_) => {
                f.write_str("the endpoints belong to different clusters (system identifiers differ)")
            }
            NoPrimary::Stranger { stranger, .. } => write!(f, "its server {stranger}"),
            NoPrimary::Fenced { timeline, .. } => {
                write!(f, "timeline {timeline} has been seen, and only older ones take writes")
            }
        }
    }
}

/// Why an endpoint that is up is not used.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// It belongs to another cluster.
    DifferentSystem {
        /// The shard's, if known.
        expected: Option<u64>,
        /// Its own.
        found: u64,
    },
    /// It takes writes on a timeline that is over, or cannot show that it is not.
    Fenced {
        /// Its own.
        timeline: Option<u32>,
        /// The highest seen.
        seen: u32,
    },
    /// It takes writes, and so does another one on the same timeline.
    Conflict,
    /// It takes writes but is configured for analytical reads.
    WritableAnalytics,
    /// A replica that does not (yet) follow the newest timeline.
    OldTimeline {
        /// Its own.
        timeline: u32,
        /// The highest seen.
        seen: u32,
    },
    /// It is not what the file says.
    Stranger(Stranger),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::DifferentSystem { expected: Some(expected), found } => write!(
                f,
                "belongs to another cluster: its system identifier is {found}, the shard's is {expected}"
            ),
            Refusal::DifferentSystem { expected: None, found } => write!(
                f,
                "belongs to another cluster than other endpoints of the shard (its system identifier is {found})"
            ),
            Refusal::Fenced { timeline: Some(timeline), seen } => {
                write!(f, "takes writes on timeline {timeline}, but timeline {seen} has been seen")
            }
            Refusal::Fenced { timeline: None, seen } => write!(
                f,
                "takes writes on a timeline that cannot be read, and timeline {seen} has been seen elsewhere"
            ),
            Refusal::Stranger(stranger) => stranger.fmt(f),
            Refusal::Conflict => f.write_str("takes writes on the same timeline as another endpoint"),
            Refusal::WritableAnalytics => f.write_str("takes writes, but is configured for analytical reads"),
            Refusal::OldTimeline { timeline, seen } => {
                write!(f, "is a replica on timeline {timeline}, but timeline {seen} has been seen")
            }
        }
    }
}

/// Who does what in a shard.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ShardRoles {
    /// Takes writes.
    pub primary: Result<EndpointIndex, NoPrimary>,
    /// May serve reads, in the configured order.
    pub replicas: Vec<EndpointIndex>,
    /// May serve analytical reads.
    pub analytics: Vec<EndpointIndex>,
    /// Up, and not used all the same.
    pub refused: Vec<(EndpointIndex, Refusal)>,
}

impl Default for ShardRoles {
    fn default() -> ShardRoles {
        ShardRoles {
            primary: Err(NoPrimary::Unknown),
            replicas: Vec::new(),
            analytics: Vec::new(),
            refused: Vec::new(),
        }
    }
}

/// What a shard has been seen to be; outlives its endpoints.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Memory {
    /// Every endpoint has been heard of once.
    pub complete: bool,
    /// The cluster the shard's endpoints are copies of.
    pub system_identifier: Option<u64>,
    /// The highest timeline seen in that cluster.
    pub timeline: Option<u32>,
}

/// An endpoint as the rules need it.
pub type Seen<'a> = (Purpose, &'a EndpointHealth);

/// The answers of the serving endpoints that are up; strangers say nothing of the shard.
fn answers<'a>(endpoints: &'a [Seen<'a>]) -> impl Iterator<Item = &'a Probe> {
    endpoints
        .iter()
        .filter(|(purpose, health)| *purpose == Purpose::Serving && health.is_up())
        .filter_map(|(_, health)| health.probe.as_ref())
        .filter(|probe| probe.stranger.is_none())
}

/// The one system identifier of the serving endpoints, as far as they tell.
fn common_system(endpoints: &[Seen<'_>]) -> Result<Option<u64>, Disagree> {
    let mut identifiers = answers(endpoints).filter_map(|probe| probe.system_identifier);
    let first = identifiers.next();
    if identifiers.all(|other| Some(other) == first) { Ok(first) } else { Err(Disagree) }
}

/// Serving endpoints name different system identifiers.
struct Disagree;

impl Memory {
    /// Remembers what the endpoints show now, before [`decide`].
    pub fn learn(&mut self, endpoints: &[Seen<'_>]) {
        let heard =
            |(purpose, health): &Seen<'_>| *purpose == Purpose::Analytics || health.state != State::Unknown;
        self.complete |= endpoints.iter().all(heard);
        if self.complete && self.system_identifier.is_none() {
            self.system_identifier = common_system(endpoints).unwrap_or(None);
        }
        let ours = |identifier: &Option<u64>| match (identifier, self.system_identifier) {
            (Some(found), known) => Some(*found) == known,
            (None, _) => true,
        };
        let highest = answers(endpoints)
            .filter(|probe| ours(&probe.system_identifier))
            .filter_map(|probe| probe.timeline)
            .max();
        self.timeline = self.timeline.max(highest);
    }
}

/// Who does what, by what is remembered and what the endpoints show now.
pub fn decide(memory: &Memory, endpoints: &[Seen<'_>]) -> ShardRoles {
    let mut roles = ShardRoles::default();
    let mut claimants: Vec<(EndpointIndex, Option<u32>)> = Vec::new();
    let mut stranger_writes = None;
    let disagree = common_system(endpoints).is_err();
    for (index, (purpose, health)) in endpoints.iter().enumerate() {
        let Ok(position) = u16::try_from(index) else { break };
        let index = EndpointIndex(position);
        let Some(probe) = health.probe.as_ref().filter(|_| health.is_up()) else { continue };
        if let Some(stranger) = &probe.stranger {
            roles.refused.push((index, Refusal::Stranger(stranger.clone())));
            if probe.role() == Role::Primary && *purpose == Purpose::Serving {
                stranger_writes
                    .get_or_insert(NoPrimary::Stranger { claimant: index, stranger: stranger.clone() });
            }
            continue;
        }
        let expected = memory.system_identifier;
        if let Some(found) = probe.system_identifier
            && (expected.map_or(disagree, |expected| expected != found))
        {
            roles.refused.push((index, Refusal::DifferentSystem { expected, found }));
            continue;
        }
        match (probe.role(), purpose) {
            (Role::Replica, purpose) => {
                if let (Some(timeline), Some(seen)) = (probe.timeline, memory.timeline)
                    && timeline < seen
                {
                    roles.refused.push((index, Refusal::OldTimeline { timeline, seen }));
                } else if health.serving_role().is_some() {
                    match purpose {
                        Purpose::Serving => roles.replicas.push(index),
                        Purpose::Analytics => roles.analytics.push(index),
                    }
                }
            }
            (Role::Primary, Purpose::Serving) => claimants.push((index, probe.timeline)),
            (Role::Primary, Purpose::Analytics) => roles.refused.push((index, Refusal::WritableAnalytics)),
            (Role::ReadOnly, _) => {}
        }
    }
    roles.primary = primary(memory, &claimants, &mut roles.refused);
    if let (Err(NoPrimary::NoneUp), Some(why)) = (&roles.primary, stranger_writes) {
        roles.primary = Err(why);
    }
    roles
}

fn primary(
    memory: &Memory,
    claimants: &[(EndpointIndex, Option<u32>)],
    refused: &mut Vec<(EndpointIndex, Refusal)>,
) -> Result<EndpointIndex, NoPrimary> {
    if !memory.complete {
        return Err(NoPrimary::Unknown);
    }
    let (current, over): (Vec<_>, Vec<_>) =
        claimants.iter().partition(|(_, timeline)| *timeline == memory.timeline);
    if let Some(seen) = memory.timeline {
        refused.extend(over.iter().map(|(index, timeline)| {
            let timeline = *timeline;
            (*index, Refusal::Fenced { timeline, seen })
        }));
    }
    match (current.as_slice(), memory.timeline) {
        ([(only, _)], _) => Ok(*only),
        ([], Some(timeline)) if !over.is_empty() => {
            Err(NoPrimary::Fenced { timeline, claimants: over.iter().map(|(index, _)| *index).collect() })
        }
        ([], _) => {
            let strangers: Vec<EndpointIndex> = refused
                .iter()
                .filter(|(_, why)| matches!(why, Refusal::DifferentSystem { expected: None, .. }))
                .map(|(index, _)| *index)
                .collect();
            Err(if strangers.is_empty() { NoPrimary::NoneUp } else { NoPrimary::DifferentSystem(strangers) })
        }
        (several, timeline) => {
            refused.extend(several.iter().map(|(index, _)| (*index, Refusal::Conflict)));
            Err(NoPrimary::Conflict {
                timeline,
                claimants: several.iter().map(|(index, _)| *index).collect(),
            })
        }
    }
}

#[cfg(test)]
#[path = "roles_tests.rs"]
mod tests;
