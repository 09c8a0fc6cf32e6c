//! The hot paths, each alone: `cargo bench --bench paths`. For profilers, one of them without any measuring:
//! `run NAME TIMES`. `scripts/bench instructions` counts that way, which noise cannot change.

#![allow(clippy::disallowed_methods)] // a bench's threads and tasks live as long as it does

mod frames;
mod netstack;
mod padding;
mod session;
mod tls;

#[allow(dead_code)] // the tests use the rest
#[path = "../../tests/tcp_packets/app.rs"]
mod app;
#[allow(dead_code)]
#[path = "../../tests/tcp_packets/rig.rs"]
mod rig;

use std::process::ExitCode;

use criterion::{Criterion, Throughput};

const MIB: usize = 1 << 20;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// What is done again and again: once is a unit.
type Work = Box<dyn FnMut() -> Result<(), Failure>>;

struct Path {
    name: &'static str,
    unit: Unit,
    make: fn() -> Result<Work, Failure>,
}

#[derive(Clone, Copy)]
enum Unit {
    Mebibyte,
    ThousandSessions,
}

impl Unit {
    fn name(self) -> &'static str {
        match self {
            Self::Mebibyte => "MiB",
            Self::ThousandSessions => "1000 sessions",
        }
    }

    fn throughput(self) -> Throughput {
        match self {
            Self::Mebibyte => Throughput::Bytes(MIB as u64),
            Self::ThousandSessions => Throughput::Elements(1000),
        }
    }
}

const ALL: &[Path] = &[
    Path { name: "frames-out", unit: Unit::Mebibyte, make: frames::outgoing },
    Path { name: "frames-in", unit: Unit::Mebibyte, make: frames::incoming },
    Path { name: "padding", unit: Unit::ThousandSessions, make: padding::first_writes },
    Path { name: "session-up", unit: Unit::Mebibyte, make: session::up },
    Path { name: "session-down", unit: Unit::Mebibyte, make: session::down },
    Path { name: "netstack-up", unit: Unit::Mebibyte, make: netstack::up },
    Path { name: "netstack-down", unit: Unit::Mebibyte, make: netstack::down },
    Path { name: "tls-up", unit: Unit::Mebibyte, make: tls::up },
    Path { name: "tls-down", unit: Unit::Mebibyte, make: tls::down },
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match words[..] {
        ["names"] => {
            ALL.iter().for_each(|path| println!("{} {}", path.name, path.unit.name()));
            Ok(())
        }
        ["run", name, times] => run(name, times),
        [tls::SERVE] => tls::serve(),
        _ => measure(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(name: &str, times: &str) -> Result<(), Failure> {
    let path = ALL.iter().find(|path| path.name == name).ok_or("no such path")?;
    let mut work = (path.make)()?;
    for _ in 0..times.parse()? {
        work()?;
    }
    Ok(())
}

fn measure() -> Result<(), Failure> {
    let mut criterion = Criterion::default().configure_from_args();
    for path in ALL {
        let mut work = (path.make)()?;
        let mut failure = None;
        let mut group = criterion.benchmark_group("paths");
        group.throughput(path.unit.throughput());
        group.bench_function(path.name, |bencher| {
            bencher.iter(|| failure = failure.take().or(work().err()));
        });
        group.finish();
        if let Some(failure) = failure {
            return Err(format!("{}: {failure}", path.name).into());
        }
    }
    criterion.final_summary();
    Ok(())
}
