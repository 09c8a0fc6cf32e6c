//! One flow as the loop and its stream share it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use std::{io, mem};

use smoltcp::socket::tcp::State;

use crate::netstack::demux::Segment;
use crate::netstack::hub::Hub;
use crate::netstack::memory::{Memory, Place};
use crate::netstack::table::{FlowId, Tuple};
use crate::netstack::tcp::answer::{self, LastAck};
use crate::netstack::tcp::connection::{Connection, Read, Write};
use crate::netstack::tcp::end::End;
use crate::netstack::wire::Wire;
use crate::netstack::{lock, register};
use crate::proto::timers::{Moment, earliest};
use crate::tun::Device;

/// How long a flow that waits for the app may hear nothing from it: twice the longest interval at which
/// smoltcp sends again, and above the 100 s that RFC 1122 (4.2.3.5) asks for.
pub(super) const PATIENCE: Duration = Duration::from_secs(120);

/// How long a flow stays in the table in TIME-WAIT. Between an app and a stack on the same device nothing
/// is reordered for longer, and the app's own kernel keeps the port closed for its own TIME-WAIT.
pub(super) const TIME_WAIT: Duration = Duration::from_secs(1);

/// How long smoltcp may wait for an acknowledgement without a timer before it is nudged.
const NUDGE: Duration = Duration::from_secs(1);

/// A flow, reached from the loop and from its stream.
pub(super) struct Shared {
    pub(super) id: FlowId,
    pub(super) tuple: Tuple,
    pub(super) hub: Arc<Hub>,
    touched: AtomicBool,
    /// Held for a copy at most; never while a task is woken.
    flow: Mutex<Flow>,
}

impl Shared {
    pub(super) fn new(id: FlowId, tuple: Tuple, hub: Arc<Hub>, connection: Connection) -> Self {
        Self { id, tuple, hub, touched: AtomicBool::new(false), flow: Mutex::new(Flow::new(connection)) }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Flow> {
        lock(&self.flow)
    }

    /// Has the loop look after this flow soon.
    pub(super) fn touch(&self) {
        if !self.touched.swap(true, Ordering::AcqRel) {
            self.hub.tell(|news| news.touched_tcp.push(self.id));
        }
    }

    /// Forgets the touch; called by the loop before it looks.
    pub(super) fn untouch(&self) {
        self.touched.store(false, Ordering::Release);
    }
}

/// What a SYN means to the flow that has its 5-tuple.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SynMeaning {
    /// The same connection, asked for again.
    Repeated,
    /// A new connection; this one has no more use for the tuple.
    Replaces,
    /// The app has forgotten this connection, or somebody plays tricks: ask the app.
    Doubtful,
}

/// What the loop learns from looking after a flow.
#[derive(Debug, Default)]
pub(super) struct Tended {
    /// The flow has ended and leaves the table.
    pub(super) over: bool,
    /// Payload has come or gone since the last time.
    pub(super) moved: bool,
    /// The flow has more to send than its share of this turn.
    pub(super) more: bool,
    /// The handshake is not done.
    pub(super) half_open: bool,
    /// From now on the flow is only there for an app that repeats its FIN.
    pub(super) waits: bool,
    /// The flow is to be put on the list of those that may have pages to give back.
    pub(super) sweep: bool,
    /// When to look again, without anything else happening.
    pub(super) deadline: Option<Moment>,
}

/// The state of a flow.
pub(super) struct Flow {
    /// None once there is nothing more to send, receive or read.
    connection: Option<Connection>,
    /// In TIME-WAIT, in the place of the connection and its rings, which the next flow can use.
    last_ack: Option<(LastAck, Place)>,
    end: Option<End>,
    sending: Sending,
    /// How far both directions had come when the loop last looked.
    position: (u32, u32),
    /// Whether the stream was dropped.
    orphan: bool,
    /// Whether bytes from the app were thrown away because nobody reads them.
    discarded: bool,
    /// Whether the loop's sweep list has this flow.
    listed: bool,
    /// Whether the hub's starved list has this flow.
    starved: bool,
    give_up_at: Option<Moment>,
    leave_at: Option<Moment>,
    nudge_at: Option<Moment>,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

/// Our direction of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sending {
    Open,
    /// The stream was shut down; the FIN waits for the handshake.
    Shut,
    /// The FIN is queued behind the data.
    Closed,
}

impl Flow {
    fn new(connection: Connection) -> Self {
        Self {
            connection: Some(connection),
            last_ack: None,
            end: None,
            sending: Sending::Open,
            position: (0, 0),
            orphan: false,
            discarded: false,
            listed: false,
            starved: false,
            give_up_at: None,
            leave_at: None,
            nudge_at: None,
            reader: None,
            writer: None,
        }
    }

    // The loop's side.

    /// Takes a segment in; the loop looks after the flow once the batch is in.
    pub(super) fn ingest<D: Device>(&mut self, segment: Segment<'_>, now: Moment, wire: &mut Wire<D>) {
        let Some(connection) = &mut self.connection else {
            if let Some((LastAck { seq, ack, window }, _)) = self.last_ack
                && !segment.rst
                && segment.len() > 0
            {
                let (ip, tcp) = answer::ack(&segment.tuple, seq, ack, window);
                wire.send_segment(&ip, &tcp);
            }
            return;
        };
        let reset = segment.rst && connection.state() != State::TimeWait && !connection.is_over();
        connection.ingest(segment, now, wire);
        if reset && connection.is_over() {
            wire.counters.resets_in += 1;
            self.end.get_or_insert(End::Reset);
        }
        self.give_up_at = None; // the app is there
    }

    /// What a SYN with this sequence number means.
    pub(super) fn judge_syn(&mut self, seq: u32) -> SynMeaning {
        let orphan = self.orphan;
        let Some(connection) = &mut self.connection else { return SynMeaning::Replaces };
        let repeated = seq == connection.initial_seq();
        match connection.state() {
            State::TimeWait | State::LastAck | State::Closing | State::Closed | State::Listen => {
                SynMeaning::Replaces
            }
            State::FinWait1 | State::FinWait2 if orphan => SynMeaning::Replaces,
            _ if repeated => SynMeaning::Repeated,
            State::SynReceived | State::SynSent => SynMeaning::Replaces,
            State::Established | State::CloseWait | State::FinWait1 | State::FinWait2 => SynMeaning::Doubtful,
        }
    }

    /// Asks an app that has sent a SYN whether it has forgotten this connection.
    pub(super) fn challenge<D: Device>(&mut self, tuple: &Tuple, now: Moment, wire: &mut Wire<D>) {
        if let Some(connection) = &mut self.connection {
            connection.challenge(tuple, now, wire);
        }
    }

    /// Does what is due and sends what there is to send. Tasks to be woken go to `wakes`.
    pub(super) fn tend<D: Device>(
        &mut self,
        tuple: &Tuple,
        memory: &Arc<Memory>,
        now: Moment,
        wire: &mut Wire<D>,
        wakes: &mut Vec<Waker>,
    ) -> Tended {
        let more = self.advance(tuple, now, wire);
        let waits = !more && self.disconnect_in_time_wait(memory, now, wakes);
        let left = self.leave_at.is_some_and(|at| at <= now);
        let over = match &mut self.connection {
            Some(connection) => connection.is_over() || left,
            None => self.last_ack.is_none() || left,
        };
        if over {
            self.finish(End::Clean, wakes);
            return Tended { over, ..Tended::default() };
        }
        self.wake_ready(wakes);
        let deadline = self.next_deadline(now);
        let Some(connection) = &mut self.connection else {
            return Tended { waits, deadline: self.leave_at, ..Tended::default() };
        };
        let sweep = !self.listed && connection.holds_pages();
        self.listed |= sweep;
        let position = connection.position();
        let moved = mem::replace(&mut self.position, position) != position;
        let half_open = connection.state() == State::SynReceived;
        Tended { over, moved, more, half_open, waits, sweep, deadline }
    }

    fn advance<D: Device>(&mut self, tuple: &Tuple, now: Moment, wire: &mut Wire<D>) -> bool {
        let due = |at: Option<Moment>| at.is_some_and(|at| at <= now);
        let Some(connection) = &mut self.connection else { return false };
        if self.sending == Sending::Shut && connection.close() {
            self.sending = Sending::Closed;
        }
        if self.orphan {
            // Nobody reads any more. What we still have to say is said first; then an app that talks on is
            // told with a reset, as by any socket that was closed.
            while let Read::Data(_) = connection.read(<[u8]>::len) {
                self.discarded = true;
            }
            if self.discarded && connection.state() == State::FinWait2 {
                connection.abort();
            }
        }
        if due(self.give_up_at) {
            self.end.get_or_insert(End::Unanswered);
            connection.abort();
        }
        if due(self.nudge_at) {
            self.nudge_at = None;
            connection.nudge(now, wire);
        }
        let more = connection.emit(now, wire);
        connection.announce_window(tuple, wire);
        more
    }

    /// Keeps no more of a connection in TIME-WAIT than it still needs; gives whether it has just come to that.
    fn disconnect_in_time_wait(&mut self, memory: &Arc<Memory>, now: Moment, wakes: &mut Vec<Waker>) -> bool {
        let Some(last_ack) = self.connection.as_mut().and_then(Connection::last_ack) else { return false };
        (self.connection, self.last_ack) = (None, Some((last_ack, memory.enter())));
        self.leave_at.get_or_insert(now + TIME_WAIT);
        wakes.extend(self.reader.take());
        wakes.extend(self.writer.take());
        true
    }

    fn next_deadline(&mut self, now: Moment) -> Option<Moment> {
        let connection = self.connection.as_mut()?;
        let (state, awaits_ack) = (connection.state(), connection.awaits_ack());
        let handshake = state == State::SynReceived && !connection.is_unanswered();
        let timer = connection.deadline(now);
        let when =
            |holds: bool, known: Option<Moment>, wait: Duration| holds.then(|| known.unwrap_or(now + wait));
        self.give_up_at = when(awaits_ack || handshake || self.orphan, self.give_up_at, PATIENCE);
        self.leave_at = when(state == State::TimeWait, self.leave_at, TIME_WAIT);
        self.nudge_at = when(awaits_ack && timer.is_none(), self.nudge_at, NUDGE);
        [self.give_up_at, self.leave_at, self.nudge_at].into_iter().fold(timer, earliest)
    }

    fn wake_ready(&mut self, wakes: &mut Vec<Waker>) {
        let Some(connection) = &mut self.connection else { return };
        if self.reader.is_some() && connection.is_readable() {
            wakes.extend(self.reader.take());
        }
        if self.writer.is_some() && connection.is_writable() {
            wakes.extend(self.writer.take());
        }
    }

    /// Ends the flow, unless it has ended. A clean end leaves what was received to be read.
    pub(super) fn finish(&mut self, end: End, wakes: &mut Vec<Waker>) {
        let end = *self.end.get_or_insert(end);
        let unread = end == End::Clean
            && !self.orphan
            && self.connection.as_mut().is_some_and(|connection| connection.recv_queue() > 0);
        if !unread {
            self.connection = None;
        }
        wakes.extend(self.reader.take());
        wakes.extend(self.writer.take());
    }

    /// Ends the flow with a reset to the app.
    pub(super) fn cut<D: Device>(
        &mut self,
        end: End,
        now: Moment,
        wire: &mut Wire<D>,
        wakes: &mut Vec<Waker>,
    ) {
        if let Some(connection) = &mut self.connection {
            connection.abort();
            connection.emit(now, wire);
        }
        self.finish(end, wakes);
    }

    /// Gives back the pages that hold nothing, and takes the flow off the sweep list.
    pub(super) fn sweep(&mut self) {
        self.listed = false;
        if let Some(connection) = &mut self.connection {
            connection.give_back();
        }
    }

    /// Lets a writer that waited for memory try again.
    pub(super) fn feed(&mut self, wakes: &mut Vec<Waker>) {
        self.starved = false;
        wakes.extend(self.writer.take());
    }

    // The stream's side.

    /// Lets the SYN be answered.
    pub(super) fn accept(&mut self) {
        if let Some(connection) = &mut self.connection {
            connection.accept();
        }
    }

    /// Lends received bytes to `take`; 0 is the end of the stream. Also gives whether the loop is to be told.
    pub(super) fn poll_read(
        &mut self,
        cx: &Context<'_>,
        take: impl FnOnce(&[u8]) -> usize,
    ) -> (Poll<io::Result<usize>>, bool) {
        if let Err(error) = End::check(self.end) {
            return (Poll::Ready(Err(error)), false);
        }
        let Some(connection) = &mut self.connection else { return (Poll::Ready(Ok(0)), false) };
        match connection.read(take) {
            Read::Data(taken) => {
                let drained = !self.listed && connection.recv_queue() == 0 && connection.has_spare();
                (Poll::Ready(Ok(taken)), drained || connection.window_opened())
            }
            Read::End => (Poll::Ready(Ok(0)), false),
            Read::Empty => {
                register(&mut self.reader, cx);
                (Poll::Pending, false)
            }
        }
    }

    /// Copies bytes in to be sent. Also gives what the loop is to be told.
    pub(super) fn poll_write(&mut self, cx: &Context<'_>, data: &[u8]) -> (Poll<io::Result<usize>>, Told) {
        if let Err(error) = End::check(self.end) {
            return (Poll::Ready(Err(error)), Told::Nothing);
        }
        let closed = Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        let Some(connection) = self.connection.as_mut().filter(|_| self.sending == Sending::Open) else {
            return (closed, Told::Nothing);
        };
        if data.is_empty() {
            return (Poll::Ready(Ok(0)), Told::Nothing);
        }
        match connection.write(data) {
            Write::Taken(taken) => (Poll::Ready(Ok(taken)), Told::Touched),
            Write::Full => {
                register(&mut self.writer, cx);
                (Poll::Pending, Told::Nothing)
            }
            Write::Starved => {
                register(&mut self.writer, cx);
                let told = if mem::replace(&mut self.starved, true) { Told::Nothing } else { Told::Starved };
                (Poll::Pending, told)
            }
            Write::Closed => (closed, Told::Nothing),
        }
    }

    /// Sends a FIN after what was written.
    pub(super) fn shut_down(&mut self) -> io::Result<()> {
        End::check(self.end)?;
        if self.sending == Sending::Open {
            self.sending = Sending::Shut;
        }
        Ok(())
    }

    /// Leaves the flow to the loop: to deliver what was written if the stream was shut down, to reset it if not.
    pub(super) fn abandon(&mut self) {
        self.orphan = true;
        (self.reader, self.writer) = (None, None);
        if self.end.is_some() {
            self.connection = None;
        } else if self.sending == Sending::Open {
            self.abort();
        }
    }

    /// Resets the flow.
    pub(super) fn abort(&mut self) {
        if let Some(connection) = &mut self.connection {
            connection.abort();
        }
    }
}

/// What a stream's user did that the loop must know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    Nothing,
    Touched,
    Starved,
}
