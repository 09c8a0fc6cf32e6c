//! Names as a tunnel's owner sees them: answered to sockets that are handed over, known by their fake addresses,
//! counted.
#![cfg(feature = "testserver")]
#![allow(clippy::disallowed_methods)] // a test's tasks live as long as its runtime

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anytls_mobile::client::OpenError;
use anytls_mobile::config::{self, Defaults};
use anytls_mobile::proto::auth::PasswordHash;
use anytls_mobile::proto::session::StreamError;
use anytls_mobile::proto::target::Target;
use anytls_mobile::testserver::{ServerOptions, Service, TestServer};
use anytls_mobile::transport::NoProtect;
use anytls_mobile::tunnel::{Tun, Tunnel};
use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::TXT;
use hickory_proto::rr::{Name, RData, Record, RecordType};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

/// Longer than any machine needs: only a hang reaches it.
const LONG: Duration = Duration::from_secs(60);

const PASSWORD: &str = "correct horse";
const DNS: u16 = 53;
const ECHO: u16 = 7;

struct World {
    tunnel: Tunnel,
    /// What the server was asked for, in order.
    targets: Arc<Mutex<Vec<String>>>,
    _server: TestServer,
}

impl World {
    /// A tunnel in `fake_ip` mode; the server reaches a resolver that has a text for every name.
    async fn new() -> Self {
        let resolver = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let resolver_at = resolver.local_addr().expect("bound");
        tokio::spawn(async move {
            while let Ok((socket, _)) = resolver.accept().await {
                tokio::spawn(answer_texts(socket));
            }
        });
        let targets = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&targets);
        let mut options = ServerOptions::new(PasswordHash::of(PASSWORD));
        options.outbound = Arc::new(move |target| {
            seen.lock().expect("nobody panics").push(target.to_string());
            if target.port == DNS { Service::ConnectTo(resolver_at) } else { Service::Echo }
        });
        let server = TestServer::start(options).await.expect("a server");
        let text = serde_json::json!({
            "server": {
                "server": server.address().ip(),
                "server_port": server.address().port(),
                "password": PASSWORD,
                "tls": { "insecure": true },
            },
            "dns": { "mode": "fake_ip", "server": "192.0.2.53", "block_dot": true },
        });
        let config = config::parse(&text.to_string(), &Defaults::default()).expect("a config").config;
        let tunnel = Tunnel::start(config, Tun::None, Arc::new(NoProtect)).await.expect("started");
        Self { tunnel, targets, _server: server }
    }

    /// A socket that the tunnel relays to `target`: the app's end.
    async fn relayed(&self, target: SocketAddr) -> TcpStream {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let app = TcpStream::connect(listener.local_addr().expect("bound")).await.expect("connected");
        let (socket, _) = listener.accept().await.expect("accepted");
        let socket = socket.into_std().expect("a socket");
        self.tunnel.connect_stream(socket.into(), Target::from(target)).expect("taken");
        app
    }

    /// What a query over TCP, to whatever address, is answered.
    async fn ask(&self, name: &str, kind: RecordType) -> Message {
        let mut app = self.relayed(SocketAddr::from(([8, 8, 8, 8], DNS))).await;
        let mut query = Message::new(7, MessageType::Query, OpCode::Query);
        query.add_query(Query::query(Name::from_ascii(name).expect("a name"), kind));
        write(&mut app, &query).await;
        read(&mut app).await.expect("an answer")
    }

    async fn fake(&self, name: &str) -> IpAddr {
        let answer = self.ask(name, RecordType::A).await;
        let RData::A(address) = &answer.answers[0].data else { panic!("{answer}") };
        address.0.into()
    }

    fn seen(&self) -> Vec<String> {
        std::mem::take(&mut self.targets.lock().expect("nobody panics"))
    }
}

async fn answer_texts(mut socket: TcpStream) {
    while let Some(query) = read(&mut socket).await {
        let name = query.queries[0].name().clone();
        let mut answer = query.into_response();
        answer.add_answer(Record::from_rdata(name, 300, RData::TXT(TXT::new(vec!["text".to_owned()]))));
        write(&mut socket, &answer).await;
    }
}

async fn write(socket: &mut (impl AsyncWrite + Unpin), message: &Message) {
    let bytes = message.to_vec().expect("a message");
    socket.write_u16(u16::try_from(bytes.len()).expect("short")).await.expect("written");
    socket.write_all(&bytes).await.expect("written");
}

async fn read(socket: &mut (impl AsyncRead + Unpin)) -> Option<Message> {
    let length = timeout(LONG, socket.read_u16()).await.expect("no hang").ok()?;
    let mut bytes = vec![0; length.into()];
    socket.read_exact(&mut bytes).await.expect("the rest");
    Some(Message::from_vec(&bytes).expect("a message"))
}

async fn echoes(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    stream.write_all(b"hello").await.expect("written");
    let mut back = [0; 5];
    timeout(LONG, stream.read_exact(&mut back)).await.expect("no hang").expect("echoed");
    assert_eq!(&back, b"hello");
}

#[tokio::test]
async fn a_fake_address_means_its_name_however_it_is_handed_over() {
    let world = World::new().await;
    let fake = SocketAddr::new(world.fake("www.example").await, ECHO);
    assert_eq!(world.seen(), [""; 0], "nobody was asked");

    echoes(world.tunnel.open(&Target::from(fake), b"").await.expect("opened")).await;
    echoes(world.relayed(fake).await).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let app = TcpStream::connect(listener.local_addr().expect("bound")).await.expect("connected");
    let connected = world.tunnel.connect(Target::from(fake)).await.expect("opened");
    tokio::spawn(connected.relay(listener.accept().await.expect("accepted").0));
    echoes(app).await;
    assert_eq!(world.seen(), ["www.example:7"; 3]);
    world.tunnel.stop().await;
}

#[tokio::test]
async fn a_fake_address_of_no_name_is_refused() {
    let world = World::new().await;
    let forgotten = SocketAddr::from(([198, 19, 250, 250], ECHO));
    let refused = |error: &OpenError| matches!(error, OpenError::Stream(StreamError::Refused(_)));
    assert!(world.tunnel.open(&Target::from(forgotten), b"").await.is_err_and(|error| refused(&error)));
    assert!(world.tunnel.connect(Target::from(forgotten)).await.is_err_and(|error| refused(&error)));
    let blocked = SocketAddr::from(([192, 0, 2, 1], 853));
    for target in [forgotten, blocked] {
        let mut app = world.relayed(target).await;
        let end = timeout(LONG, app.read(&mut [0; 1])).await.expect("no hang");
        assert_eq!(end.expect_err("a reset").kind(), ErrorKind::ConnectionReset);
    }
    assert_eq!(world.tunnel.stats().flows.refused, 2);
    assert_eq!(world.seen(), [""; 0]);
    world.tunnel.stop().await;
}

#[tokio::test]
async fn queries_are_counted_by_what_became_of_them() {
    let world = World::new().await;
    for _ in 0..3 {
        let answer = world.ask("text.example", RecordType::TXT).await;
        assert_eq!((answer.response_code, answer.answers.len()), (ResponseCode::NoError, 1));
    }
    world.fake("a.example").await;
    world.ask("localhost", RecordType::A).await;
    let stats = world.tunnel.stats();
    let dns = stats.dns.desk;
    assert_eq!((dns.tcp_queries, dns.udp_queries, dns.malformed), (5, 0, 0));
    assert_eq!((dns.forwarded, dns.cache_hits, dns.fake_answers, dns.local_answers), (1, 2, 1, 1));
    assert_eq!((dns.failures, dns.in_flight, dns.fake_names), (0, 0, 1));
    assert!(dns.resolve_times.median().is_some_and(|median| median < LONG));
    assert_eq!((stats.dns.upstream.opened, stats.memory.dns_held), (1, dns.held_bytes));
    assert_eq!(world.seen(), ["192.0.2.53:53"]);
    world.tunnel.stop().await;
}
