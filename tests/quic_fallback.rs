//! A browser that tries QUIC first: refused, it goes on over TCP at once; let through, it is carried.
#![allow(clippy::disallowed_methods)] // a test's threads end with it, and it prints how long it took

mod support;

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use serde_json::json;
use support::echo::{Echo, TARGETS};
use support::lab::Lab;
use support::netns::{self, Process};
use support::servers::{self, Server};

/// As long as a client's first datagram must be (RFC 9000, 14.1).
const INITIAL: usize = 1200;

/// Longer than anything takes.
const PATIENCE: Option<Duration> = Some(Duration::from_secs(15));

/// A client's first datagram, to whoever does not decrypt it (RFC 9000, 17.2.2).
fn initial() -> Vec<u8> {
    let mut datagram = vec![0xc3, 0, 0, 0, 1, 8];
    datagram.resize(INITIAL, 0x5a);
    datagram
}

/// An app's socket for one peer, which ICMP can therefore tell of refusals.
fn connected(lab: &Lab, to: SocketAddr) -> UdpSocket {
    lab.client.run(|| {
        let any = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let socket = UdpSocket::bind(SocketAddr::new(any, 0)).unwrap();
        socket.connect(to).unwrap();
        socket.set_read_timeout(PATIENCE).unwrap();
        socket
    })
}

/// Exchanges a word with TCP port 443, once the socket there is open: nothing connects before.
fn over_tcp(lab: &Lab, to: SocketAddr) {
    let listener = lab.internet.run(|| TcpListener::bind(to)).unwrap();
    let mut app = lab.client.run(|| TcpStream::connect(to)).unwrap();
    let (mut peer, _) = listener.accept().unwrap();
    for socket in [&app, &peer] {
        socket.set_read_timeout(PATIENCE).unwrap();
    }
    let mut hello = [0; 5];
    app.write_all(b"hello").unwrap();
    peer.read_exact(&mut hello).unwrap();
    peer.write_all(&hello).unwrap();
    app.read_exact(&mut hello).unwrap();
    assert_eq!(&hello, b"hello");
}

/// The program with this `block_quic`; `None` and a SKIP line where that cannot be.
fn start(block: Option<bool>) -> Option<(Lab, Server, Process)> {
    if !netns::available() {
        return None;
    }
    let lab = Lab::new();
    let server = lab.start_server(servers::embedded)?;
    let mut config = lab.config(Some(&server), 1500);
    config["tun"]["block_quic"] = json!(block);
    let program = lab.run_program(&config, "info");
    Some((lab, server, program))
}

fn to(target: std::net::IpAddr) -> SocketAddr {
    SocketAddr::new(target, 443)
}

#[test]
fn quic_is_refused_and_the_browser_goes_on_over_tcp() {
    // It is the default.
    let Some((lab, _server, _program)) = start(None) else { return };
    for target in TARGETS {
        let socket = connected(&lab, to(target));
        let began = Instant::now();
        socket.send(&initial()).unwrap();
        let refused = socket.recv(&mut [0; INITIAL]).expect_err("nobody is there");
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused, "{target}");
        println!("{target}: refused after {:?}", began.elapsed());
        over_tcp(&lab, to(target));
        println!("{target}: over TCP after {:?}", began.elapsed());
    }
}

#[test]
fn quic_is_carried_when_asked_for() {
    let Some((lab, _server, _program)) = start(Some(false)) else { return };
    for target in TARGETS {
        let _echo = Echo::start_on(&lab.internet, to(target));
        let socket = connected(&lab, to(target));
        socket.send(&initial()).unwrap();
        let mut answer = [0; INITIAL + 1];
        let received = socket.recv(&mut answer).unwrap_or_else(|error| panic!("{target}: {error}"));
        assert!(answer[..received] == initial()[..], "{target}");
        over_tcp(&lab, to(target));
    }
}
