//! Real clients: tokio-postgres, psql, Python.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use pgring::demo::account::Account;
use pgring::demo::binaries::Binaries;
use tokio_postgres::{Client, NoTls};

/// What a program printed.
#[derive(Debug)]
pub(crate) struct Printed {
    pub(crate) ok: bool,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Printed {
    /// What it printed; panics if it failed.
    #[track_caller]
    pub(crate) fn expect_ok(self) -> String {
        assert!(self.ok, "failed: {}\n{}", self.err, self.out);
        self.out
    }
}

impl From<Output> for Printed {
    fn from(output: Output) -> Printed {
        Printed {
            ok: output.status.success(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// Connects; the connection is driven by a task of the current runtime.
pub(crate) async fn connect(dsn: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(dsn, NoTls).await.unwrap();
    // Its error is the client's next one.
    tokio::spawn(connection);
    client
}

/// Runs a script, statement by statement, up to the first error; rows are printed unaligned
/// and without headings.
pub(crate) fn psql(dsn: &str, script: &str) -> Printed {
    psql_with(dsn, &["-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-f", "-"], script)
}

/// Runs psql with these arguments and this input.
pub(crate) fn psql_with(dsn: &str, arguments: &[&str], input: &str) -> Printed {
    // Without the caller's PG… variables.
    let mut psql = Account::own().command(&Binaries::find().unwrap().program("psql"));
    run(psql.args(["-X", "-d", dsn]).args(arguments), input)
}

/// Runs a script of `tests/drivers/node`.
pub(crate) fn node(script: &str, arguments: &[&str]) -> Printed {
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/drivers/node");
    assert!(scripts.join("node_modules").exists(), "drivers are missing: run `make install-deps`");
    run(Account::own().command(Path::new("node")).arg(scripts.join(script)).args(arguments), "")
}

/// Runs a script of `tests/` with the Python that has the drivers.
pub(crate) fn python(script: &str, arguments: &[&str]) -> Printed {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let interpreter = root.join(".venv/bin/python");
    assert!(interpreter.exists(), "{} is missing: run `make install-deps`", interpreter.display());
    let mut python = Account::own().command(&interpreter);
    run(python.arg(root.join("tests").join(script)).args(arguments), "")
}

fn run(command: &mut Command, input: &str) -> Printed {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    std::thread::scope(|scope| {
        // A program that stops reading says why by itself.
        scope.spawn(move || stdin.write_all(input.as_bytes()));
        child.wait_with_output().unwrap().into()
    })
}
