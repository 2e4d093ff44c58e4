//! Connections whose other end has gone without a word.

#![allow(clippy::unwrap_used, reason = "a test that cannot set up its stage has failed")]

use std::io::Write;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use pgring::demo::binaries::Binaries;
use pgring::demo::cluster::Cluster;
use pgring::demo::sample::APP;

mod support;
use support::raw::Raw;
use support::{Config, Proxy, database, eventually, eventually_within, servers};

/// The time until the keepalive probe of each connection of the machine over IPv4 for which this
/// holds of its local and its remote port (Linux's `/proc/net/tcp`).
fn probes(of: impl Fn(u16, u16) -> bool) -> Vec<Duration> {
    const KEEPALIVE: &str = "02";
    const TICKS_A_SECOND: f64 = 100.0;
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let port = |address: &str| u16::from_str_radix(address.rsplit(':').next().unwrap(), 16).unwrap();
    let rows = table.lines().skip(1).filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (timer, ticks) = fields[5].split_once(':').unwrap();
        let ticks = f64::from(u32::from_str_radix(ticks, 16).unwrap());
        (timer == KEEPALIVE && of(port(fields[1]), port(fields[2])))
            .then(|| Duration::from_secs_f64(ticks / TICKS_A_SECOND))
    });
    rows.collect()
}

#[test]
fn sockets_of_both_sides_are_probed_as_configured() {
    let shards = servers(1);
    let name = database(&shards, "CREATE TABLE t (id bigint)");
    let config = Config::new().database(&name, &shards).set("tcp", "keepalive_idle", "\"20000s\"");
    let mut proxy = Proxy::start(config.clone());
    let is_configured = |probe: &Duration| (19_000..=20_000).contains(&probe.as_secs());
    // While something is unacknowledged, another timer stands there.
    let one = |of: &dyn Fn(u16, u16) -> bool| {
        eventually("one connection is probed as configured", || {
            probes(of).iter().filter(|probe| is_configured(probe)).count() == 1
        });
    };
    let (port, server) = (config.port, shards[0].port());
    let mut client = Raw::login(&proxy.address(), APP, &name);
    assert_eq!(client.value("SELECT 'served'"), "served");
    one(&|local, _| local == port);
    one(&|_, remote| remote == server);

    // New connections have what a reload says.
    proxy.reload(config.set("tcp", "keepalive", "false"));
    eventually("the reload is done", || proxy.log().contains("configuration reloaded"));
    let mut other = Raw::login(&proxy.address(), APP, &name);
    assert_eq!(other.value("SELECT 'served'"), "served");
    one(&|local, _| local == port);
    drop(client);
    eventually("the other is not probed", || probes(|local, _| local == port).is_empty());
    assert_eq!(other.value("SELECT 'served'"), "served");
}

/// A network of its own for a client, connected by a cable that can be cut.
struct Island {
    name: String,
}

impl Island {
    const HERE: &str = "10.213.78.1";

    /// `None`: this system does not let us.
    fn new() -> Option<Island> {
        let name = format!("pgring{}", std::process::id());
        if !ip(&["netns", "add", &name]) {
            return None;
        }
        let island = Island { name };
        let (here, there) = (island.cable('h'), island.cable('t'));
        let net = format!("{}/30", Island::HERE);
        assert!(ip(&["link", "add", &here, "type", "veth", "peer", &there, "netns", &island.name]));
        assert!(ip(&["addr", "add", &net, "dev", &here]) && ip(&["link", "set", &here, "up"]));
        assert!(island.ip(&["addr", "add", "10.213.78.2/30", "dev", &there]));
        assert!(island.ip(&["link", "set", &there, "up"]));
        Some(island)
    }

    fn cable(&self, end: char) -> String {
        format!("pgr{end}{}", std::process::id())
    }

    fn ip(&self, arguments: &[&str]) -> bool {
        ip(&[&["-n", &self.name], arguments].concat())
    }

    /// Packets vanish from now on, both ways.
    fn cut(&self) {
        assert!(self.ip(&["link", "set", &self.cable('t'), "down"]));
    }

    fn mend(&self) {
        assert!(self.ip(&["link", "set", &self.cable('t'), "up"]));
    }

    fn psql(&self, port: u16, name: &str) -> Psql {
        let dsn = format!("postgres://{}:{}@{}:{port}/{name}", APP.name, APP.password, Island::HERE);
        let psql = Binaries::find().unwrap().program("psql");
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]).arg(psql).args(["-X", "-q", "-d", &dsn]);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        Psql(command.spawn().unwrap())
    }
}

/// Ended with the test, however that ends: it would keep its namespace.
struct Psql(Child);

impl Drop for Psql {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Island {
    fn drop(&mut self) {
        // With the namespace goes its end of the cable, and with that ours.
        ip(&["netns", "del", &self.name]);
    }
}

fn ip(arguments: &[&str]) -> bool {
    Command::new("ip").args(arguments).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

/// How many of `app`'s connections are in a transaction.
fn in_transaction(server: &Cluster, name: &str) -> usize {
    let open = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
                AND xact_start IS NOT NULL AND pid <> pg_backend_pid() AND usename = 'app'";
    server.psql(APP, name, open).unwrap().trim().parse().unwrap()
}

/// Has the other end of each connection to this port acknowledged all that was sent (proc(5))?
fn is_acknowledged(port: u16) -> bool {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    table.lines().skip(1).all(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        !fields[1].ends_with(&format!(":{port:04X}"))
            || fields[3] != "01"
            || fields[4].starts_with("00000000:")
    })
}

#[test]
fn a_client_that_falls_silent_does_not_keep_its_transaction() {
    let Some(island) = Island::new() else {
        println!("not tested: network namespaces are not to be had here");
        return;
    };
    let shards = servers(1);
    let name = database(&shards, "CREATE TABLE t (id bigint)");
    let config = Config::new().database(&name, &shards);
    let config = config.clone().set("listen", "address", &format!("\"0.0.0.0:{}\"", config.port));
    let keepalive = config
        .clone()
        .set("tcp", "keepalive_idle", "\"1s\"")
        .set("tcp", "keepalive_interval", "\"1s\"")
        .set("tcp", "keepalive_count", "2");
    // With data on the way there are no probes, and the system would repeat them for a quarter of an
    // hour.
    let user_timeout = config.set("tcp", "user_timeout", "\"2s\"");
    let speaks = "SELECT pg_sleep(1), repeat('x', 100000);\n";
    for (config, last) in [(keepalive, ""), (user_timeout, speaks)] {
        let proxy = Proxy::start(config.clone());
        let mut psql = island.psql(config.port, &name);
        let mut stdin = psql.0.stdin.take().unwrap();
        let heard = config.runtime.path().join("heard");
        let script = format!("BEGIN;\nSELECT 1;\n\\! touch {}\n", heard.display());
        stdin.write_all(script.as_bytes()).unwrap();
        eventually("the transaction is open", || in_transaction(shards[0], &name) == 1 && heard.exists());
        // What is not acknowledged is sent again, and keeps the probes away.
        eventually("nothing is on the way", || is_acknowledged(config.port));
        std::fs::remove_file(&heard).unwrap();
        stdin.write_all(last.as_bytes()).unwrap();
        if !last.is_empty() {
            let asked = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep(1), r%'";
            eventually("it was asked", || shards[0].psql(APP, &name, asked).unwrap().trim() == "1");
        }
        island.cut();
        eventually_within(Duration::from_secs(20), &format!("the client is given up {last:?}"), || {
            in_transaction(shards[0], &name) == 0
        });
        drop(psql);
        island.mend();
        drop(proxy);
    }
}
