//! What a process has used, as `/proc` tells.

use std::fs;

use crate::Failure;

/// Linux reports CPU time in these, whatever the kernel's own clock: USER_HZ.
const TICKS_PER_SECOND: f64 = 100.0;

#[derive(Clone, Copy)]
pub struct Usage {
    /// User and system time of all threads.
    pub cpu_seconds: f64,
    /// How often a thread of it has gone to sleep by itself.
    pub switches: f64,
    /// Pages that were touched and had to be made first.
    pub faults: f64,
    pub rss: f64,
    /// Of these, what no file has: heap, stacks and buffers, without the program's code.
    pub anonymous: f64,
    pub peak: f64,
}

impl Usage {
    pub fn of(id: u32) -> Result<Self, Failure> {
        let status = fs::read_to_string(format!("/proc/{id}/status"))?;
        let kib = |name| field(&status, name).map(|kib| kib * 1024.0);
        let mut switches = 0.0;
        for thread in fs::read_dir(format!("/proc/{id}/task"))?.flatten() {
            // One that has just ended has no file any more.
            let status = fs::read_to_string(thread.path().join("status")).unwrap_or_default();
            switches += field(&status, "voluntary_ctxt_switches:").unwrap_or_default();
        }
        let [Some(rss), Some(anonymous), Some(peak)] = ["VmRSS:", "RssAnon:", "VmHWM:"].map(kib) else {
            return Err("the process has ended".into());
        };
        let stat = fs::read_to_string(format!("/proc/{id}/stat"))?;
        // pid (name) state …: these are the 10th, 14th and 15th fields.
        let fields = stat.rsplit_once(')').map(|(_, fields)| fields).unwrap_or_default();
        let number = |place: usize| fields.split_whitespace().nth(place)?.parse::<f64>().ok();
        let [Some(faults), Some(user), Some(system)] = [7, 11, 12].map(number) else {
            return Err(format!("another kind of stat: {stat}").into());
        };
        Ok(Self { cpu_seconds: (user + system) / TICKS_PER_SECOND, switches, faults, rss, anonymous, peak })
    }
}

fn field(status: &str, name: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}
