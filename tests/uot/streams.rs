//! Sockets and associations that are handed to a tunnel.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use anytls_mobile::config::{self, Defaults};
use anytls_mobile::proto::auth::PasswordHash;
use anytls_mobile::proto::target::Target;
use anytls_mobile::testserver::{Cut, ServerOptions, Service, TestServer};
use anytls_mobile::transport::NoProtect;
use anytls_mobile::tunnel::{ConnectStreamError, ConnectionKind, Tun, Tunnel};

use crate::app::{app, echo};
use crate::client::{PASSWORD, start, until};

const ECHO: u16 = 7;
const REFUSED: u16 = 1;

async fn tunnel() -> (TestServer, Tunnel) {
    let mut options = ServerOptions::new(PasswordHash::of(PASSWORD));
    options.outbound = Arc::new(|target| match target.port {
        ECHO => Service::Echo,
        REFUSED => Service::Refuse("no".to_owned()),
        _ => Service::Connect,
    });
    let server = start(options).await;
    let text = serde_json::json!({ "server": {
        "server": server.address().ip(),
        "server_port": server.address().port(),
        "password": PASSWORD,
        "tls": { "insecure": true },
    }});
    let config = config::parse(&text.to_string(), &Defaults::default()).expect("a config").config;
    let tunnel = Tunnel::start(config, Tun::None, Arc::new(NoProtect)).await.expect("started");
    (server, tunnel)
}

fn target(port: u16) -> Target {
    Target::from(SocketAddr::from(([192, 0, 2, 1], port)))
}

fn tcp_pair(at: &str) -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind(at).expect("bound");
    let app = TcpStream::connect(listener.local_addr().expect("bound")).expect("connected");
    app.set_read_timeout(Some(Duration::from_secs(60))).expect("set"); // ends a test that would hang
    (app, listener.accept().expect("accepted").0)
}

/// What an app sees after its question.
fn ask(mut app: impl Read + Write) -> Vec<u8> {
    app.write_all(b"hello").expect("written");
    let mut answer = [0; 5];
    app.read_exact(&mut answer).expect("answered");
    answer.to_vec()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sockets_of_every_kind_are_relayed_and_listed() {
    let (_server, tunnel) = tunnel().await;
    for at in ["127.0.0.1:0", "[::1]:0"] {
        let (app, socket) = tcp_pair(at);
        let id = tunnel.connect_stream(socket.into(), target(ECHO)).expect("taken");
        let listed = tunnel.connections();
        assert_eq!((listed.len(), listed[0].id, listed[0].kind), (1, id, ConnectionKind::Socket));
        assert_eq!(ask(&app), b"hello");
        socket2::SockRef::from(&app).set_linger(Some(Duration::ZERO)).expect("set");
        drop(app);
        until(|| tunnel.connections().is_empty()).await;
    }
    let (mut app, socket) = UnixStream::pair().expect("a pair");
    let id = tunnel.connect_stream(socket.into(), target(ECHO)).expect("taken");
    assert_eq!(ask(&app), b"hello");
    assert!(tunnel.close_connection(id));
    assert_eq!(app.read(&mut [0; 1]).expect("closed"), 0);
    let flows = tunnel.stats().flows;
    assert_eq!((flows.total, flows.up_bytes, flows.down_bytes), (3, 15, 15));
    tunnel.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_connected_stream_is_refused_and_closed() {
    let (_server, tunnel) = tunnel().await;
    let (mut reader, pipe) = std::io::pipe().expect("a pipe");
    let unconnected = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("made");
    for descriptor in [
        UdpSocket::bind("127.0.0.1:0").expect("bound").into(),
        TcpListener::bind("127.0.0.1:0").expect("bound").into(),
        std::os::unix::net::UnixDatagram::pair().expect("a pair").0.into(),
        unconnected.into(),
        pipe.into(),
    ] {
        let refused = tunnel.connect_stream(descriptor, target(ECHO));
        assert!(matches!(refused, Err(ConnectStreamError::NotAStream)), "{refused:?}");
    }
    assert_eq!(reader.read(&mut [0; 1]).expect("closed"), 0);
    assert_eq!(tunnel.stats().flows.total, 0);
    tunnel.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_socket_is_reset_when_its_target_is_refused_or_it_is_closed_by_its_number() {
    let (_server, tunnel) = tunnel().await;
    let (mut app, socket) = tcp_pair("127.0.0.1:0");
    tunnel.connect_stream(socket.into(), target(REFUSED)).expect("taken");
    assert_eq!(app.read(&mut [0; 1]).expect_err("reset").kind(), ErrorKind::ConnectionReset);

    let (mut app, socket) = tcp_pair("127.0.0.1:0");
    let id = tunnel.connect_stream(socket.into(), target(ECHO)).expect("taken");
    assert_eq!(ask(&app), b"hello");
    assert!(tunnel.close_connection(id));
    assert_eq!(app.read(&mut [0; 1]).expect_err("reset").kind(), ErrorKind::ConnectionReset);
    until(|| tunnel.stats().flows.open == 0).await;
    let flows = tunnel.stats().flows;
    assert_eq!((flows.refused, flows.closed_by_us), (1, 1));
    tunnel.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_resets_sockets_and_takes_no_more() {
    let (_server, tunnel) = tunnel().await;
    let (mut app, socket) = tcp_pair("127.0.0.1:0");
    tunnel.connect_stream(socket.into(), target(ECHO)).expect("taken");
    assert_eq!(ask(&app), b"hello");
    tunnel.stop().await;
    assert_eq!(app.read(&mut [0; 1]).expect_err("reset").kind(), ErrorKind::ConnectionReset);
    let (mut app, socket) = tcp_pair("127.0.0.1:0");
    let refused = tunnel.connect_stream(socket.into(), target(ECHO));
    assert!(matches!(refused, Err(ConnectStreamError::Stopped)), "{refused:?}");
    assert_eq!(app.read(&mut [0; 1]).expect_err("reset").kind(), ErrorKind::ConnectionReset);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sockets_that_come_while_the_tunnel_stops_are_all_reset() {
    let (_server, tunnel) = tunnel().await;
    let tunnel = Arc::new(tunnel);
    let theirs = Arc::clone(&tunnel);
    let handing = std::thread::spawn(move || {
        let mut apps = Vec::new();
        loop {
            let (app, socket) = tcp_pair("127.0.0.1:0");
            let taken = theirs.connect_stream(socket.into(), target(ECHO));
            apps.push(app);
            if let Err(error) = taken {
                assert!(matches!(error, ConnectStreamError::Stopped), "{error:?}");
                return apps;
            }
            assert!(apps.len() < 10_000, "the tunnel is stopped meanwhile");
        }
    });
    until(|| tunnel.stats().flows.total > 3).await;
    tunnel.stop().await;
    for mut app in handing.join().expect("no panic") {
        assert_eq!(app.read(&mut [0; 1]).expect_err("reset").kind(), ErrorKind::ConnectionReset);
    }
    assert_eq!(tunnel.stats().flows.open, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_association_is_listed_counted_and_closed_like_a_flow() {
    let (_server, tunnel) = tunnel().await;
    let tunnel = Arc::new(tunnel);
    let (echo, (app, local)) = (echo("127.0.0.1:0").await, app());
    let theirs = Arc::clone(&tunnel);
    let task = tokio::spawn(async move { theirs.associate(local, None).await });
    app.send(echo, b"hello");
    assert_eq!(app.recv().await, (echo.into(), b"hello".to_vec()));
    let [connection] = tunnel.connections().try_into().expect("one");
    assert_eq!(connection.kind, ConnectionKind::Association);
    assert_eq!(connection.destination.to_string(), "0.0.0.0:0");
    until(|| tunnel.stats().flows.down_bytes == 5).await;
    assert!(tunnel.close_connection(connection.id));
    task.await.expect("no panic");
    assert_eq!(tunnel.stats().flows.closed_by_us, 1);
    tunnel.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_association_outlives_its_sessions() {
    let (server, tunnel) = tunnel().await;
    let tunnel = Arc::new(tunnel);
    let (echo, (app, local)) = (echo("127.0.0.1:0").await, app());
    let theirs = Arc::clone(&tunnel);
    let task = tokio::spawn(async move { theirs.associate(local, None).await });
    for how in [Cut::Reset, Cut::Fin] {
        app.send(echo, b"hello");
        assert_eq!(app.recv().await, (echo.into(), b"hello".to_vec()));
        server.cut_sessions(how).await;
        until(|| tunnel.stats().client.active == 0).await;
    }
    app.send(echo, b"again");
    assert_eq!(app.recv().await, (echo.into(), b"again".to_vec()));
    assert_eq!(tunnel.connections().len(), 1);
    app.close();
    task.await.expect("no panic");
    let flows = tunnel.stats().flows;
    assert_eq!((flows.total, flows.open, flows.failed, flows.up_bytes), (1, 0, 0, 15));
    tunnel.stop().await;
}
