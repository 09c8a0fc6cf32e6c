//! The device, and what is counted and kept on the way to it.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll, ready};

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    IPV4_HEADER_LEN, IpProtocol, IpRepr, TcpPacket, TcpRepr, UDP_HEADER_LEN, UdpPacket,
    checksum::{combine, pseudo_header},
};

use crate::budget::OWED_RESETS;
use crate::netstack::checksum;
use crate::netstack::counters::{Counters, DropReason};
use crate::netstack::fragments::{FRAGMENT_HEADER_BYTES, Place, move_into};
use crate::tun::{Device, MAX_PACKET_BYTES, SendError};

/// The smallest MTU that is used, whatever the device says: every IPv4 host takes 576 bytes, and the
/// subtractions of headers below must leave something.
const MIN_MTU: usize = 576;

/// How often one reset is tried before the device is taken to refuse it.
const MAX_TRIES: u8 = 10;

/// The hop limit of what we make ourselves; the app is one hop away.
pub(super) const HOP_LIMIT: u8 = 64;

/// The IP header for `len` bytes of `protocol`. Both addresses are of one family: a packet had them.
pub(super) fn header(from: SocketAddr, to: SocketAddr, protocol: IpProtocol, len: usize) -> IpRepr {
    IpRepr::new(from.ip().into(), to.ip().into(), protocol, len, HOP_LIMIT)
}

/// The longest payload of a datagram: the length in an IPv4 header counts the header, that in an IPv6 header does
/// not.
pub(super) fn max_payload(to: SocketAddr) -> usize {
    let headers = if to.is_ipv4() { IPV4_HEADER_LEN + UDP_HEADER_LEN } else { UDP_HEADER_LEN };
    usize::from(u16::MAX) - headers
}

/// The device with its packet buffer.
pub(super) struct Wire<D> {
    device: D,
    mtu: usize,
    buffer: Box<[u8]>,
    /// Of the last packet that left as fragments. It is used again 65 536 packets later: the app's system has long
    /// put the one before together, as nothing is lost between here and there.
    id: u32,
    gone: Option<io::Error>,
    congested: bool,
    owed: VecDeque<Owed>,
    pub(super) counters: Counters,
}

struct Owed {
    packet: Vec<u8>,
    tries: u8,
}

impl<D: Device> Wire<D> {
    /// A wire whose fragments are numbered from `id` on.
    pub(super) fn new(device: D, id: u32) -> Self {
        let mtu = device.mtu().clamp(MIN_MTU, MAX_PACKET_BYTES);
        Self {
            device,
            mtu,
            buffer: vec![0; mtu].into(),
            id,
            gone: None,
            congested: false,
            owed: VecDeque::new(),
            counters: Counters::default(),
        }
    }

    pub(super) fn mtu(&self) -> usize {
        self.mtu
    }

    /// Reads the next packet into `buf`; none once the device is gone.
    pub(super) fn poll_recv(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<Option<usize>> {
        Poll::Ready(match ready!(self.device.poll_recv(cx, buf)) {
            Ok(len) => {
                self.counters.packets_in += 1;
                self.counters.bytes_in += len as u64; // usize has at most 64 bits
                Some(len)
            }
            Err(error) => {
                self.gone.get_or_insert(error);
                None
            }
        })
    }

    /// Sends the packet of `len` bytes, at most the MTU, that `fill` writes. Gives whether the device took it.
    pub(super) fn send<R>(&mut self, len: usize, fill: impl FnOnce(&mut [u8]) -> R) -> (R, bool) {
        let packet = &mut self.buffer[..len];
        let result = fill(packet);
        if self.gone.is_some() {
            return (result, false);
        }
        let sent = self.device.send(packet);
        let taken = sent.is_ok();
        match sent {
            Ok(()) => {
                self.counters.packets_out += 1;
                self.counters.bytes_out += len as u64; // usize has at most 64 bits
            }
            Err(SendError::Dropped) => {
                self.counters.packets_unsent += 1;
                self.congested = true;
            }
            Err(SendError::Gone(error)) => self.gone = Some(error),
        }
        (result, taken)
    }

    /// No packet follows for now.
    pub(super) fn flush(&mut self) {
        self.device.flush();
    }

    /// Sends the packet whose payload `fill` writes. Gives whether the device took it.
    pub(super) fn send_packet(&mut self, ip: &IpRepr, fill: impl FnOnce(&mut [u8])) -> bool {
        let emit = |packet: &mut [u8]| {
            ip.emit(&mut *packet, &ChecksumCapabilities::default());
            fill(&mut packet[ip.header_len()..]);
        };
        self.send(ip.buffer_len(), emit).1
    }

    /// Sends a datagram, in fragments if need be; one longer than any packet is dropped and counted. Gives
    /// whether the device took all of it.
    pub(super) fn send_datagram(&mut self, from: SocketAddr, to: SocketAddr, payload: &[u8]) -> bool {
        if payload.len() > max_payload(to) {
            self.drop_for(DropReason::TooBig);
            return false;
        }
        let ip = header(from, to, IpProtocol::Udp, UDP_HEADER_LEN + payload.len());
        let len = ip.payload_len() as u16; // just bounded
        let mut udp = [0; UDP_HEADER_LEN];
        let mut fields = UdpPacket::new_unchecked(&mut udp[..]);
        fields.set_src_port(from.port());
        fields.set_dst_port(to.port());
        fields.set_len(len);
        let sum = !combine(&[
            pseudo_header(&ip.src_addr(), &ip.dst_addr(), IpProtocol::Udp, len.into()),
            checksum::sum(fields.as_ref()),
            checksum::sum(payload),
        ]);
        fields.set_checksum(if sum == 0 { !0 } else { sum }); // 0 means none
        self.send_parts(&ip, &udp, payload)
    }

    /// Sends a packet whose payload is `head` and then `body`, in fragments if it is longer than the MTU. Gives
    /// whether the device took all of it.
    pub(super) fn send_parts(&mut self, ip: &IpRepr, head: &[u8], body: &[u8]) -> bool {
        let mut parts = [head, body];
        if ip.buffer_len() <= self.mtu {
            return self.send_packet(ip, |space| move_into(space, &mut parts));
        }
        self.id = self.id.wrapping_add(1);
        self.counters.packets_fragmented += 1;
        let (id, total) = (self.id, ip.payload_len());
        let extra = match ip {
            IpRepr::Ipv4(_) => 0,
            IpRepr::Ipv6(_) => FRAGMENT_HEADER_BYTES,
        };
        let step = (self.mtu - ip.header_len() - extra) / 8 * 8;
        // The rest is of no use once a fragment is lost.
        (0..total).step_by(step).all(|offset| {
            let len = step.min(total - offset);
            let place = Place { offset: offset as u16, more: offset + len < total, id }; // within a packet
            self.send(ip.header_len() + extra + len, |packet| place.emit(ip, packet, &mut parts)).1
        })
    }

    /// Sends a segment made without a socket. Gives whether the device took it.
    pub(super) fn send_segment(&mut self, ip: &IpRepr, tcp: &TcpRepr<'_>) -> bool {
        self.send_packet(ip, |payload| {
            let mut packet = TcpPacket::new_unchecked(payload);
            tcp.emit(&mut packet, &ip.src_addr(), &ip.dst_addr(), &ChecksumCapabilities::default());
        })
    }

    /// Sends a reset made without a socket, and remembers it when the device has no room.
    pub(super) fn send_reset(&mut self, ip: &IpRepr, tcp: &TcpRepr<'_>) {
        self.counters.resets_out += 1;
        if !self.send_segment(ip, tcp) {
            self.owe(ip.buffer_len());
        }
    }

    /// Remembers the reset just made, of `len` bytes, to be sent again.
    pub(super) fn owe(&mut self, len: usize) {
        if self.owed.len() < OWED_RESETS {
            self.owed.push_back(Owed { packet: self.buffer[..len].to_vec(), tries: 1 });
        }
    }

    /// Tries the packets that are owed, and with that finds out whether the device has room again.
    pub(super) fn retry(&mut self) {
        self.congested = false;
        while let Some(mut owed) = self.owed.pop_front() {
            self.send(owed.packet.len(), |packet| packet.copy_from_slice(&owed.packet));
            if self.congested {
                owed.tries += 1;
                if owed.tries < MAX_TRIES {
                    self.owed.push_front(owed);
                }
                return;
            }
        }
    }

    /// Whether the device dropped a packet since the last [`Wire::retry`].
    pub(super) fn is_congested(&self) -> bool {
        self.congested
    }

    /// Whether the device is gone; if so, why, for the first caller.
    pub(super) fn take_gone(&mut self) -> Option<io::Error> {
        self.gone.take()
    }

    pub(super) fn drop_for(&mut self, reason: DropReason) {
        self.counters.dropped[reason] += 1;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::net::IpAddr;
    use std::sync::{Arc, Mutex};

    use smoltcp::wire::{Ipv4Packet, Ipv6Packet};

    use super::*;

    /// A device that keeps what it is sent, up to a number of packets.
    #[derive(Clone)]
    struct Sink {
        mtu: usize,
        room: usize,
        packets: Arc<Mutex<Vec<Vec<u8>>>>,
    }

    impl Device for Sink {
        fn mtu(&self) -> usize {
            self.mtu
        }

        fn poll_recv(&mut self, _: &mut Context<'_>, _: &mut [u8]) -> Poll<io::Result<usize>> {
            Poll::Pending
        }

        fn send(&mut self, packet: &[u8]) -> Result<(), SendError> {
            let mut packets = self.packets.lock().unwrap();
            if packets.len() == self.room {
                return Err(SendError::Dropped);
            }
            packets.push(packet.to_vec());
            Ok(())
        }
    }

    fn wire(mtu: usize, room: usize) -> (Wire<Sink>, Sink) {
        let sink = Sink { mtu, room, packets: Arc::default() };
        (Wire::new(sink.clone(), u32::MAX - 1), sink)
    }

    fn ends(v6: bool) -> (SocketAddr, SocketAddr) {
        let host = |last| IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, last]);
        if v6 {
            ((host(9), 53).into(), (host(2), 5353).into())
        } else {
            (([192, 0, 2, 9], 53).into(), ([10, 0, 0, 2], 5353).into())
        }
    }

    /// The fragment's identification, offset, whether more follow, and its bytes.
    fn read(packet: &[u8]) -> (u32, usize, bool, &[u8]) {
        let word = |at: usize| u16::from_be_bytes([packet[at], packet[at + 1]]);
        if packet[0] == 0x45 {
            let ip = Ipv4Packet::new_checked(packet).unwrap();
            assert!(ip.verify_checksum() && usize::from(ip.total_len()) == packet.len());
            assert_eq!(ip.next_header(), IpProtocol::Udp);
            assert_eq!(ip.dont_frag(), word(6) & 0x3fff == 0, "whole packets are not to be fragmented");
            (word(4).into(), usize::from(word(6) & 0x1fff) * 8, word(6) & 0x2000 != 0, &packet[20..])
        } else {
            let ip = Ipv6Packet::new_checked(packet).unwrap();
            assert_eq!(ip.total_len(), packet.len());
            if ip.next_header() == IpProtocol::Udp {
                return (0, 0, false, &packet[40..]);
            }
            assert_eq!((packet[6], packet[40], packet[41]), (44, 17, 0));
            let id = u32::from_be_bytes([packet[44], packet[45], packet[46], packet[47]]);
            (id, usize::from(word(42) & !7), word(42) & 1 != 0, &packet[48..])
        }
    }

    #[test]
    fn datagrams_of_every_size_leave_whole_or_in_fragments() {
        for (v6, most) in [(false, 65_507), (true, 65_527)] {
            let (from, to) = ends(v6);
            for mtu in [576, 1280, 1281, 1500, 9000, 65_535] {
                let (mut wire, sink) = wire(mtu, usize::MAX);
                let just = mtu - if v6 { 48 } else { 28 };
                for size in [0, 1, 2, just - 1, just, just + 1, 2 * just, 20_001, most - 1, most] {
                    let size = size.min(most);
                    let payload: Vec<u8> = (0..size).map(|at| (at % 253) as u8).collect();
                    assert!(wire.send_datagram(from, to, &payload));
                    let packets = std::mem::take(&mut *sink.packets.lock().unwrap());
                    assert_eq!(packets.len() == 1, size <= just, "{size} bytes, MTU {mtu}");
                    let mut parts = BTreeMap::new();
                    for packet in &packets {
                        assert!(packet.len() <= mtu);
                        let (id, offset, more, bytes) = read(packet);
                        assert_eq!(id, read(&packets[0]).0);
                        assert_eq!(more, offset != read(&packets[packets.len() - 1]).1);
                        parts.insert(offset, bytes);
                    }
                    let datagram = parts.into_iter().fold(Vec::new(), |mut datagram, (offset, bytes)| {
                        assert_eq!(offset, datagram.len());
                        datagram.extend(bytes);
                        datagram
                    });
                    let udp = UdpPacket::new_checked(&datagram[..]).unwrap();
                    assert!(udp.verify_checksum(&from.ip().into(), &to.ip().into()) && udp.checksum() != 0);
                    assert_eq!((udp.src_port(), udp.dst_port()), (53, 5353));
                    assert!(udp.payload() == payload && datagram.len() == size + 8);
                }
            }
        }
    }

    #[test]
    fn a_datagram_longer_than_any_packet_is_dropped() {
        let (mut wire, sink) = wire(1500, usize::MAX);
        for (v6, size) in [(false, 65_508), (true, 65_528), (false, 70_000), (true, 1 << 20)] {
            let (from, to) = ends(v6);
            assert!(!wire.send_datagram(from, to, &vec![0; size]));
        }
        assert!(sink.packets.lock().unwrap().is_empty());
        assert_eq!(wire.counters.dropped[DropReason::TooBig], 4);
    }

    #[test]
    fn the_rest_of_a_datagram_is_not_sent_once_a_fragment_is_lost() {
        let (mut wire, sink) = wire(1500, 2);
        let (from, to) = ends(false);
        assert!(!wire.send_datagram(from, to, &[0; 60_000]));
        assert_eq!(sink.packets.lock().unwrap().len(), 2);
        assert_eq!((wire.counters.packets_out, wire.counters.packets_unsent), (2, 1));
        assert!(wire.is_congested());
    }

    #[test]
    fn datagrams_in_fragments_have_numbers_of_their_own() {
        for v6 in [false, true] {
            let (mut wire, sink) = wire(1500, usize::MAX);
            let (from, to) = ends(v6);
            for _ in 0..3 {
                wire.send_datagram(from, to, &[0; 2000]);
            }
            let packets = sink.packets.lock().unwrap();
            let ids: Vec<u32> = packets.iter().map(|packet| read(packet).0).collect();
            let last = if v6 { u32::MAX } else { 0xffff };
            assert_eq!(ids, [last, last, 0, 0, 1, 1]);
        }
    }

    #[test]
    fn a_checksum_of_zero_is_written_as_its_complement() {
        let (mut wire, sink) = wire(1500, usize::MAX);
        let (from, to) = ends(false);
        for word in 0..=u16::MAX {
            wire.send_datagram(from, to, &word.to_be_bytes());
        }
        let packets = sink.packets.lock().unwrap();
        assert!(packets.iter().all(|packet| packet[26..28] != [0, 0]));
        let sums: std::collections::HashSet<_> = packets.iter().map(|packet| &packet[26..28]).collect();
        assert_eq!(sums.len(), 0xffff, "every other sum is there");
    }
}
