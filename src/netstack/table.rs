//! Which flow a packet belongs to.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::SocketAddr;

/// What names a TCP flow: who asked, and for whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Tuple {
    pub(super) source: SocketAddr,
    pub(super) destination: SocketAddr,
}

/// A flow's place in the table. An id is never given twice, so one kept too long finds nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct FlowId {
    slot: u32,
    generation: u32,
}

impl FlowId {
    #[cfg(test)]
    pub(super) fn new(slot: u32, generation: u32) -> Self {
        Self { slot, generation }
    }
}

/// Flows by what names them, a TCP flow's 5-tuple say, and by id.
///
/// The map's hasher is SipHash with keys of its own from the OS, so an app cannot choose ports that collide.
#[derive(Debug)]
pub(super) struct Table<K, T> {
    slots: Vec<Slot<K, T>>,
    free: Vec<u32>,
    ids: HashMap<K, FlowId>,
}

#[derive(Debug)]
struct Slot<K, T> {
    generation: u32,
    flow: Option<(K, T)>,
}

impl<K: Copy + Eq + Hash, T> Table<K, T> {
    pub(super) fn new() -> Self {
        Self { slots: Vec::new(), free: Vec::new(), ids: HashMap::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.ids.len()
    }

    /// Adds a flow, which `make` builds knowing its id, in place of any other with the same key.
    pub(super) fn insert(&mut self, key: K, make: impl FnOnce(FlowId) -> T) -> FlowId {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { generation: 0, flow: None });
            u32::try_from(self.slots.len() - 1).expect("fewer flows than the limit on them")
        });
        let id = FlowId { slot, generation: self.slots[slot as usize].generation };
        self.slots[slot as usize].flow = Some((key, make(id))); // u32 to usize widens
        if let Some(earlier) = self.ids.insert(key, id) {
            self.vacate(earlier);
        }
        id
    }

    pub(super) fn find(&self, key: &K) -> Option<FlowId> {
        self.ids.get(key).copied()
    }

    pub(super) fn get_mut(&mut self, id: FlowId) -> Option<&mut T> {
        let slot = self.slots.get_mut(id.slot as usize)?; // u32 to usize widens
        let (_, flow) = slot.flow.as_mut().filter(|_| slot.generation == id.generation)?;
        Some(flow)
    }

    pub(super) fn remove(&mut self, id: FlowId) -> Option<T> {
        self.get_mut(id)?;
        let (key, flow) = self.vacate(id)?;
        self.ids.remove(&key);
        Some(flow)
    }

    /// Every flow, with its id.
    pub(super) fn iter(&self) -> impl Iterator<Item = (FlowId, &T)> {
        self.ids.values().filter_map(|&id| {
            let slot = self.slots.get(id.slot as usize)?; // u32 to usize widens
            slot.flow.as_ref().map(|(_, flow)| (id, flow))
        })
    }

    /// Takes every flow out.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = T> {
        self.ids.clear();
        self.free.clear();
        self.slots.drain(..).filter_map(|slot| slot.flow.map(|(_, flow)| flow))
    }

    fn vacate(&mut self, id: FlowId) -> Option<(K, T)> {
        let slot = &mut self.slots[id.slot as usize]; // u32 to usize widens
        let flow = slot.flow.take();
        // A slot whose generations are used up is left empty for good: 2^32 flows later.
        if let Some(generation) = slot.generation.checked_add(1) {
            slot.generation = generation;
            self.free.push(id.slot);
        }
        flow
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tuple(port: u16) -> Tuple {
        Tuple {
            source: SocketAddr::from(([10, 0, 0, 2], port)),
            destination: SocketAddr::from(([192, 0, 2, 1], 443)),
        }
    }

    #[test]
    fn a_flow_is_found_by_tuple_and_by_id() {
        let mut table = Table::new();
        let id = table.insert(tuple(1), |_| "one");
        assert_eq!(table.find(&tuple(1)), Some(id));
        assert_eq!(table.get_mut(id), Some(&mut "one"));
        assert_eq!(table.find(&tuple(2)), None);
    }

    #[test]
    fn an_id_dies_with_its_flow() {
        let mut table = Table::new();
        let old = table.insert(tuple(1), |_| "old");
        assert_eq!(table.remove(old), Some("old"));
        let new = table.insert(tuple(2), |_| "new");
        assert_ne!(old, new);
        assert_eq!(table.get_mut(old), None);
        assert_eq!(table.remove(old), None);
        assert_eq!(table.get_mut(new), Some(&mut "new"));
        assert_eq!(table.len(), 1);
    }

    #[test]
    fn a_second_flow_with_the_same_tuple_takes_its_place() {
        let mut table = Table::new();
        let old = table.insert(tuple(1), |_| "old");
        let new = table.insert(tuple(1), |_| "new");
        assert_eq!(table.get_mut(old), None);
        assert_eq!(table.find(&tuple(1)), Some(new));
        assert_eq!(table.len(), 1);
    }

    #[test]
    fn slots_are_used_again() {
        let mut table = Table::new();
        for port in 0..1000 {
            let id = table.insert(tuple(port), |_| port);
            assert_eq!(table.remove(id), Some(port));
        }
        assert_eq!(table.slots.len(), 1);
    }
}
