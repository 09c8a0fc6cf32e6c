//! An app that speaks DNS over TCP (RFC 7766).
//!
//! A query is read only when the app may have one more outstanding, so that back-pressure is the whole of flow
//! control: the place in the queue of answers is taken before the query is. What answers hold that are not
//! taken is bounded for all apps together: most are small, and the few large ones must not add up.

pub(super) mod seats;

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc::{self, OwnedPermit};

use super::framing::{Inbox, Outbox};
use crate::clock::{Alarm, Clock};
use crate::proto::timers::Moment;
use crate::relay::Flow;

/// Queries of one app without an answer: more than a stub resolver pipelines; then it is not read from.
const MAX_OUTSTANDING: usize = 16;

/// Answers that all apps together have not taken, in bytes: a thousand usual ones, or four of the largest.
const MAX_BACKLOG_BYTES: usize = 256 * 1024;

/// An answer of up to so much is given to an app that has taken all of its others, whatever the rest hold: who does
/// not read harms nobody else.
const ALWAYS_BYTES: usize = 4096;

/// The longest query: a name, and options of any use, have a few hundred bytes.
const MAX_QUERY_BYTES: usize = 4096;

/// After so long without a byte either way the connection is closed, as RFC 7766, section 6.2.3 advises: some
/// seconds, and every query is answered within five.
const IDLE_LIMIT: Duration = Duration::from_secs(10);

/// Bytes taken off the flow at once: several queries, and never much beyond one unfinished message.
const READ_BYTES: usize = 4096;

/// Serves one app until it ends, idles or breaks. `backlog` is that of all apps. `ask` is given each query and
/// must fill its slot or drop it.
///
/// # Errors
/// When the flow broke, or the app the protocol; the flow is dropped unshut then, so that the app sees a reset.
pub(super) async fn serve<F: Flow>(
    flow: F,
    backlog: &Backlog,
    clock: Clock,
    ask: impl FnMut(&[u8], Slot) + Unpin,
) -> io::Result<()> {
    let (asking, answers) = mpsc::channel(MAX_OUTSTANDING);
    let mut front = Front {
        flow,
        ask,
        inbox: Inbox::default(),
        outbox: Outbox::default(),
        under_way: None,
        asking: Some(asking),
        answers,
        backlog: [backlog.clone(), Backlog::default()],
        moved: clock.now(),
        alarm: Alarm::default(),
        clock,
    };
    poll_fn(|cx| front.poll(cx)).await?;
    front.flow.shutdown().await
}

struct Front<F, A> {
    flow: F,
    ask: A,
    inbox: Inbox,
    /// Holds one answer at most; the others wait in the queue.
    outbox: Outbox,
    under_way: Option<Held>,
    /// `None` once the app has finished sending.
    asking: Option<mpsc::Sender<Queued>>,
    answers: mpsc::Receiver<Queued>,
    /// That of all apps, and this one's.
    backlog: [Backlog; 2],
    /// When a byte last went either way.
    moved: Moment,
    alarm: Alarm,
    clock: Clock,
}

impl<F: Flow, A: FnMut(&[u8], Slot)> Front<F, A> {
    /// Ready when everything was answered and no more will be asked.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let mut has_moved = false;
            if self.poll_answers(cx, &mut has_moved)?.is_ready() {
                return Poll::Ready(Ok(()));
            }
            self.poll_queries(cx, &mut has_moved)?;
            if has_moved {
                self.moved = self.clock.now();
                continue;
            }
            ready!(self.alarm.poll(cx, Some(self.moved + IDLE_LIMIT), self.clock));
            let has_taken_all = self.outbox.is_empty();
            return Poll::Ready(if has_taken_all { Ok(()) } else { Err(io::ErrorKind::TimedOut.into()) });
        }
    }

    /// Writes answers while the app takes them; ready after the last.
    fn poll_answers(&mut self, cx: &mut Context<'_>, has_moved: &mut bool) -> Poll<io::Result<()>> {
        loop {
            if self.outbox.is_empty() {
                self.under_way = None;
                let Some((answer, held)) = ready!(self.answers.poll_recv(cx)) else {
                    return Poll::Ready(Ok(()));
                };
                *has_moved = true; // there is room for a query again
                if self.outbox.put(&answer).is_none() {
                    continue; // no DNS message: ours are shorter
                }
                self.under_way = Some(held);
            }
            ready!(self.outbox.poll_write(&mut self.flow, cx))?;
            *has_moved = true;
            if self.outbox.is_empty() {
                let _flows_flush_by_themselves = Pin::new(&mut self.flow).poll_flush(cx)?;
            }
        }
    }

    /// Reads queries while the app may ask more.
    fn poll_queries(&mut self, cx: &mut Context<'_>, has_moved: &mut bool) -> io::Result<()> {
        while let Some(asking) = &self.asking {
            let Ok(place) = asking.clone().try_reserve_owned() else { return Ok(()) };
            if let Some(query) = self.inbox.next() {
                *has_moved = true;
                if query.is_empty() {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, "an empty DNS message"));
                }
                (self.ask)(&query, Slot { place, backlog: self.backlog.clone() });
                continue;
            }
            if self.inbox.wanted().is_some_and(|length| length > MAX_QUERY_BYTES) {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "a DNS query of many kilobytes"));
            }
            let inbox = &mut self.inbox;
            let read = self.flow.poll_read_with(cx, &mut |bytes| {
                let count = bytes.len().min(READ_BYTES);
                inbox.feed(&bytes[..count]);
                count
            });
            let Poll::Ready(count) = read? else { return Ok(()) };
            *has_moved = true;
            if count == 0 {
                self.asking = None;
            }
        }
        Ok(())
    }
}

/// Where one answer goes.
pub(super) struct Slot {
    place: OwnedPermit<Queued>,
    backlog: [Backlog; 2],
}

impl Slot {
    /// Queues the answer for the app, or that there is none, when too much is queued already.
    pub(super) fn send(self, mut answer: Vec<u8>) {
        let Self { place, backlog } = self;
        let [all, own] = &backlog;
        let is_due = own.bytes() == 0 && answer.len() <= ALWAYS_BYTES;
        if !is_due && all.bytes() + answer.len() > MAX_BACKLOG_BYTES {
            answer = failure(&answer);
        }
        let held = Held::new(answer.len(), backlog);
        place.send((answer, held));
    }
}

/// An answer that waits for the app to take it.
type Queued = (Vec<u8>, Held);

/// The bytes of answers that wait to be taken. Clones share the number.
#[derive(Clone, Debug, Default)]
pub(super) struct Backlog(Arc<AtomicUsize>);

impl Backlog {
    fn bytes(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// What one answer adds to backlogs, until it is dropped.
struct Held {
    bytes: usize,
    backlog: [Backlog; 2],
}

impl Held {
    fn new(bytes: usize, backlog: [Backlog; 2]) -> Self {
        for Backlog(total) in &backlog {
            total.fetch_add(bytes, Ordering::Relaxed);
        }
        Self { bytes, backlog }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        for Backlog(total) in &self.backlog {
            total.fetch_sub(self.bytes, Ordering::Relaxed);
        }
    }
}

/// SERVFAIL in the answer's place: its header (RFC 1035, section 4.1.1) with id, opcode, RD, RA and CD as they
/// are, and nothing behind it.
fn failure(answer: &[u8]) -> Vec<u8> {
    const SERVFAIL: u8 = 2;
    let mut header = [0; 12];
    for (to, (from, kept)) in header.iter_mut().zip(answer.iter().zip([0xFF, 0xFF, 0xF9, 0x90])) {
        *to = from & kept;
    }
    header[3] |= SERVFAIL;
    header.to_vec()
}

#[cfg(test)]
pub(super) mod tests;
