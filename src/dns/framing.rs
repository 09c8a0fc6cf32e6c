//! DNS messages on a stream (RFC 1035, section 4.2.2).
//!
//! ```text
//! +------------------+----------------------+
//! | length u16 b.e.  | message, 0 … 65 535  |
//! +------------------+----------------------+
//! ```

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::AsyncWrite;

/// An emptied buffer above this is given back: four pages, what a burst of usual messages fills.
const KEPT_BYTES: usize = 16 * 1024;

/// Messages as their bytes come in, whatever the pieces. Holds one unfinished message at most, and what was fed
/// with its end.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    bytes: Vec<u8>,
    taken: usize,
}

impl Inbox {
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        self.bytes.drain(..std::mem::take(&mut self.taken));
        self.bytes.extend_from_slice(bytes);
    }

    /// How long the message is that has begun.
    pub(super) fn wanted(&self) -> Option<usize> {
        let (length, _) = self.bytes.get(self.taken..)?.split_first_chunk()?;
        Some(usize::from(u16::from_be_bytes(*length)))
    }

    /// The next whole message, empty if the peer has sent an empty one.
    pub(super) fn next(&mut self) -> Option<Vec<u8>> {
        let (length, rest) = self.bytes.get(self.taken..)?.split_first_chunk()?;
        let message = rest.get(..usize::from(u16::from_be_bytes(*length)))?.to_vec();
        self.taken += length.len() + message.len();
        if self.taken == self.bytes.len() {
            empty(&mut self.bytes);
            self.taken = 0;
        }
        Some(message)
    }
}

/// Messages on their way out.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    bytes: Vec<u8>,
    written: usize,
}

impl Outbox {
    /// Adds a message, and gives it as it stands there. `None` if it is longer than any message can be.
    pub(super) fn put(&mut self, message: &[u8]) -> Option<&mut [u8]> {
        let length = u16::try_from(message.len()).ok()?;
        self.bytes.extend_from_slice(&length.to_be_bytes());
        let start = self.bytes.len();
        self.bytes.extend_from_slice(message);
        self.bytes.get_mut(start..)
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len() - self.written
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes what has not been written.
    pub(super) fn take(&mut self) -> Vec<u8> {
        let bytes = std::mem::take(&mut self.bytes);
        debug_assert_eq!(self.written, 0);
        bytes
    }

    /// Writes some of what there is; ready when there was something and some of it was taken.
    pub(super) fn poll_write<W: AsyncWrite + Unpin>(
        &mut self,
        to: &mut W,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        let rest = self.bytes.get(self.written..).unwrap_or_default();
        let count = ready!(Pin::new(to).poll_write(cx, rest))?;
        if count == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        self.written += count;
        if self.is_empty() {
            empty(&mut self.bytes);
            self.written = 0;
        }
        Poll::Ready(Ok(()))
    }
}

fn empty(bytes: &mut Vec<u8>) {
    if bytes.capacity() > KEPT_BYTES {
        *bytes = Vec::new();
    } else {
        bytes.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_out_whole_whatever_the_pieces() {
        let messages = [vec![7; 300], Vec::new(), vec![8; 65_535], vec![9]];
        let mut outbox = Outbox::default();
        messages.iter().for_each(|message| assert!(outbox.put(message).is_some()));
        let bytes = outbox.take();
        for size in [1, 2, 3, 1000, bytes.len()] {
            let mut inbox = Inbox::default();
            let mut seen = Vec::new();
            for piece in bytes.chunks(size) {
                inbox.feed(piece);
                seen.extend(std::iter::from_fn(|| inbox.next()));
            }
            assert_eq!(seen, messages, "in pieces of {size}");
        }
    }

    #[test]
    fn a_large_buffer_is_given_back_when_it_is_empty() {
        let mut inbox = Inbox::default();
        inbox.feed(&[0xFF; 2 + 65_535]);
        assert_eq!(inbox.next().map(|message| message.len()), Some(65_535));
        assert_eq!(inbox.bytes.capacity(), 0);
    }

    #[test]
    fn a_message_that_is_too_long_is_not_put() {
        let mut outbox = Outbox::default();
        assert!(outbox.put(&[0; 65_536]).is_none());
        assert!(outbox.is_empty());
    }
}
