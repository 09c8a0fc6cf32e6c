//! The main job in a small world: a host with the tunnel, a host with the server, and targets behind that.
//!
//! ```text
//!  client                           │ internet
//!  app ─► TUN ─► tunnel ─► 10.0.0.1 ┼ 10.0.0.2 ─► server ─► 203.0.113.9, 2001:db8::9
//! ```
//! Only the two targets are routed into the TUN, and there is no other way to them.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::{fs, io};

use anytls_mobile::config::{self, Config, Defaults};
use anytls_mobile::transport::NoProtect;
use anytls_mobile::tun::{self, Device, FdDevice, TunOptions};
use anytls_mobile::tunnel::{Tun, Tunnel};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::netns::{End, Netns, Process, cable};
use super::servers::{self, SERVER_NAME, Server};
use super::target::Target;

/// Where the server listens.
pub const SERVER: &str = "10.0.0.2:443";
/// The targets' addresses, as they stand in a URL.
pub const TARGETS: [&str; 2] = ["203.0.113.9", "[2001:db8::9]"];
pub const PASSWORD: &str = "correct horse battery staple";
pub const TUN: &str = "at0";

pub type Start = fn(&Netns, SocketAddr, &str, Option<&str>) -> Option<Server>;

/// The servers that we did not write.
pub const SERVERS: [(&str, Start); 2] =
    [("sing-box", servers::sing_box), ("anytls-server", servers::anytls_rs)];

pub struct Lab {
    pub client: Netns,
    pub internet: Netns,
    pub target: Target,
    folder: TempDir,
}

impl Lab {
    pub fn new() -> Self {
        let (client, internet) = (Netns::new("client"), Netns::new("internet"));
        cable(
            End { netns: &client, interface: "wan", addresses: &["10.0.0.1/24"] },
            End { netns: &internet, interface: "wan", addresses: &["10.0.0.2/24"] },
            1500,
        );
        Self::between(client, internet)
    }

    /// The same between hosts that are joined already: the client must have a way to [`SERVER`].
    pub fn between(client: Netns, internet: Netns) -> Self {
        internet.ip("address add 203.0.113.9/32 dev lo");
        internet.ip("address add 2001:db8::9/128 dev lo nodad");
        let target = Target::start(&internet);
        Self { client, internet, target, folder: TempDir::new().unwrap() }
    }

    /// One of [`SERVERS`], or [`servers::embedded`], at [`SERVER`]; `None` when it is not installed.
    pub fn start_server(&self, start: Start) -> Option<Server> {
        start(&self.internet, SERVER.parse().unwrap(), PASSWORD, None)
    }

    /// A config for the server at [`SERVER`].
    pub fn config(&self, server: Option<&Server>, mtu: u16) -> Value {
        let address: SocketAddr = SERVER.parse().unwrap();
        json!({
            "server": {
                "server": address.ip(),
                "server_port": address.port(),
                "password": PASSWORD,
                "tls": {
                    "server_name": SERVER_NAME,
                    "certificate_path": server.map(Server::certificate),
                },
            },
            "tun": { "mtu": mtu, "addresses": ["10.70.0.1/30", "fd70::1/126"] },
        })
    }

    fn write_config(&self, config: &Value) -> PathBuf {
        let path = self.folder.path().join("config.json");
        fs::write(&path, config.to_string()).unwrap();
        path
    }

    /// The program with a TUN, and the targets routed into it.
    pub fn run_program(&self, config: &Value, log: &str) -> Process {
        let program = self.run_program_with(config, &["--log", log, "--tun", TUN]);
        self.route_targets();
        program
    }

    /// The program with other arguments, and nothing routed.
    pub fn run_program_with(&self, config: &Value, arguments: &[&str]) -> Process {
        let mut command = self.client.command(env!("CARGO_BIN_EXE_anytls-mobile"));
        command.args(["run", "--config"]).arg(self.write_config(config)).args(arguments);
        let mut program = self.client.spawn(command);
        program.wait_until_logged("tunnel is up");
        program
    }

    /// The tunnel in this process, on a TUN with something of the test's around it.
    pub fn start_tunnel(
        &self,
        config: &Value,
        wrap: impl FnOnce(FdDevice) -> Box<dyn Device> + Send + 'static,
    ) -> Tunnel {
        let parsed = config::parse(&config.to_string(), &Defaults::default()).expect("a config");
        let started = self.client.run(|| {
            let tun = open_tun(&parsed.config);
            let mtu = parsed.config.tun.mtu.get();
            let make = move || io::Result::Ok(wrap(FdDevice::new(tun, mtu)?));
            // The tunnel's thread is born in the namespace of this one, and so are its sockets.
            block_on(Tunnel::start(parsed.config, Tun::With(Box::new(make)), Arc::new(NoProtect)))
        });
        let tunnel = started.unwrap();
        self.route_targets();
        tunnel
    }

    /// Leads more addresses into the TUN, which must be there.
    pub fn route_into_tun(&self, prefixes: &[&str]) {
        for prefix in prefixes {
            self.client.ip(&format!("route add {prefix} dev {TUN}"));
        }
    }

    fn route_targets(&self) {
        self.route_into_tun(&["203.0.113.0/24", "2001:db8::/64"]);
    }

    /// A curl behind the TUN, which leaves nothing on disk.
    pub fn curl(&self, arguments: &[&str]) -> Command {
        let mut command = self.client.command("curl");
        command.args(["--disable", "--noproxy", "*", "--silent", "--show-error"]).args(arguments);
        command
    }
}

/// [`TUN`] with the config's MTU and addresses, in the namespace of the calling thread.
pub fn open_tun(config: &Config) -> OwnedFd {
    let options = TunOptions {
        name: TUN.to_owned(),
        mtu: config.tun.mtu.get(),
        addresses: config.tun.addresses.iter().map(|a| (a.address(), a.prefix_len())).collect(),
    };
    tun::open(&options).unwrap()
}

pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}
