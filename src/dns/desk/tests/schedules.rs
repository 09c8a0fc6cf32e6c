//! Random schedules: every client is answered once, and nothing grows.

use rand::RngExt;

use super::*;

const SEEDS: u64 = 400;
const STEPS: usize = 400;

const MODES: [DnsMode; 2] = [DnsMode::Forward, DnsMode::FakeIp];
const STRATEGIES: [DnsStrategy; 5] = [
    DnsStrategy::AsAsked,
    DnsStrategy::PreferIpv4,
    DnsStrategy::PreferIpv6,
    DnsStrategy::Ipv4Only,
    DnsStrategy::Ipv6Only,
];
const KINDS: [RecordType; 4] = [RecordType::A, RecordType::AAAA, RecordType::HTTPS, RecordType::MX];

struct Schedule {
    seed: u64,
    rng: StdRng,
    rig: Rig,
    /// When each client that waits has asked.
    waiting: BTreeMap<u32, Moment>,
    asked: Vec<(Ticket, Vec<u8>)>,
    ended: Vec<Ticket>,
}

#[test]
fn every_client_is_answered_once_and_in_time() {
    for seed in 0..SEEDS {
        let mut rng = StdRng::seed_from_u64(seed);
        let options = random_options(&mut rng);
        let (waiting, asked, ended) = <_>::default();
        let mut schedule = Schedule { seed, rng, rig: Rig::with(options), waiting, asked, ended };
        for _ in 0..STEPS {
            schedule.step();
            schedule.settle();
        }
        for _ in 0..2 {
            schedule.rig.wait(5);
            schedule.rig.desk.handle_timeout(schedule.rig.now);
            schedule.settle();
        }
        assert!(schedule.waiting.is_empty(), "seed {seed}: {:?} wait", schedule.waiting);
        assert_eq!(schedule.rig.desk.flights.bytes(), 0, "seed {seed}");
        let counters = schedule.rig.desk.counters();
        assert_eq!((counters.in_flight, counters.waiting), (0, 0), "seed {seed}");
    }
}

fn random_options(rng: &mut StdRng) -> DeskOptions {
    let mode = MODES[rng.random_range(0..MODES.len())];
    let strategy = STRATEGIES[rng.random_range(0..STRATEGIES.len())];
    let memory_bytes = [16 << 10, 64 << 10, 1 << 20][rng.random_range(0..3)];
    DeskOptions { memory_bytes, ..options(mode, strategy) }
}

impl Schedule {
    fn step(&mut self) {
        let now = self.rig.now;
        match self.rng.random_range(0..20) {
            0..8 => {
                let suffix = ["example", "lan"][self.rng.random_range(0..2)];
                let text = format!("{}.{suffix}", self.rng.random_range(0..40));
                let asked = query(&text, KINDS[self.rng.random_range(0..KINDS.len())]);
                let asked = if self.rng.random() { with_edns(asked, 1232, self.rng.random()) } else { asked };
                let via = if self.rng.random() { Via::Udp } else { Via::Tcp };
                let client = self.rig.send_via(&asked, via);
                self.waiting.insert(client, now);
            }
            8..13 => self.answer(),
            13 => {
                if let Some((ticket, _)) = self.take_asked() {
                    self.rig.desk.handle_failure(ticket, now);
                }
            }
            14 => {
                if let Some((ticket, _)) = self.take_asked() {
                    let length = self.rng.random_range(0..60);
                    let junk: Vec<u8> = (0..length).map(|_| self.rng.random()).collect();
                    self.rig.desk.handle_answer(ticket, &junk, now);
                }
            }
            15 => {
                if !self.ended.is_empty() {
                    let ticket = self.ended[self.rng.random_range(0..self.ended.len())];
                    self.rig.desk.handle_answer(ticket, &[0; 40], now);
                    self.rig.desk.handle_failure(ticket, now);
                    assert!(self.rig.desk.poll_answer().is_none(), "seed {}: answered again", self.seed);
                }
            }
            16 | 17 => {
                self.rig.now = now + Duration::from_millis(self.rng.random_range(0..3_000));
                if self.rig.desk.poll_timeout().is_some_and(|due| due <= self.rig.now) {
                    self.rig.desk.handle_timeout(self.rig.now);
                }
            }
            18 if self.rng.random_range(0..5) == 0 => {
                let options = random_options(&mut self.rng);
                self.rig.desk.set_options(options);
            }
            _ => {
                if self.rng.random_range(0..10) == 0 {
                    self.rig.desk.clear_cache();
                }
            }
        }
    }

    fn take_asked(&mut self) -> Option<(Ticket, Vec<u8>)> {
        if self.asked.is_empty() {
            return None;
        }
        let taken = self.asked.swap_remove(self.rng.random_range(0..self.asked.len()));
        self.ended.push(taken.0);
        Some(taken)
    }

    fn answer(&mut self) {
        let Some((ticket, question)) = self.take_asked() else { return };
        let question = Message::from_vec(&question).expect("a message");
        let kind = question.queries[0].query_type();
        let text = question.queries[0].name().to_ascii();
        let has_some = self.rng.random_range(0..3) > 0;
        let answer = answer_to(&question, |answer| match kind {
            RecordType::A if has_some => _ = answer.add_answer(a(&text, 5)),
            RecordType::AAAA if has_some => _ = answer.add_answer(aaaa(&text, 5)),
            RecordType::HTTPS if has_some => _ = answer.add_answer(forwarding::https(&text)),
            _ => _ = answer.add_authority(soa("example", 5, 5)),
        });
        self.rig.desk.handle_answer(ticket, &answer, self.rig.now);
    }

    fn settle(&mut self) {
        let seed = self.seed;
        for (client, answer) in std::iter::from_fn(|| self.rig.desk.poll_answer()) {
            assert!(self.waiting.remove(&client).is_some(), "seed {seed}: {client} answered again");
            let answer = Message::from_vec(&answer).expect("a message");
            assert_eq!(answer.id, 4711, "seed {seed}");
        }
        self.asked.extend(std::iter::from_fn(|| self.rig.desk.poll_question()));
        let now = self.rig.now;
        if self.rig.desk.poll_timeout().is_none_or(|due| due > now) {
            // Two questions at most, the second asked within the first one's five seconds.
            let late = self.waiting.values().find(|&&since| now.since(since) > Duration::from_secs(10));
            assert_eq!(late, None, "seed {seed}");
        }
        assert_eq!(self.rig.desk.counters().waiting, self.waiting.len(), "seed {seed}");
    }
}

#[test]
fn a_flood_of_names_keeps_everything_within_its_bounds() {
    for mode in MODES {
        let memory_bytes = 128 << 10;
        let mut rig = Rig::with(DeskOptions { memory_bytes, ..options(mode, DnsStrategy::AsAsked) });
        for number in 0..50_000_u32 {
            let asked = query(&format!("{number}.example"), KINDS[number as usize % KINDS.len()]);
            rig.send(&asked);
            while rig.desk.poll_answer().is_some() {}
            if number % 3 == 0
                && let Some((ticket, question)) = rig.desk.poll_question()
            {
                let question = Message::from_vec(&question).expect("a message");
                let answer =
                    answer_to(&question, |answer| _ = answer.add_authority(soa("example", 900, 900)));
                rig.desk.handle_answer(ticket, &answer, rig.now);
            }
            let held = rig.desk.cache.bytes() + rig.desk.names.bytes() + rig.desk.flights.bytes();
            assert!(held <= memory_bytes, "{held}");
        }
        let counters = rig.desk.counters();
        assert!(counters.refused_overload > 0 && counters.cache_entries > 50, "{counters:?}");
        assert_eq!(counters.fake_names > 50, mode == DnsMode::FakeIp);
    }
}

#[test]
fn a_flood_of_one_question_keeps_everything_within_its_bounds() {
    let memory_bytes = 128 << 10;
    let mut rig = Rig::with(DeskOptions { memory_bytes, ..options(DnsMode::FakeIp, DnsStrategy::AsAsked) });
    for number in 0..1_000 {
        let text = format!("{number}.example");
        rig.ask(&query(&text, RecordType::A));
        rig.resolve(&query(&text, RecordType::MX), |answer| {
            _ = answer.add_authority(soa("example", 900, 900))
        });
    }
    let asked = query("one.example", RecordType::MX);
    while rig.desk.counters().refused_overload == 0 {
        rig.send(&asked);
        let counters = rig.desk.counters();
        assert!(counters.held_bytes <= memory_bytes, "{counters:?}");
    }
}
