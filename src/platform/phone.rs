//! What Android and Apple keep to the OS: their VPN service makes the TUN and configures it.

use std::io;
use std::net::IpAddr;
use std::os::fd::{BorrowedFd, OwnedFd};

pub(crate) fn create_tun(_name: &str) -> io::Result<OwnedFd> {
    Err(io::ErrorKind::Unsupported.into())
}

pub(crate) fn set_interface_mtu(_name: &str, _mtu: u16) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

pub(crate) fn add_interface_address(_name: &str, _address: IpAddr, _prefix: u8) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

pub(crate) fn set_interface_up(_name: &str, _up: bool) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

pub(crate) fn add_route(_name: &str, _network: IpAddr, _prefix: u8) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

pub(crate) fn unshare_network() -> io::Result<OwnedFd> {
    Err(io::ErrorKind::Unsupported.into())
}

pub(crate) fn enter_network(_namespace: BorrowedFd<'_>) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}
