//! The sample three times over: on PostgreSQL itself, behind one shard, behind three.

use std::fmt::Debug;
use std::process::{Command, Stdio};
use std::sync::LazyLock;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pgring::demo::sample::APP;

use crate::support::{self, Config, Printed, Proxy};

/// Server connections of each shard: fewer than any of the programs has clients.
pub(crate) const POOL: usize = 4;

/// How long a program may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(100);

pub(crate) struct Stage {
    /// Runs for as long as the stage is there.
    _proxy: Proxy,
    /// The database without pgring.
    pub(crate) direct: String,
    pub(crate) one: String,
    pub(crate) three: String,
    /// The database of three shards.
    pub(crate) name: String,
}

/// For tests that leave nothing behind.
pub(crate) static SHARED: LazyLock<Stage> = LazyLock::new(Stage::new);

impl Stage {
    pub(crate) fn new() -> Stage {
        let servers = support::servers(3);
        let (direct, one, three) = std::thread::scope(|scope| {
            let [direct, one] = [(); 2].map(|()| scope.spawn(|| support::sample_database(&servers[..1])));
            let three = support::sample_database(&servers);
            (direct.join().unwrap(), one.join().unwrap(), three)
        });
        let config = Config::new()
            .set("pool", "size", &POOL.to_string())
            .database(&one, &servers[..1])
            .database(&three, &servers);
        let proxy = Proxy::start(config);
        Stage {
            direct: servers[0].dsn(APP, &direct),
            one: proxy.dsn(APP, &one),
            three: proxy.dsn(APP, &three),
            name: three,
            _proxy: proxy,
        }
    }
}

/// Panics at the first line in which two transcripts differ.
#[track_caller]
pub(crate) fn assert_same(what: &str, direct: &str, through: &str) {
    assert!(!direct.trim().is_empty(), "{what} printed nothing");
    for (number, (expected, found)) in (1..).zip(direct.lines().zip(through.lines())) {
        assert_eq!(found, expected, "{what}, line {number} (left: through pgring, right: without)");
    }
    assert_eq!(
        through.lines().count(),
        direct.lines().count(),
        "{what}: one transcript is longer\n{through}"
    );
}

/// Runs a program to its end, without the caller's `PG…` variables.
pub(crate) fn run(command: &mut Command) -> Printed {
    run_within(PATIENCE, command)
}

/// The same with another patience.
pub(crate) fn run_within(patience: Duration, command: &mut Command) -> Printed {
    let described = format!("{command:?}");
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("PG")) {
        command.env_remove(name);
    }
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let child = child.unwrap_or_else(|error| panic!("{described}: {error}"));
    let pid = Pid::from_raw(child.id().try_into().unwrap());
    let (ended, wait) = channel::<()>();
    std::thread::scope(|scope| {
        let watch = scope.spawn(move || {
            let late = wait.recv_timeout(patience) == Err(RecvTimeoutError::Timeout);
            if late {
                // Its wait below is what reaps it, so the number is still its own.
                kill(pid, Signal::SIGKILL).unwrap();
            }
            late
        });
        let printed = Printed::from(child.wait_with_output().unwrap());
        drop(ended);
        assert!(!watch.join().unwrap(), "{described} took more than {patience:?}: {printed:?}");
        printed
    })
}

/// What a program may ask of the database.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Scope {
    /// Statements that name the shard key, on any number of shards.
    Keyed,
    /// Everything else: DDL of its own, `COPY`, session state.
    Whole,
}

impl Scope {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Scope::Keyed => "keyed",
            Scope::Whole => "whole",
        }
    }
}

/// Runs a program, given as what it prints for a DSN, beside a crowd of other clients; all of its
/// transcripts have to be the one it has without pgring.
pub(crate) fn compare(name: impl Debug, scope: Scope, program: impl Fn(&str, Scope) -> Printed) {
    let stage = Stage::new();
    let direct = program(&stage.direct, scope).expect_ok();
    let ways = match scope {
        Scope::Keyed => vec![("one shard", &stage.one), ("three shards", &stage.three)],
        Scope::Whole => vec![("one shard", &stage.one)],
    };
    for (way, dsn) in ways {
        let crowd = crate::crowd::Crowd::gather(dsn);
        let through = program(dsn, scope).expect_ok();
        crowd.disperse();
        assert_same(&format!("{name:?} ({scope:?}), {way}"), &direct, &through);
    }
}
