//! Which flow a datagram belongs to, and what reaches the other side.

use anytls_mobile::netstack::{DropReason, Fate, Options};

use crate::host::{Socket, poll_recv, recv, send, server, server_v6, source, take};
use crate::rig::{MTU, Rig, settle};

#[tokio::test(start_paused = true)]
async fn all_destinations_of_an_endpoint_are_one_flow() {
    let mut rig = Rig::udp(Fate::Carry);
    let socket = Socket::new(&rig, 5000);
    socket.send(server(1), b"one");
    socket.send(server(2), b"two");
    let mut flow = rig.udp_flow().await;
    assert_eq!((flow.source(), flow.destination()), (source(5000), server(1)));
    socket.send(server(1), b"three");
    rig.no_udp_flow().await;
    let taken: Vec<_> = std::iter::from_fn(|| take(&mut flow)).collect();
    let expected = [(server(1), &b"one"[..]), (server(2), b"two"), (server(1), b"three")];
    assert_eq!(taken, expected.map(|(to, payload)| (to, payload.to_vec())));

    Socket::new(&rig, 5001).send(server(1), b"another endpoint");
    assert_eq!(rig.udp_flow().await.source(), source(5001));
    assert_eq!((rig.counters().datagrams_in, rig.counters().udp_flows_total), (4, 2));
}

#[tokio::test(start_paused = true)]
async fn answers_from_anyone_reach_the_app_with_their_true_source() {
    let mut rig = Rig::udp(Fate::Carry);
    let (socket, mut flow) = rig.associate(5000).await;
    let strangers = [server(1), ([203, 0, 113, 7], 9).into(), ([192, 0, 2, 1], 444).into()];
    for from in strangers {
        send(&mut flow, from, from.to_string().as_bytes()).await;
    }
    settle().await;
    assert_eq!(socket.all(), strangers.map(|from| (from, from.to_string().into_bytes())));
    assert_eq!(rig.counters().datagrams_out, 3);
}

#[tokio::test(start_paused = true)]
async fn datagrams_over_ipv6_go_both_ways() {
    let mut rig = Rig::udp(Fate::Carry);
    let socket = Socket::v6(&rig, 5000);
    socket.send(server_v6(1), b"up");
    let mut flow = rig.udp_flow().await;
    assert_eq!(take(&mut flow), Some((server_v6(1), b"up".to_vec())));
    send(&mut flow, server_v6(2), b"down").await;
    settle().await;
    assert_eq!(socket.all(), [(server_v6(2), b"down".to_vec())]);
}

#[tokio::test(start_paused = true)]
async fn alone_each_destination_is_a_flow_of_its_own() {
    let mut rig = Rig::udp(Fate::CarryAlone);
    let socket = Socket::new(&rig, 5000);
    socket.send(server(1), b"one");
    socket.send(server(2), b"two");
    let mut one = rig.udp_flow().await;
    let mut two = rig.udp_flow().await;
    assert_eq!((one.destination(), two.destination()), (server(1), server(2)));
    socket.send(server(2), b"again");
    rig.no_udp_flow().await;
    assert_eq!(take(&mut one).unwrap().1, b"one");
    assert_eq!(take(&mut one), None);
    assert_eq!(take(&mut two).unwrap().1, b"two");
    assert_eq!(take(&mut two).unwrap().1, b"again");

    // The same endpoint's common flow is another one.
    rig.set_fate(Fate::Carry);
    socket.send(server(1), b"in common");
    assert_eq!(take(&mut rig.udp_flow().await).unwrap().1, b"in common");
    assert_eq!(take(&mut one), None);
}

#[tokio::test(start_paused = true)]
async fn a_common_flow_keeps_the_destination_that_it_began_with() {
    let mut rig = Rig::udp(Fate::Carry);
    let (socket, mut common) = rig.associate(5000).await;
    rig.set_fate(Fate::CarryAlone); // as the server turned out to do one destination a stream
    socket.send(server(1), b"goes on");
    rig.no_udp_flow().await;
    assert_eq!(take(&mut common), Some((server(1), b"goes on".to_vec())));
    socket.send(server(2), b"another");
    let mut alone = rig.udp_flow().await;
    assert_eq!((alone.destination(), take(&mut alone).unwrap().1), (server(2), b"another".to_vec()));
    assert_eq!(take(&mut common), None);
}

#[tokio::test(start_paused = true)]
async fn the_oldest_of_sixty_five_is_dropped() {
    let mut rig = Rig::udp(Fate::Carry);
    let socket = Socket::new(&rig, 5000);
    for number in 0..64_u8 {
        socket.send(server(1), &[number]);
    }
    settle().await;
    assert_eq!(rig.counters().dropped.total(), 0);
    socket.send(server(1), &[64]);
    let mut flow = rig.udp_flow().await;
    let taken: Vec<_> = std::iter::from_fn(|| take(&mut flow)).map(|(_, payload)| payload[0]).collect();
    assert_eq!(taken, (1..=64).collect::<Vec<_>>());
    assert_eq!(rig.counters().dropped[DropReason::QueueFull], 1);
    assert_eq!(rig.counters().dropped.total(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_empty_datagram_is_a_datagram() {
    let mut rig = Rig::udp(Fate::Carry);
    let socket = Socket::new(&rig, 5000);
    socket.send(server(1), b"");
    let mut flow = rig.udp_flow().await;
    assert_eq!(take(&mut flow), Some((server(1), vec![])));
    send(&mut flow, server(1), b"").await;
    settle().await;
    assert_eq!(socket.all(), [(server(1), vec![])]);
}

#[tokio::test(start_paused = true)]
async fn a_relay_that_waits_is_woken() {
    let mut rig = Rig::udp(Fate::Carry);
    let (socket, mut flow) = rig.associate(5000).await;
    let relay = tokio::spawn(async move { (recv(&mut flow).await, flow) });
    settle().await;
    socket.send(server(9), b"late");
    let (datagram, _flow) = relay.await.unwrap();
    let datagram = datagram.unwrap();
    assert_eq!((datagram.destination, datagram.payload.as_ref()), (server(9), &b"late"[..]));
}

#[tokio::test(start_paused = true)]
async fn datagrams_to_our_own_server_are_dropped_before_anyone_is_asked() {
    for fate in [Fate::Carry, Fate::CarryAlone, Fate::Answer, Fate::Refuse] {
        let mut rig = Rig::udp_with(fate, Options { deny: vec![server(1)], ..Options::default() });
        Socket::new(&rig, 5000).send(server(1), b"our own");
        rig.no_udp_flow().await;
        assert!(rig.queries.try_recv().is_err() && rig.tap.take().is_none());
        assert_eq!(rig.counters().dropped[DropReason::OwnServer], 1);
        assert_eq!(rig.counters().datagrams_in, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_app_cannot_be_sent_is_dropped_and_counted() {
    let mut rig = Rig::udp(Fate::Carry);
    let (socket, mut flow) = rig.associate(5000).await;
    send(&mut flow, server_v6(1), b"from another world").await;
    send(&mut flow, server(1), &[0; 65_508]).await;
    settle().await;
    assert_eq!(socket.all(), []);
    assert_eq!(rig.counters().dropped[DropReason::OtherFamily], 1);
    assert_eq!(rig.counters().dropped[DropReason::TooLong], 1);

    let socket = Socket::v6(&rig, 5000);
    socket.send(server_v6(1), b"up");
    let mut flow = rig.udp_flow().await;
    send(&mut flow, server(1), b"from another world").await;
    send(&mut flow, server_v6(1), &[0; 65_528]).await;
    settle().await;
    assert_eq!(socket.all(), []);
    assert_eq!(rig.counters().dropped[DropReason::OtherFamily], 2);
    assert_eq!(rig.counters().dropped[DropReason::TooLong], 2);
    assert!(poll_recv(&mut flow).is_ready());
    send(&mut flow, server_v6(1), &[7; MTU - 48]).await;
    settle().await;
    assert_eq!(socket.all(), [(server_v6(1), vec![7; MTU - 48])]);
}
