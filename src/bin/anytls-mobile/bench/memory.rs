//! `memory`: what an idle session keeps, by the growth of this process.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anytls_mobile::proto::pool::{Heartbeat, PoolOptions};
use serde_json::json;
use tokio::time::sleep;

use super::Report;
use super::client::{TlsClient, client, drain, hold, reach, reach_idle};
use super::server::{CHUNK, Chain, SENDER, Server};
use crate::{Failure, runtime};

/// Sessions that are there before anything is counted: code, tables and shared buffers are in memory then.
const BEFORE: usize = 20;

/// Dialled at once: a phone has no more under way, and what dials need beside each other stays with the
/// allocator.
const STEP: usize = 10;

const LONG: Duration = Duration::from_secs(120);

pub(super) fn bench(quick: bool) -> Result<Vec<Report>, Failure> {
    let count = if quick { 50 } else { 1000 };
    let columns = &["what", "bytes for each session"];
    let title = format!(
        "memory: growth of the client's process by {count} idle sessions; the server is another process"
    );
    let mut report = Report::new("memory", title, columns);
    let Grown { fresh, beaten, used, anonymous } = runtime()?.block_on(grow(count))?;
    let each = |kib: u64| json!(kib * 1024 / u64::try_from(count).unwrap_or(1));
    for (what, kib) in [
        ("fresh: dialled, never used", fresh),
        ("after the first heartbeat", beaten),
        ("after a download of 256 KiB", used),
        ("of that, anonymous pages", anonymous),
    ] {
        report.row(vec![json!(what), each(kib)]);
    }
    Ok(vec![report])
}

/// More than before, in KiB.
struct Grown {
    fresh: u64,
    beaten: u64,
    used: u64,
    anonymous: u64,
}

async fn grow(count: usize) -> Result<Grown, Failure> {
    let chain = Chain::new()?;
    let server = Server::start(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), &chain, None)?;
    let client = client(server.address, &chain, options(BEFORE))?;
    reach_idle(&client, BEFORE).await?;
    use_all(&client, BEFORE).await?;
    let before = Memory::now()?;
    for ensured in (BEFORE..=BEFORE + count).step_by(STEP) {
        client.set_options(options(ensured));
        reach_idle(&client, ensured).await?;
    }
    let fresh = Memory::now()?;
    let beats = client.stats().beats_answered;
    let beating =
        PoolOptions { heartbeat: Heartbeat::Every(Duration::from_secs(1)), ..options(BEFORE + count) };
    client.set_options(beating);
    let all = beats + u64::try_from(BEFORE + count)?;
    reach(&client, LONG, |stats| stats.beats_answered >= all).await?;
    client.set_options(options(BEFORE + count));
    sleep(Duration::from_millis(200)).await; // beats under way
    let beaten = Memory::now()?;
    use_all(&client, BEFORE + count).await?;
    let used = Memory::now()?;
    client.stop().await;
    Ok(Grown {
        fresh: fresh.rss - before.rss.min(fresh.rss),
        beaten: beaten.rss - before.rss.min(beaten.rss),
        used: used.rss - before.rss.min(used.rss),
        anonymous: used.anonymous - before.anonymous.min(used.anonymous),
    })
}

/// Sessions that stay, without beats.
fn options(ensured: usize) -> PoolOptions {
    PoolOptions {
        ensure_idle_session: ensured,
        idle_session_timeout: Duration::ZERO,
        idle_session_check_interval: Duration::from_secs(1),
        heartbeat: Heartbeat::Off,
        max_sessions: 0,
        ..PoolOptions::default()
    }
}

/// Has every session carry a stream that downloads, one after the other, and all idle again.
async fn use_all(client: &TlsClient, count: usize) -> Result<(), Failure> {
    client.set_options(options(0)); // nothing is dialled in the place of those in use
    let mut streams = Vec::with_capacity(count);
    for _ in 0..count {
        let mut stream = hold(client, SENDER).await?;
        drain(&mut stream).await?;
        streams.push(stream);
    }
    let active = client.stats().active;
    if active < u64::try_from(count)? {
        return Err(format!("{active} of {count} sessions carry a stream of {CHUNK} bytes").into());
    }
    drop(streams);
    reach(client, LONG, |stats| stats.active == 0).await?;
    Ok(())
}

/// What this process has in memory.
pub(super) struct Memory {
    pub(super) rss: u64,
    pub(super) anonymous: u64,
}

impl Memory {
    /// In KiB, as the kernel counts it.
    pub(super) fn now() -> Result<Self, Failure> {
        let status = fs::read_to_string("/proc/self/status")?;
        let field = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name))?;
            line.split_whitespace().nth(1)?.parse().ok()
        };
        let (Some(rss), Some(anonymous)) = (field("VmRSS:"), field("RssAnon:")) else {
            return Err("the kernel does not tell what memory is used".into());
        };
        Ok(Self { rss, anonymous })
    }
}
