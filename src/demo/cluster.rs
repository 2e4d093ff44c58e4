//! One PostgreSQL server with its data directory, on the loopback interface.
//!
//! Everything here blocks: starting a server is a matter of child processes, guards are
//! dropped where no runtime runs, and the tests keep servers in statics that several
//! runtimes share. Async code calls it through `spawn_blocking`.
//!
//! A server is ready when it says so in `postmaster.pid`, as `pg_ctl` sees it. It ends when
//! its [`Cluster`] is dropped or its process dies, see [`super::watchdog`].

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::account::Account;
use super::binaries::Binaries;
use super::error::DemoError;
use super::processes::{children, has_ended};
use super::watchdog::{Spec, Watched, poll};

/// The bootstrap superuser.
pub const SUPERUSER: Login<'static> = Login { name: "postgres", password: "postgres" };

/// Recovery after a crash may take a while on a busy machine.
const START_PATIENCE: Duration = Duration::from_secs(60);
const STOP_PATIENCE: Duration = Duration::from_secs(30);

/// A free port may be gone again before the server binds it.
const PORT_ATTEMPTS: u32 = 5;

/// `sun_path` holds 104 bytes on the stingiest system; `/.s.PGSQL.65535.lock` has to fit.
const LONGEST_SOCKET_DIRECTORY: usize = 80;

/// How much of a log goes into an error.
const LOG_TAIL: u64 = 4096;

/// PostgreSQL's programs and who runs them.
#[derive(Clone, Debug)]
pub struct Installation {
    /// The programs.
    pub binaries: Binaries,
    /// Who runs them.
    pub account: Account,
}

impl Installation {
    /// Finds both on this machine.
    pub fn find() -> Result<Installation, DemoError> {
        Ok(Installation { binaries: Binaries::find()?, account: Account::unprivileged()? })
    }

    /// Runs one of the programs to its end.
    fn run(&self, program: &str, configure: impl FnOnce(&mut Command)) -> Result<(), DemoError> {
        let mut command = self.account.command(&self.binaries.program(program));
        configure(&mut command);
        let output =
            command.stdin(Stdio::null()).output().map_err(DemoError::io("run", Path::new(program)))?;
        if output.status.success() {
            return Ok(());
        }
        Err(failed(program, &output))
    }

    /// Fills a new data directory, and waits for the disk if it is to survive a power failure.
    pub fn initialise(&self, data: &Path, fsync: bool) -> Result<(), DemoError> {
        let password = data.with_extension("password");
        self.account.write(&password, SUPERUSER.password)?;
        let done = self.run("initdb", |initdb| {
            initdb
                .arg("-D")
                .arg(data)
                .args(["-U", SUPERUSER.name, "-A", "scram-sha-256", "--pwfile"])
                .arg(&password)
                // The C collation sorts alike on every system.
                .args(["-E", "UTF8", "--locale=C"])
                .args((!fsync).then_some("--no-sync"));
        });
        std::fs::remove_file(&password).map_err(DemoError::io("remove", &password))?;
        done?;
        let conf = data.join("postgresql.conf");
        let mut file = File::options().append(true).open(&conf).map_err(DemoError::io("open", &conf))?;
        file.write_all(format!("\ninclude '{SETTINGS_FILE}'\n").as_bytes())
            .map_err(DemoError::io("write", &conf))
    }

    /// Copies the data directory of a stopped server.
    ///
    /// The copy has the original's system identifier, so two copies must not be shards of
    /// one database: two-phase commit tells its participants apart by it.
    pub fn copy(&self, from: &Path, to: &Path) -> Result<(), DemoError> {
        let cp = Path::new("/bin/cp");
        let output = self
            .account
            .command(cp)
            .arg("-a")
            .args([from, to])
            .stdin(Stdio::null())
            .output()
            .map_err(DemoError::io("run", cp))?;
        if output.status.success() { Ok(()) } else { Err(failed("cp", &output)) }
    }
}

/// Included from postgresql.conf and written at every start: a copied data directory brings
/// the port of its original along.
const SETTINGS_FILE: &str = "pgring.conf";

/// A role and its password.
#[derive(Clone, Copy, Debug)]
pub struct Login<'a> {
    /// The role.
    pub name: &'a str,
    /// Its password.
    pub password: &'a str,
}

/// How a server runs.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Do the data survive a crash of the machine? (Of a process: always.)
    pub fsync: bool,
    /// Is the data directory removed when the cluster is dropped or our process dies?
    pub disposable: bool,
    /// More parameters of postgresql.conf.
    pub parameters: Vec<(String, String)>,
}

/// A running server. Dropping it ends the server at once, as a crash would.
pub struct Cluster {
    installation: Installation,
    data: PathBuf,
    port: u16,
    settings: Settings,
    /// The port of the primary that a replica follows.
    upstream: Option<u16>,
    server: Option<Watched>,
}

impl Cluster {
    /// Starts a server in an initialised data directory, on a free port.
    pub fn start(installation: &Installation, data: &Path, settings: Settings) -> Result<Cluster, DemoError> {
        Cluster::start_following(installation, data, settings, None)
    }

    /// Starts a replica again whose data directory [`Cluster::replica`] has made; the primary
    /// may have another port by now.
    pub fn start_following(
        installation: &Installation,
        data: &Path,
        settings: Settings,
        upstream: Option<&Cluster>,
    ) -> Result<Cluster, DemoError> {
        let mut cluster = Cluster {
            installation: installation.clone(),
            data: data.to_path_buf(),
            port: 0,
            settings,
            upstream: upstream.map(Cluster::port),
            server: None,
        };
        for attempt in 1.. {
            cluster.port = free_port()?;
            match cluster.restart() {
                Err(DemoError::ServerEnded { log, .. })
                    if attempt < PORT_ATTEMPTS && log.contains("could not bind") => {}
                Err(error) => return Err(error),
                Ok(()) => break,
            }
        }
        Ok(cluster)
    }

    /// Starts a replica of this server in a new data directory.
    pub fn replica(&self, data: &Path, settings: Settings) -> Result<Cluster, DemoError> {
        let slot = slot_name(data);
        self.installation.run("pg_basebackup", |backup| {
            backup
                .arg("-D")
                .arg(data)
                .args(["-h", "127.0.0.1", "-p", &self.port.to_string(), "-U", SUPERUSER.name])
                .args(["-X", "stream", "-c", "fast", "-C", "-S", &slot])
                .args((!settings.fsync).then_some("--no-sync"))
                .env("PGPASSWORD", SUPERUSER.password);
        })?;
        self.installation.account.write(&data.join("standby.signal"), "")?;
        Cluster::start_following(&self.installation, data, settings, Some(self))
    }

    /// Starts the server again on its port, after [`Cluster::stop`] or [`Cluster::crash`].
    pub fn restart(&mut self) -> Result<(), DemoError> {
        self.server = None;
        self.installation.account.write(&self.data.join(SETTINGS_FILE), &self.settings_file())?;
        let log = self.log();
        let output =
            File::options().create(true).append(true).open(&log).map_err(DemoError::io("open", &log))?;
        let before = output.metadata().map_err(DemoError::io("read", &log))?.len();
        let postgres = self.installation.binaries.program("postgres");
        let mut server = Watched::spawn(Spec {
            account: &self.installation.account,
            command: vec![postgres.clone().into(), "-D".into(), self.data.clone().into()],
            environment: Vec::new(),
            log: output,
            // An immediate shutdown.
            last_signal: Signal::SIGQUIT,
            remove: self.settings.disposable.then(|| self.data.clone()),
        })
        .map_err(DemoError::io("run", &postgres))?;

        let mut ended = false;
        let settled = poll(START_PATIENCE, || {
            ended = server.ended().map_err(DemoError::io("watch", &postgres))?.is_some();
            Ok(ended || self.says_ready(server.pid()))
        })?;
        if ended {
            return Err(DemoError::ServerEnded { data: self.data.clone(), log: tail(&log, before) });
        }
        if !settled {
            return Err(self.too_slow("ready", START_PATIENCE));
        }
        self.server = Some(server);
        Ok(())
    }

    /// The last line of `postmaster.pid`; a file left behind by a crash has another pid.
    fn says_ready(&self, pid: Pid) -> bool {
        let Ok(text) = std::fs::read_to_string(self.data.join("postmaster.pid")) else { return false };
        let mut lines = text.lines();
        lines.next().and_then(|line| line.trim().parse().ok()) == Some(pid.as_raw())
            && lines.nth(6).is_some_and(|state| state.trim() == "ready")
    }

    fn too_slow(&self, expected: &'static str, patience: Duration) -> DemoError {
        DemoError::TooSlow {
            data: self.data.clone(),
            expected,
            seconds: patience.as_secs(),
            log: tail(&self.log(), 0),
        }
    }

    fn settings_file(&self) -> String {
        let socket_directory =
            if self.data.as_os_str().len() <= LONGEST_SOCKET_DIRECTORY { self.data.to_str() } else { None };
        let on_off = |on| if on { "on" } else { "off" };
        let mut parameters = vec![
            ("listen_addresses", "127.0.0.1".to_owned()),
            ("port", self.port.to_string()),
            ("unix_socket_directories", socket_directory.unwrap_or_default().to_owned()),
            ("max_connections", "200".to_owned()),
            ("max_prepared_transactions", "64".to_owned()),
            ("shared_buffers", "32MB".to_owned()),
            ("password_encryption", "scram-sha-256".to_owned()),
            ("fsync", on_off(self.settings.fsync).to_owned()),
            ("log_line_prefix", "%m [%p] %q%u@%d ".to_owned()),
        ];
        if let Some(port) = self.upstream {
            let Login { name, password } = SUPERUSER;
            let slot = slot_name(&self.data);
            let conninfo =
                format!("host=127.0.0.1 port={port} user={name} password={password} application_name={slot}");
            parameters.extend([("primary_conninfo", conninfo), ("primary_slot_name", slot)]);
        }
        let own = self.settings.parameters.iter().map(|(name, value)| (name.as_str(), value.clone()));
        parameters
            .into_iter()
            .chain(own)
            .map(|(name, value)| format!("{name} = '{}'\n", value.replace('\\', "\\\\").replace('\'', "''")))
            .collect()
    }

    /// Its TCP port on 127.0.0.1; the same over all restarts.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// As an endpoint in pgring's configuration.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// What a driver connects with.
    pub fn dsn(&self, login: Login<'_>, database: &str) -> String {
        format!("postgres://{}:{}@127.0.0.1:{}/{database}", login.name, login.password, self.port)
    }

    /// Its data directory.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// Its log file, beside the data directory.
    pub fn log(&self) -> PathBuf {
        self.data.with_extension("log")
    }

    /// The postmaster's process id, while it runs.
    pub fn pid(&self) -> Option<Pid> {
        self.server.as_ref().map(Watched::pid)
    }

    /// Runs a script with psql, stops at its first error, and returns the rows it printed,
    /// unaligned and without headings.
    pub fn psql(&self, login: Login<'_>, database: &str, script: &str) -> Result<String, DemoError> {
        let program = self.installation.binaries.program("psql");
        let mut psql = self
            .installation
            .account
            .command(&program)
            .args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1"])
            .args(["-p", &self.port.to_string(), "-U", login.name, "-d", database, "-f", "-"])
            .env("PGPASSWORD", login.password)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(DemoError::io("run", &program))?;
        let input = psql.stdin.take();
        let output = std::thread::scope(|scope| {
            // Beside the reading, or a long script and a long answer wait for each other. A
            // psql that has stopped reading says why on its own.
            scope.spawn(move || input.map(|mut input| input.write_all(script.as_bytes())));
            psql.wait_with_output()
        })
        .map_err(DemoError::io("run", &program))?;
        if !output.status.success() {
            return Err(failed("psql", &output));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// A fast shutdown: sessions are ended, everything is written.
    pub fn stop(&mut self) -> Result<(), DemoError> {
        let Some(mut server) = self.server.take() else { return Ok(()) };
        server.signal(Signal::SIGINT).map_err(DemoError::io("stop", &self.data))?;
        match server.wait(STOP_PATIENCE).map_err(DemoError::io("stop", &self.data))? {
            Some(_) => Ok(()),
            // Dropping it ends it nevertheless.
            None => Err(self.too_slow("stopped", STOP_PATIENCE)),
        }
    }

    /// Kills all of the server's processes at one instant, as a power failure would: no
    /// goodbye to clients, no checkpoint.
    pub fn crash(&mut self) -> Result<(), DemoError> {
        let Some(mut server) = self.server.take() else { return Ok(()) };
        let postmaster = server.pid();
        let send = |pid, signal| match kill(pid, signal) {
            // One that has ended by itself needs no signal.
            Ok(()) | Err(Errno::ESRCH) => Ok(()),
            Err(error) => Err(DemoError::io("kill", &self.data)(error.into())),
        };
        // Stopped first, so that it starts no further process meanwhile.
        send(postmaster, Signal::SIGSTOP)?;
        let backends = children(postmaster);
        for pid in backends.iter().chain([&postmaster]) {
            send(*pid, Signal::SIGKILL)?;
        }
        server.wait(STOP_PATIENCE).map_err(DemoError::io("kill", &self.data))?;
        // A new server refuses to start while an old backend is attached to the shared memory.
        let gone = poll(STOP_PATIENCE, || Ok(backends.iter().all(|pid| has_ended(*pid))))?;
        if gone { Ok(()) } else { Err(self.too_slow("dead", STOP_PATIENCE)) }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.server = None;
        // Already done where the server still ran.
        if self.settings.disposable
            && self.data.exists()
            && let Err(error) = std::fs::remove_dir_all(&self.data)
        {
            tracing::warn!(data = %self.data.display(), %error, "could not remove a data directory");
        }
    }
}

/// A port nobody listens on at this moment.
pub fn free_port() -> Result<u16, DemoError> {
    let listener =
        TcpListener::bind(("127.0.0.1", 0)).map_err(DemoError::io("listen on", Path::new("127.0.0.1")))?;
    let address = listener.local_addr().map_err(DemoError::io("listen on", Path::new("127.0.0.1")))?;
    Ok(address.port())
}

/// Replication slots are named in lower-case letters, digits and underscores.
fn slot_name(data: &Path) -> String {
    let name = data.file_name().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect()
}

fn failed(program: &str, output: &std::process::Output) -> DemoError {
    let mut text = String::from_utf8_lossy(&output.stderr).into_owned();
    if text.trim().is_empty() {
        text = String::from_utf8_lossy(&output.stdout).into_owned();
    }
    DemoError::Program {
        program: program.to_owned(),
        status: output.status.to_string(),
        output: text.trim_end().to_owned(),
    }
}

/// What stands at the end of a log, after `from` bytes.
fn tail(log: &Path, from: u64) -> String {
    let read = || -> std::io::Result<String> {
        let mut file = File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(from.max(length.saturating_sub(LOG_TAIL))))?;
        let mut bytes = Vec::new();
        file.take(LOG_TAIL).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).trim_end().to_owned())
    };
    read().unwrap_or_else(|error| format!("(the log {} cannot be read: {error})", log.display()))
}
