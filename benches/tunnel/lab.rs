//! The two hosts and the cable between them.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::client::{Client, Kind, Setup};
use crate::netns::{End, Netns, Process, cable};
use crate::server::Server;
use crate::target::Service;
use crate::{Failure, check_interrupted};

/// The client's and the server's end of the cable.
const CLIENT_ADDRESS: &str = "10.99.0.1/24";
pub const SERVER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 99, 0, 2)), 443);
const LINK: &str = "wan";

/// Where apps believe their targets to be: in the TUN. Several, so that short connections do not run out of ports.
pub const TARGETS: [Ipv4Addr; 8] =
    [target(1), target(2), target(3), target(4), target(5), target(6), target(7), target(8)];
pub const TARGET_NETWORK: &str = "198.51.100.0/24";

const fn target(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(198, 51, 100, last)
}

/// How often a condition is looked at.
const GLANCE: Duration = Duration::from_millis(5);

/// What a load may take beyond the time that it was told to take.
const GRACE: Duration = Duration::from_secs(20);

pub struct Lab {
    pub cli: Netns,
    pub srv: Netns,
    pub quick: bool,
    program: PathBuf,
}

impl Lab {
    pub fn new(program: PathBuf, quick: bool) -> Result<Self, Failure> {
        let program = program.canonicalize().map_err(|error| format!("{}: {error}", program.display()))?;
        let (cli, srv) = (Netns::new("cli"), Netns::new("srv"));
        let server = format!("{}/24", SERVER.ip());
        cable(
            End { netns: &cli, interface: LINK, addresses: &[CLIENT_ADDRESS] },
            End { netns: &srv, interface: LINK, addresses: &[&server] },
            1500,
        );
        for netns in [&cli, &srv] {
            netns.sysctl("ipv4/ip_local_port_range", "10000 65000");
            netns.sysctl("core/somaxconn", "8192");
        }
        for target in TARGETS {
            srv.ip(&format!("address add {target}/32 dev lo"));
        }
        Ok(Self { cli, srv, quick, program })
    }

    /// The server, its targets and a client, ready: the first stream has been through.
    pub fn stage(&self, kind: Kind, setup: &Setup) -> Result<Stage<'_>, Failure> {
        let server = Server::start(self)?;
        let client = Client::start(self, kind, setup, &server)?;
        Ok(Stage { lab: self, client, _server: server })
    }

    pub fn program(&self) -> &Path {
        &self.program
    }

    /// This long in a real run.
    pub fn time(&self, seconds: u64) -> Duration {
        if self.quick { Duration::from_millis(seconds * 125) } else { Duration::from_secs(seconds) }
    }

    /// So many in a real run.
    pub fn count(&self, count: u32) -> u32 {
        if self.quick { count / 5 } else { count }
    }

    /// Makes the cable one of so many Mbit/s both ways, until the result is dropped.
    pub fn slow_link(&self, megabits: u32) -> SlowLink<'_> {
        let slow = SlowLink(self);
        for netns in [&self.cli, &self.srv] {
            // Shorter than most of what TCP hands over at once, which is then sent a packet at a time.
            netns.tc(&format!("qdisc add dev {LINK} root tbf rate {megabits}mbit burst 5kb latency 30ms"));
        }
        slow
    }

    /// Starts this program's part in a namespace.
    pub fn start_load(&self, netns: &Netns, words: &[&str]) -> Result<Process, Failure> {
        let mut command = netns.command(std::env::current_exe()?);
        command.arg("load").args(words);
        Ok(netns.spawn(command))
    }

    /// Runs a load of this length to its end; what it reports.
    pub fn run_load(&self, netns: &Netns, words: &[&str], length: Duration) -> Result<Value, Failure> {
        let mut process = self.start_load(netns, words)?;
        let limit = length + GRACE;
        let status = wait(&format!("{words:?}"), limit, || Ok(process.exit_status()))?;
        let log = process.log();
        if !status.success() {
            return Err(format!("{words:?}: {}", log.trim()).into());
        }
        let report = log.lines().last().unwrap_or_default();
        serde_json::from_str(report).map_err(|error| format!("{words:?}: {error}: {report:?}").into())
    }

    pub fn target(service: Service) -> String {
        SocketAddr::from((TARGETS[0], service.port())).to_string()
    }
}

/// All that runs for one figure; ended when dropped, the client first.
pub struct Stage<'a> {
    lab: &'a Lab,
    pub client: Client,
    _server: Server,
}

impl Stage<'_> {
    /// An app's load, on the client's host.
    pub fn load(&self, words: &[&str], length: Duration) -> Result<Value, Failure> {
        self.lab.run_load(&self.lab.cli, words, length)
    }

    /// An app that stays: until it has said `text`, and then until it is dropped.
    pub fn keep(&self, words: &[&str], text: &str, limit: Duration) -> Result<Process, Failure> {
        let mut process = self.lab.start_load(&self.lab.cli, words)?;
        wait(&format!("{words:?} saying {text:?}"), limit, || {
            if process.log().contains(text) {
                return Ok(Some(()));
            }
            match process.exit_status() {
                Some(_) => Err(format!("{words:?}: {}", process.log().trim()).into()),
                None => Ok(None),
            }
        })?;
        Ok(process)
    }
}

pub struct SlowLink<'a>(&'a Lab);

impl Drop for SlowLink<'_> {
    fn drop(&mut self) {
        for netns in [&self.0.cli, &self.0.srv] {
            // Best effort: one that was not slowed has nothing to delete, and a drop must not panic.
            let _ = netns.command("tc").args(["qdisc", "delete", "dev", LINK, "root"]).output();
        }
    }
}

/// Looks until there is something; an error after `limit`, or when the user has had enough.
pub fn wait<T>(
    what: &str,
    limit: Duration,
    mut look: impl FnMut() -> Result<Option<T>, Failure>,
) -> Result<T, Failure> {
    let begin = Instant::now();
    loop {
        if let Some(found) = look()? {
            return Ok(found);
        }
        check_interrupted()?;
        if begin.elapsed() > limit {
            return Err(format!("{what}: not within {} s", limit.as_secs()).into());
        }
        thread::sleep(GLANCE);
    }
}

/// Lets time pass, which is itself part of what is measured.
pub fn pass(time: Duration) -> Result<(), Failure> {
    let end = Instant::now() + time;
    while Instant::now() < end {
        check_interrupted()?;
        thread::sleep((end - Instant::now().min(end)).min(Duration::from_millis(50)));
    }
    Ok(())
}
