//! The settings in force, key by key, for `SHOW CONFIG`: values are written as a file would
//! write them, so what is shown can be copied into one. Secrets are not shown.

use std::time::Duration;

use super::settings::*;

/// One key of the sections outside of users and databases.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Listed {
    /// `pool.size`
    pub key: &'static str,
    /// As written in a file, without quotes.
    pub value: String,
    /// What it would be if the file did not name it.
    pub default: String,
    /// Whether a reload applies it.
    pub changeable: bool,
}

/// Every key outside of users and databases, in the order of the manual.
pub fn listing(settings: &Settings) -> Vec<Listed> {
    values(settings)
        .into_iter()
        .map(|(key, value, default)| Listed {
            key,
            value,
            default: default.to_owned(),
            changeable: !super::diff::NEEDS_RESTART.contains(&key),
        })
        .collect()
}

fn values(settings: &Settings) -> Vec<(&'static str, String, &'static str)> {
    let Settings {
        cluster,
        listen,
        tcp,
        http,
        control,
        auth,
        admin,
        pool,
        health,
        routing,
        users: _,
        databases: _,
    } = settings;
    let keepalive = tcp.keepalive.as_ref();
    let runtime_dir = match &listen.runtime_dir {
        RuntimeDir::Usual => String::new(),
        RuntimeDir::Off => "off".to_owned(),
        RuntimeDir::At(path) => path.display().to_string(),
    };
    let (tls, files) = match &listen.tls {
        ListenTls::Disable => ("disable", None),
        ListenTls::Allow(files) => ("allow", Some(files)),
        ListenTls::Require(files) => ("require", Some(files)),
    };
    let file =
        |path: Option<&std::path::PathBuf>| path.map(|path| path.display().to_string()).unwrap_or_default();
    vec![
        ("cluster", cluster.clone(), "pgring"),
        ("listen.address", joined(&listen.addresses), "127.0.0.1:6432"),
        ("listen.max_clients", listen.max_clients.to_string(), "10000"),
        ("listen.login_timeout", duration(listen.login_timeout), "1m"),
        ("listen.drain_timeout", duration(listen.drain_timeout), "30s"),
        ("listen.runtime_dir", runtime_dir, ""),
        ("listen.tls", tls.to_owned(), "disable"),
        ("listen.tls_certificate", file(files.map(|files| &files.certificate)), ""),
        ("listen.tls_key", file(files.map(|files| &files.key)), ""),
        ("listen.tls_client_ca", file(files.and_then(|files| files.client_ca.as_ref())), ""),
        ("tcp.keepalive", keepalive.is_some().to_string(), "true"),
        ("tcp.keepalive_idle", duration(keepalive.map(|it| it.idle).unwrap_or_default()), "1m"),
        ("tcp.keepalive_interval", duration(keepalive.map(|it| it.interval).unwrap_or_default()), "15s"),
        ("tcp.keepalive_count", keepalive.map_or(0, |it| it.count).to_string(), "4"),
        ("tcp.user_timeout", off_or_duration(tcp.user_timeout), "0"),
        (
            "http.address",
            http.address.map_or("off".to_owned(), |address| address.to_string()),
            "127.0.0.1:9464",
        ),
        ("control.user", control.user.clone(), "pgring"),
        ("control.password", control.password.as_ref().map(Secret::to_string).unwrap_or_default(), ""),
        ("auth.query", auth.source.is_some().to_string(), "false"),
        (
            "auth.function",
            match &auth.source {
                Some(UserSource::Function(function)) => function.to_string(),
                _ => String::new(),
            },
            "",
        ),
        ("auth.cache", duration(auth.cache), "10s"),
        ("auth.cache_size", auth.cache_size.to_string(), "10000"),
        ("admin.users", joined(&admin.users), ""),
        ("admin.stats_users", joined(&admin.stats_users), ""),
        (
            "pool.mode",
            match pool.mode {
                PoolMode::Transaction => "transaction",
                PoolMode::Session => "session",
            }
            .to_owned(),
            "transaction",
        ),
        ("pool.size", pool.size.to_string(), "20"),
        ("pool.min_idle", pool.min_idle.to_string(), "0"),
        ("pool.checkout_timeout", duration(pool.checkout_timeout), "5s"),
        ("pool.idle_timeout", duration(pool.idle_timeout), "10m"),
        ("pool.max_lifetime", duration(pool.max_lifetime), "1h"),
        ("pool.connect_timeout", duration(pool.connect_timeout), "5s"),
        ("pool.query_timeout", off_or_duration(pool.query_timeout), "0"),
        ("pool.idle_transaction_timeout", off_or_duration(pool.idle_transaction_timeout), "0"),
        ("pool.client_idle_timeout", off_or_duration(pool.client_idle_timeout), "0"),
        ("pool.prepared_statements", pool.prepared_statements.to_string(), "500"),
        ("health.interval", duration(health.interval), "1s"),
        ("health.timeout", duration(health.timeout), "2s"),
        ("health.failures", health.failures.to_string(), "3"),
        ("health.max_replica_lag", duration(health.max_replica_lag), "10s"),
        ("health.failover_hold", duration(health.failover_hold), "15s"),
        ("routing.reads", routing.reads.name().to_owned(), "primary"),
        ("routing.read_your_writes", routing.read_your_writes.to_string(), "true"),
        ("routing.read_your_writes_wait", duration(routing.read_your_writes_wait), "50ms"),
        (
            "routing.cross_shard",
            match routing.cross_shard {
                CrossShard::Allow => "allow",
                CrossShard::ReadOnly => "read-only",
                CrossShard::Refuse => "refuse",
            }
            .to_owned(),
            "allow",
        ),
        ("routing.gather_memory", size(routing.gather_memory_bytes), "64MiB"),
        ("routing.gather_limit", size(routing.gather_limit_bytes), "1GiB"),
        ("routing.deadlock_timeout", duration(routing.deadlock_timeout), "1s"),
    ]
}

fn joined<T: ToString>(items: &[T]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn off_or_duration(value: Option<Duration>) -> String {
    duration(value.unwrap_or_default())
}

/// In the largest unit that is exact.
fn duration(value: Duration) -> String {
    let milliseconds = value.as_millis();
    let units = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];
    match units.into_iter().find(|(_, unit)| milliseconds.is_multiple_of(*unit)) {
        Some((name, unit)) if milliseconds > 0 => format!("{}{name}", milliseconds / unit),
        _ => "0".to_owned(),
    }
}

/// In the largest unit that is exact.
fn size(bytes: u64) -> String {
    let units = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10), ("B", 0)];
    match units.into_iter().find(|(_, shift)| bytes.is_multiple_of(1 << shift)) {
        Some((name, shift)) if bytes > 0 => format!("{}{name}", bytes >> shift),
        _ => "0".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{parse, values as written};
    use super::*;
    use std::path::Path;

    const REST: &str = "[[user]]\nname = \"app\"\npassword = \"hidden\"\n[[database]]\nname = \"d\"\n\
        [[database.shard]]\nname = \"s\"\nendpoints = [\"h\"]\n";

    #[test]
    fn the_defaults_are_the_readers() {
        let settings = parse(&format!("control.password = \"x\"\n{REST}"), Path::new("pgring.toml")).unwrap();
        for Listed { key, value, default, .. } in listing(&settings) {
            if key != "control.password" {
                assert_eq!(value, default, "{key}");
            }
        }
    }

    #[test]
    fn values_are_shown_and_secrets_are_not() {
        let text = format!(
            "[listen]\naddress = [\"127.0.0.1:1\", \"unix:/x\"]\n[pool]\nquery_timeout = \"90s\"\n\
             [control]\npassword = \"hidden\"\n[http]\naddress = \"off\"\n{REST}"
        );
        let listing = listing(&parse(&text, Path::new("pgring.toml")).unwrap());
        let shown = |key| listing.iter().find(|listed| listed.key == key).unwrap();
        assert_eq!(shown("listen.address").value, "127.0.0.1:1, unix:/x:1");
        assert!(!shown("listen.address").changeable && !shown("cluster").changeable);
        assert!(shown("pool.query_timeout").changeable);
        assert_eq!(shown("pool.query_timeout").value, "90s");
        assert_eq!(shown("http.address").value, "off");
        assert_eq!(shown("control.password").value, "***");
        assert!(!format!("{listing:?}").contains("hidden"));
    }

    #[test]
    fn what_is_shown_can_be_written() {
        for milliseconds in [0, 1, 200, 999, 1_000, 90_000, 60_000, 3_600_000, 5_400_000, 86_400_000] {
            let value = Duration::from_millis(milliseconds);
            assert_eq!(written::duration(&duration(value)), Ok(value));
        }
        for bytes in [0, 1, 1023, 1024, 1 << 20, 3 << 30, (1 << 30) + 1, 5 << 40] {
            assert_eq!(written::size(&size(bytes)), Ok(bytes));
        }
    }
}
