//! How long to leave a server alone after failed dials.

use std::time::Duration;

use crate::proto::timers::Moment;

const FIRST: Duration = Duration::from_secs(1);
/// A minute: long enough that apps which retry all night cost little, short enough for whoever waits.
const LONGEST: Duration = Duration::from_secs(60);

/// How long a request may wait for the next dial; after that most apps have given up on a connect.
const PATIENCE: Duration = Duration::from_secs(10);

/// Failures in a row, and what follows from them.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
    last_failure: Moment,
}

impl Backoff {
    pub(super) fn failed(&mut self, now: Moment) {
        self.failures = self.failures.saturating_add(1);
        self.last_failure = now;
    }

    pub(super) fn succeeded(&mut self) {
        self.failures = 0;
    }

    /// When the next dial may start; `None` means at once, beside others.
    pub(super) fn next_dial(&self) -> Option<Moment> {
        let doublings = self.failures.checked_sub(1)?;
        let factor = 1_u32.checked_shl(doublings).unwrap_or(u32::MAX);
        Some(self.last_failure + FIRST.saturating_mul(factor).min(LONGEST))
    }

    /// Whether a request at `now` would wait for longer than makes sense.
    pub(super) fn is_hopeless(&self, now: Moment) -> bool {
        self.next_dial().is_some_and(|due| due.since(now) > PATIENCE)
    }
}
