use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use smoltcp::wire::{Ipv4Packet, Ipv6Packet};

use super::*;

const LIMIT: usize = 256 << 10;
const START: Moment = Moment::from_origin(Duration::from_secs(1000));

fn key(id: u32) -> Key {
    let (source, destination) = ([10, 0, 0, 2].into(), [192, 0, 2, 1].into());
    Key { source, destination, id, protocol: Some(IpProtocol::Udp) }
}

fn key_v6(id: u32) -> Key {
    let host = |last| [0x2001, 0xdb8, 0, 0, 0, 0, 0, last].into();
    Key { source: host(2), destination: host(1), id, protocol: None }
}

fn fragment(key: Key, offset: usize, more: bool, payload: &[u8]) -> Fragment<'_> {
    let offset = u16::try_from(offset).unwrap();
    Fragment { key, protocol: IpProtocol::Udp, hop_limit: 61, offset, more, payload }
}

/// The parts of `payload` between `cuts`, which are in units of 8 bytes.
fn split<'a>(key: Key, payload: &'a [u8], cuts: &[usize]) -> Vec<Fragment<'a>> {
    let mut bounds: Vec<usize> = cuts.iter().map(|cut| 8 * cut).filter(|&cut| cut < payload.len()).collect();
    bounds.extend([0, payload.len()]);
    bounds.sort_unstable();
    bounds.dedup();
    let pairs = bounds.iter().zip(&bounds[1..]);
    pairs.map(|(&from, &to)| fragment(key, from, to < payload.len(), &payload[from..to])).collect()
}

fn bytes(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at % 251) as u8).collect()
}

struct Bench {
    reassembly: Reassembly,
    dropped: Drops,
    now: Moment,
}

impl Bench {
    fn new(limit: usize) -> Self {
        Self { reassembly: Reassembly::new(limit), dropped: Drops::default(), now: START }
    }

    fn put(&mut self, fragment: &Fragment<'_>) -> Option<Vec<u8>> {
        let whole = self.reassembly.handle_fragment(fragment, self.now, &mut self.dropped);
        let (held, real) = (self.reassembly.held, self.real());
        assert_eq!(held, real, "the account is right");
        assert!(held <= self.reassembly.limit, "{held} bytes are held");
        whole
    }

    /// What is held, counted anew.
    fn real(&self) -> usize {
        let assembly = |partial: &Partial| match &partial.state {
            State::Open(assembly) => assembly.bytes(),
            State::Closed(_) => 0,
        };
        self.reassembly.partials.iter().map(|partial| PACKET_BYTES + assembly(partial)).sum()
    }

    fn wait(&mut self, span: Duration) {
        self.now = self.now + span;
        self.reassembly.handle_timeout(self.now, &mut self.dropped);
    }
}

fn expect_v4(packet: &[u8], payload: &[u8]) {
    let ip = Ipv4Packet::new_checked(packet).unwrap();
    assert!(ip.verify_checksum() && !ip.more_frags() && ip.frag_offset() == 0);
    assert_eq!((ip.next_header(), ip.hop_limit(), ip.header_len()), (IpProtocol::Udp, 61, 20));
    assert_eq!(IpAddr::from(ip.src_addr()), key(0).source);
    assert_eq!(IpAddr::from(ip.dst_addr()), key(0).destination);
    assert!(ip.payload() == payload);
    assert_eq!(packet.len(), 20 + payload.len());
}

#[test]
fn fragments_in_any_order_make_the_packet() {
    let payload = bytes(100);
    let parts = split(key(1), &payload, &[2, 5]);
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let mut bench = Bench::new(LIMIT);
        assert!(bench.put(&parts[order[0]]).is_none());
        assert!(bench.put(&parts[order[1]]).is_none());
        expect_v4(&bench.put(&parts[order[2]]).unwrap(), &payload);
        assert_eq!((bench.reassembly.held(), bench.reassembly.poll_timeout()), (0, None), "nothing is left");
        assert_eq!(bench.dropped.total(), 0);
    }
}

#[test]
fn the_first_fragment_says_what_an_ipv6_packet_is() {
    let payload = bytes(3000);
    let mut parts = split(key_v6(1), &payload, &[181]);
    parts[1].protocol = IpProtocol::Tcp;
    parts[1].hop_limit = 3;
    for order in [[0, 1], [1, 0]] {
        let mut bench = Bench::new(LIMIT);
        assert!(bench.put(&parts[order[0]]).is_none());
        let packet = bench.put(&parts[order[1]]).unwrap();
        let ip = Ipv6Packet::new_checked(&packet[..]).unwrap();
        assert_eq!((ip.next_header(), ip.hop_limit()), (IpProtocol::Udp, 61));
        assert_eq!((IpAddr::from(ip.src_addr()), IpAddr::from(ip.dst_addr())), {
            let key = key_v6(1);
            (key.source, key.destination)
        });
        assert!(ip.payload() == payload && packet.len() == 3040);
    }
}

#[test]
fn packets_that_differ_in_anything_are_not_mixed() {
    let payload = bytes(32);
    let other_source = Key { source: [10, 0, 0, 3].into(), ..key(1) };
    let other_destination = Key { destination: [192, 0, 2, 2].into(), ..key(1) };
    let other_protocol = Key { protocol: Some(IpProtocol::Icmp), ..key(1) };
    let keys = [key(1), key(2), other_source, other_destination, other_protocol, key_v6(1), key_v6(2)];
    let mut bench = Bench::new(LIMIT);
    for key in keys {
        assert!(bench.put(&split(key, &payload, &[2])[0]).is_none());
    }
    for key in keys {
        assert!(bench.put(&split(key, &payload, &[2])[1]).is_some());
    }
    assert_eq!(bench.reassembly.held(), 0);
}

#[test]
fn the_longest_packets_fit_and_nothing_beyond() {
    for (key, most) in [(key(1), 65_515), (key_v6(1), 65_535)] {
        let payload = bytes(most);
        let parts = split(key, &payload, &(0..most / 1480).map(|part| part * 185).collect::<Vec<_>>());
        let mut bench = Bench::new(LIMIT);
        let whole = parts.iter().rev().find_map(|part| bench.put(part)).unwrap();
        assert!(whole.ends_with(&payload));
        let payload = bytes(16);
        assert!(fragment(key, most / 8 * 8, false, &payload[..most % 8]).is_sound());
        assert!(!fragment(key, most / 8 * 8, false, &payload[..most % 8 + 1]).is_sound());
    }
}

#[test]
fn what_no_packet_can_have_is_not_sound() {
    let payload = bytes(16);
    assert!(fragment(key(1), 8, true, &payload).is_sound());
    assert!(fragment(key(1), 8, false, &payload[..9]).is_sound());
    assert!(!fragment(key(1), 8, true, &payload[..9]).is_sound(), "nothing can follow it");
    assert!(!fragment(key(1), 8, true, &[]).is_sound());
    assert!(!fragment(key(1), 8, false, &[]).is_sound());
}

#[test]
fn repeated_fragments_are_ignored() {
    let payload = bytes(64);
    let parts = split(key(1), &payload, &[2, 4]);
    let mut bench = Bench::new(LIMIT);
    for _ in 0..5 {
        assert!(bench.put(&parts[0]).is_none());
        assert!(bench.put(&parts[2]).is_none());
    }
    assert_eq!(bench.dropped[DropReason::FragmentRepeated], 8);
    expect_v4(&bench.put(&parts[1]).unwrap(), &payload);
    assert_eq!(bench.dropped.total(), 8);
}

/// After `before` has come, `bad` gives the packet up: all fragments, and those to come, count as `reason`.
fn expect_given_up(before: &[(usize, bool, &[u8])], bad: (usize, bool, &[u8]), reason: DropReason) {
    let payload = bytes(64);
    let mut bench = Bench::new(LIMIT);
    for &(offset, more, payload) in before {
        assert!(bench.put(&fragment(key(1), offset, more, payload)).is_none());
    }
    assert_eq!(bench.dropped.total(), 0);
    let held = bench.reassembly.held();
    assert!(bench.put(&fragment(key(1), bad.0, bad.1, bad.2)).is_none());
    let count = before.len() as u64 + 1;
    assert_eq!((bench.dropped[reason], bench.dropped.total()), (count, count), "{before:?} {bad:?}");
    assert!(bench.reassembly.held() < held);
    for part in split(key(1), &payload, &[2, 4]) {
        assert!(bench.put(&part).is_none(), "given up for good");
    }
    assert_eq!(bench.dropped[reason], count + 3);
    // For as long as its fragments may live, and no longer.
    bench.wait(TIMEOUT - Duration::from_millis(1));
    assert!(bench.put(&fragment(key(1), 0, true, &payload[..8])).is_none());
    assert_eq!(bench.dropped[reason], count + 4);
    bench.wait(Duration::from_millis(1));
    let parts = split(key(1), &payload, &[2, 4]);
    expect_v4(&parts.iter().find_map(|part| bench.put(part)).unwrap(), &payload);
    assert_eq!(bench.dropped.total(), count + 4);
}

#[test]
fn overlapping_fragments_give_the_packet_up() {
    let (good, evil) = (bytes(64), vec![0xff; 64]);
    let middle = [(16, true, &good[16..32])];
    let overlap = DropReason::FragmentOverlap;
    expect_given_up(&middle, (16, true, &evil[..16]), overlap); // the same place, other bytes
    expect_given_up(&middle, (8, true, &good[8..24]), overlap); // its beginning, even with the same bytes
    expect_given_up(&middle, (24, true, &good[24..40]), overlap); // its end
    expect_given_up(&middle, (8, true, &good[8..40]), overlap); // all of it and more
    expect_given_up(&middle, (16, true, &evil[..8]), overlap); // within
    expect_given_up(&middle, (24, false, &good[24..40]), overlap); // the last one
    let two = [(0, true, &good[..16]), (32, true, &good[32..48])];
    expect_given_up(&two, (8, true, &good[8..40]), overlap); // the gap and both sides
    expect_given_up(&two, (16, true, &good[16..40]), overlap);
}

#[test]
fn fragments_that_disagree_about_the_end_give_the_packet_up() {
    let good = bytes(64);
    let last = [(32, false, &good[32..40])];
    expect_given_up(&last, (40, true, &good[40..48]), DropReason::Fragment); // beyond the end
    expect_given_up(&last, (48, false, &good[48..56]), DropReason::Fragment); // another end
    expect_given_up(&last, (16, false, &good[16..24]), DropReason::Fragment);
    expect_given_up(&last, (32, true, &good[32..40]), DropReason::Fragment); // the end, but not the last
    let beyond = [(32, true, &good[32..40])];
    expect_given_up(&beyond, (16, false, &good[16..24]), DropReason::Fragment); // the end comes too early
    expect_given_up(&beyond, (32, false, &good[32..40]), DropReason::Fragment);
}

#[test]
fn a_packet_that_is_not_whole_in_time_is_dropped() {
    let payload = bytes(64);
    let parts = split(key(1), &payload, &[2, 4]);
    let mut bench = Bench::new(LIMIT);
    assert_eq!(bench.reassembly.poll_timeout(), None, "no timer when nothing is held");
    bench.put(&parts[0]);
    let due = bench.reassembly.poll_timeout().unwrap();
    assert_eq!(due, START + TIMEOUT + SLACK);
    bench.wait(TIMEOUT / 2);
    bench.put(&parts[1]);
    assert_eq!(bench.reassembly.poll_timeout(), Some(due), "from the first fragment on");
    bench.wait(TIMEOUT / 2);
    assert_eq!(bench.dropped[DropReason::FragmentTimeout], 2);
    assert_eq!((bench.reassembly.held(), bench.reassembly.poll_timeout()), (0, None));
    assert!(bench.put(&parts[2]).is_none());

    // A fragment that comes before the timer but too late begins anew.
    bench.now = bench.now + TIMEOUT;
    assert!(bench.put(&parts[0]).is_none());
    assert!(bench.put(&parts[1]).is_none());
    assert_eq!(bench.dropped[DropReason::FragmentTimeout], 3);
    expect_v4(&bench.put(&parts[2]).unwrap(), &payload);
}

#[test]
fn the_oldest_packets_make_room() {
    let payload = bytes(20_000);
    let mut bench = Bench::new(LIMIT);
    let parts = |id| split(key(id), &payload, &[2000]);
    for id in 0..100 {
        bench.put(&parts(id)[0]);
    }
    let kept = bench.reassembly.partials.len();
    assert!((10..16).contains(&kept), "{kept} of 16 000 bytes each");
    assert_eq!(bench.dropped[DropReason::FragmentMemory], 100 - kept as u64);
    for id in 100 - kept as u32..100 {
        // Growing needs room too: the older half goes.
        bench.put(&parts(id)[1]);
    }
    assert!(bench.put(&parts(99)[0]).is_none(), "it was whole and is gone");

    // One that grows is not its own victim, though it is the oldest.
    let mut bench = Bench::new(100_000);
    bench.put(&fragment(key(1), 0, true, &payload[..16_000]));
    for id in 2..5 {
        bench.put(&fragment(key(id), 0, true, &payload[..16_000]));
    }
    assert!(bench.put(&fragment(key(1), 56_000, false, &payload[..8])).is_none());
    assert!(bench.reassembly.partials.iter().any(|partial| partial.key == key(1)));
    assert!(bench.dropped[DropReason::FragmentMemory] > 0);
}

#[test]
fn a_packet_that_would_not_fit_alone_is_dropped() {
    for limit in [0, 100, 10_000] {
        let payload = bytes(60_000);
        let mut bench = Bench::new(limit);
        for part in split(key(1), &payload, &(1..40).map(|part| part * 185).collect::<Vec<_>>()) {
            assert!(bench.put(&part).is_none());
        }
        assert_eq!(bench.dropped[DropReason::FragmentMemory], 40 - bench.open_fragments());
        assert_eq!(bench.dropped[DropReason::FragmentMemory], bench.dropped.total());
    }
}

impl Bench {
    fn open_fragments(&self) -> u64 {
        let count = |partial: &Partial| match &partial.state {
            State::Open(assembly) => assembly.fragments(),
            State::Closed(_) => 0,
        };
        self.reassembly.partials.iter().map(count).sum()
    }
}

#[test]
fn tiny_fragments_with_gaps_are_bounded() {
    let mut bench = Bench::new(LIMIT);
    for part in 0..256 {
        assert!(bench.put(&fragment(key(1), 16 * part, true, &[1; 8])).is_none());
    }
    assert_eq!(bench.dropped.total(), 0);
    bench.put(&fragment(key(1), 16 * 256, true, &[1; 8]));
    assert_eq!(bench.dropped[DropReason::Fragment], 257);
    assert_eq!(bench.reassembly.held(), PACKET_BYTES);
    // And in number of packets.
    for id in 0..10_000 {
        bench.put(&fragment(key(id), 8, true, &[1; 8]));
        assert!(bench.reassembly.partials.len() <= MAX_PACKETS);
    }
}

/// A payload, where it is cut, and in which order the parts come, some of them twice.
fn cuts() -> impl Strategy<Value = (Vec<u8>, Vec<usize>, Vec<u32>)> {
    let len = prop_oneof![9..200_usize, 200..65_516_usize];
    len.prop_flat_map(|len| {
        let cuts = prop::collection::vec(0..=len.div_ceil(8), 0..60);
        (prop::collection::vec(any::<u8>(), len), cuts, prop::collection::vec(any::<u32>(), 120))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn any_cut_in_any_order_makes_the_same_packet((payload, cuts, order) in cuts(), v6: bool) {
        let key = if v6 { key_v6(7) } else { key(7) };
        let parts = split(key, &payload, &cuts);
        // The order of random numbers; every third comes twice.
        let mut queue: Vec<_> = order.iter().zip(parts.iter().chain(parts.iter().step_by(3))).collect();
        queue.sort_by_key(|(number, _)| **number);
        let mut bench = Bench::new(LIMIT);
        let whole = queue.iter().find_map(|(_, part)| bench.put(part));
        let whole = whole.ok_or_else(|| TestCaseError::fail("not whole"))?;
        prop_assert!(whole[key.header_bytes()..] == payload[..]);
    }

    #[test]
    fn a_flood_of_anything_stays_within_the_limit(
        flood in prop::collection::vec((0..40_u32, 0..8190_usize, 1..180_usize, any::<bool>(), 0..4000_u64), 1..400),
        limit in 0..100_000_usize,
    ) {
        let payload = bytes(1440);
        let mut bench = Bench::new(limit);
        let mut puts = 0;
        let mut wholes = 0;
        for (id, offset, len, more, wait) in flood {
            let fragment = fragment(key(id), 8 * offset, more, &payload[..8 * len]);
            if fragment.is_sound() {
                puts += 1;
                let before = bench.open_fragments() + bench.dropped.total();
                wholes += u64::from(bench.put(&fragment).is_some()) * (before + 1 - bench.open_fragments() - bench.dropped.total());
            }
            bench.wait(Duration::from_millis(wait));
        }
        prop_assert_eq!(bench.dropped.total() + bench.open_fragments() + wholes, puts, "each has its fate");
        bench.wait(TIMEOUT);
        prop_assert_eq!(bench.reassembly.held(), 0);
    }
}
