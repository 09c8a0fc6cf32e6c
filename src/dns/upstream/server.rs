//! A resolver, and how a connection to it is made.

use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::connection::{Connection, Lost};
use super::https::Https;
use super::pipeline::{Pipeline, Questions};
use crate::client::{OpenError, Stream};
use crate::proto::target::Target;
use crate::relay::Connect;

/// Opens the byte streams that connections run on.
pub(in crate::dns) trait Open: Clone + Send + 'static {
    type Io: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// A stream whose first bytes are `first`.
    fn open(&self, target: &Target, first: &[u8])
    -> impl Future<Output = Result<Self::Io, OpenError>> + Send;

    /// A stream that owes nothing to what may have died unnoticed.
    fn open_fresh(&self, target: &Target) -> impl Future<Output = Result<Self::Io, OpenError>> + Send;
}

impl<C: Connect> Open for C {
    type Io = Stream;

    async fn open(&self, target: &Target, first: &[u8]) -> Result<Stream, OpenError> {
        self.connect(target, first).await
    }

    async fn open_fresh(&self, target: &Target) -> Result<Stream, OpenError> {
        self.connect_fresh(target).await
    }
}

/// A resolver, and how it is spoken to.
#[derive(Debug)]
pub(in crate::dns) struct Server {
    pub(in crate::dns) target: Target,
    pub(in crate::dns) way: Way,
}

#[derive(Debug)]
pub(in crate::dns) enum Way {
    Tcp,
    Tls(Tls),
    Https(Tls, Uri),
}

/// A connection without questions is closed: a kept stream makes its session a busy one, whose heartbeats go on
/// in the background. What closes it leaves while the radio is still up after the last answer, some ten seconds
/// on mobile networks. Where a handshake would have to be made again, that time is used.
const HANDSHAKE_IDLE_LIMIT: Duration = Duration::from_secs(10);

/// Without one, questions ride along with the opening, and a stream that is kept saves nothing. The questions
/// of one page come within this.
const IDLE_LIMIT: Duration = Duration::from_secs(3);

impl Way {
    pub(super) fn idle_limit(&self) -> Duration {
        match self {
            Self::Tcp => IDLE_LIMIT,
            Self::Tls(_) | Self::Https(..) => HANDSHAKE_IDLE_LIMIT,
        }
    }
}

/// What all handshakes with the resolver have in common, their tickets too.
#[derive(Debug)]
pub(in crate::dns) struct Tls {
    pub(in crate::dns) config: Arc<ClientConfig>,
    pub(in crate::dns) name: ServerName<'static>,
}

impl Tls {
    async fn connect<S: AsyncRead + AsyncWrite + Unpin>(&self, stream: S) -> Result<TlsStream<S>, Lost> {
        let connector = TlsConnector::from(Arc::clone(&self.config));
        connector.connect(self.name.clone(), stream).await.map_err(Lost::Io)
    }
}

impl Server {
    /// Opens a connection. `questions` that are in its outbox leave with it; `is_fresh` only without any.
    pub(super) async fn connect<O: Open>(
        &self,
        opener: O,
        mut questions: Questions,
        is_fresh: bool,
    ) -> Result<Box<dyn Connection>, Lost> {
        let opened = if is_fresh {
            opener.open_fresh(&self.target).await
        } else {
            opener.open(&self.target, &questions.outbox.take()).await
        };
        let stream = opened.map_err(Lost::Open)?;
        match &self.way {
            Way::Tcp => Ok(Box::new(Pipeline::new(stream, questions))),
            Way::Tls(tls) => Ok(Box::new(Pipeline::new(tls.connect(stream).await?, questions))),
            Way::Https(tls, uri) => {
                let stream = tls.connect(stream).await?;
                if stream.get_ref().1.alpn_protocol() != Some(b"h2") {
                    return Err(Lost::NoHttp2);
                }
                Ok(Box::new(Https::begin(stream, uri.clone()).await.map_err(Lost::Http)?))
            }
        }
    }
}
