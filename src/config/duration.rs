//! Durations as Go writes them.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::proto::timers::InGo;

/// The longest duration that Go can hold: an i64 of nanoseconds, about 292 years.
const MAX_NANOS: u64 = i64::MAX.unsigned_abs();

/// Fraction digits that are looked at. An hour has 3.6e12 ns, so that none past the 18th can matter.
const MAX_FRACTION_DIGITS: usize = 18;

/// A duration that is read and printed the way Go does it.
///
/// Reading takes a sequence of decimal numbers, each with a unit (`ns`, `us`, `µs`, `ms`, `s`, `m`, `h`
/// and, as sing-box adds, `d`), such as `1h30m`, `300ms`, `1.5h`; a lone `0` needs none. Printing gives
/// Go's canonical form, such as `1h30m0s`, `1.5s` or `250µs`, which reads back as the same duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GoDuration(pub Duration);

/// Why a text is no duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// Not a sequence of numbers and units.
    #[error("expected a duration such as 30s, 5m or 1h30m")]
    Syntax,
    /// A number without a unit.
    #[error("expected a unit after each number, as in 30s (ns, us, ms, s, m, h or d)")]
    Unit,
    /// Below zero.
    #[error("expected a duration that is not negative")]
    Negative,
    /// Above what Go can hold.
    #[error("expected a duration below 292 years")]
    TooLong,
}

impl FromStr for GoDuration {
    type Err = DurationError;

    fn from_str(text: &str) -> Result<Self, DurationError> {
        let (negative, mut rest) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        if rest == "0" {
            return Ok(Self(Duration::ZERO));
        }
        if rest.is_empty() {
            return Err(DurationError::Syntax);
        }
        let mut total = 0;
        while !rest.is_empty() {
            let nanos;
            (nanos, rest) = leading_term(rest)?;
            total += nanos;
            if total > u128::from(MAX_NANOS) {
                return Err(DurationError::TooLong);
            }
        }
        if negative && total > 0 {
            return Err(DurationError::Negative);
        }
        let nanos = u64::try_from(total).map_err(|_| DurationError::TooLong)?;
        Ok(Self(Duration::from_nanos(nanos)))
    }
}

/// Reads one number and its unit; gives nanoseconds and what follows.
fn leading_term(text: &str) -> Result<(u128, &str), DurationError> {
    let (whole, rest) = leading_digits(text);
    let (fraction, rest) = match rest.strip_prefix('.') {
        Some(rest) => leading_digits(rest),
        None => ("", rest),
    };
    if whole.is_empty() && fraction.is_empty() {
        return Err(DurationError::Syntax);
    }
    let end = rest.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(rest.len());
    let (unit, rest) = rest.split_at(end);
    let unit: u128 = match unit {
        "ns" => 1,
        "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        "d" => 86_400_000_000_000,
        _ => return Err(DurationError::Unit),
    };
    // At most 19 digits matter: more, zeros in front aside, are above Go's maximum in every unit.
    let whole = whole.trim_start_matches('0');
    if whole.len() > 19 {
        return Err(DurationError::TooLong);
    }
    let fraction = &fraction[..fraction.len().min(MAX_FRACTION_DIGITS)];
    let scale = fraction.bytes().fold(1, |scale: u128, _| scale * 10);
    Ok((decimal(whole) * unit + decimal(fraction) * unit / scale, rest))
}

fn leading_digits(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}

/// The value of at most 19 ASCII digits.
fn decimal(digits: &str) -> u128 {
    digits.bytes().fold(0, |value, digit| value * 10 + u128::from(digit - b'0'))
}

impl fmt::Display for GoDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        InGo(self.0).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn nanos(text: &str) -> Result<u128, DurationError> {
        text.parse::<GoDuration>().map(|duration| duration.0.as_nanos())
    }

    #[test]
    fn durations_are_read_as_go_reads_them() {
        for (text, expected) in [
            ("0", 0),
            ("+0", 0),
            ("-0", 0),
            ("0s", 0),
            ("-0s", 0),
            ("1ns", 1),
            ("1us", 1_000),
            ("1\u{b5}s", 1_000),
            ("1\u{3bc}s", 1_000),
            ("300ms", 300_000_000),
            ("30s", 30_000_000_000),
            ("1h30m", 5_400_000_000_000),
            ("1.5h", 5_400_000_000_000),
            (".5s", 500_000_000),
            ("5.s", 5_000_000_000),
            ("1m1m", 120_000_000_000),
            ("1d", 86_400_000_000_000),
            ("0.3333333333333333333h", 1_199_999_999_999),
            ("0000000000000000000000000000001s", 1_000_000_000),
            ("9223372036854775807ns", 9_223_372_036_854_775_807),
            ("9223372036.854775807s", 9_223_372_036_854_775_807),
            ("+5s", 5_000_000_000),
        ] {
            assert_eq!(nanos(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_duration_is_refused_with_its_reason() {
        for (text, expected) in [
            ("", DurationError::Syntax),
            ("-", DurationError::Syntax),
            ("+", DurationError::Syntax),
            ("s", DurationError::Syntax),
            (".s", DurationError::Syntax),
            (" 1s", DurationError::Syntax),
            ("auto", DurationError::Syntax),
            ("30", DurationError::Unit),
            ("1h30", DurationError::Unit),
            ("1s ", DurationError::Unit),
            ("1w", DurationError::Unit),
            ("3M", DurationError::Unit),
            ("1s-1s", DurationError::Unit),
            ("-1s", DurationError::Negative),
            ("9223372036854775808ns", DurationError::TooLong),
            ("99999999999999999999h", DurationError::TooLong),
            ("2562047h48m", DurationError::TooLong),
            ("9999999999999999999d9999999999999999999d", DurationError::TooLong),
        ] {
            assert_eq!(nanos(text), Err(expected), "{text}");
        }
    }

    #[test]
    fn durations_are_printed_as_go_prints_them() {
        for (duration, expected) in [
            (Duration::ZERO, "0s"),
            (Duration::from_nanos(1), "1ns"),
            (Duration::from_nanos(1_100), "1.1µs"),
            (Duration::from_micros(2_200), "2.2ms"),
            (Duration::from_millis(3_300), "3.3s"),
            (Duration::from_secs(30), "30s"),
            (Duration::from_secs(55 * 60), "55m0s"),
            (Duration::from_secs(3930), "1h5m30s"),
            (Duration::new(4 * 3600, 1), "4h0m0.000000001s"),
            (Duration::MAX, "5124095576030431h0m15.999999999s"),
        ] {
            assert_eq!(GoDuration(duration).to_string(), expected);
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_reads_back_the_same(nanos in 0..=MAX_NANOS) {
            let duration = GoDuration(Duration::from_nanos(nanos));
            prop_assert_eq!(duration.to_string().parse(), Ok(duration));
        }

        #[test]
        fn reading_never_panics(text in "[-+.0-9a-zµ ]{0,60}|.{0,20}") {
            let _ = text.parse::<GoDuration>();
        }
    }
}
