//! Two-phase commit beside the sessions: what shards need for it, and recovery of what was left.
//!
//! A task a shard sees to it that the shard has the objects ([`objects`]), says who it is, looks for
//! what is prepared there ([`sweep`], [`witness`]) and, as a decider, what its decisions have come to
//! ([`review`]). Any number of proxies do so at once; what each step rests on is in
//! [`crate::txn::recovery`]. Sessions that have lost a decider ask here too ([`decider`]).
//!
//! The control role has to be superuser, or a member of the roles whose transactions it finishes;
//! and of `pg_signal_backend`, to end a decider whose proxy hangs.

mod asker;
mod decider;
pub(super) mod objects;
mod review;
mod sweep;
mod witness;

use super::serve::App;
use crate::config::{self, Settings};
use crate::pool::health::{Login, Tls};
use crate::session::Database;
use crate::session::two_phase::{Question, RESOLUTION_TIMEOUT};
use crate::txn::commit::Verdict;
use crate::txn::recovery::{Owner, Patience, resolution};
use asker::Asker;
use decider::Subject;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};
use sweep::Sweeper;
use tokio::sync::mpsc::UnboundedReceiver;

/// How soon a decider is asked again.
const AGAIN: Duration = Duration::from_millis(200);

/// How long recovery waits for others. A proxy that hangs holds locks, so it is not given long.
fn patience() -> Patience {
    Patience { in_flight: Duration::from_secs(10), ..Patience::default() }
}

/// Starts the tasks, which end with the database.
pub(super) fn start(
    app: &App,
    settings: &Settings,
    database: &config::Database,
    made: &Arc<Database>,
    asked: UnboundedReceiver<Question>,
) {
    if database.shards.len() == 1 {
        // There is nobody to commit together with.
        return;
    }
    let tls = made.shards.iter().map(|shard| Tls { mode: shard.tls, config: shard.tls_config.clone() });
    let asker = Arc::new(Asker {
        login: Login { user: settings.control.user.clone(), password: settings.control.password.clone() },
        tls: tls.collect(),
        timeout: settings.pool.connect_timeout,
    });
    for shard in 0..made.shards.len() {
        let sweeper = Sweeper::new(made, shard, Arc::clone(&asker), Arc::clone(&app.metrics));
        app.runtime.spawn(sweeper.run());
    }
    app.runtime.spawn(answer(Arc::downgrade(made), asker, asked));
}

/// Answers sessions, each for itself.
async fn answer(database: Weak<Database>, asker: Arc<Asker>, mut asked: UnboundedReceiver<Question>) {
    while let Some(question) = asked.recv().await {
        let Some(database) = database.upgrade() else { return };
        let asker = Arc::clone(&asker);
        tokio::spawn(async move {
            let verdict = resolve(&asker, &database, &question).await;
            // The session may be gone.
            let _ = question.answer.send(verdict);
        });
    }
}

async fn resolve(asker: &Asker, database: &Database, question: &Question) -> Verdict {
    let began = Instant::now();
    let patience = Patience { in_flight: Duration::from_secs(2), ..patience() };
    let shard = question.decider.index();
    while began.elapsed() < RESOLUTION_TIMEOUT {
        let asking = async {
            let decider = asker.open(database, shard).await?;
            let owner = Owner::Then(question.owner.as_deref());
            let subject = Subject { xid: question.xid, owner, found: None, since: began };
            decider::ask(asker, database, &decider, shard, &subject, &patience).await
        };
        match tokio::time::timeout(asker.timeout, asking).await {
            Ok(Ok(step)) => {
                // A clock that was set back has stopped nothing.
                let since = question.sent.elapsed().unwrap_or_default();
                if let Some(verdict) = resolution(step, since, &patience) {
                    return verdict;
                }
            }
            Ok(Err(failure)) => tracing::debug!(xid = %question.xid, "the decider does not tell: {failure}"),
            Err(_) => tracing::debug!(xid = %question.xid, "the decider does not tell in time"),
        }
        tokio::time::sleep(AGAIN).await;
    }
    Verdict::Unknown
}
