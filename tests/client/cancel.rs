//! Opens that are given up half way.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use anytls_mobile::client::Client;
use anytls_mobile::testserver::{Faults, Service, SynAck};
use tokio::io::AsyncReadExt;

use crate::support::*;

/// Polls an open at most `polls` times, and gives it up then; true when it came to its end before.
async fn open_for(client: &Client<Dialer>, polls: usize) -> bool {
    let target = target();
    let mut open = pin!(client.open(&target, b"first"));
    let mut left = polls;
    poll_fn(move |cx| {
        let Some(rest) = left.checked_sub(1) else { return Poll::Ready(false) };
        left = rest;
        match open.as_mut().poll(cx) {
            Poll::Ready(opened) => Poll::Ready(opened.is_ok()),
            Poll::Pending if left == 0 => Poll::Ready(false),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

#[tokio::test]
async fn an_open_given_up_anywhere_leaves_no_session_behind() {
    for delayed in [false, true] {
        let server = serving(Service::Echo).await;
        if delayed {
            let delay = std::time::Duration::from_millis(5);
            server.set_faults(Faults { synack: SynAck::Delayed(delay), ..faults() });
        }
        let mut completed = 0;
        for polls in 0..8 {
            // Fresh at first, and then with sessions in the pool.
            let client = client(&server);
            for _ in 0..6 {
                completed += u32::from(open_for(&client, polls).await);
                until(|| client.stats().active == 0).await;
            }
            let mut stream = client.open(&target(), b"works").await.expect("opened");
            let mut echoed = [0; 5];
            stream.read_exact(&mut echoed).await.expect("read");
            drop(stream);
            until(|| client.stats().active == 0).await;
            client.stop().await;
        }
        assert!((6..48).contains(&completed), "some were given up, some not: {completed}");
    }
}

#[tokio::test]
async fn a_retry_given_up_anywhere_leaves_no_session_behind() {
    let server = serving(Service::Echo).await;
    let mut completed = 0;
    for polls in 0..8 {
        let client = client(&server);
        server.set_faults(faults());
        drop(client.open(&target(), b"").await.expect("opened"));
        until(|| client.stats().idle == 1).await;
        let cut = anytls_mobile::testserver::Cut::Reset;
        server.set_faults(Faults { cut_at_stream: Some((2, cut)), ..faults() });
        completed += u32::from(open_for(&client, polls).await);
        until(|| client.stats().active == 0).await;
        client.stop().await;
    }
    assert!((1..8).contains(&completed), "some were given up, some not: {completed}");
}
