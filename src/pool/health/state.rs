//! One endpoint: what a probe saw, and what it makes of the endpoint.
//!
//! A server that has been up is down only after `failures` failed probes in a row: a lost packet
//! is not a failover. One that has never answered is down at its first failure, so that a
//! start with a dead server is not a start that waits. The first success is enough to be up:
//! a server that answers a query runs.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, Instant};

use super::identity::Stranger;
use crate::config;

/// How endpoints are probed and judged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HealthSettings {
    /// Between two probes of an endpoint.
    pub interval: Duration,
    /// For one probe, the connection included.
    pub timeout: Duration,
    /// In a row before an endpoint that was up is down; 0 is taken as 1.
    pub failures: u32,
    /// A replica further behind serves no reads.
    pub max_replica_lag: Duration,
}

impl Default for HealthSettings {
    fn default() -> HealthSettings {
        HealthSettings {
            interval: Duration::from_secs(1),
            timeout: Duration::from_secs(2),
            failures: 3,
            max_replica_lag: Duration::from_secs(10),
        }
    }
}

impl From<&config::Health> for HealthSettings {
    fn from(health: &config::Health) -> HealthSettings {
        HealthSettings {
            interval: health.interval,
            timeout: health.timeout,
            failures: health.failures,
            max_replica_lag: health.max_replica_lag,
        }
    }
}

/// A position in the write-ahead log.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Lsn(pub u64);

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xFFFF_FFFF)
    }
}

/// Not two hexadecimal numbers of 32 bits with a slash between them.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0:?} is not a position in the write-ahead log")]
pub struct BadLsn(pub String);

impl FromStr for Lsn {
    type Err = BadLsn;

    fn from_str(text: &str) -> Result<Lsn, BadLsn> {
        let half = |digits: &str| u32::from_str_radix(digits, 16).ok().filter(|_| !digits.starts_with('+'));
        let parsed = text.split_once('/').and_then(|(high, low)| Some((half(high)?, half(low)?)));
        let (high, low) = parsed.ok_or_else(|| BadLsn(text.to_owned()))?;
        Ok(Lsn(u64::from(high) << 32 | u64::from(low)))
    }
}

/// `server_version_num`, shown as people say it: `15.18`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ServerVersion(pub u32);

impl ServerVersion {
    /// `15` of 15.18.
    pub fn major(self) -> u32 {
        self.0 / 10_000
    }
}

impl fmt::Display for ServerVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major(), self.0 % 10_000)
    }
}

/// What an endpoint is configured to be used for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Purpose {
    /// One of the shard's `endpoints`: primary or replica, whichever it turns out to be.
    Serving,
    /// One of its `analytics` endpoints: analytical reads only, never a primary.
    Analytics,
}

/// What a server is, as it says itself.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Role {
    /// Takes writes.
    Primary,
    /// Not in recovery, but `default_transaction_read_only` is on: its operator keeps writes away.
    ReadOnly,
    /// In recovery.
    Replica,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Role::Primary => "primary",
            Role::ReadOnly => "read-only server",
            Role::Replica => "replica",
        })
    }
}

/// One answer of a server. `None` is what the control role may not ask.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Probe {
    /// `pg_is_in_recovery()`.
    pub in_recovery: bool,
    /// `default_transaction_read_only`.
    pub read_only: bool,
    /// A primary's own; a replica's as far as it knows.
    pub timeline: Option<u32>,
    /// Made by initdb; the same for a primary and its replicas.
    pub system_identifier: Option<u64>,
    /// Written (primary) or replayed (replica) so far.
    pub lsn: Option<Lsn>,
    /// A replica has replayed all that it has received; says nothing when nobody sends.
    pub replayed_all: bool,
    /// How long ago the last transaction a replica has replayed was committed.
    pub replay_age: Option<Duration>,
    /// `server_version_num`.
    pub server_version: ServerVersion,
    /// Zero: the server cannot take part in a two-phase commit.
    pub max_prepared_transactions: u32,
    /// Of the database; the same on all shards, or text keys mean different bytes.
    pub server_encoding: String,
    /// It is not what the file says.
    pub stranger: Option<Stranger>,
}

impl Probe {
    /// What the server is by this answer.
    pub fn role(&self) -> Role {
        match (self.in_recovery, self.read_only) {
            (true, _) => Role::Replica,
            (false, true) => Role::ReadOnly,
            (false, false) => Role::Primary,
        }
    }
}

/// Why there was no answer.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ProbeFailure {
    /// No connection: refused, unreachable, unknown name, TLS.
    #[error("{0}")]
    Connect(String),
    /// The server was reached and refused the login, or said why it does not serve.
    #[error("{message} (SQLSTATE {code})")]
    Refused {
        /// SQLSTATE.
        code: String,
        /// The server's words.
        message: String,
    },
    /// No answer in time.
    #[error("no answer within health.timeout ({0:?})")]
    Timeout(Duration),
    /// The connection broke while asking.
    #[error("connection lost: {0}")]
    Lost(String),
    /// An answer that no PostgreSQL gives.
    #[error("not understood: {0}")]
    Nonsense(String),
}

/// A probe's outcome.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Observation {
    /// When the answer, or the failure, was there.
    pub at: Instant,
    /// What it was.
    pub result: Result<Probe, ProbeFailure>,
}

/// What pgring thinks of an endpoint.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum State {
    /// Not heard of yet.
    Unknown,
    /// Answers.
    Up {
        /// As what.
        role: Role,
        /// Since when without interruption, as this role.
        since: Instant,
    },
    /// A replica that answers, but is too far behind to be read from.
    Lagging {
        /// `None`: it cannot be told how far.
        lag: Option<Duration>,
        /// Since when.
        since: Instant,
    },
    /// Does not answer.
    Down {
        /// Since the first of the failures in a row.
        since: Instant,
        /// The latest of them.
        error: ProbeFailure,
    },
}

/// An endpoint's state and what led to it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EndpointHealth {
    /// The verdict.
    pub state: State,
    /// The latest answer, however long ago.
    pub probe: Option<Probe>,
    /// When it was there.
    pub answered: Option<Instant>,
    /// A replica's lag by the latest answer; `None` where there is none to tell.
    pub lag: Option<Duration>,
    /// Failed probes in a row, and when the first of them was.
    pub failing: Option<(u32, Instant)>,
}

impl Default for EndpointHealth {
    fn default() -> EndpointHealth {
        EndpointHealth { state: State::Unknown, probe: None, answered: None, lag: None, failing: None }
    }
}

/// A change worth one line in the log. Its `Display` goes on after "endpoint 10.0.0.1:5432 ".
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Transition {
    /// Answers, after nothing was known or after it was down.
    Up {
        /// As what.
        role: Role,
        /// On which timeline.
        timeline: Option<u32>,
        /// How long it was down.
        after: Option<Duration>,
    },
    /// Promoted, demoted, or kept from writes.
    Role {
        /// Before.
        from: Role,
        /// Now.
        to: Role,
        /// Now.
        timeline: Option<u32>,
    },
    /// Fell too far behind.
    Lagging {
        /// How far; `None`: it cannot be told.
        lag: Option<Duration>,
    },
    /// Is near enough again.
    CaughtUp,
    /// Too many failures in a row.
    Down {
        /// The latest.
        error: ProbeFailure,
        /// How many.
        failures: u32,
    },
}

impl fmt::Display for Transition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let on = |f: &mut fmt::Formatter<'_>, timeline: &Option<u32>| match timeline {
            Some(timeline) => write!(f, " (timeline {timeline})"),
            None => Ok(()),
        };
        match self {
            Transition::Up { role, timeline, after } => {
                write!(f, "is up as {role}")?;
                on(f, timeline)?;
                match after {
                    Some(after) => write!(f, " after {:.1} s", after.as_secs_f64()),
                    None => Ok(()),
                }
            }
            Transition::Role { from, to, timeline } => {
                write!(f, "was {from} and is {to}")?;
                on(f, timeline)
            }
            Transition::Lagging { lag: Some(lag) } => {
                write!(f, "is {:.1} s behind and serves no reads", lag.as_secs_f64())
            }
            Transition::Lagging { lag: None } => {
                f.write_str("is behind by an unknown time and serves no reads")
            }
            Transition::CaughtUp => f.write_str("has caught up and serves reads"),
            Transition::Down { error, failures: 1 } => write!(f, "is down: {error}"),
            Transition::Down { error, failures } => {
                write!(f, "is down: {error} ({failures} failures in a row)")
            }
        }
    }
}

impl EndpointHealth {
    /// Takes a probe's outcome in. `lag` is what [`super::lag`] makes of a replica's answer.
    pub fn observe(
        &mut self,
        settings: &HealthSettings,
        observation: Observation,
        lag: Option<Duration>,
    ) -> Option<Transition> {
        match observation.result {
            Ok(probe) => self.answered(settings, observation.at, probe, lag),
            Err(failure) => self.failed(settings, observation.at, failure),
        }
    }

    /// The role of an endpoint that may be used; a lagging replica may not.
    pub fn serving_role(&self) -> Option<Role> {
        match self.state {
            State::Up { role, .. } => Some(role),
            State::Unknown | State::Lagging { .. } | State::Down { .. } => None,
        }
    }

    /// Answers probes, whether near enough to serve or not.
    pub fn is_up(&self) -> bool {
        matches!(self.state, State::Up { .. } | State::Lagging { .. })
    }

    fn answered(
        &mut self,
        settings: &HealthSettings,
        at: Instant,
        probe: Probe,
        lag: Option<Duration>,
    ) -> Option<Transition> {
        let role = probe.role();
        let timeline = probe.timeline;
        let near = role != Role::Replica || lag.is_some_and(|lag| lag <= settings.max_replica_lag);
        let before = std::mem::replace(&mut self.state, State::Unknown);
        let since = match &before {
            State::Up { role: old, since } if near && *old == role => *since,
            State::Lagging { since, .. } if !near => *since,
            _ => at,
        };
        self.state = if near { State::Up { role, since } } else { State::Lagging { lag, since } };
        self.failing = None;
        self.probe = Some(probe);
        self.answered = Some(at);
        self.lag = if role == Role::Replica { lag } else { None };
        match before {
            State::Unknown => Some(Transition::Up { role, timeline, after: None }),
            State::Down { since, .. } => {
                Some(Transition::Up { role, timeline, after: Some(at.saturating_duration_since(since)) })
            }
            State::Up { role: from, .. } if from != role => {
                Some(Transition::Role { from, to: role, timeline })
            }
            State::Up { .. } if !near => Some(Transition::Lagging { lag }),
            State::Lagging { .. } if role != Role::Replica => {
                Some(Transition::Role { from: Role::Replica, to: role, timeline })
            }
            State::Lagging { .. } if near => Some(Transition::CaughtUp),
            State::Up { .. } | State::Lagging { .. } => None,
        }
    }

    fn failed(&mut self, settings: &HealthSettings, at: Instant, error: ProbeFailure) -> Option<Transition> {
        let (failures, since) = match self.failing {
            Some((failures, since)) => (failures.saturating_add(1), since),
            None => (1, at),
        };
        self.failing = Some((failures, since));
        match &mut self.state {
            State::Down { error: latest, .. } => {
                *latest = error;
                None
            }
            State::Up { .. } | State::Lagging { .. } if failures < settings.failures.max(1) => None,
            State::Unknown | State::Up { .. } | State::Lagging { .. } => {
                self.lag = None;
                self.state = State::Down { since, error: error.clone() };
                Some(Transition::Down { error, failures })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probe(in_recovery: bool, read_only: bool, timeline: u32) -> Probe {
        Probe {
            in_recovery,
            read_only,
            timeline: Some(timeline),
            system_identifier: Some(7),
            lsn: Some(Lsn(100)),
            replayed_all: true,
            replay_age: None,
            server_version: ServerVersion(150_018),
            max_prepared_transactions: 10,
            server_encoding: "UTF8".to_owned(),
            stranger: None,
        }
    }

    /// Each step: seconds since the start, a letter for what the probe saw, the line logged.
    fn check(steps: &[(u64, &str, &str)]) {
        let settings = HealthSettings::default();
        let start = Instant::now();
        let mut health = EndpointHealth::default();
        for (index, (seconds, seen, expect)) in steps.iter().enumerate() {
            let (result, lag) = match *seen {
                "primary" => (Ok(probe(false, false, 1)), None),
                "promoted" => (Ok(probe(false, false, 2)), None),
                "readonly" => (Ok(probe(false, true, 1)), None),
                "replica" => (Ok(probe(true, false, 1)), Some(Duration::ZERO)),
                "behind" => (Ok(probe(true, false, 1)), Some(Duration::from_secs(11))),
                "nowhere" => (Ok(probe(true, false, 1)), None),
                "refused" => (Err(ProbeFailure::Connect("connection refused".to_owned())), None),
                "hangs" => (Err(ProbeFailure::Timeout(settings.timeout)), None),
                other => panic!("{other}"),
            };
            let at = start + Duration::from_secs(*seconds);
            let said = health.observe(&settings, Observation { at, result }, lag);
            assert_eq!(said.map(|t| t.to_string()).unwrap_or_default(), *expect, "step {index} of {steps:?}");
        }
    }

    #[test]
    fn transitions() {
        check(&[(0, "primary", "is up as primary (timeline 1)"), (1, "primary", "")]);
        // never heard of: down at once
        check(&[(0, "refused", "is down: connection refused"), (1, "refused", "")]);
        // hysteresis
        check(&[
            (0, "primary", "is up as primary (timeline 1)"),
            (1, "refused", ""),
            (2, "hangs", ""),
            (3, "primary", ""),
            (4, "refused", ""),
            (5, "refused", ""),
            (6, "hangs", "is down: no answer within health.timeout (2s) (3 failures in a row)"),
            (7, "refused", ""),
            (9, "primary", "is up as primary (timeline 1) after 5.0 s"),
        ]);
        // roles
        check(&[
            (0, "replica", "is up as replica (timeline 1)"),
            (1, "promoted", "was replica and is primary (timeline 2)"),
            (2, "readonly", "was primary and is read-only server (timeline 1)"),
            (3, "replica", "was read-only server and is replica (timeline 1)"),
        ]);
        // a role that changed while it was failing
        check(&[
            (0, "replica", "is up as replica (timeline 1)"),
            (1, "refused", ""),
            (2, "promoted", "was replica and is primary (timeline 2)"),
        ]);
        // lag
        check(&[
            (0, "replica", "is up as replica (timeline 1)"),
            (1, "behind", "is 11.0 s behind and serves no reads"),
            (2, "behind", ""),
            (3, "nowhere", ""),
            (4, "replica", "has caught up and serves reads"),
            (5, "nowhere", "is behind by an unknown time and serves no reads"),
            (6, "promoted", "was replica and is primary (timeline 2)"),
        ]);
        check(&[
            (0, "replica", "is up as replica (timeline 1)"),
            (1, "behind", "is 11.0 s behind and serves no reads"),
            (2, "refused", ""),
            (3, "refused", ""),
            (4, "refused", "is down: connection refused (3 failures in a row)"),
            (5, "behind", "is up as replica (timeline 1) after 3.0 s"),
        ]);
    }

    #[test]
    fn a_replica_found_lagging_serves_nothing_though_it_is_up() {
        let settings = HealthSettings::default();
        let mut health = EndpointHealth::default();
        let observation = Observation { at: Instant::now(), result: Ok(probe(true, false, 1)) };
        health.observe(&settings, observation, Some(Duration::from_secs(11)));
        assert!(health.is_up());
        assert_eq!(health.serving_role(), None);
    }

    #[test]
    fn lsn_reads_and_shows() {
        for (text, value) in
            [("0/0", Some(0)), ("16/B374D848", Some(0x16_B374_D848)), ("FFFFFFFF/FFFFFFFF", Some(u64::MAX))]
        {
            assert_eq!(text.parse::<Lsn>().ok().map(|lsn| lsn.0), value, "{text}");
            assert_eq!(Lsn(value.unwrap()).to_string(), text);
        }
        for text in ["", "/", "1", "1/", "/1", "1/2/3", "100000000/0", "+1/0", "g/0", "-1/0"] {
            assert!(text.parse::<Lsn>().is_err(), "{text}");
        }
    }

    #[test]
    fn versions_read_as_people_say_them() {
        assert_eq!(ServerVersion(150_018).to_string(), "15.18");
        assert_eq!(ServerVersion(180_000).major(), 18);
    }
}
