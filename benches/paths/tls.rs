//! Streams through the client as it is: sessions, TLS and sockets, to a server in another process.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use anytls_mobile::budget::Account;
use anytls_mobile::client::{Client, ClientOptions};
use anytls_mobile::clock::Clock;
use anytls_mobile::proto::auth::PasswordHash;
use anytls_mobile::proto::padding::Scheme;
use anytls_mobile::proto::pool::PoolOptions;
use anytls_mobile::proto::target::Target;
use anytls_mobile::testserver::{ServerOptions, Service, TestServer};
use anytls_mobile::transport::{DialOptions, Dialer, NoProtect, Pem, SystemResolver, TlsOptions};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::Runtime;

use crate::{Failure, MIB, Work};

pub const SERVE: &str = "serve";

const PASSWORD: &str = "bench";

/// By their well-known ports: one that drops what comes, and one that sends a mebibyte.
const NOWHERE: u16 = 9;
const SENDER: u16 = 19;
const ANYWHERE: [u8; 4] = [192, 0, 2, 1];

/// Says where it is, then serves until whoever started it is gone.
pub fn serve() -> Result<(), Failure> {
    let mut options = ServerOptions::new(PasswordHash::of(PASSWORD));
    options.outbound = Arc::new(|target| match target.port {
        SENDER => Service::Send(MIB as u64),
        _ => Service::Discard,
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let server = TestServer::start(options).await?;
        println!("{}", json!({ "address": server.address(), "certificate": server.certificate_pem() }));
        tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new())).await??;
        Ok(())
    })
}

/// Killed when dropped.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        // Fails only when it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn connected() -> Result<(Server, Runtime, Client<Dialer>), Failure> {
    let mut process = Command::new(std::env::current_exe()?)
        .arg(SERVE)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let stdout = process.stdout.take().ok_or("no pipe")?;
    let server = Server(process);
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line)?;
    let answer: Value = serde_json::from_str(&line)?;
    let text = |name: &str| answer[name].as_str().unwrap_or_default().to_owned();

    let address: SocketAddr = text("address").parse()?;
    let account = Arc::<Account>::default();
    let tls = TlsOptions {
        server_name: Some("localhost".to_owned()),
        certificate_authority: Some(Pem::Text(text("certificate").into_bytes())),
        ..TlsOptions::default()
    };
    let options = DialOptions {
        tls,
        account: Arc::clone(&account),
        ..DialOptions::new(address.ip().to_string(), address.port())
    };
    let dialer = Dialer::new(options, Arc::new(NoProtect), Arc::<SystemResolver>::default(), Clock::Boot)?;
    let options = ClientOptions {
        pool: PoolOptions::default(),
        password: PasswordHash::of(PASSWORD),
        scheme: Arc::new(Scheme::default_scheme()),
        clock: Clock::Boot,
        account,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let client = runtime.block_on(async { Client::new(dialer, options) });
    Ok((server, runtime, client))
}

fn target(port: u16) -> Target {
    Target::from(SocketAddr::from((ANYWHERE, port)))
}

pub fn down() -> Result<Work, Failure> {
    let (server, runtime, client) = connected()?;
    let mut buffer = vec![0; 64 * 1024];
    Ok(Box::new(move || {
        let _running = &server;
        runtime.block_on(async {
            let mut stream = client.open(&target(SENDER), b"").await?;
            let mut received = 0;
            while received < MIB {
                match stream.read(&mut buffer).await? {
                    0 => return Err("the server ended early".into()),
                    count => received += count,
                }
            }
            Ok(())
        })
    }))
}

/// One stream for all. What the session holds is bounded, so that a mebibyte taken is one that has left.
pub fn up() -> Result<Work, Failure> {
    let (server, runtime, client) = connected()?;
    let mut stream = runtime.block_on(client.open(&target(NOWHERE), b""))?;
    let bytes = vec![0x5a; MIB];
    Ok(Box::new(move || {
        let _running = (&server, &client);
        Ok(runtime.block_on(stream.write_all(&bytes))?)
    }))
}
