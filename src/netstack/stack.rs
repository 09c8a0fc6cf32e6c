//! The loop: packets in, flows looked after, packets out, tasks woken, one timer.

use std::future::poll_fn;
use std::mem;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use rand::Rng;
use rand::rngs::StdRng;

use crate::budget::{self, Pressure};
use crate::clock::Clock;
use crate::netstack::addresses::Addresses;
use crate::netstack::alarm::Alarm;
use crate::netstack::counters::DropReason;
use crate::netstack::demux::{Demux, Oversize, Packet};
use crate::netstack::fragments::{Fragment, Reassembly};
use crate::netstack::hub::{Hub, News};
use crate::netstack::icmp::{self, RateLimit};
use crate::netstack::residue::Residue;
use crate::netstack::tcp::{End, Tcp};
use crate::netstack::udp::Udp;
use crate::netstack::wire::Wire;
use crate::netstack::{Control, DeviceGone, Handler, Options};
use crate::platform::{heap, prefer_this_thread};
use crate::proto::timers::{Moment, earliest};
use crate::tun::{Device, MAX_PACKET_BYTES};

/// What is read in one turn at most: long enough that one acknowledgement and one wake-up serve many packets,
/// short enough that TLS on the same thread does not wait a millisecond.
const BATCH_PACKETS: usize = 64;
const BATCH_BYTES: usize = 512 * 1024;

/// What one flow may send in one turn of the loop, so that it cannot starve the rest. One packet more at most.
pub(super) const EGRESS_BYTES: u64 = 64 * 1024;

// The packet read and the packet being written are budgeted for.
const _: () = assert!(2 * MAX_PACKET_BYTES <= budget::PACKETS_BYTES);

/// How long a device without room is left alone.
const CONGESTION_PAUSE: Duration = Duration::from_millis(10);

/// The stack of one tunnel. [`Netstack::run`] is its task.
///
/// Dropped, running or not, it resets every TCP flow and ends every UDP flow; streams then fail with
/// [`ConnectionAborted`](std::io::ErrorKind::ConnectionAborted).
pub struct Netstack<D: Device, H> {
    wire: Wire<D>,
    handler: H,
    clock: Clock,
    hub: Arc<Hub>,
    news: News,
    demux: Demux,
    /// Our own server's addresses.
    deny: Vec<SocketAddr>,
    reassembly: Reassembly,
    too_big: RateLimit,
    tcp: Tcp,
    udp: Udp,
    /// Whether UDP is served before TCP.
    udp_first: bool,
    pressure: Pressure,
    residue: Residue,
    retry_at: Option<Moment>,
    buffer: Box<[u8]>,
    wakes: Vec<Waker>,
    alarm: Alarm,
}

impl<D: Device, H: Handler> Netstack<D, H> {
    /// A stack on `device`. `generator` makes initial sequence numbers, so it must not be guessable.
    pub fn new(device: D, handler: H, options: Options, clock: Clock, mut generator: StdRng) -> Self {
        let now = clock.now();
        let hub =
            Arc::new(Hub::new(options.memory_bytes, options.flow_bytes, Arc::clone(&options.datagrams)));
        Self {
            wire: Wire::new(device, generator.next_u32()),
            handler,
            clock,
            tcp: Tcp::new(Arc::clone(&hub), &options, generator),
            udp: Udp::new(Arc::clone(&hub), options.max_udp_flows, now),
            udp_first: false,
            hub,
            news: News::default(),
            demux: Demux::new(Addresses::new(&options.networks)),
            deny: options.deny,
            reassembly: Reassembly::new(options.reassembly_bytes),
            too_big: RateLimit::new(now),
            pressure: Pressure::Normal,
            residue: Residue::default(),
            retry_at: None,
            buffer: vec![0; MAX_PACKET_BYTES].into(),
            wakes: Vec::new(),
            alarm: Alarm::default(),
        }
    }

    /// The owner's hand on this stack.
    pub fn control(&self) -> Control {
        Control { hub: Arc::clone(&self.hub) }
    }

    /// Serves the device until it is gone or [`Control::stop`] is called. Its thread comes before those of apps
    /// where the system allows it.
    ///
    /// # Errors
    /// When the device is gone. Every stream has failed by then.
    ///
    /// # Cancel safety
    /// Dropping the future stops the stack: every flow is reset.
    pub async fn run(mut self) -> Result<(), DeviceGone> {
        prefer_this_thread();
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
        self.reassembly.handle_timeout(now, &mut self.wire.counters.dropped);
        self.tcp.fire_timers(now);
        self.udp.expire(now, &mut self.wire, &mut self.wakes);
        self.send(now);
        self.wire.flush();
        self.tcp.collect_pages(now, &mut self.wakes);
        self.publish();
        self.tidy(now);
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
        if more_to_read || ((self.tcp.wants_turn() || self.udp.wants_turn()) && !congested) {
            return Poll::Ready(Ok(Turn::Again));
        }
        let others = [self.udp.poll_timeout(), self.reassembly.poll_timeout(), self.residue.poll_timeout()];
        let next = others.into_iter().chain([self.retry_at]).fold(self.tcp.poll_timeout(), earliest);
        self.alarm.poll(cx, next, now).map(|()| Ok(Turn::Again))
    }

    /// Takes in what streams and the owner have said; gives whether to stop.
    fn hear_news(&mut self, cx: &Context<'_>, now: Moment) -> bool {
        let mut news = mem::take(&mut self.news);
        self.hub.listen(cx.waker(), &mut news);
        for id in news.touched_tcp.drain(..) {
            self.tcp.handle_touch(id);
        }
        for id in news.touched_udp.drain(..) {
            self.udp.handle_touch(id);
        }
        self.tcp.handle_starved(&mut news.starved);
        self.wire.counters.dropped += mem::take(&mut news.dropped);
        if let Some(deny) = news.deny.take() {
            self.deny = deny;
        }
        if let Some(count) = news.max_udp_flows.take() {
            self.udp.set_max_flows(count, &mut self.wire, &mut self.wakes);
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
        match self.demux.parse(packet, self.wire.mtu()) {
            Ok(Packet::Fragment(fragment)) => self.handle_fragment(&fragment, now),
            parsed => self.handle_parsed(parsed, now),
        }
    }

    fn handle_fragment(&mut self, fragment: &Fragment<'_>, now: Moment) {
        let dropped = &mut self.wire.counters.dropped;
        let Some(mut whole) = self.reassembly.handle_fragment(fragment, now, dropped) else { return };
        self.wire.counters.packets_reassembled += 1;
        self.handle_parsed(self.demux.parse(&mut whole, usize::MAX), now);
    }

    fn handle_parsed(&mut self, parsed: Result<Packet<'_>, DropReason>, now: Moment) {
        match parsed {
            Ok(Packet::Tcp(segment)) if self.is_own_server(segment.tuple.destination) => {
                self.wire.drop_for(DropReason::OwnServer);
            }
            Ok(Packet::Udp(datagram)) if self.is_own_server(datagram.destination) => {
                self.wire.drop_for(DropReason::OwnServer);
            }
            Ok(Packet::Tcp(segment)) => {
                self.tcp.handle(segment, now, &mut self.handler, &mut self.wire, &mut self.wakes);
            }
            Ok(Packet::Udp(datagram)) => {
                self.udp.handle(&datagram, now, &mut self.handler, &mut self.wire, &mut self.wakes);
            }
            Ok(Packet::Echo(echo)) => icmp::send_echo_reply(echo, &mut self.wire),
            Ok(Packet::TooBig(oversize)) => self.refuse_oversize(&oversize, now),
            Ok(Packet::Fragment(_)) => self.wire.drop_for(DropReason::Fragment), // of fragments
            Err(reason) => self.wire.drop_for(reason),
        }
    }

    fn refuse_oversize(&mut self, oversize: &Oversize<'_>, now: Moment) {
        if self.too_big.allows(now) {
            icmp::send_packet_too_big(oversize, &mut self.wire);
        }
        self.wire.drop_for(DropReason::TooBig);
    }

    fn is_own_server(&self, destination: SocketAddr) -> bool {
        self.deny.contains(&destination)
    }

    /// Sends what flows have to send. What comes second when the device runs out of room comes first the next time.
    fn send(&mut self, now: Moment) {
        if self.udp_first {
            self.udp.send(now, &mut self.wire, &mut self.wakes);
            self.tcp.send(now, &mut self.wire, &mut self.wakes);
        } else {
            self.tcp.send(now, &mut self.wire, &mut self.wakes);
            self.udp.send(now, &mut self.wire, &mut self.wakes);
        }
        self.udp_first = self.wire.is_congested() && !self.udp_first;
    }

    fn set_pressure(&mut self, pressure: Pressure, now: Moment) {
        if pressure == self.pressure {
            return;
        }
        self.pressure = pressure;
        self.hub.memory.set_pressure(pressure);
        if pressure != Pressure::Normal {
            self.residue.handle_shortage(now);
        }
        self.udp.set_pressure(pressure, now, &mut self.wire, &mut self.wakes);
        if pressure == Pressure::Critical {
            self.tcp.shed(now, &mut self.wire, &mut self.wakes);
            self.reassembly.clear(&mut self.wire.counters.dropped);
        }
    }

    fn publish(&mut self) {
        let counters = &mut self.wire.counters;
        // usize has at most 64 bits
        counters.flows_open = self.tcp.len() as u64;
        counters.flows_half_open = self.tcp.half_open() as u64;
        counters.udp_flows_open = self.udp.len() as u64;
        counters.memory_bytes = self.hub.memory.held() as u64;
        counters.reassembly_bytes = self.reassembly.held() as u64;
        self.hub.publish(counters);
    }

    /// Has the heap tidied after many flows.
    fn tidy(&mut self, now: Moment) {
        let counters = &self.wire.counters;
        let begun = counters.flows_total + counters.udp_flows_total;
        self.residue.handle_ended(begun - counters.flows_open - counters.udp_flows_open, now);
        if self.residue.take_due(now) {
            heap::give_back();
        }
    }
}

impl<D: Device, H> Netstack<D, H> {
    /// Ends every flow, with a reset to the app while the device takes one.
    fn end_all(&mut self, end: End) {
        self.tcp.end_all(end, self.clock.now(), &mut self.wire, &mut self.wakes);
        self.udp.end_all(&mut self.wakes);
        self.wire.flush();
        for waker in self.wakes.drain(..) {
            waker.wake();
        }
    }
}

impl<D: Device, H> Drop for Netstack<D, H> {
    fn drop(&mut self) {
        self.end_all(End::Stopped);
        self.hub.close();
    }
}

/// How a turn of the loop ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    Again,
    Stop,
}
