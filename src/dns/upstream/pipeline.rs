//! Questions pipelined on one stream: DNS over TCP (RFC 7766) and, over TLS, RFC 7858.

use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::connection::{Answer, Connection, Lost, Serial};
use crate::dns::framing::{Inbox, Outbox};

/// Questions that wait to be written; more stay with the upstream. Holds one of the largest.
const MAX_UNWRITTEN_BYTES: usize = 64 * 1024;

/// Read at once: some thirty usual answers.
const READ_BYTES: usize = 4096;

/// Questions as they go out, and under which id.
#[derive(Debug)]
pub(super) struct Questions {
    ids: HashMap<u16, Serial>,
    next_id: u16,
    pub(super) outbox: Outbox,
}

impl Questions {
    /// The first id should be random; those after it count up.
    pub(super) fn new(first_id: u16) -> Self {
        Self { ids: HashMap::new(), next_id: first_id, outbox: Outbox::default() }
    }

    /// Puts the question under an id of ours. There are fewer outstanding than ids, so that one is free.
    pub(super) fn put(&mut self, serial: Serial, question: &[u8]) {
        while self.ids.contains_key(&self.next_id) {
            self.next_id = self.next_id.wrapping_add(1);
        }
        let Some(id) = self.outbox.put(question).and_then(|question| question.first_chunk_mut()) else {
            return; // no DNS message; it goes unanswered
        };
        *id = self.next_id.to_be_bytes();
        self.ids.insert(self.next_id, serial);
        self.next_id = self.next_id.wrapping_add(1);
    }
}

/// A stream that questions are pipelined on.
pub(super) struct Pipeline<S> {
    stream: S,
    questions: Questions,
    inbox: Inbox,
    is_unflushed: bool,
    /// Nothing more can be written; what was answered before can still be read.
    is_broken: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Pipeline<S> {
    /// `questions` may have some under way already, which left with the stream's opening.
    pub(super) fn new(stream: S, questions: Questions) -> Self {
        Self { stream, questions, inbox: Inbox::default(), is_unflushed: false, is_broken: false }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.questions.outbox.is_empty() {
            ready!(self.questions.outbox.poll_write(&mut self.stream, cx))?;
            self.is_unflushed = true;
        }
        if self.is_unflushed {
            ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
            self.is_unflushed = false;
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Connection for Pipeline<S> {
    fn has_room(&self) -> bool {
        self.questions.outbox.len() < MAX_UNWRITTEN_BYTES
    }

    fn send(&mut self, serial: Serial, question: &[u8]) {
        self.questions.put(serial, question);
    }

    fn forget(&mut self, serial: Serial) {
        self.questions.ids.retain(|_, other| *other != serial);
    }

    fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<Result<Answer, Lost>> {
        if !self.is_broken && matches!(self.poll_write(cx), Poll::Ready(Err(_))) {
            self.is_broken = true; // reading tells why
        }
        loop {
            while let Some(message) = self.inbox.next() {
                let Some(id) = message.first_chunk() else {
                    return Poll::Ready(Err(Lost::Nonsense));
                };
                // An id that nobody asked under is not for us to wonder about.
                if let Some(serial) = self.questions.ids.remove(&u16::from_be_bytes(*id)) {
                    return Poll::Ready(Ok(Answer { serial, message: Ok(message) }));
                }
            }
            let mut space = [0; READ_BYTES];
            let mut space = ReadBuf::new(&mut space);
            ready!(Pin::new(&mut self.stream).poll_read(cx, &mut space)).map_err(Lost::Io)?;
            if space.filled().is_empty() {
                return Poll::Ready(Err(Lost::Ended));
            }
            self.inbox.feed(space.filled());
        }
    }
}
