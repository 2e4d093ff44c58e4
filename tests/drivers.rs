//! Programs and drivers as people use them, through a pool of four server connections.
//!
//! Most are run three times: on PostgreSQL itself, through pgring in front of one shard, and
//! through pgring in front of three. What they print has to be the same.

#![allow(clippy::unwrap_used, reason = "a test that cannot set up its stage has failed")]

mod support;

#[path = "drivers/crowd.rs"]
mod crowd;
#[path = "drivers/dump.rs"]
mod dump;
#[path = "drivers/pgbench.rs"]
mod pgbench;
#[path = "drivers/programs.rs"]
mod programs;
#[path = "drivers/psql.rs"]
mod psql;
#[path = "drivers/rust.rs"]
mod rust;
#[path = "drivers/stage.rs"]
mod stage;
