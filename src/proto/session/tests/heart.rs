//! Whether the peer is there: beats, probes, round trips, and what is no reason to judge.

use super::*;

fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

fn beats(session: &mut Session) -> usize {
    sent(session).iter().filter(|frame| frame.0 == 8).count()
}

/// A session that has asked for a sign of life at [`START`].
fn asked() -> Session {
    let mut session = unshaped_client();
    session.beat(START);
    assert_eq!(beats(&mut session), 1);
    session
}

fn with_round_trip(round_trip: Duration) -> Session {
    let options = SessionOptions { round_trip, ..options(Some(PeerVersion::V2)) };
    Session::new(Side::Client, options, START)
}

#[test]
fn the_first_beat_of_a_session_dialled_ahead_is_write_1_shaped_by_plan_1() {
    for seed in 0..300 {
        let mut session = Session::new(Side::Client, options(None), START);
        let mut rng = StdRng::seed_from_u64(seed);
        assert!(records(&mut session, &mut rng).is_empty(), "settings wait for the first write");
        session.beat(START);
        let one = records(&mut session, &mut rng);
        assert!((100..400).contains(&one[0].len()), "seed {seed}: {} bytes", one[0].len());
        assert!(one.len() <= 2 && one[1..].iter().map(Vec::len).sum::<usize>() < 30, "seed {seed}");
        let commands: Vec<_> = frames(&one.concat()).iter().map(|frame| frame.0).collect();
        assert_eq!(commands, [4, 8], "seed {seed}");

        // The default plan 2 begins with 400 to 500 bytes.
        session.open(&target(), b"GET /", START).expect("open");
        let two = records(&mut session, &mut rng);
        assert_eq!(two.len(), 1, "seed {seed}");
        assert!((400..500).contains(&two[0].len()), "seed {seed}: {} bytes", two[0].len());
        let expected = [(1, 1, vec![]), (2, 1, [TARGET_BYTES, b"GET /"].concat())];
        assert_eq!(frames(&two[0]), expected, "seed {seed}");
    }
}

#[test]
fn silence_is_asked_about_once_more_and_then_the_session_is_dead() {
    for (round_trip, wait) in [(ms(50), secs(3)), (secs(1), secs(5)), (secs(4), secs(10))] {
        let mut session = with_round_trip(round_trip);
        session.beat(START);
        assert_eq!(beats(&mut session), 1);
        assert_eq!(session.poll_timeout(), Some(START + wait), "{round_trip:?}");
        session.handle_timeout(START + wait - ms(1));
        assert_eq!(beats(&mut session), 0);
        session.handle_timeout(START + wait);
        assert_eq!((beats(&mut session), session.counters().beats_missed), (1, 1));
        assert_eq!(session.poll_timeout(), Some(START + wait * 2), "{round_trip:?}");
        session.handle_timeout(START + wait * 2);
        assert!(matches!(session.failure(), Some(SessionError::NoAnswer)), "{round_trip:?}");
        assert_eq!((session.counters().beats_missed, session.poll_timeout()), (2, None));
    }
}

#[test]
fn any_byte_is_a_sign_of_life() {
    let inputs = [frame(9, 0, b""), frame(0, 0, b"padding"), frame(2, 9, b"for nobody"), vec![2]];
    for input in inputs {
        let mut session = asked();
        session.handle_input(&input, START + secs(1));
        assert_eq!(session.poll_timeout(), None, "{input:?}");
        assert_eq!(session.pulse().heard(), START + secs(1));
        session.handle_timeout(START + secs(60));
        assert!(session.failure().is_none(), "{input:?}");
    }
}

#[test]
fn a_second_request_is_not_queued_while_one_waits_for_its_answer() {
    let mut session = asked();
    session.beat(START + secs(1));
    session.probe(START + secs(1));
    assert_eq!(beats(&mut session), 0);
    assert_eq!(session.poll_timeout(), Some(START + secs(3)), "nor does it put off the judgement");
    session.handle_input(&frame(9, 0, b""), START + secs(2));
    session.beat(START + secs(2));
    assert_eq!(beats(&mut session), 1);
}

#[test]
fn a_session_that_asks_again_before_the_first_request_has_left_sends_one() {
    let mut session = unshaped_client();
    session.beat(START);
    session.handle_timeout(START + secs(3));
    assert_eq!(beats(&mut session), 1);
    assert_eq!(session.counters().beats_sent, 1);
}

#[test]
fn a_download_that_stalls_for_a_minute_does_not_kill_the_session() {
    let mut session = client();
    let id = session.open(&target(), b"", START).expect("open");
    session.handle_input(&frame(7, 1, b""), START);
    session.beat(START);
    session.handle_input(&frame(0, 0, b""), START);
    session.beat(START);
    while session.wants_input() {
        session.handle_input(&frame(2, 1, &[0; 16_377]), START);
    }
    assert!(!session.pulse().is_read());
    session.beat(START + secs(1));
    assert_eq!(session.heart_deadline(), None, "whoever does not read does not ask");
    for second in 1..=60 {
        session.handle_timeout(START + secs(second));
    }
    assert!(session.failure().is_none());
    read_all(&mut session, id);
    assert!(session.pulse().is_read());
    sent(&mut session);
    session.beat(START + secs(61));
    assert_eq!(beats(&mut session), 1);
}

#[test]
fn a_stall_that_begins_while_an_answer_is_awaited_puts_off_the_judgement() {
    let mut session = unshaped_client();
    let id = session.open(&target(), b"", START).expect("open");
    while session.wants_input() {
        session.handle_input(&frame(2, 1, &[0; 16_377]), START);
    }
    // Asked while it was read, and stalled since: only a test can have it so, a beat hears what stalls it.
    session.pending = None;
    read_all(&mut session, id);
    session.beat(START);
    session.stalled += 1;
    for second in 1..=60 {
        session.handle_timeout(START + secs(second));
    }
    assert!(session.failure().is_none() && session.counters().beats_missed == 0);
    session.stalled -= 1;
    let due = session.poll_timeout().expect("it is judged now");
    session.handle_timeout(due);
    session.handle_timeout(due + secs(3));
    assert!(session.failure().is_some(), "but once it reads, silence counts");
}

#[test]
fn a_timer_that_fires_late_asks_again_instead_of_judging() {
    let mut session = asked();
    session.handle_timeout(START + secs(3));
    assert_eq!(beats(&mut session), 1, "the second time");
    for hour in 1..4 {
        let woken = START + secs(3_600 * hour);
        session.handle_timeout(woken);
        assert!(session.failure().is_none(), "hour {hour}: the device slept");
        assert_eq!((beats(&mut session), session.poll_timeout()), (1, Some(woken + secs(3))));
    }
    let due = session.poll_timeout().expect("asked");
    session.handle_timeout(due + ms(999));
    assert_eq!(beats(&mut session), 1, "after a sleep both requests are sent anew");
    session.handle_timeout(due + ms(999) + secs(3) + ms(999));
    assert!(session.failure().is_some(), "a busy thread is no sleep");
}

#[test]
fn a_sleep_is_not_counted_as_a_missed_beat() {
    let mut session = asked();
    session.handle_timeout(START + secs(3_600));
    assert_eq!(session.counters().beats_missed, 0);
}

#[test]
fn a_stream_whose_deadline_passed_in_sleep_is_given_its_time_again() {
    let mut session = client();
    let id = session.open(&target(), b"", START).expect("open");
    sent(&mut session);
    let woken = START + secs(600);
    session.handle_timeout(woken);
    assert!(session.failure().is_none());
    assert_eq!(session.is_open(id).ok(), Some(false));
    assert_eq!(session.poll_timeout(), Some(woken + secs(3)));
    session.handle_timeout(woken + secs(3));
    assert!(session.failure().is_some(), "awake, silence counts");
}

#[test]
fn a_version_that_could_not_be_told_in_sleep_is_waited_for_again() {
    let mut session = Session::new(Side::Client, options(None), START);
    session.beat(START);
    sent(&mut session);
    let woken = START + secs(600);
    session.handle_timeout(woken);
    assert_eq!((session.peer(), session.failure().is_some()), (None, false));
    session.handle_input(&frame(10, 0, b"v=2"), woken + ms(50));
    assert_eq!(session.peer(), Some(PeerVersion::V2));
    assert!(session.pulse().answers());
}

#[test]
fn silence_on_an_old_connection_is_no_sign_of_version_1() {
    let woken = START + secs(3_600);
    let mut session = Session::new(Side::Client, options(None), START);
    session.probe(woken);
    assert_eq!(session.poll_timeout(), Some(woken + secs(3)), "its version is not waited for");
    session.set_delivered(false);
    session.handle_timeout(woken + secs(3));
    session.handle_timeout(woken + secs(6));
    assert!(matches!(session.failure(), Some(SessionError::NoAnswer)));
    assert_eq!(events(&mut session), [], "neither alive nor of any version");

    let mut session = Session::new(Side::Client, options(None), START);
    session.open(&target(), b"", woken).expect("open");
    session.handle_timeout(woken + secs(3));
    assert!(matches!(session.failure(), Some(SessionError::NoAnswer)), "another session can be tried");
}

#[test]
fn a_heartbeat_that_is_still_on_its_way_is_excused() {
    let mut session = asked();
    session.excuse_heart(START + secs(3));
    assert_eq!(session.heart_deadline(), Some(START + secs(6)));
    session.handle_timeout(START + secs(3));
    assert_eq!((beats(&mut session), session.counters().beats_missed), (0, 0));
    let mut idle = unshaped_client();
    idle.excuse_heart(START);
    assert_eq!(idle.heart_deadline(), None, "nothing was asked");
}

#[test]
fn a_probe_tells_when_the_peer_was_heard_and_a_beat_does_not() {
    let mut session = asked();
    session.handle_input(&frame(9, 0, b""), START);
    assert_eq!(events(&mut session), []);
    session.probe(START + secs(1));
    assert_eq!(beats(&mut session), 1);
    assert_eq!(events(&mut session), []);
    session.handle_input(&frame(9, 0, b""), START + secs(2));
    assert_eq!(events(&mut session), [Event::Alive]);
    session.handle_input(&frame(9, 0, b""), START + secs(3));
    assert_eq!(events(&mut session), [], "once");
}

#[test]
fn a_probe_that_joins_a_beat_under_way_is_answered_with_it_even_after_the_second_request() {
    let mut session = asked();
    session.probe(START + secs(1));
    session.handle_timeout(START + secs(3));
    session.handle_input(&frame(9, 0, b""), START + secs(4));
    assert_eq!(events(&mut session), [Event::Alive]);
}

#[test]
fn a_probe_that_cannot_be_asked_is_answered_at_once() {
    let mut old = Session::new(Side::Client, options(Some(PeerVersion::V1)), START);
    old.probe(START);
    assert_eq!((events(&mut old), old.poll_timeout()), (vec![Event::Alive], None));
    assert_eq!(sent(&mut old), []);

    let mut dead = client();
    dead.fail(SessionError::EndedByPeer);
    dead.probe(START);
    assert_eq!(events(&mut dead), [], "it is not alive");
}

#[test]
fn a_probed_session_that_nobody_reads_is_judged_when_it_is_read_on() {
    let mut session = client();
    let id = session.open(&target(), b"", START).expect("open");
    session.handle_input(&frame(7, 1, b""), START);
    while session.wants_input() {
        session.handle_input(&frame(2, 1, &[0; 16_000]), START);
    }
    session.beat(START);
    assert_eq!(session.heart_deadline(), None);
    session.probe(START);
    for _ in 0..10 {
        let due = session.heart_deadline().expect("it was asked");
        session.handle_timeout(due);
    }
    assert!(session.failure().is_none(), "its answer may be among what is not read");
    read_all(&mut session, id);
    let later = START + secs(100);
    session.handle_input(&frame(2, 1, b"from long ago"), later);
    assert!(session.heart_deadline().is_some_and(|due| due > later), "that is no answer");
    for _ in 0..2 {
        let due = session.heart_deadline().expect("it was asked");
        session.handle_timeout(due);
    }
    assert!(matches!(session.failure(), Some(SessionError::NoAnswer)));
}

#[test]
fn a_peer_of_version_1_is_asked_nothing() {
    let mut session = Session::new(Side::Client, options(Some(PeerVersion::V1)), START);
    session.beat(START);
    assert_eq!((sent(&mut session), session.poll_timeout()), (vec![], None));
    assert!(!session.pulse().answers());
}

#[test]
fn a_peer_that_turns_out_to_be_version_1_is_no_longer_waited_for() {
    let mut session = Session::new(Side::Client, options(None), START);
    assert!(session.pulse().answers());
    session.probe(START);
    sent(&mut session);
    session.open(&target(), b"", START).expect("open");
    session.handle_timeout(START + ms(500));
    assert_eq!(events(&mut session)[..2], [Event::Alive, Event::PeerVersion(PeerVersion::V1)]);
    assert!(!session.pulse().answers());
    assert_eq!(session.poll_timeout(), None);
}

#[test]
fn a_peer_that_never_said_a_word_and_takes_two_beats_is_asked_no_more() {
    let mut session = Session::new(Side::Client, options(None), START);
    session.probe(START);
    sent(&mut session);
    session.handle_timeout(START + secs(3));
    session.handle_timeout(START + secs(6));
    assert_eq!(events(&mut session), [Event::Alive]);
    assert_eq!((session.peer(), session.failure().is_some(), session.poll_timeout()), (None, false, None));
    session.beat(START + secs(60));
    assert_eq!(session.poll_timeout(), None);
    session.handle_input(&frame(10, 0, b"v=2"), START + secs(61));
    assert!(session.pulse().answers(), "it speaks after all");
}

#[test]
fn what_the_peers_system_does_not_have_cannot_have_been_answered() {
    let mut session = Session::new(Side::Client, options(None), START);
    session.beat(START);
    sent(&mut session);
    session.set_delivered(false);
    session.handle_timeout(START + secs(3));
    session.handle_timeout(START + secs(6));
    assert!(matches!(session.failure(), Some(SessionError::NoAnswer)));

    let mut session = Session::new(Side::Client, options(None), START);
    session.open(&target(), b"", START).expect("open");
    session.set_delivered(false);
    session.handle_timeout(START + ms(500));
    assert_eq!(session.peer(), None, "a black hole is no version 1");
}

#[test]
fn a_version_that_another_session_has_shown_is_the_peers() {
    let mut session = Session::new(Side::Client, options(None), START);
    session.learn_version(PeerVersion::V2);
    session.beat(START);
    sent(&mut session);
    session.handle_timeout(START + secs(3));
    session.handle_timeout(START + secs(6));
    assert!(matches!(session.failure(), Some(SessionError::NoAnswer)));
}

#[test]
fn a_peer_that_says_version_1_says_it_once() {
    let mut session = Session::new(Side::Client, options(None), START);
    session.open(&target(), b"", START).expect("open");
    session.handle_input(&frame(10, 0, b"v=1"), START);
    let versions = events(&mut session).into_iter().filter(|event| matches!(event, Event::PeerVersion(_)));
    assert_eq!(versions.collect::<Vec<_>>(), [Event::PeerVersion(PeerVersion::V1)]);
}

#[test]
fn a_peer_taken_for_version_1_that_says_otherwise_is_asked_again() {
    let mut slow = Session::new(Side::Client, options(None), START);
    slow.open(&target(), b"", START).expect("open");
    sent(&mut slow);
    slow.handle_timeout(START + ms(500));
    assert!(!slow.pulse().answers());
    let assumed = Session::new(Side::Client, options(Some(PeerVersion::V1)), START);
    for mut session in [slow, assumed] {
        session.handle_input(&frame(10, 0, b"v=2"), START + secs(3));
        assert_eq!(session.peer(), Some(PeerVersion::V2));
        assert!(session.pulse().answers());
        sent(&mut session);
        session.beat(START + secs(4));
        assert_eq!(beats(&mut session), 1);
    }
}

#[test]
fn answers_that_nobody_asked_for_are_not_counted_and_show_no_round_trip() {
    let mut session = unshaped_client();
    session.handle_input(&frame(9, 0, b"").repeat(5), START + secs(9));
    assert_eq!(session.counters().beats_answered, 0);
    session.beat(START + secs(10));
    sent(&mut session);
    session.handle_input(&frame(9, 0, b"").repeat(5), START + secs(10));
    assert_eq!((session.counters().beats_sent, session.counters().beats_answered), (1, 1));
    assert!(session.round_trip() <= ms(50));
}

#[test]
fn the_round_trip_follows_the_beats_smoothly() {
    let mut session = with_round_trip(ms(80));
    let mut now = START;
    let mut beat = |session: &mut Session, sample| {
        session.beat(now);
        sent(session);
        now = now + sample;
        session.handle_input(&frame(9, 0, b""), now);
        session.round_trip()
    };
    assert_eq!(beat(&mut session, ms(480)), ms(130), "an eighth of what is new");
    assert_eq!(beat(&mut session, ms(130)), ms(130));
    for _ in 0..100 {
        beat(&mut session, ms(800));
    }
    assert!(session.round_trip().abs_diff(ms(800)) < ms(10), "{:?}", session.round_trip());
}

#[test]
fn only_the_answer_itself_shows_the_round_trip() {
    let mut session = with_round_trip(ms(80));
    session.beat(START);
    sent(&mut session);
    session.handle_input(&frame(0, 0, b"other things"), START + ms(1));
    assert_eq!(session.round_trip(), ms(80));
    session.handle_input(&frame(9, 0, b""), START + ms(80));
    assert_eq!(session.round_trip(), ms(80));

    session.beat(START + secs(1));
    sent(&mut session);
    session.handle_timeout(START + secs(4));
    sent(&mut session);
    session.handle_input(&frame(9, 0, b""), START + secs(5));
    assert_eq!(session.round_trip(), ms(80), "nobody knows which of both requests this answers");
}

#[test]
fn requests_of_the_server_are_answered_while_one_of_ours_is_under_way() {
    let mut session = asked();
    session.handle_input(&frame(8, 3, b""), START);
    assert_eq!(sent(&mut session), [(9, 3, vec![])]);
}

#[test]
fn without_a_network_nobody_is_judged_and_no_timer_runs() {
    let mut session = client();
    let waiting = session.open(&target(), b"", START).expect("open");
    session.beat(START);
    sent(&mut session);
    session.set_online(false);
    assert_eq!(session.poll_timeout(), None);
    session.handle_timeout(START + secs(100));
    session.set_online(true);
    session.handle_timeout(START + secs(100));
    assert_eq!((session.failure().is_some(), session.is_open(waiting).ok()), (false, Some(false)));
    assert_eq!(beats(&mut session), 1, "asked again");
    let due = session.poll_timeout().expect("the answers are waited for");
    assert!(due >= START + secs(103));
}
