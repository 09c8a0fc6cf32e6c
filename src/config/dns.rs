//! How the apps' DNS queries are answered.

use std::net::{IpAddr, Ipv4Addr};

use rustls::pki_types::DnsName;

use super::host::Host;
use super::section::{Field, Section};
use super::tls::{self, TlsOptions};

/// How the apps' DNS queries are answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsOptions {
    /// Who answers.
    pub mode: DnsMode,
    /// Whom queries are sent to, through the tunnel.
    pub server: DnsServer,
    /// How it is encrypted and whom it must show, unless it is spoken to over bare TCP.
    pub tls: TlsOptions,
    /// Which addresses apps are told of; `None`: those that they ask for.
    pub strategy: Option<DnsStrategy>,
    /// Names, each with all below it, that get no fake address: what they mean, only a resolver knows.
    pub fake_ip_exclude: Vec<DnsName<'static>>,
    /// Refuse the apps' DNS over TLS (port 853), so that they fall back to DNS that is seen here.
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

/// Which addresses apps are told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DnsStrategy {
    /// IPv6 only of names without IPv4.
    PreferIpv4,
    /// IPv4 only of names without IPv6.
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DnsTransport {
    /// DNS over TCP (RFC 7766), port 53.
    Tcp,
    /// DNS over TLS (RFC 7858), port 853.
    Tls,
    /// DNS over HTTPS (RFC 8484), port 443.
    Https {
        /// What is asked for: visible ASCII that begins with a slash.
        path: String,
    },
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
            tls: TlsOptions::default(),
            strategy: None,
            fake_ip_exclude: LOCAL_NAMES.map(|name| DnsName::try_from(name).expect("a name")).to_vec(),
            block_dot: false,
        }
    }
}

/// Names that mean something else on each network: multicast DNS (RFC 6762), what home routers use, the home
/// network's own (RFC 8375), and this very machine (RFC 6761).
const LOCAL_NAMES: [&str; 4] = ["local", "lan", "home.arpa", "localhost"];

/// What most servers of DNS over HTTPS listen on, and RFC 8484 shows.
const DEFAULT_PATH: &str = "/dns-query";

const STRATEGIES: [(&str, DnsStrategy); 4] = [
    ("prefer_ipv4", DnsStrategy::PreferIpv4),
    ("prefer_ipv6", DnsStrategy::PreferIpv6),
    ("ipv4_only", DnsStrategy::Ipv4Only),
    ("ipv6_only", DnsStrategy::Ipv6Only),
];

pub(super) fn read(mut section: Section<'_>) -> DnsOptions {
    let absent = DnsOptions::default();
    let mode = section.field("mode").choice(&[("forward", DnsMode::Forward), ("fake_ip", DnsMode::FakeIp)]);
    let expected = "a resolver such as 1.1.1.1, tls://1.1.1.1:853 or https://1.1.1.1/dns-query";
    let server = section.field("server").parsed(expected, server).unwrap_or(absent.server);
    let options = DnsOptions {
        mode: mode.unwrap_or(absent.mode),
        tls: tls(&section.field("tls"), &server.transport),
        server,
        strategy: section.field("strategy").choice(&STRATEGIES),
        fake_ip_exclude: suffixes(&section.field("fake_ip_exclude")).unwrap_or(absent.fake_ip_exclude),
        block_dot: section.field("block_dot").flag().unwrap_or(absent.block_dot),
    };
    section.finish();
    options
}

fn server(text: &str) -> Option<DnsServer> {
    let (transport, default_port, rest) = match text.split_once("://") {
        Some(("tcp", rest)) => (DnsTransport::Tcp, 53, rest),
        Some(("tls", rest)) => (DnsTransport::Tls, 853, rest),
        Some(("https", rest)) => {
            let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            (DnsTransport::Https { path: path_of(path)? }, 443, authority)
        }
        Some(_) => return None,
        None => (DnsTransport::Tcp, 53, text),
    };
    let (host, port) = Host::parse_with_port(rest)?;
    Some(DnsServer { transport, host, port: port.unwrap_or(default_port) })
}

/// The path of a URL as it stands in a request: a fragment never does.
fn path_of(text: &str) -> Option<String> {
    let path = if text.is_empty() { DEFAULT_PATH } else { text };
    let is_valid = |byte: u8| byte.is_ascii_graphic() && !b"#\"<>\\^`{|}".contains(&byte);
    path.bytes().all(is_valid).then(|| path.to_owned())
}

fn tls(field: &Field<'_>, transport: &DnsTransport) -> TlsOptions {
    let is_encrypted = match transport {
        DnsTransport::Tcp => false,
        DnsTransport::Tls | DnsTransport::Https { .. } => true,
    };
    let options = tls::read(field.section());
    if field.is_given() && !is_encrypted {
        field.error("expected a server that begins with tls:// or https://: bare TCP has no encryption");
    } else if !options.alpn.is_empty() {
        field.section().warn("alpn", "has no effect: the server is offered what its transport needs");
    }
    options
}

/// `None` when none were given; an empty list excludes nothing.
fn suffixes(field: &Field<'_>) -> Option<Vec<DnsName<'static>>> {
    let suffix = |text: &str| match text.strip_prefix('.').unwrap_or(text).parse() {
        Ok(Host::Name(name)) => Some(name),
        Ok(Host::Address(_)) | Err(_) => None,
    };
    let list = field.list();
    let names = list.iter().filter_map(|field| field.parsed("a DNS name (in ASCII)", suffix)).collect();
    field.is_given().then_some(names)
}
