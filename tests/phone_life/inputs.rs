//! What the system and the user tell a tunnel that runs.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use anytls_mobile::client::OpenError;
use anytls_mobile::proto::command::Command;
use anytls_mobile::testserver::{Listening, TestServer};
use anytls_mobile::tunnel::{Power, Pressure, ReloadError, STOP_DEADLINE, State, Tunnel};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::sleep;

use crate::rig::*;

fn pool() -> Value {
    json!({ "ensure_idle_session": 2, "idle_session_check_interval": "1s", "heartbeat": "1s" })
}

async fn read_some(stream: &mut anytls_mobile::client::Stream) {
    let mut bytes = vec![0; 1 << 20];
    guarded("bytes", stream.read_exact(&mut bytes)).await.expect("read");
}

async fn start() -> (TestServer, Tunnel) {
    let server = start_server(server_options()).await;
    let tunnel = start_tunnel(config(server.address(), pool())).await;
    until_idle(&tunnel, 2).await;
    (server, tunnel)
}

#[tokio::test]
async fn other_pool_options_lose_no_session_and_hold_at_once() {
    let (server, tunnel) = start().await;
    let mut transfer = open(&tunnel, SEND).await;
    read_some(&mut transfer).await;
    let options = json!({ "ensure_idle_session": 5, "heartbeat": "2s", "preset": "balanced" });
    guarded("a reload", tunnel.reload(config(server.address(), options))).await.expect("taken");
    until("five idle ones", || stats(&tunnel).idle == 5).await;
    read_some(&mut transfer).await;
    assert_eq!((stats(&tunnel).closed, live(&server)), (0, 6));
    tunnel.stop().await;
}

#[tokio::test]
async fn another_server_ends_the_streams_at_the_first_and_serves_those_to_come() {
    let (first, tunnel) = start().await;
    let second = start_server(server_options()).await;
    let mut transfer = open(&tunnel, SEND).await;
    read_some(&mut transfer).await;
    guarded("a reload", tunnel.reload(config(second.address(), pool()))).await.expect("taken");
    let end = guarded("the end", tokio::io::copy(&mut transfer, &mut tokio::io::sink())).await;
    assert_eq!(end.expect_err("no clean end").kind(), ErrorKind::ConnectionReset);
    let mut stream = open(&tunnel, ECHO).await;
    exchange(&mut stream, b"hello").await;
    until("the first has nobody", || live(&first) == 0).await;
    until("the second has all", || live(&second) == 3).await;
    until_state(&tunnel, "connected", |state| *state == State::Connected).await;
    tunnel.stop().await;
}

#[tokio::test]
async fn another_tun_is_refused_and_nothing_has_changed() {
    let (server, tunnel) = start().await;
    let mut transfer = open(&tunnel, SEND).await;
    read_some(&mut transfer).await;
    let before = stats(&tunnel).dialed;
    let mut value =
        config_value("127.0.0.1:9".parse().expect("an address"), json!({ "ensure_idle_session": 9 }));
    value["tun"] = json!({ "mtu": 1400 });
    let error = tunnel.reload(parse(&value)).await.expect_err("the TUN is up");
    assert!(matches!(error, ReloadError::Tun), "{error:?}");
    read_some(&mut transfer).await;
    exchange(&mut open(&tunnel, ECHO).await, b"hello").await;
    assert_eq!((stats(&tunnel).closed, live(&server)), (0, usize::try_from(stats(&tunnel).dialed).unwrap()));
    assert!(stats(&tunnel).dialed <= before + 2, "made good as ever");
    // And the config that holds is the one before: it is no change.
    tunnel.reload(config(server.address(), pool())).await.expect("taken");
    tunnel.stop().await;
}

#[tokio::test]
async fn a_reload_that_cannot_be_used_leaves_everything_as_it_was() {
    let (server, tunnel) = start().await;
    let mut transfer = open(&tunnel, SEND).await;
    let mut value = config_value(server.address(), pool());
    value["server"]["tls"] = json!({ "certificate_path": "/does/not/exist" });
    let error = tunnel.reload(parse(&value)).await.expect_err("no certificate");
    assert!(matches!(error, ReloadError::Tls(_)), "{error:?}");
    read_some(&mut transfer).await;
    assert_eq!(stats(&tunnel).closed, 0);
    tunnel.stop().await;
    let error = tunnel.reload(config("127.0.0.1:9".parse().expect("an address"), pool())).await;
    assert!(matches!(error, Err(ReloadError::Stopped)), "{error:?}");
}

#[tokio::test]
async fn in_doze_nothing_is_sent_and_the_first_beats_after_it_come_together() {
    let (server, tunnel) = start().await;
    let mut stream = open(&tunnel, ECHO).await;
    exchange(&mut stream, b"hello").await;
    until("made good", || stats(&tunnel).idle == 2).await;
    until("a burst", || stats(&tunnel).bursts >= 1).await;
    tunnel.set_power(Power::Doze);
    until_state(&tunnel, "paused", |state| *state == State::Paused).await;
    until("beats are answered", || stats(&tunnel).beats_sent == stats(&tunnel).beats_answered).await;
    until("all was read", || seen(&server).iter().all(|(bytes, ..)| *bytes > 0)).await;
    let (before, bursts) = (seen(&server), stats(&tunnel).bursts);
    sleep(Duration::from_millis(2_200)).await; // two intervals, which are what is measured
    assert_eq!((seen(&server), stats(&tunnel).bursts), (before, bursts));

    let beats = received(&server, Command::HeartRequest);
    tunnel.set_power(Power::Interactive);
    until("all have beaten", || {
        let now = received(&server, Command::HeartRequest);
        beats.iter().zip(&now).all(|(before, now)| now > before)
    })
    .await;
    let now = received(&server, Command::HeartRequest);
    assert!(now.iter().zip(&beats).all(|(now, before)| now - before == 1), "once each: {beats:?} {now:?}");
    assert_eq!(stats(&tunnel).bursts, bursts + 1);
    until_state(&tunnel, "connected", |state| *state == State::Connected).await;
    exchange(&mut stream, b"as before").await;
    assert_eq!(stats(&tunnel).closed, 0);
    tunnel.stop().await;
}

#[tokio::test]
async fn in_the_background_idle_sessions_are_not_made_good_and_do_not_beat() {
    let server = start_server(server_options()).await;
    let options = json!({
        "ensure_idle_session": 2, "ensure_idle_session_background": 0, "idle_session_check_interval": "1s",
        "heartbeat": "1s", "heartbeat_background": "1s",
    });
    let tunnel = start_tunnel(config(server.address(), options)).await;
    until_idle(&tunnel, 2).await;
    tunnel.set_power(Power::Background);
    until("beats are answered", || stats(&tunnel).beats_sent == stats(&tunnel).beats_answered).await;
    let mut stream = open(&tunnel, ECHO).await;
    exchange(&mut stream, b"hello").await;
    let busy = received(&server, Command::Syn).iter().position(|count| *count == 1).expect("one");
    let before = received(&server, Command::HeartRequest);
    until("the busy one beats", || received(&server, Command::HeartRequest)[busy] >= before[busy] + 2).await;
    let now = received(&server, Command::HeartRequest);
    assert_eq!((now.len(), now[1 - busy]), (2, before[1 - busy]), "{before:?} {now:?}");
    tunnel.stop().await;
}

#[tokio::test]
async fn memory_pressure_closes_idle_sessions_and_spares_those_at_work() {
    for pressure in [Pressure::Low, Pressure::Critical] {
        let (server, tunnel) = start().await;
        let mut transfer = open(&tunnel, SEND).await;
        until("made good", || stats(&tunnel).idle == 2).await;
        tunnel.memory_pressure(pressure);
        until("no idle session", || stats(&tunnel).idle == 0 && live(&server) == 1).await;
        read_some(&mut transfer).await;
        assert_eq!((stats(&tunnel).closed_memory, stats(&tunnel).closed), (2, 2), "{pressure:?}");
        // What is opened now is served, and nothing kept of it.
        exchange(&mut open(&tunnel, ECHO).await, b"hello").await;
        until("it is closed", || stats(&tunnel).closed_memory == 3).await;
        tunnel.memory_pressure(Pressure::Normal);
        until("made good", || stats(&tunnel).idle == 2).await;
        read_some(&mut transfer).await;
        tunnel.stop().await;
    }
}

/// Stops in time, and nothing is said after that.
async fn stop_in_time(tunnel: &Tunnel, what: &str) {
    let mut states = tunnel.watch_state();
    let begin = Instant::now();
    tunnel.stop().await;
    let took = begin.elapsed();
    println!("stop {what}: {took:?}");
    // Twice, for a machine that is busy.
    assert!(took < 2 * STOP_DEADLINE, "{what}: {took:?}");
    assert_eq!(*states.borrow_and_update(), State::Stopped, "{what}");
    assert!(states.changed().await.is_err(), "{what}: nothing follows");
    assert_eq!(tunnel.sessions(), [], "{what}");
    tunnel.network_changed(path("later"));
    tunnel.set_power(Power::Interactive);
    tunnel.memory_pressure(Pressure::Low);
    assert_eq!(tunnel.state(), State::Stopped, "{what}");
    assert_eq!((stats(tunnel).idle, stats(tunnel).active, stats(tunnel).dialing), (0, 0, 0), "{what}");
}

#[tokio::test]
async fn a_tunnel_stops_in_time_in_every_state() {
    let (_server, tunnel) = start().await;
    let _transfer = open(&tunnel, SEND).await;
    until_state(&tunnel, "connected", |state| *state == State::Connected).await;
    stop_in_time(&tunnel, "connected").await;

    let (_server, tunnel) = start().await;
    tunnel.network_changed(path("a"));
    tunnel.network_changed(None);
    until_state(&tunnel, "no network", |state| *state == State::WaitingForNetwork).await;
    stop_in_time(&tunnel, "without a network").await;

    let (_server, tunnel) = start().await;
    tunnel.set_power(Power::Doze);
    until_state(&tunnel, "paused", |state| *state == State::Paused).await;
    stop_in_time(&tunnel, "paused").await;

    let (server, tunnel) = start().await;
    server.set_listening(Listening::Refuse).expect("closed");
    server.close_sessions().await;
    until_state(&tunnel, "reconnecting", |state| matches!(state, State::Reconnecting { .. })).await;
    stop_in_time(&tunnel, "reconnecting").await;

    let (server, tunnel) = start().await;
    let mut stream = open(&tunnel, ECHO).await;
    server.set_listening(Listening::Refuse).expect("closed");
    until_state(&tunnel, "degraded", |state| matches!(state, State::Degraded { .. })).await;
    exchange(&mut stream, b"hello").await;
    stop_in_time(&tunnel, "degraded").await;

    let (server, tunnel) = start().await;
    server.set_listening(Listening::Ignore).expect("ignored");
    let (reload, other) = (pool(), start_server(server_options()).await);
    other.set_listening(Listening::Ignore).expect("ignored");
    tunnel.reload(config(other.address(), reload)).await.expect("taken");
    until_state(&tunnel, "connecting", |state| *state == State::Connecting).await;
    stop_in_time(&tunnel, "connecting, after a reload").await;

    let (_server, tunnel) = start().await;
    tunnel.memory_pressure(Pressure::Critical);
    until("no idle session", || stats(&tunnel).idle == 0).await;
    stop_in_time(&tunnel, "short of memory").await;

    let (server, tunnel) = start().await;
    server.set_listening(Listening::Ignore).expect("ignored");
    let to = target(ECHO);
    let mut measurement = Box::pin(tunnel.test_latency(&to));
    tokio::select! {
        result = &mut measurement => panic!("{result:?}"),
        () = sleep(Duration::from_millis(50)) => {} // it is under way
    }
    stop_in_time(&tunnel, "in a measurement").await;
    assert!(matches!(guarded("its end", measurement).await, Err(OpenError::Stopped)));

    let (_server, tunnel) = start().await;
    let mut upload = open(&tunnel, HOLD).await;
    while tokio::time::timeout(Duration::from_millis(300), upload.write(&[0; 65_536])).await.is_ok() {}
    tunnel.network_changed(path("a"));
    stop_in_time(&tunnel, "with a server that takes nothing").await;
}
