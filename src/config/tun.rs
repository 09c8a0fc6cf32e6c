//! The interface that packets come from, and what is done with them.

use std::net::IpAddr;
use std::str::FromStr;

use super::Defaults;
use super::section::{Field, Section};
use crate::budget::MIN_LIMIT_BYTES;

/// The tunnel's interface and the network stack behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TunOptions {
    /// The interface's name where we create it; `None` lets the system choose.
    pub name: Option<String>,
    /// The largest packet.
    pub mtu: Mtu,
    /// The interface's addresses; at least one.
    pub addresses: Vec<InterfaceAddress>,
    /// What all buffers of the core may hold together, in bytes; see [`budget`](crate::budget).
    pub memory_limit: usize,
    /// Answer a SYN before the server has opened the stream: faster, but an app sees a refused
    /// connection as one that opens and breaks.
    pub eager: bool,
    /// Refuse QUIC (UDP port 443), so that apps fall back to TCP at once.
    pub block_quic: bool,
}

/// The largest IP packet on the interface, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mtu(u16);

impl Mtu {
    /// What IPv6 demands of every link (RFC 8200, section 5).
    pub const MIN: Self = Self(1280);
    /// The largest IP packet.
    pub const MAX: Self = Self(u16::MAX);

    /// An MTU of so many bytes; `None` below [`Mtu::MIN`].
    pub const fn new(bytes: u16) -> Option<Self> {
        if bytes >= Self::MIN.0 { Some(Self(bytes)) } else { None }
    }

    /// In bytes.
    pub const fn get(self) -> u16 {
        self.0
    }
}

/// An interface's address and the length of its network's prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InterfaceAddress {
    address: IpAddr,
    prefix_len: u8,
}

impl InterfaceAddress {
    /// Another address of the network, or, where there is none, one of our default's.
    fn neighbour(self) -> IpAddr {
        let (bits, width) = match self.address {
            IpAddr::V4(address) => (u128::from(address.to_bits()), 32),
            IpAddr::V6(address) => (address.to_bits(), 128),
        };
        let host_bits = width - u32::from(self.prefix_len);
        let hosts = 1_u128.checked_shl(host_bits).map_or(u128::MAX, |count| count - 1);
        let (network, host) = (bits & !hosts, bits & hosts);
        // Neither the first, which is the network's own, nor the last, which is IPv4's broadcast.
        let other = [host.checked_add(1), host.checked_sub(1)]
            .into_iter()
            .flatten()
            .find(|other| (1..hosts).contains(other));
        match (self.address, other.map(|other| network | other)) {
            (IpAddr::V4(_), Some(bits)) => IpAddr::V4(u32::try_from(bits).expect("32 bits").into()),
            (IpAddr::V6(_), Some(bits)) => IpAddr::V6(bits.into()),
            (IpAddr::V4(_), None) => IpAddr::V4(std::net::Ipv4Addr::new(172, 19, 0, 2)),
            (IpAddr::V6(_), None) => {
                IpAddr::V6(std::net::Ipv6Addr::new(0xfdfe, 0xdcba, 0x9876, 0, 0, 0, 0, 2))
            }
        }
    }

    /// The address itself, with its host bits.
    pub const fn address(self) -> IpAddr {
        self.address
    }

    /// The length of the prefix in bits: at most 32 or 128.
    pub const fn prefix_len(self) -> u8 {
        self.prefix_len
    }
}

/// Not the CIDR form of an address that an interface can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected an interface's address and prefix, such as 172.19.0.1/30")]
pub struct InvalidInterfaceAddress;

impl FromStr for InterfaceAddress {
    type Err = InvalidInterfaceAddress;

    fn from_str(text: &str) -> Result<Self, InvalidInterfaceAddress> {
        let (address, prefix_len) = text.split_once('/').ok_or(InvalidInterfaceAddress)?;
        let address: IpAddr = address.parse().map_err(|_| InvalidInterfaceAddress)?;
        let is_number = (1..=3).contains(&prefix_len.len()) && prefix_len.bytes().all(|b| b.is_ascii_digit());
        let prefix_len = prefix_len.parse().ok().filter(|_| is_number).ok_or(InvalidInterfaceAddress)?;
        let max = if address.is_ipv4() { 32 } else { 128 };
        let is_host = !address.is_unspecified() && !address.is_multicast() && !address.is_loopback();
        if prefix_len > max || !is_host {
            return Err(InvalidInterfaceAddress);
        }
        Ok(Self { address, prefix_len })
    }
}

/// sing-box's documented addresses, which its users' firewalls know.
const DEFAULT_ADDRESSES: [InterfaceAddress; 2] = [
    InterfaceAddress { address: IpAddr::V4(std::net::Ipv4Addr::new(172, 19, 0, 1)), prefix_len: 30 },
    InterfaceAddress {
        address: IpAddr::V6(std::net::Ipv6Addr::new(0xfdfe, 0xdcba, 0x9876, 0, 0, 0, 0, 1)),
        prefix_len: 126,
    },
];

/// The bounds of `memory_limit`: what can be divided, and a GiB, above which it is a typing error (a 32-bit
/// phone has no more).
const MEMORY_LIMIT: std::ops::RangeInclusive<u64> = MIN_LIMIT_BYTES as u64..=1 << 30; // usize has at most 64 bits

impl TunOptions {
    /// What an absent `tun` object means.
    pub fn new(defaults: &Defaults) -> Self {
        Self {
            name: None,
            mtu: defaults.mtu,
            addresses: DEFAULT_ADDRESSES.to_vec(),
            memory_limit: defaults.memory_limit,
            eager: false,
            block_quic: true,
        }
    }

    /// What the system may be told to ask for names: for each family with an address, one that stands for
    /// nobody. It is the next one in the interface's network, which routes into the TUN even where little else does.
    pub fn dns_servers(&self) -> Vec<IpAddr> {
        let first_of = |is_ipv4: bool| self.addresses.iter().find(|a| a.address.is_ipv4() == is_ipv4);
        [true, false].into_iter().filter_map(first_of).map(|address| address.neighbour()).collect()
    }

    /// Reads our own object or sing-box's inbound; the caller finishes the section.
    pub(super) fn read(section: &mut Section<'_>, defaults: &Defaults) -> Self {
        let absent = Self::new(defaults);
        // Our names first, then sing-box's, then those of its versions before 1.10.
        let names = ["name", "interface_name"].map(|name| interface_name(&section.field(name)));
        let addresses: Vec<_> = ["addresses", "address", "inet4_address", "inet6_address"]
            .into_iter()
            .flat_map(|name| section.field(name).list())
            .filter_map(|field| field.parsed("a CIDR such as 172.19.0.1/30", |text| text.parse().ok()))
            .collect();
        Self {
            name: names.into_iter().flatten().next(),
            mtu: mtu(&section.field("mtu")).unwrap_or(absent.mtu),
            addresses: if addresses.is_empty() { absent.addresses } else { addresses },
            memory_limit: memory_limit(&section.field("memory_limit")).unwrap_or(absent.memory_limit),
            eager: section.field("eager").flag().unwrap_or(absent.eager),
            block_quic: section.field("block_quic").flag().unwrap_or(absent.block_quic),
        }
    }
}

fn interface_name(field: &Field<'_>) -> Option<String> {
    // Linux takes 15 bytes (IFNAMSIZ less the final zero), no slash and no space; others take less.
    let is_valid = |name: &&str| {
        let is_path = [".", ".."].contains(name);
        name.len() <= 15 && !is_path && name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/')
    };
    field
        .parsed("an interface name of at most 15 characters", |name| Some(name).filter(is_valid))
        .map(str::to_owned)
}

fn mtu(field: &Field<'_>) -> Option<Mtu> {
    let bytes = field.integer(Mtu::MIN.0.into()..=Mtu::MAX.0.into())?;
    u16::try_from(bytes).ok().and_then(Mtu::new)
}

fn memory_limit(field: &Field<'_>) -> Option<usize> {
    let bytes = field.bytes(MEMORY_LIMIT)?;
    usize::try_from(bytes).ok()
}
