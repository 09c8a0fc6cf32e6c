//! The questions without an answer: who waits, who was asked, and who is asked again.
//!
//! ```text
//!        push             next              take
//! ─────► waiting ───────► outstanding ───────► answered
//!           ▲  │ 5 s         │        │ 5 s
//!           │  └─► dropped   │        └─► dropped
//!           │                ▼
//!           └───────── ask_again ────► failed: twice in vain, or sent eight times
//! ```
//! Dropped ones need no word: the desk has answered them by then.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::connection::Serial;
use super::{Counters, count};
use crate::dns::flights::Ticket;
use crate::proto::timers::Moment;

/// Questions that wait for the connection: as many as may be on one, while those are given up.
const MAX_WAITING: usize = 1024;

/// Attempts at a question.
const MAX_ATTEMPTS: u8 = 2;

/// Times that a question is sent at most. More than attempts, since a server may close after each answer, and
/// take fewer at once than we send.
pub(super) const MAX_SENDS: u8 = 8;

/// After so long the desk has answered for us, as stub resolvers have given up.
const QUESTION_LIFE: Duration = Duration::from_secs(5);

/// A question that has no answer.
pub(super) struct Question {
    pub(super) ticket: Ticket,
    message: Vec<u8>,
    asked: Moment,
    /// Of the last time.
    sent: Moment,
    sends: u8,
    attempts: u8,
}

impl Question {
    fn is_expired(&self, now: Moment) -> bool {
        now.since(self.asked) >= QUESTION_LIFE
    }
}

/// What is asked again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Because {
    /// Nobody has tried: the connection ended, the question was left out.
    NotAsked,
    /// An attempt has failed.
    Failed,
}

/// All questions, in order.
pub(super) struct Queue {
    /// To be sent, in this order. At most [`MAX_WAITING`], and those that are asked again.
    waiting: VecDeque<Question>,
    /// Sent on the connection and not answered.
    outstanding: BTreeMap<Serial, Question>,
    last_serial: Serial,
    failed: VecDeque<Ticket>,
    counters: Arc<Counters>,
}

impl Queue {
    pub(super) fn new(counters: Arc<Counters>) -> Self {
        Self {
            waiting: VecDeque::new(),
            outstanding: BTreeMap::new(),
            last_serial: Serial(0),
            failed: VecDeque::new(),
            counters,
        }
    }

    pub(super) fn push(&mut self, ticket: Ticket, message: Vec<u8>, now: Moment) {
        if self.waiting.len() >= MAX_WAITING {
            self.drop_expired(now);
        }
        if self.waiting.len() >= MAX_WAITING {
            self.give_up(ticket);
            return;
        }
        self.waiting.push_back(Question { ticket, message, asked: now, sent: now, sends: 0, attempts: 0 });
    }

    /// Whether somebody waits to be asked; who has waited too long is dropped.
    pub(super) fn has_waiting(&mut self, now: Moment) -> bool {
        self.drop_expired(now);
        !self.waiting.is_empty()
    }

    fn drop_expired(&mut self, now: Moment) {
        self.waiting.retain(|question| !question.is_expired(now));
    }

    /// Makes the first that waits an outstanding one, if it is shorter than `room`.
    pub(super) fn next(&mut self, room: usize, now: Moment) -> Option<(Serial, &[u8])> {
        while self.waiting.front()?.is_expired(now) {
            self.waiting.pop_front();
        }
        let mut question = match self.waiting.front() {
            Some(first) if first.message.len() < room => self.waiting.pop_front()?,
            Some(_) | None => return None,
        };
        question.sends += 1;
        question.sent = now;
        self.last_serial.0 += 1;
        let question = self.outstanding.entry(self.last_serial).or_insert(question);
        Some((self.last_serial, &question.message))
    }

    /// What was sent with the opening of a stream counts from when that was open.
    pub(super) fn handle_opened(&mut self, now: Moment) {
        self.outstanding.values_mut().for_each(|question| question.sent = now);
    }

    /// How many are outstanding.
    pub(super) fn outstanding(&self) -> usize {
        self.outstanding.len()
    }

    /// When the oldest of those that are outstanding was sent.
    pub(super) fn oldest_sent(&self) -> Option<Moment> {
        self.outstanding.values().next().map(|question| question.sent)
    }

    /// Takes one for which something came.
    pub(super) fn take(&mut self, serial: Serial) -> Option<Question> {
        self.outstanding.remove(&serial)
    }

    /// Has a question asked before all others, unless that was done too often.
    pub(super) fn ask_again(&mut self, mut question: Question, why: Because) {
        question.attempts += u8::from(why == Because::Failed);
        if question.attempts >= MAX_ATTEMPTS || question.sends >= MAX_SENDS {
            self.give_up(question.ticket);
        } else {
            count(&self.counters.retried);
            self.waiting.push_front(question);
        }
    }

    /// The same for all that are outstanding: the connection is no more.
    pub(super) fn ask_all_again(&mut self, why: Because) {
        for question in std::mem::take(&mut self.outstanding).into_values().rev() {
            self.ask_again(question, why);
        }
    }

    /// What was tried before does not count any more.
    pub(super) fn forgive(&mut self) {
        self.waiting.iter_mut().for_each(|question| question.attempts = 0);
    }

    pub(super) fn give_up(&mut self, ticket: Ticket) {
        count(&self.counters.failed);
        self.failed.push_back(ticket);
    }

    pub(super) fn give_up_all(&mut self) {
        let outstanding = std::mem::take(&mut self.outstanding).into_values();
        for question in outstanding.chain(std::mem::take(&mut self.waiting)) {
            self.give_up(question.ticket);
        }
    }

    /// Drops the oldest question that a server which answers others has left unanswered for too long.
    pub(super) fn forget_expired(&mut self, now: Moment) -> Option<Serial> {
        let oldest = self.outstanding.first_entry().filter(|oldest| oldest.get().is_expired(now))?;
        count(&self.counters.failed);
        Some(oldest.remove_entry().0)
    }

    pub(super) fn has_failed(&self) -> bool {
        !self.failed.is_empty()
    }

    /// The next one that was given up.
    pub(super) fn poll_failed(&mut self) -> Option<Ticket> {
        self.failed.pop_front()
    }

    /// All of them, those first that were given up.
    pub(super) fn into_tickets(self) -> impl Iterator<Item = Ticket> {
        let asked = self.outstanding.into_values().chain(self.waiting).map(|question| question.ticket);
        self.failed.into_iter().chain(asked)
    }
}
