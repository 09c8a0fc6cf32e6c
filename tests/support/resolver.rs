//! A DNS server that we did not write: unbound, which knows a few names and asks nobody.

use std::fs;
use std::path::PathBuf;

use tempfile::TempDir;

use super::netns::{Netns, Process, installed, wait_until};
use super::servers::certified_folder_for;

/// Where it answers over UDP and TCP (port 53), TLS (853) and HTTPS (443).
pub const ADDRESSES: [&str; 2] = ["203.0.113.53", "2001:db8::53"];

/// The name in its certificate, beside [`ADDRESSES`].
pub const NAME: &str = "resolver.test";

/// How many strings `large.test` has, of [`LARGE_LENGTH`] characters each: more than 4 KiB in all.
pub const LARGE: usize = 24;
pub const LARGE_LENGTH: usize = 200;

/// What every name below `burst.test` has, however many there are.
pub const BURST: &str = "203.0.113.77";

/// Everything it knows, as lines of a zone file. Below `broken.test` it fails, and no other name exists.
const RECORDS: &[&str] = &[
    "host.test. 60 A 203.0.113.9",
    "host.test. 60 AAAA 2001:db8::9",
    r#"host.test. 60 HTTPS 1 . alpn="h2,h3" ipv4hint=203.0.113.9"#,
    r#"host.test. 60 TXT "two words""#,
    "v4only.test. 60 A 203.0.113.9",
    "v6only.test. 60 AAAA 2001:db8::9",
    "short.test. 1 A 203.0.113.9",
    "www.excluded.test. 60 A 203.0.113.9",
    "vpn.test. 60 A 10.0.0.2",
    "burst.test. 60 A 203.0.113.77",
    "9.113.0.203.in-addr.arpa. 60 PTR host.test.",
];

/// The file with all its questions.
const LOG: &str = "questions.log";

/// A running resolver; dropped, it ends.
pub struct Resolver {
    _process: Process,
    folder: TempDir,
}

impl Resolver {
    /// On [`ADDRESSES`], which become the namespace's; `None` and a SKIP line when there is no unbound.
    pub fn start(netns: &Netns) -> Option<Self> {
        if !installed("unbound") {
            return None;
        }
        for (address, length) in ADDRESSES.into_iter().zip([32, 128]) {
            let flags = if length == 128 { "nodad" } else { "" };
            netns.ip(&format!("address add {address}/{length} dev lo {flags}"));
        }
        let names = [NAME].into_iter().chain(ADDRESSES).map(str::to_owned).collect();
        let folder = certified_folder_for(names);
        let path = folder.path().join("unbound.conf");
        fs::write(&path, config(&folder)).unwrap();
        let mut command = netns.command("unbound");
        command.args(["-d", "-p", "-c"]).arg(path);
        let mut process = netns.spawn(command);
        for port in [53, 853, 443] {
            process.wait_until_listening(port);
        }
        Some(Self { _process: process, folder })
    }

    /// The PEM file with its self-signed certificate.
    pub fn certificate(&self) -> PathBuf {
        self.folder.path().join("certificate.pem")
    }

    /// Whether a question for this name, or for one below it, has come until now.
    pub fn was_asked(&self, name: &str) -> bool {
        let asked = |line: &str| {
            // `[time] unbound[pid:0] info: 10.0.0.1 host.test. A IN`
            let (_, question) = line.split_once("info: ")?;
            let asked = question.split_whitespace().nth(1)?.trim_end_matches('.');
            Some(asked == name || asked.strip_suffix(name)?.ends_with('.'))
        };
        let log = fs::read_to_string(self.folder.path().join(LOG)).unwrap();
        log.lines().any(|line| asked(line).unwrap_or(false))
    }

    pub fn wait_until_asked(&self, name: &str) {
        wait_until(&format!("a question for {name}"), || self.was_asked(name));
    }
}

fn config(folder: &TempDir) -> String {
    let mut lines = Vec::new();
    for address in ADDRESSES {
        for port in [53, 853, 443] {
            lines.push(format!("interface: {address}@{port}"));
        }
    }
    let path = |name: &str| folder.path().join(name).display().to_string();
    let quoted = |record: &str| format!("local-data: '{record}'");
    lines.extend([
        "tls-port: 853".to_owned(),
        "https-port: 443".to_owned(),
        format!("tls-service-pem: {:?}", path("certificate.pem")),
        format!("tls-service-key: {:?}", path("key.pem")),
        r#"username: """#.to_owned(),
        r#"chroot: """#.to_owned(),
        format!("directory: {:?}", folder.path().display().to_string()),
        "use-syslog: no".to_owned(),
        // A file of its own: nobody wants to read ten thousand questions when a test fails.
        format!("logfile: {LOG:?}"),
        // For bursts over UDP.
        "so-rcvbuf: 4m".to_owned(),
        "log-queries: yes".to_owned(),
        "access-control: 0.0.0.0/0 allow".to_owned(),
        "access-control: ::/0 allow".to_owned(),
        // Without the validator it wants no keys, and below a static zone nobody is asked.
        r#"module-config: "iterator""#.to_owned(),
        r#"local-zone: "." static"#.to_owned(),
        r#"local-zone: "test." static"#.to_owned(),
        r#"local-zone: "burst.test." redirect"#.to_owned(),
        r#"local-zone: "broken.test." transparent"#.to_owned(),
        "do-not-query-localhost: no".to_owned(),
    ]);
    for zone in ["10.in-addr.arpa.", "18.198.in-addr.arpa.", "19.198.in-addr.arpa."] {
        lines.push(format!("local-zone: {zone:?} static"));
    }
    lines.extend(RECORDS.iter().map(|record| quoted(record)));
    for index in 0..LARGE {
        lines.push(quoted(&format!(r#"large.test. 60 TXT "{index:0LARGE_LENGTH$}""#)));
    }
    // Its negative answers are worth remembering for two seconds.
    for zone in [".", "test."] {
        lines.push(quoted(&format!("{zone} 2 SOA resolver.test. nobody.test. 1 3600 600 86400 2")));
    }
    // What it has to ask for, it asks a port where nobody is: SERVFAIL.
    let broken =
        "forward-zone:\n  name: broken.test.\n  forward-addr: 127.0.0.1@1\n  forward-tcp-upstream: yes\n";
    let server = lines.join("\n  ");
    format!("server:\n  {server}\n{broken}remote-control:\n  control-enable: no\n")
}
