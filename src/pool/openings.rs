//! How many connections of a pool may be opened at a time, and when none is tried at all.
//!
//! After a failover every session wants a connection at once, from a server that has just begun to
//! serve, and each costs it a process and a login. So the first few are opened side by side, and each
//! that succeeds lets two more be tried: a server that keeps up is reached in a few round trips, and one
//! that does not is not buried. Where the server is away altogether, one attempt at a time finds out,
//! at growing distances; whoever comes in between hears of the last failure at once instead of
//! waiting for one of its own.

use std::time::{Duration, Instant};

/// Side by side, of a pool nothing is known of.
const FIRST: usize = 4;
/// There is no point in remembering more: the pool's size is the limit.
const MOST: usize = 1 << 16;
/// Between the first failure and the next attempt, and at most.
const PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Debug)]
pub(super) struct Openings {
    allowed: usize,
    under_way: usize,
    /// After a failure: not before then, and the pause that led to it.
    broken: Option<(Instant, Duration)>,
}

/// Why no connection may be opened now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum NotNow {
    /// Enough are being opened; each that is done lets others be.
    Enough,
    /// The last attempt failed: not before then.
    Broken(Instant),
}

impl Default for Openings {
    fn default() -> Openings {
        Openings { allowed: FIRST, under_way: 0, broken: None }
    }
}

impl Openings {
    /// One is about to be opened, if it may.
    pub(super) fn begin(&mut self, now: Instant) -> Result<(), NotNow> {
        if let Some((until, _)) = self.broken.filter(|(until, _)| now < *until) {
            return Err(NotNow::Broken(until));
        }
        if self.under_way >= self.allowed {
            return Err(NotNow::Enough);
        }
        self.under_way += 1;
        Ok(())
    }

    /// One is about to be opened in the place of one that has ended.
    pub(super) fn begin_in_place(&mut self) {
        self.under_way += 1;
    }

    /// It is there.
    pub(super) fn opened(&mut self) {
        self.ended();
        self.allowed = (self.allowed * 2).min(MOST);
        self.broken = None;
    }

    /// The server is away. `chance` is one of 0 to 1: proxies that failed together do not come back
    /// together.
    pub(super) fn failed(&mut self, now: Instant, chance: f64) {
        self.ended();
        self.allowed = 1;
        let pause = match self.broken {
            // Attempts that began together count once.
            Some((until, pause)) if now < until => pause,
            Some((_, pause)) => (pause * 2).min(LONGEST_PAUSE),
            None => PAUSE,
        };
        self.broken = Some((now + pause.mul_f64(0.5 + chance / 2.0), pause));
    }

    /// It has come to nothing, and that says nothing of the server.
    pub(super) fn ended(&mut self) {
        self.under_way = self.under_way.saturating_sub(1);
    }

    /// How many are being opened.
    pub(super) fn under_way(&self) -> usize {
        self.under_way
    }

    /// When the next attempt may be made, while the last one has failed.
    pub(super) fn broken_until(&self) -> Option<Instant> {
        self.broken.map(|(until, _)| until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Steps at milliseconds: `begin`, `opened`, `failed`, `ended`; what `begin` answers, or nothing.
    fn check(steps: &[(u64, &str, &str)]) {
        let start = Instant::now();
        let mut openings = Openings::default();
        for (at, step, expect) in steps {
            let now = start + Duration::from_millis(*at);
            let said = match *step {
                "begin" => match openings.begin(now) {
                    Ok(()) => "yes".to_owned(),
                    Err(NotNow::Enough) => "enough".to_owned(),
                    Err(NotNow::Broken(until)) => format!("at {}", (until - start).as_millis()),
                },
                "opened" => {
                    openings.opened();
                    String::new()
                }
                "failed" => {
                    openings.failed(now, 1.0);
                    String::new()
                }
                _ => {
                    openings.ended();
                    String::new()
                }
            };
            assert_eq!(said, *expect, "{step} at {at} of {steps:?}");
        }
    }

    #[test]
    fn a_new_pool_begins_slowly() {
        let four = [(0, "begin", "yes"); 4];
        let then = [(0, "begin", "enough"), (1, "opened", ""), (1, "begin", "yes")];
        // 8 allowed, 4 under way
        let rest = [(1, "begin", "yes"), (1, "begin", "yes"), (1, "begin", "yes"), (1, "begin", "yes")];
        check(&[&four[..], &then[..], &rest[..], &[(1, "begin", "enough")]].concat());
        check(&[&four[..], &[(0, "ended", ""), (0, "begin", "yes"), (0, "begin", "enough")]].concat());
    }

    #[test]
    fn a_server_that_is_away_is_tried_one_by_one_and_ever_later() {
        check(&[
            (0, "begin", "yes"),
            (0, "begin", "yes"),
            (10, "failed", ""),
            (10, "begin", "at 60"),
            // began before it was known, and tells nothing new
            (20, "failed", ""),
            (59, "begin", "at 70"),
            (70, "begin", "yes"),
            (70, "begin", "enough"),
            (71, "failed", ""),
            (72, "begin", "at 171"),
            (200, "begin", "yes"),
            (200, "failed", ""),
            (200, "begin", "at 400"),
            (400, "begin", "yes"),
            // it is back: one, two, four
            (401, "opened", ""),
            (401, "begin", "yes"),
            (401, "begin", "yes"),
            (401, "begin", "enough"),
            (402, "opened", ""),
            (402, "begin", "yes"),
            (402, "begin", "yes"),
            (402, "begin", "yes"),
            (402, "begin", "enough"),
        ]);
    }

    #[test]
    fn the_pause_has_an_end() {
        let (start, mut openings) = (Instant::now(), Openings::default());
        let mut now = start;
        for _ in 0..20 {
            openings.begin(now).unwrap();
            openings.failed(now, 1.0);
            let until = openings.broken_until().unwrap();
            assert!(until - now <= LONGEST_PAUSE);
            now = until;
        }
        assert_eq!(openings.broken_until().unwrap() - now, Duration::ZERO);
        openings.begin(now).unwrap();
        openings.failed(now, 0.0);
        assert_eq!(openings.broken_until().unwrap() - now, LONGEST_PAUSE / 2);
    }
}
