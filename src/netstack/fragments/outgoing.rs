//! Packets to fragments.

use std::mem;

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{IpProtocol, IpRepr, Ipv4Packet, Ipv6Packet};

/// What an IPv6 fragment has beyond the IP header.
pub(in crate::netstack) const FRAGMENT_HEADER_BYTES: usize = 8;

/// Where a fragment that leaves belongs.
pub(in crate::netstack) struct Place {
    pub(in crate::netstack) offset: u16,
    pub(in crate::netstack) more: bool,
    pub(in crate::netstack) id: u32,
}

impl Place {
    /// Writes the fragment of a packet with the header `ip` that fills `packet`, with the next of `parts`.
    pub(in crate::netstack) fn emit(&self, ip: &IpRepr, packet: &mut [u8], parts: &mut [&[u8]]) {
        let (fixed, payload) = packet.split_at_mut(ip.header_len());
        let mut ip = ip.clone();
        ip.set_payload_len(payload.len());
        let payload = match ip {
            IpRepr::Ipv4(_) => {
                ip.emit(&mut *fixed, &ChecksumCapabilities::ignored());
                let mut fields = Ipv4Packet::new_unchecked(fixed);
                fields.set_ident(self.id as u16); // the lower half
                fields.set_dont_frag(false);
                fields.set_more_frags(self.more);
                fields.set_frag_offset(self.offset);
                fields.fill_checksum();
                payload
            }
            IpRepr::Ipv6(ref mut ip) => {
                let protocol = mem::replace(&mut ip.next_header, IpProtocol::Ipv6Frag);
                ip.emit(&mut Ipv6Packet::new_unchecked(fixed));
                // | next header u8 | 0 u8 | offset:13 0:2 more:1 u16 BE | identification u32 BE |
                let (extension, payload) = payload.split_at_mut(FRAGMENT_HEADER_BYTES);
                extension[..2].copy_from_slice(&[protocol.into(), 0]);
                extension[2..4].copy_from_slice(&(self.offset | u16::from(self.more)).to_be_bytes());
                extension[4..].copy_from_slice(&self.id.to_be_bytes());
                payload
            }
        };
        move_into(payload, parts);
    }
}

/// Fills `space` from the beginning of `parts`, which are left with the rest.
pub(in crate::netstack) fn move_into(mut space: &mut [u8], parts: &mut [&[u8]]) {
    for part in parts {
        let (taken, rest) = part.split_at(part.len().min(space.len()));
        let (filled, free) = space.split_at_mut(taken.len());
        filled.copy_from_slice(taken);
        (*part, space) = (rest, free);
    }
}
