//! What is answered: by the resolver, or by ourselves.

use std::net::IpAddr;
use std::time::Duration;

use hickory_proto::op::{Header, HeaderCounts, Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::rdata::svcb::{SVCB, SvcParamKey, SvcParamValue};
use hickory_proto::rr::rdata::{PTR, SOA};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder, BinEncodable, BinEncoder, NameEncoding};

use super::message::{HEADER_BYTES, Key};

/// Answers are kept a day at most, whatever they say: a guess between freshness and traffic.
const MAX_TTL: u32 = 24 * 60 * 60;

/// That a name or record does not exist is believed for three hours at most (RFC 2308, section 5).
const MAX_NEGATIVE_TTL: u32 = 3 * 60 * 60;

/// How long an app may rely on what we answer ourselves. Long enough to join the questions of one page, short
/// enough that an app asks again, and so keeps the name remembered, before a fake address is forgotten, and that
/// a reload in another mode is soon felt everywhere. Answering again takes microseconds.
const OWN_TTL: u32 = 10;

/// The addresses that an answer must not have: what HTTPS and SVCB records hint at, and what is added unasked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Strip {
    pub(super) ipv4: bool,
    pub(super) ipv6: bool,
}

impl Strip {
    pub(super) fn has_kind(self, kind: RecordType) -> bool {
        self.ipv4 && kind == RecordType::A || self.ipv6 && kind == RecordType::AAAA
    }

    fn has_hint(self, key: SvcParamKey) -> bool {
        self.ipv4 && key == SvcParamKey::Ipv4Hint || self.ipv6 && key == SvcParamKey::Ipv6Hint
    }
}

/// What follows the question, and what the header says of it. Not bound to a client: the question in front of it
/// always takes the same room, so that the pointers of compressed names stay true.
#[derive(Debug)]
pub(super) struct Answer {
    code: ResponseCode,
    truncated: bool,
    authentic: bool,
    counts: HeaderCounts,
    /// The records' wire form, without OPT.
    records: Box<[u8]>,
    /// Where in the message each record has its TTL.
    ttls: Box<[u16]>,
    has_data: bool,
    lifetime: Option<Duration>,
}

impl Answer {
    /// Reads the resolver's answer to a question; `None` when it is none.
    pub(super) fn read(message: &[u8], key: &Key, strip: Strip) -> Option<Self> {
        let scan = Scan::of(message, key, strip)?;
        if !scan.needs_rewrite {
            return Some(scan.into_answer(message, key));
        }
        let message = rewrite(message, strip)?;
        let scan = Scan::of(&message, key, Strip::default())?;
        let mut answer = scan.into_answer(&message, key);
        answer.authentic &= strip == Strip::default();
        Some(answer)
    }

    /// No records, only a code.
    pub(super) fn of_code(code: ResponseCode) -> Self {
        Self {
            code,
            truncated: false,
            authentic: false,
            counts: HeaderCounts::default(),
            records: Box::default(),
            ttls: Box::default(),
            has_data: false,
            lifetime: None,
        }
    }

    pub(super) fn of_address(name: &Name, address: IpAddr) -> Self {
        let data = match address {
            IpAddr::V4(ip) => RData::A(ip.into()),
            IpAddr::V6(ip) => RData::AAAA(ip.into()),
        };
        Self::of_records(name, ResponseCode::NoError, Some(data), None)
    }

    pub(super) fn of_pointer(name: &Name, target: Name) -> Self {
        Self::of_records(name, ResponseCode::NoError, Some(RData::PTR(PTR(target))), None)
    }

    /// There are no such records: `NoError`, or no such name: `NXDomain`. With an SOA record, without which
    /// clients would not remember it (RFC 2308, section 5).
    pub(super) fn of_nothing(name: &Name, code: ResponseCode) -> Self {
        let soa = SOA::new(Name::root(), Name::root(), 1, 3600, 600, 86_400, OWN_TTL); // only the last is used
        Self::of_records(name, code, None, Some(RData::SOA(soa)))
    }

    fn of_records(name: &Name, code: ResponseCode, data: Option<RData>, authority: Option<RData>) -> Self {
        let record = |data| Record::from_rdata(name.clone(), OWN_TTL, data);
        let counts = HeaderCounts {
            answers: u16::from(data.is_some()),
            authorities: u16::from(authority.is_some()),
            ..HeaderCounts::default()
        };
        let mut bytes = Vec::with_capacity(512); // what the encoder wants
        bytes.resize(HEADER_BYTES, 0); // the header's and the question's room, as pointers count it
        let start = HEADER_BYTES + name_bytes(name) + 4; // type and class
        let mut encoder = BinEncoder::with_offset(&mut bytes, HEADER_BYTES as u32); // 12
        let mut result = name.emit(&mut encoder).and_then(|()| encoder.emit_u32(0));
        for record in data.into_iter().chain(authority).map(record) {
            result = result.and_then(|()| record.emit(&mut encoder));
        }
        match (result, bytes.get(start..)) {
            (Ok(()), Some(records)) => Self { counts, records: records.into(), ..Self::of_code(code) },
            _ => Self::of_code(ResponseCode::ServFail), // hardly: a few records of a name that was read
        }
    }

    pub(super) fn code(&self) -> ResponseCode {
        self.code
    }

    pub(super) fn truncated(&self) -> bool {
        self.truncated
    }

    pub(super) fn authentic(&self) -> bool {
        self.authentic
    }

    /// Of the records: without question and OPT.
    pub(super) fn counts(&self) -> HeaderCounts {
        self.counts
    }

    pub(super) fn records(&self) -> &[u8] {
        &self.records
    }

    /// Whether there are records of the type that was asked for.
    pub(super) fn has_data(&self) -> bool {
        self.has_data
    }

    /// How long it may be kept; `None` is not at all.
    pub(super) fn lifetime(&self) -> Option<Duration> {
        self.lifetime
    }

    /// What holding it costs, in bytes.
    pub(super) fn bytes(&self) -> usize {
        size_of::<Self>() + self.records.len() + size_of_val(&*self.ttls)
    }

    /// Takes `age` seconds off the TTLs of a message that has these records.
    pub(super) fn age(&self, message: &mut [u8], age: u32) {
        for &at in &self.ttls {
            let ttl = message.get_mut(usize::from(at)..).and_then(|rest| rest.first_chunk_mut());
            if let Some(ttl) = ttl {
                *ttl = u32::from_be_bytes(*ttl).saturating_sub(age).to_be_bytes();
            }
        }
    }
}

fn name_bytes(name: &Name) -> usize {
    name.iter().map(|label| 1 + label.len()).sum::<usize>() + 1
}

/// A record but for its data.
#[derive(Debug)]
pub(super) struct RecordHead {
    pub(super) of_root: bool,
    pub(super) kind: RecordType,
    pub(super) class: u16,
    ttl_at: usize,
    pub(super) ttl: u32,
    data_at: usize,
}

impl RecordHead {
    /// Reads a record and passes its data over, which may be of any type or none that is known.
    pub(super) fn read(decoder: &mut BinDecoder<'_>) -> Option<Self> {
        let of_root = Name::read(decoder).ok()?.is_root();
        let kind = RecordType::read(decoder).ok()?;
        let class = decoder.read_u16().ok()?.unverified(/* any is one */);
        let ttl_at = decoder.index();
        let ttl = decoder.read_u32().ok()?.unverified(/* any is one */);
        let length = decoder.read_u16().ok()?.unverified(/* the next line does */);
        let data_at = decoder.index();
        decoder.read_slice(length.into()).ok()?;
        Some(Self { of_root, kind, class, ttl_at, ttl, data_at })
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Section {
    Answer,
    Authority,
    Additional,
}

/// What is seen on a walk through a message.
struct Scan {
    header: Header,
    /// Where the records end, OPT left out.
    end: usize,
    /// Where each record has its TTL, and the TTL that it should have.
    ttls: Vec<(u16, u32)>,
    /// Of the answer and authority sections.
    least_ttl: u32,
    /// The authority section's SOA record: its place in `ttls`, and how long it says that nothing is there.
    soa: Option<(usize, u32)>,
    has_data: bool,
    /// There is something to be stripped, or OPT stands in the middle.
    needs_rewrite: bool,
}

impl Scan {
    fn of(message: &[u8], key: &Key, strip: Strip) -> Option<Self> {
        let mut decoder = BinDecoder::new(message);
        let header = Header::read(&mut decoder).ok()?;
        let of_query = header.message_type == MessageType::Response && header.op_code == OpCode::Query;
        let question = decoder.read_slice(key.question().len()).ok()?.unverified(/* compared next */);
        if !of_query || header.counts.queries != 1 || !key.is_asked_by(question) {
            return None;
        }
        let mut scan = Self {
            header,
            end: decoder.index(),
            ttls: Vec::new(),
            least_ttl: u32::MAX,
            soa: None,
            has_data: false,
            needs_rewrite: false,
        };
        let counts = header.counts;
        let sections = [
            (Section::Answer, counts.answers),
            (Section::Authority, counts.authorities),
            (Section::Additional, counts.additionals),
        ];
        let mut opt_seen = false;
        for (section, count) in sections {
            for _ in 0..count {
                let record = RecordHead::read(&mut decoder)?;
                if record.kind == RecordType::OPT {
                    // A code that takes an OPT record is about the way to the resolver, not for the client.
                    let plain = record.ttl >> 24 == 0;
                    if section != Section::Additional || opt_seen || !plain {
                        return None;
                    }
                    opt_seen = true;
                    continue;
                }
                scan.needs_rewrite |= opt_seen;
                scan.see(section, &record, message, key.kind(), strip)?;
                scan.end = decoder.index();
            }
        }
        scan.header.counts.additionals -= u16::from(opt_seen);
        Some(scan)
    }

    fn see(
        &mut self,
        section: Section,
        record: &RecordHead,
        message: &[u8],
        asked: RecordType,
        strip: Strip,
    ) -> Option<()> {
        // RFC 2181, section 8: with its highest bit set it is none.
        let ttl = if i32::try_from(record.ttl).is_ok() { record.ttl.min(MAX_TTL) } else { 0 };
        let bears_hints = matches!(record.kind, RecordType::HTTPS | RecordType::SVCB);
        self.needs_rewrite |= bears_hints && strip != Strip::default() || strip.has_kind(record.kind);
        match section {
            Section::Answer => {
                self.has_data |= record.kind == asked || asked == RecordType::ANY;
                self.least_ttl = self.least_ttl.min(ttl);
            }
            Section::Authority => {
                self.least_ttl = self.least_ttl.min(ttl);
                if record.kind == RecordType::SOA && self.soa.is_none() {
                    let mut decoder = BinDecoder::new(message);
                    decoder.read_slice(record.data_at).ok()?;
                    let soa = SOA::read(&mut decoder).ok()?;
                    self.soa = Some((self.ttls.len(), soa.minimum));
                }
            }
            Section::Additional => {}
        }
        self.ttls.push((u16::try_from(record.ttl_at).ok()?, ttl));
        Some(())
    }

    fn into_answer(mut self, message: &[u8], key: &Key) -> Answer {
        let lifetime = self.lifetime();
        let start = HEADER_BYTES + key.question().len();
        let mut records: Box<[u8]> = message[start..self.end].into();
        for (at, ttl) in &self.ttls {
            let at = usize::from(*at) - start;
            records[at..at + 4].copy_from_slice(&ttl.to_be_bytes());
        }
        Answer {
            code: self.header.response_code,
            truncated: self.header.truncation,
            authentic: self.header.authentic_data,
            counts: self.header.counts,
            records,
            ttls: self.ttls.iter().map(|(at, _)| *at).collect(),
            has_data: self.has_data,
            lifetime,
        }
    }

    /// Lowers the SOA record's TTL to what it counts for, too.
    fn lifetime(&mut self) -> Option<Duration> {
        let positive = match self.header.response_code {
            ResponseCode::NoError => self.has_data,
            ResponseCode::NXDomain => false,
            _ => return None,
        };
        let seconds = if positive {
            self.least_ttl.min(MAX_TTL)
        } else {
            let (at, minimum) = self.soa?;
            let (_, ttl) = self.ttls.get_mut(at)?;
            *ttl = minimum.min(*ttl).min(MAX_NEGATIVE_TTL);
            self.least_ttl.min(*ttl)
        };
        let kept = seconds > 0 && !self.header.truncation;
        kept.then(|| Duration::from_secs(seconds.into()))
    }
}

/// Takes out what [`Strip`] names, and OPT. Names are left uncompressed: looking for where they stood before
/// takes the square of their number, which the owner of a name decides.
fn rewrite(message: &[u8], strip: Strip) -> Option<Vec<u8>> {
    let mut message = Message::from_vec(message).ok()?;
    message.edns = None;
    for section in [&mut message.answers, &mut message.authorities, &mut message.additionals] {
        section.retain_mut(|record| {
            match &mut record.data {
                RData::HTTPS(https) => strip_hints(&mut https.0, strip),
                RData::SVCB(svcb) => strip_hints(svcb, strip),
                _ => {}
            }
            !strip.has_kind(record.record_type())
        });
    }
    let mut bytes = Vec::new();
    let mut encoder = BinEncoder::new(&mut bytes);
    encoder.set_name_encoding(NameEncoding::Uncompressed);
    message.emit(&mut encoder).ok()?;
    Some(bytes)
}

fn strip_hints(service: &mut SVCB, strip: Strip) {
    service.svc_params.retain_mut(|(key, value)| {
        if let SvcParamValue::Mandatory(mandatory) = value {
            mandatory.0.retain(|key| !strip.has_hint(*key));
            return !mandatory.0.is_empty();
        }
        !strip.has_hint(*key)
    });
}
