//! Pings through a real TUN: the kernel's fragments against ours.
#![allow(clippy::disallowed_methods)] // a test's threads end with it

mod support;

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde_json::json;
use socket2::{Domain, Protocol, Socket, Type};
use support::lab::{Lab, block_on};
use support::netns::{self, wait_until};

/// The data that comes back when `data` is sent as an echo request.
fn ping(host: IpAddr, seq: u16, data: &[u8]) -> Vec<u8> {
    let (domain, protocol, request, reply, header) = match host {
        IpAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4, 8, 0, 20),
        IpAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6, 128, 129, 0),
    };
    let mut socket = Socket::new(domain, Type::RAW, Some(protocol)).unwrap();
    socket.connect(&SocketAddr::new(host, 0).into()).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let mut message = vec![request, 0, 0, 0, 0x12, 0x34];
    message.extend(seq.to_be_bytes());
    message.extend(data);
    if host.is_ipv4() {
        // The kernel makes ICMPv6's.
        let sum: u64 = message
            .chunks(2)
            .map(|word| u64::from(word[0]) << 8 | u64::from(*word.get(1).unwrap_or(&0)))
            .sum();
        let sum = (0..4).fold(sum, |sum, _| (sum & 0xffff) + (sum >> 16));
        message[2..4].copy_from_slice(&(!(sum as u16)).to_be_bytes());
    }
    socket.write_all(&message).unwrap();
    let mut buf = vec![0; 1 << 16];
    loop {
        let len = socket.read(&mut buf).expect("an answer");
        let answer = &buf[header..len];
        if answer[0] == reply && answer[4..8] == message[4..8] {
            return answer[8..].to_vec();
        }
    }
}

#[test]
fn pings_of_every_size_come_back() {
    if !netns::available() {
        return;
    }
    for mtu in [1500, 9000] {
        let lab = Lab::new();
        let mut config = lab.config(None, mtu); // nothing of this goes to a server
        config["server"]["tls"] = json!({});
        let tunnel = lab.start_tunnel(&config, |tun| Box::new(tun));
        let hosts: [IpAddr; 2] = ["203.0.113.9".parse().unwrap(), "2001:db8::9".parse().unwrap()];
        let mtu = usize::from(mtu);
        for host in hosts {
            for (seq, size) in [0, 56, mtu - 48, mtu - 28, mtu - 27, 20_000, 65_507].into_iter().enumerate() {
                let data: Vec<u8> = (0..size).map(|at| (at % 251) as u8).collect();
                assert!(lab.client.run(|| ping(host, seq as u16, &data)) == data, "{size} bytes to {host}");
            }
        }
        // The last reply may be read before it is counted.
        wait_until("all are counted", || tunnel.stats().netstack.echo_replies == 14);
        let counters = tunnel.stats().netstack;
        assert!(counters.packets_reassembled >= 6 && counters.packets_fragmented >= 6, "{counters:?}");
        assert_eq!(counters.reassembly_bytes, 0);
        block_on(tunnel.stop());
    }
}
