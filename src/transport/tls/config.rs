//! TLS options to a rustls configuration.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};

use super::verifier::{SpkiPin, Verifier};
use crate::budget::Account;

/// How the connection is encrypted, and whom it trusts.
#[derive(Clone, Debug)]
pub struct TlsOptions {
    /// Whom the certificate must be for, and what the ClientHello names; `None` is the server's host. An
    /// address is verified against the certificate's addresses and never sent.
    pub server_name: Option<String>,
    /// Verify the name, but do not send it.
    pub disable_sni: bool,
    /// Take any chain, name and dates. Pins still hold, and then stand in their place.
    pub insecure: bool,
    /// Protocols offered, best first.
    pub alpn: Vec<String>,
    /// The oldest version offered.
    pub min_version: TlsVersion,
    /// The newest version offered.
    pub max_version: TlsVersion,
    /// Roots to trust in the place of the built-in ones.
    pub certificate_authority: Option<Pem>,
    /// When there are any, the server's own certificate must carry one of these keys, beside all else.
    pub pins: Vec<SpkiPin>,
    /// What to show to a server that asks who we are.
    pub client_certificate: Option<ClientCertificate>,
}

impl Default for TlsOptions {
    fn default() -> Self {
        Self {
            server_name: None,
            disable_sni: false,
            insecure: false,
            alpn: Vec::new(),
            min_version: TlsVersion::Tls13,
            max_version: TlsVersion::Tls13,
            certificate_authority: None,
            pins: Vec::new(),
            client_certificate: None,
        }
    }
}

/// A TLS version that can be spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    /// TLS 1.2.
    Tls12,
    /// TLS 1.3.
    Tls13,
}

/// PEM text. `Debug` does not show it, since it may hold a private key.
#[derive(Clone)]
pub enum Pem {
    /// The text itself.
    Text(Vec<u8>),
    /// A file that holds it, read when the dialer is made.
    File(PathBuf),
}

/// A certificate of the client's own.
#[derive(Clone, Debug)]
pub struct ClientCertificate {
    /// The chain, the client's certificate first.
    pub certificate: Pem,
    /// Its private key: PKCS #8, PKCS #1 or SEC1.
    pub key: Pem,
}

/// Why [`TlsOptions`] cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsConfigError {
    /// Neither a DNS name nor an IP address.
    #[error("{0} is not a name that a certificate can be for")]
    ServerName(String),
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Not PEM, or not of what was expected.
    #[error("no PEM of {expected}")]
    Pem {
        /// What should have been there.
        expected: &'static str,
        /// What the parser says.
        source: pem::Error,
    },
    /// A certificate to trust that rustls cannot use.
    #[error("cannot trust the certificate")]
    Authority(#[source] rustls::Error),
    /// A client certificate or key that rustls cannot use, or that do not belong together.
    #[error("cannot use the client certificate")]
    ClientCertificate(#[source] rustls::Error),
    /// `min_version` is above `max_version`.
    #[error("no TLS version is allowed")]
    NoVersion,
    /// rustls itself cannot be set up.
    #[error("cannot set up TLS")]
    Setup(#[source] rustls::Error),
}

/// All that the handshakes with one server have in common, their tickets too.
pub(in crate::transport) struct Client {
    pub(super) config: Arc<ClientConfig>,
    pub(super) name: ServerName<'static>,
    pub(super) account: Arc<Account>,
}

/// Tickets kept in memory: as many as rustls keeps for one server, and there is only one.
const TICKETS: usize = 8;

impl Client {
    /// Reads the files that `options` name.
    pub(in crate::transport) fn new(
        options: &TlsOptions,
        host: &str,
        account: Arc<Account>,
    ) -> Result<Self, TlsConfigError> {
        let (config, name) = client_config(options, host)?;
        Ok(Self { config, name, account })
    }
}

/// What handshakes with one host are made with, and whom its certificate must be for. Reads the files that
/// `options` name. Tickets are kept in the configuration, so that it should be kept too.
///
/// # Errors
/// When the options cannot be used.
pub fn client_config(
    options: &TlsOptions,
    host: &str,
) -> Result<(Arc<ClientConfig>, ServerName<'static>), TlsConfigError> {
    let name = options.server_name.as_deref().unwrap_or(host).to_owned();
    let name = ServerName::try_from(name.clone()).map_err(|_| TlsConfigError::ServerName(name))?;
    let provider = Arc::new(ring::default_provider());
    let versions: Vec<&SupportedProtocolVersion> = [(TlsVersion::Tls13, &TLS13), (TlsVersion::Tls12, &TLS12)]
        .into_iter()
        .filter(|(version, _)| (options.min_version..=options.max_version).contains(version))
        .map(|(_, version)| version)
        .collect();
    if versions.is_empty() {
        return Err(TlsConfigError::NoVersion);
    }
    let verifier = verifier(options, &provider)?;
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&versions)
        .map_err(TlsConfigError::Setup)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = match &options.client_certificate {
        None => builder.with_no_client_auth(),
        Some(client) => builder
            .with_client_auth_cert(certificates(&client.certificate)?, private_key(&client.key)?)
            .map_err(TlsConfigError::ClientCertificate)?,
    };
    config.alpn_protocols = options.alpn.iter().map(|name| name.clone().into_bytes()).collect();
    config.enable_sni = !options.disable_sni;
    config.resumption = Resumption::in_memory_sessions(TICKETS);
    Ok((Arc::new(config), name))
}

fn verifier(options: &TlsOptions, provider: &Arc<CryptoProvider>) -> Result<Verifier, TlsConfigError> {
    let trusted = options.certificate_authority.as_ref().map(certificates).transpose()?.unwrap_or_default();
    let chain = if options.insecure {
        if options.pins.is_empty() {
            tracing::warn!(
                "insecure: the server's certificate is not verified, anyone on the way can read all"
            );
        }
        None
    } else {
        let roots = Arc::new(roots(&trusted)?);
        let verifier = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(provider)).build();
        Some(verifier.map_err(|error| TlsConfigError::Setup(rustls::Error::General(error.to_string())))?)
    };
    let algorithms = provider.signature_verification_algorithms;
    Ok(Verifier { chain, trusted, pins: options.pins.clone(), algorithms })
}

/// The config's own, or else those that browsers trust.
fn roots(trusted: &[CertificateDer<'static>]) -> Result<RootCertStore, TlsConfigError> {
    if trusted.is_empty() {
        return Ok(RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() });
    }
    let mut roots = RootCertStore::empty();
    for certificate in trusted {
        roots.add(certificate.clone()).map_err(TlsConfigError::Authority)?;
    }
    Ok(roots)
}

/// At least one certificate.
fn certificates(pem: &Pem) -> Result<Vec<CertificateDer<'static>>, TlsConfigError> {
    let text = pem.read()?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    certificates
        .and_then(|found| if found.is_empty() { Err(pem::Error::NoItemsFound) } else { Ok(found) })
        .map_err(|source| TlsConfigError::Pem { expected: "a certificate", source })
}

fn private_key(pem: &Pem) -> Result<PrivateKeyDer<'static>, TlsConfigError> {
    PrivateKeyDer::from_pem_slice(&pem.read()?)
        .map_err(|source| TlsConfigError::Pem { expected: "a private key", source })
}

impl Pem {
    fn read(&self) -> Result<Vec<u8>, TlsConfigError> {
        match self {
            Self::Text(text) => Ok(text.clone()),
            Self::File(path) => {
                std::fs::read(path).map_err(|source| TlsConfigError::File { path: path.clone(), source })
            }
        }
    }
}

impl fmt::Debug for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(_) => f.write_str(".."),
            Self::File(path) => path.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_no_pem_text() {
        let pem = Pem::Text(b"-----BEGIN PRIVATE KEY-----".to_vec());
        let client = ClientCertificate { certificate: pem.clone(), key: pem };
        let options = TlsOptions { client_certificate: Some(client), ..TlsOptions::default() };
        assert!(!format!("{options:?}").contains("PRIVATE"));
    }

    #[test]
    fn options_that_cannot_be_used_are_told_apart() {
        let text = |text: &str| Pem::Text(text.as_bytes().to_vec());
        let not_der = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let default = TlsOptions::default;
        let error = |options: TlsOptions| match Client::new(&options, "example.com", Arc::default()) {
            Ok(_) => panic!("taken: {options:?}"),
            Err(error) => error,
        };
        assert!(matches!(
            error(TlsOptions { server_name: Some("no name".into()), ..default() }),
            TlsConfigError::ServerName(name) if name == "no name"
        ));
        assert!(matches!(
            error(TlsOptions { certificate_authority: Some(text("nothing")), ..default() }),
            TlsConfigError::Pem { expected: "a certificate", .. }
        ));
        assert!(matches!(
            error(TlsOptions { certificate_authority: Some(text(not_der)), ..default() }),
            TlsConfigError::Authority(_)
        ));
        assert!(matches!(
            error(TlsOptions { certificate_authority: Some(Pem::File("/no/such/file".into())), ..default() }),
            TlsConfigError::File { .. }
        ));
        let client = ClientCertificate { certificate: text(not_der), key: text(not_der) };
        assert!(matches!(
            error(TlsOptions { client_certificate: Some(client), ..default() }),
            TlsConfigError::Pem { expected: "a private key", .. }
        ));
        assert!(matches!(
            error(TlsOptions { max_version: TlsVersion::Tls12, ..default() }),
            TlsConfigError::NoVersion
        ));
    }
}
