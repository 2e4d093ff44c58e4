//! What becomes of what a dead proxy, or a dead shard, has left behind.
//!
//! Any number of proxies may do this at once, beside coordinators that are still at it: nothing
//! here rests on being alone. What it rests on is the primary key of the decider's table.
//!
//! - A verdict never changes. `commit` becomes visible with the decider's commit. `abort` can be
//!   inserted only when the decider's transaction is over and has not committed; so what is
//!   prepared may be rolled back when the abort row is *committed*, not before.
//! - A decider that cannot be asked is not guessed: everything waits.
//! - A `commit` row is replaced only when it is certain that it is no decision. Names are compared, and
//!   roles can be renamed and dropped while something is in doubt; see [`author`].
//! - That a participant does not have the gid proves nothing; its witness's row is the proof. So
//!   the witnesses stay until none can be missed any more, and the decision's row goes last.
//!
//! How the driver has to look, for what it reports to be true:
//!
//! - Ask a shard's primary, whatever the address the transaction went to.
//! - The gids of a participant are read *before* its witnesses, in a statement of its own:
//!   `COMMIT PREPARED` between two looks at one snapshot would leave neither to be seen.
//! - A witness is read together with the server's timeline, in one statement. (Of the timeline that
//!   is written now, as `pg_walfile_name` has it; that of the last checkpoint may be an old one.)
//! - A decision's row is read before its participants, and once more before a loss is cried:
//!   somebody else may have removed it, and the witnesses, meanwhile. It is changed only if it still
//!   is what was read, the time included.

use super::commit::Verdict;
use std::time::Duration;

/// How a decision's row reads.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Decided {
    /// The decider has committed.
    Commit,
    /// It has not, and cannot.
    Abort,
}

/// What a decider says of a transaction.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Decider {
    /// It has a row. (Abort rows are the control role's, and whose they are does not matter.)
    Row(Decided, Author),
    /// It has none that is visible.
    NoRow,
    /// The abort row waits for a transaction that has inserted one, be it an open or a prepared one.
    InFlight {
        /// Since when, as far as is known.
        since: Duration,
        /// That has committed, and waits for a standby to hear of it (`wait_event` `SyncRep`).
        replicating: bool,
    },
    /// It does not answer, or its shard has no primary now.
    Unreachable,
    /// No shard of ours has this system identifier and database.
    UnknownIdentity,
}

/// Whose a `commit` row is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Author {
    /// The transaction's: it is the decision.
    Transaction,
    /// Nobody's: it does not name its participants, so it was committed by the way.
    Nobody,
    /// Somebody else's: it was made when the decider's transaction was over, or it could not be there.
    Stranger,
    /// The transaction's, whose role was renamed since, or somebody else's.
    Unclear,
}

/// Who owns what a decision is looked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Owner<'a> {
    /// As its coordinator has heard it when it was prepared; none if nothing was.
    Then(Option<&'a str>),
    /// As its shard calls it now; none if the role was dropped.
    Now(Option<&'a str>),
}

/// Whose a `commit` row is that names `by`, as the decider called its role *then*; none where it does not
/// name its participants. `witness`: whether what is prepared has a witness's row that names `by` too,
/// once that was looked at.
///
/// A shard tells what a role is called now, and another shard, or an hour later, something else. But the
/// witness's row is as old as the decision's, and in a transaction which only its owner could
/// write in: the names in these two are the same, or the decision is not its own. While it is prepared nobody
/// can read it, but whoever inserts the same key waits for that transaction.
pub fn author(by: Option<&str>, owner: Owner<'_>, witness: Option<bool>) -> Author {
    match (by, owner, witness) {
        (None, ..) => Author::Nobody,
        (Some(_), Owner::Then(None), _) => Author::Transaction,
        (Some(by), Owner::Then(Some(owner)) | Owner::Now(Some(owner)), _) if by == owner => {
            Author::Transaction
        }
        (Some(_), Owner::Then(Some(_)), _) => Author::Stranger,
        (Some(_), Owner::Now(_), Some(true)) => Author::Transaction,
        (Some(_), Owner::Now(_), Some(false)) => Author::Stranger,
        (Some(_), Owner::Now(_), None) => Author::Unclear,
    }
}

/// What to do next. After each but the first two and `Wait` the decider is asked again, whatever
/// came of it: others do the same.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Step {
    /// It is decided: `COMMIT PREPARED`, as the owner. That it does not exist means that somebody
    /// else was faster.
    Commit,
    /// It is decided: `ROLLBACK PREPARED`, likewise.
    RollBack,
    /// Insert the abort row and commit, with a `lock_timeout`.
    InsertAbort,
    /// Delete the row if it still is the one that was read, insert the abort row, commit: all in one
    /// transaction.
    ReplaceForged,
    /// Look whether what is prepared has a witness's row that names the decision's role.
    AskWitness,
    /// End the transaction that the abort row waits for: `pg_terminate_backend`, or `ROLLBACK PREPARED`
    /// where it is prepared, which no coordinator does with a decision.
    TerminateDecider,
    /// Nothing now.
    Wait(Why),
}

/// What for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Why {
    /// Its coordinator is probably at it.
    Young,
    /// The decider's transaction is in flight.
    InFlight,
    /// It has committed and waits for a standby: to end it then would show a commit that a failover
    /// can still lose.
    Replicating,
    /// The decider does not answer.
    Unreachable,
    /// Nobody here knows the decider.
    UnknownDecider,
    /// Whose the decision is could not be seen.
    UnknownAuthor,
}

/// How long to wait for others.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Patience {
    /// Before something prepared is looked at at all.
    pub grace: Duration,
    /// Before a decider in flight is ended.
    pub in_flight: Duration,
    /// Before what is settled is removed: longer than any standby lags.
    pub retention: Duration,
}

impl Default for Patience {
    fn default() -> Patience {
        Patience {
            grace: Duration::from_secs(5),
            in_flight: Duration::from_secs(30),
            retention: Duration::from_secs(3600),
        }
    }
}

/// A prepared transaction, `age` old.
pub fn step(age: Duration, decider: Decider, patience: &Patience) -> Step {
    match age < patience.grace {
        true => Step::Wait(Why::Young),
        false => verdict(decider, patience),
    }
}

/// How the decider's transaction ended. A coordinator that has lost its decider asks this too; see
/// [`resolution`].
pub fn verdict(decider: Decider, patience: &Patience) -> Step {
    match decider {
        Decider::Row(Decided::Abort, _) => Step::RollBack,
        Decider::Row(Decided::Commit, Author::Transaction) => Step::Commit,
        Decider::Row(Decided::Commit, Author::Nobody | Author::Stranger) => Step::ReplaceForged,
        Decider::Row(Decided::Commit, Author::Unclear) => Step::AskWitness,
        Decider::NoRow => Step::InsertAbort,
        Decider::InFlight { replicating: true, .. } => Step::Wait(Why::Replicating),
        Decider::InFlight { since, .. } if since >= patience.in_flight => Step::TerminateDecider,
        Decider::InFlight { .. } => Step::Wait(Why::InFlight),
        Decider::Unreachable => Step::Wait(Why::Unreachable),
        Decider::UnknownIdentity => Step::Wait(Why::UnknownDecider),
    }
}

/// What a verdict says to a coordinator that has sent its decider the `COMMIT` so long ago, by a clock
/// that does not stop when a machine sleeps, read when the verdict was there. None: not yet anything.
/// After the hour the row may be gone since all is done; that there is none says nothing any more.
pub fn resolution(step: Step, since: Duration, patience: &Patience) -> Option<Verdict> {
    match step {
        Step::Commit => Some(Verdict::Committed),
        Step::RollBack if since < patience.retention => Some(Verdict::Aborted),
        Step::RollBack => Some(Verdict::Unknown),
        _ => None,
    }
}

/// How far a `commit` row has come. Each is committed before what it allows is done, so that nobody
/// takes one's own tidying for a loss.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Stage {
    /// As the decider has committed it.
    Fresh,
    /// All participants were seen to have committed. The row notes on which timelines: what a
    /// failover has undone and recovery done again is not as old as the row says.
    Settled,
    /// And once more, when no standby can lag so far any more: the witnesses may go, then the row.
    Retiring,
    /// A participant has lost its part. It has been cried once; the row stays until somebody has
    /// seen to it.
    Lost,
}

/// What a participant has of a transaction whose decision's row says `commit`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Trace {
    /// The gid: it is yet to be committed.
    Prepared,
    /// The witness's row, of the row's owner, and no gid.
    Witness {
        /// On the timeline that the row has noted for this participant.
        as_noted: bool,
    },
    /// Neither.
    Nothing,
    /// It cannot be asked, or is not known.
    Unknown,
}

/// What to do about a decision's row.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Review {
    /// Nothing now.
    Keep,
    /// Mark it so, from now on, if it still is what was read. For [`Stage::Settled`] note the
    /// timelines on which the witnesses were seen.
    Advance(Stage),
    /// Those with no trace seem to have lost an acknowledged commit. Read the row again, and see
    /// [`is_lost`].
    Suspect,
    /// Remove the witnesses of all participants; when all are gone for certain, the row.
    Remove,
}

/// A `commit` row that has been at this stage for `age`, and what each participant other than the
/// decider has.
pub fn review(
    stage: Stage,
    age: Duration,
    traces: impl IntoIterator<Item = Trace>,
    patience: &Patience,
) -> Review {
    let (mut unsure, mut missing, mut moved) = (false, false, false);
    for trace in traces {
        unsure |= matches!(trace, Trace::Prepared | Trace::Unknown);
        missing |= trace == Trace::Nothing;
        moved |= trace == Trace::Witness { as_noted: false };
    }
    match stage {
        Stage::Lost => Review::Keep,
        Stage::Fresh | Stage::Settled if missing => Review::Suspect,
        _ if unsure => Review::Keep,
        Stage::Fresh => Review::Advance(Stage::Settled),
        Stage::Settled if moved => Review::Advance(Stage::Settled),
        Stage::Settled if age >= patience.retention => Review::Advance(Stage::Retiring),
        Stage::Settled => Review::Keep,
        Stage::Retiring => Review::Remove,
    }
}

/// Of a row of which [`Review::Suspect`] was said: what it is when it is read once more. A loss is
/// marked [`Stage::Lost`] and, by whoever's update has marked it, counted and cried.
pub fn is_lost(stage_now: Option<Stage>) -> bool {
    matches!(stage_now, Some(Stage::Fresh | Stage::Settled))
}

/// May an `abort` row of this age go? `gids`: of every shard of ours, whether it has the gid; none
/// if it cannot be asked. (It could go at any time: whoever misses it inserts it anew. It is kept
/// to be looked at.)
pub fn abort_may_go(
    age: Duration,
    gids: impl IntoIterator<Item = Option<bool>>,
    patience: &Patience,
) -> bool {
    age >= patience.retention && gids.into_iter().all(|gid| gid == Some(false))
}

/// What a participant's witness says of its decider.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Testimony {
    /// Nothing new.
    Fine,
    /// The participant has committed, and no shard knows of the decision: the decider's has lost it.
    DeciderLost,
    /// A witness so old that its row may have been removed and its own removal lost: it may go.
    Stale,
}

/// A witness's row, and what every shard's decision table says of its xid (`None`: it cannot be
/// asked). The tables are read after the witness, and then the witness once more, to see that it is
/// still there and its `age`: its row may go when it is old.
pub fn testimony(
    age: Duration,
    rows: impl IntoIterator<Item = Option<Option<Decided>>>,
    patience: &Patience,
) -> Testimony {
    let (mut unsure, mut decided) = (false, false);
    for row in rows {
        unsure |= row.is_none();
        decided |= row == Some(Some(Decided::Commit));
    }
    match (decided, unsure) {
        (true, _) | (_, true) => Testimony::Fine,
        _ if age < patience.retention => Testimony::DeciderLost,
        _ => Testimony::Stale,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const HOUR: Duration = Duration::from_secs(3600);

    fn in_flight(seconds: u32, replicating: bool) -> Decider {
        Decider::InFlight { since: SECOND * seconds, replicating }
    }

    #[test]
    fn steps() {
        use Author::{Nobody, Stranger, Transaction, Unclear};
        use Decided::{Abort, Commit};
        let check = |age: u32, decider: Decider, expect: Step| {
            assert_eq!(step(SECOND * age, decider, &Patience::default()), expect, "{decider:?}");
        };
        check(5, Decider::Row(Commit, Transaction), Step::Commit);
        for author in [Transaction, Nobody, Stranger, Unclear] {
            check(5, Decider::Row(Abort, author), Step::RollBack);
        }
        check(5, Decider::NoRow, Step::InsertAbort);
        // Others see gids too, and may insert what they like when the decider is gone.
        check(5, Decider::Row(Commit, Stranger), Step::ReplaceForged);
        check(5, Decider::Row(Commit, Nobody), Step::ReplaceForged);
        // What may be true is not destroyed.
        check(999_999, Decider::Row(Commit, Unclear), Step::AskWitness);
        check(5, in_flight(0, false), Step::Wait(Why::InFlight));
        check(5, in_flight(29, false), Step::Wait(Why::InFlight));
        check(5, in_flight(30, false), Step::TerminateDecider);
        check(5, in_flight(9999, true), Step::Wait(Why::Replicating));
        // Nothing is guessed, however old it is.
        check(999_999, Decider::Unreachable, Step::Wait(Why::Unreachable));
        check(999_999, Decider::UnknownIdentity, Step::Wait(Why::UnknownDecider));
        let rows = [Decider::Row(Commit, Transaction), Decider::Row(Abort, Nobody)];
        for young in rows.into_iter().chain([Decider::NoRow, in_flight(99, false)]) {
            check(4, young, Step::Wait(Why::Young));
        }
    }

    #[test]
    fn authors() {
        use Author::{Nobody, Stranger, Transaction, Unclear};
        use Owner::{Now, Then};
        for (by, owner, witness, expect) in [
            (Some("app"), Now(Some("app")), None, Transaction),
            // Renamed, or dropped, or not its own: the witness knows.
            (Some("app"), Now(Some("app2")), None, Unclear),
            (Some("app"), Now(Some("app2")), Some(true), Transaction),
            (Some("app"), Now(None), None, Unclear),
            (Some("app"), Now(None), Some(true), Transaction),
            (Some("mallory"), Now(Some("app")), Some(false), Stranger),
            (Some("mallory"), Now(None), Some(false), Stranger),
            // A coordinator has heard the names of then.
            (Some("app"), Then(Some("app")), None, Transaction),
            (Some("mallory"), Then(Some("app")), None, Stranger),
            (Some("app"), Then(None), None, Transaction),
            (None, Now(Some("app")), Some(true), Nobody),
            (None, Now(None), None, Nobody),
            (None, Then(None), None, Nobody),
        ] {
            assert_eq!(author(by, owner, witness), expect, "{by:?} {owner:?} {witness:?}");
        }
    }

    #[test]
    fn resolutions() {
        let check = |step: Step, since: Duration, expect: Option<Verdict>| {
            assert_eq!(resolution(step, since, &Patience::default()), expect, "{step:?}");
        };
        check(Step::Commit, SECOND, Some(Verdict::Committed));
        check(Step::Commit, HOUR * 99, Some(Verdict::Committed));
        check(Step::RollBack, HOUR - SECOND, Some(Verdict::Aborted));
        check(Step::RollBack, HOUR, Some(Verdict::Unknown));
        check(Step::InsertAbort, SECOND, None);
        check(Step::ReplaceForged, SECOND, None);
        check(Step::AskWitness, SECOND, None);
        check(Step::Wait(Why::Unreachable), HOUR, None);
    }

    #[test]
    fn reviews() {
        use Trace::{Nothing, Prepared, Unknown};
        const WITNESS: Trace = Trace::Witness { as_noted: true };
        const MOVED: Trace = Trace::Witness { as_noted: false };
        let check = |stage: Stage, age: Duration, traces: &[Trace], expect: Review| {
            let found = review(stage, age, traces.iter().copied(), &Patience::default());
            assert_eq!(found, expect, "{stage:?} {age:?} {traces:?}");
        };
        let (settle, retire) = (Review::Advance(Stage::Settled), Review::Advance(Stage::Retiring));
        check(Stage::Fresh, SECOND, &[WITNESS, WITNESS], settle);
        check(Stage::Fresh, HOUR, &[], settle);
        check(Stage::Fresh, HOUR, &[WITNESS, Prepared], Review::Keep);
        check(Stage::Fresh, HOUR, &[WITNESS, Unknown], Review::Keep);
        check(Stage::Fresh, SECOND, &[WITNESS, Nothing], Review::Suspect);
        check(Stage::Fresh, SECOND, &[Unknown, Nothing, Prepared], Review::Suspect);
        check(Stage::Settled, HOUR - SECOND, &[WITNESS], Review::Keep);
        check(Stage::Settled, HOUR, &[WITNESS], retire);
        check(Stage::Settled, HOUR, &[Prepared], Review::Keep);
        check(Stage::Settled, HOUR, &[Unknown], Review::Keep);
        check(Stage::Settled, SECOND, &[Nothing], Review::Suspect);
        check(Stage::Fresh, SECOND, &[WITNESS, MOVED], settle);
        // Done again after a failover: the hour begins anew.
        check(Stage::Settled, HOUR, &[WITNESS, MOVED], settle);
        check(Stage::Settled, HOUR, &[Prepared, MOVED], Review::Keep);
        check(Stage::Retiring, SECOND, &[MOVED], Review::Remove);
        check(Stage::Retiring, SECOND, &[WITNESS, Nothing], Review::Remove);
        check(Stage::Retiring, HOUR, &[Prepared, Nothing], Review::Keep);
        check(Stage::Retiring, HOUR, &[Unknown], Review::Keep);
        check(Stage::Lost, HOUR * 99, &[Nothing], Review::Keep);
        check(Stage::Lost, HOUR * 99, &[WITNESS], Review::Keep);
    }

    #[test]
    fn somebody_elses_tidying_is_no_loss() {
        let found =
            [None, Some(Stage::Fresh), Some(Stage::Settled), Some(Stage::Retiring), Some(Stage::Lost)];
        assert_eq!(found.map(is_lost), [false, true, true, false, false]);
    }

    #[test]
    fn abort_rows() {
        let check = |age: Duration, gids: &[Option<bool>], expect: bool| {
            assert_eq!(abort_may_go(age, gids.iter().copied(), &Patience::default()), expect, "{gids:?}");
        };
        check(HOUR, &[Some(false), Some(false)], true);
        check(HOUR - SECOND, &[Some(false)], false);
        check(HOUR, &[Some(false), None], false);
        check(HOUR, &[Some(true), Some(false)], false);
    }

    #[test]
    fn testimonies() {
        const COMMIT: Option<Option<Decided>> = Some(Some(Decided::Commit));
        const ABORT: Option<Option<Decided>> = Some(Some(Decided::Abort));
        let check = |age: Duration, rows: &[Option<Option<Decided>>], expect: Testimony| {
            assert_eq!(testimony(age, rows.iter().copied(), &Patience::default()), expect, "{rows:?}");
        };
        check(SECOND, &[Some(None), COMMIT], Testimony::Fine);
        check(SECOND, &[None, COMMIT], Testimony::Fine);
        check(SECOND, &[None, Some(None)], Testimony::Fine);
        check(SECOND, &[Some(None), Some(None)], Testimony::DeciderLost);
        check(SECOND, &[Some(None), ABORT], Testimony::DeciderLost);
        check(HOUR, &[Some(None), Some(None)], Testimony::Stale);
        check(HOUR, &[Some(None), None], Testimony::Fine);
    }
}
