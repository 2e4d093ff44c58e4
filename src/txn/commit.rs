//! The end of a transaction over several shards, as the session's proxy brings it about.
//!
//! The coordinator says what to do next; whoever drives it does it and says what came of it. It
//! goes in rounds: all of a round's actions may run at once, and the next round begins when each
//! has an outcome. It may be dropped at any time (its proxy died): what it leaves behind is
//! recovery's.
//!
//! What holds, and what it rests on:
//!
//! - No `PREPARE` is sent before the decision's insert is acknowledged. From then on nobody can
//!   decide otherwise without waiting for the decider's transaction.
//! - The decider's `COMMIT` is sent when all others are prepared for certain and the decision's row
//!   names them. It is the commit point. Before it nothing is committed anywhere, and everything that
//!   fails is a definite error.
//! - No `COMMIT PREPARED` is sent, and no success told, before the decider has committed for
//!   certain. Whatever happens afterwards, the answer is success.
//! - Nothing prepared is rolled back unless the decider can never commit any more.
//! - If it is not known what the decider did, it is asked. If that says nothing, nothing is done.

/// What came of an action.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Outcome {
    /// Done, as the command's *tag* says: `ROLLBACK` is how PostgreSQL answers a `COMMIT` or a
    /// `PREPARE TRANSACTION` of a failed transaction.
    Done,
    /// Not done, for certain: an `ERROR`, or the tag `ROLLBACK`; of a commit a `FATAL` as well, with
    /// which the connection has ended.
    Refused,
    /// Not known: the connection is gone, has said `FATAL`, or was closed since it took too long.
    /// Nothing is sent on it any more.
    Lost,
}

/// What an action does.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Work {
    /// The decision's row, in the decider's transaction.
    Decide,
    /// The witness's row and `PREPARE TRANSACTION`.
    Prepare,
    /// `COMMIT` of one that has not written.
    CommitReader,
    /// `COMMIT` of the only one that has written.
    CommitOne,
    /// The participants into the decision's row, while they prepare.
    Complete,
    /// `COMMIT` of the decider.
    CommitDecider,
    /// `COMMIT PREPARED`.
    CommitPrepared,
    /// `ROLLBACK`.
    Rollback,
    /// `ROLLBACK PREPARED`.
    RollbackPrepared,
}

/// One server's part of a round.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Action {
    /// Whose, in the driver's count.
    pub member: usize,
    /// What it is to do.
    pub work: Work,
}

/// What is next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step<'a> {
    /// These, at once; [`Coordinator::report`] what came of each.
    Run(&'a [Action]),
    /// Find out what the decider, this member, has done, at the shard's primary of now (see
    /// [`super::recovery::verdict`]), and tell [`Coordinator::resolved`].
    Resolve(usize),
    /// It is over.
    Answer(Answer),
}

/// How it ended.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Answer {
    /// Committed, on every shard, or it will be.
    Committed,
    /// Nothing is committed anywhere, nor will be. What stood in the way: this member's answer (an
    /// error to be passed on), or its silence.
    Aborted(usize, Outcome),
    /// `08007`.
    Unknown,
}

/// What is known of a decider that did not answer.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Verdict {
    /// Its row is there, and it is ours.
    Committed,
    /// The abort row is there: it has not committed and cannot.
    Aborted,
    /// Neither could be had in time.
    Unknown,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum State {
    Open,
    Prepared,
    /// Committed, rolled back, or left to recovery.
    Over,
    /// Refused: to be rolled back, which is nothing where PostgreSQL has done it already.
    Failed,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Member {
    wrote: bool,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Round {
    Deciding,
    Preparing,
    Committing,
    Resolving,
    Finishing,
    RollingBack,
    Over(Answer),
}

/// See the module.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Coordinator {
    members: Vec<Member>,
    /// None: nobody has written, or one has and needs no protocol.
    decider: Option<usize>,
    /// Readers commit before the commit point, and may yet fail the transaction.
    readers_first: bool,
    round: Round,
    /// Of this round, those without an outcome.
    open: Vec<Action>,
    /// What went wrong first, an error before a silence.
    failure: Option<(usize, Outcome)>,
}

impl Coordinator {
    /// Of the members in the driver's order, `true` for one that may have written. `decided`: the
    /// member in whose transaction the decision's row has been inserted, if that is acknowledged
    /// and no `ROLLBACK TO` has undone it. Of a `serializable` transaction even the only writer
    /// waits for its readers.
    pub fn new(
        wrote: impl IntoIterator<Item = bool>,
        decided: Option<usize>,
        serializable: bool,
    ) -> Coordinator {
        let mut members: Vec<Member> =
            wrote.into_iter().map(|wrote| Member { wrote, state: State::Open }).collect();
        let decided = decided.filter(|&member| member < members.len());
        if let Some(decided) = decided {
            // The row is a write; where it stands it is to have its participants.
            members[decided].wrote = true;
        }
        let mut writers = (0..members.len()).filter(|&member| members[member].wrote);
        let (first, second) = (writers.next(), writers.next());
        let decider = decided.or(second.and(first));
        let mut coordinator = Coordinator {
            open: Vec::with_capacity(members.len()),
            // With one writer they can be told at once; a reader that fails then has read what was
            // there all the same.
            readers_first: serializable || decider.is_some() || first.is_none(),
            members,
            decider,
            round: Round::Deciding,
            failure: None,
        };
        match decider {
            Some(decider) if decided.is_none() => {
                coordinator.open.push(Action { member: decider, work: Work::Decide });
            }
            _ => coordinator.prepare(),
        }
        coordinator
    }

    /// Who decides, if anybody has to.
    pub fn decider(&self) -> Option<usize> {
        self.decider
    }

    /// What is next. Of a round half done: what has no outcome yet.
    pub fn step(&self) -> Step<'_> {
        match self.round {
            Round::Over(answer) => Step::Answer(answer),
            Round::Resolving => Step::Resolve(self.decider.unwrap_or_default()),
            _ => Step::Run(&self.open),
        }
    }

    /// What came of a member's action of this round. Of one that has none it means nothing.
    pub fn report(&mut self, member: usize, outcome: Outcome) {
        let Some(at) = self.open.iter().position(|action| action.member == member) else {
            return;
        };
        let action = self.open.swap_remove(at);
        let state = &mut self.members[member].state;
        *state = match (action.work, outcome) {
            (Work::Decide | Work::Complete, Outcome::Done) => State::Open,
            (Work::Prepare, Outcome::Done) => State::Prepared,
            (Work::Decide | Work::Complete | Work::Prepare, Outcome::Refused)
            | (Work::CommitReader | Work::CommitOne | Work::CommitDecider, Outcome::Refused) => State::Failed,
            _ => State::Over,
        };
        let counts = match self.round {
            Round::Deciding | Round::Preparing => true,
            Round::Committing => action.work != Work::CommitReader,
            _ => false,
        };
        if counts && outcome != Outcome::Done {
            let silence_before = matches!(self.failure, Some((_, Outcome::Lost)));
            if self.failure.is_none() || (silence_before && outcome == Outcome::Refused) {
                self.failure = Some((member, outcome));
            }
        }
        if self.open.is_empty() {
            self.next_round();
        }
    }

    /// What the decider has done.
    pub fn resolved(&mut self, verdict: Verdict) {
        if self.round != Round::Resolving {
            return;
        }
        match verdict {
            Verdict::Committed => self.finish(),
            Verdict::Aborted => self.roll_back(),
            Verdict::Unknown => self.round = Round::Over(Answer::Unknown),
        }
    }

    fn next_round(&mut self) {
        match (self.round, self.failure) {
            (Round::Deciding, None) => self.prepare(),
            (Round::Preparing, None) => self.commit(),
            (Round::Committing, None) => self.finish(),
            (Round::Committing, Some((_, Outcome::Lost))) => match self.decider {
                Some(_) => self.round = Round::Resolving,
                None => self.round = Round::Over(Answer::Unknown),
            },
            (Round::Deciding | Round::Preparing | Round::Committing, Some(_)) => self.roll_back(),
            (Round::RollingBack, Some((member, outcome))) => {
                self.round = Round::Over(Answer::Aborted(member, outcome));
            }
            (Round::Finishing | Round::RollingBack, _) => self.round = Round::Over(Answer::Committed),
            (Round::Resolving | Round::Over(_), _) => {}
        }
    }

    fn prepare(&mut self) {
        self.begin(Round::Preparing, |coordinator, at, member| match member.wrote {
            _ if coordinator.decider == Some(at) => Some(Work::Complete),
            true if coordinator.decider.is_some() => Some(Work::Prepare),
            false if coordinator.readers_first => Some(Work::CommitReader),
            _ => None,
        });
    }

    fn commit(&mut self) {
        self.begin(Round::Committing, |coordinator, at, member| match (member.wrote, member.state) {
            _ if coordinator.decider == Some(at) => Some(Work::CommitDecider),
            (true, State::Open) if coordinator.decider.is_none() => Some(Work::CommitOne),
            (false, State::Open) => Some(Work::CommitReader),
            _ => None,
        });
    }

    fn finish(&mut self) {
        self.failure = None;
        self.begin(Round::Finishing, |_, _, member| {
            (member.state == State::Prepared).then_some(Work::CommitPrepared)
        });
    }

    fn roll_back(&mut self) {
        self.begin(Round::RollingBack, |_, _, member| match member.state {
            State::Open | State::Failed => Some(Work::Rollback),
            State::Prepared => Some(Work::RollbackPrepared),
            State::Over => None,
        });
    }

    fn begin(&mut self, round: Round, work: impl Fn(&Coordinator, usize, Member) -> Option<Work>) {
        self.round = round;
        for member in 0..self.members.len() {
            if let Some(work) = work(self, member, self.members[member]) {
                self.open.push(Action { member, work });
            }
        }
        if self.open.is_empty() {
            self.next_round();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Members as letters (`w`riter, `r`eader, `D`: a writer where the decision stands), then what
    /// is said: for each round the outcomes in its order (`+` done, `-` refused, `?` lost), or a
    /// verdict. What comes of it: the rounds and the answer.
    fn check(members: &str, said: &str, expect: &str) {
        let decided = members.find('D');
        let serializable = members.ends_with('s');
        let wrote = members.bytes().filter(|byte| *byte != b's').map(|byte| byte != b'r');
        let mut coordinator = Coordinator::new(wrote, decided, serializable);
        let (mut said, mut seen) = (said.split_whitespace(), Vec::new());
        loop {
            match coordinator.step() {
                Step::Answer(Answer::Aborted(member, outcome)) => {
                    seen.push(format!(
                        "aborted by {member}{}",
                        if outcome == Outcome::Lost { "?" } else { "-" }
                    ));
                    break;
                }
                Step::Answer(answer) => {
                    seen.push(format!("{answer:?}").to_lowercase());
                    break;
                }
                Step::Resolve(member) => {
                    seen.push(format!("resolve {member}"));
                    coordinator.resolved(match said.next().unwrap() {
                        "committed" => Verdict::Committed,
                        "aborted" => Verdict::Aborted,
                        _ => Verdict::Unknown,
                    });
                }
                Step::Run(actions) => {
                    let actions = actions.to_vec();
                    let names: Vec<String> = actions
                        .iter()
                        .map(|action| {
                            let work = match action.work {
                                Work::Decide => "decide",
                                Work::Complete => "complete",
                                Work::Prepare => "prepare",
                                Work::CommitReader => "reader",
                                Work::CommitOne => "one",
                                Work::CommitDecider => "commit",
                                Work::CommitPrepared => "cp",
                                Work::Rollback => "rollback",
                                Work::RollbackPrepared => "rp",
                            };
                            format!("{work} {}", action.member)
                        })
                        .collect();
                    seen.push(names.join(" "));
                    let said = said.next().unwrap_or_else(|| panic!("{members}: no outcome for {seen:?}"));
                    assert_eq!(said.len(), actions.len(), "{members}: {seen:?}");
                    for (action, said) in actions.iter().zip(said.chars()) {
                        coordinator.report(
                            action.member,
                            match said {
                                '+' => Outcome::Done,
                                '-' => Outcome::Refused,
                                _ => Outcome::Lost,
                            },
                        );
                    }
                }
            }
        }
        assert_eq!(seen.join(", "), expect, "{members}");
        assert_eq!(said.next(), None, "{members}");
    }

    #[test]
    fn two_phases() {
        check("ww", "+ ++ + +", "decide 0, complete 0 prepare 1, commit 0, cp 1, committed");
        check("wD", "++ + +", "prepare 0 complete 1, commit 1, cp 0, committed");
        check(
            "rDwrw",
            "+++++ + ++",
            "reader 0 complete 1 prepare 2 reader 3 prepare 4, commit 1, cp 2 cp 4, committed",
        );
        check(
            "rwwrs",
            "+ ++++ + +",
            "decide 1, reader 0 complete 1 prepare 2 reader 3, commit 1, cp 2, committed",
        );
    }

    #[test]
    fn the_decision_is_acknowledged_before_the_first_prepare() {
        check("www", "- +++", "decide 0, rollback 0 rollback 1 rollback 2, aborted by 0-");
        check("www", "? ++", "decide 0, rollback 1 rollback 2, aborted by 0?");
    }

    #[test]
    fn one_that_is_not_prepared_aborts_all() {
        check("Dww", "++- +++", "complete 0 prepare 1 prepare 2, rollback 0 rp 1 rollback 2, aborted by 2-");
        check("Dww", "+-+ +++", "complete 0 prepare 1 prepare 2, rollback 0 rollback 1 rp 2, aborted by 1-");
        // The lost one may be prepared or yet become so; it is recovery's.
        check("Dww", "+?+ ++", "complete 0 prepare 1 prepare 2, rollback 0 rp 2, aborted by 1?");
        check("Dww", "+?- ??", "complete 0 prepare 1 prepare 2, rollback 0 rollback 2, aborted by 2-");
        check("Drw", "+-+ ++-", "complete 0 reader 1 prepare 2, rollback 0 rollback 1 rp 2, aborted by 1-");
        check("Drw", "+?+ ?+", "complete 0 reader 1 prepare 2, rollback 0 rp 2, aborted by 1?");
    }

    #[test]
    fn the_decider_refuses() {
        check("Dw", "++ - ++", "complete 0 prepare 1, commit 0, rollback 0 rp 1, aborted by 0-");
        check("Dw", "-+ ++", "complete 0 prepare 1, rollback 0 rp 1, aborted by 0-");
        check("Dw", "?+ +", "complete 0 prepare 1, rp 1, aborted by 0?");
        check("Dw", "++ - ??", "complete 0 prepare 1, commit 0, rollback 0 rp 1, aborted by 0-");
    }

    #[test]
    fn the_decider_is_silent() {
        check("Dw", "++ ? committed +", "complete 0 prepare 1, commit 0, resolve 0, cp 1, committed");
        check("Dw", "++ ? aborted +", "complete 0 prepare 1, commit 0, resolve 0, rp 1, aborted by 0?");
        check("Dw", "++ ? unknown", "complete 0 prepare 1, commit 0, resolve 0, unknown");
    }

    #[test]
    fn after_the_commit_point_it_is_success() {
        check("Dww", "+++ + ?-", "complete 0 prepare 1 prepare 2, commit 0, cp 1 cp 2, committed");
    }

    #[test]
    fn one_writer_needs_no_protocol() {
        check("w", "+", "one 0, committed");
        check("w", "- +", "one 0, rollback 0, aborted by 0-");
        check("w", "?", "one 0, unknown");
        check("rwr", "+++", "reader 0 one 1 reader 2, committed");
        check("rwr", "-+?", "reader 0 one 1 reader 2, committed");
        check("rwr", "?-+ +", "reader 0 one 1 reader 2, rollback 1, aborted by 1-");
        check("rwr", "+?-", "reader 0 one 1 reader 2, unknown");
        check("rwrs", "++ +", "reader 0 reader 2, one 1, committed");
        check("rwrs", "+- ++", "reader 0 reader 2, rollback 1 rollback 2, aborted by 2-");
        check("rwrs", "+? +", "reader 0 reader 2, rollback 1, aborted by 2?");
        // The decision stands where the second writer's part was undone: it is asked all the same.
        check("rD", "++ +", "reader 0 complete 1, commit 1, committed");
        check("D", "+ ? aborted", "complete 0, commit 0, resolve 0, aborted by 0?");
    }

    #[test]
    fn nobody_has_written() {
        check("", "", "committed");
        check("rr", "++", "reader 0 reader 1, committed");
        check("rr", "-+ +", "reader 0 reader 1, rollback 0, aborted by 0-");
        check("rrs", "?+", "reader 0 reader 1, aborted by 0?");
        check("rr", "?+", "reader 0 reader 1, aborted by 0?");
    }

    #[test]
    fn what_was_not_asked_is_not_heard() {
        let mut coordinator = Coordinator::new([true, true], Some(7), false);
        for _ in 0..2 {
            coordinator.resolved(Verdict::Committed);
            coordinator.report(1, Outcome::Done);
            coordinator.report(9, Outcome::Done);
            assert_eq!(coordinator.step(), Step::Run(&[Action { member: 0, work: Work::Decide }]));
        }
        coordinator.report(0, Outcome::Done);
        let both = [Action { member: 0, work: Work::Complete }, Action { member: 1, work: Work::Prepare }];
        assert_eq!(coordinator.step(), Step::Run(&both));
        coordinator.report(0, Outcome::Done);
        coordinator.report(0, Outcome::Refused);
        assert_eq!(coordinator.step(), Step::Run(&both[1..]));
    }
}
