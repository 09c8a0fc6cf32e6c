//! A byte queue that gives its memory back when it has been drained.

use std::collections::VecDeque;

/// Capacity worth keeping when a queue runs empty: an interactive stream refills this much often,
/// and what a bulk transfer grew is returned. A guess.
const KEPT_BYTES: usize = 2 * 1024;

/// Bytes in order, unbounded in itself: its owner asks [`len`](Self::len) before it adds.
#[derive(Debug, Default)]
pub(super) struct Buffer(VecDeque<u8>);

impl Buffer {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.0.extend(bytes);
    }

    /// The first bytes that lie in one piece; empty only when the queue is.
    pub(super) fn front(&self) -> &[u8] {
        self.0.as_slices().0
    }

    /// Removes the first `count` bytes, or all when there are fewer.
    pub(super) fn consume(&mut self, count: usize) {
        if count < self.0.len() {
            self.0.drain(..count);
            return;
        }
        self.clear();
    }

    /// Moves the first `count` bytes, or all when there are fewer, to the end of `out`.
    pub(super) fn take_into(&mut self, count: usize, out: &mut Vec<u8>) {
        let count = count.min(self.0.len());
        let (front, back) = self.0.as_slices();
        let cut = count.min(front.len());
        out.extend_from_slice(&front[..cut]);
        out.extend_from_slice(&back[..count - cut]);
        self.consume(count);
    }

    pub(super) fn clear(&mut self) {
        if self.0.capacity() > KEPT_BYTES {
            self.0 = VecDeque::new();
        } else {
            self.0.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_leave_in_the_order_they_came_across_the_wrap() {
        let mut buffer = Buffer::default();
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
    fn a_drained_queue_returns_what_a_bulk_transfer_grew() {
        let mut buffer = Buffer::default();
        buffer.push(&[7; 100_000]);
        buffer.consume(100_000);
        assert_eq!(buffer.0.capacity(), 0);
    }
}
