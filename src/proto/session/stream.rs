//! One stream's state within its session.

use super::StreamError;
use super::buffer::Buffer;
use crate::proto::timers::Moment;

/// Bytes of the app that wait to be framed: four full records, one burst of the driver.
pub(super) const SEND_LIMIT_BYTES: usize = 64 * 1024;
/// Bytes for the app at which the session stops reading: with one record more, the bound of this buffer.
pub(super) const RECV_HIGH_BYTES: usize = 64 * 1024;
/// Bytes for the app below which the session reads again.
pub(super) const RECV_LOW_BYTES: usize = 16 * 1024;

/// ```text
///            answered                 Fin from the peer
/// Opening ─────────────► Open ─────────────────────────► Ended
///    │ refused, timed out  │ session ended                 │
///    └──────────► Failed ◄─┘                               │
///                   └───────── close ──► gone ◄── close ───┘
/// ```
/// `close` on an open stream first sends what is queued, then Fin, and then the stream is gone.
#[derive(Debug)]
pub(super) struct StreamState {
    pub(super) phase: Phase,
    /// Whether it was ever open: what came of it later is told to its reader, not to who opens it.
    pub(super) was_open: bool,
    /// The app's bytes, not framed yet; at most [`SEND_LIMIT_BYTES`].
    pub(super) send: Buffer,
    /// The peer's bytes, not read yet; at most [`RECV_HIGH_BYTES`] and one input piece.
    pub(super) recv: Buffer,
    /// INVARIANT: true exactly while the output queue holds this stream.
    pub(super) queued: bool,
    /// The app's side is gone: what is in `send` leaves, then Fin.
    pub(super) closing: bool,
    /// A write found no room and waits for an event.
    pub(super) wants_room: bool,
    /// INVARIANT: true exactly while this stream counts in the session's `stalled`.
    pub(super) stalled: bool,
    /// The reader was told of data and has not come for it yet.
    pub(super) told: bool,
}

#[derive(Debug)]
pub(super) enum Phase {
    /// Waiting for the peer's answer since `since`; to be given up at `deadline`, if there is one.
    Opening {
        since: Moment,
        deadline: Option<Moment>,
    },
    Open,
    /// The peer sent Fin: end of file after what `recv` holds.
    Ended,
    Failed(StreamError),
}

impl StreamState {
    pub(super) fn new(phase: Phase) -> Self {
        Self {
            was_open: matches!(phase, Phase::Open),
            phase,
            send: Buffer::default(),
            recv: Buffer::default(),
            queued: false,
            closing: false,
            wants_room: false,
            stalled: false,
            told: false,
        }
    }
}
