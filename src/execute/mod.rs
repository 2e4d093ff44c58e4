//! Runs a [`Route`](crate::route::Route) on servers.
//!
//! [`Relay`]: the whole statement on one shard, its answer passed on as it lies. [`Branch`]: one
//! shard's part in a statement that several take part in; how their rows become one answer is
//! `merge`'s, and who asks them for what is the session's. [`copy`] has the bytes of a `COPY` on several shards:
//! where records end, and whose they are.

mod branch;
pub mod copy;
mod names;
mod relay;
mod told;

pub use branch::{Branch, Field, Outcome, Step, put_description};
pub use names::ClientNames;
pub use relay::{Emit, Event, Expect, ParameterTypes, Progress, Relay, ResultShape};
pub use told::{Reported, Told};
