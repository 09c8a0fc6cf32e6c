//! Who is measured: our program, or a peer, each with a TUN that it makes.

use std::fs;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::lab::{Lab, SERVER, TARGET_NETWORK, wait};
use crate::netns::Process;
use crate::server::{NAME, PASSWORD, Server, sing_box};
use crate::usage::Usage;
use crate::{Failure, load};

const TUN: &str = "bench0";
const TUN_ADDRESS: &str = "10.70.0.1/30";

const LIMIT: Duration = Duration::from_secs(15);

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Ours,
    /// sing-box with the kernel's TCP behind address translation.
    System,
    /// sing-box with gVisor's TCP.
    Gvisor,
}

impl Kind {
    pub const ALL: [Self; 3] = [Self::Ours, Self::System, Self::Gvisor];

    pub fn name(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::System => "system",
            Self::Gvisor => "gvisor",
        }
    }
}

/// How a client is set up.
#[derive(Clone, Copy)]
pub struct Setup {
    /// Of the TUN.
    pub mtu: u32,
    /// Sessions that stay in the pool for minutes; else each client keeps what it keeps by itself.
    pub pooled: Option<u32>,
    /// Seconds between heartbeats, 0 for none; else as the client does by itself. sing-box has none.
    pub heartbeat: Option<u32>,
}

impl Setup {
    pub const PLAIN: Self = Self { mtu: 1500, pooled: None, heartbeat: None };
}

/// A running client; ended when dropped.
pub struct Client {
    process: Process,
}

impl Client {
    pub fn start(lab: &Lab, kind: Kind, setup: &Setup, server: &Server) -> Result<Self, Failure> {
        let config = match kind {
            Kind::Ours => our_config(setup, server),
            Kind::System | Kind::Gvisor => sing_box_config(kind, setup, server),
        };
        let path = server.folder().join("client.json");
        fs::write(&path, config.to_string())?;
        let mut command: Command;
        match kind {
            Kind::Ours => {
                command = lab.cli.command(lab.program());
                command.args(["--log", "warn", "run", "--tun", TUN, "--config"]).arg(path);
            }
            Kind::System | Kind::Gvisor => {
                command = lab.cli.command(sing_box()?);
                command.args(["run", "--disable-color", "--config"]).arg(path);
            }
        }
        let mut client = Self { process: lab.cli.spawn(command) };
        client.wait_until_ready(lab)?;
        Ok(client)
    }

    /// Until a stream has been through. The target is routed into the TUN as soon as that is there.
    fn wait_until_ready(&mut self, lab: &Lab) -> Result<(), Failure> {
        let mut is_routed = false;
        wait("a first stream through the client", LIMIT, || {
            if self.process.exit_status().is_some() {
                return Err(format!("the client ended: {}", self.log()).into());
            }
            if !is_routed {
                let words = ["route", "add", TARGET_NETWORK, "dev", TUN];
                is_routed = lab.cli.command("ip").args(words).output()?.status.success();
            }
            Ok((is_routed && lab.cli.run(load::probe).is_ok()).then_some(()))
        })
    }

    pub fn usage(&self) -> Result<Usage, Failure> {
        Usage::of(self.process.id())
    }

    /// From now on the peak of its memory is counted anew.
    pub fn forget_peak(&self) -> Result<(), Failure> {
        Ok(fs::write(format!("/proc/{}/clear_refs", self.process.id()), "5")?)
    }

    pub fn log(&self) -> String {
        self.process.log().trim().to_owned()
    }
}

fn our_config(setup: &Setup, server: &Server) -> Value {
    let mut outbound = json!({
        "type": "anytls",
        "server": SERVER.ip(),
        "server_port": SERVER.port(),
        "password": PASSWORD,
        "tls": { "server_name": NAME, "certificate_path": server.folder().join("certificate.pem") },
    });
    if let Some(count) = setup.pooled {
        outbound["ensure_idle_session"] = json!(count);
        outbound["min_idle_session"] = json!(count);
        outbound["idle_session_timeout"] = json!("10m");
    }
    if let Some(seconds) = setup.heartbeat {
        outbound["heartbeat"] = json!(format!("{seconds}s"));
    }
    json!({ "server": outbound, "tun": { "mtu": setup.mtu, "addresses": [TUN_ADDRESS] } })
}

fn sing_box_config(kind: Kind, setup: &Setup, server: &Server) -> Value {
    let mut outbound = json!({
        "type": "anytls",
        "server": SERVER.ip(),
        "server_port": SERVER.port(),
        "password": PASSWORD,
        "tls": {
            "enabled": true,
            "server_name": NAME,
            "certificate_path": server.folder().join("certificate.pem"),
        },
    });
    if let Some(count) = setup.pooled {
        outbound["min_idle_session"] = json!(count);
        outbound["idle_session_timeout"] = json!("10m");
    }
    json!({
        "log": { "level": "error", "timestamp": false },
        "inbounds": [{
            "type": "tun",
            "interface_name": TUN,
            "mtu": setup.mtu,
            "address": [TUN_ADDRESS],
            "auto_route": false,
            "stack": kind.name(),
        }],
        "outbounds": [outbound],
    })
}

/// Sessions of the client with the server at this moment, as the kernel sees them.
pub fn sessions(lab: &Lab) -> Result<usize, Failure> {
    const ESTABLISHED: &str = "01";
    let table = lab.cli.command("cat").arg("/proc/net/tcp").output()?.stdout;
    let table = String::from_utf8(table)?;
    let port = format!(":{:04X}", SERVER.port());
    Ok(table.lines().filter(|line| is_line(line, &port, ESTABLISHED)).count())
}

fn is_line(line: &str, remote_port: &str, state: &str) -> bool {
    let fields: Vec<&str> = line.split_whitespace().collect();
    fields.len() > 3 && fields[2].ends_with(remote_port) && fields[3] == state
}

/// Whether the kernel hands this client's TUN more than a packet at a time.
pub fn has_offload(lab: &Lab) -> Result<bool, Failure> {
    let output = lab.cli.command("ip").args(["-details", "link", "show", TUN]).output()?;
    Ok(String::from_utf8_lossy(&output.stdout).contains("vnet_hdr on"))
}
