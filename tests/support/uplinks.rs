//! A host with two ways to the internet, as a phone has Wi-Fi and a mobile network.
//!
//! ```text
//!  client                                      │ internet
//!  up0: 10.1.0.2, fd01::2 ─► 10.1.0.1, fd01::1 ┤
//!                                              ├ lo: 10.0.0.2, fd00::2
//!  up1: 10.2.0.2, fd02::2 ─► 10.2.0.1, fd02::1 ┤
//! ```
//! The default routes of both families lead through one of them, and at first that is [`UP0`]. Each takes
//! only packets from the addresses that it gave out, so that a connection does not survive a switch, and none
//! for the [lab](super::lab)'s targets, which are to be reached through a server.

use std::process::Command;

use super::netns::{self, End, Netns, cable, output, wait_until};

/// One of the two, the same name at both ends.
#[derive(Debug)]
pub struct Uplink {
    pub interface: &'static str,
    /// The provider's address, and the client's, of each family.
    pub gateways: [&'static str; 2],
    pub addresses: [&'static str; 2],
}

pub const UP0: Uplink =
    Uplink { interface: "up0", gateways: ["10.1.0.1", "fd01::1"], addresses: ["10.1.0.2", "fd01::2"] };
pub const UP1: Uplink =
    Uplink { interface: "up1", gateways: ["10.2.0.1", "fd02::1"], addresses: ["10.2.0.2", "fd02::2"] };

/// Where a server may listen, of each family; the first is the lab's server's.
pub const SERVER_ADDRESSES: [&str; 2] = ["10.0.0.2", "fd00::2"];

impl Uplink {
    /// How the way to an IPv4 server reads when it leads through here.
    pub fn path(&self) -> String {
        format!("{} via {} from {}", self.interface, self.gateways[0], self.addresses[0])
    }

    /// How the way to an IPv6 server does.
    pub fn path6(&self) -> String {
        format!("{} via {} from {}", self.interface, self.gateways[1], self.addresses[1])
    }
}

pub struct TwoUplinks {
    pub client: Netns,
    pub internet: Netns,
}

impl TwoUplinks {
    /// Both up, and the first in use; `None` and a SKIP line where that cannot be made.
    pub fn new() -> Option<Self> {
        if !netns::available() {
            return None;
        }
        if Command::new("nft").arg("--version").output().is_err() {
            netns::skip("there is no nft");
            return None;
        }
        let (client, internet) = (Netns::new("client"), Netns::new("internet"));
        // The kernel forgets IPv6 addresses otherwise, and only those, when an interface goes down.
        client.sysctl("ipv6/conf/default/keep_addr_on_down", "1");
        for [address, prefix] in [[SERVER_ADDRESSES[0], "32"], [SERVER_ADDRESSES[1], "128"]] {
            internet.ip(&format!("address add {address}/{prefix} dev lo"));
        }
        let this = Self { client, internet };
        for uplink in [UP0, UP1] {
            let within = |[v4, v6]: [&str; 2]| [format!("{v4}/24"), format!("{v6}/64")];
            let (near, far) = (within(uplink.addresses), within(uplink.gateways));
            let interface = uplink.interface;
            cable(
                End { netns: &this.client, interface, addresses: &near.each_ref().map(String::as_str) },
                End { netns: &this.internet, interface, addresses: &far.each_ref().map(String::as_str) },
                1500,
            );
            this.wait_until_running(&uplink);
            let [v4, v6] = near;
            this.nft(&format!(
                "table inet provider_{interface} {{
                    chain in {{
                        type filter hook prerouting priority raw;
                        iifname {interface} ip saddr != {v4} drop
                        iifname {interface} ip6 saddr != {{ {v6}, fe80::/10, :: }} drop
                        iifname {interface} ip daddr 203.0.113.0/24 drop
                        iifname {interface} ip6 daddr 2001:db8::/64 drop
                    }}
                }}"
            ));
        }
        this.switch_to(&UP0);
        Some(this)
    }

    /// Leads the default routes through `uplink`, which must be up.
    pub fn switch_to(&self, uplink: &Uplink) {
        for gateway in uplink.gateways {
            self.client.ip(&format!("route replace default via {gateway} dev {}", uplink.interface));
        }
    }

    /// Takes the client's end down, and with it every route through it.
    pub fn take_down(&self, uplink: &Uplink) {
        self.client.ip(&format!("link set {} down", uplink.interface));
    }

    /// Takes the client's end up again, with its addresses and without a default route.
    pub fn bring_up(&self, uplink: &Uplink) {
        self.client.ip(&format!("link set {} up", uplink.interface));
        self.wait_until_running(uplink);
    }

    /// Loses every packet of `uplink` from now on, both ways. The client's end stays as it is, and its
    /// neighbour answers: nothing tells of it.
    pub fn black_hole(&self, uplink: &Uplink) {
        let interface = uplink.interface;
        self.nft(&format!(
            "table inet hole_{interface} {{
                counter lost {{ }}
                chain in {{
                    type filter hook prerouting priority raw;
                    icmpv6 type {{ nd-neighbor-solicit, nd-neighbor-advert }} accept
                    iifname {interface} counter name lost drop
                }}
                chain out {{
                    type filter hook postrouting priority raw;
                    icmpv6 type {{ nd-neighbor-solicit, nd-neighbor-advert }} accept
                    oifname {interface} counter name lost drop
                }}
            }}"
        ));
    }

    /// How many packets the black hole at `uplink` has swallowed.
    pub fn lost(&self, uplink: &Uplink) -> u64 {
        let printed = self.nft(&format!("list counter inet hole_{} lost", uplink.interface));
        let mut words = printed.split_whitespace().skip_while(|word| *word != "packets");
        words.nth(1).and_then(|count| count.parse().ok()).unwrap_or_else(|| panic!("no counter: {printed}"))
    }

    /// Ends the black hole.
    pub fn heal(&self, uplink: &Uplink) {
        self.nft(&format!("delete table inet hole_{}", uplink.interface));
    }

    fn wait_until_running(&self, uplink: &Uplink) {
        wait_until(&format!("{} running", uplink.interface), || {
            self.client.ip(&format!("link show {}", uplink.interface)).contains("state UP")
        });
    }

    /// Runs a command of nft on the internet's side.
    /// Changes the packet filter of the internet.
    pub fn nft(&self, command: &str) -> String {
        output(self.internet.command("nft").arg(command))
    }
}
