//! Echo requests, and what else there is of ICMP.

use anytls_mobile::netstack::{DropReason, Options};

use crate::craft::{bytes, echo, hosts, icmp, join, packet, split, sum_icmp};
use crate::rig::{MTU, Rig, settle};

/// Everything that has come.
pub async fn all(rig: &Rig) -> Vec<Vec<u8>> {
    settle().await;
    std::iter::from_fn(|| rig.tap.take()).collect()
}

/// The most that an echo carries.
fn most(v6: bool) -> usize {
    if v6 { 65_535 - 8 } else { 65_535 - 20 - 8 }
}

#[tokio::test(start_paused = true)]
async fn echoes_of_every_size_come_back_as_they_were() {
    for (v6, mtu) in [(false, MTU), (true, MTU), (false, 576), (true, 1280), (false, 9000), (true, 65_535)] {
        let rig = Rig::with(Options::default(), mtu);
        let (app, server) = hosts(v6);
        let extra = if v6 { 48 } else { 28 }; // headers of a packet that just fits
        let step = (mtu - 48) / 8 * 8;
        let sizes =
            [0, 1, 56, mtu - extra - 1, mtu - extra, mtu - extra + 1, 2 * step, 20_000, 60_000, most(v6)];
        for (number, size) in sizes.into_iter().filter(|&size| size <= most(v6)).enumerate() {
            let request = echo(app, server, true, &bytes(size));
            if request.len() + extra - 8 <= mtu {
                rig.tap.inject(packet(app, server, icmp(app), None, &request));
            } else {
                for part in split(app, server, icmp(app), number as u32, step, &request) {
                    rig.tap.inject(part);
                }
            }
            settle().await; // more packets than one turn reads
            let reply = join(&all(&rig).await, mtu);
            assert_eq!((reply.from, reply.to, reply.protocol), (server, app, icmp(app)));
            assert!(reply.payload == echo(server, app, false, &bytes(size)), "{size} bytes, MTU {mtu}");
            let room = (mtu - extra + 8) / 8 * 8;
            assert!(reply.fragments <= (size + 8).div_ceil(room - 8), "no more packets than needed");
        }
        let counters = rig.counters();
        assert!(counters.packets_reassembled <= counters.echo_replies);
        assert_eq!((counters.dropped.total(), counters.reassembly_bytes), (0, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn other_messages_are_counted_and_not_answered() {
    let rig = Rig::new();
    for v6 in [false, true] {
        let (app, server) = hosts(v6);
        for (kind, code) in [(3, 3), (11, 0), (0, 0), (13, 0), (129, 0), (134, 0), (135, 0), (1, 4), (200, 0)]
        {
            let mut message = echo(app, server, true, b"anything");
            (message[0], message[1]) = (kind, code);
            sum_icmp(app, server, &mut message);
            rig.tap.inject(packet(app, server, icmp(app), None, &message));
        }
        // An echo request has code 0.
        let mut message = echo(app, server, true, b"anything");
        message[1] = 1;
        sum_icmp(app, server, &mut message);
        rig.tap.inject(packet(app, server, icmp(app), None, &message));
    }
    let (app, server) = hosts(false);
    rig.tap.inject(packet(app, server, 2, None, &[0x16; 8])); // IGMP
    assert_eq!(all(&rig).await, Vec::<Vec<u8>>::new());
    assert_eq!(rig.counters().dropped[DropReason::Icmp], 2 * 10 + 1);
    assert_eq!(rig.counters().dropped.total(), 2 * 10 + 1);

    for v6 in [false, true] {
        let (app, server) = hosts(v6);
        let message = echo(app, server, true, b"anything");
        for len in 0..8 {
            let mut short = message[..len].to_vec();
            if len >= 4 {
                sum_icmp(app, server, &mut short);
            }
            rig.tap.inject(packet(app, server, icmp(app), None, &short));
        }
        let mut spoilt = message;
        spoilt[10] ^= 1;
        rig.tap.inject(packet(app, server, icmp(app), None, &spoilt));
    }
    assert_eq!(all(&rig).await, Vec::<Vec<u8>>::new());
    assert_eq!(rig.counters().dropped[DropReason::Malformed], 2 * 9);
}

#[tokio::test(start_paused = true)]
async fn echo_requests_to_many_are_not_answered() {
    let networks = vec![([10, 0, 0, 2].into(), 24)];
    let rig = Rig::with(Options { networks, ..Options::default() }, MTU);
    let (app, _) = hosts(false);
    for to in [[224, 0, 0, 1], [255; 4], [10, 0, 0, 255], [10, 0, 0, 0]] {
        let message = echo(app, to.into(), true, b"anyone?");
        rig.tap.inject(packet(app, to.into(), icmp(app), None, &message));
    }
    let (app, _) = hosts(true);
    let to = [0xff02, 0, 0, 0, 0, 0, 0, 1].into();
    rig.tap.inject(packet(app, to, icmp(app), None, &echo(app, to, true, b"anyone?")));
    assert_eq!(all(&rig).await, Vec::<Vec<u8>>::new());
    assert_eq!(rig.counters().dropped[DropReason::Multicast], 5);
}

#[tokio::test(start_paused = true)]
async fn a_reply_that_the_device_cannot_take_is_not_sent_in_part() {
    let rig = Rig::new();
    let (app, server) = hosts(false);
    rig.tap.fill(1);
    for part in split(app, server, icmp(app), 1, 1480, &echo(app, server, true, &bytes(20_000))) {
        rig.tap.inject(part);
    }
    assert_eq!(all(&rig).await, Vec::<Vec<u8>>::new());
    assert_eq!((rig.counters().packets_unsent, rig.counters().packets_out), (1, 0));
}
