//! A flow that a test holds the other end of.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};

use super::Flow;

/// A flow over a pipe; the app sees `aborted` in place of a RST.
pub(crate) struct PipeFlow {
    pipe: DuplexStream,
    unread: Vec<u8>,
    shut: bool,
    aborted: Arc<Mutex<bool>>,
}

pub(crate) struct App {
    pub(crate) pipe: DuplexStream,
    aborted: Arc<Mutex<bool>>,
}

impl App {
    pub(crate) fn was_reset(&self) -> bool {
        *self.aborted.lock().unwrap()
    }
}

/// Both ends of a flow that holds so much each way.
pub(crate) fn flow(bytes: usize) -> (PipeFlow, App) {
    let (ours, theirs) = tokio::io::duplex(bytes);
    let aborted = Arc::new(Mutex::new(false));
    let flow = PipeFlow { pipe: ours, unread: Vec::new(), shut: false, aborted: Arc::clone(&aborted) };
    (flow, App { pipe: theirs, aborted })
}

impl Flow for PipeFlow {
    fn poll_read_with(
        &mut self,
        cx: &mut Context<'_>,
        take: &mut dyn FnMut(&[u8]) -> usize,
    ) -> Poll<io::Result<usize>> {
        if self.unread.is_empty() {
            let mut space = [0; 4096];
            let mut buf = ReadBuf::new(&mut space);
            ready!(Pin::new(&mut self.pipe).poll_read(cx, &mut buf))?;
            self.unread.extend_from_slice(buf.filled());
            if self.unread.is_empty() {
                return Poll::Ready(Ok(0));
            }
        }
        let taken = take(&self.unread);
        self.unread.drain(..taken);
        Poll::Ready(Ok(taken))
    }
}

impl Drop for PipeFlow {
    fn drop(&mut self) {
        *self.aborted.lock().unwrap() = !self.shut;
    }
}

impl AsyncWrite for PipeFlow {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.pipe).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.shut = true;
        Pin::new(&mut self.pipe).poll_shutdown(cx)
    }
}
