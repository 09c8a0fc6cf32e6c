//! Fragments from apps.

use std::net::IpAddr;
use std::time::Duration;

use anytls_mobile::budget::Pressure;
use anytls_mobile::netstack::{DropReason, Options};
use proptest::prelude::*;
use smoltcp::wire::TcpControl;
use tokio::io::AsyncReadExt;

use crate::app::App;
use crate::craft::{Place, UDP, bytes, echo, hosts, icmp, join, packet, split, udp};
use crate::echo::all;
use crate::rig::{MTU, Rig, settle};

#[tokio::test(start_paused = true)]
async fn a_connection_in_fragments_works() {
    for v6 in [false, true] {
        let mut rig = Rig::new();
        let mut app = if v6 { App::v6(&rig.tap, 40_000) } else { App::new(&rig.tap, 40_000) };
        let (from, to) = (app.source.ip(), app.destination.ip());
        let header = if v6 { 40 } else { 20 };
        let mut id = 0;
        let mut inject = |packet: Vec<u8>, step, reverse: bool| {
            id += 1;
            let mut parts = split(from, to, 6, id, step, &packet[header..]);
            assert!(parts.len() > 1);
            if reverse {
                parts.reverse();
            }
            parts.into_iter().for_each(|part| rig.tap.inject(part));
        };
        // A SYN is all header, so it must have some payload to be cut behind it.
        let mut syn = app.syn();
        syn.payload = b"early data, which is not taken";
        inject(app.packet(&syn), 32, v6);
        settle().await;
        app.seq += 1;
        let mut stream = rig.flows.try_recv().expect("a flow").accept();
        app.finish_handshake().await;
        let data = bytes(1400);
        inject(app.packet(&app.segment(TcpControl::Psh, &data)), 200, !v6);
        let mut got = vec![0; data.len()];
        stream.read_exact(&mut got).await.unwrap();
        assert!(got == data);
    }
}

#[tokio::test(start_paused = true)]
async fn datagrams_in_fragments_are_read_whole() {
    for v6 in [false, true] {
        let rig = Rig::new();
        let (app, server) = hosts(v6);
        let most = if v6 { 65_527 } else { 65_507 };
        for (id, size) in [1, 100, 1473, 9000, 50_000, most].into_iter().enumerate() {
            let message = udp(app, server, &bytes(size));
            let step = if size < 1000 { 8 } else { 1448 };
            let mut parts = split(app, server, UDP, id as u32, step, &message);
            parts.rotate_left(1);
            for part in parts {
                rig.tap.inject(part);
            }
            settle().await;
            // Refused, since nobody serves UDP here; with the length of the whole.
            let refusal = join(&all(&rig).await, MTU);
            let quoted = &refusal.payload[8..];
            let at = if v6 { 40 } else { 20 };
            assert!(quoted[at..] == message[..quoted.len() - at], "{size} bytes");
        }
        assert_eq!(rig.counters().packets_reassembled, 6);
        assert_eq!(rig.counters().dropped.total(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn extension_headers_stand_on_both_sides_of_a_fragment_header() {
    let rig = Rig::new();
    let (app, server) = hosts(true);
    let options = |next: u8| [next, 0, 1, 4, 0, 0, 0, 0];
    // Fragmentable: options, then the message.
    let message = [&options(58)[..], &echo(app, server, true, &bytes(2000))].concat();
    for mut part in split(app, server, 60, 9, 1000, &message) {
        // Not fragmentable: hop-by-hop options.
        let mut with = part.split_off(40);
        with.splice(0..0, options(44));
        part[6] = 0;
        part[4..6].copy_from_slice(&u16::try_from(with.len()).unwrap().to_be_bytes());
        part.extend(with);
        rig.tap.inject(part);
    }
    let reply = join(&all(&rig).await, MTU);
    assert_eq!((reply.from, reply.protocol), (server, 58));
    assert!(reply.payload == echo(server, app, false, &bytes(2000)));
}

#[tokio::test(start_paused = true)]
async fn a_fragment_within_a_fragment_is_dropped() {
    let rig = Rig::new();
    let (app, server) = hosts(true);
    let message = echo(app, server, true, &bytes(100));
    let place = |id, offset, more| Some(Place { id, offset, more });
    let inner = packet(app, server, 58, place(1, 0, true), &message[..96]).split_off(40);
    rig.tap.inject(packet(app, server, 44, place(2, 0, true), &inner));
    settle().await;
    assert_eq!(rig.counters().dropped[DropReason::Fragment], 1, "the first fragment shows it");
    // Hidden behind a fragment header that is a whole packet's.
    let atomic = [44, 0, 0, 0, 0, 0, 0, 3];
    let inner = [&atomic[..], &inner].concat();
    rig.tap.inject(packet(app, server, 44, place(4, 0, true), &inner));
    rig.tap.inject(packet(app, server, 44, place(4, inner.len(), false), &[0; 8]));
    assert_eq!(all(&rig).await, Vec::<Vec<u8>>::new());
    assert!(rig.counters().dropped[DropReason::Fragment] > 1);
    assert_eq!(rig.counters().packets_reassembled, 0);
}

#[tokio::test(start_paused = true)]
async fn fragments_that_no_packet_has_are_dropped() {
    let rig = Rig::new();
    let mut count = 0;
    for v6 in [false, true] {
        let (app, server) = hosts(v6);
        let protocol = icmp(app);
        let mut bad = |protocol, offset, more, payload: &[u8]| {
            count += 1;
            rig.tap.inject(packet(app, server, protocol, Some(Place { id: 1, offset, more }), payload));
        };
        bad(protocol, 1480, true, &[0; 1439]); // nothing can follow
        bad(protocol, 1480, true, &[]);
        bad(protocol, 1480, false, &[]);
        bad(protocol, 65_528, false, &[0; 8]); // beyond the longest packet
        bad(protocol, 65_528, true, &[0; 8]);
        // The first without the header by which a packet is judged.
        bad(6, 0, true, &[0; 16]);
        bad(6, 0, true, &[0xf0; 56]); // it says 60 bytes
        if v6 {
            bad(60, 0, true, &[17, 1, 0, 0, 0, 0, 0, 0]); // options that go on
            bad(60, 0, true, &[17, 0, 1, 4, 0, 0, 0, 0]); // and nothing thereafter
        }
    }
    assert_eq!(all(&rig).await, Vec::<Vec<u8>>::new());
    let counters = rig.counters();
    assert_eq!((counters.dropped[DropReason::Fragment], counters.dropped.total()), (count, count));
    assert_eq!(counters.reassembly_bytes, 0, "nothing of it is kept");
}

#[tokio::test(start_paused = true)]
async fn an_overlap_costs_the_packet_and_nothing_else() {
    let rig = Rig::new();
    let (app, server) = hosts(false);
    let ping = echo(app, server, true, &bytes(4000));
    let parts = split(app, server, 1, 1, 1000, &ping);
    let other = split(app, server, 1, 2, 1000, &ping);
    rig.tap.inject(parts[0].clone());
    rig.tap.inject(other[0].clone());
    rig.tap.inject(packet(app, server, 1, Some(Place { id: 1, offset: 8, more: true }), &[0xff; 1000]));
    for part in parts[1..].iter().chain(&other[1..]) {
        rig.tap.inject(part.clone());
    }
    let reply = join(&all(&rig).await, MTU);
    assert!(reply.payload == echo(server, app, false, &bytes(4000)), "the other packet's");
    assert_eq!(rig.counters().dropped[DropReason::FragmentOverlap], parts.len() as u64 + 1);
    tokio::time::sleep(Duration::from_secs(36)).await;
    assert_eq!(rig.counters().reassembly_bytes, 0);
    assert_eq!(rig.counters().dropped.total(), parts.len() as u64 + 1);
}

#[tokio::test(start_paused = true)]
async fn a_missing_fragment_is_waited_for_and_the_rest_forgotten() {
    let rig = Rig::new();
    let (app, server) = hosts(true);
    let parts = split(app, server, 58, 1, 1000, &echo(app, server, true, &bytes(4000)));
    rig.tap.inject(parts[0].clone());
    rig.tap.inject(parts[2].clone());
    settle().await;
    let held = rig.counters().reassembly_bytes;
    assert!((3000..10_000).contains(&held), "{held} bytes are held");
    let polls = rig.tap.polls();
    tokio::time::sleep(Duration::from_secs(29)).await;
    assert!(rig.tap.polls() - polls <= 1, "nothing is done meanwhile");
    assert_eq!(rig.counters().reassembly_bytes, held);
    tokio::time::sleep(Duration::from_secs(7)).await;
    assert_eq!(rig.counters().dropped[DropReason::FragmentTimeout], 2);
    assert_eq!(rig.counters().reassembly_bytes, 0);
    let polls = rig.tap.polls();
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert!(rig.tap.polls() - polls <= 1, "no timer when nothing is held");
}

#[tokio::test(start_paused = true)]
async fn when_memory_is_critically_short_fragments_go() {
    let rig = Rig::new();
    let (app, server) = hosts(true);
    let parts = split(app, server, 58, 1, 1000, &echo(app, server, true, &bytes(4000)));
    rig.tap.inject(parts[0].clone());
    rig.control.set_pressure(Pressure::Low);
    rig.tap.inject(parts[2].clone());
    settle().await;
    assert!(rig.counters().reassembly_bytes > 0);
    rig.control.set_pressure(Pressure::Critical);
    settle().await;
    assert_eq!(rig.counters().reassembly_bytes, 0);
    assert_eq!(rig.counters().dropped[DropReason::FragmentMemory], 2);
    for part in parts {
        rig.tap.inject(part);
    }
    settle().await;
    assert_eq!(rig.counters().echo_replies, 1, "what comes then is still put together");
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_fragments_stays_within_its_limit_and_delays_nobody() {
    let limit = 100_000;
    let rig = Rig::with(Options { reassembly_bytes: limit, ..Options::default() }, MTU);
    let (app, server) = hosts(false);
    for id in 0..5000_u32 {
        let offset = 8 * (id as usize * 37 % 8000);
        let from = IpAddr::from([10, 0, (id % 7) as u8, 2]);
        rig.tap.inject(packet(from, server, 17, Some(Place { id, offset, more: true }), &[1; 8]));
        if id % 500 == 0 {
            // Between them, a ping in fragments.
            for part in split(app, server, 1, 70_000 + id, 1480, &echo(app, server, true, &bytes(10_000))) {
                rig.tap.inject(part);
            }
        }
        if id % 60 == 0 {
            settle().await;
            let held = rig.counters().reassembly_bytes;
            assert!(held <= limit as u64, "{held} bytes are held");
        }
    }
    for _ in 0..20 {
        settle().await;
    }
    assert_eq!(rig.counters().echo_replies, 10);
    assert!(rig.counters().dropped[DropReason::FragmentMemory] > 4000);
}

/// A packet in fragments that are then spoilt in some bytes.
fn spoilt() -> impl Strategy<Value = (bool, usize, usize, Vec<(usize, usize, u8)>)> {
    let edits = prop::collection::vec((0..40_usize, 0..70_usize, any::<u8>()), 0..8);
    (any::<bool>(), 0..12_000_usize, prop_oneof![Just(1448_usize), Just(64), Just(512)], edits)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn spoilt_fragments_harm_nobody(packets in prop::collection::vec(spoilt(), 1..20)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let limit = 40_000;
            let rig = Rig::with(Options { reassembly_bytes: limit, ..Options::default() }, MTU);
            for (id, (v6, size, step, edits)) in packets.into_iter().enumerate() {
                let (app, server) = hosts(v6);
                let message = echo(app, server, true, &bytes(size));
                let mut parts = split(app, server, icmp(app), id as u32 % 3, step, &message);
                for (part, at, byte) in edits {
                    let count = parts.len();
                    let part = &mut parts[part % count];
                    let at = at % part.len();
                    part[at] = byte;
                    if !v6 {
                        // So that it gets beyond the first check.
                        part[10..12].fill(0);
                        let sum = crate::craft::checksum(&[&part[..20]]);
                        part[10..12].copy_from_slice(&sum.to_be_bytes());
                    }
                }
                for part in parts {
                    rig.tap.inject(part);
                }
                settle().await;
                assert!(rig.counters().reassembly_bytes <= limit as u64);
            }
            // The stack is alive.
            settle().await;
            rig.tap.clear();
            let (app, server) = hosts(true);
            // Four bytes of a name that nothing spoilt above can have got by chance.
            for part in split(app, server, icmp(app), 0x4d4e_4f50, 1448, &echo(app, server, true, &bytes(5000))) {
                rig.tap.inject(part);
            }
            assert!(join(&all(&rig).await, MTU).payload == echo(server, app, false, &bytes(5000)));
        });
    }
}
