//! The server that all clients use: sing-box, since the protocol is what it speaks, and its targets.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;
use tempfile::TempDir;

use crate::Failure;
use crate::lab::{Lab, SERVER, wait};
use crate::netns::Process;
use crate::target::Service;

pub const NAME: &str = "server.bench";
pub const PASSWORD: &str = "bench";

const LIMIT: Duration = Duration::from_secs(10);

/// Ended when dropped.
pub struct Server {
    _process: Process,
    _targets: Process,
    /// Configs, of the client as well, and the certificate.
    folder: TempDir,
}

impl Server {
    pub fn start(lab: &Lab) -> Result<Self, Failure> {
        let folder = TempDir::new()?;
        let certified = rcgen::generate_simple_self_signed(vec![NAME.to_owned()])?;
        fs::write(folder.path().join("certificate.pem"), certified.cert.pem())?;
        fs::write(folder.path().join("key.pem"), certified.signing_key.serialize_pem())?;
        let config = json!({
            "log": { "level": "error", "timestamp": false },
            "inbounds": [{
                "type": "anytls",
                "listen": SERVER.ip(),
                "listen_port": SERVER.port(),
                "users": [{ "password": PASSWORD }],
                "tls": {
                    "enabled": true,
                    "certificate_path": folder.path().join("certificate.pem"),
                    "key_path": folder.path().join("key.pem"),
                },
            }],
            "outbounds": [{ "type": "direct" }],
        });
        let path = folder.path().join("server.json");
        fs::write(&path, config.to_string())?;

        let targets = lab.start_load(&lab.srv, &["target"])?;
        let mut command = lab.srv.command(sing_box()?);
        command.args(["run", "--disable-color", "--config"]).arg(path);
        let mut process = lab.srv.spawn(command);
        wait("the server and its targets listening", LIMIT, || {
            if process.exit_status().is_some() {
                return Err(format!("the server ended: {}", process.log().trim()).into());
            }
            let ready = lab.srv.listens(SERVER.port()) && lab.srv.listens(Service::Chunk.port());
            Ok(ready.then_some(()))
        })?;
        Ok(Self { _process: process, _targets: targets, folder })
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}

pub fn sing_box() -> Result<PathBuf, Failure> {
    let named = env::var_os("ANYTLS_SING_BOX").map(PathBuf::from).filter(|path| path.is_file());
    named.ok_or_else(|| "ANYTLS_SING_BOX names no program: scripts/bench builds one".into())
}
