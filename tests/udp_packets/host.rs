//! An app's socket, and a relay that does what the test says.

use std::future::poll_fn;
use std::net::{IpAddr, SocketAddr};
use std::task::{Context, Poll, Waker};

use anytls_mobile::netstack::{Datagram, Fate, Options, UdpFlow};
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{IpProtocol, IpRepr, Ipv4Packet, Ipv6Packet, UdpPacket, UdpRepr};

use crate::rig::{MTU, Rig, Tap, settle};

/// A server, by its last octet.
pub fn server(last: u8) -> SocketAddr {
    ([192, 0, 2, last], 443).into()
}

pub fn server_v6(last: u16) -> SocketAddr {
    (IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, last]), 443).into()
}

/// An app's endpoint, by its port.
pub fn source(port: u16) -> SocketAddr {
    ([10, 0, 0, 2], port).into()
}

/// An app's socket.
pub struct Socket {
    pub tap: Tap,
    pub source: SocketAddr,
}

impl Socket {
    pub fn new(rig: &Rig, port: u16) -> Self {
        Self { tap: rig.tap.clone(), source: source(port) }
    }

    pub fn v6(rig: &Rig, port: u16) -> Self {
        let host = IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0xa]);
        Self { tap: rig.tap.clone(), source: (host, port).into() }
    }

    pub fn send(&self, to: SocketAddr, payload: &[u8]) {
        self.tap.inject(packet(self.source, to, payload));
    }

    /// The next datagram that has come for this socket, and where it seems to be from.
    pub fn take(&self) -> Option<(SocketAddr, Vec<u8>)> {
        let for_us = |packet: &[u8]| see(packet).is_some_and(|(_, to, _)| to == self.source);
        let (from, _, payload) = see(&self.tap.take_if(for_us)?)?;
        Some((from, payload))
    }

    pub fn all(&self) -> Vec<(SocketAddr, Vec<u8>)> {
        std::iter::from_fn(|| self.take()).collect()
    }
}

/// A datagram's packet.
pub fn packet(from: SocketAddr, to: SocketAddr, payload: &[u8]) -> Vec<u8> {
    let udp = UdpRepr { src_port: from.port(), dst_port: to.port() };
    let (source, destination) = (from.ip().into(), to.ip().into());
    let ip = IpRepr::new(source, destination, IpProtocol::Udp, udp.header_len() + payload.len(), 64);
    let mut packet = vec![0; ip.buffer_len()];
    let checksums = ChecksumCapabilities::default();
    ip.emit(&mut packet, &checksums);
    let mut datagram = UdpPacket::new_unchecked(&mut packet[ip.header_len()..]);
    let fill = |space: &mut [u8]| space.copy_from_slice(payload);
    udp.emit(&mut datagram, &source, &destination, payload.len(), fill, &checksums);
    packet
}

/// Source, destination and payload of a packet, if it is a datagram; it must be flawless then.
fn see(packet: &[u8]) -> Option<(SocketAddr, SocketAddr, Vec<u8>)> {
    let (source, destination, protocol, header): (IpAddr, IpAddr, _, _) = match packet[0] >> 4 {
        4 => {
            let ip = Ipv4Packet::new_checked(packet).unwrap();
            assert!(ip.verify_checksum());
            (ip.src_addr().into(), ip.dst_addr().into(), ip.next_header(), 20)
        }
        _ => {
            let ip = Ipv6Packet::new_checked(packet).unwrap();
            (ip.src_addr().into(), ip.dst_addr().into(), ip.next_header(), 40)
        }
    };
    if protocol != IpProtocol::Udp {
        return None;
    }
    let udp = UdpPacket::new_checked(&packet[header..]).unwrap();
    assert!(udp.verify_checksum(&source.into(), &destination.into()));
    let (from, to) = (SocketAddr::new(source, udp.src_port()), SocketAddr::new(destination, udp.dst_port()));
    Some((from, to, udp.payload().to_vec()))
}

impl Rig {
    /// A stack with that fate for every datagram.
    pub fn udp(fate: Fate) -> Self {
        Self::udp_with(fate, Options::default())
    }

    pub fn udp_with(fate: Fate, options: Options) -> Self {
        let rig = Self::with(options, MTU);
        rig.set_fate(fate);
        rig
    }

    pub fn set_fate(&self, fate: Fate) {
        *self.fate.lock().unwrap() = fate;
    }

    /// The next UDP flow, which must have come already.
    pub async fn udp_flow(&mut self) -> UdpFlow {
        settle().await;
        self.udp_flows.try_recv().expect("a flow")
    }

    pub async fn no_udp_flow(&mut self) {
        settle().await;
        assert!(self.udp_flows.try_recv().is_err(), "no flow was expected");
    }

    /// A flow with one datagram, "first", from a socket.
    pub async fn associate(&mut self, port: u16) -> (Socket, UdpFlow) {
        let socket = Socket::new(self, port);
        socket.send(server(1), b"first");
        let mut flow = self.udp_flow().await;
        assert_eq!(take(&mut flow), Some((server(1), b"first".to_vec())));
        (socket, flow)
    }
}

/// Polls for a datagram without waiting.
pub fn poll_recv(flow: &mut UdpFlow) -> Poll<Option<Datagram>> {
    flow.poll_recv(&mut Context::from_waker(Waker::noop()))
}

/// The next datagram, which must have come unless there is none.
pub fn take(flow: &mut UdpFlow) -> Option<(SocketAddr, Vec<u8>)> {
    match poll_recv(flow) {
        Poll::Ready(Some(datagram)) => Some((datagram.destination, datagram.payload.to_vec())),
        Poll::Ready(None) => panic!("the flow has ended"),
        Poll::Pending => None,
    }
}

/// Polls to send without waiting.
pub fn poll_send(flow: &mut UdpFlow, from: SocketAddr, payload: &[u8]) -> Poll<()> {
    flow.poll_send(&mut Context::from_waker(Waker::noop()), from, payload)
}

/// Sends, waiting for room.
pub async fn send(flow: &mut UdpFlow, from: SocketAddr, payload: &[u8]) {
    poll_fn(|cx| flow.poll_send(cx, from, payload)).await;
}

/// Waits for the next datagram or the end.
pub async fn recv(flow: &mut UdpFlow) -> Option<Datagram> {
    poll_fn(|cx| flow.poll_recv(cx)).await
}
