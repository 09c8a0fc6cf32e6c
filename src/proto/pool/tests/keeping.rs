//! Which idle sessions are kept: the idle timeout, `min`, `ensure` and its rate, and how they act together.

use super::rig::Happening;
use super::*;

/// What is done to a pool, line by line.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// So many sessions are leased.
    Lease(usize),
    /// All that are leased come back.
    Return,
    /// So many seconds pass.
    Wait(u64),
}
use Step::{Lease, Return, Wait};

/// What has become of it.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    idle: usize,
    leased: usize,
    dials: usize,
    timed_out: u64,
    aged: u64,
}

/// A name, options, steps, and what becomes of it: idle, leased, dials, timed out, aged.
type Case<'a> = (&'a str, PoolOptions, &'a [Step], (usize, usize, usize, u64, u64));

fn outcome(options: PoolOptions, steps: &[Step]) -> Outcome {
    let mut rig = Rig::new(options);
    let mut leased = Vec::new();
    for step in steps {
        match *step {
            Lease(count) => leased.extend((0..count).map(|_| rig.lease())),
            Return => leased.drain(..).for_each(|seq| rig.give_back(seq)),
            Wait(span) => rig.run(secs(span)),
        }
    }
    let closed = rig.pool.counters().closed;
    assert_eq!(closed.total(), closed.idle_timeout + closed.age, "nothing else closes any");
    Outcome {
        idle: rig.pool.idle_count(),
        leased: rig.pool.leased_count(),
        dials: rig.dials(),
        timed_out: closed.idle_timeout,
        aged: closed.age,
    }
}

/// An idle timeout of 60 s, checked every 30.
fn quick() -> PoolOptions {
    PoolOptions { idle_session_timeout: secs(60), ..plain() }
}

#[test]
fn each_option_alone_and_those_that_interact_keep_what_they_say() {
    let hour = Wait(3600);
    let lifetime = |lifetime| PoolOptions { max_connection_lifetime: secs(lifetime), ..quick() };
    let table: &[Case] = &[
        ("nothing is kept", quick(), &[Lease(3), Return, hour], (0, 0, 3, 3, 0)),
        ("not before its time", quick(), &[Lease(3), Return, Wait(59)], (3, 0, 3, 0, 0)),
        ("leased ones stay", quick(), &[Lease(3), hour], (0, 3, 3, 0, 0)),
        (
            "idle time starts anew",
            quick(),
            &[Lease(1), Return, Wait(50), Lease(1), Return, Wait(50)],
            (1, 0, 1, 0, 0),
        ),
        (
            "timeout off",
            PoolOptions { idle_session_timeout: secs(0), ..quick() },
            &[Lease(3), Return, hour],
            (3, 0, 3, 0, 0),
        ),
        ("min", PoolOptions { min_idle_session: 2, ..quick() }, &[Lease(3), Return, hour], (2, 0, 3, 1, 0)),
        ("min does not dial", PoolOptions { min_idle_session: 2, ..quick() }, &[hour], (0, 0, 0, 0, 0)),
        ("ensure", PoolOptions { ensure_idle_session: 5, ..quick() }, &[hour], (5, 0, 5, 0, 0)),
        (
            "ensure 5, min 2",
            PoolOptions { ensure_idle_session: 5, min_idle_session: 2, ..quick() },
            &[hour],
            (5, 0, 5, 0, 0),
        ),
        (
            "ensure 2, min 5",
            PoolOptions { ensure_idle_session: 2, min_idle_session: 5, ..quick() },
            &[Lease(6), Return, hour],
            (5, 0, 6, 1, 0),
        ),
        (
            "ensure replaces what is leased",
            PoolOptions { ensure_idle_session: 2, ..quick() },
            &[Wait(1), Lease(1), Wait(31)],
            (2, 1, 3, 0, 0),
        ),
        (
            "a surplus goes",
            PoolOptions { ensure_idle_session: 2, ..quick() },
            &[Wait(1), Lease(2), Wait(31), Return, hour],
            (2, 0, 4, 2, 0),
        ),
        (
            "rate",
            PoolOptions { ensure_idle_session: 5, ensure_idle_session_create_rate: 2, ..quick() },
            &[Wait(1)],
            (2, 0, 2, 0, 0),
        ),
        (
            "rate, a check on",
            PoolOptions { ensure_idle_session: 5, ensure_idle_session_create_rate: 2, ..quick() },
            &[Wait(31)],
            (4, 0, 4, 0, 0),
        ),
        (
            "rate, two checks on",
            PoolOptions { ensure_idle_session: 5, ensure_idle_session_create_rate: 2, ..quick() },
            &[Wait(3600)],
            (5, 0, 5, 0, 0),
        ),
        (
            "rate does not bind requests",
            PoolOptions { ensure_idle_session: 1, ensure_idle_session_create_rate: 1, ..quick() },
            &[Lease(4)],
            (0, 4, 4, 0, 0),
        ),
        (
            "age",
            PoolOptions { idle_session_timeout: secs(0), ..lifetime(600) },
            &[Lease(3), Return, Wait(599)],
            (3, 0, 3, 0, 0),
        ),
        (
            "past its lifetime",
            PoolOptions { idle_session_timeout: secs(0), ..lifetime(600) },
            &[Lease(3), Return, Wait(660)],
            (0, 0, 3, 0, 3),
        ),
        ("age leaves the leased", lifetime(600), &[Lease(3), hour], (0, 3, 3, 0, 0)),
        ("age on return", lifetime(600), &[Lease(3), hour, Return], (0, 0, 3, 0, 3)),
        (
            "min for age",
            PoolOptions { min_idle_session_for_age: 2, idle_session_timeout: secs(0), ..lifetime(600) },
            &[Lease(3), Return, hour],
            (2, 0, 3, 0, 1),
        ),
        (
            "min for age on return",
            PoolOptions { min_idle_session_for_age: 2, idle_session_timeout: secs(0), ..lifetime(600) },
            &[Lease(3), hour, Return],
            (2, 0, 3, 0, 1),
        ),
        (
            "min does not keep from age",
            PoolOptions { min_idle_session: 3, ..lifetime(600) },
            &[Lease(3), Return, hour],
            (0, 0, 3, 0, 3),
        ),
        (
            "min for age does not keep from the timeout",
            PoolOptions { min_idle_session_for_age: 3, ..lifetime(600) },
            &[Lease(3), Return, hour],
            (0, 0, 3, 3, 0),
        ),
        // 600 s and a check: dialled at 0, 630, 1260 … 3150
        (
            "ensure rotates",
            PoolOptions { ensure_idle_session: 2, ..lifetime(600) },
            &[Wait(3500)],
            (2, 0, 12, 0, 10),
        ),
        (
            "room for three",
            PoolOptions { ensure_idle_session: 5, max_sessions: 3, ..quick() },
            &[hour],
            (3, 0, 3, 0, 0),
        ),
        (
            "room taken by leases",
            PoolOptions { ensure_idle_session: 2, max_sessions: 3, ..quick() },
            &[Lease(3), hour],
            (0, 3, 3, 0, 0),
        ),
        (
            "no room to rotate beside",
            PoolOptions { ensure_idle_session: 2, max_sessions: 2, ..lifetime(600) },
            &[Wait(1000)],
            (2, 0, 4, 0, 2),
        ),
    ];
    for (name, options, steps, (idle, leased, dials, timed_out, aged)) in table.iter().cloned() {
        let expected = Outcome { idle, leased, dials, timed_out, aged };
        assert_eq!(outcome(options, steps), expected, "{name}");
    }
}

#[test]
fn idle_sessions_are_closed_at_the_check_after_the_timeout_oldest_first() {
    let mut rig = Rig::idle(PoolOptions { min_idle_session: 1, ..plain() }, 3);
    let returned = rig.since_start();
    let due = rig.pool.poll_timeout().expect("two sessions will expire").since(START);
    assert!(due > returned + secs(300) && due <= returned + secs(330), "{due:?}");
    assert_eq!(due.as_secs() % 30, 0, "checks take place at whole intervals");
    rig.run(due - returned - Duration::from_nanos(1));
    assert_eq!(rig.pool.idle_count(), 3);
    rig.run(Duration::from_nanos(1));
    assert_eq!(rig.closed(CloseReason::IdleTimeout), [1, 2]);
    assert_eq!(rig.pool.poll_timeout(), None, "the one that is kept needs no timer");
}

#[test]
fn a_session_idle_for_exactly_the_timeout_is_kept() {
    let mut rig = Rig::new(PoolOptions { idle_session_timeout: secs(30), ..plain() });
    let seq = rig.lease();
    rig.run(secs(30) - rig.since_start());
    rig.give_back(seq);
    rig.run(secs(30));
    assert_eq!(rig.pool.idle_count(), 1, "longer, not as long");
    rig.run(secs(30));
    assert_eq!(rig.pool.idle_count(), 0);
}

#[test]
fn checks_take_place_as_often_as_asked() {
    for interval in [1, 7, 30, 600] {
        let options = PoolOptions {
            idle_session_check_interval: secs(interval),
            idle_session_timeout: secs(5),
            ..plain()
        };
        let mut rig = Rig::idle(options, 1);
        let returned = rig.since_start();
        rig.run(secs(2_000));
        let closed = rig.times(|seen| matches!(seen, Seen::Did(Happening::Close(..))));
        let first = (returned + secs(5)).as_nanos() / secs(interval).as_nanos() + 1;
        let expected = secs(interval) * u32::try_from(first).expect("small");
        assert_eq!(closed, [expected], "every {interval} s");
        assert_eq!(rig.wakes(), 1, "checks with nothing to do do not wake the phone");
    }
}

#[test]
fn an_hour_of_ensuring_costs_no_dial_and_no_timer_once_it_is_reached() {
    let mut rig = Rig::new(PoolOptions { ensure_idle_session: 5, min_idle_session: 2, ..plain() });
    assert_eq!(rig.dials(), 5, "at the start, not after an interval");
    rig.run(secs(3600));
    assert_eq!((rig.dials(), rig.pool.idle_count(), rig.wakes()), (5, 5, 0));
}

#[test]
fn dials_in_flight_count_as_ensured() {
    let slow = Server { dial: Some(secs(95)), ..Server::default() };
    let mut rig = Rig::with_server(PoolOptions { ensure_idle_session: 3, ..plain() }, slow);
    rig.run(secs(94));
    assert_eq!(rig.dials(), 3, "three checks have passed");
    let ticket = rig.request(Want::Any);
    assert_eq!(rig.dials(), 3, "the one that is the first to be done serves");
    rig.run(secs(2));
    assert!(rig.granted(ticket).is_some());
    rig.run(secs(600));
    assert_eq!((rig.dials(), rig.pool.idle_count()), (4, 3));
}

#[test]
fn each_check_dials_at_most_the_rate() {
    for rate in 1..=4 {
        let options =
            PoolOptions { ensure_idle_session: 10, ensure_idle_session_create_rate: rate, ..plain() };
        let mut rig = Rig::new(options);
        rig.run(secs(3600));
        let mut checks: BTreeMap<Duration, usize> = BTreeMap::new();
        for at in rig.times(|seen| *seen == Seen::Did(Happening::Dial)) {
            assert_eq!(at.as_nanos() % secs(30).as_nanos(), 0, "{at:?}");
            *checks.entry(at).or_default() += 1;
        }
        assert!(checks.values().all(|&dials| dials <= rate), "{checks:?}");
        assert_eq!(checks.len(), 10_usize.div_ceil(rate), "one check after the other: {checks:?}");
        assert_eq!(rig.dials(), 10);
    }
}

#[test]
fn the_rate_holds_within_an_interval_whatever_happens_in_it() {
    let options = PoolOptions { ensure_idle_session: 3, ensure_idle_session_create_rate: 3, ..plain() };
    let mut rig = Rig::new(options.clone());
    rig.run(secs(40));
    for seq in 1..=3 {
        rig.lose(SessionSeq(seq), SessionError::NoAnswer);
    }
    assert_eq!(rig.dials(), 6, "replaced at once: this interval has dialled none");
    rig.run(secs(1));
    for seq in 4..=6 {
        rig.lose(SessionSeq(seq), SessionError::NoAnswer);
    }
    rig.pool.set_options(options, rig.now);
    rig.carry_out();
    assert_eq!(rig.dials(), 6);
    rig.run(secs(19));
    assert_eq!(rig.dials(), 9);
}

#[test]
fn a_server_that_fails_is_dialled_ahead_ever_more_rarely() {
    let broken = Server { works: false, ..Server::default() };
    let mut rig = Rig::with_server(PoolOptions { ensure_idle_session: 4, ..plain() }, broken);
    rig.run(secs(3600));
    let dials = rig.times(|seen| *seen == Seen::Did(Happening::Dial));
    assert_eq!(dials[..5], [secs(0), secs(0), secs(0), secs(0), secs(30)], "{dials:?}");
    assert!(dials[5..].windows(2).all(|pair| pair[1] - pair[0] >= secs(30)), "{dials:?}");
    assert!(dials.len() < 4 + 3600 / 30, "{dials:?}");
    rig.server.works = true;
    let failed = dials.len();
    while rig.pool.idle_count() < 2 {
        rig.run(secs(1));
    }
    let dials = rig.times(|seen| *seen == Seen::Did(Happening::Dial));
    assert!(dials.len() > failed);
    let [.., before, last] = dials[..] else { panic!("{dials:?}") };
    assert_eq!(last - before, secs(30), "one a check, until the server has answered");
    rig.pool.handle_proven(rig.now);
    rig.run(secs(30));
    assert_eq!(rig.pool.idle_count(), 4);
}

#[test]
fn a_session_lost_to_silence_is_replaced_at_once_and_another_at_the_check() {
    let mut rig = Rig::new(PoolOptions { ensure_idle_session: 2, ..plain() });
    rig.run(secs(40));
    rig.lose(SessionSeq(1), SessionError::EndedByPeer);
    assert_eq!(rig.dials(), 2);
    rig.run(secs(21));
    assert_eq!(rig.dials(), 3);
    rig.lose(SessionSeq(2), SessionError::NoAnswer);
    assert_eq!(rig.dials(), 4);
}

#[test]
fn new_options_hold_at_once() {
    let mut rig = Rig::idle(plain(), 1);
    rig.pool.set_options(PoolOptions { ensure_idle_session: 3, ..plain() }, rig.now);
    rig.carry_out();
    assert_eq!(rig.dials(), 3);
    rig.run(secs(1));
    rig.pool.set_options(quick(), rig.now);
    rig.run(secs(91));
    assert_eq!((rig.pool.idle_count(), rig.dials()), (0, 3));
}

#[test]
fn less_is_ensured_in_the_background_and_nothing_in_doze() {
    let ensure = |background| PoolOptions {
        ensure_idle_session: 4,
        ensure_idle_session_background: background,
        idle_session_timeout: secs(60),
        ..plain()
    };
    for (background, kept) in [(None, 4), (Some(0), 0), (Some(1), 1)] {
        let mut rig = Rig::new(ensure(background));
        rig.run(secs(1));
        rig.set_power(Power::Background);
        rig.run(secs(600));
        assert_eq!((rig.pool.idle_count(), rig.dials()), (kept, 4), "{background:?}");
        rig.set_power(Power::Interactive);
        assert_eq!(rig.dials(), 8 - kept, "{background:?}: what is missing is dialled at once");
    }
    for power in [Power::Doze, Power::Sleeping] {
        let mut rig = Rig::new(ensure(None));
        rig.run(secs(1));
        rig.set_power(power);
        rig.lose(SessionSeq(1), SessionError::NoAnswer);
        rig.run(secs(3600));
        assert_eq!((rig.dials(), rig.wakes()), (4, 0), "{power:?}");
    }
}

fn lose_after(rig: &mut Rig, idle: u64) {
    let seq = rig.lease();
    rig.give_back(seq);
    rig.run(secs(idle));
    rig.lose(seq, SessionError::EndedByPeer);
}

#[test]
fn sessions_are_retired_before_a_server_that_closes_them_after_a_while() {
    for (name, options) in [
        ("plain", plain()),
        ("kept by min", PoolOptions { min_idle_session: 1, ..plain() }),
        ("no timeout", PoolOptions { idle_session_timeout: secs(0), ..plain() }),
    ] {
        let mut rig = Rig::new(options);
        for idle in [100, 105, 102] {
            lose_after(&mut rig, idle);
        }
        let seq = rig.lease();
        rig.give_back(seq);
        rig.run(secs(79));
        assert_eq!(rig.pool.idle_count(), 1, "{name}");
        rig.run(secs(2));
        assert_eq!(rig.closed(CloseReason::ServerIdleLimit), [seq.0], "{name}: a fifth before");
        assert_eq!(rig.pool.counters().closed.server_idle_limit, 1, "{name}");
    }
}

#[test]
fn sessions_that_the_server_closes_at_odd_times_show_no_limit() {
    let mut rig = Rig::new(plain());
    for idle in [100, 10, 50, 120, 30] {
        lose_after(&mut rig, idle);
    }
    let seq = rig.lease();
    rig.run(secs(200));
    rig.give_back(seq);
    rig.run(secs(290));
    assert_eq!(rig.pool.idle_count(), 1);
}

#[test]
fn the_servers_limit_is_forgotten_on_another_network() {
    let mut rig = Rig::new(plain());
    for _ in 0..3 {
        lose_after(&mut rig, 100);
    }
    rig.change_path("train");
    let seq = rig.lease();
    rig.give_back(seq);
    rig.run(secs(290));
    assert_eq!(rig.pool.idle_count(), 1);
}
