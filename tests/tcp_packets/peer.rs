//! An app's kernel with a TCP of its own, behind a bad link.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp;
use smoltcp::time::Instant;
use smoltcp::wire::{HardwareAddress, IpCidr};

use crate::rig::{MTU, Tap};

/// What the link does to packets, in each direction.
#[derive(Clone, Copy, Debug)]
pub struct Impairment {
    /// Of a thousand packets.
    pub lost: u32,
    pub doubled: u32,
    pub delayed: u32,
    /// A delayed packet comes up to this much later, and is overtaken.
    pub delay_ms: u64,
}

/// The app's host: any number of connections over one link.
pub struct Peer {
    tap: Tap,
    link: Link,
    interface: Interface,
    phy: Queues,
    pub sockets: SocketSet<'static>,
    now_ms: u64,
    clean: bool,
}

struct Link {
    impairment: Impairment,
    random: StdRng,
    /// Packets on the way, by time and order.
    flying: BTreeMap<(u64, u64), (Direction, Vec<u8>)>,
    sent: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    ToStack,
    ToApp,
}

impl Peer {
    pub fn new(tap: &Tap, seed: u64, impairment: Impairment) -> Self {
        let mut phy = Queues::default();
        let mut interface = Interface::new(Config::new(HardwareAddress::Ip), &mut phy, Instant::ZERO);
        interface.update_ip_addrs(|addresses| {
            addresses.push(IpCidr::new(smoltcp::wire::IpAddress::v4(10, 0, 0, 2), 0)).unwrap();
        });
        let random = StdRng::seed_from_u64(seed);
        Self {
            tap: tap.clone(),
            link: Link { impairment, random, flying: BTreeMap::new(), sent: 0 },
            interface,
            phy,
            sockets: SocketSet::new(Vec::new()),
            now_ms: 0,
            clean: false,
        }
    }

    pub fn connect(&mut self, port: u16, destination: SocketAddr) -> SocketHandle {
        let buffer = || tcp::SocketBuffer::new(vec![0; 128 * 1024]);
        let mut socket = tcp::Socket::new(buffer(), buffer());
        // Gets smoltcp out of waiting for the acknowledgement of a lost FIN with no timer running.
        socket.set_keep_alive(Some(smoltcp::time::Duration::from_secs(10)));
        socket.connect(self.interface.context(), destination, port).unwrap();
        self.sockets.add(socket)
    }

    pub fn socket(&mut self, handle: SocketHandle) -> &mut tcp::Socket<'static> {
        self.sockets.get_mut(handle)
    }

    pub fn now_ms(&self) -> u64 {
        self.now_ms
    }

    /// From now on the link is perfect.
    pub fn heal(&mut self) {
        self.clean = true;
    }

    /// Lets a moment pass on the app's host and the link: a millisecond, or more when nothing goes on.
    pub async fn step(&mut self) {
        let quiet = self.link.flying.is_empty() && self.tap.is_quiet();
        let span = if quiet { 10 } else { 1 };
        tokio::time::sleep(Duration::from_millis(span)).await;
        self.now_ms += span;
        while let Some(packet) = self.tap.take() {
            self.fly(Direction::ToApp, packet);
        }
        while let Some(entry) = self.link.flying.first_entry() {
            if entry.key().0 > self.now_ms {
                break;
            }
            match entry.remove() {
                (Direction::ToStack, packet) => self.tap.inject(packet),
                (Direction::ToApp, packet) => self.phy.incoming.push_back(packet),
            }
        }
        let now = Instant::from_millis(i64::try_from(self.now_ms).unwrap());
        self.interface.poll(now, &mut self.phy, &mut self.sockets);
        for packet in std::mem::take(&mut self.phy.outgoing) {
            self.fly(Direction::ToStack, packet);
        }
    }

    fn fly(&mut self, direction: Direction, packet: Vec<u8>) {
        let Impairment { lost, doubled, delayed, delay_ms } = self.link.impairment;
        if self.happens(lost) {
            return;
        }
        for _ in 0..1 + usize::from(self.happens(doubled)) {
            let late = self.happens(delayed);
            let delay = if late { self.link.random.random_range(0..=delay_ms) } else { 0 };
            self.link.sent += 1;
            let place = (self.now_ms + delay, self.link.sent);
            self.link.flying.insert(place, (direction, packet.clone()));
        }
    }

    fn happens(&mut self, per_mille: u32) -> bool {
        !self.clean && self.link.random.random_range(0..1000) < per_mille
    }
}

#[derive(Default)]
struct Queues {
    incoming: VecDeque<Vec<u8>>,
    outgoing: Vec<Vec<u8>>,
}

impl Device for Queues {
    type RxToken<'a> = Incoming;
    type TxToken<'a> = Outgoing<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Incoming, Outgoing<'_>)> {
        let packet = self.incoming.pop_front()?;
        Some((Incoming(packet), Outgoing(&mut self.outgoing)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Outgoing<'_>> {
        Some(Outgoing(&mut self.outgoing))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = MTU;
        capabilities
    }
}

struct Incoming(Vec<u8>);

impl RxToken for Incoming {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, read: F) -> R {
        read(&self.0)
    }
}

struct Outgoing<'a>(&'a mut Vec<Vec<u8>>);

impl TxToken for Outgoing<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, fill: F) -> R {
        let mut packet = vec![0; len];
        let result = fill(&mut packet);
        self.0.push(packet);
        result
    }
}
