//! A book-keeper that knows the rules and not how the pool keeps them.

use super::*;

/// What the book-keeper knows of one session.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) pulse: Arc<Pulse>,
    pub(super) streams: usize,
    used: bool,
    born: Moment,
    since: Moment,
    shortest_life: Option<Duration>,
    is_stranded: bool,
    /// When it was asked last, be it a beat or a probe.
    asked: Moment,
    probed: Option<Moment>,
    /// A burst may have passed it over, so that nobody knows here when it is due.
    pub(super) was_mute: bool,
}

/// What has happened in the step that is judged.
#[derive(Debug, Default)]
pub(super) struct Step {
    /// The number and the name, for whoever reads of a failure.
    pub(super) number: usize,
    pub(super) name: &'static str,
    pub(super) returned: Option<SessionSeq>,
    pub(super) alive: Option<SessionSeq>,
    pub(super) has_failed_dial: bool,
    pub(super) changes_path: bool,
}

#[derive(Debug)]
pub(super) struct Oracle {
    pub(super) seed: u64,
    pub(super) now: Moment,
    pub(super) options: PoolOptions,
    pub(super) conditions: Conditions,
    pub(super) sessions: BTreeMap<SessionSeq, Known>,
    pub(super) dials: BTreeSet<DialId>,
    pub(super) waiting: BTreeMap<Ticket, (Want, Moment)>,
    pub(super) can_share: bool,
    pub(super) is_closed: bool,
    pub(super) step: Step,
    /// Dials failed in a row, those counted once that may have been under way together, and when the last
    /// one did.
    pub(super) failures: u32,
    pub(super) failed_at: Moment,
    /// The same, each counted.
    failures_at_most: u32,
    failed_last: Moment,
    /// False once a failure may have been counted or not.
    pub(super) is_pause_known: bool,
    closed: Closed,
    shared: u64,
    bursts: u64,
    pub(super) beats: u64,
    /// Dials ahead in one interval of the checks, which is over at the moment beside it.
    pub(super) ahead: (Moment, usize),
    /// When a session was asked last for the sake of somebody who waits, or of all.
    last_probe: Moment,
}

macro_rules! check {
    ($oracle:expr, $holds:expr, $($text:tt)+) => {
        assert!($holds, "seed {}, step {} ({}): {}", $oracle.seed, $oracle.step.number, $oracle.step.name, format_args!($($text)+))
    };
}

impl Oracle {
    pub(super) fn new(seed: u64, options: PoolOptions) -> Self {
        Self {
            seed,
            now: START,
            options,
            conditions: Conditions::default(),
            sessions: BTreeMap::new(),
            dials: BTreeSet::new(),
            waiting: BTreeMap::new(),
            can_share: true,
            is_closed: false,
            step: Step::default(),
            failures: 0,
            failed_at: START,
            failures_at_most: 0,
            is_pause_known: true,
            failed_last: START,
            closed: Closed::default(),
            shared: 0,
            bursts: 0,
            beats: 0,
            ahead: (START, 0),
            last_probe: Moment::default(),
        }
    }

    pub(super) fn note_dialed(&mut self, seq: SessionSeq, pulse: Arc<Pulse>) {
        let PoolOptions { max_connection_lifetime, connection_lifetime_jitter, .. } = self.options;
        let lifetime = (!max_connection_lifetime.is_zero())
            .then(|| max_connection_lifetime.saturating_sub(connection_lifetime_jitter));
        let known = Known {
            pulse,
            streams: 0,
            used: false,
            born: self.now,
            since: self.now,
            shortest_life: lifetime,
            is_stranded: false,
            asked: self.now,
            probed: None,
            was_mute: false,
        };
        let before = self.sessions.insert(seq, known);
        check!(self, before.is_none(), "{seq:?} is given out twice");
    }

    pub(super) fn note_lost(&mut self, seq: SessionSeq, reason: &SessionError) {
        self.sessions.remove(&seq);
        let counter = match reason {
            SessionError::Closed => &mut self.closed.shutdown,
            SessionError::EndedByPeer | SessionError::Alert(_) => &mut self.closed.by_server,
            SessionError::Rejected => &mut self.closed.rejected,
            SessionError::Lost(_) => &mut self.closed.broken,
            SessionError::NoAnswer => &mut self.closed.no_answer,
            SessionError::Violation(_) => &mut self.closed.violation,
        };
        *counter += 1;
    }

    pub(super) fn note_failed_dial(&mut self) {
        let (failures, pause) = (self.failures, self.longest_pause());
        self.failures_at_most += 1;
        self.failed_last = self.now;
        // Within the pause that a failure has caused, others say nothing new; how long it was is random.
        let rested = self.now.since(self.failed_at);
        if failures == 0 || rested >= pause {
            (self.failures, self.failed_at) = (failures + 1, self.now);
        } else if rested >= pause / 2 {
            self.is_pause_known = false;
        }
        self.step.has_failed_dial = true;
    }

    pub(super) fn note_new_network(&mut self) {
        (self.failures, self.failures_at_most, self.is_pause_known) = (0, 0, true);
        self.ahead.1 = 0;
        self.step.changes_path = true;
    }

    pub(super) fn note_stranded(&mut self) {
        for known in self.sessions.values_mut() {
            known.is_stranded = true;
        }
    }

    fn idle(&self) -> impl Iterator<Item = (&SessionSeq, &Known)> {
        self.sessions.iter().filter(|(_, known)| known.streams == 0)
    }

    /// The pause after the failures so far, were no part of it taken off.
    fn longest_pause(&self) -> Duration {
        secs(1 << self.failures.saturating_sub(1).min(6)).min(secs(60))
    }

    fn is_full(&self) -> bool {
        let most = self.options.max_sessions;
        let here = self.sessions.values().filter(|known| !known.is_stranded).count();
        most > 0 && here + self.dials.len() >= most
    }

    fn ensured(&self) -> usize {
        let Conditions { power, is_online, is_memory_short } = self.conditions;
        let interactive = self.options.ensure_idle_session;
        match power {
            _ if !is_online || is_memory_short => 0,
            Power::Interactive => interactive,
            Power::Background => self.options.ensure_idle_session_background.unwrap_or(interactive),
            Power::Doze | Power::Sleeping => 0,
        }
    }

    /// The shortest and the longest heartbeat interval that there may be now; `None` for no beats.
    fn interval(&self) -> Option<(Duration, Duration)> {
        let interactive = match self.options.heartbeat {
            Heartbeat::Off => None,
            Heartbeat::Every(interval) => Some((interval, interval)),
            Heartbeat::Auto => Some((secs(30), secs(900))),
        };
        match (self.conditions.power, self.options.heartbeat_background) {
            _ if !self.conditions.is_online => None,
            (Power::Interactive, _) | (Power::Background, None) => interactive,
            (Power::Background, Some(interval)) => (!interval.is_zero()).then_some((interval, interval)),
            (Power::Doze | Power::Sleeping, _) => None,
        }
    }

    /// Judges one thing that the pool wants done, and takes it for done.
    pub(super) fn handle_action(&mut self, action: &Action) {
        match *action {
            Action::Dial(dial) => self.judge_dial(dial),
            Action::CancelDials => {
                let is_due = self.is_closed || self.step.changes_path || !self.conditions.is_online;
                check!(self, is_due && !self.dials.is_empty(), "dials are cancelled");
                self.dials.clear();
            }
            Action::Grant { ticket, seq, reused, is_shared, .. } => {
                self.judge_grant(ticket, seq, reused, is_shared)
            }
            Action::Fail { ticket, why } => self.judge_failure(ticket, why),
            Action::Beat(seq) => self.judge_beat(seq),
            Action::Probe(seq) => {
                check!(self, self.conditions.is_online && !self.is_closed, "{seq:?} is probed");
                self.last_probe = self.now;
                let Some(known) = self.sessions.get_mut(&seq) else { panic!("seed {}: {seq:?}", self.seed) };
                known.probed = Some(self.now);
                if self.step.changes_path {
                    known.asked = self.now;
                }
            }
            Action::Close { seq, reason } => self.judge_close(seq, reason),
        }
    }

    fn judge_dial(&mut self, dial: DialId) {
        check!(self, self.conditions.is_online && !self.is_closed, "a dial without a network");
        check!(self, !self.is_full(), "a dial beyond {} sessions", self.options.max_sessions);
        check!(self, self.dials.insert(dial), "{dial:?} twice");
        let is_good = |known: &Known| {
            let is_doubted = known.probed.is_some_and(|probed| known.pulse.heard() <= probed + ms(1_500));
            let is_old = known.shortest_life.is_some_and(|life| self.now.since(known.born) >= life);
            !is_doubted && !is_old
        };
        let good = self.idle().filter(|(_, known)| is_good(known)).count();
        let allowed = self.waiting.len() + self.ensured().saturating_sub(good);
        check!(self, self.dials.len() <= allowed, "{} dials where {allowed} are wanted", self.dials.len());
        if self.failures > 0 {
            let pause = self.longest_pause();
            let rested = self.now.since(self.failed_at);
            check!(self, self.dials.len() == 1, "{} dials to a failing server", self.dials.len());
            let is_right = rested >= pause / 2 || !self.is_pause_known;
            check!(self, is_right, "{rested:?} after failure {}", self.failures);
        }
        if self.dials.len() > self.waiting.len() {
            self.judge_rate();
        }
    }

    /// A dial that nobody waits for: so many an interval, and as many again where its check came late.
    fn judge_rate(&mut self) {
        if self.now > self.ahead.0 {
            let interval = self.options.idle_session_check_interval.as_nanos();
            let end = (self.now.since(START).as_nanos() / interval + 1) * interval;
            self.ahead = (START + Duration::from_nanos(u64::try_from(end).expect("small") - 1), 0);
        }
        self.ahead.1 += 1;
        let rate = self.options.ensure_idle_session_create_rate;
        check!(self, rate == 0 || self.ahead.1 <= 2 * rate, "{} dials ahead of {rate}", self.ahead.1);
    }

    fn judge_grant(&mut self, ticket: Ticket, seq: SessionSeq, reused: bool, is_shared: bool) {
        let waiting = self.waiting.remove(&ticket);
        check!(self, waiting.is_some(), "{ticket:?} is granted and does not wait");
        let Some((want, _)) = waiting else { return };
        check!(self, self.conditions.is_online && !self.is_closed, "granted without a network");
        let (is_full, can_share, now) = (self.is_full(), self.can_share, self.now);
        let longest = match self.options.heartbeat {
            Heartbeat::Off => None,
            Heartbeat::Every(interval) => Some(interval),
            Heartbeat::Auto => Some(secs(900)),
        };
        let allowed =
            self.interval().map(|(_, longest)| longest).or(longest).map(|interval| interval + secs(4));
        let least = self.sessions.values().filter(|known| known.streams > 0 && !known.is_stranded);
        let least = least.map(|known| (!known.pulse.is_read(), known.streams)).min();
        let is_alive = self.step.alive == Some(seq);
        check!(self, self.sessions.contains_key(&seq), "{seq:?} is granted and is not there");
        let Some(known) = self.sessions.get(&seq) else { return };
        check!(self, is_shared == (known.streams > 0), "{seq:?}: shared {is_shared} with {}", known.streams);
        check!(self, reused == known.used, "{seq:?}: reused {reused}");
        check!(self, want != Want::Fresh || !known.used, "{seq:?} is not fresh");
        check!(self, !known.is_stranded, "{seq:?} was made on another network");
        if is_shared {
            check!(self, want == Want::Any && is_full && can_share, "{seq:?} is shared: {want:?}");
            let load = (!known.pulse.is_read(), known.streams);
            check!(self, Some(load) == least, "{seq:?} is not the least loaded");
        } else {
            let silence = now.since(known.pulse.heard());
            let is_trusted = is_alive || allowed.is_none_or(|allowed| silence <= allowed);
            check!(self, is_trusted, "{seq:?} was silent for {silence:?}");
        }
        self.shared += u64::from(is_shared);
        if let Some(known) = self.sessions.get_mut(&seq) {
            (known.used, known.probed) = (true, None);
            known.streams += 1;
        }
    }

    fn judge_failure(&mut self, ticket: Ticket, why: Refusal) {
        let waiting = self.waiting.remove(&ticket);
        check!(self, waiting.is_some(), "{ticket:?} fails and does not wait");
        let Some((_, since)) = waiting else { return };
        let is_patient = self.now.since(since) >= secs(10);
        let is_right = match why {
            Refusal::Dial => {
                let is_hopeless = self.failures_at_most > 4 && self.now.since(self.failed_last) < secs(50);
                self.step.has_failed_dial || is_hopeless
            }
            Refusal::Offline => !self.conditions.is_online && is_patient,
            Refusal::Busy => self.conditions.is_online && is_patient && self.is_full(),
            Refusal::Closed => self.is_closed,
        };
        check!(self, is_right, "{ticket:?} fails after {:?} for {why:?}", self.now.since(since));
    }

    fn judge_beat(&mut self, seq: SessionSeq) {
        let interval = self.interval();
        check!(self, interval.is_some() && !self.is_closed, "{seq:?} beats though nobody does");
        check!(self, self.sessions.contains_key(&seq), "{seq:?} beats and is not there");
        let newer = self.idle().filter(|(other, _)| **other > seq).count();
        let kept = self.ensured();
        let (Some((shortest, _)), Some(known)) = (interval, self.sessions.get(&seq)) else { return };
        let silence = self.now.since(known.pulse.heard().max(known.asked));
        // The answer to a beat, which puts nothing off, may have come an eighth later.
        let is_due = silence >= shortest * 3 / 8;
        let is_verified = self.failures > 0 && known.born == self.now && known.streams == 0;
        check!(self, is_due || is_verified, "{seq:?} beats after {silence:?}");
        check!(self, known.pulse.is_read() && known.pulse.answers(), "{seq:?} beats and cannot answer");
        let takes_part = known.streams > 0 || self.conditions.power == Power::Interactive || newer < kept;
        check!(self, takes_part, "{seq:?} beats in the background");
        self.beats += 1;
        if let Some(known) = self.sessions.get_mut(&seq) {
            known.asked = self.now;
        }
    }

    fn judge_close(&mut self, seq: SessionSeq, reason: CloseReason) {
        let (was_full, now) = (self.is_full(), self.now);
        let known = self.sessions.remove(&seq);
        check!(self, known.is_some(), "{seq:?} is closed and is not there");
        let Some(known) = known else { return };
        check!(self, known.streams == 0, "{seq:?} is closed with {} streams", known.streams);
        let newer = self.idle().filter(|(other, _)| **other > seq).count();
        let left = self.idle().count();
        let options = &self.options;
        let is_returned = self.step.returned == Some(seq);
        let (is_right, counter) = match reason {
            CloseReason::IdleTimeout => {
                let timeout = options.idle_session_timeout;
                let is_late = !timeout.is_zero() && now.since(known.since) > timeout;
                let kept = options.min_idle_session.max(self.ensured());
                (is_late && newer >= kept, &mut self.closed.idle_timeout)
            }
            CloseReason::Age => {
                let is_old = known.shortest_life.is_some_and(|life| now.since(known.born) >= life);
                let is_replaced = left >= self.ensured() || was_full;
                let is_kept = left >= options.min_idle_session_for_age;
                (is_old && is_kept && is_replaced, &mut self.closed.age)
            }
            CloseReason::ServerIdleLimit => {
                (self.closed.by_server + self.closed.broken >= 3, &mut self.closed.server_idle_limit)
            }
            CloseReason::NoReuse => (is_returned && !options.reuse, &mut self.closed.no_reuse),
            CloseReason::PathChange => {
                (self.step.changes_path || known.is_stranded && is_returned, &mut self.closed.path_change)
            }
            CloseReason::Memory => (self.conditions.is_memory_short, &mut self.closed.memory),
            CloseReason::MakeRoom => (was_full && !self.waiting.is_empty(), &mut self.closed.memory),
            CloseReason::Shutdown => (self.is_closed, &mut self.closed.shutdown),
        };
        *counter += 1;
        check!(self, is_right, "{seq:?} is closed for {reason:?}, {left} are left");
    }

    /// Judges the pool at the end of a step.
    pub(super) fn judge(&mut self, pool: &Pool) {
        let idle = self.idle().count();
        let counted = (pool.idle_count(), pool.leased_count(), pool.dialing_count());
        let expected = (idle, self.sessions.len() - idle, self.dials.len());
        check!(self, counted == expected, "idle, leased, dialling: {counted:?}, not {expected:?}");
        self.bursts += u64::from(std::mem::take(&mut self.beats) > 0);
        let counters = pool.counters();
        check!(self, counters.closed == self.closed, "{:?} not {:?}", counters.closed, self.closed);
        check!(self, counters.shared == self.shared, "{} shared", counters.shared);
        check!(self, counters.bursts == self.bursts, "{} bursts not {}", counters.bursts, self.bursts);

        let due = pool.poll_timeout();
        check!(self, due.is_none_or(|due| due > self.now), "a hot loop: {:?}", self.now);
        let probing = self.now.since(self.last_probe) <= ms(1_500);
        let is_quiet = match self.conditions.power {
            Power::Interactive | Power::Background => !self.conditions.is_online || self.is_closed,
            Power::Doze | Power::Sleeping => true,
        };
        if is_quiet && self.waiting.is_empty() && !probing {
            check!(self, due.is_none(), "a timer for nobody: {:?}", due.map(|due| due.since(self.now)));
        }
        if !self.waiting.is_empty() && self.dials.is_empty() {
            let soon = due.is_some_and(|due| due.since(self.now) <= secs(60));
            check!(self, soon, "somebody waits for nothing");
        }
        self.judge_idleness(idle, due);
        self.judge_silence();
    }

    /// Whatever is missing will be dialled.
    fn judge_idleness(&self, idle: usize, due: Option<Moment>) {
        let coming = self.dials.len().saturating_sub(self.waiting.len());
        let is_missing = idle + coming < self.ensured() && !self.is_full() && !self.is_closed;
        if is_missing && !matches!(self.conditions.power, Power::Doze | Power::Sleeping) {
            let longest = self.options.idle_session_check_interval + secs(60);
            check!(
                self,
                due.is_some_and(|due| due.since(self.now) <= longest),
                "nobody dials what is missing"
            );
        }
    }

    /// No session that serves is silent for longer than its interval without having been asked.
    fn judge_silence(&self) {
        let Some((_, longest)) = self.interval().filter(|_| !self.is_closed) else { return };
        for (seq, known) in self.sessions.iter().filter(|(_, known)| known.streams > 0 && !known.was_mute) {
            let silence = self.now.since(known.pulse.heard().max(known.asked));
            check!(self, silence < longest, "{seq:?} is not asked after {silence:?}");
        }
    }

    pub(super) fn note_returned(&mut self, seq: SessionSeq) {
        self.step.returned = Some(seq);
        let now = self.now;
        if let Some(known) = self.sessions.get_mut(&seq).filter(|known| known.streams > 0) {
            known.streams -= 1;
            known.since = now;
        }
    }
}
