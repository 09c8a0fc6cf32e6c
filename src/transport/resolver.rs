//! Asking for the server's addresses.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::budget::MAX_LOOKUPS;
use crate::platform;

/// The answer to come; dropping it gives the lookup up.
pub type Lookup = Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>>;

/// Turns the server's name into addresses, in the order of preference, without going through the tunnel.
pub trait Resolve: Send + Sync + 'static {
    /// Starts a lookup of `host`: a name, and on Apple's systems an IPv4 address as well, which has another form on
    /// networks without IPv4.
    fn resolve(&self, host: &str, port: u16) -> Lookup;
}

/// Lookups that block their thread, on tokio's threads for such, a few at once.
///
/// One cannot be stopped, and on a dead network it holds its thread for up to half a minute: some may hang
/// without keeping the next network's lookup from starting, and no more than that.
#[derive(Clone, Debug)]
pub struct BlockingLookups {
    gate: Arc<Semaphore>,
}

impl Default for BlockingLookups {
    fn default() -> Self {
        Self { gate: Arc::new(Semaphore::new(MAX_LOOKUPS)) }
    }
}

impl BlockingLookups {
    /// Starts one.
    pub fn run(&self, lookup: impl FnOnce() -> io::Result<Vec<SocketAddr>> + Send + 'static) -> Lookup {
        let gate = Arc::clone(&self.gate);
        Box::pin(async move {
            let permit = gate.acquire_owned().await.map_err(io::Error::other)?;
            #[allow(clippy::disallowed_methods)] // it blocks whatever we do; the gate bounds how many do
            let lookup = tokio::task::spawn_blocking(move || {
                // Held by the thread and not by the future, which may be dropped long before.
                let _permit = permit;
                lookup()
            });
            lookup.await.map_err(io::Error::other)?
        })
    }
}

/// The OS resolver, `getaddrinfo`.
///
/// It asks the way the OS asks for this process; an app whose own lookups would enter the tunnel brings a
/// [`Resolve`] of its own.
#[derive(Clone, Debug, Default)]
pub struct SystemResolver(BlockingLookups);

impl Resolve for SystemResolver {
    fn resolve(&self, host: &str, port: u16) -> Lookup {
        let host = host.to_owned();
        self.0.run(move || platform::lookup(&host, port))
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
