//! `docs/performance.md`, written out of the last whole run.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::client::Kind;
use crate::results::{Results, short};
use crate::rows::{COLUMNS, LIMITS, cells, offload_note};
use crate::{Failure, plot};

const INTRODUCTION: &str = "\
# Performance

Written by `scripts/bench tunnel --write-docs` out of a run of `scripts/bench tunnel`; nothing here is typed by hand.
";

const METHOD: &str = "\
## How this was measured

Two network namespaces, a client's and a server's, are joined by a veth pair; TCP is cubic in both. The client makes a
TUN, and a network behind the server is routed into it. Apps on the client's side talk to targets behind the server.

- The client under test is a process of its own: this project's release program, or sing-box with `stack: system` or
  `stack: gvisor`. The server is always sing-box. Server and client are started afresh for every figure.
- Clients take turns in every round. A figure is the median of the rounds.
- CPU is user and system time of the whole client process, for 10⁹ bytes of payload, or as a part of one core. What the
  kernel does for a TUN write, half of it the receiving app's TCP, counts as the client's.
- This project's thread has a nice value of -10, which root has on Linux and every app on Android; sing-box leaves its
  threads at 0.
- Throughput counts what the far end has confirmed, from the first connect on.
- 100 and 20 Mbit/s are token buckets at both ends of the cable; they pass one packet at a time.
- Memory is the resident set (`VmRSS`, `VmHWM`). A held connection has moved a byte each way and is silent since.
- Wake-ups are voluntary context switches of all threads, over a minute.
- \"short\" is a number that is not held yet.
";

/// Writes the page and its picture into a folder, out of the JSON in another.
pub fn write(from: &Path, to: &Path) -> Result<(), Failure> {
    let results = Results::read(from)?;
    let picture = plot::draw(&results).map_err(|error| error.to_string())?;
    fs::write(to.join("performance.svg"), picture)?;
    fs::write(to.join("performance.md"), page(&results)?)?;
    Ok(())
}

fn page(results: &Results) -> Result<String, Failure> {
    let about = |name: &str| text(results.about.get(name));
    let machine = |name: &str| text(results.about.get("machine").map(|machine| &machine[name]));
    let mut page = INTRODUCTION.to_owned();
    writeln!(
        page,
        "\n{}, commit {}, medians of {} rounds.",
        about("date"),
        about("commit"),
        about("rounds")
    )?;
    writeln!(
        page,
        "{}, {} cores, {} GiB, {}. The peer and the server: {}.\n",
        machine("cpu"),
        machine("cores"),
        machine("memory_gib"),
        machine("kernel"),
        about("server"),
    )?;
    if let Some(load) = results.busy_before() {
        writeln!(page, "The machine was not quiet: its load was {load} before the run.\n")?;
    }
    writeln!(page, "![The same as bars](performance.svg)\n")?;
    table(&mut page, &COLUMNS, cells(results).iter().map(<[String; 9]>::as_slice))?;
    if let Some(note) = offload_note(results) {
        writeln!(page, "\n{note}")?;
    }
    let failures = results.failures();
    if !failures.is_empty() {
        writeln!(page, "\nRounds that failed, and are left out:\n")?;
        for failure in failures {
            writeln!(page, "- {failure}")?;
        }
    }
    writeln!(page, "\n## What the machine can do\n\nMeasured in the same run, without any client.\n")?;
    let limits: Vec<[String; 3]> = LIMITS
        .iter()
        .filter_map(|&(figure, what, unit)| {
            let value = results.median("limits", Kind::Ours, figure)?;
            Some([what.to_owned(), short(value), unit.to_owned()])
        })
        .collect();
    table(&mut page, &["what", "each", "unit"], limits.iter().map(<[String; 3]>::as_slice))?;
    write!(page, "\n{METHOD}")?;
    Ok(page)
}

fn table<'a>(
    page: &mut String,
    head: &[&str],
    rows: impl Iterator<Item = &'a [String]>,
) -> Result<(), Failure> {
    writeln!(page, "| {} |", head.join(" | "))?;
    writeln!(page, "|{}", "---|".repeat(head.len()))?;
    for row in rows {
        writeln!(page, "| {} |", row.join(" | "))?;
    }
    Ok(())
}

fn text(value: Option<&Value>) -> String {
    match value {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Null) | None => "?".to_owned(),
        Some(other) => other.to_string(),
    }
}
