//! The heartbeat interval that a network bears, learned (`"heartbeat": "auto"`).

use std::time::Duration;

use crate::proto::timers::InGo;

const START: Duration = Duration::from_secs(120);
const STEP: Duration = Duration::from_secs(60);
const LONGEST: Duration = Duration::from_secs(900);
/// Below this, a fixed interval is the better choice: the network is hostile.
const SHORTEST: Duration = Duration::from_secs(30);
/// So many answers at an interval, and it is taken for safe.
const PROOFS: u32 = 3;
/// Kept between the longest interval that was safe and the one that is used.
const MARGIN: Duration = Duration::from_secs(20);
/// Networks remembered: home, work, the phone's own, and some on the way.
const NETWORKS: usize = 8;

/// What is known of the present network, and of those before it.
#[derive(Debug, Default)]
pub(super) struct Auto {
    /// Those that were left, the latest last.
    networks: Vec<(String, Learned)>,
    here: Learned,
    name: String,
}

/// ```text
/// learning ─ 3 answers ─► a longer interval … ─► settled: the best that was safe, less the margin
///     └ no answer, though a fresh dial works ──┘
/// ```
#[derive(Clone, Copy, Debug)]
struct Learned {
    interval: Duration,
    answers: u32,
    best: Option<Duration>,
    /// The shortest interval that was too long.
    too_long: Option<Duration>,
    is_settled: bool,
    /// A session has died at this interval; whether the interval was to blame is not known yet.
    suspect: Option<Duration>,
}

impl Default for Learned {
    fn default() -> Self {
        Self { interval: START, answers: 0, best: None, too_long: None, is_settled: false, suspect: None }
    }
}

impl Auto {
    pub(super) fn interval(&self) -> Duration {
        self.here.interval
    }

    /// The present network is called so.
    pub(super) fn rename(&mut self, name: &str) {
        name.clone_into(&mut self.name);
    }

    /// The phone is on another network: what was learned there holds again.
    pub(super) fn switch(&mut self, name: &str) {
        self.here.suspect = None;
        let left = (std::mem::replace(&mut self.name, name.to_owned()), self.here);
        self.networks.retain(|(known, _)| *known != left.0);
        self.networks.push(left);
        if self.networks.len() > NETWORKS {
            self.networks.remove(0);
        }
        let known = self.networks.iter().find(|(known, _)| known == name);
        self.here = known.map(|&(_, learned)| learned).unwrap_or_default();
    }

    /// A session that had been silent for a whole interval has answered.
    pub(super) fn handle_answer(&mut self) {
        let here = &mut self.here;
        if here.is_settled {
            return;
        }
        here.answers += 1;
        if here.answers < PROOFS {
            return;
        }
        here.answers = 0;
        here.best = Some(here.interval);
        let next = here.interval + STEP;
        if next > LONGEST || here.too_long.is_some_and(|too_long| next >= too_long) {
            here.settle();
        } else {
            here.use_interval(next);
        }
    }

    /// A session has died in silence.
    pub(super) fn handle_death(&mut self) {
        self.here.suspect = Some(self.here.interval);
    }

    /// A fresh dial was answered: the network works, so that it was the interval which killed the session.
    pub(super) fn handle_proof(&mut self) {
        let here = &mut self.here;
        let Some(too_long) = here.suspect.take() else { return };
        here.answers = 0;
        here.too_long = Some(here.too_long.map_or(too_long, |before| before.min(too_long)));
        if here.best.is_some_and(|best| best < too_long) && !here.is_settled {
            here.settle();
        } else {
            (here.best, here.is_settled) = (None, false);
            here.use_interval(too_long / 2);
        }
    }

    /// A dial has failed: the network was down, which says nothing of the interval.
    pub(super) fn handle_outage(&mut self) {
        self.here.suspect = None;
    }
}

impl Learned {
    fn settle(&mut self) {
        self.is_settled = true;
        self.use_interval(self.best.unwrap_or(self.interval).saturating_sub(MARGIN));
    }

    fn use_interval(&mut self, interval: Duration) {
        self.interval = interval.max(SHORTEST);
        let (interval, is_settled) = (InGo(self.interval), self.is_settled);
        tracing::debug!("[Heartbeat] Learned interval: {interval}, settled: {is_settled}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secs(auto: &Auto) -> u64 {
        auto.interval().as_secs()
    }

    fn answers(auto: &mut Auto, count: u32) {
        for _ in 0..count {
            auto.handle_answer();
        }
    }

    #[test]
    fn it_grows_by_a_minute_after_three_answers_and_settles_below_the_longest() {
        let mut auto = Auto::default();
        assert_eq!(secs(&auto), 120);
        answers(&mut auto, 2);
        assert_eq!(secs(&auto), 120);
        answers(&mut auto, 1);
        assert_eq!(secs(&auto), 180);
        answers(&mut auto, 39);
        assert_eq!(secs(&auto), 880);
        answers(&mut auto, 100);
        assert_eq!(secs(&auto), 880);
    }

    #[test]
    fn a_death_counts_only_when_a_fresh_dial_works() {
        let mut auto = Auto::default();
        answers(&mut auto, 6);
        auto.handle_death();
        auto.handle_outage();
        auto.handle_proof();
        assert_eq!(secs(&auto), 240);
        auto.handle_death();
        auto.handle_proof();
        assert_eq!(secs(&auto), 160, "180 was the best");
    }

    #[test]
    fn a_network_that_kills_the_first_interval_is_given_a_shorter_one() {
        let mut auto = Auto::default();
        for expected in [60, 30, 30] {
            auto.handle_death();
            auto.handle_proof();
            assert_eq!(secs(&auto), expected);
        }
    }

    #[test]
    fn what_was_settled_is_given_up_when_it_kills() {
        let mut auto = Auto::default();
        answers(&mut auto, 3);
        auto.handle_death();
        auto.handle_proof();
        assert_eq!(secs(&auto), 100);
        auto.handle_death();
        auto.handle_proof();
        assert_eq!(secs(&auto), 50);
    }

    #[test]
    fn each_network_has_its_own() {
        let mut auto = Auto::default();
        auto.switch("home");
        answers(&mut auto, 3);
        auto.switch("train");
        assert_eq!(secs(&auto), 120);
        auto.switch("home");
        assert_eq!(secs(&auto), 180);
        for name in 0..100 {
            auto.switch(&name.to_string());
        }
        assert!(auto.networks.len() <= NETWORKS);
    }
}
