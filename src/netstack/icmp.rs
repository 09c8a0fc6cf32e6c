//! ICMP and ICMPv6 to the app: nobody listens there, that packet is too big, and echoes.

use std::net::IpAddr;
use std::time::Duration;

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    Icmpv4DstUnreachable, Icmpv4Packet, Icmpv4Repr, Icmpv6DstUnreachable, Icmpv6Packet, Icmpv6Repr,
    IpProtocol, IpRepr, Ipv4Repr, Ipv6Repr,
};

use crate::netstack::demux::{Datagram, Echo, IPV6_MIN_MTU, Oversize};
use crate::netstack::wire::{HOP_LIMIT, Wire, header};
use crate::proto::timers::Moment;
use crate::tun::Device;

/// How much of the datagram is quoted: enough for its header and the start of any payload an app might
/// look at, and within the 576 bytes of RFC 1812 and the 1280 of RFC 4443 with every header.
const MAX_QUOTE_BYTES: usize = 256;

/// Answers in a row, and per second, as Linux limits its own (`icmp_msgs_burst`, `icmp_msgs_per_sec`).
const BURST: u32 = 50;
const PER_SECOND: u32 = 1000;

/// What every message begins with: type, code, checksum, and four bytes that depend on the type.
pub(super) const HEADER_BYTES: usize = 8;

pub(super) const ECHO_REQUEST_V4: u8 = 8;
pub(super) const ECHO_REQUEST_V6: u8 = 128;
const ECHO_REPLY_V4: u8 = 0;
const ECHO_REPLY_V6: u8 = 129;

/// Answers a datagram with port unreachable, from the address that it was sent to.
///
/// The demultiplexer lets no datagram through whose source could not be answered.
pub(super) fn send_port_unreachable<D: Device>(datagram: &Datagram<'_>, wire: &mut Wire<D>) {
    let data = &datagram.udp[..datagram.udp.len().min(MAX_QUOTE_BYTES)];
    let checksums = ChecksumCapabilities::default();
    let (from, to) = (datagram.destination, datagram.source);
    match (datagram.source.ip(), datagram.destination.ip()) {
        (IpAddr::V4(src_addr), IpAddr::V4(dst_addr)) => {
            let quoted = Ipv4Repr {
                src_addr,
                dst_addr,
                next_header: IpProtocol::Udp,
                payload_len: datagram.udp.len(),
                hop_limit: datagram.hop_limit,
            };
            let reason = Icmpv4DstUnreachable::PortUnreachable;
            let icmp = Icmpv4Repr::DstUnreachable { reason, header: quoted, data };
            let ip = header(from, to, IpProtocol::Icmp, icmp.buffer_len());
            wire.send_packet(&ip, |payload| {
                icmp.emit(&mut Icmpv4Packet::new_unchecked(payload), &checksums);
            });
        }
        (IpAddr::V6(src_addr), IpAddr::V6(dst_addr)) => {
            let quoted = Ipv6Repr {
                src_addr,
                dst_addr,
                next_header: IpProtocol::Udp,
                payload_len: datagram.udp.len(),
                hop_limit: datagram.hop_limit,
            };
            let reason = Icmpv6DstUnreachable::PortUnreachable;
            let icmp = Icmpv6Repr::DstUnreachable { reason, header: quoted, data };
            let ip = header(from, to, IpProtocol::Icmpv6, icmp.buffer_len());
            let IpRepr::Ipv6(addresses) = ip else { return };
            wire.send_packet(&ip, |payload| {
                let mut packet = Icmpv6Packet::new_unchecked(payload);
                icmp.emit(&addresses.src_addr, &addresses.dst_addr, &mut packet, &checksums);
            });
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => {}
    }
}

/// Answers a packet with packet too big (in IPv4: fragmentation needed), from the address that it was sent to.
pub(super) fn send_packet_too_big<D: Device>(oversize: &Oversize<'_>, wire: &mut Wire<D>) {
    // | type u8 | code u8 | checksum u16 BE | v4: 0 u16, MTU u16 BE; v6: MTU u32 BE | the packet … |
    let (kind, code, protocol, most, least) = match oversize.source {
        IpAddr::V4(_) => (3, 4, IpProtocol::Icmp, 576, 0), // RFC 1812, 4.3.2.3
        IpAddr::V6(_) => (2, 0, IpProtocol::Icmpv6, IPV6_MIN_MTU, IPV6_MIN_MTU), // RFC 4443, 3.2
    };
    let mtu = wire.mtu().max(least) as u32; // at most the longest packet
    let len = oversize.packet.len() + HEADER_BYTES;
    let (from, to) = (oversize.destination.into(), oversize.source.into());
    let mut ip = IpRepr::new(from, to, protocol, len, HOP_LIMIT);
    ip.set_payload_len(len.min(most.min(wire.mtu()) - ip.header_len()));
    wire.send_packet(&ip, |message| {
        let (header, quote) = message.split_at_mut(HEADER_BYTES);
        header[..4].copy_from_slice(&[kind, code, 0, 0]);
        header[4..].copy_from_slice(&mtu.to_be_bytes());
        quote.copy_from_slice(&oversize.packet[..quote.len()]);
        fill_checksum(&ip, message);
    });
}

/// Answers an echo request with all that it carries.
pub(super) fn send_echo_reply<D: Device>(echo: Echo<'_>, wire: &mut Wire<D>) {
    let (protocol, reply) = match echo.source {
        IpAddr::V4(_) => (IpProtocol::Icmp, ECHO_REPLY_V4),
        IpAddr::V6(_) => (IpProtocol::Icmpv6, ECHO_REPLY_V6),
    };
    let (from, to) = (echo.destination.into(), echo.source.into());
    let ip = IpRepr::new(from, to, protocol, echo.message.len(), HOP_LIMIT);
    if let Some(kind) = echo.message.first_mut() {
        *kind = reply;
    }
    fill_checksum(&ip, echo.message);
    wire.send_parts(&ip, echo.message, &[]);
    wire.counters.echo_replies += 1;
}

fn fill_checksum(ip: &IpRepr, message: &mut [u8]) {
    match ip {
        IpRepr::Ipv4(_) => Icmpv4Packet::new_unchecked(message).fill_checksum(),
        IpRepr::Ipv6(ip) => Icmpv6Packet::new_unchecked(message).fill_checksum(&ip.src_addr, &ip.dst_addr),
    }
}

/// Whether a message reports an error or a better way: nothing that goes wrong with it is reported. One that
/// is too short to tell might.
pub(super) fn is_error(protocol: IpProtocol, message: &[u8]) -> bool {
    match (protocol, message.first()) {
        (IpProtocol::Icmp, kind) => kind.is_none_or(|kind| matches!(kind, 3 | 4 | 5 | 11 | 12)),
        (IpProtocol::Icmpv6, kind) => kind.is_none_or(|&kind| kind < 128 || kind == 137),
        _ => false,
    }
}

/// A token bucket over the answers.
#[derive(Debug)]
pub(super) struct RateLimit {
    tokens: u32,
    filled: Moment,
}

impl RateLimit {
    pub(super) fn new(now: Moment) -> Self {
        Self { tokens: BURST, filled: now }
    }

    /// Takes a token, if there is one.
    pub(super) fn allows(&mut self, now: Moment) -> bool {
        let span = Duration::from_secs(1) / PER_SECOND;
        let due = now.since(self.filled).as_nanos() / span.as_nanos();
        match u32::try_from(due) {
            Ok(due) if self.tokens.saturating_add(due) < BURST => {
                self.tokens += due;
                self.filled = self.filled + span * due;
            }
            _ => (self.tokens, self.filled) = (BURST, now),
        }
        let allowed = self.tokens > 0;
        self.tokens -= u32::from(allowed);
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_come_in_a_burst_and_then_at_their_rate() {
        let start = Moment::default();
        let mut limit = RateLimit::new(start);
        let mut count = |now| (0..10_000).filter(|_| limit.allows(now)).count();
        assert_eq!(count(start), 50);
        assert_eq!(count(start + Duration::from_micros(900)), 0);
        assert_eq!(count(start + Duration::from_millis(10)), 10);
        assert_eq!(count(start + Duration::from_secs(3600)), 50);
    }

    #[test]
    fn a_slow_trickle_is_never_limited() {
        let mut limit = RateLimit::new(Moment::default());
        let second = Duration::from_secs(1);
        assert!((0..5000).all(|tick| limit.allows(Moment::default() + second * tick / 1000)));
    }
}
