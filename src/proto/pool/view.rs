//! What the pool tells of itself.

use std::time::Duration;

use super::{Conditions, Pool, PoolCounters, SessionSeq};
use crate::proto::timers::Moment;

impl Pool {
    /// What the phone does, as it was told last.
    pub fn conditions(&self) -> Conditions {
        self.conditions
    }

    /// How many sessions are idle.
    pub fn idle_count(&self) -> usize {
        self.idle.len()
    }

    /// How many sessions are leased.
    pub fn leased_count(&self) -> usize {
        self.sessions.len() - self.idle.len()
    }

    /// How many dials are under way.
    pub fn dialing_count(&self) -> usize {
        self.dials.len()
    }

    /// How many dials have failed in a row.
    pub fn failures(&self) -> u32 {
        self.backoff.failures()
    }

    /// When the next dial to a failing server starts at the earliest.
    pub fn retry_at(&self) -> Option<Moment> {
        self.backoff.next_dial()
    }

    /// Whether a session has ever waited in the pool, where it may have died unnoticed.
    pub fn was_pooled(&self, seq: SessionSeq) -> bool {
        self.sessions.get(&seq).is_some_and(|entry| entry.pooled)
    }

    /// A session's age, and how long it has been idle, if it is.
    pub fn ages(&self, seq: SessionSeq, now: Moment) -> Option<(Duration, Option<Duration>)> {
        let entry = self.sessions.get(&seq)?;
        Some((entry.age(now), (entry.streams == 0).then(|| now.since(entry.since))))
    }

    /// What was counted so far.
    pub fn counters(&self) -> PoolCounters {
        self.counters
    }
}
