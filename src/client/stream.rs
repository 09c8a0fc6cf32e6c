//! The app's handle on one proxied stream.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::link::Link;
use crate::proto::frame::StreamId;
use crate::proto::session::{SessionError, StreamError};
use crate::proto::target::Target;

/// One proxied connection, as bytes both ways.
///
/// Reading gives 0 after the server has closed the stream in good order; a session that died is an error.
/// The protocol has no half-close: [`shutdown`](tokio::io::AsyncWriteExt::shutdown) only ends this side's
/// writing and tells the server nothing. Dropping the stream lets what was written leave, then closes it.
#[derive(Debug)]
pub struct Stream {
    link: Arc<Link>,
    id: StreamId,
    /// Opened on a used session of a server that does not answer streams: it may be dead unnoticed.
    unproven: bool,
}

impl Stream {
    /// Opens a stream on the session behind `link`; the server has not answered yet.
    pub(crate) fn open(link: Arc<Link>, target: &Target, first: &[u8]) -> Result<Self, SessionError> {
        let id = link.open(target, first)?;
        Ok(Self { link, id, unproven: false })
    }

    /// A stream that the peer has opened.
    #[cfg(feature = "testserver")]
    pub(crate) fn incoming(link: Arc<Link>, id: StreamId) -> Self {
        Self { link, id, unproven: false }
    }

    /// Marks a stream that no answer has confirmed.
    pub(crate) fn unproven(mut self) -> Self {
        self.unproven = true;
        self
    }

    /// Whether a failure before any byte was moved may be the pooled session's, so that one more attempt
    /// on a fresh session is allowed: a server of version 1 never answers an open.
    pub fn may_retry(&self) -> bool {
        self.unproven
    }

    /// The stream's number within its session.
    pub fn id(&self) -> u32 {
        self.id.0
    }

    /// Waits until the server has opened the stream.
    pub(crate) async fn opened(&self) -> Result<(), StreamError> {
        std::future::poll_fn(|cx| self.link.poll_open(self.id, cx)).await
    }

    /// Lends the next bytes to `take`, which says how many it has used: one copy less than [`AsyncRead`].
    /// `take` runs under the session's lock. Ready with 0 at the end of the stream.
    ///
    /// # Errors
    /// When the stream failed or its session died.
    pub fn poll_read_with(
        &mut self,
        cx: &Context<'_>,
        take: impl FnOnce(&[u8]) -> usize,
    ) -> Poll<io::Result<usize>> {
        self.link.poll_read_with(self.id, cx, take).map_err(io::Error::from)
    }

    /// Closes the stream and drops what was written and has not left yet.
    pub fn abort(self) {
        self.link.abort(self.id);
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.link.close(self.id);
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        ready!(self.poll_read_with(cx, |bytes| {
            let count = bytes.len().min(buf.remaining());
            buf.put_slice(&bytes[..count]);
            count
        }))?;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.link.poll_write(self.id, cx, bytes).map_err(io::Error::from)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(())) // the driver sends what it has without being asked
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
