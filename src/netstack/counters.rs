//! What the stack counts.

use std::ops::{AddAssign, Index, IndexMut};

/// The stack's counters since it was made, and its gauges.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Packets read from the device.
    pub packets_in: u64,
    /// Packets that the device took.
    pub packets_out: u64,
    /// Bytes of the packets read, IP headers included.
    pub bytes_in: u64,
    /// Bytes of the packets that the device took, IP headers included.
    pub bytes_out: u64,
    /// Packets that the device had no room for.
    pub packets_unsent: u64,
    /// Segments with data that left a second time.
    pub segments_repeated: u64,
    /// TCP flows that ever began.
    pub flows_total: u64,
    /// Gauge: TCP flows in the table, half-open ones included.
    pub flows_open: u64,
    /// Gauge: flows whose handshake is not done.
    pub flows_half_open: u64,
    /// Flows that the app reset.
    pub resets_in: u64,
    /// TCP flows that were reset because memory was critically short, the longest idle ones.
    pub flows_shed: u64,
    /// Resets sent: flows refused or aborted, and segments that belonged to no flow.
    pub resets_out: u64,
    /// Datagrams from apps, whatever became of them, except to our own server.
    pub datagrams_in: u64,
    /// Datagrams to apps that the device took.
    pub datagrams_out: u64,
    /// Datagrams given to the handler as queries.
    pub queries: u64,
    /// UDP flows that ever began.
    pub udp_flows_total: u64,
    /// Gauge: UDP flows in the table.
    pub udp_flows_open: u64,
    /// UDP flows that ended after a minute without a datagram.
    pub udp_flows_expired: u64,
    /// UDP flows that ended to make room, the longest idle ones: for another one, or because memory was
    /// critically short.
    pub udp_flows_evicted: u64,
    /// Datagrams answered with port unreachable.
    pub unreachable_out: u64,
    /// Gauge: bytes of ring memory that are really backed by pages, an upper estimate.
    pub memory_bytes: u64,
    /// Echo requests answered.
    pub echo_replies: u64,
    /// Packets put together from fragments.
    pub packets_reassembled: u64,
    /// Packets over the MTU that left as fragments.
    pub packets_fragmented: u64,
    /// Gauge: bytes held for packets of which fragments are missing.
    pub reassembly_bytes: u64,
    /// Packets dropped, by reason.
    pub dropped: Drops,
}

/// Why a packet, or its payload, was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(usize)]
pub enum DropReason {
    /// Not a well-formed packet, or a checksum does not match.
    Malformed,
    /// A fragment that no packet can have, or that does not agree with the others of its packet; then those
    /// too, and what comes of it later.
    Fragment,
    /// From or to an address that nobody can have there: unspecified, loopback, reserved, link-local (IPv6),
    /// from many, or from itself to itself.
    Martian,
    /// Neither TCP nor UDP nor ICMP.
    OtherProtocol,
    /// Addressed to our own server: the tunnel's own traffic has come back into it.
    OwnServer,
    /// A SYN beyond the limit on flows, or no address space for its rings; a datagram when UDP flows are
    /// limited to none.
    TooManyFlows,
    /// A SYN beyond the limit on half-open flows.
    TooManyHalfOpen,
    /// A segment that no flow knows and that asks for no answer.
    Stray,
    /// Payload outside the window that was offered.
    OutOfWindow,
    /// Payload, a SYN or a datagram refused because the memory budget is used up, or, of a new UDP flow,
    /// because memory is critically short.
    NoMemory,
    /// A datagram refused without an answer, because too many were answered just now.
    Unanswered,
    /// The oldest datagram of a full queue: its flow's relay is slower than the app.
    QueueFull,
    /// A datagram to an app from an address of the other family.
    OtherFamily,
    /// A datagram to an app with more payload than an IP packet can carry.
    TooLong,
    /// A datagram to an app that the device had no room for, time after time.
    Unsent,
    /// To many at once: multicast, broadcast, a network's first or last address.
    Multicast,
    /// ICMP that is not a request for an echo, or IGMP.
    Icmp,
    /// Over the MTU and not to be fragmented, or longer than any packet.
    TooBig,
    /// Fragments of a packet in which some overlap.
    FragmentOverlap,
    /// A fragment that had come already.
    FragmentRepeated,
    /// Fragments whose packet was not whole in time.
    FragmentTimeout,
    /// Fragments that had to make room for others, or found none.
    FragmentMemory,
}

impl DropReason {
    /// Every reason, in the order of declaration.
    pub const ALL: [Self; 22] = [
        Self::Malformed,
        Self::Fragment,
        Self::Martian,
        Self::OtherProtocol,
        Self::OwnServer,
        Self::TooManyFlows,
        Self::TooManyHalfOpen,
        Self::Stray,
        Self::OutOfWindow,
        Self::NoMemory,
        Self::Unanswered,
        Self::QueueFull,
        Self::OtherFamily,
        Self::TooLong,
        Self::Unsent,
        Self::Multicast,
        Self::Icmp,
        Self::TooBig,
        Self::FragmentOverlap,
        Self::FragmentRepeated,
        Self::FragmentTimeout,
        Self::FragmentMemory,
    ];
}

/// A count for each [`DropReason`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drops([u64; DropReason::ALL.len()]);

impl Drops {
    /// The sum over all reasons.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }
}

impl AddAssign for Drops {
    fn add_assign(&mut self, more: Self) {
        for (count, more) in self.0.iter_mut().zip(more.0) {
            *count += more;
        }
    }
}

impl Index<DropReason> for Drops {
    type Output = u64;

    fn index(&self, reason: DropReason) -> &u64 {
        &self.0[reason as usize] // the discriminant is the place in ALL
    }
}

impl IndexMut<DropReason> for Drops {
    fn index_mut(&mut self, reason: DropReason) -> &mut u64 {
        &mut self.0[reason as usize] // the discriminant is the place in ALL
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_a_place_of_its_own() {
        for (place, reason) in DropReason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, place);
        }
    }
}
