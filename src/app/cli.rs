//! The command line.

use super::{check, serve};
use crate::config::{self, Settings};
use crate::demo::{Demo, DemoOptions};
use crate::ring::report;
use crate::ring::{ShardId, Topology};
use crate::route::{self, Parameters, Request, SessionHints};
use crate::sql::{self, KeyType, Lexed};
use crate::telemetry::logs::{self, LogFormat};
use clap::{Parser, Subcommand};
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// A sharding-aware PostgreSQL proxy: one DSN, many PostgreSQL servers.
#[derive(Parser, Debug)]
#[command(name = "pgring", version, about)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
    /// How logs are written: text or json (also PGRING_LOG_FORMAT; the level is PGRING_LOG).
    #[arg(long, global = true)]
    log_format: Option<LogFormat>,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Runs the proxy. SIGHUP reloads, SIGTERM drains, SIGINT stops.
    #[command(after_help = "Example:\n  pgring serve --config pgring.toml")]
    Serve {
        /// The configuration file.
        #[arg(long)]
        config: PathBuf,
    },
    /// Validates a configuration; prints every error with file, line and fix.
    #[command(after_help = "Example:\n  pgring check --config pgring.toml --connect")]
    Check {
        /// The configuration file.
        #[arg(long)]
        config: PathBuf,
        /// Asks each server too: reachable, role, max_prepared_transactions, same schema.
        #[arg(long)]
        connect: bool,
    },
    /// Starts a local cluster with a sample schema and serves in front of it. Ctrl-C stops all.
    #[command(after_help = "Example:\n  pgring demo --shards 3 --replicas 1")]
    Demo {
        /// How many shards.
        #[arg(long, default_value_t = 3)]
        shards: u16,
        /// How many replicas each.
        #[arg(long, default_value_t = 1)]
        replicas: u16,
        /// Where the data lie; they are kept. Default: a temporary directory.
        #[arg(long)]
        dir: Option<PathBuf>,
        /// Where clients connect.
        #[arg(long, default_value_t = 6432)]
        port: u16,
    },
    /// Tells where keys live, each shard's share, and what a change would move.
    #[command(after_help = "Example:\n  pgring ring --config pgring.toml --key 42 --with new.toml")]
    Ring {
        /// The configuration file.
        #[arg(long)]
        config: PathBuf,
        /// Tells which shard owns this key.
        #[arg(long, allow_hyphen_values = true)]
        key: Option<String>,
        /// Tells what changing to this configuration would move.
        #[arg(long)]
        with: Option<PathBuf>,
    },
    /// Tells how a statement would be routed and why, without running it.
    #[command(
        after_help = "Example:\n  pgring explain --config pgring.toml \"SELECT * FROM jobs WHERE user_id = 42\""
    )]
    Explain {
        /// The configuration file.
        #[arg(long)]
        config: PathBuf,
        /// Which database, if the configuration has several.
        #[arg(long)]
        database: Option<String>,
        /// The statement.
        statement: String,
    },
}

/// Carries out the command line.
pub fn run(cli: Cli) -> ExitCode {
    let outcome = match &cli.command {
        Command::Serve { config } => with_logs(&cli).and_then(|()| run_serve(config)),
        Command::Check { config, connect } => run_check(config, *connect),
        Command::Demo { shards, replicas, dir, port } => with_logs(&cli).and_then(|()| {
            run_demo(DemoOptions { shards: *shards, replicas: *replicas, dir: dir.clone(), port: *port })
        }),
        Command::Ring { config, key, with } => run_ring(config, key.as_deref(), with.as_deref()),
        Command::Explain { config, database, statement } => {
            run_explain(config, database.as_deref(), statement)
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            complain(&message);
            ExitCode::FAILURE
        }
    }
}

/// What went wrong, in words for the terminal.
type Outcome = Result<(), String>;

#[expect(clippy::print_stderr, reason = "a command's errors belong on the terminal")]
fn complain(message: &str) {
    eprintln!("{}", message.trim_end());
}

fn words(error: impl Display) -> String {
    error.to_string()
}

fn with_logs(cli: &Cli) -> Outcome {
    let format = match cli.log_format {
        Some(format) => format,
        None => logs::format_from_environment().map_err(words)?,
    };
    let filter = std::env::var("PGRING_LOG").ok();
    logs::init(format, filter.as_deref()).map_err(words)
}

fn run_serve(config: &Path) -> Outcome {
    let settings = config::load(config).map_err(words)?;
    runtime()?.block_on(serve::serve(config, settings, serve::Until::Signal)).map_err(words)
}

/// The runtime for everything that is not a client's statement.
fn runtime() -> Result<tokio::runtime::Runtime, String> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("pgring-control")
        .enable_all()
        .build()
        .map_err(|error| format!("cannot start: {error}"))
}

fn run_check(path: &Path, connect: bool) -> Outcome {
    let settings = config::load(path).map_err(words)?;
    println!("{}: valid: {}", path.display(), summary(&settings));
    if !connect {
        return Ok(());
    }
    let plan = check::Plan::new(&settings).map_err(words)?;
    let report = runtime()?.block_on(check::connect_report(&plan));
    print!("{report}");
    if report.level() == check::Level::Error { Err("not all is well".to_owned()) } else { Ok(()) }
}

fn summary(settings: &Settings) -> String {
    let databases = settings.databases.iter().map(|database| {
        let shards = database.shards.len();
        format!("{} on {shards} shard{}", database.name, if shards == 1 { "" } else { "s" })
    });
    format!("{}; users {}", databases.collect::<Vec<_>>().join(", "), user_names(settings))
}

fn user_names(settings: &Settings) -> String {
    settings.users.iter().map(|user| user.name.as_str()).collect::<Vec<_>>().join(", ")
}

fn run_demo(options: DemoOptions) -> Outcome {
    let servers = runtime()?;
    let demo = servers.block_on(Demo::start(options)).map_err(words)?;
    let settings = config::load(demo.config_path()).map_err(words)?;
    let banner = demo.banner();
    let serving = runtime()?;
    let served = serving.block_on(serve::serve(
        demo.config_path(),
        settings,
        serve::Until::SignalAfter(Box::new(move || {
            println!("{banner}");
        })),
    ));
    // What it does by itself ends before the servers do, and says nothing of that.
    serving.shutdown_timeout(std::time::Duration::from_secs(1));
    servers.block_on(demo.stop()).map_err(words)?;
    served.map_err(words)
}

/// A database's ring.
fn topology(database: &config::Database) -> Topology {
    let home = ShardId(u16::try_from(database.home).expect("a database has at most 1024 shards"));
    Topology::new(&database.weights(), database.virtual_nodes, home)
}

fn run_ring(path: &Path, key: Option<&str>, with: Option<&Path>) -> Outcome {
    let settings = config::load(path).map_err(words)?;
    let other = with.map(config::load).transpose().map_err(words)?;
    for database in &settings.databases {
        let ring = topology(database);
        print!("{}", report::describe_ring(&database.name, &ring));
        if let Some(key) = key {
            print!("{}", report::describe_key(&database.name, &ring, key));
        }
        if let Some(other) = &other {
            match other.database(&database.name) {
                Some(new) => print!("{}", report::describe_moves(&database.name, &ring, &topology(new))),
                None => println!("{}: not in the new configuration", database.name),
            }
        }
    }
    Ok(())
}

fn run_explain(path: &Path, database: Option<&str>, statement: &str) -> Outcome {
    let settings = config::load(path).map_err(words)?;
    let database = match (database, &settings.databases[..]) {
        (None, [only]) => only,
        (None, _) => {
            return Err("the configuration has several databases: name one with --database".to_owned());
        }
        (Some(name), _) => {
            settings.database(name).ok_or_else(|| format!("there is no database \"{name}\""))?
        }
    };
    let ring = topology(database);
    let schema = if database.shards.len() == 1 {
        sql::Schema::one_shard()
    } else {
        runtime()?.block_on(super::schemas::read_once(&settings, database, Duration::from_secs(5)))?
    };
    let mut lexed = Lexed::default();
    lexed.lex(statement.as_bytes(), true).map_err(|error| format!("syntax error: {error}"))?;
    let path = ["public".to_owned()];
    let context = sql::Context {
        schema: &schema,
        search_path: &path,
        standard_conforming_strings: true,
        default_key: database.key.as_deref().unwrap_or_default(),
        unknown: &std::cell::Cell::new(false),
    };
    let shape = sql::analyze(statement.as_bytes(), &lexed, &context);
    let request = Request {
        shape: &shape,
        text: statement.as_bytes(),
        lexed: &lexed,
        parameters: &Parameters::none(),
        topology: &ring,
        key_type: key_type(&schema),
        same_encoding: true,
        session_hints: &SessionHints::default(),
        transaction_shard: None,
    };
    let decision = route::route(&request);
    println!("{}", decision.explain(&shape, &ring));
    match route::steps(&shape, &decision, statement, &context) {
        Ok(steps) => steps.iter().for_each(|step| println!("{step}")),
        Err(told) => {
            println!("refused: {told}");
            if let Some(hint) = &told.hint {
                println!("hint: {hint}");
            }
        }
    }
    Ok(())
}

fn key_type(schema: &sql::Schema) -> KeyType {
    schema.key_type().unwrap_or(KeyType::Integer)
}
