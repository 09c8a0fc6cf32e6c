//! A server's address: a DNS name or an IP address.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use rustls::pki_types::DnsName;

use super::section::Field;

/// A DNS name or an IP address.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Host {
    /// A name that DNS and TLS take: ASCII, lower case, without a dot at its end.
    Name(DnsName<'static>),
    /// An address, without a zone.
    Address(IpAddr),
}

/// Neither a DNS name nor an IP address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected a DNS name (in ASCII) or an IP address")]
pub struct InvalidHost;

impl FromStr for Host {
    type Err = InvalidHost;

    /// An IPv6 address may stand in brackets.
    fn from_str(text: &str) -> Result<Self, InvalidHost> {
        if let Some(bracketed) = text.strip_prefix('[') {
            let address = bracketed.strip_suffix(']').ok_or(InvalidHost)?;
            return address.parse().map(|v6| Self::Address(IpAddr::V6(v6))).map_err(|_| InvalidHost);
        }
        if let Ok(address) = text.parse() {
            return Ok(Self::Address(address));
        }
        let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        DnsName::try_from(name).map(Self::Name).map_err(|_| InvalidHost)
    }
}

impl fmt::Display for Host {
    /// IPv6 addresses without brackets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name.as_ref()),
            Self::Address(address) => address.fmt(f),
        }
    }
}

impl Host {
    pub(super) fn read(field: &Field<'_>) -> Option<Self> {
        field.parsed("a DNS name (in ASCII) or an IP address", |text| text.parse().ok())
    }

    /// Parses `host` or `host:port`; an IPv6 address with a port needs its brackets.
    pub(super) fn parse_with_port(text: &str) -> Option<(Self, Option<u16>)> {
        if let Ok(host) = text.parse() {
            return Some((host, None));
        }
        let (host, port) = text.rsplit_once(':')?;
        // Port 0 cannot be dialled; digits only, since `u16` takes a sign.
        let port = Some(port).filter(|port| port.bytes().all(|byte| byte.is_ascii_digit()))?;
        let port = port.parse().ok().filter(|port| *port != 0)?;
        match host.parse().ok()? {
            Self::Address(IpAddr::V6(_)) if !host.starts_with('[') => None,
            host => Some((host, Some(port))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_names_or_addresses() {
        for (text, expected) in [
            ("example.com", Some("example.com")),
            ("Example.COM.", Some("example.com")),
            ("xn--bcher-kva.example", Some("xn--bcher-kva.example")),
            ("_srv.example", Some("_srv.example")),
            ("localhost", Some("localhost")),
            ("192.0.2.1", Some("192.0.2.1")),
            ("2001:DB8::1", Some("2001:db8::1")),
            ("[2001:db8::1]", Some("2001:db8::1")),
            ("", None),
            (".", None),
            ("example..com", None),
            ("bücher.example", None),
            ("exa mple.com", None),
            ("999.1.1.1", None),
            ("192.0.2", None),
            ("[192.0.2.1]", None),
            ("[2001:db8::1", None),
            ("2001:db8::1]", None),
            ("fe80::1%eth0", None),
            ("example.com:443", None),
            ("https://example.com", None),
            ("user:pass@example.com", None),
        ] {
            assert_eq!(text.parse::<Host>().ok().map(|host| host.to_string()).as_deref(), expected, "{text}");
        }
        assert_eq!("a.".repeat(127).parse::<Host>(), "a.".repeat(127).trim_end_matches('.').parse());
        assert!("a.".repeat(128).parse::<Host>().is_err());
    }

    #[test]
    fn a_port_may_follow_a_host() {
        for (text, expected) in [
            ("example.com", Some(("example.com", None))),
            ("example.com:53", Some(("example.com", Some(53)))),
            ("192.0.2.1:65535", Some(("192.0.2.1", Some(65535)))),
            ("[2001:db8::1]:853", Some(("2001:db8::1", Some(853)))),
            ("[2001:db8::1]", Some(("2001:db8::1", None))),
            ("2001:db8::1", Some(("2001:db8::1", None))),
            ("1:2:3:4:5:6:7:8:853", None),
            ("example.com:", None),
            ("example.com:0", None),
            ("example.com:+1", None),
            ("example.com:65536", None),
            (":53", None),
        ] {
            let parsed = Host::parse_with_port(text).map(|(host, port)| (host.to_string(), port));
            assert_eq!(parsed, expected.map(|(host, port)| (host.to_owned(), port)), "{text}");
        }
    }
}
