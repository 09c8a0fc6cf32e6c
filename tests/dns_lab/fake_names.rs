//! `fake_ip`: addresses of our own, and names that only the AnyTLS server resolves.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anytls_mobile::config::{self, Defaults};
use serde_json::json;

use crate::support::dig::{check_answers, getent};
use crate::support::echo::{App, ECHO, Echo};
use crate::support::lab::block_on;
use crate::support::netns::output;
use crate::{APPS_RESOLVERS, EMBEDDED, FAKE_RANGES, SERVERS_OWN, World, every_server};

pub(crate) fn is_fake(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => u32::from(v4) >> 17 == u32::from(Ipv4Addr::new(198, 18, 0, 0)) >> 17,
        IpAddr::V6(v6) => {
            v6.segments()[..4] == Ipv6Addr::new(0xfdfe, 0xdcba, 0x9877, 0, 0, 0, 0, 0).segments()[..4]
        }
    }
}

/// The fake addresses of a name, of each family.
fn fakes(world: &World, name: &str) -> [IpAddr; 2] {
    ["A", "AAAA"].map(|kind| {
        let answer = world.dig(&[name, kind]);
        let address = answer.only().parse().unwrap_or_else(|error| panic!("{error}: {answer:?}"));
        assert!(is_fake(address), "{answer:?}");
        address
    })
}

fn fetch(world: &World, family: &str, text: &str) -> String {
    output(&mut world.lab.curl(&[family, &format!("http://{SERVERS_OWN}/echo/{text}")]))
}

#[test]
fn a_name_that_only_the_server_knows_is_reached_over_both_families() {
    for (name, start) in every_server() {
        let Some(world) = World::new(start) else { continue };
        println!("against {name}");
        let _program = world.run(json!({ "mode": "fake_ip" }));
        for family in ["--ipv4", "--ipv6"] {
            assert_eq!(fetch(&world, family, "hello"), "hello\n");
        }
        assert!(!world.resolver.was_asked(SERVERS_OWN));
    }
}

#[test]
fn datagrams_to_a_name_are_answered_from_its_fake_address() {
    for (name, start) in every_server() {
        let Some(world) = World::new(start) else { continue };
        println!("against {name}");
        let _echo = Echo::start(&world.lab.internet);
        let _program = world.run(json!({ "mode": "fake_ip" }));
        // Of which family the target is, is the server's to choose.
        for fake in fakes(&world, SERVERS_OWN) {
            let app = App::new(&world.lab.client, fake);
            for size in [1, 1200] {
                app.exchange(SocketAddr::new(fake, ECHO), size);
            }
        }
        assert!(!world.resolver.was_asked(SERVERS_OWN));
    }
}

#[test]
fn fake_addresses_are_stable_unlike_each_other_and_lead_back_to_their_names() {
    let Some(world) = World::new(EMBEDDED.1) else { return };
    let _program = world.run(json!({ "mode": "fake_ip" }));
    let (first, second) = (fakes(&world, "first.test"), fakes(&world, "second.test"));
    assert!(first[0] != second[0] && first[1] != second[1]);
    assert_eq!(fakes(&world, "first.test"), first);
    assert_eq!(fakes(&world, "FIRST.test"), first);
    for transport in ["+notcp", "+tcp"] {
        for address in first {
            let answer = world.dig(&[transport, "-x", &address.to_string()]);
            assert_eq!(answer.only(), "first.test.", "{address}");
        }
    }
    let mut both: Vec<_> = first.map(|address| address.to_string()).into();
    both.sort_unstable();
    assert_eq!(getent(&world.lab.client, "first.test"), both);
    for name in ["first.test", "second.test"] {
        assert!(!world.resolver.was_asked(name));
    }
}

#[test]
fn a_fake_address_that_nobody_was_given_has_no_name_and_refuses() {
    let Some(world) = World::new(EMBEDDED.1) else { return };
    let _program = world.run(json!({ "mode": "fake_ip" }));
    let forgotten = "198.19.250.250";
    assert_eq!(world.dig(&["-x", forgotten]).status, "NXDOMAIN");
    let answer = world.lab.curl(&[&format!("http://{forgotten}/echo/hello")]).output().unwrap();
    const REFUSED: i32 = 7;
    assert_eq!(answer.status.code(), Some(REFUSED), "{answer:?}");
    assert!(!world.resolver.was_asked("arpa"));
}

#[test]
fn what_is_excluded_and_what_is_no_address_goes_to_the_resolver() {
    let Some(world) = World::new(EMBEDDED.1) else { return };
    let _program = world.run(json!({ "mode": "fake_ip", "fake_ip_exclude": ["excluded.test"] }));
    assert_eq!(world.dig(&["www.excluded.test", "A"]).only(), "203.0.113.9");
    assert!(world.resolver.was_asked("www.excluded.test"));
    // The suffix is one of whole labels.
    fakes(&world, "notexcluded.test");
    check_answers(&world.lab.client, APPS_RESOLVERS[0], false);
    // Without the hint, which would lead past the fake address.
    assert_eq!(world.dig(&["host.test", "HTTPS"]).only(), r#"1 . alpn="h2,h3""#);
}

#[test]
fn a_strategy_leaves_one_family_of_fakes() {
    for (strategy, empty) in [("ipv4_only", "AAAA"), ("ipv6_only", "A")] {
        let Some(world) = World::new(EMBEDDED.1) else { return };
        let _program = world.run(json!({ "mode": "fake_ip", "strategy": strategy }));
        for kind in ["A", "AAAA"] {
            let answer = world.dig(&["first.test", kind]);
            assert_eq!(answer.status, "NOERROR");
            assert_eq!(answer.records.is_empty(), kind == empty, "{strategy} {kind}: {answer:?}");
        }
    }
}

#[test]
fn fake_addresses_outlive_a_reload() {
    let Some(world) = World::new(EMBEDDED.1) else { return };
    let value = world.config(json!({ "mode": "fake_ip" }));
    let tunnel = world.lab.start_tunnel(&value, |tun| Box::new(tun));
    world.lab.route_into_tun(&FAKE_RANGES);
    let before = fakes(&world, SERVERS_OWN);
    let mut changed = value;
    changed["dns"]["fake_ip_exclude"] = json!(["excluded.test"]);
    let parsed = config::parse(&changed.to_string(), &Defaults::default()).expect("a config");
    block_on(tunnel.reload(parsed.config)).unwrap();
    // An app that has not asked again.
    let url = format!("http://{}/echo/hello", before[0]);
    assert_eq!(output(&mut world.lab.curl(&[&url])), "hello\n");
    assert_eq!(fakes(&world, SERVERS_OWN), before);
    assert_eq!(world.dig(&["www.excluded.test"]).only(), "203.0.113.9", "the reload has come");
    block_on(tunnel.stop());
}
