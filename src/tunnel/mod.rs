//! The running whole: a TUN, a network stack and a client, on one thread of its own.
//!
//! ```text
//! Tunnel ─ start, stop, stats ─► thread: one runtime
//!                                 ├─ netstack: packets ◄─► flows
//!                                 ├─ a relay for each flow, TCP or UDP
//!                                 ├─ dns: the apps' queries
//!                                 ├─ conductor: network, power, memory in; the state out
//!                                 └─ client: a driver for each session, the pool's timer
//! ```

mod assemble;
mod conductor;
mod flows;
mod inputs;
mod state;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, oneshot, watch};

use crate::budget::Held;
use crate::client::{Client, ClientStats, OpenError, SessionInfo, Stream};
use crate::clock::{Clock, start_wheel};
use crate::config::{Config, Server, TunOptions};
use crate::dns::DnsStats;
use crate::netstack;
use crate::private::Private;
use crate::proto::session::StreamError;
use crate::proto::target::Target;
use crate::relay::udp::Association;
use crate::task::{RuntimeThread, TaskError};
use crate::transport::{Dialer, Outside, TlsConfigError};
use crate::tun::Device;

use self::assemble::Workshop;
use self::conductor::{Successor, Told};

pub use crate::budget::{MemoryStats, Pressure};
pub use crate::client::Latency;
pub use crate::proto::pool::Power;
pub use flows::{
    ConnectStreamError, Connected, Connection, ConnectionId, ConnectionKind, ConnectionPhase, FlowStats,
};
pub use inputs::{Path, Phone};
pub use state::{State, Why};

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

/// Why a tunnel goes on with the config that it had.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// What is configured under `tun` is fixed when the TUN is made.
    #[error("the TUN's settings cannot change while it is up: stop and start")]
    Tun,
    /// The configured certificates or keys cannot be used.
    #[error("TLS settings cannot be used")]
    Tls(#[source] TlsConfigError),
    /// The tunnel has ended.
    #[error("stopped")]
    Stopped,
}

/// What a tunnel has counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Sessions and streams.
    pub client: ClientStats,
    /// Packets, TCP, UDP and ICMP.
    pub netstack: netstack::Counters,
    /// Flows and their relays.
    pub flows: FlowStats,
    /// The apps' queries.
    pub dns: DnsStats,
    /// What is held of the memory that `tun.memory_limit` allows.
    pub memory: MemoryStats,
}

/// A running tunnel. Dropping it stops it, without waiting.
pub struct Tunnel {
    running: Running,
    workshop: Workshop,
    /// What the tunnel goes by; the last of several reloads at once wins.
    config: tokio::sync::Mutex<Config>,
    told: Arc<Told>,
    state: watch::Receiver<State>,
    stop: Arc<Notify>,
    thread: Mutex<Option<RuntimeThread<()>>>,
}

/// What the thread shows of itself.
#[derive(Clone)]
struct Running {
    client: Client<Dialer>,
    netstack: Option<netstack::Control>,
    flows: Arc<flows::Registry>,
    /// The way in for sockets.
    door: flows::Door,
    /// What becomes of what apps open.
    routes: Arc<flows::Routes>,
}

impl Tunnel {
    /// Starts a tunnel; ready once the TUN is attached. The first sessions are being dialled then.
    ///
    /// # Errors
    /// See [`StartError`]; the TUN is closed then.
    pub async fn start(config: Config, tun: Tun, outside: impl Into<Outside>) -> Result<Self, StartError> {
        Self::start_with(config, tun, outside, Phone::default()).await
    }

    /// The same, with what is known of the phone already.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub async fn start_with(
        config: Config,
        tun: Tun,
        outside: impl Into<Outside>,
        phone: Phone,
    ) -> Result<Self, StartError> {
        let clock = Clock::Boot;
        let parts = assemble::Parts::new(config.clone(), outside.into(), clock)?;
        let (workshop, told) = (parts.workshop(), Told::new(clock, phone));
        let (ready, started) = oneshot::channel();
        let (shown, state) = watch::channel(State::Starting);
        let stop = Arc::new(Notify::new());
        let (theirs, stopped) = (Arc::clone(&told), Arc::clone(&stop));
        let run = move || {
            start_wheel();
            parts.run(tun, theirs, shown, ready, stopped)
        };
        let thread = RuntimeThread::spawn("anytls-tunnel", run).map_err(StartError::Thread)?;
        let Ok(running) = started.await else {
            return Err(StartError::Thread(io::Error::other("the tunnel's thread ended at once")));
        };
        Ok(Self {
            running: running?,
            workshop,
            config: tokio::sync::Mutex::new(config),
            told,
            state,
            stop,
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Goes by another config from now on, with the TUN as it is. Pool options change under the sessions that
    /// there are. Another server, or another way to it, ends these and the streams on them.
    ///
    /// # Errors
    /// See [`ReloadError`]; nothing has changed then.
    ///
    /// # Cancel safety
    /// Dropping the future before it is done leaves a reload that goes on, or one that never began.
    pub async fn reload(&self, config: Config) -> Result<(), ReloadError> {
        let mut current = self.config.lock().await;
        if self.state.has_changed().is_err() {
            return Err(ReloadError::Stopped);
        }
        let block_quic = config.tun.block_quic; // a rule, not a property of the TUN
        if config.tun != (TunOptions { block_quic, ..current.tun.clone() }) {
            return Err(ReloadError::Tun);
        }
        let is_same_resolver = config.dns == current.dns && config.server.host == current.server.host;
        let resolver = if is_same_resolver { None } else { Some(self.workshop.resolver(&config)) };
        let resolver = resolver.transpose().map_err(ReloadError::Tls)?;
        let is_same_server = {
            let (old, new) = (&current.server, &config.server);
            *new == Server { pool: new.pool.clone(), tag: new.tag.clone(), ..old.clone() }
        };
        let client = if is_same_server { None } else { Some(self.workshop.client(config.server.clone())) };
        let client = client.transpose().map_err(ReloadError::Tls)?;
        // Nothing fails from here on, and nothing waits until all is said: whoever drops the future has a whole reload.
        if let Some(settings) = resolver {
            self.running.routes.resolver.set(settings);
        }
        self.running.routes.set(&config);
        *current = config;
        let Some((dialer, options)) = client else {
            self.running.client.set_options(self.workshop.pool(current.server.pool.clone()));
            return Ok(());
        };
        self.workshop.deny(&current.server);
        let (is_there, there) = oneshot::channel();
        self.told.replace_server(Successor { dialer, options, is_there });
        tokio::select! {
            result = there => result.map_err(|_| ReloadError::Stopped),
            () = self.ended() => Err(ReloadError::Stopped),
        }
    }

    /// Which network the phone's traffic leaves by; `None` for none. May be called as often as the system
    /// says anything: what is no news costs nothing, and reports that follow each other within 300 ms are one.
    pub fn network_changed(&self, path: Option<Path>) {
        self.told.network_changed(path);
    }

    /// How awake the phone is. After a sleep the pool looks at its sessions once.
    pub fn set_power(&self, power: Power) {
        self.told.set_power(power);
    }

    /// How short the system is of memory. At [`Pressure::Low`] windows shrink and idle sessions are closed, at
    /// [`Pressure::Critical`] the flows that are idle longest are reset as well.
    pub fn memory_pressure(&self, pressure: Pressure) {
        self.told.memory_pressure(pressure);
    }

    /// How the tunnel is doing.
    pub fn state(&self) -> State {
        self.state.borrow().clone()
    }

    /// The same, now and from now on. [`State::Stopped`] and [`State::Failed`] are the last.
    pub fn watch_state(&self) -> watch::Receiver<State> {
        self.state.clone()
    }

    /// The sessions that there are, oldest first.
    pub fn sessions(&self) -> Vec<SessionInfo> {
        self.running.client.sessions()
    }

    /// Measures the server with a session of its own: TCP, TLS, a first stream to `target` and a warm one.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub async fn test_latency(&self, target: &Target) -> Result<Latency, OpenError> {
        self.running.client.test_latency(target).await
    }

    /// Opens a stream of the caller's own through the tunnel. For a fake address, it is to its name.
    ///
    /// # Errors
    /// See [`Client::open`]. [`StreamError::Refused`] for a fake address whose name is forgotten.
    pub async fn open(&self, target: &Target, first: &[u8]) -> Result<Stream, OpenError> {
        self.running.client.open(&self.named(target.clone())?, first).await
    }

    /// Opens a stream for a socket of the caller's own, which is a flow like those of the TUN: counted, and
    /// one of the [`connections`](Self::connections) from now on.
    ///
    /// # Errors
    /// As [`open`](Self::open); [`OpenError::Stopped`] also when the connection was closed meanwhile.
    pub async fn connect(&self, target: Target) -> Result<Connected, OpenError> {
        let target = self.named(target)?;
        Connected::open(&self.running.flows, &self.running.client, target).await
    }

    fn named(&self, target: Target) -> Result<Target, OpenError> {
        let forgotten = || StreamError::Refused("the address stood for a name that is forgotten".into());
        self.running.routes.named(target).ok_or_else(|| OpenError::Stream(forgotten()))
    }

    /// Relays a connected socket of the caller's own, TCP or AF_UNIX, like a flow of the TUN: at once, on the
    /// tunnel's thread, and by the same rules (port 53 of any address is answered here). It is listed and counted, and may be closed by its number. The socket is taken over in
    /// every case; a failure resets it, or closes it when it is not of TCP.
    ///
    /// # Errors
    /// See [`ConnectStreamError`]. That the server does not open the stream is seen at the socket.
    pub fn connect_stream(
        &self,
        socket: OwnedFd,
        destination: Target,
    ) -> Result<ConnectionId, ConnectStreamError> {
        let Running { client, flows, door, routes, .. } = &self.running;
        door.connect(flows, client, routes, socket, destination)
    }

    /// Relays datagrams of the caller's own to their end, as one endpoint towards the server: listed and counted
    /// like a flow, but its fake addresses are not known here. `first_hint` is where they go, as far as that is known; without it the unspecified address is
    /// shown. With a server that only does
    /// [one destination a stream](crate::relay::udp::Style::is_connect_only), it is that of each stream's first
    /// datagram, and what goes elsewhere is dropped.
    ///
    /// # Cancel safety
    /// Dropping the future ends the association.
    pub async fn associate(&self, association: impl Association, first_hint: Option<Target>) {
        let Running { client, flows, routes, .. } = &self.running;
        let unknown = || Target::from(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)));
        let destination = first_hint.unwrap_or_else(unknown);
        let datagrams = &self.workshop.datagrams;
        flows::associate(flows, client, routes, datagrams, association, destination).await;
    }

    /// The flows that live now, oldest first.
    pub fn connections(&self) -> Vec<Connection> {
        self.running.flows.connections()
    }

    /// Ends a flow: the app sees a RST, the server a Fin. False when no live flow has this number.
    pub fn close_connection(&self, id: ConnectionId) -> bool {
        self.running.flows.close(id)
    }

    /// What was counted so far.
    pub fn stats(&self) -> Stats {
        let Running { client, netstack, flows, routes, .. } = &self.running;
        let packets = netstack.as_ref().map(netstack::Control::counters).unwrap_or_default();
        let dns = routes.resolver.stats();
        Stats {
            client: client.stats(),
            netstack: packets,
            flows: flows.stats(),
            dns,
            memory: {
                let Workshop { budget, account, datagrams, .. } = &self.workshop;
                let held = Held {
                    netstack: netstack.as_ref().map(netstack::Control::memory_held).unwrap_or_default(),
                    reassembly: usize::try_from(packets.reassembly_bytes).unwrap_or(usize::MAX),
                    dns: dns.desk.held_bytes,
                };
                budget.stats(account, datagrams, held)
            },
        }
    }

    /// Resolves when the tunnel has ended, by [`stop`](Self::stop) or because its TUN is gone.
    pub async fn ended(&self) {
        let mut state = self.state.clone();
        while state.changed().await.is_ok() {}
    }

    /// Resets every flow, ends every session, and waits for the thread: [`STOP_DEADLINE`] at most.
    /// Stopping twice is fine.
    pub async fn stop(&self) {
        if let Some(thread) = self.begin_stop() {
            log_bad_end(thread.join_async(STOP_DEADLINE).await);
        }
    }

    /// The same, blocking the caller for `limit` at most.
    pub fn stop_within(&self, limit: Duration) {
        if let Some(thread) = self.begin_stop() {
            log_bad_end(thread.join(limit));
        }
    }

    fn begin_stop(&self) -> Option<RuntimeThread<()>> {
        self.stop.notify_one();
        self.thread.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

fn log_bad_end(joined: Result<(), TaskError>) {
    if let Err(error) = joined {
        tracing::error!(error = %Private(&error), "the tunnel's thread did not end well");
    }
}
