//! From bytes off the device to a segment or a datagram that is safe to handle.

use std::mem;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use smoltcp::wire::{IpProtocol, Ipv4Packet, Ipv6Packet, TcpPacket, UdpPacket};

use crate::netstack::counters::DropReason;
use crate::netstack::table::Tuple;

const IPV6_HEADER_BYTES: usize = 40;

/// Extension headers that are walked over. Nobody sends more than three or four.
const MAX_EXTENSION_HEADERS: usize = 8;

/// A packet that is what it claims to be: lengths hold, checksums match, addresses can be answered.
#[derive(Debug)]
pub(super) enum Packet<'a> {
    Tcp(Segment<'a>),
    Udp(Datagram<'a>),
}

/// A TCP segment and the packet around it.
#[derive(Debug)]
pub(super) struct Segment<'a> {
    /// An IPv4 packet, or an IPv6 packet without extension headers. After [`Segment::strip_payload`] its
    /// checksums no longer match.
    pub(super) packet: &'a mut [u8],
    ip_header: usize,
    pub(super) tuple: Tuple,
    pub(super) seq: u32,
    pub(super) ack: Option<u32>,
    pub(super) syn: bool,
    pub(super) fin: bool,
    pub(super) rst: bool,
    /// Bytes of payload.
    pub(super) payload: usize,
}

/// A UDP datagram and the packet around it.
#[derive(Debug)]
pub(super) struct Datagram<'a> {
    pub(super) source: SocketAddr,
    pub(super) destination: SocketAddr,
    /// The UDP header and the payload.
    pub(super) udp: &'a [u8],
    pub(super) hop_limit: u8,
}

/// Reads one packet, moving its IPv6 header over any extension headers.
pub(super) fn parse(packet: &mut [u8]) -> Result<Packet<'_>, DropReason> {
    match packet.first().map(|byte| byte >> 4) {
        Some(4) => parse_v4(packet),
        Some(6) => parse_v6(packet),
        _ => Err(DropReason::Malformed),
    }
}

fn parse_v4(packet: &mut [u8]) -> Result<Packet<'_>, DropReason> {
    let ip = Ipv4Packet::new_checked(&*packet).map_err(|_| DropReason::Malformed)?;
    if !ip.verify_checksum() {
        return Err(DropReason::Malformed);
    }
    if ip.more_frags() || ip.frag_offset() != 0 {
        return Err(DropReason::Fragment);
    }
    let (source, destination) = (ip.src_addr(), ip.dst_addr());
    if is_martian_v4(source) || is_martian_v4(destination) {
        return Err(DropReason::Martian);
    }
    let total = usize::from(ip.total_len());
    let ip = Ip {
        header: usize::from(ip.header_len()),
        protocol: ip.next_header(),
        hop_limit: ip.hop_limit(),
        source: source.into(),
        destination: destination.into(),
    };
    ip.transport(&mut packet[..total])
}

fn parse_v6(packet: &mut [u8]) -> Result<Packet<'_>, DropReason> {
    let ip = Ipv6Packet::new_checked(&*packet).map_err(|_| DropReason::Malformed)?;
    let (source, destination) = (ip.src_addr(), ip.dst_addr());
    if is_martian_v6(source) || is_martian_v6(destination) {
        return Err(DropReason::Martian);
    }
    let (total, hop_limit) = (ip.total_len(), ip.hop_limit());
    let (protocol, payload) = skip_extensions(ip.next_header(), &packet[..total])?;

    // The IPv6 header moves up to the payload, so that what follows sees a plain packet.
    let extensions = payload - IPV6_HEADER_BYTES;
    packet.copy_within(..IPV6_HEADER_BYTES, extensions);
    let packet = &mut packet[extensions..total];
    let len = u16::try_from(packet.len() - IPV6_HEADER_BYTES).map_err(|_| DropReason::Malformed)?;
    let mut ip = Ipv6Packet::new_unchecked(&mut *packet);
    ip.set_next_header(protocol);
    ip.set_payload_len(len);
    Ip {
        header: IPV6_HEADER_BYTES,
        protocol,
        hop_limit,
        source: source.into(),
        destination: destination.into(),
    }
    .transport(packet)
}

/// Walks over extension headers and gives the first header that is none, and where it begins.
///
/// ```text
/// | next header u8 | length u8, in 8 octets beyond the first 8 | … |   hop-by-hop, routing, destination
/// | next header u8 | reserved u8 | offset:13 res:2 more:1 u16 BE | identification u32 |   fragment
/// ```
fn skip_extensions(mut next: IpProtocol, packet: &[u8]) -> Result<(IpProtocol, usize), DropReason> {
    let mut at = IPV6_HEADER_BYTES;
    for _ in 0..=MAX_EXTENSION_HEADERS {
        let header = &packet[at..];
        let len = match next {
            IpProtocol::HopByHop | IpProtocol::Ipv6Opts => extension_bytes(header)?,
            IpProtocol::Ipv6Route => {
                let len = extension_bytes(header)?;
                // Segments left: the packet is still on its way to somewhere else.
                if header[3] != 0 {
                    return Err(DropReason::Malformed);
                }
                len
            }
            IpProtocol::Ipv6Frag => {
                let header = header.first_chunk::<8>().ok_or(DropReason::Malformed)?;
                // An atomic fragment (RFC 6946) is a whole packet.
                if u16::from_be_bytes([header[2], header[3]]) & !0b110 != 0 {
                    return Err(DropReason::Fragment);
                }
                header.len()
            }
            protocol => return Ok((protocol, at)),
        };
        next = IpProtocol::from(header[0]);
        at += len;
    }
    Err(DropReason::Malformed)
}

fn extension_bytes(header: &[u8]) -> Result<usize, DropReason> {
    let [_, len, ..] = header else { return Err(DropReason::Malformed) };
    let len = 8 + 8 * usize::from(*len);
    if len <= header.len() { Ok(len) } else { Err(DropReason::Malformed) }
}

/// What the IP header says.
struct Ip {
    header: usize,
    protocol: IpProtocol,
    hop_limit: u8,
    source: IpAddr,
    destination: IpAddr,
}

impl Ip {
    /// Reads what follows the header in `packet`.
    fn transport(self, packet: &mut [u8]) -> Result<Packet<'_>, DropReason> {
        match self.protocol {
            IpProtocol::Tcp => self.segment(packet).map(Packet::Tcp),
            IpProtocol::Udp => self.datagram(packet).map(Packet::Udp),
            _ => Err(DropReason::OtherProtocol),
        }
    }

    fn segment(self, packet: &mut [u8]) -> Result<Segment<'_>, DropReason> {
        let tcp = TcpPacket::new_checked(&packet[self.header..]).map_err(|_| DropReason::Malformed)?;
        let flags = u8::from(tcp.syn()) + u8::from(tcp.fin()) + u8::from(tcp.rst());
        let ports = tcp.src_port() != 0 && tcp.dst_port() != 0;
        if flags > 1 || !ports || !tcp.verify_checksum(&self.source.into(), &self.destination.into()) {
            return Err(DropReason::Malformed);
        }
        let segment = Segment {
            packet: &mut [],
            ip_header: self.header,
            tuple: Tuple {
                source: SocketAddr::new(self.source, tcp.src_port()),
                destination: SocketAddr::new(self.destination, tcp.dst_port()),
            },
            seq: tcp.seq_number().0.cast_unsigned(),
            ack: tcp.ack().then(|| tcp.ack_number().0.cast_unsigned()),
            syn: tcp.syn(),
            fin: tcp.fin(),
            rst: tcp.rst(),
            payload: tcp.payload().len(),
        };
        Ok(Segment { packet, ..segment })
    }

    fn datagram(self, packet: &[u8]) -> Result<Datagram<'_>, DropReason> {
        let bytes = &packet[self.header..];
        let udp = UdpPacket::new_checked(bytes).map_err(|_| DropReason::Malformed)?;
        if udp.dst_port() == 0 || !udp.verify_checksum(&self.source.into(), &self.destination.into()) {
            return Err(DropReason::Malformed);
        }
        Ok(Datagram {
            source: SocketAddr::new(self.source, udp.src_port()),
            destination: SocketAddr::new(self.destination, udp.dst_port()),
            udp: &bytes[..usize::from(udp.len())],
            hop_limit: self.hop_limit,
        })
    }
}

impl Segment<'_> {
    /// What the segment takes of the sequence space.
    pub(super) fn len(&self) -> u32 {
        // A payload fits an IP packet, so 17 bits hold it.
        self.payload as u32 + u32::from(self.syn) + u32::from(self.fin)
    }

    /// Cuts the segment down to what its header says besides announcing payload and end: acknowledgement
    /// and window.
    pub(super) fn strip_payload(&mut self) {
        let mut tcp = TcpPacket::new_unchecked(&mut self.packet[self.ip_header..]);
        tcp.set_fin(false);
        tcp.set_psh(false);
        let len = self.ip_header + usize::from(tcp.header_len());
        (self.fin, self.payload) = (false, 0);
        let packet = mem::take(&mut self.packet);
        self.packet = &mut packet[..len];
        // Shorter than what came, so the lengths fit.
        if self.tuple.source.is_ipv4() {
            Ipv4Packet::new_unchecked(&mut *self.packet).set_total_len(len as u16);
        } else {
            Ipv6Packet::new_unchecked(&mut *self.packet).set_payload_len((len - self.ip_header) as u16);
        }
    }
}

/// Addresses that no packet from an app may come from or go to.
fn is_martian_v4(address: Ipv4Addr) -> bool {
    // 0.0.0.0/8 is "this network" (RFC 1122); class D and the limited broadcast name no single host.
    address.octets()[0] == 0 || address.is_loopback() || address.is_multicast() || address.is_broadcast()
}

fn is_martian_v6(address: Ipv6Addr) -> bool {
    // An IPv4-mapped address belongs into socket calls, never onto a wire (RFC 4942).
    address.is_unspecified()
        || address.is_loopback()
        || address.is_multicast()
        || address.to_ipv4_mapped().is_some()
}
