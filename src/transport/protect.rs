//! Keeping our own sockets out of the tunnel.

use std::os::fd::BorrowedFd;

use crate::platform::socket;

/// Keeps a socket out of the tunnel, so that the tunnel's own traffic does not run in circles.
pub trait Protect: Send + Sync + 'static {
    /// Called for every socket before it is bound or connected; blocks the dial, so it must be short.
    ///
    /// # Errors
    /// Fail the whole dial: the socket is closed without having sent anything.
    fn protect(&self, socket: BorrowedFd<'_>) -> Result<(), ProtectError>;
}

/// Why a socket was not protected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtectError {
    /// The app's hook said no, as Android's does when the VPN is not prepared or was revoked.
    #[error("the app refused")]
    Refused,
    /// The hook itself failed: it threw, or a system call did.
    #[error("{0}")]
    Failed(String),
}

/// Nothing to protect from: another routing keeps our sockets out, or there is no tunnel.
#[derive(Clone, Copy, Debug)]
pub struct NoProtect;

impl Protect for NoProtect {
    fn protect(&self, _: BorrowedFd<'_>) -> Result<(), ProtectError> {
        Ok(())
    }
}

/// Marks packets (`SO_MARK`) for policy routing. Linux and Android; needs `CAP_NET_ADMIN`.
#[derive(Clone, Copy, Debug)]
pub struct Mark(pub u32);

impl Protect for Mark {
    fn protect(&self, socket: BorrowedFd<'_>) -> Result<(), ProtectError> {
        socket::set_mark(socket, self.0).map_err(|error| ProtectError::Failed(format!("SO_MARK: {error}")))
    }
}

/// Binds sockets to a network interface (`SO_BINDTODEVICE`). Linux and Android.
#[derive(Clone, Debug)]
pub struct BindToDevice(pub String);

impl Protect for BindToDevice {
    fn protect(&self, socket: BorrowedFd<'_>) -> Result<(), ProtectError> {
        socket::bind_to_device(socket, &self.0)
            .map_err(|error| ProtectError::Failed(format!("SO_BINDTODEVICE {}: {error}", self.0)))
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn a_device_that_does_not_exist_is_a_failure_that_names_it() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let Err(ProtectError::Failed(why)) = BindToDevice("no-such-device".into()).protect(socket.as_fd())
        else {
            panic!("bound to a device that does not exist");
        };
        assert!(why.contains("no-such-device"), "{why}");
    }
}
