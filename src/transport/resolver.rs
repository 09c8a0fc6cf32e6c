//! Asking for the server's addresses.

use std::future::Future;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::Semaphore;

/// The answer to come; dropping it gives the lookup up.
pub type Lookup = Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>>;

/// Turns the server's name into addresses, in the order of preference, without going through the tunnel.
pub trait Resolve: Send + Sync + 'static {
    /// Starts a lookup of `host`, which is never an IP address.
    fn resolve(&self, host: &str, port: u16) -> Lookup;
}

/// The OS resolver (`getaddrinfo`) on tokio's blocking threads.
///
/// It asks the way the OS asks for this process; an app whose own lookups would enter the tunnel brings a
/// [`Resolve`] of its own.
#[derive(Clone, Debug)]
pub struct SystemResolver {
    gate: Arc<Semaphore>,
}

/// `getaddrinfo` cannot be stopped, and on a dead network it holds its thread for up to half a minute:
/// some may hang without keeping the next network's lookup from starting, and no more than that.
const MAX_LOOKUPS: usize = 4;

impl Default for SystemResolver {
    fn default() -> Self {
        Self { gate: Arc::new(Semaphore::new(MAX_LOOKUPS)) }
    }
}

impl Resolve for SystemResolver {
    fn resolve(&self, host: &str, port: u16) -> Lookup {
        let (gate, host) = (Arc::clone(&self.gate), host.to_owned());
        Box::pin(async move {
            let permit = gate.acquire_owned().await.map_err(io::Error::other)?;
            #[allow(clippy::disallowed_methods)] // it blocks whatever we do; the gate bounds how many do
            let lookup = tokio::task::spawn_blocking(move || {
                // Held by the thread and not by the future, which may be dropped long before.
                let _permit = permit;
                (host.as_str(), port).to_socket_addrs().map(Vec::from_iter)
            });
            lookup.await.map_err(io::Error::other)?
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_system_knows_localhost() {
        let addresses = SystemResolver::default().resolve("localhost", 443).await.unwrap();
        assert!(!addresses.is_empty());
        assert!(addresses.iter().all(|address| address.ip().is_loopback() && address.port() == 443));
    }
}
