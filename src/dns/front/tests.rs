//! Apps on pipes, in virtual time.

use std::collections::VecDeque;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::task::JoinHandle;

use super::*;
use crate::relay::testing::{self, PipeFlow};

/// What a flow holds between its sides.
const PIPE_BYTES: usize = 4096;

pub(in crate::dns) fn flow() -> (PipeFlow, DuplexStream) {
    let (flow, app) = testing::flow(PIPE_BYTES);
    (flow, app.pipe)
}

struct Front {
    app: DuplexStream,
    asked: mpsc::Receiver<(Vec<u8>, Slot)>,
    served: JoinHandle<io::Result<()>>,
}

impl Front {
    fn new() -> Self {
        Self::among(&Backlog::default())
    }

    /// One of several apps.
    fn among(backlog: &Backlog) -> Self {
        let (flow, app) = flow();
        let (asks, asked) = mpsc::channel(1000);
        let backlog = backlog.clone();
        let served = tokio::spawn(async move {
            let ask = move |query: &[u8], slot| {
                asks.try_send((query.to_vec(), slot)).expect("within bounds");
            };
            serve(flow, &backlog, Clock::Tokio, ask).await
        });
        Self { app, asked, served }
    }

    /// Has as many queries as may be outstanding all answered so.
    async fn answer_many(&mut self, answer: &[u8]) {
        self.send(&[&b"query"[..]; MAX_OUTSTANDING]).await;
        for _ in 0..MAX_OUTSTANDING {
            self.asked().await.1.send(answer.to_vec());
        }
    }

    async fn send(&mut self, messages: &[&[u8]]) {
        self.app.write_all(&framed(messages)).await.unwrap();
    }

    async fn answer(&mut self) -> Vec<u8> {
        let mut answer = vec![0; usize::from(self.app.read_u16().await.unwrap())];
        self.app.read_exact(&mut answer).await.unwrap();
        answer
    }

    async fn asked(&mut self) -> (Vec<u8>, Slot) {
        self.asked.recv().await.unwrap()
    }
}

fn framed(messages: &[&[u8]]) -> Vec<u8> {
    let mut outbox = Outbox::default();
    messages.iter().for_each(|message| assert!(outbox.put(message).is_some()));
    outbox.take()
}

#[tokio::test(start_paused = true)]
async fn answers_go_as_they_come_and_after_the_apps_end_too() {
    let mut front = Front::new();
    for byte in framed(&[b"one", b"two", b"three"]) {
        front.app.write_all(&[byte]).await.unwrap();
        tokio::task::yield_now().await;
    }
    let (one, first) = front.asked().await;
    let (two, second) = front.asked().await;
    let (three, third) = front.asked().await;
    assert_eq!([&one[..], &two, &three], [&b"one"[..], b"two", b"three"]);
    second.send(b"2".to_vec());
    assert_eq!(front.answer().await, b"2");
    front.app.shutdown().await.unwrap();
    tokio::task::yield_now().await;
    third.send(b"3".to_vec());
    assert_eq!(front.answer().await, b"3");
    first.send(vec![1; 65_535]);
    assert_eq!(front.answer().await, [1; 65_535]);
    assert_eq!(front.app.read(&mut [0]).await.unwrap(), 0);
    front.served.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_app_with_too_many_queries_is_not_read_until_one_is_answered() {
    let mut front = Front::new();
    let (mut read, mut write) = tokio::io::split(front.app);
    tokio::spawn(async move {
        let _result = write.write_all(&framed(&[&[7; 100][..]; 1000])).await;
    });
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut slots = VecDeque::new();
    while let Ok((_, slot)) = front.asked.try_recv() {
        slots.push_back(slot);
    }
    assert_eq!(slots.len(), MAX_OUTSTANDING);
    let answering = tokio::spawn(async move {
        for _ in MAX_OUTSTANDING..1000 {
            slots.pop_front().unwrap().send(b"ok".to_vec());
            slots.push_back(front.asked.recv().await.unwrap().1);
        }
        slots.len()
    });
    let mut answers = vec![0; (1000 - MAX_OUTSTANDING) * 4];
    read.read_exact(&mut answers).await.unwrap();
    assert_eq!(answering.await.unwrap(), MAX_OUTSTANDING);
}

#[tokio::test(start_paused = true)]
async fn an_idle_app_is_closed_in_good_order_after_ten_seconds() {
    let mut front = Front::new();
    let start = tokio::time::Instant::now();
    tokio::time::sleep(Duration::from_secs(9)).await;
    front.send(&[b"query"]).await;
    front.asked().await.1.send(b"answer".to_vec());
    assert_eq!(front.answer().await, b"answer");
    assert_eq!(front.app.read(&mut [0]).await.unwrap(), 0);
    assert_eq!(start.elapsed(), Duration::from_secs(19));
    front.served.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_app_that_does_not_take_its_answers_is_broken_off() {
    let mut front = Front::new();
    front.send(&[b"query"]).await;
    front.asked().await.1.send(vec![0; 2 * PIPE_BYTES]);
    let error = front.served.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
}

#[tokio::test(start_paused = true)]
async fn an_empty_message_breaks_the_flow() {
    let mut front = Front::new();
    front.send(&[b""]).await;
    assert_eq!(front.served.await.unwrap().unwrap_err().kind(), io::ErrorKind::InvalidData);
}

#[tokio::test(start_paused = true)]
async fn what_gets_no_answer_holds_nothing_up() {
    let mut front = Front::new();
    for _ in 0..3 * MAX_OUTSTANDING {
        front.send(&[b"no query"]).await;
        drop(front.asked().await);
    }
    front.app.shutdown().await.unwrap();
    assert_eq!(front.app.read(&mut [0]).await.unwrap(), 0);
    front.served.await.unwrap().unwrap();
}

/// A header with everything set, and many bytes behind it.
fn large_answer() -> Vec<u8> {
    [&[0xAB, 0xCD], &[0xFF; 65_000][..]].concat()
}

#[tokio::test(start_paused = true)]
async fn apps_that_take_no_answers_fill_little_memory_and_harm_no_other() {
    let backlog = Backlog::default();
    let mut stuck = Vec::new();
    for _ in 0..3 {
        let mut front = Front::among(&backlog);
        front.answer_many(&large_answer()).await;
        stuck.push(front);
    }
    let failures = 3 * MAX_OUTSTANDING * 12;
    assert!(backlog.bytes() <= MAX_BACKLOG_BYTES + failures, "{backlog:?}");
    let mut other = Front::among(&backlog);
    for (answer, is_given) in [(vec![7; ALWAYS_BYTES], true), (large_answer(), false), (vec![8; 12], true)] {
        other.send(&[b"query"]).await;
        other.asked().await.1.send(answer.clone());
        assert_eq!(other.answer().await == answer, is_given);
    }
    for _ in 0..4 {
        assert_eq!(stuck[0].answer().await, large_answer());
    }
    for _ in 4..MAX_OUTSTANDING {
        assert_eq!(stuck[0].answer().await, [0xAB, 0xCD, 0xF9, 0x92, 0, 0, 0, 0, 0, 0, 0, 0]);
    }
    for front in stuck.into_iter().chain([other]) {
        drop(front.app);
        let _broken = front.served.await.unwrap();
    }
    assert_eq!(backlog.bytes(), 0);
}
