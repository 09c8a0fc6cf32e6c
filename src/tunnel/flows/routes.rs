//! What becomes of what apps open: carried to the server, answered here, or refused.
//!
//! | to | TCP | UDP |
//! |---|---|---|
//! | port 53, any address | answered here | answered here |
//! | port 443 | carried | refused with `block_quic` |
//! | port 853 | refused with `block_dot` | the same |
//! | a fake address | carried to its name, refused when that is forgotten | the same, a stream for each destination |
//! | anything else | carried | carried, one stream for each of the app's sockets |

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::config::Config;
use crate::dns::{FakeName, Resolver};
use crate::netstack::Fate;
use crate::proto::target::{Host, Target};
use crate::relay::udp::Style;

const DNS: u16 = 53;
const DNS_OVER_TLS: u16 = 853;
const HTTPS: u16 = 443;

/// The rules above. They change under the flows that there are, which go on as they began.
pub(in crate::tunnel) struct Routes {
    pub(in crate::tunnel) resolver: Resolver,
    /// What was learned of the server's UDP over TCP.
    style: Mutex<Arc<Style>>,
    block_quic: AtomicBool,
    block_dot: AtomicBool,
}

/// Where a connection goes.
pub(super) enum Route {
    Carry(Target),
    Resolve,
    Refuse,
}

impl Routes {
    pub(in crate::tunnel) fn new(config: &Config, resolver: Resolver) -> Self {
        let routes = Self {
            resolver,
            style: Mutex::default(),
            block_quic: AtomicBool::default(),
            block_dot: AtomicBool::default(),
        };
        routes.set(config);
        routes
    }

    /// Goes by another config from now on.
    pub(in crate::tunnel) fn set(&self, config: &Config) {
        self.block_quic.store(config.tun.block_quic, Ordering::Relaxed);
        self.block_dot.store(config.dns.block_dot, Ordering::Relaxed);
    }

    /// What was learned of the server's UDP over TCP. A relay keeps to that of its own server.
    pub(super) fn style(&self) -> Arc<Style> {
        Arc::clone(&self.lock_style())
    }

    /// Nothing is known of this server yet.
    pub(in crate::tunnel) fn handle_new_server(&self) {
        *self.lock_style() = Arc::default();
    }

    fn lock_style(&self) -> MutexGuard<'_, Arc<Style>> {
        self.style.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where a TCP connection goes.
    pub(super) fn tcp(&self, destination: SocketAddr) -> Route {
        match destination.port() {
            DNS => Route::Resolve,
            DNS_OVER_TLS if self.block_dot.load(Ordering::Relaxed) => Route::Refuse,
            _ => self.target(destination).map_or(Route::Refuse, Route::Carry),
        }
    }

    /// What becomes of a datagram.
    pub(super) fn udp(&self, destination: SocketAddr) -> Fate {
        match destination.port() {
            DNS => Fate::Answer,
            HTTPS if self.block_quic.load(Ordering::Relaxed) => Fate::Refuse,
            DNS_OVER_TLS if self.block_dot.load(Ordering::Relaxed) => Fate::Refuse,
            _ if self.resolver.is_fake(destination.ip()) => Fate::CarryAlone, // refused then, when it is forgotten
            _ if self.lock_style().is_connect_only() => Fate::CarryAlone,
            _ => Fate::Carry,
        }
    }

    /// Where a connection goes that came with a target.
    pub(super) fn named_tcp(&self, target: Target) -> Route {
        match target.host {
            Host::Ip(ip) => self.tcp(SocketAddr::new(ip, target.port)),
            Host::Name(_) => Route::Carry(target),
        }
    }

    /// The target itself, or the name that its address stands for; `None` when that is forgotten.
    pub(in crate::tunnel) fn named(&self, target: Target) -> Option<Target> {
        match target.host {
            Host::Ip(ip) => self.target(SocketAddr::new(ip, target.port)),
            Host::Name(_) => Some(target),
        }
    }

    /// Whom the server is to reach for `destination`; `None` for a fake address whose name is forgotten.
    pub(super) fn target(&self, destination: SocketAddr) -> Option<Target> {
        match self.resolver.fake_name(destination.ip()) {
            FakeName::NotFake => Some(Target::from(destination)),
            FakeName::Name(name) => Some(Target { host: Host::Name(name), port: destination.port() }),
            FakeName::Forgotten => None,
        }
    }
}
