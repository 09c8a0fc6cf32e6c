//! Names through a real TUN: what apps are told, by whom, and what never leaves past the tunnel.
#![allow(clippy::disallowed_methods)] // a test's threads end with it

mod answers;
mod fake_names;
mod load;
mod own_name;
mod strays;
#[path = "../support/mod.rs"]
mod support;

use std::net::SocketAddr;

use serde_json::{Value, json};

use support::lab::{Lab, SERVERS, Start};
use support::netns::{self, Process};
use support::resolver::{ADDRESSES, NAME, Resolver};
use support::servers::{self, Server};

/// Where the apps believe that their resolver is, of each family: behind the TUN, and nobody there.
const APPS_RESOLVERS: [&str; 2] = ["10.70.0.2", "fd70::2"];

/// What fake addresses are of.
const FAKE_RANGES: [&str; 2] = ["198.18.0.0/15", "fdfe:dcba:9877::/64"];

/// A name that is known where the AnyTLS server is and nowhere else, not to the resolver either.
const SERVERS_OWN: &str = "named.test";

const EMBEDDED: (&str, Start) = ("the embedded server", servers::embedded);

fn every_server() -> impl Iterator<Item = (&'static str, Start)> {
    SERVERS.into_iter().chain([EMBEDDED])
}

fn apps_resolver() -> SocketAddr {
    SocketAddr::new(APPS_RESOLVERS[0].parse().unwrap(), 53)
}

/// A lab with a resolver.
struct World {
    lab: Lab,
    resolver: Resolver,
    server: Server,
}

impl World {
    /// `None` and a SKIP line where something is missing.
    fn new(start: Start) -> Option<Self> {
        if !netns::available() || !netns::installed("dig") {
            return None;
        }
        Self::of(Lab::new(), start)
    }

    fn of(lab: Lab, start: Start) -> Option<Self> {
        lab.internet.set_hosts(&format!(
            "203.0.113.9 {SERVERS_OWN}\n2001:db8::9 {SERVERS_OWN}\n{} {NAME}",
            ADDRESSES[0]
        ));
        let resolver = Resolver::start(&lab.internet)?;
        let server = lab.start_server(start)?;
        lab.client.set_resolver(APPS_RESOLVERS[0]);
        Some(Self { lab, resolver, server })
    }

    /// A config with this `dns`, in which an absent `server` is the resolver, and its certificate is believed.
    fn config(&self, mut dns: Value) -> Value {
        if dns["server"].is_null() {
            dns["server"] = json!(ADDRESSES[0]);
        }
        if ["tls://", "https://"].iter().any(|scheme| dns["server"].as_str().unwrap().starts_with(scheme)) {
            dns["tls"] = json!({ "certificate_path": self.resolver.certificate() });
        }
        let mut config = self.lab.config(Some(&self.server), 1500);
        config["dns"] = dns;
        config
    }

    /// The program with such a config, and all that names lead to routed into its TUN.
    fn run(&self, dns: Value) -> Process {
        let program = self.lab.run_program(&self.config(dns), "info");
        self.lab.route_into_tun(&FAKE_RANGES);
        program
    }

    fn dig(&self, arguments: &[&str]) -> support::dig::Answer {
        support::dig::dig(&self.lab.client, APPS_RESOLVERS[0], arguments)
    }
}
