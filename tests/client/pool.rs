//! Which session serves a stream.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anytls_mobile::client::OpenError;
use anytls_mobile::proto::pool::PoolOptions;
use anytls_mobile::testserver::{Faults, Listening, Rejection, ServerOptions, Service, TestServer};
use anytls_mobile::transport::DialError;
use tokio::io::AsyncReadExt;

use crate::support::*;

/// How many streams were opened on each connection, in the order of the connections.
fn streams_opened(server: &TestServer) -> Vec<usize> {
    let syns = |seen: &anytls_mobile::testserver::ConnectionRecord| {
        seen.received.iter().filter(|frame| frame.command == 1).count()
    };
    server.connections().iter().map(syns).collect()
}

#[tokio::test]
async fn streams_after_each_other_share_a_session() {
    let server = serving(Service::Echo).await;
    let client = client(&server);
    for _ in 0..5 {
        drop(client.open(&target(), b"").await.expect("opened"));
        until(|| client.stats().idle == 1).await;
    }
    let stats = client.stats();
    assert_eq!((stats.dialed, stats.reused, stats.retried), (1, 4, 0));
    assert_eq!(streams_opened(&server), [5]);
}

#[tokio::test]
async fn streams_at_once_have_a_session_each() {
    let server = serving(Service::Echo).await;
    let client = client(&server);
    let mut streams = Vec::new();
    for _ in 0..4 {
        streams.push(client.open(&target(), b"").await.expect("opened"));
    }
    assert_eq!((client.stats().dialed, client.stats().active), (4, 4));
    drop(streams);
    until(|| client.stats().idle == 4).await;
}

#[tokio::test]
async fn the_newest_idle_session_comes_first() {
    let server = serving(Service::Echo).await;
    let client = client(&server);
    let first = client.open(&target(), b"").await.expect("opened");
    let second = client.open(&target(), b"").await.expect("opened");
    // The older one comes back last.
    drop(second);
    until(|| client.stats().idle == 1).await;
    drop(first);
    until(|| client.stats().idle == 2).await;
    let _stream = client.open(&target(), b"").await.expect("opened");
    assert_eq!(streams_opened(&server), [1, 2]);
}

#[tokio::test]
async fn without_reuse_every_stream_has_a_session_of_its_own() {
    let server = serving(Service::Echo).await;
    let client = client_with(&server, PoolOptions { reuse: false, ..pool() }, PASSWORD);
    for _ in 0..3 {
        drop(client.open(&target(), b"").await.expect("opened"));
        until(|| client.stats().active == 0).await;
    }
    assert_eq!(streams_opened(&server), [1, 1, 1]);
    until(|| server.connections().iter().all(|seen| seen.ended)).await;
}

#[tokio::test]
async fn statistics_read_at_any_time_count_every_session_once() {
    let server = serving(Service::Echo).await;
    let client = client_with(&server, PoolOptions { reuse: false, ..pool() }, PASSWORD);
    let (watched, is_over) = (client.clone(), Arc::new(AtomicBool::new(false)));
    let over = Arc::clone(&is_over);
    let watcher = std::thread::spawn(move || {
        while !over.load(Ordering::Relaxed) {
            let stats = watched.stats();
            assert_eq!(stats.dialed, stats.idle + stats.active + stats.closed, "{stats:?}");
        }
    });
    for _ in 0..100 {
        drop(client.open(&target(), b"").await.expect("opened"));
    }
    is_over.store(true, Ordering::Relaxed);
    watcher.join().expect("always the same sum");
}

#[tokio::test]
async fn sessions_that_the_server_closes_while_idle_leave_the_pool() {
    let outbound: anytls_mobile::testserver::Outbound = Arc::new(|_| Service::Echo);
    let idle_limit = Some(Duration::from_millis(20));
    let server = start(ServerOptions { idle_limit, outbound, ..server_options() }).await;
    let client = client(&server);
    for _ in 0..3 {
        drop(client.open(&target(), b"").await.expect("opened"));
        until(|| client.stats().idle == 0 && client.stats().active == 0).await;
    }
    assert_eq!((client.stats().dialed, client.stats().retried), (3, 0));
}

#[tokio::test]
async fn a_wrong_password_is_told_to_everybody_who_waits() {
    let close_at_once = Faults { close_after_authentication: true, ..faults() };
    let cases = [
        ("wrong", Rejection::Close, faults()),
        ("wrong", Rejection::Http, faults()),
        (PASSWORD, Rejection::Close, close_at_once), // looks the same
    ];
    for (password, rejection, faults) in cases {
        let server = start(ServerOptions { rejection, faults, ..server_options() }).await;
        let client = client_with(&server, pool(), password);
        let target = target();
        let [a, b, c, d] = std::array::from_fn(|_| client.open(&target, b""));
        for result in <[_; 4]>::from(tokio::join!(a, b, c, d)) {
            match result {
                Err(OpenError::Dial(DialError::Authentication)) => {}
                other => panic!("{rejection:?}: {other:?}"),
            }
        }
        assert_eq!(client.stats().retried, 0);

        // Whoever comes next waits for the back-off, which begins at a second.
        let dials = server.connections().len();
        let waits = tokio::time::timeout(Duration::from_millis(20), client.open(&target, b"")).await;
        assert!(waits.is_err(), "{rejection:?}");
        assert_eq!(server.connections().len(), dials, "{rejection:?}");
    }
}

#[tokio::test]
async fn a_server_that_comes_back_is_found_again() {
    let server = serving(Service::Echo).await;
    let client = client(&server);
    server.set_listening(Listening::Refuse).expect("closed");
    match client.open(&target(), b"").await {
        Err(OpenError::Dial(DialError::Connect { .. })) => {}
        other => panic!("{other:?}"),
    }
    server.set_listening(Listening::Accept).expect("open");
    let mut stream = client.open(&target(), b"back").await.expect("opened");
    let mut echoed = [0; 4];
    stream.read_exact(&mut echoed).await.expect("read");
    assert_eq!((client.stats().dials_failed, client.stats().dialed), (1, 1));
}
