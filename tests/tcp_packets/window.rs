//! Windows, acknowledgements and fairness.

use std::time::Duration;

use anytls_mobile::netstack::{DropReason, Options, TcpStream};
use smoltcp::wire::{TcpControl, TcpRepr, TcpSeqNumber};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::app::{App, Seen, connect};
use crate::rig::{MTU, Rig, settle};

const MSS: usize = 1460;

fn bytes(segments: &[Seen]) -> usize {
    segments.iter().map(|seen| seen.payload.len()).sum()
}

/// Reads everything, whenever it comes.
fn drain(mut stream: TcpStream) {
    tokio::spawn(async move {
        let mut buf = vec![0; 64 * 1024];
        while stream.read(&mut buf).await.unwrap() > 0 {}
    });
}

#[tokio::test(start_paused = true)]
async fn a_batch_is_acknowledged_once() {
    let mut rig = Rig::new();
    let (mut app, stream) = connect(&mut rig, 40_000).await;
    drain(stream);
    for _ in 0..10 {
        for _ in 0..64 {
            app.send_data(&[1; MSS]);
        }
        let acks = app.all().await;
        assert!(acks.len() <= 2, "{} acknowledgements for 64 segments", acks.len());
        assert_eq!(acks.last().unwrap().ack, Some(app.seq));
    }
}

#[tokio::test(start_paused = true)]
async fn small_reads_cause_no_window_updates() {
    let mut rig = Rig::new();
    let (mut app, mut stream) = connect(&mut rig, 40_000).await;
    for _ in 0..40 {
        app.send_data(&[1; MSS]);
    }
    app.all().await;
    let polls = rig.tap.polls();
    for _ in 0..40 * MSS / 100 {
        stream.read_exact(&mut [0; 100]).await.unwrap();
        tokio::task::yield_now().await;
    }
    app.expect_nothing().await;
    assert!(rig.tap.polls() - polls <= 4, "the loop slept");
}

#[tokio::test(start_paused = true)]
async fn a_closed_window_opens_as_soon_as_there_is_room_worth_it() {
    let mut rig = Rig::new();
    let (mut app, mut stream) = connect(&mut rig, 40_000).await;
    // Fill the ring, however large, until the window is closed.
    let mut window = usize::from(u16::MAX);
    let mut sent = 0;
    while window > 0 {
        for _ in 0..window.min(64 * MSS).div_ceil(MSS) {
            let len = window.min(MSS);
            app.send_data(&vec![1; len]);
            window -= len;
            sent += len;
        }
        let last = app.all().await.pop().unwrap();
        assert_eq!(last.ack, Some(app.seq));
        window = usize::from(last.window) << 3; // the shift for 256 KiB
    }
    assert_eq!(sent / 8, 256 * 1024 / 8 - 1, "all of the ring that a scaled window can tell of");

    // A probe is answered, and its byte not taken.
    app.send(&app.segment(TcpControl::Psh, b"p"));
    let answer = app.expect().await;
    assert_eq!((answer.ack, answer.window), (Some(app.seq), 0));

    let mut buf = vec![0; 32 * 1024];
    stream.read_exact(&mut buf).await.unwrap();
    app.expect_nothing().await; // too little: a silly window
    stream.read_exact(&mut buf).await.unwrap();
    let update = app.expect().await;
    assert_eq!(usize::from(update.window) << 3, 64 * 1024);
    app.send_data(b"on we go");
    app.expect().await;
    let mut rest = vec![0; sent - 64 * 1024 + 8];
    stream.read_exact(&mut rest).await.unwrap();
    assert!(rest.ends_with(b"on we go"));
}

#[tokio::test(start_paused = true)]
async fn without_scaling_the_window_opens_too() {
    let mut rig = Rig::new();
    let mut app = App::new(&rig.tap, 40_000);
    app.send(&TcpRepr { window_scale: None, ..app.syn() });
    app.seq += 1;
    let mut stream = rig.accept().await;
    let mut window = usize::from(app.finish_handshake().await.window);
    let mut queued = 0;
    loop {
        let len = window.min(MSS);
        app.send_data(&vec![1; len]);
        queued += len;
        window = usize::from(app.expect().await.window);
        if window == 0 {
            break;
        }
    }
    let mut buf = vec![0; queued];
    stream.read_exact(&mut buf).await.unwrap();
    let update = app.all().await.pop().expect("an update");
    assert_eq!(update.window, u16::MAX);
}

#[tokio::test(start_paused = true)]
async fn data_beyond_the_ring_is_refused() {
    let mut rig = Rig::new();
    let (mut app, stream) = connect(&mut rig, 40_000).await;
    // smoltcp takes its own SYN-ACK's window for scaled: eight times what it said, twice the ring.
    for offset in [256 * 1024 - 1, 256 * 1024, 300_000, 500_000] {
        let seq_number = TcpSeqNumber(app.seq.wrapping_add(offset).cast_signed());
        app.send(&TcpRepr { seq_number, ..app.segment(TcpControl::Psh, &[7; 1000]) });
    }
    settle().await;
    assert_eq!(rig.counters().dropped[DropReason::OutOfWindow], 4);
    drain(stream);
    for _ in 0..1000 {
        app.send_data(&[1; 1000]);
        app.all().await;
    }
    assert_eq!(rig.counters().resets_out, 0);
}

#[tokio::test(start_paused = true)]
async fn the_apps_window_is_filled_and_never_exceeded() {
    for (scale, field, window) in
        [(None, 65_535, 65_535), (None, 1, 1), (Some(0), 5000, 5000), (Some(14), 20, 20 << 14)]
    {
        let mut rig = Rig::new();
        let mut app = App::new(&rig.tap, 40_000);
        app.window = field;
        app.send(&TcpRepr { window_scale: scale, ..app.syn() });
        app.seq += 1;
        let mut stream = rig.accept().await;
        app.finish_handshake().await;
        let writer = tokio::spawn(async move {
            stream.write_all(&vec![3; 1 << 20]).await.unwrap();
            stream
        });
        let limit = window.min(256 * 1024);
        assert_eq!(bytes(&app.all().await), limit, "scale {scale:?}");
        app.ack = app.ack.wrapping_add(u32::try_from(limit).unwrap());
        app.send_ack();
        assert_eq!(bytes(&app.all().await), limit, "scale {scale:?}");
        writer.abort();
    }
}

#[tokio::test(start_paused = true)]
async fn a_closed_window_is_probed_and_the_stream_goes_on() {
    let mut rig = Rig::new();
    let (mut app, mut stream) = connect(&mut rig, 40_000).await;
    app.window = 0;
    app.send_ack();
    settle().await;
    stream.write_all(b"hello").await.unwrap();
    let mut probes = 0;
    for _ in 0..40 {
        tokio::time::sleep(Duration::from_secs(10)).await;
        for seen in app.all().await {
            assert_eq!(seen.payload, b"h");
            probes += 1;
            app.send_ack(); // still closed
        }
    }
    assert!((5..20).contains(&probes), "{probes} probes in 400 s");
    app.window = 1000;
    app.send_ack();
    assert_eq!(app.expect().await.payload, b"hello");
    app.send_ack();
    settle().await;
    assert_eq!(rig.counters().flows_open, 1, "a slow app is not a dead one");
}

#[tokio::test(start_paused = true)]
async fn a_window_that_closes_over_lost_data_is_probed() {
    let mut rig = Rig::new();
    let (mut app, mut stream) = connect(&mut rig, 40_000).await;
    app.send_ack();
    settle().await;
    stream.write_all(b"lost").await.unwrap();
    let ack = app.ack;
    app.expect().await;
    app.ack = ack;
    app.window = 0; // an app that ran out of memory
    app.send_ack();
    settle().await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert!(!app.all().await.is_empty(), "some segment asks for the window");
    app.window = 1000;
    app.send_ack();
    tokio::time::sleep(Duration::from_secs(3)).await;
    let seen = app.all().await.pop().expect("sent again");
    assert_eq!(seen.payload, b"lost");
}

#[tokio::test(start_paused = true)]
async fn sequence_numbers_wrap() {
    let mut rig = Rig::new();
    let mut app = App::new(&rig.tap, 40_000);
    app.seq = u32::MAX - 3000;
    app.send_syn();
    let mut stream = rig.accept().await;
    app.finish_handshake().await;
    let mut buf = [0; 1000];
    for round in 0..10 {
        app.send_data(&[round; 1000]);
        stream.read_exact(&mut buf).await.unwrap();
        assert_eq!(buf, [round; 1000]);
        assert_eq!(app.all().await.pop().unwrap().ack, Some(app.seq));
    }
    // Out of order across the wrap.
    app.seq = u32::MAX - 1;
    let mut app2 = App { seq: u32::MAX - 1, ..App::new(&rig.tap, 40_001) };
    app2.send_syn();
    let mut stream = rig.accept().await;
    app2.finish_handshake().await;
    let start = app2.seq;
    app2.seq = start.wrapping_add(3);
    app2.send_data(b"def");
    app2.seq = start;
    app2.send_data(b"abc");
    let mut buf = [0; 6];
    stream.read_exact(&mut buf).await.unwrap();
    assert_eq!(&buf, b"abcdef");
}

#[tokio::test(start_paused = true)]
async fn a_greedy_flow_does_not_starve_another() {
    let mut rig = Rig::new();
    let (mut greedy, mut down) = connect(&mut rig, 40_000).await;
    let (mut modest, mut small) = connect(&mut rig, 40_001).await;
    for app in [&mut greedy, &mut modest] {
        app.window = u16::MAX;
        app.send_ack(); // scaled by 7: 8 MiB
    }
    settle().await;
    rig.tap.clear();

    down.write_all(&vec![1; 256 * 1024]).await.unwrap();
    small.write_all(b"me too").await.unwrap();
    settle().await;
    let mut before = 0;
    while let Some(packet) = rig.tap.take() {
        let seen = crate::app::see(&packet);
        if seen.payload == b"me too" {
            break;
        }
        before += seen.payload.len();
    }
    assert!((1..=64 * 1024 + MSS).contains(&before), "{before} bytes came first");
}

#[tokio::test(start_paused = true)]
async fn idle_flows_arm_no_timer() {
    let mut rig = Rig::with(Options { max_half_open: 1, ..Options::default() }, MTU);
    let mut held = Vec::new();
    for port in 0..5000 {
        let (mut app, mut stream) = connect(&mut rig, 10_000 + port).await;
        if port % 50 == 0 {
            app.send_data(b"ping");
            stream.read_exact(&mut [0; 4]).await.unwrap();
            settle().await;
            stream.write_all(b"pong").await.unwrap();
            assert_eq!(app.expect().await.payload, b"");
            assert_eq!(app.expect().await.payload, b"pong");
            app.send_ack();
        }
        app.all().await;
        held.push((app, stream));
    }
    rig.tap.clear();
    tokio::time::sleep(Duration::from_secs(5)).await; // pages are given back, and then …
    let polls = rig.tap.polls();
    tokio::time::sleep(Duration::from_secs(24 * 3600)).await;
    assert_eq!(rig.tap.polls(), polls, "a wake-up with nothing to do");
    assert!(rig.tap.take().is_none());
    assert_eq!(rig.counters().flows_open, 5000);
    assert!(rig.counters().memory_bytes <= 1 << 20);

    // And none is looked at for another's sake.
    let (app, stream) = &mut held[77];
    app.send_data(b"awake");
    let mut buf = [0; 5];
    stream.read_exact(&mut buf).await.unwrap();
    assert_eq!(app.all().await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_reader_is_lent_the_ring() {
    let mut rig = Rig::new();
    let (mut app, mut stream) = connect(&mut rig, 40_000).await;
    app.send_data(b"one two three");
    settle().await;
    let mut seen = Vec::new();
    for _ in 0..2 {
        let taken = std::future::poll_fn(|cx| {
            stream.poll_read_with(cx, |bytes| {
                seen.push(bytes.to_vec());
                4
            })
        });
        assert_eq!(taken.await.unwrap(), 4);
    }
    assert_eq!(seen, [b"one two three".to_vec(), b"two three".to_vec()]);
    app.send_fin();
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.unwrap();
    assert_eq!(rest, b"three");
    let end = std::future::poll_fn(|cx| stream.poll_read_with(cx, |_| unreachable!())).await;
    assert_eq!(end.unwrap(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_window_narrowed_for_want_of_memory_opens_again() {
    // A budget of which the ring may have a part only: 32 KiB of its 256.
    let mut rig = Rig::with(Options { memory_bytes: 1 << 20, ..Options::default() }, MTU);
    let mut app = App::new(&rig.tap, 40_000);
    app.send_syn();
    let mut stream = rig.accept().await;
    let mut window = usize::from(app.finish_handshake().await.window);
    assert_eq!(window, 32 * 1024);
    let mut sent = 0;
    for round in 0.. {
        if window < MSS {
            break;
        }
        app.send_data(&[round; MSS]);
        sent += MSS;
        window = usize::from(app.expect().await.window) << 3;
    }
    assert!((28 * 1024..=32 * 1024).contains(&sent), "{sent}");
    stream.read_exact(&mut vec![0; sent]).await.unwrap();
    let update = app.all().await.pop().expect("an update");
    assert!(usize::from(update.window) << 3 >= 24 * 1024, "{update:?}");
    assert_eq!(rig.counters().dropped.total(), 0);
}
