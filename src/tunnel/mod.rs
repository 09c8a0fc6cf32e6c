//! The running whole: a TUN, a network stack and a client, on one thread of its own.
//!
//! ```text
//! Tunnel ─ start, stop, stats ─► thread: one runtime
//!                                 ├─ netstack: packets ◄─► flows
//!                                 ├─ a relay for each flow
//!                                 └─ client: a driver for each session, the pool's timer
//! ```

mod assemble;
mod flows;

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, oneshot, watch};

use crate::client::{Client, ClientStats, OpenError, Stream};
use crate::clock::Clock;
use crate::config::Config;
use crate::netstack;
use crate::proto::target::Target;
use crate::task::RuntimeThread;
use crate::transport::{Dialer, Protect, TlsConfigError};
use crate::tun::Device;

pub use flows::FlowStats;

/// How long a stop may take in every state.
pub const STOP_DEADLINE: Duration = Duration::from_secs(1);

/// Where the packets come from.
pub enum Tun {
    /// A descriptor that the OS made; one packet a read. Consumed in every case.
    Fd(OwnedFd),
    /// Any device: an in-memory pair, or an impaired one.
    Device(Box<dyn Device>),
    /// A device that is made on the tunnel's thread, inside its runtime, as one around an
    /// [`FdDevice`](crate::tun::FdDevice) has to be.
    With(Box<dyn FnOnce() -> io::Result<Box<dyn Device>> + Send>),
    /// No packets: streams are opened by [`Tunnel::open`] only.
    None,
}

/// Why a tunnel did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configured certificates or keys cannot be used.
    #[error("TLS settings cannot be used")]
    Tls(#[source] TlsConfigError),
    /// The TUN cannot be read.
    #[error("TUN cannot be used")]
    Tun(#[source] io::Error),
    /// The OS gave no thread or no event queue.
    #[error("no thread for the tunnel")]
    Thread(#[source] io::Error),
}

/// What a tunnel has counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Sessions and streams.
    pub client: ClientStats,
    /// Packets and TCP.
    pub netstack: netstack::Counters,
    /// Flows and their relays.
    pub flows: FlowStats,
}

/// A running tunnel. Dropping it stops it, without waiting.
pub struct Tunnel {
    running: Running,
    stop: Arc<Notify>,
    thread: Mutex<Option<RuntimeThread<()>>>,
    ended: watch::Receiver<()>,
}

/// What the thread shows of itself.
#[derive(Clone)]
struct Running {
    client: Client<Dialer>,
    netstack: Option<netstack::Control>,
    flows: Arc<flows::Counters>,
}

impl Tunnel {
    /// Starts a tunnel; ready once the TUN is attached. The first session is dialled when it is needed.
    ///
    /// # Errors
    /// See [`StartError`]; the TUN is closed then.
    pub async fn start(config: Config, tun: Tun, protect: Arc<dyn Protect>) -> Result<Self, StartError> {
        let parts = assemble::Parts::new(config, protect, Clock::Boot)?;
        let (ready, started) = oneshot::channel();
        let (alive, ended) = watch::channel(());
        let stop = Arc::new(Notify::new());
        let stopped = Arc::clone(&stop);
        let thread = RuntimeThread::spawn("anytls-tunnel", move || async move {
            let _alive = alive;
            parts.run(tun, ready, stopped).await;
        })
        .map_err(StartError::Thread)?;
        match started.await {
            Ok(running) => Ok(Self { running: running?, stop, thread: Mutex::new(Some(thread)), ended }),
            Err(_) => Err(StartError::Thread(io::Error::other("the tunnel's thread ended at once"))),
        }
    }

    /// Opens a stream of the caller's own through the tunnel.
    ///
    /// # Errors
    /// See [`Client::open`].
    pub async fn open(&self, target: &Target, first: &[u8]) -> Result<Stream, OpenError> {
        self.running.client.open(target, first).await
    }

    /// The client, for programs that relay sockets of their own.
    pub fn client(&self) -> &Client<Dialer> {
        &self.running.client
    }

    /// What was counted so far.
    pub fn stats(&self) -> Stats {
        let Running { client, netstack, flows } = &self.running;
        Stats {
            client: client.stats(),
            netstack: netstack.as_ref().map(netstack::Control::counters).unwrap_or_default(),
            flows: flows.snapshot(),
        }
    }

    /// Resolves when the tunnel has ended, by [`stop`](Self::stop) or because its TUN is gone.
    pub async fn ended(&self) {
        let mut ended = self.ended.clone();
        while ended.changed().await.is_ok() {}
    }

    /// Resets every flow, ends every session, and waits for the thread: [`STOP_DEADLINE`] at most.
    /// Stopping twice is fine.
    pub async fn stop(&self) {
        self.stop.notify_one();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread
            && let Err(error) = thread.join_async(STOP_DEADLINE).await
        {
            tracing::error!(%error, "the tunnel's thread did not end well");
        }
    }
}
