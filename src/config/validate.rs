//! Every key outside of `[[database]]`: its name, form, range and default.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use super::databases::databases;
use super::section::{Item, Section, Unique, Zero};
use super::settings::*;
use super::values::{self, PasswordForm, wrong};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const MIB: u64 = 1 << 20;

/// Where the control password is looked for if the file says nothing.
const CONTROL_PASSWORD_VARIABLE: &str = "PGRING_CONTROL_PASSWORD";

/// The whole file. What is reported on the way makes the result worthless.
pub(super) fn settings(root: &mut Section<'_>) -> Settings {
    let auth = auth(root.table("auth"));
    let users = users(root, &auth);
    let names: BTreeSet<&str> = users.iter().map(|user| user.name.as_str()).collect();
    // Whom the database knows is not known here.
    let names = auth.source.is_none().then_some(&names);
    Settings {
        cluster: root.parsed("cluster", "pgring", plain_name).unwrap_or_else(|| "pgring".to_owned()),
        listen: listen(root.table("listen")),
        tcp: tcp(root.table("tcp")),
        http: http(root.table("http")),
        control: control(root.table("control")),
        admin: admin(root.table("admin"), names),
        pool: pool(root.table("pool")),
        health: health(root.table("health")),
        routing: routing(root.table("routing")),
        databases: databases(root),
        auth,
        users,
    }
}

fn plain_name(text: &str) -> Result<String, values::Wrong> {
    values::plain_name(text).map(|()| text.to_owned())
}

fn catalog_name(text: &str) -> Result<String, values::Wrong> {
    values::catalog_name(text).map(|()| text.to_owned())
}

fn listen(mut section: Section<'_>) -> Listen {
    Listen {
        addresses: listen_addresses(&mut section),
        max_clients: section.number("max_clients", 1..=1_000_000, 10_000),
        login_timeout: section.duration("login_timeout", MINUTE, Zero::Refused),
        drain_timeout: section.duration("drain_timeout", 30 * SECOND, Zero::Allowed),
        runtime_dir: runtime_dir(&mut section),
        tls: listen_tls(&mut section),
    }
}

fn runtime_dir(section: &mut Section<'_>) -> RuntimeDir {
    match section.item("runtime_dir", "/run/pgring/peers") {
        None => RuntimeDir::Usual,
        Some(item) if item.text == "off" => RuntimeDir::Off,
        Some(item) => {
            if item.text.is_empty() {
                item.report(wrong("must not be empty", "name a directory, or \"off\""));
            }
            RuntimeDir::At(item.base().join(item.text))
        }
    }
}

fn tcp(mut section: Section<'_>) -> Tcp {
    let on = section.boolean("keepalive", true);
    let keepalive = Keepalive {
        idle: seconds(&mut section, "keepalive_idle", MINUTE),
        interval: seconds(&mut section, "keepalive_interval", 15 * SECOND),
        // What Linux takes (MAX_TCP_KEEPCNT).
        count: section.number("keepalive_count", 1..=127, 4),
    };
    Tcp { keepalive: on.then_some(keepalive), user_timeout: section.off_or_duration("user_timeout") }
}

/// A duration that the system counts in seconds, up to what Linux takes (MAX_TCP_KEEPIDLE).
fn seconds(section: &mut Section<'_>, key: &'static str, default: Duration) -> Duration {
    const MOST: Duration = Duration::from_secs(32_767);
    let duration = section.duration(key, default, Zero::Refused);
    if duration.subsec_nanos() != 0 || duration > MOST {
        let message = "must be whole seconds, at most 32767s";
        section.report(key, wrong(message, format!("write \"{}s\"", duration.as_secs().clamp(1, 32_767))));
        return default;
    }
    duration
}

fn listen_addresses(section: &mut Section<'_>) -> Vec<ListenAddress> {
    const KEY: &str = "address";
    let Some(items) = section.items(KEY, "127.0.0.1:6432") else {
        return vec![ListenAddress::Tcp(SocketAddr::from(([127, 0, 0, 1], 6432)))];
    };
    if section.is_empty_list(KEY) {
        section.report(KEY, wrong("must name at least one address", "write one such as \"127.0.0.1:6432\""));
    }
    let tcp_port = |item: &Item<'_>| item.text.parse().ok().map(|address: SocketAddr| address.port());
    let first_port = items.iter().find_map(tcp_port).filter(|port| *port > 0);
    let mut unique = Unique::new("listened on");
    let mut addresses = Vec::new();
    for item in &items {
        let Some(address) = item.parse(|text| values::listen_address(text, item.base(), first_port)) else {
            continue;
        };
        let is_chosen_by_the_system = matches!(address, ListenAddress::Tcp(tcp) if tcp.port() == 0);
        if !is_chosen_by_the_system {
            unique.check(address.to_string(), item);
        }
        addresses.push(address);
    }
    addresses
}

fn listen_tls(section: &mut Section<'_>) -> ListenTls {
    #[derive(Clone, Copy, PartialEq)]
    enum Mode {
        Disable,
        Allow,
        Require,
    }
    const KEYS: [&str; 3] = ["tls_certificate", "tls_key", "tls_client_ca"];
    let mode = section
        .choice("tls", &[("disable", Mode::Disable), ("allow", Mode::Allow), ("require", Mode::Require)]);
    if mode == Mode::Disable {
        // The files are not used and need not exist; a wrong type is a mistake all the same.
        for key in KEYS {
            section.item(key, "server.pem");
        }
        return ListenTls::Disable;
    }
    let [certificate, key, client_ca] = KEYS;
    let needed = Some("name the file, or set tls to \"disable\"");
    let certificate = section.pem_file(certificate, "server.crt", "CERTIFICATE", needed);
    let key = section.pem_file(key, "server.key", "PRIVATE KEY", needed);
    let client_ca = section.pem_file(client_ca, "ca.crt", "CERTIFICATE", None);
    let files =
        TlsFiles { certificate: certificate.unwrap_or_default(), key: key.unwrap_or_default(), client_ca };
    if mode == Mode::Require { ListenTls::Require(files) } else { ListenTls::Allow(files) }
}

fn http(mut section: Section<'_>) -> Http {
    let address = section.parsed("address", "127.0.0.1:9464", |text| match text {
        "off" => Ok(None),
        text => values::socket_address(text, 9464).map(Some),
    });
    Http { address: address.unwrap_or(Some(SocketAddr::from(([127, 0, 0, 1], 9464)))) }
}

fn control(mut section: Section<'_>) -> Control {
    let user = section.parsed("user", "pgring", catalog_name).unwrap_or_else(|| "pgring".to_owned());
    let password = if section.has("password") {
        section.secret("password").inspect(|password| refuse_hash(&mut section, "password", password))
    } else {
        section.environment(CONTROL_PASSWORD_VARIABLE).map(Secret::new)
    };
    Control { user, password, given: section.is_given() }
}

fn auth(mut section: Section<'_>) -> Auth {
    let given = section.has("query");
    let query = section.boolean("query", false);
    let function = section.parsed("function", "pgring.user_lookup", values::function_name);
    if function.is_some() && given && !query {
        section.report("function", wrong("is named, and query is false", "remove one of them"));
    }
    let source = match function {
        Some(function) => Some(UserSource::Function(function)),
        None => query.then_some(UserSource::Catalog),
    };
    Auth {
        source,
        cache: section.duration("cache", 10 * SECOND, Zero::Allowed),
        cache_size: section.number("cache_size", 1..=10_000_000, 10_000),
    }
}

fn admin(mut section: Section<'_>, names: Option<&BTreeSet<&str>>) -> Admin {
    let mut list = |key| {
        let items = section.items(key, "ops").unwrap_or_default();
        let mut unique = Unique::new("named");
        for item in &items {
            unique.check(item.text, item);
            if names.is_some_and(|names| !names.contains(item.text)) {
                item.report(wrong(
                    format!("\"{}\" is no [[user]]", item.text),
                    format!("add a [[user]] with name = \"{}\", or remove it here", item.text),
                ));
            }
        }
        items.iter().map(|item| item.text.to_owned()).collect()
    };
    Admin { users: list("users"), stats_users: list("stats_users") }
}

fn pool(mut section: Section<'_>) -> Pool {
    let pool = Pool {
        mode: section
            .choice("mode", &[("transaction", PoolMode::Transaction), ("session", PoolMode::Session)]),
        size: section.number("size", 1..=100_000, 20),
        min_idle: section.number("min_idle", 0..=100_000, 0),
        checkout_timeout: section.duration("checkout_timeout", 5 * SECOND, Zero::Refused),
        idle_timeout: section.duration("idle_timeout", 10 * MINUTE, Zero::Refused),
        max_lifetime: section.duration("max_lifetime", HOUR, Zero::Refused),
        connect_timeout: section.duration("connect_timeout", 5 * SECOND, Zero::Refused),
        query_timeout: section.off_or_duration("query_timeout"),
        idle_transaction_timeout: section.off_or_duration("idle_transaction_timeout"),
        client_idle_timeout: section.off_or_duration("client_idle_timeout"),
        prepared_statements: section.number("prepared_statements", 1..=1_000_000, 500),
    };
    if pool.min_idle > pool.size {
        let message = format!("must be at most pool.size, which is {}", pool.size);
        section.report("min_idle", wrong(message, "lower it, or raise pool.size"));
    }
    pool
}

fn health(mut section: Section<'_>) -> Health {
    Health {
        interval: section.duration("interval", SECOND, Zero::Refused),
        timeout: section.duration("timeout", 2 * SECOND, Zero::Refused),
        failures: section.number("failures", 1..=1000, 3),
        max_replica_lag: section.duration("max_replica_lag", 10 * SECOND, Zero::Refused),
        failover_hold: section.duration("failover_hold", 15 * SECOND, Zero::Allowed),
    }
}

fn routing(mut section: Section<'_>) -> Routing {
    Routing {
        reads: section.choice("reads", &Reads::CHOICES),
        read_your_writes: section.boolean("read_your_writes", true),
        read_your_writes_wait: section.duration(
            "read_your_writes_wait",
            Duration::from_millis(50),
            Zero::Allowed,
        ),
        cross_shard: section.choice(
            "cross_shard",
            &[
                ("allow", CrossShard::Allow),
                ("read-only", CrossShard::ReadOnly),
                ("refuse", CrossShard::Refuse),
            ],
        ),
        gather_memory_bytes: section.size("gather_memory", 64 * MIB),
        gather_limit_bytes: section.size("gather_limit", 1024 * MIB),
        deadlock_timeout: section.duration("deadlock_timeout", SECOND, Zero::Refused),
    }
}

fn users(root: &mut Section<'_>, auth: &Auth) -> Vec<User> {
    let sections = root.tables("user");
    let needed = auth.source.is_none();
    if needed && sections.is_empty() && (!root.has("user") || root.is_empty_list("user")) {
        root.report("user", wrong("is missing", "add a [[user]] with a name and a password"));
    }
    let mut names = Unique::new("a user's name");
    sections.into_iter().map(|section| user(section, &mut names)).collect()
}

fn user<'d>(mut section: Section<'d>, names: &mut Unique<&'d str>) -> User {
    let name = section.required_item("name", "app", "set it to the name clients log in with");
    if let Some(item) = &name {
        item.parse(values::catalog_name);
        names.check(item.text, item);
    }
    if !section.has("password") {
        section.report("password", wrong("is missing", "set it to the password clients log in with"));
    }
    let password = section.secret("password");
    let server_password = section.secret("server_password");
    if let Some(secret) = &server_password {
        refuse_hash(&mut section, "server_password", secret);
    }
    match password.as_ref().map(|password| values::password_form(password.reveal())) {
        Some(_) if password.as_ref().is_some_and(|password| password.reveal().is_empty()) => {
            section
                .report("password", wrong("must not be empty", "set it to the password clients log in with"));
        }
        Some(Err(wrong)) => section.report("password", wrong),
        _ => {}
    }
    User {
        name: name.map(|item| item.text.to_owned()).unwrap_or_default(),
        password: password.unwrap_or_else(|| Secret::new("")),
        server_password,
    }
}

/// For passwords that pgring itself logs in with.
fn refuse_hash(section: &mut Section<'_>, key: &'static str, password: &Secret) {
    if values::password_form(password.reveal()) != Ok(PasswordForm::Plain) {
        section.report(
            key,
            wrong("is a hash, which cannot be used to log in to PostgreSQL", "set it to the plain password"),
        );
    }
}
