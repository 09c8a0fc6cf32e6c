//! The kernel's side of the network, asked over rtnetlink: requests, answers, and how both are written.

use std::io::{self, Read, Write};
use std::net::IpAddr;

use socket2::{Domain, Protocol, Socket, Type};

// The interface numbers flags as int; on the wire they are these 16 bits.
const REQUEST: u16 = libc::NLM_F_REQUEST as u16;
const ACK: u16 = libc::NLM_F_ACK as u16;
const CREATE: u16 = (libc::NLM_F_CREATE | libc::NLM_F_EXCL) as u16;
const ERROR: u16 = libc::NLMSG_ERROR as u16;
/// The upper two bits of an attribute's kind say how its value is written.
const ATTRIBUTE_KIND: u16 = libc::NLA_TYPE_MASK as u16;

const HEADER_BYTES: usize = 16;
/// Room for a whole description of an interface, the largest answer: 1 to 2 KiB, and names may be added to
/// it. Cut off are the attributes at its end.
const ANSWER_BYTES: usize = 16 * 1024;

/// The numbers of `address`: its family and its bytes.
pub(super) fn parts(address: IpAddr) -> (u8, Vec<u8>) {
    match address {
        // Both numbers are far below 256.
        IpAddr::V4(address) => (libc::AF_INET as u8, address.octets().to_vec()),
        IpAddr::V6(address) => (libc::AF_INET6 as u8, address.octets().to_vec()),
    }
}

/// One request to the kernel, in native byte order:
///
/// ```text
/// length u32 | kind u16 | flags u16 | sequence u32 | sender u32 | fixed part | attributes
/// an attribute: length u16 | kind u16 | value, padded to 4 bytes
/// ```
pub(super) struct Request(Vec<u8>);

impl Request {
    /// For something that is there already.
    pub(super) fn set(kind: u16, fixed: &[u8]) -> Self {
        Self::new(kind, ACK, fixed)
    }

    /// For something that must not be there yet.
    pub(super) fn create(kind: u16, fixed: &[u8]) -> Self {
        Self::new(kind, ACK | CREATE, fixed)
    }

    /// A question.
    pub(super) fn get(kind: u16, fixed: &[u8]) -> Self {
        Self::new(kind, 0, fixed)
    }

    fn new(kind: u16, flags: u16, fixed: &[u8]) -> Self {
        let mut message = vec![0; HEADER_BYTES];
        message[4..6].copy_from_slice(&kind.to_ne_bytes());
        message[6..8].copy_from_slice(&(REQUEST | flags).to_ne_bytes());
        message.extend_from_slice(fixed);
        Self(message)
    }

    pub(super) fn attribute(mut self, kind: u16, value: &[u8]) -> Self {
        let length = u16::try_from(4 + value.len()).expect("values here are addresses, numbers and names");
        self.0.extend_from_slice(&length.to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.0.extend_from_slice(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    /// Has it done.
    pub(super) fn send(self) -> io::Result<()> {
        match Kernel::connect()?.ask(self)? {
            Answer::Status(status) => status,
            Answer::Message(_) => Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

/// A socket to ask the kernel by; it stays in the network of the thread that made it.
#[derive(Debug)]
pub(super) struct Kernel {
    socket: Socket,
    sequence: u32,
}

/// What the kernel says to a request.
#[derive(Debug)]
pub(super) enum Answer {
    /// That it was done, or why not.
    Status(io::Result<()>),
    /// What was asked for.
    Message(Message),
}

impl Kernel {
    pub(super) fn connect() -> io::Result<Self> {
        let route = Some(Protocol::from(libc::NETLINK_ROUTE));
        let socket = Socket::new(Domain::from(libc::AF_NETLINK), Type::RAW, route)?;
        Ok(Self { socket, sequence: 0 })
    }

    /// Sends the request and reads its answer, which the kernel has ready by then: nothing is waited for
    /// but the kernel's own lock.
    pub(super) fn ask(&mut self, request: Request) -> io::Result<Answer> {
        self.sequence = self.sequence.wrapping_add(1);
        let Request(mut message) = request;
        let length = u32::try_from(message.len()).expect("a request is some 100 bytes");
        message[..4].copy_from_slice(&length.to_ne_bytes());
        message[8..12].copy_from_slice(&self.sequence.to_ne_bytes());
        self.socket.write_all(&message)?;
        let mut datagram = vec![0; ANSWER_BYTES];
        loop {
            let length = match self.socket.read(&mut datagram) {
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            let Some((sequence, answer)) = parse(&datagram[..length]) else {
                return Err(io::ErrorKind::InvalidData.into());
            };
            // Any other is one that an earlier, failing read has left.
            if sequence == self.sequence {
                return Ok(answer);
            }
        }
    }
}

/// The answer that `datagram` begins with, and the sequence number of its request; `None` when it is none.
///
/// Either `header | fixed part | attributes` or `header | error i32 | …`, the error a negated errno, or 0 for
/// success.
fn parse(datagram: &[u8]) -> Option<(u32, Answer)> {
    let (header, rest) = datagram.split_first_chunk::<HEADER_BYTES>()?;
    let [l0, l1, l2, l3, k0, k1, _, _, s0, s1, s2, s3, ..] = *header;
    let length = usize::try_from(u32::from_ne_bytes([l0, l1, l2, l3])).ok()?.checked_sub(HEADER_BYTES)?;
    let body = &rest[..length.min(rest.len())];
    let answer = match u16::from_ne_bytes([k0, k1]) {
        ERROR => Answer::Status(match i32::from_ne_bytes(*body.first_chunk()?) {
            0 => Ok(()),
            error => Err(io::Error::from_raw_os_error(error.saturating_neg())),
        }),
        kind => Answer::Message(Message { kind, body: body.to_vec() }),
    };
    Some((u32::from_ne_bytes([s0, s1, s2, s3]), answer))
}

/// A description of something: a fixed part, then attributes.
#[derive(Debug)]
pub(super) struct Message {
    kind: u16,
    body: Vec<u8>,
}

impl Message {
    /// The fixed part and the attributes of a message that must be of this kind.
    pub(super) fn open<const N: usize>(&self, kind: u16) -> Option<(&[u8; N], Attributes<'_>)> {
        let (fixed, attributes) = self.body.split_first_chunk()?;
        (self.kind == kind).then_some((fixed, Attributes(attributes)))
    }
}

/// Attributes with their kinds, up to the first that is malformed.
#[derive(Clone, Debug)]
pub(super) struct Attributes<'a>(&'a [u8]);

impl<'a> Attributes<'a> {
    /// The value of the first attribute of this kind.
    pub(super) fn find(&self, kind: u16) -> Option<&'a [u8]> {
        self.clone().find_map(|(of, value)| (of == kind).then_some(value))
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let [l0, l1, k0, k1] = *self.0.first_chunk()?;
        let length = usize::from(u16::from_ne_bytes([l0, l1]));
        let value = self.0.get(4..length)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((u16::from_ne_bytes([k0, k1]) & ATTRIBUTE_KIND, value))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A message as the kernel writes it: the kind, the fixed part, and attributes with their kinds.
    pub(in crate::platform::host) fn datagram(
        kind: u16,
        fixed: &[u8],
        attributes: &[(u16, &[u8])],
    ) -> Vec<u8> {
        let request = Request::get(kind, fixed);
        let request = attributes.iter().fold(request, |all, (kind, value)| all.attribute(*kind, value));
        let mut bytes = request.0;
        let length = u32::try_from(bytes.len()).unwrap();
        bytes[..4].copy_from_slice(&length.to_ne_bytes());
        bytes
    }

    /// The message in a datagram, if there is one.
    pub(in crate::platform::host) fn message(datagram: &[u8]) -> Option<Message> {
        match parse(datagram)?.1 {
            Answer::Message(message) => Some(message),
            Answer::Status(_) => None,
        }
    }

    fn status(error: i32) -> io::Result<()> {
        let mut bytes = datagram(ERROR, &error.to_ne_bytes(), &[]);
        bytes[8..12].copy_from_slice(&7_u32.to_ne_bytes());
        match parse(&bytes).unwrap() {
            (7, Answer::Status(status)) => status,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn refusal_is_the_error_that_the_kernel_gives() {
        assert_eq!(status(-libc::EEXIST).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(status(-libc::ENODEV).unwrap_err().raw_os_error(), Some(libc::ENODEV));
        status(0).unwrap();
        status(i32::MIN).unwrap_err();
    }

    #[test]
    fn first_attribute_of_a_kind_is_found_whatever_its_upper_bits() {
        let bytes = datagram(9, &[1, 2, 3, 4], &[(5, b"five"), (0x8006, b"s"), (5, b"other"), (7, b"")]);
        let message = message(&bytes).unwrap();
        let (fixed, attributes) = message.open::<4>(9).unwrap();
        assert_eq!(fixed, &[1, 2, 3, 4]);
        assert_eq!(attributes.find(5), Some(&b"five"[..]));
        assert_eq!(attributes.find(6), Some(&b"s"[..]));
        assert_eq!(attributes.find(7), Some(&b""[..]));
        assert_eq!(attributes.find(8), None);
        assert!(message.open::<4>(8).is_none(), "of another kind");
        assert!(message.open::<64>(9).is_none(), "shorter than its fixed part");
    }

    #[test]
    fn attributes_end_at_the_first_that_is_malformed() {
        for malformed in
            [&[3, 0, 5, 0][..], &[0, 0, 5, 0], &[200, 0, 5, 0], &[9, 0, 5, 0, 1, 2, 3, 4], &[5, 0]]
        {
            let mut bytes = datagram(9, &[], &[(4, b"four")]);
            bytes.extend_from_slice(malformed);
            bytes.extend_from_slice(&[0; 3]);
            bytes[..4].copy_from_slice(&u32::MAX.to_ne_bytes());
            let message = message(&bytes).unwrap();
            let (_, attributes) = message.open::<0>(9).unwrap();
            assert_eq!(attributes.collect::<Vec<_>>()[..1], [(4, &b"four"[..])], "{malformed:?}");
        }
    }

    #[test]
    fn message_that_says_it_is_shorter_than_a_header_is_none() {
        for length in 0..16_u32 {
            let mut bytes = datagram(9, &[], &[]);
            bytes[..4].copy_from_slice(&length.to_ne_bytes());
            assert!(parse(&bytes).is_none(), "{length}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Some(message) = message(&bytes)
                && let Some((_, attributes)) = message.open::<0>(message.kind)
            {
                let total: usize = attributes.map(|(_, value)| value.len()).sum();
                prop_assert!(total <= bytes.len());
            }
        }
    }
}
