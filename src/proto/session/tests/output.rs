//! What leaves: the first write, shaped ones, and those that fill records.

use super::*;

#[test]
fn the_first_write_is_settings_syn_and_target_within_plan_1() {
    for seed in 0..300 {
        let mut session = client();
        session.open(&target(), b"", START).expect("open");
        let records = records(&mut session, &mut StdRng::seed_from_u64(seed));
        assert!((100..400).contains(&records[0].len()), "seed {seed}: {} bytes", records[0].len());
        let rest: usize = records[1..].iter().map(Vec::len).sum();
        assert!(records.len() <= 2 && rest < 30, "seed {seed}: only what the plan's draw left over");
        let frames = frames(&records.concat());
        assert_eq!(frames[0].0, 4);
        let settings = String::from_utf8(frames[0].2.clone()).expect("text");
        assert!(settings.contains("v=2\n") || settings.ends_with("v=2"), "{settings}");
        assert!(settings.contains("client=anytls-mobile/"), "{settings}");
        assert!(settings.contains("padding-md5="), "{settings}");
        assert_eq!(frames[1..], [(1, 1, vec![]), (2, 1, TARGET_BYTES.to_vec())]);
    }
}

#[test]
fn the_first_bytes_ride_in_the_same_psh_as_the_target() {
    let mut session = unshaped_client();
    session.open(&target(), b"hello", START).expect("open");
    let frames = sent(&mut session);
    assert_eq!(frames[2], (2, 1, [TARGET_BYTES, b"hello"].concat()));
}

#[test]
fn first_bytes_that_do_not_fit_follow_in_order() {
    let mut session = unshaped_client();
    let first: Vec<u8> = (0..40_000_u32).map(|i| i.to_le_bytes()[0]).collect();
    session.open(&target(), &first, START).expect("open");
    let bytes: Vec<u8> = sent(&mut session).into_iter().filter(|f| f.0 == 2).flat_map(|f| f.2).collect();
    assert_eq!(bytes, [TARGET_BYTES, &first].concat());
    assert_eq!(session.counters().sent_bytes, 40_000);
}

#[test]
fn shaped_writes_follow_the_plan_and_later_ones_fill_records() {
    let mut session = client();
    let mut rng = StdRng::seed_from_u64(7);
    let id = session.open(&target(), b"", START).expect("open");
    records(&mut session, &mut rng);
    // Write 2 of the default scheme: 400-500, then four times 500-1000 while payload is left.
    session.write(id, &[1; 300]).expect("write");
    let two = records(&mut session, &mut rng);
    assert_eq!(two.len(), 1);
    assert!((400..500).contains(&two[0].len()), "{}", two[0].len());
    for write in 3..8 {
        session.write(id, &[2; 100]).expect("write");
        let lengths: Vec<_> = records(&mut session, &mut rng).iter().map(Vec::len).collect();
        assert!(
            (500..1000).contains(lengths.last().expect("a record")) || write == 3,
            "{write}: {lengths:?}"
        );
    }
    session.write(id, &[3; 40_000]).expect("write");
    let bulk = records(&mut session, &mut rng);
    assert_eq!(bulk.iter().map(Vec::len).collect::<Vec<_>>(), [16_384, 16_384, 40_000 - 2 * 16_377 + 7]);
}

#[test]
fn only_shaped_records_are_flushed_one_by_one() {
    let mut session = client();
    let mut rng = StdRng::seed_from_u64(7);
    let mut record = Vec::new();
    let id = session.open(&target(), b"", START).expect("open");
    let mut kinds = Vec::new();
    for _ in 1..10 {
        session.write(id, b"x").expect("write");
        while let Some(kind) = session.poll_record(&mut rng, &mut record) {
            kinds.push(kind);
        }
    }
    let shaped = kinds.iter().take_while(|kind| **kind == Record::Shaped).count();
    assert!(shaped >= 7, "{kinds:?}");
    assert!(kinds[shaped..].iter().all(|kind| *kind == Record::Bulk) && kinds.len() > shaped, "{kinds:?}");
}

#[test]
fn a_server_never_pads() {
    let mut server = Session::new(Side::Server, options(None), START);
    server.handle_input(&frame(4, 0, b"v=2\nclient=test\npadding-md5=none"), START);
    server.handle_input(&frame(1, 1, b""), START);
    let id = StreamId(1);
    assert_eq!(events(&mut server), [Event::Incoming(id)]);
    server.accept(id);
    server.write(id, b"hi").expect("write");
    let all = records(&mut server, &mut StdRng::seed_from_u64(1)).concat();
    let scheme = Scheme::default_scheme();
    let expected =
        [frame(6, 0, scheme.raw().as_bytes()), frame(10, 0, b"v=2"), frame(7, 1, b""), frame(2, 1, b"hi")];
    assert_eq!(all, expected.concat());
}
