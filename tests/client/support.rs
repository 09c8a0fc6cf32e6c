//! A client, a server that it dials over real sockets, and what tests ask of both.
#![allow(dead_code)] // each test binary uses its share

use std::sync::Arc;
use std::time::Duration;

use anytls_mobile::client::{Client, ClientOptions};
use anytls_mobile::clock::Clock;
use anytls_mobile::proto::auth::PasswordHash;
use anytls_mobile::proto::padding::Scheme;
use anytls_mobile::proto::pool::{Heartbeat, PoolOptions};
use anytls_mobile::proto::target::Target;
use anytls_mobile::testserver::{Faults, ServerOptions, Service, TestServer};
pub use anytls_mobile::transport::Dialer;
use anytls_mobile::transport::{DialOptions, NoProtect, Pem, SystemResolver};

pub const PASSWORD: &str = "correct horse";

/// Ends a test that would hang; nothing is measured by it.
pub const GUARD: Duration = Duration::from_secs(60);

pub const IMPATIENCE: Duration = Duration::from_secs(1);

pub fn server_options() -> ServerOptions {
    ServerOptions { record: true, ..ServerOptions::new(PasswordHash::of(PASSWORD)) }
}

/// A server that serves every stream in this way.
pub async fn serving(service: Service) -> TestServer {
    start(ServerOptions { outbound: Arc::new(move |_| service.clone()), ..server_options() }).await
}

pub async fn start(options: ServerOptions) -> TestServer {
    TestServer::start(options).await.expect("a server")
}

/// No sessions but those that streams need.
pub fn pool() -> PoolOptions {
    PoolOptions {
        ensure_idle_session: 0,
        heartbeat: Heartbeat::Off,
        idle_session_timeout: Duration::ZERO,
        ..PoolOptions::default()
    }
}

pub fn client(server: &TestServer) -> Client<Dialer> {
    client_with(server, pool(), PASSWORD)
}

pub fn client_with(server: &TestServer, pool: PoolOptions, password: &str) -> Client<Dialer> {
    let mut options = DialOptions::new("127.0.0.1", server.address().port());
    options.tls.server_name = Some("localhost".to_owned());
    options.tls.certificate_authority = Some(Pem::Text(server.certificate_pem().into()));
    let dial = Dialer::new(options, Arc::new(NoProtect), Arc::new(SystemResolver::default()), Clock::Boot)
        .expect("TLS options are fine");
    let options = ClientOptions {
        pool,
        password: PasswordHash::of(password),
        scheme: Arc::new(Scheme::default_scheme()),
        clock: Clock::Boot,
        account: Arc::default(),
    };
    Client::new(dial, options)
}

pub fn target() -> Target {
    "example.com:443".parse().expect("a target")
}

pub fn faults() -> Faults {
    Faults::default()
}

/// What a server that serves with [`Service::Send`] sends.
pub fn pattern(count: usize) -> Vec<u8> {
    (0..251).cycle().take(count).collect()
}

/// Lets everybody else run until `condition` holds.
pub async fn until(mut condition: impl FnMut() -> bool) {
    let met = async {
        while !condition() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(GUARD, met).await.expect("the condition is met in the end");
}
