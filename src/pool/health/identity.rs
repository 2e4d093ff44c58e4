//! Which shard a server says it is.
//!
//! Endpoints that were exchanged in the file lead to servers that are well and hold other rows. Every shard
//! of a database with several has its name in `pgring.shard` and `pgring.shard_number` (see `app/ids.rs`),
//! and so have its replicas and what is restored of it; a server that names another one is not used. One that says
//! nothing, because it is new or the control role may not read it there, is what the file says it is.
//!
//! The names are read once on each connection, and at each probe while they do not fit. A question that
//! is not answered, say because somebody holds a lock, costs no server its place: what was known last holds.

use std::fmt;

use tokio_postgres::{Client, SimpleQueryMessage};

use super::connector::lost;
use super::state::ProbeFailure;

/// Whom the file takes a server for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Expected {
    /// The shard's name.
    pub shard: String,
}

/// A server that is not what the file says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Stranger {
    /// It is another shard.
    Shard {
        /// By its own words.
        says: String,
        /// By the file's.
        expected: String,
    },
}

impl fmt::Display for Stranger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Stranger::Shard { says, expected } => write!(
                f,
                "says that it is shard {says:?} (table pgring.shard), and the file has it as shard {expected:?}"
            ),
        }
    }
}

/// In a schema of somebody else's anything may stand, and reading a view there would run it.
const IS_THERE: &str = "SELECT c.relname FROM pg_catalog.pg_class AS c \
     JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace \
     JOIN pg_catalog.pg_roles AS r ON r.oid = n.nspowner \
     WHERE n.nspname = 'pgring' AND (r.rolname = current_user OR r.rolsuper) \
       AND c.relname IN ('shard', 'shard_number') AND c.relkind = 'r' AND NOT c.relrowsecurity \
       AND pg_catalog.has_schema_privilege(n.oid, 'USAGE') AND pg_catalog.has_table_privilege(c.oid, 'SELECT')";

/// `SET LOCAL` is for the one message, which is a transaction. Whoever alters the tables must not make a probe
/// late.
const SHARD: &str = "SET LOCAL lock_timeout = '100ms'; \
     SELECT n.shard FROM pgring.shard AS s JOIN pgring.shard_number AS n ON n.number = s.number";

/// What is known of one connection's server.
#[derive(Debug, Default)]
pub struct Identity {
    /// It has said something, or that it has nothing to say.
    asked: bool,
    stranger: Option<Stranger>,
}

impl Identity {
    /// For a new connection to the same endpoint.
    pub fn renewed(&self) -> Identity {
        Identity { asked: false, stranger: self.stranger.clone() }
    }

    /// Asks if need be.
    pub async fn ask(
        &mut self,
        client: &Client,
        expected: &Expected,
    ) -> Result<Option<Stranger>, ProbeFailure> {
        if !self.asked || self.stranger.is_some() {
            if let Some(found) = read(client).await? {
                self.stranger = judge(expected, found);
                self.asked = true;
            }
        }
        Ok(self.stranger.clone())
    }
}

/// What a server has said of itself.
#[derive(Debug, Default)]
struct Said {
    shard: Option<String>,
}

fn judge(expected: &Expected, said: Said) -> Option<Stranger> {
    let says = said.shard.filter(|says| *says != expected.shard)?;
    Some(Stranger::Shard { says, expected: expected.shard.clone() })
}

/// `None`: not to be had now.
async fn read(client: &Client) -> Result<Option<Said>, ProbeFailure> {
    let Some(tables) = column(client, IS_THERE).await? else { return Ok(None) };
    let mut said = Said::default();
    if ["shard", "shard_number"].iter().all(|name| tables.iter().any(|table| table == name)) {
        let Some(names) = column(client, SHARD).await? else { return Ok(None) };
        said.shard = names.into_iter().next();
    }
    Ok(Some(said))
}

/// The first values of the answer; `None` if the server refuses.
async fn column(client: &Client, text: &str) -> Result<Option<Vec<String>>, ProbeFailure> {
    match client.simple_query(text).await {
        Ok(messages) => {
            let value = |message: &SimpleQueryMessage| match message {
                SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
                _ => None,
            };
            Ok(Some(messages.iter().filter_map(value).collect()))
        }
        Err(error) if error.as_db_error().is_some() => Ok(None),
        Err(error) => Err(lost(&error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_a_stranger() {
        for (expected, says, stranger) in [
            ("s1", None, false),
            ("s1", Some("s1"), false),
            ("s1", Some("s2"), true),
            ("s1", Some("S1"), true),
        ] {
            let said = Said { shard: says.map(str::to_owned) };
            let found = judge(&Expected { shard: expected.to_owned() }, said);
            assert_eq!(found.is_some(), stranger, "{expected} {says:?}");
            if let Some(found) = found {
                let text = found.to_string();
                assert!(text.contains(expected) && text.contains(says.unwrap_or_default()), "{text}");
            }
        }
    }
}
