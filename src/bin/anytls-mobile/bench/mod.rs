//! `bench`: what the pool costs and gives, measured. One file a benchmark.
//!
//! ```text
//! memory     RSS for each idle session
//! extension  RSS of a whole tunnel with the defaults of iOS, when apps send more than the uplink carries
//! wire       bytes of dials and beats, and of each preset in an hour
//! pool       the first request, bursts and recovery, for each preset
//! symptoms   what goes wrong for users, and what its remedy changes
//! ```
//! The client runs in this process; servers run in others, so that what they use does not count. The last three
//! put a [`link`] in between, which delays, counts, forgets and goes silent when told to.

mod apps;
mod client;
mod extension;
mod link;
mod memory;
mod pool;
mod report;
mod server;
mod symptoms;
mod throttle;
mod wire;

use std::path::PathBuf;

use tracing_subscriber::filter::LevelFilter;

use self::report::Report;
use crate::{Failure, log_to_stderr};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// What to measure; servers and apps are what the others start.
    #[arg(value_enum)]
    what: What,
    /// See that it works, in seconds: the numbers mean little.
    #[arg(long)]
    quick: bool,
    /// Where the JSON goes.
    #[arg(long, default_value = "target/bench")]
    out: PathBuf,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum What {
    Memory,
    Extension,
    Wire,
    Pool,
    Symptoms,
    #[value(hide = true)]
    Apps,
    #[value(hide = true)]
    Server,
}

pub(crate) fn bench(arguments: &Arguments, log: Option<LevelFilter>) -> Result<(), Failure> {
    log_to_stderr(log.unwrap_or(LevelFilter::ERROR));
    let Arguments { what, quick, ref out } = *arguments;
    let reports = match what {
        What::Memory => memory::bench(quick)?,
        What::Extension => extension::bench(quick)?,
        What::Wire => wire::bench(quick)?,
        What::Pool => pool::bench(quick)?,
        What::Symptoms => symptoms::bench(quick)?,
        What::Apps => return apps::run(),
        What::Server => return server::serve(),
    };
    for report in reports {
        report.print();
        report.write(out)?;
    }
    Ok(())
}
