//! What smoltcp takes for its network device: one packet in, the wire out, and an eye on what goes out.

use smoltcp::phy::{
    Checksum, ChecksumCapabilities, Device as Phy, DeviceCapabilities, Medium, RxToken, TxToken,
};
use smoltcp::time::Instant;
use smoltcp::wire::{IPV4_HEADER_LEN, IPV6_HEADER_LEN, IpProtocol, TcpOption, TcpPacket};

use crate::netstack::checksum;
use crate::netstack::wire::Wire;
use crate::tun::Device;

/// The device of one flow's interface for the length of one call.
pub(super) struct Port<'a, D> {
    wire: &'a mut Wire<D>,
    sent: &'a mut Sent,
    packet: Option<&'a [u8]>,
}

impl<'a, D: Device> Port<'a, D> {
    /// A port on which `packet` has come in, if any.
    pub(super) fn new(wire: &'a mut Wire<D>, sent: &'a mut Sent, packet: Option<&'a [u8]>) -> Self {
        Self { wire, sent, packet }
    }
}

impl<D: Device> Phy for Port<'_, D> {
    type RxToken<'t>
        = Incoming<'t>
    where
        Self: 't;
    type TxToken<'t>
        = Outgoing<'t, D>
    where
        Self: 't;

    fn receive(&mut self, _: Instant) -> Option<(Incoming<'_>, Outgoing<'_, D>)> {
        let packet = self.packet.take()?;
        Some((Incoming(packet), Outgoing { wire: self.wire, sent: self.sent }))
    }

    /// None once the device is out of room: smoltcp then keeps what it would have lost.
    fn transmit(&mut self, _: Instant) -> Option<Outgoing<'_, D>> {
        (!self.wire.is_congested()).then_some(Outgoing { wire: self.wire, sent: self.sent })
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut checksum = ChecksumCapabilities::default();
        // The demultiplexer has verified them, and `seal` sets that of segments.
        (checksum.ipv4, checksum.tcp) = (Checksum::Tx, Checksum::None);
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = self.wire.mtu();
        capabilities.checksum = checksum;
        capabilities
    }
}

pub(super) struct Incoming<'a>(&'a [u8]);

impl RxToken for Incoming<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, read: F) -> R {
        read(self.0)
    }
}

pub(super) struct Outgoing<'a, D> {
    wire: &'a mut Wire<D>,
    sent: &'a mut Sent,
}

impl<D: Device> TxToken for Outgoing<'_, D> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, fill: F) -> R {
        let mut kind = Kind::Other;
        let (result, taken) = self.wire.send(len, |packet| {
            let result = fill(packet);
            kind = self.sent.pass(packet);
            seal(packet);
            result
        });
        match kind {
            Kind::Reset => {
                self.wire.counters.resets_out += 1;
                if !taken {
                    self.wire.owe(len);
                }
            }
            Kind::Repeated => self.wire.counters.segments_repeated += 1,
            Kind::Other => {}
        }
        result
    }
}

/// What the app was last sent, which smoltcp does not tell, and how far it may send itself.
#[derive(Debug, Default)]
pub(super) struct Sent {
    /// The sequence number after the last byte ever sent.
    pub(super) end: u32,
    /// The last acknowledgement.
    pub(super) ack: u32,
    /// The last window, as in the header.
    pub(super) window: u16,
    /// How far windows are shifted, from our SYN-ACK.
    pub(super) shift: u8,
    /// The end of the widest window announced; none before our SYN-ACK.
    pub(super) edge: Option<u32>,
    /// The sequence number up to which there is memory: windows end there, whatever smoltcp offers.
    pub(super) limit: u32,
    /// Whether the last window was narrowed to the limit.
    pub(super) narrowed: bool,
    /// Bytes of all packets.
    pub(super) bytes: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Reset,
    Repeated,
    Other,
}

impl Sent {
    /// Notes a packet and narrows its window to the limit. What was once announced is not taken back (RFC 9293, 3.8.6).
    fn pass(&mut self, packet: &mut [u8]) -> Kind {
        self.bytes += packet.len() as u64; // usize has at most 64 bits
        let ip_header = ip_header(packet);
        let mut tcp = TcpPacket::new_unchecked(&mut packet[ip_header..]);
        if tcp.rst() {
            return Kind::Reset;
        }
        // The window of a SYN is never scaled (RFC 7323, 2.2).
        let shift = if tcp.syn() { 0 } else { self.shift };
        if tcp.syn() {
            self.shift = window_scale(tcp.options_mut());
        }
        self.ack = tcp.ack_number().0.cast_unsigned();
        let offered = u32::from(tcp.window_len()) << shift;
        let limit = distance(self.ack, self.limit).max(self.edge.map_or(0, |edge| distance(self.ack, edge)));
        let window = offered.min(limit);
        self.narrowed = window < offered;
        if self.narrowed {
            let field = (window >> shift) as u16; // below a field that fits
            tcp.set_window_len(field);
        }
        self.window = tcp.window_len();
        let edge = self.ack.wrapping_add(u32::from(self.window) << shift);
        self.edge =
            Some(self.edge.map_or(edge, |known| if distance(known, edge) > 0 { edge } else { known }));

        let seq = tcp.seq_number().0.cast_unsigned();
        let len = tcp.segment_len() as u32; // within one packet
        let end = seq.wrapping_add(len);
        if tcp.syn() || distance(self.end, end) > 0 {
            self.end = end;
            Kind::Other
        } else if len > 0 {
            Kind::Repeated
        } else {
            Kind::Other
        }
    }
}

/// Sets the segment's checksum, which smoltcp has left 0.
fn seal(packet: &mut [u8]) {
    let ip_header = ip_header(packet);
    let checksum = checksum::transport(packet, IpProtocol::Tcp, &packet[ip_header..]);
    TcpPacket::new_unchecked(&mut packet[ip_header..]).set_checksum(checksum);
}

/// The length of the header before the segment: smoltcp writes neither IPv4 options nor IPv6 extension headers.
fn ip_header(packet: &[u8]) -> usize {
    if packet[0] >> 4 == 4 { IPV4_HEADER_LEN } else { IPV6_HEADER_LEN }
}

/// How far `to` lies after `from` in sequence space; 0 when it lies before.
pub(super) fn distance(from: u32, to: u32) -> u32 {
    u32::try_from(to.wrapping_sub(from).cast_signed()).unwrap_or(0)
}

fn window_scale(mut options: &[u8]) -> u8 {
    while let Ok((rest, option)) = TcpOption::parse(options) {
        match option {
            TcpOption::WindowScale(shift) => return shift,
            TcpOption::EndOfList => break,
            _ => options = rest,
        }
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_wrap() {
        assert_eq!(distance(5, 7), 2);
        assert_eq!(distance(7, 5), 0);
        assert_eq!(distance(u32::MAX, 1), 2);
        assert_eq!(distance(1, u32::MAX), 0);
    }
}
