//! Configs and URIs, as apps show and edit them.

use std::net::IpAddr;
use std::time::Duration;

use super::shield::{shielded, shielded_or};
use super::{LogLevel, TunnelError};
use crate::config::{self, Config, ConfigError, Defaults, Host, Preset, Secret, Uri};
use crate::platform;
use crate::proto::pool::Heartbeat;

/// What an app needs of a config to set the VPN up and to show it. Without its secrets.
#[derive(Clone, Debug, PartialEq, Eq, uniffi::Record)]
pub struct ConfigSummary {
    /// The user's name for the server.
    pub name: Option<String>,
    /// The server: a DNS name or an IP address.
    pub server_host: String,
    /// Its TCP port.
    pub server_port: u16,
    /// Whether the server's certificate goes unchecked: anybody may be the server.
    pub is_insecure: bool,
    /// What the system is to be told of the interface.
    pub tun: TunSettings,
    /// `log.level`, if the config has one.
    pub log_level: Option<LogLevel>,
    /// What in the text has no effect.
    pub warnings: Vec<ConfigProblem>,
}

/// The interface, for `VpnService.Builder` and `NEPacketTunnelNetworkSettings`.
#[derive(Clone, Debug, PartialEq, Eq, uniffi::Record)]
pub struct TunSettings {
    /// The largest packet, in bytes.
    pub mtu: u16,
    /// The interface's own addresses; at least one.
    pub addresses: Vec<InterfaceAddress>,
    /// What the system is to ask for names: one address for each family that has an interface address. Nobody
    /// is there; queries to any address are answered by the tunnel.
    pub dns_servers: Vec<String>,
}

/// An address of the interface.
#[derive(Clone, Debug, PartialEq, Eq, uniffi::Record)]
pub struct InterfaceAddress {
    /// IPv4 or IPv6, in its usual form.
    pub address: String,
    /// The length of its network's prefix, in bits.
    pub prefix_length: u8,
}

/// One thing wrong with a config. Never quotes a value.
#[derive(Clone, Debug, PartialEq, Eq, uniffi::Record)]
pub struct ConfigProblem {
    /// Whether the config can be used all the same.
    pub severity: Severity,
    /// Where: `server.tls.alpn[1]`, `uri.port`. Empty for the whole text.
    pub path: String,
    /// What was expected or happens: lower case, no full stop.
    pub reason: String,
}

/// Whether a config can be used in spite of a problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq, uniffi::Enum)]
pub enum Severity {
    /// The config is refused.
    Error,
    /// The config is used, and something in it has no effect.
    Warning,
}

/// The parts of an `anytls://` URI, for a form to edit. Holds the password, which its text form leaves out.
#[derive(Clone, PartialEq, Eq, uniffi::Record)]
#[uniffi::export(Debug, Display)]
pub struct ServerUri {
    /// The password, not empty.
    pub password: String,
    /// The server: a DNS name or an IP address, without brackets.
    pub host: String,
    /// Its TCP port.
    #[uniffi(default = 443)]
    pub port: u16,
    /// Whom the certificate must be for, when not the host.
    #[uniffi(default = None)]
    pub sni: Option<String>,
    /// Take any certificate.
    #[uniffi(default = false)]
    pub is_insecure: bool,
    /// The user's name for the server.
    #[uniffi(default = None)]
    pub name: Option<String>,
}

/// A named set of pool options: the value of `preset` in a config.
#[derive(Clone, Debug, PartialEq, Eq, uniffi::Record)]
pub struct PoolPreset {
    /// Its name in a config.
    pub name: String,
    /// `ensure_idle_session`.
    pub ensure_idle_session: u32,
    /// `min_idle_session`.
    pub min_idle_session: u32,
    /// `idle_session_timeout`.
    pub idle_session_timeout: Duration,
    /// `idle_session_check_interval`.
    pub idle_session_check_interval: Duration,
    /// `heartbeat`; `None` for one that is off or learned.
    pub heartbeat: Option<Duration>,
    /// `heartbeat_background`, when it differs from `heartbeat`.
    pub heartbeat_background: Option<Duration>,
}

/// Reads a config: our JSON, an AnyTLS outbound or a whole config of sing-box, or an `anytls://` URI.
///
/// # Errors
/// [`TunnelError::Config`] with every problem.
#[uniffi::export]
pub fn parse_config(text: &str) -> Result<ConfigSummary, TunnelError> {
    shielded(|| {
        let config::Parsed { config, warnings } = read(text)?;
        let Config { log, server, tun, dns: _ } = config;
        Ok(ConfigSummary {
            name: server.tag,
            server_host: server.host.to_string(),
            server_port: server.port,
            is_insecure: server.tls.insecure,
            tun: TunSettings {
                mtu: tun.mtu.get(),
                dns_servers: tun.dns_servers().iter().map(IpAddr::to_string).collect(),
                addresses: tun.addresses.into_iter().map(InterfaceAddress::from).collect(),
            },
            log_level: log.level.map(LogLevel::from),
            warnings: warnings.into_iter().map(ConfigProblem::from).collect(),
        })
    })
}

/// A config with this platform's defaults.
pub(super) fn read(text: &str) -> Result<config::Parsed, ConfigError> {
    let defaults = if platform::IS_EXTENSION { Defaults::ios() } else { Defaults::default() };
    config::parse(text, &defaults)
}

/// Takes an `anytls://` URI apart. Parameters that mean nothing here are left out.
///
/// # Errors
/// [`TunnelError::Config`] with every problem.
#[uniffi::export]
pub fn parse_uri(text: &str) -> Result<ServerUri, TunnelError> {
    shielded(|| {
        let Uri { password, host, port, sni, insecure, unknown: _, tag } = Uri::parse(text)?;
        let password = String::from_utf8(password.expose().to_vec())
            .map_err(|_| problem("uri.password", "expected UTF-8"))?;
        let (host, sni) = (host.to_string(), sni.map(|sni| sni.to_string()));
        Ok(ServerUri { password, host, port, sni, is_insecure: insecure, name: tag })
    })
}

/// Puts an `anytls://` URI together, password included.
///
/// # Errors
/// [`TunnelError::Config`] when a part is not what it must be.
#[uniffi::export]
pub fn build_uri(parts: ServerUri) -> Result<String, TunnelError> {
    shielded(|| {
        let ServerUri { password, host, port, sni, is_insecure, name } = parts;
        let read_host =
            |path: &str, text: &str| text.parse::<Host>().map_err(|error| problem(path, &error.to_string()));
        if password.is_empty() {
            return Err(problem("uri.password", "expected a password"));
        }
        if port == 0 {
            return Err(problem("uri.port", "expected a port from 1 to 65535"));
        }
        let uri = Uri {
            password: Secret::new(password),
            host: read_host("uri.host", &host)?,
            port,
            sni: sni.filter(|sni| !sni.is_empty()).map(|sni| read_host("uri.sni", &sni)).transpose()?,
            insecure: is_insecure,
            unknown: Vec::new(),
            tag: name.filter(|name| !name.is_empty()),
        };
        Ok(uri.to_text())
    })
}

/// The pool's presets, the default one first.
#[uniffi::export]
pub fn presets() -> Vec<PoolPreset> {
    shielded_or(Vec::new(), || Preset::ALL.map(PoolPreset::from).into())
}

fn problem(path: &str, reason: &str) -> TunnelError {
    let (path, reason) = (path.to_owned(), reason.to_owned());
    TunnelError::Config { problems: vec![ConfigProblem { severity: Severity::Error, path, reason }] }
}

impl From<config::Problem> for ConfigProblem {
    fn from(problem: config::Problem) -> Self {
        let config::Problem { severity, path, message } = problem;
        let severity = match severity {
            config::Severity::Error => Severity::Error,
            config::Severity::Warning => Severity::Warning,
        };
        Self { severity, path, reason: message }
    }
}

impl From<config::InterfaceAddress> for InterfaceAddress {
    fn from(address: config::InterfaceAddress) -> Self {
        Self { address: address.address().to_string(), prefix_length: address.prefix_len() }
    }
}

impl std::fmt::Display for ServerUri {
    /// Everything but the password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { password: _, host, port, sni, is_insecure, name } = self;
        f.debug_struct("ServerUri")
            .field("password", &Secret::default())
            .field("host", host)
            .field("port", port)
            .field("sni", sni)
            .field("is_insecure", is_insecure)
            .field("name", name)
            .finish()
    }
}

impl std::fmt::Debug for ServerUri {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

impl From<(&'static str, Preset)> for PoolPreset {
    fn from((name, preset): (&'static str, Preset)) -> Self {
        let options = preset.options();
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        Self {
            name: name.to_owned(),
            ensure_idle_session: count(options.ensure_idle_session),
            min_idle_session: count(options.min_idle_session),
            idle_session_timeout: options.idle_session_timeout,
            idle_session_check_interval: options.idle_session_check_interval,
            heartbeat: match options.heartbeat {
                Heartbeat::Every(interval) => Some(interval),
                Heartbeat::Off | Heartbeat::Auto => None,
            },
            heartbeat_background: options.heartbeat_background,
        }
    }
}
