//! TCP both ways, with the protocol's rules for the end of a stream.
//!
//! ```text
//! app ── bytes ──► stream        the app's FIN tells the server nothing: Fin would close both ways
//! app ◄─ bytes ─── stream        the server's Fin is the app's FIN, after all bytes before it
//!        RST ◄─── any failure    never a clean end
//! ```

use std::future::poll_fn;
use std::io;
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::AsyncWrite;

use super::{Connect, Flow, Progress};
use crate::budget::FIRST_BYTES;
use crate::client::{OpenError, Stream};
use crate::clock::{Alarm, Clock};
use crate::proto::frame::MAX_PSH_BYTES;
use crate::proto::target::{MAX_TARGET_BYTES, Target};

/// How long to wait for the app's first bytes, so that they ride along with the target. Long enough for
/// an app that sends as soon as it is connected, too short to be felt. protocol.md#padding-scheme
const FIRST_BYTES_WAIT: Duration = Duration::from_millis(5);

/// How long a server may go on saying nothing after the app has finished sending. protocol.md#stream
const LINGER: Duration = Duration::from_secs(60);

/// Who ended a relay.
#[derive(Debug)]
pub enum End {
    /// The server finished, and the app has had all of it.
    Finished,
    /// The app's connection failed.
    App(io::Error),
    /// The stream failed.
    Server(io::Error),
    /// The app had finished, and the server said nothing for [a minute](self).
    Lingered,
}

/// Serves a flow that the app already sees as connected: its first bytes ride along with the target if
/// they come at once. The app sees a failure to connect as RST.
///
/// # Errors
/// When the stream was not opened.
///
/// # Cancel safety
/// Dropping the future ends both sides: the app sees a RST, the server a Fin after what the stream has taken.
pub async fn serve<F: Flow>(
    mut flow: F,
    target: &Target,
    connect: &impl Connect,
    clock: Clock,
    progress: &Progress,
) -> Result<End, OpenError> {
    let first = match first_bytes(&mut flow, clock).await {
        Ok(first) => first,
        Err(error) => return Ok(End::App(error)),
    };
    let stream = connect.connect(target, &first).await?;
    progress.add(u64::try_from(first.len()).unwrap_or(u64::MAX), 0);
    drop(first); // not kept while the flow lives
    Ok(join(flow, stream, target, connect, clock, progress).await)
}

/// Joins `flow` and `stream` until one of them ends. `progress` tells of what was moved, and begins with what
/// the stream has taken of the app already.
///
/// # Cancel safety
/// As [`serve`].
pub async fn join<F: Flow>(
    flow: F,
    stream: Stream,
    target: &Target,
    connect: &impl Connect,
    clock: Clock,
    progress: &Progress,
) -> End {
    progress.set_open();
    let mut relay =
        Relay { flow, stream, up: 0, down: 0, app: App::Sending, alarm: Alarm::default(), clock, progress };
    let mut end = poll_fn(|cx| relay.poll(cx)).await;
    let moved = progress.traffic();
    if matches!(end, End::Server(_)) && moved.up() + moved.down() == 0 && relay.stream.may_retry() {
        // The app has seen nothing of it.
        if let Ok(fresh) = connect.connect_fresh(target).await {
            relay.stream = fresh;
            end = poll_fn(|cx| relay.poll(cx)).await;
        }
    }
    match &end {
        End::App(_) => relay.stream.abort(),
        // Dropping the stream closes it; the flow has its FIN and sees to the rest, or is reset.
        End::Finished | End::Server(_) | End::Lingered => {}
    }
    end
}

struct Relay<'a, F> {
    flow: F,
    stream: Stream,
    /// Moved in this poll.
    up: u64,
    down: u64,
    app: App,
    alarm: Alarm,
    clock: Clock,
    progress: &'a Progress,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum App {
    Sending,
    /// It has finished; the server may still answer until the alarm.
    Finished,
}

impl<F: Flow> Relay<'_, F> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        let polled = self.poll_both(cx);
        self.progress.add(mem::take(&mut self.up), mem::take(&mut self.down));
        polled
    }

    fn poll_both(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        if self.app == App::Sending
            && let Poll::Ready(end) = self.poll_up(cx)
        {
            match end {
                Ok(()) => self.app = App::Finished,
                Err(end) => return Poll::Ready(end),
            }
        }
        if let Poll::Ready(end) = self.poll_down(cx) {
            return Poll::Ready(end);
        }
        if self.app == App::Finished {
            let deadline = match self.alarm.deadline() {
                Some(deadline) if self.down == 0 => deadline,
                _ => self.clock.now() + LINGER,
            };
            ready!(self.alarm.poll(cx, Some(deadline), self.clock));
            return Poll::Ready(End::Lingered);
        }
        Poll::Pending
    }

    /// Ready when the app has finished sending, or something broke.
    fn poll_up(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), End>> {
        let Self { flow, stream, .. } = self;
        // `take` needs a context of its own: the flow has the other.
        let waker = cx.waker().clone();
        loop {
            let mut written = None;
            let read = flow.poll_read_with(cx, &mut |bytes| {
                let result = Pin::new(&mut *stream).poll_write(&mut Context::from_waker(&waker), bytes);
                let taken = match &result {
                    Poll::Ready(Ok(taken)) => *taken,
                    Poll::Ready(Err(_)) | Poll::Pending => 0,
                };
                written = Some(result);
                taken
            });
            match written {
                None => return read.map(|read| read.map(drop).map_err(End::App)),
                Some(Poll::Pending) => return Poll::Pending,
                Some(Poll::Ready(Err(error))) => return Poll::Ready(Err(End::Server(error))),
                Some(Poll::Ready(Ok(taken))) => self.up += u64::try_from(taken).unwrap_or(u64::MAX),
            }
        }
    }

    /// Ready when the server has finished and the app has its FIN, or something broke.
    fn poll_down(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        let Self { flow, stream, .. } = self;
        let waker = cx.waker().clone();
        loop {
            let mut written = None;
            let read = stream.poll_read_with(cx, |bytes| {
                let result = Pin::new(&mut *flow).poll_write(&mut Context::from_waker(&waker), bytes);
                let taken = match &result {
                    Poll::Ready(Ok(taken)) => *taken,
                    Poll::Ready(Err(_)) | Poll::Pending => 0,
                };
                written = Some(result);
                taken
            });
            match written {
                Some(Poll::Pending) => return Poll::Pending,
                Some(Poll::Ready(Err(error))) => return Poll::Ready(End::App(error)),
                Some(Poll::Ready(Ok(taken))) => self.down += u64::try_from(taken).unwrap_or(u64::MAX),
                None => match ready!(read) {
                    Ok(_) => {
                        let shut = ready!(Pin::new(&mut *flow).poll_shutdown(cx));
                        return Poll::Ready(shut.map_or_else(End::App, |()| End::Finished));
                    }
                    Err(error) => return Poll::Ready(End::Server(error)),
                },
            }
        }
    }
}

/// The app's first bytes, as far as they are budgeted for, or none when it does not send at once.
async fn first_bytes(flow: &mut impl Flow, clock: Clock) -> io::Result<Vec<u8>> {
    let mut first = Vec::new();
    let mut alarm = Alarm::default();
    let deadline = clock.now() + FIRST_BYTES_WAIT;
    poll_fn(|cx| {
        let read = flow.poll_read_with(cx, &mut |bytes| {
            let count = bytes.len().min(FIRST_BYTES);
            first.extend_from_slice(&bytes[..count]);
            count
        });
        match read {
            Poll::Ready(result) => Poll::Ready(result.map(drop)),
            Poll::Pending => alarm.poll(cx, Some(deadline), clock).map(Ok),
        }
    })
    .await?;
    Ok(first)
}

/// They fit a Psh beside the longest target.
const _: () = assert!(FIRST_BYTES <= MAX_PSH_BYTES - MAX_TARGET_BYTES);
