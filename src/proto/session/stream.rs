//! One stream's state within its session.

use std::sync::Arc;

use super::StreamError;
use super::buffer::Buffer;
use crate::budget::Holding;
use crate::proto::frame::StreamId;
use crate::proto::timers::Moment;

/// Bytes for the app below which the session reads again, unless memory is short: then it does at none.
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
    /// The app's bytes, not framed yet.
    pub(super) send: Buffer,
    /// The peer's bytes, not read yet.
    pub(super) recv: Buffer,
    /// INVARIANT: true exactly while the output queue holds this stream.
    pub(super) queued: bool,
    /// The app's side is gone: what is in `send` leaves, then Fin.
    pub(super) closing: bool,
    /// INVARIANT: true exactly while this stream counts in the session's `stalled`.
    pub(super) stalled: bool,
    /// The reader was told of data and has not come for it yet.
    pub(super) told: bool,
}

/// A stream whose writer found no room.
#[derive(Debug)]
pub(super) struct WaitingWriter {
    pub(super) id: StreamId,
    /// It was told of room, and has not come for it yet.
    pub(super) told: bool,
}

#[derive(Debug)]
pub(super) enum Phase {
    /// Waiting for the peer's answer since `since`; to be given up at `deadline`.
    Opening {
        since: Moment,
        deadline: Moment,
    },
    Open,
    /// The peer sent Fin: end of file after what `recv` holds.
    Ended,
    Failed(StreamError),
}

impl StreamState {
    pub(super) fn new(phase: Phase, sending: &Arc<Holding>, received: &Arc<Holding>) -> Self {
        Self {
            was_open: matches!(phase, Phase::Open),
            phase,
            send: Buffer::new(sending),
            recv: Buffer::borrowing(received),
            queued: false,
            closing: false,
            stalled: false,
            told: false,
        }
    }
}
