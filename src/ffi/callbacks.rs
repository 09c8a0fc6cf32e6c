//! What the app does for us, and what it is told.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::Event;
use crate::transport::{
    BlockingLookups, Lookup, NoProtect, Outside, Protect, ProtectError, Resolve, SystemResolver,
};

/// What only the app can ask the system for. Called on the tunnel's threads: short, and without waiting for
/// the tunnel.
#[uniffi::export(rust, foreign)]
pub trait Platform: Send + Sync {
    /// Keeps a socket out of the VPN before it connects: Android's `VpnService.protect`. `false` or an exception
    /// fails the dial, and the socket never connects. The socket stays ours.
    fn protect(&self, socket: i32) -> Result<bool, CallbackError>;

    /// The server's addresses, IPv4 and IPv6 in the order of preference, asked for outside the VPN: Android's
    /// `Network.getAllByName`. Null leaves it to the system's resolver. May block: it has a thread of its own.
    fn resolve(&self, host: String) -> Result<Option<Vec<String>>, CallbackError>;
}

/// Takes packets for apps, where the app has no descriptor of the TUN to give: Apple's
/// `NEPacketTunnelFlow.writePacketObjects`. Packets from apps come by `Tunnel.handle_packets`.
#[uniffi::export(rust, foreign)]
pub trait PacketFlow: Send + Sync {
    /// Writes a batch of IP packets to the TUN, without waiting. Called on the tunnel's thread.
    fn write_packets(&self, packets: Vec<Vec<u8>>) -> Result<(), CallbackError>;
}

/// Hears of states and stats, on one thread.
#[uniffi::export(rust, foreign)]
pub trait EventListener: Send + Sync {
    /// Something is new. A slow listener misses states in between, never the last one.
    fn on_event(&self, event: Event) -> Result<(), CallbackError>;
}

/// A callback of the app's has failed. Whatever else it throws is turned into this.
#[derive(Clone, Debug, PartialEq, Eq, uniffi::Error, thiserror::Error)]
pub enum CallbackError {
    /// It did not do what it was asked for.
    #[error("{reason}")]
    Failed {
        /// Why.
        reason: String,
    },
}

impl From<uniffi::UnexpectedUniFFICallbackError> for CallbackError {
    fn from(error: uniffi::UnexpectedUniFFICallbackError) -> Self {
        Self::Failed { reason: error.reason }
    }
}

/// Lets callbacks begin until it is closed, which is when the tunnel has stopped.
#[derive(Debug, Default)]
pub(super) struct Gate {
    state: Mutex<Passing>,
    out: Condvar,
}

#[derive(Debug, Default)]
struct Passing {
    is_closed: bool,
    inside: usize,
}

/// How long a closing gate waits for callbacks that have begun: for those that are short.
const GRACE: Duration = Duration::from_millis(50);

impl Gate {
    /// From now on, no callback begins. One that hangs is left alone.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.is_closed = true;
        drop(self.out.wait_timeout_while(state, GRACE, |state| state.inside > 0));
    }

    /// Runs a callback, if one may begin.
    pub(super) fn pass<T>(
        &self,
        callback: impl FnOnce() -> Result<T, CallbackError>,
    ) -> Result<T, CallbackError> {
        self.enter()?;
        let _inside = Inside(self);
        callback()
    }

    fn enter(&self) -> Result<(), CallbackError> {
        let mut state = self.lock();
        if state.is_closed {
            return Err(CallbackError::Failed { reason: "the tunnel has stopped".to_owned() });
        }
        state.inside += 1;
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Passing> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A callback that runs.
struct Inside<'a>(&'a Gate);

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        self.0.lock().inside -= 1;
        self.0.out.notify_all();
    }
}

/// The app's [`Platform`] for one run of a tunnel.
#[derive(Clone)]
struct Asked {
    platform: Arc<dyn Platform>,
    gate: Arc<Gate>,
    lookups: BlockingLookups,
}

/// How the network is reached beside the tunnel: as the app says, or as any program's sockets do.
pub(super) fn outside(platform: Option<Arc<dyn Platform>>, gate: &Arc<Gate>) -> Outside {
    match platform {
        None => Outside { protect: Arc::new(NoProtect), resolve: Arc::new(SystemResolver::default()) },
        Some(platform) => {
            let asked =
                Arc::new(Asked { platform, gate: Arc::clone(gate), lookups: BlockingLookups::default() });
            Outside { protect: Arc::clone(&asked) as _, resolve: asked }
        }
    }
}

impl Protect for Asked {
    fn protect(&self, socket: BorrowedFd<'_>) -> Result<(), ProtectError> {
        let ask = || self.platform.protect(socket.as_raw_fd());
        // An answer that came too late must not let anything connect.
        let asked = self.gate.pass(ask).and_then(|answer| self.gate.pass(|| Ok(answer)));
        match asked {
            Ok(true) => Ok(()),
            Ok(false) => Err(ProtectError::Refused),
            Err(CallbackError::Failed { reason }) => Err(ProtectError::Failed(reason)),
        }
    }
}

impl Resolve for Asked {
    fn resolve(&self, host: &str, port: u16) -> Lookup {
        let (asked, host) = (self.clone(), host.to_owned());
        self.lookups.run(move || {
            let answer = asked.gate.pass(|| asked.platform.resolve(host.clone()));
            match answer.map_err(io::Error::other)? {
                Some(addresses) => read_addresses(&addresses, port),
                None => (host.as_str(), port).to_socket_addrs().map(Vec::from_iter),
            }
        })
    }
}

/// What of it can be read.
fn read_addresses(texts: &[String], port: u16) -> io::Result<Vec<SocketAddr>> {
    let mut addresses = Vec::new();
    let mut unreadable = None;
    for text in texts {
        match text.parse::<IpAddr>() {
            Ok(address) => addresses.push(SocketAddr::new(address, port)),
            Err(error) => unreadable = Some(io::Error::new(io::ErrorKind::InvalidData, error)),
        }
    }
    unreadable.filter(|_| addresses.is_empty()).map_or(Ok(addresses), Err)
}
