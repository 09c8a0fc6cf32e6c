//! What a relay shows of itself while it runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Bytes moved, both ways.
#[derive(Debug, Default)]
pub struct Traffic {
    up: AtomicU64,
    down: AtomicU64,
}

impl Traffic {
    /// Bytes from the app.
    pub fn up(&self) -> u64 {
        self.up.load(Ordering::Relaxed)
    }

    /// Bytes to the app.
    pub fn down(&self) -> u64 {
        self.down.load(Ordering::Relaxed)
    }

    fn add(&self, up: u64, down: u64) {
        for (counter, bytes) in [(&self.up, up), (&self.down, down)] {
            if bytes > 0 {
                counter.fetch_add(bytes, Ordering::Relaxed);
            }
        }
    }
}

/// How far a relay has come: written by the relay once a poll, read by anyone without a lock.
#[derive(Debug, Default)]
pub struct Progress {
    open: AtomicBool,
    traffic: Traffic,
    total: Arc<Traffic>,
}

impl Progress {
    /// The progress of a relay that has not begun. What it will move is also counted in `total`, which
    /// others share.
    pub fn new(total: Arc<Traffic>) -> Self {
        Self { total, ..Self::default() }
    }

    /// Whether the server has opened the stream.
    pub fn is_open(&self) -> bool {
        self.open.load(Ordering::Relaxed)
    }

    /// What was moved so far.
    pub fn traffic(&self) -> &Traffic {
        &self.traffic
    }

    pub(super) fn set_open(&self) {
        self.open.store(true, Ordering::Relaxed);
    }

    pub(super) fn add(&self, up: u64, down: u64) {
        self.traffic.add(up, down);
        self.total.add(up, down);
    }
}
