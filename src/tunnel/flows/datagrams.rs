//! A UDP flow of the TUN as an association.

use std::net::SocketAddr;
use std::task::{Context, Poll, ready};

use crate::netstack::{Payload, UdpFlow};
use crate::proto::target::{Host, Target};
use crate::relay::udp::Association;

/// A flow of datagrams. What comes from a name comes, to the app, from the address that it has sent to.
pub(super) struct Carried(pub(super) UdpFlow);

impl Association for Carried {
    type Payload = Payload;

    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<(Target, Payload)>> {
        let datagram = ready!(self.0.poll_recv(cx));
        Poll::Ready(datagram.map(|datagram| (Target::from(datagram.destination), datagram.payload)))
    }

    fn poll_ended(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.0.poll_ended(cx)
    }

    fn poll_send(&mut self, cx: &mut Context<'_>, from: &Target, payload: &[u8]) -> Poll<()> {
        let from = match from.host {
            Host::Ip(address) => SocketAddr::new(address, from.port),
            Host::Name(_) => self.0.destination(),
        };
        self.0.poll_send(cx, from, payload)
    }

    fn refuse(self) {
        self.0.refuse();
    }
}
