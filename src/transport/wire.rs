//! What a session's driver needs of the connection below it.

use std::io;
use std::task::{Context, Poll};
use std::time::Duration;

pub use crate::budget::BURST_RECORDS;

/// A TLS connection: plaintext in, whole records out.
///
/// One task owns it and polls it; each of `poll_read` and (`poll_flush`, `poll_close`) keeps the waker of
/// its own last caller.
pub trait Wire: Send + 'static {
    /// Reads and decrypts what has arrived and hands each piece of plaintext to `sink`.
    ///
    /// Pieces that were handed over are taken, whatever `sink` answers; `false` stops the reading.
    /// `Pending` means that nothing more is there now (pieces may have been delivered before), and the
    /// waker is registered. `sink` may wake tasks, and must not call back into a connection.
    ///
    /// # Errors
    /// `UnexpectedEof` when the peer's bytes ended without a close_notify: a truncation, never a clean end.
    /// `InvalidData` when a record does not decrypt, or the peer broke TLS or sent a fatal alert. Others
    /// come from the socket. After any of them the connection is of no use.
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        sink: &mut dyn FnMut(&[u8]) -> bool,
    ) -> Poll<io::Result<Read>>;

    /// Encrypts 1 to [`MAX_RECORD_BYTES`](crate::proto::frame::MAX_RECORD_BYTES) bytes as exactly one TLS record and queues it.
    ///
    /// At most [`BURST_RECORDS`] may be queued between two times that [`poll_flush`](Self::poll_flush) was
    /// ready. Nothing leaves before the flush.
    ///
    /// # Errors
    /// `InvalidInput` for another length, `WouldBlock` when the queue is full, `BrokenPipe` when the
    /// connection has failed or is being closed.
    fn queue_record(&mut self, plaintext: &[u8]) -> io::Result<()>;

    /// How many records should be queued now before they are flushed: fewer than [`BURST_RECORDS`] when
    /// there is no memory to keep them for a peer that does not read.
    fn burst_records(&self) -> usize {
        BURST_RECORDS
    }

    /// Writes what is queued, all records in one system call; ready when all of it is in the kernel.
    ///
    /// # Errors
    /// What the socket says.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Sends what is queued and a close_notify, then shuts down the sending side. Reads give
    /// [`Read::End`] from the first call on.
    ///
    /// # Errors
    /// What the socket says.
    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Whether the system already knows, or fears, that the peer is gone; nothing is sent to find out.
    fn is_in_doubt(&self) -> bool {
        false
    }

    /// How far what was written has got; `None` when the system does not say.
    fn progress(&self) -> Option<Progress> {
        None
    }

    /// Has the system watch the peer, for one that answers no heartbeats. Best effort: a system that cannot
    /// leaves the connection as it is.
    fn watch_by_system(&mut self, _: SystemWatch) {}
}

/// How far what was written has got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Bytes queued since the connection was made, whether they have left or not.
    pub queued: u64,
    /// Of those, the bytes that the peer's system has acknowledged.
    pub acknowledged: u64,
}

/// How the system watches a silent peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SystemWatch {
    /// The silence after which it asks (TCP keepalive); `None` for not at all.
    pub interval: Option<Duration>,
    /// How long a peer that does not answer, or does not acknowledge, is waited for (`TCP_USER_TIMEOUT`).
    pub dead_after: Duration,
}

/// Why [`Wire::poll_read`] returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    /// `sink` did not want more. No waker is registered; what has not been delivered is kept.
    Paused,
    /// A fair share was read and there may be more: poll again after giving others a turn.
    More,
    /// The peer has sent its close_notify, and everything before it was delivered.
    End,
}
