//! Sockets that apps with a TCP stack of their own hand over.

use std::io;
use std::net;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use socket2::Type;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tracing::debug_span;

use super::counters::Outcome;
use super::registry::{ConnectionId, ConnectionKind, Place, Registry};
use super::routes::{Route, Routes};
use super::serve;
use crate::client::Client;
use crate::dns::Resolver;
use crate::proto::target::Target;
use crate::relay::socket::Socket;
use crate::relay::tcp::{self, End};
use crate::task::Tasks;
use crate::transport::Dialer;

/// Why a socket is not relayed.
#[derive(Debug, thiserror::Error)]
pub enum ConnectStreamError {
    /// The descriptor is no connected stream socket of TCP or AF_UNIX.
    #[error("not a connected stream socket")]
    NotAStream,
    /// The system did not let it be prepared.
    #[error("the socket cannot be used")]
    Socket(#[source] io::Error),
    /// The tunnel has ended, or is about to.
    #[error("stopped")]
    Stopped,
}

/// The way to the tunnel's tasks from other threads: open while its thread takes more of them.
// INVARIANT: tasks are only spawned under the lock, so that none comes when the runtime is gone.
#[derive(Clone, Default)]
pub(in crate::tunnel) struct Door(Arc<Mutex<Option<Arc<Tasks>>>>);

/// Closes the door when the thread ends, however it does.
pub(in crate::tunnel) struct Opened(Door);

impl Drop for Opened {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl Door {
    pub(in crate::tunnel) fn open(&self, tasks: &Arc<Tasks>) -> Opened {
        *self.lock() = Some(Arc::clone(tasks));
        Opened(self.clone())
    }

    pub(in crate::tunnel) fn close(&self) {
        let tasks = self.lock().take();
        drop(tasks); // without the lock
    }

    /// See [`Tunnel::connect_stream`](crate::tunnel::Tunnel::connect_stream).
    pub(in crate::tunnel) fn connect(
        &self,
        registry: &Arc<Registry>,
        client: &Client<Dialer>,
        routes: &Routes,
        socket: OwnedFd,
        destination: Target,
    ) -> Result<ConnectionId, ConnectStreamError> {
        let socket = Accepted::try_from(socket)?;
        let open = self.lock();
        let Some(tasks) = &*open else { return Err(ConnectStreamError::Stopped) };
        let route = routes.named_tcp(destination.clone());
        let target = if let Route::Carry(target) = &route { target.clone() } else { destination };
        let place = registry.enter(ConnectionKind::Socket, target);
        let id = place.id;
        let peer = match route {
            Route::Carry(_) => Peer::Server(client.clone()),
            Route::Resolve => Peer::Resolver(routes.resolver.clone()),
            Route::Refuse => {
                place.leave(Outcome::Refused);
                return Ok(id); // the socket is reset
            }
        };
        let span = debug_span!(parent: None, "relay", connection = id.0);
        tasks.spawn_in(span, "relay", async move {
            match socket {
                Accepted::Tcp(socket) => relay(TcpStream::from_std(socket), place, peer).await,
                Accepted::Unix(socket) => relay(UnixStream::from_std(socket), place, peer).await,
            }
        });
        Ok(id)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Arc<Tasks>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connected stream socket that does not block, not known to any runtime yet.
enum Accepted {
    Tcp(net::TcpStream),
    Unix(unix::net::UnixStream),
}

impl TryFrom<OwnedFd> for Accepted {
    type Error = ConnectStreamError;

    fn try_from(descriptor: OwnedFd) -> Result<Self, ConnectStreamError> {
        let socket = socket2::Socket::from(descriptor);
        let is_stream = socket.r#type().is_ok_and(|kind| kind == Type::STREAM);
        let (true, Ok(local), Ok(_)) = (is_stream, socket.local_addr(), socket.peer_addr()) else {
            return Err(ConnectStreamError::NotAStream);
        };
        socket.set_nonblocking(true).map_err(ConnectStreamError::Socket)?;
        if local.is_unix() {
            return Ok(Self::Unix(socket.into()));
        }
        if !local.is_ipv4() && !local.is_ipv6() {
            return Err(ConnectStreamError::NotAStream);
        }
        // Should its relay never run, its end is a RST as well.
        socket.set_linger(Some(Duration::ZERO)).map_err(ConnectStreamError::Socket)?;
        Ok(Self::Tcp(socket.into()))
    }
}

/// Who is at the other end.
enum Peer {
    Server(Client<Dialer>),
    Resolver(Resolver),
}

async fn relay<S>(socket: io::Result<S>, place: Place, peer: Peer)
where
    S: AsyncRead + AsyncWrite + AsFd + Unpin + Send + 'static,
{
    let socket = match socket {
        Ok(socket) => Socket::new(socket),
        Err(error) => {
            tracing::warn!(%error, "cannot wait for a socket");
            return place.leave(Outcome::Failed);
        }
    };
    let (entry, clock) = (Arc::clone(&place.entry), place.clock());
    let relay = async {
        match peer {
            Peer::Server(client) => {
                tcp::serve(socket, &entry.destination, &client, clock, &entry.progress).await
            }
            Peer::Resolver(resolver) => {
                resolver.serve_stream(socket).await;
                Ok(End::Finished)
            }
        }
    };
    serve(place, pin!(relay)).await;
}
