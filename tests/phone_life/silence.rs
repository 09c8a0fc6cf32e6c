//! Servers that fall silent, die and come back, and uplinks that are only slow.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anytls_mobile::testserver::Cut;
use anytls_mobile::tunnel::State;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::rig::*;
use crate::support::lab::block_on;
use crate::support::netns::Netns;
use crate::support::uplinks::UP0;

/// Beats often, and makes good at once what is lost.
fn pool() -> Value {
    json!({ "ensure_idle_session": 2, "idle_session_check_interval": "1s", "heartbeat": "1s" })
}

/// An interval, twice the 3 s that an answer may take, and as much again for a machine that is busy.
const NOTICED: Duration = Duration::from_secs(14);

#[tokio::test]
async fn a_server_that_falls_silent_is_noticed_and_its_sessions_are_made_good() {
    let server = start_server(server_options()).await;
    let tunnel = start_tunnel(config(server.address(), pool())).await;
    let mut stream = open(&tunnel, ECHO).await;
    exchange(&mut stream, b"hello").await;
    until("two are idle", || stats(&tunnel).idle == 2).await;

    server.cut_sessions(Cut::Silence).await;
    let silent = Instant::now();
    let end = guarded("a reset", stream.read(&mut [0; 8])).await.expect_err("no clean end");
    assert_eq!(end.kind(), ErrorKind::ConnectionReset);
    let reset = silent.elapsed();
    until("all three are given up", || stats(&tunnel).closed_no_answer == 3).await;
    until_idle(&tunnel, 2).await;
    println!("silence: reset after {reset:?}, made good after {:?}", silent.elapsed());
    assert!(reset < NOTICED, "{reset:?}");
    exchange(&mut open(&tunnel, ECHO).await, b"again").await;
    assert_eq!(stats(&tunnel).beats_missed, 6, "twice for each");
    assert_eq!(tunnel.state(), State::Connected);
    tunnel.stop().await;
}

#[tokio::test]
async fn a_server_that_reads_an_upload_and_answers_nothing_is_noticed() {
    let server = start_server(server_options()).await;
    let tunnel = start_tunnel(config(server.address(), pool())).await;
    let mut stream = open(&tunnel, DISCARD).await;
    let piece = vec![0; 16 * 1024];
    for _ in 0..64 {
        stream.write_all(&piece).await.expect("written");
    }
    server.cut_sessions(Cut::Silence).await;
    let silent = Instant::now();
    let mut sent = 0;
    let end = guarded("a reset", async {
        loop {
            match stream.write(&piece).await {
                Ok(count) => sent += count,
                Err(error) => return error,
            }
            tokio::time::sleep(Duration::from_millis(1)).await; // an upload of a few megabytes a second
        }
    })
    .await;
    println!("silence in an upload: reset after {:?}, {sent} bytes went on", silent.elapsed());
    assert_eq!(end.kind(), ErrorKind::ConnectionReset);
    assert!(sent > 1 << 20, "it was read: {sent}");
    assert!(silent.elapsed() < NOTICED);
    tunnel.stop().await;
}

#[test]
fn a_frozen_server_resets_streams_and_serves_again_when_it_goes_on() {
    each_real_server(async |name, server| {
        let tunnel = start_tunnel(config(server.address, pool())).await;
        let echo = start_echo().await;
        let mut stream = guarded("a stream", tunnel.open(&echo, b"")).await.expect("opened");
        exchange(&mut stream, b"hello").await;
        until("two are idle", || stats(&tunnel).idle == 2).await;

        server.process.signal("STOP");
        let frozen = Instant::now();
        let end = guarded("a reset", stream.read(&mut [0; 8])).await.expect_err("no clean end");
        let reset = frozen.elapsed();
        assert_eq!(end.kind(), ErrorKind::ConnectionReset);
        assert!(reset < NOTICED, "{name}: {reset:?}");
        until("all are given up", || stats(&tunnel).closed_no_answer == 3).await;

        server.process.signal("CONT");
        let mut stream = guarded("a stream", tunnel.open(&echo, b"")).await.expect("opened");
        exchange(&mut stream, b"again").await;
        until("made good", || stats(&tunnel).idle == 2).await;
        until_state(&tunnel, "connected", |state| *state == State::Connected).await;
        println!("{name} frozen: reset after {reset:?}, all well {:?} after the freeze", frozen.elapsed());
        tunnel.stop().await;
    });
}

#[test]
fn a_server_that_is_killed_resets_streams_at_once_and_is_found_again_by_itself() {
    std::thread::scope(|scope| {
        for (name, start) in SERVERS {
            scope.spawn(move || {
                let Some(server) = start_real(start) else { return };
                let address = server.address;
                block_on(async {
                    let tunnel = start_tunnel(config(address, pool())).await;
                    let echo = start_echo().await;
                    let mut stream = guarded("a stream", tunnel.open(&echo, b"")).await.expect("opened");
                    exchange(&mut stream, b"hello").await;

                    drop(server);
                    let end = guarded("a reset", stream.read(&mut [0; 8])).await.expect_err("no clean end");
                    assert_eq!(end.kind(), ErrorKind::ConnectionReset);
                    let mut attempts = 0;
                    until_state(&tunnel, "reconnecting", |state| match state {
                        State::Reconnecting { attempt, .. } => {
                            attempts = *attempt;
                            true
                        }
                        _ => false,
                    })
                    .await;
                    assert!(attempts > 0);

                    let again = start_at(start, address);
                    let back = Instant::now();
                    until_state(&tunnel, "connected", |state| *state == State::Connected).await;
                    until("made good", || stats(&tunnel).idle == 2).await;
                    println!("{name} killed: made good {:?} after its return", back.elapsed());
                    let mut stream = guarded("a stream", tunnel.open(&echo, b"")).await.expect("opened");
                    exchange(&mut stream, b"again").await;
                    tunnel.stop().await;
                    drop(again);
                });
            });
        }
    });
}

fn start_at(start: Start, address: SocketAddr) -> crate::support::servers::Server {
    start(&Netns::here(), address, PASSWORD, None).expect("it was there before")
}

#[test]
fn a_slow_uplink_full_of_an_upload_is_not_taken_for_a_dead_server() {
    let Some(world) = World::new(server_options()) else { return };
    // 100 kB/s, behind a buffer that takes far longer to drain than a heartbeat may take.
    world
        .network
        .client
        .tc(&format!("qdisc add dev {} root tbf rate 800kbit burst 8k limit 4m", UP0.interface));
    let pool = json!({ "ensure_idle_session": 0, "heartbeat": "1s" });
    let tunnel = world.start_tunnel(pool);
    tunnel.network_changed(crate::rig::path(UP0.interface));
    world.runtime.block_on(async {
        let mut stream = open(&tunnel, DISCARD).await;
        let begin = Instant::now();
        let bytes = vec![0x5a; 900_000];
        guarded("the upload", stream.write_all(&bytes)).await.expect("written");
        let at_server = || world.server.connections()[0].received_bytes;
        until("all of it", || at_server() > 900_000).await;
        let missed = stats(&tunnel).beats_missed;
        println!("slow uplink: {:?}, {missed} beats missed", begin.elapsed());
        until("the last beat is answered", || stats(&tunnel).beats_answered == stats(&tunnel).beats_sent)
            .await;
        let stats = stats(&tunnel);
        assert!(stats.beats_sent > 0, "{stats:?}");
        assert_eq!((stats.closed, stats.dialed, missed), (0, 1, 0));
    });
    block_on(tunnel.stop());
}
