//! Server connections for whoever needs one: limits, waiting, borrowing between threads, and
//! which endpoint of a shard is the one to use.
//!
//! A [`Pool`] is (endpoint, database, user). Its limit and its queue of waiters belong to the
//! process; its idle connections belong to threads ([`Local`]), so that the usual checkout and
//! return touch no lock and wake nobody. A thread that finds the limit reached waits in the
//! queue, and the threads with idle connections are asked to give one up. How many are opened at a
//! time, and when none is tried, is in `openings`. A shard whose [`Gate`] is closed hands out none,
//! and what is under way with a primary that was replaced is ended (`fence`). [`readers`] says which
//! replica a read goes to.

mod fence;
mod gate;
pub mod health;
mod lease;
mod local;
mod openings;
pub mod readers;
mod shard;
mod shared;
mod sockets;

pub use fence::watch as fence;
pub use gate::{Caller, Gate};
pub use lease::Lease;
pub use local::{IdleServer, Local, Message, Threads};
pub use shard::{Paused, Registry, Shard, ShardAccess, ShardUser};
pub use shared::{Label, Pool, PoolError, PoolState};
