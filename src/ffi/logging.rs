//! The log, for apps.

use std::sync::Arc;
use std::time::SystemTime;

use tracing::Level;
use tracing_subscriber::filter::LevelFilter;

use super::shield::{shielded, shielded_or};
use super::{CallbackError, TunnelError};
use crate::logging::{self, LoggingError, Record, Sink};

/// How talkative the log is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, uniffi::Enum)]
pub enum LogLevel {
    /// Nothing.
    Off,
    /// Bugs of ours.
    Error,
    /// Odd but fine.
    Warn,
    /// What a user would notice.
    Info,
    /// What the pool and the heartbeats decide.
    Debug,
    /// Every packet and frame.
    Trace,
}

/// What is logged, and where to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, uniffi::Record)]
pub struct LogOptions {
    /// The most talkative level that is shown.
    pub level: LogLevel,
    /// To logcat, the unified log, or, elsewhere, standard error.
    #[uniffi(default = true)]
    pub to_system: bool,
    /// Lines name destinations and servers: for a person who debugs an own phone. Passwords are never named.
    #[uniffi(default = false)]
    pub shows_destinations: bool,
}

/// A line of the log.
#[derive(Clone, Debug, PartialEq, Eq, uniffi::Record)]
pub struct LogRecord {
    /// The wall clock's time.
    pub time: SystemTime,
    /// How grave it is; never `Off`.
    pub level: LogLevel,
    /// Where it comes from: `anytls_mobile::client`.
    pub target: String,
    /// The line, without these.
    pub line: String,
}

/// Takes the log's lines, in batches, on one thread.
#[uniffi::export(rust, foreign)]
pub trait LogSink: Send + Sync {
    /// The next lines, the oldest first; `dropped` more had to go before them, since the last call took too long.
    fn log(&self, batch: Vec<LogRecord>, dropped: u64) -> Result<(), CallbackError>;
}

/// Logs as told from now on, in the whole process; nothing is logged before the first call. Without a sink,
/// lines go to the system only.
///
/// # Errors
/// `Resources` when there is no thread for the sink, `Internal` when the process logs by another subscriber of
/// Rust's `tracing`.
#[uniffi::export]
pub fn set_logger(options: LogOptions, sink: Option<Arc<dyn LogSink>>) -> Result<(), TunnelError> {
    shielded(|| {
        let LogOptions { level, to_system, shows_destinations } = options;
        let options = logging::Options { level: level.into(), to_system, shows_destinations };
        let sink = sink.map(|sink| Arc::new(AppSink(sink)) as Arc<dyn Sink>);
        logging::set(options, sink).map_err(|error| match error {
            LoggingError::Taken => TunnelError::Internal { reason: error.to_string() },
            LoggingError::Thread(error) => TunnelError::Resources { reason: error.to_string() },
        })
    })
}

/// Changes the level alone, also when a config has set one. Before `set_logger`, it has no effect.
#[uniffi::export]
pub fn set_log_level(level: LogLevel) {
    shielded_or((), || logging::set_level(level.into()));
}

struct AppSink(Arc<dyn LogSink>);

impl Sink for AppSink {
    fn log(&self, batch: Vec<Record>, dropped: u64) {
        let batch = batch.into_iter().map(LogRecord::from).collect();
        shielded_or((), || {
            let _there_is_no_other_log = self.0.log(batch, dropped);
        });
    }
}

impl From<Record> for LogRecord {
    fn from(record: Record) -> Self {
        let Record { time, level, target, message } = record;
        Self { time, level: level.into(), target: target.to_owned(), line: message }
    }
}

impl From<Level> for LogLevel {
    fn from(level: Level) -> Self {
        LevelFilter::from_level(level).into()
    }
}

impl From<LevelFilter> for LogLevel {
    fn from(level: LevelFilter) -> Self {
        match level {
            LevelFilter::OFF => Self::Off,
            LevelFilter::ERROR => Self::Error,
            LevelFilter::WARN => Self::Warn,
            LevelFilter::INFO => Self::Info,
            LevelFilter::DEBUG => Self::Debug,
            LevelFilter::TRACE => Self::Trace,
        }
    }
}

impl From<LogLevel> for LevelFilter {
    fn from(level: LogLevel) -> Self {
        match level {
            LogLevel::Off => Self::OFF,
            LogLevel::Error => Self::ERROR,
            LogLevel::Warn => Self::WARN,
            LogLevel::Info => Self::INFO,
            LogLevel::Debug => Self::DEBUG,
            LogLevel::Trace => Self::TRACE,
        }
    }
}
