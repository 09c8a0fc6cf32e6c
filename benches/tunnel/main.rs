//! The tunnel against its peers and its numbers: speed, CPU, memory, latency and wake-ups.
//!
//! ```text
//!  namespace cli                          │ namespace srv
//!  apps ─► TUN ─► client under test ─ veth ┼ veth ─► sing-box as server ─► targets (198.51.100.0/24)
//! ```
//! The client is the release program, or sing-box, in a process of its own: what it uses is what `/proc` says of
//! that process. All clients talk to the same server program, each in turn, in every round. For each figure a
//! fresh server and a fresh client are started, so that none inherits what another left behind.
//!
//! `scripts/bench tunnel [NAME...]` builds and starts it; [`options`] has what it understands.

#![allow(clippy::disallowed_methods)] // a bench measures wall time, and its threads end with it

mod client;
mod lab;
mod limits;
mod load;
mod measures;
mod options;
mod page;
mod plot;
mod program;
mod results;
mod rows;
mod server;
mod target;
mod usage;

#[allow(dead_code)] // the tests use the rest
#[path = "../../tests/support/netns.rs"]
mod netns;

use std::panic::{self, AssertUnwindSafe};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use self::client::Kind;
use self::lab::Lab;
use self::measures::{Figures, Measure};
use self::options::{Asked, Options};
use self::results::Results;

type Failure = Box<dyn std::error::Error + Send + Sync>;

fn main() -> ExitCode {
    let result = match options::read(std::env::args().skip(1)) {
        Ok(Asked::Measure(options)) => measure(&options),
        Ok(Asked::WriteDocs { from, to }) => page::write(&from, &to),
        Ok(Asked::List) => {
            options::list();
            Ok(())
        }
        Ok(Asked::Load(words)) => load::main(&words),
        Err(error) => Err(error),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(options: &Options) -> Result<(), Failure> {
    if !netns::available() {
        return Err("this needs root, iproute2 and network namespaces".into());
    }
    heed_interrupts()?;
    let lab = Lab::new(options.program.clone(), options.quick)?;
    let mut results = Results::begin(options, &lab)?;
    if let Some(load) = results.busy_before() {
        eprintln!("the machine was busy with something else (load {load}): the numbers mean less");
    }
    let mut clients = options.clients.clone();
    for round in 1..=options.rounds {
        for measure in &options.measures {
            if round > measure.rounds {
                continue;
            }
            for &kind in clients.iter().filter(|kind| measure.concerns(**kind)) {
                let figures = one(measure, &lab, kind);
                check_interrupted()?;
                eprintln!("{}", results::progress(round, measure, kind, &figures));
                results.add(measure, kind, figures);
            }
        }
        clients.rotate_left(1); // who comes first has no advantage
    }
    rows::print(&results);
    results.write(&options.out)
}

/// A peer that hangs, ends or breaks is a failed cell; the others are measured all the same.
fn one(measure: &Measure, lab: &Lab, kind: Kind) -> Result<Figures, String> {
    panic::catch_unwind(AssertUnwindSafe(|| (measure.run)(lab, kind)))
        .unwrap_or_else(|_| Err("the measurement panicked".into()))
        .map_err(|error| error.to_string())
}

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// From now on Ctrl-C and TERM end what waits, so that processes and namespaces are taken down by their owners.
fn heed_interrupts() -> Result<(), Failure> {
    use tokio::signal::unix::{SignalKind, signal};
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let inside = runtime.enter();
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    drop(inside);
    thread::spawn(move || {
        runtime.block_on(async {
            tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
        });
        INTERRUPTED.store(true, Ordering::Relaxed);
    });
    Ok(())
}

fn check_interrupted() -> Result<(), Failure> {
    if INTERRUPTED.load(Ordering::Relaxed) { Err("interrupted".into()) } else { Ok(()) }
}
