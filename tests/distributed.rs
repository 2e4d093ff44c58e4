//! Statements of several shards, beside what `tests/differential.rs` compares: streams, faults,
//! and what a session goes through with them.

#![allow(clippy::unwrap_used, reason = "a test that cannot set up its stage has failed")]

mod support;

#[path = "distributed/copy.rs"]
mod copy;
#[path = "distributed/cursors.rs"]
mod cursors;
#[path = "distributed/definitions.rs"]
mod definitions;
#[path = "distributed/explain.rs"]
mod explain;
#[path = "distributed/stage.rs"]
mod stage;
#[path = "distributed/state.rs"]
mod state;
#[path = "distributed/transactions.rs"]
mod transactions;
#[path = "distributed/turns.rs"]
mod turns;
#[path = "distributed/types.rs"]
mod types;
