//! The findings as text.

use crate::day::Cost;
use crate::{Findings, LIFETIME};

pub fn print(findings: &Findings) {
    print_restarts(findings);
    print_rotations(findings);
    print_days(findings);
}

fn print_restarts(findings: &Findings) {
    println!("{} phones; the server goes, and returns after", findings.fleet.phones);
    println!("{:>10}  {:<26}{:>16}{:>22}", "", "clients redial", "peak, dials/s", "99 % are back after");
    for (away, waves) in &findings.restarts {
        for (retry, wave) in waves {
            let (peak, back) = (wave.peak_after_return(), wave.back_after().as_secs_f64());
            println!("{:>8} s  {:<26}{peak:>16.0}{back:>20.1} s", away.as_secs(), retry.name());
        }
    }
}

fn print_rotations(findings: &Findings) {
    println!("\nsessions of one age, max_connection_lifetime {} min", LIFETIME.as_secs() / 60);
    println!("{:<38}{:>16}", "connection_lifetime_jitter", "peak, dials/s");
    for (jitter, wave) in &findings.rotations {
        println!("{:<38}{:>16.0}", format!("{} min", jitter.as_secs() / 60), wave.peak(LIFETIME / 2));
    }
}

fn print_days(findings: &Findings) {
    println!("\na day of {} phones, means; battery: beyond the apps alone", findings.fleet.sample().phones);
    println!(
        "{:<28}{:>9}{:>9}{:>9}{:>10}{:>9}{:>7}{:>9}{:>7}{:>7}{:>6}{:>8}{:>8}{:>8}",
        "preset",
        "wake-ups",
        "by beats",
        "by dials",
        "by closes",
        "awake h",
        "kJ",
        "battery",
        "beats",
        "dials",
        "kB",
        "cold",
        "timers",
        "in vain"
    );
    let background = findings
        .background
        .iter()
        .map(|(interval, cost)| (format!("mobile, background {} s", interval.as_secs()), cost));
    print_day("the apps alone", &findings.bare, &findings.bare);
    for (name, cost) in &findings.presets {
        print_day(name, cost, &findings.bare);
    }
    for (name, cost) in background {
        print_day(&name, cost, &findings.bare);
    }
}

fn print_day(name: &str, cost: &Cost, bare: &Cost) {
    let Cost { wakeups, by_beats, by_dials, by_closes, awake_hours, kilobytes, dials, beats, .. } = cost;
    let Cost { alarms, vain_alarms, .. } = cost;
    let (joules, battery) = (cost.joules / 1000.0, cost.battery_beyond(bare) * 100.0);
    let cold = cost.cold_share() * 100.0;
    println!(
        "{name:<28}{wakeups:>9.0}{by_beats:>9.0}{by_dials:>9.0}{by_closes:>10.0}{awake_hours:>9.1}{joules:>7.1}\
         {battery:>7.1} %{beats:>7.0}{dials:>7.0}{kilobytes:>6.0}{cold:>6.1} %{alarms:>8.0}{vain_alarms:>8.0}"
    );
}
