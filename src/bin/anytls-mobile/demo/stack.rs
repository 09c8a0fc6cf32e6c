//! A small TCP client over packets in memory, for where a TUN may not be made: the app's side of the pair.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use anytls_mobile::clock::{Alarm, Clock};
use anytls_mobile::tun::{ChannelDevice, Device, MAX_PACKET_BYTES};
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{self, DeviceCapabilities, Medium};
use smoltcp::socket::tcp;
use smoltcp::time::Instant;
use smoltcp::wire::{HardwareAddress, IpCidr, Ipv4Address};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Ring of a connection, each way.
const RING_BYTES: usize = 512 * 1024;

/// The app's address.
const ADDRESS: Ipv4Address = Ipv4Address::new(172, 19, 0, 1);

/// The stack; connections share it with the task that moves its packets.
pub(super) struct Stack(Arc<Mutex<Inner>>);

struct Inner {
    interface: Interface,
    sockets: SocketSet<'static>,
    packets: Packets,
    mover: Option<Waker>,
    next_port: u16,
}

/// Packets between smoltcp and the device, which are polled at different times.
struct Packets {
    mtu: usize,
    incoming: VecDeque<Vec<u8>>,
    device: ChannelDevice,
}

/// One connection of the app.
pub(super) struct Socket {
    stack: Arc<Mutex<Inner>>,
    handle: SocketHandle,
}

impl Stack {
    pub(super) fn start(device: ChannelDevice) -> Self {
        let mut packets = Packets { mtu: device.mtu(), incoming: VecDeque::new(), device };
        let mut interface = Interface::new(Config::new(HardwareAddress::Ip), &mut packets, now());
        interface.update_ip_addrs(|addresses| {
            // A prefix of no bits: everybody is a neighbour, and no route is needed.
            addresses.push(IpCidr::new(ADDRESS.into(), 0)).expect("room for one address");
        });
        let sockets = SocketSet::new(Vec::new());
        let inner = Inner { interface, sockets, packets, mover: None, next_port: 40_000 };
        let stack = Arc::new(Mutex::new(inner));
        let shared = Arc::downgrade(&stack);
        tokio::task::spawn(async move {
            let mut alarm = Alarm::default();
            let mut buffer = vec![0; MAX_PACKET_BYTES];
            poll_fn(move |cx| match shared.upgrade() {
                Some(stack) => lock(&stack).poll(cx, &mut alarm, &mut buffer),
                None => Poll::Ready(()),
            })
            .await;
        });
        Self(stack)
    }

    /// Begins a connection; reads and writes wait for it.
    pub(super) fn connect(&self, target: SocketAddr) -> Socket {
        let mut stack = lock(&self.0);
        let ring = || tcp::SocketBuffer::new(vec![0; RING_BYTES]);
        let mut socket = tcp::Socket::new(ring(), ring());
        socket.set_nagle_enabled(false);
        socket.set_ack_delay(None);
        stack.next_port = stack.next_port.checked_add(1).unwrap_or(40_000);
        let port = stack.next_port;
        socket.connect(stack.interface.context(), target, port).expect("the target is an address and a port");
        let handle = stack.sockets.add(socket);
        stack.touch();
        Socket { stack: Arc::clone(&self.0), handle }
    }
}

impl Inner {
    fn poll(&mut self, cx: &mut Context<'_>, alarm: &mut Alarm, buffer: &mut [u8]) -> Poll<()> {
        self.mover = Some(cx.waker().clone());
        loop {
            while let Poll::Ready(read) = self.packets.device.poll_recv(cx, buffer) {
                let Ok(length) = read else { return Poll::Ready(()) };
                self.packets.incoming.push_back(buffer[..length].to_vec());
            }
            self.interface.poll(now(), &mut self.packets, &mut self.sockets);
            let clock = Clock::Boot;
            let due = self
                .interface
                .poll_delay(now(), &self.sockets)
                .map(|delay| clock.now() + Duration::from_micros(delay.total_micros()));
            if alarm.poll(cx, due, clock).is_pending() {
                return Poll::Pending;
            }
        }
    }

    fn touch(&mut self) {
        if let Some(mover) = self.mover.take() {
            mover.wake();
        }
    }
}

impl phy::Device for Packets {
    type RxToken<'a> = Received;
    type TxToken<'a> = Sender<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Received, Sender<'_>)> {
        let packet = self.incoming.pop_front()?;
        Some((Received(packet), Sender(&mut self.device)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Sender<'_>> {
        Some(Sender(&mut self.device))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = self.mtu;
        capabilities
    }
}

struct Received(Vec<u8>);

impl phy::RxToken for Received {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, read: F) -> R {
        read(&self.0)
    }
}

struct Sender<'a>(&'a mut ChannelDevice);

impl phy::TxToken for Sender<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, write: F) -> R {
        let mut packet = vec![0; length];
        let result = write(&mut packet);
        let _dropped = self.0.send(&packet); // TCP sends it again
        result
    }
}

impl Socket {
    fn with<T>(&self, change: impl FnOnce(&mut tcp::Socket<'static>) -> T) -> T {
        let mut stack = lock(&self.stack);
        let result = change(stack.sockets.get_mut(self.handle));
        stack.touch();
        result
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.with(|socket| match socket.recv_slice(buf.initialize_unfilled()) {
            Ok(0) if socket.may_recv() || is_connecting(socket) => {
                socket.register_recv_waker(cx.waker());
                Poll::Pending
            }
            Ok(count) => {
                buf.advance(count);
                Poll::Ready(Ok(()))
            }
            Err(tcp::RecvError::Finished) => Poll::Ready(Ok(())),
            Err(tcp::RecvError::InvalidState) if is_connecting(socket) => {
                socket.register_recv_waker(cx.waker());
                Poll::Pending
            }
            Err(tcp::RecvError::InvalidState) => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
        })
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.with(|socket| match socket.send_slice(bytes) {
            Ok(0) if !bytes.is_empty() => {
                socket.register_send_waker(cx.waker());
                Poll::Pending
            }
            Ok(count) => Poll::Ready(Ok(count)),
            Err(_) if is_connecting(socket) => {
                socket.register_send_waker(cx.waker());
                Poll::Pending
            }
            Err(_) => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        })
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with(tcp::Socket::close);
        Poll::Ready(Ok(()))
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let mut stack = lock(&self.stack);
        let stack = &mut *stack;
        stack.sockets.get_mut::<tcp::Socket<'_>>(self.handle).abort();
        // The RST leaves before the socket is forgotten.
        stack.interface.poll(now(), &mut stack.packets, &mut stack.sockets);
        stack.sockets.remove(self.handle);
    }
}

fn is_connecting(socket: &tcp::Socket<'_>) -> bool {
    socket.state() == tcp::State::SynSent
}

fn now() -> Instant {
    let elapsed = Clock::Boot.now().since_origin();
    Instant::from_micros(i64::try_from(elapsed.as_micros()).unwrap_or(i64::MAX))
}

fn lock(stack: &Mutex<Inner>) -> std::sync::MutexGuard<'_, Inner> {
    stack.lock().unwrap_or_else(PoisonError::into_inner)
}
