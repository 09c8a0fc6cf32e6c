//! What a tunnel counts and measures.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::Poll;
use std::thread;
use std::time::Duration;

use anytls_mobile::client::ClientStats;
use anytls_mobile::proto::auth::PasswordHash;
use anytls_mobile::testserver::{Cut, ServerOptions, raw_frame};
use anytls_mobile::transport::NoProtect;
use anytls_mobile::tun::{self, Device, FdDevice, Impaired, Impairment, MAX_PACKET_BYTES, TunOptions};
use anytls_mobile::tunnel::{Latency, Power, Pressure, Tun, Tunnel};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use crate::rig::*;
use crate::support::lab::{Lab, SERVERS as REAL_SERVERS, TARGETS, block_on};
use crate::support::netns::{self, Netns};

/// The sum of the reasons.
fn reasons(stats: &ClientStats) -> u64 {
    let ours = stats.closed_idle_timeout + stats.closed_age + stats.closed_server_idle_limit;
    let ours = ours + stats.closed_no_reuse + stats.closed_path_change + stats.closed_memory;
    let theirs =
        stats.closed_by_server + stats.closed_broken + stats.closed_no_answer + stats.closed_rejected;
    ours + theirs + stats.closed_violation + stats.closed_shutdown
}

fn failures(stats: &ClientStats) -> [u64; 7] {
    [
        stats.dials_unresolved,
        stats.dials_unreachable,
        stats.dials_timed_out,
        stats.dials_tls_failed,
        stats.dials_unauthenticated,
        stats.dials_unprotected,
        stats.dials_lost,
    ]
}

fn no_sessions() -> Value {
    json!({ "ensure_idle_session": 0, "heartbeat": "0" })
}

#[tokio::test]
async fn every_session_that_ends_is_counted_with_its_reason() {
    let server = start_server(server_options()).await;
    let options = json!({ "ensure_idle_session": 0, "idle_session_check_interval": "1s", "heartbeat": "1s" });
    let tunnel = start_tunnel(config(server.address(), options.clone())).await;
    tunnel.network_changed(path("first"));
    let one = async || {
        let mut stream = open(&tunnel, ECHO).await;
        exchange(&mut stream, b"hello").await;
        stream
    };
    let ended = async |what: &str, count: fn(&ClientStats) -> u64| {
        until(what, || count(&stats(&tunnel)) == 1).await;
        let stats = stats(&tunnel);
        assert_eq!(
            (stats.closed, reasons(&stats), stats.idle + stats.active),
            (stats.dialed, stats.dialed, 0)
        );
    };

    let stream = one().await;
    server.close_sessions().await;
    ended("closed by the server", |stats| stats.closed_by_server).await;
    drop(stream);

    let stream = one().await;
    server.cut_sessions(Cut::Reset).await;
    ended("broken", |stats| stats.closed_broken).await;
    drop(stream);

    let stream = one().await;
    server.cut_sessions(Cut::Silence).await;
    ended("no answer", |stats| stats.closed_no_answer).await;
    drop(stream);

    drop(one().await);
    until_idle(&tunnel, 1).await;
    tunnel.network_changed(path("second"));
    ended("another path", |stats| stats.closed_path_change).await;

    drop(one().await);
    until_idle(&tunnel, 1).await;
    tunnel.memory_pressure(Pressure::Low);
    ended("memory", |stats| stats.closed_memory).await;
    tunnel.memory_pressure(Pressure::Normal);

    let mut brief = options;
    brief["idle_session_timeout"] = json!("1s");
    brief["min_idle_session"] = json!(0);
    tunnel.reload(config(server.address(), brief)).await.expect("taken");
    drop(one().await);
    ended("idle for too long", |stats| stats.closed_idle_timeout).await;

    let stream = one().await;
    server.inject(&raw_frame(5, 0, b"go away"));
    until("an alert", || stats(&tunnel).closed_by_server == 2).await;
    drop(stream);

    let stream = one().await;
    tunnel.set_power(Power::Background);
    tunnel.stop().await;
    ended("stopped", |stats| stats.closed_shutdown).await;
    drop(stream);
    println!("{:?}", stats(&tunnel));
    assert_eq!(stats(&tunnel).dialed, 8);
}

/// A tunnel whose every dial fails, until `count` have: what of.
async fn failed(config: anytls_mobile::config::Config) -> ClientStats {
    let tunnel = start_tunnel(config).await;
    let error = guarded("an error", tunnel.open(&target(ECHO), b"")).await.map(drop);
    assert!(error.is_err());
    until("it is counted", || stats(&tunnel).dials_failed > 0).await;
    let stats = stats(&tunnel);
    assert_eq!(stats.dials_failed, failures(&stats).iter().sum::<u64>(), "{stats:?}");
    assert_eq!(stats.closed, reasons(&stats));
    tunnel.stop().await;
    stats
}

#[tokio::test]
async fn failed_dials_are_counted_by_reason() {
    let server =
        start_server(ServerOptions { password: PasswordHash::of("another"), ..server_options() }).await;
    let stats = failed(config(server.address(), no_sessions())).await;
    assert_eq!(
        (stats.dials_unauthenticated, stats.dials_failed, stats.closed_rejected),
        (1, 1, 1),
        "{stats:?}"
    );

    let nobody = SocketAddr::from(([127, 0, 0, 1], netns::free_port()));
    let stats = failed(config(nobody, no_sessions())).await;
    assert_eq!((stats.dials_unreachable, stats.dials_failed, stats.dialed), (1, 1, 0), "{stats:?}");

    let server = start_server(server_options()).await;
    let mut verified = config_value(server.address(), no_sessions());
    verified["server"]["tls"] = json!({ "server_name": "localhost" });
    let stats = failed(parse(&verified)).await;
    assert_eq!((stats.dials_tls_failed, stats.dials_failed), (1, 1), "{stats:?}");

    let not_tls = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let address = not_tls.local_addr().expect("bound");
    tokio::spawn(async move {
        let (mut socket, _) = not_tls.accept().await.expect("accepted");
        let _gone =
            tokio::io::AsyncWriteExt::write_all(&mut socket, b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
    });
    let stats = failed(config(address, no_sessions())).await;
    assert_eq!((stats.dials_tls_failed, stats.dials_failed), (1, 1), "{stats:?}");

    let mut unknown = config_value(nobody, no_sessions());
    unknown["server"]["server"] = json!("nobody.invalid");
    let stats = failed(parse(&unknown)).await;
    assert_eq!((stats.dials_unresolved, stats.dials_failed), (1, 1), "{stats:?}");
}

#[test]
fn a_black_hole_is_a_dial_that_times_out() {
    let Some(world) = World::new(server_options()) else { return };
    world.network.black_hole(&crate::support::uplinks::UP0);
    let mut value = config_value(World::address(), no_sessions());
    value["server"]["connect_timeout"] = json!("1s");
    let stats = world.network.client.run(|| block_on(failed(parse(&value))));
    assert_eq!((stats.dials_timed_out, stats.dials_failed), (1, 1), "{stats:?}");
}

/// A cable of two TUNs on which a packet takes `delay`; unplugged when this is dropped. `tc` has netem for that,
/// which many kernels are built without.
fn slow_cable([near, far]: [(&Netns, &str); 2], delay: Duration) -> oneshot::Sender<()> {
    const MTU: u16 = 1500;
    let open = |(netns, address): (&Netns, &str)| {
        let addresses = vec![(address.parse().expect("an address"), 24)];
        netns.run(|| tun::open(&TunOptions { name: "wan".to_owned(), mtu: MTU, addresses })).expect("a TUN")
    };
    let (near, far) = (open(near), open(far));
    let (plug, unplugged) = oneshot::channel();
    thread::spawn(move || {
        block_on(async {
            let line = Impairment { delay, ..Impairment::default() };
            let mut near = Impaired::new(FdDevice::new(near, MTU).expect("a device"), 0, line, line);
            let mut far = FdDevice::new(far, MTU).expect("a device");
            let mut packet = vec![0; MAX_PACKET_BYTES];
            let carry = poll_fn(|cx| {
                while let Poll::Ready(read) = near.poll_recv(cx, &mut packet) {
                    let _lost = far.send(&packet[..read.expect("the TUN is there")]);
                }
                while let Poll::Ready(read) = far.poll_recv(cx, &mut packet) {
                    let _lost = near.send(&packet[..read.expect("the TUN is there")]);
                }
                Poll::<()>::Pending
            });
            tokio::select! {
                () = carry => {}
                _ = unplugged => {}
            }
        });
    });
    plug
}

#[test]
fn latency_is_measured_step_by_step_against_real_servers() {
    if !netns::available() {
        return;
    }
    const WAY: Duration = Duration::from_millis(20);
    for (name, start) in REAL_SERVERS {
        let (client, internet) = (Netns::new("client"), Netns::new("internet"));
        let _cable = slow_cable([(&client, "10.0.0.1"), (&internet, "10.0.0.2")], WAY);
        let lab = Lab::between(client, internet);
        let Some(server) = lab.start_server(start) else { continue };
        let config = parse(&lab.config(Some(&server), 1500));
        let start = || block_on(Tunnel::start(config, Tun::None, Arc::new(NoProtect)));
        let tunnel = lab.client.run(start).expect("started");
        let target = format!("{}:80", TARGETS[0]).parse().expect("a target");
        let measured = block_on(guarded("a measurement", tunnel.test_latency(&target)));
        let latency = measured.expect("measured");
        println!("{name}: {latency:?}");
        let round_trip = 2 * WAY;
        let Latency { tcp, tls, first_stream, warm_stream } = latency;
        for span in [tcp, tls, first_stream, warm_stream] {
            // No span is shorter than light takes; how much longer it is says how busy the machine was.
            assert!((round_trip..25 * round_trip).contains(&span), "{name}: {latency:?}");
        }
        let stats = stats(&tunnel);
        assert_eq!((stats.active, stats.closed), (0, 0), "the pool has not seen it: {stats:?}");
        block_on(tunnel.stop());
    }
}
