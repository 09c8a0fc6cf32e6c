//! One UDP flow as the loop and its relay share it: two queues.

use std::collections::VecDeque;
use std::mem;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use crate::budget::{Account, Holding};
use crate::netstack::counters::DropReason;
use crate::netstack::hub::Hub;
use crate::netstack::stack::EGRESS_BYTES;
use crate::netstack::table::FlowId;
use crate::netstack::udp::relay::{Datagram, Payload};
use crate::netstack::udp::reply::Outgoing;
use crate::netstack::udp::{cost, payload};
use crate::netstack::wire::Wire;
use crate::netstack::{demux, lock, register};
use crate::tun::Device;

/// Datagrams queued in one direction of one flow at most: a batch of the loop's. Enough that a burst
/// survives until the relay runs, and no more than 10 ms of a busy flow.
const QUEUE: usize = 64;

/// What the two queues of an idle flow keep room for together, so that it costs no more than
/// [it is budgeted](crate::budget::FLOW_BYTES).
const IDLE_QUEUES: usize = 24;

/// What either keeps room for: a datagram now and then.
const IDLE_QUEUE: usize = 8;

/// What one of them does, that of the way on which more comes at once. Less than a TLS record's datagrams, which
/// are 13 when they are full, would have it grow again with each record.
const BUSY_QUEUE: usize = IDLE_QUEUES - IDLE_QUEUE;

/// A flow, reached from the loop and from its relay.
pub(super) struct Shared {
    pub(super) id: FlowId,
    pub(super) source: SocketAddr,
    /// Of the first datagram.
    pub(super) destination: SocketAddr,
    pub(super) hub: Arc<Hub>,
    touched: AtomicBool,
    /// Held for a copy at most; never while a task is woken.
    flow: Mutex<Flow>,
}

impl Shared {
    pub(super) fn new(id: FlowId, source: SocketAddr, destination: SocketAddr, hub: Arc<Hub>) -> Self {
        let flow = Mutex::new(Flow::new(&hub.datagrams));
        Self { id, source, destination, hub, touched: AtomicBool::new(false), flow }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Flow> {
        lock(&self.flow)
    }

    /// Has the loop look after this flow soon.
    pub(super) fn touch(&self) {
        if !self.touched.swap(true, Ordering::AcqRel) {
            self.hub.tell(|news| news.touched_udp.push(self.id));
        }
    }

    /// Forgets the touch; called by the loop before it looks.
    pub(super) fn untouch(&self) {
        self.touched.store(false, Ordering::Release);
    }
}

/// Where a flow is in its life.
///
/// ```text
/// Open ─┬─► Refused ─┬─► Ended
///       ├─► Dropped ─┤
///       └────────────┘
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Open,
    /// By the relay: the app is told.
    Refused,
    /// By the relay: what it has sent still leaves.
    Dropped,
    /// By the loop.
    Ended,
}

/// The state of a flow.
pub(super) struct Flow {
    stage: Stage,
    /// From the app.
    up: VecDeque<Queued>,
    /// What is queued up and what the relay has of it.
    up_held: Arc<Holding>,
    /// To the app.
    down: VecDeque<Outgoing>,
    down_held: Holding,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

/// A datagram from the app.
pub(super) struct Queued {
    pub(super) datagram: Datagram,
    pub(super) hop_limit: u8,
}

/// What the loop learns from sending.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sent {
    /// A datagram has left.
    pub(super) any: bool,
    /// The flow has more to send than its share of this turn, or than the device has room for.
    pub(super) more: bool,
}

impl Flow {
    fn new(account: &Arc<Account>) -> Self {
        Self {
            stage: Stage::Open,
            up: VecDeque::new(),
            up_held: Arc::new(Holding::new(account)),
            down: VecDeque::new(),
            down_held: Holding::new(account),
            reader: None,
            writer: None,
        }
    }

    // The loop's side.

    pub(super) fn stage(&self) -> Stage {
        self.stage
    }

    /// Queues a datagram from the app, for which the oldest may have to go.
    pub(super) fn enqueue<D: Device>(
        &mut self,
        datagram: &demux::Datagram<'_>,
        account: &Account,
        wire: &mut Wire<D>,
        wakes: &mut Vec<Waker>,
    ) {
        if self.up.len() == QUEUE {
            self.up.pop_front();
            wire.drop_for(DropReason::QueueFull);
        }
        let payload = payload(datagram);
        if !admits(account, &self.up_held, self.up.is_empty(), cost(payload.len())) {
            return wire.drop_for(DropReason::NoMemory);
        }
        let payload = Payload::new(payload, &self.up_held);
        let hop_limit = datagram.hop_limit;
        self.up.push_back(Queued {
            datagram: Datagram { destination: datagram.destination, payload },
            hop_limit,
        });
        wakes.extend(self.reader.take());
    }

    /// Takes what the app has sent and the relay not taken.
    pub(super) fn take_queue(&mut self) -> VecDeque<Queued> {
        mem::take(&mut self.up)
    }

    /// Sends the flow's share of a turn to the app. Tasks to be woken go to `wakes`.
    pub(super) fn send<D: Device>(
        &mut self,
        to: SocketAddr,
        wire: &mut Wire<D>,
        wakes: &mut Vec<Waker>,
    ) -> Sent {
        let share = wire.counters.bytes_out + EGRESS_BYTES;
        let before = (self.down.len(), wire.counters.datagrams_out);
        while !wire.is_congested()
            && wire.counters.bytes_out < share
            && let Some(outgoing) = self.down.front_mut()
        {
            if !outgoing.send(to, wire) {
                break;
            }
            self.down_held.change(cost(outgoing.payload.len()), 0);
            self.down.pop_front();
        }
        if self.down.len() < before.0 {
            wakes.extend(self.writer.take());
        }
        if self.down.is_empty() {
            self.rest_down();
        }
        Sent { any: wire.counters.datagrams_out > before.1, more: !self.down.is_empty() }
    }

    /// Gives back what the queue needed for a burst.
    fn rest_down(&mut self) {
        self.down.shrink_to(beside(self.up.capacity()));
    }

    /// Ends the flow. What was received is left to be read.
    pub(super) fn finish(&mut self, wakes: &mut Vec<Waker>) {
        if self.stage != Stage::Open {
            self.up.clear();
        }
        self.stage = Stage::Ended;
        self.discard_down();
        wakes.extend(self.reader.take());
        wakes.extend(self.writer.take());
    }

    // The relay's side.

    pub(super) fn poll_recv(&mut self, cx: &Context<'_>) -> Poll<Option<Datagram>> {
        if let Some(queued) = self.up.pop_front() {
            return Poll::Ready(Some(queued.datagram));
        }
        if self.stage == Stage::Ended {
            return Poll::Ready(None);
        }
        self.up.shrink_to(beside(self.down.capacity()));
        register(&mut self.reader, cx);
        Poll::Pending
    }

    pub(super) fn poll_ended(&mut self, cx: &Context<'_>) -> Poll<()> {
        if self.stage == Stage::Ended {
            return Poll::Ready(());
        }
        register(&mut self.reader, cx);
        Poll::Pending
    }

    /// Queues a datagram to the app.
    pub(super) fn poll_send(
        &mut self,
        cx: &Context<'_>,
        from: SocketAddr,
        payload: &[u8],
        account: &Account,
    ) -> Poll<Result<(), DropReason>> {
        if self.stage == Stage::Ended {
            return Poll::Ready(Ok(()));
        }
        let cost = cost(payload.len());
        if self.down.len() < QUEUE && admits(account, &self.down_held, self.down.is_empty(), cost) {
            self.down_held.change(0, cost);
            self.down.push_back(Outgoing::new(from, payload));
            return Poll::Ready(Ok(()));
        }
        if self.down.is_empty() {
            return Poll::Ready(Err(DropReason::NoMemory)); // nothing that leaves here would tell of room
        }
        register(&mut self.writer, cx);
        Poll::Pending
    }

    /// Has the app told that nobody listens.
    pub(super) fn refuse(&mut self) {
        if self.stage == Stage::Open {
            self.stage = Stage::Refused;
            self.discard_down();
        }
    }

    /// Leaves the flow to the loop.
    pub(super) fn abandon(&mut self) {
        (self.reader, self.writer) = (None, None);
        if self.stage == Stage::Open {
            self.stage = Stage::Dropped;
        }
        if self.stage != Stage::Refused {
            self.up = VecDeque::new();
        }
    }

    fn discard_down(&mut self) {
        self.down = VecDeque::new();
        self.down_held.set(0);
    }
}

/// What an empty queue may keep room for, beside another of that capacity.
fn beside(other: usize) -> usize {
    IDLE_QUEUES.saturating_sub(other).clamp(IDLE_QUEUE, BUSY_QUEUE)
}

/// Whether a queue may take a datagram: as long as it has its part of what is free, or is empty and there is
/// any room.
fn admits(account: &Account, held: &Holding, is_empty: bool, cost: usize) -> bool {
    held.bytes() + cost <= account.allowance(0, usize::MAX) || (is_empty && cost <= account.free())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::FLOW_BYTES;
    use crate::netstack::udp::{Entry, Key};

    fn context() -> Context<'static> {
        Context::from_waker(Waker::noop())
    }

    /// A burst each way, and its end.
    fn burst(flow: &mut Flow, account: &Account, up: usize, down: usize) {
        let here = SocketAddr::from(([192, 0, 2, 1], 443));
        for _ in 0..up {
            let datagram = Datagram { destination: here, payload: Payload::new(b"up", &flow.up_held) };
            flow.up.push_back(Queued { datagram, hop_limit: 64 });
        }
        for _ in 0..down {
            assert!(matches!(flow.poll_send(&context(), here, b"down", account), Poll::Ready(Ok(()))));
        }
        while flow.poll_recv(&context()).is_ready() {}
        flow.down.clear();
        flow.rest_down();
    }

    #[test]
    fn what_a_record_carries_does_not_make_a_queue_grow_again_each_time() {
        for (up, down) in [(13, 1), (1, 13)] {
            let account = Arc::default();
            let mut flow = Flow::new(&account);
            burst(&mut flow, &account, up, down);
            let room = (flow.up.capacity(), flow.down.capacity());
            assert!(room.0 >= up && room.1 >= down, "{room:?}");
            burst(&mut flow, &account, up, down);
            assert_eq!((flow.up.capacity(), flow.down.capacity()), room);
        }
    }

    #[test]
    fn an_idle_flow_costs_what_is_budgeted_whatever_it_has_had() {
        let fixed = size_of::<Shared>() + 2 * size_of::<Holding>() + size_of::<(Key, Entry)>();
        let account = Arc::default();
        let mut flow = Flow::new(&account);
        for (up, down) in
            [(QUEUE, 0), (0, QUEUE), (QUEUE, QUEUE), (0, QUEUE), (QUEUE, 1), (1, QUEUE), (13, 13)]
        {
            burst(&mut flow, &account, up, down);
            let queues =
                flow.up.capacity() * size_of::<Queued>() + flow.down.capacity() * size_of::<Outgoing>();
            assert!(fixed + queues <= FLOW_BYTES, "{fixed} and {queues} after {up} and {down}");
        }
    }

    #[test]
    fn a_flow_has_ended_for_its_relay_whatever_is_left_to_be_received() {
        let account = Arc::default();
        let mut flow = Flow::new(&account);
        let here = SocketAddr::from(([192, 0, 2, 1], 443));
        let datagram = Datagram { destination: here, payload: Payload::new(b"up", &flow.up_held) };
        flow.up.push_back(Queued { datagram, hop_limit: 64 });
        assert!(flow.poll_ended(&context()).is_pending());
        let mut wakes = Vec::new();
        flow.finish(&mut wakes);
        assert_eq!(wakes.len(), 1, "the relay hears of it");
        assert!(flow.poll_ended(&context()).is_ready());
        assert!(matches!(flow.poll_recv(&context()), Poll::Ready(Some(_))));
    }
}
