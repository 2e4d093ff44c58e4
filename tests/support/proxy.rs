//! The real pgring, as a process.

use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::unistd::Pid;
use pgring::demo::account::Account;
use pgring::demo::cluster::Login;
use pgring::demo::watchdog::{Spec, Watched};
use tempfile::TempDir;

use super::{Config, eventually_within};

const START_PATIENCE: Duration = Duration::from_secs(20);
const STOP_PATIENCE: Duration = Duration::from_secs(20);

/// A running `pgring serve`. Dropping it kills the process.
pub(crate) struct Proxy {
    watched: Watched,
    config: Config,
    directory: TempDir,
}

impl Proxy {
    /// Starts it and waits until it is ready: every shard has a healthy primary.
    pub(crate) fn start(config: Config) -> Proxy {
        Proxy::start_until(config, "/readyz")
    }

    /// Starts it and waits until it lives, whatever its shards do.
    pub(crate) fn start_unready(config: Config) -> Proxy {
        Proxy::start_until(config, "/healthz")
    }

    /// Starts it beside one of the same configuration, and waits until it has taken over the
    /// sockets and serves: on a port that both answer, only its own log says so.
    pub(crate) fn start_beside(config: Config) -> Proxy {
        let mut proxy = Proxy::spawn(config, &[]);
        eventually_within(START_PATIENCE, "the next pgring serves", || {
            if let Some(status) = proxy.watched.ended().unwrap() {
                panic!("pgring ended while starting ({status}):\n{}", proxy.log());
            }
            let log = proxy.log();
            log.contains("sharing the sockets") && log.contains("HTTP listening")
        });
        proxy
    }

    /// Starts one that ends or stops itself at a step of a commit, as `PGRING_FAIL_POINT` says.
    pub(crate) fn start_to_fail(config: Config, point: &str) -> Proxy {
        Proxy::start_in(config, "/readyz", &[("PGRING_FAIL_POINT", point)])
    }

    fn start_until(config: Config, path: &str) -> Proxy {
        Proxy::start_in(config, path, &[])
    }

    fn start_in(config: Config, path: &str, environment: &[(&str, &str)]) -> Proxy {
        let mut proxy = Proxy::spawn(config, environment);
        eventually_within(START_PATIENCE, "pgring is ready", || {
            if let Some(status) = proxy.watched.ended().unwrap() {
                panic!("pgring ended while starting ({status}):\n{}", proxy.log());
            }
            proxy.try_get(path).is_some_and(|(code, _)| code == 200)
        });
        proxy
    }

    /// Starts it and waits for nothing.
    pub(crate) fn spawn(config: Config, environment: &[(&str, &str)]) -> Proxy {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("pgring.toml");
        std::fs::write(&file, config.to_toml()).unwrap();
        let watched = Watched::spawn(Spec {
            account: &Account::own(),
            command: vec![
                env!("CARGO_BIN_EXE_pgring").into(),
                "serve".into(),
                "--config".into(),
                file.into_os_string(),
            ],
            environment: environment
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
            log: File::create(directory.path().join("log")).unwrap(),
            last_signal: Signal::SIGKILL,
            remove: None,
        })
        .unwrap();
        Proxy { watched, config, directory }
    }

    /// What a driver connects with.
    pub(crate) fn dsn(&self, login: Login<'_>, database: &str) -> String {
        format!("postgres://{}:{}@{}/{database}", login.name, login.password, self.address())
    }

    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.config.port)
    }

    pub(crate) fn config_file(&self) -> PathBuf {
        self.directory.path().join("pgring.toml")
    }

    pub(crate) fn pid(&self) -> Pid {
        self.watched.pid()
    }

    /// All it has logged so far.
    pub(crate) fn log(&self) -> String {
        let bytes = std::fs::read(self.directory.path().join("log")).unwrap();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The value of a sample on `/metrics`, as in `pgring_clients{state="active"}`.
    pub(crate) fn metric(&self, sample: &str) -> Option<f64> {
        let (_, page) = self.get("/metrics");
        page.lines().find_map(|line| line.strip_prefix(sample)?.trim().parse().ok())
    }

    /// Status and body of a page.
    pub(crate) fn get(&self, path: &str) -> (u16, String) {
        self.try_get(path).unwrap_or_else(|| panic!("no answer to GET {path}; the log:\n{}", self.log()))
    }

    fn try_get(&self, path: &str) -> Option<(u16, String)> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.config.http_port)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
    }

    /// Replaces the configuration and asks for a reload. The ports must stay.
    pub(crate) fn reload(&mut self, config: Config) {
        std::fs::write(self.config_file(), config.to_toml()).unwrap();
        self.config = config;
        self.signal(Signal::SIGHUP);
    }

    pub(crate) fn signal(&mut self, signal: Signal) {
        self.watched.signal(signal).unwrap();
    }

    /// Waits for its end, however it comes about.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        match self.watched.wait(STOP_PATIENCE).unwrap() {
            Some(status) => status,
            None => panic!("pgring still runs after {STOP_PATIENCE:?}; the log:\n{}", self.log()),
        }
    }

    /// Lets it drain and end.
    pub(crate) fn stop(mut self) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        self.wait()
    }
}
