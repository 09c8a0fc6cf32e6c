//! Idle sessions that have been silent for longer than a heartbeat would have let them.

use super::rig::How;
use super::*;

/// `count` idle sessions which have been silent for a minute, where 34 seconds are the most.
fn stale(count: usize) -> Rig {
    stale_under(PoolOptions { heartbeat: every(30), ..plain() }, count)
}

fn stale_under(options: PoolOptions, count: usize) -> Rig {
    let mut rig = Rig::idle(options, count);
    rig.set_power(Power::Doze);
    rig.run(secs(60));
    rig.forget_log();
    rig
}

#[test]
fn a_session_silent_for_up_to_its_interval_and_an_answer_is_used_unasked() {
    for (silence, asked) in [(secs(34), 0), (secs(34) + ms(1), 1)] {
        let mut rig = Rig::idle(PoolOptions { heartbeat: every(30), ..plain() }, 1);
        rig.set_power(Power::Doze);
        rig.run(secs(100));
        rig.hear(SessionSeq(1));
        rig.run(silence);
        let ticket = rig.request(Want::Any);
        assert_eq!(rig.granted(ticket).is_some(), asked == 0, "{silence:?}");
        assert_eq!(rig.pool.counters().probed, asked, "{silence:?}");
    }
}

#[test]
fn without_heartbeats_nobody_is_asked() {
    let mut rig = Rig::idle(plain(), 1);
    rig.run(secs(200));
    let ticket = rig.request(Want::Any);
    assert_eq!(rig.granted(ticket), Some((SessionSeq(1), How::Reused)));
}

#[test]
fn a_silent_session_is_granted_when_it_was_heard() {
    let mut rig = stale(1);
    let ticket = rig.request(Want::Any);
    assert_eq!(rig.probes(), [(rig.since_start(), vec![1])]);
    rig.run(ms(49));
    assert_eq!(rig.granted(ticket), None);
    rig.run(ms(1));
    assert_eq!(rig.granted(ticket), Some((SessionSeq(1), How::Reused)));
    assert_eq!((rig.dials(), rig.pool.poll_timeout().is_some()), (0, false));
}

#[test]
fn silence_dials_another_after_a_time_that_follows_the_round_trip() {
    for (round_trip, wait) in [(ms(10), ms(400)), (ms(300), ms(800)), (secs(5), ms(1_500))] {
        let mut rig = Rig::with_server(
            PoolOptions { heartbeat: every(30), ..plain() },
            Server { round_trip, ..Server::default() },
        );
        let seq = rig.lease();
        rig.give_back(seq);
        rig.set_power(Power::Doze);
        rig.run(secs(60));
        rig.server.answer = None;
        rig.forget_log();
        let ticket = rig.request(Want::Any);
        rig.run(wait - ms(1));
        assert_eq!(rig.dials(), 0);
        rig.run(ms(1));
        assert_eq!(rig.dials(), 1, "{round_trip:?}");
        rig.run(secs(1));
        assert_eq!(rig.granted(ticket), Some((SessionSeq(2), How::New)));
    }
}

#[test]
fn many_silent_sessions_cost_whoever_waits_no_more_than_one() {
    let mut rig = stale(5);
    rig.server.answer = None;
    let asked = rig.since_start();
    let ticket = rig.request(Want::Any);
    rig.run(ms(400));
    assert_eq!(rig.dials(), 1, "not one after the other");
    rig.run(ms(100));
    assert!(rig.granted(ticket).is_some());
    assert_eq!(rig.probes(), [(asked, vec![5, 4, 3, 2, 1])], "one wake-up of the radio for all");
}

#[test]
fn of_several_silent_sessions_the_first_to_answer_serves() {
    let mut rig = stale(3);
    rig.server.answer = None;
    let ticket = rig.request(Want::Any);
    rig.hear(SessionSeq(2));
    rig.pool.handle_alive(SessionSeq(2), rig.now);
    rig.carry_out();
    assert_eq!(rig.granted(ticket), Some((SessionSeq(2), How::Reused)));
    rig.run(secs(2));
    assert_eq!((rig.dials(), rig.pool.idle_count()), (0, 2));
}

#[test]
fn a_doubted_session_is_not_granted_before_it_is_heard() {
    let mut rig = stale(1);
    rig.server.answer = None;
    let first = rig.request(Want::Any);
    rig.run(secs(2));
    let Some((second_session, How::New)) = rig.granted(first) else { panic!("dialled") };
    rig.server.dial = None;
    let ticket = rig.request(Want::Any);
    assert_eq!(rig.probes().len(), 1, "it is not asked a second time");
    rig.run(secs(5));
    assert_eq!(rig.granted(ticket), None);
    rig.hear(SessionSeq(1));
    let next = rig.request(Want::Any);
    assert_eq!(rig.granted(next), Some((SessionSeq(1), How::Reused)), "{second_session:?}");
}

#[test]
fn a_doubted_session_that_shows_its_life_late_serves_who_still_waits() {
    let mut rig = stale(1);
    rig.server = Server { answer: None, dial: None, ..rig.server };
    let ticket = rig.request(Want::Any);
    rig.run(secs(3));
    assert_eq!((rig.granted(ticket), rig.dials()), (None, 1));
    rig.hear(SessionSeq(1));
    rig.pool.handle_alive(SessionSeq(1), rig.now);
    rig.carry_out();
    assert_eq!(rig.granted(ticket), Some((SessionSeq(1), How::Reused)));
}

#[test]
fn a_session_that_was_heard_in_time_is_not_doubted_for_a_timer_that_comes_late() {
    let mut rig = stale(1);
    rig.server = Server { answer: None, dial: None, ..rig.server };
    rig.request(Want::Any);
    rig.run(ms(10));
    rig.hear(SessionSeq(1));
    rig.sleep(secs(20));
    let ticket = rig.request(Want::Alone);
    assert_eq!(rig.granted(ticket), Some((SessionSeq(1), How::Reused)));
}

#[test]
fn several_who_wait_dial_only_for_those_that_no_silent_session_can_serve() {
    let mut rig = stale(2);
    let tickets: Vec<_> = (0..5).map(|_| rig.request(Want::Any)).collect();
    assert_eq!((rig.pool.counters().probed, rig.dials()), (2, 3));
    rig.run(secs(1));
    let granted: BTreeSet<_> = tickets.iter().filter_map(|&ticket| Some(rig.granted(ticket)?.0.0)).collect();
    assert_eq!(granted, (1..=5).collect());
    assert_eq!(rig.dials(), 3);
}

#[test]
fn probes_for_others_do_not_hold_up_who_wants_a_fresh_session() {
    let mut rig = stale(2);
    rig.server.answer = None;
    rig.request(Want::Any);
    assert_eq!(rig.dials(), 0);
    rig.request(Want::Fresh);
    assert_eq!(rig.dials(), 1);
}

#[test]
fn a_stale_session_that_comes_back_has_to_show_its_life_like_any_other() {
    let options = PoolOptions { heartbeat: every(30), max_sessions: 1, ..plain() };
    let mut rig = Rig::new(options);
    let seq = rig.lease();
    rig.set_power(Power::Doze);
    rig.run(secs(600));
    rig.pool.handle_refused_sharing();
    let ticket = rig.request(Want::Any);
    rig.give_back(seq);
    assert_eq!(rig.granted(ticket), None, "it was silent for ten minutes");
    rig.run(ms(50));
    assert_eq!(rig.granted(ticket), Some((seq, How::Reused)));
}

#[test]
fn a_silent_session_that_ends_while_it_is_asked_is_replaced_by_a_dial() {
    let mut rig = stale(1);
    let ticket = rig.request(Want::Any);
    rig.lose(SessionSeq(1), SessionError::EndedByPeer);
    assert_eq!(rig.dials(), 1);
    rig.run(secs(1));
    assert_eq!(rig.granted(ticket), Some((SessionSeq(2), How::New)));
}

#[test]
fn a_cancelled_request_leaves_the_session_that_was_asked_for_it_idle() {
    let mut rig = stale(1);
    let ticket = rig.request(Want::Any);
    rig.pool.cancel(ticket);
    rig.run(secs(1));
    assert_eq!((rig.granted(ticket), rig.pool.idle_count(), rig.dials()), (None, 1, 0));
}

#[test]
fn doubted_sessions_do_not_count_as_ensured() {
    let mut rig = stale_under(PoolOptions { heartbeat: every(30), ensure_idle_session: 2, ..plain() }, 0);
    rig.server = Server { answer: None, ..rig.server };
    rig.request(Want::Any);
    rig.run(secs(2));
    let dials = rig.dials();
    rig.set_power(Power::Interactive);
    assert_eq!(
        (rig.pool.idle_count(), rig.dials() - dials),
        (2, 2),
        "both were silent when they were wanted"
    );
}

#[test]
fn a_dial_that_fails_leaves_those_waiting_whose_probe_is_under_way() {
    let mut rig = stale(1);
    rig.server = Server { works: false, dial: Some(ms(20)), ..rig.server };
    let tickets = [rig.request(Want::Any), rig.request(Want::Any)];
    rig.run(ms(30));
    assert!(rig.failed(tickets[0]).is_some());
    rig.run(ms(30));
    assert_eq!(rig.granted(tickets[1]), Some((SessionSeq(1), How::Reused)));
}
