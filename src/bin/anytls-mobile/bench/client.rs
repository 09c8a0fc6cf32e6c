//! The client, and what users do with it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anytls_mobile::budget::Account;
use anytls_mobile::client::{Client, ClientOptions, ClientStats, Stream};
use anytls_mobile::clock::Clock;
use anytls_mobile::proto::auth::PasswordHash;
use anytls_mobile::proto::padding::Scheme;
use anytls_mobile::proto::pool::PoolOptions;
use anytls_mobile::proto::target::Target;
use anytls_mobile::proto::timers::Moment;
use anytls_mobile::transport::{DialOptions, Dialer, NoProtect, Pem, SystemResolver, TlsOptions};
use tokio::io::AsyncReadExt;
use tokio::time::{sleep, timeout};

use super::server::{CHUNK, Chain, ECHO, NAME, PASSWORD};
use crate::Failure;

pub(super) type TlsClient = Client<Dialer>;

/// How often a condition is looked at.
const GLANCE: Duration = Duration::from_millis(2);

/// What an app asks with.
const QUESTION: &[u8] = b"GET / HTTP/1.1\r\nHost: target.bench\r\n\r\n";

pub(super) fn client(server: SocketAddr, chain: &Chain, pool: PoolOptions) -> Result<TlsClient, Failure> {
    let account = Arc::<Account>::default();
    let tls = TlsOptions {
        server_name: Some(NAME.to_owned()),
        certificate_authority: Some(Pem::Text(chain.root.clone().into_bytes())),
        ..TlsOptions::default()
    };
    let options = DialOptions {
        tls,
        account: Arc::clone(&account),
        ..DialOptions::new(server.ip().to_string(), server.port())
    };
    let dialer = Dialer::new(options, Arc::new(NoProtect), Arc::<SystemResolver>::default(), Clock::Boot)?;
    let options = ClientOptions {
        pool,
        password: PasswordHash::of(PASSWORD),
        scheme: Arc::new(Scheme::default_scheme()),
        clock: Clock::Boot,
        account,
    };
    Ok(Client::new(dialer, options))
}

pub(super) fn now() -> Moment {
    Clock::Boot.now()
}

/// A request as an app sees it: how long until the first byte of the answer.
pub(super) async fn first_byte(client: &TlsClient) -> Result<Duration, Failure> {
    let begin = now();
    let mut stream = client.open(&Target::from(ECHO), QUESTION).await?;
    stream.read_u8().await?;
    Ok(now().since(begin))
}

/// The same by an app that gives up after `patience`.
pub(super) async fn try_first_byte(client: &TlsClient, patience: Duration) -> Option<Duration> {
    timeout(patience, first_byte(client)).await.ok()?.ok()
}

/// A stream that is open and does nothing.
pub(super) async fn hold(client: &TlsClient, target: SocketAddr) -> Result<Stream, Failure> {
    Ok(client.open(&Target::from(target), &[]).await?)
}

/// Reads all that a stream to [`SENDER`](super::server::SENDER) has to give.
pub(super) async fn drain(stream: &mut Stream) -> Result<(), Failure> {
    let mut left = CHUNK;
    let mut buffer = vec![0; 16 * 1024];
    while left > 0 {
        let count = stream.read(&mut buffer).await?;
        if count == 0 {
            return Err("the download ended early".into());
        }
        left = left.saturating_sub(u64::try_from(count)?);
    }
    Ok(())
}

/// Waits until the counters show it, at most for `limit`; how long that took.
pub(super) async fn reach(
    client: &TlsClient,
    limit: Duration,
    mut reached: impl FnMut(&ClientStats) -> bool,
) -> Result<Duration, Failure> {
    let begin = now();
    while !reached(&client.stats()) {
        if now().since(begin) > limit {
            return Err(format!("not reached within {limit:?}: {:?}", client.stats()).into());
        }
        sleep(GLANCE).await;
    }
    Ok(now().since(begin))
}

/// Waits until so many sessions are idle.
pub(super) async fn reach_idle(client: &TlsClient, idle: usize) -> Result<Duration, Failure> {
    let idle = u64::try_from(idle)?;
    reach(client, Duration::from_secs(60), |stats| stats.idle >= idle && stats.dialing == 0).await
}
