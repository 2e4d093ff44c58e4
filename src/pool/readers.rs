//! Which replica a read goes to.
//!
//! Of two drawn by chance the one that is likely to answer sooner: "the power of two choices" spreads
//! as well as looking at all of them does, and does not send everybody to the one that was the best
//! when it was looked at last. What is compared is what is under way there times how long it has taken
//! lately. Figures are this process's own: other proxies see others.
//!
//! A slow endpoint is not forgotten: what has been measured counts for half after each second without
//! a new measurement.

use super::health::{EndpointIndex, ShardSnapshot};
use super::{Pool, Shard, ShardUser};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Instant;

/// A server that may be read from.
pub struct Reader {
    /// In the snapshot that has the generation of its [`Readers`].
    pub endpoint: EndpointIndex,
    /// What leads there.
    pub pool: Arc<Pool>,
}

/// A shard's, good for one generation of its health.
pub struct Readers {
    /// Of the snapshot.
    pub generation: u64,
    /// For all reads.
    pub replicas: Vec<Reader>,
    /// For analytical ones.
    pub analytics: Vec<Reader>,
}

impl Readers {
    pub(super) fn of(snapshot: &ShardSnapshot, shard: &Shard, user: &ShardUser) -> Readers {
        let readers = |indexes: &[EndpointIndex]| {
            let found = indexes.iter().filter_map(|&endpoint| {
                let address = &snapshot.endpoints.get(endpoint.index())?.address;
                Some(Reader { endpoint, pool: shard.pool(address, user) })
            });
            found.collect()
        };
        Readers {
            generation: snapshot.generation,
            replicas: readers(&snapshot.roles.replicas),
            analytics: readers(&snapshot.roles.analytics),
        }
    }
}

/// What a pool works on.
#[derive(Default)]
pub(super) struct Load {
    in_flight: AtomicUsize,
    /// How long a connection was out for a read, lately.
    micros: AtomicU64,
    /// When that was measured last, in milliseconds since [`BEGUN`].
    measured: AtomicU64,
}

static BEGUN: LazyLock<Instant> = LazyLock::new(Instant::now);

/// What has not been measured is taken to be as fast as this, and nothing to be faster.
const LEAST_MICROS: u64 = 100;

impl Load {
    fn cost(&self, now: Instant) -> u64 {
        let in_flight = self.in_flight.load(Ordering::Relaxed) as u64;
        let age = millis(now).saturating_sub(self.measured.load(Ordering::Relaxed));
        let micros = self.micros.load(Ordering::Relaxed) >> (age / 1000).min(63);
        (in_flight + 1).saturating_mul(micros.max(LEAST_MICROS))
    }

    /// A read that ran this long has ended. Two at once may lose one of the two: it is an average.
    fn measure(&self, now: Instant, micros: u64) {
        let before = self.micros.load(Ordering::Relaxed);
        let average = if before == 0 { micros } else { before - before / 8 + micros / 8 };
        self.micros.store(average, Ordering::Relaxed);
        self.measured.store(millis(now), Ordering::Relaxed);
    }
}

fn millis(now: Instant) -> u64 {
    u64::try_from(now.saturating_duration_since(*BEGUN).as_millis()).unwrap_or(u64::MAX)
}

/// A read under way.
pub(super) struct InFlight {
    pool: Arc<Pool>,
    since: Instant,
}

impl InFlight {
    pub(super) fn begin(pool: &Arc<Pool>) -> InFlight {
        pool.load.in_flight.fetch_add(1, Ordering::Relaxed);
        InFlight { pool: Arc::clone(pool), since: Instant::now() }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let load = &self.pool.load;
        load.in_flight.fetch_sub(1, Ordering::Relaxed);
        let now = Instant::now();
        let micros = now.saturating_duration_since(self.since).as_micros();
        load.measure(now, u64::try_from(micros).unwrap_or(u64::MAX));
    }
}

/// The better of two drawn by chance; `None` when there is none at all.
pub fn choose<'r>(readers: &[&'r Reader]) -> Option<&'r Reader> {
    let now = Instant::now();
    let cost = |reader: &Reader| reader.pool.load.cost(now);
    match readers {
        [] => None,
        [only] => Some(only),
        several => {
            let (one, other) = two_of(several.len(), rand::random_range(0..several.len()), |most| {
                rand::random_range(0..most)
            });
            let (one, other) = (several.get(one)?, several.get(other)?);
            Some(if cost(other) < cost(one) { other } else { one })
        }
    }
}

/// Two different ones of `count`, the first being given.
fn two_of(count: usize, first: usize, draw: impl FnOnce(usize) -> usize) -> (usize, usize) {
    let second = draw(count - 1);
    (first, if second < first { second } else { second + 1 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn two_different_ones_each_as_likely() {
        let mut seen = [[0; 4]; 4];
        for first in 0..4 {
            for second in 0..3 {
                let (one, other) = two_of(4, first, |most| {
                    assert_eq!(most, 3);
                    second
                });
                seen[one][other] += 1;
            }
        }
        for (one, row) in seen.iter().enumerate() {
            for (other, count) in row.iter().enumerate() {
                assert_eq!(*count, i32::from(one != other), "{one} {other}");
            }
        }
    }

    #[test]
    fn cost() {
        let now = Instant::now() + Duration::from_secs(1000);
        let check = |in_flight: usize, measured: &[u64], later: u64, expect: u64| {
            let load = Load::default();
            load.in_flight.store(in_flight, Ordering::Relaxed);
            measured.iter().for_each(|micros| load.measure(now, *micros));
            assert_eq!(
                load.cost(now + Duration::from_secs(later)),
                expect,
                "{in_flight} {measured:?} {later}"
            );
        };
        check(0, &[], 0, 100);
        check(3, &[], 0, 400);
        check(0, &[1000], 0, 1000);
        check(1, &[1000], 0, 2000);
        // one that takes longer moves the average by an eighth
        check(0, &[800, 1600], 0, 900);
        // a slow one is tried again
        check(0, &[1_000_000], 1, 500_000);
        check(0, &[1_000_000], 60, 100);
        check(1, &[u64::MAX], 0, u64::MAX);
    }
}
