//! What a stream is opened for, and the first datagram, which opens it.

use super::{Style, length};
use crate::budget::Holding;
use crate::client::{OpenError, Stream};
use crate::proto::frame::MAX_PSH_BYTES;
use crate::proto::target::{MAX_TARGET_BYTES, Target};
use crate::proto::uot::{self, MAX_HEADER_BYTES, MAX_REQUEST_BYTES};
use crate::relay::Connect;

/// What a stream is opened for.
pub(super) struct Way {
    pub(super) mode: uot::Mode,
    pub(super) destination: Target,
    /// Whether datagrams for other destinations go there too.
    pub(super) is_for_all: bool,
}

impl Way {
    pub(super) fn connect_only(destination: Target) -> Self {
        Self { mode: uot::Mode::Connect, destination, is_for_all: false }
    }

    /// Appends what stands before a datagram: nothing that a server without packet mode could take for another
    /// address, until this one has shown that it does packet mode.
    pub(super) fn put_header(&self, to: &Target, length: u16, style: &Style, out: &mut Vec<u8>) {
        match self.mode {
            uot::Mode::Packet if !style.is_packet() => uot::put_unmistakable_header(to, length, out),
            uot::Mode::Packet | uot::Mode::Connect => uot::put_header(self.mode, to, length, out),
        }
    }
}

/// The first datagram of a stream, as it was sent.
pub(super) struct First<P> {
    /// The request, the header, and what rode along of the payload.
    bytes: Vec<u8>,
    payload_at: usize,
    /// The payload, when not all of it did, and how much.
    rest: Option<(P, usize)>,
}

impl<P: AsRef<[u8]>> First<P> {
    pub(super) fn payload_bytes(&self) -> usize {
        self.rest.as_ref().map_or(self.bytes.len() - self.payload_at, |(payload, _)| payload.as_ref().len())
    }

    /// What is held of it.
    pub(super) fn held(&self) -> usize {
        self.bytes.capacity()
    }

    /// The payload, when not all of it rode along, and how much did.
    pub(super) fn take_rest(&mut self) -> Option<(P, usize)> {
        self.rest.take()
    }

    /// What rode along of the payload.
    pub(super) fn into_payload(mut self) -> Vec<u8> {
        self.bytes.split_off(self.payload_at)
    }
}

/// Opens a stream with the request and the first datagram in one write. The datagram exists once meanwhile.
pub(super) async fn open<P: AsRef<[u8]>>(
    connect: &impl Connect,
    way: &Way,
    style: &Style,
    payload: P,
    held: &Holding,
) -> Result<(Stream, First<P>), OpenError> {
    let first = {
        let whole = payload.as_ref();
        let mut bytes = Vec::with_capacity(64 + whole.len().min(MAX_PSH_BYTES));
        uot::put_request(way.mode, &way.destination, &mut bytes);
        way.put_header(&way.destination, length(whole), style, &mut bytes);
        let payload_at = bytes.len();
        let riding = whole.len().min(MAX_PSH_BYTES - MAX_TARGET_BYTES - payload_at);
        bytes.extend_from_slice(&whole[..riding]);
        let rest = (riding < whole.len()).then_some((payload, riding));
        First { bytes, payload_at, rest }
    };
    held.set(first.held());
    let stream = connect.connect(&uot::magic_target(), &first.bytes).await?;
    held.set(0);
    Ok((stream, first))
}

/// Request and header leave room in a Psh.
const _: () = assert!(MAX_TARGET_BYTES + MAX_REQUEST_BYTES + MAX_HEADER_BYTES < MAX_PSH_BYTES);
