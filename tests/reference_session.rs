//! The wire layer against bytes recorded off the reference implementation (sing-anytls 0.0.11).
//!
//! `fixtures/recorder` is the program that recorded them, a line for each TLS record.

use anytls_mobile::proto::auth::{AuthReader, PasswordHash, Verdict, put_authentication};
use anytls_mobile::proto::command::Command;
use anytls_mobile::proto::frame::{Decoder, FrameData, Item, StreamId, encode_header, put_frame, put_psh};
use anytls_mobile::proto::padding::Scheme;
use anytls_mobile::proto::settings::{ClientSettings, PeerVersion, ServerSettings};
use anytls_mobile::proto::target::Target;
use rand::SeedableRng;
use rand::rngs::StdRng;

/// The records that one side of a session wrote.
fn records(session: u32, side: &str) -> Vec<Vec<u8>> {
    let prefix = format!("{session} {side} ");
    let records: Vec<Vec<u8>> = include_str!("fixtures/reference_session.txt")
        .lines()
        .filter_map(|line| line.strip_prefix(&prefix))
        .map(|hex| {
            let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).expect("two hexadecimal digits");
            (0..hex.len()).step_by(2).map(byte).collect()
        })
        .collect();
    assert!(!records.is_empty());
    records
}

/// The frames in `records`, each as command, stream and data.
fn frames(records: &[Vec<u8>]) -> Vec<(Command, u32, Vec<u8>)> {
    let bytes = records.concat();
    let mut input = bytes.as_slice();
    let mut decoder = Decoder::default();
    let mut frames = Vec::new();
    while let Some(item) = decoder.next(&mut input) {
        frames.push(match item {
            Item::Data { stream, bytes } => (Command::Psh, stream.0, bytes.to_vec()),
            Item::Frame { command, stream, data } => (command, stream.0, data.into_owned()),
            Item::Unknown { command } => panic!("command {command}"),
        });
    }
    assert!(!decoder.is_mid_frame());
    frames
}

/// The scheme that the server told the client in the first session.
fn told_scheme() -> Scheme {
    let (_, _, text) = frames(&records(1, "server"))
        .into_iter()
        .find(|(command, ..)| *command == Command::UpdatePaddingScheme)
        .expect("the server told its scheme");
    Scheme::parse(&text).expect("a scheme within the limits")
}

#[test]
fn authentication_is_written_as_the_reference_writes_it() {
    let schemes = [Scheme::default_scheme(), told_scheme()];
    for (session, scheme) in (1..).zip(schemes) {
        let recorded = records(session, "client").swap_remove(0);
        let mut rng = StdRng::seed_from_u64(1);
        let mut ours = Vec::new();
        put_authentication(&mut ours, &PasswordHash::of("password"), scheme.authentication_padding(&mut rng));
        assert_eq!(ours, recorded);

        let mut input = recorded.as_slice();
        let mut reader = AuthReader::new(PasswordHash::of("password"));
        assert_eq!(reader.read(&mut input), Some(Verdict::Accepted));
        assert!(input.is_empty());
    }
}

#[test]
fn first_session_of_the_reference_is_read() {
    let client = frames(&records(1, "client")[1..]);
    let [(Command::Settings, 0, settings), (Command::Syn, 1, syn), (Command::Psh, 1, target), rest @ ..] =
        client.as_slice()
    else {
        panic!("{client:?}")
    };
    assert_eq!(
        ClientSettings::parse(settings),
        ClientSettings {
            version: PeerVersion::V2,
            client: "sing-anytls/0.0.11".to_owned(),
            padding_md5: Scheme::default_scheme().md5_hex().to_owned(),
        }
    );
    assert!(syn.is_empty());
    let expected: Target = "192.0.2.1:443".parse().expect("a target");
    assert_eq!(Target::parse(target), Ok(Some((expected, target.len()))));
    assert_eq!(rest, [(Command::Psh, 1, b"hello".to_vec())]);

    let server = frames(&records(1, "server"));
    let [_, (Command::ServerSettings, 0, settings), rest @ ..] = server.as_slice() else {
        panic!("{server:?}")
    };
    assert_eq!(ServerSettings::parse(settings), ServerSettings { version: PeerVersion::V2 });
    assert_eq!(rest, [(Command::SynAck, 1, Vec::new()), (Command::Psh, 1, b"hello".to_vec())]);
}

#[test]
fn refused_stream_of_the_reference_is_read() {
    let server = frames(&records(2, "server"));
    assert_eq!(server.last(), Some(&(Command::SynAck, 2, b"connection refused".to_vec())));
}

#[test]
fn writes_are_cut_and_padded_as_the_reference_does() {
    let recorded = &records(2, "client")[1..];
    let (command, _, settings) = frames(recorded).swap_remove(0);
    assert_eq!(command, Command::Settings);
    // The reference writes the lines of its settings in any order, so these are taken as they came.
    let settings = FrameData::try_from(settings.as_slice()).expect("settings fit");
    let scheme = told_scheme();
    assert_eq!(ClientSettings::parse(&frames(recorded)[0].2).padding_md5, scheme.md5_hex());

    let psh_target = |stream, target: &str| {
        let mut address = Vec::new();
        target.parse::<Target>().expect("a target").put(&mut address);
        let mut frame = Vec::new();
        put_psh(&mut frame, stream, &address);
        frame
    };
    let control = |command, stream| {
        let mut frame = Vec::new();
        put_frame(&mut frame, command, stream, FrameData::NONE);
        frame
    };
    let psh = |stream, text: &str| {
        let mut frame = Vec::new();
        put_psh(&mut frame, stream, text.as_bytes());
        frame
    };

    let (first, second) = (StreamId(1), StreamId(2));
    let mut opening = Vec::new();
    put_frame(&mut opening, Command::Settings, StreamId::SESSION, settings);
    let writes = [
        [opening, control(Command::Syn, first), psh_target(first, "example.com:80")].concat(),
        psh(first, "GET / HTTP/1.1\r\n\r\n"),
        psh(first, "x"),
        control(Command::Fin, first),
        control(Command::Syn, second),
        psh_target(second, "[2001:db8::1]:81"),
    ];
    let ours: Vec<Vec<u8>> =
        (1..).zip(&writes).flat_map(|(number, write)| shape(&scheme, number, write)).collect();
    // What follows is a Fin on the stream that the server refused.
    let (last, recorded) = recorded.split_last().expect("records");
    assert_eq!(*last, control(Command::Fin, second));
    assert_eq!(ours, recorded);
}

/// Cuts one write into records as the scheme says.
fn shape(scheme: &Scheme, number: u32, write: &[u8]) -> Vec<Vec<u8>> {
    let mut rng = StdRng::seed_from_u64(1); // nothing to draw: the sizes are fixed
    let mut shaper = scheme.shaper(number);
    let mut rest = write;
    let mut records = Vec::new();
    while let Some(record) = shaper.next(rest.len(), &mut rng) {
        let (payload, after) = rest.split_at(record.payload);
        rest = after;
        let mut bytes = payload.to_vec();
        if let Some(data) = record.waste {
            bytes.extend(encode_header(Command::Waste, StreamId::SESSION, data));
            bytes.resize(bytes.len() + usize::from(data), 0);
        }
        records.push(bytes);
    }
    records
}
