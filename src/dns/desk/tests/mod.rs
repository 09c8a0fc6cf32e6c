use std::collections::BTreeMap;
use std::time::Duration;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query as Asked};
use hickory_proto::rr::rdata::svcb::{IpHint, Mandatory, SVCB, SvcParamKey, SvcParamValue};
use hickory_proto::rr::rdata::{CNAME, HTTPS, SOA, TXT};
use hickory_proto::rr::{DNSClass, RData, Record};
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::*;

mod caching;
mod faking;
mod forwarding;
mod queries;
mod schedules;
mod strategies;

const MEMORY: usize = 1 << 20;

struct Rig {
    desk: Desk<u32>,
    now: Moment,
    next_client: u32,
}

fn options(mode: DnsMode, strategy: DnsStrategy) -> DeskOptions {
    DeskOptions { mode, strategy, exclude: vec!["lan".to_owned()], memory_bytes: MEMORY }
}

impl Rig {
    fn new(mode: DnsMode, strategy: DnsStrategy) -> Self {
        Self::with(options(mode, strategy))
    }

    fn with(options: DeskOptions) -> Self {
        let now = Moment::from_origin(Duration::from_secs(1_000_000));
        Self { desk: Desk::new(options, StdRng::seed_from_u64(1)), now, next_client: 0 }
    }

    fn forward() -> Self {
        Self::new(DnsMode::Forward, DnsStrategy::AsAsked)
    }

    fn fake() -> Self {
        Self::new(DnsMode::FakeIp, DnsStrategy::AsAsked)
    }

    fn wait(&mut self, seconds: u64) {
        self.now = self.now + Duration::from_secs(seconds);
    }

    fn send_via(&mut self, query: &Message, via: Via) -> u32 {
        self.next_client += 1;
        let bytes = query.to_vec().expect("a message");
        self.desk.handle_query(&bytes, via, self.next_client, self.now);
        self.next_client
    }

    fn send(&mut self, query: &Message) -> u32 {
        self.send_via(query, Via::Udp)
    }

    /// The answer to a query that is answered at once.
    fn ask(&mut self, query: &Message) -> Message {
        let client = self.send(query);
        assert!(self.desk.poll_question().is_none(), "{query} was forwarded");
        self.answer_for(client)
    }

    /// The answer to a query that is forwarded, with what the resolver is made to say.
    fn resolve(&mut self, query: &Message, say: impl FnOnce(&mut Message)) -> Message {
        let client = self.send(query);
        self.say(say);
        self.answer_for(client)
    }

    fn answer_for(&mut self, client: u32) -> Message {
        let (whom, bytes) = self.desk.poll_answer().expect("an answer");
        assert_eq!(whom, client);
        assert!(self.desk.poll_answer().is_none(), "answered twice");
        Message::from_vec(&bytes).expect("a message")
    }

    /// Lets the resolver answer the next question.
    fn say(&mut self, say: impl FnOnce(&mut Message)) {
        let (ticket, question) = self.question();
        let answer = answer_to(&question, say);
        self.desk.handle_answer(ticket, &answer, self.now);
    }

    fn question(&mut self) -> (Ticket, Message) {
        let (ticket, bytes) = self.desk.poll_question().expect("a question");
        (ticket, Message::from_vec(&bytes).expect("a message"))
    }

    fn answers(&mut self) -> BTreeMap<u32, Message> {
        let answers = std::iter::from_fn(|| self.desk.poll_answer());
        answers.map(|(client, bytes)| (client, Message::from_vec(&bytes).expect("a message"))).collect()
    }

    fn assert_forwarded(&mut self, query: &Message) {
        let client = self.send(query);
        assert!(self.desk.poll_answer().is_none(), "{query} was answered");
        let (ticket, question) = self.question();
        assert_eq!(question.queries[0], query.queries[0]);
        self.desk.handle_failure(ticket, self.now);
        assert_eq!(self.answer_for(client).response_code, ResponseCode::ServFail);
    }
}

fn name(text: &str) -> Name {
    let mut name = Name::from_ascii(text).expect("a name");
    name.set_fqdn(true);
    name
}

fn query(text: &str, kind: RecordType) -> Message {
    let mut message = Message::new(4711, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Asked::query(name(text), kind));
    message
}

fn with_edns(mut message: Message, udp_bytes: u16, dnssec_ok: bool) -> Message {
    let mut edns = Edns::new();
    edns.set_max_payload(udp_bytes).set_dnssec_ok(dnssec_ok);
    message.set_edns(edns);
    message
}

fn answer_to(question: &Message, say: impl FnOnce(&mut Message)) -> Vec<u8> {
    let mut answer = question.clone().into_response();
    answer.metadata.recursion_available = true;
    say(&mut answer);
    answer.to_vec().expect("a message")
}

fn record(text: &str, ttl: u32, data: RData) -> Record {
    Record::from_rdata(name(text), ttl, data)
}

fn a(text: &str, ttl: u32) -> Record {
    record(text, ttl, RData::A(Ipv4Addr::new(192, 0, 2, 1).into()))
}

fn aaaa(text: &str, ttl: u32) -> Record {
    record(text, ttl, RData::AAAA(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into()))
}

fn soa(text: &str, ttl: u32, minimum: u32) -> Record {
    record(text, ttl, RData::SOA(SOA::new(name("ns.example"), name("admin.example"), 1, 2, 3, 4, minimum)))
}

fn is_nodata(answer: &Message) -> bool {
    answer.response_code == ResponseCode::NoError
        && answer.answers.is_empty()
        && answer.authorities.iter().any(|record| record.record_type() == RecordType::SOA)
}

fn addresses(answer: &Message) -> Vec<IpAddr> {
    let address = |record: &Record| match &record.data {
        RData::A(ip) => Some(IpAddr::V4(ip.0)),
        RData::AAAA(ip) => Some(IpAddr::V6(ip.0)),
        _ => None,
    };
    answer.answers.iter().filter_map(address).collect()
}
