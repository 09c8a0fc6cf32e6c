//! A SOCKS5 front: the tunnel without a TUN.

mod udp;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use anytls_mobile::client::OpenError;
use anytls_mobile::proto::session::StreamError;
use anytls_mobile::proto::target::{Host, Target};
use anytls_mobile::tunnel::Tunnel;
use fast_socks5::server::Socks5ServerProtocol;
use fast_socks5::server::states::CommandRead;
use fast_socks5::util::target_addr::TargetAddr;
use fast_socks5::{ReplyError, Socks5Command};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::Failure;

/// Connections served at once; more wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 1024;

/// Serves until it is dropped, which resets every connection.
pub(crate) async fn serve(listener: TcpListener, tunnel: Arc<Tunnel>) {
    let mut connections = JoinSet::new();
    loop {
        while connections.len() >= MAX_CONNECTIONS {
            connections.join_next().await;
        }
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((socket, _)) => {
                    let tunnel = Arc::clone(&tunnel);
                    connections.spawn(async move {
                        if let Err(error) = serve_one(socket, &tunnel).await {
                            tracing::debug!(%error, "SOCKS connection failed");
                        }
                    });
                }
                // The process is out of descriptors, or the peer is gone already.
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a SOCKS connection");
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn serve_one(socket: TcpStream, tunnel: &Tunnel) -> Result<(), Failure> {
    socket.set_nodelay(true)?;
    let (here, client) = (socket.local_addr()?, socket.peer_addr()?);
    let (request, command, address) =
        Socks5ServerProtocol::accept_no_auth(socket).await?.read_command().await?;
    match command {
        Socks5Command::TCPConnect => connect(request, tunnel, &address).await,
        Socks5Command::UDPAssociate => match udp::Association::bind(here.ip(), client.ip(), &address).await {
            Ok(association) => {
                let control = request.reply_success(association.address()?).await?;
                tunnel.associate(association.under(control), None).await;
                Ok(())
            }
            Err(error) => {
                tracing::debug!(%error, "no socket for SOCKS datagrams");
                Ok(request.reply_error(&ReplyError::GeneralFailure).await?)
            }
        },
        Socks5Command::TCPBind => Ok(request.reply_error(&ReplyError::CommandNotSupported).await?),
    }
}

async fn connect(
    request: Socks5ServerProtocol<TcpStream, CommandRead>,
    tunnel: &Tunnel,
    address: &TargetAddr,
) -> Result<(), Failure> {
    let target = match address {
        TargetAddr::Ip(address) => Target::from(*address),
        TargetAddr::Domain(name, port) => Target { host: Host::Name(name.parse()?), port: *port },
    };
    match tunnel.connect(target).await {
        Ok(connected) => {
            let socket = request.reply_success(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0))).await?;
            connected.relay(socket).await;
        }
        Err(error) => request.reply_error(&reply(&error)).await?,
    }
    Ok(())
}

fn reply(error: &OpenError) -> ReplyError {
    match error {
        OpenError::Stream(StreamError::Refused(_)) => ReplyError::ConnectionRefused,
        OpenError::Stream(StreamError::TimedOut | StreamError::Stranded) => ReplyError::ConnectionTimeout,
        OpenError::Dial(_) | OpenError::Offline => ReplyError::NetworkUnreachable,
        OpenError::Stream(StreamError::Session(_) | StreamError::SessionFull(_) | StreamError::Closed)
        | OpenError::Busy
        | OpenError::Stopped => ReplyError::GeneralFailure,
    }
}
