//! Datagrams over one stream, until it ends.

use std::io;
use std::mem;
use std::task::{Context, Poll};
use std::time::Duration;

use super::opening::{First, Way};
use super::outgoing::Outgoing;
use super::sink::{Sink, SinkStop};
use super::{Association, Style, bytes, length, poll_recv};
use crate::budget::Holding;
use crate::client::Stream;
use crate::clock::{Alarm, Clock};
use crate::private::Private;
use crate::proto::timers::Moment;
use crate::proto::uot::{self, Decoder};
use crate::relay::Progress;

/// Datagrams moved each way in one poll, then others get a turn: as many as an app's queue holds.
const TURN: usize = 64;

/// How soon after its opening a server closes a stream that it does not take: one without packet mode does so on
/// the first bytes that it reads. Later it may be in good order: sing-box closes a stream that was idle, after
/// 10 s when the first destination's port is that of NTP or STUN, and after more on others.
const VERDICT: Duration = Duration::from_secs(5);

/// The longest datagram that is kept until the server has answered in packet mode. Servers that hold no longer
/// ones close the stream on them, which says nothing about the mode. protocol.md#udp-over-tcp-version-2
const MAX_KEPT_BYTES: usize = 16_000;

/// An association and its stream, joined.
pub(super) struct Relay<'a, A: Association> {
    pub(super) association: A,
    pub(super) stream: Stream,
    pub(super) way: Way,
    /// What waits in the decoder, or is kept or copied.
    pub(super) held: Holding,
    /// Whether another stream was closed in packet mode before.
    pub(super) is_second: bool,
    decoder: Decoder,
    outgoing: Outgoing<A::Payload>,
    /// The stream takes nothing any more; why will be read from it.
    is_deaf: bool,
    kept: Option<Kept<A::Payload>>,
    is_answered: bool,
    style: &'a Style,
    clock: Clock,
    opened_at: Moment,
    progress: &'a Progress,
    /// Moved in this poll.
    up: u64,
    down: u64,
}

/// The first datagram, until something comes back, or a close [says nothing](VERDICT) any more.
struct Kept<P> {
    first: First<P>,
    alarm: Alarm,
}

/// How a stream came to its end.
pub(super) enum Stop {
    /// The app has finished.
    App,
    /// The server has closed it in good order.
    Closed,
    Failed(io::Error),
}

impl<'a, A: Association> Relay<'a, A> {
    pub(super) fn new(
        association: A,
        stream: Stream,
        way: Way,
        style: &'a Style,
        held: Holding,
        clock: Clock,
        progress: &'a Progress,
    ) -> Self {
        progress.set_open();
        Self {
            association,
            stream,
            held,
            is_second: false,
            decoder: Decoder::new(way.mode),
            way,
            outgoing: Outgoing::none(),
            is_deaf: false,
            kept: None,
            is_answered: false,
            style,
            clock,
            opened_at: clock.now(),
            progress,
            up: 0,
            down: 0,
        }
    }

    /// Sees to what the stream was opened with. `is_trial` when it may have to be sent again: it is kept if there
    /// is room, so that servers that stay silent do not use up the account.
    pub(super) fn hold(&mut self, mut first: First<A::Payload>, is_trial: bool) {
        let whole = first.payload_bytes();
        if let Some((payload, written)) = first.take_rest() {
            self.outgoing = Outgoing::rest_of(payload, written);
            return;
        }
        self.up += bytes(whole);
        let has_room = first.held() <= self.held.allowance(0, usize::MAX);
        if is_trial && whole <= MAX_KEPT_BYTES && has_room {
            self.held.set(first.held());
            self.kept = Some(Kept { first, alarm: Alarm::default() });
        }
    }

    /// The first datagram, if the close that has come may be one of packet mode.
    pub(super) fn take_kept(&mut self) -> Option<First<A::Payload>> {
        self.kept.take().map(|kept| kept.first)
    }

    /// Whether the close that has come means that the server does not take what the stream was opened for.
    pub(super) fn is_refused(&self) -> bool {
        !self.is_answered && self.clock.now() < self.verdict_at()
    }

    fn verdict_at(&self) -> Moment {
        self.opened_at + VERDICT
    }

    /// Reads the stream first: no datagram is taken from the app for one that has ended.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Stop> {
        self.poll_kept(cx);
        let mut polled = self.poll_down(cx);
        if polled.is_pending() {
            polled = if self.is_deaf { self.poll_ended(cx) } else { self.poll_up(cx) };
        }
        self.progress.add(mem::take(&mut self.up), mem::take(&mut self.down));
        let kept = self.kept.as_ref().map_or(0, |kept| kept.first.held());
        self.held.set(self.decoder.buffered() + kept + self.outgoing.held());
        if polled.is_pending() && self.decoder.buffered() > 0 && self.held.is_over() {
            return Poll::Ready(Stop::Failed(io::ErrorKind::OutOfMemory.into()));
        }
        polled
    }

    /// Lets the first datagram go when its time is up; before the stream is read.
    fn poll_kept(&mut self, cx: &mut Context<'_>) {
        let verdict_at = self.verdict_at();
        if let Some(kept) = &mut self.kept
            && kept.alarm.poll(cx, Some(verdict_at), self.clock).is_ready()
        {
            self.kept = None;
        }
    }

    fn poll_up(&mut self, cx: &mut Context<'_>) -> Poll<Stop> {
        for _ in 0..TURN {
            match self.outgoing.poll_write(cx, &mut self.stream) {
                Poll::Ready(Ok(written)) => self.up += bytes(written),
                Poll::Ready(Err(_)) => {
                    self.is_deaf = true; // the other way finds out
                    return self.poll_ended(cx);
                }
                Poll::Pending => return self.poll_ended(cx),
            }
            let (to, payload) = match poll_recv(&mut self.association, cx) {
                Poll::Ready(Some(received)) => received,
                Poll::Ready(None) => return Poll::Ready(Stop::App),
                Poll::Pending => {
                    self.outgoing.idle();
                    return Poll::Pending;
                }
            };
            if !self.way.is_for_all && to != self.way.destination {
                tracing::debug!(to = %Private(&to), "datagram for another destination dropped");
                continue;
            }
            let length = length(payload.as_ref());
            self.outgoing.start(payload, |head| self.way.put_header(&to, length, self.style, head));
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// While no datagram of the app can be taken.
    fn poll_ended(&mut self, cx: &mut Context<'_>) -> Poll<Stop> {
        self.association.poll_ended(cx).map(|()| Stop::App)
    }

    fn poll_down(&mut self, cx: &mut Context<'_>) -> Poll<Stop> {
        let mut sink = Sink {
            association: &mut self.association,
            decoder: &mut self.decoder,
            destination: &self.way.destination,
            waker: cx.waker(),
            left: TURN,
            bytes: 0,
            is_answered: false,
            stop: None,
        };
        sink.take(&[]); // one that the app had no room for
        let polled = loop {
            match sink.stop.take() {
                None => {}
                Some(SinkStop::Full) => break Poll::Pending,
                Some(SinkStop::Turn) => {
                    cx.waker().wake_by_ref();
                    break Poll::Pending;
                }
                Some(SinkStop::Malformed(error)) => {
                    let error = io::Error::new(io::ErrorKind::InvalidData, error);
                    break Poll::Ready(Stop::Failed(error));
                }
            }
            let mut is_lent = false;
            let read = self.stream.poll_read_with(cx, |bytes| {
                is_lent = true;
                sink.take(bytes)
            });
            match read {
                Poll::Pending => break Poll::Pending,
                Poll::Ready(Err(error)) => break Poll::Ready(Stop::Failed(error)),
                Poll::Ready(Ok(_)) if is_lent => {}
                Poll::Ready(Ok(_)) => break Poll::Ready(Stop::Closed),
            }
        };
        self.down += sink.bytes;
        let is_answered = sink.is_answered;
        if is_answered && !mem::replace(&mut self.is_answered, true) {
            self.kept = None;
            match self.way.mode {
                uot::Mode::Packet => self.style.set_packet(),
                uot::Mode::Connect if self.is_second => self.style.set_connect_only(),
                uot::Mode::Connect => {}
            }
        }
        polled
    }
}
