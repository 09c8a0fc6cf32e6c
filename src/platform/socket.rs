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

/// Has a TCP connection be readable when it has so many bytes, or its end.
pub(crate) fn set_low_water(socket: BorrowedFd<'_>, bytes: u32) -> io::Result<()> {
    super::unix::set_option(socket, libc::SOL_SOCKET, libc::SO_RCVLOWAT, bytes)
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

/// Whether the kernel has given up on a TCP connection, or is repeating data into silence, without asking the
/// peer anything.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) fn is_in_doubt(socket: BorrowedFd<'_>) -> bool {
    // `tcpi_state`, `tcpi_ca_state`, `tcpi_retransmits`: the first bytes of struct tcp_info (linux/tcp.h).
    const ESTABLISHED: u8 = 1;
    let Some([state, _, repeats]) = tcp_option::<3>(socket, libc::TCP_INFO) else { return false };
    state != ESTABLISHED || repeats >= MANY_REPEATS
}

/// Whether the kernel has given up on a TCP connection, or is repeating data into silence, without asking the
/// peer anything.
#[cfg(any(target_os = "ios", target_os = "macos"))]
pub(crate) fn is_in_doubt(socket: BorrowedFd<'_>) -> bool {
    // `tcpi_state` is the first byte (netinet/tcp.h, TCPS_ESTABLISHED in netinet/tcp_fsm.h).
    const ESTABLISHED: u8 = 4;
    let info = tcp_option::<{ size_of::<libc::tcp_connection_info>() }>(socket, libc::TCP_CONNECTION_INFO);
    info.is_some_and(|info| info[0] != ESTABLISHED)
}

#[cfg(not(any(target_os = "linux", target_os = "android", target_os = "ios", target_os = "macos")))]
pub(crate) fn is_in_doubt(_: BorrowedFd<'_>) -> bool {
    false
}

/// Repeated in a row without an answer: one may be a lost packet, three take well over a second.
#[cfg(any(target_os = "linux", target_os = "android"))]
const MANY_REPEATS: u8 = 3;

/// Bytes that the peer's kernel has not acknowledged yet; `None` when the system does not say.
pub(crate) fn unacked_bytes(socket: BorrowedFd<'_>) -> Option<u64> {
    let mut bytes: libc::c_int = 0;
    #[cfg(any(target_os = "linux", target_os = "android"))]
    // SAFETY: the descriptor is open while it is borrowed, and TIOCOUTQ writes one int, which outlives the call.
    let status = unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ as _, &raw mut bytes) };
    #[cfg(any(target_os = "ios", target_os = "macos"))]
    let status = {
        // size of an int: 4
        let mut length = size_of::<libc::c_int>() as libc::socklen_t;
        let value = (&raw mut bytes).cast();
        // SAFETY: the descriptor is open while it is borrowed; SO_NWRITE writes one int, which outlives the call.
        unsafe {
            libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_NWRITE, value, &raw mut length)
        }
    };
    #[cfg(not(any(target_os = "linux", target_os = "android", target_os = "ios", target_os = "macos")))]
    let status = -1;
    (status == 0).then(|| u64::try_from(bytes).ok()).flatten()
}

/// Has the kernel ask after `interval` of silence whether the peer is there, and give up on it, or on data
/// that it does not acknowledge, after `dead_after`. No interval: it asks nothing.
pub(crate) fn set_keepalive(
    socket: BorrowedFd<'_>,
    interval: Option<Duration>,
    dead_after: Duration,
) -> io::Result<()> {
    let socket = socket2::SockRef::from(&socket);
    let Some(interval) = interval else { return socket.set_keepalive(false) };
    // The kernel counts whole seconds.
    let whole = |span: Duration| span.max(Duration::from_secs(1));
    let keepalive =
        socket2::TcpKeepalive::new().with_time(whole(interval)).with_interval(whole(dead_after / 2));
    socket.set_tcp_keepalive(&keepalive.with_retries(2))?;
    #[cfg(any(target_os = "linux", target_os = "android"))]
    socket.set_tcp_user_timeout(Some(dead_after))?;
    Ok(())
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
    fn a_watched_connection_asks_in_whole_seconds_and_is_watched_no_more_without_an_interval() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let socket = socket2::SockRef::from(&client);
        assert!(!socket.keepalive().unwrap());
        let second = Duration::from_secs(1);
        set_keepalive(client.as_fd(), Some(second / 10), 20 * second).unwrap();
        assert!(socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), second);
        assert_eq!(socket.tcp_keepalive_interval().unwrap(), 10 * second);
        assert_eq!(socket.tcp_keepalive_retries().unwrap(), 2);
        #[cfg(any(target_os = "linux", target_os = "android"))]
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(20 * second));
        set_keepalive(client.as_fd(), None, 20 * second).unwrap();
        assert!(!socket.keepalive().unwrap());
    }

    #[test]
    fn a_tcp_connection_has_a_round_trip_and_a_datagram_socket_has_none() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert!(smoothed_rtt(client.as_fd()).is_some(), "the handshake was a sample");
        assert_eq!(smoothed_rtt(UdpSocket::bind("127.0.0.1:0").unwrap().as_fd()), None);
    }
}
