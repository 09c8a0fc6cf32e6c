//! A TUN of our own making.
#![allow(unsafe_code)]

use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

/// IP packets without a header in front, on an interface that did not exist before.
// IFF_TUN_EXCL is the top bit of the field, which the kernel reads as unsigned: the cast keeps the bits.
const FLAGS: libc::c_short = (libc::IFF_TUN | libc::IFF_NO_PI | libc::IFF_TUN_EXCL) as libc::c_short;

/// Creates the interface `name` in the calling thread's network; it goes away with the descriptor.
///
/// # Errors
/// `NotFound` without `/dev/net/tun`, `PermissionDenied` without CAP_NET_ADMIN, `ResourceBusy` when an
/// interface has that name.
pub(crate) fn create_tun(name: &str) -> io::Result<OwnedFd> {
    let mut request =
        libc::ifreq { ifr_name: [0; _], ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_flags: FLAGS } };
    let ([room @ .., _terminator], name) = (&mut request.ifr_name, name.as_bytes());
    if name.is_empty() || name.len() > room.len() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    for (slot, byte) in room.iter_mut().zip(name) {
        *slot = libc::c_char::from_ne_bytes([*byte]);
    }
    let tun = OpenOptions::new().read(true).write(true).open("/dev/net/tun")?;
    // SAFETY: `request` is a valid, writable ifreq for the length of the call.
    let status = unsafe { libc::ioctl(tun.as_raw_fd(), libc::TUNSETIFF, &raw mut request) };
    if status < 0 { Err(io::Error::last_os_error()) } else { Ok(tun.into()) }
}

/// The name of the interface behind a TUN's descriptor.
pub(crate) fn tun_name(tun: BorrowedFd<'_>) -> io::Result<String> {
    let mut request =
        libc::ifreq { ifr_name: [0; _], ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_flags: 0 } };
    // SAFETY: `request` is a valid, writable ifreq for the length of the call.
    let status = unsafe { libc::ioctl(tun.as_raw_fd(), libc::TUNGETIFF, &raw mut request) };
    if status < 0 {
        return Err(io::Error::last_os_error());
    }
    let bytes = request.ifr_name.map(|byte| byte.to_ne_bytes()[0]);
    let name = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
    Ok(String::from_utf8_lossy(name).into_owned())
}
