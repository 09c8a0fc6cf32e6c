//! How connections end.

use std::io::ErrorKind;
use std::time::Duration;

use anytls_mobile::netstack::{DropReason, Options};
use smoltcp::wire::{TcpControl, TcpRepr, TcpSeqNumber};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::app::{App, connect};
use crate::rig::{MTU, Rig, settle};

#[tokio::test(start_paused = true)]
async fn a_fin_with_data_ends_the_stream_after_the_data() {
    let mut rig = Rig::new();
    let (mut app, mut stream) = connect(&mut rig, 40_000).await;
    app.send(&app.segment(TcpControl::Fin, b"last words"));
    app.seq += 11;
    let mut all = Vec::new();
    stream.read_to_end(&mut all).await.unwrap();
    assert_eq!(all, b"last words");
    assert_eq!(app.expect().await.ack, Some(app.seq));
    assert_eq!(stream.read(&mut [0; 4]).await.unwrap(), 0, "the end stays the end");
}

#[tokio::test(start_paused = true)]
async fn segments_out_of_order_are_put_in_order_and_an_early_fin_waits() {
    let mut rig = Rig::new();
    let (mut app, mut stream) = connect(&mut rig, 40_000).await;
    let start = app.seq;
    app.seq = start + 6;
    app.send(&app.segment(TcpControl::Fin, b"ghi")); // FIN beyond a hole: not taken yet
    app.seq = start + 3;
    app.send(&app.segment(TcpControl::Psh, b"def"));
    settle().await;
    let duplicate = app.all().await;
    assert!(duplicate.iter().all(|seen| seen.ack == Some(start)));
    app.seq = start;
    app.send(&app.segment(TcpControl::Psh, b"abc"));
    let mut buf = [0; 9];
    stream.read_exact(&mut buf).await.unwrap();
    assert_eq!(&buf, b"abcdefghi");
    app.seq = start + 9;
    app.send_fin(); // sent again, without the data that was acknowledged
    assert_eq!(stream.read(&mut [0; 4]).await.unwrap(), 0);
    assert_eq!(app.all().await.pop().unwrap().ack, Some(start + 10));
}

#[tokio::test(start_paused = true)]
async fn a_lost_fin_is_sent_again() {
    let mut rig = Rig::new();
    let (mut app, mut stream) = connect(&mut rig, 40_000).await;
    stream.shutdown().await.unwrap();
    let first = app.expect().await;
    assert_eq!(first.control, TcpControl::Fin);
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert_eq!(app.expect().await, first);
}

#[tokio::test(start_paused = true)]
async fn a_lost_fin_is_sent_again_even_after_duplicate_acknowledgements() {
    let mut rig = Rig::new();
    let (mut app, mut stream) = connect(&mut rig, 40_000).await;
    app.send_ack();
    settle().await;
    let ack = app.ack;
    stream.shutdown().await.unwrap();
    assert_eq!(app.expect().await.control, TcpControl::Fin);
    app.ack = ack;
    for _ in 0..4 {
        app.send_ack();
    }
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(app.expect().await.control, TcpControl::Fin);
    app.send_ack();
    settle().await;
}

#[tokio::test(start_paused = true)]
async fn a_mebibyte_comes_down_after_the_apps_fin() {
    let mut rig = Rig::new();
    let (mut app, mut stream) = connect(&mut rig, 40_000).await;
    app.send_data(b"GET");
    app.send_fin();
    let mut request = Vec::new();
    stream.read_to_end(&mut request).await.unwrap();
    assert_eq!(request, b"GET");

    let answer: Vec<u8> = (0..1 << 20).map(|byte: u32| (byte % 251) as u8).collect();
    let sent = answer.clone();
    let writer = tokio::spawn(async move {
        stream.write_all(&sent).await.unwrap();
        stream.shutdown().await.unwrap();
    });
    let mut got = Vec::new();
    loop {
        let segments = app.all().await;
        let last = segments.last().expect("progress").clone();
        for seen in segments {
            if !seen.payload.is_empty() {
                assert_eq!(seen.seq, app.ack, "in order");
                app.ack = app.ack.wrapping_add(u32::try_from(seen.payload.len()).unwrap());
                got.extend(seen.payload);
            }
        }
        if last.control == TcpControl::Fin {
            app.ack += 1;
        }
        app.send_ack();
        if last.control == TcpControl::Fin {
            break;
        }
    }
    writer.await.unwrap();
    assert!(got == answer);
    settle().await;
    assert_eq!(rig.counters().flows_open, 0, "both sides have closed");
}

#[tokio::test(start_paused = true)]
async fn a_reset_behind_the_last_acknowledgement_is_no_failure() {
    let mut rig = Rig::new();
    let (mut app, mut stream) = connect(&mut rig, 40_000).await;
    app.send_data(b"last words");
    app.send_fin();
    stream.shutdown().await.unwrap();
    let fin = app.all().await.pop().expect("our FIN");
    assert_eq!(fin.control, TcpControl::Fin);
    app.ack = fin.seq.wrapping_add(1);
    app.send_ack();
    app.send_rst(); // read in the same turn
    settle().await;
    let mut all = Vec::new();
    stream.read_to_end(&mut all).await.unwrap();
    assert_eq!(all, b"last words");
    assert_eq!((rig.counters().resets_in, rig.counters().flows_open), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn the_app_may_go_on_after_our_fin() {
    let mut rig = Rig::new();
    let (mut app, mut stream) = connect(&mut rig, 40_000).await;
    stream.write_all(b"done").await.unwrap();
    stream.shutdown().await.unwrap();
    let fin = app.expect().await;
    assert_eq!((fin.control, &fin.payload[..]), (TcpControl::Fin, &b"done"[..]));
    app.send_ack();
    for round in 0..100 {
        app.send_data(&[round; 1000]);
        let mut buf = [0; 1000];
        stream.read_exact(&mut buf).await.unwrap();
        assert_eq!(buf, [round; 1000]);
        app.all().await;
    }
    assert_eq!(stream.write(b"more").await.unwrap_err().kind(), ErrorKind::BrokenPipe);
    app.send_fin();
    assert_eq!(stream.read(&mut [0; 4]).await.unwrap(), 0);
    assert_eq!(app.expect().await.ack, Some(app.seq));
    tokio::time::sleep(Duration::from_millis(900)).await;
    assert_eq!(rig.counters().flows_open, 1, "TIME-WAIT");
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(rig.counters().flows_open, 0, "gone after a second of it");
}

#[tokio::test(start_paused = true)]
async fn flows_in_time_wait_say_their_last_word_again_and_make_room_for_new_ones() {
    let mut rig = Rig::with(Options { max_flows: 3, ..Options::default() }, MTU);
    let mut apps = Vec::new();
    for port in [40_000, 40_001] {
        let (mut app, mut stream) = connect(&mut rig, port).await;
        stream.shutdown().await.unwrap();
        app.expect().await;
        app.send_fin();
        assert_eq!(stream.read(&mut [0; 4]).await.unwrap(), 0);
        let last = app.expect().await;
        app.seq = app.seq.wrapping_sub(1);
        app.send_fin();
        let again = app.expect().await;
        assert_eq!((again.ack, again.seq, again.control), (last.ack, last.seq, TcpControl::None));
        apps.push(app);
    }
    assert_eq!(rig.counters().flows_open, 2);
    let mut held = Vec::new();
    for port in [40_002, 40_003, 40_004] {
        held.push(connect(&mut rig, port).await);
        assert_eq!(rig.counters().flows_open, 3, "the oldest has gone");
    }
    App::new(&rig.tap, 40_005).send_syn();
    settle().await;
    assert_eq!(rig.counters().dropped[DropReason::TooManyFlows], 1, "nobody can go");
}

#[tokio::test(start_paused = true)]
async fn what_came_before_both_fins_is_still_read_after_time_wait() {
    let mut rig = Rig::new();
    let (mut app, mut stream) = connect(&mut rig, 40_000).await;
    stream.shutdown().await.unwrap();
    app.expect().await;
    (0..3).for_each(|_| app.send_data(&[5; 1000]));
    app.send_fin();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(rig.counters().flows_open, 0);
    let mut all = Vec::new();
    stream.read_to_end(&mut all).await.unwrap();
    assert_eq!(all, [5; 3000]);
    drop(stream);
}

#[tokio::test(start_paused = true)]
async fn a_simultaneous_close_ends_in_time_wait() {
    let mut rig = Rig::new();
    let (mut app, mut stream) = connect(&mut rig, 40_000).await;
    stream.shutdown().await.unwrap();
    let fin = app.next().await.unwrap();
    app.send_fin(); // does not acknowledge ours yet
    app.all().await;
    app.ack = fin.seq + 1;
    app.send_ack();
    assert_eq!(stream.read(&mut [0; 4]).await.unwrap(), 0);
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert_eq!(rig.counters().flows_open, 0);
}

#[tokio::test(start_paused = true)]
async fn a_reset_from_the_app_is_seen_by_reader_and_writer() {
    let mut rig = Rig::new();
    let (app, mut stream) = connect(&mut rig, 40_000).await;
    let (mut reader, mut writer) = tokio::io::split(stream);
    let reading = tokio::spawn(async move { reader.read(&mut [0; 4]).await });
    let writing = tokio::spawn(async move { writer.write_all(&[0; 1 << 20]).await });
    settle().await;
    app.send_rst();
    assert_eq!(reading.await.unwrap().unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert_eq!(writing.await.unwrap().unwrap_err().kind(), ErrorKind::ConnectionReset);
    settle().await;
    assert_eq!((rig.counters().resets_in, rig.counters().flows_open), (1, 0));

    // After a FIN of its own, too: the app will not read what is still to come.
    (_, stream) = {
        rig.tap.clear();
        let (mut app, stream) = connect(&mut rig, 40_001).await;
        app.send_fin();
        settle().await;
        app.send_rst();
        (app, stream)
    };
    settle().await;
    assert_eq!(stream.write(b"x").await.unwrap_err().kind(), ErrorKind::ConnectionReset);
}

#[tokio::test(start_paused = true)]
async fn a_reset_that_comes_twice_is_counted_once() {
    let mut rig = Rig::new();
    let (app, _stream) = connect(&mut rig, 40_000).await;
    app.send_rst();
    app.send_rst(); // read in the same turn
    settle().await;
    assert_eq!((rig.counters().resets_in, rig.counters().flows_open), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_reset_outside_the_window_is_ignored() {
    let mut rig = Rig::new();
    let (mut app, mut stream) = connect(&mut rig, 40_000).await;
    app.send_data(b"a");
    app.all().await;
    for offset in [-1000_i32, -1, 10_000_000, i32::MIN] {
        let seq_number = TcpSeqNumber(app.seq.cast_signed().wrapping_add(offset));
        app.send(&TcpRepr { seq_number, ..app.segment(TcpControl::Rst, &[]) });
    }
    settle().await;
    app.send_data(b"b");
    let mut buf = [0; 2];
    stream.read_exact(&mut buf).await.unwrap();
    assert_eq!(&buf, b"ab");
    app.send_rst();
    assert_eq!(stream.read(&mut [0]).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
}

#[tokio::test(start_paused = true)]
async fn an_aborted_stream_is_reset_with_bytes_unread_and_unsent() {
    let mut rig = Rig::new();
    let (mut app, mut stream) = connect(&mut rig, 40_000).await;
    app.send_data(b"never read");
    app.all().await;
    stream.write_all(b"never sent").await.unwrap();
    stream.abort();
    let seen = app.all().await;
    assert_eq!(seen.len(), 1);
    assert_eq!((seen[0].control, seen[0].ack), (TcpControl::Rst, Some(app.seq)));
    assert_eq!(seen[0].seq, app.ack);
    assert_eq!((rig.counters().flows_open, rig.counters().resets_out), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn a_stream_dropped_without_shutdown_is_reset() {
    let mut rig = Rig::new();
    let (mut app, stream) = connect(&mut rig, 40_000).await;
    drop(stream);
    app.expect_rst().await;
}

#[tokio::test(start_paused = true)]
async fn a_stream_dropped_after_shutdown_is_delivered_in_full() {
    let mut rig = Rig::new();
    let (mut app, mut stream) = connect(&mut rig, 40_000).await;
    app.window = 0;
    app.send_ack(); // a slow app
    settle().await;
    stream.write_all(&[9; 100_000]).await.unwrap();
    stream.shutdown().await.unwrap();
    drop(stream);
    tokio::time::sleep(Duration::from_secs(30)).await;

    app.all().await;
    app.window = 20_000;
    app.send_ack();
    let mut bytes = 0;
    loop {
        let segments = app.all().await;
        let fin = segments.iter().any(|seen| seen.control == TcpControl::Fin);
        for seen in &segments {
            assert_ne!(seen.control, TcpControl::Rst);
            assert!(seen.payload.iter().all(|&byte| byte == 9));
            let end = seen.seq.wrapping_add(u32::try_from(seen.payload.len()).unwrap());
            bytes += end.wrapping_sub(app.ack) as usize;
            app.ack = end;
        }
        app.ack += u32::from(fin);
        app.send_ack();
        if fin {
            break;
        }
    }
    assert_eq!(bytes, 100_000);
    app.send_fin();
    assert_eq!(app.expect().await.ack, Some(app.seq));
}

#[tokio::test(start_paused = true)]
async fn an_app_that_talks_on_to_a_dropped_stream_is_reset_once_it_has_everything() {
    let mut rig = Rig::new();
    let (mut app, mut stream) = connect(&mut rig, 40_000).await;
    stream.write_all(b"bye").await.unwrap();
    stream.shutdown().await.unwrap();
    drop(stream);
    let ack = app.ack;
    assert_eq!(app.expect().await.payload, b"bye");
    app.ack = ack;
    app.send_data(b"but"); // before it has our bytes
    let seen = app.all().await;
    assert!(seen.iter().all(|seen| seen.control != TcpControl::Rst));
    app.ack = ack + 4;
    app.send_ack();
    app.expect_rst().await;
    assert_eq!(rig.counters().flows_open, 0);
}

#[tokio::test(start_paused = true)]
async fn an_app_that_falls_silent_is_given_up() {
    let mut rig = Rig::new();
    let (mut app, mut stream) = connect(&mut rig, 40_000).await;
    stream.write_all(b"hello?").await.unwrap();
    assert_eq!(stream.read_u8().await.unwrap_err().kind(), ErrorKind::TimedOut);
    assert_eq!(app.all().await.pop().unwrap().control, TcpControl::Rst);

    let (mut app, mut stream) = connect(&mut rig, 40_001).await;
    stream.shutdown().await.unwrap();
    drop(stream);
    app.expect().await;
    app.send_ack(); // and never a FIN
    settle().await;
    tokio::time::sleep(Duration::from_secs(119)).await;
    assert_eq!(rig.counters().flows_open, 1);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(rig.counters().flows_open, 0);
    app.expect_rst().await;
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_before_the_handshake_is_done_waits_for_it() {
    let mut rig = Rig::new();
    let mut app = App::new(&rig.tap, 40_000);
    app.send_syn();
    let mut stream = rig.accept().await;
    stream.shutdown().await.unwrap();
    app.finish_handshake().await;
    let fin = app.expect().await;
    assert_eq!((fin.control, fin.seq), (TcpControl::Fin, app.ack - 1));
    app.send_data(b"still");
    let mut buf = [0; 5];
    stream.read_exact(&mut buf).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn data_after_the_apps_fin_is_no_data() {
    let mut rig = Rig::new();
    let (mut app, mut stream) = connect(&mut rig, 40_000).await;
    app.send_data(b"a");
    app.send_fin();
    app.send_data(b"ghost");
    let mut all = Vec::new();
    settle().await;
    stream.read_to_end(&mut all).await.unwrap();
    assert_eq!(all, b"a");
}
