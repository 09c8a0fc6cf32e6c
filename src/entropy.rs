//! The one place that asks the OS for randomness.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::rngs::SysRng;

/// A cryptographic generator seeded by the OS.
///
/// Padding sizes are visible on the wire, so a guessable generator would be a fingerprint.
///
/// # Panics
/// When the OS has no randomness to give, which on the supported systems happens only before boot has ended.
pub fn generator() -> StdRng {
    StdRng::try_from_rng(&mut SysRng).expect("the OS gives randomness")
}

/// A generator that many draw from: one for each would be 320 bytes more of each.
#[derive(Clone, Debug)]
pub struct SharedGenerator(Arc<Mutex<StdRng>>);

impl SharedGenerator {
    /// One that is seeded by the OS; see [`generator`].
    pub fn seeded() -> Self {
        Self(Arc::new(Mutex::new(generator())))
    }

    /// Theirs alone until the guard is dropped, which should be soon.
    pub fn lock(&self) -> MutexGuard<'_, StdRng> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
