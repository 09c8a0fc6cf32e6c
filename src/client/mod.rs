//! Sessions driven over the network, and the pool's decisions carried out.
//!
//! ```text
//! Client::open ─► proto::pool (which session?) ─► runner (dials, grants) ─► Stream
//!                                                                            │ lock, frame
//!                     TLS record by record ◄─ driver ◄─ proto::session ◄─────┘
//! ```

pub(crate) mod driver;
mod error;
pub(crate) mod link;
mod runner;
mod stream;

use std::sync::Arc;

use crate::clock::Clock;
use crate::proto::auth::PasswordHash;
use crate::proto::padding::Scheme;
use crate::proto::pool::{PoolOptions, Want};
use crate::proto::session::{SessionError, StreamError};
use crate::proto::target::Target;
use crate::transport::Dial;

use self::runner::Runner;

pub use error::OpenError;
pub use runner::ClientStats;
pub use stream::Stream;

/// What a client is made of, besides the way to dial.
#[derive(Debug)]
pub struct ClientOptions {
    /// Which sessions are kept, and for how long.
    pub pool: PoolOptions,
    /// What every session begins with.
    pub password: PasswordHash,
    /// The padding scheme until the server sends another.
    pub scheme: Arc<Scheme>,
    /// What ages and deadlines are measured by.
    pub clock: Clock,
}

/// Streams to one AnyTLS server, over pooled sessions.
///
/// Clones share the pool. The sessions live until [`stop`](Self::stop), or until the last clone is dropped.
pub struct Client<D: Dial> {
    runner: Arc<Runner<D>>,
}

impl<D: Dial> Clone for Client<D> {
    fn clone(&self) -> Self {
        Self { runner: Arc::clone(&self.runner) }
    }
}

impl<D: Dial> Client<D> {
    /// A client with an empty pool. It must be made, and used, inside a tokio runtime.
    pub fn new(dial: D, options: ClientOptions) -> Self {
        Self { runner: Runner::start(dial, options) }
    }

    /// Opens a stream to `target`; `first` rides in the same write. Ready when the server has opened it.
    ///
    /// A session out of the pool may have died unnoticed. When it fails before the server has answered
    /// anything, the stream is opened once more on a fresh session; nobody has seen the first attempt.
    ///
    /// # Errors
    /// When no session could be made, when the server refused the stream or did not answer in time, or
    /// when the client was stopped.
    ///
    /// # Cancel safety
    /// Dropping the future gives the session back; a dial under way ends in the pool.
    pub async fn open(&self, target: &Target, first: &[u8]) -> Result<Stream, OpenError> {
        let mut error = match self.attempt(target, first).await? {
            Ok(stream) => return Ok(stream),
            Err(error) => error,
        };
        if matches!(error, StreamError::SessionFull(_)) {
            // It winds up the stream before; by now another idle session has done so.
            error = match self.attempt(target, first).await? {
                Ok(stream) => return Ok(stream),
                Err(error) => error,
            };
        }
        tracing::debug!(%error, "pooled session was of no use, trying a fresh one");
        self.open_fresh(target, first).await
    }

    /// Opens a stream on any session; the inner error is a pooled session's, and allows one more attempt.
    async fn attempt(&self, target: &Target, first: &[u8]) -> Result<Result<Stream, StreamError>, OpenError> {
        let lease = self.runner.lease(Want::Any).await?;
        let reused = lease.reused;
        match lease.open(target, first).await {
            Err(error) if reused && is_stale_session(&error) => Ok(Err(error)),
            opened => opened.map(Ok).map_err(OpenError::from),
        }
    }

    /// The one retry: opens a stream on a session that has served nobody yet.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub async fn open_fresh(&self, target: &Target, first: &[u8]) -> Result<Stream, OpenError> {
        self.runner.count_retry();
        let lease = self.runner.lease(Want::Fresh).await?;
        lease.open(target, first).await.map_err(OpenError::from)
    }

    /// What was counted so far.
    pub fn stats(&self) -> ClientStats {
        self.runner.stats()
    }

    /// Ends every session and dial, and waits until they are gone, which takes at most half a second.
    pub async fn stop(&self) {
        self.runner.stop().await;
    }
}

/// Whether the failure says something about the session and nothing about the target.
fn is_stale_session(error: &StreamError) -> bool {
    match error {
        StreamError::Session(reason) => match reason {
            SessionError::Closed
            | SessionError::EndedByPeer
            | SessionError::Lost(_)
            | SessionError::NoAnswer
            | SessionError::Rejected
            | SessionError::Alert(_) => true,
            SessionError::Violation(_) => false,
        },
        StreamError::SessionFull(_) => true,
        StreamError::Refused(_) | StreamError::TimedOut | StreamError::Closed => false,
    }
}
