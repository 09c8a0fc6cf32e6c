//! Time as a value: the protocol layer is told what time it is.

use std::fmt;
use std::num::NonZero;
use std::ops::{Add, Sub};
use std::time::Duration;

/// A moment on the tunnel's clock: the time since an origin that never moves while the process lives.
///
/// `std::time::Instant` would do, but cannot be made from a clock of one's own, and takes twice the memory. The
/// last moment is 584 years after the origin: what would lie behind it is that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(NonZero<u64>); // nanoseconds, and one: zero is what makes an `Option` no larger

impl Moment {
    /// The moment `elapsed` after the origin.
    pub const fn from_origin(elapsed: Duration) -> Self {
        Self(NonZero::<u64>::MIN.saturating_add(nanos(elapsed)))
    }

    /// The time since the origin.
    pub const fn since_origin(self) -> Duration {
        Duration::from_nanos(self.0.get() - 1)
    }

    /// The time from `earlier` until this moment; zero when `earlier` is the later one.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.get().saturating_sub(earlier.0.get()))
    }
}

impl Add<Duration> for Moment {
    type Output = Self;

    fn add(self, span: Duration) -> Self {
        Self(self.0.saturating_add(nanos(span)))
    }
}

impl Sub<Duration> for Moment {
    type Output = Self;

    fn sub(self, span: Duration) -> Self {
        Self::from_origin(self.since_origin().saturating_sub(span))
    }
}

impl Default for Moment {
    /// The origin.
    fn default() -> Self {
        Self(NonZero::<u64>::MIN)
    }
}

/// Nanoseconds, or as many as there are.
pub(super) const fn nanos(span: Duration) -> u64 {
    span.as_secs().saturating_mul(1_000_000_000).saturating_add(span.subsec_nanos() as u64)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_as_far_from_the_origin_as_it_was_made() {
        for span in [Duration::ZERO, Duration::from_nanos(1), Duration::from_hours(24 * 365 * 500)] {
            let moment = Moment::from_origin(span);
            assert_eq!(moment.since_origin(), span);
            assert_eq!(Moment::default() + span, moment);
            assert_eq!(moment - span, Moment::default());
        }
        assert_eq!(size_of::<Option<Moment>>(), 8);
    }

    #[test]
    fn nothing_is_before_the_origin_or_after_the_last_moment() {
        let (first, last) = (Moment::default(), Moment::from_origin(Duration::MAX));
        assert_eq!(first - Duration::from_nanos(1), first);
        assert_eq!(last + Duration::from_nanos(1), last);
        assert_eq!(last - Duration::MAX, first);
        assert_eq!(first.since(last), Duration::ZERO);
        assert!(last.since(first) > Duration::from_hours(24 * 365 * 584));
    }
}
