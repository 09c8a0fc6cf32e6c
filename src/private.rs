//! What somebody does on the network stays out of the log, unless the app asks for it.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};

static IS_SHOWN: AtomicBool = AtomicBool::new(false);

/// Whether log lines name destinations and servers. Off until somebody asks for it.
pub fn show_private(is_shown: bool) {
    IS_SHOWN.store(is_shown, Ordering::Relaxed);
}

/// A destination, a server, or words that may hold one, on its way into a log line: printed as `<private>`
/// unless [`show_private`] says otherwise.
pub(crate) struct Private<T>(pub(crate) T);

impl<T> Private<T> {
    fn print(
        &self,
        f: &mut fmt::Formatter<'_>,
        print: impl FnOnce(&T, &mut fmt::Formatter<'_>) -> fmt::Result,
    ) -> fmt::Result {
        if IS_SHOWN.load(Ordering::Relaxed) { print(&self.0, f) } else { f.write_str("<private>") }
    }
}

impl<T: fmt::Display> fmt::Display for Private<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.print(f, T::fmt)
    }
}

impl<T: fmt::Debug> fmt::Debug for Private<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.print(f, T::fmt)
    }
}
