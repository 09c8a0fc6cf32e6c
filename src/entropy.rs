//! The one place that asks the OS for randomness.

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
