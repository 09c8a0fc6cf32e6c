//! When a flow ends, and that nothing of it is left.

use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use anytls_mobile::budget::{Account, Pressure};
use anytls_mobile::netstack::{DropReason, Fate, Options, UdpFlow};

use crate::app::connect;
use crate::host::{Socket, poll_recv, poll_send, recv, send, server, take};
use crate::rig::{Rig, settle};

async fn pass(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

fn has_ended(flow: &mut UdpFlow) -> bool {
    matches!(poll_recv(flow), Poll::Ready(None))
}

#[tokio::test(start_paused = true)]
async fn a_flow_ends_after_a_minute_without_a_datagram() {
    let mut rig = Rig::udp(Fate::Carry);
    let (_socket, mut flow) = rig.associate(5000).await;
    tokio::time::sleep(Duration::from_millis(59_900)).await;
    assert_eq!(take(&mut flow), None);
    assert_eq!(rig.counters().udp_flows_open, 1);
    tokio::time::sleep(Duration::from_millis(5_200)).await; // it may be 5 s late
    assert!(has_ended(&mut flow));
    assert_eq!((rig.counters().udp_flows_open, rig.counters().udp_flows_expired), (0, 1));
    assert_eq!(poll_send(&mut flow, server(1), b"too late"), Poll::Ready(()));
    drop(flow);
    settle().await;
    assert!(rig.tap.take().is_none());
    assert_eq!(rig.counters().udp_flows_expired, 1);
}

#[tokio::test(start_paused = true)]
async fn what_is_queued_is_read_before_the_end() {
    let mut rig = Rig::udp(Fate::Carry);
    let (socket, mut flow) = rig.associate(5000).await;
    socket.send(server(1), b"unread");
    pass(66).await;
    assert_eq!(rig.counters().udp_flows_open, 0);
    assert_eq!(take(&mut flow).unwrap().1, b"unread");
    assert!(has_ended(&mut flow));
}

#[tokio::test(start_paused = true)]
async fn a_relay_that_waits_hears_of_the_end() {
    let mut rig = Rig::udp(Fate::Carry);
    let (_socket, mut flow) = rig.associate(5000).await;
    let relay = tokio::spawn(async move { recv(&mut flow).await.is_none() });
    pass(66).await;
    assert!(relay.is_finished() && relay.await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_datagram_either_way_begins_the_minute_anew() {
    let mut rig = Rig::udp(Fate::Carry);
    let (up, mut sending) = rig.associate(5000).await;
    let (_down, mut receiving) = rig.associate(5001).await;
    let (_none, mut idle) = rig.associate(5002).await;
    for _ in 0..5 {
        pass(50).await;
        up.send(server(1), b"up");
        send(&mut receiving, server(1), b"down").await;
        settle().await;
        assert_eq!(take(&mut sending).unwrap().1, b"up");
        assert_eq!(take(&mut receiving), None);
    }
    assert!(has_ended(&mut idle));
    assert_eq!(rig.counters().udp_flows_open, 2);
    pass(66).await;
    assert!(has_ended(&mut sending) && has_ended(&mut receiving));
}

#[tokio::test(start_paused = true)]
async fn the_least_recently_used_goes_at_the_limit() {
    let mut rig = Rig::udp_with(Fate::Carry, Options { max_udp_flows: 3, ..Options::default() });
    let (one, mut first) = rig.associate(5001).await;
    pass(1).await;
    let (_two, mut second) = rig.associate(5002).await;
    pass(1).await;
    let (_three, mut third) = rig.associate(5003).await;
    pass(1).await;
    one.send(server(1), b"in use");
    pass(1).await;
    send(&mut second, server(1), b"in use, too").await;
    pass(1).await;
    let (_four, mut fourth) = rig.associate(5004).await;
    assert!(has_ended(&mut third));
    assert_eq!(take(&mut first).unwrap().1, b"in use");
    assert_eq!((take(&mut second), take(&mut fourth)), (None, None));
    let counters = rig.counters();
    assert_eq!((counters.udp_flows_open, counters.udp_flows_evicted), (3, 1));
    assert_eq!(counters.udp_flows_expired, 0);
}

#[tokio::test(start_paused = true)]
async fn a_lower_limit_ends_those_used_longest_ago() {
    let mut rig = Rig::udp(Fate::Carry);
    let mut flows = Vec::new();
    for port in 0..5 {
        flows.push(rig.associate(5000 + port).await);
        pass(1).await;
    }
    rig.control.set_max_udp_flows(2);
    settle().await;
    let ended: Vec<_> = flows.iter_mut().map(|(_, flow)| has_ended(flow)).collect();
    assert_eq!(ended, [true, true, true, false, false]);
    assert_eq!(rig.counters().udp_flows_evicted, 3);
    flows.push(rig.associate(6000).await);
    assert!(has_ended(&mut flows[3].1), "and it stays");
    rig.control.set_max_udp_flows(10);
    settle().await;
    rig.associate(6001).await;
    assert_eq!(rig.counters().udp_flows_open, 3);
}

#[tokio::test(start_paused = true)]
async fn with_a_limit_of_none_there_are_none() {
    let mut rig = Rig::udp_with(Fate::Carry, Options { max_udp_flows: 0, ..Options::default() });
    Socket::new(&rig, 5000).send(server(1), b"x");
    rig.no_udp_flow().await;
    assert_eq!(rig.counters().dropped[DropReason::TooManyFlows], 1);
}

#[tokio::test(start_paused = true)]
async fn a_thousand_flows_end_together_and_leave_nothing() {
    let account = Arc::new(Account::new(1 << 20));
    let options = Options { datagrams: Arc::clone(&account), ..Options::default() };
    let mut rig = Rig::udp_with(Fate::Carry, options);
    let mut flows = Vec::new();
    for port in 0..1000 {
        Socket::new(&rig, 10_000 + port).send(server(1), b"unread");
        if port % 50 == 0 {
            settle().await;
        }
    }
    settle().await;
    while let Ok(flow) = rig.udp_flows.try_recv() {
        flows.push(flow);
    }
    assert_eq!((flows.len(), rig.counters().udp_flows_open), (1000, 1000));
    assert!(rig.control.memory_held() >= 1000 * 2048, "each counts as a flow");
    assert!(account.held() >= 1000 * 6);
    let polls = rig.tap.polls();
    pass(66).await;
    assert_eq!((rig.counters().udp_flows_open, rig.counters().udp_flows_expired), (0, 1000));
    assert_eq!(rig.control.memory_held(), 0);
    assert!(rig.tap.polls() - polls <= 3, "one timer for all: {}", rig.tap.polls() - polls);
    drop(flows);
    settle().await;
    assert_eq!(account.held(), 0);

    let polls = rig.tap.polls();
    pass(24 * 3600).await;
    assert_eq!(rig.tap.polls(), polls, "nothing wakes an idle stack");
}

#[tokio::test(start_paused = true)]
async fn flows_that_are_dropped_leave_no_timer() {
    let mut rig = Rig::udp(Fate::Carry);
    let (_socket, one) = rig.associate(5000).await;
    let (_socket, two) = rig.associate(5001).await;
    drop((one, two));
    pass(6).await; // the alarm that was set may ring once
    let counters = rig.counters();
    assert_eq!((counters.udp_flows_open, counters.udp_flows_expired), (0, 0));
    assert_eq!(rig.control.memory_held(), 0);
    let polls = rig.tap.polls();
    pass(3600).await;
    assert_eq!(rig.tap.polls(), polls);
}

#[tokio::test(start_paused = true)]
async fn after_a_drop_the_next_datagram_is_a_new_flows() {
    let mut rig = Rig::udp(Fate::Carry);
    let (socket, flow) = rig.associate(5000).await;
    drop(flow);
    socket.send(server(2), b"again"); // in the turn that hears of the drop
    let mut flow = rig.udp_flow().await;
    assert_eq!(take(&mut flow), Some((server(2), b"again".to_vec())));
    assert_eq!((rig.counters().udp_flows_open, rig.counters().udp_flows_total), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn what_was_sent_before_a_drop_still_leaves() {
    let mut rig = Rig::udp(Fate::Carry);
    let (socket, mut flow) = rig.associate(5000).await;
    assert!(poll_send(&mut flow, server(1), b"the last word").is_ready());
    drop(flow);
    settle().await;
    assert_eq!(socket.all(), [(server(1), b"the last word".to_vec())]);
    assert_eq!(rig.counters().udp_flows_open, 0);
}

#[tokio::test(start_paused = true)]
async fn what_was_sent_before_a_drop_leaves_also_when_a_new_flow_begins() {
    let mut rig = Rig::udp(Fate::Carry);
    let (socket, mut flow) = rig.associate(5000).await;
    // Both reach the stack in one turn.
    let sent = poll_send(&mut flow, server(1), b"last words");
    drop(flow);
    socket.send(server(1), b"new");
    assert!(sent.is_ready());
    assert_eq!(take(&mut rig.udp_flow().await).unwrap().1, b"new");
    assert_eq!(socket.all(), [(server(1), b"last words".to_vec())]);
}

#[tokio::test(start_paused = true)]
async fn a_stopped_stack_ends_every_flow() {
    let mut rig = Rig::udp(Fate::Carry);
    let (_socket, mut flow) = rig.associate(5000).await;
    let (_socket, mut waiting) = rig.associate(5001).await;
    let relay = tokio::spawn(async move { recv(&mut waiting).await.is_none() });
    settle().await;
    rig.control.stop();
    rig.task.await.unwrap().unwrap();
    assert!(has_ended(&mut flow) && relay.await.unwrap());
    for _ in 0..100 {
        assert!(poll_send(&mut flow, server(1), b"into the void").is_ready());
    }
}

#[tokio::test(start_paused = true)]
async fn a_device_that_ends_ends_every_flow() {
    let mut rig = Rig::udp(Fate::Carry);
    let (_socket, mut flow) = rig.associate(5000).await;
    rig.tap.close();
    rig.task.await.unwrap().unwrap_err();
    assert!(has_ended(&mut flow));

    let mut rig = Rig::udp(Fate::Carry);
    let (_socket, mut flow) = rig.associate(5000).await;
    rig.tap.close_quietly();
    send(&mut flow, server(1), b"into the void").await;
    rig.task.await.unwrap().unwrap_err();
    assert!(has_ended(&mut flow));
}

#[tokio::test(start_paused = true)]
async fn a_stack_dropped_ends_every_flow() {
    let mut rig = Rig::udp(Fate::Carry);
    let (_socket, mut flow) = rig.associate(5000).await;
    let relay = tokio::spawn(async move { recv(&mut flow).await.is_none() });
    settle().await;
    rig.task.abort();
    assert!(relay.await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn critical_ends_the_idle_half_and_refuses_new_ones_until_it_is_over() {
    let mut rig = Rig::udp(Fate::Carry);
    let mut flows = Vec::new();
    for port in 0..6 {
        flows.push(rig.associate(5000 + port).await);
        pass(2).await;
    }
    // The oldest is in use again; the others are idle for 2 to 10 s, and later for 10 s and more.
    flows[0].0.send(server(1), b"in use");
    pass(1).await;
    rig.control.set_pressure(Pressure::Critical);
    settle().await;
    assert_eq!(rig.counters().udp_flows_evicted, 1, "one is idle for long");
    assert!(has_ended(&mut flows[1].1));
    let (_, mut used) = flows.swap_remove(0);
    assert_eq!(take(&mut used).unwrap().1, b"in use");

    Socket::new(&rig, 6000).send(server(1), b"new");
    rig.no_udp_flow().await;
    assert_eq!(rig.counters().dropped[DropReason::NoMemory], 1);
    flows.last().unwrap().0.send(server(1), b"known");
    settle().await;
    rig.control.set_pressure(Pressure::Normal);
    settle().await;
    rig.associate(6000).await;

    pass(30).await;
    rig.control.set_pressure(Pressure::Critical);
    settle().await;
    assert_eq!(rig.counters().udp_flows_evicted, 1 + 2, "half of five");
}

#[tokio::test(start_paused = true)]
async fn the_limit_on_memory_counts_both_kinds_of_flows() {
    let flow_bytes = 64 * 1024;
    // Four flows, and a sixteenth for rings.
    let options = Options { memory_bytes: 4 * flow_bytes * 16 / 15, flow_bytes, ..Options::default() };
    let mut rig = Rig::udp_with(Fate::Carry, options);
    let tcp = connect(&mut rig, 40_000).await;
    let mut flows = Vec::new();
    for port in 0..3 {
        flows.push(rig.associate(5000 + port).await);
        pass(1).await;
    }
    assert_eq!(rig.counters().udp_flows_evicted, 0);
    flows.push(rig.associate(6000).await);
    assert_eq!(rig.counters().udp_flows_evicted, 1);
    assert!(has_ended(&mut flows[0].1));
    assert_eq!(rig.counters().udp_flows_open, 3);

    // Nothing to make room with.
    drop(flows);
    settle().await;
    let tcp = [tcp, connect(&mut rig, 40_001).await, connect(&mut rig, 40_002).await];
    let last = connect(&mut rig, 40_003).await;
    Socket::new(&rig, 7000).send(server(1), b"no room");
    rig.no_udp_flow().await;
    assert_eq!(rig.counters().dropped[DropReason::NoMemory], 1);
    drop((tcp, last));
}
