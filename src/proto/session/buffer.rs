//! A byte queue that gives its memory back as it drains, and tells of what it holds.

use std::cell::Cell;
use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;

use crate::budget::Holding;

/// Capacity not worth giving back while bytes are left.
const SMALL_BYTES: usize = 8 * 1024;

/// What is copied at once. More is one string instruction on x86, which some processors carry out thirty times
/// slower when the copy begins a few bytes further in its page than the original: as behind a frame's header.
const PIECE_BYTES: usize = 2048;

thread_local! {
    /// Memory for what is read as soon as it has come, which is nearly all: without it, every turn of a download
    /// would take some from the system and give it back. None while it is lent.
    static SPARE: Cell<Option<VecDeque<u8>>> = const { Cell::new(Some(VecDeque::new())) };
}

/// Bytes in order, unbounded in itself: its owner asks [`share`](Self::share) before it adds.
///
/// Memory grows by a quarter at least and has never more than that to spare after growing; it shrinks when
/// three quarters are unused, and is gone when the queue is empty. One that [borrows](Self::borrowing) has the thread's
/// spare until somebody has read, and what is left then moves to memory of its own.
#[derive(Debug)]
pub(super) struct Buffer {
    bytes: VecDeque<u8>,
    borrows: bool,
    /// Whether `bytes` is the thread's.
    lent: bool,
    /// Of all buffers of the session in this direction.
    // INVARIANT: this buffer's part in it is its capacity, or its length while that is lent.
    holding: Arc<Holding>,
}

impl Buffer {
    pub(super) fn new(holding: &Arc<Holding>) -> Self {
        Self { bytes: VecDeque::new(), borrows: false, lent: false, holding: Arc::clone(holding) }
    }

    /// A buffer that is read as soon as something is in it, as a rule.
    pub(super) fn borrowing(holding: &Arc<Holding>) -> Self {
        let mut buffer = Self::new(holding);
        buffer.borrows = true;
        buffer
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// What the session holds in this direction, not counting what this buffer has to spare.
    pub(super) fn share(&self) -> usize {
        self.holding.bytes() - (self.part() - self.bytes.len())
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.change(|buffer| {
            if buffer.borrows && buffer.bytes.is_empty() && bytes.len() >= SMALL_BYTES {
                buffer.borrow();
            }
            if buffer.bytes.capacity() - buffer.bytes.len() < bytes.len() {
                buffer.grow(bytes.len());
            }
            for piece in bytes.chunks(PIECE_BYTES) {
                buffer.bytes.extend(piece);
            }
        });
    }

    /// The first bytes that lie in one piece; empty only when the queue is.
    pub(super) fn front(&self) -> &[u8] {
        self.bytes.as_slices().0
    }

    /// Removes the first `count` bytes, or all when there are fewer.
    pub(super) fn consume(&mut self, count: usize) {
        self.change(|buffer| {
            if count >= buffer.bytes.len() {
                buffer.replace(VecDeque::new());
                return;
            }
            buffer.bytes.drain(..count);
            let (held, length) = (buffer.bytes.capacity(), buffer.bytes.len());
            if buffer.lent {
                buffer.grow(0);
            } else if held > SMALL_BYTES && length < held / 4 {
                buffer.bytes.shrink_to(length * 2);
            }
        });
    }

    /// Moves the first `count` bytes, or all when there are fewer, to the end of `out`.
    pub(super) fn take_into(&mut self, count: usize, out: &mut Vec<u8>) {
        let count = count.min(self.bytes.len());
        let (front, back) = self.bytes.as_slices();
        let cut = count.min(front.len());
        out.reserve(count);
        for piece in front[..cut].chunks(PIECE_BYTES).chain(back[..count - cut].chunks(PIECE_BYTES)) {
            out.extend_from_slice(piece);
        }
        self.consume(count);
    }

    /// Gives back what it has to spare.
    pub(super) fn shrink(&mut self) {
        if !self.lent {
            self.change(|buffer| buffer.bytes.shrink_to_fit());
        }
    }

    pub(super) fn clear(&mut self) {
        self.consume(self.bytes.len());
    }

    /// Takes the thread's spare, unless it is lent.
    fn borrow(&mut self) {
        let size = self.holding.spare();
        if size > 0
            && let Some(mut spare) = SPARE.take()
        {
            spare.reserve_exact(size);
            self.replace(spare);
            self.lent = true;
        }
    }

    /// Makes room for `more` in memory of its own.
    fn grow(&mut self, more: usize) {
        let room = more + self.bytes.len() / 4;
        if self.lent {
            let mut own = VecDeque::with_capacity(self.bytes.len() + room);
            let (front, back) = self.bytes.as_slices();
            own.extend(front);
            own.extend(back);
            self.replace(own);
        } else {
            self.bytes.reserve_exact(room);
        }
    }

    fn replace(&mut self, bytes: VecDeque<u8>) {
        let mut old = mem::replace(&mut self.bytes, bytes);
        if mem::take(&mut self.lent) {
            old.clear();
            // Fails while the thread ends, when nobody needs it any more.
            let _ = SPARE.try_with(|spare| spare.set(Some(old)));
        }
    }

    fn part(&self) -> usize {
        if self.lent { self.bytes.len() } else { self.bytes.capacity() }
    }

    fn change(&mut self, change: impl FnOnce(&mut Self)) {
        let before = self.part();
        change(self);
        self.holding.change(before, self.part());
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
    use crate::budget::{Budget, SPARE_BYTES};

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

    #[test]
    fn the_spare_is_lent_to_one_at_a_time_and_comes_back() {
        let account = Arc::new(Budget::divide(24 << 20, 0, false).account());
        let holding = Arc::new(Holding::new(&account));
        let [mut first, mut second] = [0, 1].map(|_| Buffer::borrowing(&holding));
        let spare = |buffer: &Buffer| buffer.bytes.capacity() >= SPARE_BYTES;
        first.push(&[1; SMALL_BYTES - 1]);
        assert!(!spare(&first), "too little to be worth it");
        first.clear();

        first.push(&[1; 20_000]);
        second.push(&[2; 20_000]);
        assert!(spare(&first) && !spare(&second));
        assert_eq!(first.share(), 40_000);
        assert_eq!(account.held(), 20_000 + second.bytes.capacity(), "the spare is in no account");

        first.consume(5_000);
        assert!(!spare(&first) && account.held() >= 35_000, "what is left has moved");
        second.clear();
        second.push(&[3; SPARE_BYTES + 1]);
        assert!(!second.lent && second.bytes.len() == SPARE_BYTES + 1, "it has outgrown the spare");
        assert_eq!(first.bytes, [1; 15_000]);

        drop((first, second));
        assert_eq!(account.held(), 0);
        let mut third = Buffer::borrowing(&holding);
        third.push(&[4; SMALL_BYTES]);
        assert!(spare(&third), "it came back");
    }
}
