//! UDP over TCP, version 2: datagrams in a stream to a [name](MAGIC_NAME) that no host has.
//!
//! ```text
//! first  | is_connect u8 | destination, in SOCKS5 numbering |
//! then   | address, in datagram numbering | length u16 b.e. | 0 ... 65 535 bytes |   is_connect = 0
//!        |                                  length u16 b.e. | 0 ... 65 535 bytes |   is_connect = 1
//! ```
//! Datagrams look the same both ways. With `is_connect = 0` the address is where one goes to, or comes from;
//! with `is_connect = 1` that is always the request's destination. protocol.md#udp-over-tcp-version-2

use std::net::IpAddr;

use super::target::{Host, MAX_TARGET_BYTES, Name, Numbering, Target, TargetError};

/// The name that streams of datagrams are opened to, with port 0.
pub const MAGIC_NAME: &str = "sp.v2.udp-over-tcp.arpa";

/// The longest request.
pub const MAX_REQUEST_BYTES: usize = 1 + MAX_TARGET_BYTES;
/// The most that stands before the bytes of a datagram.
pub const MAX_HEADER_BYTES: usize = MAX_TARGET_BYTES + LENGTH_BYTES;

const LENGTH_BYTES: usize = 2;

/// The number of a name in [`Numbering::DATAGRAM`].
const NAME: u8 = 2;

/// What stands before each datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Its address: the stream carries datagrams to anywhere, and from anywhere.
    Packet,
    /// Nothing: all datagrams go to one destination.
    Connect,
}

/// A datagram that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Datagram<'a> {
    /// Where it comes from; `None` in [`Mode::Connect`].
    pub source: Option<Target>,
    /// Its bytes, none being possible.
    pub payload: &'a [u8],
}

/// The target that streams of datagrams are opened to.
pub fn magic_target() -> Target {
    let name = Name::try_from(MAGIC_NAME.as_bytes()).expect("visible ASCII, fewer than 256");
    Target { host: Host::Name(name), port: 0 }
}

/// Appends what a stream begins with: at most [`MAX_REQUEST_BYTES`].
pub fn put_request(mode: Mode, destination: &Target, out: &mut Vec<u8>) {
    out.push(match mode {
        Mode::Packet => 0,
        Mode::Connect => 1,
    });
    destination.put(out);
}

/// Appends what stands before a datagram of `length` bytes to `destination`: at most [`MAX_HEADER_BYTES`].
pub fn put_header(mode: Mode, destination: &Target, length: u16, out: &mut Vec<u8>) {
    match mode {
        Mode::Packet => destination.put_as(Numbering::DATAGRAM, out),
        Mode::Connect => {}
    }
    out.extend_from_slice(&length.to_be_bytes());
}

/// The same in [`Mode::Packet`], for a server that may read addresses in SOCKS5 numbering: nothing that stands
/// here is another address there, so that it closes the stream and sends nothing to a stranger. IPv6 is `01`,
/// which is IPv4 there, and so an IPv6 address stands as a name, in text. Servers that know packet mode read it
/// back into the address. protocol.md#udp-over-tcp-version-2
pub fn put_unmistakable_header(destination: &Target, length: u16, out: &mut Vec<u8>) {
    let Host::Ip(IpAddr::V6(address)) = destination.host else {
        return put_header(Mode::Packet, destination, length, out);
    };
    out.extend_from_slice(&[NAME, 0]);
    let text_at = out.len();
    out.extend_from_slice(address.to_string().as_bytes());
    out[text_at - 1] = u8::try_from(out.len() - text_at).expect("an address has at most 45 characters");
    out.extend_from_slice(&destination.port.to_be_bytes());
    out.extend_from_slice(&length.to_be_bytes());
}

/// Finds the datagrams in bytes that arrive in any pieces.
#[derive(Debug)]
pub struct Decoder {
    mode: Mode,
    /// The beginning of a datagram, or a whole one that was not taken yet. No memory is held in between.
    // INVARIANT: no more than one datagram with its header.
    partial: Vec<u8>,
}

/// What stands before a datagram, and where that lies.
struct Head {
    source: Option<Target>,
    payload_at: usize,
    end: usize,
}

impl Decoder {
    /// A decoder at the beginning of a stream.
    pub fn new(mode: Mode) -> Self {
        Self { mode, partial: Vec::new() }
    }

    /// Bytes held of a datagram of which more is to come, or that was not taken.
    pub fn buffered(&self) -> usize {
        self.partial.capacity()
    }

    /// Lends each datagram that ends in `input` to `deliver`, which says whether it takes it, and tells how
    /// many bytes were used. Those of a datagram cut by the end of `input` are kept, and used.
    ///
    /// A datagram that was not taken ends the call, and is lent again by the next, which is to have the unused
    /// bytes first. An `input` without any bytes does for one that is kept here.
    ///
    /// # Errors
    /// When the bytes are no datagrams; what follows cannot be read then.
    pub fn decode(
        &mut self,
        input: &[u8],
        mut deliver: impl FnMut(Datagram<'_>) -> bool,
    ) -> Result<usize, TargetError> {
        let mut rest = input;
        if !self.partial.is_empty() && !self.complete(&mut rest, &mut deliver)? {
            return Ok(input.len() - rest.len());
        }
        while !rest.is_empty() {
            let head = Head::read(self.mode, rest)?;
            match head {
                Some(Head { source, payload_at, end }) if end <= rest.len() => {
                    if !deliver(Datagram { source, payload: &rest[payload_at..end] }) {
                        break;
                    }
                    rest = &rest[end..];
                }
                Some(Head { end, .. }) => {
                    self.partial.reserve_exact(end);
                    self.partial.extend_from_slice(rest);
                    rest = &[];
                }
                None => {
                    self.partial.extend_from_slice(rest);
                    rest = &[];
                }
            }
        }
        Ok(input.len() - rest.len())
    }

    /// Goes on with the datagram that is kept; false when it is not complete, or not taken.
    fn complete(
        &mut self,
        rest: &mut &[u8],
        deliver: &mut impl FnMut(Datagram<'_>) -> bool,
    ) -> Result<bool, TargetError> {
        loop {
            let head = Head::read(self.mode, &self.partial)?;
            // Byte by byte until the length is known, so that not one too many is taken.
            let end = head.as_ref().map_or(self.partial.len() + 1, |head| head.end);
            if let Some(Head { source, payload_at, end }) = head
                && end == self.partial.len()
            {
                let is_taken = deliver(Datagram { source, payload: &self.partial[payload_at..] });
                if is_taken {
                    self.partial = Vec::new();
                }
                return Ok(is_taken);
            }
            if rest.is_empty() {
                return Ok(false);
            }
            let missing = end - self.partial.len();
            let (next, after) = rest.split_at(missing.min(rest.len()));
            self.partial.reserve_exact(missing);
            self.partial.extend_from_slice(next);
            *rest = after;
        }
    }
}

impl Head {
    /// `None` when more bytes are needed.
    fn read(mode: Mode, input: &[u8]) -> Result<Option<Self>, TargetError> {
        let (source, length_at) = match mode {
            Mode::Packet => match Target::parse_as(Numbering::DATAGRAM, input)? {
                Some((source, length)) => (Some(source), length),
                None => return Ok(None),
            },
            Mode::Connect => (None, 0),
        };
        let Some(&length) = input[length_at..].first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
        let payload_at = length_at + LENGTH_BYTES;
        let end = payload_at + usize::from(u16::from_be_bytes(length));
        Ok(Some(Self { source, payload_at, end }))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn target(text: &str) -> Target {
        text.parse().expect("a target")
    }

    /// Everything that is lent, with each piece given whole.
    fn decoded(mode: Mode, pieces: &[&[u8]]) -> Vec<(Option<Target>, Vec<u8>)> {
        let (mut decoder, mut all) = (Decoder::new(mode), Vec::new());
        for piece in pieces {
            let used = decoder.decode(piece, |datagram| {
                all.push((datagram.source, datagram.payload.to_vec()));
                true
            });
            assert_eq!(used, Ok(piece.len()));
            assert!(!decoder.partial.is_empty() || decoder.partial.capacity() == 0);
        }
        all
    }

    #[test]
    fn requests_and_headers_are_written_as_the_protocol_says() {
        let mut out = Vec::new();
        put_request(Mode::Packet, &target("192.0.2.1:53"), &mut out);
        put_header(Mode::Packet, &target("192.0.2.1:53"), 258, &mut out);
        assert_eq!(out, b"\x00\x01\xC0\x00\x02\x01\x00\x35\x00\xC0\x00\x02\x01\x00\x35\x01\x02");
        out.clear();
        put_request(Mode::Connect, &target("a.b:80"), &mut out);
        put_header(Mode::Connect, &target("a.b:80"), 0, &mut out);
        assert_eq!(out, b"\x01\x03\x03a.b\x00\x50\x00\x00");
        out.clear();
        put_header(Mode::Packet, &target("a.b:80"), 1, &mut out);
        put_header(Mode::Packet, &target("[::1]:80"), 1, &mut out);
        assert_eq!(out, b"\x02\x03a.b\x00\x50\x00\x01\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\x00\x50\x00\x01");
    }

    #[test]
    fn an_unmistakable_header_has_nothing_that_is_an_address_in_socks5_numbering() {
        let mut out = Vec::new();
        put_unmistakable_header(&target("[2001:db8::1]:443"), 258, &mut out);
        assert_eq!(out, b"\x02\x0B2001:db8::1\x01\xBB\x01\x02");
        for (text, kind) in [("192.0.2.1:443", 0), ("[::1]:443", NAME), ("a.b:443", NAME)] {
            let (mut unmistakable, mut header) = (Vec::new(), Vec::new());
            put_unmistakable_header(&target(text), 1, &mut unmistakable);
            put_header(Mode::Packet, &target(text), 1, &mut header);
            assert_eq!(unmistakable[0], kind, "{text}");
            assert!(Target::parse(&unmistakable).is_err(), "{text}");
            assert_eq!(unmistakable == header, text != "[::1]:443");
        }
        let longest: std::net::Ipv6Addr =
            "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff".parse().expect("an address");
        out.clear();
        put_unmistakable_header(&Target { host: Host::Ip(longest.into()), port: 1 }, 1, &mut out);
        assert!(out.len() <= MAX_HEADER_BYTES);
    }

    #[test]
    fn the_longest_name_has_the_longest_request_and_header() {
        let longest = target(&format!("{}:1", "a".repeat(255)));
        let (mut request, mut header) = (Vec::new(), Vec::new());
        put_request(Mode::Packet, &longest, &mut request);
        put_header(Mode::Packet, &longest, 1, &mut header);
        assert_eq!((request.len(), header.len()), (MAX_REQUEST_BYTES, MAX_HEADER_BYTES));
    }

    #[test]
    fn datagrams_are_read_whatever_their_size_none_included() {
        let bytes = b"\x00\xC0\x00\x02\x01\x00\x35\x00\x00\x02\x03a.b\x00\x50\x00\x03abc";
        let expected = vec![
            (Some(target("192.0.2.1:53")), vec![]),
            (Some(target("a.b:80")), b"abc".to_vec()), //
        ];
        assert_eq!(decoded(Mode::Packet, &[bytes]), expected);
        assert_eq!(decoded(Mode::Connect, &[b"\0\0\0\x01x"]), [(None, vec![]), (None, b"x".to_vec())]);
        let full = [&b"\xFF\xFF"[..], &[7; 65_535]].concat();
        assert_eq!(decoded(Mode::Connect, &[&full[..9], &full[9..]]), [(None, vec![7; 65_535])]);
    }

    #[test]
    fn a_datagram_that_lies_whole_in_the_input_is_not_copied() {
        let input = b"\x00\x02ab\x00\x01c\x00\x05d".as_slice();
        let (mut decoder, mut count) = (Decoder::new(Mode::Connect), 0);
        let used = decoder.decode(input, |datagram| {
            assert!(input.as_ptr_range().contains(&datagram.payload.as_ptr()));
            count += 1;
            true
        });
        assert_eq!((used, count, decoder.partial.len()), (Ok(input.len()), 2, 3));
    }

    #[test]
    fn a_datagram_that_is_not_taken_is_lent_again() {
        for cut in 0..=4 {
            let input = b"\0\x02ab\0\x01c";
            let mut decoder = Decoder::new(Mode::Connect);
            let mut used = decoder.decode(&input[..cut], |_| false).expect("well formed");
            for _ in 0..3 {
                used += decoder.decode(&input[used..], |_| false).expect("well formed");
            }
            assert!(used <= 4, "the next one is not touched");
            let mut all = Vec::new();
            let mut take = |datagram: Datagram<'_>| {
                all.push(datagram.payload.to_vec());
                true
            };
            if cut > 0 && cut < 4 {
                assert_eq!(decoder.decode(&[], &mut take), Ok(0), "it is kept whole");
            }
            decoder.decode(&input[used..], &mut take).expect("well formed");
            assert_eq!(all, [&b"ab"[..], b"c"], "cut at {cut}");
        }
    }

    #[test]
    fn bytes_that_are_no_address_are_an_error_as_soon_as_they_come() {
        for wrong in [&b"\x03"[..], b"\x02\x00", b"\x02\x01\x7F"] {
            assert!(Decoder::new(Mode::Packet).decode(wrong, |_| true).is_err(), "{wrong:?}");
            let mut decoder = Decoder::new(Mode::Packet);
            let fed: Result<Vec<_>, _> = wrong.chunks(1).map(|byte| decoder.decode(byte, |_| true)).collect();
            assert!(fed.is_err(), "{wrong:?}");
        }
    }

    fn any_target() -> impl Strategy<Value = Target> {
        prop_oneof![
            any::<([u8; 4], u16)>().prop_map(|(ip, port)| std::net::SocketAddr::from((ip, port)).into()),
            any::<([u8; 16], u16)>().prop_map(|(ip, port)| std::net::SocketAddr::from((ip, port)).into()),
            ("[a-z]{1,255}", any::<u16>())
                .prop_map(|(name, port)| Target { host: Host::Name(name.parse().unwrap()), port }),
        ]
    }

    proptest! {
        #[test]
        fn datagrams_are_read_the_same_however_they_are_cut_and_refused(
            datagrams in prop::collection::vec((any_target(), prop::collection::vec(any::<u8>(), 0..600)), 0..8),
            is_connect: bool,
            cuts in prop::collection::vec(1_usize..700, 1..20),
            taken in prop::collection::vec(any::<bool>(), 1..20),
        ) {
            let mode = if is_connect { Mode::Connect } else { Mode::Packet };
            let mut bytes = Vec::new();
            for (source, payload) in &datagrams {
                put_header(mode, source, u16::try_from(payload.len()).unwrap(), &mut bytes);
                bytes.extend_from_slice(payload);
            }
            let (mut decoder, mut all) = (Decoder::new(mode), Vec::new());
            let mut is_taken = taken.iter().copied().chain(std::iter::once(true)).cycle();
            let (mut at, mut cuts) = (0, cuts.iter().cycle());
            let mut idle = 0;
            while at < bytes.len() || idle < 50 {
                let end = bytes.len().min(at + cuts.next().unwrap());
                let used = decoder.decode(&bytes[at..end], |Datagram { source, payload }| {
                    let takes = is_taken.next().unwrap();
                    if takes {
                        all.push((source, payload.to_vec()));
                    }
                    takes
                }).unwrap();
                at += used;
                idle += usize::from(at == bytes.len());
            }
            let expected: Vec<_> = datagrams
                .into_iter()
                .map(|(source, payload)| ((mode == Mode::Packet).then_some(source), payload))
                .collect();
            prop_assert_eq!(all, expected);
            prop_assert_eq!(decoder.partial.capacity(), 0);
        }

        #[test]
        fn no_bytes_make_the_decoder_panic_or_hold_more_than_a_datagram(
            pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..400), 0..20),
        ) {
            for mode in [Mode::Packet, Mode::Connect] {
                let mut decoder = Decoder::new(mode);
                for piece in &pieces {
                    if decoder.decode(piece, |_| true).is_err() {
                        break;
                    }
                    prop_assert!(decoder.partial.len() <= MAX_HEADER_BYTES + 65_535);
                }
            }
        }
    }
}
