//! A session taken from the pool for one stream, and the request for one.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::link::Link;
use super::runner::Runner;
use super::{OpenError, Stream};
use crate::proto::pool::{SessionSeq, Ticket};
use crate::proto::session::{SessionError, StreamError};
use crate::proto::settings::PeerVersion;
use crate::proto::target::Target;
use crate::transport::Dial;

/// A session taken from the pool for one stream. Dropping it unused gives it back.
pub(super) struct Lease<D: Dial> {
    runner: Arc<Runner<D>>,
    seq: SessionSeq,
    link: Arc<Link>,
    /// Whether the session may have died unnoticed: it was not dialled just now.
    pub(super) is_pooled: bool,
    /// Where the session serves others now; to be kept until it is known what becomes of the stream.
    pub(super) sharing: Option<Sharing<D>>,
    is_shared: bool,
    /// Once a stream was opened, its end gives the session back.
    used: bool,
}

impl<D: Dial> Lease<D> {
    pub(super) fn new(
        runner: Arc<Runner<D>>,
        seq: SessionSeq,
        link: Arc<Link>,
        is_pooled: bool,
        is_shared: bool,
    ) -> Self {
        let sharing = is_shared.then(|| Sharing { runner: Arc::clone(&runner), is_settled: false });
        Self { runner, seq, link, is_pooled, sharing, is_shared, used: false }
    }

    /// Nobody took it, and who has it now gives it back, and says that nothing was found out about sharing.
    pub(super) fn forget(mut self) {
        self.used = true;
        if let Some(sharing) = &mut self.sharing {
            sharing.is_settled = true;
        }
    }

    /// Opens the stream that the lease is for, and waits for the server's answer.
    pub(super) async fn open(mut self, target: &Target, first: &[u8]) -> Result<Stream, StreamError> {
        self.used = true;
        let stream = Stream::open(Arc::clone(&self.link), target, first)?;
        match stream.opened().await {
            Ok(()) if self.is_pooled && self.link.lock().session.peer() == Some(PeerVersion::V1) => {
                Ok(stream.unproven())
            }
            Ok(()) => Ok(stream),
            Err(error) => {
                stream.abort();
                self.learn_from(&error);
                Err(error)
            }
        }
    }

    /// Some servers take one stream a session, and some are slow to notice that one has ended.
    fn learn_from(&self, error: &StreamError) {
        let full = matches!(error, StreamError::SessionFull(_));
        // To ask again would cost the other streams their session.
        let ended = matches!(
            error,
            StreamError::Session(SessionError::EndedByPeer | SessionError::Lost(_) | SessionError::Alert(_))
        );
        if self.is_shared && (full || ended) {
            self.runner.handle_refused_sharing();
        } else if full {
            self.runner.answer_fins();
        }
    }
}

impl<D: Dial> Drop for Lease<D> {
    fn drop(&mut self) {
        if !self.used {
            self.runner.give_back(self.seq);
        }
    }
}

/// The question whether the server takes a stream on a session that serves others. While it is open, the pool
/// has nobody else ask; dropping this says that nothing was found out.
pub(super) struct Sharing<D: Dial> {
    runner: Arc<Runner<D>>,
    is_settled: bool,
}

impl<D: Dial> Sharing<D> {
    pub(super) fn handle_taken(mut self) {
        self.is_settled = true;
        self.runner.handle_shared();
    }

    pub(super) fn handle_refused(mut self) {
        self.is_settled = true;
        self.runner.handle_refused_sharing();
    }
}

impl<D: Dial> Drop for Sharing<D> {
    fn drop(&mut self) {
        if !self.is_settled {
            self.runner.handle_unclear_sharing();
        }
    }
}

/// A request under way; dropping it withdraws the request.
pub(super) struct Request<'a, D: Dial> {
    pub(super) runner: &'a Arc<Runner<D>>,
    pub(super) ticket: Ticket,
    pub(super) grant: oneshot::Receiver<Result<Lease<D>, OpenError>>,
    pub(super) is_done: bool,
}

impl<D: Dial> Request<'_, D> {
    pub(super) async fn granted(mut self) -> Result<Lease<D>, OpenError> {
        let grant = (&mut self.grant).await;
        self.is_done = true;
        grant.unwrap_or(Err(OpenError::Stopped))
    }
}

impl<D: Dial> Drop for Request<'_, D> {
    fn drop(&mut self) {
        if !self.is_done {
            self.runner.withdraw(self.ticket);
        }
    }
}
