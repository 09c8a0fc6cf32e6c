//! A bad network, repeatable: loss, duplication, reordering and delay from a seed.

mod line;

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::time::Sleep;

use self::line::Line;
use super::{Device, SendError};
use crate::clock::Clock;
use crate::proto::timers::{Moment, earliest};

/// What happens to the packets of one direction. The default is nothing.
///
/// The probabilities are 0.0 to 1.0, drawn for each packet and apart from each other.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Impairment {
    /// How probably a packet is lost.
    pub loss: f64,
    /// How probably a packet comes twice.
    pub duplication: f64,
    /// How probably a packet is held back until some later ones have passed it, or 20 ms.
    pub reordering: f64,
    /// How long every packet travels.
    pub delay: Duration,
}

/// A device behind a bad network. The same seed and packets give the same fate, packet by packet.
///
/// Delays run on tokio's clock, so virtual time moves them. Packets that are late in either direction
/// travel on while [`Device::poll_recv`] is polled, or waited for.
#[derive(Debug)]
pub struct Impaired<D> {
    device: D,
    inbound: Line,
    outbound: Line,
    timer: Option<Pin<Box<Sleep>>>,
    reader: Option<Waker>,
}

impl<D: Device> Impaired<D> {
    /// Puts `device` behind a network that treats received packets as `inbound` says, and sent ones as
    /// `outbound` does.
    pub fn new(device: D, seed: u64, inbound: Impairment, outbound: Impairment) -> Self {
        // Each direction draws from a generator of its own, so that their interleaving changes nothing.
        let mut seeds = StdRng::seed_from_u64(seed);
        let inbound = Line::new(inbound, StdRng::from_rng(&mut seeds));
        let outbound = Line::new(outbound, StdRng::from_rng(&mut seeds));
        Self { device, inbound, outbound, timer: None, reader: None }
    }

    /// Sends what has arrived at the far end of the outbound line.
    fn flush(&mut self, now: Moment) -> Result<(), SendError> {
        let mut result = Ok(());
        while let Some(packet) = self.outbound.pop(now) {
            result = self.device.send(&packet);
            if matches!(result, Err(SendError::Gone(_))) {
                break;
            }
        }
        result
    }
}

impl<D: Device> Device for Impaired<D> {
    fn mtu(&self) -> usize {
        self.device.mtu()
    }

    fn poll_recv(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        loop {
            let now = Clock::Tokio.now();
            if let Err(SendError::Gone(error)) = self.flush(now) {
                return Poll::Ready(Err(error));
            }
            if let Some(packet) = self.inbound.pop(now) {
                let length = packet.len().min(buf.len());
                buf[..length].copy_from_slice(&packet[..length]);
                return Poll::Ready(Ok(length));
            }
            if !self.inbound.is_full()
                && let Poll::Ready(length) = self.device.poll_recv(cx, buf)?
            {
                self.inbound.push(&buf[..length], now);
                continue;
            }
            self.reader = Some(cx.waker().clone());
            let Some(due) = earliest(self.inbound.next_due(), self.outbound.next_due()) else {
                return Poll::Pending;
            };
            let timer = self.timer.insert(Box::pin(tokio::time::sleep(due.since(now))));
            ready!(timer.as_mut().poll(cx));
        }
    }

    fn send(&mut self, packet: &[u8]) -> Result<(), SendError> {
        if self.outbound.is_full() {
            return Err(SendError::Dropped);
        }
        let now = Clock::Tokio.now();
        self.outbound.push(packet, now);
        let result = self.flush(now);
        // The reader's timer may be set for later than this packet, or for never.
        if self.outbound.next_due().is_some()
            && let Some(reader) = self.reader.take()
        {
            reader.wake();
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;
    use crate::tun::{ChannelDevice, pair};

    const NONE: Impairment =
        Impairment { loss: 0.0, duplication: 0.0, reordering: 0.0, delay: Duration::ZERO };
    const SLOW: Impairment = Impairment { delay: Duration::from_millis(50), ..NONE };

    fn impaired(inbound: Impairment, outbound: Impairment) -> (Impaired<ChannelDevice>, ChannelDevice) {
        let (near, far) = pair(1500);
        (Impaired::new(near, 7, inbound, outbound), far)
    }

    async fn recv(device: &mut impl Device) -> Vec<u8> {
        let mut buf = [0; 1500];
        let length = poll_fn(|cx| device.poll_recv(cx, &mut buf)).await.unwrap();
        buf[..length].to_vec()
    }

    #[tokio::test(start_paused = true)]
    async fn unimpaired_device_passes_everything_at_once() {
        let (mut device, mut far) = impaired(NONE, NONE);
        let start = Clock::Tokio.now();
        for number in 0..200 {
            far.send(&[number]).unwrap();
            device.send(&[number, number]).unwrap();
        }
        for number in 0..200 {
            assert_eq!(recv(&mut device).await, [number]);
            assert_eq!(far.recv().await.unwrap(), [number, number]);
        }
        assert_eq!(Clock::Tokio.now(), start);
    }

    #[tokio::test(start_paused = true)]
    async fn received_packets_are_delayed() {
        let (mut device, mut far) = impaired(SLOW, NONE);
        let start = Clock::Tokio.now();
        far.send(&[1]).unwrap();
        far.send(&[2]).unwrap();
        assert_eq!(recv(&mut device).await, [1]);
        assert_eq!(recv(&mut device).await, [2]);
        let travelled = Clock::Tokio.now().since(start);
        assert!((SLOW.delay..SLOW.delay * 2).contains(&travelled), "{travelled:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn packet_sent_while_the_reader_waits_is_delayed_and_leaves() {
        let (device, mut far) = impaired(NONE, SLOW);
        let device = std::cell::RefCell::new(device);
        let start = Clock::Tokio.now();
        let mut buf = [0; 1500];
        // The reader is polled first and finds nothing to wait for.
        tokio::select! {
            biased;
            _ = poll_fn(|cx| device.borrow_mut().poll_recv(cx, &mut buf)) => panic!("nothing was sent here"),
            packet = async {
                device.borrow_mut().send(&[3]).unwrap();
                far.recv().await.unwrap()
            } => assert_eq!(packet, [3]),
        }
        let travelled = Clock::Tokio.now().since(start);
        assert!((SLOW.delay..SLOW.delay * 2).contains(&travelled), "{travelled:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn full_line_drops_what_is_sent_and_stops_reading() {
        let (mut device, mut far) = impaired(SLOW, SLOW);
        for _ in 0..line::LINE_PACKETS {
            device.send(&[1]).unwrap();
        }
        assert!(matches!(device.send(&[2]), Err(SendError::Dropped)));

        let mut sent = 0;
        for _ in 0..2 * line::LINE_PACKETS {
            sent += usize::from(far.send(&[3]).is_ok());
            let polled = poll_fn(|cx| Poll::Ready(device.poll_recv(cx, &mut [0; 1])));
            assert!(tokio::task::unconstrained(polled).await.is_pending());
        }
        assert!((line::LINE_PACKETS..2 * line::LINE_PACKETS).contains(&sent), "{sent}");
        for _ in 0..sent {
            assert_eq!(recv(&mut device).await, [3]);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn gone_device_is_gone_for_reader_and_sender() {
        let (mut device, far) = impaired(SLOW, SLOW);
        device.send(&[1]).unwrap();
        drop(far);
        let mut buf = [0; 1500];
        poll_fn(|cx| device.poll_recv(cx, &mut buf)).await.unwrap_err();
        let (mut device, far) = impaired(NONE, NONE);
        drop(far);
        assert!(matches!(device.send(&[1]), Err(SendError::Gone(_))));
    }
}
