//! The numbers to hold, and the table that says which are.

use crate::client::Kind;
use crate::results::{Results, short};

/// One number of the project.
pub struct Row {
    pub what: &'static str,
    pub unit: &'static str,
    pub measure: &'static str,
    pub figure: &'static str,
    pub better: Better,
    pub hold: Goal,
    pub aim: Option<Goal>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Better {
    More,
    Less,
}

#[derive(Clone, Copy)]
pub enum Goal {
    /// Of what sing-box with `stack: system` has in the same run.
    Times(f64),
    Absolute(f64),
}

use Better::{Less, More};
use Goal::{Absolute, Times};

impl Row {
    const fn new(
        what: &'static str,
        unit: &'static str,
        (measure, figure): (&'static str, &'static str),
        better: Better,
        hold: Goal,
    ) -> Self {
        Self { what, unit, measure, figure, better, hold, aim: None }
    }

    const fn aim(mut self, aim: Goal) -> Self {
        self.aim = Some(aim);
        self
    }

    pub fn of(&self, results: &Results, kind: Kind) -> Option<f64> {
        results.median(self.measure, kind, self.figure)
    }

    /// Ours by the peer's.
    pub fn ratio(&self, results: &Results) -> Option<f64> {
        Some(self.of(results, Kind::Ours)? / self.of(results, Kind::System)?)
    }

    fn reaches(&self, results: &Results, goal: Goal) -> Option<bool> {
        let (value, least) = match goal {
            Times(times) => (self.ratio(results)?, times),
            Absolute(value) => (self.of(results, Kind::Ours)?, value),
        };
        Some(match self.better {
            More => value >= least,
            Less => value <= least,
        })
    }

    pub fn verdict(&self, results: &Results) -> &'static str {
        let aimed = self.aim.and_then(|aim| self.reaches(results, aim));
        match (self.reaches(results, self.hold), aimed) {
            (None, _) => "unknown",
            (Some(false), _) => "short",
            (Some(true), Some(true)) => "OK, and the aim",
            (Some(true), _) => "OK",
        }
    }

    pub fn written(&self, goal: Goal) -> String {
        let sign = if self.better == More { '≥' } else { '≤' };
        match goal {
            Times(times) => format!("{sign} {times} × system"),
            Absolute(value) => format!("{sign} {value}"),
        }
    }
}

#[rustfmt::skip] // a row a line, or two
pub const ALL: &[Row] = &[
    Row::new("download, 1 stream", "Mbit/s", ("download-1", "mbit_per_s"), More, Times(2.0)).aim(Times(2.3)),
    Row::new("download, 8 streams", "Mbit/s", ("download-8", "mbit_per_s"), More, Times(2.0)).aim(Times(2.3)),
    Row::new("upload, 1 stream", "Mbit/s", ("upload-1", "mbit_per_s"), More, Times(2.3)).aim(Times(2.7)),
    Row::new("upload, 8 streams", "Mbit/s", ("upload-8", "mbit_per_s"), More, Times(2.3)).aim(Times(2.7)),
    Row::new("CPU down, 1 stream", "s/GB", ("download-1", "cpu_s_per_gb"), Less, Absolute(2.5)).aim(Absolute(2.1)),
    Row::new("CPU down, 8 streams", "s/GB", ("download-8", "cpu_s_per_gb"), Less, Absolute(2.5)).aim(Absolute(2.1)),
    Row::new("CPU up, 1 stream", "s/GB", ("upload-1", "cpu_s_per_gb"), Less, Absolute(1.5)).aim(Absolute(1.2)),
    Row::new("CPU up, 8 streams", "s/GB", ("upload-8", "cpu_s_per_gb"), Less, Absolute(1.8)).aim(Absolute(1.5)),
    Row::new("download, MTU 9000", "Mbit/s", ("download-9000", "mbit_per_s"), More, Times(1.5)),
    Row::new("upload, MTU 9000", "Mbit/s", ("upload-9000", "mbit_per_s"), More, Times(1.3)),
    Row::new("CPU down, MTU 9000", "s/GB", ("download-9000", "cpu_s_per_gb"), Less, Absolute(1.0)).aim(Absolute(0.8)),
    Row::new("CPU up, MTU 9000", "s/GB", ("upload-9000", "cpu_s_per_gb"), Less, Absolute(0.8)).aim(Absolute(0.6)),
    Row::new("CPU of 100 Mbit/s down", "% of a core", ("slow-down", "cpu_percent"), Less, Absolute(7.0)).aim(Absolute(5.0)),
    Row::new("CPU of 100 Mbit/s up", "% of a core", ("slow-up", "cpu_percent"), Less, Absolute(3.0)).aim(Absolute(2.0)),
    Row::new("first byte, warm pool, p50", "µs", ("first-byte", "p50_us"), Less, Times(0.8)),
    Row::new("first byte, p99 by p50", "×", ("first-byte", "p99_to_p50"), Less, Absolute(2.0)),
    Row::new("requests, 64 workers", "1/s", ("requests", "per_s"), More, Times(1.2)).aim(Times(1.5)),
    Row::new("CPU of a request", "µs", ("requests", "cpu_us"), Less, Times(0.5)),
    Row::new("RSS, idle, 5 sessions", "MB", ("idle", "rss_mb"), Less, Absolute(7.0)).aim(Absolute(5.0)),
    Row::new("an idle session, fresh", "KB", ("sessions", "fresh_kb"), Less, Absolute(6.0)).aim(Absolute(4.0)),
    Row::new("an idle session, after use", "KB", ("sessions", "used_kb"), Less, Absolute(6.0)).aim(Absolute(4.0)),
    Row::new("a held connection of 1000", "KB", ("held-1000", "kb_each"), Less, Absolute(20.0)).aim(Absolute(10.0)),
    Row::new("a held connection of 5000", "KB", ("held-5000", "kb_each"), Less, Absolute(20.0)).aim(Absolute(10.0)),
    Row::new("a download beside 1000 held", "of its speed", ("held-1000", "beside_to_alone"), More, Absolute(0.95)),
    Row::new("a download beside 5000 held", "of its speed", ("held-5000", "beside_to_alone"), More, Absolute(0.95)),
    Row::new("peak RSS, flooded upload", "MB", ("flood", "peak_mb"), Less, Absolute(20.0)).aim(Absolute(15.0)),
    Row::new("RSS left by 5000 connections", "MB", ("closed-5000", "growth_mb"), Less, Absolute(4.0)),
    Row::new("wake-ups, idle, no heartbeats", "1/min", ("idle", "wakeups_per_min"), Less, Absolute(3.0)),
    Row::new("wake-ups, idle, every 30 s", "1/min", ("idle-beats", "wakeups_per_min"), Less, Absolute(10.0)),
    Row::new("library for phones", "MB", ("library", "mb"), Less, Absolute(3.0)),
];

/// What the machine can do, in the order of the docs: figure, name, unit.
pub const LIMITS: &[(&str, &str, &str)] = &[
    ("tun_write_1500_us", "writing a packet of 1500 bytes to a TUN", "µs"),
    ("tun_read_1500_us", "reading one", "µs"),
    ("tun_write_9000_us", "writing a packet of 9000 bytes", "µs"),
    ("tun_read_9000_us", "reading one", "µs"),
    ("tls_encrypt_s_per_gb", "encrypting TLS records of 16 KiB", "s/GB"),
    ("tls_decrypt_s_per_gb", "decrypting them", "s/GB"),
    ("veth_mbit_per_s", "one stream over the cable alone", "Mbit/s"),
];

pub const COLUMNS: [&str; 9] = ["what", "unit", "ours", "system", "gvisor", "by system", "hold", "aim", ""];

/// The rows that this run has something for, as cells.
pub fn cells(results: &Results) -> Vec<[String; 9]> {
    let shown = ALL.iter().filter(|row| results.has(row.measure, Kind::Ours));
    let cells = shown.map(|row| {
        let value = |kind| match row.of(results, kind) {
            Some(value) => short(value),
            None if results.has(row.measure, kind) => "failed".to_owned(),
            None => "-".to_owned(),
        };
        [
            row.what.to_owned(),
            row.unit.to_owned(),
            value(Kind::Ours),
            value(Kind::System),
            value(Kind::Gvisor),
            row.ratio(results).map_or("-".to_owned(), |ratio| format!("{ratio:.2}")),
            row.written(row.hold),
            row.aim.map(|aim| row.written(aim)).unwrap_or_default(),
            row.verdict(results).to_owned(),
        ]
    });
    cells.collect()
}

pub fn print(results: &Results) {
    let table = cells(results);
    if !table.is_empty() {
        print_table(&table);
    }
    let limits = LIMITS.iter().filter_map(|&(figure, what, unit)| {
        Some((what, unit, results.median("limits", Kind::Ours, figure)?))
    });
    for (number, (what, unit, value)) in limits.enumerate() {
        if number == 0 {
            println!("\nthis machine, without any client");
        }
        println!("{what:<42} {:>7} {unit}", short(value));
    }
    if let Some(note) = offload_note(results) {
        println!("\n{note}");
    }
    for failure in results.failures() {
        println!("failed: {failure}");
    }
}

/// A TUN that hands over many packets as one, as no phone's does, makes uploads cheap.
pub fn offload_note(results: &Results) -> Option<String> {
    let flattered: Vec<&str> = Kind::ALL
        .into_iter()
        .filter(|kind| {
            ["upload-1", "upload-8"].iter().any(|m| results.median(m, *kind, "offload") == Some(1.0))
        })
        .map(Kind::name)
        .collect();
    (!flattered.is_empty()).then(|| {
        format!(
            "sing-box ({}) turned offload on for the TUN that it made, which a phone's never has:\n\
             its uploads look better here than there. Ours is without.",
            flattered.join(", ")
        )
    })
}

fn print_table(table: &[[String; 9]]) {
    let widths: Vec<usize> = (0..COLUMNS.len())
        .map(|column| {
            let cells = table.iter().map(|row| row[column].chars().count());
            cells.chain([COLUMNS[column].chars().count()]).max().unwrap_or(0)
        })
        .collect();
    let line = |cells: &[&str]| {
        let padded = cells.iter().zip(&widths).enumerate().map(|(column, (cell, &width))| match column {
            2..=5 => format!("{cell:>width$}"),
            _ => format!("{cell:<width$}"),
        });
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    println!("\n{}", line(&COLUMNS));
    for row in table {
        println!("{}", line(&row.each_ref().map(String::as_str)));
    }
}
