//! `extension`: what the core takes in a Network Extension when apps send more than the uplink carries.
//!
//! ```text
//! apps ── TUN ── batches ── tunnel with the defaults of iOS ── throttle ── server
//! process                   this process                       process
//! ```
//! Every buffer on the way fills, and stays full: apps send without end, half of them read nothing of what comes
//! back. What counts is the growth of this process, against `memory_limit` and [`UNCOUNTED_BYTES`]; stacks and the
//! library's own pages, which are read from its file, have to find room in these too.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use anytls_mobile::budget::UNCOUNTED_BYTES;
use anytls_mobile::config::{self, Config, Defaults};
use anytls_mobile::transport::NoProtect;
use anytls_mobile::tun::{
    self, BatchDevice, BatchInput, Device, FdDevice, NetworkNamespace, SendError, TunOptions,
};
use anytls_mobile::tunnel::{Stats, Tun, Tunnel};
use serde_json::json;
use tokio::time::sleep;

use super::Report;
use super::apps::Apps;
use super::memory::Memory;
use super::server::{Chain, NAME, PASSWORD, Server, Wishes};
use crate::{Failure, runtime};

const TCP_FLOWS: usize = 256;
const UDP_FLOWS: usize = 64;

/// Where apps send: behind the TUN for them, an address of the server's host for the server.
const TARGET: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 9)), 7);
const TUN: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

/// 16 Mbit/s each way: a mobile network that is no fun.
const BYTES_A_SECOND: u64 = 2_000_000;

/// What a socket's send buffer has at least, at first and at most: 128 KiB is the default of Apple's systems.
const SEND_BUFFERS: &str = "4096 16384 131072";

/// How often memory is looked at.
const GLANCE: Duration = Duration::from_millis(20);

/// Packets that one read of Apple's brings.
const BATCH_PACKETS: usize = 32;

pub(super) fn bench(quick: bool) -> Result<Vec<Report>, Failure> {
    let defaults = Defaults::ios();
    let time = Duration::from_secs(if quick { 3 } else { 30 });
    let title = format!(
        "extension: memory of {TCP_FLOWS} TCP and {UDP_FLOWS} UDP flows that send without end over 16 Mbit/s, in MiB"
    );
    let mut report = Report::new("extension", title, &["what", "MiB"]);
    let seen = run(&defaults, time)?;
    let limit = (defaults.memory_limit + UNCOUNTED_BYTES) as u64;
    for (what, bytes) in [
        ("memory_limit", defaults.memory_limit as u64),
        ("memory_limit and what it does not count", limit),
        ("growth of RSS, at most", seen.rss),
        ("of that, anonymous pages", seen.anonymous),
        ("held, by the core's own count, at most", seen.held),
        ("sessions' buffers, at most", seen.sessions),
        ("flows and their rings, at most", seen.netstack),
        ("datagrams, at most", seen.datagrams),
    ] {
        report.row(vec![json!(what), mib(bytes)]);
    }
    let verdict = if seen.rss <= limit { "OK" } else { "over" };
    report.row(vec![json!("growth against the limit"), json!(verdict)]);
    if seen.rss > limit {
        report.print();
        return Err(format!("{} bytes more than before, and {limit} are the limit", seen.rss).into());
    }
    Ok(vec![report])
}

fn mib(bytes: u64) -> serde_json::Value {
    json!(format!("{}.{}", bytes >> 20, ((bytes & 0xf_ffff) * 10) >> 20))
}

/// The most of each that was there at once, in bytes.
#[derive(Default)]
struct Seen {
    rss: u64,
    anonymous: u64,
    held: u64,
    sessions: u64,
    netstack: u64,
    datagrams: u64,
    tcp_flows: u64,
    udp_flows: u64,
}

fn run(defaults: &Defaults, time: Duration) -> Result<Seen, Failure> {
    let root = |error: io::Error| format!("no network namespace (needs root): {error}");
    let (phone, world) = (NetworkNamespace::new().map_err(root)?, NetworkNamespace::new().map_err(root)?);
    let _target = open(&world, TARGET.ip(), 1500)?;
    // Linux would keep megabytes of each session in the kernel, and nothing would be full for minutes.
    world.run(|| std::fs::write("/proc/sys/net/ipv4/tcp_wmem", SEND_BUFFERS))??;
    let tun = open(&phone, TUN, defaults.mtu.get())?;
    let chain = Chain::new()?;
    let wishes = Wishes { bytes_a_second: Some(BYTES_A_SECOND), udp_echo: Some(TARGET), ..Wishes::default() };
    let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let server = world.run(|| Server::start_with(listen, &chain, wishes))??;
    let config = config(&server, &chain, defaults)?;
    world.run(|| runtime()?.block_on(measure(config, tun, &phone, time)))?
}

fn open(host: &NetworkNamespace, address: IpAddr, mtu: u16) -> Result<OwnedFd, Failure> {
    let options = TunOptions { name: "tun".to_owned(), mtu, addresses: vec![(address, 24)] };
    Ok(host.run(|| tun::open(&options))??)
}

fn config(server: &Server, chain: &Chain, defaults: &Defaults) -> Result<Config, Failure> {
    let text = json!({
        "server": {
            "server": server.address.ip(),
            "server_port": server.address.port(),
            "password": PASSWORD,
            "tls": { "server_name": NAME, "certificate": chain.root },
        },
    });
    Ok(config::parse(&text.to_string(), defaults)?.config)
}

async fn measure(
    config: Config,
    tun: OwnedFd,
    phone: &NetworkNamespace,
    time: Duration,
) -> Result<Seen, Failure> {
    let mtu = config.tun.mtu.get();
    let before = Memory::now()?;
    let device = move || Ok(Box::new(PacketFlow::new(tun, mtu)?) as Box<dyn Device>);
    let tunnel = Tunnel::start(config, Tun::With(Box::new(device)), Arc::new(NoProtect)).await?;
    let mut seen = Seen::default();
    let apps = std::thread::scope(|scope| -> Result<Apps, Failure> {
        let apps = scope.spawn(|| phone.run(|| Apps::start(TARGET, TCP_FLOWS, UDP_FLOWS)));
        while !apps.is_finished() {
            look(&tunnel, &before, &mut seen)?;
            std::thread::sleep(GLANCE);
        }
        apps.join().map_err(|_| "the apps were lost")??
    })?;
    for _ in 0..time.as_millis() / GLANCE.as_millis() {
        look(&tunnel, &before, &mut seen)?;
        sleep(GLANCE).await;
    }
    drop(apps);
    tunnel.stop().await;
    if seen.tcp_flows < TCP_FLOWS as u64 || seen.udp_flows < UDP_FLOWS as u64 {
        return Err(format!("only {} TCP and {} UDP flows were there", seen.tcp_flows, seen.udp_flows).into());
    }
    Ok(seen)
}

fn look(tunnel: &Tunnel, before: &Memory, seen: &mut Seen) -> Result<(), Failure> {
    let (now, Stats { memory, netstack, .. }) = (Memory::now()?, tunnel.stats());
    let kib = |now: u64, before: u64| now.saturating_sub(before) * 1024;
    for (most, bytes) in [
        (&mut seen.rss, kib(now.rss, before.rss)),
        (&mut seen.anonymous, kib(now.anonymous, before.anonymous)),
        (&mut seen.held, memory.held() as u64),
        (&mut seen.sessions, memory.sessions_held as u64),
        (&mut seen.netstack, memory.netstack_held as u64),
        (&mut seen.datagrams, memory.datagrams_held as u64),
        (&mut seen.tcp_flows, netstack.flows_open),
        (&mut seen.udp_flows, netstack.udp_flows_open),
    ] {
        *most = bytes.max(*most);
    }
    Ok(())
}

/// What Apple's packet flow and the code around it are: batches, both ways.
struct PacketFlow {
    tun: Arc<Mutex<FdDevice>>,
    batches: BatchDevice,
    input: BatchInput,
}

impl PacketFlow {
    fn new(tun: OwnedFd, mtu: u16) -> io::Result<Self> {
        let tun = Arc::new(Mutex::new(FdDevice::new(tun, mtu)?));
        let theirs = Arc::clone(&tun);
        let (batches, input) = tun::batches(mtu, move |packets| {
            let mut tun = theirs.lock().unwrap_or_else(PoisonError::into_inner);
            for packet in packets {
                let _dropped = tun.send(&packet); // as TUNs do
            }
        });
        Ok(Self { tun, batches, input })
    }
}

impl Device for PacketFlow {
    fn mtu(&self) -> usize {
        self.batches.mtu()
    }

    fn poll_recv(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        if let Poll::Ready(result) = self.batches.poll_recv(cx, buf) {
            return Poll::Ready(result);
        }
        let mut batch = Vec::new();
        let mut tun = self.tun.lock().unwrap_or_else(PoisonError::into_inner);
        while batch.len() < BATCH_PACKETS
            && let Poll::Ready(length) = tun.poll_recv(cx, buf)
        {
            batch.push(buf[..length?].to_vec());
        }
        drop(tun);
        self.input.push(batch);
        self.batches.poll_recv(cx, buf)
    }

    fn send(&mut self, packet: &[u8]) -> Result<(), SendError> {
        self.batches.send(packet)
    }

    fn flush(&mut self) {
        self.batches.flush();
    }
}
