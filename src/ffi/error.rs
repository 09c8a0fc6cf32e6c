//! What went wrong, in three forms: a type to match, a code to count, a sentence to show.

use std::io;

use super::ConfigProblem;
use crate::client::OpenError;
use crate::config::ConfigError;
use crate::error::chain;
use crate::proto::session::StreamError;
use crate::transport::{DialErrorKind, Fault};
use crate::tunnel::{ConnectStreamError, ReloadError, StartError, Why};

/// Why a call failed. `failure()` gives the same in a form to count and to show.
#[derive(Clone, Debug, PartialEq, Eq, uniffi::Error, thiserror::Error)]
pub enum TunnelError {
    /// The config is refused.
    #[error("the config is refused")]
    Config {
        /// Every problem, the errors first, then the warnings.
        problems: Vec<ConfigProblem>,
    },
    /// The number is no descriptor that can be used.
    #[error("no usable descriptor: {reason}")]
    Descriptor {
        /// What the system said.
        reason: String,
    },
    /// The tunnel runs, or is about to.
    #[error("already started")]
    AlreadyStarted,
    /// No tunnel runs.
    #[error("not started")]
    NotStarted,
    /// `stop` was called meanwhile.
    #[error("stopped meanwhile")]
    Cancelled,
    /// The configured certificates or keys cannot be used.
    #[error("TLS settings cannot be used: {reason}")]
    TlsSettings {
        /// Which, and why.
        reason: String,
    },
    /// The TUN cannot be read.
    #[error("the TUN cannot be used: {reason}")]
    Tun {
        /// What the system said.
        reason: String,
    },
    /// The system gave no thread or no event queue.
    #[error("the system has no resources left: {reason}")]
    Resources {
        /// What it said.
        reason: String,
    },
    /// What is configured under `tun` cannot change while the TUN is up: stop and start.
    #[error("the TUN's settings cannot change while it is up")]
    TunSettings,
    /// Not `host:port`.
    #[error("expected host:port: {reason}")]
    Destination {
        /// What is wrong with it.
        reason: String,
    },
    /// No session with the server could be made.
    #[error("cannot reach the server: {}", failure.detail)]
    Dial {
        /// Why the dial failed.
        failure: Failure,
    },
    /// The server did not open the stream.
    #[error("the server did not open the stream: {reason}")]
    Refused {
        /// Why.
        reason: String,
    },
    /// There is no network.
    #[error("no network")]
    Offline,
    /// There are as many sessions as `max_sessions` allows.
    #[error("all sessions are in use")]
    Busy,
    /// A bug in this library.
    #[error("internal error: {reason}")]
    Internal {
        /// What is known of it.
        reason: String,
    },
}

/// A failure, to act upon, to count, and to show. Holds no secret.
#[derive(Clone, Debug, PartialEq, Eq, uniffi::Record)]
pub struct Failure {
    /// What it is, for ever the same: `config`, `dial.timeout`.
    pub code: String,
    /// Whether the same call, or simply waiting, may succeed without anybody changing anything.
    pub is_retryable: bool,
    /// For the person who holds the phone, in English. Translate by `code`.
    pub user_message: String,
    /// For the developer: the error with its causes. May name the server.
    pub detail: String,
}

impl Failure {
    fn new(code: &str, is_retryable: bool, user_message: &str, detail: impl Into<String>) -> Self {
        let (code, user_message) = (code.to_owned(), user_message.to_owned());
        Self { code, is_retryable, user_message, detail: detail.into() }
    }

    /// A dial that failed.
    pub(super) fn of_dial(kind: DialErrorKind, detail: impl Into<String>) -> Self {
        let (code, message) = match kind {
            DialErrorKind::Resolve => ("dial.resolve", "The server's name was not found."),
            DialErrorKind::Protect => {
                ("dial.protect", "The system did not keep the connection out of the VPN.")
            }
            DialErrorKind::Socket => ("dial.socket", "The system has no sockets left."),
            DialErrorKind::Refused => ("dial.refused", "The server refuses connections."),
            DialErrorKind::Unreachable => {
                ("dial.unreachable", "There is no way to the server in this network.")
            }
            DialErrorKind::Connect => ("dial.connect", "The server cannot be reached."),
            DialErrorKind::Timeout => ("dial.timeout", "The server does not answer."),
            DialErrorKind::Certificate => {
                ("dial.certificate", "The server's certificate is not trusted. Is the phone's date right?")
            }
            DialErrorKind::Tls => ("dial.tls", "No secure connection to the server could be made."),
            DialErrorKind::Lost => ("dial.lost", "The connection to the server was lost."),
            DialErrorKind::Authentication => ("dial.authentication", "The server refused the password."),
        };
        let is_retryable = match kind.fault() {
            Fault::Network | Fault::Server => true,
            Fault::Device => kind == DialErrorKind::Socket, // an app that is not allowed to protect stays so
            Fault::User => false,
        };
        Self::new(code, is_retryable, message, detail)
    }

    /// A tunnel that ended by itself.
    pub(super) fn of_end(error: &str, is_bug: bool) -> Self {
        let code = if is_bug { "internal" } else { "tunnel.ended" };
        Self::new(code, true, "The VPN has ended.", error)
    }
}

impl From<&Why> for Failure {
    fn from(why: &Why) -> Self {
        Self::of_dial(why.kind, why.message.as_str())
    }
}

impl TunnelError {
    /// The system has no thread, or no event queue, left.
    pub(super) fn resources(error: &io::Error) -> Self {
        Self::Resources { reason: error.to_string() }
    }
}

#[uniffi::export]
impl TunnelError {
    /// The same as a code, an advice and two messages.
    pub fn failure(&self) -> Failure {
        let (code, is_retryable, message) = match self {
            Self::Config { .. } => ("config", false, "The configuration has errors."),
            Self::Descriptor { .. } => ("descriptor", false, "The VPN interface cannot be used."),
            Self::AlreadyStarted => ("already_started", false, "The VPN is on already."),
            Self::NotStarted => ("not_started", false, "The VPN is off."),
            Self::Cancelled => ("cancelled", false, "The VPN was turned off."),
            Self::TlsSettings { .. } => {
                ("tls_settings", false, "The configured certificates or keys cannot be used.")
            }
            Self::Tun { .. } => ("tun", false, "The VPN interface cannot be used."),
            Self::Resources { .. } => ("resources", true, "The phone is short of memory."),
            Self::TunSettings => {
                ("tun_settings", false, "The VPN has to be turned off and on for this change.")
            }
            Self::Destination { .. } => ("destination", false, "This is no valid address."),
            Self::Dial { failure } => return failure.clone(),
            Self::Refused { .. } => ("refused", true, "The server could not connect to the destination."),
            Self::Offline => ("offline", true, "There is no network."),
            Self::Busy => ("busy", true, "The server has too many connections open."),
            Self::Internal { .. } => ("internal", true, "Something went wrong in the app."),
        };
        Failure::new(code, is_retryable, message, self.to_string())
    }
}

impl From<ConfigError> for TunnelError {
    fn from(error: ConfigError) -> Self {
        Self::Config { problems: error.problems.into_iter().map(ConfigProblem::from).collect() }
    }
}

impl From<StartError> for TunnelError {
    fn from(error: StartError) -> Self {
        match error {
            StartError::Tls(error) => Self::TlsSettings { reason: chain(&error) },
            StartError::Tun(error) => Self::Tun { reason: chain(&error) },
            StartError::Thread(error) => Self::Resources { reason: chain(&error) },
        }
    }
}

impl From<ReloadError> for TunnelError {
    fn from(error: ReloadError) -> Self {
        match error {
            ReloadError::Tun => Self::TunSettings,
            ReloadError::Tls(error) => Self::TlsSettings { reason: chain(&error) },
            ReloadError::Stopped => Self::NotStarted,
        }
    }
}

impl From<OpenError> for TunnelError {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Dial(error) => Self::Dial { failure: Failure::of_dial(error.kind(), chain(&error)) },
            OpenError::Stream(error) => Self::from(error),
            OpenError::Offline => Self::Offline,
            OpenError::Busy => Self::Busy,
            OpenError::Stopped => Self::NotStarted,
        }
    }
}

impl From<StreamError> for TunnelError {
    fn from(error: StreamError) -> Self {
        Self::Refused { reason: chain(&error) }
    }
}

impl From<ConnectStreamError> for TunnelError {
    fn from(error: ConnectStreamError) -> Self {
        match error {
            ConnectStreamError::NotAStream | ConnectStreamError::Socket(_) => {
                Self::Descriptor { reason: chain(&error) }
            }
            ConnectStreamError::Stopped => Self::NotStarted,
        }
    }
}
