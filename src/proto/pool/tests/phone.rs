//! What the phone does: another network, none, little memory.

use super::rig::{Happening, How};
use super::*;

fn ensuring(count: usize) -> PoolOptions {
    PoolOptions { ensure_idle_session: count, heartbeat: every(30), ..plain() }
}

fn go_offline(rig: &mut Rig) {
    rig.set(|conditions| conditions.is_online = false);
}

fn come_online(rig: &mut Rig) {
    rig.set(|conditions| conditions.is_online = true);
}

#[test]
fn on_another_network_idle_sessions_close_and_those_that_serve_are_asked_and_close_on_return() {
    let mut rig = Rig::new(ensuring(2));
    rig.run(secs(1));
    let seq = rig.lease();
    rig.run(secs(40));
    rig.forget_log();
    rig.change_path("train");
    assert_eq!(rig.closed(CloseReason::PathChange), [1, 3]);
    assert_eq!(rig.probes(), [(rig.since_start(), vec![seq.0])]);
    assert_eq!(rig.dials(), 2, "what is ensured is dialled on the new path at once");
    rig.run(secs(5));
    rig.give_back(seq);
    assert_eq!(rig.closed(CloseReason::PathChange), [1, 3, seq.0]);
    assert_eq!(rig.pool.counters().closed.path_change, 3);
}

#[test]
fn on_another_network_dials_start_anew_for_those_who_wait() {
    let mut rig = Rig::with_server(ensuring(1), Server { dial: Some(secs(5)), ..Server::default() });
    let ticket = rig.request(Want::Any);
    rig.run(secs(4));
    rig.change_path("train");
    let tail: Vec<_> = rig.log.iter().map(|(_, seen)| *seen).rev().take(3).collect();
    let dial = Seen::Did(Happening::Dial);
    assert_eq!(tail, [dial, dial, Seen::Did(Happening::CancelDials)]);
    assert_eq!(rig.pool.dialing_count(), 2);
    rig.run(secs(4));
    assert_eq!(rig.granted(ticket), None);
    rig.run(secs(1));
    assert!(rig.granted(ticket).is_some());
}

#[test]
fn the_dials_on_another_network_are_not_held_back_by_those_on_the_last() {
    let options = PoolOptions { ensure_idle_session_create_rate: 2, ..ensuring(2) };
    for lived in [0, 10, 3_605] {
        let mut rig = Rig::new(options.clone());
        rig.run(secs(lived));
        let dials = rig.dials();
        rig.change_path("train");
        assert_eq!(rig.dials() - dials, 2, "after {lived} s");
        rig.run(secs(1));
        go_offline(&mut rig);
        come_online(&mut rig);
        assert_eq!(rig.dials() - dials, 2, "after {lived} s");
    }
}

#[test]
fn another_network_gives_a_failing_server_a_new_chance_at_once() {
    let mut rig = Rig::new(plain());
    rig.server = Server { works: false, dial: Some(ms(0)), ..rig.server };
    for _ in 0..5 {
        rig.request(Want::Any);
        let due = rig.pool.retry_at().unwrap_or(rig.now);
        rig.run(due.since(rig.now));
    }
    rig.run(secs(6));
    rig.server.works = true;
    rig.change_path("train");
    let ticket = rig.request(Want::Any);
    rig.run(ms(1));
    assert_eq!(rig.granted(ticket), Some((SessionSeq(1), How::New)));
}

#[test]
fn without_a_network_nothing_is_dialled_and_nothing_wakes_the_phone() {
    let options =
        PoolOptions { max_connection_lifetime: secs(600), idle_session_timeout: secs(60), ..ensuring(3) };
    let mut rig = Rig::with_server(options, Server { dial: Some(secs(2)), ..Server::default() });
    rig.run(secs(1));
    go_offline(&mut rig);
    assert_eq!((rig.pool.dialing_count(), rig.pool.poll_timeout()), (0, None));
    come_online(&mut rig);
    rig.run(secs(5));
    let leased = rig.lease();
    rig.run(secs(5));
    go_offline(&mut rig);
    rig.forget_log();
    rig.run(secs(3_600));
    rig.give_back(leased);
    rig.run(secs(3_600));
    assert_eq!((rig.dials(), rig.wakes(), rig.bursts().len(), rig.probes().len()), (0, 0, 0, 0));
}

#[test]
fn without_a_network_requests_fail_as_offline_after_ten_seconds() {
    let mut rig = Rig::idle(plain(), 1);
    go_offline(&mut rig);
    rig.forget_log();
    let asked = rig.since_start();
    let first = rig.request(Want::Any);
    rig.run(secs(3));
    let second = rig.request(Want::Fresh);
    assert_eq!(rig.pool.poll_timeout(), Some(START + asked + secs(10)), "only those who wait have a timer");
    rig.run(secs(30));
    assert_eq!(rig.failed(first), Some((asked + secs(10), Refusal::Offline)));
    assert_eq!(rig.failed(second), Some((asked + secs(13), Refusal::Offline)));
    assert_eq!((rig.wakes(), rig.dials()), (2, 0));
}

#[test]
fn without_a_network_no_session_is_granted_that_comes_back() {
    let mut rig = Rig::new(plain());
    let seq = rig.lease();
    go_offline(&mut rig);
    let ticket = rig.request(Want::Any);
    rig.give_back(seq);
    assert_eq!(rig.granted(ticket), None);
    come_online(&mut rig);
    rig.run(ms(50));
    assert_eq!(rig.granted(ticket), Some((seq, How::Reused)), "but once it has shown that it lives");
}

#[test]
fn back_on_the_network_all_sessions_are_asked_and_who_waits_is_served_at_once() {
    let mut rig = Rig::new(PoolOptions { ensure_idle_session: 0, ..ensuring(0) });
    let (one, two) = (rig.lease(), rig.lease());
    rig.give_back(one);
    go_offline(&mut rig);
    let tickets = [rig.request(Want::Any), rig.request(Want::Fresh)];
    rig.run(secs(8));
    rig.forget_log();
    come_online(&mut rig);
    let asked: BTreeSet<_> = rig.probes().into_iter().flat_map(|(_, seqs)| seqs).collect();
    assert_eq!(asked, BTreeSet::from([one.0, two.0]));
    assert_eq!(rig.dials(), 1);
    rig.run(secs(1));
    assert_eq!(rig.granted(tickets[0]), Some((one, How::Reused)));
    assert_eq!(rig.granted(tickets[1]), Some((SessionSeq(3), How::New)));
}

#[test]
fn a_network_that_comes_and_goes_leaves_no_dial_behind() {
    let mut rig = Rig::with_server(ensuring(2), Server { dial: Some(secs(1)), ..Server::default() });
    for _ in 0..50 {
        rig.run(ms(500));
        go_offline(&mut rig);
        assert_eq!(rig.pool.dialing_count(), 0);
        rig.run(ms(500));
        come_online(&mut rig);
        assert_eq!(rig.pool.dialing_count(), 2);
    }
    rig.run(secs(2));
    assert_eq!((rig.pool.idle_count(), rig.pool.dialing_count()), (2, 0));
}

#[test]
fn a_path_change_without_a_network_asks_nobody_before_there_is_one() {
    let mut rig = Rig::new(plain());
    let seq = rig.lease();
    go_offline(&mut rig);
    rig.forget_log();
    rig.change_path("train");
    assert_eq!((rig.probes(), rig.dials()), (vec![], 0));
    come_online(&mut rig);
    assert_eq!(rig.probes(), [(rig.since_start(), vec![seq.0])]);
}

#[test]
fn sessions_past_their_lifetime_survive_a_moment_without_a_network() {
    let mut rig = Rig::new(PoolOptions {
        max_connection_lifetime: secs(600),
        idle_session_timeout: secs(0),
        ..ensuring(2)
    });
    rig.run(secs(1));
    rig.server.works = false;
    rig.run(secs(700));
    go_offline(&mut rig);
    rig.run(ms(500));
    come_online(&mut rig);
    assert_eq!(rig.pool.idle_count(), 2, "nothing has taken their place yet");
}

#[test]
fn when_memory_is_short_nothing_is_kept_for_later() {
    let mut rig = Rig::new(ensuring(3));
    rig.run(secs(1));
    let seq = rig.lease();
    rig.set(|conditions| conditions.is_memory_short = true);
    assert_eq!(rig.closed(CloseReason::Memory), [1, 2]);
    rig.run(secs(100));
    assert_eq!((rig.pool.idle_count(), rig.dials()), (0, 3));
    rig.give_back(seq);
    assert_eq!(rig.closed(CloseReason::Memory), [1, 2, 3]);
    let ticket = rig.request(Want::Any);
    rig.run(secs(1));
    assert!(rig.granted(ticket).is_some(), "but who asks is served");
    rig.set(|conditions| conditions.is_memory_short = false);
    assert_eq!(rig.dials(), 7);
}

#[test]
fn a_session_dialled_for_nobody_is_not_kept_when_memory_is_short() {
    let mut rig = Rig::with_server(ensuring(2), Server { dial: Some(secs(1)), ..Server::default() });
    rig.set(|conditions| conditions.is_memory_short = true);
    rig.run(secs(2));
    assert_eq!((rig.pool.idle_count(), rig.closed(CloseReason::Memory)), (0, vec![1, 2]));

    let mut rig = Rig::idle(PoolOptions { max_sessions: 2, ..plain() }, 1);
    let seq = rig.lease();
    rig.set(|conditions| conditions.is_memory_short = true);
    rig.request(Want::Fresh);
    rig.give_back(seq);
    assert_eq!(rig.closed(CloseReason::Memory), [1], "who waits does not want it");
}
