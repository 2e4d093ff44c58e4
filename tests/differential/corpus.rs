//! Statements written by hand, each sent in several ways.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use pgring::ring::{Key, ShardId};

use super::answer::Mode;
use super::compare::{Rules, Verdict};
use super::stage::{Inspector, Pair, Stage};
use super::statement::{Statement, corpus};
use super::tally::Tally;
use crate::support;

/// How many of a hundred statements may be refused. (What has to be is in `corpus/refused`.)
const MOST_REFUSED: f64 = 1.0;
/// The same of those that write.
const MOST_REFUSED_WRITES: f64 = 1.0;
/// The same of what is read some rows at a time, with cursors, or inside transactions.
const MOST_REFUSED_OTHERWISE: f64 = 1.5;

/// Nobody writes to it.
static READS: LazyLock<Stage> = LazyLock::new(Stage::new);

/// Asks both, whatever they answer.
pub(crate) fn ask_both(pair: &mut Pair, statement: &Statement, mode: Mode, tally: &mut Tally) {
    let rules = Rules::new(statement, mode);
    let pgring = pair.pgring.ask(statement, mode);
    let oracle = pair.oracle.ask(statement, mode);
    tally.is_as_foretold(statement, mode, &oracle);
    let whole = rules.whole().map(|whole| pair.oracle.ask(&whole, Mode::Simple));
    let verdict = rules.verdict(&pgring, &oracle, whole.as_ref());
    tally.note(&statement.place, &format!("{mode:?}\n{}", statement.simple), verdict, [&pgring, &oracle]);
}

/// Asks for all of them by two at a time.
pub(crate) fn read_all(stage: &Stage, statements: &[Statement], modes: &[Mode]) -> Tally {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut tally = Tally::default();
        let mut pair = stage.pair();
        while let Some(statement) = statements.get(next.fetch_add(1, Ordering::Relaxed)) {
            tally.asked += 1;
            for mode in modes {
                ask_both(&mut pair, statement, *mode, &mut tally);
            }
        }
        tally
    };
    std::thread::scope(|scope| {
        let other = scope.spawn(work);
        let mut tally = work();
        tally.add(other.join().unwrap());
        tally
    })
}

#[test]
fn what_is_read_is_what_one_postgresql_holds() {
    let statements = corpus("corpus/reads");
    let tally = read_all(&READS, &statements, &[Mode::Simple, Mode::Text, Mode::Binary]);
    tally.check("reads", MOST_REFUSED);
}

#[test]
fn what_is_read_some_rows_at_a_time_is_what_one_postgresql_holds() {
    otherwise(Mode::Portal);
}

#[test]
fn what_a_cursor_reads_is_what_one_postgresql_holds() {
    otherwise(Mode::Cursor);
}

#[test]
fn what_is_read_after_writing_is_what_one_postgresql_holds() {
    otherwise(Mode::Inside);
}

/// A part of them will do.
fn otherwise(mode: Mode) {
    let statements: Vec<Statement> =
        corpus("corpus/reads").into_iter().filter(|statement| statement.error.is_none()).step_by(3).collect();
    read_all(&READS, &statements, &[mode]).check(&format!("{mode:?}"), MOST_REFUSED_OTHERWISE);
}

/// What both say, and what the tables hold then.
fn write_both(
    pair: &mut Pair,
    inspector: &mut Inspector,
    statement: &Statement,
    mode: Mode,
    tally: &mut Tally,
) {
    let pgring = pair.pgring.ask(statement, mode);
    let mut oracle = pgring.clone();
    let mut verdict = Verdict::Refused(String::new());
    if !pgring.is_refusal() {
        oracle = pair.oracle.ask(statement, mode);
        tally.is_as_foretold(statement, mode, &oracle);
    }
    let rules = Rules::new(statement, mode);
    if oracle != pgring || !pgring.is_refusal() {
        verdict = rules.verdict(&pgring, &oracle, None);
    } else if let Some(failure) = &pgring.failure {
        verdict = Verdict::Refused(failure.message.clone());
    }
    if !matches!(verdict, Verdict::Different(_))
        && let Some(how) = inspector.difference(&statement.ignore)
    {
        verdict = Verdict::Different(how);
    }
    tally.note(&statement.place, &format!("{mode:?}\n{}", statement.simple), verdict, [&pgring, &oracle]);
    inspector.restore();
}

#[test]
fn what_is_written_is_what_one_postgresql_would_hold() {
    let stage = Stage::new();
    let statements = corpus("corpus/writes");
    let mut tally = Tally::default();
    let (mut pair, mut inspector) = (stage.pair(), stage.inspector());
    for statement in &statements {
        tally.asked += 1;
        for mode in [Mode::Simple, Mode::Binary] {
            write_both(&mut pair, &mut inspector, statement, mode, &mut tally);
        }
    }
    tally.check("writes", MOST_REFUSED_WRITES);
}

#[test]
fn what_must_be_refused_is_refused() {
    let stage = Stage::new();
    let (mut pair, mut inspector) = (stage.pair(), stage.inspector());
    for statement in &corpus("corpus/refused") {
        let said = statement.refused.as_deref().expect("what is said");
        for mode in [Mode::Simple, Mode::Binary] {
            let answer = pair.pgring.ask(statement, mode);
            let refused = answer.is_refusal()
                && answer.failure.as_ref().is_some_and(|failure| failure.message.contains(said));
            assert!(refused, "{} {mode:?}: {answer:?}\n{}", statement.place, statement.simple);
            assert_eq!(inspector.difference(&[]), None, "{}", statement.place);
        }
    }
}

#[test]
fn a_difference_is_seen() {
    let stage = Stage::new();
    let (mut pair, mut inspector) = (stage.pair(), stage.inspector());
    let topology = support::topology(3);
    let owner = topology.owner(Key::Integer(3).hash());
    let other = ShardId((owner.0 + 1) % 3);
    for (shard, change) in [
        (owner, "UPDATE users SET name = 'n' WHERE id = 3"),
        (owner, "DELETE FROM items WHERE user_id = 3 AND id = 1"),
        (owner, "INSERT INTO ledger VALUES (3, 9, 9, '')"),
        (other, "INSERT INTO ledger VALUES (3, 1, 1, '')"),
        (other, "UPDATE plans SET max_jobs = 1 WHERE id = 1"),
        (ShardId(0), "UPDATE memos SET body = '' WHERE id = 1"),
    ] {
        assert_eq!(inspector.difference(&[]), None, "before {change}");
        inspector.directly(shard, change);
        assert!(inspector.difference(&[]).is_some(), "{change}");
        if change.contains("users") {
            let mut tally = Tally::default();
            let statement = Statement::new("SELECT name FROM users WHERE id = $1{3}");
            for mode in [Mode::Simple, Mode::Text, Mode::Binary] {
                ask_both(&mut pair, &statement, mode, &mut tally);
            }
            assert_eq!(tally.different.len(), 3, "{:?}", tally.different);
        }
        inspector.restore();
    }
    assert_eq!(inspector.difference(&[]), None);
}
