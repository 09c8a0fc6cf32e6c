//! `demo`: the main job, start to end, on this machine alone.
//!
//! ```text
//! app ── TUN ── tunnel ── TLS over loopback ── test server ── HTTP target
//! ```

mod app;
mod network;
mod stack;
mod target;
mod usage;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anytls_mobile::config::{self, Config, Defaults};
use anytls_mobile::proto::auth::PasswordHash;
use anytls_mobile::testserver::{ServerOptions, TestServer};
use anytls_mobile::transport::NoProtect;
use anytls_mobile::tunnel::Tunnel;
use tracing_subscriber::filter::LevelFilter;

use self::app::Transfer;
use self::network::Network;
use self::target::HttpTarget;
use self::usage::Usage;
use crate::{Failure, log_to_stderr};

/// Where the app believes the target to be: documentation addresses, which lead nowhere but into the TUN.
const TARGET: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 80);

const PASSWORD: &str = "demo";

/// Requests that measure the time to the first byte on a warm pool.
const WARM_REQUESTS: usize = 50;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Megabytes (2^20 bytes) each way.
    #[arg(long, default_value_t = 256)]
    size: u64,
    /// Use the in-memory packet pair even where a TUN could be made.
    #[arg(long)]
    no_tun: bool,
}

pub(crate) fn demo(arguments: Arguments, log: Option<LevelFilter>) -> Result<(), Failure> {
    log_to_stderr(log.unwrap_or(LevelFilter::WARN));
    // The app, the server and its target share this runtime's threads; the tunnel has its own.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(run(&arguments))
}

async fn run(arguments: &Arguments) -> Result<(), Failure> {
    let bytes = arguments.size << 20;
    let target = HttpTarget::start().await?;
    let mut options = ServerOptions::new(PasswordHash::of(PASSWORD));
    options.outbound = target.as_outbound();
    let server = TestServer::start(options).await?;
    let config = config_for(&server)?;
    let (network, tun) = Network::open(&config, arguments.no_tun)?;
    println!("app    {network}");
    println!("server {} (embedded AnyTLS server)", server.address());
    let tunnel = Tunnel::start(config, tun, Arc::new(NoProtect)).await?;

    let cold = app::first_byte(&network, TARGET).await?;
    let download = transfer("download", app::download(&network, TARGET, bytes)).await?;
    let upload = transfer("upload", app::upload(&network, TARGET, bytes)).await?;
    let mut warm = Vec::with_capacity(WARM_REQUESTS);
    for _ in 0..WARM_REQUESTS {
        warm.push(app::first_byte(&network, TARGET).await?);
    }
    warm.sort();

    let stats = tunnel.stats();
    let usage = Usage::now();
    tunnel.stop().await;
    server.stop().await;

    println!();
    row("download", &speed(bytes, &download));
    row("upload", &speed(bytes, &upload));
    row("first byte, cold", &micros(cold));
    row("first byte, warm", &format!("{} (median of {WARM_REQUESTS})", micros(warm[WARM_REQUESTS / 2])));
    let client = stats.client;
    row("sessions", &format!("{} made, reused {} times", client.dialed, client.reused));
    row("memory, all of this", &format!("{:.1} MiB peak, server and app included", usage.peak_mib()));
    row("CPU, tunnel's thread", &format!("{:.2} s for {} MiB", usage.tunnel_seconds(), 2 * arguments.size));
    Ok(())
}

async fn transfer(
    name: &'static str,
    work: impl Future<Output = Result<Transfer, Failure>>,
) -> Result<Transfer, Failure> {
    let transfer = work.await?;
    if transfer.sent != transfer.received {
        return Err(format!(
            "{name}: SHA-256 differs: {} sent, {} received",
            transfer.sent, transfer.received
        )
        .into());
    }
    println!("{name:8} SHA-256 {} at both ends", transfer.sent);
    Ok(transfer)
}

fn config_for(server: &TestServer) -> Result<Config, Failure> {
    let text = serde_json::json!({
        "server": {
            "type": "anytls",
            "server": server.address().ip().to_string(),
            "server_port": server.address().port(),
            "password": PASSWORD,
            "tls": { "server_name": "localhost", "certificate": server.certificate_pem() },
        },
    });
    Ok(config::parse(&text.to_string(), &Defaults::default())?.config)
}

fn row(name: &str, value: &str) {
    println!("{name:<22} {value}");
}

fn speed(bytes: u64, transfer: &Transfer) -> String {
    // Precision that a float has lost is not shown.
    #[allow(clippy::cast_precision_loss)]
    let megabits = bytes as f64 * 8.0 / 1e6;
    let seconds = transfer.time.as_secs_f64();
    format!("{:.0} Mbit/s ({} MiB in {seconds:.2} s)", megabits / seconds, bytes >> 20)
}

fn micros(time: Duration) -> String {
    format!("{} µs", time.as_micros())
}
