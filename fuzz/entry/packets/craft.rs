//! Packets made right, so that a mutation gets past the checks that are not meant.

use std::net::{IpAddr, SocketAddr};

use smoltcp::wire::{Icmpv4Packet, Icmpv6Packet, IpProtocol, Ipv4Packet, Ipv6Packet, TcpPacket, UdpPacket};

const IPV6_HEADER_BYTES: usize = 40;

/// Where a whole packet's transport header is, and what for.
pub struct Transport {
    pub source: IpAddr,
    pub destination: IpAddr,
    pub protocol: IpProtocol,
    pub at: usize,
}

impl Transport {
    /// Finds it; none in fragments, and in what does not hang together.
    pub fn of(packet: &[u8]) -> Option<Self> {
        match packet.first()? >> 4 {
            4 => {
                let ip = Ipv4Packet::new_checked(packet).ok()?;
                let is_whole = !ip.more_frags() && ip.frag_offset() == 0;
                let (source, destination) = (ip.src_addr().into(), ip.dst_addr().into());
                let (protocol, at) = (ip.next_header(), ip.header_len().into());
                is_whole.then_some(Self { source, destination, protocol, at })
            }
            6 => {
                let ip = Ipv6Packet::new_checked(packet).ok()?;
                let (source, destination) = (ip.src_addr().into(), ip.dst_addr().into());
                let (protocol, at) = skip_extensions(ip.next_header(), packet)?;
                Some(Self { source, destination, protocol, at })
            }
            _ => None,
        }
    }

    /// A TCP packet's two ends.
    pub fn connection(&self, tcp: &[u8]) -> Option<(SocketAddr, SocketAddr)> {
        let tcp = TcpPacket::new_checked(tcp).ok().filter(|_| self.protocol == IpProtocol::Tcp)?;
        let source = SocketAddr::new(self.source, tcp.src_port());
        Some((source, SocketAddr::new(self.destination, tcp.dst_port())))
    }
}

fn skip_extensions(mut next: IpProtocol, packet: &[u8]) -> Option<(IpProtocol, usize)> {
    let mut at = IPV6_HEADER_BYTES;
    loop {
        let len = match next {
            IpProtocol::HopByHop | IpProtocol::Ipv6Opts | IpProtocol::Ipv6Route => {
                8 + 8 * usize::from(*packet.get(at + 1)?)
            }
            IpProtocol::Ipv6Frag if packet.get(at + 2..at + 4)? == [0, 0] => 8,
            IpProtocol::Ipv6Frag => return None,
            protocol => return (at <= packet.len()).then_some((protocol, at)),
        };
        next = IpProtocol::from(*packet.get(at)?);
        at += len;
    }
}

/// Has the bytes that a segment carries count up with their sequence numbers, so that each is known wherever it comes
/// out again. Gives whether the packet could carry others: a fragment.
pub fn count_up(packet: &mut [u8]) -> bool {
    let Some(found) = Transport::of(packet) else {
        return packet.len() > IPV6_HEADER_BYTES || Ipv4Packet::new_checked(packet).is_ok();
    };
    let segment = &mut packet[found.at..];
    if found.connection(segment).is_some() {
        let mut tcp = TcpPacket::new_unchecked(segment);
        let first = (tcp.seq_number().0 as u8).wrapping_add(tcp.syn().into()); // modulo 256, as the bytes count
        for (place, byte) in tcp.payload_mut().iter_mut().enumerate() {
            *byte = first.wrapping_add(place as u8);
        }
    }
    false
}

/// Makes lengths and checksums right, as far as the packet has them.
pub fn repair(packet: &mut [u8]) {
    let Ok(len) = u16::try_from(packet.len()) else { return };
    match packet.first().map(|byte| byte >> 4) {
        Some(4) if packet.len() >= 20 => {
            let mut ip = Ipv4Packet::new_unchecked(&mut *packet);
            ip.set_total_len(len);
            if u16::from(ip.header_len()) <= len {
                ip.fill_checksum();
            }
        }
        Some(6) if packet.len() >= IPV6_HEADER_BYTES => {
            Ipv6Packet::new_unchecked(&mut *packet).set_payload_len(len - 40);
        }
        _ => return,
    }
    let Some(Transport { source, destination, protocol, at }) = Transport::of(packet) else { return };
    let message = &mut packet[at..];
    match (protocol, source, destination) {
        (IpProtocol::Tcp, ..) if message.len() >= 20 => {
            TcpPacket::new_unchecked(message).fill_checksum(&source.into(), &destination.into());
        }
        (IpProtocol::Udp, ..) if message.len() >= 8 => {
            let len = message.len() as u16; // within a packet
            let mut udp = UdpPacket::new_unchecked(message);
            udp.set_len(len);
            udp.fill_checksum(&source.into(), &destination.into());
        }
        (IpProtocol::Icmp, ..) if message.len() >= 4 => Icmpv4Packet::new_unchecked(message).fill_checksum(),
        (IpProtocol::Icmpv6, IpAddr::V6(source), IpAddr::V6(destination)) if message.len() >= 4 => {
            Icmpv6Packet::new_unchecked(message).fill_checksum(&source, &destination);
        }
        _ => {}
    }
}
