//! What a client is told once it has proven who it is: the parameters a real server would
//! report, its cancel key, and that it may go on.

use super::attach::server_refusal;
use super::cancel::Registration;
use super::directory::{Database, Directory, Greeting, User};
use super::distributed::Ending;
use super::own::OwnSettings;
use super::ready::{is_ascii_superset, unreadable_encoding};
use super::settings::{path_of_statement, path_of_value};
use super::startup::{Door, Turned};
use super::state::{End, Session};
use super::worker::Worker;
use crate::backend::{ServerError, Settings, set_config_statement};
use crate::error::{ClientError, SqlState};
use crate::execute::Told;
use crate::pool::{Caller, Lease, PoolError, Shard, ShardAccess, ShardUser};
use crate::ring::ShardId;
use crate::sql::Access;
use crate::wire::{self, TxStatus};
use std::rc::Rc;
use std::sync::{Arc, PoisonError};
use std::time::Instant;

/// A client that will be a session.
pub(super) struct Admitted {
    worker: Rc<Worker>,
    directory: Arc<Directory>,
    database: Arc<Database>,
    user: Arc<ShardUser>,
    user_name: String,
    registration: Registration,
    settings: Arc<Settings>,
    own: OwnSettings,
    default_path: Rc<[String]>,
    default_path_text: String,
    search_path: Rc<[String]>,
    standard_conforming_strings: bool,
    same_encoding: bool,
    told: Told,
}

impl Admitted {
    pub(super) fn session(self, door: Door) -> Session {
        let shards = self.database.shards.len();
        let favourite = self.registration.control.pid as usize % shards.max(1);
        let favourite = ShardId(u16::try_from(favourite).expect("a database has at most 1024 shards"));
        Session {
            key_type: self.database.key_type(),
            tally: self.worker.tally(&self.database),
            worker: self.worker,
            registration: self.registration,
            directory: self.directory,
            user: self.user,
            user_name: self.user_name,
            stream: door.stream,
            inbox: door.inbox,
            outbox: door.outbox,
            passing: 0,
            passing_nowhere: false,
            events: Vec::new(),
            postponed: false,
            access: (0..shards).map(|_| ShardAccess::default()).collect(),
            held: None,
            parked: Vec::new(),
            relay: Default::default(),
            distributed: Default::default(),
            awaits_sync: None,
            ending: Ending::No,
            copying: None,
            cursors: Default::default(),
            made: Vec::new(),
            told: self.told,
            favourite,
            source: Default::default(),
            alone: false,
            on_replica: false,
            positions: Default::default(),
            tx: Default::default(),
            initial: Arc::clone(&self.settings),
            settings: self.settings,
            own: self.own,
            default_path: self.default_path,
            default_path_text: self.default_path_text,
            search_path: self.search_path,
            standard_conforming_strings: self.standard_conforming_strings,
            strings: (self.standard_conforming_strings, self.standard_conforming_strings),
            same_encoding: self.same_encoding,
            unknown_table: Default::default(),
            told_ahead: Default::default(),
            unsaid: None,
            pins_to_check: false,
            keeps_sequences: false,
            in_doubt: false,
            asks_as: Default::default(),
            lost_setting: false,
            ready_held: None,
            reads_schema: false,
            context: None,
            statements: Default::default(),
            unnamed: None,
            unnamed_ticket: 0,
            portals: Default::default(),
            done_here: Vec::new(),
            unnamed_portal: None,
            config_values: Default::default(),
            batch: Default::default(),
            effects: Vec::new(),
            last_route: Default::default(),
            access_kind: Access::Write,
            began: None,
            asked_since: None,
            transaction_began: None,
            idle_since: Instant::now(),
            database: self.database,
        }
    }
}

/// Admits to the console.
pub(super) fn welcome_to_console(
    worker: &Rc<Worker>,
    directory: &Arc<Directory>,
    door: &mut Door,
    registration: Registration,
    user: &Arc<User>,
    user_name: &str,
) -> Result<Admitted, Turned> {
    if !directory.console.admits(user_name) {
        return Err(ClientError::fatal(
            SqlState::NOT_ALLOWED,
            format!("user \"{user_name}\" may not use the database \"{}\"", crate::config::CONSOLE_DATABASE),
        )
        .with_hint("List the user in admin.users or admin.stats_users.")
        .into());
    }
    for (name, value) in directory.console.parameters() {
        wire::put_parameter(&mut door.outbox, &name, &value);
    }
    finish(door, &registration);
    Ok(Admitted {
        worker: Rc::clone(worker),
        directory: Arc::clone(directory),
        database: Arc::clone(&directory.console_database),
        user: Arc::clone(&user.server),
        user_name: user_name.to_owned(),
        registration,
        settings: Arc::default(),
        own: OwnSettings::default(),
        default_path: Rc::from([]),
        default_path_text: String::new(),
        search_path: Rc::from([]),
        standard_conforming_strings: true,
        same_encoding: true,
        told: Told::new(0, Arc::from([]), []),
    })
}

/// Admits to a database.
#[expect(clippy::too_many_arguments, reason = "the parts of one login")]
pub(super) async fn welcome(
    worker: &Rc<Worker>,
    directory: &Arc<Directory>,
    door: &mut Door,
    registration: Registration,
    user: &Arc<User>,
    user_name: &str,
    database_name: &str,
    startup: &wire::Startup,
) -> Result<Admitted, Turned> {
    let Some(database) = directory.databases.get(database_name).cloned() else {
        return Err(ClientError::fatal(
            SqlState::NO_DATABASE,
            format!("database \"{database_name}\" does not exist"),
        )
        .into());
    };
    let shard_user = Arc::clone(&user.server);
    let greeting = greeting(worker, &database, &shard_user).await?;
    let (own, wanted) =
        wanted_settings(startup)?.into_iter().partition(|(name, _)| name.starts_with("pgring."));
    let own = OwnSettings::begun_with(&database.topology, own)?;
    let wanted: Vec<(String, String)> = wanted;
    let mut settings = Settings::default();
    let mut reported = greeting.reported.to_vec();
    let mut to_check = false;
    for (name, mut value) in wanted {
        if name == "application_name" && value.len() > LONGEST_NAME && value.is_ascii() {
            let rest = value.split_off(LONGEST_NAME);
            let notice = format!("identifier \"{value}{rest}\" will be truncated to \"{value}\"");
            wire::put_notice(&mut door.outbox, &ClientError::error(SqlState::LONG_NAME, notice));
        }
        if greeting.reported(&name).is_some_and(|known| same_value(&name, known, &value)) {
            continue;
        }
        if name == "client_encoding" && !database.is_one_shard() && !is_ascii_superset(&value) {
            return Err(unreadable_encoding(&value).into());
        }
        settings.set(&name, set_config_statement(&name, &value));
        if name == "application_name" && value.bytes().all(|b| b.is_ascii_graphic() || b == b' ') {
            // Any such text is one. Of others, what is left depends on PostgreSQL's version.
            replace(&mut reported, &name, value);
        } else {
            to_check = true;
        }
    }
    let settings = worker.shared_settings(settings);
    if to_check {
        let lease = checked_settings(worker, &database, &shard_user, &settings).await?;
        for (name, value) in &lease.reported {
            replace(&mut reported, name, value.clone());
        }
        worker.local.give_back(lease);
    }
    let find = |name: &str| reported.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    if let Some(encoding) = find("client_encoding")
        && !database.is_one_shard()
        && !is_ascii_superset(encoding)
    {
        return Err(unreadable_encoding(encoding).into());
    }
    *registration.control.application_name.borrow_mut() =
        find("application_name").unwrap_or_default().to_owned();
    let standard_conforming_strings = find("standard_conforming_strings") != Some("off");
    let same_encoding = find("client_encoding") == find("server_encoding");
    for (name, value) in &reported {
        wire::put_parameter(&mut door.outbox, name, value);
    }
    finish(door, &registration);
    // What a server shows it has read itself.
    let default_path: Rc<[String]> =
        path_of_value(&greeting.search_path, user_name).unwrap_or_default().into();
    let search_path = match settings.get("search_path") {
        Some(statement) => match path_of_statement(statement, user_name) {
            Some(path) => path.into(),
            None => {
                return Err(ClientError::refused("the search_path cannot be read", "Use plain names.").into());
            }
        },
        None => Rc::clone(&default_path),
    };
    let pid = registration.control.pid;
    Ok(Admitted {
        worker: Rc::clone(worker),
        directory: Arc::clone(directory),
        database,
        user: shard_user,
        user_name: user_name.to_owned(),
        registration,
        settings,
        own,
        search_path,
        default_path,
        default_path_text: greeting.search_path.clone(),
        standard_conforming_strings,
        same_encoding,
        told: Told::new(pid, Arc::clone(&greeting.reported), reported),
    })
}

/// `NAMEDATALEN` less the zero byte behind it: what PostgreSQL keeps of a name.
const LONGEST_NAME: usize = 63;

fn finish(door: &mut Door, registration: &Registration) {
    wire::put_backend_key(&mut door.outbox, registration.control.pid, registration.control.secret());
    wire::put_ready(&mut door.outbox, TxStatus::Idle);
}

/// What servers report to this user, from memory or from any shard that is up.
async fn greeting(
    worker: &Worker,
    database: &Arc<Database>,
    user: &ShardUser,
) -> Result<Arc<Greeting>, ClientError> {
    {
        let greetings = database.greetings.lock().unwrap_or_else(PoisonError::into_inner);
        let away = |shard: &Arc<Shard>| shard.gate.is_closed() || shard.is_troubled();
        // A new one cannot be had now, and login goes on.
        let none = database.shards.iter().all(away);
        let good = |known: &&Arc<Greeting>| none || known.taken.elapsed() < Greeting::LASTS;
        if let Some(known) = greetings.get(&user.name).filter(good) {
            return Ok(Arc::clone(known));
        }
    }
    let mut lease = any_server(worker, database, user).await?;
    // A connection that has served others has their settings; what it began with is asked for.
    lease.align(&Arc::default()).await.map_err(|error| lost(&error))?;
    let asked = lease.ask("SHOW search_path").await;
    let search_path = asked
        .and_then(|answer| answer.ok_or(ServerError::Protocol("no answer to SHOW search_path".to_owned())))
        .map_err(|error| lost(&error))?;
    let greeting = Arc::new(Greeting {
        reported: lease.reported.iter().map(|(name, value)| (name.clone(), value.clone())).collect(),
        search_path,
        taken: Instant::now(),
    });
    worker.local.give_back(lease);
    let mut greetings = database.greetings.lock().unwrap_or_else(PoisonError::into_inner);
    if greetings.len() == greetings.capacity() {
        // Users of the database come and go.
        greetings.retain(|_, known| known.taken.elapsed() < Greeting::LASTS);
    }
    greetings.insert(user.name.clone(), Arc::clone(&greeting));
    Ok(greeting)
}

/// A server with these settings, which it has accepted.
async fn checked_settings(
    worker: &Worker,
    database: &Arc<Database>,
    user: &ShardUser,
    settings: &Arc<Settings>,
) -> Result<Lease, ClientError> {
    let mut lease = any_server(worker, database, user).await?;
    match lease.align(settings).await {
        Ok(()) => Ok(lease),
        Err(ServerError::Refused { body, .. }) => Err(server_refusal(&body)),
        Err(error) => Err(lost(&error)),
    }
}

fn lost(error: &ServerError) -> ClientError {
    tracing::warn!("a server was lost during a login: {error}");
    ClientError::error(SqlState::SERVER_LOST, "the connection to the shard was lost")
}

/// A server of the home shard, or of another one if that is down.
async fn any_server(
    worker: &Worker,
    database: &Arc<Database>,
    user: &ShardUser,
) -> Result<Lease, ClientError> {
    let home = database.topology.home;
    let mut failure: Option<PoolError> = None;
    let mut paused = None;
    let others = database.topology.ids().filter(|shard| *shard != home);
    for shard in std::iter::once(home).chain(others) {
        let shard = &database.shards[shard.index()];
        let mut access = ShardAccess::default();
        let found = match access.primary(shard, user) {
            Ok(pool) => worker.local.checkout(pool, Caller::Anybody).await,
            Err(error) => Err(error),
        };
        match found {
            Ok(lease) => return Ok(lease),
            Err(PoolError::Paused(_)) => paused = paused.or(Some(shard)),
            Err(error) => {
                failure.get_or_insert(error);
            }
        }
    }
    // The first that goes on after a pause, or else the home shard's next primary.
    let Some(waits_for) = paused.or(database.shards.get(home.index())) else {
        return Err(ClientError::error(SqlState::UNAVAILABLE, "the database has no shard"));
    };
    let found = match failure {
        Some(error) if paused.is_none() && !waits_for.is_troubled() => Err(error),
        _ => ShardAccess::default().checkout(waits_for, user, &worker.local, Caller::Anybody).await,
    };
    found.map_err(|error| error.client_error())
}

/// The run-time parameters of a start-up packet: those given by name, and those in `options`.
fn wanted_settings(startup: &wire::Startup) -> Result<Vec<(String, String)>, ClientError> {
    let mut wanted = Vec::new();
    for (name, value) in &startup.parameters {
        match name.as_str() {
            "user" | "database" | "replication" => {}
            "options" => wanted.extend(options(value)?),
            name if name.starts_with("_pq_.") => {}
            name => wanted.push((name.to_lowercase(), value.clone())),
        }
    }
    Ok(wanted)
}

/// `-c name=value` and `--name=value`, separated by white space that a backslash escapes
/// (`pg_split_opts` and `process_postgres_switches` in `utils/init/postinit.c`, `tcop/postgres.c`).
fn options(text: &str) -> Result<Vec<(String, String)>, ClientError> {
    let mut words: Vec<String> = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => word.get_or_insert_default().extend(chars.next()),
            c if c.is_ascii_whitespace() => words.extend(word.take()),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    let mut settings = Vec::new();
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        let setting = if word == "-c" {
            words.next()
        } else {
            word.strip_prefix("--").or_else(|| word.strip_prefix("-c")).map(str::to_owned)
        };
        let setting = setting.as_deref().and_then(|setting| setting.split_once('='));
        let Some((name, value)) = setting else {
            return Err(ClientError::error(
                SqlState::SYNTAX,
                format!("invalid command-line argument for server process: {word}"),
            ));
        };
        settings.push((name.replace('-', "_").to_lowercase(), value.to_owned()));
    }
    Ok(settings)
}

/// Would setting `name` to `value` change nothing? Encodings have many spellings.
fn same_value(name: &str, known: &str, value: &str) -> bool {
    if known == value {
        return true;
    }
    let plain =
        |text: &str| text.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_lowercase();
    name == "client_encoding" && plain(known) == plain(value)
}

fn replace(reported: &mut Vec<(String, String)>, name: &str, value: String) {
    // Names of reported parameters are matched without regard to case, as settings are.
    match reported.iter_mut().find(|(key, _)| key.eq_ignore_ascii_case(name)) {
        Some((_, known)) => *known = value,
        None => reported.push((name.to_owned(), value)),
    }
}

impl Session {
    pub(super) fn is_console(&self) -> bool {
        Arc::ptr_eq(&self.database, &self.directory.console_database)
    }

    pub(super) async fn run_as_console(mut self: Box<Self>) -> End {
        let end = match self.run_console().await {
            Ok(()) => End::Terminated,
            Err(end) => end,
        };
        if let End::Fatal(error) = &end {
            wire::put_error(&mut self.outbox, error);
            // A client that does not read its last message does not get it.
            let _ =
                tokio::time::timeout(std::time::Duration::from_secs(5), self.stream.drain(&mut self.outbox))
                    .await;
        }
        end
    }

    /// Takes up a configuration that was published since, between transactions.
    pub(super) fn refresh_directory(&mut self) -> Result<(), End> {
        if self.worker.directory.load().generation == self.directory.generation {
            return Ok(());
        }
        let moves = self.is_free_to_move();
        // Whom a server is kept for would otherwise stay for ever.
        if !moves && !self.is_between_transactions() {
            return Ok(());
        }
        let directory = self.worker.directory.load_full();
        let gone = |what: &str| {
            End::Fatal(ClientError::fatal(
                SqlState::SHUTTING_DOWN,
                format!("{what} was removed from the configuration"),
            ))
        };
        // Who was looked up stays whom the database let in, as long as users are looked up.
        let was_looked_up = !self.directory.users.contains_key(&self.user_name);
        let user = match directory.users.get(&self.user_name) {
            Some(user) => Some(user),
            None if was_looked_up && directory.lookup.is_some() => None,
            None => return Err(gone("the user")),
        };
        let Some(database) = directory.databases.get(&self.database.name).cloned() else {
            return Err(gone("the database"));
        };
        if !moves {
            return Ok(());
        }
        if let Some(user) = user {
            self.user = Arc::clone(&user.server);
        }
        if !Arc::ptr_eq(&database, &self.database) {
            self.positions.move_to(&self.database.shard_names, &database.shard_names);
            self.access = database.shards.iter().map(|_| ShardAccess::default()).collect();
            self.favourite =
                ShardId(self.favourite.0 % u16::try_from(database.shards.len()).unwrap_or(1).max(1));
            self.key_type = database.key_type();
            self.context = None;
            self.last_route = Default::default();
            self.tally = self.worker.tally(&database);
            self.database = database;
        } else {
            self.access.iter_mut().for_each(|access| *access = ShardAccess::default());
        }
        self.directory = directory;
        Ok(())
    }

    /// Nothing is under way, on whatever servers it keeps.
    fn is_between_transactions(&self) -> bool {
        self.tx.phase() == crate::txn::Phase::Idle
            && !self.relay.is_busy()
            && !self.batch.is_sent()
            && self.held.iter().chain(&self.parked).all(|held| held.lease.status == TxStatus::Idle)
    }

    /// Nothing ties the session to a server.
    fn is_free_to_move(&self) -> bool {
        self.held.is_none() && self.parked.is_empty() && self.tx.phase() == crate::txn::Phase::Idle
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn start_up_options() {
        let check = |text: &str, expect: &[(&str, &str)]| {
            let got = options(text).unwrap();
            let got: Vec<_> = got.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
            assert_eq!(got, expect, "{text}");
        };
        check("", &[]);
        check("-c search_path=a,b -c geqo=off", &[("search_path", "a,b"), ("geqo", "off")]);
        check("--statement-timeout=5s", &[("statement_timeout", "5s")]);
        check(r"-csearch_path=a\ b", &[("search_path", "a b")]);
        assert!(options("-x").is_err());
        assert!(options("-c").is_err());
    }

    #[test]
    fn encodings_have_many_spellings() {
        assert!(same_value("client_encoding", "UTF8", "utf-8"));
        assert!(!same_value("client_encoding", "UTF8", "LATIN1"));
        assert!(!same_value("TimeZone", "Etc/UTC", "EtcUTC"));
    }
}
