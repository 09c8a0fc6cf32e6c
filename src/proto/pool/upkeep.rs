//! Which idle sessions are kept: dialled ahead, retired by age, closed when nobody needs them.

use std::time::Duration;

use super::{CloseReason, Pool, Power, SessionSeq};
use crate::proto::timers::{InGo, Moment, earliest};

/// The checks, which take place at whole intervals after the start.
///
/// Those that would find nothing to do are left out: they would wake a sleeping phone for nothing.
#[derive(Debug)]
pub(super) struct Checks {
    start: Moment,
    last: Moment,
    /// Sessions dialled ahead since the last check.
    dialed: usize,
    /// Of those, the ones that are in the pool.
    pooled: usize,
}

impl Checks {
    pub(super) fn new(now: Moment) -> Self {
        Self { start: now, last: now, dialed: 0, pooled: 0 }
    }

    /// What was dialled so far does not count.
    pub(super) fn begin_anew(&mut self) {
        (self.dialed, self.pooled) = (0, 0);
    }

    /// The latest whole interval that is not after `now`.
    fn at_or_before(&self, now: Moment, interval: Duration) -> Moment {
        let interval = interval.as_nanos().max(1);
        let passed = now.since(self.start).as_nanos();
        self.start + Duration::from_nanos(u64::try_from(passed - passed % interval).unwrap_or(u64::MAX))
    }

    /// The first check after the last one that is not before `wanted`.
    fn at_or_after(&self, wanted: Moment, interval: Duration) -> Moment {
        let interval = interval.as_nanos().max(1);
        let whole = |span: Duration| span.as_nanos() / interval;
        let next = whole(self.last.since(self.start)) + 1;
        let number = next.max(wanted.since(self.start).as_nanos().div_ceil(interval));
        let nanos = u64::try_from(number.saturating_mul(interval)).unwrap_or(u64::MAX);
        self.start + Duration::from_nanos(nanos)
    }
}

impl Pool {
    /// How many sessions are to be idle now.
    pub(super) fn ensured(&self) -> usize {
        if !self.conditions.is_online || self.conditions.is_memory_short {
            return 0;
        }
        match self.conditions.power {
            Power::Interactive => self.options.ensure_idle_session,
            Power::Background => {
                let background = self.options.ensure_idle_session_background;
                background.unwrap_or(self.options.ensure_idle_session)
            }
            Power::Doze | Power::Sleeping => 0,
        }
    }

    /// How many sessions should be dialled ahead, were it not for the rate and for failures.
    fn missing(&self) -> usize {
        let serves = |seq: &&SessionSeq| {
            self.sessions.get(seq).is_some_and(|entry| !entry.expired && !entry.is_doubted())
        };
        let idle = self.idle.iter().filter(serves).count();
        let coming = self.dials.len().saturating_sub(self.waiting.len());
        let room = if self.has_room() { self.room() } else { usize::from(self.ceding().is_some()) };
        self.ensured().saturating_sub(idle + coming).min(room)
    }

    /// Dials what is missing, as many as a check may, and carefully while the server fails.
    pub(super) fn ensure(&mut self, now: Moment) {
        if self.is_closed {
            return;
        }
        let rate = match self.options.ensure_idle_session_create_rate {
            0 => usize::MAX,
            rate => rate.saturating_sub(self.checks.dialed),
        };
        let allowed = match self.backoff.next_dial() {
            None => rate,
            Some(due) if due <= now && self.dials.is_empty() => rate.min(1),
            Some(_) => 0,
        };
        let count = self.missing().min(allowed);
        if count == 0 {
            return;
        }
        let (idle, target) = (self.idle.len(), self.ensured());
        tracing::debug!(
            "[EnsureIdleSession] Current idle sessions: {idle}, target: {target}, creating {count} new sessions"
        );
        for _ in 0..count {
            if !self.has_room() {
                let Some(expired) = self.ceding() else { return };
                self.log_retired(1, expired, now);
                self.close_session(expired, CloseReason::Age);
                if !self.has_room() {
                    return; // the limit was lowered below what there is
                }
            }
            self.checks.dialed += 1;
            self.dial();
        }
    }

    pub(super) fn log_ensured(&mut self, seq: SessionSeq) {
        if self.idle.contains(&seq) && self.ensured() > 0 {
            self.checks.pooled += 1;
            let number = self.checks.pooled;
            tracing::debug!(
                "[EnsureIdleSession] Successfully created and pooled session #{number} (seq={})",
                seq.0
            );
        }
    }

    /// The next check that has something to do. Offline there is none: what is closed then saves nothing, and
    /// may be of use when the network is back.
    pub(super) fn next_check(&self) -> Option<Moment> {
        if !self.conditions.is_online {
            return None;
        }
        match self.conditions.power {
            Power::Interactive | Power::Background => {}
            Power::Doze | Power::Sleeping => return None,
        }
        let interval = self.options.idle_session_check_interval;
        let dial = (self.missing() > 0).then(|| self.backoff.next_dial().unwrap_or(self.checks.last));
        let age = self.idle.iter().filter_map(|seq| {
            let entry = self.sessions.get(seq).filter(|entry| !entry.expired)?;
            Some(entry.born + entry.lifetime? + Duration::from_nanos(1))
        });
        // Nobody waits for a session to be closed: in the background that shares the next burst's wake-up.
        let put_off = match self.conditions.power {
            Power::Interactive => Duration::ZERO,
            Power::Background | Power::Doze | Power::Sleeping => {
                self.heartbeat_interval().unwrap_or_default()
            }
        };
        let close = earliest(age.min(), self.idle_expiry()).map(|due| due + put_off);
        let check = earliest(dial, close).map(|wanted| self.checks.at_or_after(wanted, interval));
        earliest(check, self.server_limit_expiry())
    }

    /// Notes checks that had nothing to do, before something happens that the next one must see.
    pub(super) fn pass_checks(&mut self, now: Moment) {
        let passed = self.checks.at_or_before(now, self.options.idle_session_check_interval);
        if passed > self.checks.last && self.next_check().is_none_or(|due| due > now) {
            (self.checks.last, self.checks.dialed, self.checks.pooled) = (passed, 0, 0);
        }
    }

    pub(super) fn check(&mut self, now: Moment) {
        let interval = self.options.idle_session_check_interval;
        self.close_before_the_server(now);
        if self.checks.at_or_after(self.checks.last, interval) > now {
            return;
        }
        (self.checks.last, self.checks.dialed, self.checks.pooled) = (now, 0, 0);
        self.clean(now);
    }

    /// Closes what has been idle for too long, and replaces what is too old.
    pub(super) fn clean(&mut self, now: Moment) {
        self.close_timed_out(now);
        self.note_expired(now);
        self.ensure(now);
        self.retire_expired(now);
    }

    /// Idle sessions that the idle timeout may close, oldest first: not the newest that are to be kept.
    fn closable(&self) -> impl Iterator<Item = SessionSeq> {
        // Closing below what is ensured would only make it dial again.
        let kept = self.options.min_idle_session.max(self.ensured());
        let count = self.idle.len().saturating_sub(kept);
        self.idle.iter().take(count).copied()
    }

    /// When the first session will have been idle for longer than it may.
    fn idle_expiry(&self) -> Option<Moment> {
        if self.options.idle_session_timeout.is_zero() {
            return None;
        }
        let since = self.closable().filter_map(|seq| Some(self.sessions.get(&seq)?.since)).min()?;
        Some(since + self.options.idle_session_timeout + Duration::from_nanos(1))
    }

    fn close_timed_out(&mut self, now: Moment) {
        let timeout = self.options.idle_session_timeout;
        if timeout.is_zero() {
            return;
        }
        let idle = |seq: &SessionSeq| self.sessions.get(seq).map(|entry| now.since(entry.since));
        let late: Vec<_> = self.closable().filter_map(|seq| Some((seq, idle(&seq)?))).collect();
        let late = late.into_iter().filter(|&(_, idle)| idle > timeout);
        for (number, (seq, idle)) in late.enumerate() {
            let (number, idle) = (number + 1, InGo(whole_seconds(idle)));
            tracing::debug!("[IdleCleanup] Closing session #{number} (seq={}, idle={idle})", seq.0);
            self.close_session(seq, CloseReason::IdleTimeout);
        }
    }

    fn server_limit_expiry(&self) -> Option<Moment> {
        let limit = self.idle_limit.limit()?;
        let since = self.idle.iter().filter_map(|seq| Some(self.sessions.get(seq)?.since)).min()?;
        Some(since + limit)
    }

    /// The server would close these, and somebody could be given one in that moment.
    fn close_before_the_server(&mut self, now: Moment) {
        let Some(limit) = self.idle_limit.limit() else { return };
        for seq in self.idle.clone() {
            if self.sessions.get(&seq).is_some_and(|entry| now.since(entry.since) >= limit) {
                self.close_session(seq, CloseReason::ServerIdleLimit);
            }
        }
    }

    fn note_expired(&mut self, now: Moment) {
        for seq in &self.idle {
            if let Some(entry) = self.sessions.get_mut(seq) {
                entry.expired = entry.is_past_lifetime(now);
            }
        }
    }

    /// The idle sessions past their lifetime, oldest first.
    fn expired(&self) -> impl Iterator<Item = SessionSeq> {
        self.idle.iter().filter(|seq| self.sessions.get(seq).is_some_and(|entry| entry.expired)).copied()
    }

    /// The one past its lifetime that makes room for what replaces it, where there may be no more beside it:
    /// one a check, so that the others serve meanwhile.
    fn ceding(&self) -> Option<SessionSeq> {
        self.expired().next().filter(|_| self.idle.len() > self.options.min_idle_session_for_age)
    }

    /// Closes sessions past their lifetime as far as others have taken their place: make before break.
    pub(super) fn retire_expired(&mut self, now: Moment) {
        let least = self.options.min_idle_session_for_age.max(self.ensured());
        let expired: Vec<_> = self.expired().collect();
        let count = self.idle.len().saturating_sub(least).min(expired.len());
        if count == 0 {
            return;
        }
        let kept = expired.len() - count;
        tracing::debug!(
            "[AgeCleanup] Found {} expired sessions, closing {count} oldest (keeping {kept} to maintain \
             min_idle_session_for_age={})",
            expired.len(),
            self.options.min_idle_session_for_age,
        );
        for (number, seq) in expired.into_iter().take(count).enumerate() {
            self.log_retired(number + 1, seq, now);
            self.close_session(seq, CloseReason::Age);
        }
    }

    fn log_retired(&self, number: usize, seq: SessionSeq, now: Moment) {
        let Some(entry) = self.sessions.get(&seq) else { return };
        let (age, most) =
            (InGo(whole_seconds(entry.age(now))), InGo(whole_seconds(entry.lifetime.unwrap_or_default())));
        tracing::debug!("[AgeCleanup] Closing session #{number} (seq={}, age={age}, maxLife={most})", seq.0);
    }

    /// Whether a session whose last stream has just ended is closed instead of pooled.
    pub(super) fn retires_on_return(&mut self, seq: SessionSeq, now: Moment) -> Option<CloseReason> {
        let least = self.options.min_idle_session_for_age.max(self.ensured());
        let entry = self.sessions.get_mut(&seq)?;
        if !entry.is_past_lifetime(now) {
            return None;
        }
        if self.idle.len() >= least {
            self.log_retired(1, seq, now);
            return Some(CloseReason::Age);
        }
        entry.expired = true; // until another is there
        None
    }
}

/// As the fork's log lines have it.
fn whole_seconds(span: Duration) -> Duration {
    Duration::from_secs(span.as_secs())
}
