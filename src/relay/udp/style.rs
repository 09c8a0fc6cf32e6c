//! What is known of a server's way with datagrams.

use std::sync::atomic::{AtomicU8, Ordering};

const UNKNOWN: u8 = 0;
const PACKET: u8 = 1;
const CONNECT_ONLY: u8 = 2;

/// What is known of a server's way with datagrams: nothing at first. Shared by all associations with it.
///
/// A server counts as one of connect mode only when it has closed a stream in packet mode, and then answered the
/// same datagram in connect mode: a stream is also closed where a datagram's destination is not allowed, or
/// stays silent.
#[derive(Debug, Default)]
pub struct Style(AtomicU8);

impl Style {
    /// Whether the server has shown that it does connect mode and not packet mode.
    pub fn is_connect_only(&self) -> bool {
        self.0.load(Ordering::Relaxed) == CONNECT_ONLY
    }

    /// Whether a datagram has come back in packet mode.
    pub fn is_packet(&self) -> bool {
        self.0.load(Ordering::Relaxed) == PACKET
    }

    pub(in crate::relay) fn set_packet(&self) {
        if !self.is_packet() {
            self.0.store(PACKET, Ordering::Relaxed);
        }
    }

    /// Unless it was seen to do packet mode.
    pub(super) fn set_connect_only(&self) {
        let set = self.0.compare_exchange(UNKNOWN, CONNECT_ONLY, Ordering::Relaxed, Ordering::Relaxed);
        if set.is_ok() {
            tracing::info!("the server carries datagrams to one destination a stream only");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packet_mode_that_was_seen_stays() {
        let style = Style::default();
        assert!(!style.is_packet() && !style.is_connect_only());
        style.set_connect_only();
        assert!(style.is_connect_only());
        style.set_packet();
        style.set_connect_only();
        assert!(style.is_packet() && !style.is_connect_only());
    }
}
