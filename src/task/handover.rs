//! One value from a thread to another, which waits for it.
//!
//! `std::sync::mpsc` could do it, but brings three kinds of queues to every phone: 20 KB for two values.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Where one thread puts a value and another takes it.
pub(super) fn handover<T>() -> (Giver<T>, Taker<T>) {
    let place = Arc::new(Place { state: Mutex::new(State::Empty), changed: Condvar::new() });
    (Giver(Arc::clone(&place)), Taker(place))
}

/// Why there is no value.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NoValue {
    /// Not in time.
    Late,
    /// The giver was dropped, by a panic for instance.
    Gone,
}

#[derive(Debug)]
pub(super) struct Giver<T>(Arc<Place<T>>);

#[derive(Debug)]
pub(super) struct Taker<T>(Arc<Place<T>>);

#[derive(Debug)]
struct Place<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
}

#[derive(Debug)]
enum State<T> {
    Empty,
    Full(T),
    Gone,
}

impl<T> Giver<T> {
    pub(super) fn give(self, value: T) {
        *self.0.lock() = State::Full(value);
    }
}

impl<T> Drop for Giver<T> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        if let State::Empty = *state {
            *state = State::Gone;
        }
        drop(state);
        self.0.changed.notify_one();
    }
}

impl<T> Taker<T> {
    /// Blocks the calling thread for at most `limit`.
    pub(super) fn take(self, limit: Duration) -> Result<T, NoValue> {
        let is_empty = |state: &mut State<T>| matches!(state, State::Empty);
        let (mut state, _) = self
            .0
            .changed
            .wait_timeout_while(self.0.lock(), limit, is_empty)
            .unwrap_or_else(PoisonError::into_inner);
        match std::mem::replace(&mut *state, State::Gone) {
            State::Full(value) => Ok(value),
            State::Empty => Err(NoValue::Late),
            State::Gone => Err(NoValue::Gone),
        }
    }
}

impl<T> Place<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    /// Longer than any machine needs: only a hang reaches it.
    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn value_arrives_whoever_is_first() {
        let (giver, taker) = handover();
        giver.give(1);
        assert_eq!(taker.take(Duration::ZERO), Ok(1));
        let (giver, taker) = handover();
        thread::scope(|scope| {
            let taking = scope.spawn(|| taker.take(LONG));
            giver.give(2);
            assert_eq!(taking.join().unwrap(), Ok(2));
        });
    }

    #[test]
    fn nobody_waits_for_a_giver_that_is_gone() {
        let (giver, taker) = handover::<()>();
        thread::scope(|scope| {
            let taking = scope.spawn(|| taker.take(LONG));
            drop(giver);
            assert_eq!(taking.join().unwrap(), Err(NoValue::Gone));
        });
    }

    #[test]
    fn wait_ends_at_its_limit() {
        let (_giver, taker) = handover::<()>();
        assert_eq!(taker.take(Duration::ZERO), Err(NoValue::Late));
    }
}
