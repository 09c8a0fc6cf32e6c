//! TCP both ways, with the protocol's rules for the end of a stream.
//!
//! ```text
//! app ── bytes ──► stream        the app's FIN tells the server nothing: Fin would close both ways
//! app ◄─ bytes ─── stream        the server's Fin is the app's FIN, after all bytes before it
//!        RST ◄─── any failure    never a clean end
//! ```

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::AsyncWrite;

use super::{Connect, Flow};
use crate::client::{OpenError, Stream};
use crate::clock::{Alarm, Clock};
use crate::proto::frame::MAX_PSH_BYTES;
use crate::proto::target::{MAX_TARGET_BYTES, Target};

/// How long to wait for the app's first bytes, so that they ride along with the target. Long enough for
/// an app that sends as soon as it is connected, too short to be felt. protocol.md#padding-scheme
const FIRST_BYTES_WAIT: Duration = Duration::from_millis(5);

/// How long a server may go on saying nothing after the app has finished sending. protocol.md#stream
const LINGER: Duration = Duration::from_secs(60);

/// How a relay ended, and what it moved.
#[derive(Debug)]
pub struct Summary {
    /// Bytes from the app.
    pub up: u64,
    /// Bytes to the app.
    pub down: u64,
    /// Who ended it.
    pub end: End,
}

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
pub async fn serve<F: Flow>(
    mut flow: F,
    target: &Target,
    connect: &impl Connect,
    clock: Clock,
) -> Result<Summary, OpenError> {
    let first = match first_bytes(&mut flow, clock).await {
        Ok(first) => first,
        Err(error) => return Ok(Summary { up: 0, down: 0, end: End::App(error) }),
    };
    match connect.connect(target, &first).await {
        Ok(stream) => Ok(join(flow, stream, first.len(), target, connect, clock).await),
        Err(error) => {
            flow.abort();
            Err(error)
        }
    }
}

/// Joins `flow` and `stream`, which has taken `sent` bytes of the app already, until one of them ends.
pub async fn join<F: Flow>(
    flow: F,
    stream: Stream,
    sent: usize,
    target: &Target,
    connect: &impl Connect,
    clock: Clock,
) -> Summary {
    let up = u64::try_from(sent).unwrap_or(u64::MAX);
    let mut relay = Relay { flow, stream, up, down: 0, app: App::Sending, alarm: Alarm::default(), clock };
    let mut end = poll_fn(|cx| relay.poll(cx)).await;
    if matches!(end, End::Server(_)) && relay.up + relay.down == 0 && relay.stream.may_retry() {
        // The app has seen nothing of it.
        if let Ok(fresh) = connect.connect_fresh(target).await {
            relay.stream = fresh;
            end = poll_fn(|cx| relay.poll(cx)).await;
        }
    }
    let Relay { flow, stream, up, down, .. } = relay;
    match &end {
        End::Finished => {} // dropping the stream closes it, the flow has its FIN and sees to the rest
        End::App(_) => stream.abort(),
        End::Server(_) | End::Lingered => flow.abort(),
    }
    Summary { up, down, end }
}

struct Relay<F> {
    flow: F,
    stream: Stream,
    up: u64,
    down: u64,
    app: App,
    alarm: Alarm,
    clock: Clock,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum App {
    Sending,
    /// It has finished; the server may still answer until the alarm.
    Finished,
}

impl<F: Flow> Relay<F> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        if self.app == App::Sending
            && let Poll::Ready(end) = self.poll_up(cx)
        {
            match end {
                Ok(()) => self.app = App::Finished,
                Err(end) => return Poll::Ready(end),
            }
        }
        let down = self.down;
        if let Poll::Ready(end) = self.poll_down(cx) {
            return Poll::Ready(end);
        }
        if self.app == App::Finished {
            let deadline = match self.alarm.deadline() {
                Some(deadline) if down == self.down => deadline,
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

/// The app's first bytes, at most one frame of them, or none when it does not send at once.
async fn first_bytes(flow: &mut impl Flow, clock: Clock) -> io::Result<Vec<u8>> {
    let mut first = Vec::new();
    let mut alarm = Alarm::default();
    let deadline = clock.now() + FIRST_BYTES_WAIT;
    poll_fn(|cx| {
        let read = flow.poll_read_with(cx, &mut |bytes| {
            let count = bytes.len().min(MAX_FIRST_BYTES);
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

/// What fits a Psh beside the longest target.
const MAX_FIRST_BYTES: usize = MAX_PSH_BYTES - MAX_TARGET_BYTES;
