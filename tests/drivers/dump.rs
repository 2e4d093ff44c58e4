//! pg_dump and pg_restore of one shard.

use std::process::Command;

use pgring::demo::binaries::Binaries;
use pgring::demo::sample::APP;

use crate::stage::{POOL, assert_same, run};
use crate::support::{self, Config, Proxy};

fn program(name: &str) -> Command {
    Command::new(Binaries::find().unwrap().program(name))
}

/// A plain dump, the text of schema and data, without what pg_dump draws by lot.
fn dump(dsn: &str) -> String {
    let text = run(program("pg_dump").args(["--dbname", dsn])).expect_ok();
    let drawn = |line: &&str| line.starts_with(r"\restrict") || line.starts_with(r"\unrestrict");
    text.lines().filter(|line| !drawn(line)).map(|line| format!("{line}\n")).collect()
}

#[test]
fn dumps_and_restores_are_the_same() {
    let servers = support::servers(1);
    let full = support::sample_database(&servers);
    let [plain, empty] = [(); 2].map(|()| support::database(&servers, ""));
    let config = Config::new().set("pool", "size", &POOL.to_string());
    let proxy = Proxy::start(config.database(&full, &servers).database(&empty, &servers));
    let (through, into) = (proxy.dsn(APP, &full), proxy.dsn(APP, &empty));
    let expected = dump(&servers[0].dsn(APP, &full));
    assert_same("pg_dump", &expected, &dump(&through));

    // PostgreSQL itself does not print every expression as it was before a restore.
    servers[0].psql(APP, &plain, &expected).unwrap();
    let expected = dump(&servers[0].dsn(APP, &plain));
    let files = tempfile::tempdir().unwrap();
    // In parallel, the workers take over the leader's snapshot.
    for (format, dump_jobs, clean) in [("custom", "1", false), ("directory", "2", true)] {
        let archive = files.path().join(format);
        let mut dumping = program("pg_dump");
        dumping.args(["--dbname", &through, "--format", format, "--jobs", dump_jobs, "--file"]);
        run(dumping.arg(&archive)).expect_ok();
        let mut restoring = program("pg_restore");
        restoring.args(["--dbname", &into, "--jobs", "2", "--exit-on-error"]);
        if clean {
            restoring.arg("--clean");
        }
        run(restoring.arg(&archive)).expect_ok();
        let restored = dump(&servers[0].dsn(APP, &empty));
        assert_same(&format!("pg_restore of {format}"), &expected, &restored);
    }
}
