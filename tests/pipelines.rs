//! Pipelines: many messages at once are answered as PostgreSQL answers them, in its order, and
//! are really under way together.

#![allow(clippy::unwrap_used, reason = "a test that cannot set up its stage has failed")]

mod support;

#[path = "pipelines/random.rs"]
mod random;
#[path = "pipelines/refusals.rs"]
mod refusals;
#[path = "pipelines/shards.rs"]
mod shards;
#[path = "pipelines/trips.rs"]
mod trips;
