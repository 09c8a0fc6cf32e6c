//! How long to leave a server alone after failed dials.

use std::time::Duration;

use rand::{Rng, RngExt};

use crate::proto::timers::Moment;

const FIRST: Duration = Duration::from_secs(1);
/// A minute: long enough that apps which retry all night cost little, short enough for whoever waits.
const LONGEST: Duration = Duration::from_secs(60);

/// How long a request may wait for a session; after that most apps have given up on a connect.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// Failures in a row, and what follows from them.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
    next_dial: Moment,
}

impl Backoff {
    /// A pause of 1 s that doubles up to [`LONGEST`], less a random part of its half: the clients that a
    /// server's restart has made to dial together do not go on together. Dials that were under way beside one
    /// that failed say nothing new: ten at once are one failure.
    pub(super) fn failed(&mut self, now: Moment, rng: &mut impl Rng) {
        if self.next_dial().is_some_and(|due| now < due) {
            return;
        }
        let factor = 1_u32.checked_shl(self.failures).unwrap_or(u32::MAX);
        let pause = FIRST.saturating_mul(factor).min(LONGEST);
        self.next_dial = now + pause - rng.random_range(Duration::ZERO..=pause / 2);
        self.failures = self.failures.saturating_add(1);
    }

    pub(super) fn succeeded(&mut self) {
        self.failures = 0;
    }

    /// Somebody waits for the server now: no pause is kept any longer.
    pub(super) fn hurry(&mut self, now: Moment) {
        self.next_dial = self.next_dial.min(now);
    }

    pub(super) fn failures(&self) -> u32 {
        self.failures
    }

    /// When the next dial may start; `None` means at once, beside others.
    pub(super) fn next_dial(&self) -> Option<Moment> {
        (self.failures > 0).then_some(self.next_dial)
    }

    /// Whether a request at `now` would wait for longer than makes sense.
    pub(super) fn is_hopeless(&self, now: Moment) -> bool {
        self.next_dial().is_some_and(|due| due.since(now) > PATIENCE)
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    #[test]
    fn dials_that_fail_together_are_one_failure() {
        let mut rng = StdRng::seed_from_u64(1);
        let mut backoff = Backoff::default();
        let now = Moment::from_origin(Duration::from_secs(1000));
        for _ in 0..10 {
            backoff.failed(now, &mut rng);
        }
        assert_eq!(backoff.failures(), 1);
        let due = backoff.next_dial().unwrap();
        assert!(due.since(now) <= FIRST);
        backoff.failed(due, &mut rng);
        assert_eq!(backoff.failures(), 2, "this one was dialled after the pause");
    }
}
