//! A map that forgets what was used the longest ago.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

/// What an entry costs beside its key and value: its places in both maps, and their slack. A guess.
const ENTRY_BYTES: usize = 128;

/// Bounded by bytes: each entry says what it holds.
#[derive(Debug)]
pub(super) struct Lru<K, V> {
    entries: HashMap<K, Entry<V>>,
    /// INVARIANT: has each key of `entries` once, at its `used`.
    order: BTreeMap<u64, K>,
    uses: u64,
    bytes: usize,
    limit: usize,
}

#[derive(Debug)]
struct Entry<V> {
    value: V,
    used: u64,
    bytes: usize,
}

impl<K: Clone + Eq + Hash, V> Lru<K, V> {
    pub(super) fn new(limit: usize) -> Self {
        Self { entries: HashMap::new(), order: BTreeMap::new(), uses: 0, bytes: 0, limit }
    }

    /// In effect with the next [`pop_excess`](Self::pop_excess).
    pub(super) fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The value, which counts as used.
    pub(super) fn get(&mut self, key: &K) -> Option<&V> {
        let entry = self.entries.get_mut(key)?;
        self.uses += 1;
        if let Some(key) = self.order.remove(&entry.used) {
            self.order.insert(self.uses, key);
        }
        entry.used = self.uses;
        Some(&entry.value)
    }

    /// Puts a value that holds `bytes` (key included) in the place of what was there. Call
    /// [`pop_excess`](Self::pop_excess) until it has nothing more.
    pub(super) fn insert(&mut self, key: K, value: V, bytes: usize) {
        self.remove(&key);
        self.uses += 1;
        let bytes = bytes + ENTRY_BYTES;
        self.bytes += bytes;
        self.order.insert(self.uses, key.clone());
        self.entries.insert(key, Entry { value, used: self.uses, bytes });
    }

    pub(super) fn remove(&mut self, key: &K) -> Option<V> {
        let entry = self.entries.remove(key)?;
        self.order.remove(&entry.used);
        self.bytes -= entry.bytes;
        Some(entry.value)
    }

    /// Forgets the entry used the longest ago when there is too much of it all.
    pub(super) fn pop_excess(&mut self) -> Option<(K, V)> {
        if self.bytes > self.limit { self.pop_oldest() } else { None }
    }

    pub(super) fn pop_oldest(&mut self) -> Option<(K, V)> {
        let (_, key) = self.order.pop_first()?;
        let entry = self.entries.remove(&key)?;
        self.bytes -= entry.bytes;
        Some((key, entry.value))
    }

    /// Forgets everything, and gives its memory back.
    pub(super) fn clear(&mut self) {
        self.entries = HashMap::new();
        self.order = BTreeMap::new();
        self.bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn insert(lru: &mut Lru<u32, u32>, key: u32) -> Vec<u32> {
        lru.insert(key, key * 10, 10);
        std::iter::from_fn(|| lru.pop_excess()).map(|(key, _)| key).collect()
    }

    #[test]
    fn what_was_used_the_longest_ago_goes_first() {
        let mut lru = Lru::new(3 * (10 + ENTRY_BYTES));
        for key in 1..=3 {
            assert_eq!(insert(&mut lru, key), [0; 0]);
        }
        assert_eq!(lru.get(&1), Some(&10));
        assert_eq!(insert(&mut lru, 4), [2]);
        assert_eq!(insert(&mut lru, 3), [0; 0], "in its own place");
        assert_eq!(insert(&mut lru, 5), [1]);
        assert_eq!((lru.len(), lru.bytes()), (3, 3 * (10 + ENTRY_BYTES)));
        assert_eq!(lru.get(&2), None);
    }

    #[test]
    fn a_lower_limit_pops_until_it_is_kept() {
        let mut lru = Lru::new(usize::MAX);
        (0..10).for_each(|key| assert_eq!(insert(&mut lru, key), [0; 0]));
        lru.set_limit(2 * (10 + ENTRY_BYTES));
        assert_eq!(std::iter::from_fn(|| lru.pop_excess()).count(), 8);
        assert_eq!(lru.remove(&9), Some(90));
        assert_eq!(lru.remove(&9), None);
        lru.clear();
        assert_eq!((lru.len(), lru.bytes(), lru.get(&8)), (0, 0, None));
    }
}
