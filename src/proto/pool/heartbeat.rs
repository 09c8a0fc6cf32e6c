//! When sessions are asked for a sign of life: all together, and no more often than they have to be.
//!
//! A beat on a silent radio costs as much as ten seconds of it, whatever its size. So when one session is due,
//! every other that is past half of its interval is asked along with it, and what a session hears counts as its
//! beat. The session itself watches for the answer, since it knows what it reads.

use std::time::Duration;

use super::entry::Entry;
use super::{Action, Heartbeat, Pool, Power, SessionSeq};
use crate::proto::timers::Moment;

/// A session may be silent for this much longer than its interval: its beat is on the way.
const ANSWER: Duration = Duration::from_secs(4);

impl Pool {
    /// The interval while somebody looks at the phone.
    fn interactive_interval(&self) -> Option<Duration> {
        match self.options.heartbeat {
            Heartbeat::Off => None,
            Heartbeat::Every(interval) => Some(interval),
            Heartbeat::Auto => Some(self.auto.interval()),
        }
    }

    /// The interval now; `None` for no beats.
    pub fn heartbeat_interval(&self) -> Option<Duration> {
        if !self.conditions.is_online {
            return None;
        }
        match self.conditions.power {
            Power::Interactive => self.interactive_interval(),
            Power::Background => match self.options.heartbeat_background {
                None => self.interactive_interval(),
                Some(interval) => (!interval.is_zero()).then_some(interval),
            },
            Power::Doze | Power::Sleeping => None,
        }
    }

    /// Whether a session was heard recently enough to be used without asking.
    pub(super) fn is_trusted(&self, entry: &Entry, now: Moment) -> bool {
        // In the background idle sessions do not beat, and are trusted no longer than where all do.
        let longest = self.interactive_interval().filter(|_| self.ensured() == 0);
        let interval = self.heartbeat_interval().or_else(|| self.interactive_interval());
        match interval.map(|interval| longest.map_or(interval, |longest| longest.min(interval))) {
            Some(interval) => now.since(entry.pulse.heard()) <= interval + ANSWER,
            None => true, // nobody wants sessions to be asked
        }
    }

    /// The sessions that take part: all of them, or in the background those that carry streams and those that
    /// are to be kept idle.
    fn beating(&self) -> impl Iterator<Item = (SessionSeq, &Entry)> {
        let kept = match self.conditions.power {
            Power::Interactive => self.idle.len(),
            Power::Background | Power::Doze | Power::Sleeping => self.ensured(),
        };
        let oldest_kept =
            kept.checked_sub(1).and_then(|last| self.idle.iter().rev().nth(last).or(self.idle.first()));
        self.sessions
            .iter()
            .filter(move |(seq, entry)| {
                let takes_part = entry.streams > 0 || oldest_kept.is_some_and(|oldest| *seq >= oldest);
                takes_part && entry.pulse.answers()
            })
            .map(|(&seq, entry)| (seq, entry))
    }

    /// When the next session is due.
    pub(super) fn next_beat(&self) -> Option<Moment> {
        let interval = self.heartbeat_interval()?;
        self.beating().map(|(_, entry)| entry.last_sign(interval) + interval).min()
    }

    /// One burst.
    pub(super) fn beat(&mut self, now: Moment) {
        let Some(interval) = self.heartbeat_interval() else { return };
        self.learn();
        if self.conditions.power == Power::Background {
            self.pass_checks(now);
            self.clean(now); // it was put off for this
        }
        let is_past_half = |entry: &Entry| now.since(entry.last_sign(interval)) >= interval / 2;
        let due: Vec<_> =
            self.beating().filter(|(_, entry)| is_past_half(entry)).map(|(seq, _)| seq).collect();
        let mut is_burst = false;
        for seq in due {
            let Some(entry) = self.sessions.get_mut(&seq) else { continue };
            entry.silence = now.since(entry.last_sign(interval));
            entry.beaten = now;
            if entry.pulse.is_read() {
                is_burst = true;
                self.actions.push_back(Action::Beat(seq));
            }
        }
        self.counters.bursts += u64::from(is_burst);
    }

    /// Asks a session at once that was dialled ahead while dials have failed: nobody would know before its
    /// first beat that the server is back.
    pub(super) fn verify(&mut self, seq: SessionSeq, now: Moment) {
        let beats = self.heartbeat_interval().is_some() && self.beating().any(|(beating, _)| beating == seq);
        if self.backoff.failures() == 0 || !self.idle.contains(&seq) || !beats {
            return;
        }
        if let Some(entry) = self.sessions.get_mut(&seq) {
            entry.beaten = now;
            self.counters.bursts += 1;
            self.actions.push_back(Action::Beat(seq));
        }
    }

    /// Finds a session that has answered the last burst after a whole interval of silence.
    fn learn(&mut self) {
        if self.options.heartbeat != Heartbeat::Auto {
            return;
        }
        let interval = self.auto.interval(); // not the one in use, which may be the background's
        let has_answered =
            |entry: &&mut Entry| entry.silence >= interval && entry.pulse.heard() > entry.beaten;
        if let Some(entry) = self.sessions.values_mut().find(has_answered) {
            entry.silence = Duration::ZERO;
            self.auto.handle_answer();
        }
    }

    /// Whether a session that has not answered was asked after such a silence as the learned interval allows:
    /// one that was longer, or a network that was left, proves nothing against it.
    pub(super) fn has_died_in_silence(&self, entry: &Entry) -> bool {
        let allowed = self.auto.interval() + ANSWER;
        let was_asked = !entry.silence.is_zero() && entry.pulse.heard() <= entry.beaten;
        was_asked && entry.silence <= allowed && !entry.is_stranded
    }

    /// Finds out which sessions live, after a time in which the network was away or has changed.
    pub(super) fn probe_all(&mut self, now: Moment) {
        for (&seq, entry) in &mut self.sessions {
            (entry.beaten, entry.silence) = (now, Duration::ZERO);
            self.actions.push_back(Action::Probe(seq));
        }
    }
}

impl Entry {
    /// When it was asked last, or heard of its own accord: the answer to a beat puts off the next one no
    /// further, or each burst would cost a second timer.
    fn last_sign(&self, interval: Duration) -> Moment {
        let heard = self.pulse.heard();
        if heard <= self.beaten + ANSWER.min(interval / 8) { self.beaten } else { heard }
    }
}
