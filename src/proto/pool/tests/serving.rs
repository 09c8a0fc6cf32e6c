//! Who gets which session, and what failing dials lead to.

use super::rig::{Happening, How};
use super::*;

fn happenings(rig: &Rig) -> Vec<Happening> {
    let did = rig.log.iter().filter_map(|(_, seen)| match seen {
        Seen::Did(happening) => Some(*happening),
        Seen::Timeout | Seen::Dialed(_) | Seen::DialFailed => None,
    });
    did.collect()
}

fn is_dial(seen: &Seen) -> bool {
    *seen == Seen::Did(Happening::Dial)
}

#[test]
fn the_newest_idle_session_serves_first() {
    let mut rig = Rig::idle(plain(), 3);
    let ticket = rig.request(Want::Any);
    assert_eq!(rig.granted(ticket), Some((SessionSeq(3), How::Reused)));
    let ticket = rig.request(Want::Alone);
    assert_eq!(rig.granted(ticket), Some((SessionSeq(2), How::Reused)));
}

#[test]
fn a_session_dialled_ahead_is_granted_as_new() {
    let mut rig = Rig::new(PoolOptions { ensure_idle_session: 1, ..plain() });
    rig.run(secs(1));
    let ticket = rig.request(Want::Any);
    assert_eq!(rig.granted(ticket), Some((SessionSeq(1), How::New)));
    rig.run(secs(60));
    let ticket = rig.request(Want::Fresh);
    rig.run(secs(1));
    assert_eq!(rig.granted(ticket), Some((SessionSeq(3), How::New)), "not the one that waits in the pool");
}

#[test]
fn a_returned_session_goes_to_whoever_waits_before_the_dial_is_done() {
    let mut rig = Rig::new(plain());
    let first = rig.lease();
    let ticket = rig.request(Want::Any);
    rig.give_back(first);
    assert_eq!(rig.granted(ticket), Some((first, How::Reused)));
    rig.run(secs(1));
    assert_eq!((rig.pool.idle_count(), rig.pool.dialing_count(), rig.dials()), (1, 0, 2));
}

#[test]
fn a_request_for_a_fresh_session_is_never_given_a_used_one() {
    let mut rig = Rig::idle(plain(), 1);
    let ticket = rig.request(Want::Fresh);
    assert_eq!(rig.granted(ticket), None);
    let other = rig.request(Want::Any);
    assert_eq!(rig.granted(other), Some((SessionSeq(1), How::Reused)));
    rig.give_back(SessionSeq(1));
    assert_eq!(rig.granted(ticket), None);
    rig.run(secs(1));
    assert_eq!(rig.granted(ticket), Some((SessionSeq(2), How::New)));
}

#[test]
fn who_waits_longest_is_served_first() {
    let mut rig = Rig::new(plain());
    let seq = rig.lease();
    rig.server.dial = None;
    let tickets = [rig.request(Want::Fresh), rig.request(Want::Any), rig.request(Want::Any)];
    rig.give_back(seq);
    assert_eq!(tickets.map(|ticket| rig.granted(ticket).is_some()), [false, true, false]);
}

#[test]
fn each_who_waits_has_a_dial_while_the_server_is_well() {
    let mut rig = Rig::new(plain());
    for _ in 0..3 {
        rig.request(Want::Any);
    }
    assert_eq!(happenings(&rig), [Happening::Dial; 3]);
    assert_eq!(rig.pool.dialing_count(), 3);
}

#[test]
fn a_failed_dial_fails_only_who_has_no_other_dial() {
    let mut rig = Rig::new(plain());
    rig.server.works = false;
    let first = rig.request(Want::Any);
    rig.run(ms(50));
    let second = rig.request(Want::Any);
    rig.run(ms(51));
    assert_eq!(rig.failed(first), Some((ms(100), Refusal::Dial)));
    rig.server.works = true;
    rig.run(secs(1));
    assert_eq!(rig.granted(second), Some((SessionSeq(1), How::New)));
}

#[test]
fn requests_to_a_failing_server_share_one_dial_that_keeps_its_distance() {
    let mut rig = Rig::new(plain());
    rig.server.works = false;
    rig.server.dial = Some(ms(0));
    // An app that tries again as soon as it is told of a failure, for an hour.
    for _ in 0..3600 {
        rig.request(Want::Any);
        rig.request(Want::Any);
        assert!(rig.pool.dialing_count() <= 1 || rig.since_start().is_zero());
        rig.run(secs(1));
    }
    let dials = rig.times(is_dial);
    assert!(dials[2] >= ms(500) && dials[2] <= secs(1), "{dials:?}");
    let mut pause = 1; // both first dials were under way before any had failed: one failure
    for pair in dials[2..].windows(2) {
        let gap = pair[1] - pair[0];
        pause = (pause * 2).min(60);
        assert!(gap >= secs(pause) / 2 && gap <= secs(pause + 1), "{gap:?} of {pause} s in {dials:?}");
    }
    assert!((60..130).contains(&dials.len()), "{dials:?}");
}

#[test]
fn pauses_between_failed_dials_differ_from_phone_to_phone() {
    use rand::SeedableRng;
    let pause = |seed| {
        let mut rng = rand::rngs::StdRng::seed_from_u64(seed);
        let mut backoff = Backoff::default();
        let times: Vec<_> = (0..8).map(|minute| START + secs(120 * minute)).collect();
        times.iter().for_each(|&now| backoff.failed(now, &mut rng));
        backoff.next_dial().expect("it failed").since(times[7])
    };
    let pauses: BTreeSet<_> = (0..100).map(pause).collect();
    assert_eq!(pauses.len(), 100);
    let (first, last) = (pauses.first().expect("100"), pauses.last().expect("100"));
    assert!(*first >= secs(30) && *first < secs(33) && *last > secs(57) && *last <= secs(60), "{pauses:?}");
}

#[test]
fn one_dial_at_a_time_serves_all_until_the_server_has_answered() {
    let mut rig = Rig::new(plain());
    rig.server = Server { works: false, answer: None, ..rig.server };
    rig.request(Want::Any);
    rig.run(ms(500));
    let tickets: Vec<_> = (0..5).map(|_| rig.request(Want::Any)).collect();
    assert_eq!(rig.dials(), 1, "the server is left alone");
    rig.server.works = true;
    while rig.pool.leased_count() < 2 {
        rig.run(ms(10));
        assert!(rig.pool.dialing_count() <= 1, "a connection alone proves little");
    }
    assert_eq!((rig.dials(), rig.pool.dialing_count()), (4, 1));
    rig.pool.handle_proven(rig.now);
    rig.carry_out();
    assert_eq!(rig.pool.dialing_count(), 3, "all dial once the server has answered");
    rig.run(ms(100));
    assert!(tickets.iter().all(|&ticket| rig.granted(ticket).is_some()));
}

#[test]
fn a_request_that_would_wait_for_too_long_fails_at_once() {
    let mut rig = Rig::new(plain());
    rig.server = Server { works: false, dial: Some(ms(0)), ..rig.server };
    for _ in 0..6 {
        rig.request(Want::Any);
        let due = rig.pool.retry_at().unwrap_or(rig.now);
        rig.run(due.since(rig.now));
    }
    // Now the pause is between 16 and 32 seconds.
    let due = rig.pool.retry_at().expect("it fails");
    let now = rig.since_start();
    let ticket = rig.request(Want::Any);
    assert_eq!(rig.failed(ticket), Some((now, Refusal::Dial)));
    rig.run(due.since(rig.now) - secs(9));
    let ticket = rig.request(Want::Any);
    assert_eq!(rig.failed(ticket), None);
    rig.run(secs(9));
    assert_eq!(rig.failed(ticket), Some((due.since(START), Refusal::Dial)), "with a dial of its own");
}

#[test]
fn a_hopeless_dial_is_no_reason_to_fail_where_a_session_can_be_shared() {
    let mut rig = Rig::new(PoolOptions { max_sessions: 1, ..plain() });
    let seq = rig.lease();
    let mut rng = <rand::rngs::StdRng as rand::SeedableRng>::seed_from_u64(1);
    (0..8).for_each(|_| rig.pool.backoff.failed(rig.now, &mut rng));
    let ticket = rig.request(Want::Any);
    assert_eq!(rig.granted(ticket), Some((seq, How::Shared)));
}

#[test]
fn a_refused_password_backs_off_like_a_failed_dial() {
    let mut rig = Rig::with_server(plain(), Server { answer: None, ..Server::default() });
    let seq = rig.lease();
    let mut rng = <rand::rngs::StdRng as rand::SeedableRng>::seed_from_u64(1);
    rig.pulses.remove(&seq);
    rig.pool.handle_rejected(seq, rig.now, &mut rng);
    assert_eq!((rig.pool.failures(), rig.pool.counters().closed.rejected), (1, 1));
    rig.request(Want::Any);
    assert_eq!(rig.dials(), 1);
    assert_eq!(rig.pool.poll_timeout(), rig.pool.retry_at());
}

#[test]
fn a_cancelled_request_is_granted_nothing_and_its_dial_is_kept() {
    let mut rig = Rig::new(plain());
    let ticket = rig.request(Want::Any);
    rig.pool.cancel(ticket);
    let again = rig.request(Want::Any);
    assert_eq!(rig.dials(), 1, "the dial under way serves the next");
    rig.pool.cancel(again);
    rig.run(secs(1));
    assert_eq!((rig.granted(ticket), rig.granted(again)), (None, None));
    assert_eq!(rig.pool.idle_count(), 1);
}

#[test]
fn a_cancelled_request_leaves_no_timer() {
    let mut rig = Rig::new(plain());
    rig.server.works = false;
    rig.request(Want::Any);
    rig.run(ms(500));
    let ticket = rig.request(Want::Any);
    assert!(rig.pool.poll_timeout().is_some());
    rig.pool.cancel(ticket);
    assert_eq!(rig.pool.poll_timeout(), None);
}

#[test]
fn a_failed_request_leaves_no_timer() {
    let mut rig = Rig::with_server(plain(), Server { answer: None, ..Server::default() });
    let seq = rig.lease();
    rig.server.works = false;
    rig.request(Want::Any);
    rig.run(ms(500));
    let ticket = rig.request(Want::Any);
    let mut rng = <rand::rngs::StdRng as rand::SeedableRng>::seed_from_u64(1);
    rig.pulses.remove(&seq);
    rig.pool.handle_rejected(seq, rig.now, &mut rng);
    rig.carry_out();
    assert!(rig.failed(ticket).is_some());
    assert_eq!(rig.pool.poll_timeout(), None);
}

#[test]
fn without_reuse_a_session_closes_when_its_stream_ends() {
    let mut rig = Rig::new(PoolOptions { reuse: false, ..plain() });
    let seq = rig.lease();
    rig.give_back(seq);
    assert_eq!(rig.closed(CloseReason::NoReuse), [1]);
    let ticket = rig.request(Want::Any);
    rig.run(secs(1));
    assert_eq!(rig.granted(ticket), Some((SessionSeq(2), How::New)));
}

#[test]
fn without_reuse_sessions_dialled_ahead_still_serve() {
    let mut rig = Rig::new(PoolOptions { reuse: false, ensure_idle_session: 2, ..plain() });
    rig.run(secs(1));
    let ticket = rig.request(Want::Any);
    assert_eq!(rig.granted(ticket), Some((SessionSeq(2), How::New)));
    rig.give_back(SessionSeq(2));
    rig.run(secs(31));
    assert_eq!((rig.pool.idle_count(), rig.dials()), (2, 3));
}

#[test]
fn a_black_holed_server_is_dialled_no_more_than_there_are_requests_and_closing_ends_the_dials() {
    let black_hole = Server { dial: None, ..Server::default() };
    let mut rig = Rig::with_server(PoolOptions { ensure_idle_session: 3, ..plain() }, black_hole);
    for round in 1..=50 {
        let ticket = rig.request(Want::Any);
        rig.run(secs(60));
        assert_eq!(rig.pool.dialing_count(), 4, "round {round}");
        rig.pool.cancel(ticket);
    }
    rig.pool.close();
    rig.carry_out();
    assert_eq!(rig.log.last().map(|(_, seen)| *seen), Some(Seen::Did(Happening::CancelDials)));
    assert_eq!((rig.pool.dialing_count(), rig.pool.poll_timeout()), (0, None));
}

#[test]
fn dials_that_time_out_have_one_successor_at_a_time() {
    let timeout = Server { dial: Some(secs(10)), works: false, ..Server::default() };
    let mut rig = Rig::with_server(PoolOptions { ensure_idle_session: 3, ..plain() }, timeout);
    rig.run(secs(11));
    assert_eq!((rig.dials(), rig.pool.failures()), (3, 1));
    for _ in 0..3600 {
        rig.run(secs(1));
        assert!(rig.pool.dialing_count() <= 1);
    }
    assert!((30..=60).contains(&(rig.dials() - 3)), "about one a minute: {}", rig.dials());
}

#[test]
fn a_closed_pool_fails_requests_and_keeps_nothing() {
    let mut rig = Rig::idle(plain(), 3);
    let busy = rig.lease();
    let waiting = rig.request(Want::Fresh);
    rig.forget_log();
    rig.pool.close();
    rig.carry_out();
    assert!(rig.failed(waiting).is_some_and(|(_, why)| why == Refusal::Closed));
    assert_eq!(rig.closed(CloseReason::Shutdown), [1, 2]);
    rig.give_back(busy);
    assert_eq!(rig.closed(CloseReason::Shutdown), [1, 2, 3]);
    let late = rig.request(Want::Any);
    assert!(rig.failed(late).is_some_and(|(_, why)| why == Refusal::Closed));
    rig.run(secs(10_000));
    assert_eq!((rig.pool.idle_count(), rig.pool.leased_count(), rig.pool.poll_timeout()), (0, 0, None));
    assert_eq!(rig.wakes(), 0);
}

#[test]
fn a_dial_that_ends_after_closing_is_not_wanted() {
    let mut rig = Rig::new(plain());
    rig.request(Want::Any);
    rig.pool.close();
    let mut rng = <rand::rngs::StdRng as rand::SeedableRng>::seed_from_u64(1);
    let pulse = Arc::new(Pulse::new(START));
    assert_eq!(rig.pool.handle_dialed(DialId(1), pulse, ms(50), rig.now, &mut rng), None);
    assert_eq!(rig.pool.idle_count(), 0);
}

#[test]
fn the_first_failure_is_not_shared_by_who_came_after_its_dial_began() {
    use rand::SeedableRng;
    let mut rng = rand::rngs::StdRng::seed_from_u64(1);
    let mut pool = Pool::new(PoolOptions { ensure_idle_session: 1, ..plain() }, START);
    let Some(Action::Dial(ahead)) = pool.poll_action() else { panic!("one is dialled ahead") };
    let now = START + ms(10);
    let ticket = pool.request(Want::Any, now);
    assert_eq!(pool.poll_action(), None, "the one under way will do");
    pool.handle_dial_failed(ahead, now, &mut rng);
    assert_eq!(pool.poll_action(), None, "it may have hit the server's restart");
    let due = pool.poll_timeout().expect("there is another try");
    assert!(due > now && due <= now + secs(1));
    pool.handle_timeout(due);
    let Some(Action::Dial(dial)) = pool.poll_action() else { panic!("the next dial") };
    pool.handle_dial_failed(dial, due, &mut rng);
    assert_eq!(pool.poll_action(), Some(Action::Fail { ticket, why: Refusal::Dial }));
}
