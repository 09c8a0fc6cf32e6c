//! A TUN whose packets have no header in front, and that whoever makes it has in hand.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{BorrowedFd, OwnedFd};

/// Reads one packet in one system call. 0 is end of file.
pub(crate) fn tun_read(mut tun: &File, packet: &mut [u8]) -> io::Result<usize> {
    tun.read(packet)
}

/// Writes one packet in one system call.
pub(crate) fn tun_write(mut tun: &File, packet: &[u8]) -> io::Result<usize> {
    tun.write(packet)
}

/// Nothing to look for.
pub(crate) fn find_tun() -> Option<OwnedFd> {
    None
}

/// Nothing to set.
pub(crate) fn prepare_tun(_tun: BorrowedFd<'_>) -> io::Result<()> {
    Ok(())
}
