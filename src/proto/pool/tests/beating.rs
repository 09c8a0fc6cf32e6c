//! Heartbeats: in bursts, only where silence makes them necessary, and what is learned from them.

use super::*;

fn beating(interval: u64) -> PoolOptions {
    PoolOptions { heartbeat: every(interval), idle_session_timeout: secs(0), ..plain() }
}

/// `idle` sessions that are idle and `leased` that carry a stream, made over some seconds.
fn rig(options: PoolOptions, idle: usize, leased: usize) -> Rig {
    let mut rig = Rig::idle(options, idle + leased);
    for _ in 0..leased {
        rig.lease();
    }
    rig.forget_log();
    rig
}

#[test]
fn ten_sessions_made_out_of_phase_beat_in_one_burst_an_interval() {
    let mut rig = rig(beating(30), 5, 5);
    let before = rig.pool.counters().bursts;
    rig.run(secs(600));
    let bursts = rig.bursts();
    assert!((19..=21).contains(&bursts.len()), "{bursts:?}");
    assert_eq!(rig.pool.counters().bursts - before, bursts.len() as u64); // lossless
    // The first takes along who is past half of its interval, the second all.
    assert!(bursts[1].0 - bursts[0].0 >= secs(15), "{bursts:?}");
    for pair in bursts[1..].windows(2) {
        assert!(pair[1].0 - pair[0].0 >= secs(30), "{bursts:?}");
        assert_eq!(pair[1].1, (1..=10).collect::<Vec<_>>());
    }
    assert_eq!(rig.wakes(), bursts.len(), "and nothing else wakes the phone");
}

#[test]
fn no_session_is_silent_for_longer_than_its_interval() {
    let mut rig = rig(beating(30), 10, 0);
    for _ in 0..600 {
        rig.run(secs(1));
        let heard = rig.pulses.values().map(|pulse| rig.now.since(pulse.heard())).max();
        assert!(heard <= Some(secs(31)), "{heard:?}");
    }
}

#[test]
fn a_session_past_half_of_its_interval_joins_the_burst_and_one_before_does_not() {
    for (later, joins) in [(14, true), (16, false)] {
        let mut rig = Rig::idle(beating(30), 2);
        rig.run(secs(100));
        rig.run(rig.pool.poll_timeout().expect("they beat").since(rig.now) - secs(1));
        rig.hear(SessionSeq(1));
        rig.run(secs(later));
        rig.hear(SessionSeq(2));
        rig.forget_log();
        rig.run(secs(31) - secs(later));
        let bursts = rig.bursts();
        assert_eq!(bursts[0].1, if joins { vec![1, 2] } else { vec![1] }, "{later}: {bursts:?}");
    }
}

#[test]
fn traffic_counts_as_a_beat() {
    let mut rig = rig(beating(30), 0, 3);
    for _ in 0..600 {
        for seq in 1..=3 {
            rig.hear(SessionSeq(seq));
        }
        rig.run(secs(1));
    }
    assert_eq!(rig.bursts(), []);
    rig.run(secs(31));
    assert_eq!(rig.bursts().len(), 1);
}

#[test]
fn a_session_that_is_not_read_is_not_asked_and_costs_no_burst() {
    let mut rig = rig(beating(30), 1, 1);
    rig.pulses[&SessionSeq(2)].set_read(false);
    rig.run(secs(300));
    assert!(rig.bursts().iter().all(|burst| burst.1 == [1]), "{:?}", rig.bursts());
    let bursts = rig.pool.counters().bursts;
    rig.lose(SessionSeq(1), SessionError::EndedByPeer);
    rig.run(secs(300));
    assert_eq!(rig.pool.counters().bursts, bursts);
}

#[test]
fn sessions_of_version_1_cause_no_timer() {
    let mut rig = rig(beating(30), 2, 1);
    for pulse in rig.pulses.values() {
        pulse.set_answers(false);
    }
    assert_eq!(rig.pool.poll_timeout(), None);
    rig.run(secs(3600));
    assert_eq!((rig.wakes(), rig.bursts().len()), (0, 0));
}

#[test]
fn nobody_beats_in_doze_asleep_offline_or_switched_off() {
    type Change = fn(&mut Rig);
    let quiet: [(&str, Change); 5] = [
        ("doze", |rig| rig.set_power(Power::Doze)),
        ("asleep", |rig| rig.set_power(Power::Sleeping)),
        ("offline", |rig| rig.set(|conditions| conditions.is_online = false)),
        ("off", |rig| rig.pool.set_options(PoolOptions { heartbeat: Heartbeat::Off, ..beating(1) }, rig.now)),
        ("closed", |rig| rig.pool.close()),
    ];
    for (name, make_quiet) in quiet {
        let mut rig = rig(beating(30), 2, 2);
        make_quiet(&mut rig);
        rig.carry_out();
        rig.run(secs(3600));
        assert_eq!((rig.bursts().len(), rig.wakes()), (0, 0), "{name}");
    }
}

#[test]
fn in_the_background_only_sessions_with_streams_beat_and_at_its_own_interval() {
    let background = |interval| PoolOptions { heartbeat_background: interval, ..beating(30) };
    for (interval, bursts) in [(None, 120), (Some(secs(270)), 13), (Some(secs(0)), 0)] {
        let mut rig = rig(background(interval), 3, 2);
        rig.set_power(Power::Background);
        rig.run(secs(3600));
        let seen = rig.bursts();
        assert!(seen.len().abs_diff(bursts) <= 1, "{interval:?}: {}", seen.len());
        assert!(seen.iter().all(|burst| burst.1 == [4, 5]), "{interval:?}: {seen:?}");
    }
}

#[test]
fn in_the_background_what_is_ensured_there_beats_too() {
    let options = PoolOptions {
        ensure_idle_session_background: Some(2),
        heartbeat_background: Some(secs(270)),
        ..beating(30)
    };
    let mut rig = rig(options, 4, 0);
    rig.set_power(Power::Background);
    rig.run(secs(600));
    assert!(rig.bursts().iter().all(|burst| burst.1 == [3, 4]), "{:?}", rig.bursts());
    assert_eq!(rig.bursts().len(), 2);
}

#[test]
fn the_background_may_beat_where_nothing_else_does() {
    let options =
        PoolOptions { heartbeat: Heartbeat::Off, heartbeat_background: Some(secs(270)), ..beating(1) };
    let mut rig = rig(options, 0, 1);
    rig.run(secs(600));
    assert_eq!(rig.bursts().len(), 0);
    rig.set_power(Power::Background);
    rig.run(secs(600));
    assert!(rig.bursts().len() >= 2);
}

#[test]
fn ten_minutes_of_suspend_cost_one_wake_up_one_burst_and_no_session() {
    let mobile = PoolOptions::default();
    let mut rig = Rig::new(mobile);
    rig.run(secs(45));
    let seq = rig.lease();
    rig.run(secs(50));
    rig.forget_log();
    rig.sleep(secs(600));
    assert_eq!((rig.wakes(), rig.bursts().len()), (1, 1), "{:?}", rig.log);
    rig.run(secs(20));
    assert_eq!((rig.wakes(), rig.bursts().len()), (1, 1), "{:?}", rig.log);
    assert_eq!(rig.pool.counters().closed.total(), 0);
    assert_eq!((rig.pool.idle_count(), rig.pool.leased_count()), (2, 1));
    rig.give_back(seq);
}

#[test]
fn waking_up_checks_once_however_long_the_phone_was_in_doze() {
    let options = PoolOptions { ensure_idle_session: 2, idle_session_timeout: secs(60), ..beating(30) };
    let mut rig = rig(options, 5, 1);
    rig.set_power(Power::Doze);
    rig.run(secs(8 * 3600 + 7));
    assert_eq!(rig.wakes(), 0);
    rig.set_power(Power::Interactive);
    rig.run(secs(60));
    assert!(rig.wakes() <= 4, "{:?}", rig.log);
    let bursts = rig.bursts();
    assert!(bursts[0].0 < rig.since_start() - secs(59), "at once");
    assert!(bursts.len() <= 3, "{bursts:?}");
    assert_eq!(rig.pool.idle_count(), 2, "the surplus went at the first check");
}

#[test]
fn coming_and_going_power_costs_no_beats() {
    let mut rig = rig(PoolOptions { heartbeat_background: Some(secs(270)), ..beating(30) }, 2, 2);
    rig.run(secs(31));
    rig.forget_log();
    for _ in 0..100 {
        rig.set_power(Power::Background);
        rig.run(ms(50));
        rig.set_power(Power::Interactive);
        rig.run(ms(50));
    }
    assert_eq!(rig.bursts().len(), 0);
}

fn auto() -> PoolOptions {
    PoolOptions { heartbeat: Heartbeat::Auto, ensure_idle_session: 1, ..beating(1) }
}

fn interval(rig: &Rig) -> u64 {
    rig.pool.heartbeat_interval().expect("on").as_secs()
}

#[test]
fn a_learned_interval_grows_with_every_third_answer_and_settles() {
    let mut rig = Rig::new(auto());
    rig.run(secs(10));
    let mut seen = vec![interval(&rig)];
    for _ in 0..40_000 {
        rig.run(secs(1));
        if seen.last() != Some(&interval(&rig)) {
            seen.push(interval(&rig));
        }
    }
    let mut expected: Vec<_> = (120..=900).step_by(60).collect();
    expected.push(880);
    assert_eq!(seen, expected);
    let first = rig.bursts();
    assert_eq!(
        first[3].0.as_secs() - first[2].0.as_secs(),
        120,
        "the third answer is seen with the fourth beat"
    );
    assert_eq!(first[4].0.as_secs() - first[3].0.as_secs(), 180);
}

/// The server's network forgets connections that are silent for `limit`.
fn run_behind_nat(rig: &mut Rig, limit: Duration, span: u64) {
    for _ in 0..span {
        let silent = rig.pulses.values().all(|pulse| rig.now.since(pulse.heard()) + secs(1) >= limit);
        rig.server.answer = (!silent).then_some(ms(50));
        let asked = rig.bursts().len();
        rig.run(secs(1));
        if rig.server.answer.is_none() && rig.bursts().len() > asked {
            rig.server.answer = Some(ms(50));
            let dead: Vec<_> = rig.pulses.keys().copied().collect();
            dead.into_iter().for_each(|seq| rig.lose(seq, SessionError::NoAnswer));
            rig.run(secs(1));
            rig.pool.handle_proven(rig.now); // the dial that follows is answered
        }
    }
}

#[test]
fn a_learned_interval_stays_below_what_the_network_forgets() {
    for limit in [200, 310, 500] {
        let mut rig = Rig::new(auto());
        run_behind_nat(&mut rig, secs(limit), 20_000);
        let settled = interval(&rig);
        assert!(settled < limit && settled + 85 >= limit, "{settled} under {limit}");
        let losses = rig.pool.counters().closed.no_answer;
        assert_eq!(losses, 1, "under {limit}: one session was the price");
    }
}

#[test]
fn each_network_has_its_own_interval() {
    let mut rig = Rig::new(auto());
    rig.change_path("home");
    rig.run(secs(700));
    let home = interval(&rig);
    assert!(home > 120);
    rig.change_path("train");
    assert_eq!(interval(&rig), 120);
    rig.change_path("home");
    assert_eq!(interval(&rig), home);
}

#[test]
fn sessions_left_behind_on_another_network_say_nothing_of_its_interval() {
    for lasted in [6, 130] {
        let mut rig = Rig::new(auto());
        let seq = rig.lease();
        rig.run(secs(300));
        rig.server.answer = None;
        rig.change_path("train");
        rig.run(secs(lasted));
        rig.lose(seq, SessionError::NoAnswer);
        rig.run(secs(1));
        rig.pool.handle_proven(rig.now);
        assert_eq!(interval(&rig), 120, "after {lasted} s");
    }
}

#[test]
fn a_session_that_dies_amid_traffic_or_after_a_long_sleep_says_nothing_of_the_interval() {
    let mut busy = Rig::new(auto());
    let seq = busy.lease();
    busy.run(secs(200));
    busy.hear(seq);
    busy.lose(seq, SessionError::NoAnswer); // a stream was not answered
    busy.pool.handle_proven(busy.now);
    assert!(interval(&busy) >= 120);

    let mut asleep = Rig::new(auto());
    asleep.run(secs(10));
    asleep.server.answer = None;
    asleep.set_power(Power::Doze);
    asleep.sleep(secs(3600));
    asleep.set_power(Power::Interactive);
    asleep.sleep(secs(0));
    asleep.lose(SessionSeq(1), SessionError::NoAnswer);
    asleep.pool.handle_proven(asleep.now);
    assert_eq!(interval(&asleep), 120);
}

#[test]
fn answers_at_a_shorter_background_interval_prove_nothing_of_the_longer() {
    let options = PoolOptions { heartbeat_background: Some(secs(30)), ..auto() };
    let mut rig = Rig::new(options);
    rig.lease();
    rig.set_power(Power::Background);
    rig.run(secs(3600));
    rig.set_power(Power::Interactive);
    assert_eq!(interval(&rig), 120);
}
