//! What this machine can do without any client: the floor under every figure.

mod tls;

use std::fs::File;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::time::{Duration, Instant};

use anytls_mobile::tun::{self, TunOptions};

use crate::Failure;
use crate::lab::{Lab, wait};
use crate::measures::{Figures, direct, number};
use crate::target::Service;

/// What is done at once, so that looking at the clock costs nothing.
const PACKETS: u32 = 500;

pub fn figures(lab: &Lab) -> Result<Figures, Failure> {
    let mut figures = Figures::new();
    for (mtu, write, read) in
        [(1500, "tun_write_1500_us", "tun_read_1500_us"), (9000, "tun_write_9000_us", "tun_read_9000_us")]
    {
        let (written, gotten) = lab.cli.run(|| tun_packets(lab.time(1), mtu))?;
        figures.insert(write, written);
        figures.insert(read, gotten);
    }
    let (encrypt, decrypt) = tls::seconds_per_gb(lab.time(1))?;
    figures.insert("tls_encrypt_s_per_gb", encrypt);
    figures.insert("tls_decrypt_s_per_gb", decrypt);
    figures.insert("veth_mbit_per_s", veth(lab)?);
    Ok(figures)
}

/// Microseconds that a packet of the MTU's size takes to write and to read. What is written is for another host
/// and dropped by the kernel's IP: what an app's TCP does with it comes on top.
fn tun_packets(length: Duration, mtu: u16) -> Result<(f64, f64), Failure> {
    const NAME: &str = "limit0";
    const OWN: Ipv4Addr = Ipv4Addr::new(10, 71, 0, 1);
    const PEER: Ipv4Addr = Ipv4Addr::new(10, 71, 0, 2);
    const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
    const HEADERS: u16 = 28; // IPv4 and UDP
    let options = TunOptions { name: NAME.to_owned(), mtu, addresses: vec![(IpAddr::V4(OWN), 30)] };
    let mut tun = File::from(tun::open(&options)?);

    let packet = udp_packet(PEER, ELSEWHERE, mtu);
    let write = median(length, || {
        let begin = Instant::now();
        for _ in 0..PACKETS {
            tun.write_all(&packet)?;
        }
        Ok(begin.elapsed())
    })?;

    let app = UdpSocket::bind((OWN, 0))?;
    app.connect((PEER, 9))?;
    let datagram = vec![0x5a; usize::from(mtu - HEADERS)];
    let mut buffer = vec![0; tun::MAX_PACKET_BYTES];
    let read = median(length, || {
        for _ in 0..PACKETS {
            app.send(&datagram)?;
        }
        let begin = Instant::now();
        let mut left = PACKETS;
        while left > 0 {
            let length = tun.read(&mut buffer)?;
            left -= u32::from(length == usize::from(mtu)); // the kernel has packets of its own to send
        }
        Ok(begin.elapsed())
    })?;
    let each = |time: Duration| (time / PACKETS).as_secs_f64() * 1e6;
    Ok((each(write), each(read)))
}

/// IPv4 with a header checksum, UDP without.
fn udp_packet(from: Ipv4Addr, to: Ipv4Addr, length: u16) -> Vec<u8> {
    const IP_HEADER: u16 = 20;
    let mut packet = vec![0; usize::from(length)];
    packet[0] = 0x45; // version 4, 5 words
    packet[2..4].copy_from_slice(&length.to_be_bytes());
    packet[8] = 64; // time to live
    packet[9] = 17; // UDP
    packet[12..16].copy_from_slice(&from.octets());
    packet[16..20].copy_from_slice(&to.octets());
    let sum: u32 = packet[..20].chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let checksum = !u16::try_from(folded).unwrap_or(u16::MAX);
    packet[10..12].copy_from_slice(&checksum.to_be_bytes());
    packet[20..24].copy_from_slice(&[0x30, 0x39, 0x00, 0x09]); // ports
    packet[24..26].copy_from_slice(&(length - IP_HEADER).to_be_bytes());
    packet
}

/// Of as many batches as take so long.
fn median(
    length: Duration,
    mut batch: impl FnMut() -> Result<Duration, Failure>,
) -> Result<Duration, Failure> {
    let end = Instant::now() + length;
    let mut times = Vec::new();
    while times.is_empty() || Instant::now() < end {
        times.push(batch()?);
    }
    times.sort();
    Ok(times[times.len() / 2])
}

/// Mbit/s of one stream over the cable alone.
fn veth(lab: &Lab) -> Result<f64, Failure> {
    let _targets = lab.start_load(&lab.srv, &["target"])?;
    wait("the targets listening", Duration::from_secs(10), || {
        Ok(lab.srv.listens(Service::Chunk.port()).then_some(()))
    })?;
    let time = lab.time(3);
    let ms = time.as_millis().to_string();
    let report = lab.run_load(&lab.cli, &["download", &direct(Service::Source), "1", &ms], time)?;
    Ok(number(&report, "bytes")? * 8.0 / 1e6 / number(&report, "seconds")?)
}
