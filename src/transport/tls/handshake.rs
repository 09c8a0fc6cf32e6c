//! The handshake.

use std::io;
use std::task::Context;

use rustls::client::UnbufferedClientConnection;
use rustls::unbuffered::{ConnectionState, UnbufferedStatus};
use rustls::{ContentType, Error};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use super::buffers::{Inbox, Outbox};
use super::config::Client;
use super::stream::TlsConnection;
use crate::budget::{FLIGHT_BYTES, FLIGHT_STEP_BYTES};

/// Why a handshake failed.
#[derive(Debug)]
pub(in crate::transport) enum HandshakeError {
    Tls(Error),
    Io(io::Error),
}

/// Shakes hands over `tcp`. Our last flight is queued and not sent, so that it leaves in one packet with
/// the record that follows.
///
/// # Cancel safety
/// Dropping it closes the socket.
pub(in crate::transport) async fn handshake(
    mut tcp: TcpStream,
    client: &Client,
) -> Result<TlsConnection, HandshakeError> {
    let mut tls = UnbufferedClientConnection::new(client.config.clone(), client.name.clone())
        .map_err(HandshakeError::Tls)?;
    let mut outbox = Outbox::new(&client.account);
    let mut input = Vec::new();
    while tls.is_handshaking() {
        let UnbufferedStatus { discard, state } = tls.process_tls_records(&mut input);
        let mut is_blocked = false;
        let mut failure = None;
        match state {
            Ok(ConnectionState::EncodeTlsData(mut message)) => outbox.encode(&mut message),
            Ok(ConnectionState::TransmitTlsData(transmit)) => transmit.done(),
            Ok(ConnectionState::BlockedHandshake) => is_blocked = true,
            // Only in TLS 1.2, with the end of the handshake. Over AnyTLS the client speaks first, so it is
            // another kind of server.
            Ok(ConnectionState::ReadTraffic(_)) => {
                failure = Some(Error::InappropriateMessage {
                    expect_types: vec![ContentType::Handshake],
                    got_type: ContentType::ApplicationData,
                });
            }
            Ok(_) => {} // WriteTraffic or the peer's close: the handshake is over
            Err(error) => failure = Some(error),
        }
        input.drain(..discard);
        if let Some(error) = failure {
            tell(&mut tls, outbox, &mut tcp);
            return Err(HandshakeError::Tls(error));
        }
        if is_blocked {
            std::future::poll_fn(|cx| outbox.poll_flush(&mut tcp, cx)).await.map_err(HandshakeError::Io)?;
            read_more(&mut tcp, &mut input).await.map_err(HandshakeError::Io)?;
        }
    }
    outbox.encode_all(&mut tls);
    Ok(TlsConnection::new(tcp, tls, Inbox::new(&input, &client.account), outbox))
}

/// Sends the alert that says what was wrong, if the socket takes it now.
fn tell(tls: &mut UnbufferedClientConnection, mut outbox: Outbox, tcp: &mut TcpStream) {
    outbox.encode_all(tls);
    let _ = outbox.poll_flush(tcp, &mut Context::from_waker(std::task::Waker::noop()));
}

async fn read_more(tcp: &mut TcpStream, input: &mut Vec<u8>) -> io::Result<()> {
    if input.len() >= FLIGHT_BYTES {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the server's flight is too long"));
    }
    input.reserve_exact(FLIGHT_STEP_BYTES);
    if tcp.read_buf(input).await? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(())
}
