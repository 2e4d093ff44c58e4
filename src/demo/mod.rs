//! A local cluster from the PostgreSQL that is installed: shards, replicas, sample rows and
//! the configuration to serve them.
//!
//! `pgring demo` shows a newcomer three shards within seconds; the tests start their servers
//! with the same code. Nothing here knows how a statement is served: it ends with a
//! configuration file, and whoever serves reads that.
//!
//! Invariants: no server outlives us, however we end (see [`watchdog`]); a directory that is
//! not ours is never written to; a directory whose loading was interrupted is loaded anew.

pub mod account;
pub mod binaries;
pub mod cluster;
mod directory;
mod error;
mod processes;
pub mod sample;
pub mod watchdog;

use std::net::TcpListener;
use std::path::{Path, PathBuf};

use crate::ring::{ShardId, Topology};

pub use error::DemoError;

use cluster::{Cluster, Installation, Settings, free_port};
use directory::{Directory, Shape};

const MAX_SHARDS: u16 = 16;
const MAX_REPLICAS: u16 = 4;
/// The default of the configuration, so that the sample's rows lie where a copy of the
/// generated file would look for them.
const VIRTUAL_NODES: u32 = 1024;
/// Taken when it is free.
const METRICS_PORT: u16 = 9464;

/// What `pgring demo` was asked for.
#[derive(Clone, Debug)]
pub struct DemoOptions {
    /// How many shards.
    pub shards: u16,
    /// How many replicas each shard has.
    pub replicas: u16,
    /// Where the data stay for the next time; None: a temporary directory.
    pub dir: Option<PathBuf>,
    /// Where the proxy will listen; 0: any free port.
    pub port: u16,
}

/// One shard's servers.
pub struct DemoShard {
    /// Its name in the configuration.
    pub name: String,
    /// The server that accepts writes.
    pub primary: Cluster,
    /// Its followers.
    pub replicas: Vec<Cluster>,
}

/// A running local cluster. Dropping it ends all servers at once; [`Demo::stop`] in good order.
pub struct Demo {
    shards: Vec<DemoShard>,
    topology: Topology,
    config: PathBuf,
    port: u16,
    metrics_port: u16,
    directory: Directory,
}

impl Demo {
    /// Starts the servers, loads the sample where it is missing, and writes the configuration.
    ///
    /// Cancel safe: when dropped, the start goes on in the background and what it has started
    /// is ended then.
    pub async fn start(options: DemoOptions) -> Result<Demo, DemoError> {
        blocking(move || Demo::start_blocking(&options)).await?
    }

    /// The same, for callers without a runtime.
    pub fn start_blocking(options: &DemoOptions) -> Result<Demo, DemoError> {
        let shape = check(options)?;
        let port = usable_port(options.port)?;
        let installation = Installation::find()?;
        let directory = Directory::open(&installation.account, options.dir.as_deref(), shape)?;
        let topology = topology(shape.shards);
        let shards = start_shards(&installation, &directory, &topology)?;
        directory.mark_loaded()?;

        // As late as can be: another demo may start meanwhile.
        let metrics_port = match usable_port(METRICS_PORT) {
            Ok(free) if free != port => free,
            _ => free_port()?,
        };
        let config = directory.path().join("pgring.toml");
        std::fs::write(&config, configuration(&shards, port, metrics_port))
            .map_err(DemoError::io("write", &config))?;
        Ok(Demo { shards, topology, config, port, metrics_port, directory })
    }

    /// The configuration to serve with.
    pub fn config_path(&self) -> &Path {
        &self.config
    }

    /// The servers.
    pub fn shards(&self) -> &[DemoShard] {
        &self.shards
    }

    /// The servers, to stop, crash and start them.
    pub fn shards_mut(&mut self) -> &mut [DemoShard] {
        &mut self.shards
    }

    /// Which shard has which users.
    pub fn topology(&self) -> &Topology {
        &self.topology
    }

    /// Where everything lies.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// What applications connect to once the proxy serves.
    pub fn dsn(&self) -> String {
        let app = sample::APP;
        format!("postgres://{}:{}@127.0.0.1:{}/{}", app.name, app.password, self.port, sample::DATABASE)
    }

    /// What somebody at a terminal should know now.
    pub fn banner(&self) -> String {
        let dsn = self.dsn();
        let console = dsn.replace(sample::DATABASE, "pgring");
        let replicas = self.shards.iter().map(|shard| shard.replicas.len()).sum::<usize>();
        let mut text = format!(
            "\n{} PostgreSQL shards and {replicas} replicas serve as one database:\n\n    psql {dsn}\n\nWorth trying there:\n",
            self.shards.len(),
        );
        for (about, statement) in sample::WORTH_TRYING {
            text += &format!("\n    -- {about}\n    {statement}\n");
        }
        text += &format!(
            "\nconsole        psql {console} -c 'SHOW POOLS'\n\
             metrics        http://127.0.0.1:{}/metrics\n\
             configuration  {}\n\n\
             Ctrl-C stops everything{}.\n",
            self.metrics_port,
            self.config.display(),
            if self.directory.is_kept() { "; the data stay" } else { " and removes the data" },
        );
        text
    }

    /// Shuts all servers down in good order.
    pub async fn stop(self) -> Result<(), DemoError> {
        blocking(move || self.stop_blocking()).await?
    }

    /// The same, for callers without a runtime.
    pub fn stop_blocking(mut self) -> Result<(), DemoError> {
        let servers = self
            .shards
            .iter_mut()
            .flat_map(|shard| std::iter::once(&mut shard.primary).chain(&mut shard.replicas));
        in_parallel(servers, Cluster::stop).map(drop)
    }
}

fn check(options: &DemoOptions) -> Result<Shape, DemoError> {
    let DemoOptions { shards, replicas, .. } = *options;
    if shards == 0 || shards > MAX_SHARDS {
        return Err(DemoError::Options(format!("--shards takes 1 to {MAX_SHARDS}, not {shards}")));
    }
    if replicas > MAX_REPLICAS {
        return Err(DemoError::Options(format!("--replicas takes 0 to {MAX_REPLICAS}, not {replicas}")));
    }
    Ok(Shape { shards, replicas })
}

fn usable_port(port: u16) -> Result<u16, DemoError> {
    if port == 0 {
        return free_port();
    }
    TcpListener::bind(("127.0.0.1", port)).map(|_| port).map_err(|_| DemoError::PortTaken { port })
}

fn topology(shards: u16) -> Topology {
    let names: Vec<(String, u32)> = (1..=shards).map(|number| (format!("s{number}"), 1)).collect();
    Topology::new(&names, VIRTUAL_NODES, ShardId(0))
}

fn start_shards(
    installation: &Installation,
    directory: &Directory,
    topology: &Topology,
) -> Result<Vec<DemoShard>, DemoError> {
    in_parallel(topology.ids(), |shard| start_shard(installation, directory, topology, shard))
}

fn start_shard(
    installation: &Installation,
    directory: &Directory,
    topology: &Topology,
    shard: ShardId,
) -> Result<DemoShard, DemoError> {
    let name = topology.name(shard).to_owned();
    // Only data that are to stay are worth waiting for the disk.
    let kept = directory.is_kept();
    let settings = Settings { fsync: kept, disposable: !kept, ..Settings::default() };
    let data = directory.path().join(&name);
    if !directory.was_loaded() {
        installation.initialise(&data, settings.fsync)?;
    }
    let primary = Cluster::start(installation, &data, settings.clone())?;
    if !directory.was_loaded() {
        sample::create_roles(&primary)?;
        sample::create_database(&primary, sample::DATABASE)?;
        sample::load(&primary, sample::DATABASE, topology, shard)?;
    }
    let replicas = in_parallel(1..=directory.shape().replicas, |number| {
        let data = directory.path().join(format!("{name}r{number}"));
        let settings = settings.clone();
        if directory.was_loaded() {
            Cluster::start_following(installation, &data, settings, Some(&primary))
        } else {
            primary.replica(&data, settings)
        }
    })?;
    Ok(DemoShard { name, primary, replicas })
}

fn configuration(shards: &[DemoShard], port: u16, metrics_port: u16) -> String {
    let (app, control, database) = (sample::APP, sample::CONTROL, sample::DATABASE);
    let mut text = format!(
        r#"# Written by `pgring demo` at every start; the servers' ports change.
cluster = "demo"

[listen]
address = "127.0.0.1:{port}"

[http]
address = "127.0.0.1:{metrics_port}"

[control]
user = "{}"
password = "{}"

[admin]
users = ["{app_name}"]

[[user]]
name = "{app_name}"
password = "{}"

[[database]]
name = "{database}"
key = "user_id"
virtual_nodes = {VIRTUAL_NODES}
home = "s1"

  [[database.table]]
  name = "users"
  key = "id"

  [[database.table]]
  name = "plans"
  reference = true
"#,
        control.name,
        control.password,
        app.password,
        app_name = app.name,
    );
    for shard in shards {
        let endpoints: Vec<String> = std::iter::once(&shard.primary)
            .chain(&shard.replicas)
            .map(|server| format!("\"{}\"", server.address()))
            .collect();
        text += &format!(
            "\n  [[database.shard]]\n  name = \"{}\"\n  endpoints = [{}]\n  tls = \"disable\"\n",
            shard.name,
            endpoints.join(", "),
        );
    }
    text
}

/// Does the same for each item on a thread of its own; the first error wins, after all ended.
fn in_parallel<T: Send, R: Send>(
    items: impl IntoIterator<Item = T>,
    work: impl Fn(T) -> Result<R, DemoError> + Sync,
) -> Result<Vec<R>, DemoError> {
    let work = &work;
    std::thread::scope(|scope| {
        let threads: Vec<_> = items.into_iter().map(|item| scope.spawn(move || work(item))).collect();
        let ended: Vec<_> = threads.into_iter().map(|thread| thread.join()).collect();
        ended
            .into_iter()
            .map(|result| result.unwrap_or_else(|_| Err(DemoError::Internal("a thread panicked".to_owned()))))
            .collect()
    })
}

async fn blocking<R: Send + 'static>(work: impl FnOnce() -> R + Send + 'static) -> Result<R, DemoError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| DemoError::Internal(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_out_of_range_are_refused() {
        let check = |shards, replicas| check(&DemoOptions { shards, replicas, dir: None, port: 0 }).is_ok();
        assert!(check(1, 0));
        assert!(check(MAX_SHARDS, MAX_REPLICAS));
        assert!(!check(0, 0));
        assert!(!check(MAX_SHARDS + 1, 0));
        assert!(!check(1, MAX_REPLICAS + 1));
    }

    #[test]
    fn a_port_in_use_is_refused() {
        let taken = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        assert!(matches!(usable_port(port), Err(DemoError::PortTaken { port: p }) if p == port));
    }
}
