//! Bytes both ways, and how streams end.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;

use anytls_mobile::client::OpenError;
use anytls_mobile::proto::session::StreamError;
use anytls_mobile::proto::settings::PeerVersion;
use anytls_mobile::proto::target::Target;
use anytls_mobile::testserver::{ServerOptions, Service, SynAck};
use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::support::*;

#[tokio::test]
async fn many_streams_at_once_echo_every_byte() {
    let server = serving(Service::Echo).await;
    let client = client(&server);
    let mut streams = JoinSet::new();
    for seed in 0..40 {
        let client = client.clone();
        streams.spawn(async move {
            let mut rng = StdRng::seed_from_u64(seed);
            let mut sent = vec![0; rng.random_range(0..400_000)];
            rng.fill_bytes(&mut sent);
            let (first, rest) = sent.split_at(rng.random_range(0..=sent.len().min(20_000)));
            let stream = client.open(&target(), first).await.expect("opened");
            let (mut reader, mut writer) = tokio::io::split(stream);
            let mut echoed = vec![0; sent.len()];
            let pieces = async {
                for piece in rest.chunks(7_001) {
                    writer.write_all(piece).await.expect("written");
                }
            };
            let (_, read) = tokio::join!(pieces, reader.read_exact(&mut echoed));
            read.expect("read");
            assert!(echoed == sent, "seed {seed}: other bytes came back");
        });
    }
    while let Some(done) = streams.join_next().await {
        done.expect("a stream failed");
    }
    until(|| client.stats().active == 0).await;
    let stats = client.stats();
    assert_eq!(stats.sent_bytes, stats.received_bytes);
    assert_eq!((stats.retried, stats.dials_failed), (0, 0));
}

#[tokio::test]
async fn the_servers_end_is_a_clean_end_after_all_of_its_data() {
    for count in [0, 1, 16_377, 3_000_000] {
        let server = serving(Service::Send(count)).await;
        let client = client(&server);
        let mut stream = client.open(&target(), b"").await.expect("opened");
        let mut all = Vec::new();
        stream.read_to_end(&mut all).await.expect("a clean end");
        assert!(all == pattern(usize::try_from(count).expect("fits")), "of {count} bytes {} came", all.len());
    }
}

#[tokio::test]
async fn what_was_written_before_the_drop_still_arrives() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let server = start(server_options()).await;
    let client = client(&server);
    let target = Target::from(listener.local_addr().expect("an address"));
    let mut stream = client.open(&target, b"").await.expect("opened");
    let (mut socket, _) = listener.accept().await.expect("accepted");
    let sent = pattern(900_000);
    let receive = async {
        let mut received = Vec::new();
        socket.read_to_end(&mut received).await.expect("a clean end");
        received
    };
    let send = async {
        stream.write_all(&sent).await.expect("written");
        drop(stream);
    };
    let (received, ()) = tokio::join!(receive, send);
    assert!(received == sent, "{} bytes arrived", received.len());
    until(|| client.stats().idle == 1).await;
}

#[tokio::test]
async fn shutdown_leaves_the_other_direction_open() {
    let server = serving(Service::Echo).await;
    let client = client(&server);
    let mut stream = client.open(&target(), b"").await.expect("opened");
    stream.write_all(b"last words").await.expect("written");
    stream.shutdown().await.expect("shut down");
    let mut echoed = [0; 10];
    stream.read_exact(&mut echoed).await.expect("read");
    assert_eq!(&echoed, b"last words");
}

#[tokio::test]
async fn a_refusal_carries_the_servers_words_and_keeps_the_session() {
    let server = serving(Service::Refuse("no route to host".into())).await;
    let client = client(&server);
    for _ in 0..3 {
        match client.open(&target(), b"hello").await {
            Err(OpenError::Stream(StreamError::Refused(text))) => assert_eq!(text, "no route to host"),
            other => panic!("{other:?}"),
        }
        until(|| client.stats().idle == 1).await;
    }
    assert_eq!((client.stats().dialed, client.stats().retried), (1, 0));
}

#[tokio::test]
async fn a_stream_that_is_not_answered_fails_alone_when_the_session_lives() {
    let server = serving(Service::Echo).await;
    server.set_faults(anytls_mobile::testserver::Faults { synack: SynAck::Never, ..faults() });
    let options = anytls_mobile::proto::pool::PoolOptions { synack_timeout: Some(IMPATIENCE), ..pool() };
    let client = client_with(&server, options, PASSWORD);
    // The answer to the Settings comes within the window.
    match client.open(&target(), b"").await {
        Err(OpenError::Stream(StreamError::TimedOut)) => {}
        other => panic!("{other:?}"),
    }
    until(|| client.stats().idle == 1).await;
    server.set_faults(faults());
    let mut stream = client.open(&target(), b"again").await.expect("opened");
    let mut echoed = [0; 5];
    stream.read_exact(&mut echoed).await.expect("read");
    assert_eq!(client.stats().dialed, 1);
}

#[tokio::test]
async fn a_version_1_server_serves_and_its_sessions_are_reused() {
    let outbound: anytls_mobile::testserver::Outbound = std::sync::Arc::new(|_| Service::Echo);
    let server = start(ServerOptions { version: PeerVersion::V1, outbound, ..server_options() }).await;
    let client = client(&server);
    for round in 0..3 {
        let mut stream = client.open(&target(), b"").await.expect("opened");
        stream.write_all(b"hello").await.expect("written");
        let mut echoed = [0; 5];
        stream.read_exact(&mut echoed).await.expect("read");
        assert_eq!(&echoed, b"hello");
        drop(stream);
        until(|| client.stats().idle == 1).await;
        assert_eq!((client.stats().dialed, client.stats().reused), (1, round));
    }
}

#[tokio::test]
async fn a_reader_that_does_not_read_is_held_back_and_nobody_else() {
    let server = serving(Service::Send(u64::MAX)).await;
    let client = client(&server);
    let mut stalled = client.open(&target(), b"").await.expect("opened");
    until(|| client.stats().received_bytes >= 64 * 1024).await;

    let mut other = client.open(&target(), b"").await.expect("opened");
    let mut read = 0;
    let mut buffer = vec![0; 64 * 1024];
    while read < 64 * 1024 * 1024 {
        read += other.read(&mut buffer).await.expect("read");
    }
    drop(other);
    until(|| client.stats().idle == 1).await; // what was under way for it has been read, and dropped

    let sent: Vec<_> = server.connections().iter().map(|seen| seen.sent_bytes).collect();
    // Without back-pressure it would have had as much as the other. The rest are the kernel's buffers.
    assert!(sent[0] < sent[1] / 2, "{sent:?}");
    let mut held = 0;
    while held < 64 * 1024 {
        held += stalled.read(&mut buffer).await.expect("read");
    }
}

#[tokio::test]
async fn memory_for_an_unread_stream_stays_within_its_bound() {
    let server = serving(Service::Send(u64::MAX)).await;
    let client = client(&server);
    let _stalled = client.open(&target(), b"").await.expect("opened");
    until(|| client.stats().received_bytes >= 64 * 1024).await;
    // Every other task has a thousand turns to do more than it should.
    for _ in 0..1_000 {
        tokio::task::yield_now().await;
    }
    let held = client.stats().received_bytes;
    assert!(held < 64 * 1024 + 16_384, "{held} bytes wait for the reader");
}

#[tokio::test]
async fn a_writer_is_held_back_when_the_server_does_not_read() {
    let server = serving(Service::Hold).await;
    let client = client(&server);
    let mut stream = client.open(&target(), b"").await.expect("opened");
    let piece = vec![0; 64 * 1024];
    let mut written = 0;
    let mut idle_turns = 0;
    // The kernel's buffers fill first.
    while idle_turns < 1_000 {
        let count = poll_fn(|cx| match Pin::new(&mut stream).poll_write(cx, &piece) {
            Poll::Ready(count) => Poll::Ready(count.expect("written")),
            Poll::Pending => Poll::Ready(0),
        })
        .await;
        written += count;
        assert!(written < 64 * 1024 * 1024, "nothing holds the writer back");
        idle_turns = if count == 0 { idle_turns + 1 } else { 0 };
        tokio::task::yield_now().await;
    }
    let left_us = client.stats().sent_bytes;
    assert!(
        u64::try_from(written).expect("fits") - left_us <= 64 * 1024,
        "{written} written, {left_us} sent"
    );
}
