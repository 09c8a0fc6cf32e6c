//! Whatever happens to the tunnel, no packet but its own leaves the host.

use serde_json::{Value, json};

use crate::support::asker::Asker;
use crate::support::capture::Capture;
use crate::support::lab::{Lab, TUN};
use crate::support::netns::{self, Process};
use crate::support::uplinks::{TwoUplinks, UP0, UP1};
use crate::{EMBEDDED, World, apps_resolver};

/// As `tcpdump` knows the server.
const SERVER_FILTER: &str = "10.0.0.2 and port 443";

/// What is the tunnel's own, in packets.
const MARK: &str = "0x51";

/// The program, which all goes through except its own marked packets. Where there is no TUN, there is no way.
fn run(world: &World, config: &Value) -> Process {
    let program = world.lab.run_program_with(config, &["--log", "info", "--tun", TUN, "--mark", MARK]);
    for family in ["-4", "-6"] {
        world.lab.client.ip(&format!("{family} route add default dev {TUN} table 51"));
    }
    program
}

fn no_stray_in_any_state(dns: Value, is_forwarded: bool) {
    let Some(network) = TwoUplinks::new() else { return };
    if !netns::installed("tcpdump") {
        return;
    }
    let lab = Lab::between(network.client.clone(), network.internet.clone());
    let Some(mut world) = World::of(lab, EMBEDDED.1) else { return };
    for family in ["-4", "-6"] {
        network.client.ip(&format!("{family} route add unreachable default table 51 metric 4000"));
        network.client.ip(&format!("{family} rule add not fwmark {MARK} table 51"));
    }
    let mut config = world.config(dns);
    // A server that comes again has a new certificate.
    config["server"]["tls"] = json!({ "insecure": true });
    let interfaces = [UP0.interface, UP1.interface];
    let Some(capture) = Capture::start(&network.client, &interfaces, SERVER_FILTER) else { return };
    let asker = Asker::start(&network.client, apps_resolver(), "burst.test");
    let without_a_way = || if is_forwarded { asker.wait_until_failed() } else { asker.wait_until_answered() };

    println!("before the start, and in it");
    asker.wait_until_asked();
    let mut program = run(&world, &config);
    asker.wait_until_answered();

    println!("another network");
    network.switch_to(&UP1);
    program.wait_until_logged(&format!("network changed path={:?}", UP1.path()));
    asker.wait_until_answered();

    println!("no network");
    network.take_down(&UP1);
    program.wait_until_logged("no network");
    without_a_way();

    println!("a network again");
    network.bring_up(&UP1);
    network.switch_to(&UP1);
    asker.wait_until_answered();

    println!("a server that is dead");
    drop(world.server);
    without_a_way();

    println!("a server again");
    world.server = world.lab.start_server(EMBEDDED.1).unwrap();
    network.switch_to(&UP0);
    asker.wait_until_asked();

    println!("a server that is silent");
    for uplink in [UP0, UP1] {
        network.black_hole(&uplink);
    }
    without_a_way();

    println!("the stop, and after it");
    program.signal("TERM");
    program.wait_until_ended();
    asker.wait_until_asked();

    println!("an end without a stop");
    for uplink in [UP0, UP1] {
        network.heal(&uplink);
    }
    let killed = run(&world, &config);
    asker.wait_until_answered();
    drop(killed);
    asker.wait_until_asked();

    drop(asker);
    capture.expect_nothing();
}

#[test]
fn no_question_leaves_past_the_tunnel_when_the_resolver_answers() {
    no_stray_in_any_state(json!({}), true);
}

#[test]
fn no_question_leaves_past_the_tunnel_when_the_resolver_is_asked_over_https() {
    no_stray_in_any_state(json!({ "server": "https://resolver.test/dns-query" }), true);
}

#[test]
fn no_question_leaves_past_the_tunnel_when_names_are_fake() {
    no_stray_in_any_state(json!({ "mode": "fake_ip" }), false);
}
