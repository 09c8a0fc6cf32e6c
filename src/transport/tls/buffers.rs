//! The buffers that all connections of a thread share, and what a connection keeps for itself.
//!
//! A connection borrows the thread's buffer by taking it out of its place and putting it back, so that
//! nothing can find it borrowed twice: whoever finds the place empty makes a new one.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::thread::LocalKey;

use rustls::client::UnbufferedClientConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncodeTlsData};
use tokio::io::AsyncWrite;
use tokio::net::TcpStream;

use crate::budget::{
    Account, BURST_BYTES, BURST_RECORDS, CONTROL_RECORDS_BYTES, Holding, OVERHEAD_BYTES, READ_BYTES,
    RECORD_BYTES, SEALED_RECORD_BYTES,
};
use crate::proto::frame::MAX_RECORD_BYTES;

// What is budgeted for is what is sent.
const _: () = assert!(MAX_RECORD_BYTES == RECORD_BYTES);

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
pub(super) struct Inbox {
    bytes: Vec<u8>,
    start: usize,
    /// Whether there may be whole records in it.
    pub(super) unread: bool,
    holding: Holding,
}

impl Inbox {
    /// What was read with the end of the handshake.
    pub(super) fn new(rest: &[u8], account: &Arc<Account>) -> Self {
        let mut inbox = Self { bytes: Vec::new(), start: 0, unread: false, holding: Holding::new(account) };
        inbox.keep(rest, true);
        inbox
    }

    /// How many bytes it may hold now, what is read next included. A whole record always fits.
    ///
    /// If records go on as long as the last one, so many bytes end with a whole record, and nothing is left that
    /// would be moved out of the thread's buffer and back.
    pub(super) fn allowance(&self, last_record: usize) -> usize {
        let most = self.holding.allowance(SEALED_RECORD_BYTES, READ_BYTES);
        let held = self.bytes.len() - self.start;
        let begun = held + self.missing() as usize;
        let Some(more) = most.saturating_sub(begun).checked_div(last_record) else { return most };
        let end = begun + more * last_record;
        if (held + 1..=most).contains(&end) { end } else { most }
    }

    pub(super) fn bytes(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..]
    }

    /// How many bytes the record that has begun still wants; 0 when that is not known.
    pub(super) fn missing(&self) -> u32 {
        // content type u8 | version u16 | length u16 (RFC 8446, 5.1)
        let [_, _, _, high, low, rest @ ..] = &self.bytes[self.start..] else { return 0 };
        let length = u32::from(u16::from_be_bytes([*high, *low]));
        length.saturating_sub(u32::try_from(rest.len()).unwrap_or(u32::MAX))
    }

    /// Keeps `rest`, exactly, in the place of all that was there.
    pub(super) fn keep(&mut self, rest: &[u8], unread: bool) {
        self.bytes = rest.to_vec();
        self.start = 0;
        self.unread = unread && !rest.is_empty();
        self.holding.set(self.bytes.capacity());
    }

    /// Lets the first `count` bytes go.
    pub(super) fn consume(&mut self, count: usize, unread: bool) {
        self.start += count;
        self.unread = unread && self.start < self.bytes.len();
        if !self.unread {
            let rest = self.bytes.split_off(self.start);
            self.keep(&rest, false);
        }
    }
}

/// Ciphertext to be written. Lives in the thread's write buffer from the first record of a burst until the
/// flush; what the socket does not take then moves to memory of its own size.
pub(super) struct Outbox {
    bytes: Vec<u8>,
    sent: usize,
    filled: usize,
    /// Bytes that the socket took, ever.
    written: u64,
    /// Whether `bytes` is the thread's.
    pub(super) shared: bool,
    holding: Holding,
}

impl Outbox {
    pub(super) fn new(account: &Arc<Account>) -> Self {
        Self {
            bytes: Vec::new(),
            sent: 0,
            filled: 0,
            written: 0,
            shared: false,
            holding: Holding::new(account),
        }
    }

    /// How many records it may have to keep for a peer that does not read.
    pub(super) fn burst_records(&self) -> usize {
        let record = RECORD_BYTES + OVERHEAD_BYTES;
        let most = self.holding.allowance(record + CONTROL_RECORDS_BYTES, BURST_BYTES);
        ((most - CONTROL_RECORDS_BYTES) / record).min(BURST_RECORDS)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.sent == self.filled
    }

    pub(super) fn written(&self) -> u64 {
        self.written
    }

    /// Bytes that the socket has yet to take.
    pub(super) fn waiting(&self) -> u64 {
        u64::try_from(self.filled - self.sent).unwrap_or(u64::MAX)
    }

    /// At least `least` bytes to be filled; then [`advance`](Self::advance).
    pub(super) fn room(&mut self, least: usize) -> &mut [u8] {
        if self.bytes.is_empty() {
            self.bytes = take(&WRITE, BURST_BYTES);
            self.shared = true;
        }
        if self.bytes.len() < self.filled + least {
            self.bytes.resize(self.filled + least, 0);
        }
        self.tell();
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
                        self.tell();
                    }
                    return Poll::Pending;
                }
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(count)) => {
                    self.sent += count;
                    self.written += u64::try_from(count).unwrap_or(u64::MAX);
                }
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
        self.tell();
    }

    /// The thread's buffer is nobody's.
    fn tell(&self) {
        self.holding.set(if self.shared { 0 } else { self.bytes.capacity() });
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        self.release();
    }
}
