//! A TLS server that tests drive by hand, one step at a time, and certificates for it.

use std::io::{self, Read as _, Write as _};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, PublicKeyData};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection, SupportedProtocolVersion};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::budget::Account;
use crate::clock::Clock;

/// The name that test certificates are for.
pub(super) const NAME: &str = "server.test";

/// An authentication block of a length that no other record has.
pub(super) const AUTHENTICATION: &[u8] = &[0xA5; 34 + 77];

/// A certificate authority.
pub(super) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

/// A certificate and its key.
pub(super) struct Identity {
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) key: KeyPair,
    pub(super) pem: String,
}

impl Authority {
    pub(super) fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // A name of its own, or two authorities would pass for one with a wrong signature.
        params.distinguished_name.push(DnType::CommonName, format!("{:?}", key.public_key_raw()));
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    pub(super) fn pem(&self) -> Pem {
        Pem::Text(self.pem.clone().into_bytes())
    }

    pub(super) fn issue(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Identity {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        change(&mut params);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Identity { chain: vec![certificate.der().clone()], key, pem: certificate.pem() }
    }
}

impl Identity {
    /// As `openssl req -x509` makes it: its own authority.
    pub(super) fn self_signed(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap();
        Self { chain: vec![certificate.der().clone()], key, pem: certificate.pem() }
    }

    pub(super) fn pin(&self) -> SpkiPin {
        SpkiPin(Sha256::digest(self.key.subject_public_key_info()).into())
    }

    pub(super) fn key_der(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.key.serialize_der()).into()
    }

    pub(super) fn server_config(&self, version: &'static SupportedProtocolVersion) -> ServerConfig {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(self.chain.clone(), self.key_der())
            .unwrap()
    }
}

/// A listener, and what a dialer needs to trust it.
pub(super) struct Lab {
    pub(super) authority: Authority,
    pub(super) identity: Identity,
    pub(super) config: Arc<ServerConfig>,
    pub(super) listener: TcpListener,
}

impl Lab {
    /// A TLS 1.3 server with a good certificate.
    pub(super) async fn new() -> Self {
        Self::with(&rustls::version::TLS13, |_| {}).await
    }

    pub(super) async fn with(
        version: &'static SupportedProtocolVersion,
        change: impl FnOnce(&mut ServerConfig),
    ) -> Self {
        let authority = Authority::new();
        let identity = authority.issue(NAME, |_| {});
        let mut config = identity.server_config(version);
        change(&mut config);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self { authority, identity, config: Arc::new(config), listener }
    }

    pub(super) fn options(&self) -> DialOptions {
        let mut options = DialOptions::new("127.0.0.1", self.listener.local_addr().unwrap().port());
        options.tls.server_name = Some(NAME.into());
        options.tls.min_version = TlsVersion::Tls12;
        options.tls.certificate_authority = Some(self.authority.pem());
        options
    }

    pub(super) async fn accept(&self) -> io::Result<Server> {
        let (tcp, _) = self.listener.accept().await?;
        Server::handshake(tcp, Arc::clone(&self.config)).await
    }

    /// Dials and accepts; the authentication has not been read.
    pub(super) async fn connect(&self, dialer: &Dialer) -> (Connection, Server) {
        let (connection, server) = tokio::join!(dialer.dial(AUTHENTICATION), self.accept());
        (connection.unwrap(), server.unwrap())
    }

    /// A connection whose authentication has been read.
    pub(super) async fn wire(&self) -> (TlsConnection, Server) {
        let (connection, mut server) = self.connect(&dialer(self.options())).await;
        assert_eq!(server.receive(AUTHENTICATION.len()).await, AUTHENTICATION);
        (connection.wire, server)
    }

    /// The same, its buffers on `account`.
    pub(super) async fn wire_on(&self, account: &Arc<Account>) -> (TlsConnection, Server) {
        let options = DialOptions { account: Arc::clone(account), ..self.options() };
        let (connection, mut server) = self.connect(&dialer(options)).await;
        assert_eq!(server.receive(AUTHENTICATION.len()).await, AUTHENTICATION);
        (connection.wire, server)
    }

    /// The failure of a dial, whatever the server makes of it.
    pub(super) async fn failure(&self, options: DialOptions) -> DialError {
        let dialer = dialer(options);
        tokio::select! {
            biased;
            result = dialer.dial(AUTHENTICATION) => result.map(|_| ()).unwrap_err(),
            () = async {
                // Kept until the dial has ended, so that it sees no close.
                let _server = self.accept().await;
                std::future::pending().await
            } => unreachable!(),
        }
    }
}

pub(super) fn dialer(options: DialOptions) -> Dialer {
    Dialer::new(options, Arc::new(NoProtect), Arc::new(SystemResolver::default()), Clock::Tokio).unwrap()
}

/// The server's end of a connection.
pub(super) struct Server {
    pub(super) tcp: TcpStream,
    pub(super) tls: ServerConnection,
    /// All ciphertext that came from the client.
    pub(super) heard: Vec<u8>,
    /// Whether the client has sent its close_notify.
    pub(super) is_ended: bool,
    plaintext: Vec<u8>,
}

impl Server {
    pub(super) async fn handshake(tcp: TcpStream, config: Arc<ServerConfig>) -> io::Result<Self> {
        let mut tls = ServerConnection::new(config).unwrap();
        tls.set_buffer_limit(None);
        let mut server = Self { tcp, tls, heard: Vec::new(), is_ended: false, plaintext: Vec::new() };
        while server.tls.is_handshaking() {
            let result = server.hear().await;
            // What is made once the client's Finished is here, the tickets, is left to the test.
            if server.tls.is_handshaking() {
                server.flush().await?;
            }
            result?;
        }
        if server.tls.protocol_version() == Some(rustls::ProtocolVersion::TLSv1_2) {
            server.flush().await?; // Finished
        }
        Ok(server)
    }

    /// Waits for bytes and processes them.
    pub(super) async fn hear(&mut self) -> io::Result<()> {
        let mut bytes = vec![0; 64 * 1024];
        let count = self.tcp.read(&mut bytes).await?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        bytes.truncate(count);
        self.heard.extend_from_slice(&bytes);
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            self.tls.read_tls(&mut rest)?;
            self.tls.process_new_packets().map_err(io::Error::other)?;
            match self.tls.reader().read_to_end(&mut self.plaintext) {
                Ok(_) => self.is_ended = true,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// What TLS has to say, as bytes that are not sent yet.
    pub(super) fn output(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        while self.tls.wants_write() {
            self.tls.write_tls(&mut bytes).unwrap();
        }
        bytes
    }

    pub(super) async fn flush(&mut self) -> io::Result<()> {
        let bytes = self.output();
        self.tcp.write_all(&bytes).await
    }

    /// Encrypts `plaintext`, to be flushed.
    pub(super) fn queue(&mut self, plaintext: &[u8]) {
        self.tls.writer().write_all(plaintext).unwrap();
    }

    pub(super) async fn send(&mut self, plaintext: &[u8]) {
        self.queue(plaintext);
        self.flush().await.unwrap();
    }

    /// The plaintext that is there now.
    pub(super) fn plaintext(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.plaintext)
    }

    /// Exactly `count` bytes of plaintext.
    pub(super) async fn receive(&mut self, count: usize) -> Vec<u8> {
        while self.plaintext.len() < count {
            self.hear().await.unwrap();
        }
        assert_eq!(self.plaintext.len(), count);
        self.plaintext()
    }

    /// Type and length of each record heard, the last one perhaps not whole.
    pub(super) fn records(&self) -> Vec<(u8, usize)> {
        let (mut records, mut rest) = (Vec::new(), &self.heard[..]);
        while let [kind, _, _, high, low, body @ ..] = rest {
            let length = usize::from(u16::from_be_bytes([*high, *low]));
            records.push((*kind, length));
            rest = body.get(length..).unwrap_or_default();
        }
        records
    }
}
