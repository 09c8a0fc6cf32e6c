//! Linux outside Android: desktops, servers and the tests.

mod interface;
mod namespace;
mod netlink;
mod route;
mod tun;

use std::time::Duration;

#[cfg(test)]
pub(crate) use self::interface::remove_interface;
pub(crate) use self::interface::{
    add_interface_address, add_route, set_interface_mtu, set_interface_queue, set_interface_up,
};
pub(crate) use self::namespace::{enter_network, unshare_network};
pub(crate) use self::route::RouteWatch;
pub(crate) use self::tun::{create_tun, tun_name};
pub(crate) use super::unix::{tun_read, tun_write};

/// Time since boot, suspend included.
pub(crate) fn boot_time() -> Duration {
    super::unix::clock_time(libc::CLOCK_BOOTTIME)
}
