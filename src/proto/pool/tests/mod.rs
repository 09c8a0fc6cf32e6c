//! The pool's decisions, in virtual time, by subject.

mod ageing;
mod beating;
mod keeping;
mod oracle;
mod phone;
mod rig;
mod schedules;
mod serving;
mod sharing;
mod stale;

use self::rig::{Rig, Seen, Server};
use super::*;

const START: Moment = Moment::from_origin(Duration::from_secs(1_000));

fn secs(count: u64) -> Duration {
    Duration::from_secs(count)
}

fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// Nothing is kept for its own sake, and nobody is asked: what a test is about stands out.
fn plain() -> PoolOptions {
    PoolOptions {
        min_idle_session: 0,
        ensure_idle_session: 0,
        ensure_idle_session_background: None,
        heartbeat: Heartbeat::Off,
        heartbeat_background: None,
        ..PoolOptions::default()
    }
}

fn every(count: u64) -> Heartbeat {
    Heartbeat::Every(secs(count))
}
