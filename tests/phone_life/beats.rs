//! Heartbeats as servers see them.

use std::time::{Duration, Instant};

use anytls_mobile::proto::command::Command;
use anytls_mobile::proto::settings::PeerVersion;
use anytls_mobile::testserver::ServerOptions;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::time::sleep;

use crate::rig::*;
use crate::support::netns::Netns;

/// How long real servers are held idle, by which they close no session: with all sessions together, more than a
/// hundred intervals.
const IDLE: Duration = Duration::from_secs(17);

fn pool(ensured: usize) -> Value {
    json!({ "ensure_idle_session": ensured, "heartbeat": "1s", "idle_session_check_interval": "1s" })
}

#[test]
fn real_servers_answer_every_beat_and_keep_idle_sessions_for_good() {
    each_real_server(async |name, server| {
        let tunnel = start_tunnel(config(server.address, pool(6))).await;
        let echo = start_echo().await;
        until_idle(&tunnel, 6).await;
        let mut quiet = guarded("a stream", tunnel.open(&echo, b"")).await.expect("opened");
        exchange(&mut quiet, b"then nothing").await;
        until("made good", || stats(&tunnel).idle == 6).await;
        let seqs = |sessions: Vec<anytls_mobile::client::SessionInfo>| {
            sessions.into_iter().map(|session| session.seq).collect::<Vec<_>>()
        };
        let before = seqs(tunnel.sessions());

        sleep(IDLE).await; // real servers go by the wall's clock
        until("all is answered", || stats(&tunnel).beats_sent == stats(&tunnel).beats_answered).await;
        let stats = stats(&tunnel);
        println!("{name}: {} beats in {} bursts", stats.beats_sent, stats.bursts);
        assert!(stats.beats_sent >= 7 * 12, "{stats:?}");
        assert_eq!((stats.beats_missed, stats.closed, stats.dialed), (0, 0, 7), "{stats:?}");
        assert_eq!(seqs(tunnel.sessions()), before);
        exchange(&mut quiet, b"and still there").await;
        tunnel.stop().await;
    });
}

#[test]
fn real_servers_take_a_stream_after_a_first_beat_and_a_beat_after_a_first_stream() {
    each_real_server(async |name, server| {
        let echo = start_echo().await;
        for is_beat_first in [true, false] {
            let tunnel = start_tunnel(config(server.address, pool(1))).await;
            until_idle(&tunnel, 1).await;
            if is_beat_first {
                until("a first beat is answered", || stats(&tunnel).beats_answered == 1).await;
            }
            let mut stream = guarded("a stream", tunnel.open(&echo, b"")).await.expect("opened");
            exchange(&mut stream, b"hello").await;
            let beats = stats(&tunnel).beats_answered;
            until("later beats are answered", || stats(&tunnel).beats_answered >= beats + 4).await;
            exchange(&mut stream, b"again").await;
            let stats = stats(&tunnel);
            assert_eq!((stats.beats_missed, stats.closed, stats.retried), (0, 0, 0), "{name}: {stats:?}");
            tunnel.stop().await;
        }
    });
}

#[tokio::test]
async fn a_prewarmed_session_says_settings_and_heart_request_in_its_first_write() {
    const COMMANDS: [Command; 3] = [Command::Settings, Command::HeartRequest, Command::Waste];
    let server = start_server(server_options()).await;
    let tunnel = start_tunnel(config(server.address(), pool(3))).await;
    until("three authentications, and nothing else", || {
        server.connections().iter().map(|seen| (seen.records.len(), seen.received.len())).eq([(1, 0); 3])
    })
    .await;
    until("a beat of each", || stats(&tunnel).beats_answered == 3).await;
    for seen in server.connections() {
        let commands: Vec<_> = seen.received.iter().map(|frame| frame.command).collect();
        // The padding is of the size that plan 1 draws: 100 to 400.
        assert_eq!(commands, COMMANDS.map(u8::from));
        assert_eq!(seen.records.len(), 2);
        assert!((100..400).contains(&seen.records[1]), "{:?}", seen.records);
        let answers: Vec<_> = seen.sent.iter().map(|frame| frame.command).collect();
        assert_eq!(answers, [Command::ServerSettings, Command::HeartResponse].map(u8::from));
    }
    let mut stream = open(&tunnel, ECHO).await;
    exchange(&mut stream, b"hello").await;
    let stats = stats(&tunnel);
    assert_eq!((stats.dialed, stats.retried, stats.probed), (3, 0, 0));
    tunnel.stop().await;
}

#[tokio::test]
async fn a_server_of_version_1_is_asked_for_nothing_and_watched_by_the_system() {
    let server = start_server(ServerOptions { version: PeerVersion::V1, ..server_options() }).await;
    let tunnel = start_tunnel(config(server.address(), pool(2))).await;
    let mut stream = open(&tunnel, ECHO).await;
    exchange(&mut stream, b"hello").await;
    until("all are known", || {
        let sessions = tunnel.sessions();
        sessions.len() == 3 && sessions.iter().all(|session| session.peer == Some(PeerVersion::V1))
    })
    .await;
    let before = received(&server, Command::HeartRequest);
    let sockets = || {
        let all = connections(&Netns::here()).into_iter();
        all.filter(|(_, to, _)| *to == server.address()).map(|(.., timer)| timer).collect::<Vec<_>>()
    };
    // The first field of the timer is 2 for a keepalive that is set.
    until("keepalives", || {
        let timers = sockets();
        timers.len() == 3 && timers.iter().all(|timer| timer.starts_with("02:"))
    })
    .await;
    sleep(Duration::from_millis(2_500)).await; // two intervals
    assert_eq!(received(&server, Command::HeartRequest), before);
    exchange(&mut stream, b"again").await;
    let stats = stats(&tunnel);
    assert_eq!((stats.closed, stats.beats_missed, stats.dialed), (0, 0, 3), "{stats:?}");
    tunnel.stop().await;
}

#[tokio::test]
async fn ten_sessions_beat_in_one_burst_an_interval() {
    let server = start_server(server_options()).await;
    let tunnel = start_tunnel(config(server.address(), pool(10))).await;
    until_idle(&tunnel, 10).await;
    // One of them is out of step.
    until("a first burst", || stats(&tunnel).beats_answered >= 10).await;
    sleep(Duration::from_millis(700)).await;
    let mut stream = open(&tunnel, ECHO).await;
    exchange(&mut stream, b"hello").await;
    let sum = || received(&server, Command::HeartRequest).iter().sum::<usize>();
    until("a burst of those in step", || stats(&tunnel).bursts >= 3).await;

    let (start, bursts) = (Instant::now(), stats(&tunnel).bursts);
    let first = sum();
    let (mut groups, mut last) = (Vec::new(), first);
    while stats(&tunnel).bursts < bursts + 3 {
        sleep(Duration::from_millis(1)).await;
        let now = sum();
        if now > last {
            groups.push((start.elapsed(), now - last));
            last = now;
        }
    }
    // A burst is counted when it is decided. At least nine beat in each, save for one that the count began in.
    let more = || usize::try_from(stats(&tunnel).bursts - bursts).expect("a few");
    until("the beats of each burst", || sum() - first >= 9 * more() - 2).await;
    let total = sum() - first;
    let spent = start.elapsed();
    println!("{total} beats in {spent:?}: {groups:?}");
    assert!(spent >= Duration::from_secs(2), "three bursts in {spent:?}");
    stream.shutdown().await.expect("no error");
    tunnel.stop().await;
}
