//! UDP associate (RFC 1928, section 7): datagrams of one client, under a TCP connection that ends them.
//!
//! ```text
//! | reserved, 2 bytes | fragment u8 | address, as in the request | port u16 b.e. | bytes |
//! ```

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use anytls_mobile::proto::target::{MAX_TARGET_BYTES, Target};
use anytls_mobile::relay::udp;
use fast_socks5::util::target_addr::TargetAddr;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::{TcpStream, UdpSocket};

/// What stands before the address; we take and send no fragments.
const PREFIX: [u8; 3] = [0; 3];

/// The most that a datagram can have, its SOCKS header included.
const MAX_DATAGRAM_BYTES: usize = 65_535;

/// One client's datagrams.
pub(super) struct Association {
    socket: UdpSocket,
    /// Whose datagrams are taken.
    client: IpAddr,
    /// Where the client sends from: as it said, or as it was first seen to.
    port: Option<u16>,
    received: Box<[u8]>,
}

/// An association that lives as long as its client's TCP connection.
pub(super) struct Controlled {
    control: TcpStream,
    association: Association,
}

impl Association {
    /// A socket at the address that the client has reached us at. `declared` is where it says it will send from.
    pub(super) async fn bind(here: IpAddr, client: IpAddr, declared: &TargetAddr) -> io::Result<Self> {
        let port = match declared {
            TargetAddr::Ip(address) => address.port(),
            TargetAddr::Domain(_, port) => *port,
        };
        Ok(Self {
            socket: UdpSocket::bind((here.to_canonical(), 0)).await?,
            client: client.to_canonical(),
            port: (port != 0).then_some(port),
            received: vec![0; MAX_DATAGRAM_BYTES].into(),
        })
    }

    /// Where the client is to send to.
    pub(super) fn address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    pub(super) fn under(self, control: TcpStream) -> Controlled {
        Controlled { control, association: self }
    }

    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<(Target, Vec<u8>)> {
        loop {
            let mut buf = ReadBuf::new(&mut self.received);
            let source = match ready!(self.socket.poll_recv_from(cx, &mut buf)) {
                Ok(source) => source,
                Err(error) => {
                    tracing::debug!(%error, "SOCKS client took no datagram");
                    continue;
                }
            };
            let is_expected = self.port.is_none_or(|port| port == source.port());
            if source.ip().to_canonical() != self.client || !is_expected {
                continue;
            }
            if let Some((target, payload)) = parse(buf.filled()) {
                self.port = Some(source.port());
                return Poll::Ready((target, payload.to_vec()));
            }
        }
    }

    fn poll_send(&mut self, cx: &mut Context<'_>, from: &Target, payload: &[u8]) -> Poll<()> {
        let Some(port) = self.port else { return Poll::Ready(()) };
        let mut datagram = Vec::with_capacity(PREFIX.len() + MAX_TARGET_BYTES + payload.len());
        datagram.extend_from_slice(&PREFIX);
        from.put(&mut datagram);
        datagram.extend_from_slice(payload);
        let sent = ready!(self.socket.poll_send_to(cx, &datagram, SocketAddr::new(self.client, port)));
        if let Err(error) = sent {
            tracing::debug!(%error, "datagram for the SOCKS client dropped");
        }
        Poll::Ready(())
    }
}

/// `None` for a fragment, and for what is none of SOCKS.
fn parse(datagram: &[u8]) -> Option<(Target, &[u8])> {
    let rest = datagram.strip_prefix(&PREFIX)?;
    let (target, length) = Target::parse(rest).ok()??;
    Some((target, &rest[length..]))
}

impl udp::Association for Controlled {
    type Payload = Vec<u8>;

    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<(Target, Vec<u8>)>> {
        if self.poll_ended(cx).is_ready() {
            return Poll::Ready(None);
        }
        self.association.poll_recv(cx).map(Some)
    }

    /// When the client has closed its TCP connection, on which it has nothing more to say.
    fn poll_ended(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let mut space = [0; 64];
            let mut buf = ReadBuf::new(&mut space);
            let read = ready!(Pin::new(&mut self.control).poll_read(cx, &mut buf));
            if read.is_err() || buf.filled().is_empty() {
                return Poll::Ready(());
            }
        }
    }

    fn poll_send(&mut self, cx: &mut Context<'_>, from: &Target, payload: &[u8]) -> Poll<()> {
        self.association.poll_send(cx, from, payload)
    }

    /// SOCKS has no word for it but the end of the TCP connection.
    fn refuse(self) {}
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn datagrams_with_a_name_or_an_address_are_taken_and_fragments_are_not() {
        let datagram = b"\0\0\0\x03\x03a.b\x00\x35hello";
        assert_eq!(parse(datagram), Some(("a.b:53".parse().expect("a target"), &b"hello"[..])));
        let empty = b"\0\0\0\x01\xC0\x00\x02\x01\x00\x35";
        assert_eq!(parse(empty), Some(("192.0.2.1:53".parse().expect("a target"), &b""[..])));
        for wrong in
            [&b"\0\0\x01\x03\x03a.b\x00\x35hello"[..], b"\0\0\0", b"\0\0\0\x09", b"\0\x01\0\x01", b""]
        {
            assert_eq!(parse(wrong), None, "{wrong:?}");
        }
    }
}
