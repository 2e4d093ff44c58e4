//! Health, schema discovery and `check --connect` against real servers.

#![allow(clippy::unwrap_used, reason = "a test that cannot set up its stage has failed")]

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use pgring::app::check::{DatabasePlan, Level, Plan, Report, ShardPlan, connect_report};
use pgring::app::schema::{self, DatabaseRules, Rule, SchemaError, TableRule};
use pgring::backend::tls::client_config;
use pgring::config::{Endpoint, Secret, TlsMode};
use pgring::demo::cluster::{Cluster, Installation, SUPERUSER, Settings, free_port};
use pgring::demo::sample::{APP, CONTROL};
use pgring::pool::health::{
    EndpointSpec, HealthSettings, Login, NoPrimary, Prober, Purpose, Role, ShardBoard, ShardSnapshot, State,
    Tls,
};
use pgring::sql::{KeyType, TableKind};
use tokio::runtime::Handle;

mod support;
use support::{database, own_servers, sample_database, servers, unique_name};

const PATIENCE: Duration = Duration::from_secs(20);

fn settings() -> HealthSettings {
    HealthSettings { interval: Duration::from_millis(100), ..HealthSettings::default() }
}

fn login(login: pgring::demo::cluster::Login<'_>) -> Login {
    Login { user: login.name.to_owned(), password: Some(Secret::new(login.password)) }
}

fn at(server: &Cluster) -> Endpoint {
    Endpoint::Tcp { host: "127.0.0.1".to_owned(), port: server.port() }
}

fn spec(purpose: Purpose, address: Endpoint) -> EndpointSpec {
    EndpointSpec {
        database: "db".to_owned(),
        shard: "s1".to_owned(),
        address,
        purpose,
        expected: None,
        dbname: "postgres".to_owned(),
        login: login(CONTROL),
        tls: Tls::disabled(),
    }
}

fn serving(servers: &[&Cluster]) -> Vec<EndpointSpec> {
    servers.iter().map(|server| spec(Purpose::Serving, at(server))).collect()
}

fn replica(primary: &Cluster) -> Cluster {
    let data = primary.data().with_file_name(unique_name("replica"));
    primary.replica(&data, Settings { disposable: true, ..Settings::default() }).unwrap()
}

fn watch(specs: Vec<EndpointSpec>) -> (Prober, Arc<ShardBoard>) {
    let prober = Prober::start(Handle::current(), specs, settings());
    let board = prober.board().shard("db", "s1").unwrap();
    (prober, board)
}

/// Waits for a snapshot of which something is true.
async fn until(
    board: &ShardBoard,
    what: &str,
    reached: impl Fn(&ShardSnapshot) -> bool,
) -> Arc<ShardSnapshot> {
    let waiting = async {
        loop {
            let snapshot = board.load_full();
            if reached(&snapshot) {
                return snapshot;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let reached = tokio::time::timeout(PATIENCE, waiting).await;
    reached.unwrap_or_else(|_| panic!("still not so: {what}: {:#?}", board.load_full()))
}

fn primary_is(snapshot: &ShardSnapshot, server: &Cluster) -> bool {
    snapshot.primary().is_ok_and(|endpoint| endpoint.address == at(server))
}

fn superuser(server: &Cluster, sql: &str) -> String {
    server.psql(SUPERUSER, "postgres", sql).unwrap().trim().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_promoted_replica_is_the_primary_and_the_old_one_is_not_taken_back() {
    let mut old = own_servers(1).remove(0);
    let new = replica(&old);
    let (_prober, board) = watch(serving(&[&old, &new]));

    let snapshot = board.wait_for_primary(PATIENCE).await.unwrap();
    assert!(primary_is(&snapshot, &old));
    let snapshot = until(&board, "the replica serves reads", |now| now.replicas().count() == 1).await;
    let probe = snapshot.endpoints[0].health.probe.clone().unwrap();
    assert_eq!((probe.role(), probe.timeline), (Role::Primary, Some(1)));
    assert_eq!(probe.max_prepared_transactions, 64);
    assert_eq!(
        probe.system_identifier,
        snapshot.endpoints[1].health.probe.as_ref().unwrap().system_identifier
    );
    assert_eq!(snapshot.endpoints[1].health.lag, Some(Duration::ZERO));

    old.crash().unwrap();
    let snapshot = until(&board, "the primary is lost", |now| now.primary().is_err()).await;
    assert_eq!(snapshot.primary().unwrap_err(), &NoPrimary::NoneUp);
    assert!(matches!(&snapshot.endpoints[0].health.state, State::Down { .. }));
    assert_eq!(snapshot.replicas().count(), 1, "a replica serves reads without a primary");

    superuser(&new, "SELECT pg_promote(true)");
    let snapshot = board.wait_for_primary(PATIENCE).await.unwrap();
    assert!(primary_is(&snapshot, &new));
    // the control file may still say 1 here
    assert_eq!(snapshot.primary().unwrap().health.probe.as_ref().unwrap().timeline, Some(2));

    old.restart().unwrap();
    let snapshot = until(&board, "the old primary is refused", |now| now.roles.refused.len() == 1).await;
    assert!(primary_is(&snapshot, &new));
    assert_eq!(
        snapshot.roles.refused[0].1.to_string(),
        "takes writes on timeline 1, but timeline 2 has been seen"
    );

    // Nor is it taken when the new one is gone.
    drop(new);
    let snapshot = until(&board, "nobody is primary", |now| now.primary().is_err()).await;
    assert!(
        matches!(snapshot.primary().unwrap_err(), NoPrimary::Fenced { timeline: 2, .. }),
        "{snapshot:#?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_goes_and_comes_back_is_down_and_up() {
    let mut server = own_servers(1).remove(0);
    let (_prober, board) = watch(serving(&[&server]));
    board.wait_for_primary(PATIENCE).await.unwrap();
    server.stop().unwrap();
    until(&board, "it is down", |now| now.primary().is_err()).await;
    // A probe that was under way as it went has heard something else.
    until(&board, "nobody listens there", |now| match &now.endpoints[0].health.state {
        State::Down { error, .. } => error.to_string() == "connection refused",
        _ => false,
    })
    .await;
    let waiting = tokio::spawn({
        let board = Arc::clone(&board);
        async move { board.wait_for_primary(PATIENCE).await.is_ok() }
    });
    server.restart().unwrap();
    assert!(waiting.await.unwrap(), "who waits for a primary is woken");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_server_at_all_is_no_primary_at_once() {
    let nobody = Endpoint::Tcp { host: "127.0.0.1".to_owned(), port: free_port().unwrap() };
    let (_prober, board) = watch(vec![spec(Purpose::Serving, nobody)]);
    until(&board, "it is known", |now| now.primary() == Err(&NoPrimary::NoneUp)).await;
    let held = board.wait_for_primary(Duration::from_millis(50)).await;
    assert_eq!(held.unwrap_err(), NoPrimary::NoneUp);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_primaries_of_one_cluster_are_both_refused() {
    let mut one = own_servers(1).remove(0);
    let mut other = own_servers(1).remove(0); // a copy of the same template: one system identifier
    let (_prober, board) = watch(serving(&[&one, &other]));
    let conflict = |now: &ShardSnapshot| matches!(now.primary(), Err(NoPrimary::Conflict { .. }));
    until(&board, "they are in conflict", conflict).await;
    other.stop().unwrap();
    let snapshot = board.wait_for_primary(PATIENCE).await.unwrap();
    assert!(primary_is(&snapshot, &one));
    one.stop().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn another_clusters_server_is_refused() {
    let shards = servers(2);
    let (mut prober, board) = watch(serving(&shards[..1]));
    board.wait_for_primary(PATIENCE).await.unwrap();
    prober.update(serving(&shards[..2]), settings());
    let snapshot = until(&board, "it is refused", |now| now.roles.refused.len() == 1).await;
    assert!(primary_is(&snapshot, shards[0]));
    assert!(snapshot.roles.refused[0].1.to_string().starts_with("belongs to another cluster"));
    // a reload that names another cluster altogether is meant
    prober.update(serving(&shards[1..2]), settings());
    until(&board, "the other one is primary", |now| primary_is(now, shards[1])).await;
    prober.update(Vec::new(), settings());
    assert_eq!(prober.tasks(), 0);
    assert!(prober.board().shard("db", "s1").is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_without_rights_knows_less_but_finds_the_primary() {
    let server = own_servers(1).remove(0);
    superuser(
        &server,
        "REVOKE EXECUTE ON FUNCTION pg_control_system() FROM public; \
         REVOKE EXECUTE ON FUNCTION pg_control_system() FROM pg_monitor; \
         REVOKE EXECUTE ON FUNCTION pg_walfile_name(pg_lsn) FROM public",
    );
    let (_prober, board) = watch(serving(&[&server]));
    let snapshot = board.wait_for_primary(PATIENCE).await.unwrap();
    let probe = snapshot.primary().unwrap().health.probe.clone().unwrap();
    assert_eq!((probe.system_identifier, probe.timeline), (None, None));
    assert!(probe.lsn.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_kept_from_writes_is_no_primary_and_a_probe_can_be_had_at_once() {
    let server = own_servers(1).remove(0);
    let slow = HealthSettings { interval: Duration::from_secs(3600), ..HealthSettings::default() };
    let prober = Prober::start(Handle::current(), serving(&[&server]), slow);
    let board = prober.board().shard("db", "s1").unwrap();
    board.wait_for_primary(PATIENCE).await.unwrap();
    superuser(&server, "ALTER SYSTEM SET default_transaction_read_only = on");
    superuser(&server, "SELECT pg_reload_conf()");
    let asking = async {
        while board.load().primary().is_ok() {
            board.probe_now();
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, asking).await.unwrap();
    assert_eq!(board.load().endpoints[0].health.serving_role(), Some(Role::ReadOnly));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_nobody_sends_to_falls_behind() {
    let primary = own_servers(1).remove(0);
    let cut_off = replica(&primary);
    let near = HealthSettings { max_replica_lag: Duration::from_millis(500), ..settings() };
    let prober = Prober::start(Handle::current(), serving(&[&primary, &cut_off]), near);
    let board = prober.board().shard("db", "s1").unwrap();
    until(&board, "the replica serves reads", |now| now.replicas().count() == 1).await;
    superuser(&cut_off, "ALTER SYSTEM SET primary_conninfo = ''");
    superuser(&cut_off, "SELECT pg_reload_conf()");
    superuser(&primary, "CREATE TABLE written (id int); INSERT INTO written VALUES (1)");
    // It has replayed all that it has received, all the same.
    let snapshot = until(&board, "it serves none", |now| now.replicas().count() == 0).await;
    assert!(matches!(snapshot.endpoints[1].health.state, State::Lagging { .. }));
    assert!(snapshot.endpoints[1].health.lag.is_none_or(|lag| lag > near.max_replica_lag));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_probed_over_tls_as_its_mode_says() {
    let server = own_servers(1).remove(0);
    let name = ["localhost".to_owned()];
    let certified = rcgen::generate_simple_self_signed(name).unwrap();
    let account = Installation::find().unwrap().account;
    account.write(&server.data().join("server.key"), &certified.signing_key.serialize_pem()).unwrap();
    account.write(&server.data().join("server.crt"), &certified.cert.pem()).unwrap();
    let private = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(server.data().join("server.key"), private).unwrap();

    let trusted = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(trusted.path(), certified.cert.pem()).unwrap();
    let probed = async |mode, ca: Option<&Path>, host: &str| {
        support::eventually("the last probe's connection has ended", || {
            superuser(&server, "SELECT count(*) FROM pg_stat_activity WHERE usename = 'pgring'") == "0"
        });
        let tls = Tls { mode, config: client_config(mode, ca).unwrap() };
        let address = Endpoint::Tcp { host: host.to_owned(), port: server.port() };
        let (_prober, board) = watch(vec![EndpointSpec { tls, ..spec(Purpose::Serving, address) }]);
        let heard = |now: &ShardSnapshot| now.endpoints[0].health.state != State::Unknown;
        let state = until(&board, "it is heard of", heard).await.endpoints[0].health.state.clone();
        let encrypted = superuser(
            &server,
            "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
                                WHERE ssl AND usename = 'pgring'",
        );
        match state {
            State::Up { .. } => format!("up {encrypted}"),
            State::Down { error, .. } => error.to_string(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(probed(TlsMode::Prefer, None, "127.0.0.1").await, "up 0", "the server has no TLS yet");
    assert_eq!(probed(TlsMode::Require, None, "127.0.0.1").await, "server does not support TLS");
    superuser(&server, "ALTER SYSTEM SET ssl = on");
    superuser(&server, "SELECT pg_reload_conf()");
    // Backends see a reload when they next start.
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(probed(TlsMode::Prefer, None, "127.0.0.1").await, "up 1");
    assert_eq!(probed(TlsMode::Require, None, "127.0.0.1").await, "up 1");
    assert_eq!(probed(TlsMode::Disable, None, "127.0.0.1").await, "up 0");
    assert_eq!(probed(TlsMode::VerifyFull, Some(trusted.path()), "localhost").await, "up 1");
    let other_name = probed(TlsMode::VerifyFull, Some(trusted.path()), "127.0.0.1").await;
    assert!(other_name.contains("certificate"), "{other_name}");
    let unknown_authority = probed(TlsMode::VerifyFull, None, "localhost").await;
    assert!(unknown_authority.contains("certificate"), "{unknown_authority}");
}

fn rules(tables: &[(&str, Option<&str>)]) -> DatabaseRules {
    let tables = tables.iter().map(|(name, key)| TableRule {
        name: (*name).to_owned(),
        rule: key.map_or(Rule::Reference, |key| Rule::Key(key.to_owned())),
    });
    DatabaseRules { key: Some("user_id".to_owned()), tables: tables.collect() }
}

fn sample_rules() -> DatabaseRules {
    rules(&[("users", Some("id")), ("plans", None)])
}

#[tokio::test]
async fn the_samples_schema_is_understood() {
    let shards = servers(1);
    let name = sample_database(&shards);
    let client = support::connect(&shards[0].dsn(CONTROL, &name)).await;
    let found = schema::discover(&client, &sample_rules(), 7).await.unwrap();
    assert_eq!(found.warnings, Vec::<String>::new());
    assert_eq!(found.schema.epoch, 7);
    let kind = |table: &str| found.schema.table("public", table).unwrap().kind.clone();
    assert_eq!(kind("users"), TableKind::Sharded { key: 0, key_type: KeyType::Integer });
    assert_eq!(kind("jobs"), TableKind::Sharded { key: 1, key_type: KeyType::Integer });
    assert_eq!(kind("plans"), TableKind::Reference);
    assert_eq!(kind("app_settings"), TableKind::Home);
    let jobs = found.schema.table("public", "jobs").unwrap();
    assert_eq!(
        jobs.columns,
        ["id", "user_id", "name", "schedule", "status", "priority", "created_at"].map(str::to_owned)
    );
    assert_eq!(found.catalog.encoding, "UTF8");
}

#[tokio::test]
async fn what_a_catalog_can_hold() {
    let shards = servers(1);
    let name = database(
        &shards,
        r#"
        CREATE DOMAIN id_type AS bigint CHECK (VALUE > 0);
        CREATE DOMAIN user_key AS id_type;
        CREATE TABLE a (dropped int, note text, user_id user_key);
        ALTER TABLE a DROP COLUMN dropped;
        CREATE TABLE b (user_id varchar(10) COLLATE "C");
        CREATE TABLE c (user_id uuid) PARTITION BY HASH (user_id);
        CREATE TABLE c_0 PARTITION OF c FOR VALUES WITH (MODULUS 1, REMAINDER 0);
        CREATE SCHEMA "Other";
        CREATE TABLE "Other"."Mixed" ("user_id" smallint, "Second" text);
        CREATE TABLE "Other".plain (id serial);
        CREATE VIEW v AS SELECT user_id AS who FROM a;
        CREATE MATERIALIZED VIEW m AS SELECT user_id, count(*) FROM a GROUP BY user_id;
        CREATE TEMP TABLE temporary (user_id jsonb);
        CREATE TYPE mood AS ENUM ('sad', 'happy');
        CREATE DOMAIN positive AS int CHECK (VALUE > 0);
        CREATE DOMAIN named AS regclass;
        CREATE TYPE pair AS (a int, b text);
        CREATE TYPE feeling AS (who int, how mood);
        CREATE TYPE span AS RANGE (subtype = float8);
        CREATE TABLE "Other".carried (
            number numeric(5, 2), texts text[], mood mood, moods mood[], positive positive, positives positive[],
            pair pair, pairs pair[], feeling feeling, relation regclass, relations regclass[], named named,
            acl aclitem, span span, ranges int4range[]
        );
        CREATE TABLE "Other".guarded (id int);
        ALTER TABLE "Other".guarded ENABLE ROW LEVEL SECURITY;
        CREATE FUNCTION f(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 1';
        CREATE FUNCTION f(text) RETURNS int LANGUAGE sql STABLE AS 'SELECT 1';
        CREATE FUNCTION g() RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 1';
        "#,
    );
    let client = support::connect(&shards[0].dsn(APP, &name)).await;
    let found = schema::discover(&client, &rules(&[]), 1).await.unwrap();
    let show = |schema: &str, table: &str| {
        let table = found.schema.table(schema, table).unwrap();
        format!("{} {:?}", table.columns.join(","), table.kind)
    };
    assert_eq!(show("public", "a"), "note,user_id Sharded { key: 1, key_type: Integer }");
    assert_eq!(show("public", "b"), "user_id Sharded { key: 0, key_type: Text }");
    assert_eq!(show("public", "c"), "user_id Sharded { key: 0, key_type: Uuid }");
    assert_eq!(show("public", "c_0"), "user_id Sharded { key: 0, key_type: Uuid }");
    assert_eq!(show("Other", "Mixed"), "user_id,Second Sharded { key: 0, key_type: Integer }");
    assert_eq!(show("Other", "plain"), "id Home");
    assert_eq!(show("Other", "plain_id_seq"), " Sequence");
    for view in ["v", "m"] {
        let shown = show("public", view);
        assert!(shown.contains("View") && shown.contains("public.a"), "names are qualified: {shown}");
    }
    assert!(found.schema.table("public", "temporary").is_none());
    let immutable = |name: &str| found.schema.functions_named(name).iter().all(|f| f.immutable);
    assert_eq!((immutable("f"), immutable("g")), (false, true));
    assert_eq!(found.schema.functions_named("f").len(), 1);

    // How values can be copied to another server, and whose rights a view's rows depend on.
    let table = found.schema.table("Other", "carried").unwrap();
    let carried: Vec<String> = table
        .columns
        .iter()
        .zip(&table.detail.carriage)
        .map(|(column, carriage)| format!("{column} {carriage:?}"))
        .collect();
    assert_eq!(
        carried,
        [
            "number Binary",
            "texts Binary",
            "mood Binary",
            "moods AsTexts",
            "positive Binary",
            "positives Never",
            "pair Binary",
            "pairs Never",
            "feeling Never",
            "relation Never",
            "relations Never",
            "named Never",
            "acl Never",
            "span Binary",
            "ranges Binary",
        ]
        .map(str::to_owned)
    );
    let transparent =
        |schema: &str, table: &str| found.schema.table(schema, table).unwrap().detail.transparent;
    assert!(transparent("public", "a") && transparent("public", "v") && transparent("public", "c"));
    assert!(!transparent("public", "m") && !transparent("Other", "guarded"));

    // Reading has left the session as it was, and sees a change.
    let path: String = client.query_one("SHOW search_path", &[]).await.unwrap().get(0);
    assert_eq!(path, "\"$user\", public");
    let again = schema::read(&client).await.unwrap();
    assert_eq!(again.fingerprint(), found.catalog.fingerprint());
    client.batch_execute("ALTER TABLE a ADD COLUMN more int").await.unwrap();
    assert_ne!(schema::read(&client).await.unwrap().fingerprint(), again.fingerprint());
    client.batch_execute("CREATE TABLE d (user_id jsonb)").await.unwrap();
    let Err(SchemaError::Unroutable(problems)) = schema::discover(&client, &rules(&[]), 2).await else {
        panic!("jsonb is no key")
    };
    assert_eq!(problems.len(), 1);
    assert!(problems[0].contains("table public.d is of type jsonb"), "{problems:?}");
    let nocase = "CREATE COLLATION nocase (provider = icu, locale = 'und-u-ks-level2', deterministic = false); \
                  DROP TABLE d; CREATE TABLE d (user_id text COLLATE nocase)";
    client.batch_execute(nocase).await.unwrap();
    let refused = schema::discover(&client, &rules(&[]), 3).await.unwrap_err().to_string();
    assert!(refused.contains("table public.d has the collation nocase"), "{refused}");
}

fn plan(name: &str, shards: &[&Cluster]) -> Plan {
    let shards = (1..).zip(shards).map(|(number, server)| ShardPlan {
        name: format!("s{number}"),
        dbname: name.to_owned(),
        expected: None,
        endpoints: vec![(Purpose::Serving, at(server))],
        tls: Tls::disabled(),
    });
    let shards = shards.collect();
    Plan {
        databases: vec![DatabasePlan { name: name.to_owned(), rules: sample_rules(), home: 0, shards }],
        control: login(CONTROL),
        users: vec![login(APP)],
        timeout: Duration::from_secs(5),
        health: HealthSettings::default(),
    }
}

fn has(report: &Report, level: Level, words: &str) {
    let said = report.lines.iter().any(|line| line.level == level && line.to_string().contains(words));
    assert!(said, "{words:?} is not said in\n{report}");
}

#[tokio::test]
async fn check_finds_a_good_configuration_good() {
    let shards = servers(3);
    let name = sample_database(&shards);
    let report = connect_report(&plan(&name, &shards)).await;
    assert_eq!(report.level(), Level::Ok, "{report}");
    assert_eq!(report.lines.len(), 4, "{report}");
    let line = report.lines[1].to_string();
    assert!(
        line.starts_with(&format!("ok    s2 127.0.0.1:{}  primary, PostgreSQL ", shards[1].port())),
        "{line}"
    );
    assert!(line.ends_with(", timeline 1"), "{line}");
    has(&report, Level::Ok, "the same schema on 3 shards: 5 sharded, 1 reference and 1 other tables");
}

#[tokio::test]
async fn check_says_all_that_is_wrong_at_once() {
    let shards = servers(3);
    let name = sample_database(&shards);
    shards[1].psql(APP, &name, "DROP TABLE audit_logs").unwrap();
    let mut plan = plan(&name, &shards);
    let nobody = Endpoint::Tcp { host: "127.0.0.1".to_owned(), port: free_port().unwrap() };
    plan.databases[0].shards[2].endpoints = vec![(Purpose::Serving, nobody)];
    plan.users.push(Login { user: "app".to_owned(), password: Some(Secret::new("wrong")) });
    let report = connect_report(&plan).await;
    has(&report, Level::Error, "connection refused; start it or correct database[0].shard[2].endpoints");
    has(&report, Level::Error, "s3  no primary: no endpoint that is up takes writes");
    has(&report, Level::Error, "s2  shard s2 lacks table public.audit_logs");
    has(&report, Level::Error, "user \"app\" cannot log in: password authentication failed for user \"app\"");
    assert!(!report.to_string().contains("wrong"), "{report}");

    plan.control = Login { user: "nobody".to_owned(), password: Some(Secret::new("x")) };
    has(&connect_report(&plan).await, Level::Error, "CREATE ROLE nobody LOGIN PASSWORD");
    plan.control = login(CONTROL);
    plan.databases[0].shards[1].dbname = "nowhere".to_owned();
    has(&connect_report(&plan).await, Level::Error, "correct database[0].shard[1].dbname");
}

#[tokio::test]
async fn check_sees_one_database_behind_two_shards() {
    let shards = servers(1);
    let name = sample_database(&shards);
    let report = connect_report(&plan(&name, &[shards[0], shards[0]])).await;
    has(&report, Level::Error, "is the same database as that of shard s1");
}
