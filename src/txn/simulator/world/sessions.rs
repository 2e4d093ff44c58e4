//! The proxies that commit: the real coordinator, and what it hears.

use super::*;

impl World {
    /// The round's messages go out.
    pub(super) fn send(&mut self, at: usize) {
        loop {
            let tx = &mut self.txs[at];
            let action = match tx.coordinator.as_ref().map(Coordinator::step) {
                None | Some(Next::Resolve(_)) => return,
                Some(Next::Answer(answer)) => return self.end(at, Some(answer)),
                Some(Next::Run(actions)) => {
                    let mut actions = actions.iter();
                    match actions.find(|action| tx.connections[action.member].asked.is_none()) {
                        Some(action) => *action,
                        None => return,
                    }
                }
            };
            let connection = &mut tx.connections[action.member];
            if !connection.open {
                self.report(at, action.member, Outcome::Lost);
                continue;
            }
            connection.asked = Some(action.work);
            connection.sent = Some(action.work);
            let unasked = match action.work {
                Work::Decide => {
                    matches!(self.mutation, Mutation::PrepareBeforeDecided | Mutation::DecidedUnchecked)
                }
                Work::CommitDecider => self.mutation == Mutation::CommitBeforeDecider,
                _ => false,
            };
            if unasked {
                connection.asked = None;
                self.report(at, action.member, Outcome::Done);
            }
            let known = self.txs[at].acknowledged || self.mutation == Mutation::DecidedUnchecked;
            if action.work == Work::Prepare && !known {
                self.fails("the decision's insert is acknowledged before the first PREPARE");
            }
        }
    }

    pub(super) fn report(&mut self, at: usize, member: usize, outcome: Outcome) {
        if let Some(coordinator) = &mut self.txs[at].coordinator {
            coordinator.report(member, outcome);
        }
    }

    pub(super) fn reply(&mut self, at: usize, member: usize) {
        let tx = &mut self.txs[at];
        let connection = &mut tx.connections[member];
        let (asked, reply) = (connection.asked.take(), connection.reply.take());
        let outcome = match reply {
            Some(Reply::Done) => Outcome::Done,
            Some(Reply::RolledBack) if self.mutation == Mutation::TagUnchecked => Outcome::Done,
            _ => Outcome::Refused,
        };
        tx.acknowledged |= outcome == Outcome::Done && asked == Some(Work::Decide);
        self.report(at, member, outcome);
        self.send(at);
    }

    /// The connection breaks.
    pub(super) fn lose(&mut self, at: usize, member: usize) {
        let connection = &mut self.txs[at].connections[member];
        let asked = connection.asked.take().is_some();
        connection.close();
        if asked {
            let outcome = match self.mutation {
                Mutation::LostIsRefused => Outcome::Refused,
                Mutation::LostIsDone => Outcome::Done,
                _ => Outcome::Lost,
            };
            self.report(at, member, outcome);
        }
        self.send(at);
    }

    /// The coordinator is done, or dead.
    pub(super) fn end(&mut self, at: usize, answer: Option<Answer>) {
        let tx = &mut self.txs[at];
        tx.coordinator = None;
        tx.resolving = Asking::Look;
        tx.slow = false;
        tx.told = match answer {
            Some(Answer::Committed) => Told::Committed,
            Some(Answer::Aborted(..)) => Told::Aborted,
            Some(Answer::Unknown) | None => Told::Nothing,
        };
        for connection in &mut tx.connections {
            connection.close();
        }
    }

    pub(super) fn resolve(&mut self, at: usize, blind: bool) {
        match self.ask(at, self.txs[at].resolving, blind, None) {
            Found::Still(asking) => self.txs[at].resolving = asking,
            Found::Nothing => self.txs[at].resolving = Asking::Look,
            Found::Final(commit) => {
                let late = self.txs[at].slow && self.mutation != Mutation::BelievesOldAbsence;
                let since = if late { HOUR } else { Duration::ZERO };
                let step = if commit { Step::Commit } else { Step::RollBack };
                if let Some(verdict) = resolution(step, since, &PATIENCE) {
                    self.resolved(at, verdict);
                }
            }
        }
    }

    pub(super) fn resolved(&mut self, at: usize, verdict: Verdict) {
        if let Some(coordinator) = &mut self.txs[at].coordinator {
            coordinator.resolved(verdict);
        }
        self.send(at);
    }
}
