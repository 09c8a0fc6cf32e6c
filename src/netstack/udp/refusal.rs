//! Telling apps that nobody listens.

use std::net::SocketAddr;

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{UDP_HEADER_LEN, UdpPacket, UdpRepr};

use crate::netstack::counters::DropReason;
use crate::netstack::demux;
use crate::netstack::icmp::{self, RateLimit};
use crate::netstack::udp::flow::Queued;
use crate::netstack::udp::relay::Datagram;
use crate::netstack::wire::Wire;
use crate::proto::timers::Moment;
use crate::tun::Device;

/// Answers with port unreachable, up to a rate.
#[derive(Debug)]
pub(super) struct Refusals {
    limit: RateLimit,
}

impl Refusals {
    pub(super) fn new(now: Moment) -> Self {
        Self { limit: RateLimit::new(now) }
    }

    /// Answers a datagram, unless too many were just now.
    pub(super) fn refuse<D: Device>(
        &mut self,
        datagram: &demux::Datagram<'_>,
        now: Moment,
        wire: &mut Wire<D>,
    ) {
        if self.limit.allows(now) {
            icmp::send_port_unreachable(datagram, wire);
            wire.counters.unreachable_out += 1;
        } else {
            wire.drop_for(DropReason::Unanswered);
        }
    }

    /// The same for one that was queued: its UDP header, to be quoted, is made anew.
    pub(super) fn refuse_queued<D: Device>(
        &mut self,
        source: SocketAddr,
        queued: &Queued,
        now: Moment,
        wire: &mut Wire<D>,
    ) {
        let Datagram { destination, payload } = &queued.datagram;
        let header = UdpRepr { src_port: source.port(), dst_port: destination.port() };
        let mut udp = vec![0; UDP_HEADER_LEN + payload.len()];
        let fill = |space: &mut [u8]| space.copy_from_slice(payload);
        let (from, to) = (source.ip().into(), destination.ip().into());
        let checksums = ChecksumCapabilities::default();
        header.emit(&mut UdpPacket::new_unchecked(&mut udp), &from, &to, payload.len(), fill, &checksums);
        let (destination, hop_limit) = (*destination, queued.hop_limit);
        self.refuse(&demux::Datagram { source, destination, udp: &udp, hop_limit }, now, wire);
    }
}
