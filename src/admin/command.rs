//! The commands there are: one table.

use super::show::Show;
use super::table::Table;
use crate::error::{ClientError, SqlState};

/// A command as understood.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Command {
    /// An empty one; answered as an empty query.
    Nothing,
    /// To be answered by [`show`](super::show).
    Show(Show),
    /// To be carried out.
    Do(Action),
    /// Answered already: what drivers ask about the connection.
    Answer {
        /// The answer.
        table: Table,
        /// `SHOW`, `SELECT 1`.
        tag: &'static str,
    },
    /// A transaction's beginning or end: taken, and only the transaction status changes.
    Transaction {
        /// Which.
        what: TransactionCommand,
        /// `BEGIN`, `COMMIT` …
        tag: &'static str,
    },
    /// Taken and without effect: what drivers set on their connections.
    Accepted {
        /// `SET`, `RESET` …
        tag: &'static str,
    },
}

impl Command {
    /// The command tag with which success is reported.
    pub fn tag(&self) -> &'static str {
        match self {
            Command::Nothing => "",
            Command::Show(_) => "SHOW",
            Command::Do(action) => action.tag(),
            Command::Answer { tag, .. } | Command::Accepted { tag } | Command::Transaction { tag, .. } => tag,
        }
    }
}

/// What drivers send around their statements. Each command of the console takes effect at once
/// all the same.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TransactionCommand {
    /// `BEGIN`, `START TRANSACTION`.
    Begin,
    /// `COMMIT`, `END`.
    Commit,
    /// `ROLLBACK`, `ABORT`.
    Rollback,
    /// `SAVEPOINT`, `RELEASE`.
    Savepoint,
    /// `ROLLBACK TO`.
    RollbackTo,
}

/// What changes the running process. The name of a database is as the client wrote it: that
/// there is such a database is for whoever carries the action out to find.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action {
    /// Read the configuration again.
    Reload,
    /// Let transactions finish, then hand out no server connection and close the idle ones;
    /// answered when the last transaction has finished.
    Pause(Scope),
    /// The end of [`Action::Pause`] and [`Action::Kill`]: endpoints are probed first, so that who is
    /// primary by now is known.
    Resume(Scope),
    /// Drop clients and their server connections at once, and stay paused until `RESUME`.
    Kill(Option<String>),
    /// Drop one client: the `id` of `SHOW CLIENTS`.
    KillClient(u64),
    /// Close each server connection when it is next free, and make new ones.
    Reconnect(Option<String>),
    /// End the process.
    Shutdown(ShutdownMode),
}

/// What a command is of. Names are as the client wrote them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Scope {
    /// Every database.
    All,
    /// One of them.
    Database(String),
    /// One shard of a database.
    Shard(String, String),
}

/// How the process ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ShutdownMode {
    /// Now, as on SIGINT.
    Now,
    /// When the open transactions have finished, as on SIGTERM.
    Drain,
}

impl Action {
    /// The command tag with which success is reported.
    pub fn tag(&self) -> &'static str {
        match self {
            Action::Reload => "RELOAD",
            Action::Pause(_) => "PAUSE",
            Action::Resume(_) => "RESUME",
            Action::Kill(_) => "KILL",
            Action::KillClient(_) => "KILL_CLIENT",
            Action::Reconnect(_) => "RECONNECT",
            Action::Shutdown(_) => "SHUTDOWN",
        }
    }
}

/// What a command needs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Right {
    /// To be in `admin.users` or `admin.stats_users`.
    Show,
    /// To be in `admin.users`.
    Admin,
}

/// What a user of the console may do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AdminRole {
    /// In `admin.users`: everything.
    Admin,
    /// In `admin.stats_users`: `SHOW` only.
    Stats,
}

/// Whether the role may run the command.
pub fn allowed(command: &Command, role: AdminRole) -> Result<(), ClientError> {
    match (command, role) {
        (Command::Do(action), AdminRole::Stats) => {
            Err(ClientError::error(SqlState::PRIVILEGE, format!("permission denied for {}", action.tag()))
                .with_hint("Only users listed in admin.users may change the running process."))
        }
        _ => Ok(()),
    }
}

/// A line of `SHOW HELP` and a heading of the manual.
#[derive(Clone, Copy, Debug)]
pub struct CommandInfo {
    /// Upper case: `SHOW POOLS`, `PAUSE`.
    pub name: &'static str,
    /// With its arguments.
    pub syntax: &'static str,
    /// What it does, in a line.
    pub help: &'static str,
    /// Who may.
    pub right: Right,
    /// What it is.
    pub(super) meaning: Meaning,
}

/// What a command's name stands for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Meaning {
    /// A `SHOW`, which takes no arguments.
    Show(Show),
    /// No argument.
    Plain(fn() -> Action),
    /// A database's name may follow, and one of its shards'.
    OfShard(fn(Scope) -> Action),
    /// A database's name may follow.
    OfDatabase(fn(Option<String>) -> Action),
    /// A client's id has to follow.
    OfClient(fn(u64) -> Action),
    /// `SHUTDOWN` and its mode.
    Shutdown,
}

const fn show(name: &'static str, what: Show, help: &'static str) -> CommandInfo {
    CommandInfo { name, syntax: name, help, right: Right::Show, meaning: Meaning::Show(what) }
}

const fn action(
    name: &'static str,
    syntax: &'static str,
    meaning: Meaning,
    help: &'static str,
) -> CommandInfo {
    CommandInfo { name, syntax, help, right: Right::Admin, meaning }
}

/// Every command.
pub const COMMANDS: &[CommandInfo] = &[
    show("SHOW CLIENTS", Show::Clients, "Clients, what they do and on which shard"),
    show("SHOW SERVERS", Show::Servers, "Connections to PostgreSQL servers"),
    show("SHOW POOLS", Show::Pools, "Clients and server connections of each database and user"),
    show("SHOW SHARD_POOLS", Show::ShardPools, "The same by shard and endpoint"),
    show("SHOW SHARDS", Show::Shards, "Endpoints of the shards: role, health, lag"),
    show("SHOW RING", Show::Ring, "Each shard's part of the keys, and what a pending ring would move"),
    show("SHOW TRANSACTIONS", Show::Transactions, "Two-phase transactions in doubt"),
    show("SHOW STATS", Show::Stats, "Counts since the start, and averages over the last period"),
    show("SHOW STATS_TOTALS", Show::StatsTotals, "The counts of SHOW STATS alone"),
    show("SHOW STATS_AVERAGES", Show::StatsAverages, "The averages of SHOW STATS alone"),
    show("SHOW TOTALS", Show::Totals, "SHOW STATS over all databases, a row a figure"),
    show("SHOW ROUTES", Show::Routes, "How many statements went which way"),
    show("SHOW DATABASES", Show::Databases, "What clients can connect to"),
    show("SHOW USERS", Show::Users, "Who may connect"),
    show("SHOW LISTS", Show::Lists, "How many there are of everything"),
    show("SHOW STATE", Show::State, "Whether pgring is active or paused"),
    show("SHOW CONFIG", Show::Config, "The settings in force"),
    show("SHOW VERSION", Show::Version, "pgring's version"),
    show("SHOW HELP", Show::Help, "This list"),
    action(
        "PAUSE",
        "PAUSE [database [shard]]",
        Meaning::OfShard(Action::Pause),
        "Let transactions finish, then start no new ones",
    ),
    action(
        "RESUME",
        "RESUME [database [shard]]",
        Meaning::OfShard(Action::Resume),
        "Go on after PAUSE or KILL, with the primary there is by now",
    ),
    action("RELOAD", "RELOAD", Meaning::Plain(|| Action::Reload), "Read the configuration file again"),
    action(
        "RECONNECT",
        "RECONNECT [database]",
        Meaning::OfDatabase(Action::Reconnect),
        "Replace server connections as they become free",
    ),
    action(
        "KILL",
        "KILL [database]",
        Meaning::OfDatabase(Action::Kill),
        "Drop clients and their server connections at once, and pause",
    ),
    action(
        "KILL_CLIENT",
        "KILL_CLIENT id",
        Meaning::OfClient(Action::KillClient),
        "Drop one client, by its id in SHOW CLIENTS",
    ),
    action(
        "SHUTDOWN",
        "SHUTDOWN [WAIT_FOR_SERVERS]",
        Meaning::Shutdown,
        "End pgring: at once, or when the open transactions have finished",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_one_a_command() {
        let mut names: Vec<_> = COMMANDS.iter().map(|info| info.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), COMMANDS.len());
        for info in COMMANDS {
            assert_eq!(info.name, info.name.to_uppercase());
            assert!(info.syntax.starts_with(info.name));
        }
    }

    /// The table's word on rights, and what is enforced, are one.
    #[test]
    fn rights() {
        for info in COMMANDS {
            let argument = if info.name == "KILL_CLIENT" { " 7" } else { "" };
            let command = super::super::parse(&format!("{}{argument}", info.name)).unwrap();
            assert_eq!(allowed(&command, AdminRole::Admin), Ok(()), "{}", info.name);
            let refused = allowed(&command, AdminRole::Stats).err().map(|error| error.code);
            let expect = (info.right == Right::Admin).then_some(SqlState::PRIVILEGE);
            assert_eq!(refused, expect, "{}", info.name);
        }
        for sql in ["", "SELECT 1", "SET application_name = 'x'"] {
            assert_eq!(allowed(&super::super::parse(sql).unwrap(), AdminRole::Stats), Ok(()), "{sql}");
        }
    }
}
