//! Why a stream could not be opened.

use crate::proto::session::{SessionError, StreamError};
use crate::transport::DialError;

/// Why [`Client::open`](super::Client::open) gave no stream.
#[derive(Clone, Debug, thiserror::Error)]
pub enum OpenError {
    /// No session could be made.
    #[error("cannot reach the server")]
    Dial(#[source] DialError),
    /// The session was there, the stream was not.
    #[error(transparent)]
    Stream(StreamError),
    /// The client was stopped.
    #[error("stopped")]
    Stopped,
}

impl From<StreamError> for OpenError {
    /// A session that was rejected is a dial that failed, noticed late.
    fn from(error: StreamError) -> Self {
        match error {
            StreamError::Session(SessionError::Rejected) => Self::Dial(DialError::Authentication),
            error => Self::Stream(error),
        }
    }
}
