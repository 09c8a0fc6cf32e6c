//! The flows that live now.

use std::collections::BTreeMap;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use super::counters::{Counters, FlowStats, Outcome};
use crate::client::OpenError;
use crate::clock::Clock;
use crate::proto::target::Target;
use crate::proto::timers::Moment;
use crate::relay::Progress;

/// A flow's number, rising within its tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// What a flow is on the app's side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionKind {
    /// A TCP connection out of the TUN's packets.
    Tcp,
    /// What an app's UDP socket sends through the TUN. Its destination is that of the first datagram.
    Udp,
    /// A socket that was handed to [`Connected::relay`](super::Connected::relay), or to
    /// [`Tunnel::connect_stream`](crate::tunnel::Tunnel::connect_stream).
    Socket,
    /// Datagrams that were handed to [`Tunnel::associate`](crate::tunnel::Tunnel::associate).
    Association,
}

/// How far a flow has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionPhase {
    /// The server has not opened the stream yet.
    Opening,
    /// Bytes may move.
    Open,
}

/// A live flow, as of the moment it was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    /// Its number.
    pub id: ConnectionId,
    /// What it is on the app's side.
    pub kind: ConnectionKind,
    /// Where it goes. Not to be logged above debug.
    pub destination: Target,
    /// How far it has come.
    pub phase: ConnectionPhase,
    /// How long it has lived, on the tunnel's clock.
    pub age: Duration,
    /// Bytes from the app.
    pub up_bytes: u64,
    /// Bytes to the app.
    pub down_bytes: u64,
}

/// The list of live flows and the counters of all. Its lock is taken when a flow begins and ends, and for
/// the list; bytes and counters go without.
#[derive(Debug)]
pub(in crate::tunnel) struct Registry {
    clock: Clock,
    counters: Counters,
    live: Mutex<BTreeMap<ConnectionId, Listed>>,
}

#[derive(Debug)]
struct Listed {
    entry: Arc<Entry>,
    /// The order to end.
    close: oneshot::Sender<()>,
}

/// What is known of a live flow.
#[derive(Debug)]
pub(super) struct Entry {
    kind: ConnectionKind,
    pub(super) destination: Target,
    opened_at: Moment,
    pub(super) progress: Progress,
}

/// A flow's place on the list. However the flow ends, dropping this takes it off and counts it.
#[derive(Debug)]
pub(super) struct Place {
    registry: Arc<Registry>,
    pub(super) id: ConnectionId,
    pub(super) entry: Arc<Entry>,
    closed: oneshot::Receiver<()>,
    outcome: Option<Outcome>,
}

impl Registry {
    pub(in crate::tunnel) fn new(clock: Clock) -> Arc<Self> {
        Arc::new(Self { clock, counters: Counters::default(), live: Mutex::default() })
    }

    /// Lists a new flow.
    pub(super) fn enter(self: &Arc<Self>, kind: ConnectionKind, destination: Target) -> Place {
        let id = ConnectionId(self.counters.begin());
        let (close, closed) = oneshot::channel();
        let progress = Progress::new(Arc::clone(&self.counters.traffic));
        let entry = Arc::new(Entry { kind, destination, opened_at: self.clock.now(), progress });
        self.lock().insert(id, Listed { entry: Arc::clone(&entry), close });
        Place { registry: Arc::clone(self), id, entry, closed, outcome: None }
    }

    /// The live flows, oldest first.
    pub(in crate::tunnel) fn connections(&self) -> Vec<Connection> {
        // The rest is done without the lock.
        let live: Vec<_> = self.lock().iter().map(|(&id, listed)| (id, Arc::clone(&listed.entry))).collect();
        let now = self.clock.now();
        live.into_iter().map(|(id, entry)| entry.show(id, now)).collect()
    }

    /// Ends a flow, which is off the list at once; false when none has this number.
    pub(in crate::tunnel) fn close(&self, id: ConnectionId) -> bool {
        let listed = self.lock().remove(&id); // the flow is told without the lock
        listed.is_some_and(|listed| listed.close.send(()).is_ok())
    }

    /// Ends every flow, because the tunnel ends.
    pub(in crate::tunnel) fn close_all(&self) {
        let all = mem::take(&mut *self.lock());
        for listed in all.into_values() {
            let _ended_itself = listed.close.send(());
        }
    }

    pub(in crate::tunnel) fn stats(&self) -> FlowStats {
        self.counters.snapshot()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<ConnectionId, Listed>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    fn show(&self, id: ConnectionId, now: Moment) -> Connection {
        let traffic = self.progress.traffic();
        Connection {
            id,
            kind: self.kind,
            destination: self.destination.clone(),
            phase: if self.progress.is_open() { ConnectionPhase::Open } else { ConnectionPhase::Opening },
            age: now.since(self.opened_at),
            up_bytes: traffic.up(),
            down_bytes: traffic.down(),
        }
    }
}

impl Place {
    /// Does the flow's `work` until it is done, or until the flow is closed from outside: the work is dropped
    /// then. Not to be called again after that.
    ///
    /// # Errors
    /// Those of the work, and [`OpenError::Stopped`].
    pub(super) async fn until_closed<T>(
        &mut self,
        work: impl Future<Output = Result<T, OpenError>>,
    ) -> Result<T, OpenError> {
        tokio::select! {
            biased; // a flow that was closed is not served any more
            _ = &mut self.closed => Err(OpenError::Stopped),
            result = work => result,
        }
    }

    /// What the flow's age is measured by.
    pub(super) fn clock(&self) -> Clock {
        self.registry.clock
    }

    /// Takes the flow off the list.
    pub(super) fn leave(mut self, outcome: Outcome) {
        self.outcome = Some(outcome);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let listed = self.registry.lock().remove(&self.id);
        drop(listed); // without the lock
        let unasked = if std::thread::panicking() { Outcome::Failed } else { Outcome::ClosedByUs };
        self.registry.counters.end(self.outcome.unwrap_or(unasked));
    }
}
