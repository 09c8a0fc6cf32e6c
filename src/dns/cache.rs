//! Answers that are still good.

use std::sync::Arc;
use std::time::Duration;

use super::answer::Answer;
use super::lru::Lru;
use super::message::Key;
use crate::proto::timers::Moment;

/// One answer may take this part of the cache: a large one must not empty it.
const PART: usize = 8;

/// The resolver's answers until their TTL ends, bounded in bytes.
#[derive(Debug)]
pub(super) struct Cache(Lru<Key, Kept>);

#[derive(Debug)]
struct Kept {
    answer: Arc<Answer>,
    since: Moment,
    lifetime: Duration,
}

impl Cache {
    pub(super) fn new(limit: usize) -> Self {
        Self(Lru::new(limit))
    }

    pub(super) fn set_limit(&mut self, limit: usize) {
        self.0.set_limit(limit);
        while self.0.pop_excess().is_some() {}
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.0.bytes()
    }

    /// The answer, and how many seconds old it is.
    pub(super) fn answer(&mut self, key: &Key, now: Moment) -> Option<(Arc<Answer>, u32)> {
        let kept = self.0.get(key)?;
        let age = now.since(kept.since);
        if age >= kept.lifetime {
            self.0.remove(key);
            return None;
        }
        let seconds = u32::try_from(age.as_secs()).ok()?; // below a day
        Some((Arc::clone(&kept.answer), seconds))
    }

    /// Keeps an answer for as long as it may be kept.
    pub(super) fn keep(&mut self, key: Key, answer: &Arc<Answer>, now: Moment) {
        let Some(lifetime) = answer.lifetime() else { return };
        let bytes = key.bytes() + answer.bytes();
        if bytes > self.0.limit() / PART {
            return;
        }
        self.0.insert(key, Kept { answer: Arc::clone(answer), since: now, lifetime }, bytes);
        while self.0.pop_excess().is_some() {}
    }
}
