//! A phone's day, and what keeping sessions costs in it.
//!
//! | time | the phone |
//! |---|---|
//! | 7:00 to 23:00 | in use for 1 to 7 minutes, then in a pocket for 2 to 22: 60 times, 4 hours in all |
//! | 23:00 to 7:00 | dozes; the system lets apps work for a minute after 1, 2 and 4 hours more |
//!
//! In use, apps open 1 to 6 streams of 1 to 15 s every 5 to 25 s. All day some app syncs, by one or two of
//! 1 to 5 s every 10 to 30 minutes, and messages come every 5 to 25 minutes by a stream that stays open. All of
//! it goes through the tunnel and over LTE, and is the same whatever the pool's options.

use std::time::Duration;

use anytls_mobile::proto::pool::{PoolOptions, Power};
use anytls_mobile::proto::timers::Moment;
use rand::RngExt;
use rand::rngs::StdRng;

use crate::Fleet;
use crate::phone::{Event, FOR_GOOD, Log, Phone, Surroundings};
use crate::radio::{BATTERY_JOULES, Cause};
use crate::server::Server;

// In milliseconds; 7:00 is the origin.
const SECOND: u64 = 1000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const BED_TIME: u64 = 16 * HOUR;
const DAY: u64 = 24 * HOUR;

/// A phone's mean day.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cost {
    pub wakeups: f64,
    /// Of these, by the pool's own packets.
    pub by_beats: f64,
    pub by_dials: f64,
    pub by_closes: f64,
    pub awake_hours: f64,
    pub joules: f64,
    pub kilobytes: f64,
    pub dials: f64,
    pub beats: f64,
    /// Streams that apps opened, and those that had to wait for a session.
    pub opened: f64,
    pub waited: f64,
    /// Times that the pool's timer fired, and those that found nothing to do.
    pub alarms: f64,
    pub vain_alarms: f64,
}

impl Cost {
    /// What this adds to another day, as a share of the battery.
    pub fn battery_beyond(&self, other: &Self) -> f64 {
        (self.joules - other.joules) / BATTERY_JOULES
    }

    pub fn cold_share(&self) -> f64 {
        self.waited / self.opened
    }

    fn add(&mut self, log: &Log, share: f64) {
        let count = |events: &[Moment]| events.iter().map(|_| 1.0).sum::<f64>();
        self.wakeups += share * f64::from(log.radio.wakeups());
        self.by_beats += share * f64::from(log.radio.wakeups_by(Cause::Beat));
        self.by_dials += share * f64::from(log.radio.wakeups_by(Cause::Dial));
        self.by_closes += share * f64::from(log.radio.wakeups_by(Cause::Close));
        self.awake_hours += share * log.radio.awake.as_secs_f64() / 3600.0;
        self.joules += share * log.radio.joules();
        self.kilobytes += share * f64::from(log.bytes) / 1000.0;
        self.dials += share * count(&log.dials);
        self.beats += share * f64::from(log.beats);
        self.opened += share * f64::from(log.opened);
        self.waited += share * f64::from(log.waited);
        self.alarms += share * f64::from(log.alarms);
        self.vain_alarms += share * f64::from(log.vain_alarms);
    }
}

/// Lives a day with every phone. With `own_timers` each session has a timer for its heartbeats.
pub fn live(fleet: Fleet, options: &PoolOptions, own_timers: Option<Duration>) -> Cost {
    let mut cost = Cost::default();
    for number in 0..fleet.phones {
        let mut dice = fleet.dice(number, b"apps");
        let round_trip = Duration::from_millis(dice.random_range(20..=200));
        let surroundings = Surroundings { server: Server::STEADY, round_trip, own_timers };
        let mut phone = Phone::new(options.clone(), surroundings, fleet.dice(number, b"pool"), at(0));
        schedule_pocket(&mut phone, &mut dice);
        schedule_use(&mut phone, &mut dice);
        schedule_night(&mut phone);
        phone.run(at(DAY));
        cost.add(&phone.log, 1.0 / f64::from(fleet.phones));
    }
    cost
}

/// What happens all day, looked at or not.
fn schedule_pocket(phone: &mut Phone<StdRng>, dice: &mut StdRng) {
    phone.schedule(at(SECOND), Event::Open(FOR_GOOD));
    let mut now = 0;
    while now < BED_TIME {
        phone.schedule(at(now), Event::Message);
        now += dice.random_range(5 * MINUTE..=25 * MINUTE);
    }
    let mut now = 10 * MINUTE;
    while now < BED_TIME {
        for _ in 0..dice.random_range(1..=2) {
            phone.schedule(at(now), Event::Open(millis(dice.random_range(SECOND..=5 * SECOND))));
        }
        now += dice.random_range(10 * MINUTE..=30 * MINUTE);
    }
}

fn schedule_use(phone: &mut Phone<StdRng>, dice: &mut StdRng) {
    let mut now = 0;
    while now < BED_TIME {
        phone.schedule(at(now), Event::Power(Power::Interactive));
        let pocket = now + dice.random_range(MINUTE..=7 * MINUTE);
        while now < pocket {
            for _ in 0..dice.random_range(1..=6) {
                phone.schedule(at(now), Event::Open(millis(dice.random_range(SECOND..=15 * SECOND))));
            }
            now += dice.random_range(5 * SECOND..=25 * SECOND);
        }
        phone.schedule(at(pocket), Event::Power(Power::Background));
        now = pocket + dice.random_range(2 * MINUTE..=22 * MINUTE);
    }
}

fn schedule_night(phone: &mut Phone<StdRng>) {
    phone.schedule(at(BED_TIME), Event::Power(Power::Doze));
    for window in [BED_TIME + HOUR, BED_TIME + 3 * HOUR, BED_TIME + 7 * HOUR] {
        phone.schedule(at(window), Event::Power(Power::Background));
        phone.schedule(at(window + SECOND), Event::Open(millis(5 * SECOND)));
        phone.schedule(at(window + MINUTE), Event::Power(Power::Doze));
    }
}

fn at(since_waking: u64) -> Moment {
    Moment::from_origin(millis(since_waking))
}

fn millis(span: u64) -> Duration {
    Duration::from_millis(span)
}
