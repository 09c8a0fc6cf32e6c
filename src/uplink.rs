//! Which network the machine's traffic leaves by. Linux outside Android, for the program: a phone's OS tells
//! the app, which tells the tunnel.
//!
//! The kernel is asked for the route to the server, and asked again whenever something about the network has
//! changed. Two networks with the same interface, router and own address look the same; between them there
//! is none for a while.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::platform::RouteWatch;

/// Where a default route leads, of either family: addresses that no network has (RFC 5737, RFC 3849).
/// Nothing is ever sent there.
const ELSEWHERE: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1))];

/// What is watched.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UplinkOptions {
    /// The server's address. `None` when it has only a name: then the default routes of both families are
    /// taken for the way to it.
    pub server: Option<IpAddr>,
    /// The mark on the tunnel's own sockets, for policy routing.
    pub mark: Option<u32>,
    /// The interface that the tunnel's own sockets are bound to.
    pub interface: Option<String>,
    /// The tunnel's own interface: a server behind that is not reachable. A default route into it says nothing
    /// about a server without an address, which may be routed past it.
    pub tun: Option<String>,
}

/// Tells which network the way to the server leads through, as text: `eth0 via 10.0.0.1 from 10.0.0.2`.
#[derive(Debug)]
pub struct Uplinks {
    options: UplinkOptions,
    routes: RouteWatch,
    /// What was told last; `None` before the first time.
    told: Option<Option<String>>,
}

impl Uplinks {
    /// Watches the network of the calling thread, which must be in a tokio runtime with I/O and time enabled.
    ///
    /// # Errors
    /// `Unsupported` on a phone and on macOS; what the system says where it forbids netlink sockets.
    ///
    /// # Panics
    /// Outside a runtime, or in one without I/O.
    pub fn watch(options: UplinkOptions) -> io::Result<Self> {
        Ok(Self { options, routes: RouteWatch::new()?, told: None })
    }

    /// The network at present the first time, and each different one after that, some 50 ms late. `None`
    /// is no network: no route to the server, a cable that is out, or nothing but the tunnel itself.
    ///
    /// # Errors
    /// When the kernel cannot be asked any more.
    ///
    /// # Cancel safety
    /// Dropping it loses no change.
    pub async fn changed(&mut self) -> io::Result<Option<String>> {
        loop {
            if self.told.is_some() {
                self.routes.changed().await?;
            }
            let current = self.current()?;
            if self.told.as_ref() != Some(&current) {
                self.told = Some(current.clone());
                return Ok(current);
            }
        }
    }

    fn current(&mut self) -> io::Result<Option<String>> {
        let UplinkOptions { server, mark, interface, tun } = &self.options;
        let own = tun.as_deref().filter(|_| server.is_some());
        let mut ways = Vec::new();
        for destination in server.as_ref().map_or(&ELSEWHERE[..], std::slice::from_ref) {
            let way = self.routes.way_to(*destination, *mark, interface.as_deref())?;
            ways.extend(way.filter(|way| own != Some(&*way.interface)).map(|way| way.to_string()));
        }
        Ok((!ways.is_empty()).then(|| ways.join(", ")))
    }
}
