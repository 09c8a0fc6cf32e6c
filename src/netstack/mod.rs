//! Packets in, TCP flows out.
//!
//! [`Netstack`] reads packets from a [`Device`](crate::tun::Device), finds the flow that each belongs to, and
//! hands every new one to a [`Handler`]. What a flow does is smoltcp's work, one interface with one socket
//! for each; what is ours is finding the flow, the timers, the memory under the rings, and the turn of the
//! loop:
//!
//! | file | subject |
//! |---|---|
//! | `stack` | the loop |
//! | `demux` | bytes to a checked segment or datagram |
//! | `table`, `timers` | flows by 5-tuple; their deadlines |
//! | `flow`, `hub` | what the loop and a stream share |
//! | `tcp`, `port`, `wire` | one connection; smoltcp's device; ours |
//! | `memory` | the rings' pages and their budget |
//! | `answer`, `icmp` | what is answered without a flow |
//! | `stream` | the relay's side |

mod answer;
mod counters;
mod demux;
mod flow;
mod hub;
mod icmp;
mod memory;
mod port;
mod stack;
mod stream;
mod table;
mod tcp;
mod timers;
mod wire;

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use counters::{Counters, DropReason, Drops};
pub use stack::Netstack;
pub use stream::{TcpFlow, TcpStream};

use crate::budget::{self, Pressure};
use hub::Hub;

/// Takes the flows that apps open.
pub trait Handler: Send {
    /// Takes a new flow. Called from the loop, so it must not block: it hands the flow to a task.
    fn handle_tcp(&mut self, flow: TcpFlow);
}

/// What may be chosen about a [`Netstack`]. The MTU is the device's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// What flows and their rings may hold together, in bytes: the netstack's share of the
    /// [`budget`].
    pub memory_bytes: usize,
    /// What each flow takes of that, besides the pages of its rings.
    pub flow_bytes: usize,
    /// Answer SYNs at once instead of when the flow is accepted: saves a round trip, and turns a failed dial
    /// into a reset after the connection stood.
    pub eager: bool,
    /// Flows at most; SYNs beyond are dropped, and the app sends them again.
    pub max_flows: usize,
    /// Flows at most whose handshake is not done.
    pub max_half_open: usize,
    /// Our own server's addresses: packets to them are the tunnel's own, come back into it.
    pub deny: Vec<SocketAddr>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            memory_bytes: 32 << 20,
            flow_bytes: budget::FLOW_BYTES,
            eager: false,
            max_flows: budget::MAX_FLOWS,
            max_half_open: budget::MAX_HALF_OPEN,
            deny: Vec::new(),
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

    /// Says how short memory is. Idempotent and cheap.
    ///
    /// Above normal, windows shrink, pages are given back at once, and no mapping is kept for the next flow.
    /// Becoming critical, it resets the half of all flows that have moved nothing for longest: only those
    /// that are connected and have been [idle for 10 s](Counters::flows_shed). New flows still work.
    pub fn set_pressure(&self, pressure: Pressure) {
        self.hub.tell(|news| news.pressure = Some(pressure));
    }

    /// What flows and their rings held at the end of the loop's last turn, in bytes.
    pub fn memory_held(&self) -> usize {
        self.hub.held()
    }

    /// Ends the loop: every flow is reset.
    pub fn stop(&self) {
        self.hub.tell(|news| news.stop = true);
    }
}

/// The device will neither give nor take a packet again.
#[derive(Debug, thiserror::Error)]
#[error("packet device gone")]
pub struct DeviceGone(#[source] pub io::Error);

/// Locks, whoever panicked before: what these locks guard is whole between any two calls.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
