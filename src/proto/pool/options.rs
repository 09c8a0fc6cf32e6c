//! The pool options, under the names that users of the sing-box fork know.

use std::time::Duration;

use rand::{Rng, RngExt};

/// How the pool keeps its sessions. Zero durations and counts mean "off", as in the fork.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolOptions {
    /// How often idle sessions are looked at; at least 1 s.
    pub idle_session_check_interval: Duration,
    /// A session idle for longer is closed at the check.
    pub idle_session_timeout: Duration,
    /// That many idle sessions, the newest, are kept from the idle timeout.
    pub min_idle_session: usize,
    /// Age cleaning never leaves fewer idle sessions than this.
    pub min_idle_session_for_age: usize,
    /// Keep at least that many sessions idle, dialling the missing ones.
    pub ensure_idle_session: usize,
    /// The same while the app is in the background; `None` for the number in `ensure_idle_session`.
    pub ensure_idle_session_background: Option<usize>,
    /// At most that many dials a check for `ensure_idle_session`; 0 is no limit.
    pub ensure_idle_session_create_rate: usize,
    /// How often a session's liveness is asked for.
    pub heartbeat: Heartbeat,
    /// The heartbeat interval while the app is in the background: zero for none, `None` for the one in
    /// `heartbeat`.
    pub heartbeat_background: Option<Duration>,
    /// An idle session older than its own lifetime is closed.
    pub max_connection_lifetime: Duration,
    /// Each session draws its lifetime uniformly from lifetime ± this.
    pub connection_lifetime_jitter: Duration,
    /// How long a server may take to answer a stream; `None` follows the round trip.
    pub synack_timeout: Option<Duration>,
    /// Sessions at most; beyond it new streams share the least loaded session. 0 is no limit.
    pub max_sessions: usize,
    /// Whether a session serves another stream after its first has ended.
    pub reuse: bool,
}

/// The heartbeat interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heartbeat {
    /// No heartbeats.
    Off,
    /// A fixed interval, above zero.
    Every(Duration),
    /// Learned for each network.
    Auto,
}

impl PoolOptions {
    /// How long a new session may live; `None` for as long as it likes.
    pub fn draw_lifetime(&self, rng: &mut impl Rng) -> Option<Duration> {
        let (lifetime, jitter) = (self.max_connection_lifetime, self.connection_lifetime_jitter);
        let range = lifetime.saturating_sub(jitter)..=lifetime.saturating_add(jitter);
        (!lifetime.is_zero()).then(|| rng.random_range(range))
    }
}

impl Default for PoolOptions {
    /// The `mobile` preset's pool.
    fn default() -> Self {
        Self {
            idle_session_check_interval: Duration::from_secs(30),
            idle_session_timeout: Duration::from_secs(300),
            min_idle_session: 1,
            min_idle_session_for_age: 0,
            ensure_idle_session: 2,
            ensure_idle_session_background: Some(0),
            ensure_idle_session_create_rate: 0,
            heartbeat: Heartbeat::Every(Duration::from_secs(30)),
            heartbeat_background: Some(Duration::from_secs(270)),
            max_connection_lifetime: Duration::ZERO,
            connection_lifetime_jitter: Duration::ZERO,
            synack_timeout: None,
            max_sessions: 128,
            reuse: true,
        }
    }
}
