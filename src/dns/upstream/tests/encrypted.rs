//! DNS over TLS and over HTTPS, on the same pipes.

use std::io;

use http::Response;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{HandshakeKind, ServerConfig};
use tokio_rustls::{TlsAcceptor, server};

use super::*;
use crate::transport::{Pem, TlsOptions, client_config};

const NAME: &str = "dns.test";

type Encrypted = Peer<server::TlsStream<DuplexStream>>;

/// A resolver's certificate, and what its client trusts.
struct Lab {
    acceptor: TlsAcceptor,
    trusted: String,
}

impl Lab {
    fn new(protocols: &[&str]) -> Self {
        let made = rcgen::generate_simple_self_signed([NAME.to_owned()]).unwrap();
        let chain = vec![CertificateDer::from_pem_slice(made.cert.pem().as_bytes()).unwrap()];
        let key = PrivateKeyDer::from_pem_slice(made.signing_key.serialize_pem().as_bytes()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder =
            ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let mut config = builder.with_no_client_auth().with_single_cert(chain, key).unwrap();
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        Self { acceptor: TlsAcceptor::from(Arc::new(config)), trusted: made.cert.pem() }
    }

    fn tls(&self, name: &str, protocol: &str) -> Tls {
        let options = TlsOptions {
            alpn: vec![protocol.to_owned()],
            certificate_authority: Some(Pem::Text(self.trusted.clone().into_bytes())),
            ..TlsOptions::default()
        };
        let (config, name) = client_config(&options, name).unwrap();
        Tls { config, name }
    }

    fn dot(&self) -> Way {
        Way::Tls(self.tls(NAME, "dot"))
    }

    fn doh(&self) -> Way {
        Way::Https(self.tls(NAME, "h2"), "https://192.0.2.53:443/dns-query".parse().unwrap())
    }

    async fn accept(&self, peer: Peer) -> io::Result<Encrypted> {
        let Peer { pipe, inbox, first, is_fresh } = peer;
        assert_eq!(first, 0, "nothing leaves before the handshake");
        Ok(Peer { pipe: self.acceptor.accept(pipe).await?, inbox, first, is_fresh })
    }
}

fn upstream(way: Way) -> (Upstream<Pipes>, mpsc::Receiver<Peer>) {
    let (pipes, peers) = Pipes::new();
    (upstream_to(way, pipes), peers)
}

#[tokio::test(start_paused = true)]
async fn dns_over_tls_is_the_same_pipeline_and_resumes_its_session() {
    let lab = Lab::new(&["dot"]);
    let (mut upstream, mut peers) = upstream(lab.dot());
    let server = tokio::spawn(async move {
        let mut kinds = Vec::new();
        for _ in 0..2 {
            let mut peer = lab.accept(peers.recv().await.unwrap()).await.unwrap();
            let tls = peer.pipe.get_ref().1;
            assert_eq!(tls.alpn_protocol(), Some(&b"dot"[..]));
            assert_eq!(tls.server_name(), Some(NAME));
            kinds.push(tls.handshake_kind().unwrap());
            let questions = [peer.question().await.unwrap(), peer.question().await.unwrap()];
            for question in questions.iter().rev() {
                peer.answer(question).await;
            }
            assert!(peer.question().await.is_none());
        }
        kinds
    });
    for number in [0, 2] {
        upstream.ask_all(number..number + 2);
        assert_eq!(upstream.event().await, answered(number + 1));
        assert_eq!(upstream.event().await, answered(number));
        upstream.quiet(Duration::from_secs(60)).await;
    }
    assert_eq!(server.await.unwrap(), [HandshakeKind::Full, HandshakeKind::Resumed]);
}

#[tokio::test(start_paused = true)]
async fn a_resolver_with_the_wrong_certificate_hears_no_question() {
    let (lab, stranger) = (Lab::new(&["dot", "h2"]), Lab::new(&["dot", "h2"]));
    for (way, is_trusted) in [
        (stranger.dot(), false),
        (stranger.doh(), false),
        (Way::Tls(lab.tls("other.test", "dot")), false),
        (lab.dot(), true),
    ] {
        let (mut upstream, mut peers) = upstream(way);
        let (acceptor, trusted) = (lab.acceptor.clone(), lab.trusted.clone());
        let server = tokio::spawn(async move {
            let lab = Lab { acceptor, trusted };
            let (mut is_open, mut tried) = (false, 0);
            while let Some(peer) = peers.recv().await {
                tried += 1;
                if let Ok(mut peer) = lab.accept(peer).await
                    && let Some(question) = peer.question().await
                {
                    is_open = true;
                    peer.answer(&question).await;
                }
            }
            (is_open, tried)
        });
        upstream.ask_all(0..1);
        assert_eq!(upstream.event().await, if is_trusted { answered(0) } else { failed(0) });
        drop(upstream);
        assert_eq!(server.await.unwrap(), (is_trusted, 1), "to try again would be of no use");
    }
}

/// What a resolver says to a question: the status, the content type, the body.
type Reply = fn(number: u16, question: &[u8]) -> (u16, &'static str, Vec<u8>);

/// With the limit that resolvers usually have.
fn usual_server() -> h2::server::Builder {
    let mut builder = h2::server::Builder::new();
    builder.max_concurrent_streams(100);
    builder
}

/// Serves so many requests on one connection, each after as many milliseconds as its number says.
async fn serve_https(peer: Encrypted, reply: Reply, most: usize) {
    let mut connection = usual_server().handshake(peer.pipe).await.unwrap();
    for _ in 0..most {
        let Some(Ok((request, respond))) = connection.accept().await else { return };
        tokio::spawn(serve_request(request, respond, reply));
    }
    // What comes while the last ones are answered goes unanswered, and the connection breaks.
    let mut held = Vec::new();
    while let Ok(Some(Ok(request))) =
        tokio::time::timeout(Duration::from_millis(50), connection.accept()).await
    {
        held.push(request);
    }
    drop(connection);
}

async fn serve_request(
    request: http::Request<h2::RecvStream>,
    mut respond: h2::server::SendResponse<bytes::Bytes>,
    reply: Reply,
) {
    let (parts, mut body) = request.into_parts();
    let mut question = Vec::new();
    while let Some(piece) = body.data().await {
        question.extend(piece.unwrap());
    }
    let header = |name: &str| parts.headers.get(name).map(|value| value.to_str().unwrap().to_owned());
    let is_as_specified = parts.method == "POST"
        && parts.uri == "https://192.0.2.53:443/dns-query"
        && header("content-type").as_deref() == Some("application/dns-message")
        && header("accept").as_deref() == Some("application/dns-message")
        && header("content-length") == Some(question.len().to_string())
        && question[..2] == [0, 0];
    let number = u16::from_be_bytes([question[10], question[11]]);
    tokio::time::sleep(Duration::from_millis(number.into())).await;
    let (status, kind, answer) = reply(number, &question);
    let status = if is_as_specified { status } else { 400 };
    let response = Response::builder().status(status).header("content-type", kind).body(()).unwrap();
    let mut stream = respond.send_response(response, false).unwrap();
    stream.send_data(answer.into(), true).unwrap();
}

const DNS: &str = "application/dns-message";

fn serve_all(lab: Lab, mut peers: mpsc::Receiver<Peer>, reply: Reply, most: usize) -> JoinHandle<usize> {
    tokio::spawn(async move {
        let mut connections = 0;
        while let Some(peer) = peers.recv().await {
            serve_https(lab.accept(peer).await.unwrap(), reply, most).await;
            connections += 1;
        }
        connections
    })
}

#[tokio::test(start_paused = true)]
async fn dns_over_https_answers_in_any_order_and_closes_when_idle() {
    let lab = Lab::new(&["h2"]);
    let (mut upstream, peers) = upstream(lab.doh());
    let server = serve_all(lab, peers, |_, question| (200, DNS, answer_to(question)), usize::MAX);
    for number in (0..3).rev() {
        upstream.ask_all(number..number + 1);
    }
    for number in 0..3 {
        assert_eq!(upstream.event().await, answered(number));
    }
    upstream.quiet(Duration::from_secs(60)).await;
    upstream.ask_all(3..300);
    assert_eq!(upstream.events(297).await, (3..300).map(answered).collect::<Vec<_>>());
    drop(upstream);
    assert_eq!(server.await.unwrap(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_https_response_that_is_no_answer_fails_its_question_alone() {
    let lab = Lab::new(&["h2"]);
    let (mut upstream, peers) = upstream(lab.doh());
    let reply: Reply = |number, question| match number {
        0 => (503, DNS, answer_to(question)),
        1 => (200, "text/html", answer_to(question)),
        2 => (200, DNS, vec![0; 65_536]),
        3 => (200, "Application/DNS-Message; charset=none", answer_to(question)),
        _ => (204, DNS, Vec::new()),
    };
    let server = serve_all(lab, peers, reply, usize::MAX);
    upstream.ask_all(0..5);
    let expected = [failed(0), failed(1), failed(2), answered(3), failed(4)];
    assert_eq!(upstream.events(5).await, expected);
    let expected = UpstreamStats { opened: 1, retried: 1, failed: 4, unusable: 5, broken: 0 };
    assert_eq!(stats(&upstream), expected);
    drop(upstream);
    assert_eq!(server.await.unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_https_server_is_asked_no_more_at_once_than_it_takes() {
    for limit in [100, 10] {
        let lab = Lab::new(&["h2"]);
        let (mut upstream, mut peers) = upstream(lab.doh());
        let server = tokio::spawn(async move {
            let peer = lab.accept(peers.recv().await.unwrap()).await.unwrap();
            tokio::time::sleep(Duration::from_millis(50)).await; // its limit comes a round trip later
            let mut builder = usual_server();
            let mut connection: h2::server::Connection<_, bytes::Bytes> =
                builder.max_concurrent_streams(limit).handshake(peer.pipe).await.unwrap();
            while let Some(Ok((request, respond))) = connection.accept().await {
                let reply: Reply = |_, question| (200, DNS, answer_to(question));
                tokio::spawn(serve_request(request, respond, reply));
            }
            peers.recv().await.is_some()
        });
        upstream.ask_all(0..300);
        assert_eq!(upstream.events(300).await, (0..300).map(answered).collect::<Vec<_>>());
        let stats = stats(&upstream);
        assert_eq!((stats.failed, stats.unusable), (0, 0));
        assert_eq!(stats.retried > 0, limit < 100, "{stats:?}");
        drop(upstream);
        assert!(!server.await.unwrap(), "one connection is enough");
    }
}

#[tokio::test(start_paused = true)]
async fn an_https_server_that_cannot_answer_now_is_asked_once_more() {
    const CANNOT: [u16; 4] = [429, 500, 503, 0];
    for (times, expected) in [(1, answered(7)), (2, failed(7))] {
        for status in CANNOT {
            let lab = Lab::new(&["h2"]);
            let (mut upstream, mut peers) = upstream(lab.doh());
            let server = tokio::spawn(async move {
                let peer = lab.accept(peers.recv().await.unwrap()).await.unwrap();
                let mut connection = usual_server().handshake(peer.pipe).await.unwrap();
                let mut asked = 0;
                while let Some(Ok((request, mut respond))) = connection.accept().await {
                    asked += 1;
                    if asked > times {
                        tokio::spawn(serve_request(request, respond, |_, question| {
                            (200, DNS, answer_to(question))
                        }));
                    } else if status == 0 {
                        respond.send_reset(h2::Reason::INTERNAL_ERROR);
                    } else {
                        let response = Response::builder().status(status).body(()).unwrap();
                        respond.send_response(response, true).unwrap();
                    }
                }
                asked
            });
            upstream.ask_all(7..8);
            assert_eq!(upstream.event().await, expected, "status {status}");
            drop(upstream);
            assert_eq!(server.await.unwrap(), 2);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_https_server_that_goes_away_is_asked_again() {
    let lab = Lab::new(&["h2"]);
    let (mut upstream, peers) = upstream(lab.doh());
    let server = serve_all(lab, peers, |_, question| (200, DNS, answer_to(question)), 3);
    upstream.ask_all(0..12);
    assert_eq!(upstream.events(12).await, (0..12).map(answered).collect::<Vec<_>>());
    drop(upstream);
    assert!((4..=8).contains(&server.await.unwrap()));
}

#[tokio::test(start_paused = true)]
async fn a_web_server_without_http_2_is_no_resolver() {
    let lab = Lab::new(&[]);
    let (mut upstream, mut peers) = upstream(lab.doh());
    let server = tokio::spawn(async move {
        let mut tried = 0;
        while let Some(peer) = peers.recv().await {
            tried += 1;
            if let Ok(mut peer) = lab.accept(peer).await {
                assert!(peer.question().await.is_none());
            }
        }
        tried
    });
    upstream.ask_all(0..1);
    assert_eq!(upstream.event().await, failed(0));
    drop(upstream);
    assert_eq!(server.await.unwrap(), 1);
}
