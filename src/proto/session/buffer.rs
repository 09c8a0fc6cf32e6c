//! A byte queue that gives its memory back as it drains, and tells of what it holds.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::budget::Holding;

/// Capacity not worth giving back while bytes are left.
const SMALL_BYTES: usize = 8 * 1024;

/// Bytes in order, unbounded in itself: its owner asks [`share`](Self::share) before it adds.
///
/// Memory grows by a quarter at least and has never more than that to spare after growing; it shrinks when
/// three quarters are unused, and is gone when the queue is empty.
#[derive(Debug)]
pub(super) struct Buffer {
    bytes: VecDeque<u8>,
    /// Of all buffers of the session in this direction.
    // INVARIANT: this buffer's part in it is its capacity.
    holding: Arc<Holding>,
}

impl Buffer {
    pub(super) fn new(holding: &Arc<Holding>) -> Self {
        Self { bytes: VecDeque::new(), holding: Arc::clone(holding) }
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// What the session holds in this direction, not counting what this buffer has to spare.
    pub(super) fn share(&self) -> usize {
        self.holding.bytes() - (self.bytes.capacity() - self.bytes.len())
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.change(|queue| {
            if queue.capacity() - queue.len() < bytes.len() {
                queue.reserve_exact(bytes.len() + queue.len() / 4);
            }
            queue.extend(bytes);
        });
    }

    /// The first bytes that lie in one piece; empty only when the queue is.
    pub(super) fn front(&self) -> &[u8] {
        self.bytes.as_slices().0
    }

    /// Removes the first `count` bytes, or all when there are fewer.
    pub(super) fn consume(&mut self, count: usize) {
        self.change(|queue| {
            if count >= queue.len() {
                *queue = VecDeque::new();
                return;
            }
            queue.drain(..count);
            if queue.capacity() > SMALL_BYTES && queue.len() < queue.capacity() / 4 {
                queue.shrink_to(queue.len() * 2);
            }
        });
    }

    /// Moves the first `count` bytes, or all when there are fewer, to the end of `out`.
    pub(super) fn take_into(&mut self, count: usize, out: &mut Vec<u8>) {
        let count = count.min(self.bytes.len());
        let (front, back) = self.bytes.as_slices();
        let cut = count.min(front.len());
        out.reserve(count);
        out.extend_from_slice(&front[..cut]);
        out.extend_from_slice(&back[..count - cut]);
        self.consume(count);
    }

    /// Gives back what it has to spare.
    pub(super) fn shrink(&mut self) {
        self.change(VecDeque::shrink_to_fit);
    }

    pub(super) fn clear(&mut self) {
        self.consume(self.bytes.len());
    }

    fn change(&mut self, change: impl FnOnce(&mut VecDeque<u8>)) {
        let before = self.bytes.capacity();
        change(&mut self.bytes);
        self.holding.change(before, self.bytes.capacity());
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buffer() -> (Buffer, Arc<Holding>) {
        let holding = Arc::new(Holding::default());
        (Buffer::new(&holding), holding)
    }

    #[test]
    fn bytes_leave_in_the_order_they_came_across_the_wrap() {
        let (mut buffer, _) = buffer();
        let mut expected = VecDeque::new();
        for round in 0_u8..200 {
            let bytes: Vec<u8> = (0..37).map(|i| round.wrapping_add(i)).collect();
            buffer.push(&bytes);
            expected.extend(bytes);
            let mut out = Vec::new();
            buffer.take_into(31, &mut out);
            assert_eq!(out, expected.drain(..31).collect::<Vec<_>>());
        }
        let mut rest = Vec::new();
        while !buffer.is_empty() {
            let front = buffer.front().to_vec();
            buffer.consume(front.len());
            rest.extend(front);
        }
        assert_eq!(rest, Vec::from(expected));
    }

    #[test]
    fn a_drained_queue_holds_nothing() {
        let (mut buffer, holding) = buffer();
        buffer.push(&[7; 100_000]);
        assert_eq!(holding.bytes(), 100_000);
        buffer.consume(90_000);
        assert!(holding.bytes() <= 20_000, "{}", holding.bytes());
        buffer.consume(10_000);
        assert_eq!(holding.bytes(), 0);
    }

    #[test]
    fn a_growing_queue_has_at_most_a_quarter_to_spare() {
        let (mut buffer, holding) = buffer();
        while buffer.len() < 65_536 {
            buffer.push(&[7; 100]);
            assert!(holding.bytes() <= buffer.len() * 5 / 4, "{} of {}", holding.bytes(), buffer.len());
        }
        assert_eq!(buffer.share(), buffer.len());
        drop(buffer);
        assert_eq!(holding.bytes(), 0);
    }
}
