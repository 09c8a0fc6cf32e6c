//! What the app is told of the tunnel's state, and what it tells of the phone's.

use std::time::Duration;

use super::Failure;
use crate::budget;
use crate::proto::pool;
use crate::proto::timers::Moment;
use crate::tunnel::State;

/// How the tunnel is doing.
#[derive(Clone, Debug, PartialEq, Eq, uniffi::Enum)]
pub enum TunnelState {
    /// It does not run.
    Stopped,
    /// The TUN is not attached yet.
    Starting,
    /// No session has been made yet.
    Connecting,
    /// The server was reached, and no dial has failed since.
    Connected,
    /// There are sessions, but dials fail.
    Degraded {
        /// Why the last one failed.
        failure: Failure,
    },
    /// There is no network; nothing is tried.
    WaitingForNetwork,
    /// There is no session, and dials fail.
    Reconnecting {
        /// Dials that have failed in a row.
        attempt: u32,
        /// When the next may start, counted from when this was told.
        retry_in: Duration,
        /// Why the last one failed.
        failure: Failure,
    },
    /// The phone sleeps: sessions are kept as they are.
    Paused,
    /// It was told to stop.
    Stopping,
    /// It has ended by itself. It can be started again with another TUN.
    Failed {
        /// What happened.
        failure: Failure,
        /// Whether apps are cut off from the network, and not merely outside of the tunnel.
        is_traffic_blocked: bool,
    },
}

impl TunnelState {
    pub(super) fn of(state: &State, now: Moment) -> Self {
        match state {
            State::Starting => Self::Starting,
            State::Connecting => Self::Connecting,
            State::Connected => Self::Connected,
            State::Degraded { why } => Self::Degraded { failure: why.into() },
            State::WaitingForNetwork => Self::WaitingForNetwork,
            State::Reconnecting { attempt, retry_at, why } => {
                Self::Reconnecting { attempt: *attempt, retry_in: retry_at.since(now), failure: why.into() }
            }
            State::Paused => Self::Paused,
            State::Stopping => Self::Stopping,
            State::Stopped => Self::Stopped,
            State::Failed { error, is_bug, is_traffic_blocked } => Self::Failed {
                failure: Failure::of_end(error, *is_bug),
                is_traffic_blocked: *is_traffic_blocked,
            },
        }
    }
}

/// How awake the phone is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, uniffi::Enum)]
pub enum Power {
    /// Somebody looks at it.
    Interactive,
    /// The screen is off.
    Background,
    /// Idle for long: the system lets apps use the network at its own times only.
    Doze,
    /// About to suspend.
    Sleeping,
}

impl From<Power> for pool::Power {
    fn from(power: Power) -> Self {
        match power {
            Power::Interactive => Self::Interactive,
            Power::Background => Self::Background,
            Power::Doze => Self::Doze,
            Power::Sleeping => Self::Sleeping,
        }
    }
}

/// How short the system is of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, uniffi::Enum)]
pub enum MemoryPressure {
    /// Not short.
    Normal,
    /// Short: windows shrink, and nothing is kept for later.
    Low,
    /// About to kill: besides, the flows that are idle longest are reset.
    Critical,
}

impl From<MemoryPressure> for budget::Pressure {
    fn from(pressure: MemoryPressure) -> Self {
        match pressure {
            MemoryPressure::Normal => Self::Normal,
            MemoryPressure::Low => Self::Low,
            MemoryPressure::Critical => Self::Critical,
        }
    }
}

impl From<budget::Pressure> for MemoryPressure {
    fn from(pressure: budget::Pressure) -> Self {
        match pressure {
            budget::Pressure::Normal => Self::Normal,
            budget::Pressure::Low => Self::Low,
            budget::Pressure::Critical => Self::Critical,
        }
    }
}
