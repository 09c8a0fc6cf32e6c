//! What clients ask and are told, and what the resolver is asked: the wire's side of it.

use std::sync::Arc;

use hickory_proto::op::{Edns, Header, HeaderCounts, MessageType, Metadata, OpCode, ResponseCode};
use hickory_proto::rr::{DNSClass, Name, RecordType};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder, BinEncodable, BinEncoder};

use super::answer::{Answer, RecordHead};

/// What a header takes (RFC 1035, section 4.1.1).
pub(super) const HEADER_BYTES: usize = 12;

/// Behind the name of a question: its type and class.
const TYPE_AND_CLASS_BYTES: usize = 4;

/// What an OPT record without options takes (RFC 6891, section 6.1.2).
const OPT_BYTES: usize = 11;

/// The least that every client takes in a datagram.
const MIN_UDP_BYTES: u16 = 512;

/// The most that we put into a datagram, whatever a client takes, and what we say that we take. The usual size;
/// between an app and the TUN fragments do not get lost, but what is larger is better told over TCP.
const MAX_UDP_BYTES: u16 = 4096;

/// How a query came, which says how much the answer may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via {
    /// As a datagram: what does not fit is told over TCP.
    Udp,
    /// Over TCP, which takes any message.
    Tcp,
}

/// What a message is.
#[derive(Debug)]
pub(super) enum Received {
    /// No query: nothing is answered.
    NoQuery,
    /// A query that gets this code for an answer, since it cannot be read or is not for us.
    Refused(Query, ResponseCode),
    /// A question.
    Asked(Query, Question),
}

/// What a question is about.
#[derive(Debug)]
pub(super) struct Question {
    pub(super) name: Name,
    pub(super) kind: RecordType,
    pub(super) class: DNSClass,
}

/// A client's query, as much of it as the answer needs.
#[derive(Debug)]
pub(super) struct Query {
    id: u16,
    op_code: OpCode,
    recursion_desired: bool,
    checking_disabled: bool,
    /// The client wants to hear whether the answer was validated (RFC 6840, section 5.7).
    wants_authentic: bool,
    edns: Option<Extension>,
    /// Name, type and class, uncompressed, the letters as the client wrote them. Empty when it has none.
    question: Box<[u8]>,
    via: Via,
}

/// What the client's OPT record says.
#[derive(Clone, Copy, Debug)]
struct Extension {
    version: u8,
    udp_bytes: u16,
    dnssec_ok: bool,
}

impl Query {
    /// Reads a message.
    pub(super) fn read(message: &[u8], via: Via) -> Received {
        let mut decoder = BinDecoder::new(message);
        let Ok(Header { metadata, counts }) = Header::read(&mut decoder) else { return Received::NoQuery };
        if metadata.message_type == MessageType::Response {
            return Received::NoQuery;
        }
        let mut query = Self {
            id: metadata.id,
            op_code: metadata.op_code,
            recursion_desired: metadata.recursion_desired,
            checking_disabled: metadata.checking_disabled,
            wants_authentic: metadata.authentic_data,
            edns: None,
            question: Box::default(),
            via,
        };
        if metadata.op_code != OpCode::Query {
            return Received::Refused(query, ResponseCode::NotImp);
        }
        let Some(question) = query.read_question(&mut decoder, counts) else {
            return Received::Refused(query, ResponseCode::FormErr);
        };
        if query.read_extension(&mut decoder, counts).is_none() {
            return Received::Refused(query, ResponseCode::FormErr);
        }
        if query.edns.is_some_and(|edns| edns.version > 0) {
            return Received::Refused(query, ResponseCode::BADVERS);
        }
        // A transfer is many messages; other classes have nothing to do with the Internet (CH would tell what
        // software the resolver is).
        let transfer = matches!(question.kind, RecordType::AXFR | RecordType::IXFR);
        if transfer || !matches!(question.class, DNSClass::IN | DNSClass::ANY) {
            return Received::Refused(query, ResponseCode::Refused);
        }
        Received::Asked(query, question)
    }

    fn read_question(&mut self, decoder: &mut BinDecoder<'_>, counts: HeaderCounts) -> Option<Question> {
        if counts.queries != 1 {
            return None;
        }
        let question = Question {
            name: Name::read(decoder).ok()?,
            kind: RecordType::read(decoder).ok()?,
            class: DNSClass::read(decoder).ok()?,
        };
        let mut wire = Vec::with_capacity(question.name.len() + 1 + TYPE_AND_CLASS_BYTES);
        for label in &question.name {
            wire.push(u8::try_from(label.len()).ok()?);
            wire.extend_from_slice(label);
        }
        wire.push(0);
        wire.extend_from_slice(&u16::from(question.kind).to_be_bytes());
        wire.extend_from_slice(&u16::from(question.class).to_be_bytes());
        self.question = wire.into();
        Some(question)
    }

    /// Finds the OPT record, of which there may be one (RFC 6891, section 6.1.1).
    fn read_extension(&mut self, decoder: &mut BinDecoder<'_>, counts: HeaderCounts) -> Option<()> {
        for _ in 0..u32::from(counts.answers) + u32::from(counts.authorities) {
            RecordHead::read(decoder)?;
        }
        for _ in 0..counts.additionals {
            let record = RecordHead::read(decoder)?;
            if record.kind != RecordType::OPT {
                continue;
            }
            if self.edns.is_some() || !record.of_root {
                return None;
            }
            let [_, version, flags, _] = record.ttl.to_be_bytes();
            let dnssec_ok = flags & 0x80 != 0;
            self.edns = Some(Extension { version, udp_bytes: record.class, dnssec_ok });
            self.wants_authentic |= dnssec_ok;
        }
        Some(())
    }

    /// What holding it costs, in bytes.
    pub(super) fn bytes(&self) -> usize {
        size_of::<Self>() + self.question.len()
    }

    /// What it is cached and coalesced by.
    pub(super) fn key(&self) -> Key {
        let mut bytes = self.question.to_vec();
        let name = bytes.len().saturating_sub(TYPE_AND_CLASS_BYTES);
        bytes[..name].make_ascii_lowercase(); // a label's length is below the letters
        let dnssec_ok = self.edns.is_some_and(|edns| edns.dnssec_ok);
        let mut bits = 0;
        if dnssec_ok {
            bits |= DNSSEC_OK;
        }
        if self.checking_disabled {
            bits |= CHECKING_DISABLED;
        }
        bytes.push(bits);
        Key(bytes.into())
    }

    /// The name that is asked about.
    pub(super) fn name(&self) -> Option<Name> {
        Name::read(&mut BinDecoder::new(&self.question)).ok()
    }

    /// The message for the client with an answer `age` seconds old, and whether it was truncated.
    pub(super) fn answer(&self, answer: &Answer, age: u32) -> (Vec<u8>, bool) {
        let whole =
            HEADER_BYTES + self.question.len() + answer.records().len() + self.edns.map_or(0, |_| OPT_BYTES);
        let limit = match (self.via, self.edns) {
            (Via::Tcp, _) => u16::MAX,
            (Via::Udp, None) => MIN_UDP_BYTES,
            (Via::Udp, Some(edns)) => edns.udp_bytes.clamp(MIN_UDP_BYTES, MAX_UDP_BYTES),
        };
        let too_large = whole > usize::from(limit);
        let mut message = self.compose(answer, !too_large);
        if !too_large && age > 0 {
            answer.age(&mut message, age);
        }
        (message, too_large)
    }

    fn compose(&self, answer: &Answer, with_records: bool) -> Vec<u8> {
        let mut metadata = Metadata::new(self.id, MessageType::Response, self.op_code);
        metadata.truncation = answer.truncated() || !with_records;
        metadata.recursion_desired = self.recursion_desired;
        metadata.recursion_available = true;
        metadata.authentic_data = answer.authentic() && self.wants_authentic;
        metadata.checking_disabled = self.checking_disabled;
        metadata.response_code = answer.code();
        let (mut counts, records) =
            if with_records { (answer.counts(), answer.records()) } else { <_>::default() };
        counts.queries = u16::from(!self.question.is_empty());
        counts.additionals += u16::from(self.edns.is_some());
        let edns = self.edns.map(|edns| {
            let mut ours = extension(edns.dnssec_ok);
            ours.set_rcode_high(answer.code().high());
            ours
        });
        encode(Header { metadata, counts }, &self.question, records, edns.as_ref())
    }
}

const DNSSEC_OK: u8 = 1;
const CHECKING_DISABLED: u8 = 2;

/// A question to the resolver: the lower-case name, type, class, and the bits that change the answer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key(Arc<[u8]>);

impl Key {
    /// The same for records of another type.
    pub(super) fn with_kind(&self, kind: RecordType) -> Self {
        let mut bytes = self.0.to_vec();
        let at = bytes.len() - 1 - TYPE_AND_CLASS_BYTES; // before the class and the bits
        bytes[at..at + 2].copy_from_slice(&u16::from(kind).to_be_bytes());
        Self(bytes.into())
    }

    /// The question's wire form.
    pub(super) fn question(&self) -> &[u8] {
        &self.0[..self.0.len() - 1]
    }

    /// Whether a question, of the same length, is this one: letters do not matter in its name.
    pub(super) fn is_asked_by(&self, question: &[u8]) -> bool {
        let name = self.question().len().saturating_sub(TYPE_AND_CLASS_BYTES);
        let (Some((ours, our_type)), Some((theirs, their_type))) =
            (self.question().split_at_checked(name), question.split_at_checked(name))
        else {
            return false;
        };
        ours.eq_ignore_ascii_case(theirs) && our_type == their_type
    }

    pub(super) fn kind(&self) -> RecordType {
        let at = self.0.len() - 1 - TYPE_AND_CLASS_BYTES;
        RecordType::from(u16::from_be_bytes([self.0[at], self.0[at + 1]]))
    }

    /// What holding it costs, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.0.len()
    }

    /// The message that asks it. The id is left to the connection; there are no options: a client's subnet
    /// or cookie is not for the resolver. Validation is always asked about (AD), so that one answer serves all.
    pub(super) fn message(&self) -> Vec<u8> {
        let bits = self.0.last().copied().unwrap_or_default();
        let mut metadata = Metadata::new(0, MessageType::Query, OpCode::Query);
        metadata.recursion_desired = true;
        metadata.authentic_data = true;
        metadata.checking_disabled = bits & CHECKING_DISABLED != 0;
        let counts = HeaderCounts { queries: 1, additionals: 1, ..HeaderCounts::default() };
        let edns = extension(bits & DNSSEC_OK != 0);
        encode(Header { metadata, counts }, self.question(), &[], Some(&edns))
    }
}

fn extension(dnssec_ok: bool) -> Edns {
    let mut edns = Edns::new();
    edns.set_max_payload(MAX_UDP_BYTES).set_dnssec_ok(dnssec_ok);
    edns
}

fn encode(header: Header, question: &[u8], records: &[u8], edns: Option<&Edns>) -> Vec<u8> {
    let mut message = Vec::with_capacity(HEADER_BYTES + question.len() + records.len() + OPT_BYTES);
    let mut encoder = BinEncoder::new(&mut message);
    let result = header
        .emit(&mut encoder)
        .and_then(|()| encoder.emit_vec(question))
        .and_then(|()| encoder.emit_vec(records))
        .and_then(|()| edns.map_or(Ok(()), |edns| edns.emit(&mut encoder)));
    debug_assert!(result.is_ok(), "below 64 KiB, as the caller checked: {result:?}");
    message
}
