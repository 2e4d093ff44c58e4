//! Connections of the control role to a database's shards, and who they are.

use crate::config::Endpoint;
use crate::pool::health::{ControlConnection, Login, Tls};
use crate::session::Database;
use crate::session::two_phase::Ability;
use crate::txn::Participant;
use std::time::Duration;
use thiserror::Error;

/// Why a shard could not be asked.
#[derive(Debug, Error)]
pub(super) enum Failure {
    #[error("it cannot be reached: {0}")]
    Unreachable(String),
    #[error("{}", crate::pool::health::connector::cause(.0))]
    Refused(#[from] tokio_postgres::Error),
}

/// A connection, and to whom.
pub(super) struct Open {
    pub(super) connection: ControlConnection,
    endpoint: Endpoint,
}

impl Open {
    pub(super) fn client(&self) -> &tokio_postgres::Client {
        self.connection.client()
    }

    /// Does it lead to the shard's primary of now? What an old one says does not count any more.
    pub(super) fn is_current(&self, database: &Database, shard: usize) -> bool {
        let primary = |at: &std::sync::Arc<crate::pool::Shard>| {
            at.board.load_full().primary().is_ok_and(|primary| primary.address == self.endpoint)
        };
        !self.connection.is_closed() && database.shards.get(shard).is_some_and(primary)
    }
}

/// Opens them.
pub(super) struct Asker {
    pub(super) login: Login,
    pub(super) tls: Vec<Tls>,
    pub(super) timeout: Duration,
}

impl Asker {
    /// To the primary that a shard has now.
    pub(super) async fn open(&self, database: &Database, shard: usize) -> Result<Open, Failure> {
        let unreachable = |why: String| Failure::Unreachable(why);
        let at = database.shards.get(shard).ok_or_else(|| unreachable("it is not configured".into()))?;
        let tls = self.tls.get(shard).ok_or_else(|| unreachable("it is not configured".into()))?;
        let snapshot = at.board.load_full();
        let primary = snapshot.primary().map_err(|why| unreachable(why.to_string()))?;
        let opening =
            ControlConnection::open(&primary.address, &at.dbname, &self.login, tls, self.timeout, || {});
        let connection = opening.await.map_err(|error| unreachable(error.to_string()))?;
        Ok(Open { connection, endpoint: primary.address.clone() })
    }
}

/// The shard that is this server and database.
pub(super) fn shard_of(database: &Database, participant: &Participant) -> Option<usize> {
    let abilities = database.two_phase.ability.borrow();
    abilities.iter().position(|ability| matches!(ability, Ability::Able(is) if is == participant))
}

/// Connections that are kept as long as they are of use, by shard.
#[derive(Default)]
pub(super) struct Others(Vec<Option<Open>>);

impl Others {
    pub(super) async fn get(
        &mut self,
        asker: &Asker,
        database: &Database,
        shard: usize,
    ) -> Result<&Open, Failure> {
        if self.0.len() <= shard {
            self.0.resize_with(shard + 1, || None);
        }
        let place = &mut self.0[shard];
        let kept = place.take().filter(|open| open.is_current(database, shard));
        let connection = match kept {
            Some(connection) => connection,
            None => asker.open(database, shard).await?,
        };
        Ok(place.insert(connection))
    }

    /// It may lead to a server that is no primary any more, or be in the middle of something.
    pub(super) fn drop(&mut self, shard: usize) {
        if let Some(place) = self.0.get_mut(shard) {
            *place = None;
        }
    }
}
