//! Which servers are alive, and which of them is a shard's primary.
//!
//! One task an endpoint asks its server every `interval` for role, timeline, position in the
//! log and lag ([`probe`]). What an answer means for the endpoint ([`state`]), how far behind
//! a replica is ([`lag`]) and what a shard's endpoints mean together ([`roles`]) are decided by
//! functions of observations and time; [`board`] applies them and publishes the outcome as an
//! immutable snapshot, which pools read without a lock.
//!
//! Invariants:
//! - at most one endpoint of a shard is its primary, and none while pgring has reason to believe
//!   that another one, which it cannot reach, may be it: a write accepted by the wrong server is
//!   a lost write;
//! - a server that says it is another shard than the file has it as ([`identity`]) is not used;
//! - nothing here is on the path of a statement: everything runs on the control runtime, and a
//!   failed probe never closes a client's connection;
//! - an endpoint's index means nothing without the snapshot it was read from: a reload may
//!   change a shard's list of endpoints.

pub mod board;
pub mod connector;
pub mod identity;
pub mod lag;
pub mod patroni;
pub mod probe;
pub mod question;
pub mod roles;
pub mod state;

pub use board::{Board, ClusterHealth, ShardBoard, ShardSnapshot};
pub use connector::{ControlConnection, Login, Tls};
pub use identity::{Expected, Identity, Stranger};
pub use patroni::PatroniSpec;
pub use probe::{EndpointSpec, Prober};
pub use question::Ask;
pub use roles::{EndpointIndex, NoPrimary, Refusal, ShardRoles};
pub use state::{
    EndpointHealth, HealthSettings, Lsn, Observation, Probe, ProbeFailure, Purpose, Role, State,
};
