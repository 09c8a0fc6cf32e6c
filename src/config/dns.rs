//! How the apps' DNS queries are answered. Read and checked, not in effect yet.

use std::net::{IpAddr, Ipv4Addr};

use super::host::Host;
use super::section::Section;

/// How the apps' DNS queries are answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsOptions {
    /// Who answers.
    pub mode: DnsMode,
    /// Whom queries are sent to, through the tunnel.
    pub server: DnsServer,
    /// Which addresses are asked for; `None` is what the app asks for.
    pub strategy: Option<DnsStrategy>,
    /// Refuse the apps' DNS over TLS (TCP port 853), so that they fall back to DNS that is seen here.
    pub block_dot: bool,
}

/// Who answers a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DnsMode {
    /// The resolver, asked through the tunnel.
    Forward,
    /// We do, with an address of our own; the name itself goes to the server.
    FakeIp,
}

/// Which addresses are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DnsStrategy {
    /// Both, IPv4 first.
    PreferIpv4,
    /// Both, IPv6 first.
    PreferIpv6,
    /// No IPv6.
    Ipv4Only,
    /// No IPv4.
    Ipv6Only,
}

/// A resolver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsServer {
    /// How it is spoken to.
    pub transport: DnsTransport,
    /// Where it is; the AnyTLS server resolves a name.
    pub host: Host,
    /// Its port, above zero.
    pub port: u16,
}

/// How a resolver is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DnsTransport {
    /// DNS over TCP (RFC 7766), port 53.
    Tcp,
    /// DNS over TLS (RFC 7858), port 853.
    Tls,
}

impl Default for DnsOptions {
    fn default() -> Self {
        Self {
            mode: DnsMode::Forward,
            server: DnsServer {
                transport: DnsTransport::Tcp,
                host: Host::Address(IpAddr::V4(Ipv4Addr::new(1, 1, 1, 1))),
                port: 53,
            },
            strategy: None,
            block_dot: false,
        }
    }
}

const STRATEGIES: [(&str, DnsStrategy); 4] = [
    ("prefer_ipv4", DnsStrategy::PreferIpv4),
    ("prefer_ipv6", DnsStrategy::PreferIpv6),
    ("ipv4_only", DnsStrategy::Ipv4Only),
    ("ipv6_only", DnsStrategy::Ipv6Only),
];

pub(super) fn read(mut section: Section<'_>) -> DnsOptions {
    let absent = DnsOptions::default();
    let mode = section.field("mode").choice(&[("forward", DnsMode::Forward), ("fake_ip", DnsMode::FakeIp)]);
    let server = section.field("server").parsed("a resolver such as 1.1.1.1 or tls://1.1.1.1:853", server);
    let options = DnsOptions {
        mode: mode.unwrap_or(absent.mode),
        server: server.unwrap_or(absent.server),
        strategy: section.field("strategy").choice(&STRATEGIES),
        block_dot: section.field("block_dot").flag().unwrap_or(absent.block_dot),
    };
    section.finish();
    options
}

fn server(text: &str) -> Option<DnsServer> {
    let (transport, default_port, rest) = match text.split_once("://") {
        Some(("tcp", rest)) => (DnsTransport::Tcp, 53, rest),
        Some(("tls", rest)) => (DnsTransport::Tls, 853, rest),
        Some(_) => return None,
        None => (DnsTransport::Tcp, 53, text),
    };
    let (host, port) = Host::parse_with_port(rest)?;
    Some(DnsServer { transport, host, port: port.unwrap_or(default_port) })
}
