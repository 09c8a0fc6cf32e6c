//! The connection against a server that is driven by hand.

use std::future::poll_fn;
use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};
use rustls::crypto::cipher::{MessageEncrypter, OutboundChunks, OutboundPlainMessage};
use rustls::version::{TLS12, TLS13};
use rustls::{ConnectionTrafficSecrets, ContentType, ServerConfig, ServerConnection, SupportedCipherSuite};
use tokio::io::AsyncWriteExt;

use super::*;
use crate::transport::testing::{Lab, Server};

mod ends;
mod shares;

/// Reads until something other than data comes; gives what was read, too.
async fn read_to_end(wire: &mut TlsConnection) -> (Vec<u8>, io::Result<Read>) {
    let mut bytes = Vec::new();
    let end = poll_fn(|cx| {
        loop {
            match wire.poll_read(cx, &mut |piece| {
                bytes.extend_from_slice(piece);
                true
            }) {
                Poll::Ready(Ok(Read::More)) => {}
                other => return other,
            }
        }
    })
    .await;
    (bytes, end)
}

/// Reads `count` bytes, and no more than that may come.
async fn read(wire: &mut TlsConnection, count: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while bytes.len() < count {
        let result = poll_fn(|cx| {
            wire.poll_read(cx, &mut |piece| {
                bytes.extend_from_slice(piece);
                bytes.len() < count
            })
        });
        assert!(matches!(result.await.unwrap(), Read::Paused | Read::More));
    }
    assert_eq!(bytes.len(), count);
    bytes
}

async fn flush(wire: &mut TlsConnection) {
    poll_fn(|cx| wire.poll_flush(cx)).await.unwrap();
}

async fn write(wire: &mut TlsConnection, plaintext: &[u8]) {
    wire.queue_record(plaintext).unwrap();
    flush(wire).await;
}

fn random(generator: &mut impl Rng, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    generator.fill_bytes(&mut bytes);
    bytes
}

#[tokio::test]
async fn each_queued_record_is_one_record_on_the_wire() {
    for version in [&TLS12, &TLS13] {
        let lab = Lab::with(version, |_| {}).await;
        let (mut wire, mut server) = lab.wire().await;
        let before = server.records().len();
        let overhead = server.records()[before - 1].1 - crate::transport::testing::AUTHENTICATION.len();
        let lengths = [1, 7, 30, MAX_RECORD_BYTES];
        assert_eq!(lengths.len(), BURST_RECORDS);
        for length in lengths {
            wire.queue_record(&vec![9; length]).unwrap();
        }
        assert_eq!(wire.queue_record(b"x").unwrap_err().kind(), io::ErrorKind::WouldBlock);
        flush(&mut wire).await;
        wire.queue_record(b"x").unwrap();
        flush(&mut wire).await;
        server.receive(lengths.iter().sum::<usize>() + 1).await;
        let records: Vec<_> = server.records()[before..].iter().map(|record| record.1 - overhead).collect();
        assert_eq!(records, [1, 7, 30, MAX_RECORD_BYTES, 1]);
    }
}

#[tokio::test]
async fn nothing_and_too_much_are_not_records() {
    let lab = Lab::new().await;
    let (mut wire, _server) = lab.wire().await;
    for length in [0, MAX_RECORD_BYTES + 1] {
        assert_eq!(wire.queue_record(&vec![0; length]).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
}

/// Sends back what it hears, in records of random sizes, until the client closes; and counts it.
async fn echo(mut server: Server, mut generator: StdRng) -> usize {
    let mut total = 0;
    loop {
        let plaintext = server.plaintext();
        total += plaintext.len();
        let mut rest = &plaintext[..];
        while !rest.is_empty() {
            let (piece, later) = rest.split_at(generator.random_range(1..=rest.len().min(20_000)));
            server.queue(piece);
            rest = later;
        }
        server.flush().await.unwrap();
        if server.hear().await.is_err() {
            return total;
        }
    }
}

#[tokio::test]
async fn megabytes_cross_both_ways_unchanged_with_random_pieces_and_pauses() {
    const BYTES: usize = 3 << 20;
    for (version, seed) in [(&TLS12, 12), (&TLS13, 13)] {
        println!("seed {seed}");
        let mut generator = StdRng::seed_from_u64(seed);
        let lab = Lab::with(version, |_| {}).await;
        let (mut wire, server) = lab.wire().await;
        let echo = tokio::task::spawn(echo(server, StdRng::seed_from_u64(seed + 100)));
        let sent = random(&mut generator, BYTES);
        let (mut received, mut rest, mut is_flushing) = (Vec::new(), &sent[..], false);
        poll_fn(|cx| {
            loop {
                let mut is_blocked = true;
                if is_flushing {
                    if wire.poll_flush(cx)?.is_ready() {
                        (is_flushing, is_blocked) = (false, false);
                    }
                } else if !rest.is_empty() {
                    for _ in 0..generator.random_range(1..=BURST_RECORDS) {
                        let most = rest.len().min(MAX_RECORD_BYTES);
                        let (record, later) = rest.split_at(generator.random_range(most.min(1)..=most));
                        if !record.is_empty() {
                            wire.queue_record(record)?;
                        }
                        rest = later;
                    }
                    (is_flushing, is_blocked) = (true, false);
                }
                let read = wire.poll_read(cx, &mut |piece| {
                    received.extend_from_slice(piece);
                    generator.random_bool(0.8)
                })?;
                if received.len() == BYTES {
                    return Poll::Ready(Ok::<_, io::Error>(()));
                }
                assert_ne!(read, Poll::Ready(Read::End));
                if is_blocked && read.is_pending() {
                    return Poll::Pending;
                }
            }
        })
        .await
        .unwrap();
        assert!(received == sent, "{version:?}: what came back differs");
        drop(wire);
        assert_eq!(echo.await.unwrap(), BYTES);
    }
}

#[tokio::test]
async fn a_pause_keeps_what_was_not_delivered_and_then_holds_no_memory() {
    let lab = Lab::new().await;
    let (mut wire, mut server) = lab.wire().await;
    server.queue(b"one");
    server.queue(b"two");
    server.queue(b"three");
    server.flush().await.unwrap();
    let mut pieces = Vec::new();
    for expected in [Read::Paused, Read::Paused, Read::Paused] {
        let read = poll_fn(|cx| {
            wire.poll_read(cx, &mut |piece| {
                pieces.push(piece.to_vec());
                false
            })
        });
        assert_eq!(read.await.unwrap(), expected);
    }
    assert_eq!(pieces, [&b"one"[..], b"two", b"three"]);
    assert_eq!(wire.inbox.bytes().len(), 0);
    assert!(!wire.inbox.unread);
}

#[tokio::test]
async fn a_record_can_be_written_while_whole_records_wait() {
    let lab = Lab::new().await;
    let (mut wire, mut server) = lab.wire().await;
    server.queue(b"one");
    server.queue(b"two");
    server.flush().await.unwrap();
    assert_eq!(read(&mut wire, 3).await, b"one");
    assert!(wire.inbox.unread, "the test needs both records to arrive together");
    write(&mut wire, b"up").await;
    assert_eq!(server.receive(2).await, b"up");
    assert_eq!(read(&mut wire, 3).await, b"two");
}

#[tokio::test]
async fn a_record_can_be_written_between_the_pieces_of_a_ticket() {
    // Tickets in records of a few bytes, which arrive byte by byte.
    let fragment = |config: &mut ServerConfig| config.max_fragment_size = Some(32);
    let lab = Lab::with(&TLS13, fragment).await;
    let (mut wire, mut server) = lab.wire().await;
    server.queue(b"down");
    let output = server.output();
    assert!(output.len() > 200, "the test needs tickets in several records: {}", output.len());
    let mut received = Vec::new();
    for byte in &output {
        server.tcp.write_all(std::slice::from_ref(byte)).await.unwrap();
        wire.tcp.readable().await.unwrap();
        poll_fn(|cx| {
            let read = wire.poll_read(cx, &mut |piece| {
                received.extend_from_slice(piece);
                true
            });
            assert!(read.is_pending(), "{read:?}");
            Poll::Ready(())
        })
        .await;
        write(&mut wire, &[*byte]).await;
    }
    assert_eq!(received, b"down");
    assert_eq!(server.receive(output.len()).await, output);
    assert_eq!(wire.tls.tls13_tickets_received(), 2);
}

/// Seals records that rustls would never send.
struct Forger {
    encrypter: Box<dyn MessageEncrypter>,
    sequence: u64,
}

impl Forger {
    fn new(tls: ServerConnection) -> Self {
        let Some(SupportedCipherSuite::Tls13(suite)) = tls.negotiated_cipher_suite() else { panic!() };
        let (sequence, secrets) = tls.dangerous_extract_secrets().unwrap().tx;
        let ConnectionTrafficSecrets::Aes256Gcm { key, iv } = secrets else { panic!() };
        Self { encrypter: suite.aead_alg.encrypter(key, iv), sequence }
    }

    fn handshake_record(&mut self, payload: &[u8]) -> Vec<u8> {
        let message = OutboundPlainMessage {
            typ: ContentType::Handshake,
            version: ProtocolVersion::TLSv1_2,
            payload: OutboundChunks::Single(payload),
        };
        let record = self.encrypter.encrypt(message, self.sequence).unwrap();
        self.sequence += 1;
        record.encode()
    }
}

#[tokio::test]
async fn a_handshake_message_that_never_ends_is_an_error_before_it_fills_memory() {
    // A NewSessionTicket that says it is 60,000 bytes long, in records of one byte each: each costs its
    // receiver 23.
    let lab = Lab::with(&TLS13, |config| config.enable_secret_extraction = true).await;
    let (mut wire, mut server) = lab.wire().await;
    server.flush().await.unwrap();
    let Server { mut tcp, tls, .. } = server;
    let mut forger = Forger::new(tls);
    let flood = tokio::spawn(async move {
        let message = [&[4, 0, 0xEA, 0x60][..], &[0; 10_000]].concat();
        for byte in message {
            if tcp.write_all(&forger.handshake_record(&[byte])).await.is_err() {
                return;
            }
        }
    });
    let (bytes, end) = read_to_end(&mut wire).await;
    assert_eq!(bytes, b"");
    assert_eq!(end.unwrap_err().kind(), io::ErrorKind::InvalidData);
    drop(wire);
    flood.await.unwrap();
}

#[tokio::test]
async fn what_the_socket_does_not_take_is_kept_until_it_does() {
    let lab = Lab::new().await;
    let (mut wire, mut server) = lab.wire().await;
    let mut generator = StdRng::seed_from_u64(5);
    let mut sent = Vec::new();
    // The server does not read: at some time a flush must wait.
    loop {
        for _ in 0..BURST_RECORDS {
            let record = random(&mut generator, MAX_RECORD_BYTES);
            wire.queue_record(&record).unwrap();
            sent.extend(record);
        }
        let flushed = poll_fn(|cx| Poll::Ready(wire.poll_flush(cx))).await;
        if flushed.is_pending() {
            break;
        }
    }
    assert!(!wire.outbox.shared, "the thread's buffer is free for others");
    let ((), received) = tokio::join!(flush(&mut wire), server.receive(sent.len()));
    assert!(received == sent);
    assert!(wire.outbox.is_empty());
}

#[tokio::test]
async fn two_connections_share_the_thread_s_buffers_without_mixing() {
    let lab = Lab::new().await;
    let (mut wire_a, mut server_a) = lab.wire().await;
    let (mut wire_b, mut server_b) = lab.wire().await;
    wire_a.queue_record(b"for a").unwrap();
    wire_b.queue_record(b"for b").unwrap();
    wire_a.queue_record(b", twice").unwrap();
    flush(&mut wire_b).await;
    flush(&mut wire_a).await;
    assert_eq!(server_a.receive(12).await, b"for a, twice");
    assert_eq!(server_b.receive(5).await, b"for b");
}

#[tokio::test]
async fn a_key_update_of_the_server_is_answered_with_the_next_record() {
    let lab = Lab::new().await;
    let (mut wire, mut server) = lab.wire().await;
    for round in 0..3 {
        server.tls.refresh_traffic_keys().unwrap();
        server.send(b"under new keys").await;
        assert_eq!(read(&mut wire, 14).await, b"under new keys");
        let before = server.records().len();
        write(&mut wire, b"likewise").await;
        assert_eq!(server.receive(8).await, b"likewise");
        assert_eq!(server.records().len() - before, 2, "round {round}: the update and the record");
        write(&mut wire, b"again").await;
        assert_eq!(server.receive(5).await, b"again");
    }
}

#[tokio::test]
async fn debug_shows_no_keys() {
    let lab = Lab::new().await;
    let (wire, _server) = lab.wire().await;
    let shown = format!("{wire:?}");
    assert!(shown.starts_with("TlsConnection { peer: Some(127.0.0.1:"), "{shown}");
    assert!(shown.len() < 100, "{shown}");
}
