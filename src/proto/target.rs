//! Where a stream goes: an address as SOCKS5 writes it (RFC 1928, section 5).
//!
//! ```text
//! +----+------------------------------+---------------+
//! | 01 | 4 bytes                      | port u16 b.e. |  IPv4
//! | 03 | length u8, 1 ... 255 bytes   | port u16 b.e. |  name
//! | 04 | 16 bytes                     | port u16 b.e. |  IPv6
//! +----+------------------------------+---------------+
//! ```

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

/// The longest encoding of a target, in bytes: a name of 255.
pub const MAX_TARGET_BYTES: usize = 1 + 1 + 255 + 2;

/// A host and a port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    /// Where.
    pub host: Host,
    /// The TCP or UDP port.
    pub port: u16,
}

/// A host, by address or by name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Host {
    /// An address. Every conversion into a `Host` turns an IPv4-mapped IPv6 address (`::ffff:a.b.c.d`)
    /// into the IPv4 address that it stands for: such addresses come out of dual-stack sockets, mean
    /// nothing on a network, and would slip past whatever judges IPv4 addresses.
    Ip(IpAddr),
    /// A name, which the server resolves.
    Name(Name),
}

/// A host name that fits the encoding: 1 ... 255 visible ASCII characters other than `:`, `[` and `]`.
///
/// Wider than the DNS's own rule, since names with an underscore or worse are in use; narrow enough to
/// print, and to read `host:port` back. Names in other scripts travel in their ASCII form (`xn--…`),
/// as DNS queries carry them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Name(Box<str>);

/// The numbers that stand for the three kinds of address: SOCKS5's, or the other ones that UDP over
/// TCP puts before each datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Numbering {
    ipv4: u8,
    name: u8,
    ipv6: u8,
}

impl Numbering {
    /// `01` IPv4, `03` name, `04` IPv6.
    pub const SOCKS5: Self = Self { ipv4: 1, name: 3, ipv6: 4 };
    /// `00` IPv4, `02` name, `01` IPv6 (protocol.md, UDP over TCP).
    pub const DATAGRAM: Self = Self { ipv4: 0, name: 2, ipv6: 1 };
}

/// Why bytes or text are no target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// The first byte is no kind of address.
    #[error("unknown address type {0}")]
    UnknownType(u8),
    /// The name has no characters, or more than 255.
    #[error("a name of {0} bytes (1 to 255 are possible)")]
    NameLength(usize),
    /// The name has a character that names do not have.
    #[error("byte {0:#04x} in a name")]
    NameByte(u8),
    /// The text is not `host:port`.
    #[error("not of the form host:port or [v6]:port")]
    Form,
}

impl Target {
    /// Appends the SOCKS5 form to `out`: at most [`MAX_TARGET_BYTES`].
    pub fn put(&self, out: &mut Vec<u8>) {
        self.put_as(Numbering::SOCKS5, out);
    }

    /// Appends the target to `out` in another numbering.
    pub fn put_as(&self, numbering: Numbering, out: &mut Vec<u8>) {
        match &self.host {
            Host::Ip(IpAddr::V4(ip)) => {
                out.push(numbering.ipv4);
                out.extend_from_slice(&ip.octets());
            }
            Host::Ip(IpAddr::V6(ip)) => {
                out.push(numbering.ipv6);
                out.extend_from_slice(&ip.octets());
            }
            Host::Name(name) => {
                out.extend_from_slice(&[numbering.name, name.length()]);
                out.extend_from_slice(name.as_str().as_bytes());
            }
        }
        out.extend_from_slice(&self.port.to_be_bytes());
    }

    /// Reads the SOCKS5 form at the start of `input`, and tells how many bytes it took; `None` when
    /// more are needed.
    ///
    /// # Errors
    /// When no bytes that could follow would make it a target.
    pub fn parse(input: &[u8]) -> Result<Option<(Self, usize)>, TargetError> {
        Self::parse_as(Numbering::SOCKS5, input)
    }

    /// Reads a target in another numbering, as [`Target::parse`] does.
    ///
    /// # Errors
    /// When no bytes that could follow would make it a target.
    pub fn parse_as(numbering: Numbering, input: &[u8]) -> Result<Option<(Self, usize)>, TargetError> {
        let mut rest = input;
        let Some(&kind) = rest.split_off_first() else { return Ok(None) };
        let host = if kind == numbering.ipv4 {
            take_array(&mut rest).map(|octets: [u8; 4]| Host::from(IpAddr::from(octets)))
        } else if kind == numbering.ipv6 {
            take_array(&mut rest).map(|octets: [u8; 16]| Host::from(IpAddr::from(octets)))
        } else if kind == numbering.name {
            take_name(&mut rest)?.map(Host::Name)
        } else {
            return Err(TargetError::UnknownType(kind));
        };
        let (Some(host), Some(port)) = (host, take_array(&mut rest)) else { return Ok(None) };
        let target = Self { host, port: u16::from_be_bytes(port) };
        Ok(Some((target, input.len() - rest.len())))
    }
}

fn take_array<const N: usize>(input: &mut &[u8]) -> Option<[u8; N]> {
    let (array, rest) = input.split_first_chunk()?;
    *input = rest;
    Some(*array)
}

fn take_name(input: &mut &[u8]) -> Result<Option<Name>, TargetError> {
    let Some(&length) = input.split_off_first() else { return Ok(None) };
    if length == 0 {
        return Err(TargetError::NameLength(0));
    }
    input.split_off(..usize::from(length)).map(Name::try_from).transpose()
}

impl Name {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn length(&self) -> u8 {
        u8::try_from(self.0.len()).expect("a Name has at most 255 bytes")
    }
}

impl TryFrom<&[u8]> for Name {
    type Error = TargetError;

    fn try_from(bytes: &[u8]) -> Result<Self, TargetError> {
        if !(1..=255).contains(&bytes.len()) {
            return Err(TargetError::NameLength(bytes.len()));
        }
        let character = |&byte: &u8| match byte {
            b':' | b'[' | b']' => Err(TargetError::NameByte(byte)),
            _ if byte.is_ascii_graphic() => Ok(char::from(byte)),
            _ => Err(TargetError::NameByte(byte)),
        };
        let name: String = bytes.iter().map(character).collect::<Result<_, _>>()?;
        Ok(Self(name.into()))
    }
}

impl FromStr for Name {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, TargetError> {
        Self::try_from(text.as_bytes())
    }
}

impl From<IpAddr> for Host {
    fn from(ip: IpAddr) -> Self {
        Self::Ip(ip.to_canonical())
    }
}

impl From<SocketAddr> for Target {
    fn from(address: SocketAddr) -> Self {
        Self { host: address.ip().into(), port: address.port() }
    }
}

/// `1.2.3.4:53`, `[2001:db8::1]:53` or `name:53`.
impl FromStr for Target {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, TargetError> {
        let (host, port) = text.rsplit_once(':').ok_or(TargetError::Form)?;
        let port = port.parse().map_err(|_| TargetError::Form)?;
        let bracketed = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        let host = if let Some(ip) = bracketed {
            ip.parse::<Ipv6Addr>().map(IpAddr::from).map_err(|_| TargetError::Form)?.into()
        } else if let Ok(ip) = host.parse::<Ipv4Addr>() {
            IpAddr::from(ip).into()
        } else {
            Host::Name(host.parse()?)
        };
        Ok(Self { host, port })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Ip(ip) => SocketAddr::new(*ip, self.port).fmt(f),
            Host::Name(name) => write!(f, "{name}:{}", self.port),
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn target(text: &str) -> Target {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    /// Targets and their bytes, written out by hand.
    const FORMS: [(&str, &[u8]); 4] = [
        ("192.0.2.1:443", b"\x01\xC0\x00\x02\x01\x01\xBB"),
        ("example.com:80", b"\x03\x0Bexample.com\x00\x50"),
        ("[2001:db8::1]:53", b"\x04\x20\x01\x0D\xB8\0\0\0\0\0\0\0\0\0\0\0\x01\x00\x35"),
        ("sp.v2.udp-over-tcp.arpa:0", b"\x03\x17sp.v2.udp-over-tcp.arpa\0\0"),
    ];

    #[test]
    fn targets_are_written_as_socks5_does() {
        for (text, bytes) in FORMS {
            let mut out = vec![0xEE];
            target(text).put(&mut out);
            assert_eq!(out[1..], *bytes, "{text}");
        }
    }

    #[test]
    fn target_is_read_once_its_last_byte_is_there() {
        for (text, bytes) in FORMS {
            for end in 0..bytes.len() {
                assert_eq!(Target::parse(&bytes[..end]), Ok(None), "{text} cut to {end}");
            }
            let with_more = [bytes, b"GET /"].concat();
            assert_eq!(Target::parse(&with_more), Ok(Some((target(text), bytes.len()))), "{text}");
        }
    }

    #[test]
    fn datagram_addresses_use_the_other_numbers() {
        let forms: [(&str, &[u8]); 3] = [
            ("192.0.2.1:443", b"\x00\xC0\x00\x02\x01\x01\xBB"),
            ("a.b:80", b"\x02\x03a.b\x00\x50"),
            ("[::1]:53", b"\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\x00\x35"),
        ];
        for (text, bytes) in forms {
            let mut out = Vec::new();
            target(text).put_as(Numbering::DATAGRAM, &mut out);
            assert_eq!(out, bytes, "{text}");
            assert_eq!(
                Target::parse_as(Numbering::DATAGRAM, bytes),
                Ok(Some((target(text), bytes.len()))),
                "{text}"
            );
        }
    }

    #[test]
    fn unknown_address_types_are_refused_at_the_first_byte() {
        for kind in [0, 2, 5, 255] {
            assert_eq!(Target::parse(&[kind]), Err(TargetError::UnknownType(kind)));
        }
        assert_eq!(Target::parse_as(Numbering::DATAGRAM, &[3]), Err(TargetError::UnknownType(3)));
    }

    #[test]
    fn names_have_1_to_255_visible_ascii_characters() {
        assert_eq!("".parse::<Name>(), Err(TargetError::NameLength(0)));
        assert_eq!("a".repeat(256).parse::<Name>(), Err(TargetError::NameLength(256)));
        for (name, byte) in [
            ("a b", b' '),
            ("a\0", 0),
            ("a\n", b'\n'),
            ("::1", b':'),
            ("[a", b'['),
            ("a]", b']'),
            ("é", 0xC3),
        ] {
            assert_eq!(name.parse::<Name>(), Err(TargetError::NameByte(byte)), "{name:?}");
        }
        for name in ["a", "_dmarc.example.com", "xn--nxasmq6b.example", "A-1.", &"a".repeat(255)] {
            assert_eq!(name.parse::<Name>().as_ref().map(Name::as_str), Ok(name));
        }
    }

    #[test]
    fn bad_names_from_the_wire_are_refused() {
        assert_eq!(Target::parse(b"\x03\0"), Err(TargetError::NameLength(0)));
        assert_eq!(Target::parse(b"\x03\x02a\x7F"), Err(TargetError::NameByte(0x7F)));
    }

    #[test]
    fn longest_name_has_the_longest_encoding() {
        let mut out = Vec::new();
        target(&format!("{}:65535", "a".repeat(255))).put(&mut out);
        assert_eq!(out.len(), MAX_TARGET_BYTES);
        assert_eq!(out[..3], [3, 255, b'a']);
    }

    #[test]
    fn mapped_addresses_become_the_ipv4_address_they_stand_for() {
        let expected = target("192.0.2.1:443");
        assert_eq!(target("[::ffff:192.0.2.1]:443"), expected);
        let address: SocketAddr = "[::ffff:192.0.2.1]:443".parse().expect("an address");
        assert_eq!(Target::from(address), expected);
        let bytes = b"\x04\0\0\0\0\0\0\0\0\0\0\xFF\xFF\xC0\x00\x02\x01\x01\xBB";
        assert_eq!(Target::parse(bytes), Ok(Some((expected, bytes.len()))));
    }

    #[test]
    fn targets_print_as_they_are_read() {
        for (text, _) in FORMS {
            assert_eq!(target(text).to_string(), text);
        }
    }

    #[test]
    fn text_that_is_no_target_is_refused() {
        for text in ["", "example.com", "example.com:", "a:65536", "[1.2.3.4]:1", "[::1%eth0]:1"] {
            assert_eq!(text.parse::<Target>(), Err(TargetError::Form), "{text:?}");
        }
        for text in ["::1:53", "2001:db8::1", ":80", "[::1:53"] {
            assert!(text.parse::<Target>().is_err(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_read_is_written_the_same(kind in 0_u8..6, rest in prop::collection::vec(any::<u8>(), 0..40)) {
            let bytes = [vec![kind], rest].concat();
            if let Ok(Some((target, length))) = Target::parse(&bytes) {
                let mut out = Vec::new();
                target.put(&mut out);
                prop_assert!(out == bytes[..length] || bytes[..length].starts_with(MAPPED));
            }
        }

        #[test]
        fn names_are_read_back(name in "[!-9;-Z^-~]{1,255}", port: u16) {
            let written = Target { host: Host::Name(name.parse().unwrap()), port };
            let mut out = Vec::new();
            written.put(&mut out);
            prop_assert_eq!(Target::parse(&out), Ok(Some((written, out.len()))));
        }
    }

    /// How an IPv4-mapped address starts, the one form that is not written as it was read.
    const MAPPED: &[u8] = b"\x04\0\0\0\0\0\0\0\0\0\0\xFF\xFF";
}
