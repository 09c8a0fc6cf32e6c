//! How flows end, and what a stream's user sees of it.

use std::io;

/// How a flow ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::netstack) enum End {
    /// Both sides have sent and acknowledged their FIN, or our side gave it up.
    Clean,
    /// The app reset it, or forgot it and uses the same port again.
    Reset,
    /// The app did not answer for [`PATIENCE`](super::flow::PATIENCE).
    Unanswered,
    /// Memory was critically short, and this flow idle.
    Shed,
    /// The stack was stopped.
    Stopped,
    /// The device is gone.
    DeviceGone,
}

impl End {
    /// What a stream's user sees of it.
    pub(super) fn check(end: Option<Self>) -> io::Result<()> {
        match end {
            None | Some(Self::Clean) => Ok(()),
            Some(Self::Reset) => Err(io::ErrorKind::ConnectionReset.into()),
            Some(Self::Unanswered) => Err(io::ErrorKind::TimedOut.into()),
            Some(Self::Shed) => {
                Err(io::Error::new(io::ErrorKind::ConnectionAborted, "idle, and memory is short"))
            }
            Some(Self::Stopped) => {
                Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the network stack was stopped"))
            }
            Some(Self::DeviceGone) => {
                Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the packet device is gone"))
            }
        }
    }
}
