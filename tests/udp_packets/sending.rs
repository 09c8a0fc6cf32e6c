//! Towards the app: back-pressure, a device without room, and nobody starved.

use std::task::Poll;
use std::time::Duration;

use anytls_mobile::netstack::{DropReason, Fate};
use tokio::io::AsyncWriteExt;

use crate::app::connect;
use crate::host::{poll_recv, poll_send, send, server};
use crate::rig::{Rig, settle};

#[tokio::test(start_paused = true)]
async fn a_full_queue_holds_the_relay_back_until_it_drains() {
    let mut rig = Rig::udp(Fate::Carry);
    let (socket, mut flow) = rig.associate(5000).await;
    for number in 0..64_u8 {
        assert_eq!(poll_send(&mut flow, server(1), &[number]), Poll::Ready(()));
    }
    assert_eq!(poll_send(&mut flow, server(1), &[64]), Poll::Pending);
    let relay = tokio::spawn(async move {
        for number in 64..200_u8 {
            send(&mut flow, server(1), &[number]).await;
        }
        flow
    });
    settle().await;
    let _flow = relay.await.unwrap();
    settle().await;
    let got: Vec<_> = socket.all().into_iter().map(|(_, payload)| payload[0]).collect();
    assert_eq!(got, (0..200).collect::<Vec<_>>(), "all of them, in order");
    assert_eq!(rig.counters().dropped.total(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_device_without_room_loses_no_datagram() {
    let mut rig = Rig::udp(Fate::Carry);
    let (one, mut first) = rig.associate(5000).await;
    let (two, mut second) = rig.associate(5001).await;
    rig.tap.fill(2);
    for number in 0..10_u8 {
        assert!(poll_send(&mut first, server(1), &[number]).is_ready());
        assert!(poll_send(&mut second, server(1), &[number]).is_ready());
    }
    settle().await;
    assert_eq!(rig.counters().packets_unsent, 1, "nothing more was tried");
    assert!(one.all().is_empty() && two.all().is_empty());
    tokio::time::sleep(Duration::from_millis(30)).await;
    for socket in [one, two] {
        let got: Vec<_> = socket.all().into_iter().map(|(_, payload)| payload[0]).collect();
        assert_eq!(got, (0..10).collect::<Vec<_>>());
    }
    assert_eq!((rig.counters().packets_unsent, rig.counters().dropped.total()), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn a_datagram_that_the_device_never_takes_is_given_up() {
    let mut rig = Rig::udp(Fate::Carry);
    let (socket, mut flow) = rig.associate(5000).await;
    assert!(poll_send(&mut flow, server(1), b"refused").is_ready());
    assert!(poll_send(&mut flow, server(1), b"next").is_ready());
    rig.tap.fill(10);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(socket.all(), [(server(1), b"next".to_vec())]);
    assert_eq!(rig.counters().dropped[DropReason::Unsent], 1);
    assert_eq!(rig.counters().packets_unsent, 10);
}

#[tokio::test(start_paused = true)]
async fn a_device_without_room_for_good_is_not_tried_for_ever() {
    let mut rig = Rig::udp(Fate::Carry);
    let (_socket, mut flow) = rig.associate(5000).await;
    for _ in 0..64 {
        assert!(poll_send(&mut flow, server(1), b"x").is_ready());
    }
    rig.tap.fill(usize::MAX);
    tokio::time::sleep(Duration::from_secs(66)).await;
    assert!(matches!(poll_recv(&mut flow), Poll::Ready(None)), "nothing has left: it is idle");
    let polls = rig.tap.polls();
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert!(rig.tap.polls() - polls <= 1);
}

#[tokio::test(start_paused = true)]
async fn a_flow_sends_no_more_than_its_share_in_a_turn() {
    let mut rig = Rig::udp(Fate::Carry);
    let (socket, mut flow) = rig.associate(5000).await;
    let before = rig.tap.sent_at().len();
    for _ in 0..64 {
        assert!(poll_send(&mut flow, server(1), &[1; 1400]).is_ready());
    }
    settle().await;
    let sent_at = &rig.tap.sent_at()[before..];
    assert_eq!((socket.all().len(), sent_at.len()), (64, 64));
    let first = sent_at.iter().filter(|&&at| at == sent_at[0]).count();
    assert_eq!(first, (64 * 1024_usize).div_ceil(1428), "64 KiB, and the rest in the next turn");
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_datagrams_does_not_starve_a_connection() {
    let mut rig = Rig::udp(Fate::Carry);
    let (mut app, mut stream) = connect(&mut rig, 40_000).await;
    let (_socket, mut flow) = rig.associate(5000).await;
    let flood = tokio::spawn(async move {
        loop {
            send(&mut flow, server(1), &[0; 1400]).await;
        }
    });
    let writer = tokio::spawn(async move {
        stream.write_all(&[1; 300_000]).await.unwrap();
        stream
    });
    // Virtual time stands still while the flood goes on: the connection must move on by turns alone.
    let (mut got, mut turns) = (0, 0);
    while got < 300_000 {
        tokio::task::yield_now().await;
        turns += 1;
        assert!(turns < 5_000, "{got} bytes in {turns} turns");
        while let Some(packet) = rig.tap.take_if(|packet| packet[9] == 6) {
            let seen = crate::app::see(&packet);
            got += seen.payload.len();
            app.ack = seen.seq.wrapping_add(u32::try_from(seen.payload.len()).unwrap());
        }
        rig.tap.clear();
        app.send_ack();
    }
    flood.abort();
    writer.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_flow_that_found_the_device_full_waits_behind_the_others() {
    let mut rig = Rig::udp(Fate::Carry);
    let (_socket, mut first) = rig.associate(5000).await;
    let (_socket, mut second) = rig.associate(5001).await;
    rig.tap.fill(1);
    assert!(poll_send(&mut first, server(1), b"x").is_ready());
    assert!(poll_send(&mut second, server(1), b"x").is_ready());
    tokio::time::sleep(Duration::from_millis(20)).await;
    let ports: Vec<_> = std::iter::from_fn(|| rig.tap.take())
        .map(|packet| u16::from_be_bytes([packet[22], packet[23]]))
        .collect();
    assert_eq!(ports, [5001, 5000]);
}

#[tokio::test(start_paused = true)]
async fn when_connections_found_the_device_full_datagrams_come_first() {
    let mut rig = Rig::udp(Fate::Carry);
    let (_app, mut stream) = connect(&mut rig, 40_000).await;
    let (_socket, mut flow) = rig.associate(5000).await;
    rig.tap.clear();
    rig.tap.fill(1);
    stream.write_all(&[1; 30_000]).await.unwrap();
    assert!(poll_send(&mut flow, server(1), b"x").is_ready());
    tokio::time::sleep(Duration::from_millis(20)).await;
    let protocols: Vec<_> = std::iter::from_fn(|| rig.tap.take()).map(|packet| packet[9]).collect();
    assert!(protocols.starts_with(&[17, 6, 6]), "{protocols:?}");
    assert_eq!(rig.counters().packets_unsent, 1);
}
