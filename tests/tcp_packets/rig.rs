//! A stack on a device in memory.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use anytls_mobile::clock::Clock;
use anytls_mobile::netstack::{
    Control, Counters, DeviceGone, Fate, Handler, Netstack, Options, Reply, TcpFlow, TcpStream, UdpFlow,
};
use anytls_mobile::tun::{Device, SendError};
use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

pub const MTU: usize = 1500;

/// A running stack, its device and the flows that it hands out.
pub struct Rig {
    pub tap: Tap,
    pub control: Control,
    pub flows: mpsc::Receiver<TcpFlow>,
    pub udp_flows: mpsc::Receiver<UdpFlow>,
    pub queries: mpsc::Receiver<(Vec<u8>, Reply)>,
    /// What becomes of datagrams: refused, unless the test says otherwise.
    pub fate: Arc<Mutex<Fate>>,
    pub task: JoinHandle<Result<(), DeviceGone>>,
}

impl Rig {
    pub fn new() -> Self {
        Self::with(Options::default(), MTU)
    }

    pub fn eager() -> Self {
        Self::with(Options { eager: true, ..Options::default() }, MTU)
    }

    pub fn with(options: Options, mtu: usize) -> Self {
        let tap = Tap::default();
        let (tcp, flows) = mpsc::channel(16 * 1024);
        let (udp, udp_flows) = mpsc::channel(16 * 1024);
        let (asked, queries) = mpsc::channel(1024);
        let fate = Arc::new(Mutex::new(Fate::Refuse));
        let stack = Netstack::new(
            TapDevice { tap: tap.clone(), mtu },
            Flows { tcp, udp, asked, fate: Arc::clone(&fate) },
            options,
            Clock::Tokio,
            StdRng::seed_from_u64(1),
        );
        let control = stack.control();
        Self { tap, control, flows, udp_flows, queries, fate, task: tokio::spawn(stack.run()) }
    }

    pub fn counters(&self) -> Counters {
        self.control.counters()
    }

    /// The next flow, which must have come already.
    pub async fn flow(&mut self) -> TcpFlow {
        settle().await;
        self.flows.try_recv().expect("a flow")
    }

    /// Accepts the next flow.
    pub async fn accept(&mut self) -> TcpStream {
        self.flow().await.accept()
    }

    pub async fn no_flow(&mut self) {
        settle().await;
        assert!(self.flows.try_recv().is_err(), "no flow was expected");
    }
}

/// Lets every task run until all wait, then a millisecond pass.
pub async fn settle() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

struct Flows {
    tcp: mpsc::Sender<TcpFlow>,
    udp: mpsc::Sender<UdpFlow>,
    asked: mpsc::Sender<(Vec<u8>, Reply)>,
    fate: Arc<Mutex<Fate>>,
}

impl Handler for Flows {
    fn handle_tcp(&mut self, flow: TcpFlow) {
        self.tcp.try_send(flow).expect("room for a flow");
    }

    fn judge_udp(&mut self, _: SocketAddr) -> Fate {
        *self.fate.lock().unwrap()
    }

    fn handle_udp(&mut self, flow: UdpFlow) {
        self.udp.try_send(flow).expect("room for a flow");
    }

    /// Answers what begins with "now" at once.
    fn handle_query(&mut self, payload: &[u8], reply: Reply) {
        if payload.starts_with(b"now") {
            reply.send(payload);
        } else {
            self.asked.try_send((payload.to_vec(), reply)).expect("room for a query");
        }
    }
}

/// The app's end of the device.
#[derive(Clone, Default)]
pub struct Tap {
    state: Arc<Mutex<TapState>>,
}

#[derive(Default)]
struct TapState {
    to_stack: VecDeque<Vec<u8>>,
    from_stack: VecDeque<Vec<u8>>,
    /// For each packet ever sent, how often packets had been asked for by then: a turn of the loop asks before
    /// it sends.
    sent_at: Vec<usize>,
    waker: Option<Waker>,
    /// How many of the next packets sent are dropped for want of room.
    full_for: usize,
    gone: bool,
    mute: bool,
    polls: usize,
}

impl Tap {
    pub fn inject(&self, packet: Vec<u8>) {
        let mut state = self.state.lock().unwrap();
        state.to_stack.push_back(packet);
        if let Some(waker) = state.waker.take() {
            waker.wake();
        }
    }

    pub fn take(&self) -> Option<Vec<u8>> {
        self.state.lock().unwrap().from_stack.pop_front()
    }

    /// The first packet that `wanted` picks; the others stay.
    pub fn take_if(&self, wanted: impl Fn(&[u8]) -> bool) -> Option<Vec<u8>> {
        let mut state = self.state.lock().unwrap();
        let place = state.from_stack.iter().position(|packet| wanted(packet))?;
        state.from_stack.remove(place)
    }

    /// Whether no packet waits on either side.
    pub fn is_quiet(&self) -> bool {
        let state = self.state.lock().unwrap();
        state.to_stack.is_empty() && state.from_stack.is_empty()
    }

    /// Forgets what has come.
    pub fn clear(&self) {
        self.state.lock().unwrap().from_stack.clear();
    }

    /// Has the next packets dropped for want of room.
    pub fn fill(&self, packets: usize) {
        self.state.lock().unwrap().full_for = packets;
    }

    /// Closes the device.
    pub fn close(&self) {
        let mut state = self.state.lock().unwrap();
        state.gone = true;
        if let Some(waker) = state.waker.take() {
            waker.wake();
        }
    }

    /// Closes the device for writing; reading merely gives nothing.
    pub fn close_quietly(&self) {
        self.state.lock().unwrap().mute = true;
    }

    /// How often the stack had asked for packets when it sent each of its own.
    pub fn sent_at(&self) -> Vec<usize> {
        self.state.lock().unwrap().sent_at.clone()
    }

    /// How often the stack has asked for packets.
    pub fn polls(&self) -> usize {
        self.state.lock().unwrap().polls
    }
}

pub struct TapDevice {
    tap: Tap,
    mtu: usize,
}

impl Device for TapDevice {
    fn mtu(&self) -> usize {
        self.mtu
    }

    fn poll_recv(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut state = self.tap.state.lock().unwrap();
        state.polls += 1;
        if let Some(packet) = state.to_stack.pop_front() {
            buf[..packet.len()].copy_from_slice(&packet);
            return Poll::Ready(Ok(packet.len()));
        }
        if state.gone {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        state.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    fn send(&mut self, packet: &[u8]) -> Result<(), SendError> {
        assert!(packet.len() <= self.mtu, "packet of {} bytes over the MTU", packet.len());
        let mut state = self.tap.state.lock().unwrap();
        if state.gone || state.mute {
            return Err(SendError::Gone(io::ErrorKind::BrokenPipe.into()));
        }
        if state.full_for > 0 {
            state.full_for -= 1;
            return Err(SendError::Dropped);
        }
        state.from_stack.push_back(packet.to_vec());
        let polls = state.polls;
        state.sent_at.push(polls);
        Ok(())
    }
}
