//! A relay for every flow, and what may be known of them while they live.

mod counters;
mod registry;
#[cfg(test)]
mod tests;

use std::pin::pin;
use std::sync::Arc;

use tokio::net::TcpStream;
use tracing::debug_span;

use self::counters::Outcome;
use self::registry::{Entry, Place};
use crate::client::{Client, OpenError, Stream};
use crate::clock::Clock;
use crate::netstack::{Handler, TcpFlow};
use crate::proto::target::Target;
use crate::relay::socket::Socket;
use crate::relay::tcp::{self, End};
use crate::task::Tasks;
use crate::transport::Dialer;

pub use counters::FlowStats;
pub(super) use registry::Registry;
pub use registry::{Connection, ConnectionId, ConnectionKind, ConnectionPhase};

/// Hands every new flow of the netstack to a relay of its own.
pub(super) struct Relays {
    pub(super) client: Client<Dialer>,
    /// Flows come with their SYN answered.
    pub(super) eager: bool,
    pub(super) tasks: Arc<Tasks>,
    pub(super) registry: Arc<Registry>,
    pub(super) clock: Clock,
}

impl Handler for Relays {
    fn handle_tcp(&mut self, flow: TcpFlow) {
        let place = self.registry.enter(ConnectionKind::Tcp, Target::from(flow.destination()));
        let (client, eager, clock) = (self.client.clone(), self.eager, self.clock);
        let span = debug_span!(parent: None, "relay", connection = place.id.0);
        self.tasks.spawn_in(span, "relay", async move {
            let entry = Arc::clone(&place.entry);
            serve(place, pin!(relay(flow, &entry, &client, eager, clock))).await;
        });
    }
}

/// The app's SYN is answered when the server has opened the stream, unless the flow is open already.
async fn relay(
    flow: TcpFlow,
    entry: &Entry,
    client: &Client<Dialer>,
    eager: bool,
    clock: Clock,
) -> Result<End, OpenError> {
    let (target, progress) = (&entry.destination, &entry.progress);
    if eager {
        return tcp::serve(flow.accept(), target, client, clock, progress).await;
    }
    let stream = client.open(target, &[]).await?; // dropping the flow refuses it
    Ok(tcp::join(flow.accept(), stream, target, client, clock, progress).await)
}

/// Relays a flow to its end, or until it is closed from outside: that drops the relay, and so resets the app's
/// side and closes the stream.
///
/// The caller pins the relay: handed on by value, it would take its memory once for each function on the way.
async fn serve(mut place: Place, relay: impl Future<Output = Result<End, OpenError>> + Unpin) {
    let result = place.until_closed(relay).await;
    let Entry { destination, progress, .. } = &*place.entry;
    let (up, down) = (progress.traffic().up(), progress.traffic().down());
    tracing::debug!(%destination, up, down, ?result, "flow ended");
    place.leave(match result {
        Ok(End::Finished | End::App(_) | End::Lingered) => Outcome::Finished,
        Ok(End::Server(_)) => Outcome::Failed,
        Err(error) => refusal(&error),
    });
}

fn refusal(error: &OpenError) -> Outcome {
    match error {
        OpenError::Dial(_) | OpenError::Stream(_) | OpenError::Offline | OpenError::Busy => Outcome::Refused,
        OpenError::Stopped => Outcome::ClosedByUs,
    }
}

/// A stream that waits for the socket it was opened for: see [`Tunnel::connect`](super::Tunnel::connect).
///
/// Dropping it closes the stream.
pub struct Connected {
    place: Place,
    stream: Stream,
    client: Client<Dialer>,
}

impl Connected {
    pub(super) async fn open(
        registry: &Arc<Registry>,
        client: &Client<Dialer>,
        target: Target,
    ) -> Result<Self, OpenError> {
        let mut place = registry.enter(ConnectionKind::Socket, target);
        let entry = Arc::clone(&place.entry);
        match place.until_closed(client.open(&entry.destination, &[])).await {
            Ok(stream) => Ok(Self { place, stream, client: client.clone() }),
            Err(error) => {
                place.leave(refusal(&error));
                Err(error)
            }
        }
    }

    /// Relays `socket`, of which nothing is to be read elsewhere, to its end.
    ///
    /// # Cancel safety
    /// Dropping the future resets the socket and closes the stream.
    pub fn relay(self, socket: TcpStream) -> impl Future<Output = ()> + Send {
        let Self { place, stream, client } = self;
        let socket = Socket::new(socket); // here, so that a future that never ran resets it as well
        async move {
            let (entry, clock) = (Arc::clone(&place.entry), place.clock());
            let relay = async {
                let (target, progress) = (&entry.destination, &entry.progress);
                Ok(tcp::join(socket, stream, target, &client, clock, progress).await)
            };
            serve(place, pin!(relay)).await;
        }
    }
}
