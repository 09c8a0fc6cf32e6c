//! A tunnel's beginning and end, in every state, without a TUN of the OS.
#![cfg(feature = "testserver")]
#![allow(clippy::disallowed_methods)] // a test's tasks live as long as its runtime

use std::io;
use std::net::SocketAddr;
use std::os::unix::net::UnixDatagram;
use std::sync::Arc;
use std::time::Duration;

use anytls_mobile::client::OpenError;
use anytls_mobile::config::{self, Config, Defaults};
use anytls_mobile::proto::auth::PasswordHash;
use anytls_mobile::proto::target::Target;
use anytls_mobile::testserver::{Faults, ServerOptions, Service, TestServer};
use anytls_mobile::transport::NoProtect;
use anytls_mobile::tun;
use anytls_mobile::tunnel::{StartError, Tun, Tunnel};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::timeout;

/// Longer than any machine needs: only a hang reaches it.
const LONG: Duration = Duration::from_secs(60);

const PASSWORD: &str = "correct horse";

fn config(server: SocketAddr, tls: &serde_json::Value) -> Config {
    let text = serde_json::json!({
        "server": {
            "server": server.ip().to_string(),
            "server_port": server.port(),
            "ensure_idle_session": 0, "password": PASSWORD,
            "tls": tls,
        },
    });
    config::parse(&text.to_string(), &Defaults::default()).expect("a valid config").config
}

fn insecure(server: SocketAddr) -> Config {
    config(server, &serde_json::json!({ "insecure": true }))
}

fn target() -> Target {
    "192.0.2.1:80".parse().expect("a target")
}

async fn start(config: Config, tun: Tun) -> Result<Tunnel, StartError> {
    timeout(LONG, Tunnel::start(config, tun, Arc::new(NoProtect))).await.expect("a start does not hang")
}

/// A SYN from the app, as it comes out of a TUN.
fn syn(source_port: u16) -> Vec<u8> {
    let mut packet = vec![0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, 6, 0, 0, 172, 19, 0, 1, 192, 0, 2, 1];
    let header = !fold(&packet);
    packet[10..12].copy_from_slice(&header.to_be_bytes());
    let mut tcp = [&source_port.to_be_bytes()[..], &80_u16.to_be_bytes(), &[0, 0, 0, 1, 0, 0, 0, 0]].concat();
    tcp.extend([0x50, 0x02, 0xff, 0xff, 0, 0, 0, 0]);
    let sum = !fold(&[&packet[12..20], &[0, 6, 0, 20], &tcp].concat());
    tcp[16..18].copy_from_slice(&sum.to_be_bytes());
    packet.extend(tcp);
    packet
}

fn fold(bytes: &[u8]) -> u16 {
    let mut sum: u32 = bytes.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    u16::try_from(sum).expect("folded")
}

#[tokio::test]
async fn a_stream_through_the_tunnel_reaches_the_server_and_comes_back() {
    let mut options = ServerOptions::new(PasswordHash::of(PASSWORD));
    options.outbound = Arc::new(|_| Service::Echo);
    let server = TestServer::start(options).await.expect("a server");
    let tls = serde_json::json!({ "server_name": "localhost", "certificate": server.certificate_pem() });
    let tunnel = start(config(server.address(), &tls), Tun::None).await.expect("started");
    let mut stream = tunnel.open(&target(), b"hello").await.expect("opened");
    let mut echo = [0; 5];
    stream.read_exact(&mut echo).await.expect("echoed");
    assert_eq!(&echo, b"hello");
    assert_eq!((tunnel.stats().client.dialed, tunnel.stats().client.sent_bytes), (1, 5));
    timeout(LONG, tunnel.stop()).await.expect("stopped");
    timeout(LONG, tunnel.stop()).await.expect("stopping twice is fine");
    assert!(stream.write_all(&[0; 100_000]).await.is_err(), "the stream ended with it");
    assert!(matches!(tunnel.open(&target(), b"").await, Err(OpenError::Stopped)));
}

#[tokio::test]
async fn a_stop_ends_a_handshake_that_nobody_answers_and_an_open_that_waits_for_it() {
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let tunnel =
        Arc::new(start(insecure(silent.local_addr().expect("bound")), Tun::None).await.expect("started"));
    let opening = Arc::clone(&tunnel);
    let open = tokio::spawn(async move { opening.open(&target(), b"").await.map(drop) });
    let _dialled = silent.accept().await.expect("the dial has come");
    timeout(LONG, tunnel.stop()).await.expect("stopped");
    assert!(matches!(open.await.expect("no panic"), Err(OpenError::Stopped)));
}

#[tokio::test]
async fn a_stop_does_not_wait_for_a_server_that_reads_nothing() {
    let mut options = ServerOptions::new(PasswordHash::of(PASSWORD));
    options.outbound = Arc::new(|_| Service::Hold);
    options.faults = Faults::default();
    let server = TestServer::start(options).await.expect("a server");
    let tunnel = start(insecure(server.address()), Tun::None).await.expect("started");
    let mut stream = tunnel.open(&target(), b"").await.expect("opened");
    // Until neither the session, nor the kernels take any more.
    while timeout(Duration::from_millis(300), stream.write(&[0; 65_536])).await.is_ok() {}
    timeout(LONG, tunnel.stop()).await.expect("stopped");
    assert!(stream.write(b"x").await.is_err());
}

#[tokio::test]
async fn a_tun_that_goes_away_ends_the_tunnel() {
    let nobody = SocketAddr::from(([127, 0, 0, 1], 9));
    let (ours, theirs) = tun::pair(1500);
    let tunnel = start(insecure(nobody), Tun::Device(Box::new(theirs))).await.expect("started");
    drop(ours);
    timeout(LONG, tunnel.ended()).await.expect("it ends by itself");
    timeout(LONG, tunnel.stop()).await.expect("stopped");
}

#[tokio::test]
async fn the_descriptor_is_closed_when_the_tunnel_cannot_start() {
    let (ours, theirs) = UnixDatagram::pair().expect("a pair");
    let tls = serde_json::json!({ "certificate_path": "/does/not/exist" });
    let config = config(SocketAddr::from(([127, 0, 0, 1], 9)), &tls);
    let error = start(config, Tun::Fd(theirs.into())).await.err().expect("no certificate");
    assert!(matches!(error, StartError::Tls(_)), "{error:?}");
    assert_eq!(
        ours.send(b"x").expect_err("the other end is closed").kind(),
        io::ErrorKind::ConnectionRefused
    );
}

#[tokio::test]
async fn flows_of_a_stopped_tunnel_are_reset() {
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let (mut app, theirs) = tun::pair(1500);
    let config = insecure(silent.local_addr().expect("bound"));
    let tunnel = start(config, Tun::Device(Box::new(theirs))).await.expect("started");
    tun::Device::send(&mut app, &syn(40_000)).expect("sent");
    let _dialled = silent.accept().await.expect("the flow has made the tunnel dial");
    timeout(LONG, tunnel.stop()).await.expect("stopped");
    let answer = timeout(LONG, app.recv()).await.expect("an answer").expect("a packet");
    assert_eq!(answer[33] & 0x04, 0x04, "RST");
    assert!(app.recv().await.is_err(), "and then the device is gone");
}
