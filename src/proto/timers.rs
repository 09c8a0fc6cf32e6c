//! Time as a value: the protocol layer is told what time it is.

use std::fmt;
use std::ops::{Add, Sub};
use std::time::Duration;

/// A moment on the tunnel's clock: the time since an origin that never moves while the process lives.
///
/// `std::time::Instant` would do, but cannot be made from a clock of one's own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(Duration);

impl Moment {
    /// The moment `elapsed` after the origin.
    pub const fn from_origin(elapsed: Duration) -> Self {
        Self(elapsed)
    }

    /// The time since the origin.
    pub const fn since_origin(self) -> Duration {
        self.0
    }

    /// The time from `earlier` until this moment; zero when `earlier` is the later one.
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<Duration> for Moment {
    type Output = Self;

    fn add(self, span: Duration) -> Self {
        Self(self.0.saturating_add(span))
    }
}

impl Sub<Duration> for Moment {
    type Output = Self;

    fn sub(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(span))
    }
}

/// The earlier of two deadlines, either of which may be absent.
pub fn earliest(a: Option<Moment>, b: Option<Moment>) -> Option<Moment> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

/// A span of time, shown as Go writes it: `1h5m30s`, `300ms`. Users of the fork know its log lines so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InGo(pub Duration);

impl fmt::Display for InGo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.0.as_nanos();
        match nanos {
            0 => f.write_str("0s"),
            1..1_000 => write!(f, "{nanos}ns"),
            1_000..1_000_000 => write_decimal(f, nanos, 1_000, "µs"),
            1_000_000..1_000_000_000 => write_decimal(f, nanos, 1_000_000, "ms"),
            _ => {
                let (hours, minutes) = (self.0.as_secs() / 3600, self.0.as_secs() / 60 % 60);
                if hours > 0 {
                    write!(f, "{hours}h")?;
                }
                if hours > 0 || minutes > 0 {
                    write!(f, "{minutes}m")?;
                }
                write_decimal(f, nanos % 60_000_000_000, 1_000_000_000, "s")
            }
        }
    }
}

/// Writes `nanos / unit` with as many fraction digits as it needs.
fn write_decimal(f: &mut fmt::Formatter<'_>, nanos: u128, unit: u128, name: &str) -> fmt::Result {
    write!(f, "{}", nanos / unit)?;
    let mut fraction = nanos % unit;
    let mut digit = unit;
    if fraction > 0 {
        f.write_str(".")?;
    }
    while fraction > 0 {
        digit /= 10;
        write!(f, "{}", fraction / digit)?;
        fraction %= digit;
    }
    f.write_str(name)
}
