//! Two devices joined in memory: what one sends, the other receives.

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll, ready};

use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use super::{Device, SendError};

/// Packets that wait in one direction at most: the queue that Linux gives a TUN.
const QUEUE_PACKETS: usize = 500;

/// Makes two devices joined to each other.
pub fn pair(mtu: u16) -> (ChannelDevice, ChannelDevice) {
    let (to_right, from_left) = mpsc::channel(QUEUE_PACKETS);
    let (to_left, from_right) = mpsc::channel(QUEUE_PACKETS);
    (
        ChannelDevice { mtu, incoming: from_right, outgoing: to_right },
        ChannelDevice { mtu, incoming: from_left, outgoing: to_left },
    )
}

/// One end of a [`pair`]. Works in any runtime or none; the other end's drop is end of file, after the
/// packets it had sent.
#[derive(Debug)]
pub struct ChannelDevice {
    mtu: u16,
    incoming: mpsc::Receiver<Vec<u8>>,
    outgoing: mpsc::Sender<Vec<u8>>,
}

impl ChannelDevice {
    /// Waits for the next packet.
    ///
    /// # Errors
    /// When the other end is gone and its packets are read.
    ///
    /// # Cancel safety
    /// Safe: no packet is lost.
    pub async fn recv(&mut self) -> io::Result<Vec<u8>> {
        poll_fn(|cx| self.poll_packet(cx)).await
    }

    fn poll_packet(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Vec<u8>>> {
        let packet = ready!(self.incoming.poll_recv(cx));
        Poll::Ready(packet.ok_or_else(|| io::ErrorKind::UnexpectedEof.into()))
    }
}

impl Device for ChannelDevice {
    fn mtu(&self) -> usize {
        self.mtu.into()
    }

    /// A packet longer than `buf` is cut, as a TUN does.
    fn poll_recv(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let packet = ready!(self.poll_packet(cx))?;
        let length = packet.len().min(buf.len());
        buf[..length].copy_from_slice(&packet[..length]);
        Poll::Ready(Ok(length))
    }

    fn send(&mut self, packet: &[u8]) -> Result<(), SendError> {
        if packet.len() > self.mtu() {
            return Err(SendError::Dropped);
        }
        self.outgoing.try_send(packet.to_vec()).map_err(|error| match error {
            TrySendError::Full(_) => SendError::Dropped,
            TrySendError::Closed(_) => SendError::Gone(io::ErrorKind::BrokenPipe.into()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn packets_arrive_whole_and_in_order() {
        let (mut left, mut right) = pair(1500);
        for packet in [&[1][..], &[2, 2], &[3; 1500]] {
            left.send(packet).unwrap();
            right.send(packet).unwrap();
        }
        for packet in [&[1][..], &[2, 2], &[3; 1500]] {
            assert_eq!(right.recv().await.unwrap(), packet);
            assert_eq!(left.recv().await.unwrap(), packet);
        }
    }

    #[tokio::test]
    async fn device_reads_what_the_other_end_sent() {
        let (mut left, mut right) = pair(1500);
        let mut buf = [0; 4];
        left.send(&[1, 2, 3]).unwrap();
        assert_eq!(poll_fn(|cx| right.poll_recv(cx, &mut buf)).await.unwrap(), 3);
        assert_eq!(buf, [1, 2, 3, 0]);
        left.send(&[9; 5]).unwrap();
        assert_eq!(poll_fn(|cx| right.poll_recv(cx, &mut buf)).await.unwrap(), 4);
    }

    #[tokio::test]
    async fn full_queue_drops_and_takes_again_once_read() {
        let (mut left, mut right) = pair(1500);
        for _ in 0..QUEUE_PACKETS {
            left.send(&[0]).unwrap();
        }
        assert!(matches!(left.send(&[1]), Err(SendError::Dropped)));
        right.recv().await.unwrap();
        left.send(&[2]).unwrap();
    }

    #[tokio::test]
    async fn packet_over_the_mtu_is_dropped() {
        let (mut left, mut right) = pair(1280);
        assert!(matches!(left.send(&[0; 1281]), Err(SendError::Dropped)));
        left.send(&[1; 1280]).unwrap();
        assert_eq!(right.recv().await.unwrap(), [1; 1280]);
    }

    #[tokio::test]
    async fn dropped_end_is_gone_for_the_other_after_its_packets() {
        let (mut left, right) = pair(1500);
        let mut right = right;
        right.send(&[7]).unwrap();
        drop(right);
        assert!(matches!(left.send(&[1]), Err(SendError::Gone(_))));
        assert_eq!(left.recv().await.unwrap(), [7]);
        assert_eq!(left.recv().await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
