//! `serve`: the test server as a program.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anytls_mobile::proto::auth::PasswordHash;
use anytls_mobile::testserver::{Identity, ServerOptions, TestServer};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::filter::LevelFilter;

use crate::{Failure, log_to_stderr};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Where to listen.
    #[arg(long)]
    listen: SocketAddr,
    /// The password that clients must know.
    #[arg(long)]
    password: String,
    /// The certificate chain, PEM; made for this run when absent.
    #[arg(long, requires = "key")]
    cert: Option<PathBuf>,
    /// Its private key, PEM.
    #[arg(long, requires = "cert")]
    key: Option<PathBuf>,
}

pub(crate) fn serve(arguments: Arguments, log: Option<LevelFilter>) -> Result<(), Failure> {
    log_to_stderr(log.unwrap_or(LevelFilter::INFO));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut options = ServerOptions::new(PasswordHash::of(&arguments.password));
        options.listen = arguments.listen;
        if let Some((cert, key)) = arguments.cert.zip(arguments.key) {
            let (certificates, key) = (read(&cert)?, read(&key)?);
            options.identity = Identity::Pem { certificates, key };
        }
        let server = TestServer::start(options).await?;
        tracing::info!(address = %server.address(), "listening");
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        server.stop().await;
        Ok(())
    })
}

fn read(path: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()).into())
}
