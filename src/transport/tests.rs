//! Dials over real sockets.

use std::io;
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls::CertificateError;
use rustls::server::WebPkiClientVerifier;
use rustls::version::{TLS12, TLS13};
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::testing::{AUTHENTICATION, Authority, Identity, Lab, NAME, dialer};
use super::*;
use crate::clock::Clock;
use crate::proto::frame::MAX_RECORD_BYTES;

const APPLICATION_DATA: u8 = 23;

/// A port that nothing listens on.
async fn closed_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port()
}

fn certificate_error(error: &DialError) -> &CertificateError {
    match error {
        DialError::Certificate(rustls::Error::InvalidCertificate(error)) => error,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_port_without_listener_refuses() {
    let error = dialer(DialOptions::new("127.0.0.1", closed_port().await)).dial(b"x").await.unwrap_err();
    assert_eq!((error.kind(), error.fault()), (DialErrorKind::Refused, Fault::Server), "{error:?}");
}

#[tokio::test]
async fn certificates_are_refused_for_their_own_reasons() {
    let lab = Lab::new().await;
    let mut options = lab.options();
    options.tls.server_name = Some("other.test".into());
    let error = lab.failure(options).await;
    assert!(
        matches!(certificate_error(&error), CertificateError::NotValidForNameContext { .. }),
        "{error:?}"
    );

    let mut options = lab.options();
    options.tls.certificate_authority = Some(Authority::new().pem());
    assert_eq!(certificate_error(&lab.failure(options).await), &CertificateError::UnknownIssuer);

    let mut options = lab.options();
    options.tls.certificate_authority = None;
    assert_eq!(certificate_error(&lab.failure(options).await), &CertificateError::UnknownIssuer);

    let mut lab = Lab::new().await;
    let expired = lab.authority.issue(NAME, |params| {
        params.not_before = rcgen::date_time_ymd(2001, 1, 1);
        params.not_after = rcgen::date_time_ymd(2002, 1, 1);
    });
    lab.config = Arc::new(expired.server_config(&TLS13));
    let error = lab.failure(lab.options()).await;
    assert!(matches!(certificate_error(&error), CertificateError::ExpiredContext { .. }), "{error:?}");
    assert_eq!((error.kind(), error.fault()), (DialErrorKind::Certificate, Fault::User));
}

#[tokio::test]
async fn a_self_signed_certificate_marked_as_an_authority_is_taken_where_it_is_trusted() {
    for (name, sound) in [(NAME, true), ("other.example", false)] {
        let mut lab = Lab::new().await;
        let identity = Identity::self_signed(name);
        lab.config = Arc::new(identity.server_config(&TLS13));
        let mut options = lab.options();
        assert!(matches!(lab.failure(options.clone()).await, DialError::Certificate(_)), "trusted by nobody");
        options.tls.certificate_authority = Some(Pem::Text(identity.pem.into_bytes()));
        if sound {
            lab.connect(&dialer(options)).await;
        } else {
            assert!(matches!(lab.failure(options).await, DialError::Certificate(_)), "another's name");
        }
    }
}

#[tokio::test]
async fn the_server_is_told_what_is_wrong_with_its_certificate() {
    let lab = Lab::new().await;
    let mut options = lab.options();
    options.tls.certificate_authority = Some(Authority::new().pem());
    let dialer = dialer(options);
    let (_, server) = tokio::join!(dialer.dial(AUTHENTICATION), lab.accept());
    let Err(error) = server else { panic!("shook hands") };
    assert!(error.to_string().contains("UnknownCA"), "{error}");
}

#[tokio::test]
async fn insecure_takes_any_certificate_in_both_versions() {
    for version in [&TLS12, &TLS13] {
        let lab = Lab::with(version, |_| {}).await;
        let mut options = lab.options();
        options.tls.server_name = Some("other.test".into());
        options.tls.certificate_authority = None;
        options.tls.insecure = true;
        lab.connect(&dialer(options)).await;
    }
}

#[tokio::test]
async fn pins_are_asked_for_beside_the_chain() {
    for version in [&TLS12, &TLS13] {
        let lab = Lab::with(version, |_| {}).await;
        let mut options = lab.options();
        options.tls.pins = vec![SpkiPin([7; 32]), lab.identity.pin()];
        lab.connect(&dialer(options.clone())).await;

        options.tls.server_name = Some("other.test".into());
        certificate_error(&lab.failure(options).await);
    }
}

#[tokio::test]
async fn a_key_that_is_not_pinned_is_refused_and_named() {
    let lab = Lab::new().await;
    let mut options = lab.options();
    options.tls.pins = vec![SpkiPin([7; 32])];
    for insecure in [false, true] {
        options.tls.insecure = insecure;
        let error = lab.failure(options.clone()).await;
        let CertificateError::Other(other) = certificate_error(&error) else { panic!("{error:?}") };
        assert_eq!(other.0.downcast_ref(), Some(&PinMismatch { found: lab.identity.pin() }));
        assert_eq!(error.kind(), DialErrorKind::Certificate);
    }
}

#[tokio::test]
async fn with_insecure_a_pin_stands_for_the_chain() {
    for version in [&TLS12, &TLS13] {
        let lab = Lab::with(version, |_| {}).await;
        let mut options = lab.options();
        options.tls.insecure = true;
        options.tls.certificate_authority = None;
        options.tls.server_name = Some("other.test".into());
        options.tls.pins = vec![lab.identity.pin()];
        lab.connect(&dialer(options)).await;
    }
}

#[tokio::test]
async fn a_pinned_certificate_without_its_key_is_refused() {
    // Whoever stands between has the certificate, as everyone does, but another key.
    for version in [&TLS12, &TLS13] {
        let mut lab = Lab::with(version, |_| {}).await;
        let impostor = lab.authority.issue(NAME, |_| {});
        let provider = rustls::crypto::ring::default_provider();
        let key = provider.key_provider.load_private_key(impostor.key_der()).unwrap();
        let stolen = rustls::sign::CertifiedKey::new(lab.identity.chain.clone(), key);
        let mut config = rustls::ServerConfig::clone(&lab.config);
        config.cert_resolver = Arc::new(rustls::sign::SingleCertAndKey::from(stolen));
        lab.config = Arc::new(config);
        let mut options = lab.options();
        options.tls.insecure = true;
        options.tls.pins = vec![lab.identity.pin()];
        assert_eq!(certificate_error(&lab.failure(options).await), &CertificateError::BadSignature);
    }
}

#[tokio::test]
async fn an_address_is_verified_and_not_sent() {
    let mut lab = Lab::new().await;
    lab.config = Arc::new(lab.authority.issue("127.0.0.1", |_| {}).server_config(&TLS13));
    let mut options = lab.options();
    options.tls.server_name = None;
    let (_, server) = lab.connect(&dialer(options.clone())).await;
    assert_eq!(server.tls.server_name(), None);

    options.tls.server_name = Some("127.0.0.2".into());
    certificate_error(&lab.failure(options).await);
}

#[tokio::test]
async fn the_server_name_is_sent_unless_disabled() {
    let lab = Lab::new().await;
    for (disable_sni, expected) in [(false, Some(NAME)), (true, None)] {
        let mut options = lab.options();
        options.tls.disable_sni = disable_sni;
        let (_, server) = lab.connect(&dialer(options)).await;
        assert_eq!(server.tls.server_name(), expected);
    }
}

#[tokio::test]
async fn the_chosen_protocol_is_told_and_none_in_common_is_an_error() {
    let lab = Lab::with(&TLS13, |config| config.alpn_protocols = vec![b"h2".to_vec()]).await;
    let mut options = lab.options();
    options.tls.alpn = vec!["http/1.1".into(), "h2".into()];
    let (connection, _) = lab.connect(&dialer(options.clone())).await;
    assert_eq!(connection.dialed.alpn.as_deref(), Some(&b"h2"[..]));

    options.tls.alpn = vec!["http/1.1".into()];
    let error = lab.failure(options).await;
    assert!(
        matches!(
            error,
            DialError::Tls(rustls::Error::AlertReceived(rustls::AlertDescription::NoApplicationProtocol))
        ),
        "{error:?}"
    );
}

#[tokio::test]
async fn an_older_version_is_spoken_only_when_allowed() {
    let lab = Lab::with(&TLS12, |_| {}).await;
    let (connection, _) = lab.connect(&dialer(lab.options())).await;
    assert_eq!(connection.dialed.version, TlsVersion::Tls12);

    let mut options = lab.options();
    options.tls.min_version = TlsVersion::Tls13;
    let error = lab.failure(options).await;
    assert_eq!(error.kind(), DialErrorKind::Tls, "{error:?}");
}

#[tokio::test]
async fn a_server_that_asks_for_a_certificate_is_shown_ours() {
    let authority = Authority::new();
    let mut lab = Lab::new().await;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(authority_der(&authority)).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier =
        WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone()).build().unwrap();
    lab.config = Arc::new(
        rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_single_cert(lab.identity.chain.clone(), lab.identity.key_der())
            .unwrap(),
    );
    let ours = authority.issue("client.test", |_| {});
    let mut options = lab.options();
    options.tls.client_certificate = Some(ClientCertificate {
        certificate: Pem::Text(ours.pem.clone().into_bytes()),
        key: Pem::Text(ours.key.serialize_pem().into_bytes()),
    });
    let (_, server) = lab.connect(&dialer(options)).await;
    assert_eq!(server.tls.peer_certificates(), Some(&ours.chain[..]));
}

fn authority_der(authority: &Authority) -> rustls::pki_types::CertificateDer<'static> {
    use rustls::pki_types::pem::PemObject;
    let Pem::Text(text) = authority.pem() else { unreachable!() };
    PemObject::from_pem_slice(&text).unwrap()
}

#[tokio::test]
async fn the_second_dial_resumes() {
    for version in [&TLS12, &TLS13] {
        let lab = Lab::with(version, |_| {}).await;
        let dialer = dialer(lab.options());
        let (mut first, mut server) = lab.connect(&dialer).await;
        assert!(!first.dialed.is_resumed);
        // In TLS 1.3 tickets come after the handshake, and are taken when the session reads.
        server.send(b"x").await;
        std::future::poll_fn(|cx| first.wire.poll_read(cx, &mut |_| false)).await.unwrap();
        let (second, _) = lab.connect(&dialer).await;
        assert!(second.dialed.is_resumed, "{version:?}");
    }
}

#[tokio::test]
async fn a_server_that_never_answers_is_a_timeout_of_the_handshake() {
    let lab = Lab::new().await;
    let mut options = lab.options();
    options.handshake_timeout = Duration::from_millis(20);
    // The kernel accepts the connection, and nobody takes it.
    let error = dialer(options).dial(AUTHENTICATION).await.unwrap_err();
    assert!(matches!(error, DialError::Timeout { stage: DialStage::Handshake, .. }), "{error:?}");
}

#[tokio::test]
async fn a_server_that_speaks_another_protocol_is_a_tls_error() {
    let lab = Lab::new().await;
    let dialer = dialer(lab.options());
    let serve = async {
        let (mut tcp, _) = lab.listener.accept().await.unwrap();
        tcp.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        tcp
    };
    let (result, _tcp) = tokio::join!(dialer.dial(AUTHENTICATION), serve);
    let error = result.unwrap_err();
    assert!(matches!(error, DialError::Tls(rustls::Error::InvalidMessage(_))), "{error:?}");
    assert_eq!(error.fault(), Fault::Server);
}

#[tokio::test]
async fn a_server_that_closes_during_the_handshake_is_a_lost_connection() {
    let lab = Lab::new().await;
    let dialer = dialer(lab.options());
    let serve = async {
        let (mut tcp, _) = lab.listener.accept().await.unwrap();
        tcp.read_buf(&mut Vec::with_capacity(4096)).await.unwrap();
    };
    let error = tokio::join!(dialer.dial(AUTHENTICATION), serve).0.unwrap_err();
    assert!(matches!(error, DialError::Lost { stage: DialStage::Handshake, .. }), "{error:?}");
}

struct Hook<F>(F);

impl<F: Fn(BorrowedFd<'_>) -> Result<(), ProtectError> + Send + Sync + 'static> Protect for Hook<F> {
    fn protect(&self, socket: BorrowedFd<'_>) -> Result<(), ProtectError> {
        (self.0)(socket)
    }
}

#[tokio::test]
async fn a_socket_that_is_not_protected_never_connects() {
    let lab = Lab::new().await;
    for refusal in [ProtectError::Refused, ProtectError::Failed("it threw".into())] {
        let hook = Hook({
            let refusal = refusal.clone();
            move |_: BorrowedFd<'_>| Err(refusal.clone())
        });
        let resolver = Arc::new(SystemResolver::default());
        let dialer = Dialer::new(lab.options(), Arc::new(hook), resolver, Clock::Tokio).unwrap();
        let error = dialer.dial(AUTHENTICATION).await.unwrap_err();
        assert!(matches!(&error, DialError::Protect(error) if *error == refusal), "{error:?}");
        assert_eq!(error.fault(), Fault::Device);
    }
    // A connect would have reached the listener's queue by now: on loopback that happens within the call.
    let listener = lab.listener.into_std().unwrap();
    assert_eq!(listener.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
}

/// Answers each lookup with the same addresses.
struct Fixed(Vec<SocketAddr>);

impl Resolve for Fixed {
    fn resolve(&self, _: &str, _: u16) -> Lookup {
        let answer = self.0.clone();
        Box::pin(async { Ok(answer) })
    }
}

#[tokio::test]
async fn every_socket_is_protected_before_it_connects_and_a_good_address_is_found() {
    let lab = Lab::new().await;
    let good = lab.listener.local_addr().unwrap();
    let bad = SocketAddr::from(([127, 0, 0, 1], closed_port().await));
    let protected = Arc::new(AtomicUsize::new(0));
    let hook = Hook({
        let protected = Arc::clone(&protected);
        move |socket: BorrowedFd<'_>| {
            assert!(SockRef::from(&socket).peer_addr().is_err(), "not connected yet");
            protected.fetch_add(1, Ordering::Relaxed);
            Ok(())
        }
    });
    let mut options = lab.options();
    options.host = NAME.into();
    let resolver = Arc::new(Fixed(vec![bad, good]));
    let dialer = Dialer::new(options, Arc::new(hook), resolver, Clock::Tokio).unwrap();
    let (connection, _) = lab.connect(&dialer).await;
    assert_eq!(connection.dialed.peer, good);
    assert_eq!(protected.load(Ordering::Relaxed), 2);

    lab.connect(&dialer).await;
    assert_eq!(protected.load(Ordering::Relaxed), 3, "the address that worked came first");
}

#[tokio::test]
async fn a_dropped_dial_closes_its_socket() {
    let lab = Lab::new().await;
    let dialer = dialer(lab.options());
    let mut tcp = tokio::select! {
        biased;
        result = dialer.dial(AUTHENTICATION) => panic!("{result:?}"),
        accepted = lab.listener.accept() => accepted.unwrap().0,
    };
    // The hello may have left; then comes the end, in one form or the other.
    let mut heard = Vec::new();
    let _ = tcp.read_to_end(&mut heard).await;
}

#[tokio::test]
async fn the_authentication_is_one_record_and_the_first() {
    let longest = vec![0xA5; MAX_RECORD_BYTES];
    for version in [&TLS12, &TLS13] {
        for authentication in [&[0xA5; 34][..], AUTHENTICATION, &longest] {
            let lab = Lab::with(version, |_| {}).await;
            let dialer = dialer(lab.options());
            let (connection, server) = tokio::join!(dialer.dial(authentication), lab.accept());
            let (mut connection, mut server) = (connection.unwrap(), server.unwrap());
            assert_eq!(server.receive(authentication.len()).await, authentication);
            connection.wire.queue_record(b"next").unwrap();
            std::future::poll_fn(|cx| connection.wire.poll_flush(cx)).await.unwrap();
            assert_eq!(server.receive(4).await, b"next");

            let mut lengths: Vec<usize> = server
                .records()
                .iter()
                .filter_map(|(kind, length)| (*kind == APPLICATION_DATA).then_some(*length))
                .collect();
            if server.tls.protocol_version() == Some(rustls::ProtocolVersion::TLSv1_3) {
                lengths.remove(0); // Finished, which looks the same from outside
            }
            let overhead = lengths[1] - 4;
            assert_eq!(lengths, [authentication.len() + overhead, 4 + overhead]);
            assert!((16..=24).contains(&overhead), "{overhead}");
        }
    }
}

#[tokio::test]
async fn a_block_that_fits_no_record_is_an_error_and_not_two_records() {
    let lab = Lab::new().await;
    let dialer = dialer(lab.options());
    let block = vec![0; MAX_RECORD_BYTES + 1];
    let (result, _server) = tokio::join!(dialer.dial(&block), lab.accept());
    let error = result.unwrap_err();
    assert!(matches!(error, DialError::Lost { stage: DialStage::Authentication, .. }), "{error:?}");
}

#[tokio::test]
async fn keepalive_is_off_unless_asked_for() {
    for keepalive in [None, Some(Duration::from_secs(90))] {
        let lab = Lab::new().await;
        let options = DialOptions { keepalive, ..lab.options() };
        let (connection, _server) = lab.connect(&dialer(options)).await;
        let socket = SockRef::from(&connection.wire);
        assert_eq!(socket.keepalive().unwrap(), keepalive.is_some());
        if let Some(silence) = keepalive {
            assert_eq!(socket.tcp_keepalive_time().unwrap(), silence);
        }
        assert!(socket.tcp_nodelay().unwrap());
    }
}

#[tokio::test]
async fn a_refused_name_is_asked_for_again_by_the_next_dial() {
    /// Gives a closed port first, and the good one from then on.
    struct Moving(Mutex<Vec<SocketAddr>>);
    impl Resolve for Moving {
        fn resolve(&self, _: &str, _: u16) -> Lookup {
            let mut answers = self.0.lock().unwrap();
            let answer = if answers.len() > 1 { answers.remove(0) } else { answers[0] };
            Box::pin(async move { Ok(vec![answer]) })
        }
    }
    let lab = Lab::new().await;
    let good = lab.listener.local_addr().unwrap();
    let bad = SocketAddr::from(([127, 0, 0, 1], closed_port().await));
    let mut options = lab.options();
    options.host = NAME.into();
    let resolver = Arc::new(Moving(Mutex::new(vec![bad, good])));
    let dialer = Dialer::new(options, Arc::new(NoProtect), resolver, Clock::Tokio).unwrap();
    assert_eq!(dialer.dial(AUTHENTICATION).await.unwrap_err().kind(), DialErrorKind::Refused);
    lab.connect(&dialer).await;
}
