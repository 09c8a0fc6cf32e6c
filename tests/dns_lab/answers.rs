//! `forward`: what the resolver says, whichever way it is asked.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream};

use hickory_proto::op::ResponseCode;
use serde_json::json;

use crate::support::asker::burst;
use crate::support::dig::{check_answers, dig, getent};
use crate::support::netns::wait_until;
use crate::support::resolver::ADDRESSES;
use crate::{APPS_RESOLVERS, EMBEDDED, World, apps_resolver, every_server};

#[test]
fn every_kind_of_question_is_answered_whomever_it_is_put_to() {
    for (name, start) in every_server() {
        let Some(world) = World::new(start) else { continue };
        println!("against {name}");
        let _program = world.run(json!({}));
        world.lab.route_into_tun(&["192.0.2.8"]);
        for address in [APPS_RESOLVERS[0], APPS_RESOLVERS[1], "192.0.2.8"] {
            check_answers(&world.lab.client, address, true);
        }
        assert_eq!(getent(&world.lab.client, "host.test"), ["2001:db8::9", "203.0.113.9"]);
        assert!(world.resolver.was_asked("host.test"));
    }
}

#[test]
fn a_resolver_is_asked_over_tcp_tls_and_https_by_address_and_by_name() {
    for server in [
        "tcp://203.0.113.53:53",
        "tcp://[2001:db8::53]",
        "tls://203.0.113.53",
        "tls://resolver.test:853",
        "https://203.0.113.53/dns-query",
        "https://resolver.test/dns-query",
    ] {
        let Some(world) = World::new(EMBEDDED.1) else { return };
        println!("asking {server}");
        let _program = world.run(json!({ "server": server }));
        check_answers(&world.lab.client, APPS_RESOLVERS[0], true);
        let replies = burst(&world.lab.client, apps_resolver(), "burst.test", 1000);
        assert!(replies.iter().all(|reply| reply.code == ResponseCode::NoError), "{server}");
        assert!(world.resolver.was_asked("host.test"));
    }
}

#[test]
fn a_resolver_with_the_wrong_certificate_is_not_believed() {
    for server in ["tls://203.0.113.53", "https://203.0.113.53/dns-query"] {
        let Some(world) = World::new(EMBEDDED.1) else { return };
        let mut config = world.config(json!({ "server": server }));
        // The AnyTLS server's, in which the resolver is not named.
        config["dns"]["tls"]["certificate_path"] = json!(world.server.certificate());
        let _program = world.lab.run_program(&config, "info");
        assert_eq!(world.dig(&["host.test"]).status, "SERVFAIL");
        assert!(!world.resolver.was_asked("host.test"));
    }
}

#[test]
fn what_was_answered_is_remembered_for_its_time() {
    let Some(world) = World::new(EMBEDDED.1) else { return };
    let _program = world.run(json!({}));
    let first = world.dig(&["host.test"]);
    assert_eq!(first.only(), "203.0.113.9");
    assert_eq!(world.dig(&["missing.test"]).status, "NXDOMAIN");
    assert_eq!(world.dig(&["short.test"]).only(), "203.0.113.9");
    let World { lab, resolver, server: _server } = world;
    drop(resolver);
    let again = dig(&lab.client, APPS_RESOLVERS[0], &["host.test"]);
    assert_eq!(again.only(), "203.0.113.9");
    assert!(again.records[0].ttl <= first.records[0].ttl, "{again:?}");
    assert_eq!(dig(&lab.client, APPS_RESOLVERS[0], &["v4only.test"]).status, "SERVFAIL");
    for forgotten in ["short.test", "missing.test"] {
        wait_until(&format!("{forgotten} forgotten"), || {
            dig(&lab.client, APPS_RESOLVERS[0], &[forgotten]).status == "SERVFAIL"
        });
    }
}

/// Of a name with addresses of both families, and of one with addresses of the other family alone.
#[test]
fn a_strategy_leaves_one_family_and_a_preference_only_where_it_can_choose() {
    const V4: &[&str] = &["203.0.113.9"];
    const V6: &[&str] = &["2001:db8::9"];
    for (strategy, expected) in [
        ("prefer_ipv4", [("host.test", V4, &[][..]), ("v6only.test", &[], V6)]),
        ("prefer_ipv6", [("host.test", &[], V6), ("v4only.test", V4, &[])]),
        ("ipv4_only", [("host.test", V4, &[]), ("v6only.test", &[], &[])]),
        ("ipv6_only", [("host.test", &[], V6), ("v4only.test", &[], &[])]),
    ] {
        let Some(world) = World::new(EMBEDDED.1) else { return };
        let _program = world.run(json!({ "strategy": strategy }));
        for (name, v4, v6) in expected {
            for (kind, data) in [("A", v4), ("AAAA", v6)] {
                let answer = world.dig(&[name, kind]);
                assert_eq!(
                    (answer.status.as_str(), answer.data()),
                    ("NOERROR", data.to_vec()),
                    "{strategy}: {name} {kind}"
                );
            }
        }
    }
}

#[test]
fn dns_over_tls_of_apps_is_refused_when_asked_for() {
    for block in [true, false] {
        let Some(world) = World::new(EMBEDDED.1) else { return };
        let _program = world.run(json!({ "block_dot": block }));
        for address in ADDRESSES {
            let address = SocketAddr::new(address.parse().unwrap(), 853);
            let connected = world.lab.client.run(|| TcpStream::connect(address));
            let expected = if block { Err(ErrorKind::ConnectionRefused) } else { Ok(()) };
            let connected = connected.map(drop).map_err(|error| error.kind());
            assert_eq!(connected, expected, "{address}, block_dot {block}");
        }
    }
}
