//! A tunnel's life: begun and ended by short-lived threads of ours, one after the other, so that the app's futures
//! only wait.

use std::collections::BTreeSet;
use std::future::poll_fn;
use std::mem;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{oneshot, watch};

use super::callbacks::{Gate, outside};
use super::events::{Event, Events, Next, What};
use super::shield::shielded;
use super::{Platform, TunnelError, TunnelState, TunnelStats, config};
use crate::clock::{Alarm, Clock};
use crate::config::Config;
use crate::logging;
use crate::private::Private;
use crate::proto::pool;
use crate::proto::timers::Moment;
use crate::task;
use crate::tun::BatchInput;
use crate::tunnel::{Phone, STOP_DEADLINE, State, Tun, Tunnel};

/// What a stop gives the tunnel's thread, which may be in a callback of the app's that hangs; the rest of
/// [`STOP_DEADLINE`] is for the listeners.
const PATIENCE: Duration = Duration::from_millis(800);

/// What the object and its threads know.
pub(super) struct Life {
    platform: Option<Arc<dyn Platform>>,
    line: Arc<Line>,
    phase: Mutex<Phase>,
    /// How often a stop was asked for: starts that were asked for before the last one are called off.
    stops: AtomicU64,
    /// How many of them are under way.
    stopping: AtomicUsize,
    /// What the app has said of it, for this run and the next.
    phone: Mutex<Phone>,
    pub(super) events: Events,
}

/// ```text
/// Stopped ─► Starting ─► Running ─► Stopping ─► Stopped
///                └──────────────────────────────► Stopped
/// ```
// INVARIANT: only the first in the line changes it, the owner's drop apart.
enum Phase {
    /// With what the last run has counted.
    Stopped(Box<TunnelStats>),
    Starting,
    Running(Run),
    Stopping(Run),
}

impl Default for Phase {
    fn default() -> Self {
        Self::Stopped(Box::default())
    }
}

/// A tunnel that runs, or has ended by itself.
#[derive(Clone)]
pub(super) struct Run {
    pub(super) tunnel: Arc<Tunnel>,
    gate: Arc<Gate>,
    /// Where packets come in, unless by a descriptor.
    pub(super) input: Option<Arc<BatchInput>>,
}

impl Run {
    fn has_ended(&self) -> bool {
        matches!(self.tunnel.state(), State::Stopped | State::Failed { .. })
    }

    fn end(&self) {
        self.tunnel.stop_within(PATIENCE);
        self.gate.close();
    }
}

/// What packets come from and go to, made when the MTU is known.
pub(super) type Attach = Box<dyn FnOnce(u16, &Arc<Gate>) -> (Tun, Option<Arc<BatchInput>>) + Send>;

impl Life {
    pub(super) fn new(platform: Option<Arc<dyn Platform>>) -> Arc<Self> {
        Arc::new(Self {
            platform,
            line: Arc::default(),
            phase: Mutex::default(),
            stops: AtomicU64::new(0),
            stopping: AtomicUsize::new(0),
            phone: Mutex::default(),
            events: Events::default(),
        })
    }

    /// Starts, after whatever starts or stops now.
    pub(super) async fn start(self: &Arc<Self>, config: String, attach: Attach) -> Result<(), TunnelError> {
        if self.stopping.load(Ordering::SeqCst) == 0 && self.is_on() {
            return Err(TunnelError::AlreadyStarted);
        }
        let (answer, started) = oneshot::channel();
        let (life, place) = (Arc::clone(self), self.line.join());
        let stops = self.stops.load(Ordering::SeqCst);
        let start = move || {
            let result = shielded(|| {
                let config = config::read(&config)?.config;
                place.wait();
                if answer.is_closed() {
                    return Err(TunnelError::Cancelled); // nobody wants it any more
                }
                life.carry_out_start(config, attach, stops)
            });
            if answer.send(result).is_err_and(|result| result.is_ok()) {
                life.carry_out_stop(Clock::Boot.now(), false); // whoever wanted it has gone
            }
            drop(place);
        };
        task::detach("anytls-start", start).map_err(|error| TunnelError::resources(&error))?;
        started
            .await
            .unwrap_or_else(|_| Err(TunnelError::Internal { reason: "the start was lost".to_owned() }))
    }

    fn carry_out_start(&self, config: Config, attach: Attach, stops: u64) -> Result<(), TunnelError> {
        let is_called_off = || self.stops.load(Ordering::SeqCst) != stops;
        if is_called_off() {
            return Err(TunnelError::Cancelled);
        }
        if self.is_on() {
            return Err(TunnelError::AlreadyStarted);
        }
        let before = mem::replace(&mut *lock(&self.phase), Phase::Starting);
        if let Phase::Running(run) = before {
            run.gate.close();
        }
        self.events.unmute();

        let starting = Starting(self);
        let gate = Arc::new(Gate::default());
        let (tun, input) = attach(config.tun.mtu.get(), &gate);
        let outside = outside(self.platform.clone(), &gate);
        let (level, phone) = (config.log.level, lock(&self.phone).clone());
        let tunnel = task::block_on(Tunnel::start_with(config, tun, outside, phone));
        let tunnel = tunnel.map_err(|error| TunnelError::resources(&error))??;
        let run = Run { tunnel: Arc::new(tunnel), gate, input };
        if is_called_off() {
            run.end();
            return Err(TunnelError::Cancelled);
        }
        logging::set_config_level(level);
        starting.finish(run);
        Ok(())
    }

    /// Whether it runs, or is about to.
    fn is_on(&self) -> bool {
        match &*lock(&self.phase) {
            Phase::Starting => true,
            Phase::Running(run) => !run.has_ended(),
            Phase::Stopped(_) | Phase::Stopping(_) => false,
        }
    }

    /// Stops, after whatever starts or stops now: a second at most. A stop from inside a listener cannot be heard
    /// by any before it returns.
    pub(super) async fn stop(self: &Arc<Self>) {
        let asked_at = Clock::Boot.now();
        self.stops.fetch_add(1, Ordering::SeqCst);
        let is_listener = self.events.is_telling_here();
        if self.line.is_empty() && matches!(&*lock(&self.phase), Phase::Stopped(_)) {
            return;
        }
        let (done, stopped) = oneshot::channel();
        let (life, place) = (Arc::clone(self), self.line.join());
        self.stopping.fetch_add(1, Ordering::SeqCst);
        let stop = move || {
            if place.wait_within(rest_of_a_stop(asked_at)) {
                life.carry_out_stop(asked_at, is_listener);
            } else {
                // A start that hangs; it will find itself called off.
                life.events.mute_after(&State::Stopped, Duration::ZERO);
            }
            drop(place);
            life.stopping.fetch_sub(1, Ordering::SeqCst);
            let _nobody_waits = done.send(());
        };
        if task::detach("anytls-stop", stop).is_err() {
            self.carry_out_stop(asked_at, is_listener); // there is no thread left: the caller's has to do
            self.stopping.fetch_sub(1, Ordering::SeqCst);
        }
        let _or_done = stopped.await;
    }

    fn carry_out_stop(&self, asked_at: Moment, is_listener: bool) {
        let run = {
            let mut phase = lock(&self.phase);
            let Phase::Running(run) = &*phase else { return };
            let run = run.clone();
            *phase = Phase::Stopping(run.clone());
            run
        };
        run.end();
        let counted = Box::new(run.tunnel.stats().into());
        let before = mem::replace(&mut *lock(&self.phase), Phase::Stopped(counted));
        drop((before, run));
        let limit = if is_listener { Duration::ZERO } else { rest_of_a_stop(asked_at) };
        self.events.mute_after(&State::Stopped, limit);
    }

    /// Ends what runs, without waiting: the owner goes.
    pub(super) fn abandon(&self) {
        self.stops.fetch_add(1, Ordering::SeqCst);
        let before = mem::take(&mut *lock(&self.phase));
        if let Phase::Running(run) = before {
            run.gate.close();
        }
    }

    /// What runs.
    pub(super) fn running(&self) -> Result<Run, TunnelError> {
        match &*lock(&self.phase) {
            Phase::Running(run) if !run.has_ended() => Ok(run.clone()),
            Phase::Running(_) | Phase::Stopped(_) | Phase::Starting | Phase::Stopping(_) => {
                Err(TunnelError::NotStarted)
            }
        }
    }

    pub(super) fn state(&self) -> State {
        match &*lock(&self.phase) {
            Phase::Stopped(_) => State::Stopped,
            Phase::Starting => State::Starting,
            Phase::Running(run) => run.tunnel.state(),
            Phase::Stopping(_) => State::Stopping,
        }
    }

    pub(super) fn stats(&self) -> TunnelStats {
        let tunnel = match &*lock(&self.phase) {
            Phase::Stopped(stats) => return (**stats).clone(),
            Phase::Starting => return TunnelStats::default(),
            Phase::Running(run) | Phase::Stopping(run) => Arc::clone(&run.tunnel),
        };
        tunnel.stats().into()
    }

    /// Notes something about the phone, and tells the tunnel if there is one.
    pub(super) fn tell(&self, note: impl FnOnce(&mut Phone), tell: impl FnOnce(&Tunnel)) {
        let phase = lock(&self.phase); // before the phone, as a start has it
        note(&mut lock(&self.phone));
        if let Phase::Running(run) = &*phase {
            tell(&run.tunnel);
        }
    }

    /// Tells the listeners what is new to them. Goes on until its owner drops it.
    pub(super) async fn tell_listeners(self: Arc<Self>) {
        let clock = Clock::Boot;
        let mut alarm = Alarm::default();
        loop {
            let mut states = self.running().ok().map(|run| run.tunnel.watch_state());
            if let Some(states) = &mut states {
                states.mark_unchanged();
            }
            let state = self.state();
            let is_watched = states.is_some() && lock(&self.phone).power == pool::Power::Interactive;
            let due = match self.events.next(&state, is_watched, clock.now()) {
                Next::Wait(due) => due,
                Next::Tell(listener, what) => {
                    let event = match what {
                        What::State => Event::State { state: TunnelState::of(&state, clock.now()) },
                        What::Stats => Event::Stats { stats: self.stats() },
                    };
                    let told = shielded(|| Ok(listener.on_event(event)));
                    if let Ok(Err(error)) = told {
                        tracing::warn!(error = %Private(&error), "a listener has failed");
                    }
                    drop(listener); // calls into the app, perhaps
                    self.events.told();
                    // Where the owner may end this thread, between one callback and the next.
                    tokio::task::yield_now().await;
                    continue;
                }
            };
            tokio::select! {
                () = self.events.news.notified() => {}
                () = changed(states) => {}
                () = poll_fn(|cx| alarm.poll(cx, due, clock)) => {}
            }
        }
    }
}

/// What is left of the second.
fn rest_of_a_stop(asked_at: Moment) -> Duration {
    STOP_DEADLINE.saturating_sub(Clock::Boot.now().since(asked_at))
}

/// Resolves when the state is another; never without a tunnel, or after its last state.
async fn changed(states: Option<watch::Receiver<State>>) {
    if let Some(mut states) = states
        && states.changed().await.is_ok()
    {
        return;
    }
    std::future::pending().await
}

/// A start under way. Dropping it is the end of it, unless it has finished.
struct Starting<'a>(&'a Life);

impl Starting<'_> {
    fn finish(self, run: Run) {
        let mut phase = lock(&self.0.phase);
        // What was said since the start began; the rest is no news.
        let Phone { path, power, pressure } = lock(&self.0.phone).clone();
        if let Some(path) = path {
            run.tunnel.network_changed(path);
        }
        run.tunnel.set_power(power);
        run.tunnel.memory_pressure(pressure);
        *phase = Phase::Running(run);
    }
}

impl Drop for Starting<'_> {
    fn drop(&mut self) {
        let mut phase = lock(&self.0.phase);
        if matches!(&*phase, Phase::Starting) {
            *phase = Phase::default();
        }
        drop(phase);
        self.0.events.news.notify_one();
    }
}

/// Those who start or stop, one after the other, in the order in which they were asked to.
#[derive(Default)]
struct Line {
    queue: Mutex<Queue>,
    moved: Condvar,
}

#[derive(Default)]
struct Queue {
    next: u64,
    first: u64,
    /// Who has left from behind the first.
    gone: BTreeSet<u64>,
}

/// A place in the line, left by dropping it.
struct Place {
    line: Arc<Line>,
    number: u64,
}

impl Line {
    fn join(self: &Arc<Self>) -> Place {
        let mut queue = lock(&self.queue);
        queue.next += 1;
        Place { line: Arc::clone(self), number: queue.next - 1 }
    }

    fn is_empty(&self) -> bool {
        let queue = lock(&self.queue);
        queue.first == queue.next
    }
}

impl Place {
    fn wait(&self) {
        let Line { queue, moved } = &*self.line;
        drop(moved.wait_while(lock(queue), |queue| queue.first != self.number));
    }

    /// Whether its turn comes within `limit`.
    fn wait_within(&self, limit: Duration) -> bool {
        let Line { queue, moved } = &*self.line;
        let waited = moved.wait_timeout_while(lock(queue), limit, |queue| queue.first != self.number);
        waited.unwrap_or_else(PoisonError::into_inner).0.first == self.number
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut queue = lock(&self.line.queue);
        queue.gone.insert(self.number);
        let mut first = queue.first;
        while queue.gone.remove(&first) {
            first += 1;
        }
        queue.first = first;
        self.line.moved.notify_all();
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
