//! What comes over the wire, from a server or a client.

use std::borrow::Cow;

use anytls_mobile::proto::auth::{AuthReader, PasswordHash, Verdict};
use anytls_mobile::proto::command::Command;
use anytls_mobile::proto::frame::{Decoder, Item, MAX_RECORD_BYTES};
use anytls_mobile::proto::padding::Scheme;
use anytls_mobile::proto::settings::{ClientSettings, ServerSettings};
use anytls_mobile::proto::target::{Host, MAX_TARGET_BYTES, Numbering, Target};
use anytls_mobile::proto::uot;
use rand::SeedableRng;
use rand::rngs::StdRng;

/// Frames mean the same however the input is cut. The first byte says where it is.
pub fn frames(data: &[u8]) {
    let Some((cut, bytes)) = data.split_first() else { return };
    let whole = decode(bytes, bytes.len().max(1));
    let cut = decode(bytes, usize::from(*cut).max(1));
    assert_eq!(whole, cut);
}

/// What was read: control frames, and for Psh each stream's run of bytes; then what the decoder says.
type Decoded = (Vec<(Option<Command>, u32, Vec<u8>)>, u64, bool);

fn decode(bytes: &[u8], piece: usize) -> Decoded {
    let mut decoder = Decoder::default();
    let mut items: Vec<(Option<Command>, u32, Vec<u8>)> = Vec::new();
    for mut input in bytes.chunks(piece) {
        while let Some(item) = decoder.next(&mut input) {
            match item {
                Item::Data { stream, bytes } => match items.last_mut() {
                    Some((Some(Command::Psh), last, data)) if *last == stream.0 => data.extend(bytes),
                    Some(_) | None => items.push((Some(Command::Psh), stream.0, bytes.to_vec())),
                },
                Item::Frame { command, stream, data } => {
                    assert!(!matches!(command, Command::Psh | Command::Waste));
                    items.push((Some(command), stream.0, data.into_owned()));
                }
                Item::Unknown { command } => items.push((None, command.into(), Vec::new())),
            }
        }
        assert!(input.is_empty());
    }
    (items, decoder.waste_bytes(), decoder.is_mid_frame())
}

/// A scheme that is accepted can be followed: every write ends, in records that fit, with bounded padding.
pub fn scheme(data: &[u8]) {
    let scheme = match Scheme::parse(data) {
        Ok(scheme) => scheme,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return;
        }
    };
    assert_eq!(scheme.raw().as_bytes(), data);
    assert_eq!(Scheme::parse(data).as_ref(), Ok(&scheme));
    assert!(!scheme.shapes(10_000));
    assert!(scheme.plan(10_000).is_none());

    let mut rng = StdRng::seed_from_u64(1);
    assert!(scheme.authentication_padding(&mut rng) <= 16_350);
    for write in 1..20 {
        for payload in [1, 100, 20_000] {
            let mut shaper = scheme.shaper(write);
            let (mut remaining, mut padding) = (payload, 0);
            while let Some(record) = shaper.next(remaining, &mut rng) {
                assert!((1..=MAX_RECORD_BYTES).contains(&record.plaintext_bytes()));
                assert_ne!(record.waste, Some(0));
                remaining -= record.payload;
                padding += record.plaintext_bytes() - record.payload;
            }
            assert_eq!(remaining, 0);
            assert!(padding <= 256 * 1024);
        }
    }
}

/// Settings of any bytes are read, and their version is what both sides would write for it.
pub fn settings(data: &[u8]) {
    let client = ClientSettings::parse(data);
    assert_eq!(ClientSettings::parse(client.encode().as_bytes()).version, client.version);
    let server = ServerSettings::parse(data);
    assert_eq!(server.version, client.version);
    assert_eq!(ServerSettings::parse(server.encode().as_bytes()), server);
}

/// A target that was read is written and printed so that it is read again as the same.
pub fn target(data: &[u8]) {
    for numbering in [Numbering::SOCKS5, Numbering::DATAGRAM] {
        let parsed = Target::parse_as(numbering, data);
        let Ok(Some((target, length))) = parsed else {
            // More bytes are asked for only while an encoding can go on.
            assert!(parsed.is_err() || data.len() < MAX_TARGET_BYTES);
            continue;
        };
        let mut out = Vec::new();
        target.put_as(numbering, &mut out);
        assert_eq!(Target::parse_as(numbering, &out), Ok(Some((target.clone(), out.len()))));
        assert_eq!(Target::parse_as(numbering, &data[..length - 1]), Ok(None));
        assert_same_text(&target);
    }
    if let Ok(target) = String::from_utf8_lossy(data).parse::<Target>() {
        assert_same_text(&target);
    }
}

fn assert_same_text(target: &Target) {
    let read: Target = target.to_string().parse().expect("a printed target is read");
    match &target.host {
        Host::Name(name) if name.as_str().parse::<std::net::Ipv4Addr>().is_ok() => {} // read as the address
        Host::Name(_) | Host::Ip(_) => assert_eq!(read, *target),
    }
}

/// Authentication comes to the same verdict, and leaves the same rest, however the input is cut.
/// The first byte says where it is; a second of 1 puts the right hash before the rest.
pub fn auth(data: &[u8]) {
    let [cut, right, rest @ ..] = data else { return };
    let hash = b"\x5e\x88\x48\x98\xda\x28\x04\x71\x51\xd0\xe5\x6f\x8d\xc6\x29\x27\
                 \x73\x60\x3d\x0d\x6a\xab\xbd\xd6\x2a\x11\xef\x72\x1d\x15\x42\xd8";
    let bytes: Cow<'_, [u8]> = if *right == 1 { [hash, rest].concat().into() } else { rest.into() };
    let whole = authenticate(&bytes, bytes.len().max(1));
    assert_eq!(authenticate(&bytes, usize::from(*cut).max(1)), whole);
    if *right == 1 {
        assert_ne!(whole.0, Some(Verdict::Rejected));
    }
}

/// The verdict, and how many bytes were left when it came.
fn authenticate(bytes: &[u8], piece: usize) -> (Option<Verdict>, usize) {
    let mut reader = AuthReader::new(PasswordHash::of("password"));
    let mut read = 0;
    for mut input in bytes.chunks(piece) {
        let length = input.len();
        let verdict = reader.read(&mut input);
        read += length - input.len();
        if verdict.is_some() {
            return (verdict, bytes.len() - read);
        }
        assert!(input.is_empty());
    }
    (None, 0)
}

/// Datagrams are the same however the input is cut, and whether they are taken at once. The first byte says where
/// it is cut, and the mode.
pub fn datagrams(data: &[u8]) {
    let Some((how, bytes)) = data.split_first() else { return };
    let mode = if how % 2 == 0 { uot::Mode::Packet } else { uot::Mode::Connect };
    let whole = decode_datagrams(mode, bytes, bytes.len().max(1), false);
    let cut = decode_datagrams(mode, bytes, usize::from(how / 2).max(1), true);
    assert_eq!(whole, cut);
}

type Owned = (Option<Target>, Vec<u8>);

/// What was read, and whether all of it made sense. Refused is each datagram once, if at all.
fn decode_datagrams(mode: uot::Mode, bytes: &[u8], piece: usize, refuses: bool) -> (Vec<Owned>, bool) {
    let (mut decoder, mut all, mut was_refused) = (uot::Decoder::new(mode), Vec::new(), false);
    let mut deliver = |datagram: uot::Datagram<'_>| {
        was_refused = refuses && !was_refused;
        if !was_refused {
            all.push((datagram.source, datagram.payload.to_vec()));
        }
        !was_refused
    };
    for mut input in bytes.chunks(piece) {
        while !input.is_empty() {
            match decoder.decode(input, &mut deliver) {
                Ok(used) => input = &input[used..],
                Err(_) => return (all, false),
            }
        }
    }
    let sense = decoder.decode(&[], &mut deliver).is_ok(); // one that was refused at the end
    (all, sense)
}
