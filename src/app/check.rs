//! `pgring check --connect`: does the configuration fit the servers it names?
//!
//! Everything is looked at and everything found is said, each with what to change: a list that
//! ends at the first fault costs one run for each fault. Nothing is changed on any server.
//! Endpoints are judged by the rules that hold while serving ([`Watched`]).

use std::collections::HashMap;
use std::fmt;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::schema::{self, Catalog, DatabaseRules, Difference, SchemaError};
use crate::auth::Verifier;
use crate::backend::tls::{TlsError, client_config};
use crate::config::{Endpoint, Settings};
use crate::pool::health::board::Watched;
use crate::pool::health::connector::cause;
use crate::pool::health::{
    Ask, ControlConnection, EndpointIndex, Expected, HealthSettings, Identity, Login, Observation, Probe,
    ProbeFailure, Purpose, Role, State, Tls,
};
use crate::sql::TableKind;

/// The versions of PostgreSQL that pgring is made for.
const VERSIONS: std::ops::RangeInclusive<u32> = 12..=18;

/// For reading a shard's catalogs: a large schema takes longer than a probe.
const CATALOG_TIMEOUT: Duration = Duration::from_secs(60);

/// What to look at.
#[derive(Clone, Debug)]
pub struct Plan {
    /// In the order of the configuration.
    pub databases: Vec<DatabasePlan>,
    /// pgring's own role.
    pub control: Login,
    /// Users, and how pgring logs them in to servers.
    pub users: Vec<Login>,
    /// For one login.
    pub timeout: Duration,
    /// Lag and the like.
    pub health: HealthSettings,
}

/// A database of the configuration.
#[derive(Clone, Debug)]
pub struct DatabasePlan {
    /// As clients know it.
    pub name: String,
    /// Which tables are sharded.
    pub rules: DatabaseRules,
    /// Index of the home shard.
    pub home: usize,
    /// In the order of the configuration.
    pub shards: Vec<ShardPlan>,
}

/// A shard of the configuration.
#[derive(Clone, Debug)]
pub struct ShardPlan {
    /// Its name.
    pub name: String,
    /// The database's name on the servers.
    pub dbname: String,
    /// Whom its servers have to be.
    pub expected: Option<Expected>,
    /// In the order of the configuration; the analytics ones last.
    pub endpoints: Vec<(Purpose, Endpoint)>,
    /// Encryption.
    pub tls: Tls,
}

impl Plan {
    /// All that a configuration names.
    pub fn new(settings: &Settings) -> Result<Plan, TlsError> {
        let mut databases = Vec::with_capacity(settings.databases.len());
        for database in &settings.databases {
            let mut shards = Vec::with_capacity(database.shards.len());
            for shard in &database.shards {
                let config = client_config(shard.tls.mode, shard.tls.ca.as_deref())?;
                let serving = shard.endpoints.iter().map(|at| (Purpose::Serving, at.clone()));
                let analytics = shard.analytics.iter().map(|at| (Purpose::Analytics, at.clone()));
                shards.push(ShardPlan {
                    name: shard.name.clone(),
                    dbname: shard.dbname.clone(),
                    expected: super::build::expected(database, shard),
                    endpoints: serving.chain(analytics).collect(),
                    tls: Tls { mode: shard.tls.mode, config },
                });
            }
            let (name, rules) = (database.name.clone(), DatabaseRules::from(database));
            databases.push(DatabasePlan { name, rules, home: database.home, shards });
        }
        let users = settings.users.iter().filter_map(|user| {
            let password = user.server_password.as_ref().unwrap_or(&user.password);
            // A verifier logs in only with what a client shows.
            let can_log_in = Verifier::stored(password.reveal()).is_none();
            can_log_in.then(|| Login { user: user.name.clone(), password: Some(password.clone()) })
        });
        Ok(Plan {
            databases,
            control: Login {
                user: settings.control.user.clone(),
                password: settings.control.password.clone(),
            },
            users: users.collect(),
            timeout: settings.pool.connect_timeout,
            health: HealthSettings::from(&settings.health),
        })
    }
}

/// How bad a finding is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Level {
    /// As it should be.
    Ok,
    /// Works, but not all of it or not for long.
    Warning,
    /// To be mended before serving.
    Error,
}

/// One finding.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Line {
    /// How bad it is.
    pub level: Level,
    /// Database, shard, endpoint; as far as it concerns one.
    pub subject: String,
    /// What was found, and what to change.
    pub text: String,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = match self.level {
            Level::Ok => "ok   ",
            Level::Warning => "warn ",
            Level::Error => "error",
        };
        write!(f, "{level} {}  {}", self.subject, self.text)
    }
}

/// All findings, in the order of the configuration.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Report {
    /// One a line.
    pub lines: Vec<Line>,
}

impl Report {
    /// The worst of the findings.
    pub fn level(&self) -> Level {
        self.lines.iter().map(|line| line.level).max().unwrap_or(Level::Ok)
    }

    fn say(&mut self, level: Level, subject: &str, text: impl Into<String>) {
        self.lines.push(Line { level, subject: subject.to_owned(), text: text.into() });
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lines.iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}

/// Connects to every server of the plan and tells what it finds.
pub async fn connect_report(plan: &Plan) -> Report {
    let mut report = Report::default();
    for (position, database) in plan.databases.iter().enumerate() {
        check_database(plan, position, database, &mut report).await;
    }
    report
}

/// An endpoint that answered.
struct Answer {
    connection: ControlConnection,
    probe: Probe,
    forbidden: Vec<String>,
}

/// A shard's primary: where what need be checked only once a shard is checked.
struct Primary {
    subject: String,
    endpoint: Endpoint,
    answer: Answer,
}

async fn check_database(plan: &Plan, position: usize, database: &DatabasePlan, report: &mut Report) {
    let prefix = if plan.databases.len() > 1 { format!("{} ", database.name) } else { String::new() };
    let mut answers = ask_all(plan, database).await;
    let mut primaries: Vec<Option<Primary>> = Vec::with_capacity(database.shards.len());
    for (number, shard) in database.shards.iter().enumerate() {
        let path = format!("database[{position}].shard[{number}]");
        let own = answers.get_mut(number).map(std::mem::take).unwrap_or_default();
        primaries.push(check_shard(plan, database, shard, &path, &prefix, own, report));
    }
    same_database_twice(database, &primaries, report);
    check_users(plan, database, &primaries, report).await;
    if database.shards.len() > 1 {
        check_rights(plan, &primaries, report).await;
    }
    if database.shards.len() > 1 {
        check_schema(database, &prefix, &primaries, report).await;
    }
}

async fn ask_all(plan: &Plan, database: &DatabasePlan) -> Vec<Vec<Result<Answer, ProbeFailure>>> {
    let mut asking = JoinSet::new();
    for (number, shard) in database.shards.iter().enumerate() {
        for (index, (_, endpoint)) in shard.endpoints.iter().enumerate() {
            let (endpoint, dbname, tls) = (endpoint.clone(), shard.dbname.clone(), shard.tls.clone());
            let (control, timeout) = (plan.control.clone(), plan.timeout);
            let expected = shard.expected.clone();
            asking.spawn(async move {
                let asked = tokio::time::timeout(
                    timeout,
                    ask(&endpoint, &dbname, &control, &tls, &expected, timeout),
                );
                let answer = asked.await.unwrap_or(Err(ProbeFailure::Timeout(timeout)));
                (number, index, answer)
            });
        }
    }
    let mut answers: Vec<Vec<Option<Result<Answer, ProbeFailure>>>> =
        database.shards.iter().map(|shard| shard.endpoints.iter().map(|_| None).collect()).collect();
    while let Some(asked) = asking.join_next().await {
        // A task that panicked leaves its place empty, and is said below.
        if let Ok((number, index, answer)) = asked
            && let Some(place) = answers.get_mut(number).and_then(|shard| shard.get_mut(index))
        {
            *place = Some(answer);
        }
    }
    let failed = || Err(ProbeFailure::Nonsense("the check of this endpoint failed".to_owned()));
    let fill =
        |shard: Vec<Option<_>>| shard.into_iter().map(|answer| answer.unwrap_or_else(failed)).collect();
    answers.into_iter().map(fill).collect()
}

async fn ask(
    endpoint: &Endpoint,
    dbname: &str,
    login: &Login,
    tls: &Tls,
    expected: &Option<Expected>,
    timeout: Duration,
) -> Result<Answer, ProbeFailure> {
    let connection = ControlConnection::open(endpoint, dbname, login, tls, timeout, || {}).await?;
    let mut question = Ask::default();
    let mut probe = question.ask(connection.client()).await?;
    if let Some(expected) = expected {
        probe.stranger = Identity::default().ask(connection.client(), expected).await?;
    }
    let forbidden = question.forbidden().iter().map(ToString::to_string).collect();
    Ok(Answer { connection, probe, forbidden })
}

fn check_shard(
    plan: &Plan,
    database: &DatabasePlan,
    shard: &ShardPlan,
    path: &str,
    prefix: &str,
    answers: Vec<Result<Answer, ProbeFailure>>,
    report: &mut Report,
) -> Option<Primary> {
    let settings = HealthSettings { failures: 1, ..plan.health };
    let mut watched = Watched::new(&database.name, &shard.name, shard.endpoints.clone(), settings);
    // Replicas last: their lag is measured against the primary.
    let is_replica = |answer: &Result<Answer, ProbeFailure>| {
        answer.as_ref().is_ok_and(|answer| answer.probe.role() == Role::Replica)
    };
    for replicas in [false, true] {
        for (answer, index) in answers.iter().zip(0..=u16::MAX) {
            if is_replica(answer) == replicas {
                let result = answer.as_ref().map(|answer| answer.probe.clone()).map_err(Clone::clone);
                watched.observe(EndpointIndex(index), Observation { at: Instant::now(), result });
            }
        }
    }
    let snapshot = watched.snapshot();
    let mut primary = None;
    for ((answer, index), (purpose, endpoint)) in answers.into_iter().zip(0..=u16::MAX).zip(&shard.endpoints)
    {
        let subject = format!("{prefix}{} {endpoint}", shard.name);
        let answer = match answer {
            Ok(answer) => answer,
            Err(failure) => {
                let list = if *purpose == Purpose::Serving { "endpoints" } else { "analytics" };
                let remedy = remedy(&failure, path, list, &shard.dbname, &plan.control.user);
                report.say(Level::Error, &subject, format!("{failure}; {remedy}"));
                continue;
            }
        };
        let index = EndpointIndex(index);
        let state = snapshot.endpoints.get(index.index()).map(|endpoint| &endpoint.health.state);
        let refusal = snapshot.roles.refused.iter().find(|(refused, _)| *refused == index);
        describe(&answer, *purpose, &subject, state, report);
        if let Some((_, why)) = refusal {
            report.say(Level::Error, &subject, format!("{why}; correct {path}, or the server"));
        }
        if database.shards.len() > 1
            && *purpose == Purpose::Serving
            && answer.probe.max_prepared_transactions == 0
        {
            report.say(
                Level::Warning,
                &subject,
                "max_prepared_transactions is 0: writes to several shards will be refused; set it to at \
                 least max_connections in postgresql.conf and restart the server",
            );
        }
        if snapshot.roles.primary.as_ref() == Ok(&index) {
            primary = Some(Primary { subject, endpoint: endpoint.clone(), answer });
        }
    }
    if let Err(why) = &snapshot.roles.primary {
        let subject = format!("{prefix}{}", shard.name);
        report.say(Level::Error, &subject, format!("no primary: {why}; its keys cannot be served"));
    }
    primary
}

/// The lines about one endpoint that answered.
fn describe(answer: &Answer, purpose: Purpose, subject: &str, state: Option<&State>, report: &mut Report) {
    let probe = &answer.probe;
    let timeline = probe.timeline.map_or_else(String::new, |timeline| format!(", timeline {timeline}"));
    let analytics = if purpose == Purpose::Analytics { " for analytics" } else { "" };
    report.say(
        Level::Ok,
        subject,
        format!("{}{analytics}, PostgreSQL {}{timeline}", probe.role(), probe.server_version),
    );
    let major = probe.server_version.major();
    if major < *VERSIONS.start() {
        report.say(
            Level::Error,
            subject,
            format!("PostgreSQL {major} is too old: pgring needs {} or newer", VERSIONS.start()),
        );
    } else if major > *VERSIONS.end() {
        report.say(
            Level::Warning,
            subject,
            format!("PostgreSQL {major} is newer than pgring knows (up to {})", VERSIONS.end()),
        );
    }
    if let Some(State::Lagging { lag, .. }) = state {
        let lag =
            lag.map_or_else(|| "an unknown time".to_owned(), |lag| format!("{:.1} s", lag.as_secs_f64()));
        report.say(Level::Warning, subject, format!("is behind by {lag} and would serve no reads now"));
    }
    if !answer.forbidden.is_empty() {
        report.say(
            Level::Warning,
            subject,
            format!(
                "pgring's own role may not use {}: grant it pg_monitor, or EXECUTE on these functions",
                answer.forbidden.join(", ")
            ),
        );
    }
}

fn remedy(failure: &ProbeFailure, path: &str, list: &str, dbname: &str, user: &str) -> String {
    let code = match failure {
        ProbeFailure::Refused { code, .. } => code.as_str(),
        ProbeFailure::Connect(_)
        | ProbeFailure::Timeout(_)
        | ProbeFailure::Lost(_)
        | ProbeFailure::Nonsense(_) => {
            return format!("start it or correct {path}.{list}");
        }
    };
    match code {
        "3D000" => format!("create the database {dbname:?} there or correct {path}.dbname"),
        "28P01" | "28000" => format!(
            "correct [control] user and password, the server's pg_hba.conf, or create the role there: \
             CREATE ROLE {user} LOGIN PASSWORD '…' IN ROLE pg_monitor, pg_signal_backend"
        ),
        "57P03" => "the server is starting or stopping: wait".to_owned(),
        "53300" => "raise max_connections there, or lower [pool] size".to_owned(),
        "42501" => format!("GRANT CONNECT ON DATABASE {dbname:?} TO {user}"),
        _ => format!("see the server's log, or correct {path}.{list}"),
    }
}

/// Two shards that lead to one database would have every row twice, or none.
fn same_database_twice(database: &DatabasePlan, primaries: &[Option<Primary>], report: &mut Report) {
    let mut seen: HashMap<(u64, &str), &str> = HashMap::new();
    for (shard, primary) in database.shards.iter().zip(primaries) {
        let Some(Primary { subject, answer, .. }) = primary else { continue };
        let Some(system) = answer.probe.system_identifier else { continue };
        if let Some(other) = seen.insert((system, &shard.dbname), &shard.name) {
            report.say(
                Level::Error,
                subject,
                format!(
                    "is the same database as that of shard {other} (or a copy of its files): each shard \
                     needs its own"
                ),
            );
        }
    }
}

/// Whether pgring's own role could finish what users' transactions leave prepared, see
/// `docs/transactions.md`.
async fn check_rights(plan: &Plan, primaries: &[Option<Primary>], report: &mut Report) {
    const RIGHTS: &str = "SELECT pg_catalog.has_database_privilege(pg_catalog.current_database(), 'CREATE'), \
                          ARRAY(SELECT rolname::text FROM pg_catalog.pg_roles \
                                WHERE rolname = ANY ($1::text[]::name[]) \
                                AND NOT pg_catalog.pg_has_role(oid, 'MEMBER') ORDER BY 1)";
    let users: Vec<&str> = plan.users.iter().map(|login| login.user.as_str()).collect();
    let control = &plan.control.user;
    for Primary { subject, answer, .. } in primaries.iter().flatten() {
        let rights = async {
            let row = answer.connection.client().query_one(RIGHTS, &[&users]).await?;
            Ok::<(bool, Vec<String>), tokio_postgres::Error>((row.try_get(0)?, row.try_get(1)?))
        };
        let (creates, strangers) = match rights.await {
            Ok(rights) => rights,
            Err(error) => {
                report.say(Level::Error, subject, format!("its rights cannot be asked: {}", cause(&error)));
                continue;
            }
        };
        if !creates {
            report.say(
                Level::Warning,
                subject,
                format!("writes to several shards will be refused: GRANT CREATE ON DATABASE … TO {control}"),
            );
        }
        for user in strangers {
            report.say(
                Level::Warning,
                subject,
                format!(
                    "what {user:?} leaves prepared over several shards cannot be finished: \
                     GRANT {user} TO {control}"
                ),
            );
        }
    }
}

/// Whether each user gets in where its statements will go.
async fn check_users(
    plan: &Plan,
    database: &DatabasePlan,
    primaries: &[Option<Primary>],
    report: &mut Report,
) {
    let mut trying = JoinSet::new();
    for (number, (shard, primary)) in database.shards.iter().zip(primaries).enumerate() {
        let Some(primary) = primary else { continue };
        for (order, login) in plan.users.iter().enumerate() {
            let (endpoint, login, timeout) = (primary.endpoint.clone(), login.clone(), plan.timeout);
            let (dbname, tls, subject) = (shard.dbname.clone(), shard.tls.clone(), primary.subject.clone());
            trying.spawn(async move {
                let opened = ControlConnection::open(&endpoint, &dbname, &login, &tls, timeout, || {}).await;
                (number, order, subject, login.user, opened.err())
            });
        }
    }
    let mut outcomes = trying.join_all().await;
    outcomes.sort_by_key(|(number, order, ..)| (*number, *order));
    for (_, _, subject, user, failure) in outcomes {
        if let Some(failure) = failure {
            report.say(
                Level::Error,
                &subject,
                format!(
                    "user {user:?} cannot log in: {failure}; correct its server_password (or password) in \
                     [[user]], or the role there"
                ),
            );
        }
    }
}

async fn check_schema(
    database: &DatabasePlan,
    prefix: &str,
    primaries: &[Option<Primary>],
    report: &mut Report,
) {
    let mut catalogs: Vec<Option<Catalog>> = Vec::with_capacity(primaries.len());
    for primary in primaries {
        catalogs.push(match primary {
            None => None,
            Some(primary) => read_catalog(primary, report).await,
        });
    }
    let shards = || database.shards.iter().map(|shard| shard.name.as_str());
    let (Some(home), Some(Some(catalog))) =
        (shards().nth(database.home), catalogs.get_mut(database.home).map(Option::take))
    else {
        let home = shards().nth(database.home).unwrap_or("?");
        let subject = format!("{prefix}{home}");
        report.say(Level::Warning, &subject, "the home shard's schema cannot be read, so none was compared");
        return;
    };
    let subject = format!("{prefix}{home}");
    let expected = match catalog.judge(&database.rules, 0) {
        Ok(expected) => expected,
        Err(SchemaError::Unroutable(problems)) => {
            for problem in problems {
                report.say(Level::Error, &subject, problem);
            }
            return;
        }
        Err(error) => {
            report.say(Level::Error, &subject, error.to_string());
            return;
        }
    };
    for warning in expected.warnings.iter().chain(&expected.notes) {
        report.say(Level::Warning, &subject, warning.as_str());
    }
    let (mut compared, mut same) = (1, true);
    for (shard, catalog) in shards().zip(&catalogs) {
        let Some(catalog) = catalog else { continue };
        compared += 1;
        for difference in schema::compare(home, &expected, shard, catalog) {
            let level = match difference {
                Difference::Error(_) => Level::Error,
                Difference::Warning(_) => Level::Warning,
            };
            same &= level != Level::Error;
            report.say(level, &format!("{prefix}{shard}"), difference.text());
        }
    }
    if same && compared > 1 {
        let count = |wanted: fn(&TableKind) -> bool| {
            expected.schema.tables().filter(|table| wanted(&table.kind)).count()
        };
        let sharded = count(|kind| matches!(kind, TableKind::Sharded { .. }));
        let reference = count(|kind| matches!(kind, TableKind::Reference));
        let home_only = count(|kind| matches!(kind, TableKind::Home));
        report.say(
            Level::Ok,
            &database.name,
            format!(
                "the same schema on {compared} shards: {sharded} sharded, {reference} reference and \
                 {home_only} other tables"
            ),
        );
    }
}

async fn read_catalog(primary: &Primary, report: &mut Report) -> Option<Catalog> {
    let reading = schema::read(primary.answer.connection.client());
    let problem = match tokio::time::timeout(CATALOG_TIMEOUT, reading).await {
        Ok(Ok(catalog)) => return Some(catalog),
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("reading the catalogs took longer than {CATALOG_TIMEOUT:?}"),
    };
    report.say(Level::Error, &primary.subject, problem);
    None
}
