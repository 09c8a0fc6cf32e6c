//! What leaves a host past its tunnel, as `tcpdump` sees it.

use std::cell::Cell;
use std::net::UdpSocket;

use super::netns::{Netns, Process, installed, wait_until};

/// A capture on some interfaces of a namespace, which may go down and up meanwhile.
pub struct Capture {
    process: Process,
    /// In the namespace, on its loopback: each datagram that it sends is seen, and after all that came before.
    marker: UdpSocket,
    marked: Cell<usize>,
}

impl Capture {
    /// Catches every TCP segment and UDP datagram on `interfaces` that is not between here and TCP `server`
    /// (`ADDRESS port PORT`); catching, once this returns. `None` and a SKIP line when there is no tcpdump.
    pub fn start(netns: &Netns, interfaces: &[&str], server: &str) -> Option<Self> {
        if !installed("tcpdump") {
            return None;
        }
        let index = |interface: &str| {
            let line = netns.ip(&format!("-oneline link show {interface}"));
            format!("ifindex {}", line.split_once(':').unwrap().0)
        };
        let indices: Vec<_> = interfaces.iter().map(|interface| index(interface)).collect();
        let marker = netns.run(|| UdpSocket::bind("127.0.0.1:0")).unwrap();
        let mark = format!("udp port {}", marker.local_addr().unwrap().port());
        let filter = format!(
            "({mark} and {}) or ((tcp or udp) and ({}) and not (tcp and host {server}))",
            index("lo"),
            indices.join(" or ")
        );
        let mut command = netns.command("tcpdump");
        // Of `any`, since a capture of one interface ends when that goes down.
        command.args(["-i", "any", "--immediate-mode", "-l", "-n", "-tt", &filter]);
        let mut process = netns.spawn(command);
        process.wait_until_logged("listening on any");
        let this = Self { process, marker, marked: Cell::new(0) };
        this.mark();
        Some(this)
    }

    /// Waits until everything that was sent before has been seen.
    fn mark(&self) {
        self.marked.set(self.marked.get() + 1);
        self.marker.send_to(b"mark", self.marker.local_addr().unwrap()).unwrap();
        wait_until("a marker caught", || self.lines(true).len() >= self.marked.get());
    }

    fn lines(&self, markers: bool) -> Vec<String> {
        let log = self.process.log();
        let whole = log.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        let packets = whole.filter(|line| line.contains(" > "));
        packets
            .filter(|line| line.contains(" lo ") == markers)
            .map(|line| line.trim_end().to_owned())
            .collect()
    }

    /// Everything caught until now, a line a packet.
    pub fn strays(&self) -> Vec<String> {
        self.mark();
        self.lines(false)
    }

    /// Ends the capture; panics when anything was caught, or was not seen for haste.
    pub fn expect_nothing(mut self) {
        let strays = self.strays();
        assert_eq!(strays, Vec::<String>::new(), "left past the tunnel");
        self.process.signal("INT");
        self.process.wait_until_ended();
        let log = self.process.log();
        assert!(log.contains("\n0 packets dropped by kernel"), "{log}");
    }
}
