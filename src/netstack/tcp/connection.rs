//! One flow's TCP: a smoltcp interface with one socket, and what smoltcp does not tell about it.
//!
//! smoltcp does the protocol. Kept beside it is where its rings stand (to know which pages hold bytes),
//! what was last sent (to know what window the app sees), and a check on segments that it would choke on.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use smoltcp::iface::{Config, Interface, PollResult, SocketHandle, SocketSet, SocketStorage};
use smoltcp::socket::tcp::{self, RecvError, State};
use smoltcp::time::Instant;
use smoltcp::wire::{HardwareAddress, IpCidr, IpListenEndpoint};

use crate::netstack::counters::DropReason;
use crate::netstack::demux::Segment;
use crate::netstack::memory::{Memory, Ring, Rings};
use crate::netstack::stack::EGRESS_BYTES;
use crate::netstack::table::Tuple;
use crate::netstack::tcp::answer::{self, LastAck};
use crate::netstack::tcp::port::{Port, Sent, distance};
use crate::netstack::wire::Wire;
use crate::proto::timers::Moment;
use crate::tun::Device;

/// The least time until a flow's next deadline. smoltcp's own timers are a second and more; this only keeps
/// a deadline that it would forget to move from spinning the loop.
const MIN_DELAY: Duration = Duration::from_millis(10);

/// At most one challenge a flow in this time (RFC 5961, 7).
const CHALLENGE_INTERVAL: Duration = Duration::from_secs(1);

/// One flow's connection to the app.
pub(super) struct Connection {
    interface: Interface,
    socket: SocketHandle,
    rings: Rings,
    /// The sequence number of the app's SYN.
    initial_seq: u32,
    /// The sequence number of the byte that the stream reads next.
    next_read: u32,
    /// Where in the receive ring that byte is. smoltcp never moves it back to the start.
    read_at: usize,
    /// How far, from `next_read` on, the app has sent anything: in order, or beyond a hole.
    // INVARIANT: bytes of the receive ring from here on are free, those before may not be.
    ahead: usize,
    /// Where in the send ring the stream writes next. smoltcp moves it to the start when the ring is empty.
    write_at: usize,
    sent: Sent,
    /// Whether the SYN is not to be answered yet.
    paused: bool,
    challenge_after: Moment,
}

/// The result of reading from a flow.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Read {
    /// That many bytes were taken.
    Data(usize),
    /// Nothing is there now.
    Empty,
    /// The app has sent its FIN and everything before it was read.
    End,
}

/// The result of writing to a flow.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Write {
    /// That many bytes were taken.
    Taken(usize),
    /// The ring is full, or the handshake is not done.
    Full,
    /// Memory is short.
    Starved,
    /// Our FIN is queued, or the connection is over.
    Closed,
}

impl Connection {
    /// Answers a SYN, unless `paused`. `seed` makes the initial sequence number.
    ///
    /// # Errors
    /// When the system has no address space for the rings.
    pub(super) fn open<D: Device>(
        syn: Segment<'_>,
        memory: &Arc<Memory>,
        seed: u64,
        paused: bool,
        now: Moment,
        wire: &mut Wire<D>,
    ) -> io::Result<Self> {
        let local = syn.tuple.destination;
        let mut socket = SocketHandle::default();
        let rings = Rings::new(Arc::clone(memory), |receive, send| {
            let mut tcp = tcp::Socket::new(tcp::SocketBuffer::new(receive), tcp::SocketBuffer::new(send));
            tcp.set_ack_delay(None); // one acknowledgement a batch leaves with the batch
            tcp.set_nagle_enabled(false); // the relay writes what belongs together at once
            tcp.pause_synack(paused);
            let endpoint = IpListenEndpoint { addr: Some(local.ip().into()), port: local.port() };
            tcp.listen(endpoint).expect("a closed socket and a port that the demultiplexer checked");
            let mut sockets = SocketSet::new(Vec::<SocketStorage<'_>>::with_capacity(1));
            socket = sockets.add(tcp);
            sockets
        })?;

        let mut sent = Sent::default();
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = seed;
        let mut interface = Interface::new(config, &mut Port::new(wire, &mut sent, None), instant(now));
        interface.update_ip_addrs(|addresses| {
            // A prefix of no bits: every peer is on this link, and no route is needed.
            addresses.push(IpCidr::new(local.ip().into(), 0)).expect("room for one address");
        });
        let mut flow = Self {
            interface,
            socket,
            rings,
            initial_seq: syn.seq,
            next_read: syn.seq.wrapping_add(1),
            read_at: 0,
            ahead: 0,
            write_at: 0,
            sent,
            paused,
            challenge_after: now,
        };
        flow.process(syn, now, wire);
        Ok(flow)
    }

    /// Lets the SYN be answered.
    pub(super) fn accept(&mut self) {
        self.paused = false;
        self.socket(|socket| socket.pause_synack(false));
    }

    /// Takes a segment in, any but a SYN.
    pub(super) fn ingest<D: Device>(&mut self, mut segment: Segment<'_>, now: Moment, wire: &mut Wire<D>) {
        // Stripped rather than dropped: its acknowledgement may be what frees memory.
        if segment.payload > 0
            && let Err(reason) = self.admit(&segment)
        {
            wire.drop_for(reason);
            segment.strip_payload();
        }
        self.process(segment, now, wire);
    }

    /// Whether the payload may be put into the receive ring, with its pages accounted if so.
    ///
    /// smoltcp believes the unscaled window of its SYN-ACK to be scaled, and takes data after a FIN; either
    /// could make it write where the ring has no room.
    fn admit(&mut self, segment: &Segment<'_>) -> Result<(), DropReason> {
        let queue = self.recv_queue();
        let ring = self.rings.ring_bytes();
        let start = i64::from(segment.seq.wrapping_sub(self.next_read).cast_signed());
        let Ok(end) = usize::try_from(start + i64::from(segment.payload as u32)) else {
            return Ok(()); // all of it was read before
        };
        if end <= queue {
            return Ok(()); // all of it was received before
        }
        if self.fin_received() || end > ring {
            return Err(DropReason::OutOfWindow);
        }
        // Any hole before it is accounted too: else what lies beyond could use up what the hole will need.
        let place = (self.read_at + queue) % ring;
        if !self.rings.touch(Ring::Receive, place, end - queue) {
            self.give_back();
            if !self.rings.touch(Ring::Receive, place, end - queue) {
                return Err(DropReason::NoMemory);
            }
        }
        self.ahead = self.ahead.max(end);
        Ok(())
    }

    fn process<D: Device>(&mut self, segment: Segment<'_>, now: Moment, wire: &mut Wire<D>) {
        self.sent.limit = self.receive_limit();
        let Self { interface, rings, sent, .. } = self;
        let mut port = Port::new(wire, sent, Some(segment.packet));
        rings.with(|sockets| interface.poll_ingress_single(instant(now), &mut port, sockets));
    }

    /// Sends what there is to send, up to a flow's share of a turn. Gives whether there may be more.
    pub(super) fn emit<D: Device>(&mut self, now: Moment, wire: &mut Wire<D>) -> bool {
        self.sent.limit = self.receive_limit();
        let Self { interface, rings, sent, .. } = self;
        let share = sent.bytes + EGRESS_BYTES;
        rings.with(|sockets| {
            while interface.poll_egress(instant(now), &mut Port::new(wire, sent, None), sockets)
                == PollResult::SocketStateChanged
            {
                if sent.bytes >= share {
                    return true;
                }
            }
            wire.is_congested()
        })
    }

    /// Tells the app of a window that has opened. smoltcp does not when the window was narrowed for want of
    /// memory, since it has offered all of the ring already.
    pub(super) fn announce_window<D: Device>(&mut self, tuple: &Tuple, wire: &mut Wire<D>) {
        if !self.sent.narrowed || !self.window_opened() {
            return;
        }
        let window = (self.window() >> self.sent.shift).min(u32::from(u16::MAX)) as u16; // just bounded
        let (ip, tcp) = answer::ack(tuple, self.sent.end, self.next_expected(), window);
        wire.send_segment(&ip, &tcp);
        self.sent.edge = Some(self.next_expected().wrapping_add(u32::from(window) << self.sent.shift));
    }

    /// Asks an app that has forgotten this connection to say so, at most once a second.
    pub(super) fn challenge<D: Device>(&mut self, tuple: &Tuple, now: Moment, wire: &mut Wire<D>) {
        if now >= self.challenge_after {
            self.challenge_after = now + CHALLENGE_INTERVAL;
            // An app that has answers with a reset that fits (RFC 5961, 4.2).
            let (ip, tcp) = answer::ack(tuple, self.sent.end, self.sent.ack, self.sent.window);
            wire.send_segment(&ip, &tcp);
        }
    }

    /// What a connection still has to say in TIME-WAIT, when everything else is done and read.
    pub(super) fn last_ack(&mut self) -> Option<LastAck> {
        let done = self.state() == State::TimeWait && self.recv_queue() == 0;
        done.then_some(LastAck { seq: self.sent.end, ack: self.sent.ack, window: self.sent.window })
    }

    /// When [`Connection::emit`] has something to do again without anything else happening.
    pub(super) fn deadline(&mut self, now: Moment) -> Option<Moment> {
        if self.is_unanswered() {
            return None; // smoltcp would have its SYN-ACK sent at once
        }
        let Self { interface, rings, .. } = self;
        let at = rings.with(|sockets| interface.poll_at(instant(now), sockets))?;
        let at = Duration::from_micros(u64::try_from(at.total_micros()).unwrap_or(0));
        Some(Moment::from_origin(at).max(now + MIN_DELAY))
    }

    /// Sends a segment although there is no reason to, which gets smoltcp out of the states in which it
    /// waits for an acknowledgement with no timer running: a lost FIN after three duplicate
    /// acknowledgements, or a retransmission that came due while the window was closed.
    pub(super) fn nudge<D: Device>(&mut self, now: Moment, wire: &mut Wire<D>) {
        let interval = smoltcp::time::Duration::from_secs(1);
        self.socket(|socket| socket.set_keep_alive(Some(interval)));
        self.emit(now, wire);
        self.socket(|socket| socket.set_keep_alive(None));
    }

    /// Lends the received bytes up to the ring's end to `take`, which gives how many it took.
    pub(super) fn read(&mut self, take: impl FnOnce(&[u8]) -> usize) -> Read {
        let result = self.socket(|socket| {
            if !socket.can_recv() {
                return socket.recv(|_| (0, None));
            }
            socket.recv(|bytes| {
                let taken = take(bytes).min(bytes.len());
                (taken, Some(taken))
            })
        });
        match result {
            Ok(Some(taken)) => {
                self.next_read = self.next_read.wrapping_add(taken as u32); // a ring is below 4 GiB
                self.read_at = (self.read_at + taken) % self.rings.ring_bytes();
                self.ahead -= taken;
                Read::Data(taken)
            }
            Ok(None) | Err(RecvError::InvalidState) => Read::Empty,
            Err(RecvError::Finished) => Read::End,
        }
    }

    /// Copies as much of `data` into the send ring as there is room and memory for.
    pub(super) fn write(&mut self, data: &[u8]) -> Write {
        let (state, queue) = self.socket(|socket| (socket.state(), socket.send_queue()));
        match state {
            State::Established | State::CloseWait => {}
            State::SynReceived => return Write::Full,
            _ => return Write::Closed,
        }
        let ring = self.rings.ring_bytes();
        let wanted = data.len().min(ring - queue);
        if wanted == 0 {
            return Write::Full;
        }
        if queue == 0 {
            self.write_at = 0;
        }
        let mut covered = self.rings.touch_some(Ring::Send, self.write_at, wanted);
        if covered == 0 {
            self.give_back();
            covered = self.rings.touch_some(Ring::Send, self.write_at, wanted);
            if covered == 0 {
                return Write::Starved;
            }
        }
        match self.socket(|socket| socket.send_slice(&data[..covered])) {
            Ok(taken) => {
                self.write_at = (self.write_at + taken) % ring;
                Write::Taken(taken)
            }
            Err(tcp::SendError::InvalidState) => Write::Closed,
        }
    }

    /// Queues our FIN behind the data, once the handshake is done; gives whether it was.
    pub(super) fn close(&mut self) -> bool {
        self.socket(|socket| {
            let done = socket.state() != State::SynReceived;
            if done {
                socket.close();
            }
            done
        })
    }

    /// Ends the connection; [`Connection::emit`] sends the reset.
    pub(super) fn abort(&mut self) {
        self.socket(|socket| socket.abort());
    }

    pub(super) fn state(&mut self) -> State {
        self.socket(|socket| socket.state())
    }

    /// Whether the handshake is not done.
    pub(super) fn is_half_open(&mut self) -> bool {
        self.state() == State::SynReceived
    }

    /// The sequence number of the app's SYN.
    pub(super) fn initial_seq(&self) -> u32 {
        self.initial_seq
    }

    /// Whether the SYN still waits to be accepted.
    pub(super) fn is_unanswered(&mut self) -> bool {
        self.paused && self.state() == State::SynReceived
    }

    /// Whether nothing more is to be sent or received: closed, and a reset sent if one was due. A reset
    /// from the app during the handshake puts smoltcp back to listening.
    pub(super) fn is_over(&mut self) -> bool {
        self.socket(|socket| match socket.state() {
            State::Closed => socket.remote_endpoint().is_none(),
            State::Listen => true,
            _ => false,
        })
    }

    /// Whether the app owes us an acknowledgement of data or of our FIN.
    pub(super) fn awaits_ack(&mut self) -> bool {
        self.socket(|socket| {
            let fin = matches!(socket.state(), State::FinWait1 | State::Closing | State::LastAck);
            fin || socket.send_queue() > 0
        })
    }

    /// Whether a read would not wait.
    pub(super) fn is_readable(&mut self) -> bool {
        self.socket(|socket| socket.can_recv() || socket.recv(|_| (0, ())) == Err(RecvError::Finished))
    }

    /// Whether a write would take at least a quarter of the ring: below that, waking the writer costs more
    /// than it brings.
    pub(super) fn is_writable(&mut self) -> bool {
        let ring = self.rings.ring_bytes();
        self.socket(|socket| socket.may_send() && ring - socket.send_queue() >= ring / 4)
    }

    /// Bytes received and not read.
    pub(super) fn recv_queue(&mut self) -> usize {
        self.socket(|socket| socket.recv_queue())
    }

    /// Whether the window has opened so far since the app was last told that it should be told now: to twice
    /// what is left, and by a quarter of the widest one.
    pub(super) fn window_opened(&mut self) -> bool {
        let Some(edge) = self.sent.edge else { return false };
        if self.fin_received() {
            return false;
        }
        let widest = self.rings.receive_limit(self.read_at).min(usize::from(u16::MAX) << self.sent.shift);
        let widest = widest as u32; // a ring is below 4 GiB
        let window = self.window().min(widest);
        let left = distance(self.next_expected(), edge);
        window >= 2 * left && window >= left + widest / 4
    }

    /// What there is room and memory for.
    fn window(&mut self) -> u32 {
        distance(self.next_expected(), self.receive_limit())
    }

    /// The sequence number up to which there is room and memory.
    fn receive_limit(&self) -> u32 {
        self.next_read.wrapping_add(self.rings.receive_limit(self.read_at) as u32) // a ring is below 4 GiB
    }

    /// The sequence number that the app is to send next, its FIN not counted.
    fn next_expected(&mut self) -> u32 {
        self.next_read.wrapping_add(self.recv_queue() as u32) // a ring is below 4 GiB
    }

    fn fin_received(&mut self) -> bool {
        matches!(self.state(), State::CloseWait | State::LastAck | State::Closing | State::TimeWait)
    }

    /// How far both directions have come, in sequence numbers.
    pub(super) fn position(&mut self) -> (u32, u32) {
        (self.next_expected(), self.sent.end)
    }

    /// Whether the rings hold any memory.
    pub(super) fn holds_pages(&self) -> bool {
        self.rings.holds_pages()
    }

    /// Whether pages could be given back.
    pub(super) fn has_spare(&mut self) -> bool {
        let live = self.live();
        self.rings.has_spare(live)
    }

    /// Gives back the pages that hold no byte of worth.
    pub(super) fn give_back(&mut self) {
        let live = self.live();
        self.rings.give_back(live);
    }

    /// Where bytes of worth are in the two rings: start and length.
    fn live(&mut self) -> [(usize, usize); 2] {
        let ring = self.rings.ring_bytes();
        let queued = self.socket(|socket| socket.send_queue());
        [(self.read_at, self.ahead), ((self.write_at + ring - queued) % ring, queued)]
    }

    fn socket<R>(&mut self, use_it: impl for<'memory> FnOnce(&mut tcp::Socket<'memory>) -> R) -> R {
        let handle = self.socket;
        self.rings.with(|sockets| use_it(sockets.get_mut(handle)))
    }
}

fn instant(moment: Moment) -> Instant {
    Instant::from_micros(i64::try_from(moment.since_origin().as_micros()).unwrap_or(i64::MAX))
}
