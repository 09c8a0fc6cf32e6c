//! A network of its own for a thread.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

/// Moves the calling thread, for good, into a new network with nothing but a loopback interface.
///
/// The network lives as long as the descriptor, a thread or a socket of it.
pub(crate) fn unshare_network() -> io::Result<OwnedFd> {
    // SAFETY: changes which network the calling thread's next sockets belong to; touches no memory.
    let status = unsafe { libc::unshare(libc::CLONE_NEWNET) };
    if status < 0 {
        return Err(io::Error::last_os_error());
    }
    super::set_interface_up("lo", true)?;
    File::open("/proc/thread-self/ns/net").map(OwnedFd::from)
}

/// Moves the calling thread into the network that `namespace` stands for.
pub(crate) fn enter_network(namespace: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: changes which network the calling thread's next sockets belong to; touches no memory.
    let status = unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) };
    if status < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
