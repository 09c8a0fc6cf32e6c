//! A datagram of the app on its way into the stream.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::AsyncWrite;

/// Payloads up to this are copied behind their header, so that a datagram is one write: each takes the session's
/// lock and wakes its driver, which costs more than the copy. What fits a packet of the usual MTUs is shorter.
const SHORT_BYTES: usize = 2048;

/// One datagram on its way, or none.
pub(super) struct Outgoing<P> {
    /// What stands before the payload, and the payload if that is short. Empty while nothing is on its way.
    head: Vec<u8>,
    /// The payload, if that is long.
    long: Option<P>,
    payload_bytes: usize,
    /// Of the head and the payload.
    written: usize,
}

impl<P: AsRef<[u8]>> Outgoing<P> {
    pub(super) fn none() -> Self {
        Self { head: Vec::new(), long: None, payload_bytes: 0, written: 0 }
    }

    /// What is left of a payload, of which so much was written before.
    pub(super) fn rest_of(payload: P, written: usize) -> Self {
        let payload_bytes = payload.as_ref().len();
        Self { head: Vec::new(), long: Some(payload), payload_bytes, written }
    }

    /// Sends a datagram on its way, behind what `put_header` appends; the one before must have left.
    pub(super) fn start(&mut self, payload: P, put_header: impl FnOnce(&mut Vec<u8>)) {
        let bytes = payload.as_ref();
        self.payload_bytes = bytes.len();
        put_header(&mut self.head);
        if bytes.len() <= SHORT_BYTES {
            self.head.extend_from_slice(bytes);
        } else {
            self.long = Some(payload);
        }
    }

    /// Writes what is on its way, and gives how long its payload is.
    pub(super) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut (impl AsyncWrite + Unpin),
    ) -> Poll<io::Result<usize>> {
        let (head, long) = (&self.head[..], self.long.as_ref().map_or(&[][..], AsRef::as_ref));
        while self.written < head.len() + long.len() {
            let rest = head.get(self.written..).filter(|rest| !rest.is_empty());
            let rest = rest.unwrap_or_else(|| &long[self.written - head.len()..]);
            self.written += ready!(Pin::new(&mut *stream).poll_write(cx, rest))?;
        }
        let payload_bytes = self.payload_bytes;
        self.head.clear();
        (self.long, self.payload_bytes, self.written) = (None, 0, 0);
        Poll::Ready(Ok(payload_bytes))
    }

    /// What is held besides a long payload.
    pub(super) fn held(&self) -> usize {
        self.head.capacity()
    }

    /// Gives back the room for heads, which were written and are not followed by more for now.
    pub(super) fn idle(&mut self) {
        self.head = Vec::new();
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    /// Takes up to so many bytes in a write, and remembers each.
    struct Writes(usize, Vec<Vec<u8>>);

    impl AsyncWrite for Writes {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            let taken = bytes.len().min(self.0);
            if taken == 0 {
                return Poll::Pending;
            }
            self.1.push(bytes[..taken].to_vec());
            Poll::Ready(Ok(taken))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    fn write(outgoing: &mut Outgoing<Vec<u8>>, stream: &mut Writes) -> Poll<usize> {
        outgoing.poll_write(&mut Context::from_waker(Waker::noop()), stream).map(|result| result.unwrap())
    }

    #[test]
    fn a_datagram_that_fits_a_packet_is_one_write_and_a_long_one_two() {
        for (size, writes) in [(0, 1), (1, 1), (1472, 1), (SHORT_BYTES, 1), (SHORT_BYTES + 1, 2), (65_535, 2)]
        {
            let (mut outgoing, mut stream) = (Outgoing::none(), Writes(usize::MAX, Vec::new()));
            let payload: Vec<u8> = (0..251).cycle().take(size).collect();
            outgoing.start(payload.clone(), |head| head.extend_from_slice(b"head"));
            assert_eq!(write(&mut outgoing, &mut stream), Poll::Ready(size));
            assert_eq!(stream.1.len(), writes, "{size} bytes");
            assert!(stream.1.concat() == [b"head", &payload[..]].concat());
            assert_eq!(write(&mut outgoing, &mut stream), Poll::Ready(0), "it has left");
        }
    }

    #[test]
    fn a_datagram_that_is_taken_in_pieces_arrives_whole_and_so_does_the_next() {
        for size in [0, 10, 5_000] {
            let (mut outgoing, mut stream) = (Outgoing::none(), Writes(3, Vec::new()));
            for _ in 0..2 {
                outgoing.start(vec![7; size], |head| head.extend_from_slice(b"head"));
                let most = std::mem::take(&mut stream.0);
                assert!(write(&mut outgoing, &mut stream).is_pending());
                stream.0 = most;
                assert_eq!(write(&mut outgoing, &mut stream), Poll::Ready(size));
            }
            let whole = [b"head", &vec![7; size][..]].concat();
            assert!(stream.1.concat() == [&whole[..], &whole].concat());
        }
        let mut stream = Writes(3, Vec::new());
        assert_eq!(write(&mut Outgoing::rest_of(b"0123456789".to_vec(), 4), &mut stream), Poll::Ready(10));
        assert_eq!(stream.1.concat(), b"456789");
    }

    #[test]
    fn nothing_is_held_while_nothing_comes() {
        let mut outgoing = Outgoing::none();
        outgoing.start(vec![0; SHORT_BYTES], |_| ());
        assert!(outgoing.held() >= SHORT_BYTES, "the copy counts");
        assert!(write(&mut outgoing, &mut Writes(usize::MAX, Vec::new())).is_ready());
        outgoing.idle();
        assert_eq!(outgoing.held(), 0);
    }
}
