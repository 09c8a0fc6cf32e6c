//! File descriptors that apps hand over as numbers.

use std::os::fd::{IntoRawFd, OwnedFd, RawFd};

use super::TunnelError;
use crate::platform;
use crate::tun::adopt;

/// A file descriptor, handed over: Android's `detachFd()`, a `dup` elsewhere. Whatever comes of the call that
/// takes it, nobody else may use or close it any more.
///
/// It is taken over when the call's arguments are read, before any future is polled: a call that is
/// cancelled at once closes it as well.
#[derive(Debug)]
pub struct Descriptor(OwnedFd);

uniffi::custom_type!(Descriptor, i32, {
    try_lift: |number| Ok(Descriptor::adopt(number)?),
    lower: |descriptor| descriptor.0.into_raw_fd(),
});

impl Descriptor {
    fn adopt(number: RawFd) -> Result<Self, TunnelError> {
        let bad = |error: std::io::Error| TunnelError::Descriptor { reason: error.to_string() };
        adopt(number).map(Self).map_err(bad)
    }
}

/// A duplicate of the TUN that the system has made for this process's packet tunnel provider, to hand to
/// `start`; null when there is none. Apple's systems alone hide it; elsewhere always null.
#[uniffi::export]
pub fn find_tun() -> Option<Descriptor> {
    platform::find_tun().map(Descriptor)
}

impl From<OwnedFd> for Descriptor {
    fn from(fd: OwnedFd) -> Self {
        Self(fd)
    }
}

impl From<Descriptor> for OwnedFd {
    fn from(descriptor: Descriptor) -> Self {
        descriptor.0
    }
}
