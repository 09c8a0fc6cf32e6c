//! A device without room, a device that goes away, and a stack that is stopped.

use std::io::ErrorKind;
use std::time::Duration;

use smoltcp::wire::TcpControl;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::app::{App, connect};
use crate::rig::{Rig, settle};

#[tokio::test(start_paused = true)]
async fn a_device_without_room_is_left_alone_and_loses_one_packet() {
    let mut rig = Rig::new();
    let (mut app, mut stream) = connect(&mut rig, 40_000).await;
    app.window = u16::MAX;
    app.send_ack(); // scaled: as much as there is
    settle().await;
    let data: Vec<u8> = (0..200_000_u32).map(|at| (at % 253) as u8).collect();
    rig.tap.fill(1);
    stream.write_all(&data).await.unwrap();
    settle().await;
    assert_eq!(rig.counters().packets_unsent, 1, "nothing more was tried");
    assert!(rig.tap.take().is_none());
    tokio::time::sleep(Duration::from_millis(20)).await;

    let mut got = vec![0; data.len()];
    let mut seen_bytes = vec![false; data.len()];
    let start = app.ack;
    for _ in 0..5 {
        for seen in app.all().await {
            let at = seen.seq.wrapping_sub(start) as usize;
            got[at..at + seen.payload.len()].copy_from_slice(&seen.payload);
            seen_bytes[at..at + seen.payload.len()].fill(true);
        }
        let in_order = seen_bytes.iter().position(|&seen| !seen).unwrap_or(data.len());
        app.ack = start.wrapping_add(u32::try_from(in_order).unwrap());
        app.send_ack();
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    assert!(got == data);
}

#[tokio::test(start_paused = true)]
async fn a_reset_that_the_device_dropped_is_sent_again() {
    let mut rig = Rig::new();
    let (mut app, stream) = connect(&mut rig, 40_000).await;
    rig.tap.fill(3);
    drop(stream);
    app.expect_nothing().await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    app.expect_rst().await;
    app.expect_nothing().await;

    // One that the device will never take is given up.
    let (mut app, stream) = connect(&mut rig, 40_001).await;
    rig.tap.fill(usize::MAX);
    drop(stream);
    tokio::time::sleep(Duration::from_secs(60)).await;
    let polls = rig.tap.polls();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(rig.tap.polls() - polls <= 1, "no trying for ever");
    app.expect_nothing().await;
}

#[tokio::test(start_paused = true)]
async fn a_device_that_ends_ends_the_stack_and_every_stream() {
    let mut rig = Rig::new();
    let (_app, mut reading) = connect(&mut rig, 40_000).await;
    let (_app, mut writing) = connect(&mut rig, 40_001).await;
    App::new(&rig.tap, 40_002).send_syn();
    let unanswered = rig.flow().await;
    let reader = tokio::spawn(async move { reading.read(&mut [0; 4]).await });
    let writer = tokio::spawn(async move { writing.write_all(&[0; 1 << 20]).await });
    settle().await;
    rig.tap.close();
    let error = rig.task.await.unwrap().unwrap_err();
    assert_eq!(error.0.kind(), ErrorKind::BrokenPipe);
    assert_eq!(reader.await.unwrap().unwrap_err().kind(), ErrorKind::ConnectionAborted);
    assert_eq!(writer.await.unwrap().unwrap_err().kind(), ErrorKind::ConnectionAborted);
    let mut late = unanswered.accept();
    assert_eq!(late.write(b"x").await.unwrap_err().kind(), ErrorKind::ConnectionAborted);
    assert_eq!(late.shutdown().await.unwrap_err().kind(), ErrorKind::ConnectionAborted);
}

#[tokio::test(start_paused = true)]
async fn a_device_that_fails_on_write_ends_the_stack() {
    let mut rig = Rig::new();
    let (_app, mut stream) = connect(&mut rig, 40_000).await;
    rig.tap.close_quietly();
    stream.write_all(b"into the void").await.unwrap();
    rig.task.await.unwrap().unwrap_err();
    assert_eq!(stream.read(&mut [0; 4]).await.unwrap_err().kind(), ErrorKind::ConnectionAborted);
}

#[tokio::test(start_paused = true)]
async fn a_stopped_stack_resets_every_flow() {
    let mut rig = Rig::new();
    let (mut one, mut stream) = connect(&mut rig, 40_000).await;
    let mut two = App::new(&rig.tap, 40_001);
    two.send_syn();
    let _unanswered = rig.flow().await;
    rig.control.stop();
    rig.task.await.unwrap().unwrap();
    assert_eq!(stream.read(&mut [0; 4]).await.unwrap_err().kind(), ErrorKind::ConnectionAborted);
    assert_eq!(one.expect().await.control, TcpControl::Rst);
    assert_eq!(two.expect().await.control, TcpControl::Rst);
}

#[tokio::test(start_paused = true)]
async fn a_stack_dropped_in_mid_stream_resets_every_flow() {
    let mut rig = Rig::new();
    let (mut app, mut stream) = connect(&mut rig, 40_000).await;
    let reader = tokio::spawn(async move { stream.read(&mut [0; 4]).await });
    settle().await;
    rig.task.abort();
    assert_eq!(reader.await.unwrap().unwrap_err().kind(), ErrorKind::ConnectionAborted);
    app.expect_rst().await;
}
