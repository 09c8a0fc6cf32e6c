//! What many holders may hold together.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

use super::{PART, Pressure};

/// Counts the bytes of many holders against one limit; no locks.
///
/// A holder that asks [`allowance`](Self::allowance) before it grows, and stays within, never takes the
/// account over its limit beyond the sum of the floors. The default has no limit.
#[derive(Debug)]
pub struct Account {
    limit: usize,
    held: AtomicUsize,
    pressure: AtomicU8,
    spare: usize,
}

impl Default for Account {
    fn default() -> Self {
        Self::new(usize::MAX)
    }
}

impl Account {
    /// An account of `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self { limit, held: AtomicUsize::new(0), pressure: AtomicU8::new(0), spare: 0 }
    }

    /// Allows one holder at a time so many bytes more, beside the account.
    pub(super) fn with_spare(mut self, bytes: usize) -> Self {
        self.spare = bytes;
        self
    }

    /// Bytes held by all.
    pub fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    /// Bytes that nobody holds.
    pub fn free(&self) -> usize {
        self.limit.saturating_sub(self.held())
    }

    /// What one holder may have in all now: part of what is free, but at least `floor` and at most `most`.
    pub fn allowance(&self, floor: usize, most: usize) -> usize {
        let limit = match self.pressure() {
            Pressure::Normal => self.limit,
            Pressure::Low => self.limit / 4,
            Pressure::Critical => 0,
        };
        (limit.saturating_sub(self.held()) / PART).min(most).max(floor)
    }

    /// Shrinks allowances from now on, or lets them be again. What is held already stays.
    pub fn set_pressure(&self, pressure: Pressure) {
        let level = match pressure {
            Pressure::Normal => 0,
            Pressure::Low => 1,
            Pressure::Critical => 2,
        };
        self.pressure.store(level, Ordering::Relaxed);
    }

    /// What was last set.
    pub fn pressure(&self) -> Pressure {
        match self.pressure.load(Ordering::Relaxed) {
            0 => Pressure::Normal,
            1 => Pressure::Low,
            _ => Pressure::Critical,
        }
    }

    pub(super) fn take(&self, bytes: usize) {
        self.held.fetch_add(bytes, Ordering::Relaxed);
    }

    fn release(&self, bytes: usize) {
        self.held.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// What one holder has of an [`Account`]. Dropping it gives that back.
///
/// It counts what it is told; where several buffers are one holder, each tells of its own changes.
#[derive(Debug, Default)]
pub struct Holding {
    account: Arc<Account>,
    bytes: AtomicUsize,
}

impl Holding {
    /// Of nothing, yet.
    pub fn new(account: &Arc<Account>) -> Self {
        Self { account: Arc::clone(account), bytes: AtomicUsize::new(0) }
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// See [`Account::allowance`].
    pub fn allowance(&self, floor: usize, most: usize) -> usize {
        self.account.allowance(floor, most)
    }

    /// What one holder at a time may have beside the account, in bytes.
    pub fn spare(&self) -> usize {
        self.account.spare
    }

    /// Whether the account is over its limit, and this holder has a part in that.
    pub fn is_over(&self) -> bool {
        self.bytes() > 0 && self.account.held() > self.account.limit
    }

    /// One of the holder's buffers went from so many bytes to so many.
    pub fn change(&self, from: usize, to: usize) {
        if to > from {
            self.bytes.fetch_add(to - from, Ordering::Relaxed);
            self.account.take(to - from);
        } else if from > to {
            self.bytes.fetch_sub(from - to, Ordering::Relaxed);
            self.account.release(from - to);
        }
    }

    /// The holder's only buffer has so many bytes.
    pub fn set(&self, bytes: usize) {
        self.change(self.bytes(), bytes);
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        self.account.release(self.bytes());
    }
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    use super::*;

    #[test]
    fn holders_that_ask_never_exceed_the_limit_and_the_floors() {
        const FLOOR: usize = 1_000;
        const MOST: usize = 60_000;
        for seed in 0..20 {
            let mut random = StdRng::seed_from_u64(seed);
            let account = Arc::new(Account::new(1_000_000));
            let holders: Vec<_> = (0..64).map(|_| Holding::new(&account)).collect();
            for _ in 0..10_000 {
                let holder = &holders[random.random_range(0..holders.len())];
                match random.random_range(0..10) {
                    0 => holder.set(random.random_range(0..=holder.bytes())),
                    _ => holder.set(holder.bytes().max(holder.allowance(FLOOR, MOST))),
                }
                assert!(account.held() <= 1_000_000 + holders.len() * FLOOR, "seed {seed}");
            }
            drop(holders);
            assert_eq!(account.held(), 0, "seed {seed}");
        }
    }

    #[test]
    fn what_stalls_leaves_something_for_what_comes_after_it() {
        let account = Arc::new(Account::new(1 << 20));
        let stalled: Vec<_> = (0..8).map(|_| Holding::new(&account)).collect();
        for holding in &stalled {
            holding.set(holding.allowance(0, usize::MAX));
        }
        assert!(account.allowance(0, usize::MAX) > 32 * 1024);
    }

    #[test]
    fn pressure_shrinks_allowances_to_the_floor_and_is_undone() {
        let account = Account::new(1 << 20);
        let at = |pressure| {
            account.set_pressure(pressure);
            assert_eq!(account.pressure(), pressure);
            account.allowance(100, 64 * 1024)
        };
        assert_eq!(at(Pressure::Normal), 64 * 1024);
        assert_eq!(at(Pressure::Low), 32 * 1024);
        assert_eq!(at(Pressure::Critical), 100);
        assert_eq!(at(Pressure::Normal), 64 * 1024);
    }
}
