//! A TLS connection over rustls' unbuffered API.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::unbuffered::{ConnectionState, EncryptError, UnbufferedStatus, WriteTraffic};
use rustls::{HandshakeKind, ProtocolVersion};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::super::wire::{BURST_RECORDS, Progress, Read, SystemWatch, Wire};
use super::buffers::{Inbox, Outbox, with_read_buffer};
use super::config::TlsVersion;
use crate::platform::socket;
use crate::proto::frame::MAX_RECORD_BYTES;

/// A TLS connection to the server, its handshake done.
///
/// Between polls it keeps no buffers, except for the beginning of a record (up to 16 KiB), what a paused
/// reader has not taken (up to 64 KiB of ciphertext) and what the socket has not taken (one burst); less
/// when the account of all sessions is used up: a record each. Idle it costs 3.5 KiB, and a copy of the
/// server's certificate chain, which rustls keeps for each connection.
pub struct TlsConnection {
    tcp: TcpStream,
    // INVARIANT: after an error it is not given input again.
    tls: UnbufferedClientConnection,
    inbox: Inbox,
    outbox: Outbox,
    /// Bytes that the socket is to have before it wakes us.
    low_water: u32,
    /// Length of the last record read, its header included; 0 before the first.
    last_record: usize,
    /// Records queued since the last flush.
    queued: usize,
    inward: Inward,
    closing: bool,
}

/// The direction towards us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Inward {
    Open,
    Ended,
    Failed,
}

/// Missing bytes of a record that are worth two system calls: fewer come in two packets or three, and wake us as often.
const LOW_WATER_LEAST: u32 = 4 * 1024;

impl TlsConnection {
    pub(super) fn new(tcp: TcpStream, tls: UnbufferedClientConnection, inbox: Inbox, outbox: Outbox) -> Self {
        Self {
            tcp,
            tls,
            inbox,
            outbox,
            low_water: 1,
            last_record: 0,
            queued: 0,
            inward: Inward::Open,
            closing: false,
        }
    }

    /// The server's address.
    ///
    /// # Errors
    /// When the connection is gone.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.tcp.peer_addr()
    }

    /// Our address.
    ///
    /// # Errors
    /// When the connection is gone.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.tcp.local_addr()
    }

    /// The protocol that the server chose of those offered.
    pub fn alpn(&self) -> Option<&[u8]> {
        self.tls.alpn_protocol()
    }

    /// The TLS version.
    pub fn version(&self) -> TlsVersion {
        match self.tls.protocol_version() {
            Some(ProtocolVersion::TLSv1_2) => TlsVersion::Tls12,
            _ => TlsVersion::Tls13, // the only other one that is offered
        }
    }

    /// Whether the handshake resumed an earlier one.
    pub fn is_resumed(&self) -> bool {
        self.tls.handshake_kind() == Some(HandshakeKind::Resumed)
    }

    /// The kernel's smoothed round trip now: a system call.
    pub fn smoothed_rtt(&self) -> Option<Duration> {
        socket::smoothed_rtt(self.tcp.as_fd())
    }

    /// Brings rustls to where it writes, and has `write` fill at least `least` bytes of the outbox.
    fn encrypt(
        &mut self,
        mut least: usize,
        write: impl Fn(&mut WriteTraffic<'_, ClientConnectionData>, &mut [u8]) -> Result<usize, EncryptError>,
    ) -> io::Result<()> {
        loop {
            // rustls writes only when it finds no whole record to read. Where whole records wait in the inbox,
            // there is no handshake message in pieces before them, and rustls can do without its input; where
            // such pieces are, it must see them again.
            let input = if self.inbox.unread { &mut [] } else { self.inbox.bytes() };
            let UnbufferedStatus { discard, state } = self.tls.process_tls_records(input);
            debug_assert_eq!(discard, 0, "there was nothing to process");
            match state.map_err(invalid)? {
                ConnectionState::EncodeTlsData(mut message) => self.outbox.encode(&mut message),
                ConnectionState::TransmitTlsData(transmit) => transmit.done(),
                ConnectionState::WriteTraffic(mut traffic) => {
                    match write(&mut traffic, self.outbox.room(least)) {
                        Ok(count) => {
                            self.outbox.advance(count);
                            return Ok(());
                        }
                        Err(EncryptError::InsufficientSize(short)) => least = short.required_size,
                        Err(EncryptError::EncryptExhausted) => {
                            return Err(io::Error::new(io::ErrorKind::BrokenPipe, "the keys are worn out"));
                        }
                    }
                }
                _ => return Err(io::ErrorKind::BrokenPipe.into()), // closed by both
            }
        }
    }

    /// Reads until there is nothing more, or a reason to stop.
    fn poll_socket(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
        sink: &mut dyn FnMut(&[u8]) -> bool,
    ) -> Poll<io::Result<Read>> {
        loop {
            let held = self.inbox.bytes().len();
            let most = self.inbox.allowance(self.last_record);
            if held >= most {
                // Fragments of one message that do not end: tickets and key updates are far smaller.
                return Poll::Ready(Err(invalid("a handshake message is too long")));
            }
            let mut room = ReadBuf::new(&mut buffer[held..most]);
            ready!(Pin::new(&mut self.tcp).poll_read(cx, &mut room))?;
            let (count, is_full) = (room.filled().len(), room.remaining() == 0);
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
            buffer[..held].copy_from_slice(self.inbox.bytes());
            let filled = &mut buffer[..held + count];
            let (done, stop) = decrypt(&mut self.tls, &mut self.outbox, filled, sink, &mut self.last_record)?;
            self.inbox.keep(&filled[done..], stop == Stop::Paused);
            if let Some(read) = stop.read() {
                return Poll::Ready(Ok(read));
            }
            if is_full {
                // There may be more: others of the thread have their turn, those who take the bytes first of all.
                return Poll::Ready(Ok(Read::More));
            }
        }
    }

    fn poll_read_open(
        &mut self,
        cx: &mut Context<'_>,
        sink: &mut dyn FnMut(&[u8]) -> bool,
    ) -> Poll<io::Result<Read>> {
        if self.inbox.unread {
            let (done, stop) =
                decrypt(&mut self.tls, &mut self.outbox, self.inbox.bytes(), sink, &mut self.last_record)?;
            self.inbox.consume(done, stop == Stop::Paused);
            if let Some(read) = stop.read() {
                return Poll::Ready(Ok(read));
            }
        }
        if self.low_water > 1 {
            ready!(self.tcp.poll_read_ready(cx))?; // no system call while nothing has come
            self.wake_at(1); // before the socket is found empty, or what comes then could be missed
        }
        let result = with_read_buffer(|buffer| self.poll_socket(cx, buffer, sink));
        if result.is_pending() {
            let missing = self.inbox.missing();
            if missing >= LOW_WATER_LEAST {
                self.wake_at(missing);
            }
        }
        result
    }

    /// Has the socket wake us at so many bytes: a part of a record is of no use.
    fn wake_at(&mut self, bytes: u32) {
        if self.low_water != bytes && socket::set_low_water(self.tcp.as_fd(), bytes).is_ok() {
            self.low_water = bytes;
        }
    }
}

impl Wire for TlsConnection {
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        sink: &mut dyn FnMut(&[u8]) -> bool,
    ) -> Poll<io::Result<Read>> {
        match self.inward {
            Inward::Open if !self.closing => {}
            Inward::Open | Inward::Ended => return Poll::Ready(Ok(Read::End)),
            Inward::Failed => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
        let result = self.poll_read_open(cx, sink);
        match &result {
            Poll::Ready(Ok(Read::End)) => self.inward = Inward::Ended,
            Poll::Ready(Err(_)) => self.inward = Inward::Failed,
            Poll::Ready(Ok(Read::Paused | Read::More)) | Poll::Pending => return result,
        }
        self.inbox.keep(&[], false);
        // An alert may have been made; that it leaves matters to the peer only.
        let _ = self.outbox.poll_flush(&mut self.tcp, cx);
        result
    }

    fn queue_record(&mut self, plaintext: &[u8]) -> io::Result<()> {
        if plaintext.is_empty() || plaintext.len() > MAX_RECORD_BYTES {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        if self.closing || self.inward == Inward::Failed {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        if self.queued == BURST_RECORDS {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.queued += 1;
        self.encrypt(plaintext.len(), |write, room| write.encrypt(plaintext, room))
    }

    fn burst_records(&self) -> usize {
        self.outbox.burst_records()
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.outbox.poll_flush(&mut self.tcp, cx))?;
        self.queued = 0;
        Poll::Ready(Ok(()))
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.closing {
            self.closing = true;
            if self.inward != Inward::Failed {
                self.encrypt(0, |write, room| write.queue_close_notify(room))?;
            }
            self.inbox.keep(&[], false);
        }
        ready!(self.poll_flush(cx))?;
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }

    fn is_in_doubt(&self) -> bool {
        socket::is_in_doubt(self.tcp.as_fd())
    }

    fn progress(&self) -> Option<Progress> {
        let written = self.outbox.written();
        let unacked = socket::unacked_bytes(self.tcp.as_fd())?;
        let queued = written + self.outbox.waiting();
        Some(Progress { queued, acknowledged: written.saturating_sub(unacked) })
    }

    fn watch_by_system(&mut self, watch: SystemWatch) {
        if let Err(error) = socket::set_keepalive(self.tcp.as_fd(), watch.interval, watch.dead_after) {
            tracing::debug!(%error, "the system will not watch this connection");
        }
    }
}

impl AsFd for TlsConnection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.tcp.as_fd()
    }
}

impl fmt::Debug for TlsConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("TlsConnection");
        debug.field("peer", &self.peer_addr().ok()).field("inward", &self.inward);
        debug.field("closing", &self.closing).finish_non_exhaustive()
    }
}

/// Why [`decrypt`] stopped.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stop {
    /// No whole record is left.
    Drained,
    Paused,
    Ended,
}

impl Stop {
    fn read(self) -> Option<Read> {
        match self {
            Self::Drained => None,
            Self::Paused => Some(Read::Paused),
            Self::Ended => Some(Read::End),
        }
    }
}

/// Decrypts the records in `input`, and says how many bytes are done with, and how long the last record was.
fn decrypt(
    tls: &mut UnbufferedClientConnection,
    outbox: &mut Outbox,
    input: &mut [u8],
    sink: &mut dyn FnMut(&[u8]) -> bool,
    last_record: &mut usize,
) -> io::Result<(usize, Stop)> {
    let mut done = 0;
    loop {
        let UnbufferedStatus { discard, state } = tls.process_tls_records(&mut input[done..]);
        let mut stop = None;
        let mut failure = None;
        done += discard;
        match state {
            Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                *last_record = discard;
                while let Some(record) = traffic.next_record() {
                    match record {
                        Ok(record) => {
                            done += record.discard;
                            if !sink(record.payload) {
                                stop = Some(Stop::Paused);
                            }
                        }
                        Err(error) => failure = Some(error),
                    }
                }
            }
            Ok(ConnectionState::EncodeTlsData(mut message)) => outbox.encode(&mut message),
            Ok(ConnectionState::TransmitTlsData(transmit)) => transmit.done(),
            Ok(ConnectionState::PeerClosed | ConnectionState::Closed) => stop = Some(Stop::Ended),
            Ok(_) => stop = Some(Stop::Drained), // WriteTraffic: nothing to read
            Err(error) => failure = Some(error),
        }
        if let Some(error) = failure {
            outbox.encode_all(tls);
            return Err(invalid(error));
        }
        if let Some(stop) = stop {
            return Ok((done, stop));
        }
    }
}

fn invalid(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

#[cfg(all(test, feature = "testserver"))]
mod low_water;
#[cfg(all(test, feature = "testserver"))]
mod tests;
