//! What sessions need of two-phase commit beside their own servers: which shards can take part, and
//! word of a decider that has not answered.
//!
//! Both are had from tasks of the control runtime, which have connections of their own.

use crate::error::{ClientError, SqlState};
use crate::ring::ShardId;
use crate::telemetry::snapshot::TransactionRow;
use crate::txn::commit::Verdict;
use crate::txn::{Participant, Xid};
use prometheus::IntCounter;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};
use tokio::sync::{mpsc, oneshot, watch};

/// Whether a shard can be a participant.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Ability {
    /// It is not known yet; why.
    Unknown(String),
    /// It can, as this.
    Able(Participant),
    /// It cannot; why, and what helps.
    Unable(String, &'static str),
}

/// What has become of a transaction whose decider was lost?
#[derive(Debug)]
pub struct Question {
    /// Its name.
    pub xid: Xid,
    /// Where the decision was to be.
    pub decider: ShardId,
    /// Who owns what is prepared, if something is.
    pub owner: Option<String>,
    /// Not later than the decider was told to commit; of a clock that goes on when the machine sleeps.
    pub sent: SystemTime,
    /// Where the answer is waited for.
    pub answer: oneshot::Sender<Verdict>,
}

/// One database's.
pub struct TwoPhase {
    /// What the gids begin with, so that clusters may share servers.
    pub cluster: String,
    /// In the order of [`ShardId`]s.
    pub ability: watch::Sender<Vec<Ability>>,
    /// To whoever can ask a shard's primary of now.
    pub questions: mpsc::UnboundedSender<Question>,
    /// Acknowledged commits that a shard has lost its part of.
    pub lost: IntCounter,
    /// What recovery has found prepared, by gid.
    in_doubt: Mutex<BTreeMap<String, TransactionRow>>,
}

/// How long a session waits to hear whether shards can take part: pgring has just started, or a shard has
/// just been added.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long the outcome of a transaction is looked for before its client is told that it is not known.
pub const RESOLUTION_TIMEOUT: Duration = Duration::from_secs(10);

impl TwoPhase {
    /// Of so many shards, and where its questions come out.
    pub fn new(
        cluster: &str,
        shards: usize,
        lost: IntCounter,
    ) -> (TwoPhase, mpsc::UnboundedReceiver<Question>) {
        let (questions, asked) = mpsc::unbounded_channel();
        let unknown = Ability::Unknown("it has not been asked yet".to_owned());
        let (ability, _) = watch::channel(vec![unknown; shards]);
        let made =
            TwoPhase { cluster: cluster.to_owned(), ability, questions, lost, in_doubt: Mutex::default() };
        (made, asked)
    }

    /// These shards as participants, in their order; `name` is asked what a shard is called.
    ///
    /// # Errors
    /// One of them cannot be one, or it is not known whether it can.
    pub async fn participants<'n>(
        &self,
        shards: &[ShardId],
        name: impl Fn(ShardId) -> &'n str,
    ) -> Result<Vec<Participant>, ClientError> {
        let mut abilities = self.ability.subscribe();
        let known = |all: &Vec<Ability>| {
            shards.iter().all(|shard| !matches!(all.get(shard.index()), Some(Ability::Unknown(_))))
        };
        // Whether or not it is known by then: what there is says why.
        let _ = tokio::time::timeout(PATIENCE, abilities.wait_for(known)).await;
        let all = self.ability.borrow();
        let of = |shard: &ShardId| match all.get(shard.index()) {
            Some(Ability::Able(participant)) => Ok(participant.clone()),
            Some(Ability::Unable(why, hint)) => Err(ClientError::refused(
                format!("shard \"{}\" cannot take part in a change of several shards: {why}", name(*shard)),
                *hint,
            )),
            Some(Ability::Unknown(why)) => Err(ClientError::error(
                SqlState::UNAVAILABLE,
                format!(
                    "whether shard \"{}\" can take part in a change of several shards is not known: {why}",
                    name(*shard)
                ),
            )),
            None => Err(ClientError::refused("the shard is not known", "Try again.")),
        };
        shards.iter().map(of).collect()
    }

    /// What has become of a transaction whose decider was lost.
    pub async fn resolve(
        &self,
        xid: Xid,
        decider: ShardId,
        owner: Option<String>,
        sent: SystemTime,
    ) -> Verdict {
        let (answer, heard) = oneshot::channel();
        if self.questions.send(Question { xid, decider, owner, sent, answer }).is_err() {
            return Verdict::Unknown;
        }
        match tokio::time::timeout(RESOLUTION_TIMEOUT, heard).await {
            Ok(Ok(verdict)) => verdict,
            Ok(Err(_)) | Err(_) => Verdict::Unknown,
        }
    }

    /// What recovery has found and not yet finished.
    pub fn in_doubt(&self) -> Vec<TransactionRow> {
        let rows = self.in_doubt.lock().unwrap_or_else(PoisonError::into_inner);
        rows.values().cloned().collect()
    }

    /// What is prepared on a shard, as of now: replaces what was known of that shard.
    pub fn found(&self, shard: &str, rows: Vec<TransactionRow>) {
        let mut all = self.in_doubt.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, row| {
            row.participants.retain(|participant| participant != shard);
            !row.participants.is_empty()
        });
        for mut row in rows {
            let others = all.remove(&row.gid).map(|known| known.participants).unwrap_or_default();
            row.participants.extend(others);
            row.participants.sort();
            all.insert(row.gid.clone(), row);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(gid: &str, shard: &str) -> TransactionRow {
        TransactionRow { gid: gid.into(), participants: vec![shard.into()], ..TransactionRow::default() }
    }

    #[test]
    fn what_is_in_doubt_is_known_by_shard() {
        let (two_phase, _asked) = TwoPhase::new("test", 2, IntCounter::new("lost", "Lost").unwrap());
        let shown = || -> Vec<String> {
            let rows = two_phase.in_doubt();
            rows.iter().map(|row| format!("{}: {}", row.gid, row.participants.join(" "))).collect()
        };
        two_phase.found("b", vec![row("1", "b"), row("2", "b")]);
        two_phase.found("a", vec![row("1", "a")]);
        assert_eq!(shown(), ["1: a b", "2: b"]);
        two_phase.found("b", vec![row("1", "b")]);
        assert_eq!(shown(), ["1: a b"]);
        two_phase.found("a", Vec::new());
        two_phase.found("b", Vec::new());
        assert!(shown().is_empty());
    }
}
