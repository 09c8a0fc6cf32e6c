//! Socket options that only some systems have. This file holds all of them together, since each is a line.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

/// Marks the packets of `socket`, for policy routing.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) fn set_mark(socket: BorrowedFd<'_>, mark: u32) -> io::Result<()> {
    socket2::SockRef::from(&socket).set_mark(mark)
}

/// Sends and receives through one interface only.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) fn bind_to_device(socket: BorrowedFd<'_>, name: &str) -> io::Result<()> {
    socket2::SockRef::from(&socket).bind_device(Some(name.as_bytes()))
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(crate) fn set_mark(_: BorrowedFd<'_>, _: u32) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(crate) fn bind_to_device(_: BorrowedFd<'_>, _: &str) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// The kernel's smoothed round trip of a TCP connection; `None` when it has none, or does not say.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) fn smoothed_rtt(socket: BorrowedFd<'_>) -> Option<Duration> {
    // `tcpi_rtt` in µs: the sixteenth u32 after eight single bytes, the same since Linux 2.6 (linux/tcp.h,
    // struct tcp_info). libc declares that struct for some of the targets only.
    const RTT: std::ops::Range<usize> = 68..72;
    let info: [u8; RTT.end] = tcp_option(socket, libc::TCP_INFO)?;
    let micros = u32::from_ne_bytes(info[RTT].try_into().ok()?);
    (micros != 0).then(|| Duration::from_micros(micros.into()))
}

/// The kernel's smoothed round trip of a TCP connection; `None` when it has none, or does not say.
#[cfg(any(target_os = "ios", target_os = "macos"))]
pub(crate) fn smoothed_rtt(socket: BorrowedFd<'_>) -> Option<Duration> {
    // `tcpi_srtt` in ms (netinet/tcp.h).
    const RTT: std::ops::Range<usize> = std::mem::offset_of!(libc::tcp_connection_info, tcpi_srtt)
        ..std::mem::offset_of!(libc::tcp_connection_info, tcpi_rttvar);
    let info: [u8; size_of::<libc::tcp_connection_info>()] = tcp_option(socket, libc::TCP_CONNECTION_INFO)?;
    let millis = u32::from_ne_bytes(info[RTT].try_into().ok()?);
    (millis != 0).then(|| Duration::from_millis(millis.into()))
}

/// The kernel's smoothed round trip of a TCP connection; `None` when it has none, or does not say.
#[cfg(not(any(target_os = "linux", target_os = "android", target_os = "ios", target_os = "macos")))]
pub(crate) fn smoothed_rtt(_: BorrowedFd<'_>) -> Option<Duration> {
    None
}

/// The first `N` bytes of a TCP-level option that is a plain struct; `None` when it has fewer.
#[cfg(any(target_os = "linux", target_os = "android", target_os = "ios", target_os = "macos"))]
fn tcp_option<const N: usize>(socket: BorrowedFd<'_>, option: libc::c_int) -> Option<[u8; N]> {
    let mut value = [0_u8; N];
    let mut length = libc::socklen_t::try_from(N).ok()?;
    // SAFETY: the descriptor is open while it is borrowed, `value` has room for `length` bytes, and both
    // pointers are valid for the length of the call.
    let status = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            option,
            value.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    (status == 0 && usize::try_from(length) == Ok(N)).then_some(value)
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream, UdpSocket};
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn a_tcp_connection_has_a_round_trip_and_a_datagram_socket_has_none() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert!(smoothed_rtt(client.as_fd()).is_some(), "the handshake was a sample");
        assert_eq!(smoothed_rtt(UdpSocket::bind("127.0.0.1:0").unwrap().as_fd()), None);
    }
}
