//! A flow and a stream, joined.
//!
//! The flow is what the app holds: a TCP connection that the netstack terminates, or an accepted socket.
//! The stream is what the server holds. Neither side is known here by more than a trait. An association is the
//! same for datagrams.

mod progress;
pub mod socket;
pub mod tcp;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
pub mod udp;

use std::io;
use std::task::{Context, Poll};

use tokio::io::AsyncWrite;

use crate::client::{Client, OpenError, Stream};
use crate::netstack::TcpStream;
use crate::proto::target::Target;
use crate::transport::Dial;

pub use progress::{Progress, Traffic};

/// The app's side of a TCP connection.
///
/// Dropped before it was shut down, it ends so that the app sees a failure (RST) and no clean end.
pub trait Flow: AsyncWrite + Unpin + Send + 'static {
    /// Lends the app's next bytes to `take`, which says how many it has used. Ready with 0 once the app
    /// has finished sending, or when `take` has used none.
    fn poll_read_with(
        &mut self,
        cx: &mut Context<'_>,
        take: &mut dyn FnMut(&[u8]) -> usize,
    ) -> Poll<io::Result<usize>>;
}

impl Flow for TcpStream {
    fn poll_read_with(
        &mut self,
        cx: &mut Context<'_>,
        take: &mut dyn FnMut(&[u8]) -> usize,
    ) -> Poll<io::Result<usize>> {
        Self::poll_read_with(self, cx, take)
    }
}

/// Opens streams to targets.
pub trait Connect: Clone + Send + Sync + 'static {
    /// Opens a stream whose first bytes are `first`; ready when the server has opened it.
    fn connect(
        &self,
        target: &Target,
        first: &[u8],
    ) -> impl Future<Output = Result<Stream, OpenError>> + Send;

    /// The same on a session that has served nobody: after a stream that [may be retried](Stream::may_retry).
    fn connect_fresh(&self, target: &Target) -> impl Future<Output = Result<Stream, OpenError>> + Send;
}

impl<D: Dial> Connect for Client<D> {
    async fn connect(&self, target: &Target, first: &[u8]) -> Result<Stream, OpenError> {
        self.open(target, first).await
    }

    async fn connect_fresh(&self, target: &Target) -> Result<Stream, OpenError> {
        self.open_fresh(target, &[]).await
    }
}
