//! How the tunnel is doing, in words that an app can show: pure.

use std::fmt;
use std::time::Duration;

use crate::client::ClientStatus;
use crate::error::chain;
use crate::private::Private;
use crate::proto::pool::Power;
use crate::proto::timers::Moment;
use crate::transport::{DialError, DialErrorKind};

/// How long a first session is watched before it counts: a wrong password is answered by a close within a
/// round trip.
const TRIAL: Duration = Duration::from_secs(1);

/// How the tunnel is doing.
///
/// ```text
/// Starting ─► Connecting ─► Connected ◄─► Degraded ◄─► Reconnecting
///                 any of these ◄─► WaitingForNetwork, Paused
///                 any of these ──► Stopping ─► Stopped, or Failed
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// The TUN is not attached yet.
    Starting,
    /// No session has been made yet.
    Connecting,
    /// The server was reached, and no dial has failed since.
    Connected,
    /// There are sessions, but dials fail.
    Degraded {
        /// Why the last one failed.
        why: Why,
    },
    /// There is no network; nothing is tried.
    WaitingForNetwork,
    /// There is no session, and dials fail.
    Reconnecting {
        /// Dials that have failed in a row.
        attempt: u32,
        /// When the next may start, on the tunnel's clock.
        retry_at: Moment,
        /// Why the last one failed.
        why: Why,
    },
    /// The phone sleeps: sessions are kept as they are.
    Paused,
    /// It was told to stop.
    Stopping,
    /// It has ended, and nothing follows.
    Stopped,
    /// It has ended by itself, and nothing follows.
    Failed {
        /// What happened.
        error: String,
        /// Whether this library is at fault.
        is_bug: bool,
        /// Whether apps are cut off from the network, and not merely outside of the tunnel.
        is_traffic_blocked: bool,
    },
}

/// Why a dial failed.
#[derive(Clone, PartialEq, Eq)]
pub struct Why {
    /// The kind, to act upon.
    pub kind: DialErrorKind,
    /// The message with its causes, to show.
    pub message: String,
}

impl fmt::Debug for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let message = Private(&self.message); // it names the server
        f.debug_struct("Why").field("kind", &self.kind).field("message", &message).finish()
    }
}

impl From<&DialError> for Why {
    fn from(error: &DialError) -> Self {
        Self { kind: error.kind(), message: chain(error) }
    }
}

/// From what is known to the state of a tunnel that runs. For another server or network there is a new one.
#[derive(Debug, Default)]
pub(super) struct Reducer {
    /// Since when there are sessions of which none has been answered.
    trial: Option<Moment>,
    /// Whether one of them has survived its trial, and no dial has failed since.
    has_survived: bool,
}

impl Reducer {
    /// The state now, and when it may be another without anything happening.
    pub(super) fn reduce(
        &mut self,
        status: &ClientStatus,
        power: Power,
        is_online: bool,
        now: Moment,
    ) -> (State, Option<Moment>) {
        let has_failed = status.failures > 0;
        let is_unsure = !status.is_proven && !has_failed && status.sessions > 0;
        self.trial = is_unsure.then(|| self.trial.unwrap_or(now));
        let trial_ends = self.trial.map(|begin| begin + TRIAL).filter(|end| *end > now);
        self.has_survived =
            !has_failed && (self.has_survived || (self.trial.is_some() && trial_ends.is_none()));

        let failure = status.last_error.as_ref().filter(|_| has_failed);
        let state = match (power, failure) {
            _ if !is_online => State::WaitingForNetwork,
            (Power::Doze | Power::Sleeping, _) => State::Paused,
            (Power::Interactive | Power::Background, Some(error)) if status.sessions > 0 => {
                State::Degraded { why: error.into() }
            }
            (Power::Interactive | Power::Background, Some(error)) => State::Reconnecting {
                attempt: status.failures,
                retry_at: status.retry_at.unwrap_or(now),
                why: error.into(),
            },
            _ if status.is_proven || self.has_survived => State::Connected,
            _ => State::Connecting,
        };
        (state, trial_ends)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Moment = Moment::from_origin(Duration::from_secs(1000));

    fn status(sessions: usize, failures: u32, is_proven: bool) -> ClientStatus {
        let last_error = (failures > 0).then_some(DialError::Authentication);
        ClientStatus {
            is_proven,
            sessions,
            failures,
            last_error,
            retry_at: Some(NOW),
            ..ClientStatus::default()
        }
    }

    fn reduced(status: &ClientStatus) -> State {
        Reducer::default().reduce(status, Power::Interactive, true, NOW).0
    }

    #[test]
    fn the_first_session_connects_when_it_was_answered_or_has_survived_a_while() {
        let mut reducer = Reducer::default();
        let mut reduce = |status: &ClientStatus, now| reducer.reduce(status, Power::Interactive, true, now);
        assert_eq!(reduce(&status(0, 0, false), NOW), (State::Connecting, None));
        let end = NOW + TRIAL;
        assert_eq!(reduce(&status(1, 0, false), NOW), (State::Connecting, Some(end)));
        assert_eq!(reduce(&status(1, 0, false), end), (State::Connected, None));
        assert_eq!(reduce(&status(1, 0, true), NOW), (State::Connected, None));
    }

    #[test]
    fn sessions_that_all_ended_leave_a_proven_server_connected() {
        assert_eq!(reduced(&status(0, 0, true)), State::Connected);
    }

    #[test]
    fn a_server_stays_connected_when_the_session_that_has_survived_is_closed() {
        let mut reducer = Reducer::default();
        let mut reduce = |status: &ClientStatus, now| reducer.reduce(status, Power::Interactive, true, now).0;
        reduce(&status(1, 0, false), NOW);
        reduce(&status(1, 0, false), NOW + TRIAL);
        assert_eq!(reduce(&status(0, 0, false), NOW + TRIAL), State::Connected);
        assert!(matches!(reduce(&status(0, 1, false), NOW + TRIAL), State::Reconnecting { .. }));
        assert_eq!(reduce(&status(0, 0, false), NOW + TRIAL), State::Connecting, "nothing is known any more");
    }

    #[test]
    fn a_session_that_ends_on_trial_connects_nothing() {
        let mut reducer = Reducer::default();
        let mut reduce = |status: &ClientStatus, now| reducer.reduce(status, Power::Interactive, true, now).0;
        reduce(&status(1, 0, false), NOW);
        assert_eq!(reduce(&status(0, 0, false), NOW + TRIAL), State::Connecting);
    }

    #[test]
    fn failing_dials_degrade_or_reconnect_and_say_why() {
        assert!(matches!(reduced(&status(1, 2, false)), State::Degraded { .. }));
        let State::Reconnecting { attempt, retry_at, why } = reduced(&status(0, 3, false)) else {
            panic!("no session is left");
        };
        assert_eq!((attempt, retry_at, why.kind), (3, NOW, DialErrorKind::Authentication));
        assert!(why.message.contains("password"), "{}", why.message);
    }

    #[test]
    fn without_a_network_or_awake_phone_nothing_else_matters() {
        for status in [status(0, 0, false), status(2, 3, false), status(1, 0, true)] {
            let mut reducer = Reducer::default();
            let mut reduce = |power, is_online| reducer.reduce(&status, power, is_online, NOW).0;
            assert_eq!(reduce(Power::Interactive, false), State::WaitingForNetwork);
            assert_eq!(reduce(Power::Doze, true), State::Paused);
            assert_eq!(reduce(Power::Sleeping, true), State::Paused);
            assert_ne!(reduce(Power::Background, true), State::Paused);
        }
    }
}
