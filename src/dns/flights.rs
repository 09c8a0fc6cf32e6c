//! Questions under way to the resolver, and who waits for them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use super::answer::Strip;
use super::message::Key;
use crate::proto::timers::Moment;

/// Questions under way at most. A burst of a whole page's names is a few hundred.
const MAX_FLIGHTS: usize = 1024;

/// Queries waiting at most, with those that wait for the same answer.
const MAX_WAITING: usize = 4096;

/// A question that has no answer by then gets none: stub resolvers ask again after five seconds.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a question costs beside its key: its places in the maps, and the message while it is sent. A guess.
const FLIGHT_BYTES: usize = 384;

/// Which question; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub(super) u64);

/// A question under way. `W` is who waits.
#[derive(Debug)]
pub(super) struct Flight<W> {
    pub(super) key: Key,
    pub(super) strip: Strip,
    pub(super) began: Moment,
    pub(super) waiters: Vec<W>,
    /// Asked under the options of today.
    pub(super) is_current: bool,
    waiter_bytes: usize,
}

/// What became of one who wants to wait.
#[derive(Debug)]
pub(super) enum Boarding<W> {
    /// The question is under way already.
    Joined,
    /// It is to be asked.
    Opened,
    /// There is no room.
    Full(W),
}

/// All of them, bounded in number and bytes.
#[derive(Debug)]
pub(super) struct Flights<W> {
    /// Older ones have lower tickets.
    flights: BTreeMap<Ticket, Flight<W>>,
    /// Of each question under today's options, the last flight.
    by_key: HashMap<Key, Ticket>,
    unasked: BTreeSet<Ticket>,
    next: u64,
    waiting: usize,
    bytes: usize,
    limit: usize,
}

impl<W> Flights<W> {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            flights: BTreeMap::new(),
            by_key: HashMap::new(),
            unasked: BTreeSet::new(),
            next: 0,
            waiting: 0,
            bytes: 0,
            limit,
        }
    }

    /// For those to come.
    pub(super) fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    pub(super) fn len(&self) -> usize {
        self.flights.len()
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes that more of them may hold.
    pub(super) fn free(&self) -> usize {
        self.limit.saturating_sub(self.bytes)
    }

    /// Lets `waiter`, which holds `bytes`, wait for the answer to a question.
    pub(super) fn board(
        &mut self,
        key: Key,
        strip: Strip,
        waiter: W,
        bytes: usize,
        now: Moment,
    ) -> Boarding<W> {
        // Who came when a question is half given up would wait for less than others do.
        let joins = |flight: &Flight<W>| now.since(flight.began) < PATIENCE / 2;
        let ticket =
            self.by_key.get(&key).copied().filter(|ticket| self.flights.get(ticket).is_some_and(joins));
        let flight_bytes = if ticket.is_none() { flight_bytes(&key) } else { 0 };
        let no_room = self.waiting >= MAX_WAITING
            || self.bytes + bytes + flight_bytes > self.limit
            || ticket.is_none() && self.flights.len() >= MAX_FLIGHTS;
        if no_room {
            return Boarding::Full(waiter);
        }
        self.waiting += 1;
        self.bytes += bytes + flight_bytes;
        if let Some(flight) = ticket.and_then(|ticket| self.flights.get_mut(&ticket)) {
            flight.waiters.push(waiter);
            flight.waiter_bytes += bytes;
            return Boarding::Joined;
        }
        let ticket = Ticket(self.next);
        self.next += 1;
        self.by_key.insert(key.clone(), ticket);
        self.unasked.insert(ticket);
        let waiters = vec![waiter];
        let flight = Flight { key, strip, began: now, waiters, is_current: true, waiter_bytes: bytes };
        self.flights.insert(ticket, flight);
        Boarding::Opened
    }

    /// A question that was not asked yet.
    pub(super) fn poll_question(&mut self) -> Option<(Ticket, Vec<u8>)> {
        let ticket = self.unasked.pop_first()?;
        Some((ticket, self.flights.get(&ticket)?.key.message()))
    }

    /// Ends a flight: `None` when it is not under way (any more).
    pub(super) fn land(&mut self, ticket: Ticket) -> Option<Flight<W>> {
        let flight = self.flights.remove(&ticket)?;
        self.unasked.remove(&ticket);
        if self.by_key.get(&flight.key) == Some(&ticket) {
            self.by_key.remove(&flight.key);
        }
        self.waiting -= flight.waiters.len();
        self.bytes -= flight.waiter_bytes + flight_bytes(&flight.key);
        Some(flight)
    }

    /// When the first flight has waited too long.
    pub(super) fn poll_timeout(&self) -> Option<Moment> {
        self.flights.values().next().map(|flight| flight.began + PATIENCE)
    }

    /// Ends a flight that has waited too long.
    pub(super) fn land_overdue(&mut self, now: Moment) -> Option<Flight<W>> {
        let (&ticket, flight) = self.flights.first_key_value()?;
        if flight.began + PATIENCE > now {
            return None;
        }
        self.land(ticket)
    }

    /// Under new options: those under way are answered, but not joined any more.
    pub(super) fn close_boarding(&mut self) {
        self.by_key = HashMap::new();
        self.flights.values_mut().for_each(|flight| flight.is_current = false);
    }
}

fn flight_bytes(key: &Key) -> usize {
    FLIGHT_BYTES + key.bytes()
}
