//! The network that the app sees: a real one behind a TUN, or a small stack over packets in memory.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;

use anytls_mobile::config::Config;
use anytls_mobile::tun::{self, NetworkNamespace, OpenTunError, TunOptions};
use anytls_mobile::tunnel::Tun;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::stack::Stack;
use crate::Failure;

const NAME: &str = "anytls0";

pub(super) trait Connection: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Connection for T {}

pub(super) enum Network {
    Kernel(NetworkNamespace),
    Memory(Stack),
}

impl Network {
    /// Makes the network and its tunnel's end: a TUN in a network namespace where that is allowed.
    pub(super) fn open(config: &Config, no_tun: bool) -> Result<(Self, Tun), Failure> {
        if !no_tun && let Some(opened) = open_in_namespace(config)? {
            return Ok(opened);
        }
        let (ours, theirs) = tun::pair(config.tun.mtu.get());
        Ok((Self::Memory(Stack::start(ours)), Tun::Device(Box::new(theirs))))
    }

    pub(super) async fn connect(&self, target: SocketAddr) -> io::Result<Box<dyn Connection>> {
        match self {
            Self::Kernel(namespace) => {
                let socket = namespace.run(|| std::net::TcpStream::connect(target))??;
                socket.set_nonblocking(true)?;
                socket.set_nodelay(true)?;
                Ok(Box::new(TcpStream::from_std(socket)?))
            }
            Self::Memory(stack) => Ok(Box::new(stack.connect(target))),
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kernel(_) => "behind a TUN in a network namespace of its own",
            Self::Memory(_) => "behind an in-memory packet pair (a TUN needs root)",
        })
    }
}

/// `None` where that is not allowed.
fn open_in_namespace(config: &Config) -> Result<Option<(Network, Tun)>, Failure> {
    let namespace = match NetworkNamespace::new() {
        Ok(namespace) => namespace,
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    match namespace.run(|| open_tun(config))? {
        Ok(tun) => Ok(Some((Network::Kernel(namespace), Tun::Fd(tun)))),
        Err(OpenTunError::NoPermission(_) | OpenTunError::NoDriver(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn open_tun(config: &Config) -> Result<OwnedFd, OpenTunError> {
    let options = TunOptions {
        name: NAME.to_owned(),
        mtu: config.tun.mtu.get(),
        addresses: config.tun.addresses.iter().map(|a| (a.address(), a.prefix_len())).collect(),
    };
    let tun = tun::open(&options)?;
    let everything = (IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
    tun::add_route(NAME, everything)
        .map_err(|source| OpenTunError::Configure { setting: "the default route".to_owned(), source })?;
    Ok(tun)
}
