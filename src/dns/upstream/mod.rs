//! The way to the resolver: one connection through the tunnel, there while there is something to ask.
//!
//! ```text
//!          ask                    opened                       idle
//! Closed ───────► Opening ───────────────────► Open ──────────────────────► Closed
//!    ▲               │ failed, 10 s              │ ended, failed, silent for 2.5 s
//!    │               └──────────────┬────────────┘
//!    │ 1 s, then 2 s                ├─ answered something: Opening, for the rest
//!    │                              ├─ answered nothing: Opening once more, see below
//!    └──────────── Resting ◄────────┴─ nor this time, or nothing can help: Failure
//! ```
//! The second attempt is made on a session of its own if the first has left the one below in doubt: the stream
//! ended without a word, broke, or was silent. What the AnyTLS server or the resolver said is no reason for it,
//! nor is a connection that had answered before it fell silent: then one name is slow. A fresh session that
//! brings no answer either is the last for a minute.
//!
//! While it rests, questions fail at once. An answer, another path or another resolver ends all that. Silence
//! is no reason to rest, since it takes its time, and a resolver that looks for one dead name in vain answers
//! for others. Nor is a tunnel that is not there: the client has pauses of its own.

mod connection;
mod https;
mod pipeline;
mod queue;
mod rest;
mod server;

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rand::RngExt;
use rand::rngs::StdRng;

use self::connection::{Answer, Connection, Lost, NoAnswer, Remedy};
use self::pipeline::Questions;
use self::queue::{Because, Queue};
use self::rest::Rest;
use super::flights::Ticket;
use crate::clock::{Alarm, Clock};
use crate::error::chain;
use crate::private::Private;
use crate::proto::timers::Moment;
use crate::stats::counters;

pub(super) use self::server::{Open, Server, Tls, Way};

counters! {
    /// What the way to the resolver has counted.
    pub struct UpstreamStats {
        /// Connections opened.
        pub opened: u64,
        /// Connections that did not open, or did not stay while questions waited.
        pub broken: u64,
        /// Questions that were asked again.
        pub retried: u64,
        /// Questions that were given up.
        pub failed: u64,
        /// Answers that were none: a wrong status, a wrong type, too long.
        pub unusable: u64,
    }
    shared as Counters
}

/// Questions on a connection at once; the desk has no more at a time.
const MAX_OUTSTANDING: usize = 1024;

/// A connection with questions on it that says nothing for so long is given up: half of what a stub resolver
/// waits, so that one more attempt fits in.
const SILENCE_LIMIT: Duration = Duration::from_millis(2500);

/// What opening may take. More than a question lives, since the next one profits too.
const OPEN_LIMIT: Duration = Duration::from_secs(10);

/// What of the questions rides along with the opening of a stream: some hundred of them, in one TLS record.
const MAX_FIRST_BYTES: usize = 8 * 1024;

/// What became of a question.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Event {
    Answer(Ticket, Vec<u8>),
    /// Everything was tried. A question that is too old is dropped without this.
    Failure(Ticket),
}

type Opening = dyn Future<Output = Result<Box<dyn Connection>, Lost>> + Send;

enum Link {
    Closed,
    Opening {
        opening: Pin<Box<Opening>>,
        since: Moment,
    },
    Open {
        connection: Box<dyn Connection>,
        answered: usize,
        /// When it opened, or gave its last answer.
        heard: Moment,
    },
}

/// Asks the resolver. Its owner polls it.
pub(super) struct Upstream<O> {
    opener: O,
    server: Arc<Server>,
    clock: Clock,
    generator: StdRng,
    link: Link,
    questions: Queue,
    /// Questions to have outstanding at once: fewer with a server that closed before it had answered all, and
    /// twice as many each time that it has answered so many.
    window: usize,
    /// How to go about the attempt that follows one in which nothing was answered.
    retry: Option<Remedy>,
    rest: Rest,
    is_failing: bool,
    alarm: Alarm,
    counters: Arc<Counters>,
}

impl<O: Open> Upstream<O> {
    pub(super) fn new(
        opener: O,
        server: Server,
        clock: Clock,
        generator: StdRng,
        counters: Arc<Counters>,
    ) -> Self {
        Self {
            opener,
            server: Arc::new(server),
            clock,
            generator,
            link: Link::Closed,
            questions: Queue::new(Arc::clone(&counters)),
            window: MAX_OUTSTANDING,
            retry: None,
            rest: Rest::default(),
            is_failing: false,
            alarm: Alarm::default(),
            counters,
        }
    }

    /// Takes a question; [`poll_event`](Self::poll_event) sends it.
    pub(super) fn ask(&mut self, ticket: Ticket, message: Vec<u8>) {
        let now = self.clock.now();
        while let Some(serial) = self.questions.forget_expired(now) {
            if let Link::Open { connection, .. } = &mut self.link {
                connection.forget(serial);
            }
        }
        if self.rest.is_on(now) {
            self.questions.give_up(ticket);
        } else {
            self.questions.push(ticket, message, now);
        }
    }

    /// Whatever there was is on a network that was left: asks anew what was not answered.
    pub(super) fn handle_path_change(&mut self) {
        self.link = Link::Closed;
        self.retry = None;
        self.rest.clear();
        self.questions.ask_all_again(Because::NotAsked);
        self.questions.forgive();
    }

    /// Asks another server from now on, also what the one before has not answered.
    pub(super) fn set_server(&mut self, server: Server) {
        self.server = Arc::new(server);
        self.window = MAX_OUTSTANDING;
        self.is_failing = false;
        self.handle_path_change();
    }

    /// Ends; the questions that have no answer.
    pub(super) fn into_unanswered(self) -> impl Iterator<Item = Ticket> {
        self.questions.into_tickets()
    }

    /// Opens, sends, reads and waits; pending for good while there is nothing to ask and no connection.
    pub(super) fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        loop {
            let now = self.clock.now();
            match self.poll_link(cx, now) {
                Poll::Ready(Some(event)) => return Poll::Ready(event),
                Poll::Ready(None) => continue,
                Poll::Pending => {}
            }
            // First: while the phone slept no timer ran, and nothing is to be sent on what is long overdue.
            let has_acted = self.handle_timeout(now) || self.send(now);
            if let Some(ticket) = self.questions.poll_failed() {
                return Poll::Ready(Event::Failure(ticket));
            }
            if has_acted {
                continue; // what was opened or is to be sent has to be polled
            }
            ready!(self.alarm.poll(cx, self.deadline(), self.clock));
        }
    }

    /// Ready when something has happened, be it no event.
    fn poll_link(&mut self, cx: &mut Context<'_>, now: Moment) -> Poll<Option<Event>> {
        match &mut self.link {
            Link::Closed => Poll::Pending,
            Link::Opening { opening, .. } => {
                match ready!(opening.as_mut().poll(cx)) {
                    Ok(connection) => {
                        count(&self.counters.opened);
                        self.questions.handle_opened(now);
                        self.link = Link::Open { connection, answered: 0, heard: now };
                    }
                    Err(lost) => self.handle_loss(&lost, now),
                }
                Poll::Ready(None)
            }
            Link::Open { connection, answered, heard } => {
                let answer = match ready!(connection.poll_answer(cx)) {
                    Ok(answer) => answer,
                    Err(lost) => {
                        self.handle_loss(&lost, now);
                        return Poll::Ready(None);
                    }
                };
                *heard = now;
                if answer.message != Err(NoAnswer::NotTaken) {
                    *answered += 1;
                }
                if *answered >= self.window {
                    self.window = (self.window * 2).min(MAX_OUTSTANDING);
                }
                let is_first = *answered == 1;
                Poll::Ready(self.handle_answer(answer, is_first))
            }
        }
    }

    /// Sends what may be sent, opening a connection first if there is none. Whether the connection has to be
    /// polled for that.
    fn send(&mut self, now: Moment) -> bool {
        match &mut self.link {
            Link::Closed => {
                let is_wanted = self.questions.has_waiting(now);
                if is_wanted {
                    self.open(now);
                } else {
                    self.retry = None;
                }
                is_wanted
            }
            Link::Opening { .. } => false,
            Link::Open { connection, .. } => {
                let mut has_sent = false;
                while self.questions.outstanding() < self.window
                    && connection.has_room()
                    && let Some((serial, question)) = self.questions.next(usize::MAX, now)
                {
                    connection.send(serial, question);
                    has_sent = true;
                }
                has_sent
            }
        }
    }

    fn open(&mut self, now: Moment) {
        let is_fresh = self.retry == Some(Remedy::Session) && self.rest.take_fresh(now);
        let mut first = Questions::new(self.generator.random());
        let rides_along = !is_fresh && matches!(self.server.way, Way::Tcp);
        while rides_along
            && self.questions.outstanding() < self.window
            && let Some(room) = MAX_FIRST_BYTES.checked_sub(first.outbox.len())
            && let Some((serial, question)) = self.questions.next(room, now)
        {
            first.put(serial, question);
        }
        let (server, opener) = (Arc::clone(&self.server), self.opener.clone());
        let opening = Box::pin(async move { server.connect(opener, first, is_fresh).await });
        self.link = Link::Opening { opening, since: now };
    }

    /// The connection is no more, or has not come about.
    fn handle_loss(&mut self, lost: &Lost, now: Moment) {
        match std::mem::replace(&mut self.link, Link::Closed) {
            Link::Open { .. } if self.questions.outstanding() == 0 => return, // nobody needed it
            Link::Open { answered, .. } if answered > 0 => {
                // It has failed nobody, unless it went silent: some servers close after each answer, and all
                // of them close when idle, perhaps just when we ask.
                if !lost.is_slow() {
                    self.window = answered.min(MAX_OUTSTANDING);
                }
                let why = if lost.is_slow() { Because::Failed } else { Because::NotAsked };
                self.questions.ask_all_again(why);
            }
            Link::Closed | Link::Opening { .. } | Link::Open { .. } => self.handle_failure(lost, now),
        }
        self.report(lost);
    }

    /// A connection has answered nothing.
    fn handle_failure(&mut self, lost: &Lost, now: Moment) {
        let is_second = self.retry.is_some() && !lost.is_slow();
        let remedy = lost.remedy();
        if is_second || remedy == Remedy::Nothing {
            self.retry = None;
            if lost.is_behind_the_tunnel() {
                self.rest.begin(now);
            }
            self.questions.give_up_all();
        } else {
            self.retry = Some(remedy);
            self.questions.ask_all_again(Because::Failed);
        }
    }

    fn handle_answer(&mut self, answer: Answer, is_first: bool) -> Option<Event> {
        let question = self.questions.take(answer.serial)?;
        let why = match answer.message {
            Ok(message) => {
                self.retry = None;
                self.rest.clear();
                if std::mem::take(&mut self.is_failing) {
                    tracing::info!("the DNS server answers again");
                }
                return Some(Event::Answer(question.ticket, message));
            }
            Err(NoAnswer::NotTaken) => {
                self.questions.ask_again(question, Because::NotAsked);
                return None;
            }
            Err(NoAnswer::NotNow(why)) => {
                count(&self.counters.unusable);
                self.questions.ask_again(question, Because::Failed);
                why
            }
            Err(NoAnswer::Never(why)) => {
                count(&self.counters.unusable);
                self.questions.give_up(question.ticket);
                why
            }
        };
        if is_first && !std::mem::replace(&mut self.is_failing, true) {
            tracing::warn!(why, "the DNS server gives no answers");
        } else {
            tracing::debug!(why, "the DNS server gave no answer");
        }
        None
    }

    /// When something is to be done though nothing happens.
    fn deadline(&self) -> Option<Moment> {
        match &self.link {
            Link::Closed => None,
            Link::Opening { since, .. } => Some(*since + OPEN_LIMIT),
            Link::Open { heard, .. } => Some(match self.questions.oldest_sent() {
                Some(sent) => sent.max(*heard) + SILENCE_LIMIT,
                None => *heard + self.server.way.idle_limit(),
            }),
        }
    }

    /// Whether something was due.
    fn handle_timeout(&mut self, now: Moment) -> bool {
        let is_due = self.deadline().is_some_and(|deadline| deadline <= now);
        if is_due {
            let is_opening = matches!(self.link, Link::Opening { .. });
            self.handle_loss(if is_opening { &Lost::Late } else { &Lost::Silent }, now);
        }
        is_due
    }

    /// Warns when questions begin to fail: a user notices that. Until then it is a habit of servers.
    fn report(&mut self, lost: &Lost) {
        count(&self.counters.broken);
        let error = Private(chain(lost)); // it may name the server, and hold its words
        if !self.questions.has_failed() || std::mem::replace(&mut self.is_failing, true) {
            tracing::debug!(%error, "the DNS server was lost");
        } else {
            tracing::warn!(%error, "the DNS server gives no answers");
        }
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

#[cfg(test)]
pub(super) mod tests;
