//! What the air costs: an LTE radio, and the bytes that keep sessions.

use std::time::Duration;

use anytls_mobile::proto::timers::Moment;

/// After the last packet the radio stays connected for this long: the network's inactivity timer. Operators set
/// it differently; this is a usual value.
const TAIL: Duration = Duration::from_secs(10);

/// What a connected radio draws.
const WATTS: f64 = 1.0;

/// What it takes to leave idle: an isolated packet costs 12 J with its tail.
const WAKE_JOULES: f64 = 2.0;

/// A phone's battery: 4 500 mAh at 3.85 V.
pub const BATTERY_JOULES: f64 = 62_000.0;

/// A heartbeat and its answer: each a frame (7 bytes) in a TLS record (22) in a packet (52), and the last
/// acknowledgement (52).
pub const BEAT_BYTES: u32 = 2 * (7 + 22 + 52) + 52;

/// A dial with TLS resumed: about five packets each way and 2 kB of handshake and authentication. A guess.
pub const DIAL_BYTES: u32 = 2_000 + 10 * 52;

/// An alert record and FIN, each way.
pub const CLOSE_BYTES: u32 = 2 * (24 + 52) + 2 * 52;

/// Whose packet it is.
#[derive(Clone, Copy, Debug)]
pub enum Cause {
    App,
    Beat,
    Dial,
    Close,
}

/// The radio's day so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Radio {
    awake_until: Moment,
    /// By cause.
    wakeups: [u32; 4],
    pub awake: Duration,
}

impl Radio {
    /// A packet leaves or comes; no earlier than the last one.
    pub fn transmit(&mut self, cause: Cause, now: Moment) {
        let until = now + TAIL;
        self.wakeups[cause as usize] += u32::from(now >= self.awake_until); // an index by definition
        self.awake += until.since(self.awake_until.max(now));
        self.awake_until = until;
    }

    pub fn wakeups(&self) -> u32 {
        self.wakeups.iter().sum()
    }

    pub fn wakeups_by(&self, cause: Cause) -> u32 {
        self.wakeups[cause as usize]
    }

    pub fn joules(&self) -> f64 {
        f64::from(self.wakeups()) * WAKE_JOULES + self.awake.as_secs_f64() * WATTS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn radio(packets: impl Iterator<Item = u64>) -> Radio {
        let mut radio = Radio::default();
        for second in packets {
            radio.transmit(Cause::Beat, Moment::from_origin(Duration::from_secs(second)));
        }
        radio
    }

    #[test]
    fn an_isolated_packet_costs_12_joules() {
        let radio = radio([100].into_iter());
        assert_eq!((radio.wakeups(), radio.joules()), (1, 12.0));
    }

    #[test]
    fn packets_within_the_tail_are_one_wakeup_and_prolong_it() {
        let radio = radio([100, 100, 103, 112].into_iter());
        assert_eq!((radio.wakeups(), radio.awake), (1, Duration::from_secs(22)));
    }

    #[test]
    fn a_packet_every_30_seconds_costs_half_a_battery_a_day() {
        let radio = radio((0..86_400).step_by(30));
        let share = radio.joules() / BATTERY_JOULES;
        assert!((0.5..0.6).contains(&share), "{share}");
    }
}
