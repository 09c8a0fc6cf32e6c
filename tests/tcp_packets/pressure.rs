//! What the stack does when the system says that memory is short.

use std::io::ErrorKind;
use std::time::Duration;

use anytls_mobile::budget::Pressure;
use anytls_mobile::netstack::{Options, TcpStream};
use smoltcp::wire::TcpControl;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::app::{App, connect};
use crate::rig::{MTU, Rig, settle};

/// As many connections, each a second younger than the one before it.
async fn connect_each_second(rig: &mut Rig, count: u16) -> Vec<(App, TcpStream)> {
    let mut flows = Vec::new();
    for port in 0..count {
        flows.push(connect(rig, 10_000 + port).await);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    flows
}

async fn critical(rig: &Rig) {
    rig.control.set_pressure(Pressure::Critical);
    settle().await;
}

async fn assert_moves(app: &mut App, stream: &mut TcpStream) {
    app.send_data(b"up");
    let mut buf = [0; 2];
    stream.read_exact(&mut buf).await.unwrap();
    stream.write_all(b"down").await.unwrap();
    let down = app.all().await;
    assert!(down.iter().any(|seen| seen.payload == b"down"), "{down:?}");
}

#[tokio::test(start_paused = true)]
async fn critical_resets_the_longest_idle_half_and_nothing_else() {
    let mut rig = Rig::new();
    let mut flows = connect_each_second(&mut rig, 8).await;
    // The oldest moves bytes, one upwards and one downwards; the others are idle for 10 s and more.
    let (app, stream) = &mut flows[0];
    app.send_data(b"up");
    stream.read_exact(&mut [0; 2]).await.unwrap();
    let (_, stream) = &mut flows[1];
    stream.write_all(b"down").await.unwrap();
    settle().await;
    let (app, _) = &mut flows[1];
    app.expect().await;
    app.send_ack();
    tokio::time::sleep(Duration::from_secs(5)).await;
    let (app, stream) = &mut flows[0];
    assert_moves(app, stream).await;
    let (app, stream) = &mut flows[1];
    assert_moves(app, stream).await;
    tokio::time::sleep(Duration::from_secs(6)).await;
    rig.tap.clear();

    critical(&rig).await;
    assert_eq!((rig.counters().flows_shed, rig.counters().flows_open), (4, 4));
    for (at, (mut app, mut stream)) in flows.into_iter().enumerate() {
        if (2..6).contains(&at) {
            assert_eq!(app.expect_rst().await.control, TcpControl::Rst);
            let error = stream.read(&mut [0; 1]).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConnectionAborted);
        } else {
            assert_eq!(app.all().await, []);
            app.ack = app.ack.wrapping_add(if at < 2 { 4 } else { 0 });
            assert_moves(&mut app, &mut stream).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_acknowledgement_or_a_keepalive_is_no_movement() {
    let mut rig = Rig::new();
    let (mut app, mut stream) = connect(&mut rig, 10_000).await;
    let (mut other, mut others) = connect(&mut rig, 10_001).await;
    for _ in 0..12 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        app.send_ack();
        other.send_data(b"x");
        others.read_exact(&mut [0; 1]).await.unwrap();
    }
    rig.tap.clear();
    critical(&rig).await;
    app.expect_rst().await;
    assert!(stream.read(&mut [0; 1]).await.is_err());
    assert_moves(&mut other, &mut others).await;
}

#[tokio::test(start_paused = true)]
async fn flows_that_moved_in_the_last_seconds_are_never_shed() {
    let mut rig = Rig::new();
    let flows = connect_each_second(&mut rig, 8).await;
    critical(&rig).await;
    assert_eq!((rig.counters().flows_shed, rig.counters().flows_open), (0, 8));
    drop(flows);
}

#[tokio::test(start_paused = true)]
async fn a_flow_that_waits_for_its_proxy_is_not_shed() {
    let mut rig = Rig::new();
    let mut app = App::new(&rig.tap, 10_000);
    app.send_syn();
    let flow = rig.flow().await;
    let _other = connect(&mut rig, 10_001).await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    critical(&rig).await;
    assert_eq!(rig.counters().flows_shed, 1);
    let _stream = flow.accept();
    app.finish_handshake().await;
}

#[tokio::test(start_paused = true)]
async fn saying_it_twice_sheds_once_and_saying_it_anew_sheds_again() {
    let mut rig = Rig::new();
    let _flows = connect_each_second(&mut rig, 8).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    critical(&rig).await;
    critical(&rig).await;
    assert_eq!(rig.counters().flows_shed, 4);
    rig.control.set_pressure(Pressure::Normal);
    settle().await;
    critical(&rig).await;
    assert_eq!(rig.counters().flows_shed, 6);
}

#[tokio::test(start_paused = true)]
async fn low_sheds_nothing_and_gives_kept_pages_back_at_once() {
    let mut rig = Rig::new();
    let mut flows = connect_each_second(&mut rig, 8).await;
    for (app, stream) in &mut flows {
        app.send_data(&[1; 1000]);
        stream.read_exact(&mut [0; 1000]).await.unwrap();
    }
    let (app, stream) = flows.pop().unwrap();
    stream.abort(); // its mapping is kept warm
    drop(app);
    settle().await;
    assert!(rig.counters().memory_bytes > 0);
    rig.control.set_pressure(Pressure::Low);
    tokio::time::sleep(Duration::from_millis(20)).await; // far less than pages usually stay
    assert_eq!((rig.counters().memory_bytes, rig.counters().flows_shed), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn windows_shrink_under_pressure_new_flows_work_and_normal_undoes_it() {
    let mut rig = Rig::with(Options { memory_bytes: 8 << 20, ..Options::default() }, MTU);
    let mut widest = Vec::new();
    for (port, pressure) in
        [Pressure::Normal, Pressure::Low, Pressure::Critical, Pressure::Normal].into_iter().enumerate()
    {
        rig.control.set_pressure(pressure);
        settle().await;
        let (mut app, mut stream) = connect(&mut rig, 11_000 + u16::try_from(port).unwrap()).await;
        // The app sends what fits, and nobody reads.
        let mut taken = 0;
        for _ in 0..200 {
            app.send_data(&[1; 1000]);
            let Some(seen) = app.all().await.pop() else { break };
            let acked = seen.ack.unwrap();
            taken = acked.wrapping_sub(1001);
            app.seq = acked;
            if seen.window == 0 {
                break;
            }
        }
        widest.push(taken);
        let mut all = vec![0; usize::try_from(taken).unwrap()];
        stream.read_exact(&mut all).await.unwrap();
        assert!(all.iter().all(|&byte| byte == 1));
    }
    let [before, low, critical, after] = widest[..] else { panic!("four of them") };
    assert!(before > 190_000 && after == before, "{widest:?}");
    assert!(low < before && critical < low && critical >= 14_000, "{widest:?}");
}
