//! What the labs measure with, tried without a tunnel: a lab that cannot find fault shows nothing.
#![allow(clippy::disallowed_methods)] // a test's threads end with it

mod support;

use std::net::{SocketAddr, UdpSocket};

use hickory_proto::op::ResponseCode;
use support::asker::{Asker, Reply, burst, query};
use support::capture::Capture;
use support::dig::{check_answers, dig, getent};
use support::echo::{App, CROOKED, ECHO, ELSEWHERE, Echo, TARGETS, payload};
use support::lab::Lab;
use support::netns::{self, output};
use support::resolver::{ADDRESSES, BURST, NAME, Resolver};

/// A lab whose client reaches the targets without a tunnel; `None` and a SKIP line where none can be made.
fn lab() -> Option<Lab> {
    if !netns::available() {
        return None;
    }
    let lab = Lab::new();
    lab.client.ip("address add fd00::1/64 dev wan nodad");
    lab.internet.ip("address add fd00::2/64 dev wan nodad");
    lab.client.ip("route add 203.0.113.0/24 via 10.0.0.2");
    lab.client.ip("route add 2001:db8::/64 via fd00::2");
    Some(lab)
}

fn with_resolver() -> Option<(Lab, Resolver)> {
    let lab = lab()?;
    let resolver = Resolver::start(&lab.internet)?;
    Some((lab, resolver))
}

fn at(address: &str) -> SocketAddr {
    SocketAddr::new(address.parse().unwrap(), 53)
}

#[test]
fn the_resolver_answers_every_kind_of_question() {
    let Some((lab, resolver)) = with_resolver() else { return };
    if !netns::installed("dig") {
        return;
    }
    for address in ADDRESSES {
        check_answers(&lab.client, address, true);
    }
    lab.client.set_resolver(ADDRESSES[0]);
    assert_eq!(getent(&lab.client, "host.test"), ["2001:db8::9", "203.0.113.9"]);
    assert_eq!(dig(&lab.client, ADDRESSES[0], &["www.excluded.test"]).only(), "203.0.113.9");
    assert!(resolver.was_asked("host.test") && resolver.was_asked("excluded.test"));
    assert!(!resolver.was_asked("st.test") && !resolver.was_asked("named.test"));
}

#[test]
fn the_resolver_answers_over_tls_and_https() {
    let Some((lab, resolver)) = with_resolver() else { return };
    if !netns::installed("dig") {
        return;
    }
    let ca = format!("+tls-ca={}", resolver.certificate().display());
    let name = format!("+tls-hostname={NAME}");
    for transport in ["+tls", "+https"] {
        for address in ADDRESSES {
            let answer = dig(&lab.client, address, &[transport, &ca, &name, "host.test", "A"]);
            assert_eq!(answer.only(), "203.0.113.9");
        }
    }
}

#[test]
fn a_burst_of_ten_thousand_is_answered() {
    let Some((lab, _resolver)) = with_resolver() else { return };
    let good = Reply { code: ResponseCode::NoError, address: Some(BURST.parse().unwrap()) };
    assert_eq!(burst(&lab.client, at(ADDRESSES[0]), "burst.test", 10_000), vec![good; 10_000]);
}

#[test]
fn the_asker_tells_answers_from_failures_and_outlives_both() {
    let Some((lab, resolver)) = with_resolver() else { return };
    let asker = Asker::start(&lab.client, at(ADDRESSES[0]), "burst.test");
    asker.wait_until_answered();
    let other = Asker::start(&lab.client, at(ADDRESSES[0]), "broken.test");
    other.wait_until_failed();
    drop(resolver);
    asker.wait_until_asked();
}

#[test]
fn a_stray_query_is_caught_in_any_state_of_the_link_and_the_server_is_not() {
    let Some(lab) = lab() else { return };
    let Some(capture) = Capture::start(&lab.client, &["wan"], "10.0.0.2 and port 80") else { return };
    let url = "http://10.0.0.2/echo/hello";
    assert_eq!(output(&mut lab.curl(&[url])), "hello\n");
    assert_eq!(capture.strays(), Vec::<String>::new());

    let socket = lab.client.run(|| UdpSocket::bind("0.0.0.0:0")).unwrap();
    let mut expected = 0;
    for port in [53, 853, 443, 5353, 4711] {
        socket.send_to(&query(1, "host.test."), ("203.0.113.9", port)).unwrap();
        expected += 1;
        let strays = capture.strays();
        assert_eq!(strays.len(), expected, "{strays:?}");
        assert!(strays[expected - 1].contains(&format!("203.0.113.9.{port}:")), "{strays:?}");
    }
    // Over TCP to another port or host it is a stray too.
    output(&mut lab.curl(&["http://203.0.113.9/echo/hello"]));
    assert!(capture.strays().len() > expected);

    let expected = capture.strays().len();
    lab.client.ip("link set wan down");
    lab.client.ip("link set wan up");
    lab.client.ip("route add 203.0.113.0/24 via 10.0.0.2");
    socket.send_to(&query(1, "host.test."), "203.0.113.9:53").unwrap();
    netns::wait_until("a stray after the link was down", || capture.strays().len() > expected);
}

#[test]
fn a_capture_of_nothing_passes() {
    let Some(lab) = lab() else { return };
    let Some(capture) = Capture::start(&lab.client, &["wan"], "10.0.0.2 and port 80") else { return };
    output(&mut lab.curl(&["http://10.0.0.2/echo/hello"]));
    capture.expect_nothing();
}

#[test]
fn the_echo_answers_in_full_from_where_it_should() {
    let Some(lab) = lab() else { return };
    let _echo = Echo::start(&lab.internet);
    for target in TARGETS {
        let app = App::new(&lab.client, target);
        for size in [0, 1, 1472, 1473, 20_000, 65_507] {
            app.exchange(SocketAddr::new(target, ECHO), size);
        }
        app.send(SocketAddr::new(target, CROOKED), &payload(100));
        app.expect(SocketAddr::new(target, ELSEWHERE), &payload(100));
    }
}
