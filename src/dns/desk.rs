//! What becomes of a query.
//!
//! ```text
//! query ─► Query::read ─┬─ no query: nothing
//!                       ├─ refused, local, fake ────────────────► answer
//!                       └─ forwarded ─┬─ in the cache ──────────► answer
//!                                     ├─ asked already: waits ──┐
//!                                     └─ flight ─► question     │
//!                                        ▲ answer, failure, 5 s ┴► answers
//! ```
//! Every query gets one answer, SERVFAIL at the worst.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::{Name, RecordType};
use rand::Rng;

use super::answer::{Answer, Strip};
use super::cache::Cache;
use super::counters::DeskCounters;
use super::flights::{Boarding, Flight, Flights, Ticket};
use super::message::{Key, Query, Question, Received, Via};
use super::names::{Names, is_in_range};
use super::special;
use super::suffixes::Suffixes;
use super::{DnsMode, DnsStrategy, FakeName};
use crate::proto::target;
use crate::proto::timers::Moment;

/// How queries are answered, and what may be held for it.
#[derive(Clone, Debug)]
pub struct DeskOptions {
    /// Who answers.
    pub mode: DnsMode,
    /// Which addresses apps are told of.
    pub strategy: DnsStrategy,
    /// Suffixes of names that are forwarded in any mode: `lan` is of `lan` and `a.lan`.
    pub exclude: Vec<String>,
    /// For all that is held: questions under way, what they leave for answers (which have an eighth besides), fake
    /// names.
    pub memory_bytes: usize,
}

/// Answers queries: at once, or when the resolver has answered. `T` is whom to answer.
///
/// Pure: a [`Resolver`](super::Resolver) is this with streams, a clock and a task. After each `handle_*` and
/// after [`set_options`](Self::set_options), [`poll_answer`](Self::poll_answer) and
/// [`poll_question`](Self::poll_question) are called until they have nothing more.
#[derive(Debug)]
pub struct Desk<T> {
    mode: DnsMode,
    strategy: DnsStrategy,
    exclude: Suffixes,
    cache: Cache,
    /// What the cache may hold however many questions are under way.
    cache_floor: usize,
    names: Names,
    flights: Flights<Waiter<T>>,
    answers: VecDeque<(T, Vec<u8>)>,
    counters: DeskCounters,
}

#[derive(Debug)]
struct Waiter<T> {
    client: T,
    query: Query,
    /// It waits for the other family's addresses: only if there are none its own question is asked.
    prefers_other: bool,
}

/// What a question comes to.
enum Fate {
    /// We know the answer.
    Local(Answer),
    /// The answer is an address of ours.
    Fake(Answer),
    Forward {
        strip: Strip,
        /// The addresses without which only the client gets those that it asks for.
        preferred: Option<RecordType>,
    },
}

impl<T> Desk<T> {
    /// A desk that gives out fake addresses from where `generator` says.
    pub fn new(options: DeskOptions, mut generator: impl Rng) -> Self {
        let mut desk = Self {
            mode: options.mode,
            strategy: options.strategy,
            exclude: Suffixes::default(),
            cache: Cache::new(0),
            cache_floor: 0,
            names: Names::new(0, &mut generator),
            flights: Flights::new(0),
            answers: VecDeque::new(),
            counters: DeskCounters::default(),
        };
        desk.set_options(options);
        desk
    }

    /// Answers queries so from now on. Fake names stay, the cache goes; what is under way is answered, but
    /// neither kept nor joined.
    pub fn set_options(&mut self, options: DeskOptions) {
        let DeskOptions { mode, strategy, exclude, memory_bytes } = options;
        let eighth = memory_bytes / 8;
        // Few questions are asked where most names are faked. A name that is forgotten cuts apps off.
        let (names, questions) = match mode {
            DnsMode::Forward => (3, 4),
            DnsMode::FakeIp => (5, 2),
        };
        self.mode = mode;
        self.strategy = strategy;
        self.exclude = Suffixes::new(exclude.iter().map(String::as_str));
        self.cache.clear();
        self.names.set_limit(names * eighth);
        self.flights.set_limit(questions * eighth);
        self.cache_floor = eighth;
        self.flights.close_boarding();
        self.make_room();
    }

    /// Lends the cache what questions do not hold.
    fn make_room(&mut self) {
        self.cache.set_limit(self.cache_floor + self.flights.free());
    }

    /// Takes a message from a client. It is answered once, SERVFAIL at the worst, unless it is no query at all: a
    /// response, or shorter than a header.
    pub fn handle_query(&mut self, query: &[u8], via: Via, client: T, now: Moment) {
        match via {
            Via::Udp => self.counters.udp_queries += 1,
            Via::Tcp => self.counters.tcp_queries += 1,
        }
        match Query::read(query, via) {
            Received::NoQuery => self.counters.malformed += 1,
            Received::Refused(query, code) => {
                let is_malformed = code == ResponseCode::FormErr;
                self.counters.malformed += u64::from(is_malformed);
                self.counters.local_answers += u64::from(!is_malformed);
                self.reply(client, &query, &Answer::of_code(code), 0);
            }
            Received::Asked(query, question) => match self.judge(&question) {
                Fate::Local(answer) => {
                    self.counters.local_answers += 1;
                    self.reply(client, &query, &answer, 0);
                }
                Fate::Fake(answer) => {
                    self.counters.fake_answers += 1;
                    self.reply(client, &query, &answer, 0);
                }
                Fate::Forward { strip, preferred } => {
                    let key = query.key();
                    let key = preferred.map_or_else(|| key.clone(), |kind| key.with_kind(kind));
                    let waiter = Waiter { client, query, prefers_other: preferred.is_some() };
                    self.forward(waiter, key, strip, now);
                }
            },
        }
    }

    /// An answer for a client.
    pub fn poll_answer(&mut self) -> Option<(T, Vec<u8>)> {
        self.answers.pop_front()
    }

    /// A question for the resolver. Its id is 0: the connection chooses.
    pub fn poll_question(&mut self) -> Option<(Ticket, Vec<u8>)> {
        self.flights.poll_question()
    }

    /// The resolver's answer, with whatever id; any bytes. Too late or unasked, it is ignored.
    pub fn handle_answer(&mut self, ticket: Ticket, answer: &[u8], now: Moment) {
        let Some(flight) = self.flights.land(ticket) else { return };
        let Some(answer) = Answer::read(answer, &flight.key, flight.strip) else {
            return self.fail(flight, now);
        };
        self.counters.resolve_times.add(now.since(flight.began));
        let answer = answer.into();
        if flight.is_current {
            self.make_room();
            self.cache.keep(flight.key, &answer, now);
        }
        for waiter in flight.waiters {
            self.deliver(waiter, &answer, 0, flight.strip, now);
        }
    }

    /// The resolver cannot be asked.
    pub fn handle_failure(&mut self, ticket: Ticket, now: Moment) {
        if let Some(flight) = self.flights.land(ticket) {
            self.fail(flight, now);
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due.
    pub fn poll_timeout(&self) -> Option<Moment> {
        self.flights.poll_timeout()
    }

    /// Gives up what has waited too long.
    pub fn handle_timeout(&mut self, now: Moment) {
        while let Some(flight) = self.flights.land_overdue(now) {
            flight.waiters.into_iter().for_each(|waiter| self.fail_waiter(waiter));
        }
    }

    /// What an address stands for; a name counts as used.
    pub fn fake_name(&mut self, address: IpAddr) -> FakeName {
        if self.is_fake(address) { self.names.name(address) } else { FakeName::NotFake }
    }

    /// Whether an address is one that stands for a name, known or not.
    pub fn is_fake(&self, address: IpAddr) -> bool {
        // Else it is of somebody's real benchmark network.
        let has_faked = self.mode == DnsMode::FakeIp || self.names.len() > 0;
        has_faked && is_in_range(address)
    }

    /// Forgets the resolver's answers.
    pub fn clear_cache(&mut self) {
        self.cache.clear();
    }

    /// What was counted so far, and what is held.
    pub fn counters(&self) -> DeskCounters {
        DeskCounters {
            cache_entries: self.cache.len(),
            cache_bytes: self.cache.bytes(),
            fake_names: self.names.len(),
            in_flight: self.flights.len(),
            waiting: self.flights.waiting(),
            held_bytes: self.cache.bytes() + self.names.bytes() + self.flights.bytes(),
            ..self.counters
        }
    }

    fn judge(&mut self, question: &Question) -> Fate {
        let (name, kind) = (&question.name, question.kind);
        let nothing = |code| Fate::Local(Answer::of_nothing(name, code));
        // RFC 6761, section 6.3: asked of nobody.
        if name.is_localhost() {
            return match kind {
                RecordType::A => Fate::Local(Answer::of_address(name, Ipv4Addr::LOCALHOST.into())),
                RecordType::AAAA => Fate::Local(Answer::of_address(name, Ipv6Addr::LOCALHOST.into())),
                _ => nothing(ResponseCode::NoError),
            };
        }
        if let Some(code) = special::code(name) {
            return nothing(code);
        }
        if kind == RecordType::PTR
            && let Some(address) = reverse_address(name)
        {
            match self.fake_name(address) {
                FakeName::NotFake => {}
                FakeName::Forgotten => return nothing(ResponseCode::NXDomain),
                FakeName::Name(target) => {
                    let target = Name::from_labels(target.as_str().split('.').map(str::as_bytes));
                    return target.map_or_else(
                        |_| nothing(ResponseCode::NXDomain),
                        |target| Fate::Local(Answer::of_pointer(name, target)),
                    );
                }
            }
        }
        let (left_out, preferred) = match (self.strategy, kind) {
            (DnsStrategy::Ipv4Only, _) => (Strip { ipv4: false, ipv6: true }, None),
            (DnsStrategy::Ipv6Only, _) => (Strip { ipv4: true, ipv6: false }, None),
            (DnsStrategy::PreferIpv4, RecordType::AAAA) => (Strip::default(), Some(RecordType::A)),
            (DnsStrategy::PreferIpv6, RecordType::A) => (Strip::default(), Some(RecordType::AAAA)),
            // Their hints of addresses are for clients that do not wait for the addresses themselves.
            (DnsStrategy::PreferIpv4, RecordType::HTTPS | RecordType::SVCB) => {
                (Strip { ipv4: false, ipv6: true }, None)
            }
            (DnsStrategy::PreferIpv6, RecordType::HTTPS | RecordType::SVCB) => {
                (Strip { ipv4: true, ipv6: false }, None)
            }
            (DnsStrategy::AsAsked | DnsStrategy::PreferIpv4 | DnsStrategy::PreferIpv6, _) => <_>::default(),
        };
        if left_out.has_kind(kind) {
            return nothing(ResponseCode::NoError);
        }
        let Some(text) = self.name_to_fake(name) else {
            return Fate::Forward { strip: left_out, preferred };
        };
        match kind {
            RecordType::A => {
                Fate::Fake(Answer::of_address(name, self.names.addresses(text.as_str()).0.into()))
            }
            RecordType::AAAA => {
                Fate::Fake(Answer::of_address(name, self.names.addresses(text.as_str()).1.into()))
            }
            _ => Fate::Forward { strip: Strip { ipv4: true, ipv6: true }, preferred: None },
        }
    }

    /// The name, if it has a fake address: one that is excluded has none, nor one that no server could be told,
    /// nor one that another network would know by other means than DNS.
    fn name_to_fake(&self, name: &Name) -> Option<target::Name> {
        if self.mode == DnsMode::Forward
            || special::is_never_faked(name)
            || name.iter().any(|label| label.contains(&b'.'))
        {
            return None;
        }
        let labels: Vec<&[u8]> = name.iter().collect();
        let text = target::Name::try_from(&*labels.join(&b'.').to_ascii_lowercase()).ok()?;
        (!self.exclude.match_name(text.as_str())).then_some(text)
    }

    fn forward(&mut self, waiter: Waiter<T>, key: Key, strip: Strip, now: Moment) {
        if let Some((answer, age)) = self.cache.answer(&key, now) {
            self.counters.cache_hits += 1;
            return self.deliver(waiter, &answer, age, strip, now);
        }
        let bytes = waiter.query.bytes() + size_of::<Waiter<T>>() - size_of::<Query>();
        match self.flights.board(key, strip, waiter, bytes, now) {
            Boarding::Joined => {
                self.counters.coalesced += 1;
                self.make_room();
            }
            Boarding::Opened => {
                self.counters.forwarded += 1;
                self.make_room();
            }
            Boarding::Full(waiter) => {
                self.counters.refused_overload += 1;
                self.reply(waiter.client, &waiter.query, &Answer::of_code(ResponseCode::ServFail), 0);
            }
        }
    }

    /// Answers, or asks the next question.
    fn deliver(&mut self, waiter: Waiter<T>, answer: &Answer, age: u32, strip: Strip, now: Moment) {
        let Waiter { client, query, prefers_other } = waiter;
        if !prefers_other {
            return self.reply(client, &query, answer, age);
        }
        if answer.code() == ResponseCode::NXDomain {
            return self.reply(client, &query, answer, age); // of any type
        }
        if !answer.has_data() {
            return self.forward_own(client, query, strip, now);
        }
        self.counters.local_answers += 1;
        let code = ResponseCode::NoError;
        let nothing =
            query.name().map_or_else(|| Answer::of_code(code), |name| Answer::of_nothing(&name, code));
        self.reply(client, &query, &nothing, 0);
    }

    /// Asks what the client asked, after the addresses that it should rather have.
    fn forward_own(&mut self, client: T, query: Query, strip: Strip, now: Moment) {
        let key = query.key();
        self.forward(Waiter { client, query, prefers_other: false }, key, strip, now);
    }

    fn fail(&mut self, flight: Flight<Waiter<T>>, now: Moment) {
        for waiter in flight.waiters {
            if waiter.prefers_other {
                self.forward_own(waiter.client, waiter.query, flight.strip, now);
            } else {
                self.fail_waiter(waiter);
            }
        }
    }

    /// Also one whose own question was not asked yet: when its five seconds are over, nobody listens any more.
    fn fail_waiter(&mut self, waiter: Waiter<T>) {
        self.counters.failures += 1;
        self.reply(waiter.client, &waiter.query, &Answer::of_code(ResponseCode::ServFail), 0);
    }

    fn reply(&mut self, client: T, query: &Query, answer: &Answer, age: u32) {
        let (message, truncated) = query.answer(answer, age);
        self.counters.truncated += u64::from(truncated);
        self.answers.push_back((client, message));
    }
}

/// The address that a name of `in-addr.arpa` or `ip6.arpa` is about.
fn reverse_address(name: &Name) -> Option<IpAddr> {
    let network = name.parse_arpa_name().ok()?;
    (network.prefix_len() == network.max_prefix_len()).then(|| network.addr())
}

#[cfg(test)]
mod tests;
