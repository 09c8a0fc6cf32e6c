//! The server's certificate, and its TLS settings.

use std::io;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use super::Identity;

/// The acceptor, and the certificates it shows, as PEM.
pub(super) fn acceptor(identity: &Identity) -> io::Result<(TlsAcceptor, String)> {
    let (certificates, key) = match identity {
        Identity::Generated(names) => {
            let made = rcgen::generate_simple_self_signed(names.clone()).map_err(invalid)?;
            (made.cert.pem(), made.signing_key.serialize_pem())
        }
        Identity::Pem { certificates, key } => (certificates.clone(), key.clone()),
    };
    let chain = CertificateDer::pem_slice_iter(certificates.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(invalid)?;
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(invalid)?;
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(invalid)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(invalid)?;
    Ok((TlsAcceptor::from(Arc::new(config)), certificates))
}

fn invalid(error: impl std::error::Error + Send + Sync + 'static) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_given_as_pem_is_the_one_shown() {
        let made = rcgen::generate_simple_self_signed(["proxy.example".to_owned()]).expect("a certificate");
        let given = Identity::Pem { certificates: made.cert.pem(), key: made.signing_key.serialize_pem() };
        let (_, shown) = acceptor(&given).expect("usable");
        assert_eq!(shown, made.cert.pem());
    }

    #[test]
    fn pem_that_does_not_fit_is_an_error() {
        for (certificates, key) in [("", ""), ("-----BEGIN CERTIFICATE-----\n", "nonsense")] {
            let given = Identity::Pem { certificates: certificates.into(), key: key.into() };
            let error = acceptor(&given).map(drop).expect_err("unusable");
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        }
    }
}
