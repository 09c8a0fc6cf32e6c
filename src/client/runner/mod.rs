//! Does what the pool decides: dials, grants, asks for heartbeats, closes.

mod sessions;

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Poll, Waker};
use std::time::Duration;

use tokio::sync::{oneshot, watch};

use super::counters::{ClientStats, Counted, Counters};
use super::lease::{Lease, Request};
use super::link::Link;
use super::status::{ClientStatus, SessionInfo};
use super::{ClientOptions, OpenError};
use crate::budget::Account;
use crate::clock::{Alarm, Clock};
use crate::entropy::SharedGenerator;
use crate::proto::auth::PasswordHash;
use crate::proto::padding::Scheme;
use crate::proto::pool::{Action, Conditions, Pool, PoolOptions, Refusal, SessionSeq, Ticket, Want};
use crate::proto::session::SessionError;
use crate::proto::settings::PeerVersion;
use crate::proto::timers::Moment;
use crate::task::Tasks;
use crate::transport::{Dial, DialError, SystemWatch};

/// How long the system waits for a server of version 1 that is silent: as long as the slowest heartbeat,
/// asked for twice.
const SYSTEM_PATIENCE: Duration = Duration::from_secs(20);

pub(super) struct Runner<D: Dial> {
    dial: D,
    password: PasswordHash,
    clock: Clock,
    shown: Arc<Shown>,
    account: Arc<Account>,
    generator: SharedGenerator,
    state: Mutex<State<D>>,
    tasks: Tasks,
}

struct State<D: Dial> {
    pool: Pool,
    sessions: HashMap<SessionSeq, Arc<Link>>,
    waiting: HashMap<Ticket, oneshot::Sender<Result<Lease<D>, OpenError>>>,
    synack_timeout: Option<Duration>,
    /// What sessions from now on pad by.
    scheme: Arc<Scheme>,
    /// The last scheme that was refused: one warning is enough.
    refused_scheme: Vec<u8>,
    /// The version that the server showed last.
    peer: Option<PeerVersion>,
    /// Whether the server has refused a stream because it still counted one that it had ended itself.
    answers_fin: bool,
    is_proven: bool,
    last_error: Option<DialError>,
    /// Who runs the pool's timer, and for when it is set.
    timer: Option<Waker>,
    timer_for: Option<Moment>,
    /// What the outside has been shown.
    counted: Counted,
    stopped: bool,
}

/// What a client shows of itself; outlives its runner.
#[derive(Debug, Default)]
pub(super) struct Shown {
    pub(super) counters: Arc<Counters>,
    pub(super) status: watch::Sender<ClientStatus>,
}

/// What an action asks of a session: done when the state is not locked any more.
enum Errand {
    Beat,
    Probe,
    End,
}

impl<D: Dial> Runner<D> {
    /// A runner that counts on where another has stopped, if `shown` is that one's.
    pub(super) fn start(
        dial: D,
        options: ClientOptions,
        conditions: Conditions,
        shown: Arc<Shown>,
    ) -> Arc<Self> {
        let ClientOptions { pool, password, scheme, clock, account } = options;
        let last = SessionSeq(shown.counters.dialed.load(Ordering::Relaxed)); // each has a number
        let state = State {
            synack_timeout: pool.synack_timeout,
            pool: Pool::new(pool, clock.now()).numbered_after(last),
            sessions: HashMap::new(),
            waiting: HashMap::new(),
            scheme,
            refused_scheme: Vec::new(),
            peer: None,
            answers_fin: false,
            is_proven: false,
            last_error: None,
            timer: None,
            timer_for: None,
            counted: Counted::default(),
            stopped: false,
        };
        let runner = Arc::new(Self {
            dial,
            password,
            clock,
            shown,
            account,
            generator: SharedGenerator::seeded(),
            state: Mutex::new(state),
            tasks: Tasks::new(),
        });
        runner.tasks.spawn("pool timer", run_timer(Arc::downgrade(&runner), clock));
        runner.with(|state, now| state.pool.set_conditions(conditions, now)); // it has dials to make
        runner
    }

    /// Waits for a session.
    pub(super) async fn lease(self: &Arc<Self>, want: Want) -> Result<Lease<D>, OpenError> {
        let (sender, grant) = oneshot::channel();
        let ticket = self.with(|state, now| {
            let ticket = state.pool.request(want, now);
            state.waiting.insert(ticket, sender);
            ticket
        });
        Request { runner: self, ticket, grant, is_done: false }.granted().await
    }

    pub(super) fn withdraw(self: &Arc<Self>, ticket: Ticket) {
        self.with(|state, _| {
            state.waiting.remove(&ticket);
            state.pool.cancel(ticket);
        });
    }

    pub(super) fn give_back(self: &Arc<Self>, seq: SessionSeq) {
        self.with(|state, now| state.pool.handle_returned(seq, now));
    }

    pub(super) fn handle_refused_sharing(self: &Arc<Self>) {
        self.with(|state, _| state.pool.handle_refused_sharing());
    }

    pub(super) fn handle_shared(self: &Arc<Self>) {
        self.with(|state, now| state.pool.handle_shared(now));
    }

    pub(super) fn handle_unclear_sharing(self: &Arc<Self>) {
        self.with(|state, now| state.pool.handle_unclear_sharing(now));
    }

    pub(super) fn answer_fins(&self) {
        self.lock().answers_fin = true;
    }

    pub(super) fn count_retry(&self) {
        Counters::count(&self.shown.counters.retried);
    }

    pub(super) fn is_online(self: &Arc<Self>) -> bool {
        self.with(|state, _| state.pool.conditions().is_online)
    }

    pub(super) fn set_conditions(self: &Arc<Self>, conditions: Conditions) {
        let links = self.with(|state, now| {
            let was_online = state.pool.conditions().is_online;
            state.pool.set_conditions(conditions, now);
            if was_online == conditions.is_online { Vec::new() } else { state.links() }
        });
        for link in links {
            link.set_online(conditions.is_online);
        }
        self.watch_by_system();
    }

    /// The phone may have slept, and no timer with it.
    pub(super) fn wake(&self) {
        let mut state = self.lock();
        let (timer, links) = (state.timer.take(), state.links());
        drop(state);
        for link in links {
            link.wake();
        }
        if let Some(timer) = timer {
            timer.wake();
        }
    }

    pub(super) fn name_path(self: &Arc<Self>, name: &str) {
        self.with(|state, _| state.pool.name_path(name));
    }

    pub(super) fn handle_path_change(self: &Arc<Self>, name: &str) {
        self.dial.handle_path_change();
        let links = self.with(|state, now| {
            state.is_proven = false;
            state.last_error = None;
            state.pool.handle_path_change(name, now);
            state.links()
        });
        for link in links {
            link.strand();
        }
    }

    pub(super) fn set_options(self: &Arc<Self>, options: PoolOptions) {
        self.with(|state, now| {
            state.synack_timeout = options.synack_timeout;
            state.pool.set_options(options, now);
        });
        self.watch_by_system();
    }

    /// A server of version 1 answers no heartbeats: the system is to watch it, about as often.
    fn watch_by_system(&self) {
        let state = self.lock();
        let watch = state.system_watch();
        let links = if state.peer == Some(PeerVersion::V1) { state.links() } else { Vec::new() };
        drop(state);
        for link in links {
            link.watch_by_system(watch);
        }
    }

    pub(super) fn sessions(&self) -> Vec<SessionInfo> {
        let now = self.clock.now();
        let state = self.lock();
        let links: Vec<_> = state
            .sessions
            .iter()
            .filter_map(|(&seq, link)| Some((seq, Arc::clone(link), state.pool.ages(seq, now)?)))
            .collect();
        drop(state);
        let mut sessions: Vec<_> = links
            .into_iter()
            .map(|(seq, link, (age, idle))| {
                let session = &link.lock().session;
                SessionInfo {
                    seq,
                    age,
                    silent: now.since(session.pulse().heard()),
                    idle,
                    round_trip: session.round_trip(),
                    streams: session.stream_count(),
                    peer: session.peer(),
                    padding_md5: session.scheme().md5_hex().to_owned(),
                    counters: session.counters(),
                }
            })
            .collect();
        sessions.sort_unstable_by_key(|session| session.seq);
        sessions
    }

    /// Between two changes of the state, so that no half of one is seen.
    pub(super) fn stats(&self) -> ClientStats {
        let _unchanged = self.lock();
        self.shown.counters.snapshot()
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
        self.tasks.cancel("pool timer");
        self.tasks.cancel("latency");
        self.tasks.join().await;
    }

    /// Runs a measurement with the sessions' tasks, wherever it is asked for.
    pub(super) fn spawn_measurement(&self, measurement: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn("latency", measurement);
    }

    fn lock(&self) -> MutexGuard<'_, State<D>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state, then carries out what the pool has decided.
    fn with<T>(self: &Arc<Self>, change: impl FnOnce(&mut State<D>, Moment) -> T) -> T {
        let mut state = self.lock();
        let result = change(&mut state, self.clock.now());
        let mut errands = Vec::new();
        while let Some(action) = state.pool.poll_action() {
            self.carry_out(&mut state, action, &mut errands);
        }
        self.show(&mut state);
        // Streams that come and go put the next beat off all the time: a timer that is too early finds out
        // by itself. One that is too late, or not needed any more, is told.
        let (due, set) = (state.pool.poll_timeout(), state.timer_for);
        let is_wrong = due.map_or(set.is_some(), |due| set.is_none_or(|set| due < set));
        let timer = if is_wrong { state.timer.take() } else { None };
        drop(state);
        for (link, errand) in errands {
            match errand {
                Errand::Beat => link.beat(),
                Errand::Probe => link.probe(),
                Errand::End => link.fail(SessionError::Closed),
            }
        }
        if let Some(timer) = timer {
            timer.wake();
        }
        result
    }

    fn carry_out(
        self: &Arc<Self>,
        state: &mut State<D>,
        action: Action,
        errands: &mut Vec<(Arc<Link>, Errand)>,
    ) {
        match action {
            Action::Dial(dial) => {
                self.tasks.spawn("dial", Arc::clone(self).dial(dial));
            }
            Action::CancelDials => self.tasks.cancel("dial"),
            Action::Grant { ticket, seq, reused, is_pooled, is_shared } => {
                if reused {
                    Counters::count(&self.shown.counters.reused);
                }
                let sender = state.waiting.remove(&ticket);
                let link = state.sessions.get(&seq).cloned();
                let (Some(sender), Some(link)) = (sender, link) else {
                    debug_assert!(false, "the pool grants only what it was told of");
                    return;
                };
                let lease = Lease::new(Arc::clone(self), seq, link, is_pooled, is_shared);
                if let Err(Ok(lease)) = sender.send(Ok(lease)) {
                    lease.forget(); // it is given back here, under the lock
                    let now = self.clock.now();
                    if is_shared {
                        state.pool.handle_unclear_sharing(now);
                    }
                    state.pool.handle_returned(seq, now);
                }
            }
            Action::Fail { ticket, why } => {
                let error = match why {
                    _ if state.stopped => OpenError::Stopped,
                    Refusal::Dial => state.last_error.clone().map_or(OpenError::Stopped, OpenError::Dial),
                    Refusal::Offline => OpenError::Offline,
                    Refusal::Busy => OpenError::Busy,
                    Refusal::Closed => OpenError::Stopped,
                };
                if let Some(sender) = state.waiting.remove(&ticket) {
                    let _gave_up = sender.send(Err(error));
                }
            }
            Action::Beat(seq) => errands.extend(state.link(seq).map(|link| (link, Errand::Beat))),
            Action::Probe(seq) => errands.extend(state.link(seq).map(|link| (link, Errand::Probe))),
            Action::Close { seq, reason } => {
                tracing::trace!(seq = seq.0, ?reason, "closing session");
                errands.extend(state.sessions.remove(&seq).map(|link| (link, Errand::End)));
            }
        }
    }

    /// Shows the outside what has become of the state.
    fn show(&self, state: &mut State<D>) {
        let pool = &state.pool;
        let (idle, active, dialing) = (pool.idle_count(), pool.leased_count(), pool.dialing_count());
        let counted = Counted::new([idle, active, dialing], pool.counters());
        if counted != state.counted {
            self.shown.counters.move_on(&state.counted, &counted);
            state.counted = counted;
        }
        if state.stopped {
            return; // another runner may have taken over
        }
        self.shown.status.send_if_modified(|shown| {
            let status = ClientStatus {
                is_proven: state.is_proven,
                sessions: idle + active,
                dialing,
                failures: pool.failures(),
                retry_at: pool.retry_at(),
                last_error: state.last_error.clone(),
                max_streams: pool.max_streams(),
            };
            let is_news = !status.is_same(shown);
            if is_news {
                *shown = status;
            }
            is_news
        });
    }
}

impl<D: Dial> State<D> {
    fn link(&self, seq: SessionSeq) -> Option<Arc<Link>> {
        self.sessions.get(&seq).cloned()
    }

    fn links(&self) -> Vec<Arc<Link>> {
        self.sessions.values().cloned().collect()
    }

    fn system_watch(&self) -> SystemWatch {
        SystemWatch { interval: self.pool.heartbeat_interval(), dead_after: SYSTEM_PATIENCE }
    }
}

/// How late the pool may be for everything: nobody notices, and every other wake-up for a heartbeat is spared.
const TIMER_SLACK: Duration = Duration::from_millis(64);

async fn run_timer<D: Dial>(runner: Weak<Runner<D>>, clock: Clock) {
    let mut alarm = Alarm::default();
    std::future::poll_fn(move |cx| {
        loop {
            let Some(runner) = runner.upgrade() else { return Poll::Ready(()) };
            let due = {
                let mut state = runner.lock();
                state.timer = Some(cx.waker().clone());
                state.timer_for = state.pool.poll_timeout();
                state.timer_for
            };
            if alarm.poll_within(cx, due, TIMER_SLACK, clock).is_pending() {
                return Poll::Pending;
            }
            runner.with(|state, now| state.pool.handle_timeout(now));
        }
    })
    .await;
}
