//! A link between two network namespaces, carried by hand: it delays, counts, forgets and goes silent.
//!
//! ```text
//! client 10.0.0.1 ── TUN ──► queue, due after the delay ──► TUN ── server 10.0.0.2
//! ```
//! The kernel's own shaper is not on every machine; packets in our hands are, and are counted to the byte.

use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::thread::JoinHandle;
use std::time::Duration;

use anytls_mobile::clock::{Alarm, Clock};
use anytls_mobile::proto::timers::Moment;
use anytls_mobile::tun::{self, Device, FdDevice, MAX_PACKET_BYTES, NetworkNamespace, TunOptions};
use tokio::sync::oneshot;

use super::server::{Chain, Server};
use crate::{Failure, runtime};

/// As on most ways to a server.
const MTU: u16 = 1500;

const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);

/// Where the server is, also after a restart.
pub(super) const ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(SERVER), 443);

/// Packets under way in one direction at most: 15 MB, more than any benchmark has in 40 ms.
const QUEUE_PACKETS: usize = 10_000;

/// The link, and the two hosts at its ends.
pub(super) struct Link {
    client: NetworkNamespace,
    server: NetworkNamespace,
    state: Arc<Mutex<State>>,
    ended: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// IP packets and their bytes, headers included.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Traffic {
    pub(super) packets: u64,
    pub(super) bytes: u64,
}

impl std::ops::Sub for Traffic {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self { packets: self.packets - before.packets, bytes: self.bytes - before.bytes }
    }
}

#[derive(Default)]
struct State {
    is_silent: bool,
    /// What a NAT in the way does with connections that were silent for longer.
    forgets_after: Option<Duration>,
    /// When each of the client's ports was last seen.
    mappings: HashMap<u16, Moment>,
    carried: Traffic,
}

impl Link {
    /// Both hosts, `round_trip` apart. Wants root.
    pub(super) fn new(round_trip: Duration) -> Result<Self, Failure> {
        let root = |error: io::Error| format!("no network namespace (needs root): {error}");
        let (client, server) =
            (NetworkNamespace::new().map_err(root)?, NetworkNamespace::new().map_err(root)?);
        let (near, far) = (attach(&client, CLIENT)?, attach(&server, SERVER)?);
        let state = Arc::<Mutex<State>>::default();
        let (ended, end) = oneshot::channel();
        let theirs = Arc::clone(&state);
        let thread = std::thread::Builder::new().name("link".to_owned()).spawn(move || {
            if let Err(error) = carry(near, far, round_trip / 2, &theirs, end) {
                eprintln!("error: the link is down: {error}");
            }
        })?;
        Ok(Self { client, server, state, ended: Some(ended), thread: Some(thread) })
    }

    /// A server at [`ADDRESS`].
    pub(super) fn start_server(
        &self,
        chain: &Chain,
        idle_limit: Option<Duration>,
    ) -> Result<Server, Failure> {
        self.server.run(|| Server::start(ADDRESS, chain, idle_limit))?
    }

    /// Runs a client's work on the client's host, on a runtime of its own.
    pub(super) fn run<T: Send>(
        &self,
        work: impl AsyncFnOnce() -> Result<T, Failure> + Send,
    ) -> Result<T, Failure> {
        self.client.run(|| runtime()?.block_on(work()))?
    }

    /// Drops everything from now on, or nothing any more. Nobody is told.
    pub(super) fn set_silent(&self, is_silent: bool) {
        self.lock().is_silent = is_silent;
    }

    /// Drops the packets of connections that were silent for longer, as a NAT does that has forgotten them.
    pub(super) fn forget_after(&self, limit: Duration) {
        self.lock().forgets_after = Some(limit);
    }

    /// What was carried so far, both ways.
    pub(super) fn carried(&self) -> Traffic {
        self.lock().carried
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.ended = None;
        if let Some(thread) = self.thread.take() {
            let _panicked = thread.join();
        }
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn attach(host: &NetworkNamespace, address: Ipv4Addr) -> Result<OwnedFd, Failure> {
    let options = TunOptions { name: "wan".to_owned(), mtu: MTU, addresses: vec![(IpAddr::V4(address), 24)] };
    Ok(host.run(|| tun::open(&options))??)
}

fn carry(
    near: OwnedFd,
    far: OwnedFd,
    delay: Duration,
    state: &Mutex<State>,
    mut end: oneshot::Receiver<()>,
) -> Result<(), Failure> {
    runtime()?.block_on(async {
        let (mut near, mut far) = (FdDevice::new(near, MTU)?, FdDevice::new(far, MTU)?);
        let (mut up, mut down) = (Way::new(delay), Way::new(delay));
        poll_fn(|cx| {
            if Pin::new(&mut end).poll(cx).is_ready() {
                return Poll::Ready(Ok(()));
            }
            up.poll(cx, &mut near, &mut far, state)?;
            down.poll(cx, &mut far, &mut near, state)?;
            Poll::<io::Result<()>>::Pending
        })
        .await?;
        Ok(())
    })
}

/// One direction.
struct Way {
    delay: Duration,
    queue: VecDeque<(Moment, Vec<u8>)>,
    buffer: Vec<u8>,
    alarm: Alarm,
}

impl Way {
    fn new(delay: Duration) -> Self {
        Self { delay, queue: VecDeque::new(), buffer: vec![0; MAX_PACKET_BYTES], alarm: Alarm::default() }
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut FdDevice,
        to: &mut FdDevice,
        state: &Mutex<State>,
    ) -> io::Result<()> {
        while let Poll::Ready(length) = from.poll_recv(cx, &mut self.buffer) {
            let packet = &self.buffer[..length?];
            let now = Clock::Boot.now();
            if self.queue.len() < QUEUE_PACKETS && lock(state).lets_pass(packet, now) {
                self.queue.push_back((now + self.delay, packet.to_vec()));
            }
        }
        loop {
            let due = self.queue.front().map(|(due, _)| *due);
            if self.alarm.poll(cx, due, Clock::Boot).is_pending() {
                return Ok(());
            }
            if let Some((_, packet)) = self.queue.pop_front() {
                let _dropped = to.send(&packet); // as links do
            }
        }
    }
}

impl State {
    fn lets_pass(&mut self, packet: &[u8], now: Moment) -> bool {
        let Some(segment) = Segment::read(packet) else { return false };
        if self.is_silent || self.is_forgotten(&segment, now) {
            return false;
        }
        self.carried.packets += 1;
        self.carried.bytes += u64::try_from(packet.len()).unwrap_or(u64::MAX);
        true
    }

    fn is_forgotten(&mut self, segment: &Segment, now: Moment) -> bool {
        let Some(limit) = self.forgets_after else { return false };
        let seen = self.mappings.get(&segment.client_port);
        let is_known = segment.is_syn || seen.is_some_and(|&seen| now.since(seen) <= limit);
        if is_known {
            self.mappings.insert(segment.client_port, now);
        }
        !is_known
    }
}

/// What matters of a TCP segment over IPv4.
struct Segment {
    client_port: u16,
    is_syn: bool,
}

impl Segment {
    /// `None` for anything else: what the kernel says to its neighbours when an interface comes up.
    fn read(packet: &[u8]) -> Option<Self> {
        let &[first, ..] = packet else { return None };
        let (is_v4, header) = (first >> 4 == 4, usize::from(first & 0xf) * 4);
        let is_tcp = *packet.get(9)? == 6;
        let &[a, b, c, d, .., flags] = packet.get(header..header + 14)? else { return None };
        let (source, destination) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
        let client_port = if source == ADDRESS.port() { destination } else { source };
        (is_v4 && is_tcp).then_some(Self { client_port, is_syn: flags & 2 != 0 })
    }
}
