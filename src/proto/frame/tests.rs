use proptest::prelude::*;

use super::*;

/// Reads all of `pieces`, joining the data of a stream that follows its own.
fn read(pieces: &[&[u8]]) -> (Vec<Item<'static>>, Decoder) {
    let mut decoder = Decoder::default();
    let mut items: Vec<Item<'static>> = Vec::new();
    for mut input in pieces.iter().copied() {
        while let Some(item) = decoder.next(&mut input) {
            items.push(match item {
                Item::Data { stream, bytes } => Item::Data { stream, bytes: bytes.to_vec().leak() },
                Item::Frame { command, stream, data } => {
                    Item::Frame { command, stream, data: Cow::Owned(data.into_owned()) }
                }
                Item::Unknown { command } => Item::Unknown { command },
            });
        }
        assert!(input.is_empty(), "an item was withheld");
    }
    (items, decoder)
}

fn data(stream: u32, bytes: &[u8]) -> Item<'_> {
    Item::Data { stream: StreamId(stream), bytes }
}

fn frame(command: Command, stream: u32, data: &[u8]) -> Item<'_> {
    Item::Frame { command, stream: StreamId(stream), data: Cow::Borrowed(data) }
}

#[test]
fn header_is_command_then_stream_then_length_big_endian() {
    let header = encode_header(Command::Psh, StreamId(0x0102_0304), 0x0506);
    assert_eq!(header, [2, 1, 2, 3, 4, 5, 6]);
}

#[test]
fn frame_is_header_then_data() {
    let mut out = vec![0xEE];
    put_frame(&mut out, Command::Syn, StreamId(1), FrameData::NONE);
    put_frame(
        &mut out,
        Command::Settings,
        StreamId::SESSION,
        FrameData::try_from(b"v=2".as_slice()).expect("three bytes fit"),
    );
    assert_eq!(out, b"\xEE\x01\0\0\0\x01\0\0\x04\0\0\0\0\0\x03v=2");
}

#[test]
fn data_of_65535_bytes_fits_and_one_more_is_refused() {
    let bytes = vec![7; 65_536];
    let most = FrameData::try_from(&bytes[..65_535]).expect("the largest length");
    let mut out = Vec::new();
    put_frame(&mut out, Command::Alert, StreamId(9), most);
    assert_eq!(out.len(), 7 + 65_535);
    assert_eq!(out[..8], [5, 0, 0, 0, 9, 0xFF, 0xFF, 7]);

    assert_eq!(FrameData::try_from(bytes.as_slice()), Err(DataTooLong(65_536)));
}

#[test]
fn long_reason_is_cut_between_characters() {
    let reason = "é".repeat(40_000); // 80 000 bytes; byte 65 535 is inside a character
    let mut out = Vec::new();
    put_frame(&mut out, Command::Alert, StreamId::SESSION, FrameData::truncated(&reason));
    assert_eq!(out[..7], [5, 0, 0, 0, 0, 0xFF, 0xFE]);
    assert_eq!(std::str::from_utf8(&out[7..]), Ok("é".repeat(32_767).as_str()));
}

#[test]
fn long_psh_becomes_frames_that_fit_a_record() {
    let mut out = Vec::new();
    put_psh(&mut out, StreamId(3), &[0xAB; 16_377 + 1]);
    assert_eq!(out.len(), 16_384 + 8);
    assert_eq!(out[..8], [2, 0, 0, 0, 3, 0x3F, 0xF9, 0xAB]);
    assert_eq!(out[16_384..], [2, 0, 0, 0, 3, 0, 1, 0xAB]);
}

#[test]
fn psh_of_no_bytes_is_no_frame() {
    let mut out = Vec::new();
    put_psh(&mut out, StreamId(3), b"");
    assert!(out.is_empty());
}

#[test]
fn stream_bytes_are_handed_through_as_they_come() {
    let (items, decoder) = read(&[b"\x02\0\0\0\x05\0\x06ab", b"c", b"", b"def\x02\0\0\0\x05\0"]);
    assert_eq!(items, [data(5, b"ab"), data(5, b"c"), data(5, b"def")]);
    assert!(decoder.is_mid_frame());
    assert_eq!(decoder.assembled.capacity(), 0);
}

#[test]
fn header_without_its_data_yields_nothing_yet() {
    let (items, decoder) = read(&[b"\x02\0\0\0\x05\0\x01", b""]);
    assert_eq!(items, []);
    assert!(decoder.is_mid_frame());
}

#[test]
fn empty_psh_yields_one_empty_data() {
    let (items, decoder) = read(&[b"\x02\0\0\0\x05\0\0\x02\0\0\0\x05\0\0"]);
    assert_eq!(items, [data(5, b""), data(5, b"")]);
    assert!(!decoder.is_mid_frame());
}

#[test]
fn whole_control_frame_is_borrowed_from_the_input() {
    let mut decoder = Decoder::default();
    let mut input = b"\x0A\0\0\0\0\0\x03v=2\x03".as_slice();
    let item = decoder.next(&mut input);
    assert!(
        matches!(
            item,
            Some(Item::Frame {
                command: Command::ServerSettings,
                stream: StreamId::SESSION,
                data: Cow::Borrowed(b"v=2")
            })
        ),
        "{item:?}"
    );
    assert_eq!(input, b"\x03");
    assert!(!decoder.is_mid_frame());
}

#[test]
fn split_control_frame_is_put_together_and_leaves_no_memory_behind() {
    let text = vec![b'x'; 65_535];
    let (items, decoder) =
        read(&[b"\x06\0\0\0\0\xFF", b"\xFF", &text[..1], &text[1..40_000], &text[40_000..]]);
    assert_eq!(items, [frame(Command::UpdatePaddingScheme, 0, &text)]);
    assert_eq!(decoder.assembled.capacity(), 0);
    assert!(!decoder.is_mid_frame());
}

#[test]
fn promised_length_reserves_no_memory() {
    let (_, decoder) = read(&[b"\x05\0\0\0\0\xFF\xFFhello"]);
    assert!(decoder.assembled.capacity() < 64, "{}", decoder.assembled.capacity());
}

#[test]
fn frames_without_data_are_read_even_when_data_comes_along() {
    let (items, _) = read(&[b"\x03\0\0\0\x02\0\0\x08\0\0\0\x07\0\x02hi\x09\0\0\0\x07\0\0"]);
    assert_eq!(
        items,
        [
            frame(Command::Fin, 2, b""),
            frame(Command::HeartRequest, 7, b"hi"),
            frame(Command::HeartResponse, 7, b""),
        ]
    );
}

#[test]
fn waste_is_skipped_and_its_bytes_are_counted() {
    let (items, decoder) =
        read(&[b"\0\0\0\0\0\0\x03abc", b"\0\0\0\0\0\0\x02d", b"e\x03\0\0\0\x01\0\0", b"\0\0\0\0\0\0\0"]);
    assert_eq!(items, [frame(Command::Fin, 1, b"")]);
    assert_eq!(decoder.waste_bytes(), 5);
}

#[test]
fn unknown_command_is_told_once_its_data_is_consumed() {
    let mut decoder = Decoder::default();
    let mut input = b"\x0B\0\0\0\x01\0\x04\x03\x03".as_slice();
    assert_eq!(decoder.next(&mut input), None);
    let mut input = b"\x03\x03\xFF\0\0\0\0\0\0\x03\0\0\0\x01\0\0".as_slice();
    assert_eq!(decoder.next(&mut input), Some(Item::Unknown { command: 11 }));
    assert_eq!(decoder.next(&mut input), Some(Item::Unknown { command: 255 }));
    assert_eq!(decoder.next(&mut input), Some(frame(Command::Fin, 1, b"")));
    assert_eq!(decoder.next(&mut input), None);
}

/// Frames of every kind, with lengths that agree with their data.
fn frames() -> impl Strategy<Value = Vec<u8>> {
    let frame = (0_u8..=12, 0_u32..4, prop::collection::vec(any::<u8>(), 0..40)).prop_map(
        |(command, stream, data)| {
            let mut bytes = vec![command];
            bytes.extend(stream.to_be_bytes());
            bytes.extend(u16::try_from(data.len()).expect("below 40").to_be_bytes());
            bytes.extend(data);
            bytes
        },
    );
    prop::collection::vec(frame, 0..12).prop_map(|frames| frames.concat())
}

/// Cuts `bytes` after each of the given lengths, over and over.
fn pieces<'a>(mut bytes: &'a [u8], lengths: &[usize]) -> Vec<&'a [u8]> {
    let mut pieces = Vec::new();
    for length in lengths.iter().cycle() {
        if bytes.is_empty() {
            break;
        }
        pieces.push(take(&mut bytes, *length));
    }
    pieces
}

/// The items with neighbouring data of one Psh run joined, since its cuts follow the input's.
fn joined(items: Vec<Item<'static>>) -> Vec<(Option<Command>, u32, Vec<u8>)> {
    let mut joined: Vec<(Option<Command>, u32, Vec<u8>)> = Vec::new();
    for item in items {
        match item {
            Item::Data { stream, bytes } => match joined.last_mut() {
                Some((Some(Command::Psh), last, data)) if *last == stream.0 => data.extend(bytes),
                _ => joined.push((Some(Command::Psh), stream.0, bytes.to_vec())),
            },
            Item::Frame { command, stream, data } => {
                joined.push((Some(command), stream.0, data.into_owned()))
            }
            Item::Unknown { command } => joined.push((None, u32::from(command), Vec::new())),
        }
    }
    joined
}

proptest! {
    #[test]
    fn result_does_not_depend_on_where_the_input_is_cut(
        bytes in frames(),
        lengths in prop::collection::vec(1_usize..30, 1..8),
    ) {
        let (whole, decoder) = read(&[&bytes]);
        let (cut, cut_decoder) = read(&pieces(&bytes, &lengths));
        prop_assert_eq!(joined(whole), joined(cut));
        prop_assert_eq!(decoder.waste_bytes(), cut_decoder.waste_bytes());
        prop_assert!(!decoder.is_mid_frame() && !cut_decoder.is_mid_frame());
        prop_assert_eq!(cut_decoder.assembled.capacity(), 0);
    }

    #[test]
    fn every_frame_that_is_put_is_read_back(
        stream in any::<u32>(),
        text in prop::collection::vec(any::<u8>(), 0..100),
        lengths in prop::collection::vec(1_usize..30, 1..8),
    ) {
        let mut bytes = Vec::new();
        put_frame(&mut bytes, Command::Alert, StreamId(stream), FrameData::try_from(text.as_slice()).unwrap());
        put_psh(&mut bytes, StreamId(stream), &text);
        let (items, _) = read(&pieces(&bytes, &lengths));
        let mut expected = vec![(Some(Command::Alert), stream, text.clone())];
        expected.extend((!text.is_empty()).then(|| (Some(Command::Psh), stream, text.clone())));
        prop_assert_eq!(joined(items), expected);
    }

    #[test]
    fn any_bytes_are_consumed_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        read(&pieces(&bytes, &[3, 50]));
    }
}
