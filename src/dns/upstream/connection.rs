//! What the ways to a resolver have in common.

use std::io;
use std::task::{Context, Poll};

use crate::client::OpenError;

/// The number of one sending of a question, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Serial(pub(super) u64);

/// What came for a question.
pub(super) struct Answer {
    pub(super) serial: Serial,
    pub(super) message: Result<Vec<u8>, NoAnswer>,
}

/// Why a question gets no answer on a connection that goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoAnswer {
    /// The server takes fewer questions at once, and has not looked at this one.
    NotTaken,
    /// It may have one when it is asked again.
    NotNow(&'static str),
    /// It would say the same again.
    Never(&'static str),
}

/// Carries questions to the resolver and answers back.
pub(super) trait Connection: Send {
    /// Whether it takes another question now; if not, it will once it has been polled.
    fn has_room(&self) -> bool;
    fn send(&mut self, serial: Serial, question: &[u8]);
    /// Nobody waits for that answer any more.
    fn forget(&mut self, serial: Serial);
    /// Moves bytes both ways until there is an answer. After an error nothing more comes.
    fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<Result<Answer, Lost>>;
}

/// Why a connection is no more, or never was.
#[derive(Debug, thiserror::Error)]
pub(super) enum Lost {
    #[error(transparent)]
    Open(OpenError),
    #[error(transparent)]
    Io(io::Error),
    #[error(transparent)]
    Http(h2::Error),
    #[error("the DNS server does not speak HTTP/2")]
    NoHttp2,
    #[error("the DNS server has ended the connection")]
    Ended,
    #[error("the DNS server sent what is no DNS message")]
    Nonsense,
    #[error("the DNS server is silent")]
    Silent,
    #[error("the connection took too long to open")]
    Late,
}

/// What may help when a connection was lost before it had answered anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Remedy {
    /// Another attempt would end the same way.
    Nothing,
    /// Another stream.
    Stream,
    /// A stream on a session of its own: the one below may have died unnoticed.
    Session,
}

impl Lost {
    pub(super) fn remedy(&self) -> Remedy {
        match self {
            Self::Open(OpenError::Offline) | Self::NoHttp2 => Remedy::Nothing,
            // The client has tried a fresh session by itself where that could help. It is stopped when another
            // takes its place, and then the next attempt is that one's.
            Self::Open(OpenError::Dial(_) | OpenError::Stream(_) | OpenError::Busy | OpenError::Stopped)
            | Self::Nonsense => Remedy::Stream,
            Self::Io(error) => Remedy::of(error),
            Self::Http(error) => error.get_io().map_or(Remedy::Stream, Remedy::of),
            Self::Ended | Self::Silent | Self::Late => Remedy::Session,
        }
    }

    /// Whether finding out took so long that questions do not follow each other fast.
    pub(super) fn is_slow(&self) -> bool {
        matches!(self, Self::Silent | Self::Late)
    }

    /// Whether the tunnel was there and the resolver was not: without a tunnel, the client paces itself.
    pub(super) fn is_behind_the_tunnel(&self) -> bool {
        match self {
            Self::Open(OpenError::Dial(_) | OpenError::Offline | OpenError::Busy | OpenError::Stopped) => {
                false
            }
            Self::Open(OpenError::Stream(_))
            | Self::Io(_)
            | Self::Http(_)
            | Self::NoHttp2
            | Self::Ended
            | Self::Nonsense
            | Self::Silent
            | Self::Late => true,
        }
    }
}

impl Remedy {
    fn of(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::InvalidData => Self::Nothing, // rustls: a certificate that is not trusted, an alert
            io::ErrorKind::ConnectionRefused => Self::Stream, // the AnyTLS server lives: it says so
            _ => Self::Session,
        }
    }
}
