//! Which shard a server says it is, and of which placement of rows.
//!
//! Endpoints that were exchanged in the file lead to servers that are well and hold other rows. Every shard
//! of a database with several has its name in `pgring.shard` and `pgring.shard_number` (see `app/ids.rs`),
//! and so have its replicas and what is restored of it; a server that names another one is not used. One that says
//! nothing, because it is new or the control role may not read it there, is what the file says it is.
//!
//! In the same way each has, in `pgring.placement`, which shards, weights, keys and home its rows were placed by
//! (see `app/placement.rs`): a file that was changed while no pgring ran must not put rows out of reach. A shard
//! that has no such row may be new, and its keys be on the others: one that objects speaks for all of its
//! database's ([`Council`]), and at the start the first answer waits for those of the other shards.
//!
//! Both are read once on each connection, and at each probe while they do not fit. A question that
//! is not answered, say because somebody holds a lock, costs no server its place: what was known last holds.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use tokio::sync::watch;
use tokio_postgres::{Client, SimpleQueryMessage};

use super::connector::lost;
use super::roles::EndpointIndex;
use super::state::ProbeFailure;

/// Whom the file takes a server for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Expected {
    /// The shard's name.
    pub shard: String,
    /// Where its database's rows are.
    pub placement: String,
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
    /// Its rows, or those of its database's other shards, were placed otherwise.
    Placement {
        /// By what the shards have stored.
        stored: String,
        /// By the file.
        file: String,
    },
}

impl fmt::Display for Stranger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Stranger::Shard { says, expected } => write!(
                f,
                "says that it is shard {says:?} (table pgring.shard), and the file has it as shard {expected:?}"
            ),
            Stranger::Placement { stored, file } => write!(
                f,
                "is of shards whose rows are placed otherwise than the file says: table pgring.placement has \
                 \"{}\", the file has \"{}\" (restore the file; or, if no row would be out of reach, delete the \
                 row of pgring.placement on every shard)",
                only_in(stored, file),
                only_in(file, stored)
            ),
        }
    }
}

/// The lines that another text has not.
fn only_in(text: &str, other: &str) -> String {
    let lines: Vec<String> = text
        .lines()
        .filter(|line| other.lines().all(|of| of != *line))
        .map(|line| line.replace('\t', " "))
        .collect();
    lines.join(", ")
}

/// In a schema of somebody else's anything may stand, and reading a view there would run it.
const IS_THERE: &str = "SELECT c.relname FROM pg_catalog.pg_class AS c \
     JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace \
     JOIN pg_catalog.pg_roles AS r ON r.oid = n.nspowner \
     WHERE n.nspname = 'pgring' AND (r.rolname = current_user OR r.rolsuper) \
       AND c.relname IN ('shard', 'shard_number', 'placement') AND c.relkind = 'r' AND NOT c.relrowsecurity \
       AND pg_catalog.has_schema_privilege(n.oid, 'USAGE') AND pg_catalog.has_table_privilege(c.oid, 'SELECT')";

/// `SET LOCAL` is for the one message, which is a transaction. Whoever alters the tables must not make a probe
/// late.
const SHARD: &str = "SET LOCAL lock_timeout = '100ms'; \
     SELECT n.shard FROM pgring.shard AS s JOIN pgring.shard_number AS n ON n.number = s.number";

const PLACEMENT: &str = "SET LOCAL lock_timeout = '100ms'; SELECT text FROM pgring.placement";

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
        if (!self.asked || self.stranger.is_some())
            && let Some(found) = read(client).await?
        {
            self.stranger = judge(expected, found);
            self.asked = true;
        }
        Ok(self.stranger.clone())
    }
}

/// What a server has said of itself.
#[derive(Debug, Default)]
struct Said {
    shard: Option<String>,
    placement: Option<String>,
}

fn judge(expected: &Expected, said: Said) -> Option<Stranger> {
    if let Some(says) = said.shard.filter(|says| *says != expected.shard) {
        return Some(Stranger::Shard { says, expected: expected.shard.clone() });
    }
    let stored = said.placement.filter(|stored| *stored != expected.placement)?;
    Some(Stranger::Placement { stored, file: expected.placement.clone() })
}

/// `None`: not to be had now.
async fn read(client: &Client) -> Result<Option<Said>, ProbeFailure> {
    let Some(tables) = column(client, IS_THERE).await? else { return Ok(None) };
    let mut said = Said::default();
    if ["shard", "shard_number"].iter().all(|name| tables.iter().any(|table| table == name)) {
        let Some(names) = column(client, SHARD).await? else { return Ok(None) };
        said.shard = names.into_iter().next();
    }
    if tables.iter().any(|table| table == "placement") {
        let Some(texts) = column(client, PLACEMENT).await? else { return Ok(None) };
        said.placement = texts.into_iter().next();
    }
    Ok(Some(said))
}

/// What the shards of one database say of the placement.
#[derive(Debug)]
pub(super) struct Council {
    /// So many shards are there.
    shards: usize,
    said: watch::Sender<Heard>,
}

#[derive(Debug, Default)]
struct Heard {
    /// Shards of which an endpoint has answered or failed to.
    shards: BTreeSet<String>,
    objections: BTreeMap<(String, EndpointIndex), Stranger>,
}

impl Council {
    pub(super) fn new(shards: usize) -> Council {
        Council { shards, said: watch::Sender::new(Heard::default()) }
    }

    /// An endpoint has said this of the placement.
    pub(super) fn tell(&self, shard: &str, endpoint: EndpointIndex, stranger: Option<&Stranger>) {
        self.said.send_modify(|heard| {
            heard.shards.insert(shard.to_owned());
            let key = (shard.to_owned(), endpoint);
            match stranger {
                Some(objection @ Stranger::Placement { .. }) => {
                    heard.objections.insert(key, objection.clone())
                }
                _ => heard.objections.remove(&key),
            };
        });
    }

    /// An endpoint cannot be asked; what it has said before holds.
    pub(super) fn is_silent(&self, shard: &str) {
        self.said.send_if_modified(|heard| heard.shards.insert(shard.to_owned()));
    }

    /// The shard's endpoints may be others now: it is waited for again.
    pub(super) fn forget(&self, shard: &str) {
        self.said.send_modify(|heard| {
            heard.shards.remove(shard);
            heard.objections.retain(|(of, _), _| of != shard);
        });
    }

    /// Waits until every shard has been heard of once; for `limit` at most.
    pub(super) async fn convene(&self, limit: Duration) {
        let mut said = self.said.subscribe();
        let all = said.wait_for(|heard| heard.shards.len() >= self.shards);
        // Who is late is heard at a later probe.
        let _ = tokio::time::timeout(limit, all).await;
    }

    /// Somebody's objection.
    pub(super) fn objection(&self) -> Option<Stranger> {
        self.said.borrow().objections.values().next().cloned()
    }
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
            let said = Said { shard: says.map(str::to_owned), placement: None };
            let file = Expected { shard: expected.to_owned(), placement: "home\ts1".to_owned() };
            let found = judge(&file, said);
            assert_eq!(found.is_some(), stranger, "{expected} {says:?}");
            if let Some(found) = found {
                let text = found.to_string();
                assert!(text.contains(expected) && text.contains(says.unwrap_or_default()), "{text}");
            }
        }
    }

    #[test]
    fn one_that_objects_speaks_for_all() {
        let stored = Said { shard: None, placement: Some("key\tk\nhome\ts1".to_owned()) };
        let file = Expected { shard: "s1".to_owned(), placement: "key\tk\nhome\ts2".to_owned() };
        let stranger = judge(&file, stored).unwrap();
        let text = stranger.to_string();
        assert!(text.contains("has \"home s1\"") && text.contains("has \"home s2\""), "{text}");
        let council = Council::new(2);
        council.tell("s1", EndpointIndex(0), Some(&stranger));
        council.tell("s2", EndpointIndex(0), None);
        assert_eq!(council.objection(), Some(stranger));
        council.is_silent("s1");
        assert!(council.objection().is_some());
        council.tell("s1", EndpointIndex(0), None);
        assert_eq!(council.objection(), None);
    }
}
