//! The list and the counters, without a network.

use std::future::{pending, poll_fn, ready};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use super::counters::Counters;
use super::*;
use crate::proto::session::{SessionError, StreamError};

/// What an end of a flow must have been counted as.
type Counted = fn(&mut FlowStats);

fn target(port: u16) -> Target {
    Target::from(SocketAddr::from(([192, 0, 2, 1], port)))
}

fn registry() -> Arc<Registry> {
    Registry::new(Clock::Tokio)
}

fn enter(registry: &Arc<Registry>, port: u16) -> Place {
    registry.enter(ConnectionKind::Tcp, target(port))
}

fn failure() -> End {
    End::Server(StreamError::Session(SessionError::EndedByPeer).into())
}

#[tokio::test(start_paused = true)]
async fn live_flows_are_listed_oldest_first_and_with_their_age() {
    let registry = registry();
    let first = enter(&registry, 1);
    tokio::time::advance(Duration::from_secs(90)).await;
    let second = registry.enter(ConnectionKind::Socket, target(2));
    tokio::time::advance(Duration::from_secs(10)).await;
    let listed: Vec<_> =
        registry.connections().into_iter().map(|c| (c.id, c.kind, c.destination, c.age.as_secs())).collect();
    let expected = [
        (ConnectionId(1), ConnectionKind::Tcp, target(1), 100),
        (ConnectionId(2), ConnectionKind::Socket, target(2), 10),
    ];
    assert_eq!(listed, expected);
    drop(first);
    assert_eq!(registry.connections().len(), 1);
    drop(second);
    assert_eq!(enter(&registry, 3).id, ConnectionId(3), "a number is never used again");
}

#[tokio::test]
async fn every_end_is_counted_once_as_what_it_was() {
    let app = || End::App(std::io::ErrorKind::ConnectionReset.into());
    let ends: [(Result<End, OpenError>, Counted); 6] = [
        (Ok(End::Finished), |_| {}),
        (Ok(End::Lingered), |_| {}),
        (Ok(app()), |_| {}),
        (Ok(failure()), |stats| stats.failed += 1),
        (Err(OpenError::Stream(StreamError::TimedOut)), |stats| stats.refused += 1),
        (Err(OpenError::Stopped), |stats| stats.closed_by_us += 1),
    ];
    let registry = registry();
    let mut expected = FlowStats::default();
    for (end, counted) in ends {
        let place = enter(&registry, 80);
        expected = FlowStats { open: 1, total: expected.total + 1, ..expected };
        assert_eq!(registry.stats(), expected);
        serve(place, ready(end)).await;
        expected.open = 0;
        counted(&mut expected);
        assert_eq!(registry.stats(), expected);
    }
    assert_eq!(registry.connections(), []);
}

#[tokio::test]
async fn a_flow_whose_task_panics_or_is_aborted_is_off_the_list() {
    let registry = registry();
    let tasks = Tasks::new();
    tasks.spawn("panics", serve(enter(&registry, 1), Box::pin(async { panic!("on purpose") })));
    tasks.join().await;
    let mut expected = FlowStats { total: 1, failed: 1, ..FlowStats::default() };
    assert_eq!(registry.stats(), expected);

    tasks.spawn("is aborted", serve(enter(&registry, 2), pending()));
    tokio::task::yield_now().await;
    tasks.spawn("is aborted before it runs", serve(enter(&registry, 3), pending()));
    assert_eq!(registry.connections().len(), 2);
    tasks.cancel_all();
    tasks.join().await;
    (expected.total, expected.closed_by_us) = (3, 2);
    assert_eq!(registry.stats(), expected);
    assert_eq!(registry.connections(), []);
}

#[tokio::test]
async fn a_closed_flow_is_dropped_and_off_the_list_at_once() {
    let registry = registry();
    let tasks = Tasks::new();
    let held = Arc::new(());
    let (ours, theirs) = (enter(&registry, 1), enter(&registry, 2));
    let (id, holds) = (ours.id, Arc::clone(&held));
    let work = Box::pin(async move {
        let _holds = holds;
        pending().await
    });
    tasks.spawn("closed", serve(ours, work));
    tokio::task::yield_now().await;

    assert!(!registry.close(ConnectionId(9)), "there is none");
    assert!(registry.close(id));
    assert!(!registry.close(id), "it is gone");
    assert_eq!(registry.connections().into_iter().map(|c| c.id).collect::<Vec<_>>(), [theirs.id]);
    tasks.join().await;
    assert_eq!(Arc::strong_count(&held), 1);
    let stats = FlowStats { open: 1, total: 2, closed_by_us: 1, ..FlowStats::default() };
    assert_eq!(registry.stats(), stats);

    registry.close_all();
    serve(theirs, ready(Ok(failure()))).await;
    assert_eq!(registry.stats().closed_by_us, 2, "it was closed before it failed");
}

#[tokio::test]
async fn ten_thousand_flows_leave_nothing_behind() {
    let registry = registry();
    let tasks = Tasks::new();
    let mut entries = Vec::new();
    for _ in 0..2_500 {
        let [ends, panics, is_closed, is_aborted] = [1, 2, 3, 4].map(|port| enter(&registry, port));
        entries.extend([&ends, &panics, &is_closed, &is_aborted].map(|place| Arc::downgrade(&place.entry)));
        let closed = is_closed.id;
        tasks.spawn("ends", serve(ends, ready(Ok(End::Finished))));
        tasks.spawn("panics", serve(panics, poll_fn(|_| std::panic::resume_unwind(Box::new(())))));
        tasks.spawn("is closed", serve(is_closed, pending()));
        tasks.spawn("is aborted", serve(is_aborted, pending()));
        assert!(registry.close(closed));
    }
    while registry.stats().open > 2_500 {
        tokio::task::yield_now().await;
    }
    tasks.cancel_all();
    tasks.join().await;
    assert_eq!(registry.connections(), []);
    let stats = FlowStats { total: 10_000, failed: 2_500, closed_by_us: 5_000, ..FlowStats::default() };
    assert_eq!(registry.stats(), stats);
    assert!(entries.iter().all(|entry| entry.strong_count() == 0));
}

#[test]
fn the_counters_add_up_while_flows_come_and_go() {
    const FLOWS: u64 = 4_000_000;
    let counters = Counters::default();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let outcomes = [Outcome::Finished, Outcome::Failed, Outcome::Refused, Outcome::ClosedByUs];
            for outcome in outcomes.into_iter().cycle().take(usize::try_from(FLOWS).unwrap()) {
                counters.begin();
                counters.end(outcome);
            }
            done.store(true, Ordering::Release);
        });
        let mut before = FlowStats::default();
        while !done.load(Ordering::Acquire) {
            let now = counters.snapshot(); // which panics when more have ended than there were
            assert!(now.refused + now.failed + now.closed_by_us <= now.total - now.open, "{now:?}");
            assert!(now.total >= before.total && now.total - now.open >= before.total - before.open);
            before = now;
        }
    });
    let quarter = FLOWS / 4;
    let stats = counters.snapshot();
    assert_eq!((stats.open, stats.total), (0, FLOWS));
    assert_eq!((stats.refused, stats.failed, stats.closed_by_us), (quarter, quarter, quarter));
}
