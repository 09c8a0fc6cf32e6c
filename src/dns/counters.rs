//! What the desk has counted.

use std::time::Duration;

/// What became of the apps' queries, and what is held for them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeskCounters {
    /// Messages that came as datagrams.
    pub udp_queries: u64,
    /// Messages that came over TCP.
    pub tcp_queries: u64,
    /// Of both: no query at all, or none that can be read.
    pub malformed: u64,
    /// Questions answered from the cache.
    pub cache_hits: u64,
    /// Questions that waited for the answer to the same one.
    pub coalesced: u64,
    /// Questions sent to the resolver.
    pub forwarded: u64,
    /// Queries answered with a fake address.
    pub fake_answers: u64,
    /// Queries answered here otherwise: names of this machine, reverse lookups of fake addresses, families
    /// that the strategy leaves out, and what is refused.
    pub local_answers: u64,
    /// Queries answered SERVFAIL since the resolver gave no answer, or none that makes sense.
    pub failures: u64,
    /// Queries answered SERVFAIL since too many were under way.
    pub refused_overload: u64,
    /// Answers that were too large for a datagram.
    pub truncated: u64,
    /// How long the resolver took.
    pub resolve_times: ResolveTimes,
    /// Answers in the cache now.
    pub cache_entries: usize,
    /// What they hold, in bytes.
    pub cache_bytes: usize,
    /// Names that have a fake address now.
    pub fake_names: usize,
    /// Questions under way now.
    pub in_flight: usize,
    /// Queries that wait for them now.
    pub waiting: usize,
    /// What the cache, the names and the questions hold together, in bytes.
    pub held_bytes: usize,
}

/// How long the last questions took, to within an eighth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResolveTimes {
    buckets: [u16; BUCKETS],
}

/// Four buckets for each doubling.
const STEPS: u32 = 4;

/// The first doubling begins at 2^8 µs: nothing comes through a tunnel faster.
const FIRST_OCTAVE: u32 = 8;

/// As far as 2^23 µs, eight seconds: a question is given up after five.
const BUCKETS: usize = 15 * STEPS as usize; // a small constant

/// With so many counted all counts are halved, so that the median follows the network. A guess: an hour's
/// browsing.
const MEMORY: u16 = 1024;

impl Default for ResolveTimes {
    fn default() -> Self {
        Self { buckets: [0; BUCKETS] }
    }
}

impl ResolveTimes {
    /// The median, or `None` when nothing was resolved yet.
    pub fn median(&self) -> Option<Duration> {
        let middle = self.count().checked_sub(1)? / 2;
        let mut seen = 0;
        let position = self.buckets.iter().position(|&count| {
            seen += count;
            seen > middle
        })?;
        let position = u32::try_from(position).ok()?;
        // The middle of the bucket, in eighths of where its doubling begins.
        let eighths = 8 + 2 * u64::from(position % STEPS) + 1;
        Some(Duration::from_micros((eighths << (FIRST_OCTAVE + position / STEPS)) / 8))
    }

    pub(super) fn add(&mut self, time: Duration) {
        if self.count() >= MEMORY {
            self.buckets.iter_mut().for_each(|count| *count /= 2);
        }
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX).max(1 << FIRST_OCTAVE);
        let octave = micros.ilog2();
        let step = (micros >> (octave - 2)) % u64::from(STEPS);
        let bucket = u64::from((octave - FIRST_OCTAVE) * STEPS) + step;
        let bucket = usize::try_from(bucket).unwrap_or(BUCKETS).min(BUCKETS - 1);
        self.buckets[bucket] += 1;
    }

    fn count(&self) -> u16 {
        self.buckets.iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn median_of(times: impl IntoIterator<Item = Duration>) -> Option<Duration> {
        let mut counted = ResolveTimes::default();
        times.into_iter().for_each(|time| counted.add(time));
        counted.median()
    }

    #[test]
    fn the_median_of_nothing_is_none() {
        assert_eq!(median_of([]), None);
    }

    #[test]
    fn a_median_is_right_to_within_an_eighth() {
        for micros in (256..8_000_000).step_by(9_999) {
            let median = median_of([Duration::from_micros(micros)]).expect("one was counted").as_micros();
            let off = median.abs_diff(u128::from(micros));
            assert!(off * 8 <= u128::from(micros), "{micros} {median}");
        }
    }

    #[test]
    fn half_of_the_times_are_below_the_median() {
        let times = (1..=101).map(Duration::from_millis);
        let median = median_of(times).expect("many were counted");
        assert!(median.as_millis().abs_diff(51) <= 6, "{median:?}");
        let skewed = [1, 1, 1, 4000, 4000].map(Duration::from_millis);
        assert!(median_of(skewed).expect("five") < Duration::from_millis(2));
    }

    #[test]
    fn times_out_of_range_are_counted_at_its_ends() {
        assert!(median_of([Duration::ZERO]).expect("one") < Duration::from_millis(1));
        assert!(median_of([Duration::MAX]).expect("one") > Duration::from_secs(6));
    }

    #[test]
    fn the_median_follows_the_network() {
        let times = |millis, count| std::iter::repeat_n(Duration::from_millis(millis), count);
        let median = median_of(times(10, 100_000).chain(times(500, 2_000))).expect("many");
        assert!(median > Duration::from_millis(400), "{median:?}");
    }
}
