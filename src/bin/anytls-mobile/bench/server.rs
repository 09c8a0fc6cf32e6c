//! The server, in a process of its own.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anytls_mobile::proto::auth::PasswordHash;
use anytls_mobile::proto::target::Host;
use anytls_mobile::proto::uot::MAGIC_NAME;
use anytls_mobile::testserver::{Identity, ServerOptions, Service, TestServer};
use rcgen::{BasicConstraints, CertificateParams, CustomExtension, IsCa, Issuer, KeyPair};
use serde_json::{Value, json};
use tokio::net::UdpSocket;

use super::throttle;
use crate::Failure;

pub(super) const PASSWORD: &str = "bench";
pub(super) const NAME: &str = "server.bench";

/// A target that sends back what comes, and one that sends [`CHUNK`] bytes: by their well-known ports.
pub(super) const ECHO: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 7);
pub(super) const SENDER: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 19);
pub(super) const CHUNK: u64 = 256 * 1024;

/// What is in a public CA's certificates and not in ours: a longer signature, timestamps of logs, policies.
/// With it, the chain has the 2.3 KB that a common CA's have with elliptic keys.
const BALLAST: usize = 600;

/// A chain of two certificates below a root.
#[derive(Clone)]
pub(super) struct Chain {
    pub(super) root: String,
    shown: String,
    key: String,
}

impl Chain {
    pub(super) fn new() -> Result<Self, Failure> {
        let authority = |name: &str| {
            let mut params = CertificateParams::new(vec![name.to_owned()])?;
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.custom_extensions.push(ballast());
            Ok::<_, rcgen::Error>(params)
        };
        let (root_key, middle_key, key) = (KeyPair::generate()?, KeyPair::generate()?, KeyPair::generate()?);
        let (root, middle) = (authority("root.bench")?, authority("middle.bench")?);
        let root_pem = root.self_signed(&root_key)?.pem();
        let root = Issuer::new(root, root_key);
        let middle_pem = middle.signed_by(&middle_key, &root)?.pem();
        let middle = Issuer::new(middle, middle_key);
        let mut leaf = CertificateParams::new(vec![NAME.to_owned()])?;
        leaf.custom_extensions.push(ballast());
        let leaf_pem = leaf.signed_by(&key, &middle)?.pem();
        Ok(Self { root: root_pem, shown: format!("{leaf_pem}{middle_pem}"), key: key.serialize_pem() })
    }
}

fn ballast() -> CustomExtension {
    // Under the number for documentation (RFC 5612), which nobody reads.
    CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 32473, 1], vec![0x5a; BALLAST])
}

/// What a server does besides.
#[derive(Default)]
pub(super) struct Wishes {
    /// Closes sessions that were idle for longer.
    pub(super) idle_limit: Option<Duration>,
    /// Is reached through a [`throttle`].
    pub(super) bytes_a_second: Option<u64>,
    /// Sends back datagrams that come to this address of its host.
    pub(super) udp_echo: Option<SocketAddr>,
}

/// A server in a process of its own, which is killed when this is dropped.
pub(super) struct Server {
    process: Child,
    pub(super) address: SocketAddr,
}

impl Server {
    /// Starts one in the network of the calling thread.
    pub(super) fn start(
        listen: SocketAddr,
        chain: &Chain,
        idle_limit: Option<Duration>,
    ) -> Result<Self, Failure> {
        Self::start_with(listen, chain, Wishes { idle_limit, ..Wishes::default() })
    }

    /// The same, with all that one can do.
    pub(super) fn start_with(listen: SocketAddr, chain: &Chain, wishes: Wishes) -> Result<Self, Failure> {
        let Wishes { idle_limit, bytes_a_second, udp_echo } = wishes;
        let mut process = Command::new(std::env::current_exe()?)
            .args(["bench", "server"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let options = json!({
            "listen": listen,
            "idle_limit_ms": idle_limit.and_then(|limit| u64::try_from(limit.as_millis()).ok()),
            "bytes_a_second": bytes_a_second,
            "udp_echo": udp_echo,
            "certificates": chain.shown,
            "key": chain.key,
        });
        let (Some(stdin), Some(stdout)) = (&mut process.stdin, &mut process.stdout) else {
            return Err("the server has no pipes".into());
        };
        writeln!(stdin, "{options}")?;
        let mut answer = String::new();
        BufReader::new(stdout).read_line(&mut answer)?;
        let address = answer.trim().parse().map_err(|_| "the server did not start")?;
        Ok(Self { process, address })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Fails only when it has ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The server's side: options on standard input, the address on standard output, until the input ends.
pub(super) fn serve() -> Result<(), Failure> {
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line)?;
    let asked: Value = serde_json::from_str(&line)?;
    let text = |name: &str| asked[name].as_str().unwrap_or_default().to_owned();
    let mut options = ServerOptions::new(PasswordHash::of(PASSWORD));
    options.listen = text("listen").parse()?;
    options.idle_limit = asked["idle_limit_ms"].as_u64().map(Duration::from_millis);
    options.identity = Identity::Pem { certificates: text("certificates"), key: text("key") };
    options.outbound = Arc::new(|target| match &target.host {
        Host::Name(name) if name.as_str() == MAGIC_NAME => Service::Connect,
        _ if target.port == SENDER.port() => Service::Send(CHUNK),
        _ => Service::Echo,
    });
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let server = runtime.block_on(TestServer::start(options))?;
    if let Ok(address) = text("udp_echo").parse::<SocketAddr>() {
        let socket = runtime.block_on(UdpSocket::bind(address))?;
        runtime.spawn(echo(socket));
    }
    let address = match asked["bytes_a_second"].as_u64() {
        Some(bytes) => runtime.block_on(throttle::listen(server.address(), bytes))?,
        None => server.address(),
    };
    println!("{address}");
    let mut rest = Vec::new();
    std::io::stdin().lock().read_to_end(&mut rest)?; // until whoever started us is gone
    Ok(())
}

async fn echo(socket: UdpSocket) -> io::Result<()> {
    let mut datagram = vec![0; 64 * 1024];
    loop {
        let (length, from) = socket.recv_from(&mut datagram).await?;
        let _full = socket.try_send_to(&datagram[..length], from);
    }
}
