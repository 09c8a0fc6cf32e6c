//! Android.

use std::time::Duration;

use tracing::Subscriber;
use tracing_subscriber::Layer;
use tracing_subscriber::registry::LookupSpan;

pub(crate) use super::phone::*;
pub(crate) use super::plain_tun::{find_tun, prepare_tun, tun_read, tun_write};

/// Whether the library lives in a Network Extension.
pub(crate) const IS_EXTENSION: bool = false;

/// Whether the resolver knows another form of an IPv4 address, on a network that has IPv6 alone. Here the
/// kernel translates packets instead (464XLAT).
pub(crate) const TRANSLATES_ADDRESSES: bool = false;

/// Log lines go to logcat.
pub(crate) fn system_log<S>() -> impl Layer<S>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    tracing_android::layer("anytls").ok() // fails for a tag with a zero byte
}

/// Time since boot, suspend included.
pub(crate) fn boot_time() -> Duration {
    super::unix::clock_time(libc::CLOCK_BOOTTIME)
}
