//! One packet as it is put together.

use std::ops::Range;

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{IpProtocol, IpRepr};

use crate::netstack::counters::DropReason;
use crate::netstack::fragments::{Fragment, Key};

/// Stretches at most that are there with gaps between them. The largest packet over the smallest MTU has
/// 120 fragments; only one made to be searched for long has more stretches than that.
const MAX_STRETCHES: usize = 256;

/// The first room for stretches. Most packets come in order, and are one all the time.
const FIRST_STRETCHES: usize = 4;

#[derive(Debug)]
pub(super) struct Assembly {
    /// Room for a plain header, then the payload as far as there is any, holes zero.
    buffer: Vec<u8>,
    header: usize,
    /// What is there of the payload, in order. No two touch.
    stretches: Vec<Range<usize>>,
    /// Where the payload ends, once the last fragment is there.
    end: Option<usize>,
    /// What the first fragment said.
    protocol: IpProtocol,
    hop_limit: u8,
    fragments: u64,
}

/// How a fragment fits what is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fit {
    /// Before the stretch at this place.
    Free(usize),
    /// The same bytes are there already.
    Repeated,
}

impl Assembly {
    /// Of a packet with a header of `header` bytes.
    pub(super) fn new(header: usize) -> Self {
        Self {
            buffer: Vec::new(),
            header,
            stretches: Vec::new(),
            end: None,
            protocol: IpProtocol::Unknown(u8::MAX),
            hop_limit: 0,
            fragments: 0,
        }
    }

    /// Fragments that were inserted.
    pub(super) fn fragments(&self) -> u64 {
        self.fragments
    }

    /// Bytes held.
    pub(super) fn bytes(&self) -> usize {
        bytes(self.buffer.capacity(), self.stretches.capacity())
    }

    /// Bytes held when `fragment` is inserted.
    pub(super) fn bytes_with(&self, fragment: &Fragment<'_>) -> usize {
        bytes(self.room_with(fragment), self.stretches_with())
    }

    /// Whether a fragment can be part of this packet.
    ///
    /// # Errors
    /// The reason to give the packet up.
    pub(super) fn fit(&self, fragment: &Fragment<'_>) -> Result<Fit, DropReason> {
        let (start, end) = (usize::from(fragment.offset), fragment.end());
        let reached = self.stretches.last().map_or(0, |last| last.end);
        let agrees = match (self.end, fragment.more) {
            (None, true) => true,
            (None, false) => end > reached,
            (Some(known), true) => end < known,
            (Some(known), false) => end == known,
        };
        if !agrees {
            return Err(DropReason::Fragment);
        }
        let place = self.stretches.partition_point(|stretch| stretch.end <= start);
        match self.stretches.get(place) {
            Some(next) if next.start < end => {
                let within = next.start <= start && end <= next.end;
                if within && self.buffer[self.header + start..self.header + end] == *fragment.payload {
                    Ok(Fit::Repeated)
                } else {
                    Err(DropReason::FragmentOverlap)
                }
            }
            _ if self.stretches.len() == MAX_STRETCHES => Err(DropReason::Fragment),
            _ => Ok(Fit::Free(place)),
        }
    }

    /// Inserts a fragment before the stretch at `place`, where it [fits](Assembly::fit).
    pub(super) fn insert(&mut self, fragment: &Fragment<'_>, place: usize) {
        let room = self.room_with(fragment);
        self.buffer.reserve_exact(room - self.buffer.len());
        self.stretches.reserve_exact(self.stretches_with() - self.stretches.len());

        let (start, end) = (usize::from(fragment.offset), fragment.end());
        if self.buffer.len() < self.header + end {
            self.buffer.resize(self.header + end, 0);
        }
        self.buffer[self.header + start..self.header + end].copy_from_slice(fragment.payload);

        let touches_next = self.stretches.get(place).is_some_and(|next| next.start == end);
        let previous = place.checked_sub(1).filter(|&previous| self.stretches[previous].end == start);
        match (previous, touches_next) {
            (Some(previous), true) => self.stretches[previous].end = self.stretches.remove(place).end,
            (Some(previous), false) => self.stretches[previous].end = end,
            (None, true) => self.stretches[place].start = start,
            (None, false) => self.stretches.insert(place, start..end),
        }

        self.fragments += 1;
        if !fragment.more {
            self.end = Some(end);
        }
        if start == 0 {
            (self.protocol, self.hop_limit) = (fragment.protocol, fragment.hop_limit);
        }
    }

    /// Whether all of the payload is there.
    pub(super) fn is_whole(&self) -> bool {
        matches!(&self.stretches[..], [all] if all.start == 0 && Some(all.end) == self.end)
    }

    /// The packet, with a plain header.
    pub(super) fn into_packet(mut self, key: &Key) -> Vec<u8> {
        let (source, destination) = (key.source.into(), key.destination.into());
        let len = self.buffer.len() - self.header;
        IpRepr::new(source, destination, self.protocol, len, self.hop_limit)
            .emit(&mut self.buffer[..], &ChecksumCapabilities::default());
        self.buffer
    }

    /// The buffer's capacity when `fragment` is inserted: what is needed, once that is known; until then,
    /// doubling.
    fn room_with(&self, fragment: &Fragment<'_>) -> usize {
        let capacity = self.buffer.capacity();
        let needed = self.header + self.end.unwrap_or(fragment.end());
        if needed <= capacity {
            capacity
        } else if self.end.is_some() || !fragment.more {
            needed
        } else {
            needed.max((2 * capacity).min(self.header + usize::from(u16::MAX)))
        }
    }

    /// The same for the stretches, which doubles always.
    fn stretches_with(&self) -> usize {
        let capacity = self.stretches.capacity();
        if self.stretches.len() < capacity { capacity } else { (2 * capacity).max(FIRST_STRETCHES) }
    }
}

fn bytes(buffer: usize, stretches: usize) -> usize {
    buffer + stretches * size_of::<Range<usize>>()
}
