//! Which session serves a new stream, when one is dialled, asked for a sign of life, and closed: decisions
//! only.
//!
//! The runner asks for a lease with [`Pool::request`], reports what became of dials and sessions with the
//! `handle_*` methods, and then carries out every [`Action`] of [`Pool::poll_action`].
//!
//! ```text
//!  request ──► idle session? ── yes ─► Grant (reused)
//!                 │ no
//!                 ▼
//!              waiting ── Dial ─► dialled ──────► Grant (fresh)  ─┐
//!                 ▲                                               │ its stream ends
//!                 └──────────── a session comes back ◄────────────┘
//!                                        │ nobody waits
//!                                        ▼
//!               ensure ── Dial ──────► idle ─ timeout, age ─► Close
//! ```
//! The rules by subject: `serve` who gets which session, `upkeep` what idle sessions are kept,
//! `heartbeat` when they are asked for a sign of life.

mod action;
mod auto;
mod backoff;
mod conditions;
mod counters;
mod entry;
mod heartbeat;
mod idle_limit;
mod options;
mod serve;
#[cfg(test)]
mod tests;
mod upkeep;
mod view;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use rand::Rng;

use self::auto::Auto;
use self::backoff::Backoff;
use self::entry::Entry;
use self::idle_limit::IdleLimit;
use self::serve::{Sharing, Waiting};
use super::pulse::Pulse;
use super::session::SessionError;
use super::timers::{Moment, earliest};

pub use action::{Action, CloseReason, DialId, Refusal, SessionSeq, Ticket, Want};
pub use conditions::{Conditions, Power};
pub use counters::{Closed, PoolCounters};
pub use options::{Heartbeat, PoolOptions};

/// The pool. See the module's documentation for who calls what.
#[derive(Debug)]
pub struct Pool {
    options: PoolOptions,
    conditions: Conditions,
    sessions: BTreeMap<SessionSeq, Entry>,
    /// INVARIANT: the sessions that serve no stream.
    idle: BTreeSet<SessionSeq>,
    waiting: VecDeque<Waiting>,
    dials: BTreeSet<DialId>,
    backoff: Backoff,
    /// A dial for those who wait that the back-off has put off.
    next_dial: Option<Moment>,
    sharing: Sharing,
    checks: upkeep::Checks,
    auto: Auto,
    idle_limit: IdleLimit,
    last_seq: u64,
    last_ticket: u64,
    last_dial: u64,
    actions: VecDeque<Action>,
    counters: PoolCounters,
    is_closed: bool,
}

impl Pool {
    /// An empty pool, which dials at once what `ensure_idle_session` asks for.
    pub fn new(options: PoolOptions, now: Moment) -> Self {
        let mut pool = Self {
            options,
            conditions: Conditions::default(),
            sessions: BTreeMap::new(),
            idle: BTreeSet::new(),
            waiting: VecDeque::new(),
            dials: BTreeSet::new(),
            backoff: Backoff::default(),
            next_dial: None,
            sharing: Sharing::default(),
            checks: upkeep::Checks::new(now),
            auto: Auto::default(),
            idle_limit: IdleLimit::default(),
            last_seq: 0,
            last_ticket: 0,
            last_dial: 0,
            actions: VecDeque::new(),
            counters: PoolCounters::default(),
            is_closed: false,
        };
        pool.ensure(now);
        pool
    }

    /// The same, for sessions that are numbered on from `last`: of a pool whose place this one takes.
    #[must_use]
    pub fn numbered_after(mut self, last: SessionSeq) -> Self {
        self.last_seq = last.0;
        self
    }

    /// Other options from now on. Sessions that there are keep the lifetime that they have drawn.
    pub fn set_options(&mut self, options: PoolOptions, now: Moment) {
        self.pass_checks(now);
        self.options = options;
        self.serve_waiting(now);
        self.ensure(now);
    }

    /// Asks for a session. A [`Action::Grant`] or [`Action::Fail`] with this ticket follows, now or later.
    pub fn request(&mut self, want: Want, now: Moment) -> Ticket {
        self.pass_checks(now);
        self.last_ticket += 1;
        let ticket = Ticket(self.last_ticket);
        self.handle_request(ticket, want, now);
        ticket
    }

    /// The request is not wanted any more. A session granted meanwhile must be returned as usual.
    pub fn cancel(&mut self, ticket: Ticket) {
        // Dials under way go on: the app that gave up most often tries again at once.
        self.waiting.retain(|waiting| waiting.ticket != ticket);
        if self.waiting.is_empty() {
            self.next_dial = None;
        }
    }

    /// A dial succeeded: the new session's number; `None` when it is not wanted any more.
    pub fn handle_dialed(
        &mut self,
        dial: DialId,
        pulse: Arc<Pulse>,
        round_trip: Duration,
        now: Moment,
        rng: &mut impl Rng,
    ) -> Option<SessionSeq> {
        self.pass_checks(now);
        if !self.dials.remove(&dial) {
            return None;
        }
        self.last_seq += 1;
        let seq = SessionSeq(self.last_seq);
        let lifetime = self.options.draw_lifetime(rng);
        self.sessions.insert(seq, Entry::new(pulse, round_trip, lifetime, now));
        self.settle(seq, now);
        if let Some(entry) = self.sessions.get_mut(&seq) {
            entry.pooled |= entry.streams == 0;
        }
        self.log_ensured(seq);
        self.verify(seq, now);
        self.retire_expired(now);
        self.serve_waiting(now); // while the server fails, one dial at a time serves all
        Some(seq)
    }

    /// The server has answered on some session: it is there, and it knows our password.
    pub fn handle_proven(&mut self, now: Moment) {
        self.backoff.succeeded();
        self.auto.handle_proof();
        self.next_dial = None;
        self.serve_waiting(now);
    }

    /// A dial failed. While dials fail, everybody who waits shares one, and its failure.
    pub fn handle_dial_failed(&mut self, dial: DialId, now: Moment, rng: &mut impl Rng) {
        self.pass_checks(now);
        if self.dials.remove(&dial) {
            self.fail_waiting(Some(dial), now, rng);
        }
    }

    /// A new session was closed by the server before a word: a failed dial that was noticed late.
    pub fn handle_rejected(&mut self, seq: SessionSeq, now: Moment, rng: &mut impl Rng) {
        if self.forget(seq).is_some() {
            self.counters.closed.rejected += 1;
            self.fail_waiting(None, now, rng);
        }
    }

    /// A stream on a leased session has ended, and the session is sound.
    pub fn handle_returned(&mut self, seq: SessionSeq, now: Moment) {
        self.pass_checks(now);
        let Some(entry) = self.sessions.get_mut(&seq) else { return };
        if entry.streams == 0 {
            return;
        }
        entry.streams -= 1;
        if entry.streams > 0 {
            return;
        }
        (entry.since, entry.pooled) = (now, true);
        let reason = if self.is_closed {
            Some(CloseReason::Shutdown)
        } else if !self.options.reuse {
            Some(CloseReason::NoReuse)
        } else if entry.is_stranded {
            Some(CloseReason::PathChange)
        } else {
            self.retires_on_return(seq, now)
        };
        match reason {
            Some(reason) => self.close_session(seq, reason),
            None => self.settle(seq, now),
        }
        self.serve_waiting(now);
    }

    /// A probed session was heard, or cannot be asked.
    pub fn handle_alive(&mut self, seq: SessionSeq, now: Moment) {
        let Some(entry) = self.sessions.get_mut(&seq) else { return };
        (entry.probe, entry.doubted) = (None, None);
        if entry.streams == 0 {
            self.offer(seq);
            self.serve_waiting(now);
        }
    }

    /// A session has ended, whatever it was doing; `None` for a reason of our own.
    pub fn handle_lost(&mut self, seq: SessionSeq, reason: &SessionError, now: Moment) {
        self.pass_checks(now);
        let Some(entry) = self.forget(seq) else { return };
        self.counters.closed.count_loss(reason);
        let is_idle = entry.streams == 0;
        match reason {
            SessionError::EndedByPeer | SessionError::Lost(_) if is_idle => {
                self.idle_limit.handle_closed(now.since(entry.since), now);
            }
            SessionError::NoAnswer => {
                if self.has_died_in_silence(&entry) {
                    self.auto.handle_death();
                }
                self.ensure(now);
            }
            SessionError::Closed
            | SessionError::EndedByPeer
            | SessionError::Rejected
            | SessionError::Lost(_)
            | SessionError::Alert(_)
            | SessionError::Violation(_) => {}
        }
        self.serve_waiting(now);
    }

    /// The phone is awake or not, has a network or not, has memory or not.
    pub fn set_conditions(&mut self, conditions: Conditions, now: Moment) {
        self.pass_checks(now);
        let before = std::mem::replace(&mut self.conditions, conditions);
        if before == conditions || self.is_closed {
            return;
        }
        if !conditions.is_online && before.is_online {
            self.cancel_dials();
            self.next_dial = None;
        }
        if conditions.is_memory_short && !before.is_memory_short {
            self.close_idle(CloseReason::Memory);
        }
        if conditions.power == Power::Interactive && before.power != Power::Interactive {
            self.backoff.hurry(now);
        }
        if conditions.is_online && !before.is_online {
            self.begin_anew(now);
        }
        self.serve_waiting(now);
        self.ensure(now);
        if conditions.is_online {
            self.retire_expired(now);
        }
    }

    /// The network that the phone is on since the start is called `name`.
    pub fn name_path(&mut self, name: &str) {
        self.auto.rename(name);
    }

    /// The phone is on another network, called `name`: sessions of the last one do not follow.
    pub fn handle_path_change(&mut self, name: &str, now: Moment) {
        if self.is_closed {
            return;
        }
        self.pass_checks(now);
        self.auto.switch(name);
        self.idle_limit = IdleLimit::default();
        self.next_dial = None;
        self.cancel_dials();
        self.close_idle(CloseReason::PathChange);
        for entry in self.sessions.values_mut() {
            entry.is_stranded = true;
        }
        if self.conditions.is_online {
            self.begin_anew(now);
        }
        self.serve_waiting(now);
        self.ensure(now);
    }

    /// On a network that was not there before, nothing counts that failed or was dialled on the last.
    fn begin_anew(&mut self, now: Moment) {
        self.backoff.succeeded();
        self.checks.begin_anew();
        self.probe_all(now);
    }

    /// Fails who waits, closes what is idle, and grants nothing from now on.
    pub fn close(&mut self) {
        self.is_closed = true;
        self.next_dial = None;
        self.cancel_dials();
        self.refuse_waiting(Refusal::Closed);
        self.close_idle(CloseReason::Shutdown);
    }

    /// The next thing to do.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When [`handle_timeout`](Self::handle_timeout) has something to do; `None` while nothing is due.
    /// What sessions hear puts it off without a word, so that it may turn out to be too early.
    pub fn poll_timeout(&self) -> Option<Moment> {
        if self.is_closed {
            return None;
        }
        let waiting = earliest(self.waiting_timeout(), earliest(self.next_dial, self.probe_timeout()));
        let waiting = earliest(waiting, self.sharing_timeout());
        earliest(waiting, earliest(self.next_check(), self.next_beat()))
    }

    /// Does what is due at `now`, once, however long ago it was due.
    pub fn handle_timeout(&mut self, now: Moment) {
        if self.is_closed {
            return;
        }
        self.handle_probe_timeouts(now);
        if self.next_dial.is_some_and(|due| due <= now) {
            self.next_dial = None;
        }
        if self.sharing_timeout().is_some_and(|due| due <= now) {
            self.sharing = Sharing::Unknown;
        }
        if self.next_check().is_some_and(|due| due <= now) {
            self.check(now);
        }
        if self.next_beat().is_some_and(|due| due <= now) {
            self.beat(now);
        }
        self.serve_waiting(now);
        self.handle_impatience(now);
    }

    fn dial(&mut self) {
        self.last_dial += 1;
        let dial = DialId(self.last_dial);
        self.dials.insert(dial);
        self.actions.push_back(Action::Dial(dial));
    }

    fn cancel_dials(&mut self) {
        if !self.dials.is_empty() {
            self.dials.clear();
            self.actions.push_back(Action::CancelDials);
        }
    }

    /// Whether another session may be made.
    fn has_room(&self) -> bool {
        self.room() > 0
    }

    /// How many sessions may be made besides those that there are or will be.
    fn room(&self) -> usize {
        match self.options.max_sessions {
            0 => usize::MAX,
            most => {
                // Those of a network that we have left are about to die, and must not stand in the way.
                let stranded = self.sessions.values().filter(|entry| entry.is_stranded).count();
                most.saturating_sub(self.sessions.len() - stranded + self.dials.len())
            }
        }
    }

    fn forget(&mut self, seq: SessionSeq) -> Option<Entry> {
        self.idle.remove(&seq);
        self.sessions.remove(&seq)
    }

    fn close_session(&mut self, seq: SessionSeq, reason: CloseReason) {
        if self.forget(seq).is_some() {
            self.counters.closed.count(reason);
            self.actions.push_back(Action::Close { seq, reason });
        }
    }

    fn close_idle(&mut self, reason: CloseReason) {
        for seq in self.idle.clone() {
            self.close_session(seq, reason);
        }
    }
}
