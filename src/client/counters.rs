//! What a client has counted, readable at any time without waiting for anybody.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::proto::pool::PoolCounters;
use crate::proto::session::SessionCounters;
use crate::stats::counters;
use crate::transport::DialErrorKind;

counters! {
    /// What a client has counted since it was made, and how many sessions it has now.
    pub struct ClientStats {
        /// Sessions made.
        pub dialed: u64,
        /// Dials that failed, and sessions refused right after authentication.
        pub dials_failed: u64,
        /// Of those: the server's name was not resolved.
        pub dials_unresolved: u64,
        /// Of those: nothing listens, or there is no way to the server.
        pub dials_unreachable: u64,
        /// Of those: a stage took too long.
        pub dials_timed_out: u64,
        /// Of those: the certificate or the TLS handshake failed.
        pub dials_tls_failed: u64,
        /// Of those: wrong password, or not an AnyTLS server.
        pub dials_unauthenticated: u64,
        /// Of those: the socket was not made, or not kept out of the tunnel.
        pub dials_unprotected: u64,
        /// Of those: the connection broke.
        pub dials_lost: u64,
        /// Dials under way now.
        pub dialing: u64,
        /// Streams that were given a session which had served another.
        pub reused: u64,
        /// Streams that were given a session which serves another.
        pub shared: u64,
        /// Streams opened a second time because their pooled session was dead.
        pub retried: u64,
        /// Idle sessions asked whether they live before they were used.
        pub probed: u64,
        /// Sessions that serve no stream now.
        pub idle: u64,
        /// Sessions that serve a stream now.
        pub active: u64,
        /// Sessions that have ended.
        pub closed: u64,
        /// Of those: idle for too long.
        pub closed_idle_timeout: u64,
        /// Of those: past their lifetime.
        pub closed_age: u64,
        /// Of those: idle for almost as long as the server allows.
        pub closed_server_idle_limit: u64,
        /// Of those: `reuse` is off.
        pub closed_no_reuse: u64,
        /// Of those: the network was left.
        pub closed_path_change: u64,
        /// Of those: memory was short, or others needed the room.
        pub closed_memory: u64,
        /// Of those: the tunnel stopped.
        pub closed_shutdown: u64,
        /// Of those: ended by the server in good order, or with an alert.
        pub closed_by_server: u64,
        /// Of those: the connection broke.
        pub closed_broken: u64,
        /// Of those: the server did not answer.
        pub closed_no_answer: u64,
        /// Of those: closed before the server had said anything.
        pub closed_rejected: u64,
        /// Of those: the server broke the protocol.
        pub closed_violation: u64,
        /// Times that sessions were asked for heartbeats, however many at once.
        pub bursts: u64,
        /// Heartbeats asked for.
        pub beats_sent: u64,
        /// Heartbeats answered.
        pub beats_answered: u64,
        /// Heartbeats not answered in time.
        pub beats_missed: u64,
        /// Bytes of apps sent.
        pub sent_bytes: u64,
        /// Bytes for apps received.
        pub received_bytes: u64,
        /// Padding sent.
        pub padding_bytes: u64,
    }

    /// The same, while it counts.
    shared as Counters
}

fn add(counter: &AtomicU64, more: u64) {
    if more > 0 {
        counter.fetch_add(more, Ordering::Relaxed);
    }
}

impl Counters {
    /// One more.
    pub(super) fn count(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_failed_dial(&self, kind: DialErrorKind) {
        Self::count(&self.dials_failed);
        Self::count(match kind {
            DialErrorKind::Resolve => &self.dials_unresolved,
            DialErrorKind::Refused | DialErrorKind::Unreachable | DialErrorKind::Connect => {
                &self.dials_unreachable
            }
            DialErrorKind::Timeout => &self.dials_timed_out,
            DialErrorKind::Certificate | DialErrorKind::Tls => &self.dials_tls_failed,
            DialErrorKind::Authentication => &self.dials_unauthenticated,
            DialErrorKind::Protect | DialErrorKind::Socket => &self.dials_unprotected,
            DialErrorKind::Lost => &self.dials_lost,
        });
    }

    /// Goes from what a pool has shown before to what it shows now. Differences are added, since the pool may
    /// have followed another.
    pub(super) fn move_on(&self, before: &Counted, now: &Counted) {
        for ((counter, now), before) in self.of_pool().into_iter().zip(now.0).zip(before.0) {
            if now != before {
                counter.fetch_add(now.wrapping_sub(before), Ordering::Relaxed);
            }
        }
    }

    /// In the order of [`Counted`].
    fn of_pool(&self) -> [&AtomicU64; Counted::COUNT] {
        [
            &self.idle,
            &self.active,
            &self.dialing,
            &self.bursts,
            &self.shared,
            &self.probed,
            &self.closed,
            &self.closed_idle_timeout,
            &self.closed_age,
            &self.closed_server_idle_limit,
            &self.closed_no_reuse,
            &self.closed_path_change,
            &self.closed_memory,
            &self.closed_shutdown,
            &self.closed_by_server,
            &self.closed_broken,
            &self.closed_no_answer,
            &self.closed_rejected,
            &self.closed_violation,
        ]
    }

    /// Adds what a session has counted since `before`.
    pub(super) fn add_session(&self, before: &SessionCounters, now: &SessionCounters) {
        let SessionCounters {
            sent_bytes,
            received_bytes,
            padding_bytes,
            unknown_frames: _,
            beats_sent,
            beats_answered,
            beats_missed,
        } = now;
        add(&self.sent_bytes, sent_bytes - before.sent_bytes);
        add(&self.received_bytes, received_bytes - before.received_bytes);
        add(&self.padding_bytes, padding_bytes - before.padding_bytes);
        add(&self.beats_sent, beats_sent - before.beats_sent);
        add(&self.beats_answered, beats_answered - before.beats_answered);
        add(&self.beats_missed, beats_missed - before.beats_missed);
    }
}

/// What a pool has to show, in the order of [`Counters::of_pool`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counted([u64; Self::COUNT]);

impl Counted {
    const COUNT: usize = 19;

    /// From the numbers of sessions that are idle and active, and of dials under way, and from what the pool
    /// has counted.
    pub(super) fn new([idle, active, dialing]: [usize; 3], pool: PoolCounters) -> Self {
        let count = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        let PoolCounters { bursts, shared, probed, closed } = pool;
        Self([
            count(idle),
            count(active),
            count(dialing),
            bursts,
            shared,
            probed,
            closed.total(),
            closed.idle_timeout,
            closed.age,
            closed.server_idle_limit,
            closed.no_reuse,
            closed.path_change,
            closed.memory,
            closed.shutdown,
            closed.by_server,
            closed.broken,
            closed.no_answer,
            closed.rejected,
            closed.violation,
        ])
    }
}
