//! TLS by rustls with ring.

mod buffers;
mod config;
mod handshake;
mod stream;
mod verifier;

pub(super) use config::Client;
pub use config::{ClientCertificate, Pem, TlsConfigError, TlsOptions, TlsVersion, client_config};
pub(super) use handshake::{HandshakeError, handshake};
pub use stream::TlsConnection;
pub use verifier::{PinMismatch, SpkiPin};
