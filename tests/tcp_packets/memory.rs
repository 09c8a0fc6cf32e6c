//! Bounded memory, and bytes that survive it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use anytls_mobile::netstack::{DropReason, Options, TcpStream};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use smoltcp::iface::SocketHandle;
use smoltcp::socket::tcp::State;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::app::{App, connect, see};
use crate::peer::{Impairment, Peer};
use crate::rig::{MTU, Rig, settle};

/// The byte at a place of a flow's stream; no two flows or pages look alike.
fn byte(flow: usize, at: usize) -> u8 {
    (at.wrapping_mul(31) ^ (at >> 8).wrapping_mul(17) ^ flow.wrapping_mul(101)) as u8 | 1
}

fn stream_bytes(flow: usize, from: usize, len: usize) -> Vec<u8> {
    (from..from + len).map(|at| byte(flow, at)).collect()
}

/// Flows that send and receive at once over a link that loses, doubles and reorders, with readers that
/// dawdle, on a budget that is too small for them.
async fn survive(seed: u64, impairment: Impairment) {
    const FLOWS: usize = 4;
    const LEN: usize = 300_000;
    let budget = 384 * 1024;
    let mut rig = Rig::with(Options { memory_bytes: budget, ..Options::default() }, MTU);
    let mut peer = Peer::new(&rig.tap, seed, impairment);
    let mut random = StdRng::seed_from_u64(seed ^ 0xf00d);
    let handles: Vec<SocketHandle> =
        (0..FLOWS).map(|flow| peer.connect(30_000 + flow as u16, ([192, 0, 2, 1], 80).into())).collect();
    let done: Arc<Mutex<Vec<usize>>> = Arc::new(Mutex::new(Vec::new()));
    let (mut sent, mut got) = ([0; FLOWS], [0; FLOWS]);
    let mut given_back = false;
    let mut last = 0;
    while peer.now_ms() < 3_600_000 {
        peer.step().await;
        if let Ok(flow) = rig.flows.try_recv() {
            let index = usize::from(flow.source().port() - 30_000);
            let random = StdRng::seed_from_u64(seed ^ index as u64);
            tokio::spawn(serve(index, LEN, flow.accept(), random, done.clone()));
        }
        if peer.now_ms() > 200_000 {
            peer.heal(); // retransmission timers back off for minutes
        }
        for flow in 0..FLOWS {
            let socket = peer.socket(handles[flow]);
            if socket.may_send() && sent[flow] < LEN {
                let len = random.random_range(1..20_000).min(LEN - sent[flow]);
                sent[flow] += socket.send_slice(&stream_bytes(flow, sent[flow], len)).unwrap();
                if sent[flow] == LEN {
                    socket.close();
                }
            }
            if socket.can_recv() && random.random_range(0..10) == 0 {
                let from = got[flow];
                got[flow] += socket
                    .recv(|bytes| {
                        assert!(bytes == stream_bytes(flow, from, bytes.len()), "seed {seed}: down");
                        (bytes.len(), bytes.len())
                    })
                    .unwrap();
            }
        }
        let held = usize::try_from(rig.counters().memory_bytes).unwrap();
        assert!(held <= budget, "seed {seed}: {held} bytes held");
        given_back |= held < last && rig.counters().flows_open == FLOWS as u64;
        last = held;
        let closed = handles
            .iter()
            .all(|&handle| matches!(peer.socket(handle).state(), State::Closed | State::TimeWait));
        if closed && got == [LEN; FLOWS] && done.lock().unwrap().len() == FLOWS {
            break;
        }
    }
    assert_eq!(got, [LEN; FLOWS], "seed {seed}: everything came down");
    assert_eq!(done.lock().unwrap().len(), FLOWS, "seed {seed}: everything went up");
    assert!(given_back, "seed {seed}: the test has tried what it is for");
}

/// The stack's end of a flow: reads and checks, writes, dawdles.
async fn serve(flow: usize, len: usize, stream: TcpStream, mut random: StdRng, done: Arc<Mutex<Vec<usize>>>) {
    let mut writing = StdRng::seed_from_u64(random.random());
    let (mut reader, mut writer) = tokio::io::split(stream);
    let read = async {
        let mut got = 0;
        let mut buf = vec![0; 30_000];
        loop {
            let most = random.random_range(1..buf.len());
            let count = reader.read(&mut buf[..most]).await.unwrap();
            assert!(buf[..count] == stream_bytes(flow, got, count), "up, at {got} of flow {flow}");
            got += count;
            if count == 0 {
                break;
            }
            dawdle(&mut random).await;
        }
        assert_eq!(got, len);
    };
    let write = async {
        let mut sent = 0;
        while sent < len {
            let chunk = writing.random_range(1..30_000).min(len - sent);
            writer.write_all(&stream_bytes(flow, sent, chunk)).await.unwrap();
            sent += chunk;
            dawdle(&mut writing).await;
        }
        writer.shutdown().await.unwrap();
    };
    tokio::join!(read, write);
    done.lock().unwrap().push(flow);
}

async fn dawdle(random: &mut StdRng) {
    match random.random_range(0..40) {
        0 => tokio::time::sleep(Duration::from_millis(random.random_range(1000..4000))).await,
        1..10 => tokio::time::sleep(Duration::from_millis(random.random_range(1..30))).await,
        _ => {}
    }
}

#[tokio::test(start_paused = true)]
async fn bytes_survive_loss_reordering_and_pages_given_back() {
    for seed in 0..12 {
        survive(seed, Impairment { lost: 20, doubled: 20, delayed: 50, delay_ms: 1500 }).await;
    }
}

#[tokio::test(start_paused = true)]
async fn bytes_survive_a_clean_link_with_little_memory() {
    for seed in 100..104 {
        survive(seed, Impairment { lost: 0, doubled: 0, delayed: 0, delay_ms: 0 }).await;
    }
}

/// Uploads whose relay does not read, pushed as far as they go.
async fn stall(rig: &mut Rig, budget: usize) -> Vec<(App, TcpStream)> {
    let mut flows = Vec::new();
    for port in 0..256 {
        let (mut app, stream) = connect(rig, 10_000 + port).await;
        app.all().await;
        flows.push((app, stream));
    }
    let mut acked: Vec<u32> = flows.iter().map(|(app, _)| app.seq).collect();
    for _ in 0..60 {
        for ((app, _), &acked) in flows.iter_mut().zip(&acked) {
            app.seq = acked; // what was refused is sent again
            for _ in 0..4 {
                app.send_data(&[1; 1460]);
            }
        }
        settle().await;
        assert!(rig.control.memory_held() <= budget);
        while let Some(packet) = rig.tap.take() {
            let seen = see(&packet);
            acked[usize::from(seen.destination.port() - 10_000)] = seen.ack.unwrap();
        }
    }
    for ((app, _), &acked) in flows.iter_mut().zip(&acked) {
        app.seq = acked;
    }
    flows
}

#[tokio::test(start_paused = true)]
async fn stalled_uploads_stay_within_a_small_budget() {
    let budget = 4 << 20;
    let mut rig = Rig::with(Options { memory_bytes: budget, ..Options::default() }, MTU);
    let flows = stall(&mut rig, budget).await;
    assert!(rig.counters().dropped[DropReason::NoMemory] > 0);
    assert!(rig.control.memory_held() > budget * 9 / 10, "memory was really asked for");
    drop(flows);
    settle().await;
    assert!(rig.counters().memory_bytes <= 1 << 20);
}

#[tokio::test(start_paused = true)]
async fn stalled_uploads_all_go_on_when_their_relays_come_back() {
    let budget = 16 << 20;
    let mut rig = Rig::with(Options { memory_bytes: budget, ..Options::default() }, MTU);
    for (mut app, mut stream) in stall(&mut rig, budget).await {
        let mut buf = vec![0; 256 * 1024];
        assert!(stream.read(&mut buf).await.unwrap() > 0);
        while let Ok(count) = timeout(Duration::from_millis(2), stream.read(&mut buf)).await {
            assert!(count.unwrap() > 0);
        }
        if let Some(seen) = app.all().await.pop() {
            app.seq = seen.ack.unwrap();
        }
        app.send_data(b"onwards");
        stream.read_exact(&mut buf[..7]).await.unwrap();
        assert!(buf.starts_with(b"onwards"));
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(rig.counters().memory_bytes <= 1 << 20);
}

#[tokio::test(start_paused = true)]
async fn a_writer_that_waits_for_memory_is_woken_when_there_is_some() {
    let budget = 1 << 20;
    let mut rig = Rig::with(Options { memory_bytes: budget, ..Options::default() }, MTU);
    let (mut app, mut stream) = connect(&mut rig, 10_001).await;
    // Apps that read nothing.
    let mut hogs = Vec::new();
    let mut writers = Vec::new();
    for port in 10_010..10_100 {
        let (app, stream) = connect(&mut rig, port).await;
        hogs.push(app);
        writers.push(stream);
    }
    for mut stream in writers {
        tokio::spawn(async move {
            let _ = stream.write_all(&vec![1; 1 << 20]).await;
        });
    }
    settle().await;
    assert!(rig.control.memory_held() > budget - 4096, "less than a page is left");
    let refused = rig.counters().dropped[DropReason::NoMemory];
    for late in [10_200, 10_201].map(|port| App::new(&rig.tap, port)) {
        late.send(&late.syn());
    }
    settle().await;
    assert!(rig.counters().dropped[DropReason::NoMemory] > refused, "a flow without a page is of no use");
    assert!(rig.control.memory_held() <= budget);

    let waiting = tokio::spawn(async move {
        stream.write_all(&vec![2; 60 * 1024]).await.unwrap();
        stream
    });
    app.expect_nothing().await;
    for app in &hogs {
        app.send_rst();
    }
    let mut got = app.expect().await.payload.len();
    assert!(got > 0, "without another word from the app");
    for _ in 0..100 {
        for seen in app.all().await {
            got += seen.payload.len();
            app.ack = seen.seq.wrapping_add(u32::try_from(seen.payload.len()).unwrap());
        }
        app.send_ack();
    }
    waiting.await.unwrap();
    assert!(got >= 60 * 1024);
}

#[tokio::test(start_paused = true)]
async fn an_idle_flow_holds_no_pages() {
    let mut rig = Rig::new();
    let mut flows = Vec::new();
    for port in 0..32 {
        let (mut app, mut stream) = connect(&mut rig, 10_000 + port).await;
        for _ in 0..40 {
            app.send_data(&[1; 1460]);
        }
        stream.read_exact(&mut vec![0; 40 * 1460]).await.unwrap();
        app.all().await;
        flows.push((app, stream));
    }
    assert!(rig.counters().memory_bytes >= 16 * 40 * 1460);
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(rig.counters().memory_bytes, 0);
    let (app, stream): &mut (App, TcpStream) = &mut flows[0];
    app.send_data(b"and on");
    let mut buf = [0; 6];
    stream.read_exact(&mut buf).await.unwrap();
    assert_eq!(&buf, b"and on");
}

#[tokio::test(start_paused = true)]
async fn pages_are_given_back_when_a_stalled_reader_catches_up() {
    let mut rig = Rig::new();
    let (mut app, mut stream) = connect(&mut rig, 10_000).await;
    app.send_data(&[1; 1000]);
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert!(rig.counters().memory_bytes > 0, "it is not read yet");
    stream.read_exact(&mut [0; 1000]).await.unwrap();
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(rig.counters().memory_bytes, 0);
}

#[tokio::test(start_paused = true)]
async fn acknowledgements_are_heard_even_when_their_payload_is_refused() {
    let budget = 256 * 1024;
    let mut rig = Rig::with(Options { memory_bytes: budget, ..Options::default() }, MTU);
    let (mut app, mut stream) = connect(&mut rig, 10_000).await;
    app.send_ack();
    settle().await;
    stream.write_all(&[1; 10_000]).await.unwrap();
    let segments = app.all().await;
    let last = segments.last().unwrap();
    // Others use everything up.
    let mut hogs = Vec::new();
    for port in 10_010..10_040 {
        hogs.push(connect(&mut rig, port).await);
    }
    for (hog, _) in &mut hogs {
        for _ in 0..12 {
            hog.send_data(&[1; 1460]);
        }
        settle().await;
    }
    rig.tap.clear();
    let refused = rig.counters().dropped[DropReason::NoMemory];
    assert!(refused > 0);
    app.ack = last.seq.wrapping_add(u32::try_from(last.payload.len()).unwrap());
    app.send(&app.segment(smoltcp::wire::TcpControl::Psh, &[2; 1400]));
    settle().await;
    assert_eq!(rig.counters().dropped[DropReason::NoMemory], refused + 1);
    tokio::time::sleep(Duration::from_secs(2)).await;
    let again = rig.counters().segments_repeated;
    assert_eq!(again, 0, "the acknowledgement was heard: nothing is sent again");
}
