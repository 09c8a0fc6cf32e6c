//! Whether the peer is still there: heartbeats asked for, and their answers waited for.

use std::time::Duration;

use super::{Event, Session, SessionError};
use crate::proto::timers::Moment;

/// A timer that fires so much late did not run while the device slept: whatever was to arrive until then
/// has had no chance either. Above every delay of a busy thread, below the shortest deadline. A guess.
pub(super) const OVERSLEPT: Duration = Duration::from_secs(1);

/// A heartbeat that has not been answered.
///
/// ```text
/// asked ── answer in time ──────────────► alive
///    └─ silence ─► asked again ─ answer ► alive
///                        └─ silence ────► the session is dead
/// ```
#[derive(Clone, Copy, Debug)]
pub(super) struct Pending {
    asked: Moment,
    deadline: Moment,
    retried: bool,
    /// Whether somebody waits to hear that the peer is there.
    probing: bool,
    /// Whether nobody read the session then: what is read now may have arrived long before, so that nothing but
    /// the answer itself shows that the peer is there.
    is_behind: bool,
}

impl Pending {
    pub(super) fn is_probe(&self) -> bool {
        self.probing
    }
}

impl Session {
    /// Asks the peer for a sign of life; any byte of it will do. Without one in time, and again without one
    /// after a second request, the session fails with [`SessionError::NoAnswer`].
    ///
    /// Does nothing where no answer can come: from a peer of version 1, or while nobody reads the session.
    pub fn beat(&mut self, now: Moment) {
        if self.wants_input() {
            self.ask_once(now);
        }
    }

    /// Like [`beat`](Self::beat), and [`Event::Alive`] tells when the peer was heard, or at once where it
    /// cannot be asked. A session that nobody reads is asked too, and judged when it is read on.
    pub fn probe(&mut self, now: Moment) {
        self.ask_once(now);
        match &mut self.pending {
            Some(pending) => pending.probing = true,
            None if self.failure.is_none() => self.events.push_back(Event::Alive),
            None => {}
        }
    }

    fn ask_once(&mut self, now: Moment) {
        if self.pulse.answers() && self.failure.is_none() && self.pending.is_none() {
            self.ask(now, false);
        }
    }

    fn ask(&mut self, now: Moment, retried: bool) {
        self.output.heart_request();
        let probing = self.pending.is_some_and(|pending| pending.probing);
        let (deadline, is_behind) = (now + self.heart_timeout(), !self.wants_input());
        self.pending = Some(Pending { asked: now, deadline, retried, probing, is_behind });
    }

    /// design.md, "Heartbeats and the phone's life"
    fn heart_timeout(&self) -> Duration {
        (self.round_trip * 4 + Duration::from_secs(1)).clamp(Duration::from_secs(3), Duration::from_secs(10))
    }

    /// Whether the request still waits for its turn to leave.
    pub fn is_heart_queued(&self) -> bool {
        self.output.is_heart_queued()
    }

    /// When a heartbeat that was asked for must have been answered, if one was.
    pub fn heart_deadline(&self) -> Option<Moment> {
        self.pending.map(|pending| pending.deadline)
    }

    /// The heartbeat has not got through yet, and all before it moves: its answer may take as long again.
    pub fn excuse_heart(&mut self, now: Moment) {
        let deadline = now + self.heart_timeout();
        if let Some(pending) = &mut self.pending {
            pending.deadline = deadline;
        }
    }

    /// Something arrived, so the peer is there.
    pub(super) fn hear(&mut self, now: Moment) {
        self.last_input = Some(now);
        self.pulse.hear(now);
        if self.pending.is_some_and(|pending| pending.is_behind) {
            self.excuse_heart(now);
        } else {
            self.settle_heart();
        }
    }

    fn settle_heart(&mut self) {
        if let Some(pending) = self.pending.take() {
            if pending.probing {
                self.events.push_back(Event::Alive);
            }
            self.unanswered = (!pending.retried).then_some(pending.asked);
        }
    }

    pub(super) fn handle_heart_response(&mut self, now: Moment) {
        if self.counters.beats_answered >= self.counters.beats_sent {
            return; // nobody asked
        }
        tracing::debug!("[Heartbeat] Received heartbeat response");
        self.counters.beats_answered += 1;
        self.settle_heart();
        if let Some(asked) = self.unanswered.take() {
            let sample = now.since(asked);
            self.round_trip = (self.round_trip * 7 + sample) / 8; // RFC 6298's weight
        }
    }

    pub(super) fn handle_heart_timeout(&mut self, now: Moment) {
        let Some(pending) = self.pending else { return };
        if pending.deadline > now {
            return;
        }
        if !self.wants_input() {
            // protocol.md#stream: the answer may be there, and it is we who do not read
            self.pending = Some(Pending { deadline: now + self.heart_timeout(), ..pending });
            return;
        }
        if now.since(pending.deadline) >= OVERSLEPT {
            self.ask(now, false);
            return;
        }
        self.counters.beats_missed += 1;
        if pending.retried && self.peer.is_none() && self.is_delivered {
            self.fall_mute();
        } else if pending.retried {
            self.fail(SessionError::NoAnswer);
        } else {
            self.ask(now, true);
        }
    }

    /// The peer's system has both requests, and the peer has never said a word: if it speaks version 1, it
    /// never will. Only a stream can tell.
    pub(super) fn fall_mute(&mut self) {
        self.pulse.set_answers(false);
        if self.pending.take().is_some_and(|pending| pending.is_probe()) {
            self.events.push_back(Event::Alive);
        }
    }
}
