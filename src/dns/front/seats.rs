//! Who is served over TCP, and who has to go for another.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// Apps served over TCP at once. A stub resolver comes this way only for an answer that was too large for a
/// datagram.
pub(in crate::dns) const MAX_SEATS: usize = 256;

/// Seats for a number of apps. Who has not asked for longest loses its seat to who comes when all are taken.
#[derive(Debug, Default)]
pub(in crate::dns) struct Seats(Mutex<Taken>);

#[derive(Debug, Default)]
struct Taken {
    last: u64,
    /// By when they last asked, in numbers that count up.
    by_age: BTreeMap<u64, oneshot::Sender<()>>,
}

impl Seats {
    /// Takes a seat; what comes with it is ready once another has got it.
    pub(in crate::dns) fn take(&self) -> (Seat<'_>, oneshot::Receiver<()>) {
        let (keeps, lost) = oneshot::channel();
        let mut taken = self.lock();
        while taken.by_age.len() >= MAX_SEATS {
            taken.by_age.pop_first();
        }
        let number = taken.add(keeps);
        (Seat { seats: self, number }, lost)
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Taken {
    fn add(&mut self, keeps: oneshot::Sender<()>) -> u64 {
        self.last += 1;
        self.by_age.insert(self.last, keeps);
        self.last
    }
}

/// One app's, given back on drop.
pub(in crate::dns) struct Seat<'a> {
    seats: &'a Seats,
    number: u64,
}

impl Seat<'_> {
    /// The app has asked.
    pub(in crate::dns) fn renew(&mut self) {
        let mut taken = self.seats.lock();
        if let Some(keeps) = taken.by_age.remove(&self.number) {
            self.number = taken.add(keeps);
        }
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        self.seats.lock().by_age.remove(&self.number);
    }
}
