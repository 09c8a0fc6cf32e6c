//! The device, and what is counted and kept on the way to it.

use std::collections::VecDeque;
use std::io;
use std::task::{Context, Poll, ready};

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{IpRepr, TcpPacket, TcpRepr};

use crate::budget::OWED_RESETS;
use crate::netstack::counters::{Counters, DropReason};
use crate::tun::{Device, MAX_PACKET_BYTES, SendError};

/// The smallest MTU that is used, whatever the device says: every IPv4 host takes 576 bytes, and the
/// subtractions of headers below must leave something.
const MIN_MTU: usize = 576;

/// How often one reset is tried before the device is taken to refuse it.
const MAX_TRIES: u8 = 10;

/// The device with its packet buffer.
pub(super) struct Wire<D> {
    device: D,
    mtu: usize,
    buffer: Box<[u8]>,
    gone: Option<io::Error>,
    congested: bool,
    owed: VecDeque<Owed>,
    pub(super) counters: Counters,
}

struct Owed {
    packet: Vec<u8>,
    tries: u8,
}

impl<D: Device> Wire<D> {
    pub(super) fn new(device: D) -> Self {
        let mtu = device.mtu().clamp(MIN_MTU, MAX_PACKET_BYTES);
        Self {
            device,
            mtu,
            buffer: vec![0; mtu].into(),
            gone: None,
            congested: false,
            owed: VecDeque::new(),
            counters: Counters::default(),
        }
    }

    pub(super) fn mtu(&self) -> usize {
        self.mtu
    }

    /// Reads the next packet into `buf`; none once the device is gone.
    pub(super) fn poll_recv(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<Option<usize>> {
        Poll::Ready(match ready!(self.device.poll_recv(cx, buf)) {
            Ok(len) => {
                self.counters.packets_in += 1;
                self.counters.bytes_in += len as u64; // usize has at most 64 bits
                Some(len)
            }
            Err(error) => {
                self.gone.get_or_insert(error);
                None
            }
        })
    }

    /// Sends the packet of `len` bytes, at most the MTU, that `fill` writes. Gives whether the device took it.
    pub(super) fn send<R>(&mut self, len: usize, fill: impl FnOnce(&mut [u8]) -> R) -> (R, bool) {
        let packet = &mut self.buffer[..len];
        let result = fill(packet);
        if self.gone.is_some() {
            return (result, false);
        }
        let sent = self.device.send(packet);
        let taken = sent.is_ok();
        match sent {
            Ok(()) => {
                self.counters.packets_out += 1;
                self.counters.bytes_out += len as u64; // usize has at most 64 bits
            }
            Err(SendError::Dropped) => {
                self.counters.packets_unsent += 1;
                self.congested = true;
            }
            Err(SendError::Gone(error)) => self.gone = Some(error),
        }
        (result, taken)
    }

    /// Sends the packet whose payload `fill` writes. Gives whether the device took it.
    pub(super) fn send_packet(&mut self, ip: &IpRepr, fill: impl FnOnce(&mut [u8])) -> bool {
        let emit = |packet: &mut [u8]| {
            ip.emit(&mut *packet, &ChecksumCapabilities::default());
            fill(&mut packet[ip.header_len()..]);
        };
        self.send(ip.buffer_len(), emit).1
    }

    /// Sends a segment made without a socket. Gives whether the device took it.
    pub(super) fn send_segment(&mut self, ip: &IpRepr, tcp: &TcpRepr<'_>) -> bool {
        self.send_packet(ip, |payload| {
            let mut packet = TcpPacket::new_unchecked(payload);
            tcp.emit(&mut packet, &ip.src_addr(), &ip.dst_addr(), &ChecksumCapabilities::default());
        })
    }

    /// Sends a reset made without a socket, and remembers it when the device has no room.
    pub(super) fn send_reset(&mut self, ip: &IpRepr, tcp: &TcpRepr<'_>) {
        self.counters.resets_out += 1;
        if !self.send_segment(ip, tcp) {
            self.owe(ip.buffer_len());
        }
    }

    /// Remembers the reset just made, of `len` bytes, to be sent again.
    pub(super) fn owe(&mut self, len: usize) {
        if self.owed.len() < OWED_RESETS {
            self.owed.push_back(Owed { packet: self.buffer[..len].to_vec(), tries: 1 });
        }
    }

    /// Tries the packets that are owed, and with that finds out whether the device has room again.
    pub(super) fn retry(&mut self) {
        self.congested = false;
        while let Some(mut owed) = self.owed.pop_front() {
            self.send(owed.packet.len(), |packet| packet.copy_from_slice(&owed.packet));
            if self.congested {
                owed.tries += 1;
                if owed.tries < MAX_TRIES {
                    self.owed.push_front(owed);
                }
                return;
            }
        }
    }

    /// Whether the device dropped a packet since the last [`Wire::retry`].
    pub(super) fn is_congested(&self) -> bool {
        self.congested
    }

    /// Whether the device is gone; if so, why, for the first caller.
    pub(super) fn take_gone(&mut self) -> Option<io::Error> {
        self.gone.take()
    }

    pub(super) fn drop_for(&mut self, reason: DropReason) {
        self.counters.dropped[reason] += 1;
    }
}
