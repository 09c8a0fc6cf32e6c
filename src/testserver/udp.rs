//! UDP over TCP: real sockets behind a stream. protocol.md#udp-over-tcp-version-2

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader, WriteHalf, split};
use tokio::net::{UdpSocket, lookup_host};
use tokio::sync::{Mutex, SetOnce};

use super::UdpFaults;
use crate::client::Stream;
use crate::proto::target::{Host, Numbering, Target};
use crate::proto::uot::{self, Mode};

/// The most that a datagram can have, and so what is received at once.
const MAX_DATAGRAM_BYTES: usize = 65_535;

/// Moves datagrams until the client closes the stream, or breaks the protocol.
pub(super) async fn relay(stream: Stream, faults: UdpFaults) -> io::Result<()> {
    let (from_client, to_client) = split(stream);
    let mut from_client = BufReader::new(from_client);
    let to_client = Mutex::new(to_client);
    let mode = match from_client.read_u8().await? {
        0 => Mode::Packet,
        1 => Mode::Connect,
        other => return Err(invalid(format!("{other} is neither packet nor connect mode"))),
    };
    let destination = read_target(&mut from_client, Numbering::SOCKS5).await?;
    let only = match mode {
        Mode::Packet => None,
        Mode::Connect => Some(resolve(&destination).await?),
    };
    let sockets = Sockets::default();
    let ended = tokio::select! {
        ended = up(&mut from_client, only, &sockets, faults) => ended,
        ended = down(&sockets.v4, only, &to_client) => ended,
        ended = down(&sockets.v6, only, &to_client) => ended,
    };
    match ended {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(()), // the client has closed it
        ended => ended,
    }
}

/// A stream's sockets, each there from the first datagram of its family on.
#[derive(Default)]
struct Sockets {
    v4: SetOnce<UdpSocket>,
    v6: SetOnce<UdpSocket>,
}

impl Sockets {
    /// Nobody else opens any meanwhile: one task reads the stream.
    async fn of(&self, address: SocketAddr) -> io::Result<&UdpSocket> {
        let (socket, any): (_, IpAddr) = match address {
            SocketAddr::V4(_) => (&self.v4, Ipv4Addr::UNSPECIFIED.into()),
            SocketAddr::V6(_) => (&self.v6, Ipv6Addr::UNSPECIFIED.into()),
        };
        if !socket.initialized() {
            let _none_was_there = socket.set(UdpSocket::bind((any, 0)).await?);
        }
        Ok(socket.wait().await)
    }
}

async fn up(
    from_client: &mut (impl AsyncRead + Unpin),
    only: Option<SocketAddr>,
    sockets: &Sockets,
    faults: UdpFaults,
) -> io::Result<()> {
    let numbering = if faults.socks5_numbering { Numbering::SOCKS5 } else { Numbering::DATAGRAM };
    let mut payload = Vec::new();
    loop {
        let address = match only {
            Some(address) => Ok(address),
            None => resolve(&read_target(from_client, numbering).await?).await,
        };
        let length = usize::from(from_client.read_u16().await?);
        if faults.max_datagram_bytes.is_some_and(|most| length > most) {
            return Err(invalid(format!("a datagram of {length} bytes")));
        }
        payload.resize(length, 0);
        from_client.read_exact(&mut payload).await?;
        let sent = match address {
            Ok(address) => sockets.of(address).await?.send_to(&payload, address).await.map(drop),
            Err(error) => Err(error),
        };
        if let Err(error) = sent {
            tracing::debug!(%error, "datagram dropped");
        }
    }
}

async fn down(
    socket: &SetOnce<UdpSocket>,
    only: Option<SocketAddr>,
    to_client: &Mutex<WriteHalf<Stream>>,
) -> io::Result<()> {
    let socket = socket.wait().await;
    let mut payload = vec![0; MAX_DATAGRAM_BYTES];
    loop {
        let (length, source) = match socket.recv_from(&mut payload).await {
            Ok(received) => received,
            Err(error) => {
                tracing::debug!(%error, "no datagram"); // an earlier one was not delivered
                continue;
            }
        };
        if only.is_some_and(|only| only != source) {
            continue;
        }
        let mode = if only.is_some() { Mode::Connect } else { Mode::Packet };
        let mut datagram = Vec::with_capacity(uot::MAX_HEADER_BYTES + length);
        let header_length = u16::try_from(length).unwrap_or(u16::MAX); // no longer than what was received into
        uot::put_header(mode, &Target::from(source), header_length, &mut datagram);
        datagram.extend_from_slice(&payload[..length]);
        to_client.lock().await.write_all(&datagram).await?;
    }
}

async fn read_target(from: &mut (impl AsyncRead + Unpin), numbering: Numbering) -> io::Result<Target> {
    let mut head = Vec::new();
    loop {
        head.push(from.read_u8().await?);
        match Target::parse_as(numbering, &head) {
            Ok(Some((target, _))) => return Ok(target),
            Ok(None) => {}
            Err(error) => {
                let address = address_in(&head).ok_or_else(|| invalid(error))?;
                return Ok(Target { host: Host::from(address), port: from.read_u16().await? });
            }
        }
    }
}

/// What stands in place of a name when that is an IPv6 address in text. It is taken for the address, as by the
/// reference server.
fn address_in(head: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(head.get(2..)?).ok()?; // after the type and the length
    text.parse::<Ipv6Addr>().ok().map(IpAddr::from)
}

async fn resolve(target: &Target) -> io::Result<SocketAddr> {
    match &target.host {
        Host::Ip(address) => Ok(SocketAddr::new(*address, target.port)),
        Host::Name(name) => {
            let first = lookup_host((name.as_str(), target.port)).await?.next();
            first.ok_or_else(|| io::ErrorKind::NotFound.into())
        }
    }
}

fn invalid(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
