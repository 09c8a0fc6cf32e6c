//! Apple's utun as the kernel control that it is: found among the process's descriptors, and told how much may wait.
//!
//! `NEPacketTunnelProvider` has no call that hands out its TUN. It is a descriptor of the process all the same: a
//! socket that is connected to the kernel control of this name (`net/if_utun.h`).
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd, RawFd};

const UTUN_CONTROL: &[u8] = b"com.apple.net.utun_control";

// What the SDK of macOS declares in `sys/kern_control.h` and `sys/sys_domain.h`, and that of iOS does not.
const SYSPROTO_CONTROL: libc::c_int = 2;
/// `_IOWR('N', 3, struct ctl_info)`: its size is part of the number.
const CTLIOCGINFO: libc::c_ulong = 0xc064_4e03;
const _: () = assert!(size_of::<CtlInfo>() == 0x64);

/// `struct ctl_info`.
#[repr(C)]
struct CtlInfo {
    id: u32,
    name: [u8; 96],
}

/// `struct sockaddr_ctl`.
#[repr(C)]
#[derive(Default)]
struct ControlAddress {
    length: u8,
    family: u8,
    system: u16,
    id: u32,
    unit: u32,
    reserved: [u32; 5],
}
const _: () = assert!(size_of::<ControlAddress>() == 32);

/// Of `net/if_utun.h`, which no SDK has.
const UTUN_OPT_MAX_PENDING_PACKETS: libc::c_int = 16;

/// Descriptors that are looked at. An extension has some dozens, and makes its TUN before its sockets.
const DESCRIPTORS: RawFd = 1024;
/// Packets that may wait in the kernel to be read. Its own number is 1: a read, then flow control, for each packet.
const PENDING_PACKETS: u32 = 128;
/// The room for them, at the largest MTU that utun is quick with (4064): what the kernel gives by itself, unless whoever
/// made the TUN had other wishes. Not memory of the process.
const RECEIVE_BYTES: usize = 512 * 1024;

/// A duplicate of the TUN that the system has made for this process; `None` when it has made none.
///
/// Of several, the one with the highest unit: a process that outlives a run may be left with the TUN of that one, which
/// keeps its unit, so that the next gets a higher one.
pub(crate) fn find_tun() -> Option<OwnedFd> {
    let (_, utun) = (0..DESCRIPTORS).filter_map(|fd| Some((utun_unit(fd)?, fd))).max()?;
    // SAFETY: the descriptor was open just now, and belongs to the provider's packet flow, which keeps it.
    let utun = unsafe { BorrowedFd::borrow_raw(utun) };
    utun.try_clone_to_owned().ok()
}

/// Lets a batch of packets wait in the kernel, so that one wake-up reads all of them.
pub(crate) fn prepare_tun(tun: BorrowedFd<'_>) -> io::Result<()> {
    super::unix::set_option(tun, SYSPROTO_CONTROL, UTUN_OPT_MAX_PENDING_PACKETS, PENDING_PACKETS)?;
    socket2::SockRef::from(&tun).set_recv_buffer_size(RECEIVE_BYTES)
}

/// The unit of a utun, one more than the number in its name; `None` for any other descriptor.
fn utun_unit(fd: RawFd) -> Option<u32> {
    let mut peer = ControlAddress::default();
    let mut length = libc::socklen_t::try_from(size_of::<ControlAddress>()).ok()?;
    // SAFETY: `peer` is writable for `length` bytes for the call; a number that is no socket is an error.
    let status = unsafe { libc::getpeername(fd, (&raw mut peer).cast(), &raw mut length) };
    let is_control = status == 0 && libc::c_int::from(peer.family) == libc::AF_SYSTEM;
    (is_control && control_id(fd) == Some(peer.id)).then_some(peer.unit)
}

/// The number that the kernel has given to the utun control, asked through any socket of that family.
fn control_id(fd: RawFd) -> Option<u32> {
    let mut info = CtlInfo { id: 0, name: [0; 96] };
    info.name[..UTUN_CONTROL.len()].copy_from_slice(UTUN_CONTROL);
    // SAFETY: CTLIOCGINFO reads and writes one ctl_info, which lives for the call.
    let status = unsafe { libc::ioctl(fd, CTLIOCGINFO, &raw mut info) };
    (status == 0).then_some(info.id)
}
