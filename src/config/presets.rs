//! Pool options under one name.

use std::time::Duration;

use crate::proto::pool::{Heartbeat, PoolOptions};

/// A named set of pool options; a field given beside it wins over the set's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preset {
    /// The default: few sessions, few wake-ups in the background.
    Mobile,
    /// The first request of a burst finds a session.
    HighPerformance,
    /// Survives the loss of several sessions.
    HighAvailability,
    /// Keeps the mappings of impatient NATs.
    NatTraversal,
    /// One session.
    ResourceEfficient,
    /// Between all of these.
    Balanced,
}

impl Preset {
    /// Every preset under its name in a config.
    pub const ALL: [(&'static str, Self); 6] = [
        ("mobile", Self::Mobile),
        ("high_performance", Self::HighPerformance),
        ("high_availability", Self::HighAvailability),
        ("nat_traversal", Self::NatTraversal),
        ("resource_efficient", Self::ResourceEfficient),
        ("balanced", Self::Balanced),
    ];

    /// The preset's options. `max_sessions` belongs to the platform and is left at the pool's default.
    pub fn options(self) -> PoolOptions {
        // design.md, "Heartbeats and the phone's life"; protocol.md, "Named strategies".
        let (ensure, min, idle_timeout, check, heartbeat) = match self {
            Self::Mobile => (2, 1, 300, 30, 30),
            Self::HighPerformance => (5, 3, 600, 30, 20),
            Self::HighAvailability => (10, 5, 900, 60, 30),
            Self::NatTraversal => (3, 2, 300, 30, 10),
            Self::ResourceEfficient => (1, 1, 120, 60, 45),
            Self::Balanced => (5, 2, 300, 30, 30),
        };
        PoolOptions {
            idle_session_check_interval: Duration::from_secs(check),
            idle_session_timeout: Duration::from_secs(idle_timeout),
            min_idle_session: min,
            ensure_idle_session: ensure,
            // The strategies come from a program that knows no background: the same in both.
            ensure_idle_session_background: (self == Self::Mobile).then_some(0),
            heartbeat: Heartbeat::Every(Duration::from_secs(heartbeat)),
            heartbeat_background: match self {
                Self::Mobile => Some(Duration::from_secs(270)),
                Self::HighPerformance
                | Self::HighAvailability
                | Self::NatTraversal
                | Self::ResourceEfficient
                | Self::Balanced => None,
            },
            ..PoolOptions::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_preset_has_its_documented_numbers() {
        for (name, expected) in [
            ("mobile", (2, 1, 300, 30, 30, Some(270))),
            ("high_performance", (5, 3, 600, 30, 20, None)),
            ("high_availability", (10, 5, 900, 60, 30, None)),
            ("nat_traversal", (3, 2, 300, 30, 10, None)),
            ("resource_efficient", (1, 1, 120, 60, 45, None)),
            ("balanced", (5, 2, 300, 30, 30, None)),
        ] {
            let (_, preset) = Preset::ALL.into_iter().find(|(known, _)| *known == name).unwrap();
            let options = preset.options();
            let Heartbeat::Every(heartbeat) = options.heartbeat else { panic!("{name} has no heartbeat") };
            let numbers = (
                options.ensure_idle_session,
                options.min_idle_session,
                options.idle_session_timeout.as_secs(),
                options.idle_session_check_interval.as_secs(),
                heartbeat.as_secs(),
                options.heartbeat_background.map(|background| background.as_secs()),
            );
            assert_eq!(numbers, expected, "{name}");
            assert_eq!((options.max_connection_lifetime, options.reuse), (Duration::ZERO, true), "{name}");
        }
    }

    #[test]
    fn the_pools_default_is_the_mobile_preset() {
        assert_eq!(PoolOptions::default(), Preset::Mobile.options());
    }
}
