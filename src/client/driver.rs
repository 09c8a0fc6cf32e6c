//! One session's awaits: what arrives goes in, what waits goes out, and those concerned are woken.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use rand::rngs::StdRng;

use super::link::Link;
use crate::clock::Alarm;
use crate::proto::frame::MAX_RECORD_BYTES;
use crate::proto::session::{Event, Record, SessionError};
use crate::transport::{BURST_RECORDS, Wire, WireRead};

/// How long a session that we end may take to say goodbye to a peer that does not read.
const GOODBYE: Duration = Duration::from_millis(500);

/// Drives one session until it ends, and gives the reason.
///
/// Events that are not for a waiting stream go to `on_event`, which must not block. Dropping the driver
/// drops the connection at once and fails the streams; a session that should end in good order is failed
/// through its [`Link`].
pub(crate) struct Driver<W, F> {
    wire: W,
    link: Arc<Link>,
    on_event: F,
    rng: StdRng,
    alarm: Alarm,
    /// The record being built; kept for its capacity.
    record: Vec<u8>,
    events: Vec<Event>,
    wakers: Vec<Waker>,
    /// Why the session has ended; set while the goodbye is under way.
    ending: Option<SessionError>,
}

impl<W: Wire + Unpin, F: FnMut(Event) + Unpin> Driver<W, F> {
    pub(crate) fn new(wire: W, link: Arc<Link>, rng: StdRng, on_event: F) -> Self {
        Self {
            wire,
            link,
            on_event,
            rng,
            alarm: Alarm::default(),
            record: Vec::new(),
            events: Vec::new(),
            wakers: Vec::new(),
            ending: None,
        }
    }

    /// Reads, times out and writes, as far as all of that goes without waiting; true to be called again soon.
    fn advance(&mut self, cx: &mut Context<'_>) -> bool {
        let link = Arc::clone(&self.link);
        let clock = link.clock();
        let now = clock.now();
        let mut state = link.lock();
        state.register_driver(cx);
        let session = &mut state.session;

        let mut again = false;
        if session.wants_input() {
            let read = self.wire.poll_read(cx, &mut |bytes| {
                session.handle_input(bytes, now);
                session.wants_input()
            });
            match read {
                Poll::Ready(Ok(WireRead::More)) => again = true,
                Poll::Ready(Ok(WireRead::Paused)) | Poll::Pending => {}
                Poll::Ready(Ok(WireRead::End)) => session.handle_end(Ok(()), now),
                Poll::Ready(Err(error)) => session.handle_end(Err(error), now),
            }
        }
        if session.poll_timeout().is_some_and(|due| due <= now) {
            session.handle_timeout(now);
        }
        loop {
            match self.wire.poll_flush(cx) {
                Poll::Pending => break,
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => {
                    session.handle_end(Err(error), now);
                    break;
                }
            }
            match self.queue_burst(session) {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => {
                    session.handle_end(Err(error), now);
                    break;
                }
            }
        }
        if self.alarm.poll(cx, session.poll_timeout(), clock).is_ready() {
            again = true;
        }
        self.ending = session.failure().cloned();

        while let Some(event) = state.session.poll_event() {
            match state.take_waiting(event) {
                Ok(waker) => self.wakers.extend(waker),
                Err(Event::Idle) if self.ending.is_some() => {} // idle, and dead
                Err(event) => self.events.push(event),
            }
        }
        again
    }

    /// Encrypts what may leave in one write; false when nothing waits.
    fn queue_burst(&mut self, session: &mut crate::proto::session::Session) -> std::io::Result<bool> {
        for queued in 0..BURST_RECORDS {
            let Some(kind) = session.poll_record(&mut self.rng, &mut self.record) else {
                if self.record.capacity() > 0 {
                    self.record = Vec::new(); // idle: nothing to build a record for
                }
                return Ok(queued > 0);
            };
            debug_assert!(self.record.len() <= MAX_RECORD_BYTES);
            self.wire.queue_record(&self.record)?;
            if kind == Record::Shaped {
                break; // protocol.md#padding-scheme: one record, one flush
            }
        }
        Ok(true)
    }

    /// Outside the lock: tells those whom the events concern.
    fn pass_on(&mut self) {
        for waker in self.wakers.drain(..) {
            waker.wake();
        }
        for event in self.events.drain(..) {
            (self.on_event)(event);
        }
    }
}

impl<W, F> Drop for Driver<W, F> {
    fn drop(&mut self) {
        self.link.abandon();
    }
}

impl<W: Wire + Unpin, F: FnMut(Event) + Unpin> Future for Driver<W, F> {
    type Output = SessionError;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<SessionError> {
        let this = &mut *self;
        if this.ending.is_none() {
            let again = this.advance(cx);
            this.pass_on();
            if this.ending.is_none() {
                if again {
                    cx.waker().wake_by_ref(); // after everybody else has had a turn
                }
                return Poll::Pending;
            }
            this.alarm = Alarm::default();
        }
        let clock = this.link.clock();
        let deadline = this.alarm.deadline().unwrap_or_else(|| clock.now() + GOODBYE);
        if this.wire.poll_close(cx).is_pending() && this.alarm.poll(cx, Some(deadline), clock).is_pending() {
            return Poll::Pending;
        }
        Poll::Ready(this.ending.clone().unwrap_or(SessionError::Closed))
    }
}
