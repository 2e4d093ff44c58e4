//! Transactions over several shards end on all of them alike, whatever dies.

#![allow(clippy::unwrap_used, reason = "a test that cannot set up its stage has failed")]

mod support;

#[path = "two_phase/bank.rs"]
mod bank;
#[path = "two_phase/faults.rs"]
mod faults;
#[path = "two_phase/protocol.rs"]
mod protocol;
#[path = "two_phase/review.rs"]
mod review;
#[path = "two_phase/roles.rs"]
mod roles;
#[path = "two_phase/stage.rs"]
mod stage;
#[path = "two_phase/steps.rs"]
mod steps;
#[path = "two_phase/writers.rs"]
mod writers;
