//! A TUN of our own, where the system lets a program make one.

use std::io;
use std::net::IpAddr;
use std::os::fd::{BorrowedFd, OwnedFd};

use crate::platform;

/// The interface that [`open`] makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TunOptions {
    /// Its name, 1 to 15 bytes; no interface may have it yet.
    pub name: String,
    /// The largest packet, in bytes; at least 1280 with an IPv6 address.
    pub mtu: u16,
    /// Its addresses, each with the prefix length of its network.
    pub addresses: Vec<(IpAddr, u8)>,
}

/// Why there is no TUN.
#[derive(Debug, thiserror::Error)]
pub enum OpenTunError {
    /// Android or Apple: their VPN service makes the TUN.
    #[error("this system's VPN service makes the TUN")]
    Unsupported,
    /// The name is not one an interface can have.
    #[error("{0:?} cannot be an interface's name")]
    InvalidName(String),
    /// The system has no TUN driver.
    #[error("no TUN driver: /dev/net/tun is missing")]
    NoDriver(#[source] io::Error),
    /// Making an interface needs root or CAP_NET_ADMIN.
    #[error("no permission to make a TUN")]
    NoPermission(#[source] io::Error),
    /// Another interface has that name.
    #[error("an interface named {0:?} exists")]
    NameTaken(String),
    /// The TUN could not be made, for another reason.
    #[error("TUN not made")]
    Create(#[source] io::Error),
    /// The interface was made, refused a setting, and is gone again.
    #[error("interface refused {setting}")]
    Configure {
        /// What was set.
        setting: String,
        /// What the system said.
        source: io::Error,
    },
}

/// Packets that wait for the tunnel's thread. The kernel's own 500 are one burst of an app that asks for 500
/// names at once, and what it drops of UDP nobody sends again for seconds.
const QUEUE_PACKETS: u32 = 2000;

/// Makes a TUN, gives it its addresses and starts it, in the network of the calling thread.
///
/// It goes away with the last duplicate of the descriptor, which [`FdDevice`](super::FdDevice) takes.
/// Nothing but the networks of its addresses is routed to it: see [`add_route`].
///
/// # Errors
/// See [`OpenTunError`].
pub fn open(options: &TunOptions) -> Result<OwnedFd, OpenTunError> {
    let TunOptions { name, mtu, addresses } = options;
    if !is_interface_name(name) {
        return Err(OpenTunError::InvalidName(name.clone()));
    }
    let tun = platform::create_tun(name).map_err(|error| match error.kind() {
        io::ErrorKind::Unsupported => OpenTunError::Unsupported,
        io::ErrorKind::NotFound => OpenTunError::NoDriver(error),
        io::ErrorKind::PermissionDenied => OpenTunError::NoPermission(error),
        io::ErrorKind::ResourceBusy => OpenTunError::NameTaken(name.clone()),
        _ => OpenTunError::Create(error),
    })?;
    platform::set_interface_mtu(name, *mtu).map_err(refused(|| format!("MTU {mtu}")))?;
    platform::set_interface_queue(name, QUEUE_PACKETS).map_err(refused(|| "a longer queue".to_owned()))?;
    for (address, prefix) in addresses {
        platform::add_interface_address(name, *address, *prefix)
            .map_err(refused(|| format!("address {address}/{prefix}")))?;
    }
    platform::set_interface_up(name, true).map_err(refused(|| "to start".to_owned()))?;
    Ok(tun)
}

/// Routes a network through interface `name`; `0.0.0.0/0` and `::/0` are the default routes.
///
/// # Errors
/// What the system says: `AlreadyExists` when the network has such a route.
pub fn add_route(name: &str, (network, prefix): (IpAddr, u8)) -> io::Result<()> {
    platform::add_route(name, network, prefix)
}

/// The name of the interface that a TUN's packets pass. Linux outside Android.
///
/// # Errors
/// When the descriptor is not a TUN; on a phone.
pub fn interface_name(tun: BorrowedFd<'_>) -> io::Result<String> {
    platform::tun_name(tun)
}

fn refused(setting: impl FnOnce() -> String) -> impl FnOnce(io::Error) -> OpenTunError {
    |source| OpenTunError::Configure { setting: setting(), source }
}

/// Whether the kernel takes `name` as it is: `%` would make it a pattern, and these are path parts.
fn is_interface_name(name: &str) -> bool {
    (1..=15).contains(&name.len())
        && !matches!(name, "." | "..")
        && name.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'/' | b':' | b'%'))
}

/// A network for a test that makes TUNs, or a line saying why the test is skipped.
#[cfg(test)]
pub(crate) fn namespace_for_test() -> Option<super::NetworkNamespace> {
    let namespace = super::NetworkNamespace::for_test()?;
    match namespace.run(|| platform::create_tun("probe")).unwrap() {
        Ok(_) => Some(namespace),
        Err(error) => {
            println!("skipped: needs /dev/net/tun ({error})");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::net::UdpSocket;
    use std::os::fd::AsFd;
    use std::time::Duration;

    use super::*;
    use crate::tun::{Device, FdDevice};

    fn options() -> TunOptions {
        let addresses = vec![("10.9.0.1".parse().unwrap(), 24), ("fd09::1".parse().unwrap(), 64)];
        TunOptions { name: "tun-test".to_owned(), mtu: 9000, addresses }
    }

    fn inside<R: Send>(work: impl FnOnce() -> R + Send) -> Option<R> {
        Some(namespace_for_test()?.run(work).unwrap())
    }

    fn read(path: &str) -> String {
        std::fs::read_to_string(path).unwrap()
    }

    #[test]
    fn addresses_prefixes_and_mtu_are_as_asked() {
        inside(|| {
            let _tun = open(&options()).unwrap();
            UdpSocket::bind("10.9.0.1:0").unwrap();
            UdpSocket::bind("[fd09::1]:0").unwrap();
            // interface, network, gateway, flags (up), … mask: in host byte order
            let routes = read("/proc/thread-self/net/route");
            let route: Vec<&str> = routes.lines().nth(1).unwrap().split_whitespace().collect();
            let network = u32::from_ne_bytes([10, 9, 0, 0]);
            let mask = u32::from_ne_bytes([255, 255, 255, 0]);
            assert_eq!(route[..4], ["tun-test", &format!("{network:08X}"), "00000000", "0001"]);
            assert_eq!(route[7], format!("{mask:08X}"));
            // address, interface, prefix, …
            let addresses = read("/proc/thread-self/net/if_inet6");
            let address = addresses.lines().find(|line| line.starts_with("fd09")).unwrap();
            assert_eq!(address.split_whitespace().nth(2), Some("40"), "{address}");
            assert_eq!(read("/proc/sys/net/ipv6/conf/tun-test/mtu").trim(), "9000");
        });
    }

    #[test]
    fn a_burst_waits_until_it_is_read() {
        inside(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let mut tun = runtime.block_on(async { FdDevice::new(open(&options()).unwrap(), 9000) }).unwrap();
            let socket = UdpSocket::bind("10.9.0.1:0").unwrap();
            for number in 0..QUEUE_PACKETS - 10 {
                // The kernel sends some packets of its own.
                socket.send_to(&number.to_ne_bytes(), "10.9.0.2:9").unwrap();
            }
            let all = async {
                for _ in 0..QUEUE_PACKETS - 10 {
                    poll_fn(|cx| tun.poll_recv(cx, &mut [0; 2000])).await.unwrap();
                }
            };
            let in_time =
                runtime.block_on(async { tokio::time::timeout(Duration::from_secs(10), all).await });
            in_time.expect("none is lost");
        });
    }

    #[test]
    fn default_route_leads_through_the_interface() {
        inside(|| {
            let _tun = open(&options()).unwrap();
            for (socket, far, default) in
                [("0.0.0.0:0", "192.0.2.1:9", "0.0.0.0"), ("[::]:0", "[2001:db8::1]:9", "::")]
            {
                let socket = UdpSocket::bind(socket).unwrap();
                let default = (default.parse().unwrap(), 0);
                assert_eq!(socket.connect(far).unwrap_err().kind(), io::ErrorKind::NetworkUnreachable);
                add_route("tun-test", default).unwrap();
                socket.connect(far).unwrap();
                let again = add_route("tun-test", default).unwrap_err();
                assert_eq!(again.kind(), io::ErrorKind::AlreadyExists);
            }
        });
    }

    #[test]
    fn open_tun_knows_its_name_and_another_file_has_none() {
        inside(|| {
            let tun = open(&options()).unwrap();
            assert_eq!(interface_name(tun.as_fd()).unwrap(), "tun-test");
            let file = std::fs::File::open("/dev/null").unwrap();
            interface_name(file.as_fd()).unwrap_err();
        });
    }

    #[test]
    fn name_in_use_is_refused() {
        inside(|| {
            let _tun = open(&options()).unwrap();
            let error = open(&options()).unwrap_err();
            assert!(matches!(error, OpenTunError::NameTaken(name) if name == "tun-test"));
        });
    }

    #[test]
    fn refused_setting_is_named_and_leaves_no_interface() {
        inside(|| {
            let mut small = options();
            small.mtu = 60;
            let error = open(&small).unwrap_err();
            assert_eq!(error.to_string(), "interface refused MTU 60");
            let mut wide = options();
            wide.addresses = vec![("10.9.0.1".parse().unwrap(), 33)];
            let error = open(&wide).unwrap_err();
            assert_eq!(error.to_string(), "interface refused address 10.9.0.1/33");
            open(&options()).unwrap();
        });
    }

    #[test]
    fn name_that_no_interface_can_have_is_refused() {
        for name in ["", ".", "..", "a/b", "a b", "tun%d", "a:1", "sixteen-bytes-ab", "tün0", "a\0b"] {
            let error = open(&TunOptions { name: name.to_owned(), ..options() }).unwrap_err();
            assert!(matches!(error, OpenTunError::InvalidName(_)), "{name:?}: {error}");
        }
    }
}
