//! The phone's network changes, goes away and comes back.

use std::io::ErrorKind;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anytls_mobile::proto::command::Command;
use anytls_mobile::tunnel::State;
use serde_json::json;
use tokio::io::AsyncReadExt;
use tokio::time::sleep;

use crate::rig::*;
use crate::support::lab::{Lab, SERVERS as REAL_SERVERS, TARGETS, block_on};
use crate::support::netns::{output, wait_until};
use crate::support::uplinks::{TwoUplinks, UP0, UP1, Uplink};

/// What curl ends with when its connection is reset.
const RECEIVE_ERROR: i32 = 56;

/// A report of the system is acted upon after 300 ms without another, and after 600 ms at the latest: when so
/// much has passed, it would have been.
const SETTLED: Duration = Duration::from_millis(700);

fn begin_download(lab: &Lab) -> Child {
    let url = format!("http://{}/seeded/1/{}", TARGETS[0], 1u64 << 40);
    let mut curl = lab.curl(&[&url]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut begun = vec![0; 1 << 20];
    std::io::Read::read_exact(curl.stdout.as_mut().unwrap(), &mut begun).unwrap();
    curl
}

fn end_of(mut curl: Child) -> Option<i32> {
    std::io::copy(&mut curl.stdout.take().unwrap(), &mut std::io::sink()).unwrap();
    curl.wait().unwrap().code()
}

fn ask(lab: &Lab) {
    assert_eq!(output(&mut lab.curl(&[&format!("http://{}/echo/hello", TARGETS[0])])), "hello\n");
}

/// The client's ends of its sessions.
fn local_addresses(network: &TwoUplinks) -> Vec<String> {
    let sessions = connections(&network.client).into_iter();
    sessions.filter(|(_, to, _)| *to == World::address()).map(|(from, ..)| from.ip().to_string()).collect()
}

fn is_all_on(network: &TwoUplinks, uplink: &Uplink) -> bool {
    let addresses = local_addresses(network);
    !addresses.is_empty() && addresses.iter().all(|address| address == uplink.addresses[0])
}

#[test]
fn the_program_follows_a_switch_of_the_uplink_under_a_running_transfer() {
    std::thread::scope(|scope| {
        for (name, start) in REAL_SERVERS {
            scope.spawn(move || {
                let Some(network) = TwoUplinks::new() else { return };
                let lab = Lab::between(network.client.clone(), network.internet.clone());
                let Some(server) = lab.start_server(start) else { return };
                let mut program = lab.run_program(&lab.config(Some(&server), 1500), "debug");
                ask(&lab);
                let download = begin_download(&lab);

                let switched = Instant::now();
                network.switch_to(&UP1);
                program.wait_until_logged(&format!("network changed path={:?}", UP1.path()));
                let noticed = Instant::now();
                ask(&lab);
                let worked = Instant::now();
                // The old sessions are given up after twice 3 s at the earliest: nobody has waited for that.
                assert!(worked - noticed < Duration::from_secs(3), "{:?}", worked - noticed);
                assert_eq!(end_of(download), Some(RECEIVE_ERROR));
                let reset = switched.elapsed();
                assert!(reset < Duration::from_secs(20), "twice 3 s, and then some: {reset:?}");
                wait_until("all sessions on the new path", || is_all_on(&network, &UP1));
                let at_server = connections(&network.internet);
                let new: Vec<_> =
                    at_server.iter().filter(|(_, from, _)| from.ip().to_string() == UP1.addresses[0]).collect();
                assert!(!new.is_empty(), "{at_server:?}");

                // The link is lost for a while, and comes back as it was.
                network.take_down(&UP1);
                program.wait_until_logged("no network");
                network.bring_up(&UP1);
                network.switch_to(&UP1);
                let back = Instant::now();
                ask(&lab);
                println!(
                    "{name}: notice {:?} after the switch, first flow {:?} after the notice, old transfer reset \
                     {reset:?} after the switch, first flow {:?} after an outage",
                    noticed - switched,
                    worked - noticed,
                    back.elapsed(),
                );
            });
        }
    });
}

#[test]
fn new_streams_take_the_new_path_while_old_ones_are_still_waited_for() {
    let Some(world) = World::new(server_options()) else { return };
    let tunnel = world.start_tunnel(json!({ "ensure_idle_session": 2 }));
    tunnel.network_changed(path(UP0.interface));
    world.runtime.block_on(async {
        until_idle(&tunnel, 2).await;
        let mut old = open(&tunnel, ECHO).await;
        exchange(&mut old, b"before").await;
        until("the idle ones made good", || stats(&tunnel).dialed == 2).await;

        world.switch(&tunnel, &UP1);
        until("the idle session is closed", || stats(&tunnel).closed_path_change == 1).await;
        let mut new = open(&tunnel, ECHO).await;
        exchange(&mut new, b"after").await;
        assert_eq!(stats(&tunnel).closed_no_answer, 0, "nobody has waited for the old session's end");
        assert_eq!(*tunnel.watch_state().borrow(), State::Connected);

        let end = guarded("the old stream's end", old.read(&mut [0; 8])).await.expect_err("no clean end");
        assert_eq!(end.kind(), ErrorKind::ConnectionReset);
        exchange(&mut new, b"still").await;
        let stats = stats(&tunnel);
        assert_eq!((stats.closed, stats.closed_path_change, stats.closed_no_answer), (2, 1, 1));
        let peers = world.peers();
        assert!(peers[..2].iter().all(|peer| peer == UP0.addresses[0]), "{peers:?}");
        assert!(peers[2..].iter().all(|peer| peer == UP1.addresses[0]), "{peers:?}");
    });
    block_on(tunnel.stop());
}

#[test]
fn a_stream_that_survives_a_change_goes_on_and_its_session_is_not_used_again() {
    let Some(world) = World::new(server_options()) else { return };
    let tunnel = world.start_tunnel(json!({ "ensure_idle_session": 1 }));
    tunnel.network_changed(path(UP0.interface));
    world.runtime.block_on(async {
        let mut stream = open(&tunnel, ECHO).await;
        exchange(&mut stream, b"before").await;
        // Another network by name; packets still arrive, as after a switch between two access points.
        tunnel.network_changed(path("another"));
        until("its heartbeat is answered", || stats(&tunnel).beats_answered >= 1).await;
        exchange(&mut stream, b"after").await;
        drop(stream);
        until("it is closed", || stats(&tunnel).closed_path_change >= 1 && stats(&tunnel).active == 0).await;
        assert_eq!((stats(&tunnel).closed_no_answer, stats(&tunnel).beats_missed), (0, 0));
    });
    block_on(tunnel.stop());
}

#[tokio::test]
async fn the_same_path_a_hundred_times_costs_nothing() {
    let server = start_server(server_options()).await;
    let tunnel = start_tunnel(config(server.address(), json!({ "ensure_idle_session": 2 }))).await;
    tunnel.network_changed(path("wifi"));
    until_idle(&tunnel, 2).await;
    let mut stream = open(&tunnel, ECHO).await;
    exchange(&mut stream, b"hello").await;
    sleep(SETTLED).await; // the first report, and the state
    let before = (stats(&tunnel), seen(&server), tunnel.sessions().len(), tunnel.state());
    for round in 0..100 {
        tunnel.network_changed(path("wifi"));
        if round % 10 == 9 {
            tunnel.network_changed(None); // it flickers
            tunnel.network_changed(path("wifi"));
        }
    }
    sleep(SETTLED).await;
    let after = (stats(&tunnel), seen(&server), tunnel.sessions().len(), tunnel.state());
    assert_eq!(before, after);
    exchange(&mut stream, b"as ever").await;
    tunnel.stop().await;
}

#[test]
fn without_a_path_nothing_is_sent_and_the_same_path_finds_its_sessions_again() {
    let Some(world) = World::new(server_options()) else { return };
    let pool = json!({ "ensure_idle_session": 3, "idle_session_check_interval": "1s", "heartbeat": "1s" });
    let tunnel = world.start_tunnel(pool);
    tunnel.network_changed(path(UP0.interface));
    world.runtime.block_on(async {
        until_idle(&tunnel, 3).await;
        let mut stream = open(&tunnel, ECHO).await;
        exchange(&mut stream, b"before").await;
        until_state(&tunnel, "connected", |state| *state == State::Connected).await;

        tunnel.network_changed(None);
        until_state(&tunnel, "no network", |state| *state == State::WaitingForNetwork).await;
        until("beats are answered", || stats(&tunnel).beats_sent == stats(&tunnel).beats_answered).await;
        until("dials are over", || stats(&tunnel).dialing == 0).await;
        let to = target(ECHO);
        let mut waiting = Box::pin(tunnel.open(&to, b""));
        let before = (seen(&world.server), stats(&tunnel).dialed);
        // Two intervals of beats and of checks, in which an app wants a stream.
        tokio::select! {
            result = &mut waiting => panic!("{:?}", result.map(drop)),
            () = sleep(Duration::from_millis(2_500)) => {}
        }
        assert_eq!((seen(&world.server), stats(&tunnel).dialed), before);
        let beats = received(&world.server, Command::HeartRequest);

        tunnel.network_changed(path(UP0.interface));
        let mut waited = guarded("the waiting stream", waiting).await.expect("opened");
        exchange(&mut waited, b"at last").await;
        exchange(&mut stream, b"as before").await;
        until_state(&tunnel, "connected again", |state| *state == State::Connected).await;
        until("all were asked", || {
            let now = received(&world.server, Command::HeartRequest);
            beats.iter().zip(&now).all(|(before, now)| now > before)
        })
        .await;
        assert_eq!((stats(&tunnel).closed, stats(&tunnel).beats_missed), (0, 0));
    });
    block_on(tunnel.stop());
}

#[test]
fn another_path_after_none_is_redialled() {
    let Some(world) = World::new(server_options()) else { return };
    let tunnel = world.start_tunnel(json!({ "ensure_idle_session": 2 }));
    tunnel.network_changed(path(UP0.interface));
    world.runtime.block_on(async {
        until_idle(&tunnel, 2).await;
        world.network.take_down(&UP0);
        tunnel.network_changed(None);
        until_state(&tunnel, "no network", |state| *state == State::WaitingForNetwork).await;
        world.switch(&tunnel, &UP1);
        until("two sessions on the new path", || {
            world.peers().iter().filter(|peer| *peer == UP1.addresses[0]).count() == 2
        })
        .await;
        until_state(&tunnel, "connected", |state| *state == State::Connected).await;
        let mut stream = open(&tunnel, ECHO).await;
        exchange(&mut stream, b"hello").await;
        let stats = stats(&tunnel);
        assert_eq!((stats.closed_path_change, stats.dials_failed, stats.retried), (2, 0, 0));
    });
    block_on(tunnel.stop());
}
