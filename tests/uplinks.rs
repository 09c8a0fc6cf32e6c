//! Which network the machine is on, as the kernel has it, and what the program makes of that.
#![allow(clippy::disallowed_methods)] // a test's threads end with it

mod support;

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use anytls_mobile::tun::{self, TunOptions};
use anytls_mobile::uplink::{UplinkOptions, Uplinks};
use serde_json::Value;
use support::lab::{Lab, SERVER, TARGETS, TUN};
use support::netns::{Netns, output, wait_until};
use support::servers::{self, Server};
use support::uplinks::{SERVER_ADDRESSES, TwoUplinks, UP0, UP1};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;

/// What is told of the client's network, in turn.
struct Told {
    uplinks: Uplinks,
    runtime: Runtime,
}

impl Told {
    /// The next id is `expected`.
    fn next_is(&mut self, expected: Option<&str>) {
        let next = async { tokio::time::timeout(Duration::from_secs(20), self.uplinks.changed()).await };
        let next = self.runtime.block_on(next);
        let next = next.unwrap_or_else(|_| panic!("nothing was told, and not {expected:?}")).unwrap();
        assert_eq!(next.as_deref(), expected);
    }

    /// Does `work`, and nothing is told meanwhile.
    fn nothing_while(&mut self, work: impl FnOnce() + Send) {
        let (done, is_done) = oneshot::channel();
        thread::scope(|scope| {
            scope.spawn(move || {
                work();
                done.send(())
            });
            self.runtime.block_on(async {
                tokio::select! {
                    told = self.uplinks.changed() => panic!("{told:?} was told"),
                    _ = is_done => {}
                }
            });
        });
    }
}

/// Runs `test` beside two uplinks, of which [`UP0`] is in use, and with what is told of them.
fn watch(options: UplinkOptions, test: impl FnOnce(&TwoUplinks, &mut Told) + Send) {
    let Some(network) = TwoUplinks::new() else { return };
    network.client.run(|| {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let uplinks = runtime.block_on(async { Uplinks::watch(options) }).unwrap();
        test(&network, &mut Told { uplinks, runtime });
    });
}

fn to(server: &str) -> UplinkOptions {
    UplinkOptions { server: Some(server.parse().unwrap()), ..UplinkOptions::default() }
}

fn to_server() -> UplinkOptions {
    to(SERVER_ADDRESSES[0])
}

/// Runs many commands of `ip` at once.
fn batch(netns: &Netns, commands: &str) {
    output(netns.command("sh").args(["-c", r#"echo "$0" | ip -batch -"#, commands]));
}

#[test]
fn each_switch_of_the_default_route_is_told_once() {
    watch(to_server(), |network, told| {
        for uplink in [UP0, UP1, UP0] {
            network.switch_to(&uplink);
            told.next_is(Some(&uplink.path()));
        }
    });
}

#[test]
fn each_switch_is_told_to_an_ipv6_server_too() {
    watch(to(SERVER_ADDRESSES[1]), |network, told| {
        for uplink in [UP0, UP1, UP0] {
            network.switch_to(&uplink);
            told.next_is(Some(&uplink.path6()));
        }
    });
}

#[test]
fn what_leads_elsewhere_is_not_told() {
    watch(to_server(), |network, told| {
        told.next_is(Some(&UP0.path()));
        told.nothing_while(|| {
            let client = &network.client;
            let lines = |line: &dyn Fn(u8) -> String| (0..200).map(line).collect::<Vec<_>>().join("\n");
            client.ip("link add other type veth peer name end");
            client.ip("link set end up");
            client.ip("link set other up");
            batch(client, &lines(&|n| format!("address add 10.8.{n}.1/24 dev other")));
            batch(client, &lines(&|n| format!("route add 10.7.{n}.0/24 via 10.1.0.1")));
            batch(client, &lines(&|n| format!("route del 10.7.{n}.0/24 via 10.1.0.1")));
            client.ip("address add 10.1.0.77/24 dev up0");
            client.ip("address add 10.2.0.77/24 dev up1");
            client.ip("route add default via 10.2.0.1 dev up1 metric 500");
            client.ip("route add default via 10.2.0.1 dev up1 table 7");
            client.ip("rule add to 203.0.113.0/24 table 7");
            client.ip("link set other down");
            client.ip("link del other");
            network.take_down(&UP1);
            network.bring_up(&UP1);
        });
        network.switch_to(&UP1);
        told.next_is(Some(&UP1.path()));
    });
}

#[test]
fn a_link_that_goes_down_is_no_network_until_a_route_is_back() {
    watch(to_server(), |network, told| {
        told.next_is(Some(&UP0.path()));
        network.take_down(&UP0);
        told.next_is(None);
        network.bring_up(&UP0);
        network.switch_to(&UP0);
        told.next_is(Some(&UP0.path()));
    });
}

#[test]
fn a_second_default_route_takes_over_at_once() {
    watch(to_server(), |network, told| {
        told.next_is(Some(&UP0.path()));
        network.client.ip("route add default via 10.2.0.1 dev up1 metric 500");
        network.take_down(&UP0);
        told.next_is(Some(&UP1.path()));
        network.bring_up(&UP0);
        network.client.ip("route add default via 10.1.0.1 dev up0");
        told.next_is(Some(&UP0.path()));
    });
}

#[test]
fn a_cable_that_is_out_is_no_network_although_its_routes_stay() {
    watch(to_server(), |network, told| {
        told.next_is(Some(&UP0.path()));
        network.internet.ip("link set up0 down");
        told.next_is(None);
        assert!(network.client.ip("route show default").contains("dev up0"));
        network.internet.ip("link set up0 up");
        told.next_is(Some(&UP0.path()));
    });
}

#[test]
fn another_source_address_is_another_network_and_without_one_there_is_none() {
    watch(to_server(), |network, told| {
        told.next_is(Some(&UP0.path()));
        // Of another prefix, or it would go away with the first.
        network.client.ip("address add 10.1.0.3/16 dev up0");
        network.client.ip("address del 10.1.0.2/24 dev up0");
        told.next_is(Some("up0 via 10.1.0.1 from 10.1.0.3"));
        network.client.ip("address del 10.1.0.3/16 dev up0");
        told.next_is(None);
        network.client.ip("address add 10.1.0.2/24 dev up0");
        network.switch_to(&UP0);
        told.next_is(Some(&UP0.path()));
    });
}

#[test]
fn a_route_that_leads_nowhere_is_no_network() {
    watch(to_server(), |network, told| {
        told.next_is(Some(&UP0.path()));
        for kind in ["unreachable", "blackhole", "prohibit", "throw"] {
            network.client.ip(&format!("route add {kind} 10.0.0.2"));
            told.next_is(None);
            network.client.ip(&format!("route del {kind} 10.0.0.2"));
            told.next_is(Some(&UP0.path()));
        }
    });
}

#[test]
fn the_default_routes_of_both_families_stand_for_a_server_without_an_address() {
    watch(UplinkOptions::default(), |network, told| {
        told.next_is(Some(&format!("{}, {}", UP0.path(), UP0.path6())));
        network.client.ip("-6 route del default");
        told.next_is(Some(&UP0.path()));
        network.client.ip("route del default");
        told.next_is(None);
        network.client.ip("route add default via 10.2.0.1");
        told.next_is(Some(&UP1.path()));
        network.client.ip("route add default via fd02::1");
        told.next_is(Some(&format!("{}, {}", UP1.path(), UP1.path6())));
    });
}

fn open_tun() -> std::os::fd::OwnedFd {
    let addresses = vec![("10.70.0.1".parse().unwrap(), 30)];
    tun::open(&TunOptions { name: TUN.to_owned(), mtu: 1500, addresses }).unwrap()
}

#[test]
fn the_tunnels_own_interface_is_no_network() {
    let options = UplinkOptions { tun: Some(TUN.to_owned()), ..to_server() };
    watch(options, |network, told| {
        told.next_is(Some(&UP0.path()));
        let _tun = open_tun();
        network.client.ip(&format!("route add 10.0.0.0/16 dev {TUN}"));
        told.next_is(None);
        network.client.ip("route add 10.0.0.2 via 10.2.0.1");
        told.next_is(Some(&UP1.path()));
    });
}

#[test]
fn a_default_route_into_the_tunnel_says_nothing_about_a_server_without_an_address() {
    let options = UplinkOptions { tun: Some(TUN.to_owned()), ..UplinkOptions::default() };
    watch(options, |network, told| {
        network.client.ip("-6 route del default");
        told.next_is(Some(&UP0.path()));
        let _tun = open_tun();
        network.client.ip(&format!("route replace default dev {TUN}"));
        told.next_is(Some("at0 from 10.70.0.1"));
    });
}

#[test]
fn marked_sockets_go_the_way_of_their_rule() {
    let options = UplinkOptions { mark: Some(0x51), tun: Some(TUN.to_owned()), ..to_server() };
    watch(options, |network, told| {
        told.next_is(Some(&UP0.path()));
        let _tun = open_tun();
        network.client.ip(&format!("route add default dev {TUN} table 51"));
        network.client.ip("route add default via 10.2.0.1 dev up1 table 52");
        network.client.ip("rule add not fwmark 0x51 table 51");
        // A rule alone is a change.
        network.client.ip("rule add fwmark 0x51 table 52");
        told.next_is(Some(&UP1.path()));
        network.client.ip("rule del fwmark 0x51 table 52");
        told.next_is(Some(&UP0.path()));
        network.client.ip("rule del not fwmark 0x51 table 51");
        network.client.ip("rule add fwmark 0x51 table 51");
        told.next_is(None);
    });
}

#[test]
fn bound_sockets_go_through_their_interface_once_it_is_there() {
    let options = UplinkOptions { interface: Some("late".to_owned()), ..to_server() };
    watch(options, |network, told| {
        told.next_is(None);
        // Most kernels give a new name only to an interface that is down.
        network.take_down(&UP1);
        network.client.ip("link set up1 name late");
        network.client.ip("link set late up");
        // Without a route the kernel looks for the server among the neighbours.
        told.next_is(Some("late from 10.2.0.2"));
        network.client.ip("route add default via 10.2.0.1 dev late metric 500");
        told.next_is(Some("late via 10.2.0.1 from 10.2.0.2"));
        network.client.ip("link del late");
        told.next_is(None);
    });
}

#[test]
fn a_connection_works_over_either_uplink_and_not_over_the_other() {
    let Some(network) = TwoUplinks::new() else { return };
    for (server, family) in SERVER_ADDRESSES.iter().zip(0..) {
        let address = SocketAddr::new(server.parse().unwrap(), 443);
        let listener = network.internet.run(|| TcpListener::bind(address)).unwrap();
        for uplink in [UP0, UP1] {
            network.switch_to(&uplink);
            let mut client = network.client.run(|| TcpStream::connect(address)).unwrap();
            let (mut server, peer) = listener.accept().unwrap();
            assert_eq!(peer.ip(), uplink.addresses[family].parse::<IpAddr>().unwrap());
            client.write_all(b"up").unwrap();
            server.write_all(b"down").unwrap();
            let (mut up, mut down) = ([0; 2], [0; 4]);
            server.read_exact(&mut up).unwrap();
            client.read_exact(&mut down).unwrap();
            assert_eq!((&up, &down), (b"up", b"down"));
        }
    }
}

#[test]
fn a_black_hole_swallows_packets_and_tells_nobody() {
    watch(to_server(), |network, told| {
        told.next_is(Some(&UP0.path()));
        let address: SocketAddr = SERVER.parse().unwrap();
        let listener = network.internet.run(|| TcpListener::bind(address)).unwrap();
        told.nothing_while(|| {
            network.black_hole(&UP0);
            thread::scope(|scope| {
                // Repeats its SYN until it gets through.
                let connect = scope.spawn(|| network.client.run(|| TcpStream::connect(address)));
                wait_until("a SYN lost", || network.lost(&UP0) > 0);
                assert!(!connect.is_finished());
                network.heal(&UP0);
                connect.join().unwrap().unwrap();
                listener.accept().unwrap();
            });
        });
        network.switch_to(&UP1);
        told.next_is(Some(&UP1.path()));
    });
}

/// The program's own server, and a config for it.
fn start_server(lab: &Lab) -> (Server, Value) {
    let server = lab.start_server(servers::embedded).unwrap();
    let config = lab.config(Some(&server), 1500);
    (server, config)
}

fn fetch(lab: &Lab) -> String {
    output(&mut lab.curl(&[&format!("http://{}/echo/hello", TARGETS[0])]))
}

#[test]
fn the_program_says_which_network_it_is_on() {
    let Some(network) = TwoUplinks::new() else { return };
    let lab = Lab::between(network.client.clone(), network.internet.clone());
    let mut program = lab.run_program_with(&lab.config(None, 1500), &["--socks", "127.0.0.1:1080"]);
    program.wait_until_logged(&format!("network changed path={:?}", UP0.path()));
    network.switch_to(&UP1);
    program.wait_until_logged(&format!("network changed path={:?}", UP1.path()));
    network.take_down(&UP1);
    program.wait_until_logged("no network");
}

#[test]
fn a_marked_tunnel_carries_the_default_route_without_carrying_itself() {
    let Some(network) = TwoUplinks::new() else { return };
    let lab = Lab::between(network.client.clone(), network.internet.clone());
    let (_server, config) = start_server(&lab);
    let mut program = lab.run_program_with(&config, &["--tun", TUN, "--mark", "0x51"]);
    lab.client.ip(&format!("route add default dev {TUN} table 51"));
    lab.client.ip("rule add not fwmark 0x51 table 51");
    assert_eq!(fetch(&lab), "hello\n");
    network.switch_to(&UP1);
    program.wait_until_logged(&format!("network changed path={:?}", UP1.path()));
    assert!(!program.log().contains("no network"), "the marked way stayed");
}

#[test]
fn a_bound_tunnel_carries_the_default_route_without_carrying_itself() {
    let Some(network) = TwoUplinks::new() else { return };
    let lab = Lab::between(network.client.clone(), network.internet.clone());
    let (_server, config) = start_server(&lab);
    let mut program = lab.run_program_with(&config, &["--tun", TUN, "--bind-interface", "up0"]);
    for half in ["0.0.0.0/1", "128.0.0.0/1"] {
        lab.client.ip(&format!("route add {half} dev {TUN}"));
    }
    assert_eq!(fetch(&lab), "hello\n");
    program.wait_until_logged(&format!("network changed path={:?}", UP0.path()));
    assert!(!program.log().contains("no network"), "the bound way stayed");
}
