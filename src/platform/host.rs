//! Linux outside Android: desktops, servers and the tests.

mod interface;
mod namespace;
mod netlink;
mod route;
mod tun;

use std::io::{self, Write};
use std::time::Duration;

use tracing::Subscriber;
use tracing_subscriber::Layer;
use tracing_subscriber::registry::LookupSpan;

#[cfg(test)]
pub(crate) use self::interface::remove_interface;
pub(crate) use self::interface::{
    add_interface_address, add_route, set_interface_mtu, set_interface_queue, set_interface_up,
};
pub(crate) use self::namespace::{enter_network, unshare_network};
pub(crate) use self::route::RouteWatch;
pub(crate) use self::tun::{create_tun, tun_name};
pub(crate) use super::plain_tun::{find_tun, prepare_tun, tun_read, tun_write};

/// Whether the library lives in a Network Extension.
pub(crate) const IS_EXTENSION: bool = false;

/// Whether the resolver knows another form of an IPv4 address, on a network that has IPv6 alone.
pub(crate) const TRANSLATES_ADDRESSES: bool = false;

/// Log lines go to standard error.
pub(crate) fn system_log<S>() -> impl Layer<S>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    super::Lines::new(|metadata, line| {
        let (level, target) = (metadata.level(), metadata.target());
        let _nobody_reads_it = writeln!(io::stderr().lock(), "{level:5} {target}: {line}");
    })
}

/// Time since boot, suspend included.
pub(crate) fn boot_time() -> Duration {
    super::unix::clock_time(libc::CLOCK_BOOTTIME)
}
