//! When the socket wakes the connection.

use std::future::poll_fn;

use tokio::io::AsyncWriteExt;

use super::*;
use crate::transport::testing::{Lab, Server};

/// Has the connection read all that has come, which is no whole record.
async fn read_a_part(wire: &mut TlsConnection) {
    wire.tcp.readable().await.unwrap();
    poll_fn(|cx| {
        let read = wire.poll_read(cx, &mut |_| panic!("a record that has not come"));
        assert!(read.is_pending(), "{read:?}");
        Poll::Ready(())
    })
    .await;
}

/// Reads one record's payload.
async fn read_record(wire: &mut TlsConnection) -> Vec<u8> {
    let mut bytes = Vec::new();
    poll_fn(|cx| {
        let read = wire.poll_read(cx, &mut |piece| {
            bytes.extend_from_slice(piece);
            false
        });
        assert!(!matches!(read, Poll::Ready(Err(_) | Ok(Read::End))), "{read:?}");
        if read.is_pending() { Poll::Pending } else { Poll::Ready(()) }
    })
    .await;
    bytes
}

/// A connection that has read everything, and a whole record on the wire's other side.
async fn record(lab: &Lab, length: usize) -> (TlsConnection, Server, Vec<u8>) {
    let (mut wire, mut server) = lab.wire().await;
    server.send(b"tickets come before this").await;
    read_record(&mut wire).await;
    server.queue(&vec![7; length]);
    let record = server.output();
    (wire, server, record)
}

#[tokio::test]
async fn what_is_missing_of_a_record_is_waited_for_as_a_whole() {
    let lab = Lab::new().await;
    let (mut wire, mut server, record) = record(&lab, MAX_RECORD_BYTES).await;
    let (first, rest) = record.split_at(3000);
    server.tcp.write_all(first).await.unwrap();
    read_a_part(&mut wire).await;
    assert_eq!(usize::try_from(wire.low_water).unwrap(), rest.len());

    let (second, last) = rest.split_at(rest.len() - 1);
    server.tcp.write_all(second).await.unwrap();
    server.tcp.write_all(last).await.unwrap();
    assert_eq!(read_record(&mut wire).await, vec![7; MAX_RECORD_BYTES]);
    assert_eq!(wire.low_water, 1);
    server.send(b"short").await;
    assert_eq!(read_record(&mut wire).await, b"short", "a short record is waited for as before");
}

#[tokio::test]
async fn a_small_rest_and_a_header_in_pieces_are_taken_as_they_come() {
    let lab = Lab::new().await;
    let (mut wire, mut server, record) = record(&lab, MAX_RECORD_BYTES).await;
    server.tcp.write_all(&record[..4]).await.unwrap();
    read_a_part(&mut wire).await;
    assert_eq!(wire.low_water, 1, "nobody knows how long it is");
    let nearly = record.len() - usize::try_from(LOW_WATER_LEAST).unwrap() + 1;
    server.tcp.write_all(&record[4..nearly]).await.unwrap();
    read_a_part(&mut wire).await;
    assert_eq!(wire.low_water, 1);
    server.tcp.write_all(&record[nearly..]).await.unwrap();
    assert_eq!(read_record(&mut wire).await.len(), MAX_RECORD_BYTES);
}

#[tokio::test]
async fn an_end_amid_a_record_is_heard() {
    let lab = Lab::new().await;
    let (mut wire, mut server, record) = record(&lab, MAX_RECORD_BYTES).await;
    server.tcp.write_all(&record[..100]).await.unwrap();
    read_a_part(&mut wire).await;
    assert!(wire.low_water > 1);
    drop(server);
    let end = poll_fn(|cx| wire.poll_read(cx, &mut |_| true)).await;
    assert!(end.is_err(), "{end:?}");
}
