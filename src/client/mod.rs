//! Sessions driven over the network, and the pool's decisions carried out.
//!
//! ```text
//! Client::open ─► proto::pool (which session?) ─► runner (dials, grants) ─► Stream
//!                                                                            │ lock, frame
//!                     TLS record by record ◄─ driver ◄─ proto::session ◄─────┘
//! ```

mod counters;
pub(crate) mod driver;
mod error;
mod latency;
mod lease;
pub(crate) mod link;
mod runner;
mod status;
mod stream;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::budget::Account;
use crate::clock::Clock;
use crate::private::Private;
use crate::proto::auth::PasswordHash;
use crate::proto::padding::Scheme;
use crate::proto::pool::{Conditions, PoolOptions, Want};
use crate::proto::session::{SessionError, StreamError};
use crate::proto::target::Target;
use crate::transport::Dial;

use self::lease::Sharing;
use self::runner::{Runner, Shown};

pub use counters::ClientStats;
pub use error::OpenError;
pub use status::{ClientStatus, Latency, SessionInfo};
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
    /// What all sessions may hold together.
    pub account: Arc<Account>,
}

/// Streams to one AnyTLS server, over pooled sessions.
///
/// Clones share the pool. The sessions live until [`stop`](Self::stop), or until the last clone is dropped.
pub struct Client<D: Dial> {
    /// Replaced as a whole when the server is another.
    runner: Arc<Mutex<Arc<Runner<D>>>>,
    shown: Arc<Shown>,
}

impl<D: Dial> Clone for Client<D> {
    fn clone(&self) -> Self {
        Self { runner: Arc::clone(&self.runner), shown: Arc::clone(&self.shown) }
    }
}

impl<D: Dial> Client<D> {
    /// A client with an empty pool. It must be made, and used, inside a tokio runtime.
    pub fn new(dial: D, options: ClientOptions) -> Self {
        let shown = Arc::<Shown>::default();
        let runner = Runner::start(dial, options, Conditions::default(), Arc::clone(&shown));
        Self { runner: Arc::new(Mutex::new(runner)), shown }
    }

    /// Goes over to another server, or another way to it: streams from now on open there, and what is open on
    /// the sessions before fails. To be called inside the client's runtime; ready when those sessions are gone.
    pub async fn replace(&self, dial: D, options: ClientOptions, conditions: Conditions) {
        let runner = Runner::start(dial, options, conditions, Arc::clone(&self.shown));
        let before = std::mem::replace(&mut *self.lock(), runner);
        before.stop().await;
    }

    fn runner(&self) -> Arc<Runner<D>> {
        Arc::clone(&self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, Arc<Runner<D>>> {
        self.runner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens a stream to `target`; `first` rides in the same write. Ready when the server has opened it.
    ///
    /// A session out of the pool may have died unnoticed. When it fails before the server has answered
    /// anything, or the network is left before that, the stream is opened once more on a fresh session; nobody
    /// has seen the first attempt.
    ///
    /// # Errors
    /// When no session could be made, when the server refused the stream or did not answer in time, or
    /// when the client was stopped.
    ///
    /// # Cancel safety
    /// Dropping the future gives the session back; a dial under way ends in the pool.
    pub async fn open(&self, target: &Target, first: &[u8]) -> Result<Stream, OpenError> {
        let failed = match self.attempt(target, first, Want::Any).await? {
            Ok(stream) => return Ok(stream),
            Err(failed) => failed,
        };
        if failed.says_nothing_of_others {
            // It winds up the stream before, or takes no second one; another idle session may do.
            match self.attempt(target, first, Want::Alone).await {
                Ok(Ok(stream)) => {
                    if let Some(sharing) = failed.sharing {
                        sharing.handle_refused();
                    }
                    return Ok(stream);
                }
                Ok(Err(_)) => {}
                Err(OpenError::Busy) => return Err(failed.error.into()),
                Err(error) => return Err(error),
            }
        }
        tracing::debug!(error = %Private(&failed.error), "used session was of no use, trying a fresh one");
        drop(failed);
        self.open_fresh(target, first).await
    }

    /// Opens a stream on such a session; the inner error allows one more attempt on another.
    async fn attempt(
        &self,
        target: &Target,
        first: &[u8],
        want: Want,
    ) -> Result<Result<Stream, Failed<D>>, OpenError> {
        let mut lease = self.runner().lease(want).await?;
        let (is_pooled, sharing) = (lease.is_pooled, lease.sharing.take());
        let error = match lease.open(target, first).await {
            Ok(stream) => {
                if let Some(sharing) = sharing {
                    sharing.handle_taken();
                }
                return Ok(Ok(stream));
            }
            Err(error) => error,
        };
        let is_shared = sharing.is_some();
        let is_refused = matches!(error, StreamError::Refused(_));
        let says_nothing_of_others =
            matches!(error, StreamError::SessionFull(_)) || (is_shared && is_refused);
        let is_used = is_pooled || is_shared || matches!(error, StreamError::Stranded);
        if is_used && (says_nothing_of_others || is_stale_session(&error)) {
            Ok(Err(Failed { error, sharing, says_nothing_of_others }))
        } else {
            Err(error.into())
        }
    }

    /// The one retry: opens a stream on a session that has served nobody yet.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub async fn open_fresh(&self, target: &Target, first: &[u8]) -> Result<Stream, OpenError> {
        self.runner().count_retry();
        let lease = self.runner().lease(Want::Fresh).await?;
        lease.open(target, first).await.map_err(OpenError::from)
    }

    /// What was counted so far: a session or dial is either as it was before a change or as it is after it.
    pub fn stats(&self) -> ClientStats {
        self.runner().stats()
    }

    /// How the client is doing, now and from now on.
    pub fn status(&self) -> watch::Receiver<ClientStatus> {
        self.shown.status.subscribe()
    }

    /// The sessions that there are, oldest first.
    pub fn sessions(&self) -> Vec<SessionInfo> {
        self.runner().sessions()
    }

    /// The phone is awake or not, has a network or not, has memory or not. Saying so again costs little.
    pub fn set_conditions(&self, conditions: Conditions) {
        self.runner().set_conditions(conditions);
    }

    /// Has every timer look at the clock: the phone may have slept.
    pub fn wake(&self) {
        self.runner().wake();
    }

    /// The network that the phone is on since the start is called `name`.
    pub fn name_path(&self, name: &str) {
        self.runner().name_path(name);
    }

    /// The phone is on another network, called `name`: idle sessions are closed, those that carry streams are
    /// asked whether they live, streams without an answer are opened anew, and dials begin anew.
    pub fn handle_path_change(&self, name: &str) {
        self.runner().handle_path_change(name);
    }

    /// Other pool options from now on.
    pub fn set_options(&self, options: PoolOptions) {
        self.runner().set_options(options);
    }

    /// Measures the server with a session of its own, which opens two streams to `target` and ends.
    ///
    /// # Errors
    /// As [`open`](Self::open), but without waiting for a network. Against a server of version 1, which answers no
    /// stream, streams seem to open at once.
    pub async fn test_latency(&self, target: &Target) -> Result<Latency, OpenError> {
        let runner = self.runner();
        if !runner.is_online() {
            return Err(OpenError::Offline);
        }
        latency::measure(&runner, target).await
    }

    /// Ends every session and dial, and waits until they are gone, which takes at most half a second.
    pub async fn stop(&self) {
        self.runner().stop().await;
    }
}

/// A stream that another session may still open.
struct Failed<D: Dial> {
    error: StreamError,
    sharing: Option<Sharing<D>>,
    /// Whether it was refused because the session serves others, or may have been.
    says_nothing_of_others: bool,
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
        StreamError::SessionFull(_) | StreamError::Stranded => true,
        StreamError::Refused(_) | StreamError::TimedOut | StreamError::Closed => false,
    }
}
