//! Where the two sides of the stack meet: the loop on one, streams and the owner on the other.

use std::mem;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Waker;

use crate::budget::Pressure;
use crate::netstack::counters::{Counters, Shown};
use crate::netstack::lock;
use crate::netstack::memory::Memory;
use crate::netstack::table::FlowId;

/// Messages to the loop. Flows are in each list at most once (a flag in the flow says so), which bounds them
/// by the number of flows.
#[derive(Debug)]
pub(super) struct Hub {
    pub(super) memory: Arc<Memory>,
    shown: Shown,
    /// What the memory held when the counters were shown.
    held: AtomicUsize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    news: News,
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
    /// What the system says of its memory.
    pub(super) pressure: Option<Pressure>,
    /// Whether to stop.
    pub(super) stop: bool,
}

impl Hub {
    pub(super) fn new(memory_bytes: usize, flow_bytes: usize) -> Self {
        Self {
            memory: Arc::new(Memory::new(memory_bytes, flow_bytes)),
            shown: Shown::default(),
            held: AtomicUsize::new(0),
            state: Mutex::default(),
        }
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
        self.shown.show(counters);
        self.held.store(self.memory.held_in_all(), Ordering::Relaxed);
    }

    pub(super) fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    pub(super) fn counters(&self) -> Counters {
        self.shown.snapshot()
    }
}
