//! Lifetimes, their jitter, and the rotation of what is ensured.

use rand::SeedableRng;
use rand::rngs::StdRng;

use super::rig::Happening;
use super::*;

fn lifetime(lifetime: u64, jitter: u64) -> PoolOptions {
    PoolOptions {
        max_connection_lifetime: secs(lifetime),
        connection_lifetime_jitter: secs(jitter),
        idle_session_timeout: secs(0),
        ..plain()
    }
}

#[test]
fn lifetimes_are_spread_evenly_over_the_whole_jitter() {
    const SESSIONS: usize = 1_000;
    let mut rng = StdRng::seed_from_u64(42);
    let mut pool = Pool::new(
        PoolOptions { ensure_idle_session: SESSIONS, max_sessions: 0, ..lifetime(3600, 600) },
        START,
    );
    while let Some(action) = pool.poll_action() {
        let Action::Dial(dial) = action else { panic!("{action:?}") };
        pool.handle_dialed(dial, Arc::new(Pulse::new(START)), ms(50), START, &mut rng);
    }
    let lifetimes = pool.sessions.values().map(|entry| entry.lifetime.expect("it has one").as_secs_f64());
    let mut drawn: Vec<_> = lifetimes.map(|lifetime| (lifetime - 3_000.0) / 1_200.0).collect();
    drawn.sort_by(f64::total_cmp);
    assert_eq!(drawn.len(), SESSIONS);
    // Kolmogorov and Smirnov: for 1 000 even draws the distance is below 0.0514 in 99 of 100 cases.
    let distance = drawn.iter().enumerate().map(|(at, drawn)| {
        let steps = [at, at + 1].map(|step| step as f64 / SESSIONS as f64); // small whole numbers
        steps.into_iter().map(|step| (drawn - step).abs()).fold(0.0, f64::max)
    });
    let distance = distance.fold(0.0, f64::max);
    assert!(distance < 0.0514, "{distance}");
}

#[test]
fn sessions_dialled_together_do_not_expire_together() {
    let mut rig = Rig::new(PoolOptions { ensure_idle_session: 10, ..lifetime(3600, 600) });
    rig.run(secs(4_300));
    let closed = rig.times(|seen| matches!(seen, Seen::Did(Happening::Close(_, CloseReason::Age))));
    assert_eq!(closed.len(), 10);
    let moments: BTreeSet<_> = closed.iter().collect();
    assert!(moments.len() >= 7, "{closed:?}");
    assert!(*closed.first().expect("ten") >= secs(3_000), "{closed:?}");
    assert!(*closed.last().expect("ten") - closed[0] > secs(300), "{closed:?}");
}

#[test]
fn jitter_alone_sets_no_lifetime() {
    let options = lifetime(0, 600);
    let mut rng = StdRng::seed_from_u64(1);
    assert_eq!(options.draw_lifetime(&mut rng), None);
    assert_eq!(lifetime(600, 0).draw_lifetime(&mut rng), Some(secs(600)));
}

#[test]
fn a_lifetime_is_drawn_once_and_outlasts_a_change_of_options() {
    let mut rig = Rig::idle(lifetime(600, 0), 1);
    rig.pool.set_options(lifetime(60, 0), rig.now);
    rig.run(secs(500));
    assert_eq!(rig.pool.idle_count(), 1);
    rig.run(secs(200));
    assert_eq!(rig.closed(CloseReason::Age), [1]);
}

#[test]
fn a_session_is_replaced_before_it_is_closed() {
    for jitter in [0, 100] {
        let slow = Server { dial: Some(secs(5)), ..Server::default() };
        let options = PoolOptions { ensure_idle_session: 3, ..lifetime(600, jitter) };
        let mut rig = Rig::with_server(options, slow);
        rig.run(secs(6));
        for _ in 0..4_000 {
            rig.run(secs(1));
            assert!(rig.pool.idle_count() >= 3, "at {:?}", rig.since_start());
        }
        let aged = rig.closed(CloseReason::Age).len();
        assert!(aged >= 12, "{aged}");
        assert!(rig.dials() <= aged + 6, "{} dials for {aged} closed", rig.dials());
        for &(at, seen) in &rig.log {
            let Seen::Did(Happening::Close(seq, _)) = seen else { continue };
            let replaced = rig.log.iter().any(|&(when, seen)| when == at && matches!(seen, Seen::Dialed(_)));
            assert!(replaced, "{seq:?} has a successor in that very moment");
        }
    }
}

#[test]
fn a_session_past_its_lifetime_serves_on_while_the_server_cannot_be_reached() {
    let mut rig = Rig::new(PoolOptions { ensure_idle_session: 2, ..lifetime(600, 0) });
    rig.run(secs(1));
    rig.server.works = false;
    rig.run(secs(3_600));
    assert_eq!((rig.pool.idle_count(), rig.closed(CloseReason::Age).len()), (2, 0));
    let ticket = rig.request(Want::Any);
    assert!(rig.granted(ticket).is_some());
}

#[test]
fn age_cleaning_takes_the_oldest_first_and_leaves_its_minimum() {
    let mut rig = Rig::idle(PoolOptions { min_idle_session_for_age: 2, ..lifetime(600, 0) }, 5);
    rig.run(secs(700));
    assert_eq!(rig.closed(CloseReason::Age), [1, 2, 3]);
    assert_eq!(rig.pool.poll_timeout(), None, "what is kept for good needs no timer");
}

#[test]
fn where_there_may_be_no_more_sessions_they_rotate_one_a_check() {
    let options = PoolOptions { ensure_idle_session: 3, max_sessions: 3, ..lifetime(600, 0) };
    let mut rig = Rig::new(options.clone());
    for _ in 0..720 {
        rig.run(secs(1));
        assert!(rig.pool.idle_count() >= 2, "at {:?}", rig.since_start());
    }
    assert_eq!((rig.closed(CloseReason::Age), rig.dials()), (vec![1, 2, 3], 6));

    let mut rig = Rig::new(PoolOptions { min_idle_session_for_age: 3, ..options });
    rig.run(secs(3_600));
    assert_eq!((rig.pool.idle_count(), rig.dials()), (3, 3), "the minimum is more than a lifetime");
}

#[test]
fn a_busy_session_past_its_lifetime_retires_when_its_last_stream_ends() {
    let mut rig = Rig::new(PoolOptions { max_sessions: 1, ..lifetime(600, 0) });
    let seq = rig.lease();
    assert_eq!(rig.lease(), seq);
    rig.run(secs(3_600));
    assert_eq!(rig.pool.leased_count(), 1);
    rig.give_back(seq);
    assert!(rig.closed(CloseReason::Age).is_empty());
    rig.give_back(seq);
    assert_eq!(rig.closed(CloseReason::Age), [1]);
}

#[test]
fn a_session_that_is_needed_for_the_minimum_retires_once_others_have_come_back() {
    let mut rig = Rig::new(PoolOptions { ensure_idle_session: 1, ..lifetime(600, 0) });
    rig.run(secs(1));
    let seq = rig.lease();
    rig.server.works = false;
    rig.run(secs(700));
    rig.give_back(seq);
    let idle = rig.pool.idle_count();
    rig.server.works = true;
    rig.run(secs(200));
    assert!(idle >= 1);
    assert!(rig.closed(CloseReason::Age).contains(&seq.0), "{:?}", rig.log);
    assert_eq!(rig.pool.idle_count(), 1);
}
