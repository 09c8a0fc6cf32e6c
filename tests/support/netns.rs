//! Hosts for tests: Linux network namespaces, the cables between them and the programs inside.
//!
//! Wants root and iproute2. A test that cannot do without begins with `if !netns::available() { return; }`.

use std::ffi::OsStr;
use std::io::{self, Write};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{self, Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Once, OnceLock};
use std::time::Duration;
use std::{fs, thread};

use anytls_mobile::tun::NetworkNamespace;
use tempfile::NamedTempFile;

/// A network namespace, or the one that the test itself runs in.
///
/// It is removed with its last clone; a [`Process`] holds one, so the order of drops does not matter.
#[derive(Clone)]
pub struct Netns(Option<Arc<Name>>);

impl Netns {
    /// A new namespace with loopback up and IPv6 addresses usable at once; its TCP is cubic, the kernel permitting.
    ///
    /// `label` only makes the name readable in `ip netns`.
    pub fn new(label: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = Name(format!("anytls-{}-{count}-{label}", process::id()));
        output(Command::new("ip").args(["netns", "add", &name.0]));
        let netns = Self(Some(Arc::new(name)));
        netns.use_cubic();
        for scope in ["all", "default"] {
            netns.sysctl(&format!("ipv6/conf/{scope}/disable_ipv6"), "0");
            netns.sysctl(&format!("ipv6/conf/{scope}/accept_dad"), "0");
        }
        netns.ip("link set lo up");
        netns
    }

    /// The test's own namespace: what code in the test process can reach; works without root.
    pub fn here() -> Self {
        Self(None)
    }

    /// A command that will run inside.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        match &self.0 {
            Some(name) => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", &name.0]).arg(program);
                command
            }
            None => Command::new(program),
        }
    }

    /// Runs `work` inside, on a thread of its own: sockets, TUNs and threads that it makes stay there.
    pub fn run<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        match &self.0 {
            Some(name) => NetworkNamespace::open(&name.file()).and_then(|inside| inside.run(work)).unwrap(),
            None => work(),
        }
    }

    /// Runs `ip` inside, e.g. `netns.ip("route add default via 10.0.0.1")`; panics when it fails.
    pub fn ip(&self, arguments: &str) -> String {
        output(self.command("ip").args(arguments.split_whitespace()))
    }

    /// Runs `tc` inside, e.g. `netns.tc("qdisc add dev wan root netem delay 20ms")`; panics when it fails.
    pub fn tc(&self, arguments: &str) -> String {
        output(self.command("tc").args(arguments.split_whitespace()))
    }

    /// Sets a value below `/proc/sys/net`; panics when it is refused.
    pub fn sysctl(&self, key: &str, value: &str) {
        self.try_sysctl(key, value).unwrap_or_else(|error| panic!("{error}"));
    }

    fn try_sysctl(&self, key: &str, value: &str) -> Result<(), String> {
        let script = r#"echo "$1" > "/proc/sys/net/$0""#;
        try_output(self.command("sh").args(["-c", script, key, value])).map(drop)
    }

    /// So that runs compare across machines. Where the machine's default is another one, a namespace may choose cubic
    /// only after the machine's own list allows it. Refused, the default stays: no test's outcome depends on it.
    fn use_cubic(&self) {
        const ALLOWED: &str = "ipv4/tcp_allowed_congestion_control";
        static ALLOW: Once = Once::new();
        ALLOW.call_once(|| {
            let allowed = fs::read_to_string(format!("/proc/sys/net/{ALLOWED}")).unwrap_or_default();
            if !allowed.split_whitespace().any(|name| name == "cubic") {
                let _ = Self::here().try_sysctl(ALLOWED, &format!("{} cubic", allowed.trim()));
            }
        });
        let _ = self.try_sysctl("ipv4/tcp_congestion_control", "cubic");
    }

    /// Names that programs started inside from now on resolve: lines as in `/etc/hosts`.
    pub fn set_hosts(&self, lines: &str) {
        let name = self.0.as_ref().expect("the machine's own /etc/hosts is not a test's to write");
        fs::create_dir_all(name.config()).unwrap();
        fs::write(name.config().join("hosts"), format!("127.0.0.1 localhost\n::1 localhost\n{lines}\n"))
            .unwrap();
    }

    /// Whom programs started inside from now on ask for names: a line of `/etc/resolv.conf`.
    pub fn set_resolver(&self, address: &str) {
        let name = self.0.as_ref().expect("the machine's own /etc/resolv.conf is not a test's to write");
        fs::create_dir_all(name.config()).unwrap();
        fs::write(name.config().join("resolv.conf"), format!("nameserver {address}\n")).unwrap();
    }

    /// Starts a command made by [`Netns::command`]; what it prints is kept for [`Process::log`].
    pub fn spawn(&self, mut command: Command) -> Process {
        let log = NamedTempFile::new().unwrap();
        let child = command
            .stdin(Stdio::null())
            .stdout(log.as_file().try_clone().unwrap())
            .stderr(log.as_file().try_clone().unwrap())
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        Process { child, log, netns: self.clone(), what: format!("{command:?}") }
    }

    /// Whether something inside listens on this TCP port; asks the kernel, so that no server sees a stray connection.
    pub fn listens(&self, port: u16) -> bool {
        let tables = output(self.command("cat").args(["/proc/net/tcp", "/proc/net/tcp6"]));
        let local = format!(":{port:04X}");
        tables.lines().any(|line| {
            let mut fields = line.split_whitespace().skip(1);
            fields.next().is_some_and(|address| address.ends_with(&local)) && fields.nth(1) == Some(LISTEN)
        })
    }
}

/// `TCP_LISTEN` in the state column of `/proc/net/tcp`.
const LISTEN: &str = "0A";

/// One end of a cable: the interface's name in its namespace, and addresses such as `10.0.0.1/24` or `fd00::1/64`.
pub struct End<'a> {
    pub netns: &'a Netns,
    pub interface: &'a str,
    pub addresses: &'a [&'a str],
}

/// Joins two namespaces by a veth pair, both ends up.
pub fn cable(left: End, right: End, mtu: u16) {
    let name = |end: &End| end.netns.0.as_ref().expect("a cable joins two namespaces of the test").0.clone();
    output(
        Command::new("ip").args(["-n", &name(&left), "link", "add", left.interface, "type", "veth"]).args([
            "peer",
            "name",
            right.interface,
            "netns",
            &name(&right),
        ]),
    );
    for End { netns, interface, addresses } in [left, right] {
        netns.ip(&format!("link set {interface} mtu {mtu} up"));
        for address in addresses {
            let flags = if address.contains(':') { "nodad" } else { "" };
            netns.ip(&format!("address add {address} dev {interface} {flags}"));
        }
    }
}

/// A program in a namespace: killed when dropped, its log printed if the test is failing.
pub struct Process {
    child: Child,
    log: NamedTempFile,
    netns: Netns,
    what: String,
}

impl Process {
    /// Everything it has printed until now.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.log.path()).unwrap()).into_owned()
    }

    /// Its number in `/proc`.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal, such as `TERM`.
    pub fn signal(&self, name: &str) {
        let script = r#"kill -s "$0" "$1""#;
        output(Command::new("sh").args(["-c", script, name, &self.child.id().to_string()]));
    }

    /// How many bytes of memory it holds now.
    pub fn resident_bytes(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        kib.unwrap_or_else(|| panic!("no VmRSS: {status}")) * 1024
    }

    /// Waits until it has ended, and tells how.
    pub fn wait_until_ended(&mut self) -> ExitStatus {
        let mut status = None;
        wait_until(&format!("{} ending", self.what), || {
            status = self.exit_status();
            status.is_some()
        });
        status.unwrap()
    }

    /// How it ended, if it has.
    pub fn exit_status(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Waits until its namespace listens on this TCP port; panics when the program ends first.
    pub fn wait_until_listening(&mut self, port: u16) {
        self.wait_until(&format!("listening on {port}"), |process| process.netns.listens(port));
    }

    /// Waits until it has printed `text`; panics when the program ends first.
    pub fn wait_until_logged(&mut self, text: &str) {
        self.wait_until(&format!("printing {text:?}"), |process| process.log().contains(text));
    }

    fn wait_until(&mut self, what: &str, reached: impl Fn(&Self) -> bool) {
        wait_until(&format!("{} {what}", self.what), || {
            // In this order: a program that prints and then ends has done what was asked.
            let ended = self.exit_status();
            let reached = reached(self);
            assert!(reached || ended.is_none(), "{} ended before {what}: {ended:?}", self.what);
            reached
        });
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Fails only when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("--- log of {}\n{}---", self.what, self.log());
        }
    }
}

/// Polls until `reached`; panics after 20 s, which is only ever waited for by a test that fails.
pub fn wait_until(what: &str, mut reached: impl FnMut() -> bool) {
    for _ in 0..1000 {
        if reached() {
            return;
        }
        thread::sleep(Duration::from_millis(20));
    }
    panic!("not reached within 20 s: {what}");
}

/// A TCP port that nothing in the test's own namespace uses at this moment.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).unwrap().port()
}

/// Whether this machine lets us make namespaces; prints a SKIP line when it does not.
pub fn available() -> bool {
    static PROBE: OnceLock<Result<(), String>> = OnceLock::new();
    let probe = PROBE.get_or_init(|| {
        let name = Name(format!("anytls-{}-probe", process::id()));
        try_output(Command::new("ip").args(["netns", "add", &name.0]))?;
        try_output(&mut Netns(Some(Arc::new(name))).command("true")).map(drop)
    });
    match probe {
        Ok(()) => true,
        Err(error) => {
            skip(&format!("no network namespaces here: {error}"));
            false
        }
    }
}

/// Whether this machine has a program; prints a SKIP line when it does not.
pub fn installed(program: &str) -> bool {
    let found =
        Command::new("sh").args(["-c", r#"command -v "$0""#, program]).output().unwrap().status.success();
    if !found {
        skip(&format!("there is no {program}"));
    }
    found
}

/// Says that the calling test does nothing, past the test runner, which would hide it.
pub fn skip(why: &str) {
    let test = thread::current();
    // Nothing to do about a closed stderr.
    let _ = writeln!(io::stderr(), "SKIP {}: {why}", test.name().unwrap_or("test"));
}

/// A namespace's name in `ip netns`; dropping it deletes the namespace.
struct Name(String);

impl Name {
    fn file(&self) -> PathBuf {
        PathBuf::from("/run/netns").join(&self.0)
    }

    /// Files here stand in for those in `/etc` (ip-netns(8)).
    fn config(&self) -> PathBuf {
        PathBuf::from("/etc/netns").join(&self.0)
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        // Best effort: the probe may not have made it, and a drop must not panic.
        let _ = try_output(Command::new("ip").args(["netns", "delete", &self.0]));
        let _ = fs::remove_dir_all(self.config());
    }
}

/// Runs a command to its end and returns what it printed; panics when it fails.
pub fn output(command: &mut Command) -> String {
    try_output(command).unwrap_or_else(|error| panic!("{error}"))
}

fn try_output(command: &mut Command) -> Result<String, String> {
    let output = command.stdin(Stdio::null()).output().map_err(|error| format!("{command:?}: {error}"))?;
    if !output.status.success() {
        return Err(format!(
            "{command:?}: {}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        ));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
