//! Sessions that die under their streams, and frames that make no sense.

use std::io::ErrorKind;
use std::time::Duration;

use anytls_mobile::client::OpenError;
use anytls_mobile::proto::session::{SessionError, StreamError};
use anytls_mobile::testserver::{Cut, Faults, Service, raw_frame};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::support::*;

#[tokio::test]
async fn a_session_that_dies_is_an_error_after_every_byte_before_it() {
    for cut in [Cut::Reset, Cut::Fin, Cut::BadMac] {
        for limit in [1, 5_000, 100_000, 700_000] {
            let server = serving(Service::Send(10_000_000)).await;
            server.set_faults(Faults { cut_after: Some((limit, cut)), ..faults() });
            let client = client(&server);
            let mut stream = match client.open(&target(), b"").await {
                Ok(stream) => stream,
                Err(OpenError::Stream(_) | OpenError::Dial(_)) if limit == 1 => continue,
                Err(error) => panic!("{cut:?} after {limit}: {error:?}"),
            };
            let mut all = Vec::new();
            let error = stream.read_to_end(&mut all).await.expect_err("not a clean end");
            assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{cut:?} after {limit}");
            let seen = server.connections().remove(0);
            let data = seen.sent.iter().filter(|frame| frame.command == 2);
            let sent: usize = data.map(|frame| usize::from(frame.length)).sum();
            assert!(all == pattern(all.len()), "{cut:?} after {limit}: other bytes");
            // A RST takes along what the kernel has not delivered yet.
            let complete = all.len() == sent || (cut == Cut::Reset && all.len() < sent);
            assert!(complete, "{cut:?} after {limit}: {} of {sent} bytes", all.len());
        }
    }
}

#[tokio::test]
async fn a_writer_learns_that_its_session_died() {
    for cut in [Cut::Reset, Cut::Fin, Cut::BadMac] {
        let server = serving(Service::Hold).await;
        let client = client(&server);
        let mut stream = client.open(&target(), b"").await.expect("opened");
        let piece = vec![0; 64 * 1024];
        let write_until_failure = async {
            loop {
                if let Err(error) = stream.write(&piece).await {
                    return error;
                }
            }
        };
        let cut_when_full = async {
            until(|| client.stats().sent_bytes > 1_000_000).await;
            server.cut_sessions(cut).await;
        };
        let (error, ()) = timeout(GUARD, async { tokio::join!(write_until_failure, cut_when_full) })
            .await
            .expect("an error");
        assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{cut:?}");
    }
}

#[tokio::test]
async fn a_server_that_leaves_in_good_order_is_still_no_end_of_the_stream() {
    let server = serving(Service::Hold).await;
    let client = client(&server);
    let mut stream = client.open(&target(), b"").await.expect("opened");
    server.close_sessions().await;
    let error = stream.read(&mut [0; 8]).await.expect_err("not a clean end");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn an_alert_ends_the_session_with_its_text() {
    let server = serving(Service::Hold).await;
    let client = client(&server);
    let mut stream = client.open(&target(), b"").await.expect("opened");
    server.inject(&raw_frame(5, 0, b"account\x1b[31m expired\n"));
    let error = stream.read(&mut [0; 8]).await.expect_err("alerted");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<StreamError>());
    match cause {
        Some(StreamError::Session(SessionError::Alert(text))) => assert_eq!(text, "account[31m expired"),
        other => panic!("{other:?}"),
    }
    until(|| client.stats().active == 0).await;
    assert_eq!(client.stats().idle, 0);
}

#[tokio::test]
async fn frames_without_sense_are_passed_over() {
    let nonsense = [
        raw_frame(99, 7, &[1; 60_000]),
        raw_frame(255, 0, b""),
        raw_frame(7, 4_000_000_000, b""),
        raw_frame(7, 4_000_000_000, b"failed"),
        raw_frame(2, 12_345, b"bytes of nobody"),
        raw_frame(3, 12_345, b""),
        raw_frame(1, 1, b""),
        raw_frame(4, 0, b"v=2"),
        raw_frame(0, 0, &[0; 65_535]),
        raw_frame(10, 0, b"\xff\xfe"),
        raw_frame(10, 0, b"v=2"),
        raw_frame(9, 3, b"an answer to nothing"),
    ]
    .concat();
    let server = serving(Service::Echo).await;
    server.set_faults(Faults { extra_frames: nonsense.clone(), ..faults() });
    let client = client(&server);
    for _ in 0..3 {
        let mut stream = client.open(&target(), b"").await.expect("opened");
        server.inject(&nonsense);
        stream.write_all(b"hello").await.expect("written");
        let mut echoed = [0; 5];
        stream.read_exact(&mut echoed).await.expect("read");
        assert_eq!(&echoed, b"hello");
        drop(stream);
        until(|| client.stats().idle == 1).await;
    }
    assert_eq!(client.stats().dialed, 1);
}

#[tokio::test]
async fn heartbeats_of_the_server_are_answered() {
    let server = serving(Service::Hold).await;
    let client = client(&server);
    let _stream = client.open(&target(), b"").await.expect("opened");
    server.inject(&raw_frame(8, 42, b""));
    let answered = || {
        let seen = server.connections().remove(0);
        seen.received.iter().any(|frame| (frame.command, frame.stream) == (9, 42))
    };
    until(answered).await;
}

#[tokio::test]
async fn a_server_that_stops_reading_holds_up_no_other_session() {
    let server = serving(Service::Echo).await;
    server.set_faults(Faults { deaf: true, ..faults() });
    let client = client(&server);
    let target = target();
    let mut stuck = Box::pin(client.open(&target, b""));
    let unanswered = timeout(Duration::from_millis(20), &mut stuck).await;
    assert!(unanswered.is_err());
    server.set_faults(faults());
    let mut stream = client.open(&target, b"hello").await.expect("opened");
    let mut echoed = [0; 5];
    stream.read_exact(&mut echoed).await.expect("read");
}
