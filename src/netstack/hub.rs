//! Where the two sides of the stack meet: the loop on one, streams and the owner on the other.

use std::mem;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::task::Waker;

use crate::netstack::counters::Counters;
use crate::netstack::lock;
use crate::netstack::memory::Memory;
use crate::netstack::table::FlowId;

/// Messages to the loop. Flows are in each list at most once (a flag in the flow says so), which bounds them
/// by the number of flows.
#[derive(Debug)]
pub(super) struct Hub {
    pub(super) memory: Arc<Memory>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    news: News,
    counters: Counters,
    waker: Option<Waker>,
}

/// What the loop is told.
#[derive(Debug, Default)]
pub(super) struct News {
    /// Flows that their streams have done something to.
    pub(super) touched: Vec<FlowId>,
    /// Flows whose streams wait for memory to write into.
    pub(super) starved: Vec<FlowId>,
    /// New addresses of our own server.
    pub(super) deny: Option<Vec<SocketAddr>>,
    /// Whether to stop.
    pub(super) stop: bool,
}

impl Hub {
    pub(super) fn new(memory_bytes: usize) -> Self {
        Self { memory: Arc::new(Memory::new(memory_bytes)), state: Mutex::default() }
    }

    /// Tells the loop and wakes it.
    pub(super) fn tell(&self, news: impl FnOnce(&mut News)) {
        let mut state = lock(&self.state);
        news(&mut state.news);
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Takes the news, in exchange for the empty lists of `news`. What is told afterwards wakes `waker`.
    pub(super) fn listen(&self, waker: &Waker, news: &mut News) {
        let mut state = lock(&self.state);
        mem::swap(&mut state.news, news);
        if !state.waker.as_ref().is_some_and(|known| known.will_wake(waker)) {
            state.waker = Some(waker.clone());
        }
    }

    /// Shows the counters.
    pub(super) fn publish(&self, counters: &Counters) {
        lock(&self.state).counters = *counters;
    }

    pub(super) fn counters(&self) -> Counters {
        lock(&self.state).counters
    }
}
