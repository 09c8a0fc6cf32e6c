//! What a session tells its driver, and what it counts.

#[cfg(doc)]
use super::Session;
use crate::proto::frame::StreamId;
use crate::proto::settings::PeerVersion;

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
    /// One stream is gone, and what it took of the session is free.
    Released,
    /// Client: the peer was heard since [`Session::probe`], or cannot be asked.
    Alive,
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
    /// Heartbeats asked for.
    pub beats_sent: u64,
    /// Heartbeats answered.
    pub beats_answered: u64,
    /// Heartbeats that were not answered in time.
    pub beats_missed: u64,
}
