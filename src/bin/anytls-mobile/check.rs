//! `check`: every problem of a config.

use std::path::Path;

use anytls_mobile::config::{self, Defaults, Parsed};

use crate::Failure;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// A config file, or an anytls:// URI.
    config: String,
}

pub(crate) fn check(arguments: &Arguments) -> Result<(), Failure> {
    let Parsed { warnings, .. } = load(&arguments.config)?;
    match warnings.len() {
        0 => println!("ok"),
        1 => println!("ok, with 1 warning"),
        count => println!("ok, with {count} warnings"),
    }
    Ok(())
}

/// Reads the config and prints its warnings; fails with all problems when one of them is an error.
pub(crate) fn load(source: &str) -> Result<Parsed, Failure> {
    let text = if source.contains("://") {
        source.to_owned()
    } else {
        std::fs::read_to_string(Path::new(source)).map_err(|error| format!("{source}: {error}"))?
    };
    let parsed = config::parse(&text, &Defaults::default())?;
    for warning in &parsed.warnings {
        eprintln!("{warning}");
    }
    Ok(parsed)
}
