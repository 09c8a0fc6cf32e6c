//! Real AnyTLS servers: two independent implementations, as `scripts/test` provides them, and the program's own.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::{env, fs};

use serde_json::json;
use tempfile::TempDir;

use super::netns::{Netns, Process, skip};

/// The name in every server's certificate, beside the address that it listens on.
pub const SERVER_NAME: &str = "server.test";

/// A running server; dropped, it ends and takes its files along.
pub struct Server {
    pub process: Process,
    pub address: SocketAddr,
    /// Whether it stops reading when a target is slow, rather than close a stream that has too much waiting.
    pub makes_clients_wait: bool,
    folder: TempDir,
}

impl Server {
    /// The PEM file with the self-signed certificate: the root that a client has to trust.
    pub fn certificate(&self) -> PathBuf {
        self.folder.path().join("certificate.pem")
    }
}

/// sing-box with an AnyTLS inbound and a direct outbound; `None` and a SKIP line when there is no sing-box.
///
/// `padding_scheme` is the scheme's text; without one it is the protocol's default.
pub fn sing_box(
    netns: &Netns,
    listen: SocketAddr,
    password: &str,
    padding_scheme: Option<&str>,
) -> Option<Server> {
    let program = program("ANYTLS_SING_BOX")?;
    let folder = certified_folder(listen);
    let config = json!({
        "log": { "level": "debug", "timestamp": false },
        // Names come from /etc/hosts alone (see `Netns::set_hosts`): no query leaves the machine.
        "dns": { "servers": [{ "type": "hosts" }] },
        "inbounds": [{
            "type": "anytls",
            "listen": listen.ip(),
            "listen_port": listen.port(),
            "users": [{ "password": password }],
            "padding_scheme": padding_scheme.map(|text| text.lines().collect::<Vec<_>>()).unwrap_or_default(),
            "tls": {
                "enabled": true,
                "certificate_path": folder.path().join("certificate.pem"),
                "key_path": folder.path().join("key.pem"),
            },
        }],
        "outbounds": [{ "type": "direct" }],
    });
    let path = folder.path().join("config.json");
    fs::write(&path, config.to_string()).unwrap();

    let mut command = netns.command(program);
    command.args(["run", "--disable-color", "--config"]).arg(path);
    Some(started(netns.spawn(command), listen, folder, true))
}

/// `anytls-server` of the crate `anytls`; `None` and a SKIP line without it.
///
/// It takes one stream at a time on a session, and closes a stream of which 64 frames or 1 MiB wait for
/// the target: an upload that is faster than its way on breaks.
pub fn anytls_rs(
    netns: &Netns,
    listen: SocketAddr,
    password: &str,
    padding_scheme: Option<&str>,
) -> Option<Server> {
    let program = program("ANYTLS_SERVER_RS")?;
    let folder = certified_folder(listen);
    let mut command = netns.command(program);
    command.args(["--log", "debug", "--password", password, "--listen"]).arg(listen.to_string());
    command.arg("--cert").arg(folder.path().join("certificate.pem"));
    command.arg("--key").arg(folder.path().join("key.pem"));
    if let Some(text) = padding_scheme {
        let path = folder.path().join("padding.txt");
        fs::write(&path, text).unwrap();
        command.arg("--padding-scheme").arg(path);
    }
    Some(started(netns.spawn(command), listen, folder, false))
}

/// The program's own server, `anytls-mobile serve`; it has one padding scheme.
pub fn embedded(
    netns: &Netns,
    listen: SocketAddr,
    password: &str,
    padding_scheme: Option<&str>,
) -> Option<Server> {
    assert_eq!(padding_scheme, None);
    let folder = certified_folder(listen);
    let mut command = netns.command(env!("CARGO_BIN_EXE_anytls-mobile"));
    command.args(["serve", "--password", password, "--listen"]).arg(listen.to_string());
    command.arg("--cert").arg(folder.path().join("certificate.pem"));
    command.arg("--key").arg(folder.path().join("key.pem"));
    Some(started(netns.spawn(command), listen, folder, true))
}

fn started(mut process: Process, address: SocketAddr, folder: TempDir, makes_clients_wait: bool) -> Server {
    process.wait_until_listening(address.port());
    Server { process, address, makes_clients_wait, folder }
}

fn program(variable: &str) -> Option<PathBuf> {
    let path = env::var_os(variable).map(PathBuf::from).filter(|path| path.is_file());
    if path.is_none() {
        skip(&format!("{variable} names no program"));
    }
    path
}

fn certified_folder(listen: SocketAddr) -> TempDir {
    certified_folder_for(vec![SERVER_NAME.to_owned(), listen.ip().to_string()])
}

/// A folder with a self-signed `certificate.pem` for these names and addresses, and its `key.pem`.
pub fn certified_folder_for(names: Vec<String>) -> TempDir {
    let folder = TempDir::new().unwrap();
    let certified = rcgen::generate_simple_self_signed(names).unwrap();
    write(folder.path(), "certificate.pem", &certified.cert.pem());
    write(folder.path(), "key.pem", &certified.signing_key.serialize_pem());
    folder
}

fn write(folder: &Path, name: &str, text: &str) {
    fs::write(folder.join(name), text).unwrap();
}
