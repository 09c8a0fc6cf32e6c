//! More streams than sessions.

use std::sync::Arc;

use anytls_mobile::client::Stream;
use anytls_mobile::proto::command::Command;
use anytls_mobile::proto::target::Target;
use anytls_mobile::testserver::{Faults, ServerOptions, TestServer};
use anytls_mobile::tunnel::Tunnel;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;
use tokio::time::{Duration, sleep, timeout};

use crate::rig::*;

fn two_sessions() -> Value {
    json!({ "ensure_idle_session": 0, "max_sessions": 2, "heartbeat": "0" })
}

/// Answers of the server that refuse a stream.
fn refused(server: &TestServer) -> usize {
    let is_refusal = |frame: &&anytls_mobile::testserver::FrameRecord| {
        frame.command == u8::from(Command::SynAck) && frame.length > 0
    };
    server.connections().iter().map(|seen| seen.sent.iter().filter(is_refusal).count()).sum()
}

/// Ten apps at once, each of which is done after a while.
async fn ten_exchanges(tunnel: &Arc<Tunnel>, target: &Target) {
    let mut apps = JoinSet::new();
    for number in 0..10 {
        let (tunnel, target) = (Arc::clone(tunnel), target.clone());
        apps.spawn(async move {
            let stream = guarded("a stream", tunnel.open(&target, b"")).await;
            let mut stream = stream.unwrap_or_else(|error| panic!("app {number}: {error:?}"));
            exchange(&mut stream, format!("hello from {number}").as_bytes()).await;
            sleep(Duration::from_millis(20)).await; // so that the others meet it
        });
    }
    guarded("all ten", apps.join_all()).await;
}

#[tokio::test]
async fn ten_streams_at_once_share_two_sessions() {
    let server = start_server(server_options()).await;
    let tunnel = start_tunnel(config(server.address(), two_sessions())).await;
    let mut streams = Vec::new();
    for _ in 0..10 {
        streams.push(open(&tunnel, ECHO).await);
    }
    for (number, stream) in streams.iter_mut().enumerate() {
        exchange(stream, format!("hello from {number}").as_bytes()).await;
    }
    let opened = received(&server, Command::Syn);
    assert_eq!(opened, [5, 5]);
    assert_eq!((stats(&tunnel).dialed, stats(&tunnel).shared), (2, 8));
    drop(streams);
    until_idle(&tunnel, 2).await;
    tunnel.stop().await;
}

#[tokio::test]
async fn a_server_that_takes_one_stream_a_session_is_asked_to_share_once() {
    let faults = Faults { one_stream_a_session: true, ..Faults::default() };
    let server = start_server(ServerOptions { faults, ..server_options() }).await;
    let tunnel = Arc::new(start_tunnel(config(server.address(), two_sessions())).await);
    ten_exchanges(&tunnel, &target(ECHO)).await;
    println!("{:?}", stats(&tunnel));
    assert_eq!(server.connections().len(), 2);
    assert!(refused(&server) <= 1, "asked {} times", refused(&server));
    let before = refused(&server);
    ten_exchanges(&tunnel, &target(ECHO)).await;
    assert_eq!(refused(&server), before, "it is known by now");
    tunnel.stop().await;
}

#[test]
fn ten_streams_through_two_sessions_of_real_servers_all_complete() {
    each_real_server(async |name, server| {
        let echo = start_echo().await;
        let tunnel = Arc::new(start_tunnel(config(server.address, two_sessions())).await);
        for _ in 0..3 {
            ten_exchanges(&tunnel, &echo).await;
        }
        let log = server.process.log();
        let refusals = log.matches("stream limit").count();
        println!("{name}: {refusals} refusals logged, {:?}", stats(&tunnel));
        // anytls-server may still count a stream that has ended, so that another session takes the place.
        let stats = stats(&tunnel);
        assert_eq!((stats.closed, stats.dialed), (stats.closed_memory, 2 + stats.closed), "{stats:?}");
        assert!(stats.closed < 30 && (name != "anytls-server" || stats.shared == 1), "{stats:?}");
        tunnel.stop().await;
    });
}

#[tokio::test]
async fn an_app_that_stands_still_holds_up_the_streams_of_its_own_session_only() {
    let server = start_server(server_options()).await;
    let tunnel = start_tunnel(config(server.address(), two_sessions())).await;
    let mut still = open(&tunnel, ECHO).await;
    let mut second = open(&tunnel, ECHO).await;
    let mut neighbour = open(&tunnel, ECHO).await;
    let mut fourth = open(&tunnel, ECHO).await;
    assert_eq!(received(&server, Command::Syn), [2, 2]);

    // Until neither side takes any more, since nobody reads what comes back.
    let mut written = 0;
    while let Ok(count) = timeout(Duration::from_millis(300), still.write(&[0x5a; 64 * 1024])).await {
        written += count.expect("written");
    }
    let mut held_up = Box::pin(exchange(&mut neighbour, b"who is in the way?"));
    let big = vec![0xa5; 4 << 20];
    tokio::select! {
        () = &mut held_up => panic!("the session was read on, past {written} bytes"),
        () = async {
            for stream in [&mut second, &mut fourth] {
                echo(stream, &big).await;
            }
            // Who comes now is put where things move.
            exchange(&mut open(&tunnel, ECHO).await, b"hello").await;
        } => {}
    }
    assert_eq!(received(&server, Command::Syn), [2, 3]);

    // The app goes on, and with it its neighbour.
    let mut read = vec![0; written];
    let (all, ()) = tokio::join!(guarded("what it left", still.read_exact(&mut read)), held_up);
    all.expect("read");
    assert_eq!(stats(&tunnel).closed, 0);
    tunnel.stop().await;
}

/// Sends and reads at once.
async fn echo(stream: &mut Stream, bytes: &[u8]) {
    let (mut read, mut write) = tokio::io::split(stream);
    let mut echoed = vec![0; bytes.len()];
    let both = async { tokio::join!(write.write_all(bytes), read.read_exact(&mut echoed)) };
    let (written, got) = guarded("an echo", both).await;
    written.expect("written");
    got.expect("read");
    assert!(echoed == bytes);
}

#[tokio::test]
async fn who_finds_no_session_waits_for_one_and_is_told_when_none_comes() {
    let faults = Faults { one_stream_a_session: true, ..Faults::default() };
    let server = start_server(ServerOptions { faults, ..server_options() }).await;
    let tunnel = start_tunnel(config(server.address(), two_sessions())).await;
    let (first, _second) = (open(&tunnel, ECHO).await, open(&tunnel, ECHO).await);
    let to = target(ECHO);
    let mut third = Box::pin(tunnel.open(&to, b""));
    tokio::select! {
        opened = &mut third => panic!("{:?}", opened.map(drop)),
        () = until("it was asked to share", || refused(&server) == 1) => {}
    }
    drop(first);
    let mut third = guarded("the third", third).await.expect("opened");
    exchange(&mut third, b"my turn").await;
    tunnel.stop().await;
}
