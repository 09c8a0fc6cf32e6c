//! Why a dial failed.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::protect::ProtectError;

/// Why a dial failed. Can be cloned, since several streams may wait for one dial.
#[derive(Clone, Debug, thiserror::Error)]
pub enum DialError {
    /// The server's name was not resolved, and no earlier answer is known.
    #[error("cannot resolve {host}")]
    Resolve {
        /// The server's name.
        host: String,
        /// What the resolver said.
        source: Arc<io::Error>,
    },
    /// The server's name has no address.
    #[error("{host} has no address")]
    NoAddress {
        /// The server's name.
        host: String,
    },
    /// The socket was not kept out of the tunnel, and so never connected.
    #[error("the socket was not protected from the tunnel")]
    Protect(#[from] ProtectError),
    /// The OS gave no socket.
    #[error("cannot make a socket")]
    Socket(#[source] Arc<io::Error>),
    /// No address accepted a connection; this is the last one that failed, and so the one that got furthest.
    #[error("cannot connect to {address}")]
    Connect {
        /// The address that was tried.
        address: SocketAddr,
        /// What the OS said.
        source: Arc<io::Error>,
    },
    /// A stage took too long.
    #[error("no answer within {limit:?} while {stage}")]
    Timeout {
        /// The stage.
        stage: DialStage,
        /// How long it was given.
        limit: Duration,
    },
    /// The server's certificate was refused: by its chain, name or dates, or by the pins.
    #[error("the server's certificate was refused")]
    Certificate(#[source] rustls::Error),
    /// The handshake failed in another way, such as a server that does not speak TLS.
    #[error("the TLS handshake failed")]
    Tls(#[source] rustls::Error),
    /// The connection ended or broke after it was made.
    #[error("the connection was lost while {stage}")]
    Lost {
        /// How far the dial was.
        stage: DialStage,
        /// What the OS said, or `UnexpectedEof`.
        source: Arc<io::Error>,
    },
    /// The server closed the connection right after the authentication, before any frame. Never returned
    /// by a dial, since nothing answers an authentication: the session's driver sees it.
    #[error("wrong password, or not an AnyTLS server: the connection was closed right after authentication")]
    Authentication,
}

impl DialError {
    /// The kind, for counters and for what an app shows.
    pub fn kind(&self) -> DialErrorKind {
        match self {
            Self::Resolve { .. } | Self::NoAddress { .. } => DialErrorKind::Resolve,
            Self::Protect(_) => DialErrorKind::Protect,
            Self::Socket(_) => DialErrorKind::Socket,
            Self::Connect { source, .. } => match source.kind() {
                io::ErrorKind::ConnectionRefused => DialErrorKind::Refused,
                io::ErrorKind::NetworkUnreachable
                | io::ErrorKind::HostUnreachable
                | io::ErrorKind::NetworkDown
                // No address of ours in this family.
                | io::ErrorKind::AddrNotAvailable => DialErrorKind::Unreachable,
                _ => DialErrorKind::Connect,
            },
            Self::Timeout { .. } => DialErrorKind::Timeout,
            Self::Certificate(_) => DialErrorKind::Certificate,
            Self::Tls(_) => DialErrorKind::Tls,
            Self::Lost { .. } => DialErrorKind::Lost,
            Self::Authentication => DialErrorKind::Authentication,
        }
    }

    /// Who can do something about it.
    pub fn fault(&self) -> Fault {
        self.kind().fault()
    }
}

/// The kinds of [`DialError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DialErrorKind {
    /// The name has no answer, or an empty one.
    Resolve,
    /// The app did not protect the socket.
    Protect,
    /// No socket.
    Socket,
    /// Nothing listens on the port.
    Refused,
    /// No way to the address.
    Unreachable,
    /// Another failure to connect.
    Connect,
    /// Too slow.
    Timeout,
    /// The certificate was refused.
    Certificate,
    /// The handshake failed.
    Tls,
    /// The connection broke.
    Lost,
    /// Wrong password, or not an AnyTLS server.
    Authentication,
}

impl DialErrorKind {
    /// Who can do something about it.
    pub fn fault(self) -> Fault {
        match self {
            Self::Certificate | Self::Authentication => Fault::User,
            Self::Refused | Self::Tls => Fault::Server,
            Self::Protect | Self::Socket => Fault::Device,
            Self::Resolve | Self::Unreachable | Self::Connect | Self::Timeout | Self::Lost => Fault::Network,
        }
    }
}

/// Who can do something about a [`DialError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// The user: the config or the device's clock is wrong, and another dial will not help.
    User,
    /// Whoever runs the server.
    Server,
    /// Nobody: the next dial, or the next network, may do better.
    Network,
    /// The app or the OS on this device.
    Device,
}

/// A stage of a dial.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DialStage {
    /// Asking for the server's addresses.
    Resolve,
    /// The TCP connects, to all addresses together.
    Connect,
    /// The TLS handshake.
    Handshake,
    /// Sending the authentication.
    Authentication,
}

impl fmt::Display for DialStage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Resolve => "resolving",
            Self::Connect => "connecting",
            Self::Handshake => "shaking hands",
            Self::Authentication => "authenticating",
        })
    }
}
