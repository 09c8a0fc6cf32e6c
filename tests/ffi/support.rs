//! A server, a TUN that is a socket pair, and an app that hears.

use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{OwnedFd, RawFd};
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::task::Poll;
use std::time::Duration;

use anytls_mobile::ffi::{
    CallbackError, Descriptor, Event, EventListener, Platform, Tunnel, TunnelError, TunnelState,
};
use anytls_mobile::proto::auth::PasswordHash;
use anytls_mobile::testserver::{ServerOptions, Service, TestServer};
use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};
use tokio::runtime::{Builder, Runtime};

/// Longer than any machine needs: only a hang reaches it.
pub const LONG: Duration = Duration::from_secs(60);

pub const PASSWORD: &str = "correct horse";

/// The embedded server on a runtime of its own; whatever is opened echoes.
pub struct Server {
    server: TestServer,
    _runtime: Runtime,
}

impl Server {
    pub fn start() -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let mut options = ServerOptions::new(PasswordHash::of(PASSWORD));
        options.outbound = Arc::new(|_| Service::Echo);
        let server = runtime.block_on(TestServer::start(options)).unwrap();
        Self { server, _runtime: runtime }
    }

    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    pub fn config(&self) -> String {
        config(self.address())
    }

    pub fn sessions(&self) -> usize {
        self.server.connections().len()
    }
}

pub fn config(server: SocketAddr) -> String {
    config_with(server, json!({}))
}

pub fn config_with(server: SocketAddr, more: Value) -> String {
    let mut config = json!({
        "server": {
            "server": server.ip(),
            "server_port": server.port(),
            "password": PASSWORD,
            "tls": { "insecure": true },
        },
    });
    let fields = config["server"].as_object_mut().unwrap();
    fields.extend(more.as_object().unwrap().clone());
    config.to_string()
}

/// A port where nobody listens.
pub fn dead() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// A server that takes connections and says nothing.
pub fn silent() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").unwrap()
}

/// A socket that keeps packet borders, as the TUN; and the other end, which is the phone.
pub fn tun() -> (Descriptor, Socket) {
    let (ours, phone) = Socket::pair(Domain::UNIX, Type::SEQPACKET, None).unwrap();
    phone.set_read_timeout(Some(LONG)).unwrap();
    (OwnedFd::from(ours).into(), phone)
}

/// Reads until the tunnel's end of the pair is closed.
pub fn wait_until_closed(phone: &Socket) {
    let mut buffer = [MaybeUninit::uninit(); 2048];
    loop {
        match phone.recv(&mut buffer) {
            Ok(0) => return,
            Ok(_packet) => {}
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return,
            Err(error) => panic!("the TUN is still open: {error}"),
        }
    }
}

/// Polls a future from this thread, which has no runtime: as a foreign language does.
pub fn wait<T>(future: impl Future<Output = T>) -> T {
    struct Unpark(std::thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Arc::new(Unpark(std::thread::current())).into();
    let mut context = std::task::Context::from_waker(&waker);
    let mut future = pin!(future);
    let mut done = None;
    wait_until("a future", || {
        if let Poll::Ready(value) = future.as_mut().poll(&mut context) {
            done = Some(value);
        }
        done.is_some()
    });
    done.expect("waited for")
}

/// Polls a future once, and drops it: as a coroutine that is cancelled.
pub fn poll_once_and_drop<T>(future: impl Future<Output = T>) -> bool {
    let mut future = pin!(future);
    wait(poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx).is_ready())))
}

pub fn start(tunnel: &Tunnel, config: String) -> Result<Socket, TunnelError> {
    let (ours, phone) = tun();
    wait(tunnel.start(config, ours)).map(|()| phone)
}

pub fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let mut rounds = 0;
    while !is_so() {
        rounds += 1; // of a millisecond at least
        assert!(rounds < LONG.as_millis(), "waited in vain for {what}");
        std::thread::yield_now();
        std::thread::park_timeout(Duration::from_millis(1)); // or until a future wakes this thread
    }
}

pub fn wait_for_state(tunnel: &Tunnel, is_it: impl Fn(&TunnelState) -> bool) -> TunnelState {
    let mut state = tunnel.state();
    wait_until("a state", || {
        state = tunnel.state();
        is_it(&state)
    });
    state
}

/// An app that says yes to everything, and counts.
#[derive(Default)]
pub struct Kind {
    pub protected: AtomicUsize,
}

impl Platform for Kind {
    fn protect(&self, socket: RawFd) -> Result<bool, CallbackError> {
        assert!(socket >= 0, "a descriptor");
        self.protected.fetch_add(1, Ordering::SeqCst);
        Ok(true)
    }

    fn resolve(&self, _: String) -> Result<Option<Vec<String>>, CallbackError> {
        Ok(None)
    }
}

/// A listener that remembers.
#[derive(Default)]
pub struct Heard {
    events: Mutex<Vec<Event>>,
    news: Condvar,
}

impl EventListener for Heard {
    fn on_event(&self, event: Event) -> Result<(), CallbackError> {
        self.events.lock().unwrap().push(event);
        self.news.notify_all();
        Ok(())
    }
}

impl Heard {
    pub fn wait_for(&self, is_it: impl Fn(&Event) -> bool) {
        let events = self.events.lock().unwrap();
        let waited = self.news.wait_timeout_while(events, LONG, |events| !events.iter().any(&is_it));
        let (events, timeout) = waited.unwrap();
        assert!(!timeout.timed_out(), "heard only {events:?}");
    }

    pub fn states(&self) -> Vec<TunnelState> {
        let state = |event: &Event| match event {
            Event::State { state } => Some(state.clone()),
            Event::Stats { .. } => None,
        };
        self.events.lock().unwrap().iter().filter_map(state).collect()
    }

    pub fn count(&self) -> usize {
        self.events.lock().unwrap().len()
    }
}

pub fn is_state(wanted: TunnelState) -> impl Fn(&Event) -> bool {
    move |event| matches!(event, Event::State { state } if *state == wanted)
}
