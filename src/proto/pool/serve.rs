//! Who gets which session.

use std::time::Duration;

use rand::Rng;

use super::backoff::PATIENCE;
use super::{Action, CloseReason, DialId, Pool, Refusal, SessionSeq, Ticket, Want};
use crate::proto::timers::Moment;

/// How long others wait for what becomes of the first stream that shares a session. An answer takes a round
/// trip and the server's own connect, and a target that cannot be reached holds up nobody for longer. A guess.
const QUESTION: Duration = Duration::from_secs(1);

/// Whether the server takes a second stream on a session. Some refuse it, and some end the session over it.
///
/// ```text
///             the first one to share
/// Unknown ─────────────────────────────► Asked ─► Taken, Refused
///    ▲                                     │ says nothing of sharing, or takes long
///    └─────────────────────────────────────┘
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Sharing {
    #[default]
    Unknown,
    /// One stream tries; until then the others wait for what becomes of it.
    Asked(Moment),
    Taken,
    Refused,
}

/// A request that has no session yet.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) ticket: Ticket,
    want: Want,
    since: Moment,
    /// The latest dial when the request came.
    last_dial: DialId,
}

impl Pool {
    pub(super) fn handle_request(&mut self, ticket: Ticket, want: Want, now: Moment) {
        if self.is_closed {
            self.actions.push_back(Action::Fail { ticket, why: Refusal::Closed });
            return;
        }
        let online = self.conditions.is_online;
        if online && let Some(seq) = self.newest_idle(want, now) {
            self.grant(ticket, seq);
            return;
        }
        let can_dial = self.dials.is_empty() && self.idle.is_empty() && self.has_room();
        if online && can_dial && self.backoff.is_hopeless(now) {
            self.actions.push_back(Action::Fail { ticket, why: Refusal::Dial });
            return;
        }
        self.waiting.push_back(Waiting { ticket, want, since: now, last_dial: DialId(self.last_dial) });
        self.serve_waiting(now);
    }

    /// The newest is the likeliest to live, and the oldest can then age and go.
    fn newest_idle(&self, want: Want, now: Moment) -> Option<SessionSeq> {
        let fits = |seq: &&SessionSeq| {
            self.sessions.get(seq).is_some_and(|entry| {
                want != Want::Fresh && !entry.is_doubted() && self.is_trusted(entry, now)
            })
        };
        self.idle.iter().rev().find(fits).copied()
    }

    /// Gives a free session to whoever waits longest and accepts it, or keeps it idle.
    pub(super) fn settle(&mut self, seq: SessionSeq, now: Moment) {
        let Some(entry) = self.sessions.get_mut(&seq) else { return };
        entry.since = now;
        self.idle.insert(seq);
        if self.sessions.get(&seq).is_some_and(|entry| self.is_trusted(entry, now)) {
            self.offer(seq);
        }
        if self.conditions.is_memory_short && self.idle.contains(&seq) {
            self.close_session(seq, CloseReason::Memory);
        }
    }

    /// Gives an idle session to whoever waits longest and accepts it. Offline it could not serve.
    pub(super) fn offer(&mut self, seq: SessionSeq) {
        let Some(entry) = self.sessions.get(&seq).filter(|_| self.conditions.is_online) else { return };
        let accepts = |waiting: &Waiting| waiting.want != Want::Fresh || !entry.pooled;
        let Some(at) = self.waiting.iter().position(accepts) else { return };
        if let Some(waiting) = self.waiting.remove(at) {
            self.grant(waiting.ticket, seq);
        }
    }

    fn grant(&mut self, ticket: Ticket, seq: SessionSeq) {
        let Some(entry) = self.sessions.get_mut(&seq) else { return };
        let (reused, is_pooled, is_shared) = (entry.used, entry.pooled, entry.streams > 0);
        (entry.used, entry.probe) = (true, None);
        entry.streams += 1;
        self.idle.remove(&seq);
        self.counters.shared += u64::from(is_shared);
        self.actions.push_back(Action::Grant { ticket, seq, reused, is_pooled, is_shared });
    }

    /// Finds sessions for those who wait: idle ones that have to show that they live, shared ones when there
    /// may be no more, and new ones. While the server fails, one dial serves all, and not at once.
    pub(super) fn serve_waiting(&mut self, now: Moment) {
        if self.is_closed || !self.conditions.is_online {
            return;
        }
        if self.probing() < self.undemanding() && self.probing() + self.dials.len() < self.waiting.len() {
            self.probe_idle(now);
        }
        self.share(now);
        let unserved = self.unserved();
        self.next_dial = None;
        let wanted = match self.backoff.next_dial() {
            None => unserved,
            Some(due) if due <= now => unserved.min(1),
            Some(due) => {
                self.next_dial = (unserved > 0 && self.dials.is_empty()).then_some(due);
                return;
            }
        };
        while self.dials.len() < wanted && self.make_room() {
            self.dial();
        }
    }

    /// How many of those who wait accept a session that has served others.
    fn undemanding(&self) -> usize {
        self.waiting.iter().filter(|waiting| waiting.want != Want::Fresh).count()
    }

    /// How many of those who wait are not served though every session that is asked shows its life.
    fn unserved(&self) -> usize {
        self.waiting.len() - self.undemanding().min(self.probing())
    }

    /// Puts those who wait on the least loaded sessions, where there is no room for more sessions.
    fn share(&mut self, now: Moment) {
        let may_share = |sharing| matches!(sharing, Sharing::Unknown | Sharing::Taken);
        while may_share(self.sharing) && !self.has_room() && self.unserved() > self.dials.len() {
            let Some(at) = self.waiting.iter().position(|waiting| waiting.want == Want::Any) else { return };
            // One that is not read stands still until its app reads on.
            let leased = self.sessions.iter().filter(|(_, entry)| entry.streams > 0 && !entry.is_stranded);
            let least = leased.min_by_key(|(_, entry)| (!entry.pulse.is_read(), entry.streams));
            let Some((&seq, _)) = least else { return };
            if let Some(waiting) = self.waiting.remove(at) {
                if self.sharing == Sharing::Unknown {
                    self.sharing = Sharing::Asked(now + QUESTION);
                }
                self.grant(waiting.ticket, seq);
            }
        }
    }

    /// The server took a second stream on a session.
    pub fn handle_shared(&mut self, now: Moment) {
        if self.sharing != Sharing::Refused {
            self.sharing = Sharing::Taken;
            self.serve_waiting(now);
        }
    }

    /// The server did not take a second stream on a session: it is not asked to again.
    pub fn handle_refused_sharing(&mut self) {
        if std::mem::replace(&mut self.sharing, Sharing::Refused) != Sharing::Refused {
            tracing::debug!("the server takes one stream a session");
        }
    }

    /// How many streams there may be at once: bounded when each needs a session of its own.
    pub fn max_streams(&self) -> Option<usize> {
        let max_sessions = self.options.max_sessions;
        (self.sharing == Sharing::Refused && max_sessions > 0).then_some(max_sessions)
    }

    /// What became of a second stream on a session says nothing: the next one may try.
    pub fn handle_unclear_sharing(&mut self, now: Moment) {
        if matches!(self.sharing, Sharing::Asked(_)) {
            self.sharing = Sharing::Unknown;
            self.serve_waiting(now);
        }
    }

    /// When the next one may ask, be the first still without an answer.
    pub(super) fn sharing_timeout(&self) -> Option<Moment> {
        match self.sharing {
            Sharing::Asked(until) if !self.waiting.is_empty() => Some(until),
            Sharing::Asked(_) | Sharing::Unknown | Sharing::Taken | Sharing::Refused => None,
        }
    }

    /// Whether there is room for another session, be it that an idle one has to go which nobody accepts.
    fn make_room(&mut self) -> bool {
        if !self.has_room()
            && let Some(&oldest) = self.idle.iter().find(|seq| !self.is_probed(**seq))
        {
            self.close_session(oldest, CloseReason::MakeRoom);
        }
        self.has_room()
    }

    fn is_probed(&self, seq: SessionSeq) -> bool {
        self.sessions.get(&seq).is_some_and(|entry| entry.probe.is_some())
    }

    /// How many idle sessions are to show that they live.
    fn probing(&self) -> usize {
        self.idle.iter().filter(|seq| self.is_probed(**seq)).count()
    }

    /// Asks all idle sessions that were not asked yet whether they live: one of them is wanted, one wake-up of
    /// the radio does for all, and after a sleep that none outlived nobody waits for one after the other.
    fn probe_idle(&mut self, now: Moment) {
        for &seq in self.idle.iter().rev() {
            let Some(entry) = self.sessions.get_mut(&seq) else { continue };
            if entry.probe.is_some() || entry.is_doubted() {
                continue;
            }
            entry.probe = Some(now);
            self.counters.probed += 1;
            self.actions.push_back(Action::Probe(seq));
        }
    }

    pub(super) fn probe_timeout(&self) -> Option<Moment> {
        self.idle.iter().filter_map(|seq| self.sessions.get(seq)?.probe_due()).min()
    }

    /// Sessions that were wanted and did not show that they live are left to the heartbeat's judgement.
    pub(super) fn handle_probe_timeouts(&mut self, now: Moment) {
        for entry in self.sessions.values_mut() {
            if entry.probe_due().is_some_and(|due| due <= now) {
                entry.doubted = entry.probe.take();
            }
        }
    }

    /// Whoever has no dial of their own shares the failure. But the first failure of a server that was well
    /// says nothing to those who have come since that dial began: it may have hit the server's restart.
    pub(super) fn fail_waiting(&mut self, failed: Option<DialId>, now: Moment, rng: &mut impl Rng) {
        self.backoff.failed(now, rng);
        self.auto.handle_outage();
        let is_first = self.backoff.failures() == 1;
        let shares = |waiting: &Waiting| !is_first || failed.is_none_or(|dial| waiting.last_dial < dial);
        while self.unserved() > self.dials.len()
            && let Some(at) = self.waiting.iter().position(shares)
            && let Some(waiting) = self.waiting.remove(at)
        {
            self.actions.push_back(Action::Fail { ticket: waiting.ticket, why: Refusal::Dial });
        }
        self.next_dial = None;
        self.serve_waiting(now);
    }

    pub(super) fn refuse_waiting(&mut self, why: Refusal) {
        for waiting in std::mem::take(&mut self.waiting) {
            self.actions.push_back(Action::Fail { ticket: waiting.ticket, why });
        }
    }

    /// When the first of those who wait for nothing that is under way gives up.
    pub(super) fn waiting_timeout(&self) -> Option<Moment> {
        let is_under_way = !self.dials.is_empty() || self.next_dial.is_some() || self.probing() > 0;
        let first = self.waiting.front().filter(|_| !is_under_way)?;
        Some(first.since + PATIENCE)
    }

    pub(super) fn handle_impatience(&mut self, now: Moment) {
        let why = if self.conditions.is_online { Refusal::Busy } else { Refusal::Offline };
        while self.waiting_timeout().is_some_and(|due| due <= now)
            && let Some(waiting) = self.waiting.pop_front()
        {
            self.actions.push_back(Action::Fail { ticket: waiting.ticket, why });
        }
    }
}
