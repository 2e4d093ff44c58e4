//! Runs a [`Route`](crate::route::Route) on servers.
//!
//! Today there is one way to run: [`Relay`], the whole statement on one shard, its answer
//! passed on as it lies. Statements for several shards are refused by the route room until
//! `merge` has what it takes to join their answers; scatter, split and gather will stand here
//! beside `relay`. [`copy`] has the bytes of a `COPY` on several shards: where records end, and whose
//! they are.

pub mod copy;
mod names;
mod relay;
mod told;

pub use names::ClientNames;
pub use relay::{Emit, Event, Expect, Progress, Relay};
pub use told::{Reported, Told};
