//! More streams than there may be sessions.

use super::rig::How;
use super::*;

fn at_most(max_sessions: usize) -> PoolOptions {
    PoolOptions { max_sessions, ..plain() }
}

#[test]
fn streams_beyond_the_limit_share_the_least_loaded_session() {
    let mut rig = Rig::new(at_most(3));
    for _ in 0..3 {
        rig.lease();
    }
    let mut load = BTreeMap::new();
    for _ in 0..9 {
        let ticket = rig.request(Want::Any);
        let (seq, how) = rig.granted(ticket).expect("at once");
        assert_eq!(how, How::Shared);
        *load.entry(seq.0).or_insert(0) += 1;
    }
    assert_eq!(load, BTreeMap::from([(1, 3), (2, 3), (3, 3)]));
    assert_eq!((rig.dials(), rig.pool.counters().shared, rig.pool.leased_count()), (3, 9, 3));
    for _ in 0..3 {
        rig.give_back(SessionSeq(2));
    }
    let ticket = rig.request(Want::Any);
    assert_eq!(rig.granted(ticket), Some((SessionSeq(2), How::Shared)));
}

#[test]
fn a_shared_session_is_idle_only_when_its_last_stream_has_ended() {
    let mut rig = Rig::new(at_most(1));
    let seq = rig.lease();
    let other = rig.request(Want::Any);
    assert_eq!(rig.granted(other), Some((seq, How::Shared)));
    rig.give_back(seq);
    assert_eq!((rig.pool.idle_count(), rig.pool.leased_count()), (0, 1));
    rig.give_back(seq);
    assert_eq!((rig.pool.idle_count(), rig.pool.leased_count()), (1, 0));
    rig.give_back(seq);
    assert_eq!((rig.pool.idle_count(), rig.pool.leased_count()), (1, 0), "once more is no news");
}

#[test]
fn a_session_that_is_not_read_is_shared_last() {
    let mut rig = Rig::new(at_most(2));
    let (one, two) = (rig.lease(), rig.lease());
    rig.pulses[&one].set_read(false);
    for _ in 0..3 {
        let ticket = rig.request(Want::Any);
        assert_eq!(rig.granted(ticket), Some((two, How::Shared)));
    }
    rig.pulses[&two].set_read(false);
    let ticket = rig.request(Want::Any);
    assert_eq!(rig.granted(ticket), Some((one, How::Shared)), "but rather than nothing");
}

#[test]
fn those_whose_dials_are_under_way_do_not_share() {
    let mut rig = Rig::new(at_most(2));
    let first = rig.lease();
    let second = rig.request(Want::Any);
    let third = rig.request(Want::Any);
    assert_eq!(rig.granted(second), Some((first, How::Shared)), "there are more than there are dials");
    assert_eq!(rig.granted(third), None);
    rig.run(secs(1));
    assert_eq!(rig.granted(third), Some((SessionSeq(2), How::New)));
}

#[test]
fn nobody_shares_while_there_is_room_or_without_a_limit() {
    for max_sessions in [0, 50] {
        let mut rig = Rig::new(at_most(max_sessions));
        for _ in 0..50 {
            rig.lease();
        }
        assert_eq!((rig.dials(), rig.pool.counters().shared), (50, 0));
    }
}

#[test]
fn a_server_that_refuses_to_share_is_not_asked_again_and_who_waits_fails_as_busy() {
    let mut rig = Rig::new(at_most(2));
    let (one, _) = (rig.lease(), rig.lease());
    rig.pool.handle_refused_sharing();
    let tickets = [rig.request(Want::Any), rig.request(Want::Any)];
    let asked = rig.since_start();
    rig.run(secs(9));
    rig.give_back(one);
    assert_eq!(rig.granted(tickets[0]), Some((one, How::Reused)));
    rig.run(secs(1));
    assert_eq!(rig.failed(tickets[1]), Some((asked + secs(10), Refusal::Busy)));
    rig.run(secs(3_600));
    rig.change_path("train");
    assert_eq!((rig.pool.counters().shared, rig.wakes()), (0, 1));
}

#[test]
fn one_stream_finds_out_whether_the_server_shares_while_the_others_wait() {
    let mut rig = Rig::with_server(at_most(1), Server { shares: false, ..Server::default() });
    let seq = rig.lease();
    let tickets = [rig.request(Want::Any), rig.request(Want::Any), rig.request(Want::Any)];
    assert_eq!(tickets.map(|ticket| rig.granted(ticket).is_some()), [true, false, false]);
    rig.pool.handle_unclear_sharing(rig.now);
    rig.carry_out();
    assert_eq!(tickets.map(|ticket| rig.granted(ticket).is_some()), [true, true, false]);
    rig.run(ms(999));
    assert_eq!(rig.granted(tickets[2]), None);
    rig.run(ms(1));
    assert_eq!(rig.granted(tickets[2]), Some((seq, How::Shared)), "an answer took too long");
    let late = [rig.request(Want::Any), rig.request(Want::Any)];
    assert_eq!(late.map(|ticket| rig.granted(ticket)), [None; 2]);
    rig.pool.handle_shared(rig.now);
    rig.carry_out();
    assert_eq!(late.map(|ticket| rig.granted(ticket)), [Some((seq, How::Shared)); 2]);
}

#[test]
fn who_wants_to_be_alone_waits_for_a_session_and_fails_as_busy() {
    let mut rig = Rig::new(at_most(1));
    let seq = rig.lease();
    let alone = rig.request(Want::Alone);
    let late = rig.request(Want::Alone);
    let any = rig.request(Want::Any);
    assert_eq!(rig.granted(any), Some((seq, How::Shared)));
    let asked = rig.since_start();
    rig.run(secs(5));
    rig.give_back(seq);
    assert_eq!(rig.granted(alone), None, "another stream is on it");
    rig.give_back(seq);
    assert_eq!(rig.granted(alone), Some((seq, How::Reused)));
    rig.run(secs(5));
    assert_eq!(rig.failed(late), Some((asked + secs(10), Refusal::Busy)));
}

#[test]
fn a_request_for_a_fresh_session_at_the_limit_takes_the_place_of_the_oldest_idle_one() {
    let mut rig = Rig::idle(at_most(3), 3);
    let ticket = rig.request(Want::Fresh);
    assert_eq!(rig.closed(CloseReason::MakeRoom), [1]);
    rig.run(secs(1));
    assert_eq!(rig.granted(ticket), Some((SessionSeq(4), How::New)));
    assert_eq!((rig.pool.idle_count(), rig.pool.counters().closed.memory), (2, 1));
}

#[test]
fn a_request_for_a_fresh_session_waits_where_all_serve_others() {
    let mut rig = Rig::new(at_most(1));
    let seq = rig.lease();
    let ticket = rig.request(Want::Fresh);
    rig.run(secs(5));
    rig.give_back(seq);
    assert_eq!(rig.closed(CloseReason::MakeRoom), [1], "its place is free now");
    rig.run(secs(1));
    assert_eq!(rig.granted(ticket), Some((SessionSeq(2), How::New)));
}

#[test]
fn a_lower_limit_closes_nothing_that_serves() {
    let mut rig = Rig::new(at_most(5));
    for _ in 0..5 {
        rig.lease();
    }
    rig.pool.set_options(at_most(2), rig.now);
    let ticket = rig.request(Want::Any);
    assert!(matches!(rig.granted(ticket), Some((_, How::Shared))));
    assert_eq!((rig.pool.leased_count(), rig.pool.counters().closed.total()), (5, 0));
}

#[test]
fn rotation_dials_nothing_while_there_are_more_sessions_than_a_lowered_limit_allows() {
    let options = PoolOptions {
        ensure_idle_session: 2,
        max_connection_lifetime: secs(600),
        idle_session_timeout: secs(0),
        ..at_most(4)
    };
    let mut rig = Rig::idle(options.clone(), 0);
    rig.run(secs(1));
    let leased = [rig.lease(), rig.lease()];
    rig.run(secs(35));
    rig.pool.set_options(PoolOptions { max_sessions: 2, ..options }, rig.now);
    rig.run(secs(3_600));
    assert_eq!((rig.dials(), rig.pool.idle_count(), rig.pool.leased_count()), (4, 0, 2));
    rig.give_back(leased[0]);
    assert_eq!(rig.pool.leased_count(), 1);
}

#[test]
fn sessions_left_behind_on_another_network_are_not_shared_and_not_in_the_way() {
    let mut rig = Rig::new(at_most(1));
    rig.lease();
    rig.change_path("train");
    let fresh = rig.lease();
    let ticket = rig.request(Want::Any);
    assert_eq!(rig.granted(ticket), Some((fresh, How::Shared)));
}

#[test]
fn an_idle_session_that_has_to_show_its_life_is_preferred_to_a_share() {
    let mut rig = Rig::idle(PoolOptions { heartbeat: every(30), max_sessions: 2, ..plain() }, 2);
    let leased = rig.lease();
    rig.set_power(Power::Doze);
    rig.run(secs(60));
    rig.hear(leased);
    let ticket = rig.request(Want::Any);
    assert_eq!(rig.granted(ticket), None);
    rig.run(ms(60));
    assert_eq!(rig.granted(ticket), Some((SessionSeq(1), How::Reused)));
}
