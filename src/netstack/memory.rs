//! The rings' memory: elastic under rings that are not, and bounded for all of them together.
//!
//! smoltcp's rings have a fixed size, so each flow reserves address space for two and touches pages only
//! as bytes come. What is accounted is the pages touched. A ring that has drained gives them back.

use std::mem;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use smoltcp::iface::SocketSet;

use crate::budget::Pressure;
use crate::netstack::lock;
use crate::platform::memory::{self, Mapping, Tenancy, Tenant};

/// Sizes of one ring, largest first. 256 KiB holds a batch and a half of packets in each direction; 16 KiB
/// is one page on the systems with large pages, and still one MSS at an MTU of 9000.
const RING_BYTES: [usize; 3] = [256 * 1024, 64 * 1024, 16 * 1024];

/// What all rings may reserve of the address space before those of new flows are smaller. Without use it costs nothing:
/// a flow that does move bytes has a large window, however many are idle beside it.
const ADDRESS_SPACE: usize = if usize::BITS >= 64 { 8 << 30 } else { 256 << 20 };

/// What a ring may hold as long as there is any memory, so that every flow moves on: a packet of 9000 bytes,
/// wherever it falls on pages of 4 KiB. Two pages where they are larger.
const FLOOR_BYTES: usize = 16 * 1024;

/// Beyond its floor, a ring may hold this part of what is free. The more is held, the less each may take, so
/// that flows which stall leave something for those that come after them (Choudhury and Hahne's dynamic
/// threshold). Half of 16 MiB is given out before the largest ring feels it.
const SHARE: usize = 32;

/// What of the budget flows must leave to their rings.
const RINGS_PART: usize = 16;

/// Mappings kept for the next flows, so that a short flow costs no system call and no page fault.
const WARM_MAPPINGS: usize = 16;

/// The most that one warm mapping may hold: with the above, 1 MiB in all.
const WARM_BYTES: usize = 64 * 1024;

/// The tenant of a flow's mapping: a set of one socket.
pub(super) struct Sockets;

impl Tenant for Sockets {
    type At<'memory> = SocketSet<'memory>;
}

/// The budget that flows and their rings share. Locked only when a page is first touched or given back.
#[derive(Debug)]
pub(super) struct Memory {
    budget: usize,
    /// What a flow takes off the budget besides its pages.
    flow_bytes: usize,
    page: usize,
    address_space: usize,
    /// Flows that hold pages.
    holders: AtomicUsize,
    /// Bytes of touched pages, in rings and in warm mappings. Written under the lock.
    held: AtomicUsize,
    /// What shares are made of: less than the budget under pressure.
    spread: AtomicUsize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Flows that have rings.
    flows: usize,
    /// Flows that have none.
    ringless: usize,
    warm: Vec<Warm>,
    /// Whether mappings are kept for the next flows.
    cold: bool,
    /// Whether a page was refused since [`Memory::take_shortage`] last asked.
    short: bool,
    /// Whether a page was given back since [`Memory::take_relief`] last asked.
    relieved: bool,
}

#[derive(Debug)]
struct Warm {
    mapping: Mapping,
    ring: usize,
    touched: [u64; 2],
}

impl Memory {
    pub(super) fn new(budget: usize, flow_bytes: usize) -> Self {
        Self {
            budget,
            flow_bytes,
            page: memory::page_bytes(),
            address_space: ADDRESS_SPACE,
            holders: AtomicUsize::new(0),
            held: AtomicUsize::new(0),
            spread: AtomicUsize::new(budget),
            state: Mutex::default(),
        }
    }

    /// Bytes of touched pages.
    pub(super) fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    /// The same, and what flows take besides.
    pub(super) fn held_in_all(&self) -> usize {
        self.held() + self.flows_bytes(&lock(&self.state))
    }

    /// Whether there is room for one flow more, with a part left for rings, or the flows that there are would stand
    /// still. If not, what is kept and what is spare is to go.
    pub(super) fn admits_flow(&self) -> bool {
        let fits = |state: &State| {
            let pages = self.held().max(self.budget / RINGS_PART);
            pages + self.flows_bytes(state) + self.flow_bytes <= self.budget
        };
        if fits(&lock(&self.state)) {
            return true;
        }
        self.chill();
        let mut state = lock(&self.state);
        state.short = true;
        fits(&state)
    }

    /// Counts one flow more, of those without rings, for as long as its place is kept.
    pub(super) fn enter(self: &Arc<Self>) -> Place {
        lock(&self.state).ringless += 1;
        Place { memory: Arc::clone(self) }
    }

    /// What all flows take besides pages.
    fn flows_bytes(&self, state: &State) -> usize {
        (state.flows + state.ringless) * self.flow_bytes
    }

    /// Makes every ring's share smaller, down to its floor, or as large as it was. The budget itself stays,
    /// so that nobody has less than the floor for what others hold.
    pub(super) fn set_pressure(&self, pressure: Pressure) {
        let spread = match pressure {
            Pressure::Normal => self.budget,
            Pressure::Low => self.budget / 4,
            Pressure::Critical => 0,
        };
        self.spread.store(spread, Ordering::Relaxed);
        let mut state = lock(&self.state);
        state.cold = pressure != Pressure::Normal;
        state.short |= state.cold; // what is spare is collected at once
        state.relieved = true; // and who waits may look at the new shares
    }

    /// Whether a page was refused since the last call.
    pub(super) fn take_shortage(&self) -> bool {
        mem::take(&mut lock(&self.state).short)
    }

    /// Whether a page was given back since the last call.
    pub(super) fn take_relief(&self) -> bool {
        mem::take(&mut lock(&self.state).relieved)
    }

    /// What a ring that holds `own` bytes may hold now: its share, and no more than the budget has for every flow
    /// that holds any.
    fn limit(&self, own: usize) -> usize {
        let others = self.held().saturating_sub(own);
        let share = self.spread.load(Ordering::Relaxed).saturating_sub(others) / SHARE;
        let share = share.min(largest_ring(self.holders.load(Ordering::Relaxed), self.budget));
        FLOOR_BYTES.max(2 * self.page).max(share - share % self.page)
    }

    /// Lets the warm mappings go.
    pub(super) fn chill(&self) {
        let mut state = lock(&self.state);
        for warm in mem::take(&mut state.warm) {
            self.release(&mut state, self.touched_bytes(warm.ring, warm.touched));
        }
    }

    /// The ring size for the next flow: the largest that all flows could have.
    fn ring_bytes(&self, flows: usize) -> usize {
        largest_ring(flows + 1, self.address_space).max(self.page)
    }

    /// Accounts `bytes` more for a ring that holds `own`, unless memory is short.
    fn reserve(&self, bytes: usize, own: usize) -> bool {
        let mut state = lock(&self.state);
        let rings = self.budget.saturating_sub(self.flows_bytes(&state));
        let granted = self.held() + bytes <= rings && own + bytes <= self.limit(own);
        if granted {
            self.held.fetch_add(bytes, Ordering::Relaxed);
        } else {
            state.short = true;
        }
        granted
    }

    fn release(&self, state: &mut State, bytes: usize) {
        self.held.fetch_sub(bytes, Ordering::Relaxed);
        state.relieved |= bytes > 0;
    }

    fn unit(&self, ring: usize) -> usize {
        self.page.max(ring / 64)
    }

    fn touched_bytes(&self, ring: usize, touched: [u64; 2]) -> usize {
        touched.map(|pages| pages.count_ones() as usize).iter().sum::<usize>() * self.unit(ring) // ≤ 64 each
    }
}

/// The memory that a flow without rings takes.
#[derive(Debug)]
pub(super) struct Place {
    memory: Arc<Memory>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = lock(&self.memory.state);
        state.ringless -= 1;
        state.relieved = true; // rings may have what it took
    }
}

/// Which of a flow's two rings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ring {
    Receive = 0,
    Send = 1,
}

/// One flow's two rings: the memory, the socket that lives in it, and which pages of it are touched.
pub(super) struct Rings {
    memory: Arc<Memory>,
    /// Taken only in `drop`.
    home: Option<Tenancy<Sockets>>,
    ring: usize,
    touched: [u64; 2],
}

impl Rings {
    /// Rings of the size that suits the number of flows. `build` is lent the receive and the send ring.
    ///
    /// # Errors
    /// When the system has no address space left.
    pub(super) fn new(
        memory: Arc<Memory>,
        build: impl for<'memory> FnOnce(&'memory mut [u8], &'memory mut [u8]) -> SocketSet<'memory>,
    ) -> std::io::Result<Self> {
        let mut state = lock(&memory.state);
        let ring = memory.ring_bytes(state.flows);
        let warm = state.warm.iter().rposition(|warm| warm.ring == ring);
        let (mapping, touched) = match warm.map(|place| state.warm.swap_remove(place)) {
            Some(warm) => (warm.mapping, warm.touched),
            None => (Mapping::new(2 * ring)?, [0; 2]),
        };
        state.flows += 1;
        drop(state);
        let home = Tenancy::new(mapping, |bytes| {
            let (receive, send) = bytes.split_at_mut(ring);
            build(receive, send)
        });
        let rings = Self { memory, home: Some(home), ring, touched };
        rings.count_holder(false);
        Ok(rings)
    }

    /// The size of each ring.
    pub(super) fn ring_bytes(&self) -> usize {
        self.ring
    }

    /// How many bytes from `start` on the receive ring may hold now: its size, or what fits the fewer pages
    /// that it may have when memory is short.
    pub(super) fn receive_limit(&self, start: usize) -> usize {
        let limit = self.memory.limit(self.own_bytes(Ring::Receive));
        if limit < self.ring { limit - start % self.memory.unit(self.ring) } else { self.ring }
    }

    /// Lends the socket.
    pub(super) fn with<R>(&mut self, use_it: impl for<'memory> FnOnce(&mut SocketSet<'memory>) -> R) -> R {
        self.home.as_mut().expect("taken only in drop").with(use_it)
    }

    /// Accounts the pages under `len` bytes from `start` on, around the ring's end: all of them or none.
    pub(super) fn touch(&mut self, ring: Ring, start: usize, len: usize) -> bool {
        let missing = self.span(start, len) & !self.touched[ring as usize];
        missing == 0 || self.grow(ring, missing)
    }

    /// The same, page by page for as long as memory lasts; gives how many bytes are covered.
    pub(super) fn touch_some(&mut self, ring: Ring, start: usize, len: usize) -> usize {
        let unit = self.memory.unit(self.ring);
        let mut covered = 0;
        while covered < len {
            let at = (start + covered) % self.ring;
            let step = (unit - at % unit).min(len - covered);
            if !self.touch(ring, at, step) {
                break;
            }
            covered += step;
        }
        covered
    }

    /// Whether any page is touched.
    pub(super) fn holds_pages(&self) -> bool {
        self.touched != [0; 2]
    }

    /// Whether pages are touched that hold none of the live bytes, given as start and length in each ring.
    pub(super) fn has_spare(&self, live: [(usize, usize); 2]) -> bool {
        self.spare(live) != [0; 2]
    }

    /// Gives the pages back that hold none of the live bytes.
    pub(super) fn give_back(&mut self, live: [(usize, usize); 2]) {
        let spare = self.spare(live);
        let unit = self.memory.unit(self.ring);
        let held = self.holds_pages();
        let home = self.home.as_mut().expect("taken only in drop");
        for (ring, pages) in spare.into_iter().enumerate() {
            for run in runs(pages) {
                home.give_back(ring * self.ring + run.start * unit..ring * self.ring + run.end * unit);
            }
            self.touched[ring] &= !pages;
        }
        let bytes = self.memory.touched_bytes(self.ring, spare);
        self.memory.release(&mut lock(&self.memory.state), bytes);
        self.count_holder(held);
    }

    fn spare(&self, live: [(usize, usize); 2]) -> [u64; 2] {
        let [receive, send] = live.map(|(start, len)| self.span(start, len));
        [self.touched[0] & !receive, self.touched[1] & !send]
    }

    fn grow(&mut self, ring: Ring, missing: u64) -> bool {
        let held = self.holds_pages();
        let bytes = self.memory.touched_bytes(self.ring, [missing, 0]);
        let granted = self.memory.reserve(bytes, self.own_bytes(ring));
        if granted {
            self.touched[ring as usize] |= missing; // 0 or 1
            self.count_holder(held);
        }
        granted
    }

    /// Counts the flow among those that hold pages if it does now, and did not, or the reverse.
    fn count_holder(&self, held: bool) {
        match (held, self.holds_pages()) {
            (false, true) => self.memory.holders.fetch_add(1, Ordering::Relaxed),
            (true, false) => self.memory.holders.fetch_sub(1, Ordering::Relaxed),
            _ => return,
        };
    }

    fn own_bytes(&self, ring: Ring) -> usize {
        self.memory.touched_bytes(self.ring, [self.touched[ring as usize], 0]) // 0 or 1
    }

    /// The pages under `len` bytes from `start` on, around the ring's end.
    fn span(&self, start: usize, len: usize) -> u64 {
        if len == 0 {
            return 0;
        }
        let unit = self.memory.unit(self.ring);
        let pages = self.ring / unit;
        let first = start / unit;
        let count = ((start + len - 1) / unit - first + 1).min(pages);
        let straight = low_bits(count) << first;
        // Both halves fit: pages is at most 64, so the wrapped bits lie below bit 64 again.
        ((straight | straight >> pages) & low_bits(pages)) as u64
    }
}

impl Drop for Rings {
    fn drop(&mut self) {
        let Some(home) = self.home.take() else { return };
        let mut mapping = home.into_mapping();
        let held = self.holds_pages();
        let mut touched = mem::take(&mut self.touched);
        self.count_holder(held);
        let mut held = self.memory.touched_bytes(self.ring, touched);
        let mut state = lock(&self.memory.state);
        state.flows -= 1;
        self.memory.release(&mut state, held);
        if state.cold || state.warm.len() == WARM_MAPPINGS {
            return;
        }
        if held > WARM_BYTES || state.short {
            mapping.give_back(0..2 * self.ring);
            (held, touched) = (0, [0; 2]);
        }
        self.memory.held.fetch_add(held, Ordering::Relaxed);
        state.warm.push(Warm { mapping, ring: self.ring, touched });
    }
}

/// The largest size of rings of which `total` has two for each of so many flows.
fn largest_ring(flows: usize, total: usize) -> usize {
    let fits = |ring: usize| flows.saturating_mul(2 * ring) <= total;
    RING_BYTES.into_iter().find(|&ring| fits(ring)).unwrap_or(FLOOR_BYTES)
}

/// The lowest `count` bits, of at most 64.
fn low_bits(count: usize) -> u128 {
    (1 << count) - 1
}

/// Runs of set bits.
fn runs(mut bits: u64) -> impl Iterator<Item = Range<usize>> {
    std::iter::from_fn(move || {
        if bits == 0 {
            return None;
        }
        let start = bits.trailing_zeros() as usize; // < 64
        let len = (bits >> start).trailing_ones() as usize; // ≤ 64
        bits &= !((low_bits(len) << start) as u64); // start + len ≤ 64
        Some(start..start + len)
    })
}

#[cfg(test)]
mod tests;
