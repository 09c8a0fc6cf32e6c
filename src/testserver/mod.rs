//! An AnyTLS server: correct by default, for tests, the demo and the command line, and wrong on demand.
//!
//! ```text
//! TestServer ─ Door ─► connection: TLS, password ─► client::driver over a ServerWire
//!      │                                                 │ a stream opens
//!      │ what was seen, what to do wrong                 ▼
//!      └──────────────► Line ◄─────────────────── stream: target, SynAck, relay, or udp
//! ```
//! The session is the client's own with [`Side::Server`](crate::proto::session::Side::Server). Faults
//! sit in three places: `connection` (whole sessions), `stream` (answers) and `line` (bytes).

mod connection;
mod door;
mod faults;
mod identity;
mod line;
mod options;
mod record;
mod stream;
#[cfg(test)]
mod tests;
mod udp;
mod wire;

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use self::door::Door;
use self::line::Line;
use crate::task::Tasks;

pub use self::door::Listening;
pub use self::faults::{Cut, Faults, SynAck, UdpFaults, raw_frame};
pub use self::options::{Identity, Outbound, Rejection, ServerOptions, Service};
pub use self::record::{ConnectionRecord, FrameRecord};
pub use self::wire::{TlsStream, TlsWire};

/// Connections at once; more wait in the kernel. Each may hold a few descriptors.
const MAX_CONNECTIONS: usize = 4_096;

/// Connections remembered while recording; the oldest that have ended are forgotten.
const MAX_REMEMBERED: usize = 8_192;

/// How long the sessions of a server that stops may take to say goodbye; then they are dropped.
const STOP_GOODBYE: Duration = Duration::from_millis(400);

/// The pause after an accept failed, which mostly means that descriptors have run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A running server. Dropping it ends everything at once, without a goodbye.
#[derive(Debug)]
pub struct TestServer {
    certificate_pem: String,
    shared: Arc<Shared>,
}

impl TestServer {
    /// Starts a server on the current runtime.
    ///
    /// # Errors
    /// When the address cannot be listened at, or the certificate or its key cannot be used.
    pub async fn start(options: ServerOptions) -> io::Result<Self> {
        let (acceptor, certificate_pem) = identity::acceptor(&options.identity)?;
        let shared = Arc::new(Shared {
            acceptor,
            door: Door::open(options.listen)?,
            faults: Mutex::new(options.faults.clone()),
            lines: Mutex::default(),
            tasks: Tasks::new(),
            stopped: Mutex::new(false),
            options,
        });
        shared.spawn("listener", listen(Arc::clone(&shared)));
        Ok(Self { certificate_pem, shared })
    }

    /// Where it listens, with the real port.
    pub fn address(&self) -> SocketAddr {
        self.shared.door.address()
    }

    /// The certificates it shows, as PEM, for clients to trust.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// Replaces what it does wrong; see [`Faults`] for what that reaches.
    pub fn set_faults(&self, faults: Faults) {
        *lock(&self.shared.faults) = faults;
    }

    /// Changes what happens to new connections, at once.
    ///
    /// # Errors
    /// When the port cannot be opened again.
    pub fn set_listening(&self, how: Listening) -> io::Result<()> {
        self.shared.door.set(how)
    }

    /// Sends frames, made by [`raw_frame`], on every session, whatever the sessions think of it.
    pub fn inject(&self, frames: &[u8]) {
        for line in self.shared.sessions() {
            line.inject(frames);
        }
    }

    /// Cuts every session, and waits until that is done: until their sockets are closed ([`Cut::Reset`]),
    /// or the last byte that they will ever send has left (the others).
    pub async fn cut_sessions(&self, how: Cut) {
        for line in self.shared.sessions() {
            line.cut(how).await;
        }
    }

    /// Closes every session in good order, and waits until their sockets are closed.
    pub async fn close_sessions(&self) {
        let sessions = self.shared.sessions();
        for line in &sessions {
            line.close.notify_one();
        }
        for line in sessions {
            line.ended().await;
        }
    }

    /// What was seen on each connection: those that are open, and, while recording, those before.
    pub fn connections(&self) -> Vec<ConnectionRecord> {
        lock(&self.shared.lines).iter().map(|line| line.record()).collect()
    }

    /// Ends everything, within half a second, and waits until it is gone. Stopping twice is fine.
    pub async fn stop(&self) {
        let Shared { door, tasks, lines, stopped, .. } = &*self.shared;
        *lock(stopped) = true;
        tasks.cancel("listener");
        for line in lock(lines).iter() {
            line.close.notify_one();
        }
        // Closing the port cannot fail.
        let _closed = door.set(Listening::Refuse);
        if timeout(STOP_GOODBYE, tasks.join()).await.is_err() {
            tasks.cancel_all();
            tasks.join().await;
        }
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        // The tasks hold what is shared, and that holds them.
        *lock(&self.shared.stopped) = true;
        self.shared.tasks.cancel_all();
    }
}

/// What the server's tasks share.
struct Shared {
    options: ServerOptions,
    acceptor: TlsAcceptor,
    door: Door,
    faults: Mutex<Faults>,
    lines: Mutex<Vec<Arc<Line>>>,
    tasks: Tasks,
    /// Once true, no task is started any more.
    stopped: Mutex<bool>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("options", &self.options).finish_non_exhaustive()
    }
}

impl Shared {
    fn spawn(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let stopped = lock(&self.stopped);
        if !*stopped {
            self.tasks.spawn(name, task);
        }
    }

    fn faults(&self) -> Faults {
        lock(&self.faults).clone()
    }

    fn sessions(&self) -> Vec<Arc<Line>> {
        let live = |line: &&Arc<Line>| line.is_authenticated() && !line.is_ended();
        lock(&self.lines).iter().filter(live).cloned().collect()
    }

    /// Lists a new connection.
    fn admit(&self, peer: SocketAddr) -> Arc<Line> {
        let line = Line::new(peer, self.options.record);
        let mut lines = lock(&self.lines);
        if lines.len() >= MAX_REMEMBERED
            && let Some(oldest) = lines.iter().position(|line| line.is_ended())
        {
            lines.remove(oldest);
        }
        lines.push(Arc::clone(&line));
        line
    }

    /// Forgets a connection that has ended, unless it is to be remembered.
    fn dismiss(&self, line: &Arc<Line>) {
        if !line.is_recording() {
            lock(&self.lines).retain(|listed| !Arc::ptr_eq(listed, line));
        }
    }
}

async fn listen(shared: Arc<Shared>) {
    let places = Arc::new(tokio::sync::Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match shared.door.accept().await {
            Ok((socket, peer)) => {
                let served = connection::serve(socket, peer, Arc::clone(&shared));
                shared.spawn("connection", async move {
                    let _place = place;
                    served.await;
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
