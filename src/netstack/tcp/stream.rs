//! A flow as the relay sees it: first a question, then a stream.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::netstack::tcp::flow::{Shared, Told};

/// A connection that an app asks for. Its SYN is not answered yet, except with `eager`.
///
/// Dropped, it is refused.
pub struct TcpFlow {
    stream: TcpStream,
}

impl TcpFlow {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { stream: TcpStream { shared } }
    }

    /// The app's end.
    pub fn source(&self) -> SocketAddr {
        self.stream.source()
    }

    /// Whom the app wants to talk to.
    pub fn destination(&self) -> SocketAddr {
        self.stream.destination()
    }

    /// Answers the SYN. The handshake goes on by itself; the stream may be used at once.
    pub fn accept(self) -> TcpStream {
        self.stream.shared.lock().accept();
        self.stream.shared.touch();
        self.stream
    }

    /// Answers with a reset: to the app, the connection is refused.
    pub fn refuse(self) {
        self.stream.abort();
    }
}

impl fmt::Debug for TcpFlow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TcpFlow").field(&self.stream.shared.id).finish()
    }
}

/// An app's connection, as a stream of bytes.
///
/// A reset from the app is [`io::ErrorKind::ConnectionReset`] on reads and writes, at once and before any
/// bytes that were not read yet. `poll_shutdown` sends a FIN after what was written and does not wait for it
/// to be acknowledged; reading goes on. Dropped after a shutdown, the stream is still delivered in full;
/// dropped without one, it is reset.
pub struct TcpStream {
    shared: Arc<Shared>,
}

impl TcpStream {
    /// The app's end.
    pub fn source(&self) -> SocketAddr {
        self.shared.tuple.source
    }

    /// Whom the app talks to.
    pub fn destination(&self) -> SocketAddr {
        self.shared.tuple.destination
    }

    /// Lends received bytes to `take`, which gives how many of them it took; saves a copy over
    /// [`AsyncRead`]. The bytes are those up to the end of the ring, so a second call may give more.
    /// `Ok(0)` is the end of the stream, provided that `take` takes at least one byte when asked.
    ///
    /// `take` runs under the flow's lock: it may lock others, which must not be held by anyone calling into
    /// this stream, and it may wake tasks of the runtime.
    ///
    /// # Errors
    /// When the flow ended in any way but by a FIN.
    pub fn poll_read_with(
        &mut self,
        cx: &mut Context<'_>,
        take: impl FnOnce(&[u8]) -> usize,
    ) -> Poll<io::Result<usize>> {
        let (result, tell) = self.shared.lock().poll_read(cx, take);
        if tell {
            self.shared.touch();
        }
        result
    }

    /// Resets the connection. Nothing that was written and not yet sent is delivered.
    pub fn abort(self) {
        self.shared.lock().abort();
    }
}

impl AsyncRead for TcpStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        ready!(self.poll_read_with(cx, |bytes| {
            let taken = bytes.len().min(buf.remaining());
            buf.put_slice(&bytes[..taken]);
            taken
        }))?;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for TcpStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let (result, told) = self.shared.lock().poll_write(cx, data);
        match told {
            Told::Nothing => {}
            Told::Touched => self.shared.touch(),
            Told::Starved => self.shared.hub.tell(|news| news.starved.push(self.shared.id)),
        }
        result
    }

    /// Does nothing: what was written is sent without being asked.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = self.shared.lock().shut_down();
        self.shared.touch();
        Poll::Ready(result)
    }
}

impl Drop for TcpStream {
    fn drop(&mut self) {
        self.shared.lock().abandon();
        self.shared.touch();
    }
}

impl fmt::Debug for TcpStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TcpStream").field(&self.shared.id).finish()
    }
}
