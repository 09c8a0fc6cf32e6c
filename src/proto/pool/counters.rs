//! What the pool has counted.

use super::CloseReason;
use crate::proto::session::SessionError;

/// What the pool has counted since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolCounters {
    /// Times that sessions were asked for a heartbeat, however many at once: wake-ups of the radio.
    pub bursts: u64,
    /// Streams that were given a session which serves others.
    pub shared: u64,
    /// Sessions asked whether they live before they were used.
    pub probed: u64,
    /// Sessions that have ended.
    pub closed: Closed,
}

/// Sessions that have ended, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Closed {
    /// Idle for too long.
    pub idle_timeout: u64,
    /// Past their lifetime.
    pub age: u64,
    /// Idle for almost as long as the server allows.
    pub server_idle_limit: u64,
    /// `reuse` is off.
    pub no_reuse: u64,
    /// The network was left.
    pub path_change: u64,
    /// Memory was short, or others needed the room.
    pub memory: u64,
    /// The tunnel stopped.
    pub shutdown: u64,
    /// Ended by the server in good order, or with an alert.
    pub by_server: u64,
    /// The connection broke.
    pub broken: u64,
    /// The server did not answer.
    pub no_answer: u64,
    /// Closed before the server had said anything: a failed dial.
    pub rejected: u64,
    /// The server broke the protocol.
    pub violation: u64,
}

impl Closed {
    /// Of all reasons.
    pub fn total(&self) -> u64 {
        let ours = self.idle_timeout + self.age + self.server_idle_limit + self.no_reuse + self.path_change;
        let theirs = self.by_server + self.broken + self.no_answer + self.rejected + self.violation;
        ours + self.memory + self.shutdown + theirs
    }

    pub(super) fn count(&mut self, reason: CloseReason) {
        let counter = match reason {
            CloseReason::IdleTimeout => &mut self.idle_timeout,
            CloseReason::Age => &mut self.age,
            CloseReason::ServerIdleLimit => &mut self.server_idle_limit,
            CloseReason::NoReuse => &mut self.no_reuse,
            CloseReason::PathChange => &mut self.path_change,
            CloseReason::Memory | CloseReason::MakeRoom => &mut self.memory,
            CloseReason::Shutdown => &mut self.shutdown,
        };
        *counter += 1;
    }

    pub(super) fn count_loss(&mut self, reason: &SessionError) {
        let counter = match reason {
            SessionError::Closed => &mut self.shutdown,
            SessionError::EndedByPeer | SessionError::Alert(_) => &mut self.by_server,
            SessionError::Rejected => &mut self.rejected,
            SessionError::Lost(_) => &mut self.broken,
            SessionError::NoAnswer => &mut self.no_answer,
            SessionError::Violation(_) => &mut self.violation,
        };
        *counter += 1;
    }
}
