//! One dial: resolve, socket, protect, connect, TLS handshake, authentication record.
//!
//! [`Dialer::dial`] does all of it and returns a [`Connection`], whose [`TlsConnection`] the session's
//! driver reads and writes through [`Wire`]. Nothing here retries or backs off: that is the pool's part.

mod addresses;
mod dialer;
mod error;
mod name_servers;
mod protect;
mod race;
mod resolver;
mod tls;
mod wire;

use std::sync::Arc;
use std::time::Duration;

pub use dialer::{Connection, DialOptions, Dialed, Dialer};
pub use error::{DialError, DialErrorKind, DialStage, Fault};
pub use name_servers::NameServers;
pub use protect::{BindToDevice, Mark, NoProtect, Protect, ProtectError};
pub use resolver::{BlockingLookups, Lookup, Resolve, SystemResolver};
pub use tls::{
    ClientCertificate, Pem, PinMismatch, SpkiPin, TlsConfigError, TlsConnection, TlsOptions, TlsVersion,
    client_config,
};
pub use wire::{BURST_RECORDS, Progress, Read as WireRead, SystemWatch, Wire};

/// How the network is reached beside the tunnel.
#[derive(Clone)]
pub struct Outside {
    /// Keeps sockets out of the tunnel.
    pub protect: Arc<dyn Protect>,
    /// Looks the server's name up.
    pub resolve: Arc<dyn Resolve>,
}

/// With the system's own lookups, which then must not enter the tunnel.
impl<P: Protect> From<Arc<P>> for Outside {
    fn from(protect: Arc<P>) -> Self {
        Self { protect, resolve: Arc::new(SystemResolver::default()) }
    }
}

/// Makes authenticated connections to the one server.
pub trait Dial: Send + Sync + 'static {
    /// What they are read and written through.
    type Wire: Wire + Unpin;

    /// Connects and sends `authentication` as one record; gives the connection, and how long it took.
    ///
    /// # Errors
    /// See [`DialError`].
    fn dial(
        &self,
        authentication: &[u8],
    ) -> impl Future<Output = Result<(Self::Wire, DialTimes), DialError>> + Send;

    /// The network changed: the next dial resolves anew.
    fn handle_path_change(&self) {}
}

impl Dial for Dialer {
    type Wire = TlsConnection;

    async fn dial(&self, authentication: &[u8]) -> Result<(TlsConnection, DialTimes), DialError> {
        let Connection { wire, dialed } = Self::dial(self, authentication).await?;
        let Dialed { tcp_connect: connect, tls_handshake: handshake, .. } = dialed;
        Ok((wire, DialTimes { connect, handshake }))
    }

    fn handle_path_change(&self) {
        Self::handle_path_change(self);
    }
}

/// How long the steps of a dial took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DialTimes {
    /// The TCP connect to the address that answered: a first sample of the round trip.
    pub connect: Duration,
    /// The TLS handshake, until the authentication had left.
    pub handshake: Duration,
}

#[cfg(all(test, feature = "testserver"))]
mod testing;
#[cfg(all(test, feature = "testserver"))]
mod tests;
