//! A UDP flow as the relay sees it.

use std::fmt;
use std::net::SocketAddr;
use std::ops::Deref;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use crate::budget::Holding;
use crate::netstack::udp::flow::Shared;
use crate::netstack::udp::{check, cost};

/// What an app sends from one endpoint: to anyone, or with [`Fate::CarryAlone`](crate::netstack::Fate) to one
/// destination.
///
/// Dropped, the flow is gone after what was sent to the app; its next datagram is a new flow's first.
pub struct UdpFlow {
    shared: Arc<Shared>,
}

impl UdpFlow {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// The app's endpoint.
    pub fn source(&self) -> SocketAddr {
        self.shared.source
    }

    /// Where the first datagram goes.
    pub fn destination(&self) -> SocketAddr {
        self.shared.destination
    }

    /// The next datagram from the app. None once the flow has ended: it was idle, or had to make room, or the
    /// stack has stopped.
    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<Datagram>> {
        self.shared.lock().poll_recv(cx)
    }

    /// Ready once the flow has ended, whatever is left to be received. Takes the waker of
    /// [`poll_recv`](Self::poll_recv), and so is for when no datagram can be taken.
    pub fn poll_ended(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.shared.lock().poll_ended(cx)
    }

    /// Sends a datagram to the app, which sees it come from `from`. Pending while the queue is full.
    ///
    /// Dropped and counted is what the app cannot be sent: from an address that is not of its family, or with
    /// more than 65 507 bytes (over IPv6 65 527). A flow that has ended drops everything.
    pub fn poll_send(&mut self, cx: &mut Context<'_>, from: SocketAddr, payload: &[u8]) -> Poll<()> {
        let Shared { source, hub, .. } = &*self.shared;
        let result = match check(from, *source, payload.len()) {
            Ok(()) => ready!(self.shared.lock().poll_send(cx, from, payload, &hub.datagrams)),
            Err(reason) => Err(reason),
        };
        match result {
            Ok(()) => self.shared.touch(),
            Err(reason) => hub.tell(|news| news.dropped[reason] += 1),
        }
        Poll::Ready(())
    }

    /// Has the app told that nobody listens: what waits and what comes within the next second is answered
    /// with port unreachable. What was sent to the app and has not left is dropped.
    pub fn refuse(self) {
        self.shared.lock().refuse();
    }
}

impl Drop for UdpFlow {
    fn drop(&mut self) {
        self.shared.lock().abandon();
        self.shared.touch();
    }
}

impl fmt::Debug for UdpFlow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("UdpFlow").field(&self.shared.id).finish()
    }
}

/// What an app has sent.
#[derive(Debug)]
pub struct Datagram {
    /// Whom it is for.
    pub destination: SocketAddr,
    /// What is in it, which may be nothing.
    pub payload: Payload,
}

/// A datagram's bytes. They count against the account of datagrams until this is dropped.
pub struct Payload {
    bytes: Box<[u8]>,
    held: Arc<Holding>,
}

impl Payload {
    pub(super) fn new(bytes: &[u8], held: &Arc<Holding>) -> Self {
        held.change(0, cost(bytes.len()));
        Self { bytes: bytes.into(), held: Arc::clone(held) }
    }
}

impl Drop for Payload {
    fn drop(&mut self) {
        self.held.change(cost(self.bytes.len()), 0);
    }
}

impl Deref for Payload {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl AsRef<[u8]> for Payload {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Payload of {} bytes", self.len())
    }
}
