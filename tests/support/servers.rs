//! PostgreSQL servers for tests.
//!
//! `initdb` costs a second, a copy a fraction of it: templates are made once a machine and
//! copied. There is one template for each position in a set, because a copy has its
//! original's system identifier and two shards must not share one.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{LazyLock, Mutex};

use pgring::demo::cluster::{Cluster, Installation, Settings};
use pgring::demo::sample;
use pgring::ring::{ShardId, Topology};

/// To be raised when templates are made differently.
const TEMPLATE_FORMAT: u32 = 1;

/// Where templates and running servers of this machine and user lie.
struct Ground {
    installation: Installation,
    templates: PathBuf,
    running: PathBuf,
}

static GROUND: LazyLock<Ground> = LazyLock::new(|| {
    let installation = Installation::find().unwrap();
    let base = std::env::temp_dir().join(format!("pgring-tests-{}", nix::unistd::Uid::effective()));
    installation.account.make_directory(&base).unwrap();
    installation.account.can_enter(&base).unwrap();
    sweep(&base);

    let version = std::process::Command::new(installation.binaries.program("postgres"))
        .arg("--version")
        .output()
        .unwrap();
    let mut hash = DefaultHasher::new();
    (TEMPLATE_FORMAT, version.stdout, include_str!("../../src/demo/roles.sql")).hash(&mut hash);
    let templates = base.join(format!("templates-{:016x}", hash.finish()));
    let running = base.join(format!("run-{}", std::process::id()));
    installation.account.make_directory(&templates).unwrap();
    installation.account.make_directory(&running).unwrap();
    Ground { installation, templates, running }
});

/// Removes what test processes that are gone have left; their logs stay until then.
fn sweep(base: &Path) {
    for entry in std::fs::read_dir(base).unwrap().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(pid) = name.strip_prefix("run-").and_then(|pid| pid.parse().ok()) else { continue };
        if nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), None).is_err() {
            // Another test process may be sweeping as well.
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

/// The stopped server that the one at `position` is copied from.
fn template(position: usize) -> PathBuf {
    let Ground { installation, templates, running } = &*GROUND;
    let template = templates.join(position.to_string());
    if template.exists() {
        return template;
    }
    let building = running.join(unique_name("template"));
    installation.initialise(&building, false).unwrap();
    let mut server = Cluster::start(installation, &building, Settings::default()).unwrap();
    sample::create_roles(&server).unwrap();
    server.stop().unwrap();
    // Whoever is second at this has made the same.
    if std::fs::rename(&building, &template).is_err() {
        assert!(template.exists());
        std::fs::remove_dir_all(&building).unwrap();
    }
    template
}

fn start(position: usize) -> Cluster {
    let Ground { installation, running, .. } = &*GROUND;
    let data = running.join(unique_name("server"));
    installation.copy(&template(position), &data).unwrap();
    let settings = Settings { disposable: true, ..Settings::default() };
    Cluster::start(installation, &data, settings).unwrap()
}

fn start_several(positions: std::ops::Range<usize>) -> Vec<Cluster> {
    std::thread::scope(|scope| {
        let starting: Vec<_> = positions.map(|position| scope.spawn(move || start(position))).collect();
        starting.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

/// The first `count` of the servers that all tests of this process share. They run until the
/// process ends: stop or crash only your own.
pub(crate) fn servers(count: usize) -> Vec<&'static Cluster> {
    static SHARED: Mutex<Vec<&'static Cluster>> = Mutex::new(Vec::new());
    // A test that panicked here has left nothing half-done: servers are added at the end.
    let mut shared = SHARED.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    if shared.len() < count {
        let more = start_several(shared.len()..count);
        shared.extend(more.into_iter().map(|server| &*Box::leak(Box::new(server))));
    }
    shared[..count].to_vec()
}

/// Servers of the caller's own, with the roles `app` and `pgring`; dropping one ends it.
pub(crate) fn own_servers(count: usize) -> Vec<Cluster> {
    start_several(0..count)
}

/// A name no other test of this process uses.
pub(crate) fn unique_name(stem: &str) -> String {
    static NEXT: AtomicUsize = AtomicUsize::new(1);
    format!("{stem}_{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A new database of one name on each of the servers, `app`'s own; the script runs on each as
/// `app`. Returns the name.
pub(crate) fn database(shards: &[&Cluster], script: &str) -> String {
    create_everywhere(shards, |_, server, name| server.psql(sample::APP, name, script).map(drop).unwrap())
}

/// A new database with the sample's tables and rows, spread as [`topology`] says.
pub(crate) fn sample_database(shards: &[&Cluster]) -> String {
    let topology = topology(shards.len());
    create_everywhere(shards, |shard, server, name| sample::load(server, name, &topology, shard).unwrap())
}

fn create_everywhere(shards: &[&Cluster], fill: impl Fn(ShardId, &Cluster, &str) + Sync) -> String {
    let name = unique_name("test");
    std::thread::scope(|scope| {
        for (position, server) in (0..).zip(shards) {
            let (name, fill) = (&name, &fill);
            scope.spawn(move || {
                sample::create_database(server, name).unwrap();
                fill(ShardId(position), server, name);
            });
        }
    });
    name
}

/// The ring of shards `s1`, `s2`, …, of weight 1 each and with the configuration's defaults.
pub(crate) fn topology(shards: usize) -> Topology {
    let names: Vec<(String, u32)> = (1..=shards).map(|number| (format!("s{number}"), 1)).collect();
    Topology::new(&names, 1024, ShardId(0))
}

/// The command lines of all processes that mention a text.
pub(crate) fn processes_mentioning(text: &str) -> Vec<String> {
    let own = std::process::id().to_string();
    let all: Vec<(String, String)> = match std::fs::read_dir("/proc") {
        Ok(processes) => processes
            .flatten()
            .filter_map(|process| {
                let arguments = std::fs::read(process.path().join("cmdline")).ok()?;
                let pid = process.file_name().into_string().ok()?;
                Some((pid, String::from_utf8_lossy(&arguments).replace('\0', " ")))
            })
            .collect(),
        Err(_) => {
            let listed = std::process::Command::new("ps").args(["-axo", "pid=,args="]).output().unwrap();
            String::from_utf8_lossy(&listed.stdout)
                .lines()
                .filter_map(|line| line.trim().split_once(' '))
                .map(|(pid, arguments)| (pid.to_owned(), arguments.to_owned()))
                .collect()
        }
    };
    all.into_iter()
        .filter(|(pid, arguments)| *pid != own && arguments.contains(text))
        .map(|(_, arguments)| arguments)
        .collect()
}
