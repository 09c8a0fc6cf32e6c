//! What a client shows of itself, besides counters.

use std::time::Duration;

use crate::proto::pool::SessionSeq;
use crate::proto::session::SessionCounters;
use crate::proto::settings::PeerVersion;
use crate::proto::timers::Moment;
use crate::transport::DialError;

/// How a client is doing: enough to tell a user.
#[derive(Clone, Debug, Default)]
pub struct ClientStatus {
    /// Whether the server has answered since the last failure, or ever.
    pub is_proven: bool,
    /// Sessions that there are.
    pub sessions: usize,
    /// Dials under way.
    pub dialing: usize,
    /// Dials that have failed in a row.
    pub failures: u32,
    /// When the next dial may start after a failure.
    pub retry_at: Option<Moment>,
    /// Why the last dial failed; `None` once one has been answered.
    pub last_error: Option<DialError>,
    /// How many streams there may be at once; `None` unless the server was seen to take one a session and no more.
    pub max_streams: Option<usize>,
}

impl ClientStatus {
    /// Whether there is nothing new in `other`. Errors are compared by kind: their texts repeat.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        let kind = |status: &Self| status.last_error.as_ref().map(DialError::kind);
        (self.is_proven, self.sessions, self.dialing, self.failures, self.retry_at)
            == (other.is_proven, other.sessions, other.dialing, other.failures, other.retry_at)
            && self.max_streams == other.max_streams
            && kind(self) == kind(other)
    }
}

/// One session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionInfo {
    /// Its number within the tunnel.
    pub seq: SessionSeq,
    /// How long ago it was dialled.
    pub age: Duration,
    /// For how long the server was not heard.
    pub silent: Duration,
    /// For how long it has served no stream; `None` while it serves one.
    pub idle: Option<Duration>,
    /// The round trip to the server, smoothed.
    pub round_trip: Duration,
    /// Streams on it.
    pub streams: usize,
    /// The server's version, once known.
    pub peer: Option<PeerVersion>,
    /// The MD5 of the padding scheme that it goes by, in hex.
    pub padding_md5: String,
    /// Bytes, padding and heartbeats.
    pub counters: SessionCounters,
}

/// How long the server takes, step by step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Latency {
    /// The TCP connect to the address that answered first.
    pub tcp: Duration,
    /// The TLS handshake and the sending of the authentication.
    pub tls: Duration,
    /// From the first stream's open to the server's answer, its own connect to the target included.
    pub first_stream: Duration,
    /// The same for a second stream on the session, now warm.
    pub warm_stream: Duration,
}
