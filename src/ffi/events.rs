//! Listeners, each told what is new to it, on one thread.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};
use std::time::Duration;

use tokio::sync::Notify;

use super::{EventListener, TunnelState, TunnelStats};
use crate::proto::timers::Moment;
use crate::tunnel::State;

/// What a listener is told.
#[allow(clippy::large_enum_variant)] // it lives for one call, and UniFFI knows no boxes
#[derive(Clone, Debug, PartialEq, Eq, uniffi::Enum)]
pub enum Event {
    /// The state, first as it is, then whenever it is another.
    State {
        /// The new one.
        state: TunnelState,
    },
    /// The counters, at the interval that was asked for, while the tunnel runs and somebody looks at the phone.
    Stats {
        /// As of now.
        stats: TunnelStats,
    },
}

/// How often a listener may be told the stats.
const LEAST_INTERVAL: Duration = Duration::from_millis(100);

/// Who listens, and what each has heard. Nothing waits in a queue: a listener is told what is true when it is
/// ready to hear it.
#[derive(Default)]
pub(super) struct Events {
    listeners: Mutex<Listeners>,
    /// Somebody came, or there may be something new.
    pub(super) news: Notify,
    /// A listener has heard what there was to hear.
    heard: Condvar,
}

#[derive(Default)]
struct Listeners {
    last_id: u64,
    all: Vec<Listener>,
    /// The thread that is in a listener's hands now.
    telling: Option<ThreadId>,
}

struct Listener {
    id: u64,
    app: Arc<dyn EventListener>,
    told: Option<State>,
    /// Nothing more until the next start: the tunnel has stopped since it subscribed.
    is_muted: bool,
    stats_interval: Option<Duration>,
    stats_due: Option<Moment>,
}

/// What is to be done about the listeners now.
pub(super) enum Next {
    /// Tell this one of the state, or else of the stats.
    Tell(Arc<dyn EventListener>, What),
    /// Wait for news, or for the time when stats are due.
    Wait(Option<Moment>),
}

/// What a listener is to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    State,
    Stats,
}

impl Listener {
    fn what_is_due(&mut self, state: &State, is_watched: bool, now: Moment) -> Option<What> {
        let interval = self.stats_interval.filter(|_| is_watched && !self.is_muted);
        self.stats_due = interval.map(|interval| self.stats_due.unwrap_or(now + interval));
        if !self.is_muted && self.told.as_ref() != Some(state) {
            self.told = Some(state.clone());
            return Some(What::State);
        }
        self.stats_due.take_if(|at| *at <= now)?;
        self.stats_due = interval.map(|interval| now + interval);
        Some(What::Stats)
    }
}

impl Events {
    /// Adds a listener; its number.
    pub(super) fn add(&self, app: Arc<dyn EventListener>, stats_interval: Option<Duration>) -> u64 {
        let mut listeners = self.lock();
        listeners.last_id += 1;
        let id = listeners.last_id;
        let stats_interval = stats_interval.map(|interval| interval.max(LEAST_INTERVAL));
        let listener = Listener { id, app, told: None, is_muted: false, stats_interval, stats_due: None };
        listeners.all.push(listener);
        drop(listeners);
        self.news.notify_one();
        id
    }

    /// Takes a listener off.
    pub(super) fn remove(&self, id: u64) {
        let mut listeners = self.lock();
        let place = listeners.all.iter().position(|listener| listener.id == id);
        let removed = place.map(|place| listeners.all.swap_remove(place));
        drop(listeners);
        drop(removed); // calls into the app
        self.heard.notify_all();
    }

    /// What is due at `now`; `is_watched` says whether stats are of interest. What is given is taken as told, and
    /// its listener is asked last the next time, so that none keeps the others waiting.
    pub(super) fn next(&self, state: &State, is_watched: bool, now: Moment) -> Next {
        let mut listeners = self.lock();
        let due = |one: &mut Listener| {
            one.what_is_due(state, is_watched, now).map(|what| (what, Arc::clone(&one.app)))
        };
        let found = listeners.all.iter_mut().enumerate().find_map(|(place, one)| Some((place, due(one)?)));
        let Some((place, (what, app))) = found else {
            return Next::Wait(listeners.all.iter().filter_map(|listener| listener.stats_due).min());
        };
        listeners.all[place..].rotate_left(1);
        listeners.telling = Some(thread::current().id());
        Next::Tell(app, what)
    }

    /// What [`next`](Self::next) gave has been told.
    pub(super) fn told(&self) {
        self.lock().telling = None;
        self.heard.notify_all();
    }

    /// Whether the caller is a listener that is being told something.
    pub(super) fn is_telling_here(&self) -> bool {
        self.lock().telling == Some(thread::current().id())
    }

    /// Lets everybody hear again.
    pub(super) fn unmute(&self) {
        self.lock().all.iter_mut().for_each(|listener| listener.is_muted = false);
        self.news.notify_one();
    }

    /// Waits until everybody has heard of `last`, for `limit` at most; nobody who listens now hears anything
    /// after that.
    pub(super) fn mute_after(&self, last: &State, limit: Duration) {
        self.news.notify_one();
        let is_unheard = |listeners: &mut Listeners| {
            listeners.telling.is_some()
                || listeners.all.iter().any(|one| !one.is_muted && one.told.as_ref() != Some(last))
        };
        let listeners = self.lock();
        let waited = self.heard.wait_timeout_while(listeners, limit, is_unheard);
        let (mut listeners, _) = waited.unwrap_or_else(PoisonError::into_inner);
        listeners.all.iter_mut().for_each(|listener| listener.is_muted = true);
    }

    fn lock(&self) -> MutexGuard<'_, Listeners> {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ffi::CallbackError;

    const START: Moment = Moment::from_origin(Duration::from_secs(1000));
    const SECOND: Duration = Duration::from_secs(1);

    struct Deaf;

    impl EventListener for Deaf {
        fn on_event(&self, _: Event) -> Result<(), CallbackError> {
            Ok(())
        }
    }

    fn with(intervals: &[Option<Duration>]) -> Events {
        let events = Events::default();
        for interval in intervals {
            events.add(Arc::new(Deaf), *interval);
        }
        events
    }

    /// What is told at `now`, in order, and when something is due again.
    fn told(events: &Events, state: &State, is_watched: bool, now: Moment) -> (Vec<What>, Option<Moment>) {
        let mut all = Vec::new();
        loop {
            match events.next(state, is_watched, now) {
                Next::Tell(_, what) => all.push(what),
                Next::Wait(due) => return (all, due),
            }
            events.told();
        }
    }

    #[test]
    fn a_state_is_told_once_to_each() {
        let events = with(&[None, None]);
        assert_eq!(told(&events, &State::Stopped, false, START), (vec![What::State; 2], None));
        assert_eq!(told(&events, &State::Stopped, false, START), (vec![], None));
        assert_eq!(told(&events, &State::Starting, false, START), (vec![What::State; 2], None));
    }

    #[test]
    fn stats_are_due_at_their_interval_and_only_while_somebody_looks() {
        let events = with(&[Some(SECOND), None]);
        let due = Some(START + SECOND);
        assert_eq!(told(&events, &State::Connected, true, START), (vec![What::State; 2], due));
        assert_eq!(told(&events, &State::Connected, true, START), (vec![], due));
        let later = START + SECOND;
        assert_eq!(told(&events, &State::Connected, true, later), (vec![What::Stats], Some(later + SECOND)));
        let dark = later + SECOND;
        assert_eq!(told(&events, &State::Connected, false, dark), (vec![], None), "nobody looks: no wake-up");
        let light = dark + SECOND;
        assert_eq!(told(&events, &State::Connected, true, light), (vec![], Some(light + SECOND)));
    }

    #[test]
    fn a_listener_that_always_has_something_due_does_not_keep_the_others_waiting() {
        let events = with(&[Some(LEAST_INTERVAL), Some(LEAST_INTERVAL)]);
        let mut now = START;
        let mut apps = Vec::new();
        told(&events, &State::Connected, true, now);
        for _ in 0..4 {
            now = now + LEAST_INTERVAL; // as long as telling one takes
            let Next::Tell(app, What::Stats) = events.next(&State::Connected, true, now) else {
                panic!("stats are due");
            };
            apps.push(Arc::as_ptr(&app).cast::<()>());
            events.told();
        }
        assert_ne!(apps[0], apps[1]);
        assert_eq!(apps[..2], apps[2..]);
    }

    #[test]
    fn who_is_muted_hears_nothing_until_the_next_start() {
        let events = with(&[Some(SECOND)]);
        told(&events, &State::Stopped, true, START);
        events.mute_after(&State::Stopped, Duration::ZERO);
        assert_eq!(told(&events, &State::Starting, true, START + SECOND), (vec![], None));
        events.add(Arc::new(Deaf), None);
        assert_eq!(
            told(&events, &State::Stopped, true, START + SECOND),
            (vec![What::State], None),
            "the new one"
        );
        events.unmute();
        assert_eq!(told(&events, &State::Starting, false, START + SECOND).0, vec![What::State; 2]);
    }
}
