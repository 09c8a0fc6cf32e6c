//! One direction of a bad network, as a value: packets and moments in, packets out.

use std::collections::VecDeque;
use std::time::Duration;

use rand::RngExt;
use rand::rngs::StdRng;

use super::Impairment;
use crate::proto::timers::{Moment, earliest};

/// Packets on the way at most: 100 ms of 400 Mbit/s in packets of 1280 bytes.
pub(super) const LINE_PACKETS: usize = 4096;

/// A packet held back is passed by 1 to this many others: less and more than the 3 after which TCP takes
/// it for lost.
const MOST_OVERTAKERS: u32 = 5;

/// How long a packet is held back when fewer follow: the last one of a burst is late, not lost.
const LONGEST_HOLD: Duration = Duration::from_millis(20);

/// The packets on their way in one direction.
#[derive(Debug)]
pub(super) struct Line {
    impairment: Impairment,
    generator: StdRng,
    /// In the order of arrival, which is the order of the moments, since all travel equally long.
    flying: VecDeque<(Moment, Vec<u8>)>,
    /// Not yet on their way; in the order of `until`.
    held: Vec<Held>,
}

#[derive(Debug)]
struct Held {
    packet: Vec<u8>,
    overtakers: u32,
    until: Moment,
}

impl Line {
    pub(super) fn new(impairment: Impairment, generator: StdRng) -> Self {
        Self { impairment, generator, flying: VecDeque::new(), held: Vec::new() }
    }

    /// Decides a packet's fate. Moments must not go back between calls.
    pub(super) fn push(&mut self, packet: &[u8], now: Moment) {
        self.release_overdue(now);
        let Impairment { loss, duplication, reordering, delay: _ } = self.impairment;
        // All drawn for every packet, so that no setting changes which packets another one hits.
        let [lost, doubled, late] = [loss, duplication, reordering].map(|probability| self.draw(probability));
        let overtakers = self.generator.random_range(1..=MOST_OVERTAKERS);
        if lost {
            return;
        }
        if doubled {
            self.depart(packet.to_vec(), now);
        }
        if late {
            self.held.push(Held { packet: packet.to_vec(), overtakers, until: now + LONGEST_HOLD });
        } else {
            self.depart(packet.to_vec(), now);
        }
    }

    /// Takes the next packet that has arrived by `now`.
    pub(super) fn pop(&mut self, now: Moment) -> Option<Vec<u8>> {
        self.release_overdue(now);
        let (due, _) = self.flying.front()?;
        if *due > now {
            return None;
        }
        self.flying.pop_front().map(|(_, packet)| packet)
    }

    /// When the next packet arrives, if none is pushed before.
    pub(super) fn next_due(&self) -> Option<Moment> {
        let held = self.held.first().map(|held| held.until + self.impairment.delay);
        earliest(self.flying.front().map(|(due, _)| *due), held)
    }

    pub(super) fn is_full(&self) -> bool {
        self.flying.len() + self.held.len() >= LINE_PACKETS
    }

    fn draw(&mut self, probability: f64) -> bool {
        self.generator.random::<f64>() < probability
    }

    /// Sends a packet on its way, and behind it those that it is the last to overtake.
    fn depart(&mut self, packet: Vec<u8>, now: Moment) {
        let due = now + self.impairment.delay;
        self.flying.push_back((due, packet));
        for held in &mut self.held {
            held.overtakers = held.overtakers.saturating_sub(1);
        }
        let overtaken = self.held.extract_if(.., |held| held.overtakers == 0);
        self.flying.extend(overtaken.map(|held| (due, held.packet)));
    }

    fn release_overdue(&mut self, now: Moment) {
        let delay = self.impairment.delay;
        let overdue = self.held.extract_if(.., |held| held.until <= now);
        self.flying.extend(overdue.map(|held| (held.until + delay, held.packet)));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use rand::SeedableRng;

    use super::*;

    const SEED: u64 = 0x5eed;
    const PACKETS: u32 = 20_000;
    const START: Moment = Moment::from_origin(Duration::from_secs(1));

    /// What arrives of `PACKETS` numbered packets, pushed a microsecond apart.
    fn arrivals(seed: u64, impairment: Impairment) -> Vec<u32> {
        let mut line = Line::new(impairment, StdRng::seed_from_u64(seed));
        let mut arrived = Vec::new();
        let mut now = START;
        for number in 0..PACKETS {
            line.push(&number.to_be_bytes(), now);
            while let Some(packet) = line.pop(now) {
                arrived.push(packet);
            }
            now = now + Duration::from_micros(1);
        }
        while let Some(due) = line.next_due() {
            arrived.extend(line.pop(due));
        }
        arrived.iter().map(|packet| u32::from_be_bytes(packet[..].try_into().unwrap())).collect()
    }

    /// Fails when `hits` is more than 5 standard deviations off: 1 in 2 million for a right generator.
    #[track_caller]
    fn assert_rate(hits: usize, trials: u32, probability: f64) {
        let (hits, trials) = (u32::try_from(hits).unwrap(), f64::from(trials));
        let mean = trials * probability;
        let tolerance = 5.0 * (mean * (1.0 - probability)).sqrt();
        let off = (f64::from(hits) - mean).abs();
        assert!(off <= tolerance, "{hits} hits, expected {mean} ± {tolerance}, seed {SEED:#x}");
    }

    #[test]
    fn nothing_changes_without_an_impairment() {
        assert!(arrivals(SEED, Impairment::default()).into_iter().eq(0..PACKETS));
    }

    #[test]
    fn loss_is_as_frequent_as_asked_and_spread_evenly() {
        let arrived = arrivals(SEED, Impairment { loss: 0.1, ..Impairment::default() });
        assert!(arrived.is_sorted());
        assert_rate(arrived.len(), PACKETS, 0.9);
        for tenth in 0..10 {
            let part = tenth * PACKETS / 10..(tenth + 1) * PACKETS / 10;
            assert_rate(arrived.iter().filter(|number| part.contains(number)).count(), PACKETS / 10, 0.9);
        }
        assert_eq!(arrivals(SEED, Impairment { loss: 1.0, ..Impairment::default() }), [0_u32; 0]);
    }

    #[test]
    fn duplicates_are_as_frequent_as_asked() {
        let arrived = arrivals(SEED, Impairment { duplication: 0.2, ..Impairment::default() });
        let mut copies = HashMap::<u32, usize>::new();
        for number in arrived {
            *copies.entry(number).or_default() += 1;
        }
        assert!((0..PACKETS).all(|number| matches!(copies[&number], 1 | 2)));
        assert_rate(copies.values().filter(|copies| **copies == 2).count(), PACKETS, 0.2);
    }

    #[test]
    fn reordered_packets_are_passed_by_as_many_as_drawn_and_none_is_lost() {
        let probability = 0.05;
        let arrived = arrivals(SEED, Impairment { reordering: probability, ..Impairment::default() });
        let mut position = HashMap::<u32, usize>::new();
        let mut passed_by = HashMap::<u32, usize>::new();
        for (place, number) in arrived.iter().enumerate() {
            assert_eq!(position.insert(*number, place), None);
            // Nobody arrives more than a few places early, so those before are near.
            let before = &arrived[place.saturating_sub(30)..place];
            passed_by.insert(*number, before.iter().filter(|earlier| *earlier > number).count());
        }
        assert_eq!(position.len(), arrived.len());
        assert!((0..PACKETS).all(|number| position.contains_key(&number)));
        assert_rate(passed_by.values().filter(|count| **count > 0).count(), PACKETS, probability);
        for overtakers in 1..=usize::try_from(MOST_OVERTAKERS).unwrap() {
            let reordered = passed_by.values().filter(|count| **count == overtakers).count();
            assert!(reordered > 0, "{overtakers} overtakers never seen, seed {SEED:#x}");
        }
    }

    #[test]
    fn last_packet_held_back_still_arrives() {
        let impairment =
            Impairment { reordering: 1.0, delay: Duration::from_secs(1), ..Impairment::default() };
        let mut line = Line::new(impairment, StdRng::seed_from_u64(SEED));
        line.push(&[1], START);
        let due = START + LONGEST_HOLD + impairment.delay;
        assert_eq!(line.next_due(), Some(due));
        assert_eq!(line.pop(due - Duration::from_nanos(1)), None);
        assert_eq!(line.pop(due), Some(vec![1]));
        assert_eq!(line.next_due(), None);
    }

    #[test]
    fn delayed_packets_arrive_in_order_and_each_on_its_moment() {
        let delay = Duration::from_millis(30);
        let mut line = Line::new(Impairment { delay, ..Impairment::default() }, StdRng::seed_from_u64(SEED));
        let later = START + Duration::from_millis(7);
        line.push(&[1], START);
        line.push(&[2], later);
        assert_eq!(line.next_due(), Some(START + delay));
        assert_eq!(line.pop(START + delay), Some(vec![1]));
        assert_eq!(line.pop(START + delay), None);
        assert_eq!(line.next_due(), Some(later + delay));
        assert_eq!(line.pop(later + delay), Some(vec![2]));
    }

    #[test]
    fn same_seed_gives_the_same_fate_and_another_seed_another() {
        let impairment =
            Impairment { loss: 0.1, duplication: 0.1, reordering: 0.1, delay: Duration::from_millis(1) };
        assert_eq!(arrivals(SEED, impairment), arrivals(SEED, impairment));
        assert_ne!(arrivals(SEED, impairment), arrivals(SEED + 1, impairment));
    }

    #[test]
    fn one_impairment_does_not_change_whom_another_hits() {
        let lossy = arrivals(SEED, Impairment { loss: 0.1, ..Impairment::default() });
        let all = Impairment { loss: 0.1, duplication: 0.5, reordering: 0.5, ..Impairment::default() };
        let mut both = arrivals(SEED, all);
        both.sort_unstable();
        both.dedup();
        assert_eq!(lossy, both);
    }
}
