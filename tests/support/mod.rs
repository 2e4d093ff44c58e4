//! What the tests stand on: real PostgreSQL servers, the real pgring in front of them, real
//! clients.
//!
//! Servers are shared by all tests of one binary ([`servers`]); a test gets its own database
//! on them ([`database`], [`sample_database`]) and its own [`Proxy`]. A test that stops or
//! crashes servers takes its own ([`own_servers`]). Everything ends with the test process,
//! even when that is killed.

#![allow(dead_code, unused_imports, reason = "each test binary uses its own part of this")]
#![allow(clippy::unwrap_used, reason = "a test that cannot set up its stage has failed")]

mod clients;
mod config;
mod proxy;
pub(crate) mod raw;
mod servers;

pub(crate) use clients::{Printed, connect, node, psql, psql_with, python};
pub(crate) use config::Config;
pub(crate) use proxy::Proxy;
pub(crate) use servers::{
    database, own_servers, processes_mentioning, sample_database, servers, topology, unique_name,
};

use std::time::{Duration, Instant};

/// Asks until the answer is yes; panics with what was waited for after ten seconds.
pub(crate) fn eventually(what: &str, mut reached: impl FnMut() -> bool) {
    eventually_within(Duration::from_secs(10), what, &mut reached);
}

/// The same with another patience.
pub(crate) fn eventually_within(patience: Duration, what: &str, mut reached: impl FnMut() -> bool) {
    let deadline = Instant::now() + patience;
    while !reached() {
        assert!(Instant::now() < deadline, "still not true after {patience:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
