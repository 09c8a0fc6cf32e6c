//! The cursor over one write's plan.

use rand::CryptoRng;

use super::scheme::{Entry, Plan};
use crate::proto::frame::{HEADER_BYTES, MAX_RECORD_BYTES};

/// Decides the records of one write, one at a time.
#[derive(Clone, Debug)]
pub struct Shaper {
    plan: Option<Plan>,
    next: usize,
}

/// One record: `payload` bytes of the write, then a Waste frame when there is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// How many of the write's bytes it takes. The cut may fall anywhere, inside a frame too.
    pub payload: usize,
    /// How many zero bytes of data its Waste frame has, at least one; `None` for no such frame.
    pub waste: Option<u16>,
}

impl Shaper {
    /// Starts on a write with that plan; without one the write goes out as it is.
    pub fn new(plan: Option<Plan>) -> Self {
        Self { plan, next: 0 }
    }

    /// The next record when `remaining` bytes of the write have not left yet; `None` when the write is
    /// over, which is never before all of it has left.
    ///
    /// The caller takes [`Record::payload`] off `remaining` before it asks again, and keeps asking when
    /// nothing remains: there may be records of Waste alone to come.
    pub fn next(&mut self, remaining: usize, rng: &mut (impl CryptoRng + ?Sized)) -> Option<Record> {
        while let Some(entry) = self.plan.as_ref().and_then(|plan| plan.entry(self.next)) {
            if entry == Entry::Check && remaining == 0 {
                return None;
            }
            self.next += 1;
            if let Entry::Size(range) = entry {
                return Some(Record::of_size(range.draw(rng), remaining));
            }
        }
        // protocol.md: after the list, what remains goes out directly
        (remaining > 0).then(|| Record { payload: remaining.min(MAX_RECORD_BYTES), waste: None })
    }
}

impl Record {
    /// The plaintext bytes of the record: at most [`MAX_RECORD_BYTES`].
    pub fn plaintext_bytes(self) -> usize {
        self.payload + self.waste.map_or(0, |data| HEADER_BYTES + usize::from(data))
    }

    /// The four cases of protocol.md, Padding scheme.
    fn of_size(size: u16, remaining: usize) -> Self {
        let room = u16::try_from(remaining).ok().and_then(|remaining| size.checked_sub(remaining));
        match room {
            None => Self { payload: usize::from(size), waste: None },
            // The reference's quirk: the header comes on top of the size.
            Some(_) if remaining == 0 => Self { payload: 0, waste: Some(size) },
            // Room for no more than a Waste header stays empty.
            Some(room) => {
                Self { payload: remaining, waste: room.checked_sub(WASTE_HEADER).filter(|data| *data > 0) }
            }
        }
    }
}

const WASTE_HEADER: u16 = HEADER_BYTES as u16; // 7; `From` is not const

#[cfg(test)]
mod tests;
