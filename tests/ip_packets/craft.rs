//! Packets made and read by hand, independently of what is tested.

use std::collections::BTreeMap;
use std::net::IpAddr;

pub const ICMP: u8 = 1;
pub const UDP: u8 = 17;
pub const ICMPV6: u8 = 58;

/// The app's address and some server's, of one family.
pub fn hosts(v6: bool) -> (IpAddr, IpAddr) {
    let host = |last| IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, last]);
    if v6 { (host(2), host(9)) } else { ([10, 0, 0, 2].into(), [192, 0, 2, 9].into()) }
}

pub fn bytes(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at % 251) as u8).collect()
}

/// The Internet checksum of `parts`, each of even length but the last.
pub fn checksum(parts: &[&[u8]]) -> u16 {
    let mut sum = 0_u64;
    for word in parts.iter().flat_map(|part| part.chunks(2)) {
        sum += u64::from(word[0]) << 8 | u64::from(word.get(1).copied().unwrap_or(0));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// What UDP and ICMPv6 sum before the message.
pub fn pseudo_header(from: IpAddr, to: IpAddr, protocol: u8, len: usize) -> Vec<u8> {
    let mut header = [octets(from), octets(to)].concat();
    header.extend(u32::try_from(len).unwrap().to_be_bytes());
    header.extend([0, 0, 0, protocol]);
    header
}

/// An ICMP echo request or reply of the family of the addresses.
pub fn echo(from: IpAddr, to: IpAddr, request: bool, data: &[u8]) -> Vec<u8> {
    let kind = match (from, request) {
        (IpAddr::V4(_), true) => 8,
        (IpAddr::V4(_), false) => 0,
        (IpAddr::V6(_), true) => 128,
        (IpAddr::V6(_), false) => 129,
    };
    let mut message = vec![kind, 0, 0, 0, 0x12, 0x34, 0, 7];
    message.extend(data);
    sum_icmp(from, to, &mut message);
    message
}

/// Sets an ICMP message's checksum.
pub fn sum_icmp(from: IpAddr, to: IpAddr, message: &mut [u8]) {
    message[2..4].fill(0);
    let pseudo = if from.is_ipv4() { vec![] } else { pseudo_header(from, to, ICMPV6, message.len()) };
    let sum = checksum(&[&pseudo, message]);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
}

/// ICMP's protocol number of the family.
pub fn icmp(address: IpAddr) -> u8 {
    if address.is_ipv4() { ICMP } else { ICMPV6 }
}

/// A UDP header and payload.
pub fn udp(from: IpAddr, to: IpAddr, payload: &[u8]) -> Vec<u8> {
    let len = payload.len() + 8;
    let mut message = vec![0x10, 0, 0x20, 0];
    message.extend(u16::try_from(len).unwrap().to_be_bytes());
    message.extend([0, 0]);
    message.extend(payload);
    let sum = checksum(&[&pseudo_header(from, to, UDP, len), &message]);
    message[6..8].copy_from_slice(&sum.to_be_bytes());
    message
}

/// A fragment's place.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    pub id: u32,
    pub offset: usize,
    pub more: bool,
}

/// A packet of `protocol`; with a place, a fragment of one.
pub fn packet(from: IpAddr, to: IpAddr, protocol: u8, place: Option<Place>, payload: &[u8]) -> Vec<u8> {
    let mut packet = if from.is_ipv4() {
        let total = u16::try_from(20 + payload.len()).unwrap();
        let mut header = vec![0x45, 0];
        header.extend(total.to_be_bytes());
        let place = place.unwrap_or(Place { id: 0, offset: 0, more: false });
        header.extend((place.id as u16).to_be_bytes());
        header.extend((((place.offset / 8) as u16) | u16::from(place.more) << 13).to_be_bytes());
        header.extend([64, protocol, 0, 0]);
        header.extend([octets(from), octets(to)].concat());
        let sum = checksum(&[&header]);
        header[10..12].copy_from_slice(&sum.to_be_bytes());
        header
    } else {
        let extension = place.map(|place| {
            let mut header = vec![protocol, 0];
            header.extend((place.offset as u16 | u16::from(place.more)).to_be_bytes());
            header.extend(place.id.to_be_bytes());
            header
        });
        let next = if extension.is_some() { 44 } else { protocol };
        let extension = extension.unwrap_or_default();
        let mut header = vec![0x60, 0, 0, 0];
        header.extend(u16::try_from(extension.len() + payload.len()).unwrap().to_be_bytes());
        header.extend([next, 64]);
        header.extend([octets(from), octets(to)].concat());
        header.extend(extension);
        header
    };
    packet.extend(payload);
    packet
}

/// The packet's fragments of `step` bytes each.
pub fn split(from: IpAddr, to: IpAddr, protocol: u8, id: u32, step: usize, payload: &[u8]) -> Vec<Vec<u8>> {
    let parts = payload.chunks(step).enumerate();
    parts
        .map(|(number, part)| {
            let offset = number * step;
            let place = Place { id, offset, more: offset + part.len() < payload.len() };
            packet(from, to, protocol, Some(place), part)
        })
        .collect()
}

/// A whole packet as a host understands it.
#[derive(Debug, PartialEq, Eq)]
pub struct Whole {
    pub from: IpAddr,
    pub to: IpAddr,
    pub protocol: u8,
    pub payload: Vec<u8>,
    /// How many packets it came in.
    pub fragments: usize,
}

/// Puts packets from the stack together, which are fragments of one packet, or one packet.
pub fn join(packets: &[Vec<u8>], mtu: usize) -> Whole {
    let mut parts = BTreeMap::new();
    let mut last = None;
    let mut names = Vec::new();
    for packet in packets {
        assert!(packet.len() <= mtu, "{} bytes", packet.len());
        let (name, place, payload) = read(packet);
        names.push(name);
        let end = place.offset + payload.len();
        if !place.more {
            assert!(last.replace(end).is_none(), "one last fragment");
        } else {
            assert!(payload.len() % 8 == 0, "the next begins at a multiple of 8");
        }
        parts.insert(place.offset, payload);
    }
    names.dedup();
    let &[(from, to, protocol, _)] = &names[..] else { panic!("of one packet: {names:?}") };
    let mut payload = Vec::new();
    for (offset, part) in parts {
        assert_eq!(offset, payload.len(), "no gap, no overlap");
        payload.extend(part);
    }
    assert_eq!(last, Some(payload.len()));
    Whole { from, to, protocol, payload, fragments: packets.len() }
}

type Name = (IpAddr, IpAddr, u8, u32);

/// Whose packet this is, which part, and its payload.
fn read(packet: &[u8]) -> (Name, Place, Vec<u8>) {
    let word = |at: usize| u16::from_be_bytes([packet[at], packet[at + 1]]);
    if packet[0] == 0x45 {
        assert_eq!(checksum(&[&packet[..20]]), 0);
        assert_eq!(usize::from(word(2)), packet.len());
        let address = |at: usize| IpAddr::from(<[u8; 4]>::try_from(&packet[at..at + 4]).unwrap());
        let (id, flags) = (word(4).into(), word(6));
        let place = Place { id, offset: usize::from(flags & 0x1fff) * 8, more: flags & 0x2000 != 0 };
        let whole = place.offset == 0 && !place.more;
        assert_eq!(flags & 0x4000 != 0, whole, "only whole packets are not to be fragmented");
        ((address(12), address(16), packet[9], id), place, packet[20..].to_vec())
    } else {
        assert_eq!(packet[0] >> 4, 6);
        assert_eq!(usize::from(word(4)), packet.len() - 40);
        let address = |at: usize| IpAddr::from(<[u8; 16]>::try_from(&packet[at..at + 16]).unwrap());
        let (from, to) = (address(8), address(24));
        if packet[6] != 44 {
            let place = Place { id: 0, offset: 0, more: false };
            return ((from, to, packet[6], 0), place, packet[40..].to_vec());
        }
        assert_eq!((packet[41], word(42) & 6), (0, 0), "reserved");
        let id = u32::from_be_bytes(packet[44..48].try_into().unwrap());
        let place = Place { id, offset: usize::from(word(42) & !7), more: word(42) & 1 != 0 };
        ((from, to, packet[40], id), place, packet[48..].to_vec())
    }
}
