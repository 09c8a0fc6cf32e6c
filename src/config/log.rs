//! What is logged.

use tracing::level_filters::LevelFilter;

use super::problem::Severity;
use super::section::Section;

/// What is logged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogOptions {
    /// The most talkative level that is shown; `None` leaves it to the program.
    pub level: Option<LevelFilter>,
}

/// sing-box's names. Its two levels above `error` end the program, which this one never does.
const LEVELS: [(&str, LevelFilter); 9] = [
    ("trace", LevelFilter::TRACE),
    ("debug", LevelFilter::DEBUG),
    ("info", LevelFilter::INFO),
    ("warn", LevelFilter::WARN),
    ("warning", LevelFilter::WARN),
    ("error", LevelFilter::ERROR),
    ("fatal", LevelFilter::ERROR),
    ("panic", LevelFilter::ERROR),
    ("off", LevelFilter::OFF),
];

pub(super) fn read(mut section: Section<'_>) -> LogOptions {
    let level = section.field("level").choice(&LEVELS);
    let disabled = section.field("disabled").flag().unwrap_or(false);
    section.unsupported(&[
        ("output", Severity::Warning, "the app decides where log lines go"),
        ("timestamp", Severity::Warning, "the app decides how log lines look"),
    ]);
    section.finish();
    LogOptions { level: if disabled { Some(LevelFilter::OFF) } else { level } }
}
