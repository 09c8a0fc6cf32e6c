//! [`Wire`] over tokio-rustls.

use std::io::{self, Write};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncBufRead, AsyncRead, AsyncWrite};
use tokio_rustls::{client, server};

use crate::transport::{Wire, WireRead};

/// Plaintext handed over in one call before others get a turn: four bursts of the sender.
const FAIR_SHARE_BYTES: usize = 256 * 1024;

/// A connection of tokio-rustls as a [`Wire`], each piece of plaintext being one record of the peer's.
#[derive(Debug)]
pub struct TlsWire<S> {
    tls: S,
    /// Why the reading failed, until what came before it has been handed over.
    failure: Option<io::Error>,
    closing: bool,
}

/// What the two sides' streams have in common, and tokio-rustls gives no name to.
pub trait TlsStream: AsyncBufRead + AsyncWrite + Unpin + Send + 'static {
    /// The plaintext that was decrypted and not handed over.
    fn reader(&mut self) -> rustls::Reader<'_>;

    /// Where plaintext is encrypted into the queue of the connection.
    fn writer(&mut self) -> rustls::Writer<'_>;

    /// Lets that queue hold a burst of full records.
    fn lift_buffer_limit(&mut self);
}

impl<IO: AsyncRead + AsyncWrite + Unpin + Send + 'static> TlsStream for server::TlsStream<IO> {
    fn reader(&mut self) -> rustls::Reader<'_> {
        self.get_mut().1.reader()
    }

    fn writer(&mut self) -> rustls::Writer<'_> {
        self.get_mut().1.writer()
    }

    fn lift_buffer_limit(&mut self) {
        self.get_mut().1.set_buffer_limit(None);
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin + Send + 'static> TlsStream for client::TlsStream<IO> {
    fn reader(&mut self) -> rustls::Reader<'_> {
        self.get_mut().1.reader()
    }

    fn writer(&mut self) -> rustls::Writer<'_> {
        self.get_mut().1.writer()
    }

    fn lift_buffer_limit(&mut self) {
        self.get_mut().1.set_buffer_limit(None);
    }
}

impl<S: TlsStream> TlsWire<S> {
    /// Takes over a connection whose handshake is done.
    pub fn new(mut tls: S) -> Self {
        tls.lift_buffer_limit();
        Self { tls, failure: None, closing: false }
    }

    /// The connection.
    pub fn get_ref(&self) -> &S {
        &self.tls
    }

    /// The connection.
    pub fn get_mut(&mut self) -> &mut S {
        &mut self.tls
    }
}

impl<S: TlsStream> Wire for TlsWire<S> {
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        sink: &mut dyn FnMut(&[u8]) -> bool,
    ) -> Poll<io::Result<WireRead>> {
        if self.closing {
            return Poll::Ready(Ok(WireRead::End));
        }
        let mut delivered = 0;
        while delivered < FAIR_SHARE_BYTES {
            let next = match &self.failure {
                None => ready!(Pin::new(&mut self.tls).poll_fill_buf(cx)),
                Some(_) => self.tls.reader().into_first_chunk(),
            };
            match next {
                Ok(record) if !record.is_empty() => {
                    let length = record.len();
                    let more = sink(record);
                    Pin::new(&mut self.tls).consume(length);
                    delivered += length;
                    if !more {
                        return Poll::Ready(Ok(WireRead::Paused));
                    }
                }
                // Records that came together with the bad one are handed over before it is reported.
                Err(error) if self.failure.is_none() => self.failure = Some(error),
                Ok(_) | Err(_) => return Poll::Ready(self.failure.take().map_or(Ok(WireRead::End), Err)),
            }
        }
        Poll::Ready(Ok(WireRead::More))
    }

    fn queue_record(&mut self, plaintext: &[u8]) -> io::Result<()> {
        if self.closing {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        self.tls.writer().write_all(plaintext)
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tls).poll_flush(cx)
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.closing = true;
        Pin::new(&mut self.tls).poll_shutdown(cx)
    }
}
