use std::io;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;
use crate::proto::timers::Moment;

mod ends;
mod heart;
mod memory;
mod output;

const START: Moment = Moment::from_origin(Duration::from_secs(1_000));

fn secs(count: u64) -> Duration {
    Duration::from_secs(count)
}

fn options(peer: Option<PeerVersion>) -> SessionOptions {
    SessionOptions {
        scheme: Arc::new(Scheme::default_scheme()),
        peer,
        round_trip: Duration::from_millis(50),
        synack_timeout: None,
        answers_fin: false,
        account: Arc::default(),
    }
}

fn client() -> Session {
    Session::new(Side::Client, options(Some(PeerVersion::V2)), START)
}

/// Past the padding plan, so that a write is a record.
fn unshaped_client() -> Session {
    let scheme = Arc::new(Scheme::parse(b"stop=1\n0=30-30").expect("a valid scheme"));
    let options = SessionOptions { scheme, ..options(Some(PeerVersion::V2)) };
    Session::new(Side::Client, options, START)
}

fn target() -> Target {
    "example.com:443".parse().expect("a valid target")
}

const TARGET_BYTES: &[u8] = b"\x03\x0bexample.com\x01\xbb";

fn records(session: &mut Session, rng: &mut StdRng) -> Vec<Vec<u8>> {
    let mut records = Vec::new();
    let mut record = Vec::new();
    while session.poll_record(rng, &mut record).is_some() {
        assert!(record.len() <= 16_384, "a record of {} bytes", record.len());
        records.push(record.clone());
    }
    records
}

fn sent(session: &mut Session) -> Vec<(u8, u32, Vec<u8>)> {
    frames(&records(session, &mut StdRng::seed_from_u64(1)).concat())
}

/// A decoder of the tests' own; Waste is left out.
fn frames(mut bytes: &[u8]) -> Vec<(u8, u32, Vec<u8>)> {
    let mut frames = Vec::new();
    while let [command, a, b, c, d, e, f, rest @ ..] = bytes {
        let length = usize::from(u16::from_be_bytes([*e, *f]));
        if *command != 0 {
            frames.push((*command, u32::from_be_bytes([*a, *b, *c, *d]), rest[..length].to_vec()));
        }
        bytes = &rest[length..];
    }
    assert!(bytes.is_empty(), "a frame is cut off");
    frames
}

fn frame(command: u8, id: u32, data: &[u8]) -> Vec<u8> {
    let mut frame = vec![command];
    frame.extend(id.to_be_bytes());
    frame.extend(u16::try_from(data.len()).expect("fits").to_be_bytes());
    frame.extend(data);
    frame
}

fn events(session: &mut Session) -> Vec<Event> {
    std::iter::from_fn(|| session.poll_event()).collect()
}

fn read_all(session: &mut Session, id: StreamId) -> Vec<u8> {
    let mut all = Vec::new();
    while let Ok(Read::Bytes(_)) = session.read_with(id, |bytes| {
        all.extend_from_slice(bytes);
        bytes.len()
    }) {}
    all
}

#[test]
fn an_empty_synack_opens_the_stream_and_a_text_refuses_it() {
    let mut session = client();
    let one = session.open(&target(), b"", START).expect("open");
    let two = session.open(&target(), b"", START).expect("open");
    assert_eq!(session.is_open(one).ok(), Some(false));
    session.handle_input(&[frame(7, 1, b""), frame(7, 2, b"no route\x07")].concat(), START);
    assert_eq!(session.is_open(one).ok(), Some(true));
    assert!(matches!(session.is_open(two), Err(StreamError::Refused(why)) if why == "no route"));
    assert_eq!(session.poll_timeout(), None, "no deadline is left");
}

#[test]
fn a_full_session_is_told_from_a_refused_target() {
    let mut session = client();
    let id = session.open(&target(), b"", START).expect("open");
    session.handle_input(&frame(7, 1, b"session stream limit reached"), START);
    assert!(matches!(session.is_open(id), Err(StreamError::SessionFull(_))));
}

#[test]
fn data_before_an_answer_opens_the_stream() {
    let mut session = client();
    let id = session.open(&target(), b"", START).expect("open");
    session.handle_input(&frame(2, 1, b"early"), START);
    assert_eq!(session.is_open(id).ok(), Some(true));
    assert_eq!(read_all(&mut session, id), b"early");
}

#[test]
fn a_peer_that_never_tells_its_version_is_taken_for_version_1() {
    let mut session = Session::new(Side::Client, options(None), START);
    let id = session.open(&target(), b"", START).expect("open");
    let due = session.poll_timeout().expect("the version is waited for");
    assert!(due.since(START) <= secs(2), "{due:?}");
    session.handle_timeout(due);
    assert_eq!(session.is_open(id).ok(), Some(true));
    assert_eq!(session.poll_timeout(), None, "version 1 answers nothing");
    assert_eq!(events(&mut session), [Event::PeerVersion(PeerVersion::V1), Event::Readable(id)]);
    let next = session.open(&target(), b"", START).expect("open");
    assert_eq!(session.is_open(next).ok(), Some(true));
}

#[test]
fn streams_without_an_answer_fail_when_the_network_is_left_and_the_others_go_on() {
    let mut session = client();
    let answered = session.open(&target(), b"", START).expect("open");
    let waiting = session.open(&target(), b"", START).expect("open");
    session.handle_input(&frame(7, 1, b""), START);
    sent(&mut session);
    session.strand();
    assert!(matches!(session.is_open(answered), Ok(true)));
    assert!(matches!(session.is_open(waiting), Err(StreamError::Stranded)));
    assert_eq!(session.poll_timeout(), None, "nothing is waited for");
    session.abort(waiting);
    assert_eq!(sent(&mut session), [(3, waiting.0, vec![])], "the server may have opened it");
    session.handle_input(&frame(2, 1, b"more"), START);
    assert_eq!(read_all(&mut session, answered), b"more");
}

#[test]
fn silence_is_no_version_1_once_another_session_has_shown_version_2() {
    let mut session = Session::new(Side::Client, options(None), START);
    let id = session.open(&target(), b"", START).expect("open");
    session.learn_version(PeerVersion::V2);
    session.handle_timeout(START + secs(2));
    assert_eq!(session.is_open(id).ok(), Some(false));
    session.handle_timeout(START + secs(3));
    assert!(matches!(session.failure(), Some(SessionError::NoAnswer)));
}

#[test]
fn an_unanswered_stream_fails_alone_while_the_session_lives() {
    let mut session = client();
    let id = session.open(&target(), b"", START).expect("open");
    sent(&mut session);
    session.handle_input(&frame(9, 0, b""), START + secs(1));
    let due = session.poll_timeout().expect("a deadline");
    assert_eq!(due.since(START), secs(3));
    session.handle_timeout(due);
    assert!(matches!(session.is_open(id), Err(StreamError::TimedOut)));
    assert!(session.failure().is_none());
    session.abort(id);
    assert_eq!(sent(&mut session), [(3, 1, vec![])], "the server is told");
    assert!(events(&mut session).contains(&Event::Released));
}

#[test]
fn a_session_without_a_sign_of_life_dies_at_the_deadline() {
    let mut session = client();
    let id = session.open(&target(), b"", START).expect("open");
    session.handle_timeout(START + secs(3));
    assert!(matches!(session.failure(), Some(SessionError::NoAnswer)));
    assert!(matches!(session.is_open(id), Err(StreamError::Session(SessionError::NoAnswer))));
    assert!(session.open(&target(), b"", START).is_err());
}

#[test]
fn no_session_is_judged_while_we_do_not_read_it() {
    let mut session = client();
    let slow = session.open(&target(), b"", START).expect("open");
    session.handle_input(&frame(2, 1, &[0; 65_535]), START);
    session.handle_input(&frame(2, 1, &[0; 65_535]), START);
    assert!(!session.wants_input());
    let waiting = session.open(&target(), b"", START + secs(1)).expect("open");
    session.handle_timeout(START + secs(60));
    assert_eq!(session.is_open(waiting).ok(), Some(false));
    read_all(&mut session, slow);
    assert!(session.wants_input());
    let due = session.poll_timeout().expect("the stream waits");
    session.handle_timeout(due);
    assert!(session.failure().is_some(), "but once it reads, silence counts");
}

#[test]
fn a_fin_is_the_end_after_all_bytes_and_is_not_answered() {
    let mut session = client();
    let id = session.open(&target(), b"", START).expect("open");
    sent(&mut session);
    session.handle_input(&[frame(7, 1, b""), frame(2, 1, b"last"), frame(3, 1, b"")].concat(), START);
    assert_eq!(read_all(&mut session, id), b"last");
    assert_eq!(session.read_with(id, <[u8]>::len).ok(), Some(Read::End));
    assert!(matches!(session.write(id, b"x"), Err(StreamError::Closed)));
    session.close(id);
    assert_eq!(sent(&mut session), []);
    assert_eq!(session.stream_count(), 0);
    assert!(events(&mut session).contains(&Event::Released));
}

#[test]
fn a_fin_is_answered_where_the_server_counts_on_it() {
    let mut session =
        Session::new(Side::Client, SessionOptions { answers_fin: true, ..options(None) }, START);
    let id = session.open(&target(), b"", START).expect("open");
    sent(&mut session);
    session.handle_input(&[frame(7, 1, b""), frame(3, 1, b"")].concat(), START);
    session.close(id);
    assert_eq!(sent(&mut session), [(3, 1, vec![])]);
    assert!(events(&mut session).contains(&Event::Released));
}

#[test]
fn closing_sends_what_was_written_and_then_fin() {
    let mut session = unshaped_client();
    let id = session.open(&target(), b"", START).expect("open");
    sent(&mut session);
    session.write(id, &[5; 30_000]).expect("write");
    session.close(id);
    assert!(!events(&mut session).contains(&Event::Released), "not before it has left");
    let frames = sent(&mut session);
    assert_eq!(
        frames.iter().map(|f| (f.0, f.2.len())).collect::<Vec<_>>(),
        [(2, 16_377), (2, 13_623), (3, 0)]
    );
    assert!(events(&mut session).contains(&Event::Released));
}

#[test]
fn aborting_drops_what_has_not_left() {
    let mut session = unshaped_client();
    let id = session.open(&target(), b"", START).expect("open");
    sent(&mut session);
    session.write(id, &[5; 30_000]).expect("write");
    session.abort(id);
    assert_eq!(sent(&mut session), [(3, 1, vec![])]);
}

#[test]
fn writes_find_room_again_when_records_leave() {
    let mut session = unshaped_client();
    let id = session.open(&target(), b"", START).expect("open");
    sent(&mut session);
    assert_eq!(session.write(id, &[1; 200_000]).ok(), Some(SEND_BYTES));
    assert_eq!(session.write(id, &[1; 10]).ok(), Some(0));
    assert!(events(&mut session).is_empty());
    sent(&mut session);
    assert_eq!(events(&mut session), [Event::Writable(id)]);
    assert_eq!(session.write(id, &[1; 10]).ok(), Some(10));
}

#[test]
fn a_slow_reader_stops_the_session_and_starts_it_again() {
    let mut session = client();
    let id = session.open(&target(), b"", START).expect("open");
    let piece = frame(2, 1, &[9; 16_377]);
    let mut pushed = 0;
    while session.wants_input() {
        session.handle_input(&piece, START);
        pushed += 1;
    }
    assert!(pushed * 16_377 < RECEIVE_BYTES + 16_384, "{pushed} pieces");
    let mut left = pushed * 16_377;
    while !session.wants_input() {
        let Ok(Read::Bytes(taken)) = session.read_with(id, |bytes| bytes.len().min(1_000)) else {
            panic!("bytes are there");
        };
        left -= taken;
    }
    assert!(left <= stream::RECV_LOW_BYTES && left > 0, "{left} left");
}

#[test]
fn an_abandoned_stream_no_longer_stops_the_session() {
    let mut session = client();
    let id = session.open(&target(), b"", START).expect("open");
    session.write(id, b"still to leave").expect("write");
    session.handle_input(&frame(2, 1, &[0; 65_535]), START);
    session.handle_input(&frame(2, 1, &[0; 65_535]), START);
    assert!(!session.wants_input());
    session.close(id);
    assert!(session.wants_input());
}

#[test]
fn heart_requests_are_answered_with_their_id_and_not_without_bound() {
    let mut session = unshaped_client();
    session.open(&target(), b"", START).expect("open");
    sent(&mut session);
    session.handle_input(&frame(8, 77, b""), START);
    assert_eq!(sent(&mut session), [(9, 77, vec![])]);
    session.handle_input(&frame(8, 1, b"").repeat(10_000), START);
    assert!(sent(&mut session).len() <= 16);
}

#[test]
fn an_alert_ends_the_session_with_its_text() {
    let mut session = client();
    let id = session.open(&target(), b"", START).expect("open");
    session.handle_input(&frame(5, 0, "bye\n\u{fffd}".as_bytes()), START);
    assert!(matches!(session.failure(), Some(SessionError::Alert(text)) if text.starts_with("bye")));
    assert!(matches!(session.is_open(id), Err(StreamError::Session(_))));
}

#[test]
fn frames_nobody_knows_and_frames_for_nobody_are_skipped() {
    let mut session = client();
    let id = session.open(&target(), b"", START).expect("open");
    let input = [
        frame(200, 1, &[1; 500]),
        frame(2, 99, b"for nobody"),
        frame(3, 98, b""),
        frame(1, 5, b"a server opens nothing"),
        frame(7, 1, b""),
    ];
    session.handle_input(&input.concat(), START);
    assert_eq!(session.is_open(id).ok(), Some(true));
    assert_eq!(session.counters().unknown_frames, 1);
    assert_eq!(session.stream_count(), 1);
}

#[test]
fn a_scheme_update_is_passed_on_unchecked() {
    let mut session = client();
    session.handle_input(&frame(6, 0, b"stop=2"), START);
    assert_eq!(events(&mut session), [Event::SchemeUpdate(b"stop=2".to_vec())]);
}

#[test]
fn a_client_that_skips_its_settings_is_a_violation() {
    let mut server = Session::new(Side::Server, options(None), START);
    server.handle_input(&frame(1, 1, b""), START);
    assert!(matches!(server.failure(), Some(SessionError::Violation(_))));
}

/// Both sides, back to back, with records cut anywhere: every stream's bytes arrive in order, both ways.
#[test]
fn streams_are_byte_exact_in_any_interleaving() {
    for seed in 0..30 {
        exchange(seed);
    }
}

fn exchange(seed: u64) {
    const STREAMS: u32 = 5;
    let mut rng = StdRng::seed_from_u64(seed);
    let mut client = Session::new(Side::Client, options(None), START);
    let mut server = Session::new(Side::Server, options(None), START);
    let mut written = vec![(Vec::new(), Vec::new()); STREAMS as usize];
    let mut received = written.clone();
    for _ in 0..STREAMS {
        client.open(&target(), b"", START).expect("open");
    }
    let mut wires = (Vec::new(), Vec::new());
    for round in 0..160 {
        for id in 1..=STREAMS {
            let at = id as usize - 1;
            let mut chunk = vec![0; rng.random_range(0..3_000)];
            rng.fill(&mut chunk[..]);
            if round < 120 && rng.random_bool(0.3) {
                let taken = client.write(StreamId(id), &chunk).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
                written[at].0.extend_from_slice(&chunk[..taken]);
            }
            if round < 120
                && rng.random_bool(0.3)
                && let Ok(taken) = server.write(StreamId(id), &chunk)
            {
                written[at].1.extend_from_slice(&chunk[..taken]);
            }
            if round >= 120 || rng.random_bool(0.5) {
                received[at].1.extend(read_all(&mut client, StreamId(id)));
                received[at].0.extend(read_all(&mut server, StreamId(id)));
            }
        }
        pump(&mut client, &mut server, &mut wires.0, &mut rng);
        pump(&mut server, &mut client, &mut wires.1, &mut rng);
    }
    assert!(wires.0.is_empty() && wires.1.is_empty(), "seed {seed}: bytes are stuck");
    for (at, (up, down)) in written.iter().enumerate() {
        let up = [TARGET_BYTES, up].concat();
        assert!(received[at].0 == up, "seed {seed}: stream {at} up");
        assert!(received[at].1 == *down, "seed {seed}: stream {at} down");
    }
}

fn pump(from: &mut Session, to: &mut Session, wire: &mut Vec<u8>, rng: &mut StdRng) {
    let mut record = Vec::new();
    while rng.random_bool(0.9) && from.poll_record(rng, &mut record).is_some() {
        wire.extend_from_slice(&record);
    }
    while !wire.is_empty() && to.wants_input() {
        let cut = rng.random_range(1..=wire.len().min(20_000));
        to.handle_input(&wire[..cut], START);
        wire.drain(..cut);
    }
}
