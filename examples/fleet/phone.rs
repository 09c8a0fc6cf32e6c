//! One phone: the project's own pool, and around it what a runner, the network and some apps would do.
//!
//! This is how the pure pool is driven: tell it what happened, carry out its actions, ask when it wants to be
//! called again. `src/client/runner.rs` does the same with real connections.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anytls_mobile::proto::pool::{
    Action, Conditions, DialId, Pool, PoolOptions, Power, SessionSeq, Ticket, Want,
};
use anytls_mobile::proto::pulse::Pulse;
use anytls_mobile::proto::session::SessionError;
use anytls_mobile::proto::timers::{Moment, earliest};
use rand::Rng;

use crate::radio::{BEAT_BYTES, CLOSE_BYTES, Cause, DIAL_BYTES, Radio};
use crate::server::Server;

/// An app whose connection failed tries again after this long, and never gives up.
const INSISTENCE: Duration = Duration::from_secs(1);

/// A stream that lasts as long as the phone: the one that push messages come by.
pub const FOR_GOOD: Duration = Duration::MAX;

/// What happens to the phone from outside.
pub enum Event {
    /// The screen goes on or off, or the system falls asleep.
    Power(Power),
    /// An app opens a stream that lasts this long.
    Open(Duration),
    /// A message comes by the stream that stays open.
    Message,
    /// The server ends all its sessions.
    Restart,
    Dialed(DialId),
    DialFailed(DialId),
    Heard(SessionSeq),
    Alive(SessionSeq),
    Ended(SessionSeq),
    OwnBeat(SessionSeq),
}

/// What was seen of the phone.
#[derive(Default)]
pub struct Log {
    pub radio: Radio,
    pub dials: Vec<Moment>,
    /// When dials succeeded.
    pub dialed: Vec<Moment>,
    pub beats: u32,
    /// What keeping the sessions has sent and received; the streams' own bytes are not in it.
    pub bytes: u32,
    /// Streams that apps opened, and how many of these had no session at once.
    pub opened: u32,
    pub waited: u32,
    /// Times that the pool's timer fired, and how many of these with nothing to do.
    pub alarms: u32,
    pub vain_alarms: u32,
}

/// A session, as the runner and the server see it.
struct Session {
    pulse: Arc<Pulse>,
    /// Whether the server has said anything on it.
    proven: bool,
    /// How long the stream lasts that it carries.
    stream: Option<Duration>,
}

/// What differs between phones besides their pools.
#[derive(Clone, Copy)]
pub struct Surroundings {
    pub server: Server,
    pub round_trip: Duration,
    /// Instead of the pool's heartbeats, a timer of this interval for each session: what the pool avoids.
    pub own_timers: Option<Duration>,
}

/// A phone and all that is to happen to it.
pub struct Phone<R> {
    pool: Pool,
    rng: R,
    surroundings: Surroundings,
    power: Power,
    sessions: BTreeMap<SessionSeq, Session>,
    /// Apps that wait for a session, and how long their streams will last.
    asking: BTreeMap<Ticket, Duration>,
    /// What is to come. The number orders what comes at the same moment.
    coming: BTreeMap<(Moment, u64), Event>,
    scheduled: u64,
    now: Moment,
    /// When the pool wants to be called. As in a runner, it is asked only after it was told something: what
    /// sessions hear passes it by.
    alarm: Option<Moment>,
    pub log: Log,
}

impl<R: Rng> Phone<R> {
    pub fn new(options: PoolOptions, surroundings: Surroundings, rng: R, born: Moment) -> Self {
        let mut phone = Self {
            pool: Pool::new(options, born),
            rng,
            surroundings,
            power: Power::Interactive,
            sessions: BTreeMap::new(),
            asking: BTreeMap::new(),
            coming: BTreeMap::new(),
            scheduled: 0,
            now: born,
            alarm: None,
            log: Log::default(),
        };
        phone.carry_out();
        phone
    }

    pub fn schedule(&mut self, at: Moment, event: Event) {
        self.scheduled += 1;
        self.coming.insert((at, self.scheduled), event);
    }

    /// Lives until then.
    pub fn run(&mut self, until: Moment) {
        loop {
            let next = self.coming.first_key_value().map(|(&(at, _), _)| at);
            let Some(due) = earliest(next, self.alarm).filter(|&due| due < until) else { return };
            self.now = self.now.max(due);
            if self.alarm == Some(due) {
                self.pool.handle_timeout(self.now);
                self.log.alarms += 1;
                self.log.vain_alarms += u32::from(self.carry_out() == 0);
                assert!(self.alarm != Some(due), "the pool is late for ever: {:?}", self.pool);
            } else if let Some((_, event)) = self.coming.pop_first() {
                self.handle(event);
            }
        }
    }

    fn handle(&mut self, event: Event) {
        let now = self.now;
        match event {
            Event::Power(power) => {
                self.power = power;
                self.pool.set_conditions(Conditions { power, ..Conditions::default() }, now);
            }
            Event::Open(lasts) => return self.open(lasts),
            Event::Message => return self.receive_message(),
            Event::Restart => return self.lose_all(),
            Event::Dialed(dial) => self.handle_dialed(dial),
            Event::DialFailed(dial) => self.pool.handle_dial_failed(dial, now, &mut self.rng),
            Event::Heard(seq) => return self.hear(seq), // the pool finds it in the pulse
            Event::Alive(seq) => {
                self.hear(seq);
                self.pool.handle_alive(seq, now);
            }
            Event::Ended(seq) => {
                let Some(session) = self.sessions.get_mut(&seq) else { return };
                session.stream = None;
                self.log.radio.transmit(Cause::App, now);
                self.pool.handle_returned(seq, now);
            }
            Event::OwnBeat(seq) => return self.beat_alone(seq),
        }
        self.carry_out();
    }

    /// Does what the pool has decided; gives how much that was.
    fn carry_out(&mut self) -> usize {
        let (now, round_trip) = (self.now, self.surroundings.round_trip);
        let mut count = 0;
        while let Some(action) = self.pool.poll_action() {
            count += 1;
            match action {
                Action::Dial(dial) => self.dial(dial),
                Action::CancelDials => {} // the pool knows them no more when they end
                Action::Grant { ticket, seq, .. } => self.start_stream(ticket, seq),
                Action::Fail { ticket, .. } => {
                    if let Some(lasts) = self.asking.remove(&ticket) {
                        self.schedule(now + INSISTENCE, Event::Open(lasts));
                    }
                }
                Action::Beat(seq) => {
                    self.send_beat(Cause::Beat);
                    self.schedule(now + round_trip, Event::Heard(seq));
                }
                Action::Probe(seq) => {
                    self.send_beat(Cause::App); // who waits for the session
                    self.schedule(now + round_trip, Event::Alive(seq));
                }
                Action::Close { seq, .. } => {
                    self.log.radio.transmit(Cause::Close, now);
                    self.log.bytes += CLOSE_BYTES;
                    self.sessions.remove(&seq);
                }
            }
        }
        self.alarm = self.pool.poll_timeout();
        count
    }

    fn dial(&mut self, dial: DialId) {
        let (now, round_trip) = (self.now, self.surroundings.round_trip);
        self.log.dials.push(now);
        self.log.radio.transmit(Cause::Dial, now);
        self.log.bytes += DIAL_BYTES;
        if self.surroundings.server.accepts(now) {
            self.schedule(now + round_trip * 2, Event::Dialed(dial)); // TCP, TLS 1.3
        } else {
            self.schedule(now + round_trip, Event::DialFailed(dial));
        }
    }

    fn handle_dialed(&mut self, dial: DialId) {
        let (now, pulse) = (self.now, Arc::new(Pulse::new(self.now)));
        self.log.dialed.push(now);
        let round_trip = self.surroundings.round_trip;
        let seq = self.pool.handle_dialed(dial, Arc::clone(&pulse), round_trip, now, &mut self.rng);
        let Some(seq) = seq else { return };
        self.sessions.insert(seq, Session { pulse, proven: false, stream: None });
        if let Some(interval) = self.surroundings.own_timers {
            self.schedule(now + interval, Event::OwnBeat(seq));
        }
    }

    fn open(&mut self, lasts: Duration) {
        let ticket = self.pool.request(Want::Any, self.now);
        self.asking.insert(ticket, lasts);
        self.carry_out();
        self.log.opened += 1;
        self.log.waited += u32::from(self.asking.contains_key(&ticket));
    }

    fn start_stream(&mut self, ticket: Ticket, seq: SessionSeq) {
        let Some(lasts) = self.asking.remove(&ticket) else { return };
        let Some(session) = self.sessions.get_mut(&seq) else { return };
        session.stream = Some(lasts);
        self.log.radio.transmit(Cause::App, self.now);
        self.schedule(self.now + self.surroundings.round_trip, Event::Heard(seq));
        self.schedule(self.now + lasts, Event::Ended(seq));
    }

    fn receive_message(&mut self) {
        let held = self.sessions.values().find(|session| session.stream == Some(FOR_GOOD));
        if let Some(session) = held {
            session.pulse.hear(self.now);
            self.log.radio.transmit(Cause::App, self.now);
        }
    }

    fn hear(&mut self, seq: SessionSeq) {
        let Some(session) = self.sessions.get_mut(&seq) else { return };
        session.pulse.hear(self.now);
        self.log.radio.transmit(Cause::App, self.now);
        if !std::mem::replace(&mut session.proven, true) {
            self.pool.handle_proven(self.now);
            self.carry_out();
        }
    }

    fn send_beat(&mut self, cause: Cause) {
        self.log.beats += 1;
        self.log.bytes += BEAT_BYTES;
        self.log.radio.transmit(cause, self.now);
    }

    /// A timer of the session's own knows nothing of the others, nor of what the session has heard.
    fn beat_alone(&mut self, seq: SessionSeq) {
        let Some(interval) = self.surroundings.own_timers else { return };
        if !self.sessions.contains_key(&seq) {
            return;
        }
        if !matches!(self.power, Power::Doze | Power::Sleeping) {
            self.send_beat(Cause::Beat);
            self.schedule(self.now + self.surroundings.round_trip, Event::Heard(seq));
        }
        self.schedule(self.now + interval, Event::OwnBeat(seq));
    }

    /// Apps whose streams have broken open them again.
    fn lose_all(&mut self) {
        let lost = std::mem::take(&mut self.sessions);
        for &seq in lost.keys() {
            self.pool.handle_lost(seq, &SessionError::EndedByPeer, self.now);
        }
        self.carry_out();
        for lasts in lost.values().filter_map(|session| session.stream) {
            self.open(lasts);
        }
    }
}
