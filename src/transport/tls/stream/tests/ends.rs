//! How connections end, in good order and not.

use rustls::AlertDescription;
use socket2::SockRef;

use super::*;

#[tokio::test]
async fn a_close_notify_is_the_end_after_all_data() {
    for version in [&TLS12, &TLS13] {
        let lab = Lab::with(version, |_| {}).await;
        let (mut wire, mut server) = lab.wire().await;
        server.queue(b"last words");
        server.tls.send_close_notify();
        server.flush().await.unwrap();
        let (bytes, end) = read_to_end(&mut wire).await;
        assert_eq!((&bytes[..], end.unwrap()), (&b"last words"[..], Read::End));
        let (bytes, end) = read_to_end(&mut wire).await;
        assert_eq!((&bytes[..], end.unwrap()), (&b""[..], Read::End), "and it stays the end");
        // The other direction is still open.
        write(&mut wire, b"bye").await;
        assert_eq!(server.receive(3).await, b"bye");
    }
}

#[tokio::test]
async fn the_end_of_the_bytes_without_a_close_notify_is_an_error() {
    let lab = Lab::new().await;
    for cut in [0, 3] {
        let (mut wire, mut server) = lab.wire().await;
        server.send(b"data").await;
        server.queue(b"more");
        let record = server.output();
        server.tcp.write_all(&record[..cut]).await.unwrap();
        server.tcp.shutdown().await.unwrap();
        let (bytes, end) = read_to_end(&mut wire).await;
        assert_eq!(bytes, b"data");
        assert_eq!(end.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}

#[tokio::test]
async fn a_reset_is_an_error() {
    let lab = Lab::new().await;
    let (mut wire, mut server) = lab.wire().await;
    server.send(b"data").await;
    assert_eq!(read(&mut wire, 4).await, b"data");
    SockRef::from(&server.tcp).set_linger(Some(Duration::ZERO)).unwrap();
    drop(server);
    let (_, end) = read_to_end(&mut wire).await;
    assert_eq!(end.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_flipped_bit_is_invalid_data_and_the_server_is_told() {
    for version in [&TLS12, &TLS13] {
        let lab = Lab::with(version, |_| {}).await;
        let (mut wire, mut server) = lab.wire().await;
        server.send(b"good").await;
        server.queue(b"bad");
        let mut record = server.output();
        *record.last_mut().unwrap() ^= 1;
        server.tcp.write_all(&record).await.unwrap();
        let (bytes, end) = read_to_end(&mut wire).await;
        assert_eq!(bytes, b"good");
        assert_eq!(end.unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert!(read_to_end(&mut wire).await.1.is_err(), "and it stays an error");
        assert_eq!(wire.queue_record(b"x").unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        let alert = server.hear().await.unwrap_err();
        let expected = rustls::Error::AlertReceived(AlertDescription::BadRecordMac);
        assert_eq!(alert.get_ref().and_then(|error| error.downcast_ref()), Some(&expected));
    }
}

#[tokio::test]
async fn bytes_that_are_no_record_are_invalid_data() {
    let lab = Lab::new().await;
    let (mut wire, mut server) = lab.wire().await;
    server.tcp.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
    let (_, end) = read_to_end(&mut wire).await;
    assert_eq!(end.unwrap_err().kind(), io::ErrorKind::InvalidData);
}

#[tokio::test]
async fn closing_sends_what_is_queued_then_a_close_notify_then_the_end() {
    for version in [&TLS12, &TLS13] {
        let lab = Lab::with(version, |_| {}).await;
        let (mut wire, mut server) = lab.wire().await;
        wire.queue_record(b"last words").unwrap();
        poll_fn(|cx| wire.poll_close(cx)).await.unwrap();
        assert_eq!(server.receive(10).await, b"last words");
        assert_eq!(server.hear().await.map_err(|error| error.kind()), Err(io::ErrorKind::UnexpectedEof));
        assert!(server.is_ended, "a clean end, and no truncation");
        assert_eq!(wire.queue_record(b"x").unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        assert_eq!(read_to_end(&mut wire).await.1.unwrap(), Read::End);
        poll_fn(|cx| wire.poll_close(cx)).await.unwrap();
    }
}
