//! How far behind its primary a replica is, in time.
//!
//! What a replica can say of itself is not enough: `pg_last_xact_replay_timestamp()` grows old
//! on an idle primary, and "replayed all that was received" is also true of a replica to which
//! nobody sends any more. The primary's positions as pgring saw them, with the time it saw
//! them, are: a replica that has not replayed what the primary had written at noon is behind
//! since noon at the latest. Where that history is too short to tell, the replica's own figure
//! is believed when it is the worse one.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::state::{Lsn, Probe};

/// Most positions remembered. More probes than that within the window make the history shorter
/// than the window, and a shorter history never makes an answer smaller.
const MOST: usize = 1024;

/// Where a shard's primary was, and when.
#[derive(Clone, Debug, Default)]
pub struct PrimaryTrack {
    /// Both ascending. The oldest position stands for all before it.
    positions: VecDeque<(Instant, Lsn)>,
    timeline: Option<u32>,
}

impl PrimaryTrack {
    /// The primary had written up to `lsn` at `at`. `window` is how far back answers matter.
    pub fn record(&mut self, at: Instant, lsn: Lsn, timeline: Option<u32>, window: Duration) {
        let forks = timeline != self.timeline || self.positions.back().is_some_and(|(_, last)| lsn < *last);
        if forks {
            // Another history: its positions do not compare with the old ones.
            self.positions.clear();
            self.timeline = timeline;
        }
        if self.positions.back().is_some_and(|(_, last)| *last == lsn) {
            return;
        }
        self.positions.push_back((at, lsn));
        // The second oldest being older than the window, the oldest cannot matter.
        while self.positions.len() > MOST
            || self.positions.get(1).is_some_and(|(seen, _)| at.saturating_duration_since(*seen) > window)
        {
            self.positions.pop_front();
        }
    }

    /// How far behind a replica that answered `probe` at `at` is. `None`: it cannot be told,
    /// and must be taken as too far.
    pub fn lag(&self, at: Instant, probe: &Probe) -> Option<Duration> {
        let own = if probe.replayed_all { Some(Duration::ZERO) } else { probe.replay_age };
        let Some(replayed) = probe.lsn else { return own };
        if self.positions.is_empty() {
            return own;
        }
        let missing = self.positions.partition_point(|(_, lsn)| *lsn <= replayed);
        let Some((seen, _)) = self.positions.get(missing) else { return Some(Duration::ZERO) };
        let behind = at.saturating_duration_since(*seen);
        if missing > 0 {
            return Some(behind);
        }
        // Behind everything remembered: at least `behind`, and who knows how much more.
        probe.replay_age.map(|age| age.max(behind))
    }
}

#[cfg(test)]
mod tests {
    use super::super::state::ServerVersion;
    use super::*;

    fn replica(lsn: Option<u64>, replayed_all: bool, age: Option<u64>) -> Probe {
        Probe {
            in_recovery: true,
            read_only: false,
            timeline: Some(1),
            system_identifier: Some(7),
            lsn: lsn.map(Lsn),
            replayed_all,
            replay_age: age.map(Duration::from_secs),
            server_version: ServerVersion(150_000),
            max_prepared_transactions: 0,
            server_encoding: "UTF8".to_owned(),
            stranger: None,
        }
    }

    #[test]
    fn lag() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let window = Duration::from_secs(20);
        let mut busy = PrimaryTrack::default();
        for second in 0..10 {
            busy.record(at(second), Lsn(100 + second), Some(1), window);
        }
        let mut idle = PrimaryTrack::default();
        for second in 0..3600 {
            idle.record(at(second), Lsn(100), Some(1), window);
        }
        let none = PrimaryTrack::default();
        let check = |track: &PrimaryTrack, seconds, probe: Probe, expect: Option<u64>| {
            assert_eq!(
                track.lag(at(seconds), &probe),
                expect.map(Duration::from_secs),
                "{probe:?} at {seconds}"
            );
        };
        // has all, or more than was seen
        check(&busy, 10, replica(Some(109), true, Some(3)), Some(0));
        check(&busy, 10, replica(Some(500), false, Some(3)), Some(0));
        // the first position it has not replayed was there at second 6
        check(&busy, 10, replica(Some(105), true, Some(99)), Some(4));
        check(&busy, 30, replica(Some(105), true, None), Some(24));
        // behind all that is remembered: its own age counts, though it has replayed all it received
        check(&busy, 10, replica(Some(50), true, Some(600)), Some(600));
        check(&busy, 10, replica(Some(50), true, Some(1)), Some(10));
        check(&busy, 10, replica(Some(50), true, None), None);
        // an idle primary's replica is not behind, however old the last transaction is
        check(&idle, 3600, replica(Some(100), true, Some(86_400)), Some(0));
        // no primary seen: only its own word
        check(&none, 10, replica(Some(50), true, Some(600)), Some(0));
        check(&none, 10, replica(Some(50), false, Some(600)), Some(600));
        check(&none, 10, replica(Some(50), false, None), None);
        check(&busy, 10, replica(None, true, Some(600)), Some(0));
    }

    #[test]
    fn memory_is_bounded_and_a_new_timeline_starts_anew() {
        let start = Instant::now();
        let window = Duration::from_secs(20);
        let mut track = PrimaryTrack::default();
        for step in 0..100_000u64 {
            track.record(start + Duration::from_millis(step), Lsn(step), Some(1), window);
        }
        assert_eq!(track.positions.len(), MOST);
        for second in 100..200u64 {
            track.record(start + Duration::from_secs(second), Lsn(100_000 + second), Some(1), window);
        }
        assert!(track.positions.len() <= 23, "{}", track.positions.len());
        track.record(start + Duration::from_secs(200), Lsn(5), Some(2), window);
        assert_eq!(track.positions.len(), 1);
    }
}
