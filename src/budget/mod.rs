//! The memory of the core: every bounded buffer in one place, and their sum.
//!
//! `tun.memory_limit` is divided once, at the start, by [`Budget::divide`]:
//!
//! | share | of 24 MiB | what is in it |
//! |---|---|---|
//! | shared | 0.5 MiB | [`SHARED_BYTES`], [`SPARE_BYTES`]: what all sessions, or all flows, use one after the other |
//! | sessions, floor | 8.6 MiB | [`SESSION_FLOOR_BYTES`] for each session: enough that it moves on, however full the rest is |
//! | sessions, elastic | 3 MiB | an [`Account`]: what makes sessions fast while few of them hold much |
//! | netstack | 10.4 MiB | [`FLOW_BYTES`] for each flow, TCP or UDP, the rest for the rings under TCP |
//! | datagrams | 0.75 MiB | an [`Account`]: datagrams in queues, on their way up or down |
//! | reassembly | 0.2 MiB | fragments that wait for the rest of their packet |
//! | DNS | 0.6 MiB | questions under way, the cache, the names behind fake addresses |
//!
//! The sum holds because of one rule. A holder may grow beyond its floor only by a part of what is free
//! ([`Account::allowance`]), so growth of that kind never takes the account over its limit; what can are
//! the floors alone, and those have a share of their own.
//!
//! What is bounded and not within the limit, stacks and what waits at the border to the app, is summed in
//! `extension`, against what a Network Extension may have. Both sums are checked when this is compiled.

mod account;
mod extension;

pub use account::{Account, Holding};
pub use extension::{
    CONFIG_TEXT_BYTES, EXTENSION_BYTES, IOS_LIMIT_BYTES, IOS_MAX_SESSIONS, LOG_BYTES, MAX_LOOKUPS,
    MAX_THREADS, STACK_BYTES, UNCOUNTED_BYTES,
};

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// How short the system is of memory, as it told the app.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Pressure {
    /// Not short.
    #[default]
    Normal,
    /// Short: windows shrink, and nothing is kept for later.
    Low,
    /// About to kill: besides, everything works at its floor, and the flows that are idle longest go.
    Critical,
}

// What sessions hold. Each of these has a floor and a most; in between the account decides.

/// Plaintext of one TLS record (RFC 8446, 5.1): what moves at once.
pub const RECORD_BYTES: usize = 16 * KIB;
/// The longest record that a peer may send: its header, and the expansion that TLS 1.2 allows (RFC 5246,
/// 6.2.3). A connection must be able to hold one, or it could never read it.
pub const SEALED_RECORD_BYTES: usize = 5 + RECORD_BYTES + 2 * KIB;
/// Records that are queued before they are flushed. Four full ones make a write of 64 KiB, where a system
/// call no longer costs anything beside the encryption.
pub const BURST_RECORDS: usize = 4;
/// What one of our records adds to its plaintext; the suites in use add 21 to 29.
pub const OVERHEAD_BYTES: usize = 32;
/// Room beside records for key updates and an alert.
pub const CONTROL_RECORDS_BYTES: usize = 256;

/// What a frame has before its data.
pub const FRAME_HEADER_BYTES: usize = 7;

/// Bytes of apps in one session that wait to be framed, at most: one burst, of full records.
pub const SEND_BYTES: usize = BURST_RECORDS * (RECORD_BYTES - FRAME_HEADER_BYTES);
/// The same when memory is short: a session with nothing to send takes that much.
pub const SEND_FLOOR_BYTES: usize = 4 * KIB;
/// Bytes for apps in one session at which it stops reading, at most. One record more may come. When memory
/// is short it stops at once, so that one record is the floor.
pub const RECEIVE_BYTES: usize = 64 * KIB;
/// The most of a control frame that came in pieces; a padding scheme may fill it.
pub const CONTROL_FRAME_BYTES: usize = 64 * KIB;
/// The same when memory is short. A real scheme has some hundred bytes, an error text fewer.
pub const CONTROL_FRAME_FLOOR_BYTES: usize = 2 * KIB;
/// A shaped write on its way: settings and one frame.
pub const WRITE_BYTES: usize = KIB + RECORD_BYTES;
/// What a session costs besides its buffers: rustls' state and its copy of the server's certificates, the
/// driver's task, the tables. Measured: 4 KiB idle, and some KiB for a chain of certificates.
pub const SESSION_STATE_BYTES: usize = 8 * KIB;

/// Ciphertext that is read at once, and so the most that a paused connection keeps: four full records. No more than a
/// session receives before it pauses: what is beyond would have to be kept until the next turn.
pub const READ_BYTES: usize = RECEIVE_BYTES / RECORD_BYTES * (RECORD_BYTES + OVERHEAD_BYTES);
/// A burst, encrypted.
pub const BURST_BYTES: usize = BURST_RECORDS * (RECORD_BYTES + OVERHEAD_BYTES) + CONTROL_RECORDS_BYTES;
/// A server's flight during the handshake, at most. rustls takes messages of up to 64 KiB, and a chain of
/// certificates is a message; real flights are below 10 KiB. It fits the floor of the session to be.
pub const FLIGHT_BYTES: usize = 52 * KIB;
/// What is made room for at once of a flight: most are no longer.
pub const FLIGHT_STEP_BYTES: usize = 4 * KIB;

/// What every session can hold even when the account is used up: what it has read, as ciphertext or as
/// plaintext, what waits to be framed (a growing buffer has a quarter to spare), the write and the record
/// under way, a control frame (which grows by doubling).
pub const SESSION_FLOOR_BYTES: usize = SESSION_STATE_BYTES
    + SEALED_RECORD_BYTES
    + SEND_FLOOR_BYTES * 5 / 4
    + WRITE_BYTES
    + RECORD_BYTES
    + OVERHEAD_BYTES
    + CONTROL_RECORDS_BYTES
    + 2 * CONTROL_FRAME_FLOOR_BYTES;
const _: () = assert!(
    SESSION_STATE_BYTES + FLIGHT_BYTES + FLIGHT_STEP_BYTES <= SESSION_FLOOR_BYTES,
    "a handshake fits a session's floor"
);

// What flows hold.

/// What an idle flow costs in the netstack besides its rings' pages. Measured: 2 KiB.
pub const FLOW_BYTES: usize = 2 * KIB;
/// An app's first bytes, that ride along with the target of a stream: a TLS ClientHello with a post-quantum
/// key share has 1.8 KiB. Only eager flows have them before their stream is open.
pub const FIRST_BYTES: usize = 2 * KIB;
/// Flows at most, however much memory there is.
pub const MAX_FLOWS: usize = 8192;
/// UDP flows at most, unless a quarter of all flows are fewer: each is a stream, and mostly a session.
pub const MAX_UDP_FLOWS: usize = 1024;
/// Flows at most whose handshake is not done, unless half of all flows are fewer.
pub const MAX_HALF_OPEN: usize = 1024;
/// Resets that a full device owes. Nothing else repeats a reset, and an app that misses it waits for ever;
/// some hundred flows may be aborted at once when a session dies. Each is a packet of headers.
pub const OWED_RESETS: usize = 256;
const RESET_BYTES: usize = 80;
/// What reassembly may hold at most: more than two of the largest packets at once are an attack.
const REASSEMBLY_BYTES: usize = 256 * KIB;
/// The same when there is little memory: one of the largest packets, and small ones beside it.
const REASSEMBLY_FLOOR_BYTES: usize = 80 * KIB;
/// The packet that was read and the packet being written.
pub const PACKETS_BYTES: usize = 2 * 64 * KIB;

/// Packets that wait for us where they come in batches: those of one system call of Apple's, and some more.
pub const BATCH_IN_BYTES: usize = 96 * KIB;
/// Packets that leave in one batch.
pub const BATCH_OUT_BYTES: usize = 32 * KIB;

/// Memory for what a session has received until the app's flow takes it, kept for the next that receives.
pub const SPARE_BYTES: usize = RECEIVE_BYTES + RECORD_BYTES;
/// The least limit that leaves room for it. Below, each turn takes its memory from the system.
const SPARE_LIMIT_BYTES: usize = 16 * MIB;

/// What exists once: the buffers that TLS reads into and writes from, the record being built, a packet read
/// and a packet being written, owed resets, and packets in batches.
pub const SHARED_BYTES: usize = READ_BYTES
    + BURST_BYTES
    + WRITE_BYTES
    + PACKETS_BYTES
    + OWED_RESETS * RESET_BYTES
    + BATCH_IN_BYTES
    + BATCH_OUT_BYTES;

/// The smallest limit that can be divided: there a full burst is still a holder's part of the elastic
/// share, and two dozen sessions have their floor.
pub const MIN_LIMIT_BYTES: usize = 4 * MIB;

/// A holder may have this part of what is free. The more is held, the less each may take, so that what
/// stalls leaves something for what comes after it (Choudhury and Hahne's dynamic threshold). An eighth of
/// iOS' elastic share still is a full read while half a MiB is held.
const PART: usize = 8;

/// How the limit is divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// All of it, in bytes.
    pub limit: usize,
    /// Sessions at most: what was asked for, or what there is memory for.
    pub max_sessions: usize,
    /// What sessions may hold beyond their floors: the limit of their [`Account`].
    pub elastic: usize,
    /// What flows and their rings may hold.
    pub netstack: usize,
    /// Flows at most.
    pub max_flows: usize,
    /// What datagrams may hold in all queues: the limit of their [`Account`].
    pub datagrams: usize,
    /// What fragments may hold that wait for the rest of their packet.
    pub reassembly: usize,
    /// What DNS may hold: questions under way, the cache, and the names behind fake addresses.
    pub dns: usize,
    /// Kept for the next session that receives: [`SPARE_BYTES`] or nothing.
    spare: usize,
    eager: bool,
}

impl Budget {
    /// Divides `limit` bytes (taken for [`MIN_LIMIT_BYTES`] if less) for up to `max_sessions` sessions, as
    /// many as fit when that is 0, and for flows that are answered `eager`ly or not.
    pub const fn divide(limit: usize, max_sessions: usize, eager: bool) -> Self {
        let limit = max(limit, MIN_LIMIT_BYTES);
        let (beside, elastic) = (limit / 16, limit / 8);
        let reassembly = max(REASSEMBLY_FLOOR_BYTES, min(beside / 8, REASSEMBLY_BYTES));
        let dns = (beside - reassembly) * 3 / 7;
        let datagrams = beside - reassembly - dns;
        // With the elastic share half of it all: what crosses sessions has crossed a ring before.
        let affordable = (limit / 2 - elastic) / SESSION_FLOOR_BYTES;
        let max_sessions = if max_sessions == 0 { affordable } else { min(max_sessions, affordable) };
        let spare = if limit < SPARE_LIMIT_BYTES { 0 } else { SPARE_BYTES };
        let netstack = limit - SHARED_BYTES - spare - beside - elastic - max_sessions * SESSION_FLOOR_BYTES;
        // A sixteenth is the rings', whatever the number of flows.
        let max_flows = min((netstack - netstack / 16) / flow_bytes(eager), MAX_FLOWS);
        Self { limit, max_sessions, elastic, netstack, max_flows, datagrams, reassembly, dns, spare, eager }
    }

    /// UDP flows at most: of `max_streams`, where the server sets such a bound, half are left to TCP and DNS.
    pub fn max_udp_flows(&self, max_streams: Option<usize>) -> usize {
        let most = MAX_UDP_FLOWS.min(self.max_flows / 4);
        max_streams.map_or(most, |streams| most.min((streams / 2).max(1)))
    }

    /// Flows at most whose handshake is not done.
    pub fn max_half_open(&self) -> usize {
        MAX_HALF_OPEN.min(self.max_flows / 2)
    }

    /// What each flow takes off the netstack's share.
    pub fn flow_bytes(&self) -> usize {
        flow_bytes(self.eager)
    }

    /// The account of all sessions.
    pub fn account(&self) -> Account {
        Account::new(self.elastic).with_spare(self.spare)
    }

    /// The sum of all shares.
    pub const fn worst_case(&self) -> usize {
        let sessions = self.max_sessions * SESSION_FLOOR_BYTES + self.elastic;
        self.shared() + sessions + self.netstack + self.datagrams + self.reassembly + self.dns
    }

    /// What exists once.
    const fn shared(&self) -> usize {
        SHARED_BYTES + self.spare
    }

    /// What is held now.
    pub fn stats(&self, sessions: &Account, datagrams: &Account, held: Held) -> MemoryStats {
        MemoryStats {
            limit: self.limit,
            shared: self.shared(),
            sessions: self.max_sessions * SESSION_FLOOR_BYTES + self.elastic,
            sessions_held: sessions.held(),
            netstack: self.netstack,
            netstack_held: held.netstack,
            datagrams: self.datagrams,
            datagrams_held: datagrams.held(),
            reassembly: self.reassembly,
            reassembly_held: held.reassembly,
            dns: self.dns,
            dns_held: held.dns,
            pressure: sessions.pressure(),
        }
    }
}

/// The first bytes of an eager flow exist twice while its stream opens: with the relay, which may have to
/// try again, and in a session's output.
const fn flow_bytes(eager: bool) -> usize {
    if eager { FLOW_BYTES + 2 * FIRST_BYTES } else { FLOW_BYTES }
}

// `Ord` has no const functions.
const fn min(a: usize, b: usize) -> usize {
    if a < b { a } else { b }
}

const fn max(a: usize, b: usize) -> usize {
    if a > b { a } else { b }
}

/// What those hold, in bytes, that have no account.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Flows and their rings.
    pub netstack: usize,
    /// Fragments.
    pub reassembly: usize,
    /// Questions, the cache, and the names behind fake addresses.
    pub dns: usize,
}

/// What the core may hold and what it holds, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryStats {
    /// The configured limit.
    pub limit: usize,
    /// The share of buffers that exist once.
    pub shared: usize,
    /// The share of all sessions.
    pub sessions: usize,
    /// What sessions' buffers hold of it: streams' bytes, and records waiting to be read or sent.
    pub sessions_held: usize,
    /// The share of flows and their rings.
    pub netstack: usize,
    /// What flows and their rings hold of it.
    pub netstack_held: usize,
    /// The share of datagrams in queues.
    pub datagrams: usize,
    /// What they hold of it.
    pub datagrams_held: usize,
    /// The share of fragments that wait for the rest of their packet.
    pub reassembly: usize,
    /// What they hold of it.
    pub reassembly_held: usize,
    /// The share of DNS.
    pub dns: usize,
    /// What questions under way, the cache and the names behind fake addresses hold of it.
    pub dns_held: usize,
    /// What the system last said.
    pub pressure: Pressure,
}

impl MemoryStats {
    /// What is held in all, in bytes.
    pub fn held(&self) -> usize {
        self.shared
            + self.sessions_held
            + self.netstack_held
            + self.datagrams_held
            + self.reassembly_held
            + self.dns_held
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Limits from the smallest to the largest that a config takes.
    fn limits() -> impl Iterator<Item = usize> {
        (MIN_LIMIT_BYTES..64 * MIB).step_by(777_777).chain([12 * MIB, 24 * MIB, 256 * MIB, 1024 * MIB])
    }

    #[test]
    fn the_worst_case_never_exceeds_the_limit() {
        for limit in limits() {
            for max_sessions in [0, 1, 2, 64, 128, 1024, usize::MAX] {
                for eager in [false, true] {
                    let budget = Budget::divide(limit, max_sessions, eager);
                    assert!(budget.worst_case() <= limit, "{budget:?}");
                    assert!(budget.max_sessions >= 1 && budget.max_flows >= 64, "{budget:?}");
                    let rings = budget.netstack - budget.max_flows * budget.flow_bytes();
                    assert!(rings >= budget.netstack / 16, "{budget:?}");
                    assert!(budget.max_half_open() <= budget.max_flows, "{budget:?}");
                    assert!(budget.max_udp_flows(None) >= 16, "{budget:?}");
                }
            }
        }
    }

    #[test]
    fn the_platforms_defaults_have_room_for_their_sessions_and_flows() {
        for (limit, sessions, flows) in [(24 * MIB, 128, 5_000), (IOS_LIMIT_BYTES, IOS_MAX_SESSIONS, 2_400)] {
            let budget = Budget::divide(limit, sessions, false);
            assert_eq!(budget.max_sessions, sessions);
            assert!(budget.max_flows >= flows, "{budget:?}");
        }
    }

    #[test]
    fn the_largest_datagram_has_room_even_at_the_smallest_limit() {
        let budget = Budget::divide(MIN_LIMIT_BYTES, 0, false);
        assert!(budget.datagrams > 66 * KIB && budget.reassembly > 66 * KIB, "{budget:?}");
        let budget = Budget::divide(24 * MIB, 128, false);
        assert_eq!(budget.max_udp_flows(None), MAX_UDP_FLOWS);
        let of_streams = [1000, 64, 5, 1, 0].map(|streams| budget.max_udp_flows(Some(streams)));
        assert_eq!(of_streams, [500, 32, 2, 1, 1]);
    }

    #[test]
    fn a_lone_transfer_has_full_buffers_even_at_the_smallest_limit() {
        let account = Budget::divide(MIN_LIMIT_BYTES, 0, false).account();
        assert_eq!(account.allowance(0, BURST_RECORDS * RECORD_BYTES), BURST_RECORDS * RECORD_BYTES);
        let account = Budget::divide(12 * MIB, 64, false).account();
        account.take(SEND_BYTES + RECEIVE_BYTES + BURST_BYTES + READ_BYTES);
        assert_eq!(account.allowance(0, READ_BYTES), READ_BYTES);
    }

    #[test]
    fn without_a_limit_on_sessions_memory_bounds_them() {
        let at = |limit| Budget::divide(limit, 0, false).max_sessions;
        assert!(at(MIN_LIMIT_BYTES) >= 16 && at(24 * MIB) >= 128, "{} {}", at(MIN_LIMIT_BYTES), at(24 * MIB));
        assert_eq!(Budget::divide(24 * MIB, 1024, false).max_sessions, at(24 * MIB));
    }

    #[test]
    fn a_limit_below_the_smallest_is_the_smallest() {
        assert_eq!(Budget::divide(0, 0, false), Budget::divide(MIN_LIMIT_BYTES, 0, false));
    }
}
