//! The proxies that look after what was left: the real verdicts, and who carries them out.

use super::*;

impl World {
    /// One step towards the decider's verdict, asked of what recovery has found prepared on a server, or by
    /// the coordinator; true: it has committed.
    pub(super) fn ask(&mut self, at: usize, asking: Asking, blind: bool, prepared: Option<u8>) -> Found {
        let mut server = self.txs[at].decider;
        let recovery = prepared.is_some();
        if recovery && self.mutation == Mutation::ByPosition {
            server = (server + 1) % self.servers.len();
        }
        let part = *self.part(server, at);
        let mut decider = Decider::Unreachable;
        match asking {
            _ if blind => {
                if self.mutation == Mutation::UnreachableIsNoRow {
                    return Found::Final(false);
                }
            }
            Asking::Look => {
                decider = self.decider(at, part.row, recovery, None);
                let by_absence = match recovery {
                    true => self.mutation == Mutation::RecoverByAbsence,
                    false => self.mutation == Mutation::ResolveByAbsence,
                };
                if decider == Decider::NoRow && by_absence {
                    return Found::Final(false);
                }
            }
            Asking::Witness => {
                let on = prepared.and_then(|on| self.servers.get(usize::from(on)));
                if on.is_none_or(|on| on.parts[at].data != Data::Prepared) {
                    return Found::Nothing;
                }
                // What is prepared has the witness of its own transaction.
                decider = self.decider(at, part.row, recovery, Some(part.row != Row::Forged));
            }
            Asking::InsertAbort => {
                let in_flight = server == self.txs[at].decider && self.in_flight(at);
                if in_flight && self.mutation != Mutation::NoPrimaryKey {
                    let waiting = self.txs[at].connections[server].backend == Backend::Waiting;
                    decider = Decider::InFlight {
                        since: PATIENCE.in_flight,
                        replicating: waiting && self.mutation != Mutation::EndsReplicating,
                    };
                } else {
                    if part.row == Row::None {
                        self.write(
                            server,
                            at,
                            Part { row: Row::Abort, row_old: false, noted: [0; SERVERS], ..part },
                        );
                    }
                    return Found::Still(Asking::Look);
                }
            }
            Asking::ReplaceForged => {
                let replaces = match self.mutation {
                    Mutation::NamesStay => matches!(part.row, Row::Forged | Row::Commit(_)),
                    _ => part.row == Row::Forged,
                };
                if replaces {
                    self.write(
                        server,
                        at,
                        Part { row: Row::Abort, row_old: false, noted: [0; SERVERS], ..part },
                    );
                }
                return Found::Still(Asking::Look);
            }
            Asking::Terminate => {
                self.terminate(at);
                return Found::Still(Asking::Look);
            }
        }
        match verdict(decider, &PATIENCE) {
            Step::Commit => Found::Final(true),
            Step::RollBack => Found::Final(false),
            Step::InsertAbort => Found::Still(Asking::InsertAbort),
            Step::ReplaceForged => Found::Still(Asking::ReplaceForged),
            Step::AskWitness => Found::Still(Asking::Witness),
            Step::TerminateDecider => Found::Still(Asking::Terminate),
            Step::Wait(_) => Found::Nothing,
        }
    }

    /// What a row says to somebody who has looked for a witness, or has not yet.
    fn decider(&self, at: usize, row: Row, recovery: bool, witness: Option<bool>) -> Decider {
        let by = match row {
            Row::None => return Decider::NoRow,
            Row::Abort => return Decider::Row(Decided::Abort, Author::Nobody),
            Row::Commit(_) => OWNER,
            Row::Forged => "mallory",
        };
        let owner = match recovery {
            true if self.txs[at].renamed => Owner::Now(Some("app2")),
            true => Owner::Now(Some(OWNER)),
            false => Owner::Then(Some(OWNER)),
        };
        let author = match (author(Some(by), owner, witness), self.mutation) {
            (_, Mutation::OwnerUnchecked) => Author::Transaction,
            (Author::Unclear, Mutation::NamesStay) => Author::Stranger,
            (author, _) => author,
        };
        Decider::Row(Decided::Commit, author)
    }

    pub(super) fn terminate(&mut self, at: usize) {
        let server = self.txs[at].decider;
        match self.txs[at].connections[server].backend {
            Backend::Decided | Backend::Complete => {}
            // It shows its commit, which the standby need not have.
            Backend::Waiting if self.mutation == Mutation::EndsReplicating => {
                let standby = self.servers[server].standby[at];
                self.commit_decider(at);
                let part = *self.part(server, at);
                let server = &mut self.servers[server];
                server.standby[at] = standby;
                server.lag.push(Lagging { tx: at as u8, part, due: false });
            }
            _ => return,
        }
        self.txs[at].connections[server].end();
    }

    /// Does what a recovery process is about to do; what it does next. `blind`: whom it asks does
    /// not answer.
    pub(super) fn run(&mut self, job: Job, blind: bool) -> Job {
        let mutation = self.mutation;
        match job {
            Job::Idle => Job::Idle,
            Job::Verdict { tx, server, asking } => match self.ask(tx.into(), asking, blind, Some(server)) {
                Found::Still(asking) => Job::Verdict { tx, server, asking },
                Found::Final(commit) => Job::Finish { tx, server, commit },
                Found::Nothing => Job::Idle,
            },
            _ if blind && job.writes() => Job::Idle,
            Job::Finish { tx, server, commit } => {
                self.finish_prepared(server.into(), tx.into(), commit);
                Job::Idle
            }
            Job::Foreign { server } => {
                self.servers[usize::from(server)].foreign = false;
                Job::Idle
            }
            Job::Review { tx, stage, old, noted, server, first, seen } => {
                match self.look(tx, server, first, seen, blind) {
                    Some((server, first, seen)) => Job::Review { tx, stage, old, noted, server, first, seen },
                    None => self.review(tx, stage, old, noted, seen),
                }
            }
            Job::SecondLook { tx } => {
                let part = self.part(self.txs[usize::from(tx)].decider, tx.into());
                let stage = match part.row {
                    Row::Commit(stage) => Some(stage),
                    _ => None,
                };
                if blind || !is_lost(stage) && mutation != Mutation::NoSecondLook {
                    return Job::Idle;
                }
                let from = stage.unwrap_or(Stage::Fresh);
                let (old, noted) = (part.row_old, part.noted);
                Job::Mark { tx, from, old, noted, to: Stage::Lost, notes: noted }
            }
            Job::Mark { tx, from, old, noted, to, notes } => {
                let at = usize::from(tx);
                let decider = self.txs[at].decider;
                let part = *self.part(decider, at);
                let same = match mutation {
                    Mutation::MarksBlindly => matches!(part.row, Row::Commit(_)),
                    _ => part.row == Row::Commit(from) && part.row_old >= old && part.noted == noted,
                };
                if to == Stage::Lost && (same || mutation == Mutation::NoSecondLook) {
                    self.txs[at].alarm = true;
                }
                if same {
                    self.write(
                        decider,
                        at,
                        Part { row: Row::Commit(to), row_old: false, noted: notes, ..part },
                    );
                }
                Job::Idle
            }
            Job::Remove { tx, server } => {
                let at = usize::from(tx);
                if usize::from(server) >= self.servers.len() {
                    return match mutation {
                        Mutation::RowFirst => Job::Idle,
                        _ => Job::RemoveRow { tx },
                    };
                }
                self.remove_witness(server, at);
                Job::Remove { tx, server: server + 1 }
            }
            Job::RemoveRow { tx } => {
                self.remove_row(tx.into());
                match mutation {
                    Mutation::RowFirst => Job::Remove { tx, server: 0 },
                    _ => Job::Idle,
                }
            }
            Job::Sweep { tx, server } => {
                let at = usize::from(tx);
                match self.servers.get(usize::from(server)) {
                    _ if blind => Job::Idle,
                    None => Job::RemoveAbort { tx },
                    Some(server) if server.parts[at].data == Data::Prepared => Job::Idle,
                    Some(_) => Job::Sweep { tx, server: server + 1 },
                }
            }
            Job::RemoveAbort { tx } => {
                let (at, decider) = (usize::from(tx), self.txs[usize::from(tx)].decider);
                let part = *self.part(decider, at);
                if part.row == Row::Abort {
                    self.write(
                        decider,
                        at,
                        Part { row: Row::None, row_old: false, noted: [0; SERVERS], ..part },
                    );
                }
                Job::Idle
            }
            Job::Testify { tx, witness, server, mut found, mut unknown } => {
                let at = usize::from(tx);
                if let Some(state) = self.servers.get(usize::from(server)) {
                    unknown |= blind;
                    found |= !blind && matches!(state.parts[at].row, Row::Commit(_));
                    return Job::Testify { tx, witness, server: server + 1, found, unknown };
                }
                let part = *self.part(witness.into(), at);
                if blind || !part.witness {
                    return Job::Idle;
                }
                let rows = [unknown.then_some(None), Some(Some(found.then_some(Decided::Commit)))];
                let age = if part.witness_old { HOUR } else { Duration::ZERO };
                match testimony(age, rows.into_iter().flatten(), &PATIENCE) {
                    Testimony::Fine => Job::Idle,
                    Testimony::Stale => Job::RemoveWitness { tx, server: witness },
                    Testimony::DeciderLost => {
                        self.txs[at].alarm = true;
                        Job::Idle
                    }
                }
            }
            Job::RemoveWitness { tx, server } => {
                self.remove_witness(server, tx.into());
                Job::Idle
            }
        }
    }

    /// One look at a participant; none when all have been looked at.
    pub(super) fn look(
        &self,
        tx: u8,
        server: u8,
        first: Option<bool>,
        mut seen: Seen,
        blind: bool,
    ) -> Option<(u8, Option<bool>, Seen)> {
        let (at, number) = (usize::from(tx), usize::from(server));
        let part = &self.servers.get(number)?.parts[at];
        if number == self.txs[at].decider || !self.txs[at].wrote[number] {
            return Some((server + 1, None, seen));
        }
        if blind {
            seen.unknown = true;
            return Some((server + 1, None, seen));
        }
        let gid = part.data == Data::Prepared;
        let (gid, witness) = match (first, self.mutation == Mutation::WitnessBeforeGid) {
            (None, false) => return Some((server, Some(gid), seen)),
            (None, true) => return Some((server, Some(part.witness), seen)),
            (Some(gid), false) => (gid, part.witness),
            (Some(witness), true) => (gid, witness),
        };
        seen.timelines[number] = self.servers[number].timeline;
        seen.prepared |= gid && self.mutation != Mutation::PreparedIsProof;
        seen.missing |= !gid && !witness && self.mutation != Mutation::MissingGidIsProof;
        Some((server + 1, None, seen))
    }

    pub(super) fn review(&self, tx: u8, stage: Stage, old: bool, noted: Timelines, seen: Seen) -> Job {
        let mutation = self.mutation;
        let as_noted = seen.timelines == noted || mutation == Mutation::TimelineUnchecked;
        let traces = [
            Some(Trace::Witness { as_noted }),
            seen.unknown.then_some(Trace::Unknown),
            seen.prepared.then_some(Trace::Prepared),
            seen.missing.then_some(Trace::Nothing),
        ];
        let age = if old { HOUR } else { Duration::ZERO };
        let mark = |to, notes| Job::Mark { tx, from: stage, old, noted, to, notes };
        match review(stage, age, traces.into_iter().flatten(), &PATIENCE) {
            Review::Keep => Job::Idle,
            Review::Suspect => Job::SecondLook { tx },
            Review::Advance(Stage::Settled) if old && mutation == Mutation::HourFromDecision => {
                mark(Stage::Retiring, noted)
            }
            Review::Advance(Stage::Settled) => mark(Stage::Settled, seen.timelines),
            Review::Advance(Stage::Retiring) if mutation == Mutation::RetireUnmarked => {
                Job::Remove { tx, server: 0 }
            }
            Review::Advance(to) => mark(to, noted),
            Review::Remove if mutation == Mutation::RowFirst => Job::RemoveRow { tx },
            Review::Remove => Job::Remove { tx, server: 0 },
        }
    }

    pub(super) fn remove_witness(&mut self, server: u8, at: usize) {
        let part = *self.part(server.into(), at);
        if part.witness {
            self.write(server.into(), at, Part { witness: false, witness_old: false, ..part });
        }
    }

    pub(super) fn remove_row(&mut self, at: usize) {
        let decider = self.txs[at].decider;
        let part = *self.part(decider, at);
        let retiring = match self.mutation {
            Mutation::RetireUnmarked => matches!(part.row, Row::Commit(_)),
            _ => part.row == Row::Commit(Stage::Retiring),
        };
        if !retiring {
            return;
        }
        let left = |server: &Server| server.parts[at].witness || server.parts[at].data == Data::Prepared;
        if !self.txs[at].lossy && self.servers.iter().any(left) {
            self.fails("the decision's row goes last");
        }
        self.write(decider, at, Part { row: Row::None, row_old: false, noted: [0; SERVERS], ..part });
    }
}
