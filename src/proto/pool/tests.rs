use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;

const START: Moment = Moment::from_origin(Duration::from_secs(1_000));

fn secs(count: u64) -> Duration {
    Duration::from_secs(count)
}

fn options() -> PoolOptions {
    PoolOptions { min_idle_session: 0, ensure_idle_session: 0, ..PoolOptions::default() }
}

fn actions(pool: &mut Pool) -> Vec<Action> {
    std::iter::from_fn(|| pool.poll_action()).collect()
}

/// Requests, dials and grants one session.
fn lease(pool: &mut Pool, now: Moment) -> SessionSeq {
    pool.request(Want::Any, now);
    let mut granted = None;
    while let Some(action) = pool.poll_action() {
        match action {
            Action::Dial => {
                pool.handle_dialed(now);
            }
            Action::Grant { seq, .. } => granted = Some(seq),
            Action::Fail { .. } | Action::Close { .. } => panic!("unexpected {action:?}"),
        }
    }
    granted.expect("a session was granted")
}

fn idle_pool(count: usize, options: PoolOptions) -> Pool {
    let mut pool = Pool::new(options);
    let leases: Vec<_> = (0..count).map(|_| lease(&mut pool, START)).collect();
    for seq in leases {
        pool.handle_returned(seq, START);
    }
    pool
}

#[test]
fn the_newest_idle_session_serves_first() {
    let mut pool = idle_pool(3, options());
    let ticket = pool.request(Want::Any, START);
    assert_eq!(actions(&mut pool), [Action::Grant { ticket, seq: SessionSeq(3), reused: true }]);
}

#[test]
fn a_returned_session_goes_to_whoever_waits_before_the_dial_is_done() {
    let mut pool = Pool::new(options());
    let first = lease(&mut pool, START);
    let ticket = pool.request(Want::Any, START);
    assert_eq!(actions(&mut pool), [Action::Dial]);
    pool.handle_returned(first, START);
    assert_eq!(actions(&mut pool), [Action::Grant { ticket, seq: first, reused: true }]);
    pool.handle_dialed(START);
    assert_eq!(actions(&mut pool), []);
    assert_eq!((pool.idle_count(), pool.dialing_count()), (1, 0));
}

#[test]
fn a_request_for_a_fresh_session_is_never_given_a_used_one() {
    let mut pool = idle_pool(1, options());
    let ticket = pool.request(Want::Fresh, START);
    assert_eq!(actions(&mut pool), [Action::Dial]);
    let seq = pool.handle_dialed(START);
    assert_eq!(actions(&mut pool), [Action::Grant { ticket, seq, reused: false }]);
}

#[test]
fn each_who_waits_has_a_dial_while_the_server_is_well() {
    let mut pool = Pool::new(options());
    for _ in 0..3 {
        pool.request(Want::Any, START);
    }
    assert_eq!(actions(&mut pool), [Action::Dial, Action::Dial, Action::Dial]);
    assert_eq!(pool.dialing_count(), 3);
}

#[test]
fn a_failed_dial_fails_only_who_has_no_other_dial() {
    let mut pool = Pool::new(options());
    let first = pool.request(Want::Any, START);
    let second = pool.request(Want::Any, START);
    actions(&mut pool);
    pool.handle_dial_failed(START);
    assert_eq!(actions(&mut pool), [Action::Fail { ticket: first }]);
    pool.handle_dialed(START);
    assert!(matches!(actions(&mut pool)[..], [Action::Grant { ticket, .. }] if ticket == second));
}

#[test]
fn requests_to_a_failing_server_share_one_dial_that_keeps_its_distance() {
    let mut pool = Pool::new(options());
    let mut now = START;
    pool.request(Want::Any, now);
    assert_eq!(actions(&mut pool), [Action::Dial], "the first is not delayed");
    for pause in [1, 2, 4, 8, 16, 32, 60, 60] {
        pool.handle_dial_failed(now);
        actions(&mut pool);
        let due = now + secs(pause);
        now = due - secs(pause.min(10)); // earlier ones do not wait
        for _ in 0..10 {
            pool.request(Want::Any, now);
        }
        assert_eq!(actions(&mut pool), []);
        assert_eq!(pool.poll_timeout(), Some(due));
        now = due;
        pool.handle_timeout(now);
        assert_eq!(actions(&mut pool), [Action::Dial]);
    }

    pool.handle_dialed(now);
    let one = actions(&mut pool);
    assert!(matches!(one[..], [Action::Grant { .. }, Action::Dial]), "a connection alone proves little");
    pool.handle_proven(now);
    assert_eq!(actions(&mut pool), vec![Action::Dial; 8], "all dial once the server has answered");
}

#[test]
fn a_request_that_would_wait_for_too_long_fails_at_once() {
    let mut pool = Pool::new(options());
    let mut now = START;
    for _ in 0..5 {
        pool.request(Want::Any, now);
        now = pool.poll_timeout().unwrap_or(now);
        pool.handle_timeout(now);
        pool.handle_dial_failed(now);
    }
    actions(&mut pool);
    let ticket = pool.request(Want::Any, now + secs(5));
    assert_eq!(actions(&mut pool), [Action::Fail { ticket }], "11 of 16 seconds are left");
    pool.request(Want::Any, now + secs(7));
    assert_eq!(pool.poll_timeout(), Some(now + secs(16)));
}

#[test]
fn a_refused_password_backs_off_like_a_failed_dial() {
    let mut pool = Pool::new(options());
    let first = lease(&mut pool, START);
    pool.handle_rejected(first, START);
    pool.request(Want::Any, START);
    assert_eq!(actions(&mut pool), []);
    assert_eq!(pool.poll_timeout(), Some(START + secs(1)));
}

#[test]
fn a_cancelled_request_is_granted_nothing_and_its_dial_is_kept() {
    let mut pool = Pool::new(options());
    let ticket = pool.request(Want::Any, START);
    actions(&mut pool);
    pool.cancel(ticket);
    pool.handle_dialed(START);
    assert_eq!(actions(&mut pool), []);
    assert_eq!(pool.idle_count(), 1);
}

#[test]
fn idle_sessions_are_closed_at_the_check_after_the_timeout_oldest_first() {
    let mut pool = idle_pool(3, PoolOptions { min_idle_session: 1, ..options() });
    let due = pool.poll_timeout().expect("two sessions will expire");
    assert!(due.since(START) > secs(300) && due.since(START) <= secs(330), "{due:?}");
    pool.handle_timeout(due - Duration::from_nanos(1));
    assert_eq!(actions(&mut pool), []);
    pool.handle_timeout(due);
    let close = |seq| Action::Close { seq: SessionSeq(seq), reason: CloseReason::IdleTimeout };
    assert_eq!(actions(&mut pool), [close(1), close(2)]);
    assert_eq!(pool.poll_timeout(), None, "the one that is kept needs no timer");
}

#[test]
fn the_idle_timeout_never_closes_what_ensure_would_dial_again() {
    let mut pool = idle_pool(4, PoolOptions { ensure_idle_session: 3, ..options() });
    pool.handle_timeout(START + secs(10_000));
    assert_eq!(actions(&mut pool).len(), 1);
    assert_eq!(pool.idle_count(), 3);
}

#[test]
fn without_reuse_a_session_closes_when_its_stream_ends() {
    let mut pool = Pool::new(PoolOptions { reuse: false, ..options() });
    let seq = lease(&mut pool, START);
    pool.handle_returned(seq, START);
    assert_eq!(actions(&mut pool), [Action::Close { seq, reason: CloseReason::NoReuse }]);
}

#[test]
fn a_closed_pool_fails_requests_and_keeps_nothing() {
    let mut pool = idle_pool(2, options());
    let busy = lease(&mut pool, START);
    let waiting = pool.request(Want::Fresh, START);
    actions(&mut pool);
    pool.close();
    let close = |seq| Action::Close { seq, reason: CloseReason::Shutdown };
    assert_eq!(actions(&mut pool), [Action::Fail { ticket: waiting }, close(SessionSeq(1))]);
    pool.handle_returned(busy, START);
    let late = pool.handle_dialed(START);
    assert_eq!(actions(&mut pool), [close(busy), close(late)]);
    let ticket = pool.request(Want::Any, START);
    assert_eq!(actions(&mut pool), [Action::Fail { ticket }]);
    assert_eq!((pool.idle_count(), pool.leased_count(), pool.poll_timeout()), (0, 0, None));
}

/// Random schedules against a book-keeper that knows only the rules.
#[test]
fn no_session_is_leased_twice_or_leaked_whatever_the_order() {
    for seed in 0..20_000_u64 {
        run_schedule(seed);
    }
}

fn run_schedule(seed: u64) {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut pool = Pool::new(PoolOptions {
        min_idle_session: rng.random_range(0..4),
        reuse: rng.random_bool(0.9),
        ..options()
    });
    let mut now = START;
    let mut dials = 0_usize;
    let mut waiting = BTreeSet::new();
    let mut alive = BTreeMap::new(); // seq to whether it is leased
    let mut settled = 0_u64;
    let mut asked = 0_u64;

    for _ in 0..60 {
        match rng.random_range(0..10) {
            0..=2 => {
                let want = if rng.random_bool(0.2) { Want::Fresh } else { Want::Any };
                waiting.insert(pool.request(want, now));
                asked += 1;
            }
            3 | 4 if dials > 0 => {
                dials -= 1;
                alive.insert(pool.handle_dialed(now), false);
            }
            5 if dials > 0 => {
                dials -= 1;
                pool.handle_dial_failed(now);
            }
            5 => pool.handle_proven(now),
            6 => {
                if let Some((&seq, _)) = alive.iter().find(|(_, leased)| **leased) {
                    alive.insert(seq, false);
                    pool.handle_returned(seq, now);
                }
            }
            7 if !alive.is_empty() => {
                let at = rng.random_range(0..alive.len());
                let seq = *alive.keys().nth(at).expect("in range");
                alive.remove(&seq);
                pool.handle_lost(seq);
            }
            8 => {
                if let Some(&ticket) = waiting.first() {
                    pool.cancel(ticket);
                    waiting.remove(&ticket);
                    asked -= 1;
                }
            }
            _ => {
                now = now + secs(rng.random_range(0..200));
                if pool.poll_timeout().is_some_and(|due| due <= now) {
                    pool.handle_timeout(now);
                }
            }
        }
        for action in actions(&mut pool) {
            match action {
                Action::Dial => dials += 1,
                Action::Grant { ticket, seq, .. } => {
                    assert!(waiting.remove(&ticket), "seed {seed}: granted to nobody");
                    let before = alive.insert(seq, true);
                    assert_eq!(before, Some(false), "seed {seed}: {seq:?} was not free");
                    settled += 1;
                }
                Action::Fail { ticket } => {
                    assert!(waiting.remove(&ticket), "seed {seed}: failed nobody");
                    settled += 1;
                }
                Action::Close { seq, .. } => {
                    let leased = alive.remove(&seq);
                    assert_eq!(leased, Some(false), "seed {seed}: closed {seq:?} in use");
                }
            }
        }
        let leased = alive.values().filter(|leased| **leased).count();
        assert_eq!(pool.leased_count(), leased, "seed {seed}");
        assert_eq!(pool.idle_count(), alive.len() - leased, "seed {seed}");
        assert_eq!(pool.dialing_count(), dials, "seed {seed}");
        let stuck = !waiting.is_empty() && dials == 0 && pool.poll_timeout().is_none();
        assert!(!stuck, "seed {seed}: somebody waits for nothing");
        assert_eq!(settled + u64::try_from(waiting.len()).expect("small"), asked, "seed {seed}");
    }
}
