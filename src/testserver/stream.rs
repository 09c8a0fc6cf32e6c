//! One stream: its target, and what serves it.

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::{Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader, copy_buf};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{Faults, Outbound, Service, SynAck, udp};
use crate::client::Stream;
use crate::client::link::Link;
use crate::proto::frame::StreamId;
use crate::proto::target::{Host, MAX_TARGET_BYTES, Target};
use crate::proto::uot::MAGIC_NAME;

/// How long a target may take to answer a connect.
const CONNECT_DEADLINE: Duration = Duration::from_secs(10);

/// Bytes moved at once: four full records.
const COPY_BYTES: usize = 64 * 1024;

/// The period of what [`Service::Send`] sends: a prime, so that nothing of the protocol repeats with it.
const PATTERN_BYTES: u8 = 251;

/// Serves a stream until it is closed. Dropping the stream sends what is left, then Fin.
pub(super) async fn serve(mut stream: Stream, link: &Arc<Link>, outbound: &Outbound, faults: &Faults) {
    let id = StreamId(stream.id());
    let target = match read_target(&mut stream).await {
        Ok(target) => target,
        Err(error) => {
            tracing::debug!(%error, "stream without a target");
            link.refuse(id, "no target");
            return;
        }
    };
    let service = match &faults.refuse_streams {
        Some(reason) => Service::Refuse(reason.clone()),
        None => outbound(&target),
    };
    let is_udp = service == Service::Connect && is_magic(&target);
    let connected = match &service {
        Service::Connect if is_udp && faults.udp.refused => {
            Err("UDP over TCP is not offered here".to_owned())
        }
        Service::Connect if is_udp => Ok(None),
        Service::Connect => connect(&target).await.map(Some),
        Service::ConnectTo(address) => connect(&Target::from(*address)).await.map(Some),
        Service::Refuse(reason) => Err(reason.clone()),
        Service::Echo | Service::Discard | Service::Send(_) | Service::Hold => Ok(None),
    };
    let socket = match connected {
        Ok(socket) => socket,
        Err(reason) => {
            tracing::debug!(%target, reason, "stream refused");
            link.refuse(id, &reason);
            return;
        }
    };
    match faults.synack {
        SynAck::AtOnce => {}
        SynAck::Delayed(delay) => tokio::time::sleep(delay).await,
        SynAck::Never => {
            let _closed = discard(&mut stream).await;
            return;
        }
    }
    link.accept(id);
    let end = match (socket, service) {
        (Some(socket), _) => relay(stream, socket).await,
        (None, Service::Echo) => echo(&mut stream).await,
        (None, Service::Discard) => discard(&mut stream).await,
        (None, Service::Send(count)) => send(&mut stream, count).await,
        (None, Service::Hold) => std::future::pending().await,
        (None, Service::Connect) => udp::relay(stream, faults.udp).await,
        (None, Service::ConnectTo(_) | Service::Refuse(_)) => Ok(()), // came to nothing above
    };
    tracing::debug!(%target, ?end, "stream ended");
}

fn is_magic(target: &Target) -> bool {
    matches!(&target.host, Host::Name(name) if name.as_str() == MAGIC_NAME)
}

/// Reads the target, which may come in any pieces, and not a byte after it.
async fn read_target(stream: &mut Stream) -> io::Result<Target> {
    let mut head = Vec::new();
    poll_fn(|cx| {
        loop {
            let mut found = Ok(None);
            let taken = ready!(stream.poll_read_with(cx, |bytes| {
                let before = head.len();
                head.extend_from_slice(&bytes[..bytes.len().min(MAX_TARGET_BYTES - before)]);
                found = Target::parse(&head);
                match &found {
                    Ok(Some((_, length))) => length - before,
                    Ok(None) | Err(_) => head.len() - before,
                }
            }))?;
            match std::mem::replace(&mut found, Ok(None)) {
                Ok(Some((target, _))) => return Poll::Ready(Ok(target)),
                Ok(None) if taken > 0 => {}
                Ok(None) => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
                Err(error) => return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, error))),
            }
        }
    })
    .await
}

/// Connects to the target, or says in words for the client why not.
async fn connect(target: &Target) -> Result<TcpStream, String> {
    let connecting = async {
        match &target.host {
            Host::Name(name) => TcpStream::connect((name.as_str(), target.port)).await,
            Host::Ip(address) => TcpStream::connect((*address, target.port)).await,
        }
    };
    match timeout(CONNECT_DEADLINE, connecting).await {
        Ok(Ok(socket)) => socket.set_nodelay(true).map(|()| socket).map_err(|error| error.to_string()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("the target did not answer in time".to_owned()),
    }
}

/// Until one side finishes. protocol.md#stream: Fin ends both directions, and so does the target's end.
async fn relay(stream: Stream, mut socket: TcpStream) -> io::Result<()> {
    let (from_client, mut to_client) = tokio::io::split(stream);
    let (from_target, mut to_target) = socket.split();
    let mut from_client = BufReader::with_capacity(COPY_BYTES, from_client);
    let mut from_target = BufReader::with_capacity(COPY_BYTES, from_target);
    tokio::select! {
        up = copy_buf(&mut from_client, &mut to_target) => up.map(drop),
        down = copy_buf(&mut from_target, &mut to_client) => down.map(drop),
    }
}

async fn echo(stream: &mut Stream) -> io::Result<()> {
    let mut buffer = vec![0; COPY_BYTES];
    loop {
        let count = stream.read(&mut buffer).await?;
        if count == 0 {
            return Ok(());
        }
        stream.write_all(&buffer[..count]).await?;
    }
}

async fn discard(stream: &mut Stream) -> io::Result<()> {
    while poll_fn(|cx| stream.poll_read_with(cx, <[u8]>::len)).await? > 0 {}
    Ok(())
}

async fn send(stream: &mut Stream, count: u64) -> io::Result<()> {
    let pattern: Vec<u8> = (0..PATTERN_BYTES).cycle().take(COPY_BYTES + usize::from(PATTERN_BYTES)).collect();
    let mut sent = 0;
    while sent < count {
        let from = usize::try_from(sent % u64::from(PATTERN_BYTES)).unwrap_or(0); // below 251
        let left = usize::try_from(count - sent).unwrap_or(usize::MAX).min(COPY_BYTES);
        let written = stream.write(&pattern[from..from + left]).await?;
        sent += u64::try_from(written).unwrap_or(u64::MAX);
    }
    Ok(())
}
