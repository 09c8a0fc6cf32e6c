//! One session's awaits: what arrives goes in, what waits goes out, and those concerned are woken.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use super::counters::Counters;
use super::link::{Link, LinkState, News};
use crate::clock::Alarm;
use crate::entropy::SharedGenerator;
use crate::proto::frame::MAX_RECORD_BYTES;
use crate::proto::session::{Event, Record, Session, SessionCounters, SessionError};
use crate::transport::{Wire, WireRead};

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
    generator: SharedGenerator,
    alarm: Alarm,
    /// The record being built; kept for its capacity.
    record: Vec<u8>,
    uplink: Option<Uplink>,
    /// Where the session's counters are added up, and what of them is there.
    totals: Option<(Arc<Counters>, SessionCounters)>,
    /// Why the session has ended; set while the goodbye is under way.
    ending: Option<SessionError>,
}

/// What was still on its way when a heartbeat was asked for. On a slow network, megabytes may stand before it
/// in the system's buffer: as long as they move, its answer is not late.
struct Uplink {
    /// Where the heartbeat's own bytes end; `None` as long as they wait for their turn.
    mark: Option<u64>,
    acknowledged: u64,
}

impl<W: Wire + Unpin, F: FnMut(Event) + Unpin> Driver<W, F> {
    pub(crate) fn new(wire: W, link: Arc<Link>, generator: SharedGenerator, on_event: F) -> Self {
        Self {
            wire,
            link,
            on_event,
            generator,
            alarm: Alarm::default(),
            record: Vec::new(),
            uplink: None,
            totals: None,
            ending: None,
        }
    }

    /// Adds the session's counters to `totals` as they move.
    pub(super) fn counting(mut self, totals: Arc<Counters>) -> Self {
        self.totals = Some((totals, SessionCounters::default()));
        self
    }

    /// Reads, times out and writes, as far as all of that goes without waiting; true to be called again soon.
    fn advance(&mut self, cx: &mut Context<'_>) -> bool {
        let link = Arc::clone(&self.link);
        let clock = link.clock();
        let now = clock.now();
        let mut state = link.lock();
        state.register_driver(cx);
        let LinkState { session, errands, .. } = &mut *state;

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
        if std::mem::take(&mut errands.inspect) && self.wire.is_in_doubt() {
            session.fail(SessionError::NoAnswer);
        }
        if let Some(watch) = errands.watch.take() {
            self.wire.watch_by_system(watch);
        }
        if session.heart_deadline().is_some_and(|due| due <= now) && self.is_uplink_moving() {
            session.excuse_heart(now);
        }
        if session.poll_timeout().is_some_and(|due| due <= now) {
            let progress = self.wire.progress();
            session.set_delivered(progress.is_none_or(|progress| progress.acknowledged >= progress.queued));
            session.handle_timeout(now);
        }
        loop {
            match self.wire.poll_flush(cx) {
                Poll::Pending => {
                    self.record = Vec::new(); // a peer that does not read costs no more than it must
                    break;
                }
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
        self.mark_uplink(session);
        if self.alarm.poll(cx, session.poll_timeout(), clock).is_ready() {
            again = true;
        }
        self.ending = session.failure().cloned();
        if let Some((totals, added)) = &mut self.totals {
            let counters = session.counters();
            totals.add_session(added, &counters);
            *added = counters;
        }
        again
    }

    /// Remembers where a heartbeat ends that has just been asked for.
    fn mark_uplink(&mut self, session: &Session) {
        if session.heart_deadline().is_none() {
            self.uplink = None;
            return;
        }
        if self.uplink.as_ref().is_some_and(|uplink| uplink.mark.is_some()) {
            return;
        }
        let Some(progress) = self.wire.progress() else { return };
        let mark = (!session.is_heart_queued()).then_some(progress.queued);
        let acknowledged = self.uplink.as_ref().map_or(progress.acknowledged, |uplink| uplink.acknowledged);
        self.uplink = Some(Uplink { mark, acknowledged });
    }

    /// Whether the peer has acknowledged more of what stands before the heartbeat since the last look.
    fn is_uplink_moving(&mut self) -> bool {
        let (Some(uplink), Some(progress)) = (&mut self.uplink, self.wire.progress()) else { return false };
        let before = std::mem::replace(&mut uplink.acknowledged, progress.acknowledged);
        before < progress.acknowledged && uplink.mark.is_none_or(|mark| progress.acknowledged < mark)
    }

    /// Encrypts what may leave in one write; false when nothing waits.
    fn queue_burst(&mut self, session: &mut Session) -> std::io::Result<bool> {
        for queued in 0..self.wire.burst_records() {
            let Some(kind) = session.poll_record(&mut *self.generator.lock(), &mut self.record) else {
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
        while let Some(news) = self.link.poll_news() {
            match news {
                News::Wake(waker) => waker.wake(),
                News::Event(Event::Released | Event::Alive) if self.ending.is_some() => {} // and dead
                News::Event(event) => (self.on_event)(event),
            }
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
