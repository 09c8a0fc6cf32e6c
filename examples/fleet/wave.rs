//! What the server sees: all phones that come back after a restart, and their sessions' rotation by age.

use std::convert::Infallible;
use std::time::Duration;

use anytls_mobile::config::Preset;
use anytls_mobile::proto::pool::{Heartbeat, PoolOptions};
use anytls_mobile::proto::timers::Moment;
use rand::{Rng, RngExt, TryRng};

use crate::Fleet;
use crate::phone::{Event, Phone, Surroundings};
use crate::server::Server;

/// When the server goes: the phones have settled by then.
const RESTART: Moment = Moment::from_origin(Duration::from_secs(180));

/// How a client comes back.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// A second after each failure.
    EachSecond,
    /// By the pool's back-off, but always the whole pause.
    NoJitter,
    /// As the pool does.
    Pool,
}

impl Retry {
    pub const ALL: [Self; 3] = [Self::EachSecond, Self::NoJitter, Self::Pool];

    pub fn name(self) -> &'static str {
        match self {
            Self::EachSecond => "each second",
            Self::NoJitter => "back-off without jitter",
            Self::Pool => "back-off (the pool)",
        }
    }
}

/// Dials at the server since it went, and when the phones were back.
pub struct Wave {
    pub bin: Duration,
    counts: Vec<u32>,
    away: Duration,
    back: Vec<Duration>,
}

impl Wave {
    fn new(bin: Duration, length: Duration, away: Duration) -> Self {
        let bins = usize::try_from(length.as_nanos().div_ceil(bin.as_nanos())).expect("a few thousand");
        Self { bin, counts: vec![0; bins], away, back: Vec::new() }
    }

    fn count(&mut self, since_restart: Duration) {
        let bin = usize::try_from(since_restart.as_nanos() / self.bin.as_nanos()).unwrap_or(usize::MAX);
        if let Some(count) = self.counts.get_mut(bin) {
            *count += 1;
        }
    }

    /// Seconds since the restart, and dials a second.
    pub fn points(&self) -> impl Iterator<Item = (f64, f64)> {
        let bin = self.bin.as_secs_f64();
        (0_u32..).zip(&self.counts).map(move |(at, &count)| (f64::from(at) * bin, f64::from(count) / bin))
    }

    /// The most dials a second from this long after the restart on.
    pub fn peak(&self, from: Duration) -> f64 {
        let from = from.as_secs_f64();
        self.points().filter(|&(at, _)| at >= from).map(|(_, rate)| rate).fold(0.0, f64::max)
    }

    pub fn peak_from_start(&self) -> f64 {
        self.peak(Duration::ZERO)
    }

    /// The most that the server gets once it is back.
    pub fn peak_after_return(&self) -> f64 {
        self.peak(self.away)
    }

    #[cfg(test)]
    pub fn phones_back(&self) -> usize {
        self.back.len()
    }

    /// How long after the server's return 99 of 100 phones had a session.
    pub fn back_after(&self) -> Duration {
        let mut back = self.back.clone();
        back.sort();
        back.get(back.len() * 99 / 100).copied().unwrap_or_default().saturating_sub(self.away)
    }
}

/// Every phone holds a stream when the server goes for `away`, and an app that opens it again each second.
pub fn restart(fleet: Fleet, retry: Retry, away: Duration) -> Wave {
    let mut wave = Wave::new(Duration::from_secs(1), away + Duration::from_secs(120), away);
    for phone in 0..fleet.phones {
        let options = PoolOptions { heartbeat: Heartbeat::Off, ..Preset::Mobile.options() };
        match retry {
            Retry::EachSecond => retry_each_second(fleet, phone, &mut wave),
            Retry::NoJitter => live(fleet, phone, options, Least, &mut wave),
            Retry::Pool => live(fleet, phone, options, fleet.dice(phone, b"pool"), &mut wave),
        }
    }
    wave
}

/// The hours after a restart of a minute, in which all sessions were made: they are of one age.
pub fn rotation(fleet: Fleet, lifetime: Duration, jitter: Duration, length: Duration) -> Wave {
    let mut wave = Wave::new(Duration::from_secs(30), length, Duration::from_secs(60));
    for phone in 0..fleet.phones {
        let options = PoolOptions {
            heartbeat: Heartbeat::Off, // heartbeats dial nothing
            max_connection_lifetime: lifetime,
            connection_lifetime_jitter: jitter,
            ..Preset::Mobile.options()
        };
        live(fleet, phone, options, fleet.dice(phone, b"pool"), &mut wave);
    }
    wave
}

fn live(fleet: Fleet, phone: u32, options: PoolOptions, rng: impl Rng, wave: &mut Wave) {
    let (round_trip, born) = circumstances(fleet, phone);
    let server = Server { leaves: RESTART, returns: RESTART + wave.away };
    let surroundings = Surroundings { server, round_trip, own_timers: None };
    let mut phone = Phone::new(options, surroundings, rng, born);
    phone.schedule(RESTART - Duration::from_secs(20), Event::Open(Duration::from_secs(100)));
    phone.schedule(RESTART + round_trip / 2, Event::Restart);
    let bins = u32::try_from(wave.counts.len()).expect("a few thousand");
    phone.run(RESTART + wave.bin * bins);
    for &at in phone.log.dials.iter().filter(|&&at| at >= RESTART) {
        wave.count(at.since(RESTART));
    }
    wave.back.extend(phone.log.dialed.iter().find(|&&at| at >= RESTART).map(|at| at.since(RESTART)));
}

fn retry_each_second(fleet: Fleet, phone: u32, wave: &mut Wave) {
    let (round_trip, _) = circumstances(fleet, phone);
    let mut at = round_trip / 2;
    while at < wave.away {
        wave.count(at);
        at += round_trip + Duration::from_secs(1);
    }
    wave.count(at);
    wave.back.push(at + round_trip * 2);
}

/// A round trip from a good network to a bad one, and when the phone started its tunnel: its checks take place
/// at whole intervals from there.
fn circumstances(fleet: Fleet, phone: u32) -> (Duration, Moment) {
    let mut dice = fleet.dice(phone, b"life");
    let round_trip = Duration::from_millis(dice.random_range(20..=200));
    let born = Moment::from_origin(Duration::from_millis(dice.random_range(0..60_000)));
    (round_trip, born)
}

/// A generator that draws the least of every range: the pool without chance.
struct Least;

impl TryRng for Least {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(1) // zero would be drawn anew for ever
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(1)
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        bytes.fill(1);
        Ok(())
    }
}
