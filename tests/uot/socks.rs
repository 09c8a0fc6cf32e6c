//! Datagrams of a SOCKS client through the program.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use anytls_mobile::proto::target::Target;
use anytls_mobile::testserver::{Cut, Faults, ServerOptions, SynAck, TestServer, UdpFaults};

use crate::app::echo;
use crate::client::{PASSWORD, server_options, start, until};
use crate::support::netns::{Netns, Process, free_port};

/// Ends a test that would hang.
const LONG: Duration = Duration::from_secs(60);

/// The program with a SOCKS front.
struct Program {
    process: Process,
    socks: SocketAddr,
    _folder: tempfile::TempDir,
}

impl Program {
    fn start(server: &TestServer) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("config.json");
        let config = serde_json::json!({ "server": {
            "server": server.address().ip(),
            "server_port": server.address().port(),
            "password": PASSWORD,
            "tls": { "insecure": true },
        }});
        std::fs::write(&path, config.to_string()).expect("written");
        let socks = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        let mut command = Netns::here().command(env!("CARGO_BIN_EXE_anytls-mobile"));
        command.args(["run", "--log", "debug", "--config"]).arg(&path).args(["--socks", &socks.to_string()]);
        let mut process = Netns::here().spawn(command);
        process.wait_until_logged("tunnel is up");
        Self { process, socks, _folder: folder }
    }

    /// A client that declares to send from `declared`.
    fn associate(&self, declared: u16) -> Client {
        let mut control = TcpStream::connect(self.socks).expect("connected");
        control.set_read_timeout(Some(LONG)).expect("set");
        control.write_all(&[5, 1, 0]).expect("written");
        let mut method = [0; 2];
        control.read_exact(&mut method).expect("answered");
        assert_eq!(method, [5, 0]);
        let [high, low] = declared.to_be_bytes();
        control.write_all(&[5, 3, 0, 1, 0, 0, 0, 0, high, low]).expect("written");
        let mut reply = [0; 10];
        control.read_exact(&mut reply).expect("answered");
        assert_eq!(reply[..4], [5, 0, 0, 1], "{}", self.process.log());
        let (bound, _) = Target::parse(&reply[3..]).expect("an address").expect("whole");
        let bound: SocketAddr = bound.to_string().parse().expect("an address");
        assert_eq!(bound.ip(), self.socks.ip());
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("bound");
        socket.set_read_timeout(Some(LONG)).expect("set");
        Client { control, socket, bound }
    }
}

struct Client {
    control: TcpStream,
    socket: UdpSocket,
    bound: SocketAddr,
}

impl Client {
    fn send(&self, fragment: u8, to: &Target, payload: &[u8]) {
        send_from(&self.socket, self.bound, fragment, to, payload);
    }

    fn recv(&self) -> (Target, Vec<u8>) {
        let mut buffer = vec![0; 65_535];
        let length = self.socket.recv(&mut buffer).expect("a datagram");
        assert_eq!(buffer[..3], [0; 3]);
        let (from, end) = Target::parse(&buffer[3..length]).expect("an address").expect("whole");
        (from, buffer[3 + end..length].to_vec())
    }
}

fn send_from(socket: &UdpSocket, bound: SocketAddr, fragment: u8, to: &Target, payload: &[u8]) {
    let mut datagram = vec![0, 0, fragment];
    to.put(&mut datagram);
    datagram.extend_from_slice(payload);
    socket.send_to(&datagram, bound).expect("sent");
}

async fn faulty(udp: UdpFaults) -> TestServer {
    start(ServerOptions { faults: Faults { udp, ..Faults::default() }, ..server_options() }).await
}

/// A client that has exchanged a datagram with an echo.
async fn associated() -> (TestServer, Program, Client, Target) {
    let server = faulty(UdpFaults::default()).await;
    let program = Program::start(&server);
    let client = program.associate(0);
    let peer: Target = echo("127.0.0.1:0").await.into();
    client.send(0, &peer, b"hello");
    assert_eq!(client.recv().1, b"hello");
    (server, program, client, peer)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_socks_client_exchanges_datagrams_with_many_peers_by_address_and_name() {
    let server = faulty(UdpFaults::default()).await;
    let program = Program::start(&server);
    let client = program.associate(0);
    let peers = [echo("127.0.0.1:0").await, echo("[::1]:0").await, echo("127.0.0.1:0").await];
    for peer in peers {
        for size in [0, 1, 1472, 9000, 65_000] {
            let payload = vec![7; size];
            client.send(0, &peer.into(), &payload);
            assert!(client.recv() == (peer.into(), payload), "{size} to {peer}");
        }
    }
    let both = echo("[::]:0").await;
    let name = format!("localhost:{}", both.port()).parse().expect("a target");
    client.send(0, &name, b"by name");
    assert_eq!(client.recv().1, b"by name");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fragments_strangers_and_nonsense_are_dropped() {
    let server = faulty(UdpFaults::default()).await;
    let program = Program::start(&server);
    let client = program.associate(0);
    let peer: Target = echo("127.0.0.1:0").await.into();
    client.send(0, &peer, b"pins the port");
    assert_eq!(client.recv().1, b"pins the port");
    client.send(1, &peer, b"a fragment");
    client.socket.send_to(b"nonsense", client.bound).expect("sent");
    let stranger = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("bound");
    send_from(&stranger, client.bound, 0, &peer, b"of a stranger");
    let elsewhere = UdpSocket::bind("127.0.0.2:0").expect("bound");
    send_from(&elsewhere, client.bound, 0, &peer, b"from elsewhere");
    client.send(0, &peer, b"last");
    assert_eq!(client.recv().1, b"last");

    let declared = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("bound");
    let mut other = program.associate(declared.local_addr().expect("bound").port());
    other.send(0, &peer, b"not from where it was declared");
    other.socket = declared;
    other.socket.set_read_timeout(Some(LONG)).expect("set");
    other.send(0, &peer, b"from where it was declared");
    assert_eq!(other.recv().1, b"from where it was declared");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_tcp_connection_and_the_association_end_together() {
    let (server, mut program, client, peer) = associated().await;
    drop(client.control);
    program.process.wait_until_logged("flow ended");

    let mut refused = program.associate(0);
    let udp = UdpFaults { refused: true, ..UdpFaults::default() };
    server.set_faults(Faults { udp, ..Faults::default() });
    refused.send(0, &peer, b"hello");
    assert_eq!(refused.control.read(&mut [0; 1]).expect("closed"), 0, "{}", program.process.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_association_goes_on_when_its_session_has_died() {
    let (server, mut program, client, peer) = associated().await;
    server.cut_sessions(Cut::Reset).await;
    program.process.wait_until_logged("waits for its next datagram");
    client.send(0, &peer, b"again");
    assert_eq!(client.recv(), (peer, b"again".to_vec()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_of_the_tcp_connection_is_seen_while_the_server_opens_nothing() {
    let server = start(ServerOptions {
        faults: Faults { synack: SynAck::Never, ..Faults::default() },
        ..server_options()
    })
    .await;
    let mut program = Program::start(&server);
    let client = program.associate(0);
    client.send(0, &"192.0.2.1:9".parse().expect("a target"), b"hello");
    until(|| {
        server.connections().iter().any(|session| session.received.iter().any(|frame| frame.command == 1))
    })
    .await;
    drop(client.control);
    program.process.wait_until_logged("flow ended");
    assert!(!program.process.log().contains("TimedOut"), "{}", program.process.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_server_of_connect_mode_only_one_destination_is_served() {
    let server = faulty(UdpFaults { socks5_numbering: true, ..UdpFaults::default() }).await;
    let program = Program::start(&server);
    let client = program.associate(0);
    let (peer, other): (Target, Target) =
        (echo("127.0.0.1:0").await.into(), echo("127.0.0.1:0").await.into());
    client.send(0, &peer, b"first");
    assert_eq!(client.recv(), (peer.clone(), b"first".to_vec()));
    client.send(0, &other, b"elsewhere");
    client.send(0, &peer, b"second");
    assert_eq!(client.recv(), (peer, b"second".to_vec()));
}
