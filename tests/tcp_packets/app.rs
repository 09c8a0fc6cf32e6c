//! An app's kernel, played by hand: it sends what the test says and shows what came back.

use std::net::{IpAddr, SocketAddr};

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    IpProtocol, IpRepr, Ipv4Packet, Ipv6Packet, TcpControl, TcpPacket, TcpRepr, TcpSeqNumber,
};

use crate::rig::{Tap, settle};

pub const WINDOW: u16 = 65_535;

/// One connection of an app.
pub struct App {
    pub tap: Tap,
    pub source: SocketAddr,
    pub destination: SocketAddr,
    /// The sequence number of the next byte to send.
    pub seq: u32,
    /// What is acknowledged.
    pub ack: u32,
    pub window: u16,
}

/// A segment from the stack, its checksums verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub source: SocketAddr,
    pub destination: SocketAddr,
    pub control: TcpControl,
    pub seq: u32,
    pub ack: Option<u32>,
    pub window: u16,
    pub window_scale: Option<u8>,
    pub mss: Option<u16>,
    pub sack_permitted: bool,
    pub timestamp: bool,
    pub payload: Vec<u8>,
}

impl App {
    /// A connection from 10.0.0.2:`port` to 192.0.2.1:443.
    pub fn new(tap: &Tap, port: u16) -> Self {
        Self::between(tap, ([10, 0, 0, 2], port).into(), ([192, 0, 2, 1], 443).into())
    }

    pub fn v6(tap: &Tap, port: u16) -> Self {
        let host = |last| IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, last]);
        Self::between(tap, (host(2), port).into(), (host(1), 443).into())
    }

    pub fn between(tap: &Tap, source: SocketAddr, destination: SocketAddr) -> Self {
        Self { tap: tap.clone(), source, destination, seq: 1000, ack: 0, window: WINDOW }
    }

    /// A segment with the current numbers.
    pub fn segment<'a>(&self, control: TcpControl, payload: &'a [u8]) -> TcpRepr<'a> {
        TcpRepr {
            src_port: self.source.port(),
            dst_port: self.destination.port(),
            control,
            seq_number: TcpSeqNumber(self.seq.cast_signed()),
            ack_number: Some(TcpSeqNumber(self.ack.cast_signed())),
            window_len: self.window,
            window_scale: None,
            max_seg_size: None,
            sack_permitted: false,
            sack_ranges: [None; 3],
            timestamp: None,
            payload,
        }
    }

    /// A SYN with the options that everyone sends.
    pub fn syn(&self) -> TcpRepr<'static> {
        TcpRepr {
            ack_number: None,
            window_scale: Some(7),
            max_seg_size: Some(1460),
            sack_permitted: true,
            ..self.segment(TcpControl::Syn, &[])
        }
    }

    /// The packet around a segment.
    pub fn packet(&self, segment: &TcpRepr<'_>) -> Vec<u8> {
        let (from, to) = (self.source.ip().into(), self.destination.ip().into());
        let ip = IpRepr::new(from, to, IpProtocol::Tcp, segment.buffer_len(), 64);
        let checksums = ChecksumCapabilities::default();
        let mut packet = vec![0; ip.buffer_len()];
        ip.emit(&mut packet, &checksums);
        let tcp = &mut packet[ip.header_len()..];
        segment.emit(&mut TcpPacket::new_unchecked(tcp), &from, &to, &checksums);
        packet
    }

    /// Sends a segment as it is.
    pub fn send(&self, segment: &TcpRepr<'_>) {
        self.tap.inject(self.packet(segment));
    }

    /// Sends a SYN and counts it.
    pub fn send_syn(&mut self) {
        self.send(&self.syn());
        self.seq = self.seq.wrapping_add(1);
    }

    /// Sends data and counts it.
    pub fn send_data(&mut self, data: &[u8]) {
        self.send(&self.segment(TcpControl::Psh, data));
        self.seq = self.seq.wrapping_add(data.len() as u32);
    }

    /// Sends a FIN and counts it.
    pub fn send_fin(&mut self) {
        self.send(&self.segment(TcpControl::Fin, &[]));
        self.seq = self.seq.wrapping_add(1);
    }

    pub fn send_ack(&self) {
        self.send(&self.segment(TcpControl::None, &[]));
    }

    pub fn send_rst(&self) {
        self.send(&self.segment(TcpControl::Rst, &[]));
    }

    /// The next segment from the stack, if one has come.
    pub async fn next(&mut self) -> Option<Seen> {
        settle().await;
        self.take()
    }

    fn take(&self) -> Option<Seen> {
        self.tap.take_if(|packet| see(packet).destination == self.source).map(|packet| see(&packet))
    }

    /// The next segment, which must have come, and is acknowledged from now on.
    pub async fn expect(&mut self) -> Seen {
        let seen = self.next().await.expect("a segment");
        assert_eq!(seen.source, self.destination);
        if seen.control != TcpControl::Rst {
            let len = seen.payload.len() + seen.control.len();
            self.ack = seen.seq.wrapping_add(u32::try_from(len).unwrap());
        }
        seen
    }

    /// All segments that have come.
    pub async fn all(&mut self) -> Vec<Seen> {
        settle().await;
        std::iter::from_fn(|| self.take()).collect()
    }

    pub async fn expect_nothing(&mut self) {
        if let Some(seen) = self.next().await {
            panic!("nothing was expected: {seen:?}");
        }
    }

    pub async fn expect_rst(&mut self) -> Seen {
        let seen = self.expect().await;
        assert_eq!(seen.control, TcpControl::Rst, "{seen:?}");
        seen
    }

    /// Takes the SYN-ACK and acknowledges it.
    pub async fn finish_handshake(&mut self) -> Seen {
        let seen = self.expect().await;
        assert_eq!((seen.control, seen.ack), (TcpControl::Syn, Some(self.seq)), "{seen:?}");
        self.send_ack();
        seen
    }
}

/// Reads a packet from the stack, which must be flawless.
pub fn see(packet: &[u8]) -> Seen {
    let (ip, payload): (IpRepr, &[u8]) = match packet[0] >> 4 {
        4 => {
            let ip = Ipv4Packet::new_checked(packet).unwrap();
            assert!(ip.verify_checksum());
            let repr = smoltcp::wire::Ipv4Repr::parse(&ip, &ChecksumCapabilities::default()).unwrap();
            (repr.into(), &packet[usize::from(ip.header_len())..])
        }
        _ => {
            let ip = Ipv6Packet::new_checked(packet).unwrap();
            (smoltcp::wire::Ipv6Repr::parse(&ip).unwrap().into(), &packet[40..])
        }
    };
    assert_eq!(ip.next_header(), IpProtocol::Tcp);
    let tcp = TcpPacket::new_checked(payload).unwrap();
    let caps = ChecksumCapabilities::default();
    let repr = TcpRepr::parse(&tcp, &ip.src_addr(), &ip.dst_addr(), &caps).unwrap();
    Seen {
        source: SocketAddr::new(ip.src_addr().into(), repr.src_port),
        destination: SocketAddr::new(ip.dst_addr().into(), repr.dst_port),
        control: repr.control,
        seq: repr.seq_number.0.cast_unsigned(),
        ack: repr.ack_number.map(|ack| ack.0.cast_unsigned()),
        window: repr.window_len,
        window_scale: repr.window_scale,
        mss: repr.max_seg_size,
        sack_permitted: repr.sack_permitted,
        timestamp: repr.timestamp.is_some(),
        payload: repr.payload.to_vec(),
    }
}

/// An open connection, and the stream at its other end.
pub async fn connect(rig: &mut crate::rig::Rig, port: u16) -> (App, anytls_mobile::netstack::TcpStream) {
    let mut app = App::new(&rig.tap, port);
    app.send_syn();
    let stream = rig.accept().await;
    app.finish_handshake().await;
    settle().await;
    (app, stream)
}
