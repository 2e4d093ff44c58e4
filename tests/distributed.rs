//! What several shards answer together, beyond plain statements.

#![allow(clippy::unwrap_used, reason = "a test that cannot set up its stage has failed")]

mod support;

#[path = "distributed/cursors.rs"]
mod cursors;
#[path = "distributed/explain.rs"]
mod explain;
#[path = "distributed/stage.rs"]
mod stage;
