//! What a server is made of.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use super::Faults;
use crate::proto::auth::PasswordHash;
use crate::proto::padding::Scheme;
use crate::proto::settings::PeerVersion;
use crate::proto::target::Target;

/// Decides what serves a stream.
pub type Outbound = Arc<dyn Fn(&Target) -> Service + Send + Sync>;

/// What a server is made of.
#[derive(Clone)]
pub struct ServerOptions {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// What clients must know.
    pub password: PasswordHash,
    /// What the server shows for itself.
    pub identity: Identity,
    /// What clients are to pad by.
    pub scheme: Arc<Scheme>,
    /// The version to speak.
    pub version: PeerVersion,
    /// Sessions without a stream for longer than this are closed.
    pub idle_limit: Option<Duration>,
    /// The answer to a wrong password.
    pub rejection: Rejection,
    /// What serves streams.
    pub outbound: Outbound,
    /// Whether connections are recorded record by record and frame by frame, and remembered.
    pub record: bool,
    /// What to do wrong from the start.
    pub faults: Faults,
}

impl ServerOptions {
    /// A correct server on a free port of the loopback, which connects to what it is asked for.
    pub fn new(password: PasswordHash) -> Self {
        Self {
            listen: (Ipv4Addr::LOCALHOST, 0).into(),
            password,
            identity: Identity::default(),
            scheme: Arc::new(Scheme::default_scheme()),
            version: PeerVersion::V2,
            idle_limit: None,
            rejection: Rejection::Close,
            outbound: Arc::new(|_| Service::Connect),
            record: false,
            faults: Faults::default(),
        }
    }
}

impl fmt::Debug for ServerOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerOptions").field("listen", &self.listen).finish_non_exhaustive()
    }
}

/// The certificate and its key.
#[derive(Clone)]
pub enum Identity {
    /// Made at the start, self-signed, for these names and addresses.
    Generated(Vec<String>),
    /// Given, as PEM: the chain with the server's own certificate first, and its key.
    Pem {
        /// The chain.
        certificates: String,
        /// The key.
        key: String,
    },
}

impl Default for Identity {
    fn default() -> Self {
        Self::Generated(["localhost", "127.0.0.1", "::1"].map(String::from).to_vec())
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Generated(names) => f.debug_tuple("Generated").field(names).finish(),
            Self::Pem { .. } => f.write_str("Pem { .. }"),
        }
    }
}

/// The answer to a wrong password.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rejection {
    /// The connection is closed.
    #[default]
    Close,
    /// As a web server answers nonsense: servers with a fallback do.
    Http,
}

/// What serves a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Service {
    /// A TCP connection to the target; for UDP over TCP, its datagrams.
    Connect,
    /// A TCP connection to this address, whatever the target.
    ConnectTo(SocketAddr),
    /// Sends back what comes.
    Echo,
    /// Reads, and drops what it reads.
    Discard,
    /// Sends so many bytes, the one at offset `n` being `n mod 251`, and finishes.
    Send(u64),
    /// Takes the stream, and neither reads nor sends.
    Hold,
    /// Refuses the stream with this text.
    Refuse(String),
}
