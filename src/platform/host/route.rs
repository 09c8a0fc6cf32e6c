//! Which way the kernel sends packets, and when that may have changed, from rtnetlink.
#![allow(unsafe_code)]

use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use socket2::{Domain, Protocol, SockAddr, SockAddrStorage, Socket, Type};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::interface::{self, Link};
use super::netlink::{Answer, Attributes, Kernel, Message, Request, parts};
use crate::platform::Way;

/// What can change a way: interfaces, addresses, routes, and the rules that choose among tables of routes.
/// A set bit for each; the four-byte address holds as many.
const GROUPS: libc::c_int = libc::RTMGRP_LINK
    | libc::RTMGRP_IPV4_IFADDR
    | libc::RTMGRP_IPV4_ROUTE
    | libc::RTMGRP_IPV4_RULE
    | libc::RTMGRP_IPV6_IFADDR
    | libc::RTMGRP_IPV6_ROUTE
    | 1 << (libc::RTNLGRP_IPV6_RULE - 1); // the one without a name of this kind

/// The kernel tells of a change before it is through with it (a lost address comes first, what follows for
/// routes after it) and tells many at once, such as all routes of an interface. This much later it is done.
/// A guess: tens of microseconds would do on an idle machine.
const SETTLING: Duration = Duration::from_millis(50);

/// The routes of the network in which it was made.
#[derive(Debug)]
pub(crate) struct RouteWatch {
    changes: AsyncFd<Socket>,
    kernel: Kernel,
}

impl RouteWatch {
    /// Listens from now on. Only inside a tokio runtime with I/O enabled.
    pub(crate) fn new() -> io::Result<Self> {
        let route = Some(Protocol::from(libc::NETLINK_ROUTE));
        let socket = Socket::new(Domain::from(libc::AF_NETLINK), Type::RAW.nonblocking(), route)?;
        socket.bind(&listener_address())?;
        // SAFETY: the socket owns its descriptor, and stays as it is until the AsyncFd is dropped.
        let changes = unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) }?;
        Ok(Self { changes, kernel: Kernel::connect()? })
    }

    /// Waits until something has changed since the last call; a change may turn out to mean nothing.
    ///
    /// # Cancel safety
    /// Dropping it loses no change.
    pub(crate) async fn changed(&self) -> io::Result<()> {
        let mut ready = self.changes.readable().await?;
        tokio::time::sleep(SETTLING).await;
        drain(ready.get_inner())?;
        // Not cleared if more came while this slept.
        ready.clear_ready();
        Ok(())
    }

    /// The way to `destination`, of sockets with this mark, of those bound to this interface; `None` when there
    /// is none.
    ///
    /// A socket bound to an interface takes any destination for a neighbour there if no route says otherwise,
    /// and so does the answer.
    pub(crate) fn way_to(
        &mut self,
        destination: IpAddr,
        mark: Option<u32>,
        interface: Option<&str>,
    ) -> io::Result<Option<Way>> {
        let mut request = route_to(destination);
        if let Some(mark) = mark {
            request = request.attribute(libc::RTA_MARK, &mark.to_ne_bytes());
        }
        if let Some(name) = interface {
            let Some(link) = self.link(interface::named(name)?)? else { return Ok(None) };
            request = request.attribute(libc::RTA_OIF, &link.index.to_ne_bytes());
        }
        // A refusal is how a route that leads nowhere shows: "unreachable", "prohibit", or none at all.
        let Answer::Message(message) = self.kernel.ask(request)? else { return Ok(None) };
        let Some(route) = Route::parse(&message) else { return Ok(None) };
        let link = self.link(interface::numbered(route.interface))?;
        let way = |link: Link| Way { interface: link.name, gateway: route.gateway, source: route.source };
        Ok(link.filter(|link| link.is_running).map(way))
    }

    fn link(&mut self, request: Request) -> io::Result<Option<Link>> {
        match self.kernel.ask(request)? {
            Answer::Message(message) => {
                Link::parse(&message).ok_or(io::ErrorKind::InvalidData.into()).map(Some)
            }
            Answer::Status(_) => Ok(None), // it has gone
        }
    }
}

/// The address of a socket that is told of changes.
fn listener_address() -> SockAddr {
    let mut storage = SockAddrStorage::zeroed();
    // SAFETY: a sockaddr_nl is made of integers alone, and is smaller than any storage.
    let address = unsafe { storage.view_as::<libc::sockaddr_nl>() };
    // 16 of 65 536, and bits that have no sign on the wire.
    address.nl_family = libc::AF_NETLINK as libc::sa_family_t;
    address.nl_groups = GROUPS as u32;
    let length = libc::socklen_t::try_from(size_of::<libc::sockaddr_nl>()).expect("12 bytes");
    // SAFETY: the storage holds a sockaddr_nl, and that is its length.
    unsafe { SockAddr::new(storage, length) }
}

/// Forgets what the kernel has told: that it did is all that counts.
fn drain(mut socket: &Socket) -> io::Result<()> {
    loop {
        match socket.read(&mut [0]) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // There was more than it keeps for us.
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {}
            Err(error) => return Err(error),
        }
    }
}

/// Asks for the route that a packet to `destination` would take.
fn route_to(destination: IpAddr) -> Request {
    let (family, bytes) = parts(destination);
    let prefix = if destination.is_ipv4() { 32 } else { 128 };
    Request::get(libc::RTM_GETROUTE, &[family, prefix, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])
        .attribute(libc::RTA_DST, &bytes)
}

/// A route as the kernel describes it: a fixed part as in [`super::interface::add_route`], and attributes.
#[derive(Debug, PartialEq, Eq)]
struct Route {
    interface: u32,
    gateway: Option<IpAddr>,
    source: Option<IpAddr>,
}

impl Route {
    /// `None` when the message is no route that leads anywhere.
    fn parse(message: &Message) -> Option<Self> {
        let (fixed, attributes) = message.open::<12>(libc::RTM_NEWROUTE)?;
        let [_, _, _, _, _, _, _, kind, ..] = *fixed;
        if !matches!(kind, libc::RTN_UNICAST | libc::RTN_LOCAL) {
            return None;
        }
        Some(Self {
            interface: u32::from_ne_bytes(attributes.find(libc::RTA_OIF)?.try_into().ok()?),
            gateway: gateway(&attributes),
            source: attributes.find(libc::RTA_PREFSRC).and_then(address),
        })
    }
}

/// A router may be of the other family (RFC 5549): `family u16 | address` then.
fn gateway(attributes: &Attributes<'_>) -> Option<IpAddr> {
    let other = || attributes.find(libc::RTA_VIA)?.get(2..);
    attributes.find(libc::RTA_GATEWAY).or_else(other).and_then(address)
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(bytes) = <[u8; 4]>::try_from(bytes) {
        return Some(Ipv4Addr::from(bytes).into());
    }
    <[u8; 16]>::try_from(bytes).ok().map(|bytes| Ipv6Addr::from(bytes).into())
}

#[cfg(test)]
mod tests;
