//! What the picture claims, with few phones.

use std::time::Duration;

use anytls_mobile::config::Preset;

use super::wave::{Retry, restart, rotation};
use super::{Arguments, Findings, Fleet, JITTER, LIFETIME, SHOWN_OUTAGE, day, plot, timer_a_session};

const FLEET: Fleet = Fleet { phones: 400, seed: 7 };
/// For whole days, which take longer.
const FEW: Fleet = Fleet { phones: 4, seed: 7 };

#[test]
fn the_pool_returns_in_a_lower_wave_than_fixed_retries_and_back_off_without_jitter() {
    let peak = |retry| restart(FLEET, retry, SHOWN_OUTAGE).peak_after_return();
    let (fixed, regular, pool) = (peak(Retry::EachSecond), peak(Retry::NoJitter), peak(Retry::Pool));
    assert!(pool * 4.0 < fixed && pool * 4.0 < regular, "{FLEET:?}: {fixed}, {regular}, {pool}");
}

#[test]
fn every_phone_is_back_within_the_longest_pause_and_a_dial() {
    for retry in Retry::ALL {
        let wave = restart(FLEET, retry, SHOWN_OUTAGE);
        assert_eq!(wave.phones_back(), 400, "{FLEET:?}, {}", retry.name());
        assert!(wave.back_after() < Duration::from_secs(62), "{FLEET:?}, {}", retry.name());
    }
}

#[test]
fn jitter_spreads_the_rotation() {
    let peak = |jitter| rotation(FLEET, LIFETIME, jitter, 2 * LIFETIME).peak(LIFETIME / 2);
    let (together, spread) = (peak(Duration::ZERO), peak(JITTER));
    assert!(spread > 0.0 && spread * 5.0 < together, "{FLEET:?}: {together}, {spread}");
}

#[test]
fn the_mobile_preset_costs_the_least_energy() {
    let joules = |preset: Preset| day::live(FEW, &preset.options(), None).joules;
    let mobile = joules(Preset::Mobile);
    for (name, preset) in Preset::ALL.into_iter().filter(|(_, preset)| *preset != Preset::Mobile) {
        let other = joules(preset);
        assert!(mobile * 1.3 < other, "{FEW:?}: {mobile}, {name} {other}");
    }
}

#[test]
fn one_burst_for_all_sessions_keeps_the_radio_awake_for_less_than_a_timer_each() {
    let together = day::live(FEW, &Preset::Balanced.options(), None);
    let apart = timer_a_session(FEW);
    assert!(together.beats > 0.0 && together.joules < apart.joules, "{FEW:?}: {together:?}, {apart:?}");
}

#[test]
fn the_same_seed_draws_the_same_picture_and_another_does_not() {
    let draw = |seed| plot::draw(&Findings::find(Fleet { phones: 50, seed })).unwrap();
    let picture = draw(1);
    assert!(picture == draw(1));
    assert!(picture != draw(2));
    for (name, _) in Preset::ALL {
        assert!(picture.contains(name), "{name} is not in the picture");
    }
}

#[test]
fn arguments_are_read_and_others_refused() {
    let read = |line: &str| Arguments::read(line.split_whitespace().map(str::to_owned));
    let read_all = read("--phones 200 --seed 3 --out x.svg").unwrap();
    assert_eq!((read_all.fleet.phones, read_all.fleet.seed), (200, 3));
    assert_eq!(read_all.out.to_str(), Some("x.svg"));
    for wrong in ["--phones", "--phones 0", "--phones many", "--colour blue"] {
        assert!(read(wrong).is_err(), "{wrong}");
    }
}
