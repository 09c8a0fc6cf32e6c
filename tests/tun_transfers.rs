//! The main job through a real TUN, against servers that we did not write: every byte, in its place.
#![allow(clippy::disallowed_methods)] // a test's threads end with it

mod support;

use std::io::Write;
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use anytls_mobile::tun::{Impaired, Impairment};
use serde_json::Value;
use support::lab::{Lab, SERVERS, TARGETS, block_on};
use support::netns::{self, output};
use support::servers::Server;
use support::target::{PIECE, digest, digest_of, seeded};

const MIB: u64 = 1 << 20;

/// Runs `test` against each server that is installed, in a world of its own.
fn each_server(test: impl Fn(&Lab, &Server)) {
    if !netns::available() {
        return;
    }
    for (name, start) in SERVERS {
        let lab = Lab::new();
        let Some(server) = lab.start_server(start) else { continue };
        println!("against {name}");
        test(&lab, &server);
    }
}

/// Has curl ask for seeded bytes, and gives the digest of what it got.
fn download(lab: &Lab, host: &str, seed: u64, count: u64) -> String {
    let url = format!("http://{host}/seeded/{seed}/{count}");
    let mut curl = lab.curl(&[&url]).stdout(Stdio::piped()).spawn().unwrap();
    let (digest, got) = digest_of(curl.stdout.take().unwrap());
    assert!(curl.wait().unwrap().success(), "{url}: {got} bytes came");
    digest
}

/// Has curl send seeded bytes, and gives the digest of what the target got.
fn upload(lab: &Lab, server: &Server, host: &str, seed: u64, count: u64) -> String {
    let url = format!("http://{host}/{seed}");
    let length = format!("Content-Length: {count}");
    let headers = ["--header", &length, "--header", "Transfer-Encoding:", "--header", "Expect:"];
    let mut curl = lab.curl(&["--upload-file", "-", &url]);
    let mut curl = curl.args(headers).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = curl.stdin.take().unwrap();
    let mut sent = 0u64;
    for piece in seeded(seed, count) {
        if !server.makes_clients_wait {
            // Two pieces at most under way: 46 frames, should each carry one small packet.
            lab.target.wait_until_received(seed, sent.saturating_sub(PIECE));
        }
        stdin.write_all(&piece).unwrap_or_else(|error| panic!("{url}: {error} after {sent} bytes"));
        sent += PIECE;
    }
    drop(stdin);
    let output = curl.wait_with_output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_gibibyte_each_way_is_exact() {
    const COUNT: u64 = 1024 * MIB;
    let expected = digest(seeded(1, COUNT));
    each_server(|lab, server| {
        let _program = lab.run_program(&lab.config(Some(server), 9000), "info");
        assert_eq!(download(lab, TARGETS[0], 1, COUNT), expected);
        assert_eq!(upload(lab, server, TARGETS[0], 1, COUNT), expected);
    });
}

#[test]
fn eight_streams_at_once_are_exact_over_both_families_and_mtus() {
    const COUNT: u64 = 32 * MIB;
    let expected: Vec<_> = (0..8).map(|seed| digest(seeded(seed, COUNT))).collect();
    each_server(|lab, server| {
        for mtu in [1500, 9000] {
            let _program = lab.run_program(&lab.config(Some(server), mtu), "info");
            thread::scope(|scope| {
                for (seed, expected) in (0u64..).zip(&expected) {
                    let host = TARGETS[usize::from(seed % 4 < 2)];
                    scope.spawn(move || {
                        let got = match seed % 2 {
                            0 => download(lab, host, seed, COUNT),
                            _ => upload(lab, server, host, seed, COUNT),
                        };
                        assert_eq!(got, *expected, "{host}, MTU {mtu}, seed {seed}");
                    });
                }
            });
        }
    });
}

#[test]
fn small_requests_in_a_row_and_64_at_a_time_all_succeed() {
    each_server(|lab, server| {
        let _program = lab.run_program(&lab.config(Some(server), 9000), "info");
        for (host, count, options) in [
            (TARGETS[0], 500, &[][..]),
            (TARGETS[1], 1000, &["--parallel", "--parallel-immediate", "--parallel-max", "64"][..]),
        ] {
            let url = format!("http://{host}/echo/[1-{count}]");
            let answers = output(lab.curl(&[&url]).args(options));
            let mut answers: Vec<u32> = answers.lines().map(|line| line.parse().unwrap()).collect();
            answers.sort_unstable();
            assert!(answers.into_iter().eq(1..=count), "{url}");
        }
    });
}

#[test]
fn requests_in_a_row_share_sessions_although_the_server_ends_each() {
    each_server(|lab, server| {
        let tunnel = lab.start_tunnel(&lab.config(Some(server), 9000), |tun| Box::new(tun));
        output(&mut lab.curl(&[&format!("http://{}/echo/[1-100]", TARGETS[0])]));
        let stats = tunnel.stats().client;
        println!("{stats:?}");
        assert!(stats.dialed < 20, "{stats:?}");
        block_on(tunnel.stop());
    });
}

#[test]
fn iperf3_is_content_both_ways_with_eight_streams() {
    each_server(|lab, server| {
        let mut iperf3 = lab.internet.command("iperf3");
        iperf3.arg("--server");
        let mut iperf3 = lab.internet.spawn(iperf3);
        iperf3.wait_until_listening(5201);
        let _program = lab.run_program(&lab.config(Some(server), 9000), "info");
        // A second of all that 8 streams can carry, or of what a server that drops streams is sure to follow.
        let up = if server.makes_clients_wait { "0" } else { "20M" };
        for host in ["203.0.113.9", "2001:db8::9"] {
            for direction in [&["--bitrate", up][..], &["--reverse"]] {
                let mut iperf3 = lab.client.command("iperf3");
                iperf3.args(["--client", host, "--parallel", "8", "--time", "1", "--json"]).args(direction);
                let report: Value = serde_json::from_str(&output(&mut iperf3)).unwrap();
                let received = report["end"]["sum_received"]["bytes"].as_u64().unwrap();
                assert!(received > MIB, "{host} {direction:?}: {received} bytes");
            }
        }
    });
}

#[test]
fn a_device_that_loses_doubles_and_reorders_packets_carries_exact_bytes() {
    const COUNT: u64 = 4 * MIB;
    const IMPAIRMENT: Impairment =
        Impairment { loss: 0.02, duplication: 0.02, reordering: 0.05, delay: Duration::ZERO };
    const SEED: u64 = 20;
    each_server(|lab, server| {
        let config = lab.config(Some(server), 1500);
        let tunnel =
            lab.start_tunnel(&config, |tun| Box::new(Impaired::new(tun, SEED, IMPAIRMENT, IMPAIRMENT)));
        thread::scope(|scope| {
            for (seed, host) in [(1, TARGETS[0]), (2, TARGETS[1])] {
                scope.spawn(move || {
                    let expected = digest(seeded(seed, COUNT));
                    assert_eq!(download(lab, host, seed, COUNT), expected, "impaired with seed {SEED}");
                    assert_eq!(upload(lab, server, host, seed, COUNT), expected, "impaired with seed {SEED}");
                });
            }
        });
        let counters = tunnel.stats().netstack;
        assert!(counters.segments_repeated > 0, "{counters:?}");
        block_on(tunnel.stop());
    });
}
