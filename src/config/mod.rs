//! Text to a [`Config`] that cannot be wrong.
//!
//! [`parse`] takes JSON in the words of sing-box (docs/config.md is the reference) or an `anytls://` URI,
//! and finds all problems at once. A reader goes through the JSON tree field by field, so that every
//! problem has its path, and what nobody asked for is known to be unknown.

mod dns;
mod duration;
mod host;
mod json;
mod log;
mod pool;
mod presets;
mod problem;
mod secret;
mod section;
mod server;
mod singbox;
mod tls;
mod tun;
mod uri;

#[cfg(test)]
mod tests;

pub use dns::{DnsMode, DnsOptions, DnsServer, DnsStrategy, DnsTransport};
pub use duration::{DurationError, GoDuration};
pub use host::{Host, InvalidHost};
pub use log::LogOptions;
pub use presets::Preset;
pub use problem::{ConfigError, Problem, Severity};
pub use secret::Secret;
pub use server::Server;
pub use tls::{ClientCertificate, Pem, TlsOptions, TlsVersion};
pub use tun::{InterfaceAddress, InvalidInterfaceAddress, Mtu, TunOptions};
pub use uri::Uri;

use serde_json::Value;

use crate::budget::{CONFIG_TEXT_BYTES, IOS_LIMIT_BYTES, IOS_MAX_SESSIONS};

use problem::Findings;
use section::Section;

/// The longest text that is read, in bytes.
pub const MAX_TEXT_BYTES: usize = CONFIG_TEXT_BYTES;

/// All that a tunnel needs to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// What is logged.
    pub log: LogOptions,
    /// The one server.
    pub server: Server,
    /// The interface and the network stack behind it.
    pub tun: TunOptions,
    /// How the apps' DNS queries are answered.
    pub dns: DnsOptions,
}

/// A config, and what in its text has no effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parsed {
    /// The config.
    pub config: Config,
    /// Problems of severity [`Severity::Warning`].
    pub warnings: Vec<Problem>,
}

/// What a field means when it is absent, where that depends on the platform.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Defaults {
    /// `tun.mtu`.
    pub mtu: Mtu,
    /// `tun.memory_limit`, in bytes.
    pub memory_limit: usize,
    /// `server.max_sessions`.
    pub max_sessions: usize,
}

impl Default for Defaults {
    /// For Android and, until measured better, everything else.
    fn default() -> Self {
        const MTU: Mtu = Mtu::new(9000).unwrap();
        Self { mtu: MTU, memory_limit: 24 << 20, max_sessions: 128 }
    }
}

impl Defaults {
    /// For iOS: utun slows down above one mbuf cluster, and an extension lives in 50 MiB.
    pub fn ios() -> Self {
        const MTU: Mtu = Mtu::new(4064).unwrap();
        Self { mtu: MTU, memory_limit: IOS_LIMIT_BYTES, max_sessions: IOS_MAX_SESSIONS }
    }
}

/// Reads a config: our own JSON, a bare AnyTLS outbound of sing-box, a whole sing-box config with one
/// such outbound, or an `anytls://` URI.
///
/// # Errors
/// Every problem of the text, warnings included, when one of them is an error.
pub fn parse(text: &str, defaults: &Defaults) -> Result<Parsed, ConfigError> {
    let findings = Findings::default();
    let config = read(text, defaults, &findings);
    findings.conclude(config).map(|(config, warnings)| Parsed { config, warnings })
}

/// `None` after an error without which there would be a config.
fn read(text: &str, defaults: &Defaults, findings: &Findings) -> Option<Config> {
    if text.len() > MAX_TEXT_BYTES {
        findings.error("", format!("expected at most {MAX_TEXT_BYTES} bytes"));
        return None;
    }
    // Editors of another world put a byte order mark in front; columns do not count it.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if Uri::is_uri(text.trim_start()) {
        let uri = Uri::read(text.trim(), findings)?;
        return Some(Config::new(uri.into_server(defaults, findings), defaults));
    }
    if !text.trim_start().starts_with(['{', '/', '#']) {
        findings.error("", "expected a JSON object or an anytls:// URI");
        return None;
    }
    let value = json::parse(text).map_err(|message| findings.error("", message)).ok()?;
    let Some(fields) = value.as_object() else {
        findings.error("", "expected a JSON object");
        return None;
    };
    let root = Section::new(String::new(), Some(fields), findings);
    let is_outbound = ["type", "server_port", "password"].iter().any(|name| fields.contains_key(*name));
    if fields.contains_key("outbounds") {
        singbox::read(root, defaults)
    } else if is_outbound && !fields.get("server").is_some_and(Value::is_object) {
        server::read(root, defaults).map(|server| Config::new(server, defaults))
    } else {
        read_own(root, defaults)
    }
}

fn read_own(mut root: Section<'_>, defaults: &Defaults) -> Option<Config> {
    let log = log::read(root.field("log").section());
    let outbound = root.field("server");
    if !outbound.is_given() {
        outbound.error("expected an AnyTLS outbound");
    }
    let server = server::read(outbound.section(), defaults);
    let mut section = root.field("tun").section();
    let tun = TunOptions::read(&mut section, defaults);
    section.finish();
    let dns = dns::read(root.field("dns").section());
    root.finish();
    Some(Config { log, server: server?, tun, dns })
}

impl Config {
    /// A config with everything but the server at its default.
    pub fn new(server: Server, defaults: &Defaults) -> Self {
        Self {
            log: LogOptions::default(),
            server,
            tun: TunOptions::new(defaults),
            dns: DnsOptions::default(),
        }
    }
}
