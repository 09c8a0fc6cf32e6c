//! UDP: what becomes of a datagram, the flows by key, and when they end.
//!
//! | file | subject |
//! |---|---|
//! | this one | the loop's side |
//! | `flow` | a flow's two queues |
//! | `relay` | the relay's side |
//! | `reply` | the answer to a query |
//! | `refusal` | port unreachable |

mod flow;
mod refusal;
mod relay;
mod reply;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use smoltcp::wire::UDP_HEADER_LEN;

use crate::budget::Pressure;
use crate::netstack::counters::DropReason;
use crate::netstack::demux;
use crate::netstack::hub::Hub;
use crate::netstack::memory::Place;
use crate::netstack::stack::EGRESS_BYTES;
use crate::netstack::table::{FlowId, Table};
use crate::netstack::timers::{Deadline, Deadlines, Timers};
use crate::netstack::wire::{Wire, max_payload};
use crate::netstack::{Fate, Handler, note};
use crate::proto::timers::{Moment, earliest};
use crate::tun::Device;

use flow::{Shared, Stage};
use refusal::Refusals;

pub use relay::{Datagram, Payload, UdpFlow};
pub(super) use reply::Answer;
pub use reply::Reply;

/// How long a flow lives without a datagram either way: half of what RFC 4787 (REQ-5) asks of a NAT, and
/// more than twice the interval at which apps keep a mapping alive. A stream to the server costs more than a
/// NAT's table entry.
const IDLE: Duration = Duration::from_secs(60);

/// Flows end at multiples of this, several at one wake-up, and so up to that much late.
const TICK: Duration = Duration::from_secs(5);

/// How long a refused flow goes on refusing: an app's burst of datagrams costs one attempt at the server.
const REFUSAL: Duration = Duration::from_secs(1);

/// How long a flow must have been quiet to be shed when memory is critically short; as for TCP.
const SHED_AFTER: Duration = Duration::from_secs(10);

/// What a queued datagram costs besides its payload: a place in a queue that grew by doubling, and what the
/// allocator adds.
const OVERHEAD_BYTES: usize = 128;

/// What a queued datagram costs.
fn cost(payload: usize) -> usize {
    payload + OVERHEAD_BYTES
}

/// Whether a datagram of that much payload can be sent at all: if not, why.
fn check(from: SocketAddr, to: SocketAddr, payload: usize) -> Result<(), DropReason> {
    if from.is_ipv4() != to.is_ipv4() {
        Err(DropReason::OtherFamily)
    } else if payload > max_payload(to) {
        Err(DropReason::TooLong)
    } else {
        Ok(())
    }
}

/// What names a flow: the app's endpoint, and the destination if the flow is for that one alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    source: SocketAddr,
    alone: Option<SocketAddr>,
}

/// A flow in the table.
struct Entry {
    shared: Arc<Shared>,
    /// [`IDLE`] after the last datagram, or the end of the refusal.
    deadline: Deadline,
    noted: bool,
    /// When a datagram last came or went.
    used: Moment,
    refused_until: Option<Moment>,
    _place: Place,
}

/// All UDP of one stack, as its loop owns it.
pub(super) struct Udp {
    hub: Arc<Hub>,
    max_flows: usize,
    table: Table<Key, Entry>,
    /// Flows to be looked after in this turn, or the next if they had their share.
    noted: VecDeque<FlowId>,
    /// By the last datagram: the nearest deadline is the least recently used flow's.
    timers: Timers,
    /// When flows are next looked through for those that end. None without flows.
    tick_at: Option<Moment>,
    answers: VecDeque<Answer>,
    refusals: Refusals,
    critical: bool,
}

impl Udp {
    pub(super) fn new(hub: Arc<Hub>, max_flows: usize, now: Moment) -> Self {
        Self {
            hub,
            max_flows,
            table: Table::new(),
            noted: VecDeque::new(),
            timers: Timers::default(),
            tick_at: None,
            answers: VecDeque::new(),
            refusals: Refusals::new(now),
            critical: false,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    /// Allows so many flows from now on; those used longest ago make way.
    pub(super) fn set_max_flows<D: Device>(
        &mut self,
        count: usize,
        wire: &mut Wire<D>,
        wakes: &mut Vec<Waker>,
    ) {
        self.max_flows = count;
        while self.table.len() > count && self.evict(wire, wakes) {}
    }

    /// Whether there is more to send than one turn's share.
    pub(super) fn wants_turn(&self) -> bool {
        !self.noted.is_empty() || !self.answers.is_empty()
    }

    /// When [`Udp::expire`] has something to do, without anything else happening.
    pub(super) fn poll_timeout(&self) -> Option<Moment> {
        self.tick_at
    }

    /// Takes a datagram from an app to where the handler wants it.
    pub(super) fn handle<D: Device>(
        &mut self,
        datagram: &demux::Datagram<'_>,
        now: Moment,
        handler: &mut impl Handler,
        wire: &mut Wire<D>,
        wakes: &mut Vec<Waker>,
    ) {
        wire.counters.datagrams_in += 1;
        let (source, destination) = (datagram.source, datagram.destination);
        let alone = match handler.judge_udp(destination) {
            Fate::Carry => None,
            Fate::CarryAlone => Some(destination),
            Fate::Answer => {
                wire.counters.queries += 1;
                let reply = Reply::new(Arc::clone(&self.hub), source, destination);
                return handler.handle_query(payload(datagram), reply);
            }
            Fate::Refuse => return self.refusals.refuse(datagram, now, wire),
        };
        let key = Key { source, alone };
        let known = self.table.find(&key).or_else(|| self.find_common(&key));
        let Some((id, entry)) = known.and_then(|id| Some((id, self.table.get_mut(id)?))) else {
            return self.open(key, datagram, now, handler, wire, wakes);
        };
        match entry.refused_until {
            Some(until) if now < until => return self.refusals.refuse(datagram, now, wire),
            Some(_) => {}
            None => {
                let mut flow = entry.shared.lock();
                if flow.stage() == Stage::Dropped {
                    flow.send(source, wire, wakes); // what the relay has left
                } else {
                    flow.enqueue(datagram, &self.hub.datagrams, wire, wakes);
                    drop(flow);
                    entry.used = now;
                    return self.timers.set(id, &mut entry.deadline, Some(now + IDLE));
                }
            }
        }
        self.end(id, wakes);
        self.open(key, datagram, now, handler, wire, wakes);
    }

    fn open<D: Device>(
        &mut self,
        key: Key,
        datagram: &demux::Datagram<'_>,
        now: Moment,
        handler: &mut impl Handler,
        wire: &mut Wire<D>,
        wakes: &mut Vec<Waker>,
    ) {
        // Before another flow has to go for it.
        if self.critical || cost(payload(datagram).len()) > self.hub.datagrams.free() {
            return wire.drop_for(DropReason::NoMemory);
        }
        if let Err(reason) = self.make_room(wire, wakes) {
            return wire.drop_for(reason);
        }
        let hub = &self.hub;
        let id = self.table.insert(key, |id| Entry {
            shared: Arc::new(Shared::new(id, datagram.source, datagram.destination, Arc::clone(hub))),
            deadline: Deadline::default(),
            noted: false,
            used: now,
            refused_until: None,
            _place: hub.memory.enter(),
        });
        wire.counters.udp_flows_total += 1;
        let Some(entry) = self.table.get_mut(id) else { return };
        entry.shared.lock().enqueue(datagram, &self.hub.datagrams, wire, wakes);
        self.timers.set(id, &mut entry.deadline, Some(now + IDLE));
        self.tick_at.get_or_insert(tick_after(now + IDLE));
        let flow = UdpFlow::new(Arc::clone(&entry.shared));
        self.timers.compact(self.table.len(), &mut self.table);
        handler.handle_udp(flow);
    }

    /// The flow for all destinations that began with the one that `key` is for alone: with a server that turned out
    /// to do one destination a stream, it goes on with that.
    fn find_common(&mut self, key: &Key) -> Option<FlowId> {
        let id = self.table.find(&Key { alone: None, ..*key })?;
        let destination = self.table.get_mut(id)?.shared.destination;
        (key.alone == Some(destination)).then_some(id)
    }

    /// Makes room for one flow more, for which the least recently used may have to go.
    fn make_room<D: Device>(&mut self, wire: &mut Wire<D>, wakes: &mut Vec<Waker>) -> Result<(), DropReason> {
        if self.table.len() >= self.max_flows && !self.evict(wire, wakes) {
            return Err(DropReason::TooManyFlows);
        }
        let memory = Arc::clone(&self.hub.memory);
        if memory.admits_flow() || (self.evict(wire, wakes) && memory.admits_flow()) {
            Ok(())
        } else {
            Err(DropReason::NoMemory)
        }
    }

    /// Ends the least recently used flow, if there is any.
    fn evict<D: Device>(&mut self, wire: &mut Wire<D>, wakes: &mut Vec<Waker>) -> bool {
        let Some((_, id)) = self.timers.nearest(&mut self.table) else { return false };
        self.end(id, wakes);
        wire.counters.udp_flows_evicted += 1;
        true
    }

    /// A relay has done something to this flow.
    pub(super) fn handle_touch(&mut self, id: FlowId) {
        if let Some(entry) = self.table.get_mut(id) {
            entry.shared.untouch();
            note(&mut self.noted, id, &mut entry.noted);
        }
    }

    /// Ends the flows that have been idle for long.
    pub(super) fn expire<D: Device>(&mut self, now: Moment, wire: &mut Wire<D>, wakes: &mut Vec<Waker>) {
        if self.tick_at.is_none_or(|at| at > now) {
            return;
        }
        self.tick_at = None;
        while let Some((at, id)) = self.timers.nearest(&mut self.table) {
            if at > now {
                self.tick_at = Some(tick_after(at));
                return;
            }
            let refused = self.table.get_mut(id).is_some_and(|entry| entry.refused_until.is_some());
            wire.counters.udp_flows_expired += u64::from(!refused);
            self.end(id, wakes);
        }
    }

    /// Sends answers and the noted flows' datagrams, until everything is sent or the device is out of room.
    pub(super) fn send<D: Device>(&mut self, now: Moment, wire: &mut Wire<D>, wakes: &mut Vec<Waker>) {
        let took = self.take_answers();
        let share = wire.counters.bytes_out + EGRESS_BYTES;
        while !wire.is_congested()
            && wire.counters.bytes_out < share
            && let Some(answer) = self.answers.front_mut()
        {
            if !answer.send(wire) {
                break;
            }
            self.answers.pop_front();
        }
        if !took {
            self.take_answers();
        }
        for _ in 0..self.noted.len() {
            // Those that were not served come first when there is room again.
            let Some(id) = (!wire.is_congested()).then(|| self.noted.pop_front()).flatten() else { return };
            self.tend(id, now, wire, wakes);
        }
    }

    /// Takes what was answered, if there is none to be sent: what waits beyond that is counted in one place.
    fn take_answers(&mut self) -> bool {
        let takes = self.answers.is_empty();
        if takes {
            self.hub.take_answers(&mut self.answers);
        }
        takes
    }

    fn tend<D: Device>(&mut self, id: FlowId, now: Moment, wire: &mut Wire<D>, wakes: &mut Vec<Waker>) {
        let Some(entry) = self.table.get_mut(id) else { return };
        entry.noted = false;
        let mut flow = entry.shared.lock();
        let stage = flow.stage();
        match stage {
            Stage::Open | Stage::Dropped => {
                let sent = flow.send(entry.shared.source, wire, wakes);
                drop(flow);
                if sent.any {
                    entry.used = now;
                    self.timers.set(id, &mut entry.deadline, Some(now + IDLE));
                }
                if sent.more {
                    note(&mut self.noted, id, &mut entry.noted);
                } else if stage == Stage::Dropped {
                    self.end(id, wakes);
                }
            }
            Stage::Refused => {
                let (source, queue) = (entry.shared.source, flow.take_queue());
                drop(flow);
                let until = *entry.refused_until.get_or_insert(now + REFUSAL);
                self.timers.set(id, &mut entry.deadline, Some(until));
                self.tick_at = earliest(self.tick_at, Some(tick_after(until)));
                for queued in queue {
                    self.refusals.refuse_queued(source, &queued, now, wire);
                }
            }
            Stage::Ended => {}
        }
    }

    /// Hears how short memory is. Becoming critical, it ends the flows that were idle for longest: half of
    /// all, or fewer when not so many are idle; and there are no new ones until it is over.
    pub(super) fn set_pressure<D: Device>(
        &mut self,
        pressure: Pressure,
        now: Moment,
        wire: &mut Wire<D>,
        wakes: &mut Vec<Waker>,
    ) {
        self.hub.datagrams.set_pressure(pressure);
        self.critical = pressure == Pressure::Critical;
        if !self.critical {
            return;
        }
        let idle = |entry: &Entry| now.since(entry.used) >= SHED_AFTER;
        let mut longest: Vec<_> =
            self.table.iter().filter(|(_, entry)| idle(entry)).map(|(id, entry)| (entry.used, id)).collect();
        longest.sort_unstable();
        longest.truncate(self.table.len() / 2);
        for (_, id) in longest {
            self.end(id, wakes);
            wire.counters.udp_flows_evicted += 1;
        }
    }

    fn end(&mut self, id: FlowId, wakes: &mut Vec<Waker>) {
        if let Some(entry) = self.table.remove(id) {
            entry.shared.lock().finish(wakes);
        }
        if self.table.len() == 0 {
            self.tick_at = None;
        }
    }

    /// Ends every flow.
    pub(super) fn end_all(&mut self, wakes: &mut Vec<Waker>) {
        for entry in self.table.drain() {
            entry.shared.lock().finish(wakes);
        }
        (self.tick_at, self.answers) = (None, VecDeque::new());
    }
}

impl Deadlines for Table<Key, Entry> {
    fn deadline(&mut self, id: FlowId) -> Option<&mut Deadline> {
        Some(&mut self.get_mut(id)?.deadline)
    }
}

/// The tick after a moment, or at it.
fn tick_after(at: Moment) -> Moment {
    let ticks = at.since_origin().as_nanos().div_ceil(TICK.as_nanos());
    Moment::from_origin(TICK * u32::try_from(ticks).unwrap_or(u32::MAX)) // centuries
}

fn payload<'a>(datagram: &demux::Datagram<'a>) -> &'a [u8] {
    &datagram.udp[UDP_HEADER_LEN..]
}
