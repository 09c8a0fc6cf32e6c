//! The client's end.

use anytls_mobile::client::OpenError;
use anytls_mobile::testserver::{Faults, Listening, Service};
use tokio::io::AsyncReadExt;
use tokio::runtime::Handle;
use tokio::time::timeout;

use crate::support::*;

fn tasks() -> usize {
    Handle::current().metrics().num_alive_tasks()
}

#[tokio::test]
async fn stop_ends_everything_though_the_server_never_answers() {
    for (silent, deaf) in [(true, false), (false, true)] {
        let server = serving(Service::Hold).await;
        server.set_faults(Faults { silent, deaf, ..faults() });
        let client = client(&server);
        let target = target();
        let stop = async {
            until(|| server.connections().iter().any(|seen| seen.authenticated)).await;
            timeout(GUARD, client.stop()).await.expect("stopped");
        };
        let (opened, ()) = tokio::join!(client.open(&target, b""), stop);
        opened.expect_err("stopped");
        assert!(matches!(client.open(&target, b"").await, Err(OpenError::Stopped)));
        client.stop().await;
        server.stop().await;
        until(|| tasks() == 0).await;
    }
}

#[tokio::test]
async fn stop_ends_dials_under_way() {
    let server = serving(Service::Hold).await;
    server.set_listening(Listening::Ignore).expect("open");
    let client = client(&server);
    let target = target();
    let before = tasks();
    let stop = async {
        until(|| tasks() > before).await;
        timeout(GUARD, client.stop()).await.expect("stopped");
    };
    let (opened, ()) = tokio::join!(client.open(&target, b""), stop);
    assert!(matches!(opened, Err(OpenError::Stopped)), "{opened:?}");
    server.stop().await;
    until(|| tasks() == 0).await;
}

#[tokio::test]
async fn streams_end_with_the_client_and_say_so() {
    let server = serving(Service::Send(u64::MAX)).await;
    let client = client(&server);
    let mut stream = client.open(&target(), b"").await.expect("opened");
    until(|| client.stats().received_bytes >= 64 * 1024).await; // and it reads no more
    timeout(GUARD, client.stop()).await.expect("stopped");
    let mut all = Vec::new();
    let error = stream.read_to_end(&mut all).await.expect_err("not a clean end");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    assert!(all == pattern(all.len()) && all.len() >= 64 * 1024);
    assert_eq!((client.stats().active, client.stats().idle), (0, 0));
}

#[tokio::test]
async fn the_last_clone_takes_the_sessions_along() {
    let server = serving(Service::Hold).await;
    let client = client(&server);
    let clone = client.clone();
    let stream = client.open(&target(), b"").await.expect("opened");
    drop(stream);
    until(|| clone.stats().idle == 1).await;
    drop(client);
    drop(clone.open(&target(), b"").await.expect("a clone is enough"));
    drop(clone);
    until(|| server.connections().iter().all(|seen| seen.ended)).await;
}

#[tokio::test]
async fn a_stream_that_outlives_its_client_fails() {
    let server = serving(Service::Hold).await;
    let client = client(&server);
    let mut stream = client.open(&target(), b"").await.expect("opened");
    let mut buffer = [0; 8];
    let dropped = async {
        tokio::task::yield_now().await; // the reader waits by now
        drop(client);
    };
    let both = async { tokio::join!(stream.read(&mut buffer), dropped) };
    let (read, ()) = timeout(GUARD, both).await.expect("the reader is woken");
    assert_eq!(read.expect_err("not a clean end").kind(), std::io::ErrorKind::ConnectionReset);
}
