//! Datagrams through a real TUN, of every size, over both families, to servers that we did not write.
#![allow(clippy::disallowed_methods)] // a test's threads end with it

mod support;

use std::net::SocketAddr;

use serde_json::{Value, json};
use support::echo::{App, CROOKED, ECHO, ELSEWHERE, Echo, TARGETS, payload};
use support::lab::{Lab, SERVERS, Start};
use support::netns::{self, output};
use support::servers;

const SING_BOX: (&str, Start) = SERVERS[0];
const ANYTLS_SERVER: (&str, Start) = SERVERS[1];
const EMBEDDED: (&str, Start) = ("the embedded server", servers::embedded);

/// Sizes with an edge each: of nothing, of DNS, of QUIC, of one packet at MTU 1500 and one more, of one at
/// 9000, and of what the reference server holds.
const SIZES: [usize; 9] = [0, 1, 512, 1200, 1472, 1473, 8000, 8973, 16_000];

/// What IPv4 can carry, and our own server takes.
const LARGEST: usize = 65_507;

/// A lab with echoes and this server; `None` and a SKIP line where something is missing.
fn lab((name, start): (&str, Start)) -> Option<(Lab, Echo, servers::Server)> {
    if !netns::available() {
        return None;
    }
    let lab = Lab::new();
    let echo = Echo::start(&lab.internet);
    let server = lab.start_server(start)?;
    println!("against {name}");
    Some((lab, echo, server))
}

/// Its datagrams leave from an IPv4 socket.
fn is_ipv4_only(server: (&str, Start)) -> bool {
    server.0 == ANYTLS_SERVER.0
}

/// It takes and gives the addresses of packet mode in another numbering than the specification's: no client of the
/// reference implementation can use it that way, and each destination has a stream of its own.
fn has_only_connect_mode(server: (&str, Start)) -> bool {
    server.0 == ANYTLS_SERVER.0
}

#[test]
fn datagrams_of_every_size_come_back_over_both_families_and_mtus() {
    for which in [SING_BOX, ANYTLS_SERVER, EMBEDDED] {
        let Some((lab, _echo, server)) = lab(which) else { continue };
        for mtu in [1500, 9000] {
            let _program = lab.run_program(&lab.config(Some(&server), mtu), "info");
            for target in TARGETS {
                if target.is_ipv6() && is_ipv4_only(which) {
                    continue;
                }
                let app = App::new(&lab.client, target);
                for size in SIZES {
                    app.exchange(SocketAddr::new(target, ECHO), size);
                }
                if which.0 == EMBEDDED.0 {
                    app.exchange(SocketAddr::new(target, ECHO), LARGEST);
                }
            }
        }
    }
}

#[test]
fn fragments_of_the_apps_own_kernel_are_one_datagram() {
    let Some((lab, _echo, server)) = lab(EMBEDDED) else { return };
    let _program = lab.run_program(&lab.config(Some(&server), 1500), "info");
    for target in TARGETS {
        let app = App::new(&lab.client, target);
        for _ in 0..20 {
            app.exchange(SocketAddr::new(target, ECHO), 20_000);
        }
    }
}

#[test]
fn answers_come_from_where_they_were_sent() {
    for which in [SING_BOX, ANYTLS_SERVER, EMBEDDED] {
        let Some((lab, _echo, server)) = lab(which) else { continue };
        let _program = lab.run_program(&lab.config(Some(&server), 1500), "info");
        for target in TARGETS {
            if target.is_ipv6() && is_ipv4_only(which) {
                continue;
            }
            let app = App::new(&lab.client, target);
            // One socket to two destinations, and an answer from where it never sent to.
            app.exchange(SocketAddr::new(target, ECHO), 100);
            if !has_only_connect_mode(which) {
                app.send(SocketAddr::new(target, CROOKED), &payload(200));
                app.expect(SocketAddr::new(target, ELSEWHERE), &payload(200));
            }
            app.exchange(SocketAddr::new(target, ELSEWHERE), 300);
            app.exchange(SocketAddr::new(target, ECHO), 400);
        }
    }
}

#[test]
fn a_thousand_flows_at_once_are_each_answered() {
    for which in [SING_BOX, EMBEDDED] {
        let Some((lab, _echo, server)) = lab(which) else { continue };
        let _program = lab.run_program(&lab.config(Some(&server), 1500), "info");
        let apps: Vec<_> = (0..1000).map(|index| (App::new(&lab.client, TARGETS[0]), index)).collect();
        let echo = SocketAddr::new(TARGETS[0], ECHO);
        // No two are alike in what they ask: 1 to 1000 bytes.
        for (app, index) in &apps {
            app.send(echo, &payload(index + 1));
        }
        for (app, index) in &apps {
            app.expect(echo, &payload(index + 1));
        }
        // And all of them live.
        for (app, index) in apps.iter().step_by(100) {
            app.exchange(echo, index + 2);
        }
    }
}

/// anytls-server takes one stream a session: there may be no more destinations at once than sessions.
#[test]
fn datagrams_leave_sessions_to_connections() {
    let Some((lab, _echo, server)) = lab(ANYTLS_SERVER) else { return };
    let mut config = lab.config(Some(&server), 1500);
    config["server"]["max_sessions"] = json!(8);
    let _program = lab.run_program(&config, "info");
    let apps: Vec<_> = (0..16).map(|_| App::new(&lab.client, TARGETS[0])).collect();
    for app in &apps {
        app.send(SocketAddr::new(TARGETS[0], ECHO), &payload(100));
    }
    let url = format!("http://{}/echo/hello", TARGETS[0]);
    let fetched = lab.curl(&["--retry", "3", "--retry-all-errors", &url]).output().unwrap();
    assert!(fetched.status.success(), "{}", String::from_utf8_lossy(&fetched.stderr));
    // Each app is served when it asks again.
    for app in &apps {
        app.exchange_at_last(SocketAddr::new(TARGETS[0], ECHO), 200);
    }
}

#[test]
fn fifty_megabits_a_second_lose_nothing_either_way() {
    let Some((lab, _echo, server)) = lab(SING_BOX) else { return };
    let mut iperf3 = lab.internet.command("iperf3");
    iperf3.arg("--server");
    let mut iperf3 = lab.internet.spawn(iperf3);
    iperf3.wait_until_listening(5201);
    let _program = lab.run_program(&lab.config(Some(&server), 1500), "info");
    for target in TARGETS {
        for direction in [&[][..], &["--reverse"]] {
            let loses_nothing = || {
                let mut iperf3 = lab.client.command("iperf3");
                let target = target.to_string();
                iperf3.args(["--client", &target, "--udp", "--bitrate", "50M", "--length", "1200"]);
                let report = output(iperf3.args(["--time", "1", "--json"]).args(direction));
                let report: Value = serde_json::from_str(&report).unwrap();
                let sum = &report["end"]["sum"];
                println!("{target} {direction:?}: {} of {} lost", sum["lost_packets"], sum["packets"]);
                assert!(sum["packets"].as_u64().unwrap() > 1000, "{sum}");
                sum["lost_packets"] == 0
            };
            // A machine that does something else for 10 ms may lose some, but hardly every time.
            assert!((0..20).any(|_| loses_nothing()), "{target} {direction:?}");
        }
    }
}
