use proptest::prelude::*;
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::*;
use crate::proto::command::Command;
use crate::proto::frame::{Decoder, Item, StreamId, encode_header};
use crate::proto::padding::Scheme;

/// The records of a write of `total` bytes under `line`, as payload and waste data.
fn records(line: &str, total: usize) -> Vec<(usize, Option<u16>)> {
    let scheme = Scheme::parse(format!("stop=2\n1={line}").as_bytes()).expect("a valid scheme");
    let mut shaper = scheme.shaper(1);
    let mut rng = StdRng::seed_from_u64(1);
    let mut remaining = total;
    let mut records = Vec::new();
    while let Some(record) = shaper.next(remaining, &mut rng) {
        assert!(record.plaintext_bytes() <= 16_384);
        remaining -= record.payload;
        records.push((record.payload, record.waste));
    }
    assert_eq!(remaining, 0, "{line} of {total}");
    records
}

#[test]
fn size_below_the_payload_is_filled_with_payload() {
    assert_eq!(records("100-100", 101), [(100, None), (1, None)]);
}

#[test]
fn size_that_leaves_no_room_for_waste_data_is_cut_to_the_payload() {
    for total in 93..=100 {
        assert_eq!(records("100-100", total), [(total, None)], "{total}");
    }
    for total in 1..=7 {
        assert_eq!(records("7-7", total), [(total, None)], "{total}");
    }
    assert_eq!(records("1-1", 1), [(1, None)]);
    assert_eq!(records("8-8", 1), [(1, None)]);
}

#[test]
fn payload_below_the_size_is_filled_up_with_one_waste_frame() {
    assert_eq!(records("100-100", 92), [(92, Some(1))]);
    assert_eq!(records("100-100", 1), [(1, Some(92))]);
    assert_eq!(records("9-9", 1), [(1, Some(1))]);
}

#[test]
fn record_of_waste_alone_is_seven_bytes_over_its_size() {
    assert_eq!(records("9-9,500-500", 9), [(9, None), (0, Some(500))]);
    assert_eq!(records("50-50,1-1,16377-16377", 20), [(20, Some(23)), (0, Some(1)), (0, Some(16_377))]);
    assert_eq!(Record { payload: 0, waste: Some(16_377) }.plaintext_bytes(), 16_384);
}

#[test]
fn check_mark_ends_a_write_that_has_left() {
    assert_eq!(records("100-100,c,200-200", 60), [(60, Some(33))]);
    assert_eq!(records("100-100,c,200-200", 150), [(100, None), (50, Some(143))]);
    assert_eq!(records("c,100-100,c,c,c", 60), [(60, Some(33))]);
    assert_eq!(records("100-100,c,200-200,c", 300), [(100, None), (200, None)]);
}

#[test]
fn write_that_is_over_stays_over() {
    let scheme = Scheme::parse(b"stop=2\n1=5-5,c,6-6").expect("a valid scheme");
    let mut rng = StdRng::seed_from_u64(1);
    let mut shaper = scheme.shaper(1);
    assert_eq!(shaper.next(5, &mut rng), Some(Record { payload: 5, waste: None }));
    assert_eq!(shaper.next(0, &mut rng), None);
    assert_eq!(shaper.next(0, &mut rng), None);
}

#[test]
fn what_remains_after_the_list_leaves_in_full_records() {
    assert_eq!(records("10-10", 40_000), [(10, None), (16_384, None), (16_384, None), (7_222, None)]);
}

#[test]
fn write_without_a_plan_goes_out_as_it_is() {
    let scheme = Scheme::default_scheme();
    let mut rng = StdRng::seed_from_u64(1);
    for write in [0, 8, u32::MAX] {
        let mut shaper = scheme.shaper(write);
        assert_eq!(shaper.next(20_000, &mut rng), Some(Record { payload: 16_384, waste: None }));
        assert_eq!(shaper.next(3_616, &mut rng), Some(Record { payload: 3_616, waste: None }));
        assert_eq!(shaper.next(0, &mut rng), None);
    }
}

#[test]
fn default_scheme_shapes_the_first_app_bytes() {
    let scheme = Scheme::default_scheme();
    for seed in 0..200 {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut shaper = scheme.shaper(2);
        let first = shaper.next(1_100, &mut rng).expect("a first record");
        assert!((400..500).contains(&first.payload) && first.waste.is_none(), "{first:?}, seed {seed}");
        let left = 1_100 - first.payload;
        let second = shaper.next(left, &mut rng).expect("a second record");
        // Cut to the payload, or filled up, or full: never outside the drawn range but by those 7 bytes.
        assert!((500 - 7..1_000).contains(&second.plaintext_bytes()), "{second:?}, seed {seed}");
        if second.payload == left {
            assert_eq!(shaper.next(0, &mut rng), None, "seed {seed}");
        }
    }
}

/// One entry of a plan whose sizes are fixed.
#[derive(Clone, Copy, Debug)]
enum Step {
    Check,
    Size(usize),
}

/// Shapes real bytes by the words of protocol.md: each rule as a line of its own, over a queue of bytes.
fn model(steps: &[Step], write: &[u8]) -> Vec<Vec<u8>> {
    let waste =
        |data: usize| [vec![0, 0, 0, 0, 0, (data / 256) as u8, (data % 256) as u8], vec![0; data]].concat();
    let mut left = write.to_vec();
    let mut records = Vec::new();
    for step in steps {
        let r = left.len();
        match *step {
            Step::Check if r == 0 => return records,
            Step::Check => {}
            Step::Size(l) if r > l => records.push(left.drain(..l).collect()),
            Step::Size(l) if r == 0 => records.push(waste(l)),
            Step::Size(l) if l <= r + 7 => records.push(std::mem::take(&mut left)),
            Step::Size(l) => {
                let mut record = std::mem::take(&mut left);
                record.extend(waste(l - r - 7));
                assert_eq!(record.len(), l);
                records.push(record);
            }
        }
    }
    records.extend(left.chunks(16_384).map(<[u8]>::to_vec));
    records
}

/// Shapes real bytes with a [`Shaper`], as a session does.
fn shape(mut shaper: Shaper, write: &[u8], rng: &mut StdRng) -> Vec<Vec<u8>> {
    let mut left = write;
    let mut records = Vec::new();
    while let Some(Record { payload, waste }) = shaper.next(left.len(), rng) {
        let (piece, rest) = left.split_at(payload);
        left = rest;
        let mut record = piece.to_vec();
        if let Some(data) = waste {
            record.extend(encode_header(Command::Waste, StreamId::SESSION, data));
            record.resize(record.len() + usize::from(data), 0);
        }
        records.push(record);
    }
    records
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        1 => Just(Step::Check),
        2 => (1_usize..30).prop_map(Step::Size),
        1 => (1_usize..2_000).prop_map(Step::Size),
    ];
    prop::collection::vec(step, 0..12)
}

fn bytes(max: usize) -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![prop::collection::vec(any::<u8>(), 1..80), prop::collection::vec(any::<u8>(), 1..max)]
}

proptest! {
    #[test]
    fn records_are_those_of_the_naive_model(steps in steps(), write in bytes(40_000)) {
        let line: Vec<String> = steps
            .iter()
            .map(|step| match step {
                Step::Check => "c".to_owned(),
                Step::Size(size) => format!("{size}-{size}"),
            })
            .collect();
        let scheme = Scheme::parse(format!("stop=2\n1={}", line.join(",")).as_bytes()).unwrap();
        let mut rng = StdRng::seed_from_u64(1);
        prop_assert_eq!(shape(scheme.shaper(1), &write, &mut rng), model(&steps, &write));
    }

    #[test]
    fn peer_reads_what_was_written_and_no_padding(data in bytes(20_000), write in 0_u32..10, seed: u64) {
        let mut frames = Vec::new();
        crate::proto::frame::put_psh(&mut frames, StreamId(1), &data);
        let mut rng = StdRng::seed_from_u64(seed);
        let mut decoder = Decoder::default();
        let mut read = Vec::new();
        for record in shape(Scheme::default_scheme().shaper(write), &frames, &mut rng) {
            prop_assert!(record.len() <= 16_384);
            let mut input = record.as_slice();
            while let Some(item) = decoder.next(&mut input) {
                let Item::Data { stream: StreamId(1), bytes } = item else { panic!("{item:?}") };
                read.extend_from_slice(bytes);
            }
        }
        prop_assert_eq!(read, data);
        prop_assert!(!decoder.is_mid_frame());
    }
}
