//! Which session serves a new stream, when one is dialled, and which one is closed: decisions only.
//!
//! The runner asks for a lease with [`Pool::request`], reports what became of dials and sessions with
//! the `handle_*` methods, and then carries out every [`Action`] of [`Pool::poll_action`].
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
//!                                      idle ─ timeout ─► Close
//! ```

mod backoff;
mod options;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use self::backoff::Backoff;
use super::timers::{Moment, earliest};

pub use options::{Heartbeat, PoolOptions};

/// A session's number within its tunnel; rises with every session made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionSeq(pub u64);

/// One request for a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(u64);

/// What a request accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// The newest idle session, or else a new one.
    Any,
    /// A session that has served nobody yet: for the one retry after a reused session failed.
    Fresh,
}

/// What the runner has to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Dial one session, and report it with [`Pool::handle_dialed`] or [`Pool::handle_dial_failed`].
    Dial,
    /// The request has its session.
    Grant {
        /// Who asked.
        ticket: Ticket,
        /// The session that is theirs alone until it is returned.
        seq: SessionSeq,
        /// Whether it has served another stream before.
        reused: bool,
    },
    /// The request's dial failed, with the error reported last.
    Fail {
        /// Who asked.
        ticket: Ticket,
    },
    /// Close an idle session.
    Close {
        /// Which.
        seq: SessionSeq,
        /// Why.
        reason: CloseReason,
    },
}

/// Why the pool closes a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CloseReason {
    /// Idle for longer than `idle_session_timeout`.
    IdleTimeout,
    /// `reuse` is off, and its stream has ended.
    NoReuse,
    /// The pool was closed.
    Shutdown,
}

/// The pool. See the module's documentation for who calls what.
#[derive(Debug)]
pub struct Pool {
    options: PoolOptions,
    idle: BTreeMap<SessionSeq, Idle>,
    leased: BTreeSet<SessionSeq>,
    waiting: VecDeque<(Ticket, Want)>,
    dialing: usize,
    backoff: Backoff,
    /// A dial for those who wait that the back-off has put off.
    next_dial: Option<Moment>,
    last_seq: u64,
    last_ticket: u64,
    actions: VecDeque<Action>,
    closed: bool,
}

#[derive(Clone, Copy, Debug)]
struct Idle {
    since: Moment,
    /// Whether it has served a stream.
    used: bool,
}

impl Pool {
    /// An empty pool.
    pub fn new(options: PoolOptions) -> Self {
        Self {
            options,
            idle: BTreeMap::new(),
            leased: BTreeSet::new(),
            waiting: VecDeque::new(),
            dialing: 0,
            backoff: Backoff::default(),
            next_dial: None,
            last_seq: 0,
            last_ticket: 0,
            actions: VecDeque::new(),
            closed: false,
        }
    }

    /// Asks for a session. A [`Action::Grant`] or [`Action::Fail`] with this ticket follows, now or later.
    pub fn request(&mut self, want: Want, now: Moment) -> Ticket {
        self.last_ticket += 1;
        let ticket = Ticket(self.last_ticket);
        if self.closed {
            self.actions.push_back(Action::Fail { ticket });
            return ticket;
        }
        if let Some(seq) = self.newest_idle(want) {
            let idle = self.idle.remove(&seq);
            self.grant(ticket, seq, idle.is_some_and(|idle| idle.used));
            return ticket;
        }
        if self.dialing == 0 && self.backoff.is_hopeless(now) {
            self.actions.push_back(Action::Fail { ticket });
            return ticket;
        }
        self.waiting.push_back((ticket, want));
        self.dial_for_waiting(now);
        ticket
    }

    /// The request is not wanted any more. A session granted meanwhile must be returned as usual.
    pub fn cancel(&mut self, ticket: Ticket) {
        // Dials under way go on: the app that gave up most often tries again at once.
        self.waiting.retain(|&(waiting, _)| waiting != ticket);
        if self.waiting.is_empty() {
            self.next_dial = None;
        }
    }

    /// A dial succeeded: the new session's number.
    pub fn handle_dialed(&mut self, now: Moment) -> SessionSeq {
        self.dialing = self.dialing.saturating_sub(1);
        self.last_seq += 1;
        let seq = SessionSeq(self.last_seq);
        self.settle(seq, false, now);
        self.dial_for_waiting(now); // while the server fails, one dial at a time serves all
        seq
    }

    /// The server has answered on some session: it is there, and it knows our password.
    pub fn handle_proven(&mut self, now: Moment) {
        self.backoff.succeeded();
        self.next_dial = None;
        self.dial_for_waiting(now);
    }

    /// A dial failed. While dials fail, everybody who waits shares one, and its failure.
    pub fn handle_dial_failed(&mut self, now: Moment) {
        self.dialing = self.dialing.saturating_sub(1);
        self.fail_waiting(now);
    }

    /// A new session was closed by the server before a word: a failed dial that was noticed late.
    pub fn handle_rejected(&mut self, seq: SessionSeq, now: Moment) {
        self.handle_lost(seq);
        self.fail_waiting(now);
    }

    /// The stream on a leased session has ended, and the session is sound.
    pub fn handle_returned(&mut self, seq: SessionSeq, now: Moment) {
        if !self.leased.remove(&seq) {
            return;
        }
        if !self.options.reuse {
            self.actions.push_back(Action::Close { seq, reason: CloseReason::NoReuse });
            return;
        }
        self.settle(seq, true, now);
    }

    /// A session has ended, whatever it was doing.
    pub fn handle_lost(&mut self, seq: SessionSeq) {
        self.idle.remove(&seq);
        self.leased.remove(&seq);
    }

    /// Fails who waits, closes what is idle, and grants nothing from now on. The runner cancels the dials.
    pub fn close(&mut self) {
        self.closed = true;
        self.next_dial = None;
        for (ticket, _) in std::mem::take(&mut self.waiting) {
            self.actions.push_back(Action::Fail { ticket });
        }
        for seq in std::mem::take(&mut self.idle).into_keys() {
            self.actions.push_back(Action::Close { seq, reason: CloseReason::Shutdown });
        }
    }

    /// The next thing to do.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When [`handle_timeout`](Self::handle_timeout) has something to do; `None` while nothing is due.
    pub fn poll_timeout(&self) -> Option<Moment> {
        earliest(self.next_dial, self.next_expiry())
    }

    /// Does what is due at `now`.
    pub fn handle_timeout(&mut self, now: Moment) {
        if self.next_dial.is_some_and(|due| due <= now) {
            self.next_dial = None;
            self.dial_for_waiting(now);
        }
        if self.next_expiry().is_some_and(|due| due <= now) {
            self.close_expired(now);
        }
    }

    /// How many sessions are idle.
    pub fn idle_count(&self) -> usize {
        self.idle.len()
    }

    /// How many sessions are leased.
    pub fn leased_count(&self) -> usize {
        self.leased.len()
    }

    /// How many dials are under way.
    pub fn dialing_count(&self) -> usize {
        self.dialing
    }

    /// The newest is the likeliest to live, and the oldest can then age and go.
    fn newest_idle(&self, want: Want) -> Option<SessionSeq> {
        let fits = |idle: &Idle| want == Want::Any || !idle.used;
        self.idle.iter().rev().find(|(_, idle)| fits(idle)).map(|(&seq, _)| seq)
    }

    /// Gives a free session to whoever waits longest and accepts it, or keeps it idle.
    fn settle(&mut self, seq: SessionSeq, used: bool, now: Moment) {
        if self.closed {
            self.actions.push_back(Action::Close { seq, reason: CloseReason::Shutdown });
            return;
        }
        let accepts = |&(_, want): &(Ticket, Want)| want == Want::Any || !used;
        let Some(at) = self.waiting.iter().position(accepts) else {
            self.idle.insert(seq, Idle { since: now, used });
            return;
        };
        if let Some((ticket, _)) = self.waiting.remove(at) {
            self.grant(ticket, seq, used);
        }
    }

    fn grant(&mut self, ticket: Ticket, seq: SessionSeq, reused: bool) {
        self.leased.insert(seq);
        self.actions.push_back(Action::Grant { ticket, seq, reused });
    }

    /// Whoever has no dial of their own shares the failure.
    fn fail_waiting(&mut self, now: Moment) {
        self.backoff.failed(now);
        while self.waiting.len() > self.dialing
            && let Some((ticket, _)) = self.waiting.pop_front()
        {
            self.actions.push_back(Action::Fail { ticket });
        }
    }

    /// One dial for each who waits; while the server fails, one for all, and not at once.
    fn dial_for_waiting(&mut self, now: Moment) {
        if self.closed {
            return;
        }
        let wanted = match self.backoff.next_dial() {
            None => self.waiting.len(),
            Some(due) if due <= now => self.waiting.len().min(1),
            Some(due) => {
                let wait = !self.waiting.is_empty() && self.dialing == 0;
                self.next_dial = wait.then_some(due);
                return;
            }
        };
        while self.dialing < wanted {
            self.dialing += 1;
            self.actions.push_back(Action::Dial);
        }
    }

    /// Idle sessions that the idle timeout may close, oldest first: not the newest that are to be kept.
    fn closable(&self) -> impl Iterator<Item = (SessionSeq, Moment)> {
        // Closing below `ensure_idle_session` would only make it dial again.
        let kept = self.options.min_idle_session.max(self.options.ensure_idle_session);
        let count = self.idle.len().saturating_sub(kept);
        self.idle.iter().take(count).map(|(&seq, idle)| (seq, idle.since))
    }

    /// The first check at which some session will have been idle for too long. Checks that would find
    /// nothing are left out: they would wake a sleeping phone for nothing.
    fn next_expiry(&self) -> Option<Moment> {
        if self.options.idle_session_timeout.is_zero() {
            return None;
        }
        let interval = self.options.idle_session_check_interval.as_nanos().max(1);
        let expiry = self.closable().map(|(_, since)| since).min()? + self.options.idle_session_timeout;
        let checks = expiry.since_origin().as_nanos() / interval + 1;
        let nanos = u64::try_from(checks.saturating_mul(interval)).unwrap_or(u64::MAX);
        Some(Moment::from_origin(std::time::Duration::from_nanos(nanos)))
    }

    fn close_expired(&mut self, now: Moment) {
        let timeout = self.options.idle_session_timeout;
        let expired: Vec<_> = self.closable().filter(|&(_, since)| now.since(since) > timeout).collect();
        for (seq, since) in expired {
            self.idle.remove(&seq);
            tracing::debug!(seq = seq.0, idle = ?now.since(since), "[IdleCleanup] Closing session");
            self.actions.push_back(Action::Close { seq, reason: CloseReason::IdleTimeout });
        }
    }
}
