//! A relay for every flow that the netstack sees.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::client::{Client, OpenError};
use crate::clock::Clock;
use crate::netstack::{Handler, TcpFlow};
use crate::proto::target::Target;
use crate::relay::tcp::{self, End, Summary};
use crate::task::Tasks;
use crate::transport::Dialer;

/// What the relays have counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlowStats {
    /// Flows seen.
    pub total: u64,
    /// Flows refused because the server did not open their stream.
    pub refused: u64,
    /// Flows that ended with a failure.
    pub failed: u64,
    /// Bytes from apps, of flows that have ended.
    pub up_bytes: u64,
    /// Bytes to apps, of flows that have ended.
    pub down_bytes: u64,
}

/// The same, while they count.
#[derive(Debug, Default)]
pub(super) struct Counters {
    total: AtomicU64,
    refused: AtomicU64,
    failed: AtomicU64,
    up_bytes: AtomicU64,
    down_bytes: AtomicU64,
}

impl Counters {
    pub(super) fn snapshot(&self) -> FlowStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        FlowStats {
            total: read(&self.total),
            refused: read(&self.refused),
            failed: read(&self.failed),
            up_bytes: read(&self.up_bytes),
            down_bytes: read(&self.down_bytes),
        }
    }

    fn count(&self, result: &Result<Summary, OpenError>) {
        match result {
            Ok(Summary { up, down, end }) => {
                self.up_bytes.fetch_add(*up, Ordering::Relaxed);
                self.down_bytes.fetch_add(*down, Ordering::Relaxed);
                if matches!(end, End::Server(_)) {
                    self.failed.fetch_add(1, Ordering::Relaxed);
                }
            }
            Err(_) => {
                self.refused.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

/// Hands every new flow to a relay of its own.
pub(super) struct Relays {
    pub(super) client: Client<Dialer>,
    /// Flows come with their SYN answered.
    pub(super) eager: bool,
    pub(super) tasks: Arc<Tasks>,
    pub(super) counters: Arc<Counters>,
    pub(super) clock: Clock,
}

impl Handler for Relays {
    fn handle_tcp(&mut self, flow: TcpFlow) {
        self.counters.total.fetch_add(1, Ordering::Relaxed);
        let (client, counters) = (self.client.clone(), Arc::clone(&self.counters));
        let (eager, clock) = (self.eager, self.clock);
        self.tasks.spawn("relay", async move {
            let target = Target::from(flow.destination());
            let result = relay(flow, &target, &client, eager, clock).await;
            match &result {
                Ok(summary) => tracing::debug!(%target, ?summary, "flow ended"),
                Err(error) => tracing::debug!(%target, %error, "flow refused"),
            }
            counters.count(&result);
        });
    }
}

/// The app's SYN is answered when the server has opened the stream, unless the flow is open already.
async fn relay(
    flow: TcpFlow,
    target: &Target,
    client: &Client<Dialer>,
    eager: bool,
    clock: Clock,
) -> Result<Summary, OpenError> {
    if eager {
        return tcp::serve(flow.accept(), target, client, clock).await;
    }
    let stream = client.open(target, &[]).await?; // dropping the flow refuses it
    Ok(tcp::join(flow.accept(), stream, 0, target, client, clock).await)
}
