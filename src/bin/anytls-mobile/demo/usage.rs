//! What the process has used, as the kernel counts it.

use std::fs;

/// Memory and CPU time; zero where the kernel does not tell.
pub(super) struct Usage {
    peak_kib: u64,
    tunnel_ticks: u64,
}

/// Linux reports CPU time in these, whatever the kernel's own clock: USER_HZ.
const TICKS_PER_SECOND: f64 = 100.0;

impl Usage {
    pub(super) fn now() -> Self {
        Self { peak_kib: peak_kib().unwrap_or(0), tunnel_ticks: tunnel_ticks().unwrap_or(0) }
    }

    #[allow(clippy::cast_precision_loss)] // for people
    pub(super) fn peak_mib(&self) -> f64 {
        self.peak_kib as f64 / 1024.0
    }

    #[allow(clippy::cast_precision_loss)] // for people
    pub(super) fn tunnel_seconds(&self) -> f64 {
        self.tunnel_ticks as f64 / TICKS_PER_SECOND
    }
}

fn peak_kib() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// User and system time of the tunnel's thread.
fn tunnel_ticks() -> Option<u64> {
    for entry in fs::read_dir("/proc/self/task").ok()?.flatten() {
        let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
        // pid (name) state …: the 14th and 15th fields are utime and stime.
        let (head, fields) = stat.rsplit_once(')')?;
        if head.ends_with("(anytls-tunnel") {
            let fields: Vec<&str> = fields.split_whitespace().collect();
            return Some(fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?);
        }
    }
    None
}
