//! What the command line asks for.
//!
//! ```text
//! [NAME...]              measurements, all of them without a name; --list names them
//! --quick                seconds instead of minutes: shows that it works, the numbers mean little
//! --rounds N             how often each is repeated (3; 1 with --quick)
//! --clients a,b          ours, system and gvisor
//! --program FILE         the program that is measured
//! --out FOLDER           where the JSON goes (target/bench)
//! --write-docs FOLDER    measures nothing: performance.md and performance.svg out of the last whole run in --out
//! ```

use std::path::PathBuf;

use crate::Failure;
use crate::client::Kind;
use crate::measures::{ALL, Measure};

pub enum Asked {
    Measure(Options),
    WriteDocs {
        from: PathBuf,
        to: PathBuf,
    },
    List,
    /// An app's or a target's part, in a namespace.
    Load(Vec<String>),
}

pub struct Options {
    pub measures: Vec<&'static Measure>,
    pub quick: bool,
    pub rounds: u32,
    pub clients: Vec<Kind>,
    pub program: PathBuf,
    pub out: PathBuf,
}

impl Options {
    /// Whether this run has all that the docs show.
    pub fn is_whole(&self) -> bool {
        !self.quick && self.measures.len() == ALL.len() && self.clients.len() == Kind::ALL.len()
    }
}

pub fn read(arguments: impl Iterator<Item = String>) -> Result<Asked, Failure> {
    let mut arguments = arguments.filter(|argument| argument != "--bench").peekable(); // cargo's own
    if arguments.next_if(|first| first == "load").is_some() {
        return Ok(Asked::Load(arguments.collect()));
    }
    let mut options = Options {
        measures: Vec::new(),
        quick: false,
        rounds: 0,
        clients: Kind::ALL.to_vec(),
        program: PathBuf::from("target/release/anytls-mobile"),
        out: PathBuf::from("target/bench"),
    };
    let mut docs = None;
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or_else(|| format!("{argument} wants a value"));
        match argument.as_str() {
            "--quick" => options.quick = true,
            "--rounds" => options.rounds = value()?.parse().map_err(|error| format!("--rounds: {error}"))?,
            "--clients" => options.clients = kinds(&value()?)?,
            "--program" => options.program = value()?.into(),
            "--out" => options.out = value()?.into(),
            "--write-docs" => docs = Some(value()?.into()),
            "--list" => return Ok(Asked::List),
            name => options.measures.push(named(name)?),
        }
    }
    if let Some(to) = docs {
        return Ok(Asked::WriteDocs { from: options.out, to });
    }
    if options.measures.is_empty() {
        options.measures = ALL.iter().collect();
    }
    if options.rounds == 0 {
        options.rounds = if options.quick { 1 } else { 3 };
    }
    Ok(Asked::Measure(options))
}

pub fn list() {
    for measure in ALL {
        println!("{:<14} {}", measure.name, measure.what);
    }
}

fn named(name: &str) -> Result<&'static Measure, Failure> {
    let names = || ALL.iter().map(|measure| measure.name).collect::<Vec<_>>().join(", ");
    let found = ALL.iter().find(|measure| measure.name == name);
    found.ok_or_else(|| format!("{name:?} is none of {}", names()).into())
}

fn kinds(list: &str) -> Result<Vec<Kind>, Failure> {
    let kind = |name: &str| Kind::ALL.into_iter().find(|kind| kind.name() == name);
    list.split(',')
        .map(|name| kind(name).ok_or_else(|| format!("no client is called {name:?}").into()))
        .collect()
}
