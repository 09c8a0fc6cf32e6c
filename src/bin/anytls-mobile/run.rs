//! `run`: the tunnel on this machine.

use std::io::IsTerminal;
use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::Duration;

use anytls_mobile::config::{Config, Parsed};
use anytls_mobile::transport::NoProtect;
use anytls_mobile::tun::{self, TunOptions};
use anytls_mobile::tunnel::{Stats, Tun, Tunnel};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::filter::LevelFilter;

use crate::{Failure, check, log_to_stderr, runtime, socks};

/// How often the line of stats is renewed on a terminal.
const STATS_INTERVAL: Duration = Duration::from_secs(2);

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// A config file, or an anytls:// URI.
    #[arg(long)]
    config: String,
    /// Make a TUN with this name, with the config's addresses; needs root.
    #[arg(long, conflicts_with = "tun_fd")]
    tun: Option<String>,
    /// Take over an open TUN descriptor.
    #[arg(long)]
    tun_fd: Option<RawFd>,
    /// Listen for SOCKS5 here; a TUN is then made only with --tun or --tun-fd.
    #[arg(long)]
    socks: Option<SocketAddr>,
}

pub(crate) fn run(arguments: Arguments, log: Option<LevelFilter>) -> Result<(), Failure> {
    let Parsed { config, .. } = check::load(&arguments.config)?;
    log_to_stderr(log.unwrap_or(config.log.level));
    let tun = open_tun(&arguments, &config)?;
    if matches!(tun, Tun::None) && arguments.socks.is_none() {
        return Err("nothing to serve: give --tun, --tun-fd, --socks, or a tun.name in the config".into());
    }
    runtime()?.block_on(serve(config, tun, arguments.socks))
}

async fn serve(config: Config, tun: Tun, socks: Option<SocketAddr>) -> Result<(), Failure> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let listener = match socks {
        Some(address) => Some(TcpListener::bind(address).await.map_err(|e| format!("{address}: {e}"))?),
        None => None,
    };
    let tunnel = Arc::new(Tunnel::start(config, tun, Arc::new(NoProtect)).await?);
    if let Some(listener) = &listener {
        tracing::info!(address = %listener.local_addr()?, "SOCKS5 is listening");
    }
    tracing::info!("tunnel is up");

    let front = async {
        match listener {
            Some(listener) => socks::serve(listener, Arc::clone(&tunnel)).await,
            None => std::future::pending().await,
        }
    };
    let ended_by_itself = tokio::select! {
        () = front => false,
        () = show_stats(&tunnel) => false,
        _ = interrupt.recv() => false,
        _ = terminate.recv() => false,
        () = tunnel.ended() => true,
    };
    tunnel.stop().await;
    if ended_by_itself { Err("the TUN is gone".into()) } else { Ok(()) }
}

fn open_tun(arguments: &Arguments, config: &Config) -> Result<Tun, Failure> {
    if let Some(fd) = arguments.tun_fd {
        return Ok(Tun::Fd(tun::adopt(fd)?));
    }
    let configured = config.tun.name.as_ref().filter(|_| arguments.socks.is_none());
    let Some(name) = arguments.tun.as_ref().or(configured) else { return Ok(Tun::None) };
    let options = TunOptions {
        name: name.clone(),
        mtu: config.tun.mtu.get(),
        addresses: config.tun.addresses.iter().map(|a| (a.address(), a.prefix_len())).collect(),
    };
    Ok(Tun::Fd(tun::open(&options)?))
}

async fn show_stats(tunnel: &Tunnel) {
    if !std::io::stderr().is_terminal() {
        return std::future::pending().await;
    }
    let mut ticks = tokio::time::interval(STATS_INTERVAL);
    let mut before = Stats::default();
    loop {
        ticks.tick().await;
        let now = tunnel.stats();
        eprint!("\r\x1b[K{}", line(&now, &before));
        before = now;
    }
}

fn line(now: &Stats, before: &Stats) -> String {
    let seconds = STATS_INTERVAL.as_secs();
    let rate = |now: u64, before: u64| {
        let bits = now.saturating_sub(before) * 8 / seconds;
        format!("{}.{} Mbit/s", bits / 1_000_000, bits / 100_000 % 10)
    };
    let (client, was) = (&now.client, &before.client);
    format!(
        "up {}  down {}  sessions {} active, {} idle, {} dialled  streams reused {}",
        rate(client.sent_bytes, was.sent_bytes),
        rate(client.received_bytes, was.received_bytes),
        client.active,
        client.idle,
        client.dialed,
        client.reused,
    )
}
