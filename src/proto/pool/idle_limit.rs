//! How long the server leaves an idle session open, learned from those that it closes.

use std::collections::VecDeque;
use std::time::Duration;

use crate::proto::timers::Moment;

/// Closed after about the same time so often in a row: a rule of the server's, no accident.
const SAMPLES: usize = 3;

/// Sessions that are closed together are one sample: a server that restarts closes them all.
const APART: Duration = Duration::from_secs(1);

/// A server that closes sooner than this refuses sessions rather than ends idle ones.
const SHORTEST: Duration = Duration::from_secs(1);

/// The idle times after which the server has closed sessions, the latest last.
#[derive(Debug, Default)]
pub(super) struct IdleLimit {
    samples: VecDeque<(Moment, Duration)>,
    limit: Option<Duration>,
}

impl IdleLimit {
    /// The server has closed a session that had been idle for `idle`.
    pub(super) fn handle_closed(&mut self, idle: Duration, now: Moment) {
        if idle < SHORTEST || self.samples.back().is_some_and(|&(last, _)| now.since(last) < APART) {
            return;
        }
        self.samples.push_back((now, idle));
        if self.samples.len() > SAMPLES {
            self.samples.pop_front();
        }
        let idles = || self.samples.iter().map(|&(_, idle)| idle);
        let (Some(shortest), Some(longest)) = (idles().min(), idles().max()) else { return };
        // Servers look at their sessions every so often, so that their limit varies by that much.
        if self.samples.len() == SAMPLES && longest - shortest <= longest / 4 {
            self.limit = Some(shortest - shortest / 5);
            tracing::debug!(?shortest, "the server closes idle sessions; they are retired before");
        }
    }

    /// How long a session may be idle before the server is likely to close it.
    pub(super) fn limit(&self) -> Option<Duration> {
        self.limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn learned(idles: &[u64]) -> Option<Duration> {
        let mut limit = IdleLimit::default();
        let mut now = Moment::from_origin(Duration::from_secs(1000));
        for &idle in idles {
            now = now + Duration::from_secs(idle);
            limit.handle_closed(Duration::from_secs(idle), now);
        }
        limit.limit()
    }

    #[test]
    fn three_sessions_closed_after_about_the_same_time_show_a_limit() {
        assert_eq!(learned(&[60, 62]), None);
        assert_eq!(learned(&[60, 62, 65]), Some(Duration::from_secs(48)));
        assert_eq!(learned(&[60, 10, 65, 300]), None);
        assert_eq!(learned(&[5, 60, 62, 65]), Some(Duration::from_secs(48)));
    }

    #[test]
    fn sessions_closed_together_count_once() {
        let mut limit = IdleLimit::default();
        for _ in 0..9 {
            limit.handle_closed(Duration::from_secs(60), Moment::from_origin(Duration::from_secs(1000)));
        }
        assert_eq!(limit.limit(), None);
    }
}
