//! The scheme's text, and what it says.

use std::collections::BTreeMap;
use std::num::NonZeroU16;
use std::sync::Arc;

use md5::{Digest, Md5};
use rand::{CryptoRng, RngExt};

use super::shaper::Shaper;
use crate::proto::frame::HEADER_BYTES;

/// The scheme of a client that no server has told another.
const DEFAULT_TEXT: &str = "\
stop=8
0=30-30
1=100-400
2=400-500,c,500-1000,c,500-1000,c,500-1000,c,500-1000
3=9-9,500-1000
4=500-1000
5=500-1000
6=500-1000
7=500-1000";

// The limits of protocol.md, Padding scheme. The reference has none, and dies or stalls without them.
const MAX_TEXT_BYTES: usize = 64 * 1024;
const MAX_STOP: u16 = 10_000;
const MAX_ENTRIES: usize = 256;
const MAX_LINE_PADDING_BYTES: usize = 256 * 1024;
/// As the data of a Waste frame the largest size still fits a record.
const MAX_SIZE: u16 = 16_377;
/// With the 34 bytes of authentication before it the largest padding0 still fits a record.
const MAX_PADDING0: u16 = 16_350;

/// A padding scheme that is safe to follow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scheme {
    text: Box<str>,
    md5_hex: Box<str>,
    stop: u16,
    padding0: Option<SizeRange>,
    /// INVARIANT: only writes from 1 up to `stop`, and no empty plans.
    plans: BTreeMap<u32, Plan>,
}

/// What is done with one write; cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan(Arc<[Entry]>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    /// `c`: the write ends here when all of it has left.
    Check,
    /// `min-max`: a record of a size from that range.
    Size(SizeRange),
}

/// INVARIANT: `min` ≤ `max` ≤ [`MAX_SIZE`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SizeRange {
    min: NonZeroU16,
    max: u16,
}

/// The rule that a scheme's text breaks, and in which of its lines, counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SchemeError {
    /// Over 64 KiB.
    #[error("{0} bytes of text ({MAX_TEXT_BYTES} at most)")]
    TextTooLong(usize),
    /// A byte that is not UTF-8.
    #[error("line {line}: not UTF-8")]
    NotUtf8 {
        /// Where.
        line: usize,
    },
    /// No line starts with `stop=`.
    #[error("no stop")]
    StopMissing,
    /// `stop` is not a number from 0.
    #[error("line {line}: stop is not a number")]
    StopUnreadable {
        /// Where.
        line: usize,
    },
    /// `stop` is above 10 000.
    #[error("line {line}: stop is above {MAX_STOP}")]
    StopTooHigh {
        /// Where.
        line: usize,
    },
    /// A size is above 16 377.
    #[error("line {line}: a size is above {MAX_SIZE}")]
    SizeTooLarge {
        /// Where.
        line: usize,
    },
    /// The size of padding0 is above 16 350.
    #[error("line {line}: the size of padding0 is above {MAX_PADDING0}")]
    Padding0TooLarge {
        /// Where.
        line: usize,
    },
    /// The line of write 0 begins with a check mark, where the size of padding0 belongs.
    #[error("line {line}: a check mark instead of the size of padding0")]
    Padding0IsCheckMark {
        /// Where.
        line: usize,
    },
    /// Over 256 entries.
    #[error("line {line}: {entries} entries ({MAX_ENTRIES} at most)")]
    TooManyEntries {
        /// Where.
        line: usize,
        /// How many.
        entries: usize,
    },
    /// A write could bring over 256 KiB of padding.
    #[error("line {line}: could pad over {MAX_LINE_PADDING_BYTES} bytes")]
    TooMuchPadding {
        /// Where.
        line: usize,
    },
}

impl Scheme {
    /// Reads a scheme's text.
    ///
    /// What the reference passes over is passed over: lines that are not about `stop` or a write, entries
    /// that are not two numbers, sizes of 0. What it would act on must be within the limits, in
    /// every line of a write, also one that `stop` leaves unused.
    ///
    /// # Errors
    /// When the text breaks a rule: nothing of it should be followed then.
    pub fn parse(text: &[u8]) -> Result<Self, SchemeError> {
        if text.len() > MAX_TEXT_BYTES {
            return Err(SchemeError::TextTooLong(text.len()));
        }
        let text = std::str::from_utf8(text)
            .map_err(|error| SchemeError::NotUtf8 { line: line_of(text, error.valid_up_to()) })?;

        // A map, because the last of duplicate keys wins.
        let mut lines: BTreeMap<&str, (usize, &str)> = BTreeMap::new();
        for (index, line) in text.split('\n').enumerate() {
            if let Some((key, value)) = line.split_once('=') {
                lines.insert(key, (index + 1, value));
            }
        }

        let &(line, stop) = lines.get("stop").ok_or(SchemeError::StopMissing)?;
        let stop = number(stop).ok_or(SchemeError::StopUnreadable { line })?;
        if stop > MAX_STOP {
            return Err(SchemeError::StopTooHigh { line });
        }

        let mut padding0 = None;
        let mut plans = BTreeMap::new();
        for (key, (line, value)) in lines {
            let Some(write) = write_number(key) else { continue };
            let entries = parse_entries(line, value)?;
            if write == 0 {
                padding0 = parse_padding0(line, &entries)?;
            } else if write < u32::from(stop) && !entries.is_empty() {
                plans.insert(write, Plan(entries.into()));
            }
        }

        let md5_hex = format!("{:032x}", u128::from_be_bytes(Md5::digest(text).into())).into();
        Ok(Self { text: text.into(), md5_hex, stop, padding0, plans })
    }

    /// The scheme that every client starts with.
    pub fn default_scheme() -> Self {
        Self::parse(DEFAULT_TEXT.as_bytes()).expect("a test reads the default scheme")
    }

    /// The text as it came.
    pub fn raw(&self) -> &str {
        &self.text
    }

    /// The lower-case hexadecimal md5 of the text, by which the server knows the scheme.
    pub fn md5_hex(&self) -> &str {
        &self.md5_hex
    }

    /// Whether the write with that number is among those that are shaped. Once it is not, no later one
    /// of the session is, and counting them may end.
    pub fn shapes(&self, write: u32) -> bool {
        write < u32::from(self.stop)
    }

    /// Draws the length of padding0, the whole shaping of write 0: 0 ... 16 350.
    ///
    /// As with the reference, `stop=0` does not turn it off.
    pub fn authentication_padding(&self, rng: &mut (impl CryptoRng + ?Sized)) -> u16 {
        self.padding0.map_or(0, |range| range.draw(rng))
    }

    /// What to do with the write of that number; `None` when it goes out as it is. Write 0 has no plan:
    /// its one size is [`Scheme::authentication_padding`].
    pub fn plan(&self, write: u32) -> Option<&Plan> {
        self.plans.get(&write)
    }

    /// Starts on the write of that number.
    pub fn shaper(&self, write: u32) -> Shaper {
        Shaper::new(self.plan(write).cloned())
    }
}

impl Default for Scheme {
    fn default() -> Self {
        Self::default_scheme()
    }
}

impl Plan {
    pub(super) fn entry(&self, index: usize) -> Option<Entry> {
        self.0.get(index).copied()
    }
}

impl SizeRange {
    /// As the reference draws: the upper bound itself never comes, unless it is the lower one too.
    pub(super) fn draw(self, rng: &mut (impl CryptoRng + ?Sized)) -> u16 {
        let min = self.min.get();
        if min == self.max { min } else { rng.random_range(min..self.max) }
    }
}

fn line_of(text: &[u8], at: usize) -> usize {
    1 + text[..at].iter().filter(|byte| **byte == b'\n').count()
}

/// A number from 0, or the highest there is in place of one that is higher: that is over every limit.
fn number(text: &str) -> Option<u16> {
    let digits = text.strip_prefix('+').unwrap_or(text);
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| digits.parse().unwrap_or(u16::MAX))
}

/// The write that a line is about. The reference looks lines up by the number's usual form, so `01` is none.
fn write_number(key: &str) -> Option<u32> {
    key.parse().ok().filter(|write: &u32| write.to_string() == key)
}

fn parse_entries(line: usize, value: &str) -> Result<Vec<Entry>, SchemeError> {
    let count = value.split(',').count();
    if count > MAX_ENTRIES {
        return Err(SchemeError::TooManyEntries { line, entries: count });
    }
    let mut entries = Vec::new();
    // Padding begins where the payload ends, and goes on up to the next check mark at most.
    let mut padding = 0;
    for entry in value.split(',') {
        if entry == "c" {
            entries.push(Entry::Check);
            padding = 0;
        } else if let Some(range) = parse_range(line, entry)? {
            entries.push(Entry::Size(range));
            padding += HEADER_BYTES + usize::from(range.max);
            if padding > MAX_LINE_PADDING_BYTES {
                return Err(SchemeError::TooMuchPadding { line });
            }
        }
    }
    Ok(entries)
}

/// Reads `min-max`; `None` for what the reference skips.
fn parse_range(line: usize, entry: &str) -> Result<Option<SizeRange>, SchemeError> {
    let bounds = entry.split_once('-').and_then(|(a, b)| Some((number(a)?, number(b)?)));
    let Some((a, b)) = bounds else { return Ok(None) };
    let (min, max) = (a.min(b), a.max(b));
    if max > MAX_SIZE {
        return Err(SchemeError::SizeTooLarge { line });
    }
    Ok(NonZeroU16::new(min).map(|min| SizeRange { min, max }))
}

/// The reference takes the first entry of line 0 for the length of padding0, whatever it is.
fn parse_padding0(line: usize, entries: &[Entry]) -> Result<Option<SizeRange>, SchemeError> {
    match entries.first() {
        None => Ok(None),
        Some(Entry::Check) => Err(SchemeError::Padding0IsCheckMark { line }),
        Some(Entry::Size(range)) if range.max > MAX_PADDING0 => Err(SchemeError::Padding0TooLarge { line }),
        Some(Entry::Size(range)) => Ok(Some(*range)),
    }
}

#[cfg(test)]
mod tests;
