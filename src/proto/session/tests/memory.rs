//! Many sessions on one account.

use std::collections::HashMap;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::super::*;
use crate::budget::{Account, Budget, CONTROL_FRAME_FLOOR_BYTES, Pressure, RECORD_BYTES};

const START: Moment = Moment::from_origin(Duration::from_secs(1_000));

fn session(account: &Arc<Account>) -> Session {
    let options = SessionOptions {
        scheme: Arc::new(Scheme::parse(b"stop=0").expect("a valid scheme")),
        peer: Some(PeerVersion::V2),
        round_trip: Duration::ZERO,
        synack_timeout: None,
        answers_fin: false,
        account: Arc::clone(account),
    };
    Session::new(Side::Client, options, START)
}

fn open(session: &mut Session) -> StreamId {
    let target = "192.0.2.1:443".parse().expect("a valid target");
    let id = session.open(&target, b"", START).expect("open");
    session.handle_input(&frame(7, id, b""), START);
    id
}

fn frame(command: u8, id: StreamId, data: &[u8]) -> Vec<u8> {
    let length = u16::try_from(data.len()).expect("fits").to_be_bytes();
    [&[command], &id.0.to_be_bytes()[..], &length, data].concat()
}

/// One record's worth of a stream's bytes.
fn piece(id: StreamId) -> Vec<u8> {
    frame(2, id, &[7; 16_377])
}

/// What all sessions may hold of these buffers, floors included. A send buffer may have grown a quarter
/// beyond what it was allowed.
fn bound(budget: &Budget, sessions: usize) -> usize {
    budget.elastic + sessions * (RECORD_BYTES + SEND_FLOOR_BYTES * 5 / 4)
}

/// Sends all that waits.
fn drain(session: &mut Session) {
    let (mut rng, mut record) = (StdRng::seed_from_u64(1), Vec::new());
    while session.poll_record(&mut rng, &mut record).is_some() {}
}

#[test]
fn stalled_readers_and_writers_never_hold_more_than_their_share_and_then_move_on() {
    for (limit, count) in [(4 << 20, 22), (12 << 20, 64), (24 << 20, 128)] {
        let budget = Budget::divide(limit, count, false);
        assert_eq!(budget.max_sessions, count);
        let account = Arc::new(budget.account());
        let mut sessions: Vec<_> = (0..count).map(|_| session(&account)).collect();
        for session in &mut sessions {
            // Three share each session: only one is read from.
            let ids: Vec<_> = (0..3).map(|_| open(session)).collect();
            drain(session);
            'fed: loop {
                for &id in &ids {
                    if !session.wants_input() {
                        break 'fed;
                    }
                    session.handle_input(&piece(id), START);
                }
            }
            for &id in &ids {
                while session.write(id, &[9; 5_000]).expect("open") > 0 {}
            }
            assert!(account.held() <= bound(&budget, count), "{} of {budget:?}", account.held());
        }
        assert!(account.held() > budget.elastic / 2, "memory was really asked for");

        for session in &mut sessions {
            let id = StreamId(1);
            for _ in 0..20 {
                while let Ok(Read::Bytes(_)) = session.read_with(id, <[u8]>::len) {}
                while session.wants_input() {
                    session.handle_input(&piece(id), START);
                }
                // Another of the three may be the one that the session waits for.
                for other in [StreamId(2), StreamId(3)] {
                    while let Ok(Read::Bytes(_)) = session.read_with(other, <[u8]>::len) {}
                }
                drain(session);
                assert!(session.write(id, &[9; 5_000]).expect("open") > 0, "after everything has left");
                assert!(account.held() <= bound(&budget, count), "{} of {budget:?}", account.held());
            }
            let received = session.counters().received_bytes;
            assert!(received >= 10 * 16_377, "{received}");
        }
        drop(sessions);
        assert_eq!(account.held(), 0);
    }
}

#[test]
fn whatever_happens_the_account_is_within_its_bound_and_even_at_the_end() {
    for seed in 0..10 {
        let mut random = StdRng::seed_from_u64(seed);
        let budget = Budget::divide(4 << 20, 0, false);
        let account = Arc::new(budget.account());
        let mut sessions: Vec<_> = (0..budget.max_sessions).map(|_| session(&account)).collect();
        let mut open_streams: Vec<Vec<StreamId>> = vec![Vec::new(); sessions.len()];
        for step in 0..20_000 {
            let at = random.random_range(0..sessions.len());
            let (session, streams) = (&mut sessions[at], &mut open_streams[at]);
            if streams.is_empty() || random.random_range(0..50) == 0 && streams.len() < 20 {
                streams.push(open(session));
            }
            let place = random.random_range(0..streams.len());
            let id = streams[place];
            match random.random_range(0..20) {
                0 => drain(session),
                1 => {
                    streams.swap_remove(place);
                    session.close(id);
                }
                2 => {
                    streams.swap_remove(place);
                    session.abort(id);
                }
                3..7 => {
                    let most = random.random_range(1..20_000);
                    let _ = session.read_with(id, |bytes| bytes.len().min(most));
                }
                7..12 => {
                    let _ = session.write(id, &vec![1; random.random_range(1..40_000)]);
                }
                _ => {
                    if session.wants_input() {
                        session.handle_input(&piece(id), START);
                    }
                }
            }
            while session.poll_event().is_some() {}
            let held = account.held();
            assert!(held <= bound(&budget, sessions.len()), "seed {seed}, step {step}: {held} held");
        }
        for session in &mut sessions {
            session.fail(SessionError::Closed);
        }
        drop(sessions);
        assert_eq!(account.held(), 0, "seed {seed}");
    }
}

#[test]
fn streams_of_one_session_share_its_buffers() {
    let mut session = session(&Arc::default());
    let ids: Vec<_> = (0..8).map(|_| open(&mut session)).collect();
    drain(&mut session);
    let written: usize = ids.iter().map(|&id| session.write(id, &[1; 40_000]).expect("open")).sum();
    assert_eq!(written, SEND_BYTES);
    let mut pieces = 0;
    for &id in ids.iter().cycle() {
        if !session.wants_input() {
            break;
        }
        session.handle_input(&piece(id), START);
        pieces += 1;
    }
    assert!(pieces * RECORD_BYTES <= RECEIVE_BYTES + RECORD_BYTES, "{pieces}");
}

#[test]
fn a_stream_moves_on_beside_one_whose_reader_is_gone() {
    let mut session = session(&Arc::default());
    let (stuck, moving) = (open(&mut session), open(&mut session));
    for _ in 0..3 {
        session.handle_input(&piece(stuck), START);
    }
    for round in 0..100 {
        assert!(session.wants_input(), "round {round}");
        while session.wants_input() {
            session.handle_input(&piece(moving), START);
        }
        while let Ok(Read::Bytes(_)) = session.read_with(moving, <[u8]>::len) {}
    }
}

#[test]
fn writers_that_share_a_session_all_have_their_turn() {
    let mut session = session(&Arc::default());
    let ids: Vec<_> = (0..5).map(|_| open(&mut session)).collect();
    let (mut rng, mut record) = (StdRng::seed_from_u64(1), Vec::new());
    drain(&mut session);
    let mut sent: HashMap<StreamId, usize> = HashMap::new();
    let mut woken: VecDeque<StreamId> = ids.iter().copied().collect();
    for _ in 0..200 {
        // As an executor does: tasks run in the order in which they were woken, and write all they can.
        while let Some(id) = woken.pop_front() {
            loop {
                match session.write(id, &[1; 100_000]).expect("open") {
                    0 => break,
                    count => *sent.entry(id).or_default() += count,
                }
            }
        }
        session.poll_record(&mut rng, &mut record).expect("something waits");
        while let Some(event) = session.poll_event() {
            if let Event::Writable(id) = event {
                woken.push_back(id);
            }
        }
    }
    let least = ids.iter().map(|id| sent.get(id).copied().unwrap_or(0)).min();
    assert!(least > Some(200 * RECORD_BYTES / 10), "{sent:?}");
}

#[test]
fn a_writer_is_told_when_another_stream_that_filled_the_session_is_aborted() {
    let mut session = session(&Arc::default());
    let (greedy, waiting) = (open(&mut session), open(&mut session));
    drain(&mut session);
    assert_eq!(session.write(greedy, &[1; 100_000]).ok(), Some(SEND_BYTES));
    assert_eq!(session.write(waiting, &[1; 10]).ok(), Some(0));
    session.abort(greedy);
    drain(&mut session);
    let told = std::iter::from_fn(|| session.poll_event()).any(|event| event == Event::Writable(waiting));
    assert!(told);
    assert_eq!(session.write(waiting, &[1; 10]).ok(), Some(10));
}

#[test]
fn critical_pressure_leaves_the_floors_and_is_undone() {
    let account = Arc::new(Account::new(4 << 20));
    let mut session = session(&account);
    let id = open(&mut session);
    drain(&mut session);
    account.set_pressure(Pressure::Critical);
    assert_eq!(session.write(id, &[1; 100_000]).ok(), Some(SEND_FLOOR_BYTES));
    drain(&mut session);
    for _ in 0..3 {
        session.handle_input(&piece(id), START);
        assert!(!session.wants_input(), "one piece at a time");
        while let Ok(Read::Bytes(_)) = session.read_with(id, <[u8]>::len) {}
        assert!(session.wants_input());
    }
    account.set_pressure(Pressure::Normal);
    assert_eq!(session.write(id, &[1; 100_000]).ok(), Some(SEND_BYTES));
}

#[test]
fn a_control_frame_in_pieces_that_memory_has_no_room_for_ends_the_session() {
    for (account, fits) in [(Account::default(), true), (Account::new(0), false)] {
        let account = Arc::new(account);
        let mut session = session(&account);
        let scheme = frame(6, StreamId::SESSION, &[b'#'; 60_000]);
        for piece in scheme.chunks(1_000) {
            session.handle_input(piece, START);
            assert!(account.held() <= if fits { 128 << 10 } else { 2 * CONTROL_FRAME_FLOOR_BYTES });
        }
        assert_eq!(session.failure().is_none(), fits);
    }
}

#[test]
fn a_session_that_is_idle_again_keeps_no_tables_or_queues() {
    let account = Arc::new(Budget::divide(24 << 20, 0, false).account());
    let mut session = session(&account);
    let id = open(&mut session);
    session.write(id, b"request").expect("open");
    session.handle_input(&frame(2, id, b"response"), START);
    session.read_with(id, <[u8]>::len).expect("open");
    session.close(id);
    session.beat(START);
    drain(&mut session);
    while session.poll_event().is_some() {}
    assert_eq!(session.stream_count(), 0);
    assert_eq!(session.events.capacity(), 0);
    assert_eq!(session.output.capacity(), 0);
    assert_eq!(account.held(), 0);
}
