//! Connections of the control role to a database's shards, and who they are.

use crate::config::Endpoint;
use crate::pool::health::{ControlConnection, Login, ShardBoard, Tls};
use crate::session::Database;
use crate::session::two_phase::Ability;
use crate::txn::Participant;
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;
use tokio_postgres::Client;

/// Why a shard could not be asked.
#[derive(Debug, Error)]
pub(super) enum Failure {
    #[error("it cannot be reached: {0}")]
    Unreachable(String),
    #[error("{}", crate::pool::health::connector::cause(.0))]
    Refused(#[from] tokio_postgres::Error),
    /// A transaction is in the way.
    #[error("{0}")]
    Held(String),
}

/// Opens them.
pub(super) struct Asker {
    pub(super) login: Login,
    pub(super) tls: Vec<Tls>,
    pub(super) timeout: Duration,
}

impl Asker {
    /// To the primary that a shard has now.
    pub(super) async fn open(&self, database: &Database, shard: usize) -> Result<Asked, Failure> {
        let unreachable = |why: String| Failure::Unreachable(why);
        let at = database.shards.get(shard).ok_or_else(|| unreachable("it is not configured".into()))?;
        let tls = self.tls.get(shard).ok_or_else(|| unreachable("it is not configured".into()))?;
        let snapshot = at.board.load_full();
        let primary = snapshot.primary().map_err(|why| unreachable(why.to_string()))?;
        let opening =
            ControlConnection::open(&primary.address, &at.dbname, &self.login, tls, self.timeout, || {});
        let connection = opening.await.map_err(|error| unreachable(error.to_string()))?;
        let asked = Asked { connection, board: Arc::clone(&at.board), endpoint: primary.address.clone() };
        asked.is_primary()?;
        Ok(asked)
    }
}

/// A connection to a shard's primary, as long as it is that. A primary that was replaced may live on
/// and answer; but what it has decided, or has not, is not what its successor has, and what is
/// decided there now nobody else hears of.
pub(super) struct Asked {
    connection: ControlConnection,
    board: Arc<ShardBoard>,
    endpoint: Endpoint,
}

impl Asked {
    /// To be asked before anything is done there, and before anything is done about what it said.
    pub(super) fn is_primary(&self) -> Result<(), Failure> {
        match self.board.load().primary() {
            Ok(primary) if primary.address == self.endpoint => Ok(()),
            Ok(_) => Err(Failure::Unreachable("its primary was replaced".to_owned())),
            Err(why) => Err(Failure::Unreachable(why.to_string())),
        }
    }

    /// Of use still?
    pub(super) fn is_good(&self) -> bool {
        !self.connection.is_closed() && self.is_primary().is_ok()
    }

    pub(super) fn client(&self) -> &Client {
        self.connection.client()
    }
}

/// The shard that is this server and database.
pub(super) fn shard_of(database: &Database, participant: &Participant) -> Option<usize> {
    let abilities = database.two_phase.ability.borrow();
    abilities.iter().position(|ability| matches!(ability, Ability::Able(is) if is == participant))
}

/// Who the shards are, as far as they have said so.
pub(super) fn identities(database: &Database) -> Vec<String> {
    let abilities = database.two_phase.ability.borrow();
    let able = abilities.iter().filter_map(|ability| match ability {
        Ability::Able(participant) => Some(participant.to_string()),
        Ability::Unknown(_) | Ability::Unable(..) => None,
    });
    able.collect()
}

/// Connections that are kept as long as they are of use, by shard.
#[derive(Default)]
pub(super) struct Others(Vec<Option<Asked>>);

impl Others {
    pub(super) async fn get(
        &mut self,
        asker: &Asker,
        database: &Database,
        shard: usize,
    ) -> Result<&Asked, Failure> {
        if self.0.len() <= shard {
            self.0.resize_with(shard + 1, || None);
        }
        let place = &mut self.0[shard];
        let kept = place.take().filter(Asked::is_good);
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
