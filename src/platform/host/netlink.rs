//! Interfaces, addresses and routes of the calling thread's network, set over rtnetlink.
#![allow(unsafe_code)]

use std::ffi::CString;
use std::io::{self, Read, Write};
use std::net::IpAddr;

use socket2::{Domain, Protocol, Socket, Type};

// The interface numbers flags as int; on the wire they are these 16 bits.
const REQUEST: u16 = (libc::NLM_F_REQUEST | libc::NLM_F_ACK) as u16;
const CREATE: u16 = (libc::NLM_F_CREATE | libc::NLM_F_EXCL) as u16;
const IFF_UP: u32 = libc::IFF_UP as u32; // 1
/// IPv6 addresses count at once: on a TUN there is no neighbour to ask whether it has the same one.
const NO_DUPLICATE_CHECK: u8 = libc::IFA_F_NODAD as u8; // 2

/// Sets the largest packet that interface `name` carries.
pub(crate) fn set_interface_mtu(name: &str, mtu: u16) -> io::Result<()> {
    Request::link(libc::RTM_NEWLINK, name, 0, 0)?
        .attribute(libc::IFLA_MTU, &u32::from(mtu).to_ne_bytes())
        .send()
}

/// Starts or stops the traffic of interface `name`.
pub(crate) fn set_interface_up(name: &str, up: bool) -> io::Result<()> {
    Request::link(libc::RTM_NEWLINK, name, if up { IFF_UP } else { 0 }, IFF_UP)?.send()
}

/// Gives interface `name` an address; its network is routed there as soon as the interface is up.
pub(crate) fn add_interface_address(name: &str, address: IpAddr, prefix: u8) -> io::Result<()> {
    let (family, bytes) = parts(address);
    let [i0, i1, i2, i3] = index(name)?.to_ne_bytes();
    // ifaddrmsg: family u8 | prefix u8 | flags u8 | scope u8 | interface u32
    Request::new(libc::RTM_NEWADDR, CREATE, &[family, prefix, NO_DUPLICATE_CHECK, 0, i0, i1, i2, i3])
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
    let fixed = [family, prefix, 0, 0, table, protocol, scope, kind, 0, 0, 0, 0];
    Request::new(libc::RTM_NEWROUTE, CREATE, &fixed)
        .attribute(libc::RTA_DST, &bytes)
        .attribute(libc::RTA_OIF, &index(name)?.to_ne_bytes())
        .send()
}

/// The kernel's number for interface `name`.
fn index(name: &str) -> io::Result<u32> {
    let name = CString::new(name)?;
    // SAFETY: `name` ends with a zero byte and outlives the call.
    match unsafe { libc::if_nametoindex(name.as_ptr()) } {
        0 => Err(io::Error::last_os_error()),
        index => Ok(index),
    }
}

fn parts(address: IpAddr) -> (u8, Vec<u8>) {
    match address {
        // Both numbers are far below 256.
        IpAddr::V4(address) => (libc::AF_INET as u8, address.octets().to_vec()),
        IpAddr::V6(address) => (libc::AF_INET6 as u8, address.octets().to_vec()),
    }
}

/// One request to the kernel, in native byte order:
///
/// ```text
/// length u32 | kind u16 | flags u16 | sequence u32 | sender u32 | fixed part | attributes
/// an attribute: length u16 | kind u16 | value, padded to 4 bytes
/// ```
/// Answered by `header | error i32 | …`, the error a negated errno, or 0 for success.
struct Request(Vec<u8>);

const HEADER_BYTES: usize = 16;

impl Request {
    fn new(kind: u16, flags: u16, fixed: &[u8]) -> Self {
        let mut message = vec![0; HEADER_BYTES];
        message[4..6].copy_from_slice(&kind.to_ne_bytes());
        message[6..8].copy_from_slice(&(REQUEST | flags).to_ne_bytes());
        message.extend_from_slice(fixed);
        Self(message)
    }

    /// About interface `name`, of whose flags the ones in `change` are set as `flags` has them.
    fn link(kind: u16, name: &str, flags: u32, change: u32) -> io::Result<Self> {
        // ifinfomsg: family u8 | 0 u8 | type u16 | index u32 | flags u32 | change u32
        let words = [0, index(name)?, flags, change];
        Ok(Self::new(kind, 0, &words.map(u32::to_ne_bytes).concat()))
    }

    fn attribute(mut self, kind: u16, value: &[u8]) -> Self {
        let length = u16::try_from(4 + value.len()).expect("values here are addresses and numbers");
        self.0.extend_from_slice(&length.to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.0.extend_from_slice(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    fn send(mut self) -> io::Result<()> {
        let length = u32::try_from(self.0.len()).expect("a request is some 100 bytes");
        self.0[..4].copy_from_slice(&length.to_ne_bytes());
        let route = Some(Protocol::from(libc::NETLINK_ROUTE));
        let mut kernel = Socket::new(Domain::from(libc::AF_NETLINK), Type::RAW, route)?;
        kernel.write_all(&self.0)?;
        // The error, the request it is about, and room for what later kernels may add.
        let mut answer = [0; 1024];
        let length = kernel.read(&mut answer)?;
        let Some((_, error)) = answer[..length].split_first_chunk::<HEADER_BYTES>() else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        let Some((error, _)) = error.split_first_chunk() else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        match i32::from_ne_bytes(*error) {
            0 => Ok(()),
            error => Err(io::Error::from_raw_os_error(error.saturating_neg())),
        }
    }
}

/// Takes interface `name` away from under whoever holds it.
#[cfg(test)]
pub(crate) fn remove_interface(name: &str) -> io::Result<()> {
    Request::link(libc::RTM_DELLINK, name, 0, 0)?.send()
}
