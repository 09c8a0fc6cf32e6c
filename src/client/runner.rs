//! Does what the pool decides: dials, grants, closes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Poll, Waker};
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::sync::oneshot;

use super::driver::Driver;
use super::link::Link;
use super::{ClientOptions, OpenError, Stream};
use crate::clock::{Alarm, Clock};
use crate::entropy;
use crate::proto::auth::{PasswordHash, put_authentication};
use crate::proto::padding::Scheme;
use crate::proto::pool::{Action, Pool, SessionSeq, Ticket, Want};
use crate::proto::session::{
    Event, Session, SessionCounters, SessionError, SessionOptions, Side, StreamError,
};
use crate::proto::settings::PeerVersion;
use crate::proto::target::Target;
use crate::proto::timers::Moment;
use crate::task::Tasks;
use crate::transport::{Dial, DialError};

/// What a client has counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClientStats {
    /// Sessions made.
    pub dialed: u64,
    /// Dials that failed, and sessions refused right after authentication.
    pub dials_failed: u64,
    /// Streams that were given a session which had served another.
    pub reused: u64,
    /// Streams opened a second time because their pooled session was dead.
    pub retried: u64,
    /// Sessions that serve no stream now.
    pub idle: u64,
    /// Sessions that serve a stream now.
    pub active: u64,
    /// Bytes of apps sent.
    pub sent_bytes: u64,
    /// Bytes for apps received.
    pub received_bytes: u64,
    /// Padding sent.
    pub padding_bytes: u64,
}

/// A session taken from the pool for one stream. Dropping it unused gives it back.
pub(super) struct Lease<D: Dial> {
    runner: Arc<Runner<D>>,
    seq: SessionSeq,
    link: Arc<Link>,
    pub(super) reused: bool,
    /// Once a stream was opened, its end gives the session back.
    used: bool,
}

impl<D: Dial> Lease<D> {
    /// Opens the stream that the lease is for, and waits for the server's answer.
    pub(super) async fn open(mut self, target: &Target, first: &[u8]) -> Result<Stream, StreamError> {
        self.used = true;
        let stream = Stream::open(Arc::clone(&self.link), target, first)?;
        match stream.opened().await {
            Ok(()) if self.reused && self.link.lock().session.peer() == Some(PeerVersion::V1) => {
                Ok(stream.unproven())
            }
            Ok(()) => Ok(stream),
            Err(error) => {
                stream.abort();
                if matches!(error, StreamError::SessionFull(_)) {
                    self.runner.lock().answers_fin = true;
                }
                Err(error)
            }
        }
    }
}

impl<D: Dial> Drop for Lease<D> {
    fn drop(&mut self) {
        if !self.used {
            self.runner.with(|state, now| state.pool.handle_returned(self.seq, now));
        }
    }
}

/// A request under way; dropping it withdraws the request.
struct Request<'a, D: Dial> {
    runner: &'a Arc<Runner<D>>,
    ticket: Ticket,
    grant: oneshot::Receiver<Result<Lease<D>, OpenError>>,
    done: bool,
}

impl<D: Dial> Request<'_, D> {
    async fn granted(mut self) -> Result<Lease<D>, OpenError> {
        let grant = (&mut self.grant).await;
        self.done = true;
        grant.unwrap_or(Err(OpenError::Stopped))
    }
}

impl<D: Dial> Drop for Request<'_, D> {
    fn drop(&mut self) {
        if !self.done {
            self.runner.with(|state, _| {
                state.waiting.remove(&self.ticket);
                state.pool.cancel(self.ticket);
            });
        }
    }
}

pub(super) struct Runner<D: Dial> {
    dial: D,
    password: PasswordHash,
    clock: Clock,
    synack_timeout: Option<Duration>,
    state: Mutex<State<D>>,
    tasks: Tasks,
}

struct State<D: Dial> {
    pool: Pool,
    sessions: HashMap<SessionSeq, Arc<Link>>,
    waiting: HashMap<Ticket, oneshot::Sender<Result<Lease<D>, OpenError>>>,
    /// What sessions from now on pad by.
    scheme: Arc<Scheme>,
    /// The last scheme that was refused: one warning is enough.
    refused_scheme: Vec<u8>,
    /// The version that the server showed last.
    peer: Option<PeerVersion>,
    /// Whether the server has refused a stream because it still counted one that it had ended itself.
    answers_fin: bool,
    last_error: Option<OpenError>,
    rng: StdRng,
    /// Who runs the pool's timer, and for when it is set.
    timer: Option<Waker>,
    stats: ClientStats,
    stopped: bool,
}

impl<D: Dial> Runner<D> {
    pub(super) fn start(dial: D, options: ClientOptions) -> Arc<Self> {
        let ClientOptions { pool, password, scheme, clock } = options;
        let synack_timeout = pool.synack_timeout;
        let state = State {
            pool: Pool::new(pool),
            sessions: HashMap::new(),
            waiting: HashMap::new(),
            scheme,
            refused_scheme: Vec::new(),
            peer: None,
            answers_fin: false,
            last_error: None,
            rng: entropy::generator(),
            timer: None,
            stats: ClientStats::default(),
            stopped: false,
        };
        let runner = Arc::new(Self {
            dial,
            password,
            clock,
            synack_timeout,
            state: Mutex::new(state),
            tasks: Tasks::new(),
        });
        runner.tasks.spawn("pool timer", run_timer(Arc::downgrade(&runner), clock));
        runner
    }

    /// Waits for a session that is the caller's alone.
    pub(super) async fn lease(self: &Arc<Self>, want: Want) -> Result<Lease<D>, OpenError> {
        let (sender, grant) = oneshot::channel();
        let ticket = self.with(|state, now| {
            let ticket = state.pool.request(want, now);
            state.waiting.insert(ticket, sender);
            ticket
        });
        Request { runner: self, ticket, grant, done: false }.granted().await
    }

    pub(super) fn count_retry(&self) {
        self.lock().stats.retried += 1;
    }

    pub(super) fn stats(&self) -> ClientStats {
        let state = self.lock();
        let count = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        let mut stats = ClientStats {
            idle: count(state.pool.idle_count()),
            active: count(state.pool.leased_count()),
            ..state.stats
        };
        let links: Vec<_> = state.sessions.values().cloned().collect();
        drop(state);
        for link in links {
            stats.add(link.lock().session.counters());
        }
        stats
    }

    pub(super) async fn stop(self: &Arc<Self>) {
        let links = self.with(|state, _| {
            state.stopped = true;
            state.pool.close();
            std::mem::take(&mut state.sessions)
        });
        for link in links.into_values() {
            link.fail(SessionError::Closed);
        }
        self.tasks.cancel("dial");
        self.tasks.cancel("pool timer");
        self.tasks.join().await;
    }

    fn lock(&self) -> MutexGuard<'_, State<D>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state, then carries out what the pool has decided.
    fn with<T>(self: &Arc<Self>, change: impl FnOnce(&mut State<D>, Moment) -> T) -> T {
        let mut state = self.lock();
        let before = state.pool.poll_timeout();
        let result = change(&mut state, self.clock.now());
        let mut ended = Vec::new();
        while let Some(action) = state.pool.poll_action() {
            self.carry_out(&mut state, action, &mut ended);
        }
        let timer = if state.pool.poll_timeout() == before { None } else { state.timer.take() };
        drop(state);
        for link in ended {
            link.fail(SessionError::Closed);
        }
        if let Some(timer) = timer {
            timer.wake();
        }
        result
    }

    fn carry_out(self: &Arc<Self>, state: &mut State<D>, action: Action, ended: &mut Vec<Arc<Link>>) {
        match action {
            Action::Dial => {
                self.tasks.spawn("dial", Arc::clone(self).dial());
            }
            Action::Grant { ticket, seq, reused } => {
                state.stats.reused += u64::from(reused);
                let sender = state.waiting.remove(&ticket);
                let link = state.sessions.get(&seq).cloned();
                let (Some(sender), Some(link)) = (sender, link) else {
                    debug_assert!(false, "the pool grants only what it was told of");
                    return;
                };
                let lease = Lease { runner: Arc::clone(self), seq, link, reused, used: false };
                if let Err(Ok(mut lease)) = sender.send(Ok(lease)) {
                    lease.used = true; // it is given back here, under the lock
                    state.pool.handle_returned(seq, self.clock.now());
                }
            }
            Action::Fail { ticket } => {
                let error = if state.stopped { None } else { state.last_error.clone() };
                if let Some(sender) = state.waiting.remove(&ticket) {
                    let _gave_up = sender.send(Err(error.unwrap_or(OpenError::Stopped)));
                }
            }
            Action::Close { seq, reason } => {
                tracing::debug!(seq = seq.0, ?reason, "closing session");
                ended.extend(state.sessions.remove(&seq));
            }
        }
    }

    async fn dial(self: Arc<Self>) {
        let mut block = Vec::new();
        {
            let mut state = self.lock();
            let State { scheme, rng, .. } = &mut *state;
            put_authentication(&mut block, &self.password, scheme.authentication_padding(rng));
        }
        match self.dial.dial(&block).await {
            Ok((wire, round_trip)) => self.adopt(wire, round_trip),
            Err(error) => {
                tracing::debug!(%error, "dial failed");
                self.with(|state, now| {
                    state.stats.dials_failed += 1;
                    state.last_error = Some(OpenError::Dial(error));
                    state.pool.handle_dial_failed(now);
                });
            }
        }
    }

    /// Makes a session of a new connection.
    fn adopt(self: &Arc<Self>, wire: D::Wire, round_trip: Duration) {
        let (seq, link, rng) = self.with(|state, now| {
            let options = SessionOptions {
                scheme: Arc::clone(&state.scheme),
                peer: state.peer,
                round_trip,
                synack_timeout: self.synack_timeout,
                answers_fin: state.answers_fin,
            };
            let link = Link::new(Session::new(Side::Client, options, now), self.clock);
            let seq = state.pool.handle_dialed(now);
            state.sessions.insert(seq, Arc::clone(&link));
            state.stats.dialed += 1;
            if state.peer == Some(PeerVersion::V1) {
                state.pool.handle_proven(now); // it will say nothing before a user asks
            }
            (seq, link, StdRng::from_rng(&mut state.rng))
        });
        let weak = Arc::downgrade(self);
        let on_event = {
            let weak = weak.clone();
            move |event| {
                if let Some(runner) = weak.upgrade() {
                    runner.handle_event(seq, event);
                }
            }
        };
        let driver = Driver::new(wire, Arc::clone(&link), rng, on_event);
        self.tasks.spawn("session", async move {
            let reason = driver.await;
            if let Some(runner) = weak.upgrade() {
                runner.handle_ended(seq, &link, &reason);
            }
        });
    }

    fn handle_event(self: &Arc<Self>, seq: SessionSeq, event: Event) {
        match event {
            Event::Idle => self.with(|state, now| state.pool.handle_returned(seq, now)),
            Event::PeerVersion(version) => self.with(|state, now| {
                state.peer = Some(version);
                state.pool.handle_proven(now);
            }),
            Event::SchemeUpdate(raw) => self.lock().update_scheme(raw),
            // The link wakes those itself, and only servers see streams come in.
            Event::Readable(_) | Event::Writable(_) | Event::Incoming(_) => {}
        }
    }

    fn handle_ended(self: &Arc<Self>, seq: SessionSeq, link: &Link, reason: &SessionError) {
        tracing::debug!(seq = seq.0, %reason, "session ended");
        let counters = link.lock().session.counters();
        self.with(|state, now| {
            state.stats.add(counters);
            state.sessions.remove(&seq);
            if matches!(reason, SessionError::Rejected) {
                state.stats.dials_failed += 1;
                state.last_error = Some(OpenError::Dial(DialError::Authentication));
                state.pool.handle_rejected(seq, now);
            } else {
                state.pool.handle_lost(seq);
            }
        });
    }
}

impl<D: Dial> State<D> {
    /// Takes the server's scheme for later sessions, or refuses it whole.
    fn update_scheme(&mut self, raw: Vec<u8>) {
        match Scheme::parse(&raw) {
            Ok(scheme) => {
                tracing::debug!(md5 = scheme.md5_hex(), "padding scheme updated");
                self.scheme = Arc::new(scheme);
            }
            Err(error) if self.refused_scheme != raw => {
                tracing::warn!(%error, "padding scheme of the server refused, keeping the old one");
                self.refused_scheme = raw;
            }
            Err(_) => {}
        }
    }
}

impl ClientStats {
    fn add(&mut self, session: SessionCounters) {
        self.sent_bytes += session.sent_bytes;
        self.received_bytes += session.received_bytes;
        self.padding_bytes += session.padding_bytes;
    }
}

async fn run_timer<D: Dial>(runner: Weak<Runner<D>>, clock: Clock) {
    let mut alarm = Alarm::default();
    std::future::poll_fn(move |cx| {
        loop {
            let Some(runner) = runner.upgrade() else { return Poll::Ready(()) };
            let due = {
                let mut state = runner.lock();
                state.timer = Some(cx.waker().clone());
                state.pool.poll_timeout()
            };
            if alarm.poll(cx, due, clock).is_pending() {
                return Poll::Pending;
            }
            runner.with(|state, now| state.pool.handle_timeout(now));
        }
    })
    .await;
}
