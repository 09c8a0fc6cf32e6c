//! A TUN whose packets have no header in front.

use std::fs::File;
use std::io::{self, Read, Write};

/// Reads one packet in one system call. 0 is end of file.
pub(crate) fn tun_read(mut tun: &File, packet: &mut [u8]) -> io::Result<usize> {
    tun.read(packet)
}

/// Writes one packet in one system call.
pub(crate) fn tun_write(mut tun: &File, packet: &[u8]) -> io::Result<usize> {
    tun.write(packet)
}
