//! On, in use, reloaded, off, and on again.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use anytls_mobile::ffi::{
    ConnectionKind, ConnectionPhase, Power, Tunnel, TunnelError, TunnelState, TunnelStats,
};
use serde_json::json;

use super::support::{
    Kind, LONG, Server, config, config_with, dead, poll_once_and_drop, start, tun, wait, wait_for_state,
    wait_until, wait_until_closed,
};

/// A connection of an app, and the tunnel's end of it.
fn connected() -> (TcpStream, OwnedFd) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let app = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    app.set_read_timeout(Some(LONG)).unwrap();
    (app, listener.accept().unwrap().0.into())
}

#[test]
fn a_stream_is_relayed_listed_and_counted() {
    let server = Server::start();
    let tunnel = Tunnel::new(None);
    let _phone = start(&tunnel, server.config()).unwrap();
    let (mut app, socket) = connected();
    let id = tunnel.connect_stream(socket.into(), "echo.example:7").unwrap();
    app.write_all(b"hello").unwrap();
    let mut echo = [0; 5];
    app.read_exact(&mut echo).unwrap();
    assert_eq!(&echo, b"hello");

    // An app has its bytes before they are counted.
    wait_until("the bytes to be counted", || tunnel.stats().traffic.down_bytes == 5);
    let connections = tunnel.connections();
    assert_eq!(connections.len(), 1);
    let connection = &connections[0];
    assert_eq!((connection.id, connection.kind), (id, ConnectionKind::Socket));
    assert_eq!(
        (connection.destination.as_str(), connection.phase),
        ("echo.example:7", ConnectionPhase::Open)
    );
    assert_eq!((connection.up_bytes, connection.down_bytes), (5, 5));
    let sessions = tunnel.sessions();
    assert_eq!(sessions.iter().map(|session| session.streams).sum::<u32>(), 1);
    let busy = sessions.iter().find(|session| session.streams == 1).unwrap();
    assert_eq!((busy.idle, busy.server_version), (None, Some(2)));

    assert!(tunnel.close_connection(id));
    wait_until("the connection to be counted", || tunnel.stats().traffic.open_connections == 0);
    let stats = tunnel.stats();
    assert_eq!((stats.traffic.up_bytes, stats.traffic.down_bytes), (5, 5));
    assert_eq!((stats.traffic.total_connections, stats.traffic.closed_connections), (1, 1));
    assert!(stats.pool.dialed >= 1);
    assert!(stats.memory.held_bytes > 0 && stats.memory.held_bytes <= stats.memory.limit_bytes);
    wait(tunnel.stop());
    assert_eq!(tunnel.stats().traffic.up_bytes, 5, "the last run's");
    assert_eq!((tunnel.sessions().len(), tunnel.connections().len()), (0, 0));
}

#[test]
fn latency_is_measured_step_by_step() {
    let server = Server::start();
    let tunnel = Tunnel::new(None);
    let _phone = start(&tunnel, server.config()).unwrap();
    let report = wait(tunnel.test_latency("echo.example:7".to_owned())).unwrap();
    assert!(!report.tls.is_zero() && !report.warm_stream.is_zero(), "{report:?}");
    let error = wait(tunnel.test_latency("nonsense".to_owned())).unwrap_err();
    assert_eq!(error.failure().code, "destination");
    wait(tunnel.stop());
}

#[test]
fn a_server_that_is_not_there_is_a_typed_error() {
    let tunnel = Tunnel::new(None);
    let _phone = start(&tunnel, config(dead())).unwrap();
    let error = wait(tunnel.test_latency("echo.example:7".to_owned())).unwrap_err();
    assert!(matches!(error, TunnelError::Dial { .. }), "{error}");
    let failure = error.failure();
    assert_eq!((failure.code.as_str(), failure.is_retryable), ("dial.refused", true));
    wait(tunnel.stop());
}

#[test]
fn what_the_phone_said_before_counts_for_the_start() {
    let server = Server::start();
    let tunnel = Tunnel::new(None);
    tunnel.set_power(Power::Doze);
    let _phone = start(&tunnel, server.config()).unwrap();
    wait_for_state(&tunnel, |state| *state == TunnelState::Paused);
    tunnel.network_changed(None);
    wait(tunnel.stop());
    let protected = Arc::new(Kind::default());
    let tunnel = Tunnel::new(Some(Arc::clone(&protected) as _));
    tunnel.network_changed(None);
    let _phone = start(&tunnel, server.config()).unwrap();
    wait_for_state(&tunnel, |state| *state == TunnelState::WaitingForNetwork);
    let error = wait(tunnel.test_latency("echo.example:7".to_owned())).unwrap_err();
    assert_eq!((error.clone(), error.failure().is_retryable), (TunnelError::Offline, true));
    assert_eq!(protected.protected.load(Ordering::SeqCst), 0, "a dial without a network");
    tunnel.network_changed(Some("wifi".to_owned()));
    tunnel.set_power(Power::Interactive);
    wait_for_state(&tunnel, |state| *state == TunnelState::Connected);
    wait(tunnel.stop());
}

#[test]
fn a_reload_changes_what_it_may_and_refuses_the_rest() {
    let (first, second) = (Server::start(), Server::start());
    let tunnel = Tunnel::new(None);
    let _phone = start(&tunnel, first.config()).unwrap();
    wait_for_state(&tunnel, |state| *state == TunnelState::Connected);
    let last = tunnel.sessions().last().unwrap().seq;
    wait(tunnel.reload(second.config())).unwrap();
    wait_until("the second server's session", || second.sessions() > 0);
    wait_until("a session with a number of its own", || tunnel.sessions().iter().any(|s| s.seq > last));
    assert!(tunnel.sessions().iter().all(|session| session.seq > last), "a number given twice");

    let bad = wait(tunnel.reload("{}".to_owned())).unwrap_err();
    assert!(matches!(bad, TunnelError::Config { .. }), "{bad}");
    let mut other: serde_json::Value = serde_json::from_str(&second.config()).unwrap();
    other["tun"] = json!({ "mtu": 1400 });
    assert_eq!(wait(tunnel.reload(other.to_string())), Err(TunnelError::TunSettings));
    let tls =
        json!({ "tls": { "certificate": "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----" } });
    let bad = wait(tunnel.reload(config_with(second.address(), tls))).unwrap_err();
    assert!(matches!(bad, TunnelError::TlsSettings { .. }), "{bad}");
    wait_for_state(&tunnel, |state| *state == TunnelState::Connected);
    wait(tunnel.stop());
}

#[test]
fn a_reload_that_is_dropped_is_whole_or_none() {
    let (first, second) = (Server::start(), Server::start());
    let tunnel = Tunnel::new(None);
    let _phone = start(&tunnel, first.config()).unwrap();
    wait_until("the first server's session", || first.sessions() > 0);
    poll_once_and_drop(tunnel.reload(second.config()));
    wait_until("the second server's session", || second.sessions() > 0);
    let before = first.sessions();
    wait(tunnel.reload(first.config())).unwrap();
    wait(tunnel.test_latency("echo.example:7".to_owned())).unwrap();
    wait_until("the first server again", || {
        first.sessions() > before || first.sessions() > 0 && second.sessions() == 0
    });
    wait(tunnel.stop());
}

#[test]
fn a_tunnel_that_is_off_says_so() {
    let tunnel = Tunnel::new(None);
    assert_eq!(tunnel.state(), TunnelState::Stopped);
    assert_eq!(tunnel.stats(), TunnelStats::default());
    for _ in 0..2 {
        assert_eq!(wait(tunnel.reload(config(dead()))), Err(TunnelError::NotStarted));
        assert_eq!(wait(tunnel.test_latency("echo.example:7".to_owned())), Err(TunnelError::NotStarted));
        let (_app, socket) = connected();
        assert_eq!(tunnel.connect_stream(socket.into(), "echo.example:7"), Err(TunnelError::NotStarted));
        assert!(!tunnel.close_connection(1));
        tunnel.unsubscribe(7);
        wait(tunnel.stop());
        let _phone = start(&tunnel, config(dead())).unwrap();
        wait(tunnel.stop());
    }
}

#[test]
fn a_tun_that_is_taken_away_ends_the_tunnel_and_another_may_follow() {
    let server = Server::start();
    let tunnel = Tunnel::new(None);
    drop(start(&tunnel, server.config()).unwrap());
    let state = wait_for_state(&tunnel, |state| matches!(state, TunnelState::Failed { .. }));
    let TunnelState::Failed { failure, is_traffic_blocked } = state else { unreachable!() };
    assert_eq!((failure.code.as_str(), is_traffic_blocked), ("tunnel.ended", false));
    let _phone = start(&tunnel, server.config()).expect("started anew");
    wait_for_state(&tunnel, |state| *state == TunnelState::Connected);
    wait(tunnel.stop());
    assert_eq!(tunnel.state(), TunnelState::Stopped);
}

#[test]
fn calls_from_many_threads_do_no_harm() {
    let server = Server::start();
    let tunnel = Tunnel::new(None);
    std::thread::scope(|scope| {
        for number in 0..8 {
            let (tunnel, server) = (Arc::clone(&tunnel), &server);
            scope.spawn(move || {
                for round in 0..10 {
                    let (ours, phone) = tun();
                    let started = wait(tunnel.start(server.config(), ours));
                    assert!(
                        matches!(started, Ok(()) | Err(TunnelError::AlreadyStarted | TunnelError::Cancelled)),
                        "{started:?}"
                    );
                    tunnel.network_changed((round % 2 == 0).then(|| format!("wifi {number}")));
                    let _shown = (tunnel.state(), tunnel.stats(), tunnel.sessions(), tunnel.connections());
                    wait(tunnel.stop());
                    if started.is_err() {
                        wait_until_closed(&phone);
                    }
                }
            });
        }
    });
    wait(tunnel.stop());
    assert_eq!(tunnel.state(), TunnelState::Stopped);
}
