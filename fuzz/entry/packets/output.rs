//! What the stack sends: whether it is well-formed, and whom it is for.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};

use smoltcp::wire::{
    Icmpv4Packet, Icmpv6Packet, IpProtocol, Ipv4Packet, Ipv6Packet, TcpPacket, TcpSeqNumber, UdpPacket,
};

use super::craft::Transport;

/// The packets of one run.
pub struct Output {
    mtu: usize,
    pub packets: u64,
    pub bytes: u64,
    /// Those that are TCP.
    pub segments: u64,
    /// Who has sent a packet, and to whom.
    asked: HashSet<(IpAddr, IpAddr)>,
    /// How far both sides of a connection have come.
    connections: HashMap<(SocketAddr, SocketAddr), Position>,
    unfinished: Option<Unfinished>,
    /// Whether the bytes of every connection count up.
    counts_up: bool,
}

#[derive(Clone, Copy)]
struct Position {
    /// What the stack has acknowledged.
    acknowledged: TcpSeqNumber,
    /// Where what it has sent ends.
    sent: TcpSeqNumber,
    /// How far its bytes are from their sequence numbers.
    distance: Option<u8>,
}

/// A packet that leaves in fragments, one after the other.
struct Unfinished {
    id: u32,
    message: Vec<u8>,
}

/// What an IP header says.
struct Ip {
    from: IpAddr,
    to: IpAddr,
    protocol: IpProtocol,
    /// Of a fragment: which packet's, where, and whether more follow.
    fragment: Option<(u32, usize, bool)>,
}

impl Output {
    pub fn new(mtu: usize) -> Self {
        Self {
            mtu,
            packets: 0,
            bytes: 0,
            segments: 0,
            asked: HashSet::new(),
            connections: HashMap::new(),
            unfinished: None,
            counts_up: true,
        }
    }

    /// An app sends this packet, which may be answered.
    pub fn expect_answer(&mut self, packet: &[u8]) {
        let ends = match packet.first().map(|byte| byte >> 4) {
            Some(4) => Ipv4Packet::new_checked(packet).map(|ip| (ip.src_addr().into(), ip.dst_addr().into())),
            Some(6) => Ipv6Packet::new_checked(packet).map(|ip| (ip.src_addr().into(), ip.dst_addr().into())),
            _ => return,
        };
        self.asked.extend(ends);
    }

    /// Nothing is known of the bytes on connections any more.
    pub fn expect_any_bytes(&mut self) {
        self.counts_up = false;
    }

    /// Has an app's segment count from what the stack has acknowledged and sent.
    pub fn continue_connection(&self, packet: &mut [u8]) {
        let Some(found) = Transport::of(packet) else { return };
        let position = found.connection(&packet[found.at..]).and_then(|ends| self.connections.get(&ends));
        let Some(&Position { acknowledged, sent, .. }) = position else { return };
        let mut tcp = TcpPacket::new_unchecked(&mut packet[found.at..]);
        let (seq, ack) = (tcp.seq_number(), tcp.ack_number());
        tcp.set_seq_number(TcpSeqNumber(seq.0.wrapping_add(acknowledged.0)));
        tcp.set_ack_number(TcpSeqNumber(ack.0.wrapping_add(sent.0)));
    }

    /// The stack has sent this packet.
    pub fn see(&mut self, packet: &[u8]) {
        self.packets += 1;
        self.bytes += packet.len() as u64;
        assert!(packet.len() <= self.mtu, "{} bytes", packet.len());
        let (ip, payload) = match packet.first().map(|byte| byte >> 4) {
            Some(4) => read_v4(packet),
            Some(6) => read_v6(packet),
            _ => panic!("no IP: {packet:02x?}"),
        };
        assert!(self.asked.contains(&(ip.to, ip.from)), "{} was not asked by {}", ip.from, ip.to);
        match ip.fragment {
            None => {
                self.unfinished = None; // the device had no room for the rest
                self.see_message(&ip, payload);
            }
            Some((id, offset, more)) => {
                if let Some(whole) = self.join(id, offset, more, payload) {
                    self.see_message(&ip, &whole);
                }
            }
        }
    }

    fn join(&mut self, id: u32, offset: usize, more: bool, payload: &[u8]) -> Option<Vec<u8>> {
        assert!(!payload.is_empty() && (payload.len().is_multiple_of(8) || !more));
        if offset == 0 {
            self.unfinished = Some(Unfinished { id, message: Vec::new() });
        }
        let unfinished = self.unfinished.as_mut().expect("the first fragment leaves first");
        assert_eq!((unfinished.id, unfinished.message.len()), (id, offset));
        unfinished.message.extend(payload);
        if more { None } else { self.unfinished.take().map(|whole| whole.message) }
    }

    fn see_message(&mut self, ip: &Ip, message: &[u8]) {
        match (ip.protocol, ip.from, ip.to) {
            (IpProtocol::Tcp, ..) => self.see_segment(ip, message),
            (IpProtocol::Udp, ..) => {
                let udp = UdpPacket::new_checked(message).expect("a datagram");
                assert_eq!(usize::from(udp.len()), message.len());
                assert!(udp.checksum() != 0 && udp.verify_checksum(&ip.from.into(), &ip.to.into()));
            }
            (IpProtocol::Icmp, IpAddr::V4(_), _) => {
                let icmp = Icmpv4Packet::new_checked(message).expect("a message");
                let kind = (u8::from(icmp.msg_type()), icmp.msg_code());
                assert!(matches!(kind, (0, 0) | (3, 3 | 4)), "{kind:?}");
                assert!(icmp.verify_checksum());
            }
            (IpProtocol::Icmpv6, IpAddr::V6(from), IpAddr::V6(to)) => {
                let icmp = Icmpv6Packet::new_checked(message).expect("a message");
                let kind = (u8::from(icmp.msg_type()), icmp.msg_code());
                assert!(matches!(kind, (129, 0) | (1, 4) | (2, 0)), "{kind:?}");
                assert!(icmp.verify_checksum(&from, &to));
            }
            (protocol, ..) => panic!("{protocol} from {} to {}", ip.from, ip.to),
        }
    }

    fn see_segment(&mut self, ip: &Ip, message: &[u8]) {
        self.segments += 1;
        let tcp = TcpPacket::new_checked(message).expect("a segment");
        assert!(tcp.src_port() != 0 && tcp.dst_port() != 0 && ip.fragment.is_none());
        assert!(tcp.verify_checksum(&ip.from.into(), &ip.to.into()));
        if tcp.rst() {
            return;
        }
        let ends = (SocketAddr::new(ip.to, tcp.dst_port()), SocketAddr::new(ip.from, tcp.src_port()));
        let (acknowledged, sent) = (tcp.ack_number(), tcp.seq_number() + tcp.segment_len());
        let known = self.connections.get(&ends).filter(|_| !tcp.syn()).and_then(|position| position.distance);
        let (mut distance, seq) = (known, tcp.seq_number().0 as u8); // modulo 256, as the bytes count
        if self.counts_up && tcp.payload() != [0] {
            // which would be a keep-alive's
            for (place, byte) in tcp.payload().iter().enumerate() {
                let here = byte.wrapping_sub(seq).wrapping_sub(place as u8);
                assert_eq!(*distance.get_or_insert(here), here, "byte {place} on {ends:?}");
            }
        }
        self.connections.insert(ends, Position { acknowledged, sent, distance });
    }
}

fn read_v4(packet: &[u8]) -> (Ip, &[u8]) {
    let ip = Ipv4Packet::new_checked(packet).expect("a packet");
    assert!(ip.header_len() == 20 && usize::from(ip.total_len()) == packet.len() && ip.hop_limit() > 0);
    assert!(ip.verify_checksum());
    let is_fragment = ip.more_frags() || ip.frag_offset() > 0;
    assert!(!(is_fragment && ip.dont_frag()));
    let place = (ip.ident().into(), ip.frag_offset().into(), ip.more_frags());
    let fragment = is_fragment.then_some(place);
    let (from, to) = (ip.src_addr().into(), ip.dst_addr().into());
    (Ip { from, to, protocol: ip.next_header(), fragment }, &packet[20..])
}

fn read_v6(packet: &[u8]) -> (Ip, &[u8]) {
    let ip = Ipv6Packet::new_checked(packet).expect("a packet");
    assert!(ip.total_len() == packet.len() && ip.hop_limit() > 0);
    let (from, to) = (ip.src_addr().into(), ip.dst_addr().into());
    let (protocol, payload) = (ip.next_header(), &packet[40..]);
    if protocol != IpProtocol::Ipv6Frag {
        return (Ip { from, to, protocol, fragment: None }, payload);
    }
    let (&[next, reserved, high, low, ref id @ ..], rest) =
        payload.split_first_chunk::<8>().expect("a fragment header");
    assert_eq!((reserved, low & 0b110), (0, 0));
    let offset = usize::from(u16::from_be_bytes([high, low & !0b111]));
    let fragment = Some((u32::from_be_bytes(*id), offset, low & 1 != 0));
    (Ip { from, to, protocol: next.into(), fragment }, rest)
}
