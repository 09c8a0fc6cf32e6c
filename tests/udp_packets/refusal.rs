//! What the server does not take is refused with port unreachable.

use std::time::Duration;

use anytls_mobile::netstack::Fate;
use smoltcp::wire::{IpProtocol, Ipv4Packet, UdpPacket};

use crate::host::{server, source, take};
use crate::rig::{Rig, Tap, settle};

/// The datagrams that the stack's packets quote: destination, length, and start of payload.
fn quoted(tap: &Tap) -> Vec<(std::net::SocketAddr, usize, Vec<u8>)> {
    std::iter::from_fn(|| tap.take())
        .map(|packet| {
            let ip = Ipv4Packet::new_checked(&packet[..]).unwrap();
            assert_eq!(ip.next_header(), IpProtocol::Icmp);
            let quote = Ipv4Packet::new_unchecked(&ip.payload()[8..]);
            assert_eq!((quote.src_addr(), quote.hop_limit()), ([10, 0, 0, 2].into(), 64));
            let udp = UdpPacket::new_unchecked(&ip.payload()[8 + 20..]);
            assert_eq!(udp.src_port(), source(5000).port());
            let start = ip.payload()[8 + 28..].iter().copied().take(4).collect();
            ((quote.dst_addr(), udp.dst_port()).into(), usize::from(udp.len()), start)
        })
        .collect()
}

#[tokio::test(start_paused = true)]
async fn what_waits_and_what_comes_within_a_second_is_refused() {
    let mut rig = Rig::udp(Fate::Carry);
    let (socket, flow) = rig.associate(5000).await;
    socket.send(server(1), b"waits");
    socket.send(server(2), &[7; 1000]);
    settle().await;
    flow.refuse();
    settle().await;
    let expected = [(server(1), 13, b"wait".to_vec()), (server(2), 1008, vec![7; 4])];
    assert_eq!(quoted(&rig.tap), expected);

    tokio::time::sleep(Duration::from_millis(990)).await;
    socket.send(server(3), b"comes");
    rig.no_udp_flow().await;
    assert_eq!(quoted(&rig.tap), [(server(3), 13, b"come".to_vec())]);
    assert_eq!((rig.counters().unreachable_out, rig.counters().udp_flows_total), (3, 1));

    tokio::time::sleep(Duration::from_millis(20)).await;
    socket.send(server(3), b"later");
    assert_eq!(take(&mut rig.udp_flow().await).unwrap().1, b"later");
    assert_eq!(rig.counters().udp_flows_open, 1);
}

#[tokio::test(start_paused = true)]
async fn a_refused_flow_leaves_nothing() {
    let mut rig = Rig::udp(Fate::CarryAlone);
    let (_socket, flow) = rig.associate(5000).await;
    flow.refuse();
    tokio::time::sleep(Duration::from_secs(7)).await;
    let counters = rig.counters();
    assert_eq!((counters.udp_flows_open, counters.udp_flows_expired, counters.unreachable_out), (0, 0, 0));
    assert_eq!(rig.control.memory_held(), 0);
    let polls = rig.tap.polls();
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(rig.tap.polls(), polls);
}

#[tokio::test(start_paused = true)]
async fn refusals_are_limited_with_all_others() {
    let mut rig = Rig::udp(Fate::Carry);
    let (socket, flow) = rig.associate(5000).await;
    for _ in 0..40 {
        socket.send(server(1), b"waits");
    }
    settle().await;
    flow.refuse();
    rig.set_fate(Fate::Refuse);
    for _ in 0..40 {
        socket.send(server(1), b"refused at once");
    }
    settle().await;
    assert_eq!(rig.counters().unreachable_out, 50);
}
