//! The relay under load, and at its ends.

use std::io::ErrorKind;
use std::sync::Arc;

use anytls_mobile::proto::target::Target;
use anytls_mobile::relay::tcp::End;
use anytls_mobile::relay::udp::Mode;
use anytls_mobile::testserver::Service;
use tokio::task::JoinSet;

use crate::app::{Running, echo, payload, peer};
use crate::client::{client, server_options, serving, start, until};

#[tokio::test]
async fn two_hundred_associations_at_once_keep_their_datagrams_apart() {
    let server = start(server_options()).await;
    let client = client(&server);
    let (style, mut all) = (Arc::default(), JoinSet::new());
    for seed in 0..200 {
        let echo = echo("127.0.0.1:0").await; // one for all would lose some
        let running = Running::start(&client, Mode::Packet, &style);
        all.spawn(async move {
            for round in 0..10 {
                running.exchange(echo, 1000 + usize::from(seed) * 10 + round, seed).await;
            }
            running.app.close();
            running.end().await
        });
    }
    for end in all.join_all().await {
        assert!(matches!(end, Ok(End::Finished)), "{end:?}");
    }
    until(|| client.stats().active == 0).await;
}

#[tokio::test]
async fn an_app_that_does_not_read_is_waited_for_and_what_it_gets_is_in_order() {
    const ROOM: usize = 3;
    let server = start(server_options()).await;
    let (client, echo) = (client(&server), echo("127.0.0.1:0").await);
    let running = Running::start(&client, Mode::Packet, &Arc::default());
    running.exchange(echo, 0, 0).await;
    running.app.set_room(ROOM);
    for seed in 0..100_u8 {
        running.app.send(echo, &[&[seed][..], &payload(500, seed)].concat());
    }
    until(|| running.app.unsent() == 0).await;
    until(|| running.app.waiting() == ROOM).await;
    for seed in 0..100 {
        let (_, datagram) = running.app.recv().await;
        assert_eq!(datagram, [&[seed][..], &payload(500, seed)].concat());
        assert!(running.app.waiting() <= ROOM);
    }
}

#[tokio::test]
async fn datagrams_that_come_faster_than_a_turn_all_pass() {
    let server = start(server_options()).await;
    let (client, (socket, address)) = (client(&server), peer().await);
    let running = Running::start(&client, Mode::Packet, &Arc::default());
    running.app.set_room(1000);
    running.app.send(address, b"first");
    let (_, us) = socket.recv_from(&mut [0; 10]).await.expect("received");
    until(|| running.progress.is_open()).await;
    for number in 0..150_u8 {
        running.app.send(address, &[number]);
        socket.send_to(&[number], us).await.expect("sent");
    }
    let mut space = [0; 10];
    for number in 0..150_u8 {
        assert_eq!(running.app.recv().await.1, [number]);
        socket.recv_from(&mut space).await.expect("received");
        assert_eq!(space[0], number);
    }
}

#[tokio::test]
async fn an_answer_that_is_no_datagram_is_the_servers_failure() {
    let server = serving(Service::Send(100_000)).await;
    let running = Running::start(&client(&server), Mode::Packet, &Arc::default());
    running.app.send("192.0.2.1:9".parse::<Target>().expect("a target"), b"x");
    // The pattern begins like a datagram: 00, address, port, length.
    let (from, payload) = running.app.recv().await;
    assert_eq!((from.to_string().as_str(), payload.len()), ("1.2.3.4:1286", 0x0708));
    let end = running.end().await;
    assert!(matches!(&end, Ok(End::Server(error)) if error.kind() == ErrorKind::InvalidData), "{end:?}");
}

#[tokio::test]
async fn an_app_that_ends_ends_the_relay_with_or_without_a_stream() {
    let server = serving(Service::Hold).await;
    let client = client(&server);
    let silent = Running::start(&client, Mode::Packet, &Arc::default());
    silent.app.close();
    assert!(matches!(silent.end().await, Ok(End::Finished)));
    assert_eq!(client.stats().dialed, 0, "nothing was asked for");

    let waiting = Running::start(&client, Mode::Packet, &Arc::default());
    waiting.app.send("192.0.2.1:9".parse::<Target>().expect("a target"), b"x");
    until(|| waiting.progress.is_open()).await;
    waiting.app.close();
    let (app, end) = waiting.finish().await;
    assert!(matches!(end, Ok(End::Finished)) && !app.was_refused());
    until(|| client.stats().active == 0).await;
}
