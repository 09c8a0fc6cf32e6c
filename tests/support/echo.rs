//! UDP servers for apps to talk to, and the apps.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};

use super::netns::Netns;
use super::target::seeded;

/// Where datagrams come back from the address that they were sent to.
pub const ECHO: u16 = 7;
/// Where they come back from [`ELSEWHERE`].
pub const CROOKED: u16 = 8;
/// Another echo.
pub const ELSEWHERE: u16 = 9;

/// The addresses of the [lab](super::lab)'s targets.
pub const TARGETS: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(203, 0, 113, 9)), IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 9))];

/// How much the servers' sockets hold, the kernel permitting: a thousand small datagrams at once.
const BUFFER: usize = 4 << 20;

/// Sends every datagram back, until it is dropped.
pub struct Echo {
    _runtime: Runtime,
}

impl Echo {
    /// On [`ECHO`], [`CROOKED`] and [`ELSEWHERE`] of [`TARGETS`], which must be the namespace's.
    pub fn start(netns: &Netns) -> Self {
        let this = Self::new();
        for address in TARGETS {
            let [straight, crooked, elsewhere] =
                [ECHO, CROOKED, ELSEWHERE].map(|port| this.bind(netns, SocketAddr::new(address, port)));
            this.serve(Arc::clone(&straight), straight);
            this.serve(crooked, Arc::clone(&elsewhere));
            this.serve(Arc::clone(&elsewhere), elsewhere);
        }
        this
    }

    /// On one address alone.
    pub fn start_on(netns: &Netns, address: SocketAddr) -> Self {
        let this = Self::new();
        let socket = this.bind(netns, address);
        this.serve(Arc::clone(&socket), socket);
        this
    }

    fn new() -> Self {
        Self { _runtime: Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap() }
    }

    fn bind(&self, netns: &Netns, address: SocketAddr) -> Arc<tokio::net::UdpSocket> {
        let socket = netns.run(|| UdpSocket::bind(address)).unwrap();
        socket2::SockRef::from(&socket).set_recv_buffer_size(BUFFER).unwrap();
        socket.set_nonblocking(true).unwrap();
        let _inside = self._runtime.enter();
        Arc::new(tokio::net::UdpSocket::from_std(socket).unwrap())
    }

    fn serve(&self, from: Arc<tokio::net::UdpSocket>, by: Arc<tokio::net::UdpSocket>) {
        self._runtime.spawn(async move {
            let mut buffer = vec![0; 65_536];
            loop {
                // A client that is gone is told of by ICMP, and no matter.
                let Ok((received, peer)) = from.recv_from(&mut buffer).await else { continue };
                let _gone = by.send_to(&buffer[..received], peer).await;
            }
        });
    }
}

/// An app's socket.
pub struct App {
    socket: UdpSocket,
}

impl App {
    /// For talking to addresses of the family of `to`.
    pub fn new(netns: &Netns, to: IpAddr) -> Self {
        let any: IpAddr =
            if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let socket = netns.run(|| UdpSocket::bind((any, 0))).unwrap();
        // Longer than anything takes.
        socket.set_read_timeout(Some(Duration::from_secs(15))).unwrap();
        Self { socket }
    }

    pub fn send(&self, to: SocketAddr, payload: &[u8]) {
        let sent = self.socket.send_to(payload, to).unwrap_or_else(|error| panic!("to {to}: {error}"));
        assert_eq!(sent, payload.len());
    }

    /// Waits for the next datagram, which must be this one.
    pub fn expect(&self, from: SocketAddr, payload: &[u8]) {
        let mut buffer = vec![0; 65_536];
        let what = || format!("{} bytes from {from}", payload.len());
        let (received, source) = loop {
            match self.socket.recv_from(&mut buffer) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                result => break result.unwrap_or_else(|error| panic!("{}: {error}", what())),
            }
        };
        assert_eq!((source, received), (from, payload.len()), "{}", what());
        assert!(buffer[..received] == *payload, "{} are others", what());
    }

    /// The same as [`App::exchange`] by an app that has patience: it asks again, and passes over what came late.
    pub fn exchange_at_last(&self, echo: SocketAddr, size: usize) {
        let (payload, mut buffer) = (payload(size), vec![0; 65_536]);
        let deadline = self.socket.read_timeout().unwrap();
        self.socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        let mut is_answered = || {
            self.send(echo, &payload);
            while let Ok((received, _)) = self.socket.recv_from(&mut buffer) {
                if buffer[..received] == *payload {
                    return true;
                }
            }
            false
        };
        assert!((0..15).any(|_| is_answered()), "{size} bytes never came back from {echo}");
        self.socket.set_read_timeout(deadline).unwrap();
    }

    /// Sends a datagram of this size to an echo, and has it back.
    pub fn exchange(&self, echo: SocketAddr, size: usize) {
        let payload = payload(size);
        self.send(echo, &payload);
        self.expect(echo, &payload);
    }
}

/// A datagram of this size, like no other.
pub fn payload(size: usize) -> Vec<u8> {
    let size = u64::try_from(size).unwrap();
    seeded(size, size).flatten().collect()
}
