//! A TUN that is a file descriptor.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, FromRawFd, OwnedFd, RawFd};
use std::task::{Context, Poll, ready};

use tokio::io::unix::AsyncFd;
use tokio::io::{Interest, Ready};
use tokio::runtime::Handle;
use tracing::debug;

use super::{Device, SendError};
use crate::platform;

/// The TUN that the OS handed over: Android's `detachFd()`, a duplicate of Apple's utun, Linux's
/// [`open`](super::open()). In tests any socket pair that keeps packet borders will do; an empty packet
/// reads as end of file.
///
/// One system call a packet: a batch is read until the kernel says that there is no more.
#[derive(Debug)]
pub struct FdDevice {
    tun: AsyncFd<File>,
    mtu: u16,
}

/// Takes over a descriptor that was handed over as a number, as Android and a shell do it.
///
/// # Errors
/// `EBADF` when no such descriptor is open. Nothing else may use or close the number from now on.
pub fn adopt(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: F_GETFD only reads the flags of a descriptor, or fails when there is none.
    if unsafe { libc::fcntl(number, libc::F_GETFD) } == -1 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is open, and the caller hands its ownership over.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

impl FdDevice {
    /// Takes `fd` over: it is closed with the device, or now when this fails.
    ///
    /// Only inside a tokio runtime with I/O enabled, which the device then belongs to. The open file
    /// becomes non-blocking, for whoever holds a duplicate of `fd` too.
    ///
    /// # Errors
    /// Outside a runtime; when `fd` is not something that can be waited for.
    ///
    /// # Panics
    /// In a runtime without I/O.
    pub fn new(fd: OwnedFd, mtu: u16) -> io::Result<Self> {
        Handle::try_current().map_err(io::Error::other)?;
        platform::set_nonblocking(fd.as_fd())?;
        if let Err(error) = platform::prepare_tun(fd.as_fd()) {
            debug!(%error, "the TUN keeps the system's queue"); // slower, and as right
        }
        // Readable alone: no wake-ups for room to write, which nobody waits for.
        // SAFETY: the file owns its descriptor, and stays as it is until the AsyncFd is dropped.
        let tun = unsafe { AsyncFd::register_with_interest(File::from(fd), Interest::READABLE) }?;
        Ok(Self { tun, mtu })
    }
}

impl Device for FdDevice {
    fn mtu(&self) -> usize {
        self.mtu.into()
    }

    fn poll_recv(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        poll_read(&self.tun, cx, |tun| platform::tun_read(tun, buf))
    }

    fn send(&mut self, packet: &[u8]) -> Result<(), SendError> {
        write(|| platform::tun_write(self.tun.get_ref(), packet))
    }
}

fn poll_read(
    tun: &AsyncFd<File>,
    cx: &mut Context<'_>,
    mut read: impl FnMut(&File) -> io::Result<usize>,
) -> Poll<io::Result<usize>> {
    loop {
        let mut guard = match tun.poll_read_ready(cx)? {
            Poll::Ready(guard) => guard,
            // The kernel reports a TUN that was taken away as an error and nothing else, which tokio
            // files under writing; writing was not asked for, so nothing else comes this way.
            Poll::Pending => ready!(tun.poll_write_ready(cx))?,
        };
        match read(tun.get_ref()) {
            Ok(0) => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
            Ok(length) => return Poll::Ready(Ok(length)),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if !passes(&error) => return Poll::Ready(Err(error)),
            Err(_) if is_closed(guard.ready()) => {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
            Err(_) => guard.clear_ready(),
        }
    }
}

fn is_closed(ready: Ready) -> bool {
    ready.is_read_closed() || ready.is_write_closed()
}

fn write(mut write: impl FnMut() -> io::Result<usize>) -> Result<(), SendError> {
    loop {
        match write() {
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if passes(&error) || refuses_packet(&error) => return Err(SendError::Dropped),
            Err(error) => return Err(SendError::Gone(error)),
        }
    }
}

/// Whether `error` says that the device has no packet, no room or no memory now, but may later.
fn passes(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
        || matches!(error.raw_os_error(), Some(libc::ENOBUFS | libc::ENOSPC | libc::ENOMEM))
}

/// Whether `error` is about the packet or the interface's state, and not about the descriptor.
///
/// Linux answers EIO while the interface is down; that counts as gone, since on a phone the VPN service
/// takes it down for good.
fn refuses_packet(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::InvalidInput
        || matches!(error.raw_os_error(), Some(libc::EMSGSIZE | libc::EAFNOSUPPORT | libc::ENETDOWN))
}

#[cfg(test)]
mod tests;
