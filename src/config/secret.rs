//! Bytes that must not be shown.

use std::fmt;

/// A password or a private key: `Debug` prints `..`, and there is no `Display`.
///
/// Its bytes are overwritten on drop. That is the best effort of one copy: the text it was read from
/// belongs to the caller.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// Takes the bytes over.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(bytes.into())
    }

    /// The bytes, for the one place that needs them.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("..")
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.fill(0);
        // Without a reader of the zeros the compiler may leave the fill out.
        std::hint::black_box(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_two_dots_whatever_is_inside() {
        assert_eq!(format!("{:?} {:?}", Secret::new("hunter2"), Secret::default()), ".. ..");
    }
}
