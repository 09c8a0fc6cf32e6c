//! Datagrams on their way to the app: the answer to a query, and what a flow has queued.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::budget::Holding;
use crate::netstack::counters::DropReason;
use crate::netstack::hub::Hub;
use crate::netstack::udp::{check, cost};
use crate::netstack::wire::Wire;
use crate::tun::Device;

/// How often one datagram is tried before the device is taken to refuse it: with the pauses between, for
/// as long as anyone waits for the next frame of a call.
const MAX_TRIES: u8 = 10;

/// Answers that may wait when datagrams hold all that they may: what an app waits for most is not to be lost behind
/// what it sends.
const ALWAYS_TAKEN: usize = 16;

/// The right to answer one query, from any thread and at any time. Dropped, there is no answer.
pub struct Reply {
    hub: Arc<Hub>,
    source: SocketAddr,
    destination: SocketAddr,
}

impl Reply {
    pub(super) fn new(hub: Arc<Hub>, source: SocketAddr, destination: SocketAddr) -> Self {
        Self { hub, source, destination }
    }

    /// The app's endpoint.
    pub fn source(&self) -> SocketAddr {
        self.source
    }

    /// Whom the app has asked, and whom it sees the answer come from.
    pub fn destination(&self) -> SocketAddr {
        self.destination
    }

    /// Sends the answer, in the same turn of the loop when called from the handler. Dropped and counted when
    /// there is no memory for it.
    pub fn send(self, payload: &[u8]) {
        let Self { hub, source, destination } = self;
        let cost = cost(payload.len());
        let is_sent = check(destination, source, payload.len()).and_then(|()| {
            // Mostly the only one: it leaves in this turn, unless the device is out of room.
            let fits = cost <= hub.datagrams.free() || hub.answers_waiting() < ALWAYS_TAKEN;
            if fits { Ok(()) } else { Err(DropReason::NoMemory) }
        });
        match is_sent {
            Ok(()) => {
                let held = Holding::new(&hub.datagrams);
                held.set(cost);
                hub.answer(Answer { to: source, outgoing: Outgoing::new(destination, payload), _held: held });
            }
            Err(reason) => hub.tell(|news| news.dropped[reason] += 1),
        }
    }
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reply").finish_non_exhaustive()
    }
}

/// An answer on its way.
#[derive(Debug)]
pub(in crate::netstack) struct Answer {
    to: SocketAddr,
    outgoing: Outgoing,
    _held: Holding,
}

impl Answer {
    /// Sends it; gives whether that is done with, or to be tried again.
    pub(super) fn send<D: Device>(&mut self, wire: &mut Wire<D>) -> bool {
        self.outgoing.send(self.to, wire)
    }
}

/// A datagram to an app.
#[derive(Debug)]
pub(super) struct Outgoing {
    from: SocketAddr,
    pub(super) payload: Box<[u8]>,
    tries: u8,
}

impl Outgoing {
    pub(super) fn new(from: SocketAddr, payload: &[u8]) -> Self {
        Self { from, payload: payload.into(), tries: 0 }
    }

    /// Sends it; gives whether that is done with, or to be tried again.
    pub(super) fn send<D: Device>(&mut self, to: SocketAddr, wire: &mut Wire<D>) -> bool {
        if wire.send_datagram(self.from, to, &self.payload) {
            wire.counters.datagrams_out += 1;
            return true;
        }
        self.tries += 1;
        let given_up = self.tries == MAX_TRIES || !wire.is_congested();
        if given_up {
            wire.drop_for(DropReason::Unsent);
        }
        given_up
    }
}
