//! One session: streams over one authenticated connection, as pure logic.
//!
//! Whoever drives it feeds plaintext to [`Session::handle_input`], sends what [`Session::poll_record`]
//! gives (one TLS record a call), wakes whom [`Session::poll_event`] names, and calls
//! [`Session::handle_timeout`] at [`Session::poll_timeout`]. Streams are opened, written, read and
//! closed by id. Nothing here waits, and nothing here knows what carries the bytes.

mod buffer;
mod deadlines;
mod error;
mod event;
mod heart;
mod input;
mod options;
mod output;
mod stream;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use self::deadlines::Deadlines;
use self::heart::Pending;
use self::output::Output;
use self::stream::{Phase, RECV_LOW_BYTES, StreamState, WaitingWriter};
use super::frame::{Decoder, MAX_PSH_BYTES, StreamId};
use super::padding::Scheme;
use super::pulse::Pulse;
use super::settings::PeerVersion;
use super::target::Target;
use super::timers::Moment;
use crate::budget::{Holding, RECEIVE_BYTES, SEND_BYTES, SEND_FLOOR_BYTES};

pub use error::{SessionError, StreamError};
pub use event::{Event, Read, SessionCounters};
pub use options::{SessionOptions, Side};
pub use output::Record;

/// The time in which an ended session without a single frame means a refused password.
/// A server answers a bad one at once; a session that dies later died of something else. A guess.
const REJECTION_WINDOW: Duration = Duration::from_secs(5);

/// One session. See the module's documentation for who calls what.
#[derive(Debug)]
pub struct Session {
    side: Side,
    started: Moment,
    peer: Option<PeerVersion>,
    scheme: Arc<Scheme>,
    round_trip: Duration,
    synack_timeout: Option<Duration>,
    answers_fin: bool,
    decoder: Decoder,
    output: Output,
    /// As a rule one or none.
    streams: BTreeMap<StreamId, Box<StreamState>>,
    /// What all streams hold of their apps' bytes, of the peer's, and the decoder of a control frame.
    sending: Arc<Holding>,
    received: Arc<Holding>,
    control: Holding,
    /// Streams whose writers found no room, in the order in which they came. Each stays until it finds some.
    waiting_writers: Vec<WaitingWriter>,
    /// The id of the stream opened last; ids rise from 1.
    last_stream: u32,
    deadlines: Deadlines,
    /// When a peer that has not told its version is taken for version 1.
    version_deadline: Option<Moment>,
    last_input: Option<Moment>,
    pulse: Arc<Pulse>,
    /// Whether there is a network; without one nothing is judged, and no timer runs.
    is_online: bool,
    /// Whether what was sent has arrived at the peer's system, as far as ours can tell.
    is_delivered: bool,
    /// The heartbeat that the peer has yet to answer by whatever sign of life.
    pending: Option<Pending>,
    /// When the heartbeat was asked for whose own answer will show the round trip.
    unanswered: Option<Moment>,
    /// INVARIANT: how many streams hold more than their reader takes; none is read while it is above zero.
    stalled: usize,
    events: VecDeque<Event>,
    failure: Option<SessionError>,
    counters: SessionCounters,
}

impl Session {
    /// A session whose authentication has just been sent (client) or accepted (server).
    pub fn new(side: Side, options: SessionOptions, now: Moment) -> Self {
        let SessionOptions { scheme, peer, round_trip, synack_timeout, answers_fin, account } = options;
        let session = Self {
            side,
            started: now,
            peer,
            output: Output::new(side, &scheme),
            scheme,
            round_trip,
            synack_timeout,
            answers_fin,
            decoder: Decoder::default(),
            streams: BTreeMap::new(),
            sending: Arc::new(Holding::new(&account)),
            received: Arc::new(Holding::new(&account)),
            control: Holding::new(&account),
            waiting_writers: Vec::new(),
            last_stream: 0,
            deadlines: Deadlines::default(),
            version_deadline: None,
            last_input: None,
            pulse: Arc::new(Pulse::new(now)),
            is_online: true,
            is_delivered: true,
            pending: None,
            unanswered: None,
            stalled: 0,
            events: VecDeque::new(),
            failure: None,
            counters: SessionCounters::default(),
        };
        session.pulse.set_answers(peer != Some(PeerVersion::V1));
        session
    }

    /// Opens a stream to `target`; its first bytes ride in the same write.
    ///
    /// It may be written to at once. [`is_open`](Self::is_open) tells when the server has answered.
    ///
    /// # Errors
    /// When the session has ended, or has used up its stream ids.
    pub fn open(&mut self, target: &Target, first: &[u8], now: Moment) -> Result<StreamId, SessionError> {
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        let Some(id) = self.last_stream.checked_add(1) else {
            self.fail(SessionError::Closed);
            return Err(SessionError::Closed);
        };
        self.last_stream = id;
        let id = StreamId(id);

        let phase = match self.peer {
            Some(PeerVersion::V1) => Phase::Open, // it will never answer
            Some(PeerVersion::V2) => self.opening(id, now),
            None => {
                self.expect_version(now);
                self.opening(id, now)
            }
        };
        let mut stream = Box::new(StreamState::new(phase, &self.sending, &self.received));

        let mut head = Vec::with_capacity(64 + first.len());
        target.put(&mut head);
        let (riding, rest) = first.split_at(first.len().min(MAX_PSH_BYTES - head.len()));
        head.extend_from_slice(riding);
        self.counters.sent_bytes += u64::try_from(riding.len()).unwrap_or(u64::MAX);
        self.output.open(id, &head);

        stream.send.push(rest);
        if !rest.is_empty() {
            stream.queued = true;
            self.output.data(id);
        }
        self.streams.insert(id, stream);
        Ok(id)
    }

    /// Whether the peer has answered the stream, be it that the stream has failed since.
    ///
    /// # Errors
    /// When the stream failed, or its session ended, before an answer.
    pub fn is_open(&self, id: StreamId) -> Result<bool, StreamError> {
        let stream = self.streams.get(&id).ok_or_else(|| self.gone())?;
        match &stream.phase {
            Phase::Opening { .. } => Ok(false),
            Phase::Open | Phase::Ended => Ok(true),
            // Whoever were told of the failure here could open it again, and do its work twice.
            Phase::Failed(_) if stream.was_open => Ok(true),
            Phase::Failed(error) => Err(error.clone()),
        }
    }

    /// Takes bytes of the app and says how many. None means that there is no room:
    /// [`Event::Writable`] tells when there is again.
    ///
    /// # Errors
    /// When the stream failed, or the peer has closed it: then nobody is there to read them.
    pub fn write(&mut self, id: StreamId, bytes: &[u8]) -> Result<usize, StreamError> {
        let Some(stream) = self.streams.get_mut(&id) else {
            return Err(self.gone());
        };
        match &stream.phase {
            Phase::Opening { .. } | Phase::Open => {}
            Phase::Ended => return Err(StreamError::Closed),
            Phase::Failed(error) => return Err(error.clone()),
        }
        let limit = self.sending.allowance(SEND_FLOOR_BYTES, SEND_BYTES);
        let room = limit.saturating_sub(stream.send.share());
        // A few bytes of room are none, or they would be all that a writer gets for its turn.
        let taken = if bytes.len() <= room || room >= SEND_FLOOR_BYTES { room.min(bytes.len()) } else { 0 };
        if taken == 0 {
            if !bytes.is_empty() {
                self.wait_for_room(id);
            }
            return Ok(0);
        }
        self.waiting_writers.retain(|waiting| waiting.id != id);
        stream.send.push(&bytes[..taken]);
        if !stream.queued {
            stream.queued = true;
            self.output.data(id);
        }
        Ok(taken)
    }

    /// Something is queued, if only another stream's: when it leaves, all that wait are told.
    fn wait_for_room(&mut self, id: StreamId) {
        match self.waiting_writers.iter_mut().find(|waiting| waiting.id == id) {
            Some(waiting) => waiting.told = false,
            None => self.waiting_writers.push(WaitingWriter { id, told: false }),
        }
    }

    /// Lends the stream's next bytes to `take`, which says how many it has used.
    ///
    /// # Errors
    /// When the stream failed and all that came before was read.
    pub fn read_with(
        &mut self,
        id: StreamId,
        take: impl FnOnce(&[u8]) -> usize,
    ) -> Result<Read, StreamError> {
        let Some(stream) = self.streams.get_mut(&id) else {
            return Err(self.gone());
        };
        stream.told = false;
        if stream.recv.is_empty() {
            return match &stream.phase {
                Phase::Opening { .. } | Phase::Open => Ok(Read::Empty),
                Phase::Ended => Ok(Read::End),
                Phase::Failed(error) => Err(error.clone()),
            };
        }
        let front = stream.recv.front();
        let taken = take(front).min(front.len());
        stream.recv.consume(taken);
        let limit = self.received.allowance(0, RECEIVE_BYTES);
        let low = stream.recv.len() <= RECV_LOW_BYTES && stream.recv.share() < limit;
        if stream.stalled && (low || stream.recv.is_empty()) {
            stream.stalled = false;
            self.resume();
        }
        Ok(Read::Bytes(taken))
    }

    /// The app is done with the stream: what it wrote still leaves, what arrives for it is dropped.
    pub fn close(&mut self, id: StreamId) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        stream.closing = true;
        let peer_is_done = match &stream.phase {
            Phase::Opening { .. }
            | Phase::Open
            | Phase::Failed(StreamError::TimedOut | StreamError::Stranded) => false,
            Phase::Ended => !self.answers_fin, // protocol.md#frames: a Fin is not answered
            Phase::Failed(_) => true,
        };
        if peer_is_done || self.failure.is_some() {
            self.remove(id);
            return;
        }
        if stream.send.is_empty() {
            self.output.fin(id);
            self.remove(id);
            return;
        }
        stream.recv.clear();
        if std::mem::take(&mut stream.stalled) {
            self.resume();
        }
    }

    /// Like [`close`](Self::close), but what the app wrote and has not left yet is dropped.
    pub fn abort(&mut self, id: StreamId) {
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.send.clear();
            self.close(id);
        }
    }

    /// The device has left the network on which the session was made: streams without an answer fail, since
    /// another session will sooner have one.
    pub fn strand(&mut self) {
        for (&id, stream) in &mut self.streams {
            let Phase::Opening { deadline, .. } = stream.phase else { continue };
            self.deadlines.remove(deadline, id);
            stream.phase = Phase::Failed(StreamError::Stranded);
            self.events.push_back(Event::Readable(id));
            self.events.push_back(Event::Writable(id));
        }
    }

    /// Server: tells the client that the stream's target was reached.
    pub fn accept(&mut self, id: StreamId) {
        self.answer(id, "");
    }

    /// Server: tells the client why the stream's target was not reached, and closes the stream.
    pub fn refuse(&mut self, id: StreamId, reason: &str) {
        self.answer(id, if reason.is_empty() { "refused" } else { reason });
        self.abort(id);
    }

    fn answer(&mut self, id: StreamId, text: &str) {
        if self.streams.contains_key(&id) && self.peer == Some(PeerVersion::V2) {
            self.output.synack(id, text);
        }
    }

    /// Ends the session for `reason`: every stream fails with it. The first reason stays.
    pub fn fail(&mut self, reason: SessionError) {
        if self.failure.is_some() {
            return;
        }
        self.failure = Some(reason.clone());
        self.output.clear();
        self.deadlines.clear();
        self.version_deadline = None;
        self.pending = None;
        let mut gone = Vec::new();
        for (&id, stream) in &mut self.streams {
            stream.queued = false;
            stream.send.clear();
            if stream.closing {
                gone.push(id);
                continue;
            }
            // A stream that the peer has finished keeps its clean end.
            if !matches!(stream.phase, Phase::Ended | Phase::Failed(_)) {
                stream.phase = Phase::Failed(StreamError::Session(reason.clone()));
            }
            self.events.push_back(Event::Readable(id));
            self.events.push_back(Event::Writable(id));
        }
        for id in gone {
            self.remove(id);
        }
    }

    /// Why the session ended, if it has.
    pub fn failure(&self) -> Option<&SessionError> {
        self.failure.as_ref()
    }

    /// The next thing to pass on.
    pub fn poll_event(&mut self) -> Option<Event> {
        let event = self.events.pop_front();
        if event.is_none() && self.streams.is_empty() {
            self.events = VecDeque::new(); // idle sessions keep no memory for what they seldom have
        }
        event
    }

    /// Whether the session takes input: false while a stream holds more than its reader takes, which is
    /// the only back-pressure that the protocol has.
    pub fn wants_input(&self) -> bool {
        self.stalled == 0 && self.failure.is_none()
    }

    /// How many streams are open.
    pub fn stream_count(&self) -> usize {
        self.streams.len()
    }

    /// The signs of life of this session.
    pub fn pulse(&self) -> &Arc<Pulse> {
        &self.pulse
    }

    /// The round trip to the peer, smoothed over the heartbeats.
    pub fn round_trip(&self) -> Duration {
        self.round_trip
    }

    /// What this side pads by, as a client, or asks clients to pad by.
    pub fn scheme(&self) -> &Arc<Scheme> {
        &self.scheme
    }

    /// The peer's version, once known.
    pub fn peer(&self) -> Option<PeerVersion> {
        self.peer
    }

    /// What was counted so far.
    pub fn counters(&self) -> SessionCounters {
        let padding_bytes = self.output.padding_bytes();
        SessionCounters { padding_bytes, ..self.counters }
    }

    fn gone(&self) -> StreamError {
        self.failure.clone().map_or(StreamError::Closed, StreamError::Session)
    }

    fn remove(&mut self, id: StreamId) {
        let Some(stream) = self.streams.remove(&id) else { return };
        if stream.stalled {
            self.resume();
        }
        if let Phase::Opening { deadline, .. } = stream.phase {
            self.deadlines.remove(deadline, id);
        }
        if self.streams.is_empty() {
            self.streams = BTreeMap::new(); // emptied, it keeps memory
        }
        if self.failure.is_none() {
            self.events.push_back(Event::Released);
        }
    }

    fn resume(&mut self) {
        self.stalled -= 1;
        self.pulse.set_read(self.stalled == 0);
    }
}
