//! Statements of several shards, beside what `tests/differential.rs` compares: streams, faults,
//! and what a session goes through with them.

#![allow(clippy::unwrap_used, reason = "a test that cannot set up its stage has failed")]

mod support;

#[path = "distributed/copy.rs"]
mod copy;
