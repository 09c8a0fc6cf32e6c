//! An app that exchanges datagrams, and what answers it.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use anytls_mobile::budget::Account;
use anytls_mobile::client::OpenError;
use anytls_mobile::clock::Clock;
use anytls_mobile::proto::target::Target;
use anytls_mobile::relay::tcp::End;
use anytls_mobile::relay::udp::{self, Association, Mode, Style};
use anytls_mobile::relay::{Connect, Progress};
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// Ends a test that would hang; nothing is measured by it.
pub const LONG: Duration = Duration::from_secs(60);

/// Datagrams that the app has room for, unless it says otherwise.
const ROOM: usize = 64;

#[derive(Default)]
struct State {
    up: VecDeque<(Target, Vec<u8>)>,
    down: VecDeque<(Target, Vec<u8>)>,
    room: usize,
    closed: bool,
    refused: bool,
    sender: Option<Waker>,
    receiver: Option<Waker>,
    app: Option<Waker>,
    /// Counts the payloads that the relay holds.
    held: Arc<()>,
}

/// A datagram's bytes, counted while the relay holds them.
pub struct Payload {
    bytes: Vec<u8>,
    _held: Arc<()>,
}

impl AsRef<[u8]> for Payload {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// What the app holds.
pub struct App(Arc<Mutex<State>>);

/// What the relay holds.
pub struct Local(Arc<Mutex<State>>);

pub fn app() -> (App, Local) {
    let state = Arc::new(Mutex::new(State { room: ROOM, ..State::default() }));
    (App(Arc::clone(&state)), Local(state))
}

fn wake(waker: &mut Option<Waker>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}

impl App {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    pub fn send(&self, to: impl Into<Target>, payload: &[u8]) {
        let mut state = self.lock();
        state.up.push_back((to.into(), payload.to_vec()));
        wake(&mut state.receiver);
    }

    pub async fn recv(&self) -> (Target, Vec<u8>) {
        let received = poll_fn(|cx| {
            let mut state = self.lock();
            let datagram = state.down.pop_front();
            wake(&mut state.sender);
            state.app = Some(cx.waker().clone());
            datagram.map_or(Poll::Pending, Poll::Ready)
        });
        timeout(LONG, received).await.expect("a datagram")
    }

    pub fn set_room(&self, room: usize) {
        let mut state = self.lock();
        state.room = room;
        wake(&mut state.sender);
    }

    pub fn waiting(&self) -> usize {
        self.lock().down.len()
    }

    /// Datagrams that the relay has not come for.
    pub fn unsent(&self) -> usize {
        self.lock().up.len()
    }

    /// Datagrams that the relay has come for, and holds.
    pub fn held(&self) -> usize {
        Arc::strong_count(&self.lock().held) - 1
    }

    pub fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        wake(&mut state.receiver);
    }

    pub fn was_refused(&self) -> bool {
        self.lock().refused
    }
}

impl Association for Local {
    type Payload = Payload;

    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<(Target, Payload)>> {
        let mut state = self.0.lock().unwrap();
        match state.up.pop_front() {
            Some((to, bytes)) => Poll::Ready(Some((to, Payload { bytes, _held: Arc::clone(&state.held) }))),
            None if state.closed => Poll::Ready(None),
            None => {
                state.receiver = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    fn poll_ended(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.0.lock().unwrap();
        if state.closed {
            return Poll::Ready(());
        }
        state.receiver = Some(cx.waker().clone());
        Poll::Pending
    }

    fn poll_send(&mut self, cx: &mut Context<'_>, from: &Target, payload: &[u8]) -> Poll<()> {
        let mut state = self.0.lock().unwrap();
        if state.down.len() >= state.room {
            state.sender = Some(cx.waker().clone());
            return Poll::Pending;
        }
        state.down.push_back((from.clone(), payload.to_vec()));
        wake(&mut state.app);
        Poll::Ready(())
    }

    fn refuse(self) {
        self.0.lock().unwrap().refused = true;
    }
}

/// A relay under way, and its app.
pub struct Running {
    pub app: App,
    pub progress: Arc<Progress>,
    /// What the relay holds of datagrams.
    pub account: Arc<Account>,
    task: JoinHandle<Result<End, OpenError>>,
}

impl Running {
    pub fn start(connect: &impl Connect, mode: Mode, style: &Arc<Style>) -> Self {
        let ((app, local), progress) = (app(), Arc::<Progress>::default());
        let (connect, style, theirs) = (connect.clone(), Arc::clone(style), Arc::clone(&progress));
        let account = Arc::<Account>::default();
        let of_relay = Arc::clone(&account);
        let task = tokio::spawn(async move {
            udp::serve(local, mode, &connect, &style, &of_relay, Clock::Boot, &theirs).await.end
        });
        Self { app, progress, account, task }
    }

    pub async fn end(self) -> Result<End, OpenError> {
        self.finish().await.1
    }

    pub async fn finish(self) -> (App, Result<End, OpenError>) {
        (self.app, timeout(LONG, self.task).await.expect("it ends").expect("no panic"))
    }

    pub async fn exchange(&self, with: SocketAddr, size: usize, seed: u8) {
        let sent = payload(size, seed);
        self.app.send(with, &sent);
        let (from, received) = self.app.recv().await;
        assert_eq!((from, received.len()), (Target::from(with), size));
        assert!(received == sent, "other bytes came back for {size}");
    }
}

pub fn payload(size: usize, seed: u8) -> Vec<u8> {
    (0..251).cycle().skip(usize::from(seed)).take(size).collect()
}

/// Sends back what comes.
pub async fn echo(at: &str) -> SocketAddr {
    let socket = UdpSocket::bind(at).await.expect("bound");
    let address = socket.local_addr().expect("bound");
    tokio::spawn(async move {
        let mut buffer = vec![0; 65_535];
        while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
            let _gone = socket.send_to(&buffer[..length], from).await;
        }
    });
    address
}

/// A socket that only the test answers for.
pub async fn peer() -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("bound");
    let address = socket.local_addr().expect("bound");
    (socket, address)
}
