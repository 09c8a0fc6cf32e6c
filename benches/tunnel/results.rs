//! All that a run has found out, as it is kept in JSON.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Map, Value, json};

use crate::Failure;
use crate::client::Kind;
use crate::lab::Lab;
use crate::measures::{Figures, Measure};
use crate::options::Options;

/// The file of a run that has everything; of others, which must not replace it.
const WHOLE: &str = "tunnel.json";
const PART: &str = "tunnel-part.json";

pub struct Results {
    /// Machine, date, commit.
    pub about: Map<String, Value>,
    is_whole: bool,
    /// By measurement and client: its rounds.
    cells: BTreeMap<(String, String), Vec<Round>>,
}

/// What it gave, or why it failed.
type Round = Result<BTreeMap<String, f64>, String>;

impl Results {
    pub fn begin(options: &Options, lab: &Lab) -> Result<Self, Failure> {
        let about = json!({
            "date": said("date", &["-u", "+%Y-%m-%d %H:%M UTC"])?,
            "commit": commit(),
            "rounds": options.rounds,
            "quick": options.quick,
            "machine": {
                "cpu": cpu_model(),
                "cores": std::thread::available_parallelism().map_or(0, usize::from),
                "kernel": said("uname", &["-sr"])?,
                "arch": std::env::consts::ARCH,
                "memory_gib": memory_gib(),
                "congestion_control": said_in(lab, "ipv4/tcp_congestion_control")?,
                "load_before": fs::read_to_string("/proc/loadavg")?.split(' ').next(),
            },
            "server": sing_box_version()?,
        });
        let Value::Object(about) = about else { return Err("not an object".into()) };
        Ok(Self { about, is_whole: options.is_whole(), cells: BTreeMap::new() })
    }

    pub fn add(&mut self, measure: &Measure, kind: Kind, figures: Result<Figures, String>) {
        let named = figures.map(|figures| figures.into_iter().map(|(k, v)| (k.to_owned(), v)).collect());
        self.cells.entry((measure.name.to_owned(), kind.name().to_owned())).or_default().push(named);
    }

    /// The load before the run, where it was more than what a quiet machine has.
    pub fn busy_before(&self) -> Option<f64> {
        let load = self.about.get("machine")?["load_before"].as_str()?.parse().ok()?;
        (load > 0.5).then_some(load)
    }

    /// The median of the rounds that gave one; `None` when none did.
    pub fn median(&self, measure: &str, kind: Kind, figure: &str) -> Option<f64> {
        let rounds = self.cells.get(&(measure.to_owned(), kind.name().to_owned()))?;
        let mut values: Vec<f64> =
            rounds.iter().flatten().filter_map(|figures| figures.get(figure).copied()).collect();
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        match values.len() {
            0 => None,
            odd if odd % 2 == 1 => Some(values[middle]),
            _ => Some(f64::midpoint(values[middle - 1], values[middle])),
        }
    }

    /// Whether it was tried at all; with no median, it failed.
    pub fn has(&self, measure: &str, kind: Kind) -> bool {
        self.cells.contains_key(&(measure.to_owned(), kind.name().to_owned()))
    }

    pub fn failures(&self) -> Vec<String> {
        let lines = self.cells.iter().flat_map(|((measure, client), rounds)| {
            rounds.iter().filter_map(move |round| {
                let error = round.as_ref().err()?;
                Some(format!("{measure}, {client}: {error}"))
            })
        });
        lines.collect()
    }

    pub fn write(&self, folder: &Path) -> Result<(), Failure> {
        let mut cells = Map::new();
        for ((measure, client), rounds) in &self.cells {
            let rounds: Vec<Value> = rounds
                .iter()
                .map(|round| match round {
                    Ok(figures) => json!(figures),
                    Err(error) => json!({ "error": error }),
                })
                .collect();
            let of_measure = cells.entry(measure.clone()).or_insert_with(|| json!({}));
            of_measure[client] = json!(rounds);
        }
        let all = json!({ "about": self.about, "measurements": cells });
        fs::create_dir_all(folder)?;
        let path = folder.join(if self.is_whole { WHOLE } else { PART });
        fs::write(&path, format!("{all:#}\n"))?;
        eprintln!("written: {}", path.display());
        Ok(())
    }

    /// The last whole run.
    pub fn read(folder: &Path) -> Result<Self, Failure> {
        let path = folder.join(WHOLE);
        let text = fs::read_to_string(&path)
            .map_err(|error| format!("{}: {error}: a whole run writes it", path.display()))?;
        let mut all: Value = serde_json::from_str(&text)?;
        let Value::Object(about) = all["about"].take() else { return Err("no machine in it".into()) };
        let mut cells = BTreeMap::new();
        for (measure, clients) in all["measurements"].as_object().into_iter().flatten() {
            for (client, rounds) in clients.as_object().into_iter().flatten() {
                let rounds = rounds.as_array().into_iter().flatten().map(round_of).collect();
                cells.insert((measure.clone(), client.clone()), rounds);
            }
        }
        Ok(Self { about, is_whole: true, cells })
    }
}

fn round_of(round: &Value) -> Round {
    if let Some(error) = round["error"].as_str() {
        return Err(error.to_owned());
    }
    let figures = round.as_object().into_iter().flatten();
    Ok(figures.filter_map(|(name, value)| Some((name.clone(), value.as_f64()?))).collect())
}

/// A line for who waits.
pub fn progress(round: u32, measure: &Measure, kind: Kind, figures: &Result<Figures, String>) -> String {
    let found = match figures {
        Ok(figures) => {
            let one = |(name, value): (&&str, &f64)| format!("{name} {}", short(*value));
            figures.iter().map(one).collect::<Vec<_>>().join("  ")
        }
        Err(error) => format!("FAILED: {error}"),
    };
    format!("{round}  {:<14} {:<7} {found}", measure.name, kind.name())
}

/// Three figures that say something.
pub fn short(value: f64) -> String {
    match value.abs() {
        small if small < 10.0 => format!("{value:.2}"),
        middle if middle < 100.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

fn said(program: &str, arguments: &[&str]) -> Result<String, Failure> {
    let output = Command::new(program).args(arguments).output()?;
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

fn said_in(lab: &Lab, key: &str) -> Result<String, Failure> {
    let output = lab.cli.command("cat").arg(format!("/proc/sys/net/{key}")).output()?;
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

/// sing-box knows its version only when its own scripts have built it; the folder's name has it otherwise.
fn sing_box_version() -> Result<String, Failure> {
    let program = crate::server::sing_box()?;
    let output = Command::new(&program).arg("version").output()?;
    let text = String::from_utf8(output.stdout)?;
    let said = text.lines().next().and_then(|line| line.strip_prefix("sing-box version "));
    let folder = program.parent().and_then(|folder| folder.file_name()?.to_str()?.strip_prefix("sing-box-"));
    let version = said.filter(|version| *version != "unknown").or(folder);
    Ok(format!("sing-box {}", version.unwrap_or("of an unknown version")))
}

/// Outside of a repository there is none.
fn commit() -> Option<String> {
    let hash = said("git", &["rev-parse", "--short=12", "HEAD"]).ok().filter(|hash| !hash.is_empty())?;
    let is_clean =
        said("git", &["status", "--porcelain", "--untracked-files=no"]).is_ok_and(|s| s.is_empty());
    Some(if is_clean { hash } else { format!("{hash} with changes") })
}

fn cpu_model() -> Option<String> {
    let info = fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = info.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn memory_gib() -> Option<u64> {
    let info = fs::read_to_string("/proc/meminfo").ok()?;
    let kib: u64 = info.lines().next()?.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib.div_ceil(1 << 20))
}
