//! Queries, and answers that come at once, late, or too late.

use std::sync::Arc;
use std::time::Duration;

use anytls_mobile::budget::Account;
use anytls_mobile::netstack::{DropReason, Fate, Options};

use crate::host::{Socket, server, server_v6, source};
use crate::rig::{Rig, settle};

#[tokio::test(start_paused = true)]
async fn an_answer_from_the_handler_leaves_in_the_same_turn() {
    let rig = Rig::udp(Fate::Answer);
    let socket = Socket::new(&rig, 5000);
    settle().await;
    let polls = rig.tap.polls();
    socket.send(server(53), b"now, please");
    settle().await;
    assert_eq!(socket.all(), [(server(53), b"now, please".to_vec())]);
    assert_eq!(rig.tap.sent_at(), [polls + 2], "a packet, no other packet, and then the answer");
    let counters = rig.counters();
    assert_eq!((counters.queries, counters.datagrams_in, counters.datagrams_out), (1, 1, 1));
    assert_eq!(counters.udp_flows_total, 0);
}

#[tokio::test(start_paused = true)]
async fn an_answer_may_come_late_and_from_another_thread() {
    let mut rig = Rig::udp(Fate::Answer);
    let v4 = Socket::new(&rig, 5000);
    let v6 = Socket::v6(&rig, 5001);
    v4.send(server(53), b"four?");
    v6.send(server_v6(53), b"six?");
    tokio::time::sleep(Duration::from_secs(300)).await;
    let (question, reply) = rig.queries.try_recv().unwrap();
    assert_eq!(question, b"four?");
    assert_eq!((reply.source(), reply.destination()), (source(5000), server(53)));
    let (_, other) = rig.queries.try_recv().unwrap();
    std::thread::scope(|scope| scope.spawn(|| other.send(b"six!")).join().unwrap());
    settle().await;
    assert_eq!(v6.all(), [(server_v6(53), b"six!".to_vec())]);
    assert_eq!(v4.all(), []);
    reply.send(b"four!");
    settle().await;
    assert_eq!(v4.all(), [(server(53), b"four!".to_vec())]);
}

#[tokio::test(start_paused = true)]
async fn answers_hold_memory_until_they_leave_and_few_are_taken_without_any() {
    let account = Arc::new(Account::new(4096));
    let options = Options { datagrams: Arc::clone(&account), ..Options::default() };
    let mut rig = Rig::udp_with(Fate::Answer, options);
    let socket = Socket::new(&rig, 5000);
    for _ in 0..40 {
        socket.send(server(53), b"?");
    }
    settle().await;
    rig.tap.fill(1);
    for _ in 0..20 {
        rig.queries.try_recv().unwrap().1.send(&[1; 1000]);
    }
    settle().await;
    assert_eq!(rig.counters().dropped[DropReason::NoMemory], 4, "16 wait, though there is memory for 3");
    assert!(account.held() >= 16_000, "{}", account.held());
    for _ in 0..20 {
        rig.queries.try_recv().unwrap().1.send(&[1; 1000]);
    }
    settle().await;
    assert_eq!(rig.counters().dropped[DropReason::NoMemory], 8, "and 16 besides");
    assert!(rig.tap.take().is_none(), "the device has no room");
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!(socket.all().len(), 32);
    assert_eq!(account.held(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_no_packet_can_carry_is_dropped() {
    let mut rig = Rig::udp(Fate::Answer);
    Socket::new(&rig, 5000).send(server(53), b"?");
    settle().await;
    rig.queries.try_recv().unwrap().1.send(&[0; 65_508]);
    settle().await;
    assert_eq!(rig.counters().dropped[DropReason::TooLong], 1);
    assert!(rig.tap.take().is_none());
}

#[tokio::test(start_paused = true)]
async fn an_answer_after_the_end_goes_nowhere_and_holds_nothing() {
    let account = Arc::new(Account::new(4096));
    let options = Options { datagrams: Arc::clone(&account), ..Options::default() };
    let mut rig = Rig::udp_with(Fate::Answer, options);
    let socket = Socket::new(&rig, 5000);
    socket.send(server(53), b"?");
    socket.send(server(53), b"?");
    settle().await;
    let (early, late) = (rig.queries.try_recv().unwrap().1, rig.queries.try_recv().unwrap().1);
    rig.control.stop();
    early.send(b"not heard any more");
    rig.task.await.unwrap().unwrap();
    assert_eq!(account.held(), 0);
    late.send(b"to nobody");
    assert_eq!(account.held(), 0);
    assert_eq!(socket.all(), []);
}

#[tokio::test(start_paused = true)]
async fn a_query_that_is_not_answered_leaves_nothing() {
    let mut rig = Rig::udp(Fate::Answer);
    Socket::new(&rig, 5000).send(server(53), b"?");
    settle().await;
    drop(rig.queries.try_recv().unwrap());
    let polls = rig.tap.polls();
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(rig.tap.polls(), polls);
}
