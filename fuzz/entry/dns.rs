//! The desk that answers apps' queries, between apps that ask anything and a resolver that says anything.

use std::net::IpAddr;
use std::time::Duration;

use anytls_mobile::dns::{Desk, DeskOptions, DnsMode, DnsStrategy, FakeName, Ticket, Via};
use anytls_mobile::proto::timers::Moment;
use hickory_proto::op::Message;
use hickory_proto::rr::RData;
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::records::Records;

const HEADER_BYTES: usize = 12;

/// Every query is answered once and in time, in a message that can be read, of a size that its asker takes; what
/// is held stays within its limit.
///
/// ```text
/// | options u8 | record … |      options: bit 0 fake addresses, bits 1-3 the strategy, bits 4-5 the memory
/// ```
/// A record's `what` has the event in its lower three bits, and in the others which question it is about, counted
/// from the youngest.
pub fn dns(data: &[u8]) {
    let Some((&options, records)) = data.split_first() else { return };
    let mut run = Run::new(options);
    for (what, bytes) in Records(records) {
        run.step(what, bytes);
        run.settle();
    }
    run.end();
}

struct Run {
    desk: Desk<usize>,
    now: Moment,
    /// What each client has asked; none once it is answered.
    clients: Vec<Option<Asked>>,
    /// All that the resolver was ever asked.
    questions: Vec<(Ticket, Vec<u8>)>,
    /// The most that any options have allowed.
    memory_bytes: usize,
    /// Whether the library could read all that the resolver has said: then it reads our answers too.
    readable: bool,
}

struct Asked {
    query: Vec<u8>,
    via: Via,
}

impl Run {
    fn new(how: u8) -> Self {
        let options = options(how);
        Self {
            memory_bytes: options.memory_bytes,
            desk: Desk::new(options, StdRng::seed_from_u64(1)),
            now: Moment::from_origin(Duration::from_secs(1_000_000)),
            clients: Vec::new(),
            questions: Vec::new(),
            readable: true,
        }
    }

    fn step(&mut self, what: u8, bytes: &[u8]) {
        let place = self.questions.len().wrapping_sub(1 + usize::from(what >> 3));
        let question = self.questions.get(place);
        match what & 0b111 {
            0 => self.ask(bytes, Via::Udp),
            1 => self.ask(bytes, Via::Tcp),
            2 => self.answer(place, bytes.to_vec()),
            3 => {
                let asked = question.map(|(_, question)| question.clone()).unwrap_or_default();
                self.answer(place, answer_to(&asked, bytes));
            }
            4 => {
                if let Some((ticket, _)) = question {
                    self.desk.handle_failure(*ticket, self.now);
                }
            }
            5 => {
                let exponent = bytes.first().map_or(0, |byte| byte % 28); // to three days
                self.now = self.now + Duration::from_millis(1 << exponent);
                self.desk.handle_timeout(self.now);
            }
            6 => {
                let options = options(bytes.first().copied().unwrap_or_default());
                self.memory_bytes = self.memory_bytes.max(options.memory_bytes);
                self.desk.set_options(options);
            }
            _ => match (<[u8; 4]>::try_from(bytes), <[u8; 16]>::try_from(bytes)) {
                (Ok(octets), _) => drop(self.desk.fake_name(octets.into())),
                (_, Ok(octets)) => drop(self.desk.fake_name(octets.into())),
                _ => self.desk.clear_cache(),
            },
        }
    }

    fn ask(&mut self, query: &[u8], via: Via) {
        let fakes = self.desk.counters().fake_answers;
        let client = self.clients.len();
        let is_query = query.len() >= HEADER_BYTES && query[2] & 0x80 == 0;
        self.clients.push(is_query.then(|| Asked { query: query.to_vec(), via }));
        self.desk.handle_query(query, via, client, self.now);
        if self.desk.counters().fake_answers > fakes {
            let (client, answer) = self.desk.poll_answer().expect("at once");
            self.check(client, &answer);
            let answer = Message::from_vec(&answer).expect("checked");
            for address in answer.answers.iter().filter_map(|record| address(&record.data)) {
                assert!(matches!(self.desk.fake_name(address), FakeName::Name(_)), "{address}");
            }
        }
    }

    fn answer(&mut self, place: usize, answer: Vec<u8>) {
        if let Some((ticket, _)) = self.questions.get(place) {
            // A name that goes on in the header is another one under ours.
            let goes_on_in_header = answer.windows(2).any(|pair| pair[0] == 0xc0 && pair[1] < 12);
            self.readable &= !goes_on_in_header && Message::from_vec(&answer).is_ok();
            self.desk.handle_answer(*ticket, &answer, self.now);
        }
    }

    /// Takes what the desk has to say.
    fn settle(&mut self) {
        while let Some((client, answer)) = self.desk.poll_answer() {
            self.check(client, &answer);
        }
        while let Some((ticket, question)) = self.desk.poll_question() {
            assert!(Message::from_vec(&question).is_ok(), "{question:02x?}");
            self.questions.push((ticket, question));
        }
        let counters = self.desk.counters();
        assert!(counters.held_bytes <= self.memory_bytes, "{counters:?}");
        assert_eq!(counters.waiting, self.clients.iter().flatten().count());
        assert_eq!(self.desk.poll_timeout().is_some(), counters.in_flight > 0);
    }

    fn check(&mut self, client: usize, answer: &[u8]) {
        let Asked { query, via } = self.clients[client].take().expect("a query that was not answered before");
        let said = || format!("{query:02x?} was answered with {answer:02x?}");
        assert_eq!(Some((&query[..2], query[2] & 0x78)), same_header(answer), "{}", said());
        assert!(is_framed(answer), "{}", said());
        let read = Message::from_vec(answer);
        assert!(read.is_ok() || !self.readable, "{}: {read:?}", said());

        let query = Message::from_vec(&query);
        let most = match (via, &query) {
            (Via::Tcp, _) => 65_535,
            (Via::Udp, Ok(query)) => {
                query.edns.as_ref().map_or(512, |edns| edns.max_payload().clamp(512, 4096)).into()
            }
            (Via::Udp, Err(_)) => 4096, // there may be an extension that the library would not read
        };
        assert!(answer.len() <= most, "{} bytes, and {most} are taken", answer.len());
        if let (Ok(query), Ok(answer)) = (query, read)
            && !answer.queries.is_empty()
        {
            assert_eq!(answer.queries, query.queries);
        }
    }

    /// Nobody is left without an answer.
    fn end(&mut self) {
        for _ in 0..2 {
            self.now = self.now + Duration::from_secs(5);
            self.desk.handle_timeout(self.now);
            self.settle();
        }
        let counters = self.desk.counters();
        assert!(self.clients.iter().all(Option::is_none), "{counters:?}");
        assert_eq!((counters.in_flight, counters.waiting), (0, 0));
        assert_eq!(counters.udp_queries + counters.tcp_queries, self.clients.len() as u64);
    }
}

fn options(how: u8) -> DeskOptions {
    let mode = if how & 1 == 0 { DnsMode::Forward } else { DnsMode::FakeIp };
    let strategy = match how >> 1 & 0b111 {
        0..4 => DnsStrategy::AsAsked,
        4 => DnsStrategy::PreferIpv4,
        5 => DnsStrategy::PreferIpv6,
        6 => DnsStrategy::Ipv4Only,
        _ => DnsStrategy::Ipv6Only,
    };
    let memory_bytes = [256, 16, 4, 2].map(|kib| kib << 10)[usize::from(how >> 4 & 0b11)];
    DeskOptions { mode, strategy, exclude: vec!["lan".to_owned()], memory_bytes }
}

fn address(data: &RData) -> Option<IpAddr> {
    match data {
        RData::A(address) => Some(address.0.into()),
        RData::AAAA(address) => Some(address.0.into()),
        _ => None,
    }
}

/// The answer to a question of ours: `bytes` are the flags, the three counts, and what follows the question.
fn answer_to(question: &[u8], bytes: &[u8]) -> Vec<u8> {
    let (flags, rest) = bytes.split_at(bytes.len().min(2));
    let (counts, records) = rest.split_at(rest.len().min(6));
    let question = question.get(HEADER_BYTES..).unwrap_or_default();
    let end = question.iter().position(|&byte| byte == 0).map_or(0, |root| root + 5).min(question.len());
    [&[0, 0], flags, &[0, 1], counts, &question[..end], records].concat()
}

/// A response's id and operation.
fn same_header(answer: &[u8]) -> Option<(&[u8], u8)> {
    let flags = *answer.get(2)?;
    (flags & 0x80 != 0).then_some((&answer[..2], flags & 0x78))
}

/// Whether the message has the questions and records that its header counts, and nothing else.
fn is_framed(message: &[u8]) -> bool {
    let count = |at: usize| u16::from_be_bytes([message[at], message[at + 1]]);
    let records = u32::from(count(6)) + u32::from(count(8)) + u32::from(count(10));
    let mut rest = &message[HEADER_BYTES..];
    let mut skip = || {
        for _ in 0..count(4) {
            rest = skip_name(rest)?.get(4..)?;
        }
        for _ in 0..records {
            let (head, data) = skip_name(rest)?.split_first_chunk::<10>()?;
            rest = data.get(usize::from(u16::from_be_bytes([head[8], head[9]]))..)?;
        }
        Some(rest.is_empty())
    };
    message.len() >= HEADER_BYTES && skip() == Some(true)
}

fn skip_name(mut bytes: &[u8]) -> Option<&[u8]> {
    loop {
        let (&length, rest) = bytes.split_first()?;
        match length {
            0 => return Some(rest),
            1..64 => bytes = rest.get(usize::from(length)..)?,
            64..192 => return None,
            192.. => return rest.get(1..), // a pointer
        }
    }
}
