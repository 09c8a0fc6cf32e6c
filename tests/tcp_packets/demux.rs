//! What is not a flow's segment: malformed, misaddressed, for others, or UDP.

use std::net::{IpAddr, SocketAddr};

use anytls_mobile::netstack::{DropReason, Options};
use proptest::prelude::*;
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    Icmpv4DstUnreachable, Icmpv4Message, Icmpv4Packet, Icmpv6DstUnreachable, Icmpv6Packet, Icmpv6Repr,
    IpAddress, IpProtocol, IpRepr, Ipv4Packet, Ipv6Packet, TcpControl, TcpPacket, TcpRepr, UdpPacket,
    UdpRepr,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::app::{App, connect};
use crate::rig::{MTU, Rig, settle};

fn udp(from: SocketAddr, to: SocketAddr, payload: &[u8]) -> Vec<u8> {
    let repr = UdpRepr { src_port: from.port(), dst_port: to.port() };
    let (source, destination) = (from.ip().into(), to.ip().into());
    let ip = IpRepr::new(source, destination, IpProtocol::Udp, repr.header_len() + payload.len(), 64);
    let mut packet = vec![0; ip.buffer_len()];
    let checksums = ChecksumCapabilities::default();
    ip.emit(&mut packet, &checksums);
    let mut datagram = UdpPacket::new_unchecked(&mut packet[ip.header_len()..]);
    let fill = |buffer: &mut [u8]| buffer.copy_from_slice(payload);
    repr.emit(&mut datagram, &source, &destination, payload.len(), fill, &checksums);
    packet
}

#[tokio::test(start_paused = true)]
async fn udp_over_ipv4_is_answered_with_port_unreachable() {
    let rig = Rig::new();
    let (app, server) = (([10, 0, 0, 2], 5353).into(), ([192, 0, 2, 9], 443).into());
    rig.tap.inject(udp(app, server, &[7; 1200]));
    settle().await;
    let packet = rig.tap.take().unwrap();
    let ip = Ipv4Packet::new_checked(&packet[..]).unwrap();
    assert!(ip.verify_checksum());
    assert_eq!((ip.src_addr().into(), ip.dst_addr().into()), (server.ip(), app.ip()));
    let icmp = Icmpv4Packet::new_checked(ip.payload()).unwrap();
    assert!(icmp.verify_checksum());
    assert_eq!(icmp.msg_type(), Icmpv4Message::DstUnreachable);
    assert_eq!(icmp.msg_code(), u8::from(Icmpv4DstUnreachable::PortUnreachable));
    let quoted = Ipv4Packet::new_unchecked(icmp.data());
    assert!(quoted.verify_checksum());
    assert_eq!(usize::from(quoted.total_len()), 20 + 8 + 1200, "the length of the original");
    assert_eq!((IpAddr::from(quoted.src_addr()), IpAddr::from(quoted.dst_addr())), (app.ip(), server.ip()));
    let data = &icmp.data()[20..];
    assert_eq!(data[..4], [0x14, 0xe9, 0x01, 0xbb], "the ports, by which the kernel finds the socket");
    assert!(packet.len() <= 576);
}

#[tokio::test(start_paused = true)]
async fn udp_over_ipv6_is_answered_with_port_unreachable() {
    let rig = Rig::new();
    let host = |last| IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, last]);
    let (app, server) = (SocketAddr::new(host(2), 5353), SocketAddr::new(host(9), 443));
    rig.tap.inject(udp(app, server, b"quic"));
    settle().await;
    let packet = rig.tap.take().unwrap();
    let ip = Ipv6Packet::new_checked(&packet[..]).unwrap();
    assert_eq!((ip.src_addr().into(), ip.dst_addr().into()), (server.ip(), app.ip()));
    let icmp = Icmpv6Packet::new_checked(ip.payload()).unwrap();
    let caps = ChecksumCapabilities::default();
    let Ok(Icmpv6Repr::DstUnreachable { reason, header, data }) =
        Icmpv6Repr::parse(&ip.src_addr(), &ip.dst_addr(), &icmp, &caps)
    else {
        panic!("unreachable")
    };
    assert_eq!(reason, Icmpv6DstUnreachable::PortUnreachable);
    assert_eq!((IpAddr::from(header.src_addr), IpAddr::from(header.dst_addr)), (app.ip(), server.ip()));
    assert_eq!(data[..4], [0x14, 0xe9, 0x01, 0xbb]);
}

#[tokio::test(start_paused = true)]
async fn answers_to_udp_are_limited() {
    let rig = Rig::new();
    for port in 0..200 {
        rig.tap.inject(udp(([10, 0, 0, 2], 1000 + port).into(), ([192, 0, 2, 9], 443).into(), b"x"));
    }
    settle().await;
    assert_eq!(rig.counters().unreachable_out, 50);
    assert_eq!(rig.counters().dropped[DropReason::Unanswered], 150);
}

#[tokio::test(start_paused = true)]
async fn martians_and_multicasts_are_dropped_without_an_answer() {
    let networks = vec![([10, 0, 0, 2].into(), 24), ([172, 16, 0, 1].into(), 31)];
    let rig = Rig::with(Options { networks, ..Options::default() }, MTU);
    let app = (IpAddr::from([10, 0, 0, 2]), IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, 2]));
    let martian: [IpAddr; 9] = [
        [0, 0, 0, 0].into(),
        [127, 0, 0, 1].into(),
        [240, 0, 0, 1].into(),
        [255, 255, 255, 254].into(),
        app.0,
        [0; 8].into(),
        [0, 0, 0, 0, 0, 0, 0, 1].into(),
        [0xfe80, 0, 0, 0, 0, 0, 0, 7].into(),
        [0, 0, 0, 0, 0, 0xffff, 0x0a00, 1].into(),
    ];
    let many: [IpAddr; 6] = [
        [224, 0, 0, 251].into(),
        [239, 1, 2, 3].into(),
        [255; 4].into(),
        [10, 0, 0, 0].into(),
        [10, 0, 0, 255].into(),
        [0xff02, 0, 0, 0, 0, 0, 0, 0xfb].into(),
    ];
    let send = |from, to| {
        rig.tap.inject(udp(SocketAddr::new(from, 1000), SocketAddr::new(to, 53), b"?"));
        let app = App::between(&rig.tap, SocketAddr::new(from, 1000), SocketAddr::new(to, 80));
        app.send(&app.syn());
        app.send(&app.segment(TcpControl::Psh, b"x"));
    };
    for bad in martian.into_iter().chain(many) {
        let good = if bad.is_ipv4() { app.0 } else { app.1 };
        send(good, bad);
        send(bad, good);
    }
    for _ in 0..3 {
        settle().await;
    }
    assert!(rig.tap.take().is_none());
    // To many is one thing; from many is as odd as from nobody.
    let dropped = rig.counters().dropped;
    assert_eq!(dropped[DropReason::Multicast], 3 * 6);
    assert_eq!(dropped[DropReason::Martian], 3 * (9 * 2 + 6));

    // Both hosts of a network of two, and an IPv4 address of this link's.
    for (from, to) in [([172, 16, 0, 0], [172, 16, 0, 1]), ([169, 254, 0, 1], [10, 0, 1, 255])] {
        rig.tap.inject(udp((from, 1000).into(), (to, 53).into(), b"?"));
    }
    settle().await;
    assert_eq!(rig.counters().unreachable_out, 2);
    assert_eq!(rig.counters().flows_total, 0);
}

#[tokio::test(start_paused = true)]
async fn packets_to_our_own_server_are_dropped() {
    let server: SocketAddr = ([192, 0, 2, 1], 443).into();
    let mut rig = Rig::with(Options { deny: vec![server], ..Options::default() }, MTU);
    let mut app = App::new(&rig.tap, 40_000);
    app.send_syn();
    rig.tap.inject(udp(app.source, server, b"x"));
    rig.no_flow().await;
    app.expect_nothing().await;
    assert_eq!(rig.counters().dropped[DropReason::OwnServer], 2);
    // Another port of the same host is any destination.
    let mut other = App::between(&rig.tap, app.source, ([192, 0, 2, 1], 80).into());
    other.send_syn();
    rig.flow().await.refuse();
    // The server moves.
    rig.control.set_deny(vec![([192, 0, 2, 1], 80).into()]);
    settle().await;
    app.seq = 1000;
    app.send_syn();
    let _stream = rig.accept().await;
    other.send(&other.syn());
    rig.no_flow().await;
}

/// Extension headers between the IPv6 header and the segment.
fn extended(packet: &[u8], headers: &[(IpProtocol, Vec<u8>)]) -> Vec<u8> {
    let mut extended = packet[..40].to_vec();
    let kinds = headers.iter().map(|(kind, _)| *kind).chain([IpProtocol::Tcp]);
    let kinds: Vec<u8> = kinds.map(u8::from).collect();
    extended[6] = kinds[0];
    for ((_, header), next) in headers.iter().zip(&kinds[1..]) {
        let at = extended.len();
        extended.extend(header);
        extended[at] = *next;
    }
    extended.extend(&packet[40..]);
    let len = u16::try_from(extended.len() - 40).unwrap();
    extended[4..6].copy_from_slice(&len.to_be_bytes());
    extended
}

#[tokio::test(start_paused = true)]
async fn extension_headers_are_walked_over() {
    let options = |len: u8| {
        let mut header = vec![0; 8 + 8 * usize::from(len)];
        (header[1], header[2], header[3]) = (len, 1, u8::try_from(header.len() - 4).unwrap());
        header
    };
    let chain = [
        (IpProtocol::HopByHop, options(0)),
        (IpProtocol::Ipv6Opts, options(3)),
        (IpProtocol::Ipv6Route, vec![0, 0, 4, 0, 0, 0, 0, 0]),
        (IpProtocol::Ipv6Frag, vec![0, 0, 0, 0, 1, 2, 3, 4]), // atomic: the whole packet
    ];
    let mut rig = Rig::new();
    let mut app = App::v6(&rig.tap, 40_000);
    rig.tap.inject(extended(&app.packet(&app.syn()), &chain));
    app.seq += 1;
    let mut stream = rig.accept().await;
    assert_eq!(app.expect().await.control, TcpControl::Syn);
    rig.tap.inject(extended(&app.packet(&app.segment(TcpControl::Psh, b"hello")), &chain[1..2]));
    let mut buf = [0; 5];
    stream.read_exact(&mut buf).await.unwrap();
    assert_eq!(&buf, b"hello");

    let dropped = |header: (IpProtocol, Vec<u8>)| {
        let other = App::v6(&rig.tap, 50_000);
        rig.tap.inject(extended(&other.packet(&other.syn()), &[header]));
    };
    dropped((IpProtocol::Ipv6Route, vec![0, 0, 4, 1, 0, 0, 0, 0])); // not there yet
    dropped((IpProtocol::HopByHop, vec![0, 200, 0, 0, 0, 0, 0, 0])); // longer than the packet
    dropped((IpProtocol::IpSecAh, vec![0; 8])); // not ours to open
    rig.no_flow().await;
    let dropped = rig.counters().dropped;
    assert_eq!((dropped[DropReason::Malformed], dropped[DropReason::OtherProtocol]), (2, 1));
    let endless = vec![(IpProtocol::Ipv6Opts, options(0)); 20];
    let other = App::v6(&rig.tap, 50_000);
    rig.tap.inject(extended(&other.packet(&other.syn()), &endless));
    rig.no_flow().await;
    assert_eq!(rig.counters().dropped[DropReason::Malformed], 3);
}

#[tokio::test(start_paused = true)]
async fn malformed_packets_are_dropped_and_counted() {
    let mut rig = Rig::new();
    let app = App::new(&rig.tap, 40_000);
    let good = app.packet(&app.syn());
    let mut bad: Vec<Vec<u8>> = (0..good.len()).map(|len| good[..len].to_vec()).collect();
    // Any one bit of a header changed: some checksum no longer matches, or nothing does.
    for bit in 0..good.len() * 8 {
        let mut packet = good.clone();
        packet[bit / 8] ^= 1 << (bit % 8);
        bad.push(packet);
    }
    let count = bad.len() as u64;
    for packet in bad {
        rig.tap.inject(packet);
    }
    for _ in 0..20 {
        settle().await;
    }
    rig.no_flow().await;
    assert!(rig.tap.take().is_none());
    assert_eq!(rig.counters().dropped.total(), count);
    let count = rig.counters().dropped[DropReason::Malformed];

    // Two directions at once, and no port.
    for (flags, port) in [(0x03, 443), (0x06, 443), (0x05, 443), (0x02, 0)] {
        let mut packet = good.clone();
        packet[33] = flags;
        let mut tcp = TcpPacket::new_unchecked(&mut packet[20..]);
        tcp.set_dst_port(port);
        tcp.fill_checksum(&app.source.ip().into(), &app.destination.ip().into());
        rig.tap.inject(packet);
    }
    rig.no_flow().await;
    assert_eq!(rig.counters().dropped[DropReason::Malformed], count + 4);

    // Bytes after the packet's end are none of its business.
    let mut long = good;
    long.extend([9; 30]);
    rig.tap.inject(long);
    rig.flow().await.refuse();
}

#[tokio::test(start_paused = true)]
async fn other_protocols_are_dropped() {
    let mut rig = Rig::new();
    for app in [App::new(&rig.tap, 40_000), App::v6(&rig.tap, 40_000)] {
        // SCTP, no next header, ESP, and the other family's ICMP.
        let icmp = if app.source.is_ipv4() { 58 } else { 1 };
        for protocol in [132, 59, 50, icmp] {
            let mut packet = app.packet(&app.syn());
            if app.source.is_ipv4() {
                packet[9] = protocol;
                Ipv4Packet::new_unchecked(&mut packet[..]).fill_checksum();
            } else {
                packet[6] = protocol;
            }
            rig.tap.inject(packet);
        }
    }
    rig.no_flow().await;
    let dropped = rig.counters().dropped;
    assert_eq!((dropped[DropReason::OtherProtocol], dropped.total()), (8, 8));
    assert!(rig.tap.take().is_none());
}

#[tokio::test(start_paused = true)]
async fn only_ipv4_datagrams_go_without_a_checksum() {
    let rig = Rig::new();
    let host = |last| IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, last]);
    let mut v4 = udp(([10, 0, 0, 2], 1000).into(), ([192, 0, 2, 9], 443).into(), b"x");
    let mut v6 = udp((host(2), 1000).into(), (host(9), 443).into(), b"x");
    v4[26..28].fill(0);
    v6[46..48].fill(0);
    rig.tap.inject(v4);
    rig.tap.inject(v6);
    settle().await;
    assert_eq!((rig.counters().unreachable_out, rig.counters().dropped[DropReason::Malformed]), (1, 1));
}

/// A segment with anything in it, near an open connection's numbers or far from them.
#[derive(Clone, Debug)]
struct Wild {
    flags: u8,
    seq: i32,
    ack: i32,
    window: u16,
    options: Vec<u8>,
    payload: usize,
    flow: bool,
    /// A byte to be spoilt after the checksums are made.
    spoilt: Option<(usize, u8)>,
}

fn wild() -> impl Strategy<Value = Wild> {
    let number = || prop_oneof![-5..5_i32, -70_000..600_000_i32, any::<i32>(), Just(i32::MIN)];
    (
        prop_oneof![Just(0x10_u8), Just(0x18), Just(0x11), any::<u8>()],
        number(),
        number(),
        any::<u16>(),
        prop::collection::vec(any::<u8>(), 0..=40),
        prop_oneof![Just(0_usize), 1..1400_usize],
        prop::bool::weighted(0.9),
        prop::option::weighted(0.2, (0..100_usize, any::<u8>())),
    )
        .prop_map(|(flags, seq, ack, window, options, payload, flow, spoilt)| Wild {
            flags,
            seq,
            ack,
            window,
            options,
            payload,
            flow,
            spoilt,
        })
}

impl Wild {
    fn packet(&self, app: &App) -> Vec<u8> {
        let options = self.options.len() / 4 * 4;
        let payload = vec![5; options + self.payload];
        let mut packet = app.packet(&TcpRepr { payload: &payload, ..app.segment(TcpControl::None, &[]) });
        let (from, to): (IpAddress, IpAddress) = (app.source.ip().into(), app.destination.ip().into());
        packet[40..40 + options].copy_from_slice(&self.options[..options]);
        packet[33] = self.flags;
        let mut tcp = TcpPacket::new_unchecked(&mut packet[20..]);
        tcp.set_header_len(20 + u8::try_from(options).unwrap());
        tcp.set_seq_number(smoltcp::wire::TcpSeqNumber(app.seq.cast_signed().wrapping_add(self.seq)));
        tcp.set_ack_number(smoltcp::wire::TcpSeqNumber(app.ack.cast_signed().wrapping_add(self.ack)));
        tcp.set_window_len(self.window);
        tcp.fill_checksum(&from, &to);
        if let Some((at, byte)) = self.spoilt {
            let at = at % packet.len();
            packet[at] = byte;
        }
        packet
    }
}

/// Throws wild segments at a connection in some state of its life; the stack must live and stay bounded.
async fn endure(segments: Vec<Wild>, life: usize) {
    let options = Options { memory_bytes: 1 << 20, max_flows: 64, ..Options::default() };
    let mut rig = Rig::with(options, MTU);
    let (app, mut stream) = connect(&mut rig, 40_000).await;
    let stray = App::new(&rig.tap, 40_001);
    let mut held = vec![];
    if life & 1 != 0 {
        let _ = stream.write_all(&[1; 5000]).await;
    }
    if life & 2 != 0 {
        let _ = stream.shutdown().await;
    }
    let mut stream = Some(stream);
    if life & 4 != 0 {
        stream = None;
    }
    for (number, segment) in segments.iter().enumerate() {
        rig.tap.inject(segment.packet(if segment.flow { &app } else { &stray }));
        if number % 3 == 0 {
            settle().await;
        }
        if let Ok(flow) = rig.flows.try_recv() {
            held.push(flow.accept());
        }
        if let Some(stream) = &mut stream
            && number % 5 == 0
        {
            let mut buf = [0; 3000];
            let _ = tokio::time::timeout(std::time::Duration::from_millis(1), stream.read(&mut buf)).await;
        }
    }
    tokio::time::sleep(std::time::Duration::from_secs(10)).await;
    assert!(!rig.task.is_finished(), "the stack lives");
    assert!(rig.counters().memory_bytes <= 1 << 20);
    assert!(rig.counters().flows_open <= 64);
    drop((stream, held));
    tokio::time::sleep(std::time::Duration::from_secs(300)).await;
    while let Ok(flow) = rig.flows.try_recv() {
        flow.refuse();
    }
    settle().await;
    assert_eq!(rig.counters().flows_open, 0, "nothing is left behind");
    connect(&mut rig, 50_000).await;
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn no_segment_harms_the_stack(segments in prop::collection::vec(wild(), 1..40), life in 0..8_usize) {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(endure(segments, life));
    }
}
