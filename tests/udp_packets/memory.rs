//! What datagrams hold, and what happens when there is no more.

use std::sync::Arc;
use std::task::Poll;

use anytls_mobile::budget::{Account, Pressure};
use anytls_mobile::netstack::{DropReason, Fate, Options};

use crate::host::{Socket, poll_recv, poll_send, send, server, take};
use crate::rig::{Rig, settle};

fn rig(limit: usize) -> (Rig, Arc<Account>) {
    let account = Arc::new(Account::new(limit));
    let options = Options { datagrams: Arc::clone(&account), ..Options::default() };
    (Rig::udp_with(Fate::Carry, options), account)
}

#[tokio::test(start_paused = true)]
async fn a_datagram_counts_until_the_relay_lets_it_go() {
    let (mut rig, account) = rig(1 << 20);
    Socket::new(&rig, 5000).send(server(1), &[1; 1000]);
    let mut flow = rig.udp_flow().await;
    let held = account.held();
    assert!((1000..1200).contains(&held));
    let Poll::Ready(Some(datagram)) = poll_recv(&mut flow) else { panic!("a datagram") };
    assert_eq!((account.held(), datagram.payload.len()), (held, 1000));
    drop(flow);
    settle().await;
    assert_eq!(account.held(), held, "the flow is gone, the payload is not");
    drop(datagram);
    assert_eq!(account.held(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_flow_holds_a_part_of_what_is_free_with_what_its_relay_has() {
    let (mut rig, account) = rig(80_000);
    let socket = Socket::new(&rig, 5000);
    let other = Socket::new(&rig, 5001);
    for _ in 0..20 {
        socket.send(server(1), &[1; 1000]);
    }
    let mut flow = rig.udp_flow().await;
    let most = account.held();
    assert!((7_000..=10_000).contains(&most), "an eighth of what is free: {most}");
    let dropped = rig.counters().dropped[DropReason::NoMemory];
    assert_eq!(dropped, 20 - u64::try_from(most / 1000).unwrap());
    // The relay takes one and keeps it: no room for another.
    let Poll::Ready(Some(kept)) = poll_recv(&mut flow) else { panic!("a datagram") };
    socket.send(server(1), &[2; 1000]);
    settle().await;
    assert_eq!(rig.counters().dropped[DropReason::NoMemory], dropped + 1);
    drop(kept);
    socket.send(server(1), &[3; 1000]);
    other.send(server(1), &[4; 1000]);
    settle().await;
    assert_eq!(rig.counters().dropped[DropReason::NoMemory], dropped + 1);
    assert_eq!(take(&mut rig.udp_flow().await).unwrap().1, [4; 1000]);
    let last = std::iter::from_fn(|| take(&mut flow)).last().unwrap();
    assert_eq!(last.1, [3; 1000]);
    drop(flow);
    settle().await;
    assert_eq!(account.held(), 0);
}

#[tokio::test(start_paused = true)]
async fn one_datagram_of_any_size_passes_as_long_as_there_is_room() {
    let (mut rig, account) = rig(2_000);
    let (socket, mut flow) = rig.associate(5000).await;
    socket.send(server(1), &[1; 1400]);
    settle().await;
    assert_eq!(take(&mut flow).unwrap().1, [1; 1400]);
    send(&mut flow, server(1), &[2; 1400]).await;
    settle().await;
    assert_eq!(socket.all(), [(server(1), vec![2; 1400])]);

    // And none when there is not.
    let hog = anytls_mobile::budget::Holding::new(&account);
    hog.set(1_000);
    socket.send(server(1), &[3; 1400]);
    assert!(poll_send(&mut flow, server(1), &[4; 1400]).is_ready(), "dropped: nothing would wake it");
    Socket::new(&rig, 5001).send(server(1), &[5; 1400]);
    rig.no_udp_flow().await;
    assert_eq!((take(&mut flow), socket.all()), (None, vec![]));
    assert_eq!(rig.counters().dropped[DropReason::NoMemory], 3);
    assert_eq!((account.held(), rig.counters().udp_flows_open), (1_000, 1));
}

#[tokio::test(start_paused = true)]
async fn no_flow_goes_for_one_whose_datagram_has_no_room() {
    let account = Arc::new(Account::new(1_000));
    let options = Options { datagrams: Arc::clone(&account), max_udp_flows: 1, ..Options::default() };
    let mut rig = Rig::udp_with(Fate::Carry, options);
    let (_socket, mut flow) = rig.associate(5000).await;
    Socket::new(&rig, 5001).send(server(1), &[1; 1400]);
    rig.no_udp_flow().await;
    assert!(poll_recv(&mut flow).is_pending());
}

#[tokio::test(start_paused = true)]
async fn towards_the_app_a_part_of_what_is_free_holds_the_relay_back() {
    let (mut rig, account) = rig(80_000);
    let (socket, mut flow) = rig.associate(5000).await;
    let mut sent = 0;
    while poll_send(&mut flow, server(1), &[1; 1000]).is_ready() {
        sent += 1;
    }
    assert!((6..=9).contains(&sent), "{sent}");
    assert!(account.held() <= 10_000);
    settle().await;
    assert_eq!((socket.all().len(), account.held()), (sent, 0));
    assert!(poll_send(&mut flow, server(1), &[1; 1000]).is_ready());
    assert_eq!(rig.counters().dropped.total(), 0);
}

#[tokio::test(start_paused = true)]
async fn queues_of_flows_that_end_hold_nothing() {
    let (mut rig, account) = rig(1 << 20);
    let (socket, mut flow) = rig.associate(5000).await;
    socket.send(server(1), &[1; 1000]);
    settle().await;
    rig.tap.fill(usize::MAX);
    assert!(poll_send(&mut flow, server(1), &[1; 1000]).is_ready());
    settle().await;
    assert!(account.held() > 2_000);
    rig.control.stop();
    rig.task.await.unwrap().unwrap();
    assert!((1_000..2_000).contains(&account.held()), "what is to be read is left");
    drop(flow);
    assert_eq!(account.held(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_refused_flow_holds_nothing() {
    let (mut rig, account) = rig(1 << 20);
    let (socket, mut flow) = rig.associate(5000).await;
    socket.send(server(1), &[1; 1000]);
    settle().await;
    assert!(poll_send(&mut flow, server(1), &[1; 1000]).is_ready());
    flow.refuse();
    settle().await;
    assert_eq!(account.held(), 0);
    assert_eq!(socket.all(), []);
}

#[tokio::test(start_paused = true)]
async fn when_memory_is_critical_a_known_flow_has_one_datagram_at_a_time() {
    let (mut rig, account) = rig(1 << 20);
    let (socket, mut flow) = rig.associate(5000).await;
    rig.control.set_pressure(Pressure::Critical);
    settle().await;
    assert_eq!(account.pressure(), Pressure::Critical);
    for _ in 0..2 {
        socket.send(server(1), b"one");
        socket.send(server(1), b"and another");
        settle().await;
        assert_eq!(take(&mut flow).unwrap().1, b"one");
        assert_eq!(take(&mut flow), None);
    }
    assert!(poll_send(&mut flow, server(1), b"one").is_ready());
    assert!(poll_send(&mut flow, server(1), b"and another").is_pending());
    settle().await;
    assert_eq!(socket.all().len(), 1);
    rig.control.set_pressure(Pressure::Normal);
    settle().await;
    for _ in 0..2 {
        assert!(poll_send(&mut flow, server(1), b"again").is_ready());
    }
}
