//! Where the two sides of the stack meet: the loop on one, streams and the owner on the other.

use std::collections::VecDeque;
use std::mem;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::task::Waker;

use crate::budget::{Account, Pressure};
use crate::netstack::counters::{Counters, Drops};
use crate::netstack::lock;
use crate::netstack::memory::Memory;
use crate::netstack::table::FlowId;
use crate::netstack::udp::Answer;

/// Messages to the loop. Flows are in each list at most once (a flag in the flow says so), which bounds them
/// by the number of flows; answers are bounded by the account of datagrams.
#[derive(Debug)]
pub(super) struct Hub {
    pub(super) memory: Arc<Memory>,
    /// What queued datagrams hold.
    pub(super) datagrams: Arc<Account>,
    shown: Mutex<Shown>,
    state: Mutex<State>,
}

/// What the loop showed at the end of its last turn.
#[derive(Clone, Copy, Debug, Default)]
struct Shown {
    counters: Counters,
    /// What the memory held.
    held: usize,
}

#[derive(Debug, Default)]
struct State {
    news: News,
    /// Answers to queries, to be sent.
    answers: VecDeque<Answer>,
    waker: Option<Waker>,
    /// Whether the loop is gone, so that nobody hears any more.
    closed: bool,
}

/// What the loop is told.
#[derive(Debug, Default)]
pub(super) struct News {
    /// TCP flows that their streams have done something to.
    pub(super) touched_tcp: Vec<FlowId>,
    /// UDP flows that their relays have done something to.
    pub(super) touched_udp: Vec<FlowId>,
    /// Flows whose streams wait for memory to write into.
    pub(super) starved: Vec<FlowId>,
    /// What was dropped on the other side.
    pub(super) dropped: Drops,
    /// New addresses of our own server.
    pub(super) deny: Option<Vec<SocketAddr>>,
    /// How many UDP flows there may be.
    pub(super) max_udp_flows: Option<usize>,
    /// What the system says of its memory.
    pub(super) pressure: Option<Pressure>,
    /// Whether to stop.
    pub(super) stop: bool,
}

impl Hub {
    pub(super) fn new(memory_bytes: usize, flow_bytes: usize, datagrams: Arc<Account>) -> Self {
        Self {
            memory: Arc::new(Memory::new(memory_bytes, flow_bytes)),
            datagrams,
            shown: Mutex::default(),
            state: Mutex::default(),
        }
    }

    /// Tells the loop and wakes it.
    pub(super) fn tell(&self, news: impl FnOnce(&mut News)) {
        self.change(|state| news(&mut state.news));
    }

    /// Has an answer sent.
    pub(super) fn answer(&self, answer: Answer) {
        self.change(|state| state.answers.push_back(answer));
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = lock(&self.state);
        if state.closed {
            return;
        }
        change(&mut state);
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

    pub(super) fn answers_waiting(&self) -> usize {
        lock(&self.state).answers.len()
    }

    /// Takes the answers that are to be sent.
    pub(super) fn take_answers(&self, answers: &mut VecDeque<Answer>) {
        answers.append(&mut lock(&self.state).answers);
    }

    /// Forgets what was told, now and from now on: the loop is gone.
    pub(super) fn close(&self) {
        let told = mem::replace(&mut *lock(&self.state), State { closed: true, ..State::default() });
        drop(told); // without the lock: it holds a waker
    }

    /// Shows the counters.
    pub(super) fn publish(&self, counters: &Counters) {
        *lock(&self.shown) = Shown { counters: *counters, held: self.memory.held_in_all() };
    }

    pub(super) fn held(&self) -> usize {
        lock(&self.shown).held
    }

    pub(super) fn counters(&self) -> Counters {
        lock(&self.shown).counters
    }
}
