//! Apple's utun: every packet is preceded by its address family.
//!
//! ```text
//! family u32 big endian (AF_INET, AF_INET6) | packet
//! ```
//! Compiled for tests everywhere, since any socket that keeps packet borders can stand in for a utun.

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};

const FAMILY_BYTES: usize = 4;

/// Reads one packet, without its header, in one system call. 0 is end of file.
pub(crate) fn tun_read(mut tun: &File, packet: &mut [u8]) -> io::Result<usize> {
    let mut family = [0; FAMILY_BYTES];
    loop {
        let length = tun.read_vectored(&mut [IoSliceMut::new(&mut family), IoSliceMut::new(packet)])?;
        match length.checked_sub(FAMILY_BYTES) {
            None if length == 0 => return Ok(0),
            // A header without a packet: 0 would read as end of file.
            None | Some(0) => {}
            Some(packet_length) => return Ok(packet_length),
        }
    }
}

/// Writes one packet behind its header in one system call.
///
/// # Errors
/// `InvalidInput` when `packet` is neither IPv4 nor IPv6, besides what the system says.
pub(crate) fn tun_write(mut tun: &File, packet: &[u8]) -> io::Result<usize> {
    let family = match packet.first().map(|byte| byte >> 4) {
        Some(4) => libc::AF_INET,
        Some(6) => libc::AF_INET6,
        _ => return Err(io::ErrorKind::InvalidInput.into()),
    };
    let written = tun.write_vectored(&[IoSlice::new(&family.to_be_bytes()), IoSlice::new(packet)])?;
    Ok(written.saturating_sub(FAMILY_BYTES))
}

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;

    use socket2::{Domain, Socket, Type};

    use super::*;

    fn utun() -> (File, Socket) {
        let (ours, kernel) = Socket::pair(Domain::UNIX, Type::SEQPACKET, None).unwrap();
        (File::from(OwnedFd::from(ours)), kernel)
    }

    #[test]
    fn family_is_written_before_a_packet() {
        let (tun, mut kernel) = utun();
        for (packet, family) in [([0x45, 1, 2], libc::AF_INET), ([0x60, 3, 4], libc::AF_INET6)] {
            assert_eq!(tun_write(&tun, &packet).unwrap(), 3);
            let mut seen = [0; 16];
            let length = kernel.read(&mut seen).unwrap();
            assert_eq!(seen[..length], [&family.to_be_bytes()[..], &packet].concat());
        }
    }

    #[test]
    fn family_is_taken_from_a_packet_read() {
        let (tun, mut kernel) = utun();
        kernel.write_all(&[0, 0, 0, 2, 0x45, 1, 2]).unwrap();
        let mut packet = [0; 16];
        assert_eq!(tun_read(&tun, &mut packet).unwrap(), 3);
        assert_eq!(packet[..3], [0x45, 1, 2]);
    }

    #[test]
    fn header_without_a_packet_is_not_end_of_file() {
        let (tun, mut kernel) = utun();
        kernel.write_all(&[0, 0, 0, 2]).unwrap();
        kernel.write_all(&[0, 0, 0, 30, 0x60]).unwrap();
        let mut packet = [0; 16];
        assert_eq!(tun_read(&tun, &mut packet).unwrap(), 1);
        drop(kernel);
        assert_eq!(tun_read(&tun, &mut packet).unwrap(), 0);
    }

    #[test]
    fn what_is_not_an_ip_packet_is_refused() {
        let (tun, _kernel) = utun();
        for packet in [&[][..], &[0x15, 1, 2]] {
            assert_eq!(tun_write(&tun, packet).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        }
    }
}
