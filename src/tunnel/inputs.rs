//! What the phone's system tells the tunnel, and what follows from it: pure.

use std::time::Duration;

use crate::budget::Pressure;
use crate::proto::pool::{Conditions, Power};
use crate::proto::timers::{Moment, earliest};

/// A network change is acted upon when nothing else was heard for so long: systems report one in pieces.
const QUIET: Duration = Duration::from_millis(300);

/// A network that never comes to rest is acted upon all the same: apps wait.
const LONGEST_UNREST: Duration = Duration::from_millis(600);

/// The network that the phone's traffic leaves by.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Path {
    /// What tells it from others: two paths with the same one are the same network, to which connections
    /// made on it still belong. Android: the `Network` handle; iOS: interface and gateway; elsewhere:
    /// interface, gateway and own address.
    pub id: String,
}

impl Path {
    /// The network that is known by `id`.
    pub fn new(id: impl Into<String>) -> Self {
        Self { id: id.into() }
    }
}

/// What is known of the phone when a tunnel starts.
#[derive(Clone, Debug, Default)]
pub struct Phone {
    /// The network: `None` when nothing is known of it, `Some(None)` when there is none.
    pub path: Option<Option<Path>>,
    /// How awake it is.
    pub power: Power,
    /// How short of memory.
    pub pressure: Pressure,
}

/// What has to be done about the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum PathEvent {
    /// The first one: connections that there are belong to it.
    First(Path),
    /// Another one.
    Changed(Path),
    /// There is none, or the last one is back: the conditions tell.
    Availability,
}

/// All that was told, the latest only.
#[derive(Debug, Default)]
pub(super) struct Inputs {
    /// The network acted upon last, be it gone since.
    path: Option<Path>,
    /// When the first one was reported, which has not been passed on yet.
    first: Option<Moment>,
    is_offline: bool,
    /// What was reported since, and when it will be acted upon, at the latest.
    reported: Option<(Option<Path>, Moment, Moment)>,
    power: Power,
    /// Whether the phone has said how awake it is since the conditions were last taken.
    is_woken: bool,
    pub(super) pressure: Pressure,
}

impl Inputs {
    /// What was known before anything was done counts at once.
    pub(super) fn new(phone: Phone, now: Moment) -> Self {
        let Phone { path, power, pressure } = phone;
        let is_offline = path == Some(None);
        let path = path.flatten();
        Self { first: path.is_some().then_some(now), path, is_offline, power, pressure, ..Self::default() }
    }

    /// The system says which network there is. What says nothing new costs nothing.
    pub(super) fn handle_path(&mut self, path: Option<Path>, now: Moment) {
        if path.is_some() && self.path.is_none() && self.reported.is_none() && !self.is_offline {
            // What is dialled from now on belongs to it, so that it must not be mixed up with the next one.
            (self.path, self.first) = (path, Some(now));
            return;
        }
        let latest = self.reported.as_ref().map_or_else(|| self.current(), |(path, ..)| path.as_ref());
        if latest == path.as_ref() && (self.path.is_some() || self.reported.is_some()) {
            return;
        }
        if self.reported.is_some() && self.path.is_some() && self.current() == path.as_ref() {
            self.reported = None; // there and back again
            return;
        }
        let end = self.reported.as_ref().map_or(now + LONGEST_UNREST, |&(.., end)| end);
        self.reported = Some((path, (now + QUIET).min(end), end));
    }

    fn current(&self) -> Option<&Path> {
        self.path.as_ref().filter(|_| !self.is_offline)
    }

    /// When a report is acted upon.
    pub(super) fn poll_timeout(&self) -> Option<Moment> {
        earliest(self.first, self.reported.as_ref().map(|&(_, due, _)| due))
    }

    /// Acts upon the report, if it is time.
    pub(super) fn handle_timeout(&mut self, now: Moment) -> Option<PathEvent> {
        if self.first.take().is_some() {
            return self.path.clone().map(PathEvent::First);
        }
        let (path, ..) = self.reported.take_if(|&mut (_, due, _)| due <= now)?;
        let Some(path) = path else {
            self.is_offline = true;
            return Some(PathEvent::Availability);
        };
        self.is_offline = false;
        match self.path.replace(path.clone()) {
            Some(before) if before == path => Some(PathEvent::Availability),
            Some(_) | None => Some(PathEvent::Changed(path)), // None: it was reported that there was none
        }
    }

    /// The system says how awake the phone is.
    pub(super) fn handle_power(&mut self, power: Power) {
        self.power = power;
        self.is_woken = true;
    }

    /// Whether the phone may have slept since the last call: timers stood still then.
    pub(super) fn take_wake(&mut self) -> bool {
        std::mem::take(&mut self.is_woken)
    }

    /// The network that the sessions belong to.
    pub(super) fn path(&self) -> Option<&Path> {
        self.path.as_ref()
    }

    /// What the pool has to know.
    pub(super) fn conditions(&self) -> Conditions {
        Conditions {
            power: self.power,
            is_online: !self.is_offline,
            is_memory_short: self.pressure != Pressure::Normal,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Moment = Moment::from_origin(Duration::from_secs(1000));

    fn at(millis: u64) -> Moment {
        START + Duration::from_millis(millis)
    }

    fn wifi() -> Option<Path> {
        Some(Path::new("wlan0"))
    }

    fn cell() -> Option<Path> {
        Some(Path::new("rmnet0"))
    }

    /// Lets the report settle.
    fn settle(inputs: &mut Inputs) -> Option<PathEvent> {
        let due = inputs.poll_timeout()?;
        inputs.handle_timeout(due)
    }

    fn on_wifi() -> Inputs {
        let mut inputs = Inputs::default();
        inputs.handle_path(wifi(), at(0));
        assert_eq!(settle(&mut inputs), Some(PathEvent::First(Path::new("wlan0"))));
        inputs
    }

    #[test]
    fn what_was_known_before_counts_at_once() {
        let nowhere = Phone { path: Some(None), power: Power::Doze, pressure: Pressure::Low };
        let mut inputs = Inputs::new(nowhere, at(0));
        let conditions = Conditions { power: Power::Doze, is_online: false, is_memory_short: true };
        assert_eq!((inputs.conditions(), inputs.poll_timeout()), (conditions, None));
        inputs.handle_path(wifi(), at(0));
        assert_eq!(settle(&mut inputs), Some(PathEvent::Changed(Path::new("wlan0"))));

        let mut inputs = Inputs::new(Phone { path: Some(wifi()), ..Phone::default() }, at(0));
        assert_eq!(inputs.handle_timeout(at(0)), Some(PathEvent::First(Path::new("wlan0"))));
        assert_eq!((inputs.conditions().is_online, inputs.poll_timeout()), (true, None));
        assert!(Inputs::new(Phone::default(), at(0)).conditions().is_online);
    }

    #[test]
    fn the_same_network_a_hundred_times_costs_nothing() {
        let mut inputs = on_wifi();
        for millis in 0..100 {
            inputs.handle_path(wifi(), at(millis));
            assert_eq!(inputs.poll_timeout(), None);
        }
    }

    #[test]
    fn the_first_network_counts_however_soon_the_next_one_follows() {
        let first = Some(PathEvent::First(Path::new("wlan0")));
        for (next, expected) in
            [(cell(), Some(PathEvent::Changed(Path::new("rmnet0")))), (None, Some(PathEvent::Availability))]
        {
            let mut inputs = Inputs::default();
            inputs.handle_path(wifi(), at(0));
            inputs.handle_path(next, at(0));
            assert_eq!(settle(&mut inputs), first);
            assert_eq!(settle(&mut inputs), expected);
        }
    }

    #[test]
    fn a_new_network_is_acted_upon_after_a_quiet_time() {
        let mut inputs = on_wifi();
        inputs.handle_path(None, at(1000));
        inputs.handle_path(cell(), at(1100));
        assert_eq!(inputs.handle_timeout(at(1399)), None);
        assert_eq!(inputs.handle_timeout(at(1400)), Some(PathEvent::Changed(Path::new("rmnet0"))));
        assert!(inputs.conditions().is_online);
    }

    #[test]
    fn a_network_that_flickers_and_is_the_same_is_no_change() {
        let mut inputs = on_wifi();
        inputs.handle_path(None, at(1000));
        inputs.handle_path(cell(), at(1050));
        inputs.handle_path(wifi(), at(1100));
        assert_eq!(inputs.poll_timeout(), None);
    }

    #[test]
    fn a_network_that_never_rests_is_acted_upon_all_the_same() {
        let mut inputs = on_wifi();
        for number in 0..7 {
            inputs.handle_path(Some(Path::new(format!("net{number}"))), at(1000 + number * 100));
        }
        assert_eq!(inputs.poll_timeout(), Some(at(1600)));
    }

    #[test]
    fn no_network_and_the_same_again_is_an_outage_not_a_change() {
        let mut inputs = on_wifi();
        inputs.handle_path(None, at(1000));
        assert_eq!(settle(&mut inputs), Some(PathEvent::Availability));
        assert!(!inputs.conditions().is_online);
        inputs.handle_path(None, at(2000));
        assert_eq!(inputs.poll_timeout(), None);
        inputs.handle_path(wifi(), at(3000));
        assert_eq!(settle(&mut inputs), Some(PathEvent::Availability));
        assert!(inputs.conditions().is_online);
    }

    #[test]
    fn starting_without_a_network_the_first_one_is_a_change() {
        let mut inputs = Inputs::default();
        inputs.handle_path(None, at(0));
        assert_eq!(settle(&mut inputs), Some(PathEvent::Availability));
        inputs.handle_path(wifi(), at(1000));
        assert_eq!(settle(&mut inputs), Some(PathEvent::Changed(Path::new("wlan0"))));
    }
}
