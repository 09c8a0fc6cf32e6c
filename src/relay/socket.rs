//! An accepted socket as a flow: for programs that speak SOCKS, and apps with a TCP stack of their own.

use std::io;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::Flow;

/// Bytes read at once: one full record.
const READ_BYTES: usize = 16 * 1024;

/// A connected stream socket. Dropped before it was shut down, it is reset; one that is not of TCP cannot be,
/// and is closed.
#[derive(Debug)]
pub struct Socket<S: AsFd = TcpStream> {
    socket: S,
    /// Read and not taken yet; no memory is held while there is nothing.
    unread: Vec<u8>,
    taken: usize,
    shut: bool,
}

impl<S: AsFd> Socket<S> {
    /// Takes over `socket`, of which nothing is to be read elsewhere.
    pub fn new(socket: S) -> Self {
        Self { socket, unread: Vec::new(), taken: 0, shut: false }
    }
}

impl<S: AsyncRead + AsyncWrite + AsFd + Unpin + Send + 'static> Flow for Socket<S> {
    fn poll_read_with(
        &mut self,
        cx: &mut Context<'_>,
        take: &mut dyn FnMut(&[u8]) -> usize,
    ) -> Poll<io::Result<usize>> {
        if self.taken == self.unread.len() {
            let mut space = [0; READ_BYTES];
            let mut buf = ReadBuf::new(&mut space);
            let read = Pin::new(&mut self.socket).poll_read(cx, &mut buf);
            if read.is_pending() {
                (self.unread, self.taken) = (Vec::new(), 0);
            }
            ready!(read)?;
            self.unread.clear();
            self.unread.extend_from_slice(buf.filled());
            self.taken = 0;
            if self.unread.is_empty() {
                return Poll::Ready(Ok(0));
            }
        }
        let rest = &self.unread[self.taken..];
        let count = take(rest).min(rest.len());
        self.taken += count;
        Poll::Ready(Ok(count))
    }
}

impl<S: AsyncWrite + AsFd + Unpin> AsyncWrite for Socket<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.socket).poll_shutdown(cx))?;
        self.shut = true;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsFd> Drop for Socket<S> {
    fn drop(&mut self) {
        // Zero linger makes the close a RST.
        let linger = if self.shut { None } else { Some(Duration::ZERO) };
        let _unsupported = socket2::SockRef::from(&self.socket).set_linger(linger);
    }
}
