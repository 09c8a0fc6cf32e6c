//! IP packets from and to the OS's virtual interface.
//!
//! A phone's OS makes the TUN and hands over its descriptor: [`FdDevice`]. On Linux [`open()`] makes one
//! first, in a [`NetworkNamespace`] if nothing else is to see it. [`batches()`] carries packets without a
//! descriptor, for Apple's packet flow. [`pair`] and [`Impaired`] are for
//! tests: packets without an OS, and a bad network.

mod batches;
mod channel;
mod fd;
mod impair;
mod namespace;
mod open;

use std::io;
use std::task::{Context, Poll};

pub use batches::{BatchDevice, BatchInput, batches};
pub use channel::{ChannelDevice, pair};
pub use fd::{FdDevice, adopt};
pub use impair::{Impaired, Impairment};
pub use namespace::NetworkNamespace;
pub use open::{OpenTunError, TunOptions, add_route, interface_name, open};

/// The largest IP packet, and the size of the buffer that [`Device::poll_recv`] is given.
pub const MAX_PACKET_BYTES: usize = 65_535;

/// Where IP packets come from and go to. One packet a call, without any link-layer header.
pub trait Device: Send + 'static {
    /// The largest packet that may be sent, in bytes.
    fn mtu(&self) -> usize;

    /// Reads the next packet into `buf` and gives its length.
    ///
    /// `Pending` means that none is there, and registers the waker. An error means that the device is
    /// gone for good; what passes by itself is retried inside.
    fn poll_recv(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>>;

    /// Sends one packet without waiting.
    ///
    /// # Errors
    /// [`SendError::Dropped`] when there was no room for it, which TCP repairs by sending again;
    /// [`SendError::Gone`] when the device will never take a packet again.
    fn send(&mut self, packet: &[u8]) -> Result<(), SendError>;

    /// No packet follows for now: what gathers packets lets them go.
    fn flush(&mut self) {}
}

impl Device for Box<dyn Device> {
    fn mtu(&self) -> usize {
        (**self).mtu()
    }

    fn poll_recv(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        (**self).poll_recv(cx, buf)
    }

    fn send(&mut self, packet: &[u8]) -> Result<(), SendError> {
        (**self).send(packet)
    }

    fn flush(&mut self) {
        (**self).flush();
    }
}

/// Why a packet was not sent.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The device had no room (EAGAIN, ENOBUFS, ENOSPC) or refused this one packet.
    #[error("packet dropped by the device")]
    Dropped,
    /// The device was closed (EBADF, EIO, end of file).
    #[error("device gone")]
    Gone(#[source] io::Error),
}
