//! The buffers that all connections of a thread share, and what a connection keeps for itself.
//!
//! A connection borrows the thread's buffer by taking it out of its place and putting it back, so that
//! nothing can find it borrowed twice: whoever finds the place empty makes a new one.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::thread::LocalKey;

use rustls::client::UnbufferedClientConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncodeTlsData};
use tokio::io::AsyncWrite;
use tokio::net::TcpStream;

use super::super::wire::BURST_RECORDS;
use crate::proto::frame::MAX_RECORD_BYTES;

/// Read from the socket at once, and so the most that a paused connection keeps. Measured on loopback at
/// 64, 128 and 256 KiB: 0.92, 0.80 and 0.78 of the CPU that tokio-rustls needs for the same bytes.
pub(super) const READ_BYTES: usize = 128 * 1024;

/// What a record adds to its plaintext; the suites in use add 21 to 29.
const OVERHEAD_BYTES: usize = 32;

/// Room for a burst, and for key updates and an alert beside it; it grows if that is not enough.
const WRITE_BYTES: usize = BURST_RECORDS * (MAX_RECORD_BYTES + OVERHEAD_BYTES) + 256;

thread_local! {
    static READ: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
    static WRITE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Calls `read` with the thread's read buffer.
pub(super) fn with_read_buffer<T>(read: impl FnOnce(&mut [u8]) -> T) -> T {
    let mut buffer = take(&READ, READ_BYTES);
    let result = read(&mut buffer);
    READ.set(buffer);
    result
}

fn take(place: &'static LocalKey<Cell<Vec<u8>>>, length: usize) -> Vec<u8> {
    let buffer = place.take();
    if buffer.is_empty() { vec![0; length] } else { buffer }
}

/// Ciphertext that was read and not processed: the beginning of a record, or, when `sink` said stop, whole
/// records. Holds no memory when there is none.
#[derive(Default)]
pub(super) struct Inbox {
    bytes: Vec<u8>,
    start: usize,
    /// Whether there may be whole records in it.
    pub(super) unread: bool,
}

impl Inbox {
    /// What was read with the end of the handshake.
    pub(super) fn new(rest: &[u8]) -> Self {
        Self { bytes: rest.to_vec(), start: 0, unread: !rest.is_empty() }
    }

    pub(super) fn bytes(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..]
    }

    /// Keeps `rest`, exactly, in the place of all that was there.
    pub(super) fn keep(&mut self, rest: &[u8], unread: bool) {
        *self = Self { bytes: rest.to_vec(), start: 0, unread: unread && !rest.is_empty() };
    }

    /// Lets the first `count` bytes go.
    pub(super) fn consume(&mut self, count: usize, unread: bool) {
        self.start += count;
        self.unread = unread && self.start < self.bytes.len();
        if !self.unread {
            *self = Self { bytes: self.bytes.split_off(self.start), start: 0, unread: false };
        }
    }
}

/// Ciphertext to be written. Lives in the thread's write buffer from the first record of a burst until the
/// flush; what the socket does not take then moves to memory of its own size.
#[derive(Default)]
pub(super) struct Outbox {
    bytes: Vec<u8>,
    sent: usize,
    filled: usize,
    /// Whether `bytes` is the thread's.
    pub(super) shared: bool,
}

impl Outbox {
    pub(super) fn is_empty(&self) -> bool {
        self.sent == self.filled
    }

    /// At least `least` bytes to be filled; then [`advance`](Self::advance).
    pub(super) fn room(&mut self, least: usize) -> &mut [u8] {
        if self.bytes.is_empty() {
            self.bytes = take(&WRITE, WRITE_BYTES);
            self.shared = true;
        }
        if self.bytes.len() < self.filled + least {
            self.bytes.resize(self.filled + least, 0);
        }
        &mut self.bytes[self.filled..]
    }

    pub(super) fn advance(&mut self, count: usize) {
        self.filled += count;
    }

    /// Queues the message that rustls has made.
    pub(super) fn encode<Data>(&mut self, message: &mut EncodeTlsData<'_, Data>) {
        let mut least = 0;
        loop {
            match message.encode(self.room(least)) {
                Ok(count) => return self.advance(count),
                Err(EncodeError::InsufficientSize(short)) => least = short.required_size,
                Err(EncodeError::AlreadyEncoded) => return,
            }
        }
    }

    /// Queues all messages that rustls has made, without giving it anything to process.
    pub(super) fn encode_all(&mut self, tls: &mut UnbufferedClientConnection) {
        // As long as it wants to write, rustls hands these out before it looks at its input.
        while tls.wants_write() {
            let Ok(ConnectionState::EncodeTlsData(mut message)) = tls.process_tls_records(&mut []).state
            else {
                return;
            };
            self.encode(&mut message);
        }
    }

    pub(super) fn poll_flush(&mut self, tcp: &mut TcpStream, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.is_empty() {
            match Pin::new(&mut *tcp).poll_write(cx, &self.bytes[self.sent..self.filled]) {
                Poll::Pending => {
                    if self.shared {
                        let rest = self.bytes[self.sent..self.filled].to_vec();
                        self.release();
                        (self.filled, self.bytes) = (rest.len(), rest);
                    }
                    return Poll::Pending;
                }
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(count)) => self.sent += count,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            }
        }
        self.release();
        Poll::Ready(Ok(()))
    }

    /// Empties it, and gives the thread's buffer back.
    fn release(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        if self.shared {
            // Fails while the thread ends, when nobody needs the buffer any more.
            let _ = WRITE.try_with(|place| place.set(bytes));
        }
        (self.sent, self.filled, self.shared) = (0, 0, false);
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        self.release();
    }
}
