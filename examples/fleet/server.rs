//! The server, as far as phones notice it.

use std::time::Duration;

use anytls_mobile::proto::timers::Moment;

/// A server that restarts once: while it is away its machine refuses connections.
#[derive(Clone, Copy)]
pub struct Server {
    pub leaves: Moment,
    pub returns: Moment,
}

impl Server {
    /// One that never leaves.
    pub const STEADY: Self =
        Self { leaves: Moment::from_origin(Duration::MAX), returns: Moment::from_origin(Duration::MAX) };

    pub fn accepts(self, now: Moment) -> bool {
        now < self.leaves || now >= self.returns
    }
}
