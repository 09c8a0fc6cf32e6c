//! A relay in front of a server that carries so many bytes a second each way, for all connections together.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anytls_mobile::clock::Clock;
use anytls_mobile::proto::timers::Moment;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;

/// Moved at once: small, so that connections take turns.
const PIECE_BYTES: usize = 4 * 1024;

/// What a connection's sockets may hold, about: a router's queue, and not the megabytes that a kernel likes to have.
const QUEUE_BYTES: usize = 32 * 1024;

/// Listens at a free port; everything goes on to `server`.
pub(super) async fn listen(server: SocketAddr, bytes_a_second: u64) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    let ways: &'static [Way; 2] = Box::leak(Box::new([Way::new(bytes_a_second), Way::new(bytes_a_second)]));
    tokio::spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            tokio::spawn(carry(near, server, ways));
        }
    });
    Ok(address)
}

async fn carry(near: TcpStream, server: SocketAddr, [up, down]: &'static [Way; 2]) -> io::Result<()> {
    let far = TcpStream::connect(server).await?;
    for socket in [&near, &far] {
        socket2::SockRef::from(socket).set_recv_buffer_size(QUEUE_BYTES)?;
        socket2::SockRef::from(socket).set_send_buffer_size(QUEUE_BYTES)?;
    }
    let ((from_near, to_near), (from_far, to_far)) = (near.into_split(), far.into_split());
    tokio::try_join!(up.pass(from_near, to_far), down.pass(from_far, to_near))?;
    Ok(())
}

/// One direction of the line.
struct Way {
    bytes_a_second: u64,
    /// When what was let through so far has passed.
    busy_until: Mutex<Moment>,
}

impl Way {
    fn new(bytes_a_second: u64) -> Self {
        Self { bytes_a_second, busy_until: Mutex::new(Clock::Boot.now()) }
    }

    async fn pass(&self, mut from: OwnedReadHalf, mut to: OwnedWriteHalf) -> io::Result<()> {
        let mut piece = vec![0; PIECE_BYTES];
        loop {
            let count = from.read(&mut piece).await?;
            if count == 0 {
                return to.shutdown().await;
            }
            sleep(self.wait_for(count)).await;
            to.write_all(&piece[..count]).await?;
        }
    }

    /// Takes the line for so many bytes; how long until they have passed.
    fn wait_for(&self, bytes: usize) -> Duration {
        let now = Clock::Boot.now();
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let time = Duration::from_nanos(bytes.saturating_mul(1_000_000_000) / self.bytes_a_second);
        let mut busy_until = self.busy_until.lock().unwrap_or_else(PoisonError::into_inner);
        *busy_until = now.max(*busy_until) + time;
        busy_until.since(now)
    }
}
