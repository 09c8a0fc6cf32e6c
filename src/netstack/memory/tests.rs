//! Pages touched and given back, shares, pressure.

use super::*;

fn rings(memory: &Arc<Memory>) -> Rings {
    Rings::new(Arc::clone(memory), |_, _| SocketSet::new(Vec::new())).unwrap()
}

fn memory(budget: usize) -> Arc<Memory> {
    Arc::new(Memory { page: 4096, ..Memory::new(budget, 0) })
}

const NOTHING: [(usize, usize); 2] = [(0, 0); 2];

#[test]
fn only_touched_pages_are_held() {
    let memory = memory(16 << 20);
    let mut rings = rings(&memory);
    assert_eq!(memory.held(), 0);
    assert!(rings.touch(Ring::Receive, 0, 1));
    assert!(rings.touch(Ring::Receive, 100, 3000));
    assert_eq!(memory.held(), 4096);
    assert!(rings.touch(Ring::Send, 4095, 2));
    assert_eq!(memory.held(), 3 * 4096);
}

#[test]
fn a_range_around_the_rings_end_touches_both_ends() {
    let memory = memory(16 << 20);
    let mut rings = rings(&memory);
    let ring = rings.ring_bytes();
    assert!(rings.touch(Ring::Receive, ring - 1, 2));
    assert_eq!(rings.touched[0], 1 | 1 << 63);
    assert!(rings.touch(Ring::Receive, ring - 1, ring));
    assert_eq!(memory.held(), ring);
}

#[test]
fn live_bytes_keep_their_pages() {
    let memory = memory(16 << 20);
    let mut rings = rings(&memory);
    assert!(rings.touch(Ring::Receive, 0, 10 * 4096));
    rings.with(|_| ());
    rings.give_back([(3 * 4096, 4097), (0, 0)]);
    assert_eq!(rings.touched[0], 0b11000);
    assert!(!rings.has_spare([(3 * 4096, 4097), (0, 0)]));
    rings.give_back(NOTHING);
    assert_eq!(memory.held(), 0);
}

#[test]
fn the_budget_is_never_exceeded_and_the_greedy_leave_something() {
    let budget = 4 << 20;
    let memory = memory(budget);
    let mut flows: Vec<_> = (0..300).map(|_| rings(&memory)).collect();
    let mut held = Vec::new();
    for rings in &mut flows {
        let before = memory.held();
        let ring = rings.ring_bytes();
        rings.touch_some(Ring::Receive, 0, ring);
        assert!(memory.held() <= budget);
        held.push(memory.held() - before);
    }
    assert!(memory.take_shortage());
    assert!(held[0] > 100 * 1024, "the first takes a good part: {held:?}");
    assert!(held[..128].iter().all(|&bytes| bytes >= FLOOR_BYTES), "many have their floor: {held:?}");
    drop(flows);
    memory.chill();
    assert_eq!(memory.held(), 0);
}

#[test]
fn flows_leave_less_for_rings() {
    let memory = Arc::new(Memory { page: 4096, ..Memory::new(64 * 1024, 16 * 1024) });
    let mut flows: Vec<_> = (0..3).map(|_| rings(&memory)).collect();
    assert_eq!(flows[0].touch_some(Ring::Receive, 0, 16 * 1024), 16 * 1024);
    assert_eq!(flows[1].touch_some(Ring::Receive, 0, 4096), 0);
    flows.pop();
    assert_eq!(flows[1].touch_some(Ring::Receive, 0, 4096), 4096);
}

#[test]
fn a_flow_is_admitted_when_it_fits_beside_all_rings() {
    let memory = Arc::new(Memory { page: 4096, ..Memory::new(64 * 1024, 16 * 1024) });
    let mut first = rings(&memory);
    assert_eq!(first.touch_some(Ring::Receive, 0, 16 * 1024), 16 * 1024);
    let mut second = rings(&memory);
    assert!(memory.admits_flow());
    assert!(second.touch(Ring::Receive, 0, 1));
    assert!(!memory.admits_flow(), "32 KiB of flows, 20 KiB of pages, 16 KiB for a third");
    second.give_back(NOTHING);
    first.give_back(NOTHING);
    assert!(memory.admits_flow());
}

#[test]
fn a_flow_without_rings_takes_its_place_and_leaves_it() {
    let memory = Arc::new(Memory { page: 4096, ..Memory::new(40 * 1024, 16 * 1024) });
    let mut rings = rings(&memory);
    assert!(rings.touch(Ring::Receive, 0, 2 * 4096));
    let size = memory.ring_bytes(1);
    let place = memory.enter();
    assert_eq!(memory.held_in_all(), 40 * 1024);
    assert!(!memory.admits_flow());
    assert!(!rings.touch(Ring::Send, 0, 1));
    assert_eq!(memory.ring_bytes(1), size, "rings are no smaller for it");
    assert!(!memory.take_relief());
    drop(place);
    assert!(memory.take_relief(), "who waits may try again");
    assert!(memory.admits_flow() && rings.touch(Ring::Send, 0, 1));
    assert_eq!(memory.held_in_all(), 16 * 1024 + 3 * 4096);
}

#[test]
fn flows_leave_a_part_to_rings() {
    let memory = Arc::new(Memory { page: 4096, ..Memory::new(64 * 1024, 15 * 1024) });
    let places: Vec<_> = (0..3).map(|_| memory.enter()).collect();
    assert!(memory.admits_flow(), "with it, 60 KiB of 64 are flows");
    let last = memory.enter();
    assert!(!memory.admits_flow());
    drop((last, places));

    let memory = Arc::new(Memory { page: 4096, ..Memory::new(64 * 1024, 16 * 1024) });
    let _places: Vec<_> = (0..3).map(|_| memory.enter()).collect();
    assert!(!memory.admits_flow(), "nothing would be left");
}

#[test]
fn under_pressure_a_ring_has_its_floor_and_afterwards_its_share_again() {
    let memory = memory(16 << 20);
    let mut rings = rings(&memory);
    let all = rings.ring_bytes();
    memory.set_pressure(Pressure::Low);
    assert_eq!(rings.receive_limit(0), (4 << 20) / SHARE);
    memory.set_pressure(Pressure::Critical);
    assert_eq!(rings.receive_limit(0), FLOOR_BYTES);
    assert_eq!(rings.touch_some(Ring::Receive, 0, all), FLOOR_BYTES);
    assert!(memory.take_shortage());
    memory.set_pressure(Pressure::Normal);
    assert_eq!(rings.touch_some(Ring::Receive, 0, all), all);
}

#[test]
fn under_pressure_no_mapping_is_kept_for_the_next_flow() {
    let memory = memory(16 << 20);
    let touched = || {
        let mut rings = rings(&memory);
        assert!(rings.touch(Ring::Send, 0, 4096));
    };
    touched();
    assert_eq!(memory.held(), 4096);
    memory.set_pressure(Pressure::Low);
    memory.chill();
    touched();
    assert_eq!(memory.held(), 0);
}

#[test]
fn relief_is_told_once() {
    let memory = memory(64 * 1024);
    let mut rings = rings(&memory);
    rings.touch_some(Ring::Send, 0, 16 * 1024);
    assert!(!memory.take_relief());
    rings.give_back(NOTHING);
    assert!(memory.take_relief());
    assert!(!memory.take_relief());
}

#[test]
fn rings_shrink_as_flows_grow() {
    let memory = Arc::new(Memory { page: 4096, address_space: 16 << 20, ..Memory::new(16 << 20, 0) });
    let flows: Vec<_> = (0..200).map(|_| rings(&memory)).collect();
    let size = |flow: usize| flows[flow].ring_bytes();
    assert_eq!((size(0), size(31)), (256 * 1024, 256 * 1024));
    assert_eq!((size(32), size(127)), (64 * 1024, 64 * 1024));
    assert_eq!((size(128), size(199)), (16 * 1024, 16 * 1024));
}

#[test]
fn a_short_flow_leaves_its_pages_to_the_next_one() {
    let memory = memory(16 << 20);
    let mut first = rings(&memory);
    assert!(first.touch(Ring::Send, 0, 4096));
    drop(first);
    assert_eq!(memory.held(), 4096);
    let second = rings(&memory);
    assert_eq!(second.touched, [0, 1]);
    assert_eq!(memory.held(), 4096);
}

#[test]
fn a_long_flow_leaves_address_space_only() {
    let memory = memory(16 << 20);
    let mut first = rings(&memory);
    assert!(first.touch(Ring::Send, 0, 256 * 1024));
    drop(first);
    assert_eq!(memory.held(), 0);
    assert_eq!(rings(&memory).touched, [0; 2]);
}

#[test]
fn warm_mappings_are_few() {
    let memory = memory(16 << 20);
    let mut flows: Vec<_> = (0..100).map(|_| rings(&memory)).collect();
    for rings in &mut flows {
        assert!(rings.touch(Ring::Receive, 0, 1));
    }
    drop(flows);
    assert_eq!(memory.held(), WARM_MAPPINGS * 4096);
}
