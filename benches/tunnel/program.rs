//! What is measured without a network: idle sessions, and the library.

use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::Failure;
use crate::lab::{Lab, wait};
use crate::measures::Figures;

/// By the program's own `bench memory`, which counts the growth of its process by 1000 sessions.
pub fn sessions(lab: &Lab) -> Result<Figures, Failure> {
    let folder = TempDir::new()?;
    let mut command = Command::new(lab.program());
    command.args(["bench", "memory", "--out"]).arg(folder.path()).stdout(Stdio::null());
    if lab.quick {
        command.arg("--quick");
    }
    let mut child = command.spawn()?;
    let ended = wait("bench memory", Duration::from_secs(180), || Ok(child.try_wait()?));
    // Fails only when it has ended already.
    let _ = child.kill();
    let _ = child.wait();
    ended?;
    let report: Value = serde_json::from_str(&fs::read_to_string(folder.path().join("memory.json"))?)?;
    let row = |number: usize| report["rows"][number]["bytes for each session"].as_f64();
    let (fresh, used) = row(0).zip(row(2)).ok_or_else(|| format!("another report: {report}"))?;
    Ok(Figures::from([("fresh_kb", fresh / 1e3), ("used_kb", used / 1e3)]))
}

/// For arm64 where `scripts/check-android` has linked one, else for this machine with what phones get.
pub fn library() -> Result<Figures, Failure> {
    for (name, variable) in [("arm64_mb", "ANYTLS_ARM64_LIBRARY"), ("x86_64_mb", "ANYTLS_LIBRARY")] {
        let Some(path) = env::var_os(variable).map(PathBuf::from) else { continue };
        if let Ok(file) = fs::metadata(&path) {
            #[allow(clippy::cast_precision_loss)] // for people
            let megabytes = file.len() as f64 / 1e6;
            return Ok(Figures::from([("mb", megabytes), (name, megabytes)]));
        }
    }
    Err("no library: scripts/bench builds one".into())
}
