//! A TUN without a descriptor: batches of packets, both ways.

use std::sync::{Arc, Condvar, Mutex};

use anytls_mobile::ffi::{CallbackError, PacketFlow, Tunnel, TunnelError, TunnelState};

use super::support::{LONG, Server, config, dead, start, wait, wait_for_state, wait_until};

/// The phone's side of the TUN.
#[derive(Default)]
struct Phone {
    packets: Mutex<Vec<Vec<u8>>>,
    news: Condvar,
    fails: bool,
}

impl PacketFlow for Phone {
    fn write_packets(&self, packets: Vec<Vec<u8>>) -> Result<(), CallbackError> {
        assert!(!packets.is_empty());
        self.packets.lock().unwrap().extend(packets);
        self.news.notify_all();
        if self.fails { Err(CallbackError::Failed { reason: "on purpose".to_owned() }) } else { Ok(()) }
    }
}

impl Phone {
    fn wait_for(&self, count: usize) -> Vec<Vec<u8>> {
        let packets = self.packets.lock().unwrap();
        let waited = self.news.wait_timeout_while(packets, LONG, |packets| packets.len() < count);
        let (mut packets, timeout) = waited.unwrap();
        assert!(!timeout.timed_out(), "only {packets:?}");
        std::mem::take(&mut packets)
    }
}

/// An ICMP echo request from the interface's own address, which is answered here.
fn echo_request(number: u8) -> Vec<u8> {
    let mut packet = vec![0x45, 0, 0, 28, 0, 0, 0x40, 0, 64, 1, 0, 0, 172, 19, 0, 1, 192, 0, 2, 1];
    let mut icmp = vec![8, 0, 0, 0, 0, 7, 0, number];
    for (part, at) in [(&mut packet, 10), (&mut icmp, 2)] {
        let sum: u32 = part.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
        let folded = u16::try_from((sum & 0xffff) + (sum >> 16)).expect("few words");
        part[at..at + 2].copy_from_slice(&(!folded).to_be_bytes());
    }
    packet.extend(icmp);
    packet
}

#[test]
fn packets_are_answered_in_batches() {
    let server = Server::start();
    for fails in [false, true] {
        let phone = Arc::new(Phone { fails, ..Phone::default() });
        let tunnel = Tunnel::new(None);
        wait(tunnel.start_with_packets(server.config(), Arc::clone(&phone) as _)).unwrap();
        assert_eq!(tunnel.handle_packets((0..8).map(echo_request).collect()), Ok(0));
        let replies = phone.wait_for(8);
        assert!(
            replies.iter().all(|reply| reply[20] == 0 && reply[16..20] == [172, 19, 0, 1]),
            "{replies:?}"
        );
        wait_until("the packets to be counted", || tunnel.stats().packets.packets_in == 8);
        wait(tunnel.stop());
        assert_eq!(tunnel.handle_packets(vec![echo_request(9)]), Err(TunnelError::NotStarted));
        assert_eq!(Arc::strong_count(&phone), 1, "nothing of the app is held");
    }
}

#[test]
fn more_packets_than_there_is_room_for_are_dropped_and_counted() {
    let tunnel = Tunnel::new(None);
    wait(tunnel.start_with_packets(config(dead()), Arc::new(Phone::default()))).unwrap();
    let dropped = tunnel.handle_packets(vec![vec![0; 60_000]; 10]).unwrap();
    assert!((1..10).contains(&dropped), "{dropped}");
    assert_ne!(tunnel.state(), TunnelState::Stopped);
    wait(tunnel.stop());
}

#[test]
fn a_tunnel_with_a_descriptor_takes_no_batches() {
    let server = Server::start();
    let tunnel = Tunnel::new(None);
    let _phone = start(&tunnel, server.config()).unwrap();
    assert_eq!(tunnel.handle_packets(vec![echo_request(1)]), Err(TunnelError::NotStarted));
    wait_for_state(&tunnel, |state| *state == TunnelState::Connected);
    wait(tunnel.stop());
}
