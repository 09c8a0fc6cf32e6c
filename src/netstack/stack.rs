//! The loop: packets in, flows looked after, packets out, tasks woken, one timer.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::mem;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use rand::Rng;
use rand::rngs::StdRng;
use tokio::time::Sleep;

use crate::budget::{self, Pressure};
use crate::clock::Clock;
use crate::netstack::counters::DropReason;
use crate::netstack::demux::{self, Datagram, Packet, Segment};
use crate::netstack::flow::{End, Shared, SynMeaning};
use crate::netstack::hub::{Hub, News};
use crate::netstack::icmp::{self, RateLimit};
use crate::netstack::table::{FlowId, Table};
use crate::netstack::tcp::Tcp;
use crate::netstack::timers::{Deadline, Deadlines, Timers};
use crate::netstack::wire::Wire;
use crate::netstack::{Control, DeviceGone, Handler, Options, TcpFlow, answer};
use crate::proto::timers::{Moment, earliest};
use crate::tun::{Device, MAX_PACKET_BYTES};

/// What is read in one turn at most: long enough that one acknowledgement and one wake-up serve many packets,
/// short enough that TLS on the same thread does not wait a millisecond.
const BATCH_PACKETS: usize = 64;
const BATCH_BYTES: usize = 512 * 1024;

// The packet read and the packet being written are budgeted for.
const _: () = assert!(2 * MAX_PACKET_BYTES <= budget::PACKETS_BYTES);

/// How long a flow must have been quiet before its pages are given back, and how often that is looked for.
const QUIET: Duration = Duration::from_secs(1);

/// How often pages are collected at most while memory is short.
const SHORTAGE_PAUSE: Duration = Duration::from_millis(10);

/// How long a flow must have moved nothing to be shed when memory is critically short. A person who reads a
/// page does not notice that its connections are gone; a download that stutters must not be one of them.
const SHED_AFTER: Duration = Duration::from_secs(10);

/// How long a device without room is left alone.
const CONGESTION_PAUSE: Duration = Duration::from_millis(10);

/// The stack of one tunnel. [`Netstack::run`] is its task.
///
/// Dropped, running or not, it resets every flow; streams then fail with
/// [`ConnectionAborted`](std::io::ErrorKind::ConnectionAborted).
pub struct Netstack<D: Device, H> {
    wire: Wire<D>,
    handler: H,
    options: Options,
    clock: Clock,
    generator: StdRng,
    hub: Arc<Hub>,
    news: News,

    table: Table<Entry>,
    half_open: usize,
    /// Flows to be looked after in this turn, or the next if they had their share.
    noted: VecDeque<FlowId>,
    timers: Timers,
    /// Flows that may have pages to give back.
    swept: Vec<FlowId>,
    sweep_at: Option<Moment>,
    last_sweep: Moment,
    /// Whether a page was refused since the last sweep.
    short: bool,
    /// Flows whose streams wait for memory.
    starved: Vec<FlowId>,
    pressure: Pressure,
    retry_at: Option<Moment>,
    unreachable: RateLimit,

    buffer: Box<[u8]>,
    wakes: Vec<Waker>,
    alarm: Alarm,
}

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

impl<D: Device, H: Handler> Netstack<D, H> {
    /// A stack on `device`. `generator` makes initial sequence numbers, so it must not be guessable.
    pub fn new(device: D, handler: H, options: Options, clock: Clock, generator: StdRng) -> Self {
        Self {
            wire: Wire::new(device),
            handler,
            clock,
            generator,
            hub: Arc::new(Hub::new(options.memory_bytes, options.flow_bytes)),
            options,
            news: News::default(),
            table: Table::new(),
            half_open: 0,
            noted: VecDeque::new(),
            timers: Timers::default(),
            swept: Vec::new(),
            sweep_at: None,
            last_sweep: Moment::default(),
            short: false,
            starved: Vec::new(),
            pressure: Pressure::Normal,
            retry_at: None,
            unreachable: RateLimit::new(clock.now()),
            buffer: vec![0; MAX_PACKET_BYTES].into(),
            wakes: Vec::new(),
            alarm: Alarm::default(),
        }
    }

    /// The owner's hand on this stack.
    pub fn control(&self) -> Control {
        Control { hub: Arc::clone(&self.hub) }
    }

    /// Serves the device until it is gone or [`Control::stop`] is called.
    ///
    /// # Errors
    /// When the device is gone. Every stream has failed by then.
    ///
    /// # Cancel safety
    /// Dropping the future stops the stack: every flow is reset.
    pub async fn run(mut self) -> Result<(), DeviceGone> {
        loop {
            if poll_fn(|cx| self.poll_turn(cx)).await? == Turn::Stop {
                return Ok(());
            }
            // More is to be done, but relays and TLS on this thread come first.
            tokio::task::yield_now().await;
        }
    }

    /// One turn of the loop; pending when there is nothing left to do.
    fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<Result<Turn, DeviceGone>> {
        let now = self.clock.now();
        if self.hear_news(cx, now) {
            return Poll::Ready(Ok(Turn::Stop));
        }
        if self.retry_at.is_some_and(|at| at <= now) {
            self.retry_at = None;
            self.wire.retry();
        }
        let more_to_read = self.receive(cx, now);
        self.fire_timers(now);
        self.send(now);
        self.collect_pages(now);
        self.publish();
        if let Some(error) = self.wire.take_gone() {
            self.end_all(End::DeviceGone);
            return Poll::Ready(Err(DeviceGone(error)));
        }
        for waker in self.wakes.drain(..) {
            waker.wake();
        }

        let congested = self.wire.is_congested();
        if congested {
            self.retry_at.get_or_insert(now + CONGESTION_PAUSE);
        }
        if more_to_read || (!self.noted.is_empty() && !congested) {
            return Poll::Ready(Ok(Turn::Again));
        }
        let timer = self.timers.nearest(&mut self.table).map(|(at, _)| at);
        let next = [self.sweep_at, self.retry_at].into_iter().fold(timer, earliest);
        self.alarm.poll(cx, next, now).map(|()| Ok(Turn::Again))
    }

    /// Takes in what streams and the owner have said; gives whether to stop.
    fn hear_news(&mut self, cx: &Context<'_>, now: Moment) -> bool {
        let mut news = mem::take(&mut self.news);
        self.hub.listen(cx.waker(), &mut news);
        for id in news.touched.drain(..) {
            if let Some(entry) = self.table.get_mut(id) {
                entry.shared.untouch();
                note(&mut self.noted, id, entry);
            }
        }
        self.starved.append(&mut news.starved);
        if let Some(deny) = news.deny.take() {
            self.options.deny = deny;
        }
        if let Some(pressure) = news.pressure.take() {
            self.set_pressure(pressure, now);
        }
        let stop = news.stop;
        self.news = news;
        stop
    }

    /// Reads a batch of packets; gives whether there may be more.
    fn receive(&mut self, cx: &mut Context<'_>, now: Moment) -> bool {
        let mut buffer = mem::take(&mut self.buffer);
        let mut bytes = 0;
        let mut packets = 0;
        let more = loop {
            if packets == BATCH_PACKETS || bytes >= BATCH_BYTES {
                break true;
            }
            let Poll::Ready(Some(len)) = self.wire.poll_recv(cx, &mut buffer) else { break false };
            self.handle_packet(&mut buffer[..len], now);
            packets += 1;
            bytes += len;
        };
        self.buffer = buffer;
        more
    }

    fn handle_packet(&mut self, packet: &mut [u8], now: Moment) {
        match demux::parse(packet) {
            Ok(Packet::Tcp(segment)) if self.is_own_server(segment.tuple.destination) => {
                self.wire.drop_for(DropReason::OwnServer);
            }
            Ok(Packet::Udp(datagram)) if self.is_own_server(datagram.destination) => {
                self.wire.drop_for(DropReason::OwnServer);
            }
            Ok(Packet::Tcp(segment)) => self.handle_segment(segment, now),
            Ok(Packet::Udp(datagram)) => self.refuse_datagram(&datagram, now),
            Err(reason) => self.wire.drop_for(reason),
        }
    }

    fn is_own_server(&self, destination: SocketAddr) -> bool {
        self.options.deny.contains(&destination)
    }

    fn handle_segment(&mut self, segment: Segment<'_>, now: Moment) {
        let opens = segment.syn && segment.ack.is_none();
        let id = self.table.find(&segment.tuple);
        let Some((id, entry)) = id.and_then(|id| Some((id, self.table.get_mut(id)?))) else {
            if opens {
                self.open(segment, now);
            } else if let Some((ip, tcp)) = answer::reset(&segment) {
                self.wire.send_reset(&ip, &tcp);
            } else {
                self.wire.drop_for(DropReason::Stray);
            }
            return;
        };
        let mut flow = entry.shared.lock();
        if !opens {
            flow.ingest(segment, now, &mut self.wire);
            drop(flow);
            note(&mut self.noted, id, entry);
            return;
        }
        match flow.judge_syn(segment.seq) {
            SynMeaning::Repeated => self.wire.drop_for(DropReason::Stray),
            SynMeaning::Doubtful => flow.challenge(&segment.tuple, now, &mut self.wire),
            SynMeaning::Replaces => {
                flow.finish(End::Reset, &mut self.wakes);
                drop(flow);
                self.remove(id);
                self.open(segment, now);
            }
        }
    }

    fn open(&mut self, syn: Segment<'_>, now: Moment) {
        if self.table.len() >= self.options.max_flows {
            return self.wire.drop_for(DropReason::TooManyFlows);
        }
        if self.half_open >= self.options.max_half_open {
            return self.wire.drop_for(DropReason::TooManyHalfOpen);
        }
        if !self.hub.memory.admits_flow() {
            return self.wire.drop_for(DropReason::NoMemory); // it could not hold a byte
        }
        let (tuple, seed, paused) = (syn.tuple, self.generator.next_u64(), !self.options.eager);
        let Ok(mut tcp) = Tcp::open(syn, &self.hub.memory, seed, paused, now, &mut self.wire) else {
            return self.wire.drop_for(DropReason::TooManyFlows);
        };
        if !tcp.is_half_open() {
            return self.wire.drop_for(DropReason::Malformed); // smoltcp did not take it for a SYN
        }
        let hub = Arc::clone(&self.hub);
        let id = self.table.insert(tuple, |id| Entry {
            shared: Arc::new(Shared::new(id, tuple, hub, tcp)),
            deadline: Deadline::default(),
            noted: false,
            half_open: true,
            active: now,
            moved: now,
        });
        self.half_open += 1;
        self.wire.counters.flows_total += 1;
        let Some(entry) = self.table.get_mut(id) else { return };
        note(&mut self.noted, id, entry);
        self.handler.handle_tcp(TcpFlow::new(Arc::clone(&entry.shared)));
    }

    fn refuse_datagram(&mut self, datagram: &Datagram<'_>, now: Moment) {
        if self.unreachable.allows(now) {
            icmp::send_port_unreachable(datagram, &mut self.wire);
            self.wire.counters.unreachable_out += 1;
        } else {
            self.wire.drop_for(DropReason::Unanswered);
        }
    }

    fn fire_timers(&mut self, now: Moment) {
        self.timers.compact(self.table.len(), &mut self.table);
        while let Some((at, id)) = self.timers.nearest(&mut self.table)
            && at <= now
            && let Some(entry) = self.table.get_mut(id)
        {
            self.timers.set(id, &mut entry.deadline, None);
            note(&mut self.noted, id, entry);
        }
    }

    /// Looks after every noted flow once.
    fn send(&mut self, now: Moment) {
        for _ in 0..self.noted.len() {
            let Some(id) = self.noted.pop_front() else { return };
            let Some(entry) = self.table.get_mut(id) else { continue };
            entry.noted = false;
            entry.active = now;
            let tended = entry.shared.lock().tend(&entry.shared.tuple, now, &mut self.wire, &mut self.wakes);
            if tended.over {
                self.remove(id);
                continue;
            }
            if tended.moved {
                entry.moved = now;
            }
            if tended.more {
                note(&mut self.noted, id, entry);
            }
            if entry.half_open && !tended.half_open {
                entry.half_open = false;
                self.half_open -= 1;
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
    fn collect_pages(&mut self, now: Moment) {
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
                    entry.shared.lock().feed(&mut self.wakes);
                }
            }
        }
    }

    fn set_pressure(&mut self, pressure: Pressure, now: Moment) {
        if pressure == self.pressure {
            return;
        }
        self.pressure = pressure;
        self.hub.memory.set_pressure(pressure);
        if pressure == Pressure::Critical {
            self.shed(now);
        }
    }

    /// Resets the flows that have moved nothing for longest: half of all, or fewer when not so many are idle.
    ///
    /// Not until some memory is free: most of what a flow holds is its session's, which is not seen here.
    fn shed(&mut self, now: Moment) {
        let idle = |entry: &Entry| !entry.half_open && now.since(entry.moved) >= SHED_AFTER;
        let mut longest: Vec<_> =
            self.table.iter().filter(|(_, entry)| idle(entry)).map(|(id, entry)| (entry.moved, id)).collect();
        longest.sort_unstable();
        longest.truncate(self.table.len() / 2);
        for (_, id) in longest {
            if let Some(entry) = self.table.remove(id) {
                entry.shared.lock().cut(End::Shed, now, &mut self.wire, &mut self.wakes);
                self.wire.counters.flows_shed += 1;
            }
        }
    }

    fn publish(&mut self) {
        let counters = &mut self.wire.counters;
        // usize has at most 64 bits
        counters.flows_open = self.table.len() as u64;
        counters.flows_half_open = self.half_open as u64;
        counters.memory_bytes = self.hub.memory.held() as u64;
        self.hub.publish(counters);
    }

    fn remove(&mut self, id: FlowId) {
        if self.table.remove(id).is_some_and(|entry| entry.half_open) {
            self.half_open -= 1;
        }
    }
}

impl<D: Device, H> Netstack<D, H> {
    /// Ends every flow, with a reset to the app while the device takes one.
    fn end_all(&mut self, end: End) {
        let now = self.clock.now();
        for entry in self.table.drain() {
            entry.shared.lock().cut(end, now, &mut self.wire, &mut self.wakes);
        }
        self.half_open = 0;
        for waker in self.wakes.drain(..) {
            waker.wake();
        }
    }
}

impl<D: Device, H> Drop for Netstack<D, H> {
    fn drop(&mut self) {
        self.end_all(End::Stopped);
    }
}

impl Deadlines for Table<Entry> {
    fn deadline(&mut self, id: FlowId) -> Option<&mut Deadline> {
        Some(&mut self.get_mut(id)?.deadline)
    }
}

/// Has a flow looked after in this turn, once.
fn note(noted: &mut VecDeque<FlowId>, id: FlowId, entry: &mut Entry) {
    if !mem::replace(&mut entry.noted, true) {
        noted.push_back(id);
    }
}

/// How a turn of the loop ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    Again,
    Stop,
}

/// The one timer of the loop.
#[derive(Debug, Default)]
struct Alarm {
    sleep: Option<Pin<Box<Sleep>>>,
    at: Option<Moment>,
}

impl Alarm {
    /// Ready at `next`, or earlier: an alarm that moves to later rings in vain once, which costs less than
    /// setting it anew with every packet. Without `next` there is no timer.
    fn poll(&mut self, cx: &mut Context<'_>, next: Option<Moment>, now: Moment) -> Poll<()> {
        let Some(next) = next else {
            *self = Self::default();
            return Poll::Pending;
        };
        if self.at.is_none_or(|at| next < at) {
            let sleep = tokio::time::sleep(next.since(now));
            match &mut self.sleep {
                Some(armed) => armed.as_mut().set(sleep),
                None => self.sleep = Some(Box::pin(sleep)),
            }
            self.at = Some(next);
        }
        let Some(sleep) = &mut self.sleep else { return Poll::Pending };
        ready!(sleep.as_mut().poll(cx));
        self.at = None;
        Poll::Ready(())
    }
}
