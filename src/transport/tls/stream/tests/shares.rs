//! How much a connection reads at once, and keeps.

use std::cell::Cell;

use super::*;
use crate::budget::{Account, CONTROL_RECORDS_BYTES, OVERHEAD_BYTES, READ_BYTES, SEALED_RECORD_BYTES};

/// Reads one piece a poll until `most` bytes have come, and hands the account's state to `look` each time.
async fn read_in_pauses(wire: &mut TlsConnection, most: usize, look: impl Fn()) -> Vec<u8> {
    let mut bytes = Vec::new();
    while bytes.len() < most {
        let read = poll_fn(|cx| {
            wire.poll_read(cx, &mut |piece| {
                bytes.extend_from_slice(piece);
                false
            })
        });
        assert_eq!(read.await.unwrap(), Read::Paused);
        look();
    }
    bytes
}

#[tokio::test]
async fn a_paused_connection_keeps_a_full_read_or_one_record_when_memory_is_short() {
    let mut generator = StdRng::seed_from_u64(8);
    let sent = random(&mut generator, 1 << 20);
    for (limit, most, least) in [(0, SEALED_RECORD_BYTES, 1), (64 << 20, READ_BYTES, READ_BYTES / 2)] {
        let account = Arc::new(Account::new(limit));
        let lab = Lab::new().await;
        let (mut wire, mut server) = lab.wire_on(&account).await;
        server.queue(&sent);
        let flood = tokio::spawn(async move {
            server.flush().await.unwrap();
            server
        });
        let peak = Cell::new(0);
        let look = || peak.set(peak.get().max(account.held()));
        assert!(read_in_pauses(&mut wire, sent.len(), look).await == sent, "everything came");
        assert!((least..=most).contains(&peak.get()), "{} bytes kept", peak.get());
        drop((wire, flood.await.unwrap()));
        assert_eq!(account.held(), 0);
    }
}

#[tokio::test]
async fn a_peer_that_does_not_read_costs_a_burst_or_one_record_when_memory_is_short() {
    for (limit, records) in [(0, 1), (64 << 20, BURST_RECORDS)] {
        let account = Arc::new(Account::new(limit));
        let lab = Lab::new().await;
        let (mut wire, _server) = lab.wire_on(&account).await;
        loop {
            assert_eq!(wire.burst_records(), records);
            for _ in 0..wire.burst_records() {
                wire.queue_record(&[7; MAX_RECORD_BYTES]).unwrap();
            }
            if poll_fn(|cx| Poll::Ready(wire.poll_flush(cx))).await.is_pending() {
                break;
            }
        }
        let most = records * (MAX_RECORD_BYTES + OVERHEAD_BYTES) + CONTROL_RECORDS_BYTES;
        assert!((1..=most).contains(&account.held()), "{} bytes kept", account.held());
        drop(wire);
        assert_eq!(account.held(), 0);
    }
}

#[tokio::test]
async fn one_poll_reads_a_fair_share_and_no_more() {
    let lab = Lab::new().await;
    let (mut wire, mut server) = lab.wire().await;
    let flood = tokio::spawn(async move {
        let block = vec![1; 1 << 20];
        // Until the client has gone away.
        loop {
            server.queue(&block);
            if server.flush().await.is_err() {
                return;
            }
        }
    });
    let (mut total, mut saw_more) = (0, false);
    while !saw_more {
        total = 0;
        let result = poll_fn(|cx| {
            let read = wire.poll_read(cx, &mut |piece| {
                total += piece.len();
                true
            });
            Poll::Ready(read)
        });
        saw_more = matches!(result.await, Poll::Ready(Ok(Read::More)));
        tokio::task::yield_now().await;
    }
    assert!(total <= READ_BYTES, "{total}");
    drop(wire);
    flood.await.unwrap();
}

#[tokio::test]
async fn reads_of_a_flood_end_with_a_whole_record() {
    let account = Arc::new(Account::new(64 << 20));
    let lab = Lab::new().await;
    let (mut wire, mut server) = lab.wire_on(&account).await;
    server.queue(&vec![1; 8 << 20]);
    let flood = tokio::spawn(async move {
        server.flush().await.unwrap();
        server
    });
    let (mut total, mut kept) = (0, Vec::new());
    while total < 8 << 20 {
        let read = poll_fn(|cx| {
            let read = wire.poll_read(cx, &mut |piece| {
                total += piece.len();
                true
            });
            Poll::Ready(read)
        });
        if read.await.is_ready() {
            kept.push(account.held());
        }
        tokio::task::yield_now().await;
    }
    // Until the first read, nobody knows how long records are.
    assert!(kept.len() > 2 && kept[1..].iter().all(|kept| *kept == 0), "{kept:?}");
    drop(flood.await.unwrap());
}
