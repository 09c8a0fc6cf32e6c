//! One dial: resolve, socket, protect, connect, TLS handshake, authentication record.
//!
//! [`Dialer::dial`] does all of it and returns a [`Connection`], whose [`TlsConnection`] the session's
//! driver reads and writes through [`Wire`]. Nothing here retries or backs off: that is the pool's part.

mod addresses;
mod dialer;
mod error;
mod protect;
mod race;
mod resolver;
mod tls;
mod wire;

use std::time::Duration;

pub use dialer::{Connection, DialOptions, Dialed, Dialer};
pub use error::{DialError, DialErrorKind, DialStage, Fault};
pub use protect::{BindToDevice, Mark, NoProtect, Protect, ProtectError};
pub use resolver::{Lookup, Resolve, SystemResolver};
pub use tls::{
    ClientCertificate, Pem, PinMismatch, SpkiPin, TlsConfigError, TlsConnection, TlsOptions, TlsVersion,
};
pub use wire::{BURST_RECORDS, Read as WireRead, Wire};

/// Makes authenticated connections to the one server.
pub trait Dial: Send + Sync + 'static {
    /// What they are read and written through.
    type Wire: Wire + Unpin;

    /// Connects and sends `authentication` as one record; gives the connection and the round trip measured
    /// on the way.
    ///
    /// # Errors
    /// See [`DialError`].
    fn dial(
        &self,
        authentication: &[u8],
    ) -> impl Future<Output = Result<(Self::Wire, Duration), DialError>> + Send;
}

impl Dial for Dialer {
    type Wire = TlsConnection;

    async fn dial(&self, authentication: &[u8]) -> Result<(TlsConnection, Duration), DialError> {
        let Connection { wire, dialed } = Self::dial(self, authentication).await?;
        Ok((wire, dialed.tcp_connect))
    }
}

#[cfg(all(test, feature = "testserver"))]
mod testing;
#[cfg(all(test, feature = "testserver"))]
mod tests;
