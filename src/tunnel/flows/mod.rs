//! A relay for every flow, and what may be known of them while they live.

mod counters;
mod datagrams;
mod registry;
mod routes;
mod socket;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;

use tokio::net::TcpStream;
use tracing::debug_span;

use self::counters::Outcome;
use self::datagrams::Carried;
use self::registry::{Entry, Place};
use self::routes::Route;
use crate::budget::Account;
use crate::client::{Client, OpenError, Stream};
use crate::clock::Clock;
use crate::netstack::{Fate, Handler, Reply, TcpFlow, UdpFlow};
use crate::private::Private;
use crate::proto::target::Target;
use crate::relay::socket::Socket;
use crate::relay::tcp::{self, End};
use crate::relay::udp::{self, Association, Mode};
use crate::task::Tasks;
use crate::transport::Dialer;

pub use counters::FlowStats;
pub(super) use registry::Registry;
pub use registry::{Connection, ConnectionId, ConnectionKind, ConnectionPhase};
pub(super) use routes::Routes;
pub use socket::ConnectStreamError;
pub(super) use socket::Door;

/// Hands every new flow of the netstack to a relay of its own.
pub(super) struct Relays {
    pub(super) client: Client<Dialer>,
    /// Flows come with their SYN answered.
    pub(super) eager: bool,
    pub(super) tasks: Arc<Tasks>,
    pub(super) registry: Arc<Registry>,
    pub(super) routes: Arc<Routes>,
    /// What datagrams hold on their way.
    pub(super) datagrams: Arc<Account>,
    pub(super) clock: Clock,
}

impl Handler for Relays {
    fn handle_tcp(&mut self, flow: TcpFlow) {
        let target = match self.routes.tcp(flow.destination()) {
            Route::Carry(target) => target,
            Route::Resolve => {
                let resolver = self.routes.resolver.clone();
                let flow = flow.accept();
                return self.tasks.spawn("dns client", async move { resolver.serve_stream(flow).await });
            }
            Route::Refuse => return flow.refuse(),
        };
        let place = self.registry.enter(ConnectionKind::Tcp, target);
        let (client, eager, clock) = (self.client.clone(), self.eager, self.clock);
        let span = debug_span!(parent: None, "relay", connection = place.id.0);
        self.tasks.spawn_in(span, "relay", async move {
            let entry = Arc::clone(&place.entry);
            serve(place, pin!(relay(flow, &entry, &client, eager, clock))).await;
        });
    }

    fn judge_udp(&mut self, destination: SocketAddr) -> Fate {
        self.routes.udp(destination)
    }

    fn handle_udp(&mut self, flow: UdpFlow) {
        let Some(target) = self.routes.target(flow.destination()) else { return flow.refuse() };
        let mode = match self.routes.udp(flow.destination()) {
            Fate::CarryAlone => Mode::Connect(target.clone()),
            Fate::Carry | Fate::Answer | Fate::Refuse => Mode::Packet,
        };
        let place = self.registry.enter(ConnectionKind::Udp, target);
        let (client, style, datagrams, clock) =
            (self.client.clone(), self.routes.style(), Arc::clone(&self.datagrams), self.clock);
        let span = debug_span!(parent: None, "relay", connection = place.id.0);
        self.tasks.spawn_in(span, "relay", async move {
            let entry = Arc::clone(&place.entry);
            let progress = &entry.progress;
            let relay = async {
                // The flow's next datagram is a new one's first.
                udp::serve(Carried(flow), mode, &client, &style, &datagrams, clock, progress).await.end
            };
            serve(place, pin!(relay)).await;
        });
    }

    fn handle_query(&mut self, query: &[u8], reply: Reply) {
        self.routes.resolver.handle_datagram(query, |answer| reply.send(answer));
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

/// Relays an association of the caller's own to its end, over as many streams as the server makes of it: its
/// client has no cause to begin another when a stream was closed because it was idle, or the network has changed.
pub(super) async fn associate(
    registry: &Arc<Registry>,
    client: &Client<Dialer>,
    routes: &Routes,
    datagrams: &Arc<Account>,
    association: impl Association,
    destination: Target,
) {
    let place = registry.enter(ConnectionKind::Association, destination);
    let entry = Arc::clone(&place.entry);
    let clock = place.clock();
    let relay = async {
        let (mut association, progress) = (association, &entry.progress);
        loop {
            let style = routes.style(); // of the server of now
            let served =
                udp::serve(association, Mode::Packet, client, &style, datagrams, clock, progress).await;
            let Some(again) = served.association else { return served.end };
            tracing::debug!(end = ?Private(&served.end), "an association waits for its next datagram");
            association = again;
        }
    };
    serve(place, pin!(relay)).await;
}

/// Relays a flow to its end, or until it is closed from outside: that drops the relay, and so resets the app's
/// side and closes the stream.
///
/// The caller pins the relay: handed on by value, it would take its memory once for each function on the way.
async fn serve(mut place: Place, relay: impl Future<Output = Result<End, OpenError>> + Unpin) {
    let result = place.until_closed(relay).await;
    let Entry { destination, progress, .. } = &*place.entry;
    let (up, down) = (progress.traffic().up(), progress.traffic().down());
    tracing::debug!(destination = %Private(destination), up, down, result = ?Private(&result), "flow ended");
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
