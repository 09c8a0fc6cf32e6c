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
    /// There was no network, and none came back in time.
    #[error("no network")]
    Offline,
    /// There are as many sessions as `max_sessions` allows, and none came free in time.
    #[error("all sessions are in use")]
    Busy,
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
