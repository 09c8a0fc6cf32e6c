//! Interfaces, addresses and routes of the calling thread's network, set over rtnetlink.

use std::ffi::{CStr, CString};
use std::io;
use std::net::IpAddr;

use super::netlink::{Answer, Kernel, Message, Request, parts};

// As the kernel has them on the wire: 32 bits without a sign. Both are small.
const IFF_UP: u32 = libc::IFF_UP as u32; // 1
const IFF_RUNNING: u32 = libc::IFF_RUNNING as u32; // 0x40
/// IPv6 addresses count at once: on a TUN there is no neighbour to ask whether it has the same one.
const NO_DUPLICATE_CHECK: u8 = libc::IFA_F_NODAD as u8; // 2

/// Sets the largest packet that interface `name` carries.
pub(crate) fn set_interface_mtu(name: &str, mtu: u16) -> io::Result<()> {
    let request = Request::set(libc::RTM_NEWLINK, &link_header(index(name)?, 0, 0));
    request.attribute(libc::IFLA_MTU, &u32::from(mtu).to_ne_bytes()).send()
}

/// Sets how many packets wait for whoever reads interface `name`, before the kernel drops them.
pub(crate) fn set_interface_queue(name: &str, packets: u32) -> io::Result<()> {
    let request = Request::set(libc::RTM_NEWLINK, &link_header(index(name)?, 0, 0));
    request.attribute(libc::IFLA_TXQLEN, &packets.to_ne_bytes()).send()
}

/// Starts or stops the traffic of interface `name`.
pub(crate) fn set_interface_up(name: &str, up: bool) -> io::Result<()> {
    let flags = if up { IFF_UP } else { 0 };
    Request::set(libc::RTM_NEWLINK, &link_header(index(name)?, flags, IFF_UP)).send()
}

/// Gives interface `name` an address; its network is routed there as soon as the interface is up.
pub(crate) fn add_interface_address(name: &str, address: IpAddr, prefix: u8) -> io::Result<()> {
    let (family, bytes) = parts(address);
    let [i0, i1, i2, i3] = index(name)?.to_ne_bytes();
    // ifaddrmsg: family u8 | prefix u8 | flags u8 | scope u8 | interface u32
    Request::create(libc::RTM_NEWADDR, &[family, prefix, NO_DUPLICATE_CHECK, 0, i0, i1, i2, i3])
        .attribute(libc::IFA_LOCAL, &bytes)
        .attribute(libc::IFA_ADDRESS, &bytes)
        .send()
}

/// Routes a network through interface `name`; prefix 0 is the default route of the address's family.
pub(crate) fn add_route(name: &str, network: IpAddr, prefix: u8) -> io::Result<()> {
    let (family, bytes) = parts(network);
    let (table, protocol) = (libc::RT_TABLE_MAIN, libc::RTPROT_STATIC);
    let (scope, kind) = (libc::RT_SCOPE_LINK, libc::RTN_UNICAST);
    // rtmsg: family u8 | prefix u8 | source prefix u8 | TOS u8 | table u8 | protocol u8 | scope u8 | kind u8
    //      | flags u32
    Request::create(libc::RTM_NEWROUTE, &[family, prefix, 0, 0, table, protocol, scope, kind, 0, 0, 0, 0])
        .attribute(libc::RTA_DST, &bytes)
        .attribute(libc::RTA_OIF, &index(name)?.to_ne_bytes())
        .send()
}

/// Takes interface `name` away from under whoever holds it.
#[cfg(test)]
pub(crate) fn remove_interface(name: &str) -> io::Result<()> {
    Request::set(libc::RTM_DELLINK, &link_header(index(name)?, 0, 0)).send()
}

/// The kernel's number for interface `name`.
fn index(name: &str) -> io::Result<u32> {
    match Kernel::connect()?.ask(named(name)?)? {
        Answer::Message(message) => Ok(Link::parse(&message).ok_or(io::ErrorKind::InvalidData)?.index),
        Answer::Status(status) => Err(status.err().unwrap_or(io::ErrorKind::InvalidData.into())),
    }
}

/// What an interface is like.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) index: u32,
    pub(super) name: String,
    /// Whether packets get out: it is up, and the cable is in or the radio connected.
    pub(super) is_running: bool,
}

/// Asks for the interface with this name.
pub(super) fn named(name: &str) -> io::Result<Request> {
    let name = CString::new(name)?;
    if name.count_bytes() >= libc::IFNAMSIZ {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let request = Request::get(libc::RTM_GETLINK, &link_header(0, 0, 0));
    Ok(request.attribute(libc::IFLA_IFNAME, name.as_bytes_with_nul()))
}

/// Asks for the interface with this number.
pub(super) fn numbered(index: u32) -> Request {
    Request::get(libc::RTM_GETLINK, &link_header(index, 0, 0))
}

impl Link {
    pub(super) fn parse(message: &Message) -> Option<Self> {
        let (fixed, attributes) = message.open::<16>(libc::RTM_NEWLINK)?;
        let [_, _, _, _, i0, i1, i2, i3, f0, f1, f2, f3, ..] = *fixed;
        let name = CStr::from_bytes_until_nul(attributes.find(libc::IFLA_IFNAME)?).ok()?;
        Some(Self {
            index: u32::from_ne_bytes([i0, i1, i2, i3]),
            name: name.to_string_lossy().into_owned(),
            is_running: u32::from_ne_bytes([f0, f1, f2, f3]) & IFF_RUNNING != 0,
        })
    }
}

/// About one interface, of whose flags the ones in `change` are set as `flags` has them:
/// `family u8 | 0 u8 | type u16 | index u32 | flags u32 | change u32`.
fn link_header(index: u32, flags: u32, change: u32) -> Vec<u8> {
    [0, index, flags, change].map(u32::to_ne_bytes).concat()
}

#[cfg(test)]
mod tests {
    use super::super::netlink::tests::{datagram, message};
    use super::*;

    fn parse(flags: u32, attributes: &[(u16, &[u8])]) -> Option<Link> {
        Link::parse(&message(&datagram(libc::RTM_NEWLINK, &link_header(3, flags, 0), attributes))?)
    }

    #[test]
    fn interface_runs_when_it_is_up_and_connected() {
        let name = (libc::IFLA_IFNAME, &b"wlan0\0"[..]);
        let link = |is_running| Some(Link { index: 3, name: "wlan0".to_owned(), is_running });
        assert_eq!(parse(IFF_UP | IFF_RUNNING, &[name]), link(true));
        assert_eq!(parse(IFF_UP, &[name]), link(false));
    }

    #[test]
    fn interface_without_a_whole_name_is_none() {
        assert_eq!(parse(0, &[]), None);
        assert_eq!(parse(0, &[(libc::IFLA_IFNAME, b"wlan0")]), None);
        assert_eq!(parse(0, &[(libc::IFLA_IFNAME, b"")]), None);
    }

    #[test]
    fn name_that_no_interface_has_or_can_have_is_an_error() {
        assert_eq!(index("no-such-name").unwrap_err().raw_os_error(), Some(libc::ENODEV));
        for name in ["lo\0", "sixteen-bytes-ab", &"a".repeat(100_000)] {
            assert_eq!(index(name).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        }
        index("lo").unwrap();
    }
}
