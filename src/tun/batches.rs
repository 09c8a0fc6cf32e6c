//! A TUN that is two calls: batches of packets in, batches of packets out. Apple's `NEPacketTunnelFlow` is one.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use super::{Device, SendError};
use crate::budget::{BATCH_IN_BYTES, BATCH_OUT_BYTES};

/// The device, for a tunnel. Its packets leave through a call of the owner's, once for all of a turn of the
/// network stack.
pub struct BatchDevice {
    mtu: u16,
    inbox: Arc<Inbox>,
    outgoing: Vec<Vec<u8>>,
    outgoing_bytes: usize,
    take: Box<dyn FnMut(Vec<Vec<u8>>) + Send>,
}

/// The way in, for whoever reads the packets. Dropping it is end of file.
#[derive(Debug)]
pub struct BatchInput(Arc<Inbox>);

#[derive(Debug, Default)]
struct Inbox(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    packets: VecDeque<Vec<u8>>,
    bytes: usize,
    is_over: bool,
    reader: Option<Waker>,
}

/// What a packet costs besides its bytes: its place in the queue and the allocator's share.
const PACKET_BYTES: usize = 64;

fn cost(packet: &[u8]) -> usize {
    packet.len() + PACKET_BYTES
}

/// Makes a device whose packets leave by `take`, on the thread of the tunnel, and the way in.
pub fn batches(mtu: u16, take: impl FnMut(Vec<Vec<u8>>) + Send + 'static) -> (BatchDevice, BatchInput) {
    let inbox = Arc::new(Inbox::default());
    let input = BatchInput(Arc::clone(&inbox));
    (BatchDevice { mtu, inbox, outgoing: Vec::new(), outgoing_bytes: 0, take: Box::new(take) }, input)
}

impl BatchInput {
    /// Brings packets in, from any thread; gives how many found no room and are gone, as a TUN's queue does it.
    pub fn push(&self, packets: Vec<Vec<u8>>) -> usize {
        let mut waiting = self.0.lock();
        let mut dropped = 0;
        for packet in packets.into_iter().filter(|packet| !packet.is_empty()) {
            if waiting.bytes + cost(&packet) > BATCH_IN_BYTES {
                dropped += 1;
                continue;
            }
            waiting.bytes += cost(&packet);
            waiting.packets.push_back(packet);
        }
        waiting.wake();
        dropped
    }
}

impl Drop for BatchInput {
    fn drop(&mut self) {
        let mut waiting = self.0.lock();
        waiting.is_over = true;
        waiting.wake();
    }
}

impl Inbox {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    fn wake(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }
}

impl Device for BatchDevice {
    fn mtu(&self) -> usize {
        self.mtu.into()
    }

    fn poll_recv(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut waiting = self.inbox.lock();
        let Some(packet) = waiting.packets.pop_front() else {
            if waiting.is_over {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
            waiting.reader = Some(cx.waker().clone());
            return Poll::Pending;
        };
        waiting.bytes -= cost(&packet);
        let length = packet.len().min(buf.len());
        buf[..length].copy_from_slice(&packet[..length]);
        Poll::Ready(Ok(length))
    }

    fn send(&mut self, packet: &[u8]) -> Result<(), SendError> {
        if packet.len() > self.mtu() {
            return Err(SendError::Dropped);
        }
        if self.outgoing_bytes + cost(packet) > BATCH_OUT_BYTES {
            self.flush();
        }
        self.outgoing_bytes += cost(packet);
        self.outgoing.push(packet.to_vec());
        Ok(())
    }

    fn flush(&mut self) {
        self.outgoing_bytes = 0;
        if !self.outgoing.is_empty() {
            (self.take)(std::mem::take(&mut self.outgoing));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::mpsc;

    use super::*;

    async fn recv(device: &mut BatchDevice) -> io::Result<Vec<u8>> {
        let mut buf = [0; 2048];
        let length = poll_fn(|cx| device.poll_recv(cx, &mut buf)).await?;
        Ok(buf[..length].to_vec())
    }

    #[tokio::test]
    async fn packets_come_in_the_order_of_their_batches_and_then_the_end() {
        let (mut device, input) = batches(1500, |_| ());
        assert_eq!(input.push(vec![vec![1], Vec::new(), vec![2]]), 0);
        assert_eq!(input.push(vec![vec![3]]), 0);
        drop(input);
        for expected in [1, 2, 3] {
            assert_eq!(recv(&mut device).await.unwrap(), [expected]);
        }
        assert_eq!(recv(&mut device).await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[tokio::test]
    async fn a_reader_that_waits_is_woken() {
        let (mut device, input) = batches(1500, |_| ());
        let (packet, ()) = tokio::join!(recv(&mut device), async {
            tokio::task::yield_now().await;
            input.push(vec![vec![7]]);
        });
        assert_eq!(packet.unwrap(), [7]);
    }

    #[tokio::test]
    async fn packets_beyond_the_bound_are_dropped_and_counted() {
        let (mut device, input) = batches(1500, |_| ());
        let fitting = BATCH_IN_BYTES / cost(&[0; 1000]);
        assert_eq!(input.push(vec![vec![0; 1000]; fitting + 5]), 5);
        recv(&mut device).await.unwrap();
        assert_eq!(input.push(vec![vec![0; 1000]; 2]), 1, "room for one");
    }

    #[test]
    fn a_turns_packets_leave_in_one_batch_of_bounded_size() {
        let (taken, batches_out) = mpsc::sync_channel(8);
        let (mut device, _input) = batches(1500, move |batch| taken.send(batch.len()).unwrap());
        device.flush();
        assert!(batches_out.try_recv().is_err(), "nothing is no batch");
        for _ in 0..3 {
            device.send(&[0; 1500]).unwrap();
        }
        assert!(matches!(device.send(&[0; 1501]), Err(SendError::Dropped)));
        device.flush();
        assert_eq!(batches_out.try_recv(), Ok(3));
        let fitting = BATCH_OUT_BYTES / cost(&[0; 1500]);
        for _ in 0..=fitting {
            device.send(&[0; 1500]).unwrap();
        }
        assert_eq!(batches_out.try_recv(), Ok(fitting));
        device.flush();
        assert_eq!(batches_out.try_recv(), Ok(1));
    }
}
