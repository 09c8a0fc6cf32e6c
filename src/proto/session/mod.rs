//! One session: streams over one authenticated connection, as pure logic.
//!
//! Whoever drives it feeds plaintext to [`Session::handle_input`], sends what [`Session::poll_record`]
//! gives (one TLS record a call), wakes whom [`Session::poll_event`] names, and calls
//! [`Session::handle_timeout`] at [`Session::poll_timeout`]. Streams are opened, written, read and
//! closed by id. Nothing here waits, and nothing here knows what carries the bytes.

mod buffer;
mod error;
mod input;
mod output;
mod stream;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use self::output::Output;
use self::stream::{Phase, RECV_LOW_BYTES, SEND_LIMIT_BYTES, StreamState};
use super::frame::{Decoder, MAX_PSH_BYTES, StreamId};
use super::padding::Scheme;
use super::settings::PeerVersion;
use super::target::Target;
use super::timers::Moment;

pub use error::{SessionError, StreamError};
pub use output::Record;

/// The time in which an ended session without a single frame means a refused password.
/// A server answers a bad one at once; a session that dies later died of something else. A guess.
const REJECTION_WINDOW: Duration = Duration::from_secs(5);

/// Which end of the connection this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Opens streams, pads what it sends.
    Client,
    /// Accepts streams, never pads.
    Server,
}

/// What a session is told about its peer when it starts.
#[derive(Clone, Debug)]
pub struct SessionOptions {
    /// Client: what this side pads by. Server: what clients are to pad by.
    pub scheme: Arc<Scheme>,
    /// The peer's version where earlier sessions showed it.
    pub peer: Option<PeerVersion>,
    /// The round trip measured while connecting.
    pub round_trip: Duration,
    /// How long the server may take to answer a stream; `None` follows the round trip.
    pub synack_timeout: Option<Duration>,
    /// Send a Fin for a stream that the peer has ended, too. The protocol asks for none, but anytls-server
    /// counts a stream until it has come, and takes no other on the session before.
    pub answers_fin: bool,
}

/// What the driver has to pass on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A stream was answered, failed, has bytes or its end to read.
    Readable(StreamId),
    /// A stream that found no room has some again, or failed.
    Writable(StreamId),
    /// Server: the client opened this stream; answer with [`Session::accept`] or [`Session::refuse`].
    Incoming(StreamId),
    /// Client: the server said which version it speaks.
    PeerVersion(PeerVersion),
    /// Client: the server wants its clients to pad by this raw scheme, to be checked before use.
    SchemeUpdate(Vec<u8>),
    /// The last stream is gone: the session may serve another.
    Idle,
}

/// What [`Session::read_with`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    /// So many bytes were taken.
    Bytes(usize),
    /// None are there now.
    Empty,
    /// The peer finished, and all that it sent was read.
    End,
}

/// Counters of one session, since it started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SessionCounters {
    /// Bytes of apps framed for the peer.
    pub sent_bytes: u64,
    /// Bytes of the peer's streams.
    pub received_bytes: u64,
    /// Waste sent, frame headers included.
    pub padding_bytes: u64,
    /// Frames with a command that this version does not know.
    pub unknown_frames: u64,
}

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
    streams: HashMap<StreamId, StreamState>,
    /// The id of the stream opened last; ids rise from 1.
    last_stream: u32,
    /// Opening streams by the moment at which they are given up.
    deadlines: BTreeSet<(Moment, StreamId)>,
    /// When a peer that has not told its version is taken for version 1.
    version_deadline: Option<Moment>,
    last_input: Option<Moment>,
    /// INVARIANT: how many streams hold more than their reader takes; none is read while it is above zero.
    stalled: usize,
    events: VecDeque<Event>,
    failure: Option<SessionError>,
    counters: SessionCounters,
}

impl Session {
    /// A session whose authentication has just been sent (client) or accepted (server).
    pub fn new(side: Side, options: SessionOptions, now: Moment) -> Self {
        let SessionOptions { scheme, peer, round_trip, synack_timeout, answers_fin } = options;
        Self {
            side,
            started: now,
            peer,
            output: Output::new(side, &scheme),
            scheme,
            round_trip,
            synack_timeout,
            answers_fin,
            decoder: Decoder::default(),
            streams: HashMap::new(),
            last_stream: 0,
            deadlines: BTreeSet::new(),
            version_deadline: None,
            last_input: None,
            stalled: 0,
            events: VecDeque::new(),
            failure: None,
            counters: SessionCounters::default(),
        }
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
                if self.version_deadline.is_none() {
                    self.version_deadline = Some(now + self.version_grace());
                }
                self.opening(id, now)
            }
        };
        let mut stream = StreamState::new(phase);

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
        let stream = self.stream(id)?;
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
        let room = SEND_LIMIT_BYTES.saturating_sub(stream.send.len());
        let taken = room.min(bytes.len());
        if taken == 0 {
            stream.wants_room = !bytes.is_empty();
            return Ok(0);
        }
        stream.send.push(&bytes[..taken]);
        if !stream.queued {
            stream.queued = true;
            self.output.data(id);
        }
        Ok(taken)
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
        if stream.stalled && stream.recv.len() <= RECV_LOW_BYTES {
            stream.stalled = false;
            self.stalled -= 1;
        }
        Ok(Read::Bytes(taken))
    }

    /// The app is done with the stream: what it wrote still leaves, what arrives for it is dropped.
    pub fn close(&mut self, id: StreamId) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        stream.closing = true;
        let peer_is_done = match &stream.phase {
            Phase::Opening { .. } | Phase::Open | Phase::Failed(StreamError::TimedOut) => false,
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
        if stream.stalled {
            stream.stalled = false;
            self.stalled -= 1;
        }
    }

    /// Like [`close`](Self::close), but what the app wrote and has not left yet is dropped.
    pub fn abort(&mut self, id: StreamId) {
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.send.clear();
            self.close(id);
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
        self.events.pop_front()
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due; `None` while the session waits for nothing.
    pub fn poll_timeout(&self) -> Option<Moment> {
        let stream = self.deadlines.first().map(|&(deadline, _)| deadline);
        super::timers::earliest(stream, self.version_deadline)
    }

    /// Does what is due at `now`: gives up on streams that were not answered, settles the peer's version.
    pub fn handle_timeout(&mut self, now: Moment) {
        if self.version_deadline.is_some_and(|deadline| deadline <= now) {
            self.version_deadline = None;
            if self.peer.is_none() {
                self.take_for_version_1();
            }
        }
        while let Some(&(deadline, id)) = self.deadlines.first() {
            if deadline > now {
                break;
            }
            self.deadlines.pop_first();
            // protocol.md#stream: the answer may be there, and it is we who do not read
            let postponed = (self.stalled > 0).then(|| self.opening(id, now));
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

    /// Whether the session takes input: false while a stream holds more than its reader takes, which is
    /// the only back-pressure that the protocol has.
    pub fn wants_input(&self) -> bool {
        self.stalled == 0 && self.failure.is_none()
    }

    /// How many streams are open.
    pub fn stream_count(&self) -> usize {
        self.streams.len()
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

    fn opening(&mut self, id: StreamId, now: Moment) -> Phase {
        let deadline = now + self.synack_timeout();
        self.deadlines.insert((deadline, id));
        Phase::Opening { since: now, deadline: Some(deadline) }
    }

    /// How long the server may take to open a stream, its own connect included.
    fn synack_timeout(&self) -> Duration {
        let (low, high) = (Duration::from_secs(3), Duration::from_secs(8));
        // protocol.md#reuse
        self.synack_timeout.unwrap_or_else(|| (self.round_trip * 3 + Duration::from_secs(2)).clamp(low, high))
    }

    /// How long after the first Settings a version 2 server may take to say so. It answers them before it
    /// connects anywhere, so a round trip is all it needs; the rest is for a bad moment of the radio.
    fn version_grace(&self) -> Duration {
        let (low, high) = (Duration::from_millis(500), Duration::from_secs(2));
        (self.round_trip * 2 + Duration::from_millis(300)).clamp(low, high)
    }

    /// Version 1 never answers a stream: all that wait are open.
    fn take_for_version_1(&mut self) {
        self.peer = Some(PeerVersion::V1);
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

    fn stream(&self, id: StreamId) -> Result<&StreamState, StreamError> {
        self.streams.get(&id).ok_or_else(|| self.gone())
    }

    fn gone(&self) -> StreamError {
        self.failure.clone().map_or(StreamError::Closed, StreamError::Session)
    }

    fn remove(&mut self, id: StreamId) {
        let Some(stream) = self.streams.remove(&id) else { return };
        if stream.stalled {
            self.stalled -= 1;
        }
        if let Phase::Opening { deadline: Some(deadline), .. } = stream.phase {
            self.deadlines.remove(&(deadline, id));
        }
        if self.streams.is_empty() && self.failure.is_none() {
            self.events.push_back(Event::Idle);
        }
    }
}
