//! What all flows of a tunnel add up to.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::relay::Traffic;

/// The flows of a tunnel, counted while they live.
///
/// `total` - `open` flows have ended: `refused`, `failed` and `closed_by_us` of them so, and the others
/// because the server or the app had finished.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlowStats {
    /// Flows that live now.
    pub open: u64,
    /// Flows seen.
    pub total: u64,
    /// Flows refused because the server did not open their stream.
    pub refused: u64,
    /// Flows that ended with a failure of the server, or of ours.
    pub failed: u64,
    /// Flows ended by [`close_connection`](crate::tunnel::Tunnel::close_connection), or by the tunnel's end.
    pub closed_by_us: u64,
    /// Bytes from apps.
    pub up_bytes: u64,
    /// Bytes to apps.
    pub down_bytes: u64,
}

/// How a flow ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The server or the app had finished.
    Finished,
    Refused,
    Failed,
    ClosedByUs,
}

/// A flow adds to two of these in its life: to `total` when it begins, and to one of the others when it ends.
#[derive(Debug, Default)]
pub(super) struct Counters {
    total: AtomicU64,
    finished: AtomicU64,
    refused: AtomicU64,
    failed: AtomicU64,
    closed_by_us: AtomicU64,
    /// What every relay adds to.
    pub(super) traffic: Arc<Traffic>,
}

impl Counters {
    /// Counts a new flow, and gives its number.
    pub(super) fn begin(&self) -> u64 {
        self.total.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(super) fn end(&self, outcome: Outcome) {
        let counter = match outcome {
            Outcome::Finished => &self.finished,
            Outcome::Refused => &self.refused,
            Outcome::Failed => &self.failed,
            Outcome::ClosedByUs => &self.closed_by_us,
        };
        counter.fetch_add(1, Ordering::Release);
    }

    pub(super) fn snapshot(&self) -> FlowStats {
        // Ends first, and acquired: the total read after them has every flow that has ended.
        let ended = |counter: &AtomicU64| counter.load(Ordering::Acquire);
        let finished = ended(&self.finished);
        let (refused, failed) = (ended(&self.refused), ended(&self.failed));
        let closed_by_us = ended(&self.closed_by_us);
        let total = self.total.load(Ordering::Relaxed);
        FlowStats {
            open: total - finished - refused - failed - closed_by_us,
            total,
            refused,
            failed,
            closed_by_us,
            up_bytes: self.traffic.up(),
            down_bytes: self.traffic.down(),
        }
    }
}
