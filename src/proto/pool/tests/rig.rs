//! A pool with a simulated server under it, driven through virtual time.

use rand::SeedableRng;
use rand::rngs::StdRng;

use super::*;

/// How the simulated server behaves; may be changed at any time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Server {
    /// How long a dial takes; `None` for one that never returns.
    pub(super) dial: Option<Duration>,
    /// Whether dials succeed.
    pub(super) works: bool,
    /// How long it takes to answer a heartbeat or a stream; `None` for never.
    pub(super) answer: Option<Duration>,
    /// What dials measure.
    pub(super) round_trip: Duration,
    /// Whether it takes every stream on a shared session, at once. Otherwise the test says what becomes of it.
    pub(super) shares: bool,
}

impl Default for Server {
    fn default() -> Self {
        Self { dial: Some(ms(100)), works: true, answer: Some(ms(50)), round_trip: ms(50), shares: true }
    }
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    Did(Happening),
    Timeout,
    Dialed(SessionSeq),
    DialFailed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Happening {
    Dial,
    CancelDials,
    Grant(Ticket, SessionSeq, How),
    Fail(Ticket, Refusal),
    Beat(SessionSeq),
    Probe(SessionSeq),
    Close(SessionSeq, CloseReason),
}

/// In which state a session was granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum How {
    New,
    Reused,
    Shared,
}

#[derive(Clone, Copy, Debug)]
enum Coming {
    Dial(DialId),
    /// An answer, and whether a probe waits for it.
    Answer(SessionSeq, bool),
}

pub(super) struct Rig {
    pub(super) pool: Pool,
    pub(super) now: Moment,
    pub(super) server: Server,
    pub(super) conditions: Conditions,
    pub(super) pulses: BTreeMap<SessionSeq, Arc<Pulse>>,
    /// Everything that happened, and when.
    pub(super) log: Vec<(Moment, Seen)>,
    coming: Vec<(Moment, Coming)>,
    rng: StdRng,
}

impl Rig {
    pub(super) fn new(options: PoolOptions) -> Self {
        Self::with_server(options, Server::default())
    }

    pub(super) fn with_server(options: PoolOptions, server: Server) -> Self {
        let mut rig = Self {
            pool: Pool::new(options, START),
            now: START,
            server,
            conditions: Conditions::default(),
            pulses: BTreeMap::new(),
            log: Vec::new(),
            coming: Vec::new(),
            rng: StdRng::seed_from_u64(1),
        };
        rig.carry_out();
        rig
    }

    /// A pool of `count` sessions that are idle since now.
    pub(super) fn idle(options: PoolOptions, count: usize) -> Self {
        let mut rig = Self::new(options);
        let leases: Vec<_> = (0..count).map(|_| rig.lease()).collect();
        for seq in leases {
            rig.give_back(seq);
        }
        rig
    }

    /// Lets virtual time pass, doing what comes due on the way.
    pub(super) fn run(&mut self, span: Duration) {
        let end = self.now + span;
        loop {
            let coming = self.coming.iter().map(|&(at, _)| at).min();
            let Some(next) = earliest(self.pool.poll_timeout(), coming).filter(|&next| next <= end) else {
                break;
            };
            self.now = self.now.max(next);
            if coming.is_some_and(|at| at <= self.now) {
                self.arrive();
            }
            if self.pool.poll_timeout().is_some_and(|due| due <= self.now) {
                self.wake();
            }
        }
        self.now = end;
    }

    /// The phone sleeps through `span`: whatever was due comes all at once, in one wake-up.
    pub(super) fn sleep(&mut self, span: Duration) {
        self.now = self.now + span;
        self.arrive();
        if self.pool.poll_timeout().is_some_and(|due| due <= self.now) {
            self.wake();
        }
    }

    fn wake(&mut self) {
        self.log.push((self.now, Seen::Timeout));
        self.pool.handle_timeout(self.now);
        self.carry_out();
        let due = self.pool.poll_timeout();
        assert!(
            due.is_none_or(|due| due > self.now),
            "a timer at {:?} turns hot: {due:?}",
            self.since_start()
        );
    }

    pub(super) fn since_start(&self) -> Duration {
        self.now.since(START)
    }

    fn arrive(&mut self) {
        let now = self.now;
        let (due, later): (Vec<_>, Vec<_>) = self.coming.drain(..).partition(|&(at, _)| at <= now);
        self.coming = later;
        for (_, what) in due {
            match what {
                Coming::Dial(dial) => self.finish_dial(dial),
                Coming::Answer(seq, is_probe) => {
                    self.hear(seq);
                    self.pool.handle_proven(now);
                    if is_probe {
                        self.pool.handle_alive(seq, now);
                    }
                }
            }
            self.carry_out();
        }
    }

    fn finish_dial(&mut self, dial: DialId) {
        if !self.server.works {
            self.log.push((self.now, Seen::DialFailed));
            self.pool.handle_dial_failed(dial, self.now, &mut self.rng);
            return;
        }
        let pulse = Arc::new(Pulse::new(self.now));
        let round_trip = self.server.round_trip;
        let seq = self.pool.handle_dialed(dial, Arc::clone(&pulse), round_trip, self.now, &mut self.rng);
        if let Some(seq) = seq {
            self.pulses.insert(seq, pulse);
            self.log.push((self.now, Seen::Dialed(seq)));
        }
    }

    /// Does what the pool has decided.
    pub(super) fn carry_out(&mut self) {
        while let Some(action) = self.pool.poll_action() {
            let what = match action {
                Action::Dial(dial) => {
                    if let Some(time) = self.server.dial {
                        self.coming.push((self.now + time, Coming::Dial(dial)));
                    }
                    Happening::Dial
                }
                Action::CancelDials => {
                    self.coming.retain(|(_, what)| !matches!(what, Coming::Dial(_)));
                    Happening::CancelDials
                }
                Action::Grant { ticket, seq, reused, is_shared, .. } => {
                    self.expect_answer(seq, false);
                    if is_shared && self.server.shares {
                        self.pool.handle_shared(self.now);
                    }
                    let how = match (reused, is_shared) {
                        (true, true) => How::Shared,
                        (true, false) => How::Reused,
                        (false, false) => How::New,
                        (false, true) => panic!("{seq:?} is shared and yet new"),
                    };
                    Happening::Grant(ticket, seq, how)
                }
                Action::Fail { ticket, why } => Happening::Fail(ticket, why),
                Action::Beat(seq) => {
                    self.expect_answer(seq, false);
                    Happening::Beat(seq)
                }
                Action::Probe(seq) => {
                    self.expect_answer(seq, true);
                    Happening::Probe(seq)
                }
                Action::Close { seq, reason } => {
                    self.pulses.remove(&seq).unwrap_or_else(|| panic!("{seq:?} is closed, and is not there"));
                    Happening::Close(seq, reason)
                }
            };
            self.log.push((self.now, Seen::Did(what)));
        }
    }

    fn expect_answer(&mut self, seq: SessionSeq, is_probe: bool) {
        if let Some(time) = self.server.answer {
            self.coming.push((self.now + time, Coming::Answer(seq, is_probe)));
        }
    }

    /// The session hears something.
    pub(super) fn hear(&self, seq: SessionSeq) {
        if let Some(pulse) = self.pulses.get(&seq) {
            pulse.hear(self.now);
        }
    }

    pub(super) fn request(&mut self, want: Want) -> Ticket {
        let ticket = self.pool.request(want, self.now);
        self.carry_out();
        ticket
    }

    /// Requests one session, and waits until it is there.
    pub(super) fn lease(&mut self) -> SessionSeq {
        let ticket = self.request(Want::Any);
        self.run(secs(2));
        self.granted(ticket).unwrap_or_else(|| panic!("{ticket:?} was granted nothing: {:?}", self.log)).0
    }

    pub(super) fn give_back(&mut self, seq: SessionSeq) {
        self.pool.handle_returned(seq, self.now);
        self.carry_out();
    }

    pub(super) fn lose(&mut self, seq: SessionSeq, reason: SessionError) {
        self.pulses.remove(&seq);
        self.pool.handle_lost(seq, &reason, self.now);
        self.carry_out();
    }

    pub(super) fn set(&mut self, change: impl FnOnce(&mut Conditions)) {
        change(&mut self.conditions);
        self.pool.set_conditions(self.conditions, self.now);
        self.carry_out();
    }

    pub(super) fn set_power(&mut self, power: Power) {
        self.set(|conditions| conditions.power = power);
    }

    pub(super) fn change_path(&mut self, name: &str) {
        self.pool.handle_path_change(name, self.now);
        self.carry_out();
    }

    /// What the request was given, and how, if it was.
    pub(super) fn granted(&self, ticket: Ticket) -> Option<(SessionSeq, How)> {
        self.log.iter().find_map(|(_, seen)| match seen {
            Seen::Did(Happening::Grant(whose, seq, how)) if *whose == ticket => Some((*seq, *how)),
            _ => None,
        })
    }

    /// How the request failed, and how long after the start, if it did.
    pub(super) fn failed(&self, ticket: Ticket) -> Option<(Duration, Refusal)> {
        self.log.iter().find_map(|&(at, seen)| match seen {
            Seen::Did(Happening::Fail(whose, why)) if whose == ticket => Some((at.since(START), why)),
            _ => None,
        })
    }

    /// The moments of what `is_it` picks, as times since the start.
    pub(super) fn times(&self, is_it: impl Fn(&Seen) -> bool) -> Vec<Duration> {
        self.log.iter().filter(|(_, seen)| is_it(seen)).map(|(at, _)| at.since(START)).collect()
    }

    pub(super) fn dials(&self) -> usize {
        self.times(|seen| *seen == Seen::Did(Happening::Dial)).len()
    }

    pub(super) fn wakes(&self) -> usize {
        self.times(|seen| *seen == Seen::Timeout).len()
    }

    pub(super) fn closed(&self, why: CloseReason) -> Vec<u64> {
        let closed = self.log.iter().filter_map(|(_, seen)| match seen {
            Seen::Did(Happening::Close(seq, reason)) if *reason == why => Some(seq.0),
            _ => None,
        });
        closed.collect()
    }

    /// Who was asked for a heartbeat, by burst.
    pub(super) fn bursts(&self) -> Vec<(Duration, Vec<u64>)> {
        self.asked(|happening| match happening {
            Happening::Beat(seq) => Some(seq),
            _ => None,
        })
    }

    /// Who was asked whether they live, by moment.
    pub(super) fn probes(&self) -> Vec<(Duration, Vec<u64>)> {
        self.asked(|happening| match happening {
            Happening::Probe(seq) => Some(seq),
            _ => None,
        })
    }

    fn asked(&self, who: impl Fn(Happening) -> Option<SessionSeq>) -> Vec<(Duration, Vec<u64>)> {
        let mut moments: BTreeMap<Duration, Vec<u64>> = BTreeMap::new();
        for &(at, seen) in &self.log {
            if let Seen::Did(happening) = seen
                && let Some(seq) = who(happening)
            {
                moments.entry(at.since(START)).or_default().push(seq.0);
            }
        }
        moments.into_iter().collect()
    }

    pub(super) fn forget_log(&mut self) {
        self.log.clear();
    }
}
