//! TCP: the flows by 5-tuple, when they are looked after, and what they give back.
//!
//! What a connection does is smoltcp's work, one interface with one socket for each; ours is everything around it.
//!
//! | file | subject |
//! |---|---|
//! | this one | the loop's side |
//! | `flow` | what the loop and a stream share |
//! | `end` | how a flow ended |
//! | `connection`, `port` | one smoltcp endpoint; its device |
//! | `stream` | the relay's side |
//! | `answer` | segments that no connection sends |

mod answer;
mod connection;
mod end;
mod flow;
mod port;
mod stream;

use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use rand::Rng;
use rand::rngs::StdRng;

use crate::netstack::counters::DropReason;
use crate::netstack::demux::Segment;
use crate::netstack::hub::Hub;
use crate::netstack::table::{FlowId, Table, Tuple};
use crate::netstack::timers::{Deadline, Deadlines, Timers};
use crate::netstack::wire::Wire;
use crate::netstack::{Handler, Options, note};
use crate::proto::timers::{Moment, earliest};
use crate::tun::Device;

use connection::Connection;
use flow::{Shared, SynMeaning};

pub(super) use end::End;
pub use stream::{TcpFlow, TcpStream};

/// How long a flow must have been quiet before its pages are given back, and how often that is looked for.
const QUIET: Duration = Duration::from_secs(1);

/// How often pages are collected at most while memory is short.
const SHORTAGE_PAUSE: Duration = Duration::from_millis(10);

/// How long a flow must have moved nothing to be shed when memory is critically short. A person who reads a
/// page does not notice that its connections are gone; a download that stutters must not be one of them.
const SHED_AFTER: Duration = Duration::from_secs(10);

/// A flow in the table.
struct Entry {
    shared: Arc<Shared>,
    deadline: Deadline,
    noted: bool,
    half_open: bool,
    active: Moment,
    /// When payload last came or went.
    moved: Moment,
}

/// All TCP of one stack, as its loop owns it.
pub(super) struct Tcp {
    hub: Arc<Hub>,
    /// Makes initial sequence numbers.
    generator: StdRng,
    eager: bool,
    max_flows: usize,
    max_half_open: usize,
    table: Table<Tuple, Entry>,
    half_open: usize,
    /// Flows to be looked after in this turn, or the next if they had their share.
    noted: VecDeque<FlowId>,
    timers: Timers,
    /// Flows in TIME-WAIT, the oldest first: they make room for new ones.
    waiting: VecDeque<FlowId>,
    /// Flows that may have pages to give back.
    swept: Vec<FlowId>,
    sweep_at: Option<Moment>,
    last_sweep: Moment,
    /// Whether a page was refused since the last sweep.
    short: bool,
    /// Flows whose streams wait for memory.
    starved: Vec<FlowId>,
}

impl Tcp {
    pub(super) fn new(hub: Arc<Hub>, options: &Options, generator: StdRng) -> Self {
        let &Options { eager, max_flows, max_half_open, .. } = options;
        Self {
            hub,
            generator,
            eager,
            max_flows,
            max_half_open,
            table: Table::new(),
            half_open: 0,
            noted: VecDeque::new(),
            timers: Timers::default(),
            waiting: VecDeque::new(),
            swept: Vec::new(),
            sweep_at: None,
            last_sweep: Moment::default(),
            short: false,
            starved: Vec::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    /// Flows whose handshake is not done.
    pub(super) fn half_open(&self) -> usize {
        self.half_open
    }

    /// Whether there is more to do than one turn's share.
    pub(super) fn wants_turn(&self) -> bool {
        !self.noted.is_empty()
    }

    /// When [`Tcp::fire_timers`] or [`Tcp::collect_pages`] has something to do, without anything else happening.
    pub(super) fn poll_timeout(&mut self) -> Option<Moment> {
        let timer = self.timers.nearest(&mut self.table).map(|(at, _)| at);
        earliest(timer, self.sweep_at)
    }

    /// A stream has done something to this flow.
    pub(super) fn handle_touch(&mut self, id: FlowId) {
        if let Some(entry) = self.table.get_mut(id) {
            entry.shared.untouch();
            note(&mut self.noted, id, &mut entry.noted);
        }
    }

    /// The streams of these flows wait for memory.
    pub(super) fn handle_starved(&mut self, starved: &mut Vec<FlowId>) {
        self.starved.append(starved);
    }

    /// Takes a segment to its flow, or opens one for it.
    pub(super) fn handle<D: Device>(
        &mut self,
        segment: Segment<'_>,
        now: Moment,
        handler: &mut impl Handler,
        wire: &mut Wire<D>,
        wakes: &mut Vec<Waker>,
    ) {
        let opens = segment.syn && segment.ack.is_none();
        let id = self.table.find(&segment.tuple);
        let Some((id, entry)) = id.and_then(|id| Some((id, self.table.get_mut(id)?))) else {
            if opens {
                self.open(segment, now, handler, wire, wakes);
            } else if let Some((ip, tcp)) = answer::reset(&segment) {
                wire.send_reset(&ip, &tcp);
            } else {
                wire.drop_for(DropReason::Stray);
            }
            return;
        };
        let mut flow = entry.shared.lock();
        if !opens {
            flow.ingest(segment, now, wire);
            drop(flow);
            note(&mut self.noted, id, &mut entry.noted);
            return;
        }
        match flow.judge_syn(segment.seq) {
            SynMeaning::Repeated => wire.drop_for(DropReason::Stray),
            SynMeaning::Doubtful => flow.challenge(&segment.tuple, now, wire),
            SynMeaning::Replaces => {
                flow.finish(End::Reset, wakes);
                drop(flow);
                self.remove(id);
                self.open(segment, now, handler, wire, wakes);
            }
        }
    }

    fn open<D: Device>(
        &mut self,
        syn: Segment<'_>,
        now: Moment,
        handler: &mut impl Handler,
        wire: &mut Wire<D>,
        wakes: &mut Vec<Waker>,
    ) {
        while self.table.len() >= self.max_flows {
            if !self.end_oldest_waiting(wakes) {
                return wire.drop_for(DropReason::TooManyFlows);
            }
        }
        if self.half_open >= self.max_half_open {
            return wire.drop_for(DropReason::TooManyHalfOpen);
        }
        while !self.hub.memory.admits_flow() {
            if !self.end_oldest_waiting(wakes) {
                return wire.drop_for(DropReason::NoMemory); // it could not hold a byte
            }
        }
        let (tuple, seed, paused) = (syn.tuple, self.generator.next_u64(), !self.eager);
        let Ok(mut connection) = Connection::open(syn, &self.hub.memory, seed, paused, now, wire) else {
            return wire.drop_for(DropReason::TooManyFlows);
        };
        if !connection.is_half_open() {
            return wire.drop_for(DropReason::Malformed); // smoltcp did not take it for a SYN
        }
        let hub = Arc::clone(&self.hub);
        let id = self.table.insert(tuple, |id| Entry {
            shared: Arc::new(Shared::new(id, tuple, hub, connection)),
            deadline: Deadline::default(),
            noted: false,
            half_open: true,
            active: now,
            moved: now,
        });
        self.half_open += 1;
        wire.counters.flows_total += 1;
        let Some(entry) = self.table.get_mut(id) else { return };
        note(&mut self.noted, id, &mut entry.noted);
        handler.handle_tcp(TcpFlow::new(Arc::clone(&entry.shared)));
    }

    /// Ends the flow that is longest in TIME-WAIT; false when none is.
    fn end_oldest_waiting(&mut self, wakes: &mut Vec<Waker>) -> bool {
        while let Some(id) = self.waiting.pop_front() {
            if let Some(entry) = self.table.remove(id) {
                entry.shared.lock().finish(End::Clean, wakes);
                return true;
            }
        }
        false
    }

    /// Has the flows looked after whose deadlines have come.
    pub(super) fn fire_timers(&mut self, now: Moment) {
        self.timers.compact(self.table.len(), &mut self.table);
        while let Some((at, id)) = self.timers.nearest(&mut self.table)
            && at <= now
            && let Some(entry) = self.table.get_mut(id)
        {
            self.timers.set(id, &mut entry.deadline, None);
            note(&mut self.noted, id, &mut entry.noted);
        }
    }

    /// Looks after every noted flow once.
    pub(super) fn send<D: Device>(&mut self, now: Moment, wire: &mut Wire<D>, wakes: &mut Vec<Waker>) {
        for _ in 0..self.noted.len() {
            let Some(id) = self.noted.pop_front() else { return };
            let Some(entry) = self.table.get_mut(id) else { continue };
            entry.noted = false;
            entry.active = now;
            let tended = entry.shared.lock().tend(&entry.shared.tuple, &self.hub.memory, now, wire, wakes);
            if tended.over {
                self.remove(id);
                continue;
            }
            if tended.moved {
                entry.moved = now;
            }
            if tended.more {
                note(&mut self.noted, id, &mut entry.noted);
            }
            if entry.half_open && !tended.half_open {
                entry.half_open = false;
                self.half_open -= 1;
            }
            if tended.waits {
                self.waiting.push_back(id);
            }
            if tended.sweep {
                self.swept.push(id);
                self.sweep_at.get_or_insert(now + QUIET);
            }
            self.timers.set(id, &mut entry.deadline, tended.deadline);
        }
    }

    /// Gives pages back that flows have left, at once when memory is short, and lets writers try that
    /// waited for memory.
    pub(super) fn collect_pages(&mut self, now: Moment, wakes: &mut Vec<Waker>) {
        let memory = &self.hub.memory;
        self.short |= memory.take_shortage();
        if self.short {
            self.sweep_at = earliest(self.sweep_at, Some(self.last_sweep + SHORTAGE_PAUSE));
        }
        if self.sweep_at.is_some_and(|at| at <= now) {
            let short = mem::take(&mut self.short);
            if short {
                memory.chill();
            }
            self.swept.retain(|&id| {
                let Some(entry) = self.table.get_mut(id) else { return false };
                let busy = !short && now.since(entry.active) < QUIET;
                if !busy {
                    entry.shared.lock().sweep();
                }
                busy
            });
            self.last_sweep = now;
            self.sweep_at = (!self.swept.is_empty()).then(|| now + QUIET);
        }
        if !self.starved.is_empty() && memory.take_relief() {
            for id in self.starved.drain(..) {
                if let Some(entry) = self.table.get_mut(id) {
                    entry.shared.lock().feed(wakes);
                }
            }
        }
    }

    /// Resets the flows that have moved nothing for longest: half of all, or fewer when not so many are idle.
    ///
    /// Not until some memory is free: most of what a flow holds is its session's, which is not seen here.
    pub(super) fn shed<D: Device>(&mut self, now: Moment, wire: &mut Wire<D>, wakes: &mut Vec<Waker>) {
        let idle = |entry: &Entry| !entry.half_open && now.since(entry.moved) >= SHED_AFTER;
        let mut longest: Vec<_> =
            self.table.iter().filter(|(_, entry)| idle(entry)).map(|(id, entry)| (entry.moved, id)).collect();
        longest.sort_unstable();
        longest.truncate(self.table.len() / 2);
        for (_, id) in longest {
            if let Some(entry) = self.table.remove(id) {
                entry.shared.lock().cut(End::Shed, now, wire, wakes);
                wire.counters.flows_shed += 1;
            }
        }
    }

    fn remove(&mut self, id: FlowId) {
        if self.table.remove(id).is_some_and(|entry| entry.half_open) {
            self.half_open -= 1;
        }
        while self.waiting.front().is_some_and(|&oldest| self.table.get_mut(oldest).is_none()) {
            self.waiting.pop_front();
        }
    }

    /// Ends every flow, with a reset to the app while the device takes one.
    pub(super) fn end_all<D: Device>(
        &mut self,
        end: End,
        now: Moment,
        wire: &mut Wire<D>,
        wakes: &mut Vec<Waker>,
    ) {
        for entry in self.table.drain() {
            entry.shared.lock().cut(end, now, wire, wakes);
        }
        self.half_open = 0;
    }
}

impl Deadlines for Table<Tuple, Entry> {
    fn deadline(&mut self, id: FlowId) -> Option<&mut Deadline> {
        Some(&mut self.get_mut(id)?.deadline)
    }
}
