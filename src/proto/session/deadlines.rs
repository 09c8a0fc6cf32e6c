//! What is waited for: a stream's answer, and the peer's version. Heartbeats have a file of their own.

use std::collections::BTreeSet;
use std::time::Duration;

use super::heart::OVERSLEPT;
use super::stream::Phase;
use super::{Event, Session, SessionError, StreamError};
use crate::proto::frame::StreamId;
use crate::proto::settings::PeerVersion;
use crate::proto::timers::{Moment, earliest};

/// A connection that was made less than this ago is taken to be there still: the first heartbeat falls
/// within it, and few networks forget a connection that soon. A guess.
const YOUNG: Duration = Duration::from_secs(60);

/// Opening streams by the moment at which they are given up. Takes no memory while there are none.
#[derive(Debug, Default)]
pub(super) struct Deadlines(BTreeSet<(Moment, StreamId)>);

impl Deadlines {
    fn first(&self) -> Option<(Moment, StreamId)> {
        self.0.first().copied()
    }

    pub(super) fn remove(&mut self, deadline: Moment, id: StreamId) {
        self.0.remove(&(deadline, id));
        if self.0.is_empty() {
            self.clear(); // emptied, the set keeps memory
        }
    }

    pub(super) fn clear(&mut self) {
        self.0 = BTreeSet::new();
    }
}

impl Session {
    /// When [`handle_timeout`](Self::handle_timeout) is due; `None` while the session waits for nothing.
    pub fn poll_timeout(&self) -> Option<Moment> {
        if !self.is_online {
            return None;
        }
        let stream = self.deadlines.first().map(|(deadline, _)| deadline);
        earliest(earliest(stream, self.version_deadline), self.heart_deadline())
    }

    /// Does what is due at `now`: gives up on streams that were not answered and on a peer that is gone,
    /// settles the peer's version.
    pub fn handle_timeout(&mut self, now: Moment) {
        if !self.is_online {
            return;
        }
        if let Some(deadline) = self.version_deadline.take_if(|deadline| *deadline <= now)
            && self.peer.is_none()
        {
            if now.since(deadline) >= OVERSLEPT || !self.is_delivered {
                self.expect_version(now);
            } else {
                self.take_for_version_1();
            }
        }
        self.handle_heart_timeout(now);
        while let Some((deadline, id)) = self.deadlines.first() {
            if deadline > now {
                break;
            }
            self.deadlines.remove(deadline, id);
            // protocol.md#stream: the answer may be there, and it is we who do not read, or who slept
            let unfair = self.stalled > 0 || now.since(deadline) >= OVERSLEPT;
            let postponed = unfair.then(|| self.opening(id, now));
            let Some(stream) = self.streams.get_mut(&id) else { continue };
            let Phase::Opening { since, .. } = stream.phase else { continue };
            if let Some(opening) = postponed {
                stream.phase = opening;
                continue;
            }
            if self.last_input.is_none_or(|last| last < since) {
                self.fail(SessionError::NoAnswer);
                return;
            }
            stream.phase = Phase::Failed(StreamError::TimedOut);
            self.events.push_back(Event::Readable(id));
            self.events.push_back(Event::Writable(id));
        }
    }

    /// There is a network, or none. What was due meanwhile is asked again, as after a sleep.
    pub fn set_online(&mut self, is_online: bool) {
        self.is_online = is_online;
    }

    /// Whether all that was sent has arrived at the peer's system: what has not cannot have been answered. To
    /// be set before [`handle_timeout`](Self::handle_timeout) where it is known.
    pub fn set_delivered(&mut self, is_delivered: bool) {
        self.is_delivered = is_delivered;
    }

    pub(super) fn opening(&mut self, id: StreamId, now: Moment) -> Phase {
        let deadline = now + self.synack_timeout();
        self.deadlines.0.insert((deadline, id));
        Phase::Opening { since: now, deadline }
    }

    /// How long the server may take to open a stream, its own connect included.
    fn synack_timeout(&self) -> Duration {
        let (low, high) = (Duration::from_secs(3), Duration::from_secs(8));
        // protocol.md#reuse
        self.synack_timeout.unwrap_or_else(|| (self.round_trip * 3 + Duration::from_secs(2)).clamp(low, high))
    }

    /// How long after the first Settings a version 2 server may take to say so. It answers them before it
    /// connects anywhere, so a round trip is all it needs; the rest is for a bad moment of the radio.
    pub(super) fn version_grace(&self) -> Duration {
        let (low, high) = (Duration::from_millis(500), Duration::from_secs(2));
        (self.round_trip * 2 + Duration::from_millis(300)).clamp(low, high)
    }

    /// Version 1 never answers a stream: all that wait are open.
    pub(super) fn take_for_version_1(&mut self) {
        self.peer = Some(PeerVersion::V1);
        self.fall_mute();
        self.deadlines.clear();
        self.events.push_back(Event::PeerVersion(PeerVersion::V1));
        for (&id, stream) in &mut self.streams {
            if matches!(stream.phase, Phase::Opening { .. }) {
                stream.phase = Phase::Open;
                stream.was_open = true;
                self.events.push_back(Event::Readable(id));
            }
        }
    }

    /// Another session has shown which version the peer speaks.
    pub fn learn_version(&mut self, version: PeerVersion) {
        if self.peer.is_some() || self.failure.is_some() {
            return;
        }
        match version {
            PeerVersion::V1 => self.take_for_version_1(),
            PeerVersion::V2 => {
                self.peer = Some(version);
                self.version_deadline = None;
                self.pulse.set_answers(true);
            }
        }
    }

    /// The version is taken for 1 when the Settings that leave now are not answered. Not on an old connection
    /// that nothing has come over yet: that may as well be dead, and is judged by what else is not answered.
    pub(super) fn expect_version(&mut self, now: Moment) {
        let is_young = now.since(self.started) < YOUNG || self.last_input.is_some();
        if self.peer.is_none() && self.version_deadline.is_none() && is_young {
            self.version_deadline = Some(now + self.version_grace());
        }
    }
}
