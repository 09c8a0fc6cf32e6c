//! Datagrams both ways, over a stream of UDP over TCP.
//!
//! ```text
//! app ── datagram ──► header + bytes ──► stream ──► server: a UDP socket for all of them
//! app ◄─ datagram ─── Decoder ◄───────── stream
//! ```
//! One stream carries them in packet mode, each with its address: what the app sees is one endpoint, reached from
//! anywhere. Where a server turns out not to do that, it is connect mode, and one destination a stream.
//!
//! | file | subject |
//! |---|---|
//! | this one | an association, and the streams that serve it one after the other |
//! | `opening` | what a stream is opened for, and its first datagram |
//! | `relay` | datagrams over one stream |
//! | `outgoing` | a datagram on its way into the stream |
//! | `sink` | where the server's bytes go |
//! | `style` | what is known of the server |

mod opening;
mod outgoing;
mod relay;
mod sink;
mod style;

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use super::tcp::End;
use super::{Connect, Progress};
use crate::budget::{Account, Holding};
use crate::client::OpenError;
use crate::clock::Clock;
use crate::proto::target::Target;
use crate::proto::uot;

use opening::{Way, open};
use relay::{Relay, Stop};

pub use style::Style;

/// The app's side of an association.
pub trait Association: Send + Unpin + 'static {
    /// A datagram's bytes. Held no longer than until they are written, but for the first of an association.
    type Payload: AsRef<[u8]> + Send;

    /// The app's next datagram, and where it goes; `None` when no more will come.
    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<(Target, Self::Payload)>>;

    /// Ready once nobody listens any more, whatever is left to be received. Called in place of
    /// [`poll_recv`](Self::poll_recv), of which it may take the waker, while no datagram can be taken.
    fn poll_ended(&mut self, cx: &mut Context<'_>) -> Poll<()>;

    /// Takes a datagram for the app. Pending: there is no room, and nothing was taken. Called under a session's
    /// lock.
    fn poll_send(&mut self, cx: &mut Context<'_>, from: &Target, payload: &[u8]) -> Poll<()>;

    /// The server does not take this association.
    fn refuse(self);
}

/// Where an association's datagrams go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Each to its own destination, if the server does that. If not, to the first one's, and those for others are
    /// dropped.
    Packet,
    /// All to this one target, whatever destination they have; answers come from it.
    Connect(Target),
}

/// What became of an association that was served.
#[derive(Debug)]
pub struct Served<A> {
    /// How its stream ended; an error when none was opened.
    pub end: Result<End, OpenError>,
    /// The association, when it is the server's side that has ended: it can be [served](serve) again, which waits
    /// for its next datagram. `None` when it has ended itself, or was refused.
    pub association: Option<A>,
}

/// Serves an association from its next datagram on, which rides along with the request. `style` is what is known
/// of the server, and learns. What the relay holds of datagrams counts in `account`; one that comes in pieces and
/// finds no room there ends the stream.
///
/// An association that never had a stream is refused when none is opened, and when the server closes it at once
/// without any datagram. Whether it had one is what `progress` says, which is the association's own.
///
/// # Cancel safety
/// Dropping the future ends both sides.
pub async fn serve<A: Association>(
    mut association: A,
    mode: Mode,
    connect: &impl Connect,
    style: &Style,
    account: &Arc<Account>,
    clock: Clock,
    progress: &Progress,
) -> Served<A> {
    let is_first = !progress.is_open();
    let Some((to, payload)) = poll_fn(|cx| poll_recv(&mut association, cx)).await else {
        return Served::finished();
    };
    let way = match mode {
        Mode::Connect(target) => Way { mode: uot::Mode::Connect, destination: target, is_for_all: true },
        Mode::Packet if style.is_connect_only() => Way::connect_only(to),
        Mode::Packet => Way { mode: uot::Mode::Packet, destination: to, is_for_all: true },
    };
    let is_trial = way.mode == uot::Mode::Packet && !style.is_packet();
    let held = Holding::new(account);
    let opened = while_heard(&mut association, open(connect, &way, style, payload, &held)).await;
    let (stream, first) = match opened {
        Some(Ok(opened)) => opened,
        Some(Err(error)) => return Served::unopened(association, error, is_first),
        None => return Served::finished(),
    };
    let mut relay = Relay::new(association, stream, way, style, held, clock, progress);
    relay.hold(first, is_trial);
    let mut stop = poll_fn(|cx| relay.poll(cx)).await;

    if let (Stop::Closed, Some(first)) = (&stop, relay.take_kept())
        && !style.is_packet()
    {
        let Relay { mut association, stream, way, held, .. } = relay;
        drop(stream);
        let way = Way::connect_only(way.destination);
        tracing::debug!("the server has closed a stream in packet mode, trying connect mode");
        let payload = first.into_payload();
        let opened = while_heard(&mut association, open(connect, &way, style, payload, &held)).await;
        let stream = match opened {
            Some(Ok((stream, _))) => stream,
            Some(Err(error)) => return Served::unopened(association, error, is_first),
            None => return Served::finished(),
        };
        relay = Relay::new(association, stream, way, style, held, clock, progress);
        relay.is_second = true;
        stop = poll_fn(|cx| relay.poll(cx)).await;
    }
    match stop {
        Stop::App => Served::finished(),
        Stop::Closed if relay.is_refused() => Served::refused(relay.association, Ok(End::Finished), is_first),
        Stop::Closed => Served { end: Ok(End::Finished), association: Some(relay.association) },
        Stop::Failed(error) => Served { end: Ok(End::Server(error)), association: Some(relay.association) },
    }
}

impl<A: Association> Served<A> {
    /// Nobody listens any more.
    fn finished() -> Self {
        Self { end: Ok(End::Finished), association: None }
    }

    fn unopened(association: A, error: OpenError, is_first: bool) -> Self {
        let is_last = is_first || matches!(error, OpenError::Stopped);
        Self::refused(association, Err(error), is_last)
    }

    /// What had a stream before may have another later: refusing it would be for good.
    fn refused(association: A, end: Result<End, OpenError>, is_last: bool) -> Self {
        if !is_last {
            return Self { end, association: Some(association) };
        }
        association.refuse();
        Self { end, association: None }
    }
}

/// Does `work` unless nobody listens any more before it is done.
async fn while_heard<T>(association: &mut impl Association, work: impl Future<Output = T>) -> Option<T> {
    let mut work = pin!(work);
    poll_fn(|cx| match work.as_mut().poll(cx) {
        Poll::Ready(done) => Poll::Ready(Some(done)),
        Poll::Pending => association.poll_ended(cx).map(|()| None),
    })
    .await
}

/// The app's next datagram that has a length.
fn poll_recv<A: Association>(
    association: &mut A,
    cx: &mut Context<'_>,
) -> Poll<Option<(Target, A::Payload)>> {
    loop {
        match ready!(association.poll_recv(cx)) {
            Some((_, payload)) if u16::try_from(payload.as_ref().len()).is_err() => {}
            received => return Poll::Ready(received),
        }
    }
}

/// Of a datagram that was received here.
fn length(payload: &[u8]) -> u16 {
    u16::try_from(payload.len()).expect("longer ones are not received")
}

fn bytes(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}
