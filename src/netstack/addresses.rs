//! Between whom packets may pass.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::netstack::counters::DropReason;

/// What is known of the networks around.
#[derive(Debug)]
pub(super) struct Addresses {
    /// Those that mean every host of a network: its first and its last.
    broadcasts: Vec<Ipv4Addr>,
}

impl Addresses {
    /// For an interface that is in `networks`, each an address and the length of its prefix.
    pub(super) fn new(networks: &[(IpAddr, u8)]) -> Self {
        let broadcasts = networks.iter().filter_map(|&network| broadcasts(network)).flatten().collect();
        Self { broadcasts }
    }

    /// Says whether a packet may pass.
    ///
    /// # Errors
    /// When it goes to many, or comes from or goes to nobody.
    pub(super) fn judge_v4(&self, source: Ipv4Addr, destination: Ipv4Addr) -> Result<(), DropReason> {
        let names_many = |address: Ipv4Addr| {
            address.is_multicast() || address.is_broadcast() || self.broadcasts.contains(&address)
        };
        if names_many(destination) {
            return Err(DropReason::Multicast);
        }
        let martian = is_martian_v4(source) || is_martian_v4(destination);
        if martian || names_many(source) || source == destination {
            return Err(DropReason::Martian);
        }
        Ok(())
    }
}

/// Says whether a packet may pass, as [`Addresses::judge_v4`] does.
pub(super) fn judge_v6(source: Ipv6Addr, destination: Ipv6Addr) -> Result<(), DropReason> {
    if destination.is_multicast() {
        return Err(DropReason::Multicast);
    }
    let martian = is_martian_v6(source) || is_martian_v6(destination);
    if martian || source.is_multicast() || source == destination {
        return Err(DropReason::Martian);
    }
    Ok(())
}

/// The first and the last address of an IPv4 network, which its hosts cannot have. (RFC 3021: in a network of
/// two they can.)
fn broadcasts((address, prefix): (IpAddr, u8)) -> Option<[Ipv4Addr; 2]> {
    let IpAddr::V4(address) = address else { return None };
    let host = u32::MAX.checked_shr(prefix.into()).filter(|_| prefix <= 30)?;
    Some([Ipv4Addr::from(u32::from(address) & !host), Ipv4Addr::from(u32::from(address) | host)])
}

/// Addresses that no packet from an app may come from or go to.
fn is_martian_v4(address: Ipv4Addr) -> bool {
    // 0.0.0.0/8 is "this network" (RFC 1122), 240.0.0.0/4 is nobody's.
    address.octets()[0] == 0 || address.is_loopback() || address.octets()[0] >= 240
}

fn is_martian_v6(address: Ipv6Addr) -> bool {
    // Link-local packets stay on their link (RFC 4291, 2.5.6); an IPv4-mapped address belongs into socket
    // calls, never onto a wire (RFC 4942).
    address.is_unspecified()
        || address.is_loopback()
        || address.is_unicast_link_local()
        || address.to_ipv4_mapped().is_some()
}
