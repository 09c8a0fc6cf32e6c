//! The one retry after a pooled session was dead, and when there is none.

use anytls_mobile::client::{Client, OpenError};
use anytls_mobile::proto::pool::PoolOptions;
use anytls_mobile::proto::session::{SessionError, StreamError};
use anytls_mobile::testserver::{Cut, Faults, Service, SynAck, TestServer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::*;

const CUTS: [Cut; 4] = [Cut::Reset, Cut::Fin, Cut::BadMac, Cut::Silence];

/// Silence is noticed sooner than by default.
fn impatient(server: &TestServer) -> Client<Dialer> {
    let options = PoolOptions { synack_timeout: Some(IMPATIENCE), ..pool() };
    client_with(server, options, PASSWORD)
}

/// A session that has served a stream waits in the pool.
async fn warm_up(client: &Client<Dialer>) {
    drop(client.open(&target(), b"").await.expect("opened"));
    until(|| client.stats().idle == 1).await;
}

async fn echoes(client: &Client<Dialer>) {
    let mut stream = client.open(&target(), b"first").await.expect("opened");
    stream.write_all(b" and more").await.expect("written");
    let mut echoed = [0; 14];
    stream.read_exact(&mut echoed).await.expect("read");
    assert_eq!(&echoed, b"first and more");
}

#[tokio::test]
async fn a_pooled_session_that_dies_as_the_stream_opens_costs_one_silent_retry() {
    for cut in CUTS {
        let server = serving(Service::Echo).await;
        let client = impatient(&server);
        warm_up(&client).await;
        server.set_faults(Faults { cut_at_stream: Some((2, cut)), ..faults() });
        echoes(&client).await;
        let stats = client.stats();
        assert_eq!((stats.retried, stats.reused, stats.dialed), (1, 1, 2), "{cut:?}");
        assert_eq!(stats.dials_failed, 0, "{cut:?}");
    }
}

#[tokio::test]
async fn the_retry_passes_by_other_used_sessions() {
    let server = serving(Service::Echo).await;
    let client = client(&server);
    let streams = [
        client.open(&target(), b"").await.expect("opened"),
        client.open(&target(), b"").await.expect("opened"),
        client.open(&target(), b"").await.expect("opened"),
    ];
    drop(streams);
    until(|| client.stats().idle == 3).await;
    // All three would die in the same way.
    server.set_faults(Faults { cut_at_stream: Some((2, Cut::Reset)), ..faults() });
    echoes(&client).await;
    assert_eq!((client.stats().retried, client.stats().dialed), (1, 4));
}

#[tokio::test]
async fn sessions_that_died_in_the_pool_are_not_noticed_by_who_comes_next() {
    for cut in CUTS {
        let server = serving(Service::Echo).await;
        let client = impatient(&server);
        let streams = [
            client.open(&target(), b"").await.expect("opened"),
            client.open(&target(), b"").await.expect("opened"),
        ];
        drop(streams);
        until(|| client.stats().idle == 2).await;
        server.cut_sessions(cut).await;
        echoes(&client).await;
        // Where the death shows itself it may have been seen in time.
        let retried = client.stats().retried;
        assert!(retried == 1 || (cut != Cut::Silence && retried == 0), "{cut:?}: {retried} retries");
    }
}

#[tokio::test]
async fn a_failure_on_a_fresh_session_is_not_retried() {
    for cut in CUTS {
        let server = serving(Service::Echo).await;
        server.set_faults(Faults { cut_at_stream: Some((1, cut)), ..faults() });
        let client = impatient(&server);
        let error = client.open(&target(), b"").await.expect_err("cut");
        assert!(matches!(error, OpenError::Stream(_) | OpenError::Dial(_)), "{cut:?}: {error:?}");
        assert_eq!((client.stats().retried, client.stats().dialed), (0, 1), "{cut:?}");
    }
}

#[tokio::test]
async fn a_second_failure_is_told() {
    let server = serving(Service::Echo).await;
    let client = client(&server);
    warm_up(&client).await;
    // The pooled one at its second stream, and then, as that counts from then on, the fresh one at once.
    server.cut_sessions(Cut::Silence).await;
    server.set_faults(Faults { cut_at_stream: Some((1, Cut::Reset)), ..faults() });
    client.open(&target(), b"").await.expect_err("both are dead");
    assert_eq!((client.stats().retried, client.stats().dialed), (1, 2));
}

#[tokio::test]
async fn what_was_answered_is_never_retried() {
    let server = serving(Service::Hold).await;
    let client = client(&server);
    warm_up(&client).await;
    let mut stream = client.open(&target(), b"").await.expect("opened");
    assert_eq!(client.stats().reused, 1);
    server.cut_sessions(Cut::Reset).await;
    let error = stream.read(&mut [0; 8]).await.expect_err("cut");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    assert_eq!((client.stats().retried, client.stats().dialed), (0, 1));
}

#[tokio::test]
async fn a_refusal_on_a_pooled_session_is_not_retried() {
    let server = serving(Service::Echo).await;
    let client = client(&server);
    warm_up(&client).await;
    server.set_faults(Faults { refuse_streams: Some("no".into()), ..faults() });
    match client.open(&target(), b"").await {
        Err(OpenError::Stream(StreamError::Refused(text))) => assert_eq!(text, "no"),
        other => panic!("{other:?}"),
    }
    assert_eq!((client.stats().retried, client.stats().dialed), (0, 1));
}

#[tokio::test]
async fn a_pooled_session_without_any_answer_is_dead_and_one_with_is_not() {
    let server = serving(Service::Echo).await;
    let client = impatient(&server);
    warm_up(&client).await;
    server.set_faults(Faults { synack: SynAck::Never, ..faults() });
    let (target, watch) = (target(), async {
        until(|| server.connections()[0].received.iter().filter(|frame| frame.command == 1).count() == 2)
            .await;
        server.inject(&anytls_mobile::testserver::raw_frame(99, 0, b"still here"));
    });
    let (opened, ()) = tokio::join!(client.open(&target, b""), watch);
    match opened {
        Err(OpenError::Stream(StreamError::TimedOut)) => {}
        other => panic!("{other:?}"),
    }
    assert_eq!((client.stats().retried, client.stats().dialed), (0, 1));

    // Nothing at all: the session is taken for dead, and so is the fresh one's stream.
    until(|| client.stats().idle == 1).await;
    server.cut_sessions(Cut::Silence).await;
    match client.open(&target, b"").await {
        Err(OpenError::Stream(StreamError::TimedOut | StreamError::Session(SessionError::NoAnswer))) => {}
        other => panic!("{other:?}"),
    }
    assert_eq!((client.stats().retried, client.stats().dialed), (1, 2));
}

#[tokio::test]
async fn an_answer_that_came_together_with_the_end_of_the_session_counts() {
    for cut in [Cut::Reset, Cut::Fin, Cut::BadMac] {
        // SynAck of the pooled session's second stream, its first bytes, and the cut: all in one burst.
        let server = serving(Service::Send(50_000)).await;
        server.set_faults(Faults { cut_after: Some((50_500, cut)), ..faults() });
        let client = client(&server);
        let mut all = Vec::new();
        let mut stream = client.open(&target(), b"").await.expect("opened");
        stream.read_to_end(&mut all).await.expect("the first stream is whole");
        drop(stream);
        until(|| client.stats().idle == 1).await;

        let mut stream = client.open(&target(), b"").await.expect("answered");
        all.clear();
        let error = stream.read_to_end(&mut all).await.expect_err("cut");
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{cut:?}");
        assert!(!all.is_empty(), "{cut:?}");
        assert_eq!((client.stats().reused, client.stats().retried), (1, 0), "{cut:?}");
    }
}
