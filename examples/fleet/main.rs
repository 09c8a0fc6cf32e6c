//! 100 000 phones and one server, in virtual time: why the pool's defaults are what they are.
//!
//! ```text
//! cargo run --release --example fleet -- [--phones N] [--seed S] [--out FILE]
//! ```
//! prints tables and draws `docs/fleet.svg`; the same seed gives the same bytes. Every phone has the project's
//! own pool (`phone` shows how it is driven). Phones meet only at the server, which takes whoever comes, so that
//! they are simulated one after the other.
//!
//! - `wave`: all phones, while the server is away and for some hours after.
//! - `day`: one phone in 1 000, a whole day for each preset; its numbers are means, so that fewer do. "Cold" are
//!   streams that had to wait, for a dial or for a sign of life; "timers" wake the processor, not the radio.
//!
//! What it leaves out: Wi-Fi, NATs that forget, packets that are lost, and a server that is overloaded.

mod day;
mod phone;
mod plot;
mod radio;
mod server;
mod table;
#[cfg(test)]
mod tests;
mod wave;

use std::error::Error;
use std::path::PathBuf;
use std::time::Duration;

use anytls_mobile::config::Preset;
use anytls_mobile::proto::pool::{Heartbeat, PoolOptions};
use rand::SeedableRng;
use rand::rngs::StdRng;

use self::day::Cost;
use self::wave::{Retry, Wave};

/// How long the server is away, once the restart is seen through.
const OUTAGES: [Duration; 3] = [Duration::from_secs(5), Duration::from_secs(60), Duration::from_secs(300)];

/// The one that is drawn.
const SHOWN_OUTAGE: Duration = OUTAGES[1];

/// An example of rotation: an hour, and a jitter of a quarter.
const LIFETIME: Duration = Duration::from_secs(3600);
const JITTER: Duration = Duration::from_secs(900);

/// The background intervals that are compared, in seconds.
const BACKGROUND: [u64; 8] = [30, 60, 120, 180, 270, 405, 600, 900];

/// Phones, and the chance in their lives.
#[derive(Clone, Copy, Debug)]
struct Fleet {
    phones: u32,
    seed: u64,
}

impl Fleet {
    /// The phone's own generator for a purpose: the same whatever else is simulated.
    fn dice(self, phone: u32, purpose: &[u8; 4]) -> StdRng {
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&self.seed.to_le_bytes());
        seed[8..12].copy_from_slice(&phone.to_le_bytes());
        seed[12..16].copy_from_slice(purpose);
        StdRng::from_seed(seed)
    }

    /// As many as means need.
    fn sample(self) -> Self {
        Self { phones: (self.phones / 1000).max(4), ..self }
    }
}

/// All that was found out.
struct Findings {
    fleet: Fleet,
    /// By outage and way of coming back.
    restarts: Vec<(Duration, Vec<(Retry, Wave)>)>,
    /// By jitter.
    rotations: Vec<(Duration, Wave)>,
    /// A day without heartbeats, nothing dialled ahead, nothing closed: what the apps cost by themselves.
    bare: Cost,
    presets: Vec<(String, Cost)>,
    /// The default preset by heartbeat interval in the background.
    background: Vec<(Duration, Cost)>,
}

impl Findings {
    fn find(fleet: Fleet) -> Self {
        let restart = |away| Retry::ALL.map(|retry| (retry, wave::restart(fleet, retry, away))).into();
        let rotation = |jitter| (jitter, wave::rotation(fleet, LIFETIME, jitter, 4 * LIFETIME));
        let day = |options: &PoolOptions| day::live(fleet.sample(), options, None);

        let mobile = Preset::Mobile.options();
        let bare = PoolOptions {
            heartbeat: Heartbeat::Off,
            heartbeat_background: None,
            ensure_idle_session: 0,
            idle_session_timeout: Duration::ZERO,
            ..mobile.clone()
        };
        let mut presets: Vec<_> =
            Preset::ALL.iter().map(|(name, preset)| ((*name).to_owned(), day(&preset.options()))).collect();
        presets.push(("balanced, a timer a session".to_owned(), timer_a_session(fleet.sample())));
        let background = BACKGROUND.map(Duration::from_secs).map(|interval| {
            let options = PoolOptions { heartbeat_background: Some(interval), ..mobile.clone() };
            (interval, day(&options))
        });
        Self {
            fleet,
            restarts: OUTAGES.map(|away| (away, restart(away))).into(),
            rotations: [Duration::ZERO, JITTER].map(rotation).into(),
            bare: day(&bare),
            presets,
            background: background.into(),
        }
    }
}

/// The balanced strategy as the fork runs it.
fn timer_a_session(fleet: Fleet) -> Cost {
    let balanced = Preset::Balanced.options();
    let Heartbeat::Every(interval) = balanced.heartbeat else { unreachable!("the strategy has an interval") };
    day::live(fleet, &PoolOptions { heartbeat: Heartbeat::Off, ..balanced }, Some(interval))
}

struct Arguments {
    fleet: Fleet,
    out: PathBuf,
}

impl Arguments {
    fn read(mut arguments: impl Iterator<Item = String>) -> Result<Self, Box<dyn Error>> {
        let mut read = Self { fleet: Fleet { phones: 100_000, seed: 1 }, out: "docs/fleet.svg".into() };
        while let Some(name) = arguments.next() {
            let mut value = || arguments.next().ok_or_else(|| format!("{name} needs a value"));
            match name.as_str() {
                "--phones" => read.fleet.phones = value()?.parse()?,
                "--seed" => read.fleet.seed = value()?.parse()?,
                "--out" => read.out = value()?.into(),
                _ => return Err(format!("unknown: {name}; known: --phones N, --seed S, --out FILE").into()),
            }
        }
        if read.fleet.phones == 0 {
            return Err("--phones: expected at least 1".into());
        }
        Ok(read)
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let Arguments { fleet, out } = Arguments::read(std::env::args().skip(1))?;
    let findings = Findings::find(fleet);
    table::print(&findings);
    std::fs::write(&out, plot::draw(&findings)?)?;
    println!("\ndrawn: {}", out.display());
    Ok(())
}
