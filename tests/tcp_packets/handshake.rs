//! How connections begin, or do not.

use std::collections::HashSet;
use std::time::Duration;

use anytls_mobile::netstack::{DropReason, Options};
use smoltcp::wire::{TcpControl, TcpRepr, TcpSeqNumber, TcpTimestampRepr};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::app::{App, connect, see};
use crate::rig::{Rig, settle};

#[tokio::test(start_paused = true)]
async fn a_syn_is_answered_only_when_the_flow_is_accepted() {
    let mut rig = Rig::new();
    let mut app = App::new(&rig.tap, 40_000);
    app.send_syn();
    let flow = rig.flow().await;
    assert_eq!((flow.source(), flow.destination()), (app.source, app.destination));
    tokio::time::sleep(Duration::from_secs(30)).await;
    app.expect_nothing().await;

    let _stream = flow.accept();
    let answer = app.finish_handshake().await;
    assert_eq!(answer.mss, Some(1460));
    assert!(answer.sack_permitted);
    assert!(answer.window_scale.is_some());
    settle().await;
    assert_eq!((rig.counters().flows_open, rig.counters().flows_half_open), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_refused_flow_is_reset_and_never_acknowledged_first() {
    let mut rig = Rig::new();
    let mut app = App::new(&rig.tap, 40_000);
    app.send_syn();
    rig.flow().await.refuse();
    let rst = app.expect_rst().await;
    assert_eq!(rst.ack, Some(app.seq), "a reset in SYN-SENT counts only if it acknowledges the SYN");
    app.expect_nothing().await;
    assert_eq!(rig.counters().flows_open, 0);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_flow_is_refused() {
    let mut rig = Rig::new();
    let mut app = App::new(&rig.tap, 40_000);
    app.send_syn();
    drop(rig.flow().await);
    app.expect_rst().await;
}

#[tokio::test(start_paused = true)]
async fn an_eager_stack_answers_at_once() {
    let mut rig = Rig::eager();
    let mut app = App::new(&rig.tap, 40_000);
    app.send_syn();
    app.finish_handshake().await;
    app.send_data(b"early");
    let mut stream = rig.accept().await;
    let mut buf = [0; 5];
    stream.read_exact(&mut buf).await.unwrap();
    assert_eq!(&buf, b"early");
}

#[tokio::test(start_paused = true)]
async fn an_eager_flow_that_is_refused_later_is_reset() {
    let mut rig = Rig::eager();
    let mut app = App::new(&rig.tap, 40_000);
    app.send_syn();
    app.finish_handshake().await;
    rig.flow().await.refuse();
    let rst = app.expect_rst().await;
    assert_eq!(rst.seq, app.ack);
}

#[tokio::test(start_paused = true)]
async fn a_repeated_syn_is_the_same_flow() {
    let mut rig = Rig::new();
    let mut app = App::new(&rig.tap, 40_000);
    app.send_syn();
    let flow = rig.flow().await;
    for _ in 0..3 {
        app.seq -= 1;
        app.send_syn();
    }
    rig.no_flow().await;
    app.expect_nothing().await;

    let mut stream = flow.accept();
    app.finish_handshake().await;
    app.seq -= 1;
    app.send_syn(); // late duplicate on an open connection
    app.expect_nothing().await;
    app.send_data(b"x");
    assert_eq!(stream.read_u8().await.unwrap(), b'x');
    assert_eq!(rig.counters().flows_total, 1);
}

#[tokio::test(start_paused = true)]
async fn a_lost_syn_ack_is_sent_again() {
    let mut rig = Rig::new();
    let mut app = App::new(&rig.tap, 40_000);
    app.send_syn();
    let _stream = rig.accept().await;
    let first = app.expect().await;
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert_eq!(app.expect().await, first);
}

#[tokio::test(start_paused = true)]
async fn a_syn_with_another_number_replaces_a_half_open_flow() {
    let mut rig = Rig::new();
    let mut app = App::new(&rig.tap, 40_000);
    app.send_syn();
    let first = rig.flow().await;
    app.seq = 777_000;
    app.send_syn();
    let second = rig.flow().await;
    let mut dead = first.accept();
    assert_eq!(dead.read_u8().await.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
    let _stream = second.accept();
    app.finish_handshake().await;
    assert_eq!(rig.counters().flows_open, 1);
}

#[tokio::test(start_paused = true)]
async fn a_syn_out_of_place_is_challenged_and_a_reset_then_makes_room() {
    let mut rig = Rig::new();
    let (mut app, mut stream) = connect(&mut rig, 40_000).await;
    app.send_data(b"abc");
    app.all().await;
    let (seq, ack) = (app.seq, app.ack);

    app.seq = 5_000_000;
    app.send_syn();
    let challenge = app.expect().await;
    assert_eq!(challenge.control, TcpControl::None);
    assert_eq!((challenge.seq, challenge.ack), (ack, Some(seq)));
    app.seq = 5_000_000;
    app.send_syn();
    app.expect_nothing().await; // once a second

    // A kernel in SYN-SENT answers an acknowledgement that does not fit with a reset that does.
    app.send(&TcpRepr {
        seq_number: TcpSeqNumber(challenge.ack.unwrap().cast_signed()),
        ack_number: None,
        ..app.segment(TcpControl::Rst, &[])
    });
    settle().await;
    let error = stream.read(&mut [0; 8]).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    app.seq = 5_000_000;
    app.send_syn();
    let _stream = rig.accept().await;
    app.finish_handshake().await;
}

#[tokio::test(start_paused = true)]
async fn data_in_a_syn_is_sent_again() {
    let mut rig = Rig::new();
    let mut app = App::new(&rig.tap, 40_000);
    app.send(&TcpRepr { payload: b"fast", ..app.syn() });
    app.seq += 1;
    let mut stream = rig.accept().await;
    app.finish_handshake().await; // acknowledges the SYN and not the data
    app.send_data(b"fast");
    let mut buf = [0; 4];
    stream.read_exact(&mut buf).await.unwrap();
    assert_eq!(&buf, b"fast");
}

#[tokio::test(start_paused = true)]
async fn every_kind_of_syn_is_understood() {
    let mut rig = Rig::new();
    let mut port = 40_000;
    for v6 in [false, true] {
        for window_scale in [None, Some(0), Some(14)] {
            for max_seg_size in [None, Some(0), Some(1), Some(537), Some(65_535)] {
                for timestamp in [None, Some(TcpTimestampRepr::new(5, 0))] {
                    port += 1;
                    let mut app = if v6 { App::v6(&rig.tap, port) } else { App::new(&rig.tap, port) };
                    let syn = TcpRepr { window_scale, max_seg_size, timestamp, ..app.syn() };
                    // ECN-capable kernels set these two in a SYN (RFC 3168).
                    let mut packet = app.packet(&syn);
                    set_ecn_flags(&mut packet, v6);
                    app.tap.inject(packet);
                    app.seq += 1;
                    let mut stream = rig.accept().await;
                    let answer = app.finish_handshake().await;
                    assert_eq!(answer.window_scale.is_some(), window_scale.is_some());
                    assert_eq!(answer.mss, Some(if v6 { 1440 } else { 1460 }));
                    assert!(!answer.timestamp);

                    stream.write_all(&[7; 4000]).await.unwrap();
                    let expected = match max_seg_size {
                        None | Some(0) => 536, // RFC 9293, 3.7.1
                        Some(mss) => usize::from(mss).clamp(48, usize::from(answer.mss.unwrap())),
                    };
                    let segments = app.all().await;
                    assert_eq!(segments[0].payload.len(), expected);
                    let bytes: usize = segments.iter().map(|seen| seen.payload.len()).sum();
                    assert_eq!(bytes, 4000);
                    stream.abort();
                    app.all().await;
                }
            }
        }
    }
}

fn set_ecn_flags(packet: &mut [u8], v6: bool) {
    let tcp = if v6 { 40 } else { 20 };
    packet[tcp + 13] |= 0xc0;
    // The checksum is a ones' complement sum: what one word gains, the sum loses.
    let sum = u32::from(!u16::from_be_bytes([packet[tcp + 16], packet[tcp + 17]])) + 0xc0;
    let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
    packet[tcp + 16..tcp + 18].copy_from_slice(&sum.to_be_bytes());
}

#[tokio::test(start_paused = true)]
async fn half_open_flows_are_limited_and_finished_ones_make_room() {
    let mut rig = Rig::with(Options { max_half_open: 8, ..Options::default() }, 1500);
    for port in 0..20 {
        App::new(&rig.tap, 40_000 + port).send_syn();
    }
    settle().await;
    assert_eq!(rig.counters().flows_half_open, 8);
    assert_eq!(rig.counters().dropped[DropReason::TooManyHalfOpen], 12);
    for _ in 0..8 {
        rig.flow().await.refuse();
    }
    rig.no_flow().await;
    let (_app, _stream) = { connect(&mut rig, 50_000).await };
    settle().await;
    assert_eq!((rig.counters().flows_half_open, rig.counters().flows_open), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn flows_are_limited() {
    let mut rig = Rig::with(Options { max_flows: 3, ..Options::default() }, 1500);
    for port in 0..5 {
        App::new(&rig.tap, 40_000 + port).send_syn();
    }
    for _ in 0..3 {
        std::mem::forget(rig.flow().await.accept());
    }
    rig.no_flow().await;
    assert_eq!(rig.counters().dropped[DropReason::TooManyFlows], 2);
}

#[tokio::test(start_paused = true)]
async fn a_half_open_flow_whose_app_gives_up_is_over() {
    let mut rig = Rig::new();
    let mut app = App::new(&rig.tap, 40_000);
    app.send_syn();
    let flow = rig.flow().await;
    app.send_rst();
    settle().await;
    assert_eq!((rig.counters().flows_open, rig.counters().flows_half_open), (0, 0));
    let mut stream = flow.accept();
    assert_eq!(stream.write(b"x").await.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
    app.expect_nothing().await;
}

#[tokio::test(start_paused = true)]
async fn an_app_that_never_finishes_the_handshake_is_given_up() {
    let mut rig = Rig::new();
    let mut app = App::new(&rig.tap, 40_000);
    app.send_syn();
    let mut stream = rig.accept().await;
    assert_eq!(stream.read_u8().await.unwrap_err().kind(), std::io::ErrorKind::TimedOut);
    let last = app.all().await.pop().unwrap();
    assert_eq!(last.control, TcpControl::Rst);
    assert_eq!(rig.counters().flows_open, 0);
}

#[tokio::test(start_paused = true)]
async fn strays_are_reset_as_the_rfc_says() {
    let rig = Rig::new();
    let mut app = App::new(&rig.tap, 40_000);
    (app.seq, app.ack) = (7_000, 9_000);
    // With an acknowledgement: its number, and none of our own.
    app.send(&app.segment(TcpControl::Psh, b"hello"));
    let rst = app.expect_rst().await;
    assert_eq!((rst.seq, rst.ack), (9_000, None));
    // Without: zero, and everything that the segment takes is acknowledged.
    app.send(&TcpRepr { ack_number: None, ..app.segment(TcpControl::Fin, b"hello") });
    let rst = app.expect_rst().await;
    assert_eq!((rst.seq, rst.ack), (0, Some(7_006)));
    // A SYN-ACK nobody asked for.
    app.send(&app.segment(TcpControl::Syn, &[]));
    assert_eq!(app.expect_rst().await.seq, 9_000);
    // Never a reset for a reset.
    app.send_rst();
    app.expect_nothing().await;
    assert_eq!(rig.counters().dropped[DropReason::Stray], 1);
    assert_eq!(rig.counters().flows_total, 0);
}

#[tokio::test(start_paused = true)]
async fn initial_sequence_numbers_are_spread() {
    let mut rig = Rig::new();
    let mut seen = HashSet::new();
    let mut highest_bits = [0; 4];
    for port in 0..400 {
        let mut app = App::new(&rig.tap, 10_000 + port);
        app.send_syn();
        let stream = rig.accept().await;
        let seq = app.expect().await.seq;
        drop(stream);
        assert!(seen.insert(seq));
        highest_bits[(seq >> 30) as usize] += 1;
        app.all().await;
    }
    assert!(highest_bits.iter().all(|&count| count > 50), "{highest_bits:?}");
}

#[tokio::test(start_paused = true)]
async fn ports_are_used_again_without_a_stall() {
    let mut rig = Rig::new();
    for round in 0..10_000_u32 {
        let mut app = App::new(&rig.tap, 20_000 + u16::try_from(round % 100).unwrap());
        app.seq = round.wrapping_mul(0x9e37_79b9);
        app.send_syn();
        let mut stream = rig.accept().await;
        app.finish_handshake().await;
        match round % 4 {
            0 => {
                // The app closes first; the stack's FIN is acknowledged or not.
                app.send_fin();
                assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);
                stream.shutdown().await.unwrap();
                settle().await;
                if round % 8 == 0 {
                    app.ack += 1;
                    app.send_ack();
                }
            }
            1 => {
                // The stack closes first and is left in TIME-WAIT.
                stream.shutdown().await.unwrap();
                settle().await;
                app.ack += 1;
                app.send_fin();
                assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);
            }
            2 => app.send_rst(),
            _ => drop(stream),
        }
        settle().await;
        while let Some(packet) = rig.tap.take() {
            see(&packet);
        }
    }
    settle().await;
    assert_eq!(rig.counters().flows_total, 10_000);
    assert!(rig.counters().flows_open <= 100);
}

#[tokio::test(start_paused = true)]
async fn a_syn_on_a_closing_tuple_is_a_new_flow() {
    let mut rig = Rig::new();
    // TIME-WAIT.
    let (mut app, mut stream) = connect(&mut rig, 40_000).await;
    stream.shutdown().await.unwrap();
    app.expect().await;
    app.send_fin();
    app.expect().await;
    app.seq = 900_000;
    app.send_syn();
    let fresh = rig.accept().await;
    app.finish_handshake().await;
    drop((stream, fresh));
    app.all().await;

    // LAST-ACK.
    let (mut app, mut stream) = connect(&mut rig, 40_001).await;
    app.send_fin();
    app.expect().await;
    stream.shutdown().await.unwrap();
    app.expect().await;
    app.seq = 900_000;
    app.send_syn();
    let _fresh = rig.accept().await;
    app.finish_handshake().await;

    // Left by its stream, and the app's FIN never came.
    let (mut app, mut stream) = connect(&mut rig, 40_002).await;
    stream.shutdown().await.unwrap();
    drop(stream);
    app.expect().await;
    app.send_ack();
    app.seq = 900_000;
    app.send_syn();
    let _fresh = rig.accept().await;
    app.finish_handshake().await;
}
