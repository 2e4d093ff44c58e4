//! What came of many statements.

use std::collections::BTreeMap;

use super::answer::{Answer, Mode};
use super::compare::Verdict;
use super::statement::Statement;

/// See the module.
#[derive(Default)]
pub(crate) struct Tally {
    /// Statements, in whatever modes they were sent.
    pub(crate) asked: usize,
    /// What pgring said to those it refused, by statement.
    pub(crate) refused: BTreeMap<String, String>,
    pub(crate) different: Vec<String>,
    /// Statements that are not what their author took them for: the oracle says something else.
    pub(crate) mistaken: Vec<String>,
}

impl Tally {
    /// Notes whether the oracle's answer is the one that the corpus expects.
    pub(crate) fn is_as_foretold(&mut self, statement: &Statement, mode: Mode, oracle: &Answer) {
        if oracle.failure.as_ref().map(|failure| &failure.code) != statement.error.as_ref() {
            self.mistaken.push(format!("{} {mode:?}: {oracle:?}\n{}", statement.place, statement.simple));
        }
    }

    /// How `what` (a statement's place and mode) went.
    pub(crate) fn note(&mut self, place: &str, what: &str, verdict: Verdict, answers: [&Answer; 2]) {
        match verdict {
            Verdict::Same => {}
            Verdict::Refused(why) => drop(self.refused.insert(place.to_owned(), why)),
            Verdict::Different(how) => self.different.push(format!(
                "{place}: {what}\n  {how}\n  pgring {:?}\n  oracle {:?}",
                answers[0], answers[1]
            )),
        }
    }

    pub(crate) fn add(&mut self, other: Tally) {
        self.asked += other.asked;
        self.refused.extend(other.refused);
        self.different.extend(other.different);
        self.mistaken.extend(other.mistaken);
    }

    pub(crate) fn percent_refused(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "there are not that many statements")]
        let percent = self.refused.len() as f64 * 100.0 / self.asked.max(1) as f64;
        percent
    }

    /// Prints the figures; panics if an answer was wrong, or more were refused than in `most_refused`
    /// of a hundred statements.
    #[track_caller]
    pub(crate) fn check(&self, what: &str, most_refused: f64) {
        for (place, why) in &self.refused {
            println!("refused {place}: {why}");
        }
        let percent = self.percent_refused();
        println!("{what}: refused: {} of {} ({percent:.1} %)", self.refused.len(), self.asked);
        assert!(self.mistaken.is_empty(), "{what}: the oracle disagrees:\n{}", self.mistaken.join("\n"));
        assert!(
            self.different.is_empty(),
            "{what}: {} wrong answers:\n{}",
            self.different.len(),
            self.different.join("\n")
        );
        assert!(
            percent <= most_refused,
            "{what}: {percent:.1} % of the statements were refused, not {most_refused} %"
        );
    }
}
