//! The outbound object: the one server, as sing-box and its fork write it.

use std::time::Duration;

use super::Defaults;
use super::host::Host;
use super::problem::Severity;
use super::secret::Secret;
use super::section::{Field, Section};
use super::tls::TlsOptions;
use super::{pool, tls};
use crate::proto::pool::PoolOptions;

/// The port when none is given (protocol.md, "URI").
pub(super) const DEFAULT_PORT: u16 = 443;

/// How long a TCP connect may take when nothing is given: a SYN is repeated after 1, 3 and 7 seconds, so
/// that three losses in a row are survived.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The one server, and how it is talked to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// The user's name for it.
    pub tag: Option<String>,
    /// Where it is.
    pub host: Host,
    /// Its port, above zero.
    pub port: u16,
    /// The AnyTLS password, not empty.
    pub password: Secret,
    /// How the connection is encrypted.
    pub tls: TlsOptions,
    /// How sessions are kept.
    pub pool: PoolOptions,
    /// How long the TCP connects may take, to all addresses together; above zero.
    pub connect_timeout: Duration,
}

impl Server {
    /// Whom the certificate must be for, and (unless an address) what the ClientHello names.
    pub fn server_name(&self) -> &Host {
        self.tls.server_name.as_ref().unwrap_or(&self.host)
    }
}

/// sing-box's dial fields, and what its fork adds. An error where going on would send traffic another
/// way than asked for.
#[rustfmt::skip] // a table
const UNSUPPORTED: &[(&str, Severity, &str)] = &[
    ("detour", Severity::Error, "the server would be reached directly"),
    ("bind_interface", Severity::Error, "connections follow the system's choice of a network"),
    ("inet4_bind_address", Severity::Error, "connections follow the system's choice of a network"),
    ("inet6_bind_address", Severity::Error, "connections follow the system's choice of a network"),
    ("routing_mark", Severity::Error, "connections are kept out of the tunnel by the app, not by a mark"),
    ("netns", Severity::Error, "connections leave from this process' namespace"),
    ("network_type", Severity::Error, "connections follow the system's choice of a network"),
    ("transport", Severity::Error, "AnyTLS runs directly over TLS"),
    ("network_strategy", Severity::Warning, "connections follow the system's choice of a network"),
    ("fallback_network_type", Severity::Warning, "connections follow the system's choice of a network"),
    ("fallback_delay", Severity::Warning, "addresses of both families are tried"),
    ("domain_resolver", Severity::Warning, "the server's name is resolved by the app, outside the tunnel"),
    ("domain_strategy", Severity::Warning, "addresses of both families are tried"),
    ("bind_address_no_port", Severity::Warning, "no source address is bound"),
    ("reuse_addr", Severity::Warning, "nothing listens"),
    ("protect_path", Severity::Warning, "the app protects sockets"),
    ("tcp_fast_open", Severity::Warning, "sessions are reused, so that a handshake is rare"),
    ("tcp_multi_path", Severity::Warning, "connections use plain TCP"),
    ("disable_tcp_keep_alive", Severity::Warning, "heartbeat is what keeps sessions alive"),
    ("tcp_keep_alive", Severity::Warning, "heartbeat is what keeps sessions alive"),
    ("tcp_keep_alive_interval", Severity::Warning, "heartbeat is what keeps sessions alive"),
    ("tcp_keep_alive_count", Severity::Warning, "heartbeat is what keeps sessions alive"),
    ("udp_fragment", Severity::Warning, "UDP travels inside the TLS connection"),
    ("client_metadata", Severity::Warning, "the client's name and version are sent as they are"),
];

/// Reads the outbound; `None` after an error about a field that has no default.
pub(super) fn read(mut outbound: Section<'_>, defaults: &Defaults) -> Option<Server> {
    outbound.field("type").choice(&[("anytls", ())]);
    let tag = outbound.field("tag").text().map(str::to_owned);
    let host = required(&mut outbound, "server", "the server's name or address", Host::read);
    let password = required(&mut outbound, "password", "the server's password", Field::text);
    let port = outbound.field("server_port").integer(1..=65_535).and_then(|port| u16::try_from(port).ok());
    let tls = tls::read(outbound.field("tls").section());
    let pool = pool::read(&mut outbound, defaults);
    let connect_timeout = outbound.field("connect_timeout").duration().filter(|timeout| !timeout.is_zero());
    outbound.unsupported(UNSUPPORTED);
    outbound.finish();
    Some(Server {
        tag,
        host: host?,
        port: port.unwrap_or(DEFAULT_PORT),
        password: Secret::new(password?),
        tls,
        pool,
        connect_timeout: connect_timeout.unwrap_or(CONNECT_TIMEOUT),
    })
}

/// Reads a field that has no default. Without the outbound itself, which is reported elsewhere, it is not
/// missed.
fn required<'a, T>(
    outbound: &mut Section<'a>,
    name: &'static str,
    expected: &str,
    read: impl FnOnce(&Field<'a>) -> Option<T>,
) -> Option<T> {
    let field = outbound.field(name);
    if outbound.is_there() && !field.is_given() {
        field.error(format!("expected {expected}"));
    }
    read(&field)
}
