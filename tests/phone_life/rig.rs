//! A tunnel without a TUN, a server that it dials over real sockets, and what tests ask of both.

use std::fs;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anytls_mobile::client::{ClientStats, Stream};
use anytls_mobile::config::{self, Config, Defaults};
use anytls_mobile::proto::auth::PasswordHash;
use anytls_mobile::proto::command::Command;
use anytls_mobile::proto::target::Target;
use anytls_mobile::testserver::{
    ConnectionRecord, FrameRecord, Identity, Outbound, ServerOptions, Service, TestServer,
};
use anytls_mobile::transport::NoProtect;
use anytls_mobile::tunnel::{Path, State, Tun, Tunnel};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::{Builder, Runtime};
use tokio::time::{sleep, timeout};

use crate::support::lab::block_on;
use crate::support::netns::{Netns, free_port};
use crate::support::servers::{self, SERVER_NAME, Server};
use crate::support::uplinks::{TwoUplinks, Uplink};

pub const PASSWORD: &str = "correct horse";

/// Longer than anything takes: only a hang reaches it.
pub const GUARD: Duration = Duration::from_secs(30);

/// What the test server does with streams, by their port.
pub const ECHO: u16 = 7;
pub const DISCARD: u16 = 9;
pub const HOLD: u16 = 10;
pub const SEND: u16 = 19;

/// More than any test reads.
pub const SENT_BYTES: u64 = 1 << 40;

pub fn target(port: u16) -> Target {
    Target::from(SocketAddr::from(([192, 0, 2, 1], port)))
}

pub fn services() -> Outbound {
    Arc::new(|target| match target.port {
        ECHO => Service::Echo,
        DISCARD => Service::Discard,
        HOLD => Service::Hold,
        SEND => Service::Send(SENT_BYTES),
        _ => Service::Refuse("no such service".to_owned()),
    })
}

pub fn server_options() -> ServerOptions {
    let password = PasswordHash::of(PASSWORD);
    ServerOptions { record: true, outbound: services(), ..ServerOptions::new(password) }
}

pub async fn start_server(options: ServerOptions) -> TestServer {
    TestServer::start(options).await.expect("a server")
}

/// A config for a server at this address, of which nothing is verified, with these pool options.
pub fn config_value(server: SocketAddr, pool: Value) -> Value {
    let mut server = json!({
        "server": server.ip(),
        "server_port": server.port(),
        "password": PASSWORD,
        "tls": { "insecure": true },
    });
    if let (Value::Object(server), Value::Object(pool)) = (&mut server, pool) {
        server.extend(pool);
    }
    json!({ "server": server })
}

pub fn parse(config: &Value) -> Config {
    config::parse(&config.to_string(), &Defaults::default()).expect("a config").config
}

pub fn config(server: SocketAddr, pool: Value) -> Config {
    parse(&config_value(server, pool))
}

pub async fn start_tunnel(config: Config) -> Tunnel {
    Tunnel::start(config, Tun::None, Arc::new(NoProtect)).await.expect("started")
}

pub async fn guarded<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(GUARD, future).await.unwrap_or_else(|_| panic!("never: {what}"))
}

/// Waits for the tunnel's thread and the server to come to where `is_so`.
pub async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    guarded(what, async {
        while !is_so() {
            sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
}

pub async fn until_state(tunnel: &Tunnel, what: &str, is_so: impl FnMut(&State) -> bool) {
    let mut states = tunnel.watch_state();
    guarded(what, states.wait_for(is_so)).await.expect("the tunnel lives");
}

/// Waits for sessions that are idle, and for nothing to be under way.
pub async fn until_idle(tunnel: &Tunnel, count: u64) {
    until(&format!("{count} idle sessions"), || {
        let stats = stats(tunnel);
        (stats.idle, stats.active, stats.dialing) == (count, 0, 0)
    })
    .await;
}

pub fn stats(tunnel: &Tunnel) -> ClientStats {
    tunnel.stats().client
}

pub fn path(id: &str) -> Option<Path> {
    Some(Path::new(id))
}

pub async fn open(tunnel: &Tunnel, port: u16) -> Stream {
    guarded("a stream", tunnel.open(&target(port), b"")).await.expect("opened")
}

/// Sends bytes to an echo and gets them back.
pub async fn exchange(stream: &mut Stream, text: &[u8]) {
    let mut echoed = vec![0; text.len()];
    guarded("an echo", async {
        stream.write_all(text).await.expect("written");
        stream.read_exact(&mut echoed).await.expect("read");
    })
    .await;
    assert_eq!(echoed, text);
}

/// Frames of one kind that the server got from the client, on each connection.
pub fn received(server: &TestServer, command: Command) -> Vec<usize> {
    let is_one = |frame: &&FrameRecord| frame.command == u8::from(command);
    server.connections().iter().map(|seen| seen.received.iter().filter(is_one).count()).collect()
}

/// All that the server has seen, as far as it can grow.
pub fn seen(server: &TestServer) -> Vec<(u64, u64, bool)> {
    let all = |seen: ConnectionRecord| (seen.received_bytes, seen.sent_bytes, seen.ended);
    server.connections().into_iter().map(all).collect()
}

/// How many connections live at the server.
pub fn live(server: &TestServer) -> usize {
    server.connections().iter().filter(|seen| !seen.ended).count()
}

/// The servers that we did not write, on the loopback.
pub type Start = fn(&Netns, SocketAddr, &str, Option<&str>) -> Option<Server>;
pub const SERVERS: [(&str, Start); 2] =
    [("sing-box", servers::sing_box), ("anytls-server", servers::anytls_rs)];

pub fn start_real(start: Start) -> Option<Server> {
    start(&Netns::here(), SocketAddr::from(([127, 0, 0, 1], free_port())), PASSWORD, None)
}

/// An echo that real servers reach.
pub async fn start_echo() -> Target {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut read, mut write) = socket.split();
                let _reset = tokio::io::copy(&mut read, &mut write).await;
            });
        }
    });
    Target::from(address)
}

/// Runs `test` against each real server, at the same time, each on a thread and a runtime of its own.
pub fn each_real_server(test: impl AsyncFn(&str, Server) + Sync) {
    std::thread::scope(|scope| {
        for (name, start) in SERVERS {
            let test = &test;
            scope.spawn(move || {
                if let Some(server) = start_real(start) {
                    block_on(test(name, server));
                }
            });
        }
    });
}

/// A test server on the internet's side, and a client with two uplinks to it.
pub struct World {
    pub server: TestServer,
    pub network: TwoUplinks,
    pub runtime: Runtime,
}

impl World {
    /// `None` and a SKIP line where that cannot be made.
    pub fn new(options: ServerOptions) -> Option<Self> {
        let network = TwoUplinks::new()?;
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        let identity = Identity::Generated(vec![SERVER_NAME.to_owned()]);
        let options = ServerOptions { listen: World::address(), identity, ..options };
        let server = network.internet.run(|| runtime.block_on(start_server(options)));
        Some(Self { server, network, runtime })
    }

    pub fn address() -> SocketAddr {
        "10.0.0.2:443".parse().expect("an address")
    }

    /// A tunnel in the client's namespace, which is told that it is on the first uplink.
    pub fn start_tunnel(&self, pool: Value) -> Tunnel {
        let config = config(Self::address(), pool);
        self.network.client.run(|| block_on(start_tunnel(config)))
    }

    /// Leads the routes through `uplink`, and says so.
    pub fn switch(&self, tunnel: &Tunnel, uplink: &Uplink) {
        self.network.switch_to(uplink);
        tunnel.network_changed(path(uplink.interface));
    }

    /// The addresses that sessions have come from.
    pub fn peers(&self) -> Vec<String> {
        self.server.connections().iter().map(|seen| seen.peer.ip().to_string()).collect()
    }
}

/// `local`, `remote` and timer of the namespace's established IPv4 connections, as the kernel prints them.
pub fn connections(netns: &Netns) -> Vec<(SocketAddr, SocketAddr, String)> {
    const ESTABLISHED: &str = "01";
    let table = netns.run(|| fs::read_to_string("/proc/thread-self/net/tcp")).expect("a table");
    let address = |field: &str| {
        let (ip, port) = field.split_once(':').expect("an address");
        let ip = u32::from_str_radix(ip, 16).expect("hex").to_ne_bytes();
        SocketAddr::from((ip, u16::from_str_radix(port, 16).expect("hex")))
    };
    let rows = table.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    rows.filter(|row| row[3] == ESTABLISHED)
        .map(|row| (address(row[1]), address(row[2]), row[5].to_owned()))
        .collect()
}
