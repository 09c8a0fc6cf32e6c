//! The server's name, looked up where this machine's own lookups would enter the TUN.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use anytls_mobile::transport::{Lookup, NameServers, Protect, Resolve};

const HOSTS: &str = "/etc/hosts";
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// Whom systemd-resolved asks. It asks for itself, on sockets that are not protected.
const RESOLVED: &str = "/run/systemd/resolve/resolv.conf";

const DNS: u16 = 53;

/// As the system's: its hosts, then its DNS servers, but asked on protected sockets.
pub(crate) struct ProtectedResolver(NameServers);

impl ProtectedResolver {
    pub(crate) fn new(protect: Arc<dyn Protect>) -> Self {
        Self(NameServers::new(name_servers, protect))
    }
}

impl Resolve for ProtectedResolver {
    fn resolve(&self, host: &str, port: u16) -> Lookup {
        // A file of the system, in memory: reading it takes microseconds.
        let known =
            std::fs::read_to_string(HOSTS).map(|hosts| addresses_of(&hosts, host)).unwrap_or_default();
        if known.is_empty() {
            return self.0.resolve(host, port);
        }
        Box::pin(async move { Ok(known.into_iter().map(|address| SocketAddr::new(address, port)).collect()) })
    }
}

fn name_servers() -> io::Result<Vec<SocketAddr>> {
    let mut servers = servers_of(&std::fs::read_to_string(RESOLV_CONF)?);
    if servers.iter().all(IpAddr::is_loopback) && Path::new(RESOLVED).exists() {
        servers = servers_of(&std::fs::read_to_string(RESOLVED)?);
    }
    Ok(servers.into_iter().map(|address| SocketAddr::new(address, DNS)).collect())
}

/// The lines' words, without comments.
fn lines(text: &str) -> impl Iterator<Item = impl Iterator<Item = &str>> {
    text.lines().map(|line| line.split(['#', ';']).next().unwrap_or_default().split_whitespace())
}

fn servers_of(resolv_conf: &str) -> Vec<IpAddr> {
    lines(resolv_conf)
        .filter_map(|mut words| (words.next()? == "nameserver").then(|| words.next()?.parse().ok()).flatten())
        .collect()
}

fn addresses_of(hosts: &str, name: &str) -> Vec<IpAddr> {
    lines(hosts)
        .filter_map(|mut words| {
            let address = words.next()?.parse().ok()?;
            words.any(|word| word.eq_ignore_ascii_case(name)).then_some(address)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_and_hosts_are_read_as_the_system_does() {
        let servers = servers_of(
            "# nameserver 9.9.9.9\nnameserver 192.0.2.1\nsearch lan\n nameserver\t2001:db8::1 ; x\nnameserver\nnameserver x\n",
        );
        assert_eq!(
            servers,
            ["192.0.2.1", "2001:db8::1"].map(|text| text.parse::<IpAddr>().expect("an address"))
        );
        let hosts =
            "127.0.0.1 localhost\n192.0.2.7 a.example VPN.example # b.example\n2001:db8::7 vpn.example\n";
        let expected = ["192.0.2.7", "2001:db8::7"].map(|text| text.parse::<IpAddr>().expect("an address"));
        assert_eq!(addresses_of(hosts, "vpn.example"), expected);
        assert!(addresses_of(hosts, "b.example").is_empty() && addresses_of(hosts, "example").is_empty());
    }
}
