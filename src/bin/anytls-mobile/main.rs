//! The tunnel as a program: for desktops, servers and tests, and to see it work.

#![allow(clippy::disallowed_methods)] // what it starts lives as long as the program

mod bench;
mod check;
mod demo;
mod names;
mod run;
mod serve;
mod socks;

use std::io::IsTerminal;
use std::process::ExitCode;

use anytls_mobile::error::chain;
use clap::{Parser, Subcommand};
use tracing_subscriber::filter::LevelFilter;

/// AnyTLS client core for VPN apps, as a program.
#[derive(Parser)]
#[command(name = "anytls-mobile", version, arg_required_else_help = true)]
struct Arguments {
    /// Log level: off, error, warn, info, debug or trace; the config's where it has one.
    #[arg(long, global = true)]
    log: Option<LevelFilter>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Show the main job: a local server, a TUN, and 256 MiB each way.
    Demo(demo::Arguments),
    /// Run the tunnel on this machine.
    Run(run::Arguments),
    /// Run the test server: an AnyTLS server with a real outbound.
    Serve(serve::Arguments),
    /// Report every problem of a config.
    Check(check::Arguments),
    /// Measure what the pool costs and gives; see docs/pool.md.
    Bench(bench::Arguments),
}

fn main() -> ExitCode {
    let Arguments { log, command } = Arguments::parse();
    let result = match command {
        Command::Demo(arguments) => demo::demo(arguments, log),
        Command::Run(arguments) => run::run(arguments, log),
        Command::Serve(arguments) => serve::serve(arguments, log),
        Command::Check(arguments) => check::check(&arguments),
        Command::Bench(arguments) => bench::bench(&arguments, log),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", chain(&*error));
            ExitCode::FAILURE
        }
    }
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Logs to standard error from `level` on.
fn log_to_stderr(level: LevelFilter) {
    anytls_mobile::show_private(true); // whoever runs it, it is their own machine
    let colours = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_max_level(level).with_writer(std::io::stderr).with_ansi(colours).init();
}

/// One thread is enough for a program that mostly waits for its tunnel's.
fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}
