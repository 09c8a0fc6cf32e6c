//! `pool`: what users wait for with each preset: the first request, bursts, and trouble.

use std::time::Duration;

use anytls_mobile::config::Preset;
use anytls_mobile::proto::pool::PoolOptions;
use serde_json::json;
use tokio::time::sleep;

use super::Report;
use super::client::{TlsClient, client, first_byte, now, reach, reach_idle, try_first_byte};
use super::link::{ADDRESS, Link};
use super::report::{median, median_and_most, millis};
use super::server::Chain;
use crate::Failure;

/// A phone's way to a server in the same part of the world.
const ROUND_TRIP: Duration = Duration::from_millis(40);

const BURST: usize = 10;

/// For how long the server is away, at the start and when it is restarted.
const AWAY: Duration = Duration::from_secs(5);

/// How long the link says nothing: longer than any preset needs to notice.
const SILENCE: Duration = Duration::from_secs(60);

/// For how long the app that retries waits for an answer, and then until it asks again.
const PATIENCE: Duration = Duration::from_secs(10);
const RETRY: Duration = Duration::from_millis(250);

/// Longer than anything here should take.
const LONG: Duration = Duration::from_secs(180);

pub(super) fn bench(quick: bool) -> Result<Vec<Report>, Failure> {
    let chain = Chain::new()?;
    let rounds = if quick { 1 } else { 5 };
    Ok(vec![first_requests(&chain, if quick { 1 } else { 9 })?, trouble(&chain, rounds)?])
}

fn first_requests(chain: &Chain, rounds: usize) -> Result<Report, Failure> {
    let mut report = Report::new(
        "pool-first-request",
        format!(
            "pool: milliseconds until the first byte at a round trip of {} ms, medians of {rounds}",
            ROUND_TRIP.as_millis()
        ),
        &[
            "what",
            "nothing pre-warmed",
            "asked at the start",
            "pre-warmed",
            "second request",
            "burst of 10, last",
        ],
    );
    let link = Link::new(ROUND_TRIP)?;
    let _server = link.start_server(chain, None)?;
    for (name, preset) in Preset::ALL {
        let options = preset.options();
        let mut rows: [Vec<Duration>; 5] = Default::default();
        for _ in 0..rounds {
            let round = link.run(async || first_round(chain, &options).await)?;
            for (row, time) in rows.iter_mut().zip(round) {
                row.push(time);
            }
        }
        let medians = rows.iter().map(|times| millis(median(times)));
        report.row([json!(name)].into_iter().chain(medians).collect());
    }
    Ok(report)
}

async fn first_round(chain: &Chain, options: &PoolOptions) -> Result<[Duration; 5], Failure> {
    let none = PoolOptions { ensure_idle_session: 0, ..options.clone() };
    let cold = client(ADDRESS, chain, none)?;
    let nothing = first_byte(&cold).await?;
    cold.stop().await;
    let early = client(ADDRESS, chain, options.clone())?;
    let at_start = first_byte(&early).await?;
    early.stop().await;
    let warm = client(ADDRESS, chain, options.clone())?;
    reach_idle(&warm, options.ensure_idle_session).await?;
    let first = first_byte(&warm).await?;
    let second = first_byte(&warm).await?;
    warm.stop().await;
    let bursting = client(ADDRESS, chain, options.clone())?;
    reach_idle(&bursting, options.ensure_idle_session).await?;
    let burst = burst(&bursting, BURST).await?;
    bursting.stop().await;
    let last = burst.into_iter().max().unwrap_or_default();
    Ok([nothing, at_start, first, second, last])
}

/// So many requests at once; how long each took.
pub(super) async fn burst(client: &TlsClient, count: usize) -> Result<Vec<Duration>, Failure> {
    let mut requests = tokio::task::JoinSet::new();
    for _ in 0..count {
        let client = client.clone();
        requests.spawn(async move { first_byte(&client).await });
    }
    requests.join_all().await.into_iter().collect()
}

/// All presets beside each other on one link, in the same trouble.
fn trouble(chain: &Chain, rounds: u64) -> Result<Report, Failure> {
    let mut report = Report::new(
        "pool-recovery",
        format!("pool: recovery in seconds, median (longest) of {rounds}"),
        &[
            "what",
            "late server: a request works",
            "restart: a request works",
            "restart: pre-warmed again",
            "silence: noticed",
            "silence over: a request works",
            "silence over: pre-warmed again",
        ],
    );
    let presets: Vec<_> = Preset::ALL.into_iter().map(|(name, preset)| (name, preset.options())).collect();
    let mut columns = vec![<[Vec<Duration>; 6]>::default(); presets.len()];
    let rounds = std::thread::scope(|scope| {
        let presets = &presets;
        // Silence begins at another point between two beats in each round.
        let round = |round| move || trouble_once(chain, presets, Duration::from_secs(1 + 7 * round));
        let running: Vec<_> = (0..rounds).map(|number| scope.spawn(round(number))).collect();
        let joined = running.into_iter().map(|round| round.join());
        joined.map(|round| round.unwrap_or_else(|_| Err("a round panicked".into()))).collect::<Vec<_>>()
    });
    for times in rounds {
        for (row, times) in columns.iter_mut().zip(times?) {
            for (column, time) in row.iter_mut().zip(times) {
                column.push(time);
            }
        }
    }
    for ((name, _), row) in presets.iter().zip(&columns) {
        report.row([json!(name)].into_iter().chain(row.iter().map(|times| median_and_most(times))).collect());
    }
    Ok(report)
}

/// In the order of the report's columns.
fn trouble_once(
    chain: &Chain,
    presets: &[(&str, PoolOptions)],
    quiet: Duration,
) -> Result<Vec<[Duration; 6]>, Failure> {
    let link = Link::new(ROUND_TRIP)?;
    let mut server = None;
    let times = link.run(async || {
        let clients = presets
            .iter()
            .map(|(_, options)| Ok((client(ADDRESS, chain, options.clone())?, options.clone())))
            .collect::<Result<Vec<_>, Failure>>()?;
        sleep(AWAY).await;
        server = Some(link.start_server(chain, None)?);
        let started = each(&clients, recovered).await?;

        server = None;
        sleep(AWAY).await;
        server = Some(link.start_server(chain, None)?);
        let restarted = each(&clients, recovered).await?;

        sleep(quiet).await;
        link.set_silent(true);
        let silence = now();
        let noticed = each(&clients, noticed).await?;
        sleep(SILENCE.saturating_sub(now().since(silence))).await;
        link.set_silent(false);
        let back = each(&clients, recovered).await?;
        for (client, _) in clients {
            client.stop().await;
        }
        let times = started.into_iter().zip(restarted).zip(noticed).zip(back);
        Ok(times.map(|(((a, b), c), d)| [a.0, b.0, b.1, c, d.0, d.1]).collect())
    })?;
    drop(server);
    Ok(times)
}

/// The same for every client, at the same time.
async fn each<T: Send + 'static, F: Future<Output = Result<T, Failure>> + Send + 'static>(
    clients: &[(TlsClient, PoolOptions)],
    work: fn(TlsClient, PoolOptions) -> F,
) -> Result<Vec<T>, Failure> {
    let running: Vec<_> =
        clients.iter().cloned().map(|(client, options)| tokio::spawn(work(client, options))).collect();
    let mut results = Vec::with_capacity(running.len());
    for work in running {
        results.push(work.await??);
    }
    Ok(results)
}

/// How long until a request works, and until all is as it was.
async fn recovered(client: TlsClient, options: PoolOptions) -> Result<(Duration, Duration), Failure> {
    let works = works(&client).await;
    Ok((works, works + healed(&client, &options).await?))
}

/// How long an app that goes on trying takes from now on.
async fn works(client: &TlsClient) -> Duration {
    let begin = now();
    while try_first_byte(client, PATIENCE).await.is_none() {
        sleep(RETRY).await;
    }
    now().since(begin)
}

/// How long until there are as many idle sessions as there should be.
async fn healed(client: &TlsClient, options: &PoolOptions) -> Result<Duration, Failure> {
    let ensured = u64::try_from(options.ensure_idle_session)?;
    reach(client, LONG, |stats| stats.idle >= ensured).await
}

/// How long until none of the sessions is left that were there.
async fn noticed(client: TlsClient, _: PoolOptions) -> Result<Duration, Failure> {
    let before = client.stats();
    let all = before.closed_no_answer + before.idle;
    reach(&client, LONG, |stats| stats.closed_no_answer >= all).await
}
