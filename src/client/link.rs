//! A session, shared by its driver and the handles of its streams.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use crate::clock::Clock;
use crate::proto::frame::StreamId;
use crate::proto::session::{Event, Read, Session, SessionError, StreamError};
use crate::proto::settings::PeerVersion;
use crate::proto::target::Target;
use crate::proto::timers::Moment;
use crate::transport::SystemWatch;

/// The session behind its lock. Sections are short and never wait; wakers are called after it is released.
#[derive(Debug)]
pub(crate) struct Link {
    clock: Clock,
    state: Mutex<LinkState>,
}

#[derive(Debug)]
pub(super) struct LinkState {
    pub(super) session: Session,
    /// What the driver is to see to on the connection below, in its next turn.
    pub(super) errands: Errands,
    driver: Option<Waker>,
    wakers: HashMap<Waiting, Waker>,
}

/// Who of a stream waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Waiting {
    Reader(StreamId),
    Writer(StreamId),
}

/// What has happened on a session, and concerns somebody else.
pub(super) enum News {
    /// Somebody who waited for it.
    Wake(Waker),
    /// Whoever owns the session.
    Event(Event),
}

#[derive(Debug, Default)]
pub(super) struct Errands {
    /// End the session if the system has doubts about the peer.
    pub(super) inspect: bool,
    /// Have the system watch the peer.
    pub(super) watch: Option<SystemWatch>,
}

impl Link {
    pub(crate) fn new(session: Session, clock: Clock) -> Arc<Self> {
        let state = LinkState { session, errands: Errands::default(), driver: None, wakers: HashMap::new() };
        Arc::new(Self { clock, state: Mutex::new(state) })
    }

    pub(super) fn clock(&self) -> Clock {
        self.clock
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, LinkState> {
        // A panic elsewhere must not take every stream along; the session's own state is kept consistent
        // by statements that do not panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens a stream; see [`Session::open`].
    pub(crate) fn open(&self, target: &Target, first: &[u8]) -> Result<StreamId, SessionError> {
        self.with(|state, now| state.session.open(target, first, now))
    }

    /// Waits for the peer's answer.
    pub(crate) fn poll_open(&self, id: StreamId, cx: &Context<'_>) -> Poll<Result<(), StreamError>> {
        let mut state = self.lock();
        match state.session.is_open(id) {
            Ok(true) => Poll::Ready(Ok(())),
            Ok(false) => {
                state.register(Waiting::Reader(id), cx);
                Poll::Pending
            }
            Err(error) => Poll::Ready(Err(error)),
        }
    }

    /// Lends the stream's next bytes to `take`; ready with 0 at the end.
    pub(crate) fn poll_read_with(
        &self,
        id: StreamId,
        cx: &Context<'_>,
        take: impl FnOnce(&[u8]) -> usize,
    ) -> Poll<Result<usize, StreamError>> {
        let mut state = self.lock();
        let was_paused = !state.session.wants_input();
        let read = state.session.read_with(id, take)?;
        if read == Read::Empty {
            state.register(Waiting::Reader(id), cx);
            return Poll::Pending;
        }
        if was_paused && state.session.wants_input() {
            let driver = state.driver.clone();
            drop(state);
            wake(driver);
        }
        Poll::Ready(Ok(match read {
            Read::Bytes(count) => count,
            Read::Empty | Read::End => 0,
        }))
    }

    /// Takes bytes of the app for the stream.
    pub(crate) fn poll_write(
        &self,
        id: StreamId,
        cx: &Context<'_>,
        bytes: &[u8],
    ) -> Poll<Result<usize, StreamError>> {
        let mut state = self.lock();
        let taken = state.session.write(id, bytes)?;
        if taken == 0 && !bytes.is_empty() {
            state.register(Waiting::Writer(id), cx);
            return Poll::Pending;
        }
        let driver = state.driver.clone();
        drop(state);
        wake(driver);
        Poll::Ready(Ok(taken))
    }

    /// The app is done with the stream; see [`Session::close`].
    pub(crate) fn close(&self, id: StreamId) {
        self.with(|state, _| state.release(id, Session::close));
    }

    /// The app gave up on the stream; see [`Session::abort`].
    pub(crate) fn abort(&self, id: StreamId) {
        self.with(|state, _| state.release(id, Session::abort));
    }

    /// Server: how many streams are open.
    #[cfg(feature = "testserver")]
    pub(crate) fn stream_count(&self) -> usize {
        self.lock().session.stream_count()
    }

    /// Server: tells the client that the stream's target was reached.
    #[cfg(feature = "testserver")]
    pub(crate) fn accept(&self, id: StreamId) {
        self.with(|state, _| state.session.accept(id));
    }

    /// Server: tells the client why not, and closes the stream.
    #[cfg(feature = "testserver")]
    pub(crate) fn refuse(&self, id: StreamId, reason: &str) {
        self.with(|state, _| state.session.refuse(id, reason));
    }

    /// Asks the peer for a sign of life; see [`Session::beat`].
    pub(super) fn beat(&self) {
        self.with(|state, now| state.session.beat(now));
    }

    /// Finds out whether the peer is there: first what the system knows of it, then by asking; see
    /// [`Session::probe`].
    pub(super) fn probe(&self) {
        self.with(|state, now| {
            state.errands.inspect = true;
            state.session.probe(now);
        });
    }

    /// The device has left the network that the session was made on; see [`Session::strand`].
    pub(super) fn strand(&self) {
        self.with(|state, _| state.session.strand());
    }

    /// Another session has shown which version the peer speaks; see [`Session::learn_version`].
    pub(super) fn learn_version(&self, version: PeerVersion) {
        let mut state = self.lock();
        if state.session.peer().is_none() {
            state.session.learn_version(version);
            let driver = state.driver.clone();
            drop(state);
            wake(driver);
        }
    }

    /// Has the system watch the peer.
    pub(super) fn watch_by_system(&self, watch: SystemWatch) {
        self.with(|state, _| state.errands.watch = Some(watch));
    }

    /// There is a network, or none; see [`Session::set_online`].
    pub(super) fn set_online(&self, is_online: bool) {
        self.with(|state, _| state.session.set_online(is_online));
    }

    /// Has the driver look at its clock: the device has slept.
    pub(super) fn wake(&self) {
        self.with(|_, _| ());
    }

    /// Ends the session.
    pub(crate) fn fail(&self, reason: SessionError) {
        self.with(|state, _| state.session.fail(reason));
    }

    /// The driver is gone, and with it who would wake the streams: they fail, if the session has not yet.
    pub(super) fn abandon(&self) {
        let mut state = self.lock();
        state.session.fail(SessionError::Closed);
        state.driver = None;
        let wakers = std::mem::take(&mut state.wakers);
        drop(state);
        for waker in wakers.into_values() {
            waker.wake();
        }
    }

    /// The driver's next duty to others, which it does without the lock.
    pub(super) fn poll_news(&self) -> Option<News> {
        self.lock().poll_news()
    }

    /// Calls `change`, then wakes the driver, which passes on what follows from it.
    fn with<T>(&self, change: impl FnOnce(&mut LinkState, Moment) -> T) -> T {
        let now = self.clock.now();
        let mut state = self.lock();
        let result = change(&mut state, now);
        let driver = state.driver.clone();
        drop(state);
        wake(driver);
        result
    }
}

impl LinkState {
    pub(super) fn register_driver(&mut self, cx: &Context<'_>) {
        match &mut self.driver {
            Some(waker) => waker.clone_from(cx.waker()),
            None => self.driver = Some(cx.waker().clone()),
        }
    }

    fn poll_news(&mut self) -> Option<News> {
        loop {
            let waiting = match self.session.poll_event()? {
                Event::Readable(id) => Waiting::Reader(id),
                Event::Writable(id) => Waiting::Writer(id),
                event => return Some(News::Event(event)),
            };
            if let Some(waker) = self.wakers.remove(&waiting) {
                return Some(News::Wake(waker));
            }
        }
    }

    fn register(&mut self, waiting: Waiting, cx: &Context<'_>) {
        let waker = self.wakers.entry(waiting);
        waker.and_modify(|waker| waker.clone_from(cx.waker())).or_insert_with(|| cx.waker().clone());
    }

    fn release(&mut self, id: StreamId, how: fn(&mut Session, StreamId)) {
        self.wakers.remove(&Waiting::Reader(id));
        self.wakers.remove(&Waiting::Writer(id));
        how(&mut self.session, id);
        if self.session.stream_count() == 0 && self.wakers.is_empty() {
            self.wakers = HashMap::new(); // emptied, it keeps memory
        }
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

/// The driver's part, by hand.
#[cfg(test)]
impl Link {
    pub(crate) fn feed(&self, input: &[u8]) {
        let now = self.clock.now();
        let mut state = self.lock();
        state.session.handle_input(input, now);
        state.wake_all();
    }

    pub(crate) fn take_records(&self, rng: &mut impl rand::CryptoRng) -> Vec<u8> {
        let mut state = self.lock();
        let (mut all, mut record) = (Vec::new(), Vec::new());
        while state.session.poll_record(rng, &mut record).is_some() {
            all.extend_from_slice(&record);
        }
        state.wake_all();
        all
    }

    pub(crate) fn wants_input(&self) -> bool {
        self.lock().session.wants_input()
    }
}

#[cfg(test)]
impl LinkState {
    fn wake_all(&mut self) {
        while let Some(news) = self.poll_news() {
            if let News::Wake(waker) = news {
                waker.wake();
            }
        }
    }
}
