//! iOS and macOS.

use std::time::Duration;

pub(crate) use super::phone::*;
pub(crate) use super::utun::{tun_read, tun_write};

/// Time since boot, suspend included.
pub(crate) fn boot_time() -> Duration {
    super::unix::clock_time(libc::CLOCK_MONOTONIC_RAW)
}
