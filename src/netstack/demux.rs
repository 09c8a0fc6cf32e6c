//! From bytes off the device to something that is safe to handle: a segment, a datagram, an echo request, or
//! a fragment of one.

use std::mem;
use std::net::{IpAddr, SocketAddr};

use smoltcp::wire::{
    IPV6_HEADER_LEN, Icmpv4Packet, Icmpv6Packet, IpProtocol, Ipv4Packet, Ipv6Packet, TcpPacket, UdpPacket,
};

use crate::netstack::addresses::{Addresses, judge_v6};
use crate::netstack::checksum;
use crate::netstack::counters::DropReason;
use crate::netstack::fragments::{Fragment, Key};
use crate::netstack::icmp;
use crate::netstack::table::Tuple;

/// What every IPv6 link takes (RFC 8200, 5), whatever the device says.
pub(super) const IPV6_MIN_MTU: usize = 1280;

/// Extension headers that are walked over. Nobody sends more than three or four.
const MAX_EXTENSION_HEADERS: usize = 8;

/// A packet that is what it claims to be: lengths hold, checksums match, addresses can be answered.
#[derive(Debug)]
pub(super) enum Packet<'a> {
    Tcp(Segment<'a>),
    Udp(Datagram<'a>),
    Echo(Echo<'a>),
    Fragment(Fragment<'a>),
    TooBig(Oversize<'a>),
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

/// A request for an echo.
#[derive(Debug)]
pub(super) struct Echo<'a> {
    pub(super) source: IpAddr,
    pub(super) destination: IpAddr,
    /// The ICMP or ICMPv6 message, header included.
    pub(super) message: &'a mut [u8],
}

/// A packet over the MTU that may not be fragmented.
#[derive(Debug)]
pub(super) struct Oversize<'a> {
    pub(super) source: IpAddr,
    pub(super) destination: IpAddr,
    /// All of it, as it came.
    pub(super) packet: &'a [u8],
}

/// Reads packets.
#[derive(Debug)]
pub(super) struct Demux {
    addresses: Addresses,
}

impl Demux {
    /// For an interface with these addresses.
    pub(super) fn new(addresses: Addresses) -> Self {
        Self { addresses }
    }

    /// Reads one packet, moving its IPv6 header over any extension headers. What is longer than `mtu` and may
    /// not be fragmented is too big.
    pub(super) fn parse<'a>(&self, packet: &'a mut [u8], mtu: usize) -> Result<Packet<'a>, DropReason> {
        match packet.first().map(|byte| byte >> 4) {
            Some(4) => self.parse_v4(packet, mtu),
            Some(6) => parse_v6(packet, mtu),
            _ => Err(DropReason::Malformed),
        }
    }

    fn parse_v4<'a>(&self, packet: &'a mut [u8], mtu: usize) -> Result<Packet<'a>, DropReason> {
        let fields = Ipv4Packet::new_checked(&*packet).map_err(|_| DropReason::Malformed)?;
        if !fields.verify_checksum() {
            return Err(DropReason::Malformed);
        }
        let (source, destination) = (fields.src_addr(), fields.dst_addr());
        self.addresses.judge_v4(source, destination)?;
        let total = usize::from(fields.total_len());
        let piece =
            Piece { offset: fields.frag_offset(), more: fields.more_frags(), id: fields.ident().into() };
        let too_big = total > mtu && fields.dont_frag();
        let ip = Ip {
            header: usize::from(fields.header_len()),
            protocol: fields.next_header(),
            hop_limit: fields.hop_limit(),
            source: source.into(),
            destination: destination.into(),
        };
        let packet = &mut packet[..total];
        if too_big {
            return ip.oversize(packet, piece.offset);
        }
        if piece.is_whole() {
            return ip.transport(packet);
        }
        let payload = &packet[ip.header..];
        if piece.offset == 0 && !holds_header(ip.protocol, payload) {
            return Err(DropReason::Fragment);
        }
        ip.fragment(piece, payload)
    }
}

fn parse_v6(packet: &mut [u8], mtu: usize) -> Result<Packet<'_>, DropReason> {
    let fields = Ipv6Packet::new_checked(&*packet).map_err(|_| DropReason::Malformed)?;
    let (source, destination) = (fields.src_addr(), fields.dst_addr());
    judge_v6(source, destination)?;
    let (total, hop_limit) = (fields.total_len(), fields.hop_limit());
    let next = fields.next_header();
    let packet = &mut packet[..total];
    let Chain { protocol, payload, piece } = skip_extensions(next, IPV6_HEADER_LEN, packet)?;
    let ip =
        Ip { header: payload, protocol, hop_limit, source: source.into(), destination: destination.into() };
    if total > mtu.max(IPV6_MIN_MTU) {
        return ip.oversize(packet, piece.map_or(0, |piece| piece.offset));
    }
    if let Some(piece) = piece {
        if piece.offset == 0 {
            // Every header is in the first fragment (RFC 7112), and no other fragment's.
            let inner = skip_extensions(protocol, payload, packet).map_err(|_| DropReason::Fragment)?;
            if inner.piece.is_some() || !holds_header(inner.protocol, &packet[inner.payload..]) {
                return Err(DropReason::Fragment);
            }
        }
        return ip.fragment(piece, &packet[payload..]);
    }

    // The IPv6 header moves up to the payload, so that what follows sees a plain packet.
    let extensions = payload - IPV6_HEADER_LEN;
    packet.copy_within(..IPV6_HEADER_LEN, extensions);
    let packet = &mut packet[extensions..];
    let len = u16::try_from(packet.len() - IPV6_HEADER_LEN).map_err(|_| DropReason::Malformed)?;
    let mut fields = Ipv6Packet::new_unchecked(&mut *packet);
    fields.set_next_header(protocol);
    fields.set_payload_len(len);
    Ip { header: IPV6_HEADER_LEN, ..ip }.transport(packet)
}

/// Where a fragment belongs.
#[derive(Clone, Copy, Debug)]
struct Piece {
    offset: u16,
    more: bool,
    id: u32,
}

impl Piece {
    /// Whether it is all of its packet. In IPv6, an atomic fragment is. (RFC 6946)
    fn is_whole(&self) -> bool {
        self.offset == 0 && !self.more
    }
}

/// Where a walk over extension headers has ended.
struct Chain {
    /// What begins at `payload`.
    protocol: IpProtocol,
    payload: usize,
    /// That is part of a packet only.
    piece: Option<Piece>,
}

/// Walks over the extension headers from `at` on, up to the first header that is none, or to a fragment.
///
/// ```text
/// | next header u8 | length u8, in 8 octets beyond the first 8 | … |   hop-by-hop, routing, destination
/// | next header u8 | reserved u8 | offset:13 res:2 more:1 u16 BE | identification u32 BE |   fragment
/// ```
fn skip_extensions(mut next: IpProtocol, mut at: usize, packet: &[u8]) -> Result<Chain, DropReason> {
    for _ in 0..=MAX_EXTENSION_HEADERS {
        let header = &packet[at..];
        let mut piece = None;
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
                let &[_, _, high, low, ref id @ ..] =
                    header.first_chunk::<8>().ok_or(DropReason::Malformed)?;
                let place = u16::from_be_bytes([high, low]);
                let found =
                    Piece { offset: place & !0b111, more: place & 1 != 0, id: u32::from_be_bytes(*id) };
                piece = Some(found).filter(|piece| !piece.is_whole());
                8
            }
            protocol => return Ok(Chain { protocol, payload: at, piece: None }),
        };
        next = IpProtocol::from(header[0]);
        at += len;
        if piece.is_some() {
            return Ok(Chain { protocol: next, payload: at, piece });
        }
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
            IpProtocol::Icmp | IpProtocol::Icmpv6 => self.echo(packet).map(Packet::Echo),
            IpProtocol::Igmp => Err(DropReason::Icmp),
            _ => Err(DropReason::OtherProtocol),
        }
    }

    /// Whether the payload's checksum matches; fuzzing cannot guess any.
    fn is_intact(&self, packet: &[u8], payload: &[u8]) -> bool {
        cfg!(fuzzing) || checksum::transport(packet, self.protocol, payload) == 0
    }

    fn segment(self, packet: &mut [u8]) -> Result<Segment<'_>, DropReason> {
        let tcp = TcpPacket::new_checked(&packet[self.header..]).map_err(|_| DropReason::Malformed)?;
        let flags = u8::from(tcp.syn()) + u8::from(tcp.fin()) + u8::from(tcp.rst());
        let ports = tcp.src_port() != 0 && tcp.dst_port() != 0;
        if flags > 1 || !ports || !self.is_intact(packet, &packet[self.header..]) {
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
        // Only IPv4 goes without a checksum (RFC 8200, 8.1).
        if udp.checksum() == 0 && self.source.is_ipv6() {
            return Err(DropReason::Malformed);
        }
        let datagram = &bytes[..usize::from(udp.len())];
        if udp.dst_port() == 0 || udp.checksum() != 0 && !self.is_intact(packet, datagram) {
            return Err(DropReason::Malformed);
        }
        Ok(Datagram {
            source: SocketAddr::new(self.source, udp.src_port()),
            destination: SocketAddr::new(self.destination, udp.dst_port()),
            udp: datagram,
            hop_limit: self.hop_limit,
        })
    }

    fn echo(self, packet: &mut [u8]) -> Result<Echo<'_>, DropReason> {
        let message = &mut packet[self.header..];
        let (valid, request) = match (self.protocol, self.source, self.destination) {
            (IpProtocol::Icmp, IpAddr::V4(_), IpAddr::V4(_)) => {
                (Icmpv4Packet::new_unchecked(&*message).verify_checksum(), icmp::ECHO_REQUEST_V4)
            }
            (IpProtocol::Icmpv6, IpAddr::V6(source), IpAddr::V6(destination)) => {
                let icmp = Icmpv6Packet::new_unchecked(&*message);
                (icmp.verify_checksum(&source, &destination), icmp::ECHO_REQUEST_V6)
            }
            _ => return Err(DropReason::OtherProtocol), // of the other family
        };
        match message.first_chunk::<{ icmp::HEADER_BYTES }>() {
            Some(&[kind, 0, ..]) if valid && kind == request => {}
            Some(_) if valid => return Err(DropReason::Icmp),
            _ => return Err(DropReason::Malformed),
        }
        Ok(Echo { source: self.source, destination: self.destination, message })
    }

    fn fragment(self, piece: Piece, payload: &[u8]) -> Result<Packet<'_>, DropReason> {
        let Piece { offset, more, id } = piece;
        // An IPv6 packet is known by less, and the protocol that counts is the first fragment's.
        let protocol = self.source.is_ipv4().then_some(self.protocol);
        let key = Key { source: self.source, destination: self.destination, id, protocol };
        let fragment =
            Fragment { key, protocol: self.protocol, hop_limit: self.hop_limit, offset, more, payload };
        if fragment.is_sound() { Ok(Packet::Fragment(fragment)) } else { Err(DropReason::Fragment) }
    }

    /// A packet that is answered with packet too big, unless such answers are not due to it (RFC 1122, 3.2.2):
    /// an ICMP error, a fragment that does not show what it is.
    fn oversize(self, packet: &[u8], offset: u16) -> Result<Packet<'_>, DropReason> {
        let payload = packet.get(self.header..).unwrap_or_default();
        if offset != 0 || icmp::is_error(self.protocol, payload) {
            return Err(DropReason::TooBig);
        }
        Ok(Packet::TooBig(Oversize { source: self.source, destination: self.destination, packet }))
    }
}

/// Whether `bytes` begin with the whole header of `protocol`.
fn holds_header(protocol: IpProtocol, bytes: &[u8]) -> bool {
    let least = match protocol {
        IpProtocol::Tcp => bytes.get(12).map_or(usize::MAX, |byte| 4 * usize::from(byte >> 4).max(5)),
        IpProtocol::Udp | IpProtocol::Icmp | IpProtocol::Icmpv6 => 8,
        _ => 0,
    };
    bytes.len() >= least
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
