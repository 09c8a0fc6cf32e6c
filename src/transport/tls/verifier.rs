//! Whom the server's certificate must convince.

use std::fmt;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, OtherError, SignatureScheme};
use sha2::{Digest, Sha256};

/// The SHA-256 of a SubjectPublicKeyInfo in DER: a public key, whatever certificate carries it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SpkiPin(pub [u8; 32]);

impl SpkiPin {
    /// The pin of a certificate's own key.
    fn of(certificate: &CertificateDer<'_>) -> Result<Self, Error> {
        let key = ParsedCertificate::try_from(certificate)?.subject_public_key_info();
        Ok(Self(Sha256::digest(key).into()))
    }
}

impl fmt::Display for SpkiPin {
    /// Lower-case hex.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for SpkiPin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The server's key is none of the pinned ones. Found inside [`CertificateError::Other`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the server's public key (SHA-256 {found}) is not pinned")]
pub struct PinMismatch {
    /// The pin that would have matched.
    pub found: SpkiPin,
}

/// Checks chain, name and dates, or the pins, or both, or nothing.
#[derive(Debug)]
pub(super) struct Verifier {
    /// `None`: any chain, name and dates will do.
    pub(super) chain: Option<Arc<WebPkiServerVerifier>>,
    /// The certificates that the config names as trusted.
    pub(super) trusted: Vec<CertificateDer<'static>>,
    /// When there are any, one must match.
    pub(super) pins: Vec<SpkiPin>,
    pub(super) algorithms: WebPkiSupportedAlgorithms,
}

impl Verifier {
    /// Without chain and pins no key is better than another, so that a proof of owning it says nothing;
    /// and certificates that webpki cannot read pass too.
    fn takes_any_key(&self) -> bool {
        self.chain.is_none() && self.pins.is_empty()
    }
}

/// Whether all that is wrong is an authority's certificate where a server's should be.
fn is_authority(error: &Error) -> bool {
    let Error::InvalidCertificate(CertificateError::Other(OtherError(error))) = error else { return false };
    matches!(error.downcast_ref(), Some(webpki::Error::CaUsedAsEndEntity))
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if let Some(chain) = &self.chain {
            match chain.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
                // What `openssl req -x509` makes is marked as an authority. Shown by the server as its own
                // certificate and trusted as such, there is nobody to sign for it; its dates are checked before.
                Err(error) if is_authority(&error) && self.trusted.contains(end_entity) => {
                    verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
                }
                result => {
                    result?;
                }
            }
        }
        if !self.pins.is_empty() {
            let found = SpkiPin::of(end_entity)?;
            if !self.pins.contains(&found) {
                return Err(CertificateError::Other(OtherError(Arc::new(PinMismatch { found }))).into());
            }
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        if self.takes_any_key() {
            return Ok(HandshakeSignatureValid::assertion());
        }
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        if self.takes_any_key() {
            return Ok(HandshakeSignatureValid::assertion());
        }
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
