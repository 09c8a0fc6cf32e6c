//! What comes from a person: configs and URIs.

use anytls_mobile::config::{self, Defaults, Problem, Severity, Uri};

/// Any text is read or refused; what is taken has warnings at most, and a refusal has an error.
pub fn config(data: &[u8]) {
    let is_error = |problem: &Problem| problem.severity == Severity::Error;
    match config::parse(&String::from_utf8_lossy(data), &Defaults::default()) {
        Ok(parsed) => assert!(!parsed.warnings.iter().any(is_error)),
        Err(refused) => assert!(refused.problems.iter().any(is_error)),
    }
}

/// A URI that was read is written so that it is read again as the same.
pub fn uri(data: &[u8]) {
    if let Ok(uri) = Uri::parse(&String::from_utf8_lossy(data)) {
        assert_eq!(Uri::parse(&uri.to_text()), Ok(uri));
    }
}
