//! The name of our own server: the one thing that is asked beside the tunnel.

use serde_json::json;

use crate::support::capture::Capture;
use crate::support::lab::{Lab, TUN};
use crate::support::uplinks::{TwoUplinks, UP0, UP1};
use crate::{EMBEDDED, World};

/// Under which the resolver knows the server.
const VPN: &str = "vpn.test";

/// Where the network's DNS server is, to which the system's own lookups go, if they do not enter the TUN: with the
/// resolver behind it.
const NETWORKS_RESOLVER: &str = "10.0.0.2";

const MARK: &str = "0x51";

fn the_servers_name_is_found_beside_the_tunnel(mode: &str) {
    let Some(network) = TwoUplinks::new() else { return };
    let lab = Lab::between(network.client.clone(), network.internet.clone());
    let Some(world) = World::of(lab, EMBEDDED.1) else { return };
    network.nft(&format!(
        "table ip dns {{
            chain in {{
                type nat hook prerouting priority dstnat;
                ip daddr {NETWORKS_RESOLVER} udp dport 53 dnat to {}
            }}
        }}",
        crate::ADDRESSES[0]
    ));
    world.lab.client.set_resolver(NETWORKS_RESOLVER);
    for family in ["-4", "-6"] {
        network.client.ip(&format!("{family} route add unreachable default table 51 metric 4000"));
        network.client.ip(&format!("{family} rule add not fwmark {MARK} table 51"));
    }
    let interfaces = [UP0.interface, UP1.interface];
    let Some(capture) = Capture::start(&network.client, &interfaces, "10.0.0.2 and port 443") else { return };
    let mut config = world.config(json!({ "mode": mode }));
    config["server"]["server"] = json!(VPN);
    config["server"]["tls"] = json!({ "insecure": true });
    let mut program = world.lab.run_program_with(&config, &["--log", "info", "--tun", TUN, "--mark", MARK]);
    for family in ["-4", "-6"] {
        network.client.ip(&format!("{family} route add default dev {TUN} table 51"));
    }

    let fetch = || {
        let output = world.lab.curl(&["http://203.0.113.9/echo/hello"]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    fetch();
    // Apps are told where it really is, be it from the tunnel.
    assert_eq!(world.dig(&[VPN]).only(), "10.0.0.2");
    world.dig(&["host.test"]);

    network.switch_to(&UP1);
    let path = format!("{}, {}", UP1.path(), UP1.path6()); // of a name, either family may be the server's
    program.wait_until_logged(&format!("network changed path={path:?}"));
    fetch();
    assert!(world.resolver.was_asked(VPN));
    let strays = capture.strays();
    let (asked, others): (Vec<_>, Vec<_>) = strays.iter().partition(|packet| packet.contains(VPN));
    assert!(asked.iter().any(|packet| packet.contains(UP1.interface)), "{strays:#?}");
    let answers = format!(" {NETWORKS_RESOLVER}.53 > ");
    assert!(others.iter().all(|packet| packet.contains(&answers)), "{others:#?}");
}

#[test]
fn the_servers_name_is_found_beside_the_tunnel_when_the_resolver_answers() {
    the_servers_name_is_found_beside_the_tunnel("forward");
}

#[test]
fn the_servers_name_is_found_beside_the_tunnel_when_names_are_fake() {
    the_servers_name_is_found_beside_the_tunnel("fake_ip");
}
