//! pgring and the oracle side by side.

use std::error::Error;
use std::sync::LazyLock;

use bytes::BytesMut;
use pgring::demo::cluster::Cluster;
use pgring::demo::sample::{self, APP};
use pgring::ring::ShardId;
use tokio_postgres::types::{Format, FromSql, IsNull, ToSql, Type, to_sql_checked};
use tokio_postgres::{Client, SimpleQueryMessage};

use crate::support::{self, Config, Proxy};

/// The sample over three shards, and all of it in one database. `proxy` serves what one shard answers, and
/// refuses the rest, so that a wrong route is not made up for by asking all of them.
pub(crate) struct Stage {
    pub(crate) proxy: Proxy,
    several: Proxy,
    pub(crate) name: String,
    pub(crate) servers: Vec<&'static Cluster>,
    oracle: String,
}

/// All tests of the file read it; what they write they roll back.
pub(crate) static STAGE: LazyLock<Stage> = LazyLock::new(|| {
    let servers = support::servers(3);
    let name = support::sample_database(&servers);
    let oracle = support::sample_database(&servers[..1]);
    let proxy =
        Proxy::start(Config::new().database(&name, &servers).set("routing", "cross_shard", "\"refuse\""));
    let several = Proxy::start(Config::new().database(&name, &servers));
    Stage { proxy, several, oracle: servers[0].dsn(APP, &oracle), name, servers }
});

impl Stage {
    pub(crate) fn dsn(&self) -> String {
        self.proxy.dsn(APP, &self.name)
    }

    /// Through a proxy that asks several shards where it has to.
    pub(crate) async fn pair_of_several(&self) -> Pair {
        let pgring = support::connect(&self.several.dsn(APP, &self.name)).await;
        Pair { pgring, oracle: support::connect(&self.oracle).await }
    }

    pub(crate) async fn pair(&self) -> Pair {
        Pair { pgring: support::connect(&self.dsn()).await, oracle: support::connect(&self.oracle).await }
    }
}

/// A session on each.
pub(crate) struct Pair {
    pub(crate) pgring: Client,
    pub(crate) oracle: Client,
}

/// What a database says to a statement.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Answer {
    /// For each statement of the text its rows and the number in its command tag.
    Rows(Vec<(Vec<Vec<Option<String>>>, u64)>),
    /// SQLSTATE, message, hint.
    Error { code: String, message: String, hint: Option<String> },
}

impl Answer {
    fn of_error(error: &tokio_postgres::Error) -> Answer {
        let Some(error) = error.as_db_error() else { panic!("the connection was lost: {error:?}") };
        Answer::Error {
            code: error.code().code().to_owned(),
            message: error.message().to_owned(),
            hint: error.hint().map(str::to_owned),
        }
    }

    pub(crate) fn code(&self) -> Option<&str> {
        match self {
            Answer::Rows(_) => None,
            Answer::Error { code, .. } => Some(code),
        }
    }

    /// pgring's own refusal: it says what to do instead.
    pub(crate) fn is_refusal(&self) -> bool {
        matches!(self, Answer::Error { code, hint: Some(hint), .. } if code == "0A000" && !hint.is_empty())
    }

    /// The same answer: errors by their code, rows in any order unless they were sorted.
    pub(crate) fn same(&self, other: &Answer, sorted: bool) -> bool {
        match (self, other) {
            (Answer::Rows(mine), Answer::Rows(theirs)) => {
                let (mut mine, mut theirs) = (mine.clone(), theirs.clone());
                if !sorted {
                    for (rows, _) in mine.iter_mut().chain(&mut theirs) {
                        rows.sort();
                    }
                }
                mine == theirs
            }
            _ => self.code() == other.code(),
        }
    }
}

/// A text under the simple protocol.
pub(crate) async fn ask(client: &Client, text: &str) -> Answer {
    let messages = match client.simple_query(text).await {
        Ok(messages) => messages,
        Err(error) => return Answer::of_error(&error),
    };
    let mut answers = Vec::new();
    let mut rows = Vec::new();
    for message in messages {
        match message {
            SimpleQueryMessage::Row(row) => {
                rows.push((0..row.len()).map(|column| row.get(column).map(str::to_owned)).collect());
            }
            SimpleQueryMessage::CommandComplete(count) => answers.push((std::mem::take(&mut rows), count)),
            _ => {}
        }
    }
    Answer::Rows(answers)
}

/// A parameter as it is to go over the wire.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    Text(String),
    Binary(Vec<u8>),
    Null,
}

impl ToSql for Value {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        match self {
            Value::Text(text) => out.extend_from_slice(text.as_bytes()),
            Value::Binary(bytes) => out.extend_from_slice(bytes),
            Value::Null => return Ok(IsNull::Yes),
        }
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    fn encode_format(&self, _: &Type) -> Format {
        match self {
            Value::Text(_) => Format::Text,
            _ => Format::Binary,
        }
    }

    to_sql_checked!();
}

/// A column's bytes as they came, shown in hexadecimal.
struct Raw(String);

impl<'a> FromSql<'a> for Raw {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Raw, Box<dyn Error + Sync + Send>> {
        Ok(Raw(format!("{raw:02x?}")))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

/// A text under the extended protocol, with parameters of these declared types.
pub(crate) async fn ask_with(client: &Client, text: &str, types: &[Type], values: &[Value]) -> Answer {
    let asked = async {
        let statement = client.prepare_typed(text, types).await?;
        let parameters: Vec<&(dyn ToSql + Sync)> = values.iter().map(|value| value as _).collect();
        if statement.columns().is_empty() {
            return Ok(Answer::Rows(vec![(Vec::new(), client.execute(&statement, &parameters).await?)]));
        }
        let rows = client.query(&statement, &parameters).await?;
        let rows: Vec<Vec<Option<String>>> = rows
            .iter()
            .map(|row| (0..row.len()).map(|at| row.get::<_, Option<Raw>>(at).map(|raw| raw.0)).collect())
            .collect();
        let count = rows.len() as u64;
        Ok(Answer::Rows(vec![(rows, count)]))
    };
    asked.await.unwrap_or_else(|error| Answer::of_error(&error))
}

/// Users of the sample by where they live.
pub(crate) struct Users {
    by_shard: Vec<Vec<i64>>,
}

impl Users {
    pub(crate) fn of_three_shards() -> Users {
        let topology = support::topology(3);
        Users { by_shard: topology.ids().map(|shard| sample::owned_users(&topology, shard)).collect() }
    }

    /// The n-th user of a shard; shards count round.
    pub(crate) fn on(&self, shard: usize, n: usize) -> i64 {
        self.by_shard[shard % self.by_shard.len()][n]
    }

    /// `{a}` and `{a2}` live on one shard, `{b}` and `{c}` on the two others; `turn` says which.
    pub(crate) fn fill(&self, text: &str, turn: usize) -> String {
        text.replace("{a}", &self.on(turn, 0).to_string())
            .replace("{a2}", &self.on(turn, 1).to_string())
            .replace("{b}", &self.on(turn + 1, 0).to_string())
            .replace("{c}", &self.on(turn + 2, 0).to_string())
    }
}

/// The server of a shard by its number.
pub(crate) fn shard_name(shard: ShardId) -> String {
    format!("s{}", shard.index() + 1)
}
