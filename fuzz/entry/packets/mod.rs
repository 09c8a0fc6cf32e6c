//! The whole packet entry: apps that send anything, a stack, and relays that do all that relays do.

mod craft;
mod output;
mod relays;

use std::io;
use std::panic::resume_unwind;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use anytls_mobile::budget::{Account, Pressure};
use anytls_mobile::clock::Clock;
use anytls_mobile::netstack::{Control, Counters, DeviceGone, Netstack, Options};
use anytls_mobile::tun::{ChannelDevice, Device, SendError, pair};
use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::runtime;
use tokio::task::JoinSet;

use self::output::Output;
use self::relays::{REPLY_DELAY, Relays, TALK_BYTES};
use super::records::Records;

/// Nothing panics; what the stack sends is well-formed, no more than it should be, and of a connection's bytes each in
/// its place; what is held stays within its limits, and in the end nothing is.
///
/// ```text
/// | setup u8 | record … |
///
/// setup:   bits 0-2 the MTU, bit 3 eager, bit 4 tight limits, bit 5 stopped while relays are at work
/// record:  a packet from an app; its `what`
///          bits 0-1  time that passes then: 1 ms, 1 s, 10 s, 61 s
///          bit 2     lengths and checksums are made right
///          bit 3     TCP's numbers count from where the connection stands
///          bits 4-5  how short memory is from now on: as before, not, low, critical
///          bit 6     the device has no room meanwhile, for 200 ms at most
///          bit 7     no time passes: it comes in one batch with the next
/// ```
/// What becomes of a flow or a datagram is in the lower three bits of its destination port, see [`Relays`].
pub fn packets(data: &[u8]) {
    let Some((&setup, records)) = data.split_first() else { return };
    let runtime = runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime").block_on(async {
        let mut run = Run::new(setup);
        for (what, packet) in Records(records) {
            run.step(what, packet).await;
        }
        run.wait(Duration::from_millis(1)).await;
        if setup & STOPPED == 0 {
            run.fall_silent().await;
        }
        run.end().await;
    });
}

const EAGER: u8 = 1 << 3;
const TIGHT: u8 = 1 << 4;
const STOPPED: u8 = 1 << 5;

const REPAIRED: u8 = 1 << 2;
const FOLLOWING: u8 = 1 << 3;
const CROWDED: u8 = 1 << 6;
const BATCHED: u8 = 1 << 7;

/// More than any deadline of the stack: it waits 120 s for an app that is silent.
const SILENCE: Duration = Duration::from_secs(200);

/// Longer than the stack tries again to send a packet that the device refuses.
const CROWD: Duration = Duration::from_millis(200);

struct Run {
    app: ChannelDevice,
    is_full: Arc<AtomicBool>,
    /// How often the stack has asked for a packet: once for each, and once more in each turn of its loop.
    turns: Arc<AtomicU64>,
    control: Control,
    options: Options,
    /// What datagrams may hold.
    datagram_bytes: usize,
    stack: JoinSet<Result<(), DeviceGone>>,
    relays: Relays,
    output: Output,
    packets_in: u64,
    bytes_in: u64,
}

impl Run {
    fn new(setup: u8) -> Self {
        let mtu = [1500, 1280, 576, 1281, 1420, 4064, 9000, 65_535][usize::from(setup & 0b111)];
        let (app, device) = pair(u16::MAX); // apps send larger packets than they should
        let (is_full, turns) = <(Arc<AtomicBool>, Arc<AtomicU64>)>::default();
        let tun = Tun { device, mtu, is_full: Arc::clone(&is_full), turns: Arc::clone(&turns) };
        let (options, relays) = (options(setup), Relays::default());
        let generator = StdRng::seed_from_u64(1);
        let stack = Netstack::new(tun, relays.clone(), options.clone(), Clock::Tokio, generator);
        let control = stack.control();
        let mut task = JoinSet::new();
        task.spawn(stack.run());
        Self {
            app,
            is_full,
            turns,
            control,
            datagram_bytes: options.datagrams.free(),
            options,
            stack: task,
            relays,
            output: Output::new(mtu),
            packets_in: 0,
            bytes_in: 0,
        }
    }

    async fn step(&mut self, what: u8, packet: &[u8]) {
        match what >> 4 & 0b11 {
            0 => {}
            1 => self.control.set_pressure(Pressure::Normal),
            2 => self.control.set_pressure(Pressure::Low),
            _ => self.control.set_pressure(Pressure::Critical),
        }
        let mut packet = packet.to_vec();
        if what & FOLLOWING != 0 {
            self.output.continue_connection(&mut packet);
        }
        if craft::count_up(&mut packet) {
            self.output.expect_any_bytes();
        }
        if what & REPAIRED != 0 {
            craft::repair(&mut packet);
        }
        self.output.expect_answer(&packet);
        if self.app.send(&packet).is_ok() {
            self.packets_in += 1;
            self.bytes_in += packet.len() as u64;
        }
        if what & BATCHED != 0 {
            return;
        }
        let time = [1, 1_000, 10_000, 61_000].map(Duration::from_millis)[usize::from(what & 0b11)];
        if what & CROWDED != 0 {
            self.is_full.store(true, Ordering::Relaxed);
            self.wait(time.min(CROWD)).await;
            self.is_full.store(false, Ordering::Relaxed);
        }
        self.wait(time).await;
    }

    /// Takes what the stack sends until so much time has passed and everything is at rest.
    async fn wait(&mut self, time: Duration) {
        let mut end = pin!(tokio::time::sleep(time));
        loop {
            tokio::select! {
                biased; // what was sent is seen before the end
                packet = self.app.recv() => match packet {
                    Ok(packet) => self.output.see(&packet),
                    Err(_) => return self.join().await,
                },
                () = &mut end => break,
            }
        }
        self.check_limits();
    }

    fn check_limits(&self) {
        let Options { memory_bytes, reassembly_bytes, datagrams, .. } = &self.options;
        let counters = self.control.counters();
        assert!(self.control.memory_held() <= *memory_bytes, "{} held", self.control.memory_held());
        assert!(counters.reassembly_bytes <= *reassembly_bytes as u64, "{counters:?}");
        assert!(datagrams.held() <= self.datagram_bytes, "{} held", datagrams.held());
    }

    /// The relays let go of everything, and the apps say nothing more: every flow ends.
    async fn fall_silent(&mut self) {
        self.wait(REPLY_DELAY).await;
        if self.relays.take_all() {
            assert_eq!(self.options.datagrams.held(), 0);
        }
        self.relays.end().await;
        self.wait(SILENCE).await;
        self.control.set_pressure(Pressure::Low); // nothing is kept for the next flow
        self.wait(Duration::from_secs(1)).await;

        let counters = self.control.counters();
        let open = (counters.flows_open, counters.flows_half_open, counters.udp_flows_open);
        assert_eq!(open, (0, 0, 0), "{counters:?}");
        assert_eq!((counters.reassembly_bytes, counters.memory_bytes), (0, 0), "{counters:?}");
        assert_eq!(self.control.memory_held(), 0);
        assert_eq!(self.options.datagrams.held(), 0);
        self.check_counters(&counters);
    }

    fn check_counters(&self, counters: &Counters) {
        let Self { packets_in, bytes_in, output, .. } = self;
        assert_eq!((counters.packets_in, counters.bytes_in), (*packets_in, *bytes_in), "{counters:?}");
        assert_eq!(
            (counters.packets_out, counters.bytes_out),
            (output.packets, output.bytes),
            "{counters:?}"
        );
        self.relays.check(counters);
        assert!(counters.datagrams_in + counters.echo_replies + counters.flows_total <= *packets_in);
        assert!(counters.packets_reassembled <= packets_in / 2, "{counters:?}");
        assert!(counters.flows_shed + counters.resets_in <= counters.flows_total, "{counters:?}");
        let udp_ends = counters.udp_flows_expired + counters.udp_flows_evicted;
        assert!(udp_ends <= counters.udp_flows_total, "{counters:?}");

        // An answer of our relays is eight times its question at most, in fragments of half a kilobyte or more. What
        // is said to a connection leaves in segments of some 40 bytes or more, each repeated at growing intervals. And
        // what the loop wakes up for is a packet, mostly.
        let (segments, others) = (output.segments, output.packets - output.segments);
        assert!(others <= packets_in + bytes_in / 64, "{others} packets but TCP: {counters:?}");
        let said = bytes_in + TALK_BYTES * counters.flows_total;
        assert!(segments <= 4 * packets_in + said / 3, "{segments} segments: {counters:?}");
        let turns = self.turns.load(Ordering::Relaxed);
        assert!(turns <= 32 * (packets_in + output.packets) + 64, "{turns} turns: {counters:?}");
    }

    /// The stack stops, whatever is under way; then the relays end by themselves.
    async fn end(&mut self) {
        self.control.stop();
        self.join().await;
        tokio::time::sleep(REPLY_DELAY).await;
        self.relays.assert_ended();
        self.relays.end().await;
        assert_eq!(self.options.datagrams.held(), 0);
    }

    async fn join(&mut self) {
        match self.stack.join_next().await.expect("one task") {
            Ok(ended) => ended.expect("the device is there"),
            Err(error) => resume_unwind(error.into_panic()),
        }
    }
}

fn options(setup: u8) -> Options {
    let options = Options {
        eager: setup & EAGER != 0,
        deny: vec![([192, 0, 2, 66], 443).into()],
        networks: vec![([10, 0, 0, 2].into(), 24)],
        ..Options::default()
    };
    if setup & TIGHT == 0 {
        return options;
    }
    Options {
        memory_bytes: 64 << 10,
        max_flows: 3,
        max_half_open: 2,
        max_udp_flows: 2,
        datagrams: Arc::new(Account::new(4 << 10)),
        reassembly_bytes: 4 << 10,
        ..options
    }
}

/// The stack's end of the device.
struct Tun {
    device: ChannelDevice,
    mtu: usize,
    is_full: Arc<AtomicBool>,
    turns: Arc<AtomicU64>,
}

impl Device for Tun {
    fn mtu(&self) -> usize {
        self.mtu
    }

    fn poll_recv(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        self.turns.fetch_add(1, Ordering::Relaxed);
        self.device.poll_recv(cx, buf)
    }

    fn send(&mut self, packet: &[u8]) -> Result<(), SendError> {
        if self.is_full.load(Ordering::Relaxed) { Err(SendError::Dropped) } else { self.device.send(packet) }
    }
}
