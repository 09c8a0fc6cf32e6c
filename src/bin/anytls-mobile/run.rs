//! `run`: the tunnel on this machine.

use std::io::IsTerminal;
use std::net::SocketAddr;
use std::num::ParseIntError;
use std::os::fd::{AsFd, BorrowedFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

use anytls_mobile::config::{Config, Host, Parsed};
use anytls_mobile::transport::{BindToDevice, Mark, Outside, Protect, ProtectError};
use anytls_mobile::tun::{self, TunOptions};
use anytls_mobile::tunnel::{Path, Stats, Tun, Tunnel};
use anytls_mobile::uplink::{UplinkOptions, Uplinks};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::filter::LevelFilter;

use crate::names::ProtectedResolver;
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
    /// Mark the tunnel's own packets, so that a rule can keep them out of the TUN; needs root.
    #[arg(long, value_name = "N", value_parser = mark)]
    mark: Option<u32>,
    /// Send the tunnel's own packets through this interface, whatever the routes say.
    #[arg(long, value_name = "NAME")]
    bind_interface: Option<String>,
}

/// A number as `ip rule` takes it: decimal, or hexadecimal after `0x`.
fn mark(text: &str) -> Result<u32, ParseIntError> {
    text.strip_prefix("0x").map_or_else(|| text.parse(), |digits| u32::from_str_radix(digits, 16))
}

pub(crate) fn run(arguments: Arguments, log: Option<LevelFilter>) -> Result<(), Failure> {
    let Parsed { config, .. } = check::load(&arguments.config)?;
    log_to_stderr(log.or(config.log.level).unwrap_or(LevelFilter::INFO));
    let (tun, tun_name) = open_tun(&arguments, &config)?;
    if matches!(tun, Tun::None) && arguments.socks.is_none() {
        return Err("nothing to serve: give --tun, --tun-fd, --socks, or a tun.name in the config".into());
    }
    let server = match config.server.host {
        Host::Address(address) => Some(address),
        Host::Name(_) => None,
    };
    let Arguments { socks, mark, bind_interface: interface, .. } = arguments;
    let uplink = UplinkOptions { server, mark, interface, tun: tun_name };
    runtime()?.block_on(serve(config, tun, socks, uplink))
}

async fn serve(
    config: Config,
    tun: Tun,
    socks: Option<SocketAddr>,
    uplink: UplinkOptions,
) -> Result<(), Failure> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let listener = match socks {
        Some(address) => Some(TcpListener::bind(address).await.map_err(|e| format!("{address}: {e}"))?),
        None => None,
    };
    let beside =
        Beside { mark: uplink.mark.map(Mark), interface: uplink.interface.clone().map(BindToDevice) };
    let is_split = beside.mark.is_some() || beside.interface.is_some();
    let protect = Arc::new(beside);
    let mut outside = Outside::from(Arc::clone(&protect));
    if is_split {
        outside.resolve = Arc::new(ProtectedResolver::new(protect)); // the system's lookups may enter the TUN
    }
    let tunnel = Arc::new(Tunnel::start(config, tun, outside).await?);
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
        () = watch_network(&tunnel, uplink) => false,
        _ = interrupt.recv() => false,
        _ = terminate.recv() => false,
        () = tunnel.ended() => true,
    };
    tunnel.stop().await;
    if ended_by_itself { Err("the TUN is gone".into()) } else { Ok(()) }
}

/// The TUN, and its interface's name.
fn open_tun(arguments: &Arguments, config: &Config) -> Result<(Tun, Option<String>), Failure> {
    if let Some(fd) = arguments.tun_fd {
        let tun = tun::adopt(fd)?;
        // Without a name when it is something else that carries packets, such as a socket.
        let name = tun::interface_name(tun.as_fd()).ok();
        return Ok((Tun::Fd(tun), name));
    }
    let configured = config.tun.name.as_ref().filter(|_| arguments.socks.is_none());
    let Some(name) = arguments.tun.as_ref().or(configured) else { return Ok((Tun::None, None)) };
    let options = TunOptions {
        name: name.clone(),
        mtu: config.tun.mtu.get(),
        addresses: config.tun.addresses.iter().map(|a| (a.address(), a.prefix_len())).collect(),
    };
    Ok((Tun::Fd(tun::open(&options)?), Some(options.name)))
}

/// Keeps the tunnel's own sockets out of its TUN, in the ways asked for.
struct Beside {
    mark: Option<Mark>,
    interface: Option<BindToDevice>,
}

impl Protect for Beside {
    fn protect(&self, socket: BorrowedFd<'_>) -> Result<(), ProtectError> {
        self.mark.map_or(Ok(()), |mark| mark.protect(socket))?;
        self.interface.as_ref().map_or(Ok(()), |interface| interface.protect(socket))
    }
}

/// Tells the tunnel which network it is on, for as long as that can be known.
async fn watch_network(tunnel: &Tunnel, options: UplinkOptions) {
    let error = match Uplinks::watch(options) {
        Ok(mut uplinks) => loop {
            match uplinks.changed().await {
                Ok(id) => network_changed(tunnel, id),
                Err(error) => break error,
            }
        },
        Err(error) => error,
    };
    tracing::warn!(%error, "changes of the network go unnoticed");
    std::future::pending().await
}

fn network_changed(tunnel: &Tunnel, id: Option<String>) {
    match &id {
        Some(path) => tracing::info!(path, "network changed"),
        None => tracing::info!("no network"),
    }
    tunnel.network_changed(id.map(Path::new));
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
    let (client, was, dns) = (&now.client, &before.client, &now.dns.desk);
    let median = dns.resolve_times.median().unwrap_or_default().as_millis();
    format!(
        "up {}  down {}  sessions {} active, {} idle, {} dialled  streams reused {}  queries {}, median {median} ms",
        rate(client.sent_bytes, was.sent_bytes),
        rate(client.received_bytes, was.received_bytes),
        client.active,
        client.idle,
        client.dialed,
        client.reused,
        dns.udp_queries + dns.tcp_queries,
    )
}

#[cfg(test)]
mod tests {
    use super::mark;

    #[test]
    fn a_mark_is_written_as_ip_rule_writes_it() {
        assert_eq!(mark("81"), Ok(81));
        assert_eq!(mark("0x51"), Ok(0x51));
        assert_eq!(mark("0xffffffff"), Ok(u32::MAX));
        for wrong in ["", "0x", "51h", "-1", "0x100000000"] {
            assert!(mark(wrong).is_err(), "{wrong}");
        }
    }
}
