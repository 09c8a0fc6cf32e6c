//! What a session shows of its life, for whoever has to decide about it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use super::timers::{Moment, nanos};

/// One session's signs of life. The session writes, the pool reads when it decides: nothing is passed on
/// for each packet, and nobody waits for anybody.
#[derive(Debug)]
pub struct Pulse {
    /// Nanoseconds since the clock's origin: 584 years of them fit.
    heard: AtomicU64,
    is_read: AtomicBool,
    answers: AtomicBool,
}

impl Pulse {
    /// A session that was made at `now`.
    pub fn new(now: Moment) -> Self {
        Self {
            heard: AtomicU64::new(nanos(now.since_origin())),
            is_read: AtomicBool::new(true),
            answers: AtomicBool::new(true),
        }
    }

    /// When the peer was heard last: any byte counts.
    pub fn heard(&self) -> Moment {
        Moment::from_origin(Duration::from_nanos(self.heard.load(Ordering::Relaxed)))
    }

    /// Whether we read what the peer sends; while we do not, its silence means nothing.
    pub fn is_read(&self) -> bool {
        self.is_read.load(Ordering::Relaxed)
    }

    /// Whether the peer answers heartbeats: version 1 does not.
    pub fn answers(&self) -> bool {
        self.answers.load(Ordering::Relaxed)
    }

    /// The peer was heard. The session calls it; whoever simulates one has to as well.
    pub fn hear(&self, now: Moment) {
        self.heard.store(nanos(now.since_origin()), Ordering::Relaxed);
    }

    pub(super) fn set_read(&self, is_read: bool) {
        self.is_read.store(is_read, Ordering::Relaxed);
    }

    pub(super) fn set_answers(&self, answers: bool) {
        self.answers.store(answers, Ordering::Relaxed);
    }
}
