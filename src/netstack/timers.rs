//! Deadlines of many flows behind one timer.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::netstack::table::FlowId;
use crate::proto::timers::Moment;

/// How many heap entries a flow may have before the stale ones are swept out. A flow leaves one behind
/// each time that its deadline moves to before the queued one, so two are common and more are rare.
const ENTRIES_PER_FLOW: usize = 4;

/// A flow's deadline, kept beside the flow.
///
/// Deadlines move with nearly every packet, mostly to later, so the heap is only told when one moves to
/// before what it already knows; the rest is settled when the queued moment comes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Deadline {
    wanted: Option<Moment>,
    /// The one heap entry that counts; others of the same flow are stale.
    queued: Option<Moment>,
}

/// Where flows keep their deadlines.
pub(super) trait Deadlines {
    /// A flow's deadline, if the flow still lives.
    fn deadline(&mut self, id: FlowId) -> Option<&mut Deadline>;
}

/// The heap of queued moments, with lazy deletion. A flow without a deadline costs nothing here.
#[derive(Debug, Default)]
pub(super) struct Timers {
    heap: BinaryHeap<Reverse<(Moment, FlowId)>>,
}

impl Timers {
    /// Moves a flow's deadline.
    pub(super) fn set(&mut self, id: FlowId, deadline: &mut Deadline, wanted: Option<Moment>) {
        deadline.wanted = wanted;
        let Some(wanted) = wanted else { return };
        if deadline.queued.is_none_or(|queued| wanted < queued) {
            deadline.queued = Some(wanted);
            self.heap.push(Reverse((wanted, id)));
        }
    }

    /// The nearest deadline and whose it is.
    pub(super) fn nearest(&mut self, flows: &mut impl Deadlines) -> Option<(Moment, FlowId)> {
        while let Some(&Reverse((at, id))) = self.heap.peek() {
            match flows.deadline(id) {
                Some(deadline) if deadline.queued == Some(at) => match deadline.wanted {
                    Some(wanted) if wanted <= at => return Some((at, id)),
                    later => {
                        self.heap.pop();
                        deadline.queued = None;
                        self.set(id, deadline, later);
                    }
                },
                _ => drop(self.heap.pop()),
            }
        }
        None
    }

    /// Throws stale entries out once they outnumber what `live` flows can explain.
    pub(super) fn compact(&mut self, live: usize, flows: &mut impl Deadlines) {
        if self.heap.len() > ENTRIES_PER_FLOW * (live + 1) {
            self.heap.retain(|&Reverse((at, id))| {
                flows.deadline(id).is_some_and(|deadline| deadline.queued == Some(at))
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::time::Duration;

    use super::*;

    /// Flows 0, 1, 2 … and their deadlines.
    #[derive(Default)]
    struct Flows {
        timers: Timers,
        deadlines: HashMap<FlowId, Deadline>,
    }

    impl Deadlines for HashMap<FlowId, Deadline> {
        fn deadline(&mut self, id: FlowId) -> Option<&mut Deadline> {
            self.get_mut(&id)
        }
    }

    impl Flows {
        fn set(&mut self, flow: u32, seconds: impl Into<Option<u64>>) {
            let deadline = self.deadlines.entry(FlowId::new(flow, 0)).or_default();
            self.timers.set(FlowId::new(flow, 0), deadline, seconds.into().map(at));
        }

        fn nearest(&mut self) -> Option<(Moment, FlowId)> {
            self.timers.nearest(&mut self.deadlines)
        }
    }

    fn at(seconds: u64) -> Moment {
        Moment::from_origin(Duration::from_secs(seconds))
    }

    fn due(seconds: u64, flow: u32) -> Option<(Moment, FlowId)> {
        Some((at(seconds), FlowId::new(flow, 0)))
    }

    #[test]
    fn the_nearest_deadline_comes_first() {
        let mut flows = Flows::default();
        flows.set(0, 5);
        flows.set(1, 3);
        flows.set(2, 9);
        assert_eq!(flows.nearest(), due(3, 1));
        flows.set(1, None);
        assert_eq!(flows.nearest(), due(5, 0));
    }

    #[test]
    fn a_deadline_that_moves_later_is_not_early() {
        let mut flows = Flows::default();
        flows.set(0, 1);
        flows.set(0, 7);
        assert_eq!(flows.timers.heap.len(), 1, "moving later costs no entry");
        assert_eq!(flows.nearest(), due(7, 0));
    }

    #[test]
    fn a_deadline_that_moves_earlier_is_not_late() {
        let mut flows = Flows::default();
        flows.set(0, 60);
        flows.set(0, 1);
        assert_eq!(flows.nearest(), due(1, 0));
        flows.set(0, 30);
        assert_eq!(flows.nearest(), due(30, 0));
        flows.set(0, None);
        assert_eq!(flows.nearest(), None);
    }

    #[test]
    fn a_flow_that_is_gone_has_no_deadline() {
        let mut flows = Flows::default();
        flows.set(0, 1);
        flows.set(1, 2);
        flows.deadlines.remove(&FlowId::new(0, 0));
        assert_eq!(flows.nearest(), due(2, 1));
    }

    #[test]
    fn stale_entries_do_not_pile_up() {
        let mut flows = Flows::default();
        for round in 0..1000 {
            flows.set(0, 100_000 - round);
            flows.timers.compact(1, &mut flows.deadlines);
        }
        assert!(flows.timers.heap.len() <= ENTRIES_PER_FLOW * 2 + 1);
        assert_eq!(flows.nearest(), due(99_001, 0));
    }
}
