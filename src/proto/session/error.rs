//! Why a session or a stream ended.

use std::io;
use std::sync::Arc;

/// Why a session ended, and with it every stream on it.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SessionError {
    /// We closed it.
    #[error("session closed")]
    Closed,
    /// The server ended it in good order.
    #[error("session ended by the server")]
    EndedByPeer,
    /// It ended before the server had said anything.
    #[error("server closed right after authentication: wrong password, or not an AnyTLS server")]
    Rejected,
    /// The connection below broke: reset, cut off, or a record that was tampered with.
    #[error("connection lost")]
    Lost(#[source] Arc<io::Error>),
    /// The server sent an alert.
    #[error("server alert: {0}")]
    Alert(String),
    /// The server stopped answering.
    #[error("server does not answer")]
    NoAnswer,
    /// The peer broke the protocol.
    #[error("protocol violation: {0}")]
    Violation(&'static str),
}

/// Why a stream failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StreamError {
    /// The server could not reach the target; its own words.
    #[error("refused by the server: {0}")]
    Refused(String),
    /// The server takes no further stream on this session now; its own words. Another session will do.
    #[error("session is full: {0}")]
    SessionFull(String),
    /// The server did not open the stream in time, though the session lives.
    #[error("server did not open the stream in time")]
    TimedOut,
    /// The device left the network before the server had answered. Another session may.
    #[error("the network changed before the server answered")]
    Stranded,
    /// The session below ended.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// The stream was closed on this side.
    #[error("stream closed")]
    Closed,
}

impl From<StreamError> for io::Error {
    fn from(error: StreamError) -> Self {
        let kind = match &error {
            StreamError::Refused(_) | StreamError::SessionFull(_) => io::ErrorKind::ConnectionRefused,
            StreamError::TimedOut => io::ErrorKind::TimedOut,
            StreamError::Stranded | StreamError::Session(_) => io::ErrorKind::ConnectionReset,
            StreamError::Closed => io::ErrorKind::NotConnected,
        };
        Self::new(kind, error)
    }
}
