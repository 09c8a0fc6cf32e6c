//! The server against a client made of nothing but TLS and bytes.

use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsConnector, client};

use super::*;
use crate::proto::auth::{PasswordHash, put_authentication};
use crate::proto::padding::Scheme;
use crate::proto::settings::PeerVersion;
use crate::proto::target::Target;

const PASSWORD: &str = "correct horse";
const SYN: u8 = 1;
const PSH: u8 = 2;
const FIN: u8 = 3;
const SETTINGS: u8 = 4;
const UPDATE: u8 = 6;
const SYNACK: u8 = 7;
const HEART_REQUEST: u8 = 8;
const HEART_RESPONSE: u8 = 9;
const SERVER_SETTINGS: u8 = 10;

type Frame = (u8, u32, Vec<u8>);

fn options() -> ServerOptions {
    ServerOptions { record: true, ..ServerOptions::new(PasswordHash::of(PASSWORD)) }
}

fn serving(service: Service) -> ServerOptions {
    ServerOptions { outbound: Arc::new(move |_| service.clone()), ..options() }
}

async fn start(options: ServerOptions) -> TestServer {
    TestServer::start(options).await.expect("a server")
}

/// A client that knows nothing of sessions.
struct Raw {
    tls: client::TlsStream<TcpStream>,
    unread: Vec<u8>,
}

impl Raw {
    async fn connect(server: &TestServer) -> io::Result<Self> {
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(server.certificate_pem().as_bytes()).expect("PEM"))
            .expect("a certificate");
        let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let socket = TcpStream::connect(server.address()).await?;
        let name = ServerName::try_from("localhost").expect("a name");
        let tls = TlsConnector::from(Arc::new(config)).connect(name, socket).await?;
        Ok(Self { tls, unread: Vec::new() })
    }

    /// Authenticated, its Settings sent and the version 2 answer read.
    async fn session(server: &TestServer) -> Self {
        let mut raw = Self::authenticated(server).await;
        raw.send(&settings("")).await;
        assert_eq!(raw.frame_of(SERVER_SETTINGS).await.2, b"v=2");
        raw
    }

    async fn authenticated(server: &TestServer) -> Self {
        let mut raw = Self::connect(server).await.expect("connected");
        raw.send(&authentication(PASSWORD)).await;
        raw
    }

    /// One record, up to 16 KiB.
    async fn send(&mut self, bytes: &[u8]) {
        self.tls.write_all(bytes).await.expect("sent");
        self.tls.flush().await.expect("flushed");
    }

    async fn open(&mut self, id: u32, target: &Target, first: &[u8]) {
        let mut head = Vec::new();
        target.put(&mut head);
        head.extend(first);
        self.send(&[raw_frame(SYN, id, b""), raw_frame(PSH, id, &head)].concat()).await;
    }

    async fn frame(&mut self) -> io::Result<Frame> {
        loop {
            if let [command, a, b, c, d, e, f, rest @ ..] = &self.unread[..] {
                let length = usize::from(u16::from_be_bytes([*e, *f]));
                if rest.len() >= length {
                    let frame = (*command, u32::from_be_bytes([*a, *b, *c, *d]), rest[..length].to_vec());
                    self.unread.drain(..7 + length);
                    return Ok(frame);
                }
            }
            if self.tls.read_buf(&mut self.unread).await? == 0 {
                return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "close_notify"));
            }
        }
    }

    /// The next frame of this kind, those before it dropped.
    async fn frame_of(&mut self, command: u8) -> Frame {
        loop {
            let frame = self.frame().await.expect("a frame");
            if frame.0 == command {
                return frame;
            }
        }
    }

    /// How the connection ends.
    async fn end(&mut self) -> io::ErrorKind {
        loop {
            if let Err(error) = self.frame().await {
                return error.kind();
            }
        }
    }
}

fn authentication(password: &str) -> Vec<u8> {
    let mut block = Vec::new();
    put_authentication(&mut block, &PasswordHash::of(password), 30);
    block
}

fn settings(md5: &str) -> Vec<u8> {
    let default = Scheme::default_scheme();
    let md5 = if md5.is_empty() { default.md5_hex() } else { md5 };
    raw_frame(SETTINGS, 0, format!("v=2\nclient=test/1\npadding-md5={md5}").as_bytes())
}

fn target() -> Target {
    "example.com:80".parse().expect("a target")
}

const CLEAN: io::ErrorKind = io::ErrorKind::ConnectionAborted;

#[tokio::test]
async fn a_stream_is_answered_and_served_and_finished() {
    let server = start(serving(Service::Send(600))).await;
    let mut raw = Raw::session(&server).await;
    raw.open(1, &target(), b"").await;
    assert_eq!(raw.frame().await.expect("a frame"), (SYNACK, 1, vec![]));
    let mut data = Vec::new();
    loop {
        let (command, id, bytes) = raw.frame().await.expect("a frame");
        assert_eq!(id, 1);
        if command == FIN {
            break;
        }
        data.extend(bytes);
    }
    let expected: Vec<u8> = (0..251).cycle().take(600).collect();
    assert_eq!(data, expected);
}

#[tokio::test]
async fn records_are_seen_as_the_client_cut_them() {
    let server = start(serving(Service::Discard)).await;
    let mut raw = Raw::connect(&server).await.expect("connected");
    // Everything but the first record is one Waste frame after another, cut without regard to frames.
    let mut rng = StdRng::seed_from_u64(11);
    let mut sizes = vec![64];
    raw.send(&authentication(PASSWORD)).await;
    let waste = raw_frame(0, 0, &[0; 40_000]).repeat(10);
    let mut rest = &[settings(""), waste].concat()[..];
    while !rest.is_empty() {
        let size = rng.random_range(1..=16_384).min(rest.len());
        raw.send(&rest[..size]).await;
        sizes.push(size);
        rest = &rest[size..];
    }
    raw.send(&raw_frame(HEART_REQUEST, 77, b"")).await;
    sizes.push(7);
    assert_eq!(raw.frame_of(HEART_RESPONSE).await.1, 77);

    let seen = server.connections().remove(0);
    assert_eq!(seen.records, sizes);
    assert_eq!(seen.received_bytes, sizes.iter().sum::<usize>() as u64);
    let waste = FrameRecord { command: 0, stream: 0, length: 40_000 };
    assert_eq!(seen.received[1..11], [waste; 10]);
    assert!(seen.settings.contains("client=test/1"), "{}", seen.settings);
}

#[tokio::test]
async fn frames_in_the_record_of_the_authentication_are_not_lost() {
    let server = start(serving(Service::Discard)).await;
    let mut raw = Raw::connect(&server).await.expect("connected");
    let beat = raw_frame(HEART_REQUEST, 5, b"");
    raw.send(&[authentication(PASSWORD), settings(""), beat].concat()).await;
    assert_eq!(raw.frame_of(HEART_RESPONSE).await.1, 5);
}

#[tokio::test]
async fn a_wrong_password_is_closed_or_answered_as_a_web_server_would() {
    let server = start(options()).await;
    let mut raw = Raw::connect(&server).await.expect("connected");
    raw.send(&authentication("wrong")).await;
    assert_eq!(raw.end().await, CLEAN);
    assert!(!server.connections()[0].authenticated);

    let server = start(ServerOptions { rejection: Rejection::Http, ..options() }).await;
    let mut raw = Raw::connect(&server).await.expect("connected");
    raw.send(&authentication("wrong")).await;
    let mut answer = String::new();
    raw.tls.read_to_string(&mut answer).await.expect("a clean end");
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
}

#[tokio::test]
async fn bytes_are_relayed_to_a_real_target_until_it_finishes() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let target = Target::from(listener.local_addr().expect("an address"));
    let server = start(options()).await;
    let mut raw = Raw::session(&server).await;
    raw.open(1, &target, b"ping").await;
    let (mut socket, _) = listener.accept().await.expect("accepted");
    let mut got = [0; 4];
    socket.read_exact(&mut got).await.expect("read");
    assert_eq!(&got, b"ping");
    socket.write_all(b"pong, and the end").await.expect("written");
    drop(socket);
    assert_eq!(raw.frame().await.expect("a frame"), (SYNACK, 1, vec![]));
    assert_eq!(raw.frame().await.expect("a frame"), (PSH, 1, b"pong, and the end".to_vec()));
    assert_eq!(raw.frame().await.expect("a frame"), (FIN, 1, vec![]));
}

#[tokio::test]
async fn the_clients_fin_closes_the_target_after_what_came_before_it() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let target = Target::from(listener.local_addr().expect("an address"));
    let server = start(options()).await;
    let mut raw = Raw::session(&server).await;
    raw.open(1, &target, &[3; 5_000]).await;
    raw.send(&[raw_frame(PSH, 1, &[4; 9_000]), raw_frame(FIN, 1, b"")].concat()).await;
    let (mut socket, _) = listener.accept().await.expect("accepted");
    let mut got = Vec::new();
    socket.read_to_end(&mut got).await.expect("a clean end");
    assert_eq!(got, [vec![3; 5_000], vec![4; 9_000]].concat());
}

#[tokio::test]
async fn a_target_in_single_bytes_is_understood() {
    let server = start(serving(Service::Echo)).await;
    let mut raw = Raw::session(&server).await;
    raw.send(&raw_frame(SYN, 1, b"")).await;
    let mut bytes = Vec::new();
    target().put(&mut bytes);
    bytes.extend(b"first");
    for byte in bytes {
        raw.send(&raw_frame(PSH, 1, &[byte])).await;
    }
    assert_eq!(raw.frame().await.expect("a frame"), (SYNACK, 1, vec![]));
    let mut echoed = Vec::new();
    while echoed.len() < 5 {
        echoed.extend(raw.frame_of(PSH).await.2);
    }
    assert_eq!(echoed, b"first");
}

#[tokio::test]
async fn what_cannot_be_reached_is_refused_in_words() {
    let closed = TcpListener::bind("127.0.0.1:0").await.expect("bound").local_addr().expect("an address");
    let faults = Faults { udp: UdpFaults { refused: true, ..UdpFaults::default() }, ..Faults::default() };
    let server = start(ServerOptions { faults, ..options() }).await;
    let mut raw = Raw::session(&server).await;
    raw.open(1, &Target::from(closed), b"").await;
    let (_, id, text) = raw.frame_of(SYNACK).await;
    assert_eq!(id, 1);
    assert!(String::from_utf8(text).expect("text").contains("refused"));

    raw.open(2, &"sp.v2.udp-over-tcp.arpa:0".parse().expect("a target"), b"").await;
    let (_, id, text) = raw.frame_of(SYNACK).await;
    assert_eq!(id, 2);
    assert!(String::from_utf8(text).expect("text").contains("UDP"));

    // Not a target at all.
    raw.send(&[raw_frame(SYN, 3, b""), raw_frame(PSH, 3, &[9; 40])].concat()).await;
    assert_eq!(raw.frame_of(SYNACK).await.1, 3);
    assert_eq!(raw.frame_of(FIN).await.1, 3);
}

#[tokio::test]
async fn another_scheme_is_announced_in_both_versions() {
    let scheme = Arc::new(Scheme::parse(b"stop=2\n0=30-30\n1=50-60").expect("a scheme"));
    for version in [PeerVersion::V1, PeerVersion::V2] {
        let server = start(ServerOptions { scheme: Arc::clone(&scheme), version, ..options() }).await;
        let mut raw = Raw::authenticated(&server).await;
        raw.send(&settings("0123")).await;
        assert_eq!(raw.frame_of(UPDATE).await, (UPDATE, 0, scheme.raw().as_bytes().to_vec()));

        let mut raw = Raw::authenticated(&server).await;
        raw.send(&[settings(scheme.md5_hex()), raw_frame(HEART_REQUEST, 0, b"")].concat()).await;
        raw.frame_of(HEART_RESPONSE).await;
        assert!(server.connections()[1].sent.iter().all(|frame| frame.command != UPDATE));
    }
}

#[tokio::test]
async fn version_1_says_nothing_of_versions_and_answers_no_stream() {
    let server = start(ServerOptions { version: PeerVersion::V1, ..serving(Service::Echo) }).await;
    let mut raw = Raw::authenticated(&server).await;
    raw.send(&settings("")).await;
    raw.open(1, &target(), b"hello").await;
    assert_eq!(raw.frame().await.expect("a frame"), (PSH, 1, b"hello".to_vec()));
}

#[tokio::test]
async fn streams_are_refused_or_left_alone_as_the_faults_say() {
    let server = start(serving(Service::Echo)).await;
    let mut raw = Raw::session(&server).await;
    server.set_faults(Faults { refuse_streams: Some("no thanks".into()), ..Faults::default() });
    raw.open(1, &target(), b"").await;
    assert_eq!(raw.frame().await.expect("a frame"), (SYNACK, 1, b"no thanks".to_vec()));
    assert_eq!(raw.frame().await.expect("a frame"), (FIN, 1, vec![]));

    server.set_faults(Faults { one_stream_a_session: true, ..Faults::default() });
    raw.open(2, &target(), b"").await;
    assert_eq!(raw.frame().await.expect("a frame"), (SYNACK, 2, vec![]));
    raw.open(3, &target(), b"").await;
    let (command, id, text) = raw.frame().await.expect("a frame");
    assert_eq!((command, id, text.is_empty()), (SYNACK, 3, false));
    // One that comes together with the end of the other is alone.
    raw.send(&raw_frame(FIN, 2, b"")).await;
    raw.open(4, &target(), b"").await;
    assert_eq!(raw.frame_of(SYNACK).await, (SYNACK, 4, vec![]));

    server.set_faults(Faults { synack: SynAck::Never, ..Faults::default() });
    raw.open(5, &target(), b"").await;
    raw.send(&raw_frame(HEART_REQUEST, 6, b"")).await;
    assert_eq!(raw.frame().await.expect("a frame"), (HEART_RESPONSE, 6, vec![]));
    server.close_sessions().await;
    assert_eq!(raw.end().await, CLEAN);
    assert!(!server.connections()[0].sent.iter().any(|frame| frame.stream == 5));
}

#[tokio::test]
async fn a_delayed_answer_is_delayed_and_then_comes() {
    let delay = Duration::from_millis(30);
    let faults = Faults { synack: SynAck::Delayed(delay), ..Faults::default() };
    let server = start(ServerOptions { faults, ..serving(Service::Echo) }).await;
    let mut raw = Raw::session(&server).await;
    raw.open(1, &target(), b"early").await;
    assert_eq!(raw.frame().await.expect("a frame"), (SYNACK, 1, vec![]));
    assert_eq!(raw.frame().await.expect("a frame"), (PSH, 1, b"early".to_vec()));
}

#[tokio::test]
async fn extra_frames_are_sent_after_settings_and_at_any_time() {
    let extra = [raw_frame(99, 7, b"who knows"), raw_frame(SYNACK, 4_000, b"")].concat();
    let faults = Faults { extra_frames: extra, ..Faults::default() };
    let server = start(ServerOptions { faults, ..serving(Service::Echo) }).await;
    let mut raw = Raw::authenticated(&server).await;
    raw.send(&settings("")).await;
    assert_eq!(raw.frame_of(99).await, (99, 7, b"who knows".to_vec()));
    assert_eq!(raw.frame_of(SYNACK).await.1, 4_000);
    let long = raw_frame(UPDATE, 0, &[b'x'; 60_000]);
    server.inject(&long);
    assert_eq!(raw.frame_of(UPDATE).await.2.len(), 60_000);
}

#[tokio::test]
async fn every_cut_looks_like_itself() {
    let kinds = [
        (Cut::Reset, io::ErrorKind::ConnectionReset),
        (Cut::Fin, io::ErrorKind::UnexpectedEof),
        (Cut::BadMac, io::ErrorKind::InvalidData),
    ];
    for (cut, kind) in kinds {
        let server = start(serving(Service::Echo)).await;
        let mut raw = Raw::session(&server).await;
        raw.open(1, &target(), b"before").await;
        assert_eq!(raw.frame_of(PSH).await.2, b"before");
        server.cut_sessions(cut).await;
        assert_eq!(raw.end().await, kind, "{cut:?}");
    }
    let server = start(serving(Service::Echo)).await;
    let mut raw = Raw::session(&server).await;
    server.cut_sessions(Cut::Silence).await;
    raw.send(&raw_frame(HEART_REQUEST, 1, b"")).await;
    server.stop().await;
    let end = raw.frame().await.expect_err("nothing comes any more");
    assert_ne!(end.kind(), CLEAN, "and nobody says so");
}

#[tokio::test]
async fn a_cut_after_so_many_bytes_comes_after_them() {
    for cut in [Cut::Reset, Cut::Fin, Cut::BadMac] {
        let faults = Faults { cut_after: Some((50_000, cut)), ..Faults::default() };
        let server = start(ServerOptions { faults, ..serving(Service::Send(10_000_000)) }).await;
        let mut raw = Raw::session(&server).await;
        raw.open(1, &target(), b"").await;
        let mut bytes = 0;
        while let Ok((_, _, data)) = raw.frame().await {
            bytes += 7 + data.len();
        }
        assert!((49_000..200_000).contains(&bytes), "{cut:?} after {bytes}");
    }
}

#[tokio::test]
async fn a_session_is_cut_at_the_stream_that_the_faults_name() {
    let faults = Faults { cut_at_stream: Some((2, Cut::Fin)), ..Faults::default() };
    let server = start(ServerOptions { faults, ..serving(Service::Echo) }).await;
    let mut raw = Raw::session(&server).await;
    raw.open(1, &target(), b"").await;
    assert_eq!(raw.frame_of(SYNACK).await.1, 1);
    raw.open(2, &target(), b"").await;
    assert_eq!(raw.frame().await.expect_err("cut").kind(), io::ErrorKind::UnexpectedEof);
}

#[tokio::test]
async fn whole_sessions_are_closed_or_silent_as_the_faults_say() {
    let faults = Faults { close_after_authentication: true, ..Faults::default() };
    let server = start(ServerOptions { faults, ..options() }).await;
    let mut raw = Raw::authenticated(&server).await;
    assert_eq!(raw.end().await, CLEAN);
    assert!(server.connections()[0].authenticated);

    for (silent, deaf) in [(true, false), (false, true)] {
        server.set_faults(Faults { silent, deaf, ..Faults::default() });
        let mut raw = Raw::authenticated(&server).await;
        raw.send(&[settings(""), raw_frame(HEART_REQUEST, 1, b"")].concat()).await;
        while !server.connections().iter().any(|seen| seen.authenticated && !seen.ended) {
            tokio::task::yield_now().await;
        }
        server.close_sessions().await;
        raw.frame().await.expect_err("nothing was answered");
    }
}

#[tokio::test]
async fn idle_sessions_are_closed_and_busy_ones_are_not() {
    let limit = Duration::from_millis(20);
    let server = start(ServerOptions { idle_limit: Some(limit), ..serving(Service::Hold) }).await;
    let mut busy = Raw::session(&server).await;
    busy.open(1, &target(), b"").await;
    busy.frame_of(SYNACK).await;
    // Two idle ones after another: twice the limit has passed for the busy one by then.
    for _ in 0..2 {
        assert_eq!(Raw::session(&server).await.end().await, CLEAN);
    }
    busy.send(&raw_frame(HEART_REQUEST, 1, b"")).await;
    busy.frame_of(HEART_RESPONSE).await;
}

#[tokio::test]
async fn connections_are_refused_or_left_waiting_on_demand() {
    let server = start(options()).await;
    server.set_listening(Listening::Refuse).expect("closed");
    let error = Raw::connect(&server).await.err().expect("refused");
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);

    server.set_listening(Listening::Ignore).expect("opened");
    let mut waiting = Box::pin(Raw::connect(&server));
    let unanswered = timeout(Duration::from_millis(20), &mut waiting).await;
    assert!(unanswered.is_err() && server.connections().is_empty());
    server.set_listening(Listening::Accept).expect("open");
    waiting.await.expect("answered at last");
}

#[tokio::test]
async fn stop_ends_sessions_in_good_order_and_again_does_nothing() {
    let server = start(serving(Service::Hold)).await;
    let mut raw = Raw::session(&server).await;
    raw.open(1, &target(), b"").await;
    raw.frame_of(SYNACK).await;
    let greeting = TcpStream::connect(server.address()).await.expect("connected");
    server.stop().await;
    assert_eq!(raw.end().await, CLEAN);
    assert_eq!(server.shared.tasks.count(), 0);
    server.stop().await;
    let refused = TcpStream::connect(server.address()).await.expect_err("closed");
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    drop(greeting);
}

#[tokio::test]
async fn stop_does_not_wait_for_a_client_that_does_not_read() {
    let server = start(serving(Service::Send(u64::MAX))).await;
    let mut raw = Raw::session(&server).await;
    raw.open(1, &target(), b"").await;
    raw.frame_of(SYNACK).await;
    let guard = Duration::from_secs(20);
    timeout(guard, server.stop()).await.expect("stopped");
    assert_eq!(server.shared.tasks.count(), 0);
}

#[tokio::test]
async fn dropping_the_server_frees_what_it_held() {
    let server = start(serving(Service::Hold)).await;
    let mut raw = Raw::session(&server).await;
    raw.open(1, &target(), b"").await;
    raw.frame_of(SYNACK).await;
    let shared = Arc::downgrade(&server.shared);
    drop(server);
    while shared.strong_count() > 0 {
        tokio::task::yield_now().await;
    }
    assert_ne!(raw.end().await, CLEAN);
}

#[tokio::test]
async fn a_client_that_opens_too_many_streams_is_dropped() {
    let server = start(serving(Service::Hold)).await;
    let mut raw = Raw::session(&server).await;
    let flood: Vec<u8> = (1..=2_000).flat_map(|id| raw_frame(SYN, id, b"")).collect();
    raw.send(&flood).await;
    raw.end().await; // comes only when the server ends the session
}

#[tokio::test]
async fn nonsense_from_a_client_harms_nobody_else() {
    let server = start(serving(Service::Echo)).await;
    for seed in 0..60 {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut raw = Raw::authenticated(&server).await;
        let mut bytes = vec![0; rng.random_range(1..3_000)];
        rng.fill_bytes(&mut bytes);
        if seed % 2 == 0 {
            // Known commands with small ids and short data get further.
            for frame in bytes.chunks_mut(9) {
                frame[0] %= 12;
                let header = frame.len().min(7);
                frame[1..header].fill(0);
                if let [_, _, _, _, id, _, length, ..] = frame {
                    *id = rng.random_range(0..4);
                    *length = rng.random_range(0..4);
                }
            }
            bytes.splice(0..0, settings(""));
        }
        let _closed = raw.tls.write_all(&bytes).await;
        let _closed = raw.tls.shutdown().await;
        raw.end().await;
    }
    let mut raw = Raw::session(&server).await;
    raw.open(1, &target(), b"still here").await;
    assert_eq!(raw.frame_of(PSH).await.2, b"still here");
}
