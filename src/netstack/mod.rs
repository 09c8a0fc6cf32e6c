//! Packets in, TCP and UDP flows out.
//!
//! [`Netstack`] reads packets from a [`Device`](crate::tun::Device), finds the flow that each belongs to, and
//! hands every new one to a [`Handler`]. A packet's way through the files:
//!
//! ```text
//! device ─► wire ─► stack ─► demux ─┬─► tcp ─► TcpStream ─► relay
//!                     ▲             ├─► udp ─► UdpFlow ───► relay
//!                     │             ├─► icmp: answered at once
//!                     │             └─► fragments: until it is whole
//!                    hub ◄── what relays and the owner say
//! ```
//!
//! | file | subject |
//! |---|---|
//! | `stack`, `alarm` | the loop; its one timer |
//! | `demux`, `addresses` | bytes to a checked segment or datagram; between whom |
//! | `tcp`, `udp` | the flows, and what is answered without one |
//! | `icmp` | echoes, and what apps are told of what is not carried |
//! | `fragments` | parts to a whole, and back |
//! | `table`, `timers` | flows by key; their deadlines |
//! | `memory` | the rings' pages and the budget of all flows |
//! | `residue` | when the heap is tidied after many flows |
//! | `wire` | the device, and what is counted on the way to it |

mod addresses;
mod alarm;
mod checksum;
mod counters;
mod demux;
mod fragments;
mod hub;
mod icmp;
mod memory;
mod residue;
mod stack;
mod table;
mod tcp;
mod timers;
mod udp;
mod wire;

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};
use std::{io, mem};

pub use counters::{Counters, DropReason, Drops};
pub use stack::Netstack;
pub use tcp::{TcpFlow, TcpStream};
pub use udp::{Datagram, Payload, Reply, UdpFlow};

use crate::budget::{self, Account, Pressure};
use hub::Hub;
use table::FlowId;

/// Takes the flows that apps open. Called from the loop, so it must not block: it hands a flow to a task.
pub trait Handler: Send {
    /// Takes a new TCP flow.
    fn handle_tcp(&mut self, flow: TcpFlow);

    /// What becomes of a datagram. Asked for every one, so it is to be cheap.
    fn judge_udp(&mut self, destination: SocketAddr) -> Fate;

    /// Takes a new UDP flow, whose first datagram is queued already.
    fn handle_udp(&mut self, flow: UdpFlow);

    /// Takes a datagram that is to be answered.
    fn handle_query(&mut self, payload: &[u8], reply: Reply);
}

/// What becomes of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It goes to the flow of the app's endpoint, with those for other destinations: who answers reaches the
    /// app from any address.
    Carry,
    /// It goes to the flow of the app's endpoint and this destination alone.
    CarryAlone,
    /// It is a query that is answered without a flow.
    Answer,
    /// The app is told that nobody listens: port unreachable, up to a rate.
    Refuse,
}

/// What queued datagrams may hold, unless the options say otherwise: the queues of five busy flows.
const DATAGRAM_BYTES: usize = 1 << 20;

/// What may be chosen about a [`Netstack`]. The MTU is the device's.
#[derive(Clone, Debug)]
pub struct Options {
    /// What flows and their rings may hold together, in bytes: the netstack's share of the
    /// [`budget`].
    pub memory_bytes: usize,
    /// What each flow takes of that, besides the pages of its rings.
    pub flow_bytes: usize,
    /// Answer SYNs at once instead of when the flow is accepted: saves a round trip, and turns a failed dial
    /// into a reset after the connection stood.
    pub eager: bool,
    /// TCP flows at most; SYNs beyond are dropped, and the app sends them again.
    pub max_flows: usize,
    /// Flows at most whose handshake is not done.
    pub max_half_open: usize,
    /// UDP flows at most; beyond, the least recently used goes.
    pub max_udp_flows: usize,
    /// What datagrams on their way may hold together: queued in flows, taken by relays, and replies.
    pub datagrams: Arc<Account>,
    /// Our own server's addresses: packets to them are the tunnel's own, come back into it.
    pub deny: Vec<SocketAddr>,
    /// What fragments may hold together until their packets are whole, in bytes.
    pub reassembly_bytes: usize,
    /// The interface's own networks, each an address and the length of its prefix: what is sent to all of
    /// their hosts is dropped.
    pub networks: Vec<(IpAddr, u8)>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            memory_bytes: 32 << 20,
            flow_bytes: budget::FLOW_BYTES,
            eager: false,
            max_flows: budget::MAX_FLOWS,
            max_half_open: budget::MAX_HALF_OPEN,
            max_udp_flows: budget::MAX_UDP_FLOWS,
            datagrams: Arc::new(Account::new(DATAGRAM_BYTES)),
            deny: Vec::new(),
            reassembly_bytes: 256 << 10, // three of the largest
            networks: Vec::new(),
        }
    }
}

/// The owner's hand on a running [`Netstack`].
#[derive(Clone, Debug)]
pub struct Control {
    hub: Arc<Hub>,
}

impl Control {
    /// The counters as of the loop's last turn.
    pub fn counters(&self) -> Counters {
        self.hub.counters()
    }

    /// Sets our own server's addresses anew, as after a change of network.
    pub fn set_deny(&self, addresses: Vec<SocketAddr>) {
        self.hub.tell(|news| news.deny = Some(addresses));
    }

    /// Sets how many UDP flows there may be from now on. If there are more, those used longest ago end.
    pub fn set_max_udp_flows(&self, count: usize) {
        self.hub.tell(|news| news.max_udp_flows = Some(count));
    }

    /// Says how short memory is. Idempotent and cheap.
    ///
    /// Above normal, windows shrink, pages are given back at once, and no mapping is kept for the next flow.
    /// Becoming critical, it resets the half of all flows that have moved nothing for longest: only those
    /// that are connected and have been [idle for 10 s](Counters::flows_shed). New flows still work. Of UDP,
    /// the idle half ends as well, and new flows are dropped.
    pub fn set_pressure(&self, pressure: Pressure) {
        self.hub.tell(|news| news.pressure = Some(pressure));
    }

    /// What flows and their rings held at the end of the loop's last turn, in bytes.
    pub fn memory_held(&self) -> usize {
        self.hub.held()
    }

    /// Ends the loop: every TCP flow is reset, every UDP flow ends.
    pub fn stop(&self) {
        self.hub.tell(|news| news.stop = true);
    }
}

/// The device will neither give nor take a packet again.
#[derive(Debug, thiserror::Error)]
#[error("packet device gone")]
pub struct DeviceGone(#[source] pub io::Error);

/// Has a flow looked after in this turn, once.
fn note(noted: &mut VecDeque<FlowId>, id: FlowId, is_noted: &mut bool) {
    if !mem::replace(is_noted, true) {
        noted.push_back(id);
    }
}

/// Locks, whoever panicked before: what these locks guard is whole between any two calls.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Keeps the waker of who waits.
fn register(slot: &mut Option<Waker>, cx: &Context<'_>) {
    match slot {
        Some(waker) => waker.clone_from(cx.waker()),
        None => *slot = Some(cx.waker().clone()),
    }
}
