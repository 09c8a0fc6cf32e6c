//! The system's resolver, asked for addresses as well as for names: std answers the former itself. On a network that
//! has IPv6 alone, Apple's turns an IPv4 address into the IPv6 address that leads there (NAT64: RFC 6146, RFC 7050).
#![allow(unsafe_code)]

use std::ffi::{CStr, CString};
use std::io;
use std::net::SocketAddr;
use std::ptr;

use socket2::SockAddr;

/// What Apple's own callers use (`netdb.h`): families that this network has, and the other form of what it has not.
#[cfg(any(target_os = "ios", target_os = "macos"))]
const FLAGS: libc::c_int = 0x0200 | libc::AI_ADDRCONFIG; // AI_V4MAPPED_CFG | AI_ADDRCONFIG
#[cfg(not(any(target_os = "ios", target_os = "macos")))]
const FLAGS: libc::c_int = 0;

/// The addresses of `host`, a name or an address, in the order of preference. Blocks.
pub(crate) fn lookup(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let name = CString::new(host)?;
    // SAFETY: all zeros are a valid value of this plain C struct.
    let mut hints: libc::addrinfo = unsafe { std::mem::zeroed() };
    (hints.ai_socktype, hints.ai_flags) = (libc::SOCK_STREAM, FLAGS);
    let mut list = Answer(ptr::null_mut());
    // SAFETY: the name ends with a zero byte, and all three outlive the call.
    let status = unsafe { libc::getaddrinfo(name.as_ptr(), ptr::null(), &raw const hints, &raw mut list.0) };
    if status != 0 {
        // SAFETY: the message for any status is a constant string of the system's.
        let message = unsafe { CStr::from_ptr(libc::gai_strerror(status)) };
        return Err(io::Error::other(message.to_string_lossy().into_owned()));
    }
    let with_port = |mut address: SocketAddr| {
        address.set_port(port);
        address
    };
    Ok(list.addresses().into_iter().map(with_port).collect())
}

/// What getaddrinfo allocates.
struct Answer(*mut libc::addrinfo);

impl Answer {
    fn addresses(&self) -> Vec<SocketAddr> {
        let mut addresses = Vec::new();
        let mut next = self.0;
        // SAFETY: each pointer of the list is null or valid until the list is freed, which `self` does later.
        while let Some(entry) = unsafe { next.as_ref() } {
            next = entry.ai_next;
            addresses.extend(address(entry));
        }
        addresses
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if !self.0.is_null() {
            // SAFETY: getaddrinfo has allocated the list, and nobody refers to it any more.
            unsafe { libc::freeaddrinfo(self.0) };
        }
    }
}

fn address(entry: &libc::addrinfo) -> Option<SocketAddr> {
    // SAFETY: the closure writes the whole address, whose length it sets.
    let address = unsafe {
        SockAddr::try_init(|storage, length| {
            if entry.ai_addr.is_null() || entry.ai_addrlen > *length {
                return Err(io::ErrorKind::InvalidData.into());
            }
            let bytes = usize::try_from(entry.ai_addrlen).map_err(io::Error::other)?;
            // SAFETY: the system has filled that many bytes, and the storage has room for them.
            ptr::copy_nonoverlapping(entry.ai_addr.cast::<u8>(), storage.cast::<u8>(), bytes);
            *length = entry.ai_addrlen;
            Ok(())
        })
    };
    address.ok()?.1.as_socket()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_and_a_name_are_found() {
        assert_eq!(lookup("127.0.0.1", 443).unwrap(), ["127.0.0.1:443".parse().unwrap()]);
        assert_eq!(lookup("::1", 443).unwrap(), ["[::1]:443".parse().unwrap()]);
        let found = lookup("localhost", 8443).unwrap();
        assert!(!found.is_empty());
        assert!(found.iter().all(|address| address.ip().is_loopback() && address.port() == 8443));
    }

    #[test]
    fn what_is_no_name_is_an_error() {
        assert!(lookup("a\0b", 443).is_err());
        assert!(lookup("", 443).is_err());
    }
}
