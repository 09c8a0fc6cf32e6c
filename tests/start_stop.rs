//! A tunnel started and stopped a thousand times. Alone in its file: it counts what the process holds.
#![allow(clippy::disallowed_methods)] // a test's tasks live as long as its runtime

mod support;

use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;

use anytls_mobile::config::{self, Config, Defaults};
use anytls_mobile::proto::auth::PasswordHash;
use anytls_mobile::testserver::{ServerOptions, Service, TestServer};
use anytls_mobile::transport::NoProtect;
use anytls_mobile::tun;
use anytls_mobile::tunnel::{Tun, Tunnel};
use serde_json::json;
use support::lab::{block_on, open_tun};
use support::netns::{self, Netns, wait_until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const PASSWORD: &str = "correct horse";

/// Behind the TUN, which has the address next to it.
const ECHO: ([u8; 4], u16) = ([10, 70, 0, 2], 7);
const ENDLESS: ([u8; 4], u16) = ([10, 70, 0, 2], 19);

fn config(server: SocketAddr) -> Config {
    let text = json!({
        "server": {
            "server": server.ip(),
            "server_port": server.port(),
            "password": PASSWORD,
            "ensure_idle_session": 0, // a dial shows that the app's SYN was seen
            "tls": { "insecure": true },
        },
        "tun": { "mtu": 9000, "addresses": ["10.70.0.1/30"] },
    });
    config::parse(&text.to_string(), &Defaults::default()).expect("a config").config
}

/// Stops a tunnel with one idle session, and one whose server sends faster than the app reads.
async fn stop_in_a_transfer(server: SocketAddr, tun: Tun) {
    let tunnel = Tunnel::start(config(server), tun, Arc::new(NoProtect)).await.unwrap();
    let mut echo = TcpStream::connect(SocketAddr::from(ECHO)).await.unwrap();
    echo.write_all(b"hello").await.unwrap();
    echo.read_exact(&mut [0; 5]).await.unwrap();
    drop(echo);
    let mut endless = TcpStream::connect(SocketAddr::from(ENDLESS)).await.unwrap();
    endless.read_exact(&mut [0; 100_000]).await.unwrap();
    tunnel.stop().await;
    endless.read_to_end(&mut Vec::new()).await.expect_err("reset");
}

/// Stops a tunnel while a server that took the connection says nothing.
async fn stop_in_a_handshake(silent: &TcpListener, tun: Tun) {
    let server = silent.local_addr().unwrap();
    let tunnel = Tunnel::start(config(server), tun, Arc::new(NoProtect)).await.unwrap();
    let app = tokio::spawn(TcpStream::connect(SocketAddr::from(ECHO)));
    let _dialed = silent.accept().await.unwrap();
    tunnel.stop().await;
    app.await.unwrap().expect_err("refused");
}

async fn cycles(count: usize) {
    let mut options = ServerOptions::new(PasswordHash::of(PASSWORD));
    options.outbound =
        Arc::new(|target| if target.port == ENDLESS.1 { Service::Send(1 << 40) } else { Service::Echo });
    let server = TestServer::start(options).await.unwrap();
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    // One interface for all: the kernel takes 20 ms to remove one.
    let interface = open_tun(&config(server.address()));
    let tun = || Tun::Fd(interface.try_clone().unwrap());
    for _ in 0..count {
        stop_in_a_transfer(server.address(), tun()).await;
        stop_in_a_handshake(&silent, tun()).await;
    }
}

/// The same where no TUN can be made: packets in memory, which nobody sends.
async fn cycles_without_a_tun(count: usize) {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    for _ in 0..count {
        let (_ours, theirs) = tun::pair(9000);
        let config = config(silent.local_addr().unwrap());
        let tunnel = Tunnel::start(config, Tun::Device(Box::new(theirs)), Arc::new(NoProtect)).await.unwrap();
        tunnel.stop().await;
    }
}

/// How many descriptors and threads this process has.
fn held() -> (usize, usize) {
    let count = |folder| fs::read_dir(folder).unwrap().count();
    (count("/proc/self/fd"), count("/proc/self/task"))
}

#[test]
fn a_thousand_starts_and_stops_leave_no_descriptor_and_no_thread() {
    let run: Box<dyn Fn(usize)> = if netns::available() {
        let netns = Netns::new("cycles");
        Box::new(move |count| netns.run(|| block_on(cycles(count / 2))))
    } else {
        Box::new(|count| block_on(cycles_without_a_tun(count)))
    };
    run(2); // what is made once
    let before = held();
    run(1000);
    wait_until(&format!("{before:?} descriptors and threads again, now {:?}", held()), || held() == before);
}
