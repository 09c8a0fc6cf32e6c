//! Memory that ended flows leave with the allocator, and when it goes back to the system.

use std::time::Duration;

use crate::proto::timers::Moment;

/// So many flows must have ended for it to be worth a walk through the heap. A flow with its relay leaves a few
/// KiB, so that this is about a megabyte. A guess.
const MANY: u64 = 256;

/// How long no flow must have ended: the next ones use the memory again.
const CALM: Duration = Duration::from_secs(1);

/// Decides when the heap is tidied.
#[derive(Debug, Default)]
pub(super) struct Residue {
    /// Flows that have ended.
    ended: u64,
    /// How many of them had when the heap was last tidied.
    cleared: u64,
    last_end: Moment,
    due: Option<Moment>,
}

impl Residue {
    /// Takes in how many flows have ended so far.
    pub(super) fn handle_ended(&mut self, ended: u64, now: Moment) {
        if self.ended == ended {
            return;
        }
        (self.ended, self.last_end) = (ended, now);
        if ended - self.cleared >= MANY {
            self.due.get_or_insert(now + CALM);
        }
    }

    /// Memory is short: what little there is counts, once flows have had the time to end.
    pub(super) fn handle_shortage(&mut self, now: Moment) {
        self.due.get_or_insert(now + CALM);
    }

    pub(super) fn poll_timeout(&self) -> Option<Moment> {
        self.due
    }

    /// Whether the heap is to be tidied now.
    pub(super) fn take_due(&mut self, now: Moment) -> bool {
        if self.due.is_none_or(|due| due > now) {
            return false;
        }
        let calm_at = self.last_end + CALM;
        self.due = (calm_at > now).then_some(calm_at);
        if self.due.is_none() {
            self.cleared = self.ended;
        }
        self.due.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Moment {
        Moment::from_origin(Duration::from_millis(ms))
    }

    #[test]
    fn few_flows_are_no_reason_and_set_no_timer() {
        let mut residue = Residue::default();
        residue.handle_ended(MANY - 1, at(0));
        assert_eq!(residue.poll_timeout(), None);
        assert!(!residue.take_due(at(60_000)));
    }

    #[test]
    fn after_many_flows_the_heap_is_tidied_once_it_is_calm() {
        let mut residue = Residue::default();
        residue.handle_ended(MANY, at(0));
        residue.handle_ended(MANY + 1, at(900));
        assert_eq!(residue.poll_timeout(), Some(at(1000)));
        assert!(!residue.take_due(at(1000)), "one has just ended");
        assert_eq!(residue.poll_timeout(), Some(at(1900)));
        assert!(residue.take_due(at(1900)));
        assert_eq!(residue.poll_timeout(), None);
        residue.handle_ended(2 * MANY, at(2000));
        assert_eq!(residue.poll_timeout(), None, "those before are done with");
        residue.handle_ended(2 * MANY + 1, at(2000));
        assert_eq!(residue.poll_timeout(), Some(at(3000)));
    }

    #[test]
    fn a_shortage_is_a_reason_by_itself() {
        let mut residue = Residue::default();
        residue.handle_shortage(at(0));
        assert!(!residue.take_due(at(999)));
        assert!(residue.take_due(at(1000)));
        assert!(!residue.take_due(at(5000)));
    }
}
