//! Users whom the database knows, and those who try to be let in without being anybody.

#![allow(clippy::unwrap_used, reason = "a test that cannot set up its stage has failed")]

mod support;

#[path = "auth/caching.rs"]
mod caching;
#[path = "auth/hostile_clients.rs"]
mod hostile_clients;
#[path = "auth/hostile_servers.rs"]
mod hostile_servers;
#[path = "auth/lookup.rs"]
mod lookup;
#[path = "auth/pass_through.rs"]
mod pass_through;
#[path = "auth/stage.rs"]
mod stage;
