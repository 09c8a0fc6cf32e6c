//! What differs between operating systems: the only `cfg(target_os)`. Each file exports the same names.

#[cfg(target_os = "android")]
mod android;
#[cfg(any(target_os = "ios", target_os = "macos"))]
mod apple;
#[cfg(not(any(target_os = "android", target_os = "ios", target_os = "macos")))]
mod host;

pub(crate) mod heap;
#[cfg(any(target_os = "ios", target_os = "macos"))]
mod kernel_control;
mod line;
mod lookup;
pub(crate) mod memory;
#[cfg(any(target_os = "android", target_os = "ios", target_os = "macos"))]
mod phone;
#[cfg(not(any(target_os = "ios", target_os = "macos")))]
mod plain_tun;
mod priority;
pub(crate) mod socket;
mod unix;
#[cfg(any(target_os = "ios", target_os = "macos", test))]
mod utun;
mod way;

#[cfg(target_os = "android")]
pub(crate) use android::*;
#[cfg(any(target_os = "ios", target_os = "macos"))]
pub(crate) use apple::*;
#[cfg(not(any(target_os = "android", target_os = "ios", target_os = "macos")))]
pub(crate) use host::*;
pub(crate) use line::Lines;
pub(crate) use lookup::lookup;
pub(crate) use priority::prefer_this_thread;
pub(crate) use unix::set_nonblocking;
pub(crate) use way::Way;
