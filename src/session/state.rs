//! What a session is made of, and how it ends.

use super::batch::Batch;
use super::cancel::{Control, Registration};
use super::directory::{Database, Directory};
use super::distributed::{AwaitsSync, Bound, Copying, Cursor, Ending};
use super::own::OwnSettings;
use super::pins::Pins;
use super::prepared::{Prepared, Statements};
use super::reads::{Positions, Servers};
use super::ready::Effect;
use super::settings::ConfigValues;
use super::tally::Tally;
use super::worker::Worker;
use crate::backend::{ServerError, Settings, Stream};
use crate::error::{ClientError, Severity, SqlState};
use crate::execute::{Event, Relay, Told};
use crate::pool::{Caller, Lease, ShardAccess, ShardUser};
use crate::ring::ShardId;
use crate::sql::{Access, KeyType};
use crate::telemetry::Metrics;
use crate::txn::{Phase, Transaction};
use crate::wire::{self, Buffer, TxStatus};
use hashbrown::HashMap;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

/// A client after its login. Fields are grouped by which file's business they are.
pub struct Session {
    pub(super) worker: Rc<Worker>,
    pub(super) registration: Registration,
    pub(super) directory: Arc<Directory>,
    pub(super) database: Arc<Database>,
    pub(super) tally: Rc<Tally>,
    pub(super) user: Arc<ShardUser>,
    pub(super) user_name: String,

    // io
    pub(super) stream: Stream,
    pub(super) inbox: Buffer,
    pub(super) outbox: Buffer,
    /// What of a client's frame is still to be passed on to the server as it comes.
    pub(super) passing: usize,
    /// It is dropped instead.
    pub(super) passing_nowhere: bool,
    pub(super) events: Vec<Event>,
    /// The message at the inbox's start waits until earlier ones have been answered.
    pub(super) postponed: bool,

    // attach
    pub(super) access: Box<[ShardAccess]>,
    pub(super) held: Option<Held>,
    /// Servers kept for the session while it uses another one.
    pub(super) parked: Vec<Held>,
    pub(super) relay: Relay,
    /// What the client knows of reported parameters.
    pub(super) told: Told,
    /// Where a statement goes that may go anywhere.
    pub(super) favourite: ShardId,

    // reads
    /// Which servers of its shards the statement routed last, or the transaction, runs on.
    pub(super) source: Servers,
    /// Nothing else of its batch can come on the server that the message under work goes to.
    pub(super) alone: bool,
    /// The statement routed last has been given a replica.
    pub(super) on_replica: bool,
    /// How far a replica has to be for the session to see its own writes.
    pub(super) positions: Positions,

    // transaction, settings
    pub(super) tx: Transaction,
    /// What the session began with: what `RESET` goes back to.
    pub(super) initial: Arc<Settings>,
    pub(super) settings: Arc<Settings>,
    pub(super) own: OwnSettings,
    /// Before the session changes it.
    pub(super) default_path: Rc<[String]>,
    /// As `SHOW` prints it.
    pub(super) default_path_text: String,
    pub(super) search_path: Rc<[String]>,
    pub(super) standard_conforming_strings: bool,
    /// What that was when the session began, and when it was last outside a transaction.
    pub(super) strings: (bool, bool),
    /// The text analysed last names a table that is not known.
    pub(super) unknown_table: Cell<bool>,
    /// A `ReadyForQuery` that waits until the schema has been read again.
    pub(super) ready_held: Option<TxStatus>,
    /// It does for that reason, not only for a question about pins.
    pub(super) reads_schema: bool,
    /// What the analysis depends on, as a number of the thread's; with the schema's epoch.
    pub(super) context: Option<(u64, u64)>,

    /// What the client has been told of parameters that no server has yet: before, and now.
    pub(super) told_ahead: BTreeMap<String, (String, String)>,
    /// Why the transaction is lost, which the client has not been told: it had asked nothing.
    pub(super) unsaid: Option<Box<ClientError>>,
    /// Something may have ended what pins the held server.
    pub(super) pins_to_check: bool,
    /// `currval()` and `lastval()` have been asked for: the session keeps its server.
    pub(super) keeps_sequences: bool,
    /// Such code has run on the servers of a statement of several shards.
    pub(super) in_doubt: bool,
    /// As whom more servers are asked for while some are brought together.
    pub(super) asks_as: Caller,
    /// A server has refused a setting of the session's.
    pub(super) lost_setting: bool,

    // simple, extended
    pub(super) statements: Statements,
    pub(super) unnamed: Option<Rc<Prepared>>,
    /// Which `Parse` made it.
    pub(super) unnamed_ticket: u64,
    pub(super) portals: HashMap<Box<[u8]>, Rc<Prepared>>,
    /// What has been done without a server, and with which portal.
    pub(super) done_here: Vec<(Here, Box<[u8]>)>,
    pub(super) unnamed_portal: Option<Rc<Prepared>>,
    /// Portals that several servers answer.
    pub(super) distributed: HashMap<Box<[u8]>, Bound>,
    /// A `COPY` that several servers wait for the client's data of.
    pub(super) copying: Option<Box<Copying>>,
    /// SQL's cursors, and named portals of transactions, that have to be found again.
    pub(super) cursors: HashMap<Box<[u8]>, Cursor>,
    /// Names of tables that the open transaction has made on every shard.
    pub(super) made: Vec<String>,
    /// Several servers are being told to end a transaction.
    pub(super) ending: Ending,
    /// A change on several servers that is committed with the `Sync` behind it.
    pub(super) awaits_sync: Option<Box<AwaitsSync>>,
    /// Values of `set_config()` that came as parameters, by portal.
    pub(super) config_values: HashMap<Box<[u8]>, ConfigValues>,
    pub(super) batch: Batch,
    /// What the statements under way will do to the session, by note.
    pub(super) effects: Vec<Effect>,
    /// The last statement's route, for `SHOW pgring.route`.
    pub(super) last_route: super::own::LastRoute,
    /// How keys of the database are typed.
    pub(super) key_type: KeyType,
    /// The client's encoding is the servers'.
    pub(super) same_encoding: bool,
    /// What the statement that was routed last may do.
    pub(super) access_kind: Access,
    /// When the statement under way was sent, and what it is counted as.
    pub(super) began: Option<(Instant, Access)>,
    /// Since when the client waits for answers, for the time limit.
    pub(super) asked_since: Option<Instant>,
    /// When the transaction on the server began.
    pub(super) transaction_began: Option<Instant>,
    /// Since when the session waits for the client.
    pub(super) idle_since: Instant,
}

/// A server the session has.
pub(super) struct Held {
    pub(super) shard: ShardId,
    /// It is not the primary: it was taken to be read from.
    pub(super) replica: bool,
    pub(super) lease: Lease,
    /// Why it stays after the transaction.
    pub(super) pins: Pins,
    pub(super) doubt: Doubt,
}

/// What pgring itself has done with a portal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Here {
    /// Bound it: no server has been told of it.
    Bound,
    /// Answered it.
    Ran,
}

/// What code may have left on a server that no question has found.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Doubt {
    None,
    /// One of the parameters that functions set, with the value it has anyway.
    Equal,
    /// A parameter of a name that only the code knows.
    Settings,
    /// Nothing was asked.
    Anything,
}

/// How a session ends.
#[derive(Debug)]
pub enum End {
    /// The client said goodbye.
    Terminated,
    /// The client is gone without a word.
    Vanished(io::Error),
    /// The client has to be told this first.
    Fatal(ClientError),
}

impl From<io::Error> for End {
    fn from(error: io::Error) -> End {
        End::Vanished(error)
    }
}

impl From<ClientError> for End {
    fn from(error: ClientError) -> End {
        End::Fatal(ClientError { severity: Severity::Fatal, ..error })
    }
}

impl From<wire::FrameError> for End {
    fn from(error: wire::FrameError) -> End {
        ClientError::protocol(error.to_string()).into()
    }
}

impl From<wire::BodyError> for End {
    fn from(error: wire::BodyError) -> End {
        ClientError::protocol(error.to_string()).into()
    }
}

impl Session {
    pub(super) fn control(&self) -> &Control {
        &self.registration.control
    }

    pub(super) fn metrics(&self) -> &Metrics {
        &self.worker.metrics
    }

    /// Serves the client to its end, and says how it came.
    pub async fn run(mut self: Box<Self>) -> End {
        let end = match self.work().await {
            Ok(()) => End::Terminated,
            Err(end) => end,
        };
        if let End::Fatal(error) = &end {
            wire::put_error(&mut self.outbox, error);
            // A client that does not read its last message does not get it.
            let farewell = self.stream.drain(&mut self.outbox);
            let _ = Box::pin(tokio::time::timeout(std::time::Duration::from_secs(5), farewell)).await;
        }
        Box::pin(self.leave()).await;
        end
    }

    async fn work(&mut self) -> Result<(), End> {
        loop {
            while let Some(head) = self.next_frame()? {
                if head.tag == b'X' {
                    return Ok(());
                }
                self.frame(head).await?;
            }
            if self.has_to_fall() {
                Box::pin(self.fall()).await?;
            }
            self.io().await?;
            self.settle().await?;
        }
    }

    /// What the client is told of its transaction.
    pub(super) fn status(&self) -> TxStatus {
        if self.tx.is_failed() {
            return TxStatus::Failed;
        }
        match (self.tx.phase(), &self.held) {
            (Phase::Idle, _) => TxStatus::Idle,
            (Phase::Pending, _) | (Phase::Open, None) => TxStatus::Open,
            (Phase::Open, Some(held)) => held.lease.status,
        }
    }

    /// Says something to the client after everything that is still to come from the server.
    pub(super) fn say(&mut self, bytes: &'static [u8]) {
        if self.relay.is_busy() {
            self.relay.expect(crate::execute::Expect::Emit(crate::execute::Emit::Static(bytes)));
        } else {
            self.outbox.put(bytes);
        }
    }

    /// As [`Session::say`], of messages that `write` makes.
    pub(super) fn say_with(&mut self, write: impl FnOnce(&mut Buffer)) {
        if self.relay.is_busy() {
            let mut made = Buffer::new();
            write(&mut made);
            let bytes = made.filled().into();
            self.relay.expect(crate::execute::Expect::Emit(crate::execute::Emit::Bytes(bytes)));
        } else {
            write(&mut self.outbox);
        }
    }

    /// What the client is told of a server that failed it.
    pub(super) fn server_error(&self, error: &ServerError, committing: bool) -> ClientError {
        let shard = self.held.as_ref().map_or(self.favourite, |held| held.shard);
        self.server_error_of(shard, error, committing)
    }

    /// The same of any shard's.
    pub(super) fn server_error_of(
        &self,
        shard: ShardId,
        error: &ServerError,
        committing: bool,
    ) -> ClientError {
        let shard = self.database.topology.name(shard).to_owned();
        let error = match error {
            ServerError::Refused { body, .. } => match wire::error_field(body, b'C') {
                Some(b"57P01" | b"57P02" | b"57P03") => ClientError::error(
                    SqlState::SHUTTING_DOWN,
                    format!("shard \"{shard}\" terminated the connection due to administrator command"),
                ),
                Some(b"25P03") => {
                    return ClientError::error(
                        SqlState::IDLE_TRANSACTION,
                        format!("shard \"{shard}\" ended the transaction: it was idle there for too long"),
                    )
                    .with_hint(
                        "idle_in_transaction_session_timeout counts on each shard, also while the transaction is at work \
                         on another.",
                    );
                }
                _ => ClientError::error(
                    SqlState::SERVER_LOST,
                    format!("shard \"{shard}\" ended the connection"),
                ),
            },
            ServerError::Closed | ServerError::Io(_) => ClientError::error(
                SqlState::SERVER_LOST,
                format!("the connection to shard \"{shard}\" was lost"),
            ),
            ServerError::Protocol(_) => ClientError::error(
                SqlState::SERVER_LOST,
                format!("shard \"{shard}\" sent what pgring does not understand"),
            ),
        };
        if committing {
            return ClientError::error(
                SqlState::OUTCOME_UNKNOWN,
                format!("the connection to shard \"{shard}\" was lost before it answered COMMIT"),
            )
            .with_hint("Whether the transaction was committed is not known: look before you repeat it.");
        }
        error.with_hint("The next statement gets a new connection.")
    }
}
