//! A statement is parsed under the settings it was parsed under first, on whichever server.
//!
//! PostgreSQL makes constants of a statement's strings when it parses it: `'2024-01-01 00:00'` is a
//! moment in the time zone of then. A session that has changed a setting since, and meets a server
//! that does not have the statement yet, has it parsed there under the settings of then: they are
//! taken on and left again in the round trip of the `Parse`, without a trace.

use super::prepared::Prepared;
use super::sql_prepared::put_run;
use super::state::Session;
use crate::error::ClientError;
use crate::sql::Kind;
use crate::txn::Phase;

/// No savepoint of a client's is hidden by it: it is gone before the client's next statement.
const SAVEPOINT: &str = "__pgring_reading";

impl Session {
    /// Sends ahead of a statement's `Parse` what has the held server read it as it was read first;
    /// gives what has to be run behind it ([`Session::run_hidden`]).
    ///
    /// # Errors
    /// In the middle of a pipeline's implicit transaction that has settings of its own this cannot
    /// be undone.
    pub(super) fn read_as_first(&mut self, statement: &Prepared) -> Result<Vec<String>, ClientError> {
        if statement.under.first.read_alike(&statement.under.now, statement.reading) {
            return Ok(Vec::new());
        }
        // They have no meaning but their words, and have to run in a failed transaction too.
        if let Some(Kind::Commit { .. } | Kind::Rollback { .. } | Kind::RollbackTo(_)) =
            statement.shape.statements.first().map(|only| &only.kind)
        {
            return Ok(Vec::new());
        }
        let now = self.settings_in_force();
        let first = now.reading_as(&statement.under.first, statement.reading);
        let mut ahead = now.statements_towards(&first);
        if ahead.is_empty() {
            return Ok(Vec::new());
        }
        let behind = if self.tx.phase() != Phase::Open && !self.batch.has_run() {
            // A prepared statement stays when its transaction is undone.
            ahead.insert(0, "BEGIN".to_owned());
            vec!["ROLLBACK".to_owned()]
        } else if self.tx.changes().is_empty() {
            first.statements_towards(&now)
        } else if self.tx.phase() == Phase::Open {
            ahead.insert(0, format!("SAVEPOINT {SAVEPOINT}"));
            vec![format!("ROLLBACK TO {SAVEPOINT}"), format!("RELEASE {SAVEPOINT}")]
        } else {
            return Err(ClientError::refused(
                "a statement that was prepared under other settings cannot be prepared again among those of a pipeline",
                "Send a Sync before it.",
            ));
        };
        self.run_hidden(&ahead);
        Ok(behind)
    }

    /// Has the held server run statements of pgring's own, which leave the client's unnamed
    /// statement and portal alone.
    pub(super) fn run_hidden(&mut self, statements: &[String]) {
        let Some(held) = &mut self.held else { return };
        for statement in statements {
            put_run(&mut held.lease, &mut self.relay, statement.as_bytes());
            self.batch.send();
        }
    }
}
