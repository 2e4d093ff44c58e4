//! The console: what the database `pgring` understands.
//!
//! A table of commands, as PgBouncer's is, with its names and columns wherever it has one,
//! so that its tools and its users' fingers keep working. This room turns text into a
//! [`Command`] and a [`Snapshot`](crate::telemetry::Snapshot) into a [`Table`]; who asked
//! over which protocol, and how an [`Action`] is carried out, is not its business. So all of
//! it is pure, and `docs/console.md` is held against it by a test.
//!
//! The console is not SQL. It answers the handful of statements that drivers send before
//! their user's first one (see [`courtesy`]), and says so to everything else.

mod clock;
mod command;
pub mod courtesy;
mod lexer;
mod parse;
mod show;
mod table;

pub use command::{
    Action, AdminRole, COMMANDS, Command, CommandInfo, Right, Scope, ShutdownMode, TransactionCommand,
    allowed,
};
pub use parse::{parse, split};
pub use show::{Show, columns, show};
pub use table::{Cell, Column, Kind, Table};

/// The database that is the console.
pub const DATABASE: &str = "pgring";

#[cfg(test)]
mod manual_test;
