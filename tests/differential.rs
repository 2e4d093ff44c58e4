//! One PostgreSQL that holds all the rows is the measure of what several shards answer: the same
//! rows, order, names, types, text, NULLs and command tags, or a refusal that says what to change.
//!
//! A difference fails; a refusal is counted, and each test says how many it puts up with. Statements
//! that pgring refuses are printed: `cargo test --test differential -- --nocapture`.
//!
//! - `corpus`: statements by hand, in `tests/differential/corpus/`;
//! - `random`: statements from a seed, shrunk where they differ (`make soak` for more of them);
//! - `tpch`: the queries of TPC-H, its rows spread by customer;
//! - `collations`: the order of text, where that is not the order of bytes.

#![allow(clippy::unwrap_used, reason = "a test that cannot set up its stage has failed")]

mod support;

#[path = "differential/answer.rs"]
mod answer;
#[path = "differential/collations.rs"]
mod collations;
#[path = "differential/compare.rs"]
mod compare;
#[path = "differential/corpus.rs"]
mod corpus;
#[path = "differential/generator.rs"]
mod generator;
#[path = "differential/random.rs"]
mod random;
#[path = "differential/shrink.rs"]
mod shrink;
#[path = "differential/stage.rs"]
mod stage;
#[path = "differential/statement.rs"]
mod statement;
#[path = "differential/tally.rs"]
mod tally;
#[path = "differential/tpch.rs"]
mod tpch;
