//! What is measured, by name.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::client::{Kind, Setup, has_offload, sessions};
use crate::lab::{Lab, Stage, pass, wait};
use crate::load::HELD;
use crate::target::Service;
use crate::usage::Usage;
use crate::{Failure, limits, program};

/// What came out, by name; units stand in the names.
pub type Figures = BTreeMap<&'static str, f64>;

pub struct Measure {
    pub name: &'static str,
    pub what: &'static str,
    pub run: fn(&Lab, Kind) -> Result<Figures, Failure>,
    /// At most so often: what changes with nothing, or takes long, need not be repeated.
    pub rounds: u32,
    whom: Whom,
}

#[derive(PartialEq)]
enum Whom {
    All,
    Ours,
}

impl Measure {
    const fn new(
        name: &'static str,
        what: &'static str,
        run: fn(&Lab, Kind) -> Result<Figures, Failure>,
    ) -> Self {
        Self { name, what, run, rounds: u32::MAX, whom: Whom::All }
    }

    const fn ours_once(mut self) -> Self {
        self.rounds = 1;
        self.whom = Whom::Ours;
        self
    }

    const fn ours(mut self) -> Self {
        self.whom = Whom::Ours;
        self
    }

    pub fn concerns(&self, kind: Kind) -> bool {
        self.whom == Whom::All || kind == Kind::Ours
    }
}

pub const ALL: &[Measure] = &[
    Measure::new("limits", "what this machine can do without any client", |lab, _| limits::figures(lab))
        .ours(),
    Measure::new("download-1", "one stream down, MTU 1500", |lab, kind| transfer(lab, kind, DOWN, 1, 1500)),
    Measure::new("download-8", "8 streams down, MTU 1500", |lab, kind| transfer(lab, kind, DOWN, 8, 1500)),
    Measure::new("upload-1", "one stream up, MTU 1500", |lab, kind| transfer(lab, kind, UP, 1, 1500)),
    Measure::new("upload-8", "8 streams up, MTU 1500", |lab, kind| transfer(lab, kind, UP, 8, 1500)),
    Measure::new("download-9000", "one stream down, MTU 9000", |lab, kind| {
        transfer(lab, kind, DOWN, 1, 9000)
    }),
    Measure::new("upload-9000", "one stream up, MTU 9000", |lab, kind| transfer(lab, kind, UP, 1, 9000)),
    Measure::new("slow-down", "CPU of a download at 100 Mbit/s", |lab, kind| slow(lab, kind, DOWN)),
    Measure::new("slow-up", "CPU of an upload at 100 Mbit/s", |lab, kind| slow(lab, kind, UP)),
    Measure::new("first-byte", "time to the first byte, one request after the other", first_byte),
    Measure::new("requests", "requests a second, 64 workers, a connection each", requests),
    Measure::new("idle", "memory and wake-ups, 5 sessions, no heartbeats", |lab, kind| idle(lab, kind, 0)),
    Measure::new("idle-beats", "wake-ups, 5 sessions, heartbeats of 30 s", |lab, kind| idle(lab, kind, 30))
        .ours(),
    Measure::new("held-1000", "memory of 1000 held connections, and a download beside them", |lab, kind| {
        held(lab, kind, 1000)
    }),
    Measure::new("held-5000", "the same with 5000", |lab, kind| held(lab, kind, 5000)),
    Measure::new("flood", "peak memory, 8 streams up into a tunnel of 20 Mbit/s", flood),
    Measure::new("closed-5000", "memory after 5000 connections of 16 KiB have ended", closed),
    Measure::new("sessions", "memory of an idle session", |lab, _| program::sessions(lab)).ours_once(),
    Measure::new("library", "bytes of the library for phones", |_, _| program::library()).ours_once(),
];

#[derive(Clone, Copy)]
struct Direction {
    load: &'static str,
    service: Service,
}

const DOWN: Direction = Direction { load: "download", service: Service::Source };
const UP: Direction = Direction { load: "upload", service: Service::Sink };

/// Streams at full speed. The whole transfer counts, from the first connect to the last confirmed byte.
fn transfer(lab: &Lab, kind: Kind, direction: Direction, streams: u32, mtu: u32) -> Result<Figures, Failure> {
    let stage = lab.stage(kind, &Setup { mtu, ..Setup::PLAIN })?;
    move_bytes(&stage, direction, streams, lab.time(1))?; // code, sessions and buffers are there then
    let mut figures = move_bytes(&stage, direction, streams, lab.time(6))?;
    figures.insert("offload", f64::from(u8::from(has_offload(lab)?)));
    Ok(figures)
}

fn move_bytes(
    stage: &Stage<'_>,
    direction: Direction,
    streams: u32,
    time: Duration,
) -> Result<Figures, Failure> {
    let (streams, ms) = (streams.to_string(), time.as_millis().to_string());
    stage.client.forget_peak()?;
    let before = stage.client.usage()?;
    let report = stage.load(&[direction.load, &Lab::target(direction.service), &streams, &ms], time)?;
    let after = stage.client.usage()?;
    let (bytes, seconds) = (number(&report, "bytes")?, number(&report, "seconds")?);
    let cpu = after.cpu_seconds - before.cpu_seconds;
    Ok(Figures::from([
        ("mbit_per_s", bytes * 8.0 / 1e6 / seconds),
        ("cpu_s_per_gb", cpu / (bytes / 1e9)),
        ("cpu_percent", cpu / seconds * 100.0),
        ("switches_per_s", (after.switches - before.switches) / seconds),
        ("faults_per_mb", (after.faults - before.faults) / (bytes / 1e6)),
        ("peak_mb", after.peak / 1e6),
    ]))
}

fn slow(lab: &Lab, kind: Kind, direction: Direction) -> Result<Figures, Failure> {
    let stage = lab.stage(kind, &Setup::PLAIN)?;
    let _slow = lab.slow_link(100);
    move_bytes(&stage, direction, 1, lab.time(1))?;
    move_bytes(&stage, direction, 1, lab.time(10))
}

fn first_byte(lab: &Lab, kind: Kind) -> Result<Figures, Failure> {
    let stage = lab.stage(kind, &Setup { pooled: Some(5), ..Setup::PLAIN })?;
    let count = lab.count(2000).to_string();
    stage.load(&["first-byte", "100"], Duration::from_secs(10))?;
    let report = stage.load(&["first-byte", &count], Duration::from_secs(30))?;
    let (p50, p99) = (number(&report, "p50")?, number(&report, "p99")?);
    Ok(Figures::from([("p50_us", p50), ("p99_us", p99), ("p99_to_p50", p99 / p50)]))
}

fn requests(lab: &Lab, kind: Kind) -> Result<Figures, Failure> {
    let stage = lab.stage(kind, &Setup::PLAIN)?;
    let run = |time: Duration| stage.load(&["requests", &time.as_millis().to_string()], time);
    run(lab.time(1))?; // the pool has grown then
    let before = stage.client.usage()?;
    let report = run(lab.time(5))?;
    let cpu = stage.client.usage()?.cpu_seconds - before.cpu_seconds;
    let (count, seconds) = (number(&report, "requests")?, number(&report, "seconds")?);
    let failed = number(&report, "failed")?;
    Ok(Figures::from([("per_s", count / seconds), ("cpu_us", cpu * 1e6 / count), ("failed", failed)]))
}

/// A client that has served and now waits. Heartbeats take minutes to show.
fn idle(lab: &Lab, kind: Kind, heartbeat: u32) -> Result<Figures, Failure> {
    let setup = Setup { pooled: Some(5), heartbeat: Some(heartbeat), ..Setup::PLAIN };
    let stage = lab.stage(kind, &setup)?;
    if kind != Kind::Ours {
        // Its pool only keeps what was in use.
        drop(stage.keep(&["hold", "5"], HELD, Duration::from_secs(10))?);
    }
    wait("5 sessions", Duration::from_secs(10), || Ok((sessions(lab)? >= 5).then_some(())))?;
    pass(lab.time(8))?; // what follows the last stream
    let begin = Instant::now();
    let before = stage.client.usage()?;
    // Peers wake so often that half a minute shows it.
    pass(lab.time(if kind == Kind::Ours { 60 } else { 30 }))?;
    let after = stage.client.usage()?;
    let minutes = begin.elapsed().as_secs_f64() / 60.0;
    Ok(Figures::from([
        ("rss_mb", after.rss / 1e6),
        ("anonymous_mb", after.anonymous / 1e6),
        ("wakeups_per_min", (after.switches - before.switches) / minutes),
        ("cpu_ms_per_min", (after.cpu_seconds - before.cpu_seconds) * 1e3 / minutes),
        ("sessions", f64::from(u32::try_from(sessions(lab)?)?)),
    ]))
}

/// Connections that are open and silent, and what they take from one that is not.
fn held(lab: &Lab, kind: Kind, count: u32) -> Result<Figures, Failure> {
    let time = lab.time(4);
    let alone = {
        let stage = lab.stage(kind, &Setup::PLAIN)?;
        move_bytes(&stage, DOWN, 1, lab.time(1))?;
        move_bytes(&stage, DOWN, 1, time)?
    };
    let stage = lab.stage(kind, &Setup::PLAIN)?;
    stage.load(&["first-byte", "100"], Duration::from_secs(10))?;
    let before = stage.client.usage()?;
    let count = lab.count(count);
    let _held = stage.keep(&["hold", &count.to_string()], HELD, Duration::from_secs(60))?;
    pass(lab.time(2))?;
    let after = stage.client.usage()?;
    move_bytes(&stage, DOWN, 1, lab.time(1))?;
    let beside = move_bytes(&stage, DOWN, 1, time)?;
    Ok(Figures::from([
        ("kb_each", (after.rss - before.rss) / f64::from(count) / 1e3),
        ("rss_mb", after.rss / 1e6),
        ("sessions", f64::from(u32::try_from(sessions(lab)?)?)),
        ("mbit_alone", alone["mbit_per_s"]),
        ("mbit_beside", beside["mbit_per_s"]),
        ("beside_to_alone", beside["mbit_per_s"] / alone["mbit_per_s"]),
        ("cpu_s_per_gb_alone", alone["cpu_s_per_gb"]),
        ("cpu_s_per_gb_beside", beside["cpu_s_per_gb"]),
    ]))
}

fn flood(lab: &Lab, kind: Kind) -> Result<Figures, Failure> {
    let stage = lab.stage(kind, &Setup::PLAIN)?;
    let _slow = lab.slow_link(20);
    stage.client.forget_peak()?;
    let time = lab.time(10);
    let ms = time.as_millis().to_string();
    let report = stage.load(&["flood", &Lab::target(Service::Sink), "8", &ms], time)?;
    let peak = stage.client.usage()?.peak;
    Ok(Figures::from([("peak_mb", peak / 1e6), ("sent_mb", number(&report, "bytes")? / 1e6)]))
}

/// What connections leave behind; a leak would leave as much again by the same number of them.
fn closed(lab: &Lab, kind: Kind) -> Result<Figures, Failure> {
    let stage = lab.stage(kind, &Setup::PLAIN)?;
    let count = lab.count(5000).to_string();
    let before = stage.client.usage()?;
    let run = || -> Result<Usage, Failure> {
        stage.load(&["chunks", &count], Duration::from_secs(60))?;
        pass(Duration::from_secs(5))?;
        stage.client.usage()
    };
    let (once, twice) = (run()?, run()?);
    Ok(Figures::from([
        ("start_mb", before.rss / 1e6),
        ("growth_mb", (once.rss - before.rss) / 1e6),
        ("growth_anonymous_mb", (once.anonymous - before.anonymous) / 1e6),
        ("growth_again_mb", (twice.rss - once.rss) / 1e6),
        ("peak_mb", twice.peak / 1e6),
    ]))
}

pub fn number(report: &Value, name: &str) -> Result<f64, Failure> {
    report[name].as_f64().ok_or_else(|| format!("no {name} in {report}").into())
}

/// Where the server itself can be reached without a tunnel.
pub fn direct(service: Service) -> String {
    std::net::SocketAddr::new(crate::lab::SERVER.ip(), service.port()).to_string()
}
