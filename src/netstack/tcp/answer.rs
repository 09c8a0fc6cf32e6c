//! Segments that no socket sends: resets for strays, and acknowledgements out of turn.

use smoltcp::wire::{IpProtocol, IpRepr, TcpControl, TcpRepr, TcpSeqNumber};

use crate::netstack::demux::Segment;
use crate::netstack::table::Tuple;
use crate::netstack::wire::header;

/// The reset that a segment without a flow is answered with; none for a reset. (RFC 9293, 3.10.7.1)
pub(super) fn reset(segment: &Segment<'_>) -> Option<(IpRepr, TcpRepr<'static>)> {
    if segment.rst {
        return None;
    }
    let (seq, ack) = match segment.ack {
        Some(ack) => (ack, None),
        None => (0, Some(segment.seq.wrapping_add(segment.len()))),
    };
    Some(reply(&segment.tuple, TcpControl::Rst, seq, ack, 0))
}

/// The acknowledgement of the app's FIN, for when it has to be said again.
#[derive(Clone, Copy, Debug)]
pub(super) struct LastAck {
    pub(super) seq: u32,
    pub(super) ack: u32,
    pub(super) window: u16,
}

/// A bare acknowledgement.
pub(super) fn ack(tuple: &Tuple, seq: u32, ack: u32, window: u16) -> (IpRepr, TcpRepr<'static>) {
    reply(tuple, TcpControl::None, seq, Some(ack), window)
}

/// IP and TCP headers from the flow's destination back to its source.
fn reply(
    tuple: &Tuple,
    control: TcpControl,
    seq: u32,
    ack: Option<u32>,
    window: u16,
) -> (IpRepr, TcpRepr<'static>) {
    let tcp = TcpRepr {
        src_port: tuple.destination.port(),
        dst_port: tuple.source.port(),
        control,
        seq_number: TcpSeqNumber(seq.cast_signed()),
        ack_number: ack.map(|ack| TcpSeqNumber(ack.cast_signed())),
        window_len: window,
        window_scale: None,
        max_seg_size: None,
        sack_permitted: false,
        sack_ranges: [None; 3],
        timestamp: None,
        payload: &[],
    };
    (header(tuple.destination, tuple.source, IpProtocol::Tcp, tcp.buffer_len()), tcp)
}
