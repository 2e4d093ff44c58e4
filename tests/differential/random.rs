//! Random statements on pgring and on the oracle. What differs is made as small as it gets.
//!
//! `PGRING_SEED` and `PGRING_STATEMENTS` look for more; a run without them has a seed of its own and
//! ends in time.

use std::time::{Duration, Instant};

use super::answer::{Answer, Mode};
use super::compare::{Rules, Verdict};
use super::generator::Generator;
use super::shrink::shrunk;
use super::stage::{Inspector, Pair, Stage};
use super::statement::Statement;
use super::tally::Tally;

const STATEMENTS: u64 = 3000;
/// What is not asked by then is left to the next run.
const PATIENCE: Duration = Duration::from_secs(75);
/// How many of a hundred statements may be refused. To be lowered with every tier.
const MOST_REFUSED: f64 = 2.0;
/// So many are made small.
const SHRUNK: usize = 5;
/// Ended by its time limit.
const LATE: &str = "57014";

/// Both answers and what to make of them; puts back what was written.
fn compare(
    pair: &mut Pair,
    inspector: &mut Inspector,
    statement: &Statement,
    mode: Mode,
    writes: bool,
) -> (Verdict, [Answer; 2]) {
    let rules = Rules::new(statement, mode);
    let pgring = pair.pgring.ask(statement, mode);
    let mut verdict = if pgring.is_refusal() {
        let why = pgring.failure.as_ref().map_or(String::new(), |failure| failure.message.clone());
        (Verdict::Refused(why), [pgring, Answer::default()])
    } else {
        let oracle = pair.oracle.ask(statement, mode);
        let whole = rules.whole().map(|whole| pair.oracle.ask(&whole, Mode::Simple));
        (rules.verdict(&pgring, &oracle, whole.as_ref()), [pgring, oracle])
    };
    let late = verdict.1.iter().any(|answer| code(answer) == Some(LATE));
    if late {
        verdict.0 = Verdict::Same;
    }
    if writes {
        if !matches!(verdict.0, Verdict::Different(_))
            && !late
            && let Some(how) = inspector.difference(&[])
        {
            verdict.0 = Verdict::Different(how);
        }
        inspector.restore();
    }
    verdict
}

/// What kind of difference it is, if it is one: so that a smaller statement differs in the same way.
fn kind(verdict: &Verdict, answers: &[Answer; 2]) -> Option<(String, [Option<String>; 2])> {
    let Verdict::Different(how) = verdict else { return None };
    let word = how.split_whitespace().next().unwrap_or_default().to_owned();
    Some((word, answers.each_ref().map(|answer| code(answer).map(str::to_owned))))
}

fn code(answer: &Answer) -> Option<&str> {
    answer.failure.as_ref().map(|failure| failure.code.as_str())
}

#[test]
fn random_statements_are_answered_as_one_postgresql_does_or_refused() {
    let number = |name: &str| std::env::var(name).ok().map(|value| value.parse::<u64>().expect("a number"));
    let seed = number("PGRING_SEED").unwrap_or(1);
    let count = number("PGRING_STATEMENTS");
    let deadline = Instant::now() + count.map_or(PATIENCE, |_| Duration::from_secs(1 << 30));
    let stage = Stage::new();
    let (mut pair, mut inspector) = (stage.pair(), stage.inspector());
    for session in [&mut pair.pgring, &mut pair.oracle] {
        // A cartesian product proves nothing.
        session.must("SET statement_timeout = '2s'");
    }
    let mut generator = Generator::new(seed);
    let mut tally = Tally::default();
    let (mut failed, mut late, mut fruitful) = (0, 0, 0);
    for number in 0..count.unwrap_or(STATEMENTS) {
        if Instant::now() > deadline {
            break;
        }
        let said = generator.statement();
        let mode = [Mode::Simple, Mode::Text, Mode::Binary][generator.below(3)];
        let mut statement = Statement::new(&said.text);
        statement.place = format!("statement {number} of seed {seed}");
        tally.asked += 1;
        let (mut verdict, mut answers) = compare(&mut pair, &mut inspector, &statement, mode, said.writes);
        fruitful += usize::from(!answers[1].rows.is_empty());
        match code(&answers[1]) {
            Some(LATE) => late += 1,
            Some(_) => {
                failed += 1;
                println!("fails: {:?}\n  {}", answers[1], said.text);
            }
            None => {}
        }
        let mut text = said.text.clone();
        if matches!(verdict, Verdict::Different(_)) && tally.different.len() < SHRUNK {
            let kind = kind(&verdict, &answers);
            let smallest = shrunk(&said.text, |text| {
                let (verdict, answers) =
                    compare(&mut pair, &mut inspector, &Statement::new(text), mode, said.writes);
                kind == self::kind(&verdict, &answers)
            });
            (verdict, answers) =
                compare(&mut pair, &mut inspector, &Statement::new(&smallest), mode, said.writes);
            text = format!("{smallest}\n  of {}", said.text);
        }
        if matches!(verdict, Verdict::Refused(_)) {
            statement.place = format!("{}: {}", statement.place, said.text);
        }
        tally.note(&statement.place, &format!("{mode:?}\n{text}"), verdict, [&answers[0], &answers[1]]);
    }
    println!("{fruitful} found rows, {failed} failed as they do on one PostgreSQL, {late} took too long");
    tally.check("random", MOST_REFUSED);
    // Otherwise little has been shown.
    assert!(failed * 50 <= tally.asked, "{failed} statements were no SQL");
    assert!(fruitful * 2 > tally.asked, "{fruitful} statements found rows");
}
