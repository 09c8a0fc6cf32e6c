//! The way to the resolver, against resolvers that the test plays on pipes, in virtual time.

use std::collections::{HashSet, VecDeque};
use std::sync::Mutex;

use rand::SeedableRng;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::*;
use crate::client::OpenError;
use crate::dns::framing::{Inbox, Outbox};
use crate::proto::target::Target;

#[cfg(feature = "testserver")]
mod encrypted;
mod losses;

/// What a stream holds between the two sides.
const PIPE_BYTES: usize = 64 * 1024;

/// Opens pipes whose other ends are the test's.
#[derive(Clone)]
pub(in crate::dns) struct Pipes {
    opened: mpsc::Sender<Peer>,
    refusals: Arc<Mutex<VecDeque<OpenError>>>,
}

impl Pipes {
    pub(in crate::dns) fn new() -> (Self, mpsc::Receiver<Peer>) {
        let (opened, peers) = mpsc::channel(1024);
        (Self { opened, refusals: Arc::default() }, peers)
    }

    async fn pipe(&self, first: &[u8], is_fresh: bool) -> Result<DuplexStream, OpenError> {
        if let Some(refusal) = self.refusals.lock().unwrap().pop_front() {
            return Err(refusal);
        }
        let (ours, theirs) = tokio::io::duplex(PIPE_BYTES);
        let mut inbox = Inbox::default();
        inbox.feed(first);
        let peer = Peer { pipe: theirs, inbox, first: first.len(), is_fresh };
        self.opened.send(peer).await.expect("the test listens");
        Ok(ours)
    }
}

impl Open for Pipes {
    type Io = DuplexStream;

    async fn open(&self, _: &Target, first: &[u8]) -> Result<DuplexStream, OpenError> {
        self.pipe(first, false).await
    }

    async fn open_fresh(&self, _: &Target) -> Result<DuplexStream, OpenError> {
        self.pipe(&[], true).await
    }
}

/// The resolver's side of one stream.
pub(in crate::dns) struct Peer<S = DuplexStream> {
    pipe: S,
    inbox: Inbox,
    first: usize,
    is_fresh: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Peer<S> {
    /// `None` when the stream has ended.
    pub(in crate::dns) async fn question(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some(question) = self.inbox.next() {
                return Some(question);
            }
            let mut bytes = [0; 4096];
            let count = self.pipe.read(&mut bytes).await.unwrap_or(0);
            self.inbox.feed(&bytes[..count]);
            if count == 0 {
                return None;
            }
        }
    }

    async fn answer(&mut self, question: &[u8]) {
        self.send(&answer_to(question)).await;
    }

    pub(in crate::dns) async fn send(&mut self, message: &[u8]) {
        self.pipe.write_all(&framed(message)).await.expect("a pipe");
        self.pipe.flush().await.expect("a pipe");
    }

    /// Answers so many questions, then closes.
    async fn serve(mut self, count: usize) -> usize {
        for served in 0..count {
            let Some(question) = self.question().await else { return served };
            self.answer(&question).await;
        }
        count
    }
}

fn framed(message: &[u8]) -> Vec<u8> {
    let mut outbox = Outbox::default();
    assert!(outbox.put(message).is_some());
    outbox.take()
}

/// A question is told from others by what follows its id.
fn question(number: u16) -> Vec<u8> {
    [&[0xFF; 10], &number.to_be_bytes()[..], b"question"].concat()
}

fn answer_to(question: &[u8]) -> Vec<u8> {
    [question, b" answered"].concat()
}

/// The answer as an event, whatever its id.
fn answered(number: u16) -> (Ticket, Option<Vec<u8>>) {
    (Ticket(number.into()), Some(answer_to(&question(number))[2..].to_vec()))
}

fn failed(number: u16) -> (Ticket, Option<Vec<u8>>) {
    (Ticket(number.into()), None)
}

fn upstream_to(way: Way, opener: Pipes) -> Upstream<Pipes> {
    let server = Server { target: "192.0.2.53:53".parse().unwrap(), way };
    Upstream::new(opener, server, Clock::Tokio, StdRng::seed_from_u64(1), Arc::default())
}

fn upstream() -> (Upstream<Pipes>, mpsc::Receiver<Peer>) {
    let (pipes, peers) = Pipes::new();
    (upstream_to(Way::Tcp, pipes), peers)
}

impl Upstream<Pipes> {
    fn ask_all(&mut self, numbers: std::ops::Range<u16>) {
        numbers.for_each(|number| self.ask(Ticket(number.into()), question(number)));
    }

    async fn event(&mut self) -> (Ticket, Option<Vec<u8>>) {
        match std::future::poll_fn(|cx| self.poll_event(cx)).await {
            Event::Answer(ticket, answer) => (ticket, Some(answer[2..].to_vec())),
            Event::Failure(ticket) => (ticket, None),
        }
    }

    async fn events(&mut self, count: usize) -> Vec<(Ticket, Option<Vec<u8>>)> {
        let mut events = Vec::new();
        while events.len() < count {
            events.push(self.event().await);
        }
        events.sort();
        events
    }

    /// Goes on for so long, in which nothing is to happen.
    async fn quiet(&mut self, span: Duration) {
        let event = tokio::time::timeout(span, self.event()).await;
        assert!(event.is_err(), "{event:?}");
    }
}

fn stats(upstream: &Upstream<Pipes>) -> UpstreamStats {
    upstream.counters.snapshot()
}

#[tokio::test(start_paused = true)]
async fn answers_are_matched_in_whatever_order_and_pieces_they_come() {
    let (mut upstream, mut peers) = upstream();
    upstream.ask_all(0..3);
    tokio::spawn(async move {
        let mut peer = peers.recv().await.unwrap();
        assert_eq!(peer.first, 3 * (2 + 20), "they ride along");
        let mut questions = Vec::new();
        for _ in 0..3 {
            questions.push(peer.question().await.unwrap());
        }
        let ids: HashSet<_> = questions.iter().map(|question| question[..2].to_vec()).collect();
        assert_eq!(ids.len(), 3);
        for question in questions.iter().rev() {
            for byte in framed(&answer_to(question)) {
                peer.pipe.write_all(&[byte]).await.unwrap();
                tokio::task::yield_now().await;
            }
        }
        peers.recv().await
    });
    let order: Vec<_> = [upstream.event().await, upstream.event().await, upstream.event().await].into();
    assert_eq!(order, [answered(2), answered(1), answered(0)]);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_nobody_asked_for_is_ignored() {
    let (mut upstream, mut peers) = upstream();
    upstream.ask_all(0..1);
    tokio::spawn(async move {
        let mut peer = peers.recv().await.unwrap();
        let question = peer.question().await.unwrap();
        let mut other = question.clone();
        other[0] ^= 1;
        peer.answer(&other).await;
        peer.answer(&question).await;
        peer.answer(&question).await;
        peers.recv().await
    });
    assert_eq!(upstream.event().await, answered(0));
    upstream.quiet(Duration::from_secs(1)).await;
    assert_eq!(stats(&upstream), UpstreamStats { opened: 1, ..UpstreamStats::default() });
}

#[tokio::test(start_paused = true)]
async fn as_many_as_allowed_are_outstanding_and_the_others_wait() {
    let (mut upstream, mut peers) = upstream();
    upstream.ask_all(0..1025);
    let server = tokio::spawn(async move {
        let mut peer = peers.recv().await.unwrap();
        let mut questions = Vec::new();
        while let Ok(question) = tokio::time::timeout(Duration::from_millis(1), peer.question()).await {
            questions.push(question.unwrap());
        }
        assert_eq!(questions.len(), 1024);
        let ids: HashSet<_> = questions.iter().map(|question| question[..2].to_vec()).collect();
        assert_eq!(ids.len(), 1024);
        for question in questions {
            peer.answer(&question).await;
        }
        peer.serve(1).await
    });
    // One more than may wait: it is refused at once.
    assert_eq!(upstream.event().await, failed(1024));
    upstream.ask_all(1025..1026);
    let events = upstream.events(1025).await;
    assert_eq!(events[1023..], [answered(1023), answered(1025)]);
    assert_eq!(server.await.unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_idle_stream_is_closed_after_three_seconds_and_opened_again_when_needed() {
    let (mut upstream, mut peers) = upstream();
    let server = tokio::spawn(async move {
        let mut spans = Vec::new();
        for _ in 0..2 {
            let mut peer = peers.recv().await.unwrap();
            assert!(!peer.is_fresh);
            let question = peer.question().await.unwrap();
            peer.answer(&question).await;
            let since = tokio::time::Instant::now();
            assert!(peer.question().await.is_none());
            spans.push(since.elapsed());
        }
        spans
    });
    for number in 0..2 {
        upstream.ask_all(number..number + 1);
        assert_eq!(upstream.event().await, answered(number));
        upstream.quiet(Duration::from_secs(3600)).await;
        assert_eq!(upstream.alarm.deadline(), None, "nothing to wait for");
    }
    assert_eq!(server.await.unwrap(), [Duration::from_secs(3); 2]);
    assert_eq!(stats(&upstream).broken, 0);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_should_have_been_closed_during_a_sleep_gets_no_question() {
    let (mut upstream, mut peers) = upstream();
    let server = tokio::spawn(async move {
        for _ in 0..2 {
            let mut peer = peers.recv().await.unwrap();
            let question = peer.question().await.unwrap();
            peer.answer(&question).await;
            assert!(peer.question().await.is_none());
        }
    });
    upstream.ask_all(0..1);
    assert_eq!(upstream.event().await, answered(0));
    tokio::time::sleep(Duration::from_secs(3600)).await; // nobody polls it, as no timer does in a sleep
    upstream.ask_all(1..2);
    assert_eq!(upstream.event().await, answered(1));
    drop(upstream);
    server.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_waits_is_sent_as_soon_as_there_is_room() {
    let (mut upstream, mut peers) = upstream();
    let large = |number: u16| [question(number), vec![0; PIPE_BYTES / 2]].concat();
    let server = tokio::spawn(async move {
        let mut peer = peers.recv().await.unwrap();
        for number in 0..4 {
            assert_eq!(peer.question().await.unwrap()[2..], large(number)[2..]);
        }
        peer.question().await
    });
    for number in 0..4 {
        upstream.ask(Ticket(number.into()), large(number));
    }
    upstream.quiet(Duration::from_secs(1)).await;
    drop(upstream);
    assert_eq!(server.await.unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn a_change_of_network_or_server_asks_anew_without_counting() {
    let (mut upstream, mut peers) = upstream();
    let (silent, keep) = (Arc::new(Mutex::new(Vec::new())), 4);
    let server = tokio::spawn(async move {
        for _ in 0..keep {
            let mut peer = peers.recv().await.unwrap();
            assert!(peer.question().await.is_some());
            silent.lock().unwrap().push(peer);
        }
        peers.recv().await.unwrap().serve(1).await
    });
    upstream.ask_all(0..1);
    for step in 0..keep {
        upstream.quiet(Duration::from_millis(1)).await;
        if step % 2 == 0 {
            upstream.handle_path_change();
        } else {
            let target = "192.0.2.54:53".parse().unwrap();
            upstream.set_server(Server { target, way: Way::Tcp });
        }
    }
    assert_eq!(upstream.event().await, answered(0));
    assert_eq!(server.await.unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_end_tells_who_was_not_answered() {
    let (mut upstream, mut peers) = upstream();
    upstream.ask_all(0..2);
    upstream.quiet(Duration::from_millis(1)).await;
    let _silent = peers.recv().await.unwrap();
    upstream.ask_all(2..3);
    let left: Vec<_> = upstream.into_unanswered().collect();
    assert_eq!(left, [Ticket(0), Ticket(1), Ticket(2)]);
}
