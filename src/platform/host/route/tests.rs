use std::fs;

use proptest::prelude::*;

use super::super::netlink::tests::{datagram, message};
use super::*;
use crate::platform::add_route;
use crate::tun::NetworkNamespace;

const UNICAST: [u8; 12] = [2, 32, 0, 0, 254, 0, 0, libc::RTN_UNICAST, 0, 2, 0, 0];
const INTERFACE: [u8; 4] = 3_u32.to_ne_bytes();
const V6: [u8; 16] = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];

fn route(fixed: &[u8], attributes: &[(u16, &[u8])]) -> Option<Route> {
    Route::parse(&message(&datagram(libc::RTM_NEWROUTE, fixed, attributes))?)
}

/// A route through interface 3.
fn whole() -> Vec<u8> {
    let attributes = [
        (libc::RTA_TABLE, &254_u32.to_ne_bytes()[..]),
        (libc::RTA_DST, &[10, 0, 0, 2]),
        (libc::RTA_OIF, &INTERFACE),
        (libc::RTA_PREFSRC, &[10, 1, 0, 2]),
        (libc::RTA_GATEWAY, &[10, 1, 0, 1]),
    ];
    datagram(libc::RTM_NEWROUTE, &UNICAST, &attributes)
}

fn ip(text: &str) -> Option<IpAddr> {
    Some(text.parse().unwrap())
}

#[test]
fn route_has_an_interface_and_perhaps_a_gateway_and_a_source() {
    let full = Route { interface: 3, gateway: ip("10.1.0.1"), source: ip("10.1.0.2") };
    assert_eq!(Route::parse(&message(&whole()).unwrap()), Some(full));
    let bare = Route { interface: 3, gateway: None, source: None };
    assert_eq!(route(&UNICAST, &[(libc::RTA_OIF, &INTERFACE)]), Some(bare));
}

#[test]
fn gateway_may_be_of_the_other_family() {
    // The family is 10.
    let via = [&(libc::AF_INET6 as u16).to_ne_bytes()[..], &V6].concat();
    let route = route(&UNICAST, &[(libc::RTA_OIF, &INTERFACE), (libc::RTA_VIA, &via)]).unwrap();
    assert_eq!(route.gateway, ip("fe80::1"));
}

#[test]
fn route_that_leads_nowhere_is_none() {
    for kind in [libc::RTN_UNSPEC, libc::RTN_BLACKHOLE, libc::RTN_UNREACHABLE, libc::RTN_PROHIBIT, 255] {
        let mut fixed = UNICAST;
        fixed[7] = kind;
        assert_eq!(route(&fixed, &[(libc::RTA_OIF, &INTERFACE)]), None, "{kind}");
    }
    assert_eq!(route(&UNICAST, &[]), None, "without an interface");
    assert_eq!(route(&UNICAST, &[(libc::RTA_OIF, &INTERFACE[..3])]), None, "half an interface");
    assert_eq!(route(&UNICAST[..11], &[]), None, "cut short");
}

#[test]
fn addresses_of_odd_lengths_are_left_out() {
    for length in [0, 1, 3, 5, 15] {
        let odd = &V6[..length];
        let attributes =
            [(libc::RTA_OIF, &INTERFACE[..]), (libc::RTA_GATEWAY, odd), (libc::RTA_PREFSRC, odd)];
        assert_eq!(route(&UNICAST, &attributes), Some(Route { interface: 3, gateway: None, source: None }));
        let attributes = [(libc::RTA_OIF, &INTERFACE[..]), (libc::RTA_VIA, odd)];
        assert_eq!(route(&UNICAST, &attributes).unwrap().gateway, None);
    }
}

#[test]
fn answer_that_is_cut_short_has_what_was_before_the_cut() {
    let whole = whole();
    let length = whole.len();
    for cut in 0..length {
        let route = message(&whole[..cut]).and_then(|message| Route::parse(&message));
        // The gateway is last, the source before it, then the interface: 8 bytes each.
        assert_eq!(route.is_some(), cut >= length - 16, "{cut}");
        if let Some(route) = route {
            assert_eq!(route.source.is_some(), cut >= length - 8, "{cut}");
            assert_eq!(route.gateway, None, "{cut}");
        }
    }
}

proptest! {
    #[test]
    fn answer_with_bytes_changed_is_read_without_a_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let mut bytes = whole();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Some(message) = message(&bytes) {
            let _whatever_it_says = Route::parse(&message);
        }
    }
}

/// How many messages the kernel has dropped for want of room, of all netlink sockets of this network.
fn dropped() -> u64 {
    let sockets = fs::read_to_string("/proc/thread-self/net/netlink").unwrap();
    // sk Eth Pid Groups Rmem Wmem Dump Locks Drops Inode
    sockets.lines().skip(1).map(|line| line.split_whitespace().nth(8).unwrap().parse::<u64>().unwrap()).sum()
}

#[test]
fn more_changes_than_the_kernel_keeps_are_one_change() {
    let Some(namespace) = NetworkNamespace::for_test() else { return };
    let work = || async {
        let watch = RouteWatch::new().unwrap();
        let mut networks = (0..=u16::MAX).map(|n| {
            let [high, low] = n.to_be_bytes();
            IpAddr::from([10, high, low, 0])
        });
        while dropped() == 0 {
            let network = networks.next().expect("room for fewer messages than that");
            add_route("lo", network, 24).unwrap();
        }
        watch.changed().await.unwrap();
        let next = watch.changes.get_ref().read(&mut [0]);
        assert_eq!(next.unwrap_err().kind(), io::ErrorKind::WouldBlock, "all of them were one change");
        add_route("lo", networks.next().unwrap(), 24).unwrap();
        watch.changed().await.unwrap();
    };
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    namespace.run(|| runtime().block_on(work())).unwrap();
}
