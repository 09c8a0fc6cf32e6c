//! `anytls://` URIs (protocol.md, "URI").

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, percent_encode};

use super::Defaults;
use super::host::Host;
use super::presets::Preset;
use super::problem::{ConfigError, Findings};
use super::secret::Secret;
use super::server::{CONNECT_TIMEOUT, DEFAULT_PORT, Server};
use super::tls::{TlsOptions, warn_insecure};
use crate::proto::pool::PoolOptions;

const SCHEME: &str = "anytls://";

/// What RFC 3986 lets stand for itself everywhere.
const RESERVED: AsciiSet = NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The parts of `anytls://password@host[:port]/?sni=…&insecure=0|1#tag`.
///
/// There is no `Display`, since the text holds the password: ask for [`Uri::to_text`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uri {
    /// The password, not empty.
    pub password: Secret,
    /// The server.
    pub host: Host,
    /// Its port, above zero.
    pub port: u16,
    /// Whom the certificate must be for, when not the host. An address means that no name is sent.
    pub sni: Option<Host>,
    /// Take any certificate.
    pub insecure: bool,
    /// Parameters that mean nothing here, in their order, decoded.
    pub unknown: Vec<(String, String)>,
    /// The user's name for the server.
    pub tag: Option<String>,
}

impl Uri {
    /// Whether a text is to be read as a URI.
    pub(super) fn is_uri(text: &str) -> bool {
        text.get(..SCHEME.len()).is_some_and(|scheme| scheme.eq_ignore_ascii_case(SCHEME))
    }

    /// Reads a URI.
    ///
    /// # Errors
    /// All that is wrong with it, under the paths `uri`, `uri.password`, `uri.host`, `uri.port`, `uri.sni`
    /// and `uri.insecure`; never a part of its text.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let findings = Findings::default();
        let uri = Self::read(text.trim(), &findings);
        findings.conclude(uri).map(|(uri, _)| uri)
    }

    pub(super) fn read(text: &str, findings: &Findings) -> Option<Self> {
        if !Self::is_uri(text) {
            findings.error("uri", "expected anytls://password@host:port/?sni=name#tag");
            return None;
        }
        let rest = &text[SCHEME.len()..];
        let (rest, tag) = rest.split_once('#').unwrap_or((rest, ""));
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (password, address) = authority.rsplit_once('@').unwrap_or(("", authority));
        if !path.is_empty() {
            findings.error("uri", "expected no path (a / in the password is written %2F)");
        }
        let mut uri = Self {
            password: read_password(password, findings),
            // A stand-in until the address is read: without one there is no Uri in the end.
            host: Host::Address(std::net::Ipv4Addr::UNSPECIFIED.into()),
            port: DEFAULT_PORT,
            sni: None,
            insecure: false,
            unknown: Vec::new(),
            tag: Some(decode(tag)).filter(|tag| !tag.is_empty()),
        };
        for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
            uri.read_parameter(parameter, findings);
        }
        (uri.host, uri.port) = read_address(address, findings)?;
        Some(uri)
    }

    fn read_parameter(&mut self, parameter: &str, findings: &Findings) {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        let (name, value) = (decode(name), decode(value));
        match (name.as_str(), value.as_str()) {
            ("sni", "") => self.sni = None,
            ("sni", value) => match value.parse() {
                Ok(sni) => self.sni = Some(sni),
                Err(_) => findings.error("uri.sni", "expected a DNS name (in ASCII) or an IP address"),
            },
            ("insecure", "1" | "true") => self.insecure = true,
            ("insecure", "0" | "false" | "") => self.insecure = false,
            ("insecure", _) => findings.error("uri.insecure", "expected 0, 1, true or false"),
            _ => self.unknown.push((name, value)),
        }
    }

    /// The URI as text, password included.
    pub fn to_text(&self) -> String {
        let mut text = SCHEME.to_owned();
        text += &encode(self.password.expose());
        text += "@";
        match self.host {
            Host::Address(std::net::IpAddr::V6(address)) => text += &format!("[{address}]"),
            Host::Name(_) | Host::Address(_) => text += &self.host.to_string(),
        }
        if self.port != DEFAULT_PORT {
            text += &format!(":{}", self.port);
        }
        text += "/";
        let mut parameters: Vec<(&str, String)> = Vec::new();
        parameters.extend(self.sni.iter().map(|sni| ("sni", sni.to_string())));
        parameters.extend(self.insecure.then(|| ("insecure", "1".to_owned())));
        parameters.extend(self.unknown.iter().map(|(name, value)| (name.as_str(), value.clone())));
        for (index, (name, value)) in parameters.iter().enumerate() {
            text += if index == 0 { "?" } else { "&" };
            text += &format!("{}={}", encode(name.as_bytes()), encode(value.as_bytes()));
        }
        if let Some(tag) = &self.tag {
            text += &format!("#{}", encode(tag.as_bytes()));
        }
        text
    }

    /// The server that the URI describes, with everything else at its default.
    pub(super) fn into_server(self, defaults: &Defaults, findings: &Findings) -> Server {
        for (name, _) in &self.unknown {
            // A name that is no word may be a piece of a password that was not encoded.
            let is_word =
                name.len() <= 32 && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b));
            let path = if is_word { format!("uri.{name}") } else { "uri".to_owned() };
            findings.warn(path, "unknown parameter, ignored");
        }
        if self.insecure {
            warn_insecure(findings, "uri.insecure");
        }
        Server {
            tag: self.tag,
            host: self.host,
            port: self.port,
            password: self.password,
            tls: TlsOptions { server_name: self.sni, insecure: self.insecure, ..TlsOptions::default() },
            pool: PoolOptions { max_sessions: defaults.max_sessions, ..Preset::Mobile.options() },
            connect_timeout: CONNECT_TIMEOUT,
        }
    }
}

impl From<&Server> for Uri {
    /// What of a server a URI has room for: not its pool options, nor what its TLS has beside the server
    /// name and `insecure`.
    fn from(server: &Server) -> Self {
        Self {
            password: server.password.clone(),
            host: server.host.clone(),
            port: server.port,
            sni: server.tls.server_name.clone(),
            insecure: server.tls.insecure,
            unknown: Vec::new(),
            tag: server.tag.clone(),
        }
    }
}

fn read_password(text: &str, findings: &Findings) -> Secret {
    if text.is_empty() {
        findings.error("uri.password", "expected the server's password before the @");
    }
    // Left alone by the decoder, a stray % would be a wrong password, which a server does not tell.
    let is_escape = |rest: &str| rest.len() >= 2 && rest.bytes().take(2).all(|byte| byte.is_ascii_hexdigit());
    if !text.split('%').skip(1).all(is_escape) {
        findings.error("uri.password", "expected two hexadecimal digits after each % (a % is written %25)");
    }
    Secret::new(percent_decode_str(text).collect::<Vec<u8>>())
}

fn read_address(text: &str, findings: &Findings) -> Option<(Host, u16)> {
    // A colon outside brackets begins the port.
    let port_at = text.rfind(':').filter(|at| !text[*at..].contains(']'));
    let (host, port) = port_at.map_or((text, ""), |at| (&text[..at], &text[at + 1..]));
    let host: Option<Host> = host.parse().ok().filter(|_| !host.contains(':') || host.starts_with('['));
    if host.is_none() {
        findings.error("uri.host", "expected a DNS name, an IPv4 address, or an IPv6 address in brackets");
    }
    let is_number = port.bytes().all(|byte| byte.is_ascii_digit());
    let port = match port {
        "" => Some(DEFAULT_PORT),
        port => port.parse().ok().filter(|port| is_number && *port != 0),
    };
    if port.is_none() {
        findings.error("uri.port", "expected a port from 1 to 65535");
    }
    Some((host?, port?))
}

fn decode(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

fn encode(bytes: &[u8]) -> String {
    percent_encode(bytes, &RESERVED).to_string()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn uri_parts_have_their_defaults_and_forms() {
        for (text, host, port, password, sni) in [
            ("anytls://p@example.com", "example.com", 443, "p", None),
            ("anytls://p@example.com/", "example.com", 443, "p", None),
            ("anytls://p@example.com:/?", "example.com", 443, "p", None),
            ("anytls://p@example.com?sni=", "example.com", 443, "p", None),
            ("anytls://user:pass@example.com:1", "example.com", 1, "user:pass", None),
            ("anytls://a@b@192.0.2.1", "192.0.2.1", 443, "a@b", None),
            ("anytls://p@[::1]/?sni=127.0.0.1", "::1", 443, "p", Some("127.0.0.1")),
            ("anytls://p@h/?insecure=true&insecure=false&&sni=a&sni=b", "h", 443, "p", Some("b")),
        ] {
            let uri = Uri::parse(text).expect(text);
            assert_eq!((uri.host.to_string().as_str(), uri.port), (host, port), "{text}");
            assert_eq!((uri.password.expose(), uri.insecure), (password.as_bytes(), false), "{text}");
            assert_eq!(uri.sni.map(|sni| sni.to_string()).as_deref(), sni, "{text}");
        }
    }

    #[test]
    fn a_uris_problems_come_at_once_and_quote_nothing() {
        #[rustfmt::skip] // a table
        let cases = [
            ("https://hunter2@example.com", "error: uri: expected anytls://password@host:port/?sni=name#tag"),
            ("anytls://example.com", "error: uri.password: expected the server's password before the @"),
            ("anytls://hunter%2@h", "error: uri.password: expected two hexadecimal digits after each % (a % is written %25)"),
            ("anytls://hunter%é@h", "error: uri.password: expected two hexadecimal digits after each % (a % is written %25)"),
            ("anytls://hunter2@", "error: uri.host: expected a DNS name, an IPv4 address, or an IPv6 address in brackets"),
            ("anytls://hunter2@2001:db8::1", "error: uri.host: expected a DNS name, an IPv4 address, or an IPv6 address in brackets"),
            ("anytls://hunter2@h:+1", "error: uri.port: expected a port from 1 to 65535"),
            ("anytls://hunter2@h:0", "error: uri.port: expected a port from 1 to 65535"),
            ("anytls://x/hunter2@h", "error: uri: expected no path (a / in the password is written %2F)\nerror: uri.password: expected the server's password before the @"),
            (
                "anytls://@hunter 2:x/?sni=h_2!&insecure=maybe",
                "error: uri.password: expected the server's password before the @\n\
                 error: uri.sni: expected a DNS name (in ASCII) or an IP address\n\
                 error: uri.insecure: expected 0, 1, true or false\n\
                 error: uri.host: expected a DNS name, an IPv4 address, or an IPv6 address in brackets\n\
                 error: uri.port: expected a port from 1 to 65535",
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(Uri::parse(text).unwrap_err().to_string(), expected, "{text}");
        }
    }

    #[test]
    fn a_server_is_shared_as_the_uri_it_came_from() {
        for text in [
            "anytls://p%40ss@example.com:8443/?sni=front.example&insecure=1#home%20server",
            "anytls://p@[2001:db8::1]/",
        ] {
            let server = crate::config::parse(text, &Defaults::default()).unwrap().config.server;
            assert_eq!(Uri::from(&server).to_text(), text);
        }
    }

    proptest! {
        #[test]
        fn a_uri_reads_back_from_its_text(
            password in prop::collection::vec(any::<u8>(), 1..40),
            host in prop::sample::select(vec!["example.com", "192.0.2.1", "2001:db8::1", "xn--c.example"]),
            port in 1_u16..,
            sni in prop::option::of(prop::sample::select(vec!["front.example", "127.0.0.1", "::1"])),
            insecure in any::<bool>(),
            unknown in prop::collection::vec(("[^is].{0,10}", ".{0,10}"), 0..4),
            tag in proptest::option::of(".{1,20}"),
        ) {
            let uri = Uri {
                password: Secret::new(password),
                host: host.parse().unwrap(),
                port,
                sni: sni.map(|sni| sni.parse().unwrap()),
                insecure,
                unknown,
                tag,
            };
            prop_assert_eq!(Uri::parse(&uri.to_text()), Ok(uri));
        }
    }
}
