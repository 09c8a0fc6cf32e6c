//! What the pool knows of one session.

use std::sync::Arc;
use std::time::Duration;

use crate::proto::pulse::Pulse;
use crate::proto::timers::Moment;

/// One session, leased or idle.
///
/// ```text
///            granted                   last stream ended
/// Idle ───────────────────► leased ──────────────────────► Idle
///  │ silent for long, wanted
///  └─► probed ── heard ──► granted
///         └─ silence ────► doubted: not granted before it is heard again
/// ```
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) pulse: Arc<Pulse>,
    /// The round trip measured when it was dialled.
    pub(super) round_trip: Duration,
    pub(super) born: Moment,
    /// Drawn once; `None` for a session that may grow as old as it likes.
    pub(super) lifetime: Option<Duration>,
    /// Whether it has served a stream.
    pub(super) used: bool,
    /// Whether it has ever waited in the pool, where it may have died unnoticed.
    pub(super) pooled: bool,
    /// INVARIANT: zero exactly while the pool lists it as idle.
    pub(super) streams: usize,
    /// Since when it has been idle.
    pub(super) since: Moment,
    /// When it was asked to show that it lives, while somebody waits for that.
    pub(super) probe: Option<Moment>,
    /// When it was asked in vain.
    pub(super) doubted: Option<Moment>,
    /// When it was last asked for a heartbeat.
    pub(super) beaten: Moment,
    /// How long it had been silent then.
    pub(super) silence: Duration,
    /// Past its lifetime, and to be closed as soon as another can take its place.
    pub(super) expired: bool,
    /// Made on a network that we have left.
    pub(super) is_stranded: bool,
}

impl Entry {
    pub(super) fn new(
        pulse: Arc<Pulse>,
        round_trip: Duration,
        lifetime: Option<Duration>,
        now: Moment,
    ) -> Self {
        Self {
            pulse,
            round_trip,
            born: now,
            lifetime,
            used: false,
            pooled: false,
            streams: 0,
            since: now,
            probe: None,
            doubted: None,
            beaten: now,
            silence: Duration::ZERO,
            expired: false,
            is_stranded: false,
        }
    }

    pub(super) fn age(&self, now: Moment) -> Duration {
        now.since(self.born)
    }

    pub(super) fn is_past_lifetime(&self, now: Moment) -> bool {
        self.lifetime.is_some_and(|lifetime| self.age(now) > lifetime)
    }

    /// Whether it did not show that it lives when it was wanted, and has not since.
    pub(super) fn is_doubted(&self) -> bool {
        self.doubted.is_some_and(|doubted| self.pulse.heard() <= doubted)
    }

    /// Until when a wanted session may show that it lives, before another is dialled instead: two round trips
    /// and some time for the radio to wake, but less than a user notices.
    pub(super) fn probe_due(&self) -> Option<Moment> {
        let (low, high) = (Duration::from_millis(400), Duration::from_millis(1500));
        Some(self.probe? + (self.round_trip * 2 + Duration::from_millis(200)).clamp(low, high))
    }
}
