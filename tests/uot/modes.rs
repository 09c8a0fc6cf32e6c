//! Both modes, and how a server's way is found out.

use std::sync::Arc;

use anytls_mobile::client::OpenError;
use anytls_mobile::proto::command::Command;
use anytls_mobile::proto::session::StreamError;
use anytls_mobile::proto::target::Target;
use anytls_mobile::relay::tcp::End;
use anytls_mobile::relay::udp::{Mode, Style};
use anytls_mobile::testserver::{Cut, Faults, FrameRecord, ServerOptions, TestServer, UdpFaults};

use crate::app::{Running, echo, payload, peer};
use crate::client::{client, server_options, start, until};

async fn faulty(udp: UdpFaults) -> TestServer {
    start(ServerOptions { faults: Faults { udp, ..Faults::default() }, ..server_options() }).await
}

fn packet(server: &TestServer, style: &Arc<Style>) -> Running {
    Running::start(&client(server), Mode::Packet, style)
}

#[tokio::test]
async fn datagrams_of_every_size_come_back_in_both_modes_and_families() {
    let server = faulty(UdpFaults::default()).await;
    for at in ["127.0.0.1:0", "[::1]:0"] {
        let echo = echo(at).await;
        for mode in [Mode::Packet, Mode::Connect(Target::from(echo))] {
            let style = Arc::default();
            let running = Running::start(&client(&server), mode.clone(), &style);
            let mut bytes = 0;
            for size in [0, 1, 1472, 9000, 16_384, 65_507, 3] {
                running.exchange(echo, size, 7).await;
                bytes += u64::try_from(size).unwrap();
            }
            assert_eq!(style.is_packet(), mode == Mode::Packet);
            let moved = running.progress.traffic();
            assert_eq!((moved.up(), moved.down()), (bytes, bytes), "payload is what is counted");
            running.app.close();
            assert!(matches!(running.end().await, Ok(End::Finished)));
        }
    }
}

#[tokio::test]
async fn a_first_datagram_of_any_size_arrives_whole() {
    let (server, echo) = (faulty(UdpFaults::default()).await, echo("127.0.0.1:0").await);
    for size in [0, 1, 15_999, 16_000, 16_001, 16_080, 16_340, 16_377, 16_384, 40_000, 65_507] {
        for mode in [Mode::Packet, Mode::Connect(Target::from(echo))] {
            let running = Running::start(&client(&server), mode, &Arc::default());
            running.exchange(echo, size, 1).await;
            running.exchange(echo, 5, 2).await;
        }
    }
}

#[tokio::test]
async fn request_and_first_datagram_leave_in_one_frame_as_far_as_it_holds_them() {
    let (server, echo) = (faulty(UdpFaults::default()).await, echo("127.0.0.1:0").await);
    // The name, mode and destination, address and length.
    const BEFORE: usize = 27 + 1 + 7 + 7 + 2;
    for (size, frames) in [(0, 1), (100, 1), (16_000, 1), (40_000, 3)] {
        let running = packet(&server, &Arc::default());
        running.exchange(echo, size, 1).await;
        let session = server.connections().pop().expect("a session");
        let psh = |frame: &&FrameRecord| frame.command == u8::from(Command::Psh);
        let lengths: Vec<_> = session.received.iter().filter(psh).map(|f| usize::from(f.length)).collect();
        assert_eq!((lengths.len(), lengths.iter().sum()), (frames, BEFORE + size), "{lengths:?}");
    }
}

#[tokio::test]
async fn in_packet_mode_anyone_reaches_the_app_and_in_connect_mode_one_peer_does() {
    let server = faulty(UdpFaults::default()).await;
    let ((first, first_address), (other, other_address)) = (peer().await, peer().await);
    let mut buffer = [0; 100];
    for (mode, is_cone) in [(Mode::Packet, true), (Mode::Connect(first_address.into()), false)] {
        let running = Running::start(&client(&server), mode, &Arc::default());
        running.app.send(first_address, b"hello");
        let (length, us) = first.recv_from(&mut buffer).await.expect("received");
        assert_eq!(&buffer[..length], b"hello");
        let _loopback_delivers_at_once = other.send_to(b"unasked", ("127.0.0.1", us.port())).await;
        first.send_to(b"answer", us).await.expect("sent");
        if is_cone {
            assert_eq!(running.app.recv().await, (other_address.into(), b"unasked".to_vec()));
        }
        assert_eq!(running.app.recv().await, (first_address.into(), b"answer".to_vec()));
    }
}

#[tokio::test]
async fn one_association_reaches_many_destinations_by_address_and_by_name() {
    let server = faulty(UdpFaults::default()).await;
    let (v4, v6) = (echo("127.0.0.1:0").await, echo("[::1]:0").await);
    let running = packet(&server, &Arc::default());
    for round in 0..20 {
        running.exchange(v4, 1000, round).await;
        running.exchange(v6, 1000, round).await;
    }
    let both = echo("[::]:0").await;
    let name: Target = format!("localhost:{}", both.port()).parse().expect("a target");
    running.app.send(name, b"by name");
    assert_eq!(running.app.recv().await.1, b"by name");
}

#[tokio::test]
async fn in_connect_mode_all_datagrams_go_to_the_one_target_which_answers() {
    let server = faulty(UdpFaults::default()).await;
    let echo = echo("[::]:0").await;
    let name: Target = format!("localhost:{}", echo.port()).parse().expect("a target");
    let running = Running::start(&client(&server), Mode::Connect(name.clone()), &Arc::default());
    for fake in ["198.18.0.1:53", "198.18.0.1:53", "198.18.0.2:99"] {
        running.app.send(fake.parse::<Target>().expect("a target"), fake.as_bytes());
        assert_eq!(running.app.recv().await, (name.clone(), fake.as_bytes().to_vec()));
    }
}

#[tokio::test]
async fn only_a_first_datagram_that_may_be_sent_again_is_held_until_an_answer() {
    let server = faulty(UdpFaults::default()).await;
    let (client, mut space) = (client(&server), vec![0; 65_535]);
    let known = Arc::default();
    packet(&server, &known).exchange(echo("127.0.0.1:0").await, 1, 1).await;
    let (peer, address) = peer().await;
    for (mode, style, size, held) in [
        (Mode::Packet, Arc::default(), 16_000, true),
        (Mode::Packet, Arc::default(), 16_001, false),
        (Mode::Packet, known, 1000, false),
        (Mode::Connect(address.into()), Arc::default(), 1000, false),
    ] {
        let running = Running::start(&client, mode, &style);
        running.app.send(address, &payload(size, 1));
        running.app.send(address, b"second");
        let (_, us) = peer.recv_from(&mut space).await.expect("received");
        peer.recv_from(&mut space).await.expect("received");
        assert_eq!(running.app.held(), 0);
        assert_eq!(running.account.held() > size, held, "{size} bytes");
        peer.send_to(b"answer", us).await.expect("sent");
        running.app.recv().await;
        until(|| running.account.held() == 0).await;
    }
}

#[tokio::test]
async fn a_server_without_packet_mode_is_found_out_and_the_first_datagram_is_not_lost() {
    let server = faulty(UdpFaults { socks5_numbering: true, ..UdpFaults::default() }).await;
    let (echo, other) = (echo("127.0.0.1:0").await, echo("127.0.0.1:0").await);
    let style = Arc::default();
    for _ in 0..2 {
        let running = packet(&server, &style);
        running.exchange(echo, 1200, 1).await;
        assert!(style.is_connect_only());
        running.app.send(other, b"for another destination");
        running.exchange(echo, 1201, 2).await;
        assert_eq!(running.progress.traffic().down(), 2401);
        running.app.close();
        assert!(matches!(running.end().await, Ok(End::Finished)));
    }
}

#[tokio::test]
async fn an_ipv6_destination_finds_out_the_servers_way_as_well() {
    let echo = echo("[::1]:0").await;
    for socks5_numbering in [false, true] {
        let server = faulty(UdpFaults { socks5_numbering, ..UdpFaults::default() }).await;
        let style = Arc::default();
        let running = packet(&server, &style);
        running.exchange(echo, 1200, 1).await;
        assert_eq!((style.is_connect_only(), style.is_packet()), (socks5_numbering, !socks5_numbering));
        running.exchange(echo, 1201, 2).await;
    }
}

#[tokio::test]
async fn a_server_that_did_packet_mode_is_not_doubted_when_it_closes_a_stream() {
    let server = faulty(UdpFaults::default()).await;
    let echo = echo("127.0.0.1:0").await;
    let style = Arc::default();
    packet(&server, &style).exchange(echo, 10, 1).await;
    let udp = UdpFaults { max_datagram_bytes: Some(100), ..UdpFaults::default() };
    server.set_faults(Faults { udp, ..Faults::default() });
    let running = packet(&server, &style);
    running.app.send(echo, &payload(101, 1));
    running.app.send(echo, &payload(50, 1));
    let (app, end) = running.finish().await;
    assert!(matches!(end, Ok(End::Finished)), "{end:?}");
    assert!(app.was_refused() && style.is_packet());
}

#[tokio::test]
async fn a_datagram_too_long_for_the_server_says_nothing_about_its_modes() {
    let udp = UdpFaults { max_datagram_bytes: Some(16_384), ..UdpFaults::default() };
    let (server, echo) = (faulty(udp).await, echo("127.0.0.1:0").await);
    for size in [16_385, 65_507] {
        let style = Arc::default();
        let running = packet(&server, &style);
        running.app.send(echo, &payload(size, 1));
        let (app, end) = running.finish().await;
        assert!(matches!(end, Ok(End::Finished)), "{end:?}");
        assert!(app.was_refused() && !style.is_connect_only() && !style.is_packet());
        let running = packet(&server, &style);
        running.exchange(echo, 16_384, 1).await;
    }
}

#[tokio::test]
async fn a_destination_that_is_not_allowed_says_nothing_about_the_servers_modes() {
    let udp = UdpFaults { max_datagram_bytes: Some(0), ..UdpFaults::default() };
    let (server, echo) = (faulty(udp).await, echo("127.0.0.1:0").await);
    let style = Arc::default();
    let running = packet(&server, &style);
    running.app.send(echo, b"closed in both modes");
    let (app, end) = running.finish().await;
    assert!(matches!(end, Ok(End::Finished)), "{end:?}");
    assert!(app.was_refused() && !style.is_connect_only());
}

#[tokio::test]
async fn a_server_without_udp_refuses_the_association() {
    let server = faulty(UdpFaults { refused: true, ..UdpFaults::default() }).await;
    let style = Arc::default();
    let running = packet(&server, &style);
    running.app.send("192.0.2.1:53".parse::<Target>().expect("a target"), b"question");
    let progress = Arc::clone(&running.progress);
    let (app, end) = running.finish().await;
    assert!(matches!(end, Err(OpenError::Stream(StreamError::Refused(_)))), "{end:?}");
    assert!(app.was_refused() && !progress.is_open() && !style.is_connect_only());
    assert_eq!(progress.traffic().up(), 0);
}

#[tokio::test]
async fn a_session_that_dies_says_nothing_about_the_servers_modes() {
    for how in [Cut::Reset, Cut::Fin, Cut::BadMac] {
        let server = faulty(UdpFaults::default()).await;
        let (silent, address) = peer().await;
        let style = Arc::default();
        let running = packet(&server, &style);
        running.app.send(address, b"no answer comes");
        silent.recv_from(&mut [0; 100]).await.expect("received");
        server.cut_sessions(how).await;
        let (app, end) = running.finish().await;
        assert!(matches!(end, Ok(End::Server(_))), "{end:?}");
        assert!(!app.was_refused() && !style.is_connect_only() && !style.is_packet());
    }
}
