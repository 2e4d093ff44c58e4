//! A child process that never outlives us.
//!
//! A destructor runs when we end in good order, not when we are killed. So the program is
//! started by a small shell that holds the reading end of a pipe of ours: however we end,
//! the pipe closes, and the shell ends the program. The same pipe carries the signals we
//! want to send; the shell is the program's parent, so a signal can never hit a process that
//! got its number later. The shell has its own process group: a Ctrl-C at the terminal is
//! ours to handle, in our order.
//!
//! ```text
//! we ── pipe: "INT", "TERM", … or its end ──▶ sh ──▶ program
//! ```

use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::unistd::Pid;

use super::account::Account;

/// `$1` is the signal for the end, `$2` a directory to remove then, or nothing.
const SCRIPT: &str = r#"
last=$1 remove=$2
shift 2
exec 3<&0
"$@" </dev/null 3<&- >&2 &
program=$!
{
    while read -r signal <&3; do kill -s "$signal" $program; done
    trap '' TERM
    kill -s "$last" $program
    kill -s CONT $program
    exit 9
} >/dev/null 2>&1 &
reader=$!
echo $program
exec >&2
wait $program
status=$?
kill $reader 2>/dev/null
wait $reader
if [ $? = 9 ] && [ -n "$remove" ]; then rm -rf -- "$remove"; fi
exit $status
"#;

/// How often a state that cannot be waited for is looked at.
const GLANCE: Duration = Duration::from_millis(10);

/// How long a program may take to die of its last signal before a destructor gives up.
const LAST_PATIENCE: Duration = Duration::from_secs(20);

/// What to run, and how it ends.
pub struct Spec<'a> {
    /// Who runs it.
    pub account: &'a Account,
    /// The program and its arguments.
    pub command: Vec<std::ffi::OsString>,
    /// Variables added to its environment.
    pub environment: Vec<(String, String)>,
    /// Where its output goes.
    pub log: File,
    /// What it gets when we are gone.
    pub last_signal: Signal,
    /// Removed when we are gone and it has ended.
    pub remove: Option<PathBuf>,
}

/// A running program and its watchdog. Dropping it ends both.
pub struct Watched {
    shell: Child,
    control: Option<ChildStdin>,
    pid: Pid,
}

impl Watched {
    /// Starts the program.
    pub fn spawn(spec: Spec<'_>) -> io::Result<Watched> {
        let last = spec.last_signal.as_str().trim_start_matches("SIG");
        let mut shell = spec
            .account
            .command(Path::new("/bin/sh"))
            .args(["-c", SCRIPT, "pgring-watchdog", last])
            .arg(spec.remove.unwrap_or_default())
            .args(spec.command)
            .envs(spec.environment)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(spec.log)
            .process_group(0)
            .spawn()?;
        let control = shell.stdin.take();
        let mut first_line = String::new();
        if let Some(output) = shell.stdout.take() {
            BufReader::new(output).read_line(&mut first_line)?;
        }
        match first_line.trim().parse() {
            Ok(pid) => Ok(Watched { shell, control, pid: Pid::from_raw(pid) }),
            Err(_) => Err(io::Error::other("the watchdog shell did not start")),
        }
    }

    /// The program's process id.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Sends the program a signal; nothing happens when it has ended already.
    pub fn signal(&mut self, signal: Signal) -> io::Result<()> {
        let Some(control) = &mut self.control else { return Ok(()) };
        match writeln!(control, "{}", signal.as_str().trim_start_matches("SIG")) {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
            _ => Ok(()),
        }
    }

    /// How the program ended, if it has.
    pub fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        self.shell.try_wait()
    }

    /// Waits for the program's end. None: it still runs.
    pub fn wait(&mut self, patience: Duration) -> io::Result<Option<ExitStatus>> {
        let mut ended = None;
        poll(patience, || {
            ended = self.shell.try_wait()?;
            Ok::<_, io::Error>(ended.is_some())
        })?;
        Ok(ended)
    }

    /// Ends the program as our own death would.
    pub fn end(&mut self) -> io::Result<Option<ExitStatus>> {
        self.control = None;
        self.wait(LAST_PATIENCE)
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            tracing::warn!(pid = self.pid.as_raw(), %error, "could not wait for a child process");
        }
    }
}

/// Asks until the answer is yes; false when patience has run out.
pub(super) fn poll<E>(patience: Duration, mut reached: impl FnMut() -> Result<bool, E>) -> Result<bool, E> {
    let deadline = Instant::now() + patience;
    loop {
        if reached()? {
            return Ok(true);
        }
        if Instant::now() >= deadline {
            return Ok(false);
        }
        std::thread::sleep(GLANCE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watch(script: &str, remove: Option<PathBuf>) -> Watched {
        Watched::spawn(Spec {
            account: &Account::own(),
            command: ["/bin/sh", "-c", script].map(Into::into).to_vec(),
            environment: vec![("GREETING".into(), "7".into())],
            log: File::options().write(true).open("/dev/null").unwrap(),
            last_signal: Signal::SIGTERM,
            remove,
        })
        .unwrap()
    }

    fn runs(pid: Pid) -> bool {
        nix::sys::signal::kill(pid, None).is_ok()
    }

    #[test]
    fn its_exit_status_is_the_programs() {
        let mut watched = watch("exit $GREETING", None);
        let status = watched.wait(Duration::from_secs(10)).unwrap().unwrap();
        assert_eq!(status.code(), Some(7));
        watched.signal(Signal::SIGTERM).unwrap();
    }

    #[test]
    fn a_signal_reaches_the_program() {
        let mut watched = watch("trap 'exit 3' USR1; echo; while :; do sleep 0.05; done", None);
        let status = loop {
            // The trap may not be set yet; an early USR1 ends the shell with another status.
            watched.signal(Signal::SIGCONT).unwrap();
            std::thread::sleep(Duration::from_millis(200));
            watched.signal(Signal::SIGUSR1).unwrap();
            if let Some(status) = watched.wait(Duration::from_secs(10)).unwrap() {
                break status;
            }
        };
        assert_eq!(status.code(), Some(3));
    }

    #[test]
    fn dropping_ends_even_a_stopped_program_and_removes_its_directory() {
        let directory = tempfile::tempdir().unwrap();
        let inner = directory.path().join("data");
        std::fs::create_dir(&inner).unwrap();
        let mut watched = watch("exec sleep 600", Some(inner.clone()));
        let pid = watched.pid();
        assert!(runs(pid));
        watched.signal(Signal::SIGSTOP).unwrap();
        drop(watched);
        assert!(!runs(pid));
        assert!(!inner.exists());
    }

    #[test]
    fn an_ended_program_leaves_the_directory_to_us() {
        let directory = tempfile::tempdir().unwrap();
        let mut watched = watch("exit 0", Some(directory.path().to_path_buf()));
        watched.wait(Duration::from_secs(10)).unwrap().unwrap();
        drop(watched);
        assert!(directory.path().exists());
    }
}
