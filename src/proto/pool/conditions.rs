//! What the phone does, as far as it matters to the pool.

/// How awake the phone is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Power {
    /// Somebody looks at it.
    #[default]
    Interactive,
    /// The screen is off.
    Background,
    /// Idle for long: the system lets apps use the network at its own times only.
    Doze,
    /// About to suspend.
    Sleeping,
}

/// What the phone does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conditions {
    /// How awake it is.
    pub power: Power,
    /// Whether it has a network.
    pub is_online: bool,
    /// Whether memory is short: then nothing is kept for later.
    pub is_memory_short: bool,
}

impl Default for Conditions {
    fn default() -> Self {
        Self { power: Power::Interactive, is_online: true, is_memory_short: false }
    }
}
