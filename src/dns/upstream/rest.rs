//! How long to leave a resolver alone that does not answer.

use std::time::Duration;

use crate::proto::timers::Moment;

/// A rest is one second, and two from then on: an app that asks on and on costs little, and a user who waits for a
/// resolver that is back tries again about then.
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(2);

/// Between sessions that are dialled because a resolver said nothing. One that is silent on a fresh session too
/// is at fault itself; but it may be down for long, and a session that dies meanwhile has to be found out.
const FRESH_INTERVAL: Duration = Duration::from_secs(60);

/// What is not to be tried before when. No timer: who wants something asks.
#[derive(Debug, Default)]
pub(super) struct Rest {
    length: Duration,
    until: Moment,
    next_fresh: Moment,
}

impl Rest {
    /// The resolver has failed twice in a row, or for good.
    pub(super) fn begin(&mut self, now: Moment) {
        self.length = (2 * self.length).clamp(FIRST, LONGEST);
        self.until = now + self.length;
    }

    /// Whether questions fail at once.
    pub(super) fn is_on(&self, now: Moment) -> bool {
        now < self.until
    }

    /// Allows a fresh session, if the last one was long ago.
    pub(super) fn take_fresh(&mut self, now: Moment) -> bool {
        let is_allowed = now >= self.next_fresh;
        if is_allowed {
            self.next_fresh = now + FRESH_INTERVAL;
        }
        is_allowed
    }

    /// An answer came, or all is different now.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Moment {
        Moment::from_origin(Duration::from_secs(seconds))
    }

    #[test]
    fn rests_are_a_second_then_two_until_they_are_cleared() {
        let mut rest = Rest::default();
        assert!(!rest.is_on(at(0)));
        for seconds in [1, 2, 2] {
            rest.begin(at(100));
            assert!(rest.is_on(at(100 + seconds - 1)));
            assert!(!rest.is_on(at(100 + seconds)));
        }
        rest.clear();
        assert!(!rest.is_on(at(100)));
        rest.begin(at(100));
        assert!(!rest.is_on(at(101)));
    }

    #[test]
    fn a_fresh_session_is_allowed_once_a_minute_until_that_is_cleared() {
        let mut rest = Rest::default();
        assert!(rest.take_fresh(at(100)));
        assert!(!rest.take_fresh(at(159)));
        assert!(rest.take_fresh(at(160)));
        rest.clear();
        assert!(rest.take_fresh(at(161)));
    }
}
