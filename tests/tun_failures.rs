//! What apps behind a real TUN see when the server fails them, and what becomes of the tunnel.
#![allow(clippy::disallowed_methods)] // a test's threads end with it, and its clock is the wall's

mod support;

use std::io::{ErrorKind, Read};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anytls_mobile::netstack::DropReason;
use serde_json::{Value, json};
use support::lab::{Lab, SERVER, SERVERS, TARGETS, TUN, block_on};
use support::netns::{self, Process, output, wait_until};
use support::servers::SERVER_NAME;
use support::target::PORT;

/// What curl ends with.
const COULD_NOT_CONNECT: i32 = 7;
const RECEIVE_ERROR: i32 = 56;

/// A pause between two packets on this machine is never as long; a stop takes a hundredth of it.
const STOPPED_IN_TIME: Duration = Duration::from_secs(3);

/// Where nothing listens.
const CLOSED_PORT: u16 = 81;

fn connect(lab: &Lab, host: &str, port: u16) -> std::io::Result<TcpStream> {
    lab.client.run(|| TcpStream::connect(format!("{host}:{port}")))
}

fn ask(lab: &Lab) {
    assert_eq!(output(&mut lab.curl(&[&format!("http://{}/echo/hello", TARGETS[0])])), "hello\n");
}

/// A download that has begun and would go on for a while.
fn begin_download(lab: &Lab) -> Child {
    let url = format!("http://{}/seeded/1/{}", TARGETS[0], 1u64 << 40);
    let mut curl = lab.curl(&[&url]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut begun = vec![0; 1 << 20];
    curl.stdout.as_mut().unwrap().read_exact(&mut begun).unwrap();
    curl
}

/// What curl says when it has read all that there is.
fn end_of(mut curl: Child) -> Option<i32> {
    std::io::copy(&mut curl.stdout.take().unwrap(), &mut std::io::sink()).unwrap();
    curl.wait().unwrap().code()
}

/// A config for a server that may be started anew: it has another certificate then.
fn lenient(lab: &Lab) -> Value {
    let mut config = lab.config(None, 9000);
    config["server"]["tls"] = json!({ "insecure": true });
    config
}

#[test]
fn a_server_that_dies_in_a_download_is_a_reset_and_its_successor_serves() {
    if !netns::available() {
        return;
    }
    for (name, start) in SERVERS {
        let lab = Lab::new();
        let Some(server) = lab.start_server(start) else { continue };
        println!("against {name}");
        let _program = lab.run_program(&lenient(&lab), "info");

        let download = begin_download(&lab);
        drop(server); // SIGKILL
        assert_eq!(end_of(download), Some(RECEIVE_ERROR));
        let refused = connect(&lab, TARGETS[0], PORT).expect_err("the server is gone");
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);

        let _successor = lab.start_server(start);
        ask(&lab);
    }
}

#[test]
fn pooled_sessions_that_died_unnoticed_cost_nothing_but_time() {
    if !netns::available() {
        return;
    }
    for (name, start) in SERVERS {
        let lab = Lab::new();
        let Some(server) = lab.start_server(start) else { continue };
        println!("against {name}");
        let tunnel = lab.start_tunnel(&lenient(&lab), |tun| Box::new(tun));
        ask(&lab);
        wait_until("an idle session", || tunnel.stats().client.idle > 0);

        // The cable is out while the server dies: its last words are lost.
        lab.internet.ip("link set wan down");
        drop(server);
        lab.internet.ip("link set wan up");
        let _successor = lab.start_server(start);
        for _ in 0..3 {
            ask(&lab);
        }
        println!("{:?}", tunnel.stats().client);
        block_on(tunnel.stop());
    }
}

#[test]
fn a_target_that_refuses_is_connection_refused_for_the_app() {
    if !netns::available() {
        return;
    }
    for (name, start) in SERVERS {
        let lab = Lab::new();
        let Some(server) = lab.start_server(start) else { continue };
        println!("against {name}");
        let _program = lab.run_program(&lab.config(Some(&server), 9000), "info");
        for host in TARGETS {
            let refused = connect(&lab, host, CLOSED_PORT).expect_err("nobody listens");
            assert_eq!(refused.kind(), ErrorKind::ConnectionRefused, "{host}");
            connect(&lab, host, PORT).unwrap();
        }
    }
}

#[test]
fn behind_a_server_that_never_answers_no_connection_opens() {
    if !netns::available() {
        return;
    }
    let lab = Lab::new();
    // The other host forwards nothing, and does not say so.
    lab.client.ip("route add 192.0.2.1 via 10.0.0.2");
    let mut config = lab.config(None, 9000);
    config["server"]["server"] = json!("192.0.2.1");
    config["server"]["tls"] = json!({});
    config["server"]["connect_timeout"] = json!("500ms");
    let tunnel = lab.start_tunnel(&config, |tun| Box::new(tun));

    let refused = connect(&lab, TARGETS[0], PORT).expect_err("nobody answers");
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    // The app may have its answer before the turn is over, in which it is counted.
    wait_until("its reset counted", || tunnel.stats().netstack.resets_out > 0);
    let counters = tunnel.stats().netstack;
    assert!(counters.resets_out > 0, "{counters:?}");
    assert_eq!(counters.packets_out, counters.resets_out, "no SYN was answered: {counters:?}");
    block_on(tunnel.stop());
}

#[test]
fn own_packets_that_come_back_are_dropped_until_the_route_is_right() {
    if !netns::available() {
        return;
    }
    let (_, start) = SERVERS[0];
    let lab = Lab::new();
    let Some(server) = lab.start_server(start) else { return };
    let mut config = lab.config(Some(&server), 9000);
    config["server"]["connect_timeout"] = json!("500ms");
    config["server"]["ensure_idle_session"] = json!(0);
    let tunnel = lab.start_tunnel(&config, |tun| Box::new(tun));
    lab.client.ip(&format!("route add 10.0.0.2/32 dev {TUN}"));

    let refused = connect(&lab, TARGETS[0], PORT).expect_err("the server cannot be reached");
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    let stats = tunnel.stats();
    assert!(stats.netstack.dropped[DropReason::OwnServer] > 0, "{stats:?}");
    assert_eq!(stats.netstack.flows_total, 1, "only the app's: {stats:?}");
    assert!(stats.client.dials_failed < 5 && stats.netstack.packets_in < 50, "{stats:?}");

    lab.client.ip(&format!("route delete 10.0.0.2/32 dev {TUN}"));
    ask(&lab);
    block_on(tunnel.stop());
}

#[test]
fn own_packets_are_known_when_the_server_has_only_a_name() {
    if !netns::available() {
        return;
    }
    let lab = Lab::new();
    lab.client.set_hosts(&format!("10.0.0.2 {SERVER_NAME}"));
    let mut config = lenient(&lab);
    config["server"]["server"] = json!(SERVER_NAME);
    config["server"]["connect_timeout"] = json!("500ms");
    let _program = lab.run_program(&config, "info");
    lab.client.ip(&format!("route add 10.0.0.2/32 dev {TUN}"));

    let refused = connect(&lab, TARGETS[0], PORT).expect_err("the server cannot be reached");
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    let link: Value = serde_json::from_str(&lab.client.ip(&format!("-json -stats link show {TUN}"))).unwrap();
    let packets = link[0]["stats64"]["tx"]["packets"].as_u64().unwrap();
    assert!((2..50).contains(&packets), "{packets} packets went into the TUN");
}

/// Sends the signal and waits for an end in good order.
fn stop(mut program: Process, signal: &str, when: &str) {
    let asked = Instant::now();
    program.signal(signal);
    let status = program.wait_until_ended();
    let took = asked.elapsed();
    println!("SIG{signal} {when}: ended after {took:?}");
    assert!(status.success(), "SIG{signal} {when}: {status}");
    assert!(took < STOPPED_IN_TIME, "SIG{signal} {when}: {took:?}");
}

#[test]
fn the_program_stops_at_once_while_a_server_is_silent_in_the_handshake() {
    if !netns::available() {
        return;
    }
    for signal in ["TERM", "INT"] {
        let lab = Lab::new();
        let silent = lab.internet.run(|| TcpListener::bind(SERVER)).unwrap();
        let mut config = lenient(&lab);
        config["server"]["ensure_idle_session"] = json!(0); // a dial shows that curl's SYN was seen
        let program = lab.run_program(&config, "info");
        let url = format!("http://{}/", TARGETS[0]);
        let curl = lab.curl(&[&url]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let _dialed: (TcpStream, SocketAddr) = silent.accept().unwrap();
        stop(program, signal, "in the handshake");
        assert_eq!(end_of(curl), Some(COULD_NOT_CONNECT));
    }
}

#[test]
fn the_program_stops_at_once_in_a_transfer_and_with_idle_sessions() {
    if !netns::available() {
        return;
    }
    for (name, start) in SERVERS {
        for (signal, hangs) in [("TERM", false), ("INT", true)] {
            let lab = Lab::new();
            let Some(server) = lab.start_server(start) else { continue };
            println!("against {name}{}", if hangs { ", which hangs" } else { "" });
            let config = lab.config(Some(&server), 9000);

            let program = lab.run_program(&config, "info");
            let download = begin_download(&lab);
            if hangs {
                server.process.signal("STOP");
            }
            stop(program, signal, "in a download");
            assert_eq!(end_of(download), Some(RECEIVE_ERROR));

            server.process.signal("CONT");
            let program = lab.run_program(&config, "info");
            ask(&lab);
            if hangs {
                server.process.signal("STOP");
            }
            stop(program, signal, "with idle sessions");
        }
    }
}

#[test]
fn the_program_stops_at_once_while_a_hanging_server_takes_no_more_of_an_upload() {
    if !netns::available() {
        return;
    }
    let (_, start) = SERVERS[0];
    let lab = Lab::new();
    let Some(server) = lab.start_server(start) else { return };
    let program = lab.run_program(&lab.config(Some(&server), 9000), "info");
    let zeros = std::fs::File::open("/dev/zero").unwrap();
    let url = format!("http://{}/1", TARGETS[0]);
    let headers = ["--header", "Transfer-Encoding:", "--header", "Content-Length: 1000000000000"];
    let mut curl = lab.curl(&["--upload-file", "-", &url]);
    let curl = curl.args(headers).stdin(zeros).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    lab.target.wait_until_received(1, 1 << 20);
    server.process.signal("STOP");
    stop(program, "TERM", "in an upload");
    assert_ne!(end_of(curl), Some(0));
}

#[test]
fn the_program_stops_at_once_before_anything_has_happened() {
    if !netns::available() {
        return;
    }
    for signal in ["TERM", "INT"] {
        let lab = Lab::new();
        stop(lab.run_program(&lenient(&lab), "info"), signal, "before the first flow");
    }
}
