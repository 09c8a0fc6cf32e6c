//! What is wrong with a config, all of it at once, and never a value out of it.

use std::cell::{Cell, RefCell};
use std::fmt;

/// Problems of one severity that are listed. A text of 1 MiB could hold 100 000 unknown fields; nobody
/// reads past the first screens.
const MAX_LISTED: usize = 100;

/// Whether a config can be used in spite of a problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// The config is refused.
    Error,
    /// The config is used, and something in it has no effect.
    Warning,
}

/// One thing wrong with a config.
///
/// Names fields and says what was expected; it never quotes a value, since a password may stand in any
/// wrong place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Whether the config can be used all the same.
    pub severity: Severity,
    /// Where: `server.tls.alpn[1]`, `outbounds[0].heartbeat`, `uri.port`. Empty for the whole text.
    pub path: String,
    /// What was expected or happens: lower case, no full stop.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        match self.path.as_str() {
            "" => write!(f, "{severity}: {}", self.message),
            path => write!(f, "{severity}: {path}: {}", self.message),
        }
    }
}

/// Why a config was refused: every problem found in it, the errors first, then the warnings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// At least one of severity [`Severity::Error`].
    pub problems: Vec<Problem>,
}

impl std::error::Error for ConfigError {}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}

/// Collects the problems while a text is read; its readers share one by reference.
#[derive(Debug, Default)]
pub(super) struct Findings {
    errors: RefCell<Vec<Problem>>,
    warnings: RefCell<Vec<Problem>>,
    unlisted: Cell<usize>,
    /// The path of every field that a reader asked for: what docs/config.md must name.
    #[cfg(test)]
    pub(super) known: RefCell<std::collections::BTreeSet<String>>,
}

impl Findings {
    pub(super) fn error(&self, path: impl Into<String>, message: impl Into<String>) {
        self.push(Severity::Error, path.into(), message.into());
    }

    pub(super) fn warn(&self, path: impl Into<String>, message: impl Into<String>) {
        self.push(Severity::Warning, path.into(), message.into());
    }

    pub(super) fn push(&self, severity: Severity, path: String, message: String) {
        let list = match severity {
            Severity::Error => &self.errors,
            Severity::Warning => &self.warnings,
        };
        let mut list = list.borrow_mut();
        if list.len() < MAX_LISTED {
            list.push(Problem { severity, path, message });
        } else {
            self.unlisted.set(self.unlisted.get() + 1);
        }
    }

    /// Whether no more warnings are listed.
    pub(super) fn is_full(&self) -> bool {
        self.warnings.borrow().len() >= MAX_LISTED
    }

    /// Gives `value` and the warnings when nothing was an error.
    ///
    /// `value` is `None` only after an error was recorded.
    pub(super) fn conclude<T>(self, value: Option<T>) -> Result<(T, Vec<Problem>), ConfigError> {
        let mut problems = self.errors.into_inner();
        let refused = !problems.is_empty();
        problems.append(&mut self.warnings.into_inner());
        if self.unlisted.get() > 0 {
            problems.push(Problem {
                severity: Severity::Warning,
                path: String::new(),
                message: format!("{} more problems are not listed", self.unlisted.get()),
            });
        }
        match value {
            Some(value) if !refused => Ok((value, problems)),
            _ => Err(ConfigError { problems }),
        }
    }
}
