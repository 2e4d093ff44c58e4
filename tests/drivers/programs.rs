//! Programs in the languages of the drivers: `tests/drivers/python`, `node`, `java`, `sqlx`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;
use std::time::Duration;

use crate::stage::{Scope, compare, run, run_within};
use crate::support::Printed;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn installed(path: &str) -> PathBuf {
    let path = root().join(path);
    assert!(path.exists(), "{} is missing: run `make install-deps`", path.display());
    path
}

fn python(program: &'static str) -> impl Fn(&str, Scope) -> Printed {
    move |dsn, scope| {
        let mut command = Command::new(installed(".venv/bin/python"));
        // Not in the tree: several run at once.
        command.env("PYTHONDONTWRITEBYTECODE", "1");
        run(command.arg(root().join("tests/drivers/python").join(program)).args([dsn, scope.name()]))
    }
}

fn node(program: &'static str) -> impl Fn(&str, Scope) -> Printed {
    move |dsn, scope| {
        installed("tests/drivers/node/node_modules");
        let script = root().join("tests/drivers/node").join(program);
        run(Command::new("node").arg(script).args([dsn, scope.name()]))
    }
}

macro_rules! matrix {
    ($($name:ident: $program:expr, $($scope:ident)+;)+) => {$(
        #[test]
        fn $name() {
            $(compare(stringify!($name), Scope::$scope, $program);)+
        }
    )+};
}

matrix! {
    psycopg: python("psycopg_session.py"), Keyed Whole;
    asyncpg: python("asyncpg_session.py"), Keyed Whole;
    sqlalchemy: python("sqlalchemy_session.py"), Keyed Whole;
    django: python("django_session.py"), Keyed Whole;
    node_postgres: node("node_postgres.js"), Keyed Whole;
    postgres_js: node("postgres_js.js"), Keyed Whole;
    sqlx: sqlx_program, Keyed Whole;
}

/// What only several shards have: refusals, and transactions that stay on one.
#[test]
fn psycopg_on_three_shards() {
    let dsn = &crate::stage::SHARED.three;
    let script = root().join("tests/drivers/python/psycopg_shards.py");
    let printed = run(Command::new(installed(".venv/bin/python")).arg(script).arg(dsn)).expect_ok();
    assert!(printed.ends_with("ok\n"), "{printed}");
}

/// The program is a crate of its own: what sqlx depends on is not pgring's to build.
fn sqlx_program(dsn: &str, scope: Scope) -> Printed {
    static PROGRAM: LazyLock<PathBuf> = LazyLock::new(|| {
        let (manifest, target) =
            (root().join("tests/drivers/sqlx/Cargo.toml"), root().join("target/drivers"));
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--quiet", "--locked", "--manifest-path"]).arg(manifest);
        // From nothing it takes minutes on a busy machine.
        run_within(Duration::from_secs(900), cargo.arg("--target-dir").arg(&target)).expect_ok();
        target.join("debug/sqlx_session")
    });
    run(Command::new(&*PROGRAM).args([dsn, scope.name()]))
}

/// Where there is no Java, this says so and passes.
#[test]
fn jdbc() {
    let driver = Path::new("/usr/share/java/postgresql.jar");
    let missing = |program: &str| Command::new(program).arg("-version").output().is_err();
    if !driver.exists() || missing("java") || missing("javac") {
        eprintln!("skipped: PostgreSQL's JDBC driver needs a JDK and Debian's libpostgresql-jdbc-java");
        return;
    }
    let classes = tempfile::tempdir().unwrap();
    let source = root().join("tests/drivers/java/Jdbc.java");
    let mut javac = Command::new("javac");
    run(javac.arg("-cp").arg(driver).arg("-d").arg(classes.path()).arg(source)).expect_ok();
    let path = format!("{}:{}", driver.display(), classes.path().display());
    for scope in [Scope::Keyed, Scope::Whole] {
        // A short life: compiling to the second level costs more than it saves.
        let program = |dsn: &str, scope: Scope| {
            let java = ["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp", &path, "Jdbc"];
            run(Command::new("java").args(java).args([dsn, scope.name()]))
        };
        compare("jdbc", scope, program);
    }
}
