//! From a name to an authenticated connection.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use super::addresses::Addresses;
use super::error::{DialError, DialStage};
use super::protect::Protect;
use super::race::race;
use super::resolver::Resolve;
use super::tls::{Client, HandshakeError, TlsConfigError, TlsConnection, TlsOptions, TlsVersion, handshake};
use super::wire::Wire;
use crate::budget::Account;
use crate::clock::Clock;
use crate::private::Private;

/// Where a dial goes, and how long it may take.
#[derive(Clone, Debug)]
pub struct DialOptions {
    /// The server's name or address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// How long a lookup of the name may take.
    pub resolve_timeout: Duration,
    /// How long the TCP connects may take, to all addresses together.
    pub connect_timeout: Duration,
    /// How long the TLS handshake may take, until the authentication has left.
    pub handshake_timeout: Duration,
    /// Send TCP keepalives after this much silence. `None`, for none, since heartbeats do their work and
    /// are sent in one burst.
    pub keepalive: Option<Duration>,
    /// How the connection is encrypted.
    pub tls: TlsOptions,
    /// What all sessions may hold together.
    pub account: Arc<Account>,
}

impl DialOptions {
    /// The defaults for a server: 5 s to resolve (a second query, after the first of a resolver's usual
    /// two attempts was lost), 5 s to connect (a SYN is repeated after 1 s and 3 s), 10 s for the
    /// handshake (two round trips and the server's signature, over a network that drops packets).
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        Self {
            host: host.into(),
            port,
            resolve_timeout: Duration::from_secs(5),
            connect_timeout: Duration::from_secs(5),
            handshake_timeout: Duration::from_secs(10),
            keepalive: None,
            tls: TlsOptions::default(),
            account: Arc::default(),
        }
    }
}

/// Dials one server. Remembers its addresses and its TLS tickets between dials.
pub struct Dialer {
    addresses: Addresses,
    tls: Client,
    connect_timeout: Duration,
    handshake_timeout: Duration,
    keepalive: Option<Duration>,
    protect: Arc<dyn Protect>,
    clock: Clock,
}

impl Dialer {
    /// Checks the TLS options, reading the files they name; nothing is sent.
    ///
    /// # Errors
    /// When the TLS options cannot be used.
    pub fn new(
        options: DialOptions,
        protect: Arc<dyn Protect>,
        resolver: Arc<dyn Resolve>,
        clock: Clock,
    ) -> Result<Self, TlsConfigError> {
        let tls = Client::new(&options.tls, &options.host, options.account)?;
        let addresses = Addresses::new(options.host, options.port, resolver, options.resolve_timeout, clock);
        Ok(Self {
            addresses,
            tls,
            connect_timeout: options.connect_timeout,
            handshake_timeout: options.handshake_timeout,
            keepalive: options.keepalive,
            protect,
            clock,
        })
    }

    /// Resolves, connects, shakes hands, and sends `authentication` as one TLS record, in a packet with the
    /// end of the handshake. Nothing answers it: [`DialError::Authentication`] is for the one who reads.
    ///
    /// # Errors
    /// What went wrong, and where. Dialling again, and when, is the caller's decision.
    ///
    /// # Cancel safety
    /// Dropping it closes all sockets.
    pub async fn dial(&self, authentication: &[u8]) -> Result<Connection, DialError> {
        let result = self.dial_once(authentication).await;
        if result.is_err() {
            self.addresses.handle_failed_dial();
        }
        result
    }

    async fn dial_once(&self, authentication: &[u8]) -> Result<Connection, DialError> {
        let addresses = self.addresses.resolve().await?;
        let connects = race(addresses, self.connect_timeout, |address| self.connect(address));
        let (tcp, peer, tcp_connect) = connects.await?;
        self.addresses.handle_connected(peer);

        let begin = self.clock.now();
        let limit = self.handshake_timeout;
        let secured = timeout(limit, async {
            let mut wire = handshake(tcp, &self.tls).await?;
            let tls_handshake = self.clock.now().since(begin);
            let lost = |source| DialError::lost(DialStage::Authentication, source);
            // protocol.md, "Authentication": the whole block is one record.
            wire.queue_record(authentication).map_err(lost)?;
            poll_fn(|cx| wire.poll_flush(cx)).await.map_err(lost)?;
            Ok::<_, DialError>((wire, tls_handshake))
        });
        let late = |_| DialError::Timeout { stage: DialStage::Handshake, limit };
        let (wire, tls_handshake) = secured.await.map_err(late)??;

        let dialed = Dialed {
            peer,
            local: wire.local_addr().map_err(|source| DialError::lost(DialStage::Authentication, source))?,
            tcp_connect,
            tls_handshake,
            version: wire.version(),
            alpn: wire.alpn().map(<[u8]>::to_vec),
            is_resumed: wire.is_resumed(),
        };
        tracing::debug!(peer = %Private(peer), ?tcp_connect, ?tls_handshake, resumed = dialed.is_resumed, "connected to the server");
        Ok(Connection { wire, dialed })
    }

    async fn connect(&self, address: SocketAddr) -> Result<(TcpStream, SocketAddr, Duration), DialError> {
        let socket = self.socket(address).map_err(|error| DialError::Socket(Arc::new(error)))?;
        self.protect.protect(socket.as_fd())?;
        let begin = self.clock.now();
        match socket.connect(address).await {
            Ok(tcp) => Ok((tcp, address, self.clock.now().since(begin))),
            Err(error) => Err(DialError::Connect { address, source: Arc::new(error) }),
        }
    }

    /// A socket that has sent nothing yet. The sizes of its buffers are the kernel's to choose: it adapts
    /// them to the path, and stops doing so once they are set.
    fn socket(&self, address: SocketAddr) -> io::Result<TcpSocket> {
        let socket = if address.is_ipv6() { TcpSocket::new_v6() } else { TcpSocket::new_v4() }?;
        socket.set_nodelay(true)?;
        if let Some(silence) = self.keepalive {
            let keepalive = TcpKeepalive::new().with_time(silence).with_interval(silence);
            SockRef::from(&socket).set_tcp_keepalive(&keepalive)?;
        }
        Ok(socket)
    }

    /// The network changed: the next dial resolves anew. Dials under way are the caller's to drop.
    pub fn handle_path_change(&self) {
        self.addresses.handle_path_change();
    }
}

impl fmt::Debug for Dialer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dialer").finish_non_exhaustive()
    }
}

impl DialError {
    fn lost(stage: DialStage, source: io::Error) -> Self {
        Self::Lost { stage, source: Arc::new(source) }
    }
}

impl From<HandshakeError> for DialError {
    fn from(error: HandshakeError) -> Self {
        match error {
            HandshakeError::Tls(
                error @ (rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented),
            ) => Self::Certificate(error),
            HandshakeError::Tls(error) => Self::Tls(error),
            HandshakeError::Io(source) => Self::lost(DialStage::Handshake, source),
        }
    }
}

/// An authenticated connection, as far as the client can tell.
#[derive(Debug)]
pub struct Connection {
    /// To be read and written by one task.
    pub wire: TlsConnection,
    /// How it came about.
    pub dialed: Dialed,
}

/// How a dial went.
#[derive(Clone, Debug)]
pub struct Dialed {
    /// The server's address.
    pub peer: SocketAddr,
    /// Our address.
    pub local: SocketAddr,
    /// How long the connect to that address took: a first sample of the round trip.
    pub tcp_connect: Duration,
    /// How long the handshake took after it.
    pub tls_handshake: Duration,
    /// The TLS version.
    pub version: TlsVersion,
    /// The protocol that the server chose.
    pub alpn: Option<Vec<u8>>,
    /// Whether an earlier session was resumed.
    pub is_resumed: bool,
}
