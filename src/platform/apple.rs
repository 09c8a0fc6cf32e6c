//! iOS and macOS.

use std::time::Duration;

use oslog::OsLog;
use tracing::{Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::registry::LookupSpan;

pub(crate) use super::kernel_control::{find_tun, prepare_tun};
pub(crate) use super::phone::*;
pub(crate) use super::utun::{tun_read, tun_write};

/// Whether the library lives in a Network Extension.
pub(crate) const IS_EXTENSION: bool = true;

/// Whether the resolver knows another form of an IPv4 address, on a network that has IPv6 alone.
pub(crate) const TRANSLATES_ADDRESSES: bool = true;

/// Log lines go to the unified log.
pub(crate) fn system_log<S>() -> impl Layer<S>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    let log = OsLog::new("io.anytls.mobile", "core");
    super::Lines::new(move |metadata, line| {
        let level = match *metadata.level() {
            Level::TRACE | Level::DEBUG => oslog::Level::Debug,
            Level::INFO => oslog::Level::Info,
            Level::WARN => oslog::Level::Default, // kept, as errors are; the system has no level in between
            Level::ERROR => oslog::Level::Error,
        };
        log.with_level(level, &format!("{}: {line}", metadata.target()));
    })
}

/// Time since boot, suspend included.
pub(crate) fn boot_time() -> Duration {
    super::unix::clock_time(libc::CLOCK_MONOTONIC_RAW)
}
