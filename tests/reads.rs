//! Reads on replicas: which statements go there, and that no session misses what it has written.
//!
//! Where a statement ran, the server says itself: `current_setting('port')`.

#![allow(clippy::unwrap_used, reason = "a test that cannot set up its stage has failed")]

mod support;

#[path = "reads/lag.rs"]
mod lag;
#[path = "reads/places.rs"]
mod places;
#[path = "reads/stage.rs"]
mod stage;
