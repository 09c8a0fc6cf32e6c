//! What Android and Apple keep to the OS: their VPN service makes the TUN and configures it, and the app
//! hears of networks from them.

use std::io;
use std::net::IpAddr;
use std::os::fd::{BorrowedFd, OwnedFd};

use super::Way;

pub(crate) fn create_tun(_name: &str) -> io::Result<OwnedFd> {
    Err(io::ErrorKind::Unsupported.into())
}

pub(crate) fn tun_name(_tun: BorrowedFd<'_>) -> io::Result<String> {
    Err(io::ErrorKind::Unsupported.into())
}

pub(crate) fn set_interface_mtu(_name: &str, _mtu: u16) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

pub(crate) fn set_interface_queue(_name: &str, _packets: u32) -> io::Result<()> {
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

/// None can be made.
#[derive(Debug)]
pub(crate) enum RouteWatch {}

impl RouteWatch {
    pub(crate) fn new() -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(crate) async fn changed(&self) -> io::Result<()> {
        match *self {}
    }

    pub(crate) fn way_to(
        &mut self,
        _destination: IpAddr,
        _mark: Option<u32>,
        _interface: Option<&str>,
    ) -> io::Result<Option<Way>> {
        match *self {}
    }
}
