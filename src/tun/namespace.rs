//! A network apart, for the demo and the tests.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::panic;
use std::path::Path;
use std::thread;

use crate::platform;

/// A network with interfaces, addresses and routes of its own, at first only a loopback one.
///
/// It goes away with this handle and the last socket, TUN and thread in it. Linux only, and only with
/// CAP_SYS_ADMIN.
#[derive(Debug)]
pub struct NetworkNamespace(OwnedFd);

impl NetworkNamespace {
    /// Makes a new, empty network. The calling thread stays in the one it is in.
    ///
    /// # Errors
    /// `PermissionDenied` without CAP_SYS_ADMIN, `Unsupported` on a phone.
    pub fn new() -> io::Result<Self> {
        on_own_thread(platform::unshare_network)?.map(Self)
    }

    /// A network that exists already, by its file: `/run/netns/NAME` where `ip netns` keeps it.
    ///
    /// # Errors
    /// When the file cannot be opened. That it is a network's shows when something is to run in it.
    pub fn open(file: &Path) -> io::Result<Self> {
        File::open(file).map(|file| Self(file.into()))
    }

    /// Runs `work` in the network, on a thread of its own, and waits for its result.
    ///
    /// Sockets, TUNs, threads and processes that `work` makes belong to the network, and those that it
    /// returns stay there. A panic in `work` goes on in the caller.
    ///
    /// # Errors
    /// When there is no thread to be had, or no way into the network.
    pub fn run<R: Send>(&self, work: impl FnOnce() -> R + Send) -> io::Result<R> {
        on_own_thread(|| {
            platform::enter_network(self.0.as_fd())?;
            Ok(work())
        })?
    }

    /// A network for a test, or a line saying why the test is skipped.
    #[cfg(test)]
    pub(crate) fn for_test() -> Option<Self> {
        match Self::new() {
            Ok(namespace) => Some(namespace),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                println!("skipped: needs root");
                None
            }
            Err(error) => panic!("no network namespace: {error}"),
        }
    }
}

/// A thread can leave its network only for good, so the ones that do are thrown away.
fn on_own_thread<R: Send>(work: impl FnOnce() -> R + Send) -> io::Result<R> {
    thread::scope(|scope| {
        let thread = thread::Builder::new().name("namespace".to_owned()).spawn_scoped(scope, work)?;
        Ok(thread.join().unwrap_or_else(|payload| panic::resume_unwind(payload)))
    })
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn port_taken_outside_is_free_inside() {
        let Some(namespace) = NetworkNamespace::for_test() else { return };
        let outside = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = outside.local_addr().unwrap();
        let inside = namespace.run(|| TcpListener::bind(address)).unwrap().unwrap();
        let client = namespace.run(|| TcpStream::connect(address)).unwrap().unwrap();
        let (_, peer) = inside.accept().unwrap();
        assert_eq!(peer, client.local_addr().unwrap());
    }

    #[test]
    fn calling_thread_stays_where_it_is() {
        let here = || std::fs::read_link("/proc/thread-self/ns/net").unwrap();
        let before = here();
        let Some(namespace) = NetworkNamespace::for_test() else { return };
        let inside = namespace.run(here).unwrap();
        assert_ne!(inside, before);
        assert_eq!(here(), before);
        assert_eq!(namespace.run(here).unwrap(), inside);
    }

    #[test]
    fn opened_namespace_is_the_one_behind_the_file() {
        let Some(namespace) = NetworkNamespace::for_test() else { return };
        let opened = namespace.run(|| NetworkNamespace::open(Path::new("/proc/thread-self/ns/net")));
        let here = || std::fs::read_link("/proc/thread-self/ns/net").unwrap();
        assert_eq!(opened.unwrap().unwrap().run(here).unwrap(), namespace.run(here).unwrap());
        assert!(NetworkNamespace::open(Path::new("/dev/null")).unwrap().run(here).is_err());
    }

    #[test]
    #[should_panic(expected = "from inside")]
    fn panic_inside_goes_on_outside() {
        let Some(namespace) = NetworkNamespace::for_test() else { panic!("from inside, skipped") };
        namespace.run(|| panic!("from inside")).unwrap();
    }
}
