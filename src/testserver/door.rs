//! The listening socket, and whether it is open.

use std::io;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use tokio::net::{TcpListener, TcpStream};

/// How connections are received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listening {
    /// They are accepted.
    Accept,
    /// They are left in the kernel's backlog: the client connects, and nobody speaks to it.
    Ignore,
    /// The port is closed: the kernel refuses them.
    Refuse,
}

/// The listening socket, if there is one.
#[derive(Debug)]
pub(super) struct Door {
    address: SocketAddr,
    state: Mutex<DoorState>,
}

#[derive(Debug)]
struct DoorState {
    listener: Option<TcpListener>,
    ignoring: bool,
    acceptor: Option<Waker>,
}

impl Door {
    /// Opens at `address`.
    pub(super) fn open(address: SocketAddr) -> io::Result<Self> {
        let listener = listen(address)?;
        let address = listener.local_addr()?;
        let state = DoorState { listener: Some(listener), ignoring: false, acceptor: None };
        Ok(Self { address, state: Mutex::new(state) })
    }

    /// Where it is, with the real port.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes what happens to connections from now on.
    pub(super) fn set(&self, how: Listening) -> io::Result<()> {
        let mut state = self.lock();
        match how {
            Listening::Refuse => state.listener = None,
            Listening::Accept | Listening::Ignore if state.listener.is_none() => {
                state.listener = Some(listen(self.address)?);
            }
            Listening::Accept | Listening::Ignore => {}
        }
        state.ignoring = how == Listening::Ignore;
        let acceptor = state.acceptor.take();
        drop(state);
        if let Some(acceptor) = acceptor {
            acceptor.wake();
        }
        Ok(())
    }

    /// Waits for the next connection.
    pub(super) async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        std::future::poll_fn(|cx| self.poll_accept(cx)).await
    }

    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<(TcpStream, SocketAddr)>> {
        let mut state = self.lock();
        state.acceptor = Some(cx.waker().clone());
        match &state.listener {
            Some(listener) if !state.ignoring => listener.poll_accept(cx),
            Some(_) | None => Poll::Pending,
        }
    }

    fn lock(&self) -> MutexGuard<'_, DoorState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The standard library's listener sets SO_REUSEADDR, so that the port can be opened again at once.
fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = std::net::TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}
