//! Wiring: the command line, the threads, the listeners, signals, reload and drain.
//!
//! `serve` is the process: it reads the configuration, starts the health probes and the schema
//! readers on the control runtime, one single-threaded runtime a core for clients, and then waits
//! for signals. Everything the rooms need of each other and must not import is handed over here:
//! [`console`] answers the console's sessions, [`overview`] describes the process.
//! `peers` and `handover` are how one process takes over from another without a client noticing.

mod build;
pub mod check;
pub mod cli;
mod console;
mod deadlocks;
mod handover;
mod ids;
mod listeners;
mod lookup;
mod notify;
mod overview;
mod peers;
mod placement;
mod reload;
mod rows;
pub mod schema;
mod schemas;
mod serve;
mod suspects;
mod threads;
mod two_phase;

pub use cli::{Cli, run};
