//! What can go wrong when a local cluster is started.
//!
//! The reader is someone at a terminal who wants a cluster: each message says what to do.

use std::io;
use std::path::{Path, PathBuf};

/// Why there is no local cluster.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// No directory holds all of the programs that are needed.
    #[error(
        "PostgreSQL's server programs ({programs}) were not found on PATH nor in {searched}; \
         install PostgreSQL 12 or newer (Debian, Ubuntu: apt-get install postgresql; \
         Fedora: dnf install postgresql-server; macOS: brew install postgresql) or put its bin directory on PATH"
    )]
    NotInstalled {
        /// The programs, separated by commas.
        programs: String,
        /// The directory patterns that were tried.
        searched: String,
    },
    /// Root cannot run PostgreSQL, and there is nobody else to run it.
    #[error(
        "PostgreSQL does not run as root, and this system has neither a user \"postgres\" nor \"nobody\"; \
         run this as an ordinary user"
    )]
    NoAccount,
    /// The account that runs PostgreSQL cannot reach the directory.
    #[error(
        "PostgreSQL runs as user \"{account}\" here, who cannot enter {}; choose another directory, \
         or make that one accessible (chmod o+x)", .blocked.display()
    )]
    Unreachable {
        /// Who runs PostgreSQL.
        account: String,
        /// The directory that stands in the way.
        blocked: PathBuf,
    },
    /// The file system said no.
    #[error("cannot {action} {}: {source}", .path.display())]
    Io {
        /// A verb.
        action: &'static str,
        /// Of what.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// One of PostgreSQL's programs failed.
    #[error("{program} failed ({status}):\n{output}")]
    Program {
        /// Its file name.
        program: String,
        /// As the system reports it.
        status: String,
        /// The end of what it printed.
        output: String,
    },
    /// A server ended instead of becoming ready.
    #[error("the PostgreSQL server in {} ended while starting; the end of its log:\n{log}", .data.display())]
    ServerEnded {
        /// Its data directory.
        data: PathBuf,
        /// The end of its log.
        log: String,
    },
    /// A server did not change its state in time.
    #[error("the PostgreSQL server in {} is not {expected} after {seconds} s; the end of its log:\n{log}", .data.display())]
    TooSlow {
        /// Its data directory.
        data: PathBuf,
        /// What was waited for.
        expected: &'static str,
        /// How long.
        seconds: u64,
        /// The end of its log.
        log: String,
    },
    /// The proxy's port belongs to another program.
    #[error("port {port} is in use; choose another with --port")]
    PortTaken {
        /// The port.
        port: u16,
    },
    /// Numbers out of range.
    #[error("{0}")]
    Options(String),
    /// The directory holds something else.
    #[error("{} is not empty and holds no pgring demo; choose an empty or a new directory", .0.display())]
    ForeignDirectory(PathBuf),
    /// The directory holds a cluster of another shape.
    #[error(
        "{} holds a demo with {shards} shards and {replicas} replicas each; start it with \
         --shards {shards} --replicas {replicas}, or choose another directory", .dir.display()
    )]
    OtherShape {
        /// The directory.
        dir: PathBuf,
        /// Shards it holds.
        shards: u16,
        /// Replicas of each.
        replicas: u16,
    },
    /// The marker file of a demo directory cannot be understood.
    #[error("{} cannot be read: {reason}; remove the directory to start anew", .path.display())]
    Marker {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A thread of the starter panicked.
    #[error("the starter failed: {0}")]
    Internal(String),
}

impl DemoError {
    /// For `map_err`: names the path an I/O error is about.
    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> DemoError + use<> {
        let path = path.to_path_buf();
        move |source| DemoError::Io { action, path, source }
    }
}
