//! The flows of a tunnel as its owner sees them: listed, counted and closed while they live.
#![cfg(feature = "testserver")]
#![allow(clippy::disallowed_methods)] // a test's tasks live as long as its runtime

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anytls_mobile::config::{self, Defaults};
use anytls_mobile::proto::auth::PasswordHash;
use anytls_mobile::proto::command::Command;
use anytls_mobile::proto::target::Target;
use anytls_mobile::testserver::{Cut, Faults, FrameRecord, ServerOptions, Service, SynAck, TestServer};
use anytls_mobile::transport::NoProtect;
use anytls_mobile::tun::{self, ChannelDevice, Device};
use anytls_mobile::tunnel::{
    Connection, ConnectionId, ConnectionKind, ConnectionPhase, FlowStats, Tun, Tunnel,
};
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    IpAddress, IpProtocol, IpRepr, Ipv4Packet, Ipv4Repr, TcpControl, TcpPacket, TcpRepr, TcpSeqNumber,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

/// Longer than any machine needs: only a hang reaches it.
const LONG: Duration = Duration::from_secs(60);

const PASSWORD: &str = "correct horse";

/// What the server does with streams, by their port.
const ECHO: u16 = 7;
const DISCARD: u16 = 9;
const SEND: u16 = 19;
const REFUSED: u16 = 1;

const SENT_BYTES: u64 = 1000;

async fn start_server(faults: Faults) -> TestServer {
    let mut options = ServerOptions::new(PasswordHash::of(PASSWORD));
    options.outbound = Arc::new(|target| match target.port {
        ECHO => Service::Echo,
        DISCARD => Service::Discard,
        SEND => Service::Send(SENT_BYTES),
        _ => Service::Refuse("no".to_owned()),
    });
    (options.faults, options.record) = (faults, true);
    TestServer::start(options).await.expect("a server")
}

async fn start(server: SocketAddr, tun: Tun) -> Tunnel {
    let text = serde_json::json!({
        "server": {
            "server": server.ip(),
            "server_port": server.port(),
            "password": PASSWORD,
            "tls": { "insecure": true },
        },
    });
    let config = config::parse(&text.to_string(), &Defaults::default()).expect("a config").config;
    Tunnel::start(config, tun, Arc::new(NoProtect)).await.expect("started")
}

fn address(port: u16) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], port))
}

fn target(port: u16) -> Target {
    Target::from(address(port))
}

/// Waits for the tunnel's thread to come to where `is_so`.
async fn until(what: &str, is_so: impl Fn() -> bool) {
    let wait = async {
        while !is_so() {
            tokio::task::yield_now().await;
        }
    };
    timeout(LONG, wait).await.unwrap_or_else(|_| panic!("never: {what}"));
}

/// The one live flow.
fn only(tunnel: &Tunnel) -> Connection {
    let [connection] = tunnel.connections().try_into().expect("one flow");
    connection
}

fn flow_stats(tunnel: &Tunnel) -> FlowStats {
    tunnel.stats().flows
}

/// How many streams the server was told to close.
fn fins(server: &TestServer) -> usize {
    let fin = |frame: &&FrameRecord| frame.command == u8::from(Command::Fin);
    server.connections().iter().map(|session| session.received.iter().filter(fin).count()).sum()
}

/// An app's kernel, played by hand.
struct App {
    device: ChannelDevice,
}

/// One end of the app's connections.
#[derive(Clone, Copy)]
struct End {
    port: u16,
    to: u16,
    seq: i32,
    ack: i32,
}

impl App {
    fn new() -> (Self, Tun) {
        let (device, theirs) = tun::pair(1500);
        (Self { device }, Tun::Device(Box::new(theirs)))
    }

    fn send(&mut self, end: End, control: TcpControl, payload: &[u8]) {
        let (from, to) = (IpAddress::v4(172, 19, 0, 1), IpAddress::v4(192, 0, 2, 1));
        let segment = TcpRepr {
            src_port: end.port,
            dst_port: end.to,
            control,
            seq_number: TcpSeqNumber(end.seq),
            ack_number: (control != TcpControl::Syn).then_some(TcpSeqNumber(end.ack)),
            window_len: u16::MAX,
            window_scale: None,
            max_seg_size: None,
            sack_permitted: false,
            sack_ranges: [None; 3],
            timestamp: None,
            payload,
        };
        let ip = IpRepr::new(from, to, IpProtocol::Tcp, segment.buffer_len(), 64);
        let checksums = ChecksumCapabilities::default();
        let mut packet = vec![0; ip.buffer_len()];
        ip.emit(&mut packet, &checksums);
        segment.emit(&mut TcpPacket::new_unchecked(&mut packet[ip.header_len()..]), &from, &to, &checksums);
        self.device.send(&packet).expect("room");
    }

    /// The next segment that is more than an acknowledgement: whose it is, and what is in it.
    async fn next(&mut self) -> (u16, TcpControl, i32, Vec<u8>) {
        loop {
            let packet =
                timeout(LONG, self.device.recv()).await.expect("a packet").expect("the tunnel lives");
            let packet = Ipv4Packet::new_checked(&packet[..]).expect("whole");
            let checksums = ChecksumCapabilities::default();
            let ip = Ipv4Repr::parse(&packet, &checksums).expect("valid");
            let tcp = TcpPacket::new_checked(packet.payload()).expect("whole");
            let (from, to) = (ip.src_addr.into(), ip.dst_addr.into());
            let tcp = TcpRepr::parse(&tcp, &from, &to, &checksums).expect("valid");
            if tcp.control != TcpControl::None || !tcp.payload.is_empty() {
                return (tcp.dst_port, tcp.control, tcp.seq_number.0, tcp.payload.to_vec());
            }
        }
    }

    fn syn(&mut self, port: u16, to: u16) -> End {
        let end = End { port, to, seq: 1, ack: 0 };
        self.send(end, TcpControl::Syn, &[]);
        End { seq: 2, ..end }
    }

    async fn connect(&mut self, port: u16, to: u16) -> End {
        let end = self.syn(port, to);
        let (answered, control, seq, _) = self.next().await;
        assert_eq!((answered, control), (port, TcpControl::Syn));
        let end = End { ack: seq.wrapping_add(1), ..end };
        self.send(end, TcpControl::None, &[]);
        end
    }

    async fn expect_reset(&mut self, end: End) {
        loop {
            let (port, control, ..) = self.next().await;
            assert_eq!(port, end.port);
            if control == TcpControl::Rst {
                return;
            }
        }
    }
}

/// A socket that the tunnel relays, and the app's end of it.
async fn relayed(tunnel: &Tunnel, port: u16) -> TcpStream {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let app = TcpStream::connect(listener.local_addr().expect("bound")).await.expect("connected");
    let (socket, _) = listener.accept().await.expect("accepted");
    let connected = timeout(LONG, tunnel.connect(target(port))).await.expect("no hang").expect("opened");
    tokio::spawn(connected.relay(socket));
    app
}

#[tokio::test]
async fn a_flow_of_the_tun_is_listed_and_counted_while_it_lives() {
    let server = start_server(Faults::default()).await;
    let (mut app, device) = App::new();
    let tunnel = start(server.address(), device).await;
    let end = app.connect(40_000, ECHO).await;
    app.send(end, TcpControl::Psh, b"hello");
    assert_eq!(app.next().await.3, b"hello");
    until("5 bytes each way", || only(&tunnel).down_bytes == 5).await;
    let connection = only(&tunnel);
    let expected = Connection {
        id: ConnectionId(1),
        kind: ConnectionKind::Tcp,
        destination: target(ECHO),
        phase: ConnectionPhase::Open,
        age: connection.age,
        up_bytes: 5,
        down_bytes: 5,
    };
    assert_eq!(connection, expected);
    let live = FlowStats { open: 1, total: 1, up_bytes: 5, down_bytes: 5, ..FlowStats::default() };
    assert_eq!(flow_stats(&tunnel), live);

    let end = End { seq: end.seq + 5, ack: end.ack.wrapping_add(5), ..end };
    app.send(end, TcpControl::Rst, &[]);
    until("it has ended", || flow_stats(&tunnel).open == 0).await;
    assert_eq!(tunnel.connections(), []);
    assert_eq!(flow_stats(&tunnel), FlowStats { open: 0, ..live }, "counted once, and an app may end it");
    tunnel.stop().await;
}

#[tokio::test]
async fn a_closed_flow_of_the_tun_is_a_reset_to_the_app_and_a_fin_to_the_server() {
    let server = start_server(Faults::default()).await;
    let (mut app, device) = App::new();
    let tunnel = start(server.address(), device).await;
    let end = app.connect(40_000, ECHO).await;
    let other = app.connect(40_001, ECHO).await;
    let [first, second] = tunnel.connections().try_into().expect("two flows");
    assert!(tunnel.close_connection(first.id));
    assert!(!tunnel.close_connection(first.id), "it is gone");
    app.expect_reset(end).await;
    until("the server knows", || fins(&server) == 1).await;
    assert_eq!(only(&tunnel).id, second.id);
    app.send(other, TcpControl::Psh, b"hello");
    assert_eq!(app.next().await.3, b"hello", "the other lives");
    assert_eq!(flow_stats(&tunnel).closed_by_us, 1);
    tunnel.stop().await;
}

#[tokio::test]
async fn a_flow_that_is_still_opening_is_listed_and_can_be_closed() {
    let faults = Faults { synack: SynAck::Never, ..Faults::default() };
    let server = start_server(faults).await;
    let (mut app, device) = App::new();
    let tunnel = start(server.address(), device).await;
    let end = app.syn(40_000, ECHO);
    until("it is listed", || !tunnel.connections().is_empty()).await;
    assert_eq!(only(&tunnel).phase, ConnectionPhase::Opening);
    assert!(tunnel.close_connection(only(&tunnel).id));
    app.expect_reset(end).await;
    until("it has ended", || flow_stats(&tunnel).open == 0).await;
    let stats = FlowStats { total: 1, closed_by_us: 1, ..FlowStats::default() };
    assert_eq!(flow_stats(&tunnel), stats);
    tunnel.stop().await;
}

#[tokio::test]
async fn a_socket_is_a_flow_too_and_reset_when_it_is_closed() {
    let server = start_server(Faults::default()).await;
    let tunnel = start(server.address(), Tun::None).await;
    let mut app = relayed(&tunnel, DISCARD).await;
    until("it is open", || only(&tunnel).phase == ConnectionPhase::Open).await;
    for megabytes in 1..=3_u64 {
        app.write_all(&vec![0; 1_000_000]).await.expect("written");
        until("each megabyte", || only(&tunnel).up_bytes == megabytes * 1_000_000).await;
    }
    assert_eq!((only(&tunnel).kind, only(&tunnel).destination), (ConnectionKind::Socket, target(DISCARD)));
    assert_eq!((flow_stats(&tunnel).open, flow_stats(&tunnel).up_bytes), (1, 3_000_000), "before its end");
    assert!(tunnel.close_connection(only(&tunnel).id));
    let end = timeout(LONG, app.read(&mut [0; 1])).await.expect("an end");
    assert_eq!(end.expect_err("no clean end").kind(), ErrorKind::ConnectionReset);
    until("the server knows", || fins(&server) == 1).await;
    tunnel.stop().await;
}

#[tokio::test]
async fn flows_are_counted_by_how_they_ended() {
    let server = start_server(Faults::default()).await;
    let tunnel = start(server.address(), Tun::None).await;
    timeout(LONG, tunnel.connect(target(REFUSED))).await.expect("no hang").err().expect("refused");
    let mut finishes = relayed(&tunnel, SEND).await;
    let mut sent = Vec::new();
    timeout(LONG, finishes.read_to_end(&mut sent)).await.expect("no hang").expect("a clean end");
    drop(timeout(LONG, tunnel.connect(target(ECHO))).await.expect("no hang").expect("opened"));
    let mut fails = relayed(&tunnel, ECHO).await;
    until("all but one have ended", || flow_stats(&tunnel).open <= 1).await;
    server.cut_sessions(Cut::Reset).await;
    timeout(LONG, fails.read(&mut [0; 1])).await.expect("an end").expect_err("no clean end");
    until("it has failed", || flow_stats(&tunnel).open == 0).await;
    let stats = FlowStats {
        open: 0,
        total: 4,
        refused: 1,
        failed: 1,
        closed_by_us: 1,
        up_bytes: 0,
        down_bytes: SENT_BYTES,
    };
    assert_eq!(flow_stats(&tunnel), stats);
    tunnel.stop().await;
}

#[tokio::test]
async fn a_stop_ends_every_flow_and_says_that_it_was_us() {
    let server = start_server(Faults::default()).await;
    let (mut app, device) = App::new();
    let tunnel = start(server.address(), device).await;
    app.connect(40_000, ECHO).await;
    let mut socket = relayed(&tunnel, ECHO).await;
    assert_eq!(flow_stats(&tunnel).open, 2);
    tunnel.stop().await;
    timeout(LONG, socket.read(&mut [0; 1])).await.expect("an end").expect_err("no clean end");
    until("both have ended", || flow_stats(&tunnel).open == 0).await;
    assert_eq!(flow_stats(&tunnel), FlowStats { total: 2, closed_by_us: 2, ..FlowStats::default() });
    assert_eq!(tunnel.connections(), []);
}

#[tokio::test]
async fn ten_thousand_flows_opened_and_closed_leave_the_list_empty() {
    const ROUND: u16 = 100;
    let server = start_server(Faults::default()).await;
    let (mut app, device) = App::new();
    let tunnel = start(server.address(), device).await;
    for round in 0..100 {
        let mut ends: Vec<_> = (0..ROUND).map(|at| app.syn(10_000 + round * ROUND + at, ECHO)).collect();
        let mut answered = 0;
        while answered < ROUND {
            let (port, control, seq, _) = app.next().await;
            if control == TcpControl::Rst {
                continue; // of a flow that was closed in the round before
            }
            assert_eq!(control, TcpControl::Syn);
            answered += 1;
            let end = &mut ends[usize::from((port - 10_000) % ROUND)];
            end.ack = seq.wrapping_add(1);
            let end = *end;
            app.send(end, TcpControl::None, &[]);
        }
        let listed = tunnel.connections();
        assert_eq!(listed.len(), usize::from(ROUND));
        for connection in listed.iter().step_by(2) {
            assert!(tunnel.close_connection(connection.id));
        }
        for end in ends {
            app.send(end, TcpControl::Rst, &[]); // what was closed is gone already, or soon
        }
        until("all have ended", || flow_stats(&tunnel).open == 0).await;
        assert_eq!(tunnel.connections(), []);
    }
    assert_eq!(flow_stats(&tunnel).total, 10_000);
    tunnel.stop().await;
}
