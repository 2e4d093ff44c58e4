//! Roles that are renamed, or dropped, while something of theirs is in doubt; and those who forge.

use std::time::Duration;

use pgring::demo::sample::APP;

use crate::stage::{Bank, said};
use crate::support::raw::{Raw, query};
use crate::support::{self, Proxy, eventually_within, unique_name};

const PATIENCE: Duration = Duration::from_secs(60);

/// On a shard, of which role, what is done to it.
type Changes = &'static [(usize, &'static str)];

impl Bank<'_> {
    /// A role that may write, whose transactions recovery may finish, and the clients' user may become.
    fn role(&self, stem: &str) -> String {
        let name = unique_name(stem);
        for shard in 0..self.servers.len() {
            self.rows(
                shard,
                &format!("CREATE ROLE {name}; GRANT {name} TO app, pgring; GRANT ALL ON accounts TO {name}"),
            );
        }
        name
    }

    fn gid(&self, xid: &str) -> String {
        let identity = "SELECT system_identifier || '/' || current_database() FROM pg_control_system()";
        format!("pgring:test:{xid}:{}", self.rows(0, identity))
    }

    /// What `SHOW TRANSACTIONS` says, a line for each.
    fn in_doubt(&self, proxy: &Proxy) -> String {
        let mut console = Raw::login(&proxy.address(), APP, "pgring");
        let rows = console.query("SHOW TRANSACTIONS");
        let rows = rows.iter().filter(|frame| frame.tag == b'D');
        let lines = rows.map(|frame| String::from_utf8_lossy(&frame.body).into_owned());
        lines.filter(|line| line.contains(&self.name)).collect::<Vec<_>>().join("\n")
    }
}

/// What the decider has committed is committed everywhere, whatever its role is called when that is looked at,
/// and wherever.
#[test]
fn a_role_is_renamed_in_doubt() {
    let servers = support::servers(2);
    let cases: [(&str, Changes); 5] = [
        ("everywhere", &[(0, "ALTER ROLE $1 RENAME TO $1_new"), (1, "ALTER ROLE $1 RENAME TO $1_new")]),
        ("where it decided", &[(0, "ALTER ROLE $1 RENAME TO $1_new")]),
        ("where it is prepared", &[(1, "ALTER ROLE $1 RENAME TO $1_new")]),
        (
            "where another has its name by now",
            &[
                (1, "ALTER ROLE $1 RENAME TO $1_new"),
                (1, "ALTER ROLE $2 RENAME TO $1"),
                (1, "ALTER ROLE $1_new RENAME TO $2"),
            ],
        ),
        ("and dropped where it decided", &[(0, "DROP OWNED BY $1; DROP ROLE $1")]),
    ];
    std::thread::scope(|scope| {
        for (what, changes) in cases {
            let servers = &servers;
            scope.spawn(move || {
                let bank = Bank::open(servers);
                let (role, other) = (bank.role("teller"), bank.role("other"));
                let proxy = Proxy::start_to_fail(bank.config(), "commit:after:kill");
                let mut raw = Raw::login(&proxy.address(), APP, &bank.name);
                assert_eq!(said(&mut raw, &format!("SET ROLE {role}")), "SET I");
                bank.begin_transfer(&mut raw, 30);
                raw.send(&query("COMMIT"));
                raw.rest();
                assert_eq!(bank.prepared(), 1, "{what}");
                for (shard, change) in changes {
                    bank.rows(*shard, &change.replace("$1", &role).replace("$2", &other));
                }
                let proxy = Proxy::start(bank.config());
                eventually_within(PATIENCE, &format!("nothing is in doubt: {what}"), || bank.prepared() == 0);
                assert_eq!(bank.balances(), [70, 130], "{what}");
                let verdicts = bank.rows(0, "SELECT string_agg(verdict, ' ') FROM pgring.decision");
                assert_eq!(verdicts, "commit", "{what}");
                assert_eq!(proxy.metric("pgring_two_phase_total{outcome=\"lost\"}"), Some(0.0), "{what}");
            });
        }
    });
}

/// It is shown what it waits for, and nobody else waits with it.
#[test]
fn a_dropped_role_holds_nobody_up() {
    let servers = support::servers(2);
    let bank = Bank::open(&servers);
    let role = bank.role("gone");
    let proxy = Proxy::start_to_fail(bank.config(), "commit:after:kill");
    let mut raw = Raw::login(&proxy.address(), APP, &bank.name);
    assert_eq!(said(&mut raw, &format!("SET ROLE {role}")), "SET I");
    bank.begin_transfer(&mut raw, 30);
    raw.send(&query("COMMIT"));
    raw.rest();
    bank.rows(1, &format!("DROP OWNED BY {role}; DROP ROLE {role}"));
    // Another one, that its decider has not committed.
    let abandoned = "01900000-0000-7000-8000-000000000001";
    bank.on(
        1,
        &format!(
            "BEGIN; INSERT INTO accounts VALUES (70000, 1); SELECT pgring.witness('{abandoned}', 'app');
             PREPARE TRANSACTION '{}'",
            bank.gid(abandoned)
        ),
    );
    let proxy = Proxy::start(bank.config());
    eventually_within(PATIENCE, "the other one is finished", || bank.prepared() == 1);
    assert_eq!(proxy.metric("pgring_two_phase_total{outcome=\"recovered-abort\"}"), Some(1.0));
    eventually_within(PATIENCE, "it is shown", || !bank.in_doubt(&proxy).is_empty());
    let shown = bank.in_doubt(&proxy);
    for expected in ["committed", "a superuser, since its role was dropped"] {
        assert!(shown.contains(expected), "{expected}: {shown}");
    }
    let gid = bank.rows(1, "SELECT gid FROM pg_prepared_xacts WHERE database = current_database()");
    bank.rows(1, &format!("COMMIT PREPARED '{gid}'"));
    eventually_within(PATIENCE, "nothing is in doubt", || bank.in_doubt(&proxy).is_empty());
    assert_eq!(bank.balances(), [70, 130]);
}

/// A row that somebody else has made for a transaction that was aborted is no decision of it, nor is one
/// that was committed without its participants, whatever else the forger does; and what another cluster has
/// prepared is let be.
#[test]
fn a_forged_decision_is_replaced() {
    let servers = support::servers(2);
    let bank = Bank::open(&servers);
    let proxy = Proxy::start(bank.config());
    let mut raw = Raw::login(&proxy.address(), APP, &bank.name);
    bank.begin_transfer(&mut raw, 1);
    assert_eq!(said(&mut raw, "COMMIT"), "COMMIT I");
    bank.rows(0, "DELETE FROM pgring.decision");
    let xid = |number: u32| format!("01900000-0000-7000-8000-00000000000{number}");
    // A witness of the forger's own, committed or in flight, proves nothing.
    bank.rows(1, &format!("SELECT pgring.witness('{}', 'postgres')", xid(3)));
    bank.rows(
        1,
        &format!(
            "BEGIN; SELECT pgring.witness('{}', 'postgres'); PREPARE TRANSACTION '{}'",
            xid(4),
            bank.name
        ),
    );
    let forged =
        ["'postgres', '{}'", "'app', NULL", "'postgres', '{}'", "'postgres', '{}'", "'postgres', '{}'"];
    for (number, forged) in (1..).zip(forged) {
        let xid = xid(number);
        let insert = format!(
            "INSERT INTO pgring.decision (xid, verdict, owner, participants) VALUES ('{xid}', 'commit', {forged})"
        );
        bank.rows(0, &insert);
        let cluster = if number == 5 { ":other:" } else { ":test:" };
        bank.on(
            1,
            &format!(
                "BEGIN; INSERT INTO accounts VALUES (7000{number}, 1); SELECT pgring.witness('{xid}', 'app');
                 PREPARE TRANSACTION '{}'",
                bank.gid(&xid).replace(":test:", cluster)
            ),
        );
    }
    eventually_within(PATIENCE, "ours are rolled back", || bank.prepared() == 2);
    let verdicts = "SELECT string_agg(verdict, ' ' ORDER BY xid) FROM pgring.decision";
    assert_eq!(bank.rows(0, verdicts), "abort abort abort abort commit");
    assert_eq!(bank.on(1, "SELECT count(*) FROM accounts"), "1");
    bank.on(1, &format!("ROLLBACK PREPARED '{}'", bank.gid(&xid(5)).replace(":test:", ":other:")));
    bank.rows(1, &format!("ROLLBACK PREPARED '{}'", bank.name));
}
