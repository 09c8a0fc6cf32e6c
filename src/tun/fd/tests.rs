use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io::{Read, Write};
use std::net::UdpSocket;

use socket2::{Domain, Socket, Type};

use super::*;
use crate::tun::open::namespace_for_test;
use crate::tun::{MAX_PACKET_BYTES, NetworkNamespace, TunOptions, open};

const MTU: u16 = 1500;

/// A device, and what stands for the kernel behind it.
fn device() -> (FdDevice, Socket) {
    let (ours, kernel) = Socket::pair(Domain::UNIX, Type::SEQPACKET, None).unwrap();
    kernel.set_nonblocking(true).unwrap();
    (FdDevice::new(ours.into(), MTU).unwrap(), kernel)
}

async fn recv(device: &mut FdDevice) -> io::Result<Vec<u8>> {
    let mut buf = vec![0; MAX_PACKET_BYTES];
    let length = poll_fn(|cx| device.poll_recv(cx, &mut buf)).await?;
    buf.truncate(length);
    Ok(buf)
}

/// Polls once with system calls that answer as scripted, after which there is nothing.
async fn poll_scripted(device: &FdDevice, script: &Script) -> Poll<io::Result<usize>> {
    poll_fn(|cx| Poll::Ready(poll_read(&device.tun, cx, |_| script.next()))).await
}

struct Script(RefCell<VecDeque<Result<usize, i32>>>);

impl Script {
    fn new(answers: impl Into<VecDeque<Result<usize, i32>>>) -> Self {
        Self(RefCell::new(answers.into()))
    }

    fn next(&self) -> io::Result<usize> {
        let answer = self.0.borrow_mut().pop_front().unwrap_or(Err(libc::EAGAIN));
        answer.map_err(io::Error::from_raw_os_error)
    }

    fn left(&self) -> usize {
        self.0.borrow().len()
    }
}

#[tokio::test]
async fn packets_keep_their_borders_both_ways() {
    let (mut device, mut kernel) = device();
    for packet in [&[1][..], &[2, 2], &[3; 1500]] {
        kernel.write_all(packet).unwrap();
        device.send(packet).unwrap();
    }
    for packet in [&[1][..], &[2, 2], &[3; 1500]] {
        assert_eq!(recv(&mut device).await.unwrap(), packet);
        let mut seen = [0; 2000];
        let length = kernel.read(&mut seen).unwrap();
        assert_eq!(seen[..length], *packet);
    }
}

#[tokio::test]
async fn waiting_reader_is_woken_by_a_packet() {
    let (mut device, mut kernel) = device();
    let reader = recv(&mut device);
    let writer = async { kernel.write_all(&[5]).unwrap() };
    let (packet, ()) = tokio::join!(biased; reader, writer);
    assert_eq!(packet.unwrap(), [5]);
}

#[tokio::test]
async fn batch_costs_one_read_a_packet_and_one_that_finds_nothing() {
    let (device, mut kernel) = device();
    for _ in 0..64 {
        kernel.write_all(&[0; 100]).unwrap();
    }
    let mut buf = [0; 200];
    let (mut packets, mut reads) = (0, 0);
    poll_fn(|cx| {
        loop {
            let read = |tun: &File| {
                reads += 1;
                platform::tun_read(tun, &mut buf)
            };
            match poll_read(&device.tun, cx, read) {
                Poll::Ready(length) => packets += usize::from(length.unwrap() == 100),
                Poll::Pending if packets == 64 => return Poll::Ready(()),
                Poll::Pending => return Poll::Pending,
            }
        }
    })
    .await;
    assert_eq!((packets, reads), (64, 65));
}

#[tokio::test]
async fn read_that_fails_for_now_is_tried_again() {
    for passing in [libc::EINTR, libc::EAGAIN, libc::ENOBUFS, libc::ENOMEM] {
        let (device, mut kernel) = device();
        kernel.write_all(&[1]).unwrap();
        device.tun.readable().await.unwrap().retain_ready();
        let script = Script::new([Err(passing), Ok(1)]);
        let first = poll_scripted(&device, &script).await;
        if passing == libc::EINTR {
            assert!(matches!(first, Poll::Ready(Ok(1))));
        } else {
            assert!(first.is_pending(), "{passing}");
            assert_eq!(script.left(), 1);
            // The next packet's arrival ends the wait.
            kernel.write_all(&[2]).unwrap();
            device.tun.readable().await.unwrap().retain_ready();
            assert!(matches!(poll_scripted(&device, &script).await, Poll::Ready(Ok(1))));
        }
    }
}

#[tokio::test]
async fn read_that_fails_for_good_means_gone() {
    for errno in [libc::EBADF, libc::EIO, libc::EFAULT] {
        let (device, mut kernel) = device();
        kernel.write_all(&[1]).unwrap();
        device.tun.readable().await.unwrap().retain_ready();
        let Poll::Ready(Err(error)) = poll_scripted(&device, &Script::new([Err(errno)])).await else {
            panic!("{errno} was not reported");
        };
        assert_eq!(error.raw_os_error(), Some(errno));
    }
}

#[test]
fn write_error_is_a_dropped_packet_or_a_gone_device() {
    let dropped = [
        libc::EAGAIN,
        libc::ENOBUFS,
        libc::ENOSPC,
        libc::ENOMEM,
        libc::EINVAL,
        libc::EMSGSIZE,
        libc::EAFNOSUPPORT,
        libc::ENETDOWN,
    ];
    for errno in dropped {
        let script = Script::new([Err(errno)]);
        assert!(matches!(write(|| script.next()), Err(SendError::Dropped)), "{errno}");
    }
    for errno in [libc::EBADF, libc::EIO, libc::EPIPE, libc::ENXIO, libc::ENODEV] {
        let script = Script::new([Err(errno)]);
        let Err(SendError::Gone(source)) = write(|| script.next()) else { panic!("{errno} was let pass") };
        assert_eq!(source.raw_os_error(), Some(errno));
    }
    let script = Script::new([Err(libc::EINTR), Ok(1)]);
    write(|| script.next()).unwrap();
    assert_eq!(script.left(), 0);
}

#[tokio::test]
async fn packet_without_room_is_dropped_and_the_next_one_taken_once_there_is() {
    let (mut device, mut kernel) = device();
    let dropped = loop {
        if let Err(error) = device.send(&[0; 1000]) {
            break error;
        }
    };
    assert!(matches!(dropped, SendError::Dropped));
    while kernel.read(&mut [0; 1000]).is_ok() {}
    device.send(&[0; 1000]).unwrap();
}

#[tokio::test]
async fn closed_peer_is_gone_after_its_packets() {
    let (mut device, mut kernel) = device();
    kernel.write_all(&[1]).unwrap();
    drop(kernel);
    assert_eq!(recv(&mut device).await.unwrap(), [1]);
    assert_eq!(recv(&mut device).await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    assert!(matches!(device.send(&[1]), Err(SendError::Gone(_))));
}

#[tokio::test]
async fn shut_down_datagram_socket_is_gone_though_it_reads_as_empty() {
    let (ours, _kernel) = Socket::pair(Domain::UNIX, Type::DGRAM, None).unwrap();
    let ours_too = ours.try_clone().unwrap();
    let mut device = FdDevice::new(ours.into(), MTU).unwrap();
    ours_too.shutdown(std::net::Shutdown::Both).unwrap();
    assert_eq!(recv(&mut device).await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
}

#[test]
fn descriptor_is_closed_when_there_is_no_runtime() {
    let (ours, mut kernel) = Socket::pair(Domain::UNIX, Type::SEQPACKET, None).unwrap();
    FdDevice::new(ours.into(), MTU).unwrap_err();
    assert_eq!(kernel.read(&mut [0; 1]).unwrap(), 0);
}

#[tokio::test]
async fn file_that_cannot_be_waited_for_is_refused() {
    let file = tempfile::tempfile().unwrap();
    FdDevice::new(file.into(), MTU).unwrap_err();
}

/// A real TUN with 10.9.0.1 in a network of its own, and a socket bound there.
fn kernel_tun() -> Option<(NetworkNamespace, FdDevice, UdpSocket)> {
    let namespace = namespace_for_test()?;
    let addresses = vec![("10.9.0.1".parse().unwrap(), 24)];
    let options = TunOptions { name: "tun0".to_owned(), mtu: MTU, addresses };
    let (fd, socket) =
        namespace.run(|| (open(&options).unwrap(), UdpSocket::bind("10.9.0.1:0").unwrap())).unwrap();
    Some((namespace, FdDevice::new(fd, MTU).unwrap(), socket))
}

/// The next packet that has something to do with 10.9.0.2: the kernel also announces itself over IPv6.
async fn recv_ours(device: &mut FdDevice) -> Vec<u8> {
    loop {
        let packet = recv(device).await.unwrap();
        if packet[0] == 0x45 && packet[16..20] == [10, 9, 0, 2] {
            return packet;
        }
    }
}

#[tokio::test]
async fn datagrams_of_a_kernel_socket_pass_a_real_tun_both_ways() {
    let Some((_namespace, mut device, socket)) = kernel_tun() else { return };
    socket.connect("10.9.0.2:53").unwrap();
    // Several at once, so that all but the first are read without waiting.
    for number in 0..20 {
        socket.send(&[number; 33]).unwrap();
    }
    for number in 0..20 {
        let mut packet = recv_ours(&mut device).await;
        assert_eq!(packet[28..], [number; 33]);
        // Swapping the addresses and the ports leaves both checksums right.
        packet[12..20].rotate_left(4);
        packet[20..24].rotate_left(2);
        device.send(&packet).unwrap();
        let mut answer = [0; 100];
        assert_eq!(socket.recv(&mut answer).unwrap(), 33);
        assert_eq!(answer[..33], [number; 33]);
    }
}

#[tokio::test]
async fn kernel_answers_a_ping_through_a_real_tun() {
    let Some((_namespace, mut device, _socket)) = kernel_tun() else { return };
    let mut ping = [0; 28];
    ping[..20].copy_from_slice(&[0x45, 0, 0, 28, 0, 0, 0, 0, 64, 1, 0, 0, 10, 9, 0, 2, 10, 9, 0, 1]);
    ping[20..].copy_from_slice(&[8, 0, 0, 0, 0xab, 0xcd, 0, 1]);
    for (part, at) in [(0..20, 10), (20..28, 22)] {
        let checksum = checksum(&ping[part]);
        ping[at..at + 2].copy_from_slice(&checksum);
    }
    device.send(&ping).unwrap();
    let pong = recv_ours(&mut device).await;
    assert_eq!(pong[20..22], [0, 0], "an echo reply");
    assert_eq!(pong[24..28], ping[24..28]);
}

fn checksum(bytes: &[u8]) -> [u8; 2] {
    let sum: u32 = bytes.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let [.., high, low] = (!folded).to_be_bytes();
    [high, low]
}

#[tokio::test]
async fn packet_that_a_real_tun_refuses_is_dropped_alone() {
    let Some((_namespace, mut device, socket)) = kernel_tun() else { return };
    assert!(matches!(device.send(&[0x15, 1, 2, 3]), Err(SendError::Dropped)));
    socket.send_to(&[1], "10.9.0.2:53").unwrap();
    recv_ours(&mut device).await;
}

#[tokio::test]
async fn waiting_reader_learns_that_a_real_tun_was_taken_away() {
    let Some((namespace, mut device, _socket)) = kernel_tun() else { return };
    let (mut error, mut waited) = (None, false);
    let mut buf = [0; 2000];
    poll_fn(|cx| {
        loop {
            match device.poll_recv(cx, &mut buf) {
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(cause)) => {
                    error = Some(cause);
                    return Poll::Ready(());
                }
                Poll::Pending if waited => return Poll::Pending,
                Poll::Pending => {
                    waited = true;
                    namespace.run(|| platform::remove_interface("tun0")).unwrap().unwrap();
                    return Poll::Pending;
                }
            }
        }
    })
    .await;
    assert!(waited && error.is_some());
    assert!(matches!(device.send(&[0x45; 20]), Err(SendError::Gone(_))));
}

#[tokio::test]
async fn real_tun_that_is_down_is_gone_for_the_sender() {
    let Some((namespace, mut device, _socket)) = kernel_tun() else { return };
    namespace.run(|| platform::set_interface_up("tun0", false)).unwrap().unwrap();
    let Err(SendError::Gone(error)) = device.send(&[0x45; 20]) else { panic!("taken while down") };
    assert_eq!(error.raw_os_error(), Some(libc::EIO));
}
