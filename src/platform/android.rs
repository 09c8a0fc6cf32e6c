//! Android.

use std::time::Duration;

pub(crate) use super::phone::*;
pub(crate) use super::unix::{tun_read, tun_write};

/// Time since boot, suspend included.
pub(crate) fn boot_time() -> Duration {
    super::unix::clock_time(libc::CLOCK_BOOTTIME)
}
