//! Packets over the MTU that may not be fragmented.

use anytls_mobile::netstack::DropReason;

use crate::craft::{Place, bytes, echo, hosts, icmp, join, packet, sum_icmp, udp};
use crate::echo::all;
use crate::rig::{MTU, Rig};

/// An IPv4 packet that may not be fragmented.
fn whole(mut packet: Vec<u8>) -> Vec<u8> {
    packet[6] |= 0x40;
    packet[10..12].fill(0);
    let sum = crate::craft::checksum(&[&packet[..20]]);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet
}

#[tokio::test(start_paused = true)]
async fn packets_that_are_too_big_are_answered() {
    let rig = Rig::new();
    for v6 in [false, true] {
        let (app, server) = hosts(v6);
        let mut sent = packet(app, server, 17, None, &udp(app, server, &bytes(3000)));
        if !v6 {
            sent = whole(sent);
        }
        rig.tap.inject(sent.clone());
        let answer = join(&all(&rig).await, if v6 { 1280 } else { 576 });
        assert_eq!((answer.from, answer.to, answer.protocol), (server, app, icmp(app)));
        let mut message = answer.payload;
        assert_eq!(message[..2], if v6 { [2, 0] } else { [3, 4] });
        assert_eq!(message[4..8], 1500_u32.to_be_bytes());
        assert!(message.len() > 500 && message[8..] == sent[..message.len() - 8], "the packet is quoted");
        let sum = [message[2], message[3]];
        sum_icmp(server, app, &mut message);
        assert_eq!(message[2..4], sum);
    }
    assert_eq!((rig.counters().dropped[DropReason::TooBig], rig.counters().dropped.total()), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn a_packet_that_may_be_fragmented_is_taken_at_any_length() {
    let rig = Rig::new();
    let (app, server) = hosts(false);
    rig.tap.inject(packet(app, server, 1, None, &echo(app, server, true, &bytes(30_000))));
    let reply = join(&all(&rig).await, MTU);
    assert!(reply.payload == echo(server, app, false, &bytes(30_000)));
}

#[tokio::test(start_paused = true)]
async fn errors_and_later_fragments_are_not_answered() {
    let rig = Rig::new();
    for (v6, errors) in [(false, [3, 4, 5, 11, 12]), (true, [1, 2, 3, 4, 137])] {
        let (app, server) = hosts(v6);
        let prepare = |packet| if v6 { packet } else { whole(packet) };
        for kind in errors {
            let mut message = echo(app, server, true, &bytes(3000));
            message[0] = kind;
            sum_icmp(app, server, &mut message);
            rig.tap.inject(prepare(packet(app, server, icmp(app), None, &message)));
        }
        let place = Place { id: 1, offset: 1480, more: false };
        rig.tap.inject(prepare(packet(app, server, 17, Some(place), &bytes(2000))));
    }
    let (app, server) = hosts(false);
    let to = [224, 0, 0, 1].into();
    rig.tap.inject(whole(packet(app, to, 17, None, &udp(app, to, &bytes(3000)))));
    assert_eq!(all(&rig).await, Vec::<Vec<u8>>::new());
    assert_eq!(rig.counters().dropped[DropReason::TooBig], 12);
    assert_eq!(rig.counters().dropped[DropReason::Multicast], 1);
    // A message that is no error is answered.
    rig.tap.inject(whole(packet(app, server, 1, None, &echo(app, server, true, &bytes(3000)))));
    assert_eq!(all(&rig).await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn answers_are_limited_and_do_not_use_up_those_of_refused_datagrams() {
    let rig = Rig::new();
    let (app, server) = hosts(true);
    for _ in 0..60 {
        rig.tap.inject(packet(app, server, 17, None, &udp(app, server, &bytes(3000))));
        rig.tap.inject(packet(app, server, 17, None, &udp(app, server, b"refused")));
    }
    assert_eq!(all(&rig).await.len(), 100);
    assert_eq!(rig.counters().dropped[DropReason::TooBig], 60);
    assert_eq!(rig.counters().unreachable_out, 50);
}
