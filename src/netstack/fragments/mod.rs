//! Fragments to whole packets (RFC 791, RFC 8200), within a limit on memory and in bounded time; and packets
//! to fragments.

mod assembly;
mod outgoing;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::Duration;

use smoltcp::wire::{IPV4_HEADER_LEN, IPV6_HEADER_LEN, IpProtocol};

use crate::netstack::counters::{DropReason, Drops};
use crate::proto::timers::Moment;
use assembly::{Assembly, Fit};
pub(super) use outgoing::{FRAGMENT_HEADER_BYTES, Place, move_into};

/// How long a packet's fragments are waited for, as in Linux; RFC 8200 says 60 s. What is not there after a
/// second was lost.
const TIMEOUT: Duration = Duration::from_secs(30);

/// How much later the timer may ring, so that it rings once for many.
const SLACK: Duration = Duration::from_secs(5);

/// Packets at most of which there are fragments. They are searched one after the other; the default limit
/// on memory holds fewer that have a full fragment each.
const MAX_PACKETS: usize = 256;

/// What a packet takes besides its buffers: its place in a queue that grows by doubling, and what the
/// allocator adds to two buffers.
const PACKET_BYTES: usize = 2 * size_of::<Partial>() + 64;

/// What fragments have in common that make one packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) source: IpAddr,
    pub(super) destination: IpAddr,
    pub(super) id: u32,
    /// In IPv4 only.
    pub(super) protocol: Option<IpProtocol>,
}

impl Key {
    fn header_bytes(&self) -> usize {
        if self.source.is_ipv4() { IPV4_HEADER_LEN } else { IPV6_HEADER_LEN }
    }
}

/// A part of a packet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fragment<'a> {
    pub(super) key: Key,
    /// Of the header that the packet's payload begins with, if this is its first fragment.
    pub(super) protocol: IpProtocol,
    pub(super) hop_limit: u8,
    /// Where in the packet's payload this one's belongs.
    pub(super) offset: u16,
    /// Whether this is not the last.
    pub(super) more: bool,
    pub(super) payload: &'a [u8],
}

impl Fragment<'_> {
    /// Whether this can be a fragment of any packet: it carries something, others can follow it, and it
    /// ends within the longest packet.
    pub(super) fn is_sound(&self) -> bool {
        let len = self.payload.len();
        // The length in an IPv4 header counts the header, that in an IPv6 header does not.
        let most = usize::from(u16::MAX) - if self.key.source.is_ipv4() { IPV4_HEADER_LEN } else { 0 };
        len > 0 && (!self.more || len.is_multiple_of(8)) && self.end() <= most
    }

    /// Where in the packet's payload this one's ends.
    fn end(&self) -> usize {
        usize::from(self.offset) + self.payload.len()
    }
}

/// Packets of which some fragments are there.
///
/// Overlaps are an attack or a broken sender (RFC 5722): the packet is given up, and until it would have
/// timed out, so is what else comes of it. Only what repeats received bytes is merely ignored.
#[derive(Debug)]
pub(super) struct Reassembly {
    limit: usize,
    held: usize,
    /// In the order of their first fragments, which is that of their timeouts.
    partials: VecDeque<Partial>,
}

#[derive(Debug)]
struct Partial {
    key: Key,
    expires: Moment,
    state: State,
}

#[derive(Debug)]
enum State {
    Open(Assembly),
    /// Given up.
    Closed(DropReason),
}

impl Reassembly {
    /// One that holds `limit` bytes at most, all told.
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, held: 0, partials: VecDeque::new() }
    }

    /// Bytes held.
    pub(super) fn held(&self) -> usize {
        self.held
    }

    /// Takes a fragment; gives the packet that is whole with it, which begins with a plain header. What is
    /// dropped, now or of what came before, is counted.
    pub(super) fn handle_fragment(
        &mut self,
        fragment: &Fragment<'_>,
        now: Moment,
        dropped: &mut Drops,
    ) -> Option<Vec<u8>> {
        self.handle_timeout(now, dropped);
        let place = self.find(fragment, now, dropped);
        let partial = &mut self.partials[place];
        let assembly = match &mut partial.state {
            State::Open(assembly) => assembly,
            State::Closed(reason) => {
                dropped[*reason] += 1;
                return None;
            }
        };
        let gap = match assembly.fit(fragment) {
            Ok(Fit::Free(gap)) => gap,
            Ok(Fit::Repeated) => {
                dropped[DropReason::FragmentRepeated] += 1;
                return None;
            }
            Err(reason) => {
                dropped[reason] += assembly.fragments() + 1;
                self.held -= assembly.bytes();
                partial.state = State::Closed(reason);
                return None;
            }
        };
        let growth = assembly.bytes_with(fragment) - assembly.bytes();
        let place = match self.make_room(place, growth, dropped) {
            Ok(place) => place,
            Err(place) => {
                self.remove(place, Some(DropReason::FragmentMemory), dropped);
                dropped[DropReason::FragmentMemory] += 1;
                return None;
            }
        };
        let State::Open(assembly) = &mut self.partials[place].state else { return None };
        self.held += growth;
        assembly.insert(fragment, gap);
        if !assembly.is_whole() {
            return None;
        }
        let State::Open(whole) = self.remove(place, None, dropped)? else { return None };
        Some(whole.into_packet(&fragment.key))
    }

    /// When [`Reassembly::handle_timeout`] is due.
    pub(super) fn poll_timeout(&self) -> Option<Moment> {
        self.partials.front().map(|oldest| oldest.expires + SLACK)
    }

    /// Drops what has waited for too long.
    pub(super) fn handle_timeout(&mut self, now: Moment, dropped: &mut Drops) {
        while self.partials.front().is_some_and(|oldest| oldest.expires <= now) {
            self.remove(0, Some(DropReason::FragmentTimeout), dropped);
        }
    }

    /// Drops everything: memory is short.
    pub(super) fn clear(&mut self, dropped: &mut Drops) {
        while self.remove(0, Some(DropReason::FragmentMemory), dropped).is_some() {}
    }

    /// Where the fragment's packet is, from now on at least.
    fn find(&mut self, fragment: &Fragment<'_>, now: Moment, dropped: &mut Drops) -> usize {
        if let Some(place) = self.partials.iter().position(|partial| partial.key == fragment.key) {
            return place;
        }
        if self.partials.len() == MAX_PACKETS {
            self.remove(0, Some(DropReason::FragmentMemory), dropped);
        }
        let state = State::Open(Assembly::new(fragment.key.header_bytes()));
        self.partials.push_back(Partial { key: fragment.key, expires: now + TIMEOUT, state });
        self.held += PACKET_BYTES;
        self.partials.len() - 1
    }

    /// Has the packet at `place` grow within the limit, at the cost of the oldest others; gives where it is
    /// then, as an error if it would not fit alone.
    fn make_room(&mut self, mut place: usize, growth: usize, dropped: &mut Drops) -> Result<usize, usize> {
        while self.held + growth > self.limit {
            let oldest = usize::from(place == 0);
            self.remove(oldest, Some(DropReason::FragmentMemory), dropped).ok_or(place)?;
            place -= 1 - oldest;
        }
        Ok(place)
    }

    /// Forgets a packet. With a reason, its fragments are counted as dropped for that.
    fn remove(&mut self, place: usize, reason: Option<DropReason>, dropped: &mut Drops) -> Option<State> {
        let gone = self.partials.remove(place)?;
        self.held -= PACKET_BYTES;
        if let State::Open(assembly) = &gone.state {
            self.held -= assembly.bytes();
            if let Some(reason) = reason {
                dropped[reason] += assembly.fragments();
            }
        }
        if self.partials.is_empty() {
            self.partials = VecDeque::new(); // which has room for as many as there ever were
        }
        Some(gone.state)
    }
}
