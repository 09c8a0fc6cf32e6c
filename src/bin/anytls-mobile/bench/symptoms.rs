//! `symptoms`: what users complain of, brought about, and what the remedy in docs/pool.md changes.

use std::time::Duration;

use anytls_mobile::config::Preset;
use anytls_mobile::proto::pool::{Conditions, Heartbeat, PoolOptions, Power};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::sleep;

use super::Report;
use super::client::{client, hold, now, reach_idle, try_first_byte};
use super::link::{ADDRESS, Link};
use super::pool::burst;
use super::report::{median, millis};
use super::server::{Chain, ECHO};
use crate::Failure;

const ROUND_TRIP: Duration = Duration::from_millis(40);

/// A request took a dial or worse when it took longer: a warm one takes one round trip.
const SLOW: Duration = Duration::from_millis(80);

/// How long an app waits for an answer.
const PATIENCE: Duration = Duration::from_secs(15);

const BURST: usize = 50;

/// After this long without a word a server or a NAT of the impatient kind closes or forgets.
const SHORT_LIMIT: Duration = Duration::from_secs(20);

pub(super) fn bench(quick: bool) -> Result<Vec<Report>, Failure> {
    let chain = Chain::new()?;
    Ok(vec![bursts(&chain, if quick { 1 } else { 5 })?, idle(&chain, if quick { 20 } else { 1 })?])
}

/// Many requests at once, with more and fewer sessions pre-warmed.
fn bursts(chain: &Chain, rounds: usize) -> Result<Report, Failure> {
    let mut report = Report::new(
        "symptoms-burst",
        format!(
            "symptoms: milliseconds until the first byte of {BURST} requests at once, medians of {rounds}"
        ),
        &["what", "first", "median", "last", "dials"],
    );
    let link = Link::new(ROUND_TRIP)?;
    let _server = link.start_server(chain, None)?;
    for ensured in [0, 2, 5, 10, 20] {
        let mut seen: [Vec<Duration>; 3] = Default::default();
        let mut dials = Vec::new();
        for _ in 0..rounds {
            let (mut times, dialed) = link.run(async || {
                let options = PoolOptions { ensure_idle_session: ensured, ..PoolOptions::default() };
                let client = client(ADDRESS, chain, options)?;
                reach_idle(&client, ensured).await?;
                let before = client.stats().dialed;
                let times = burst(&client, BURST).await?;
                let dialed = client.stats().dialed - before;
                client.stop().await;
                Ok((times, dialed))
            })?;
            times.sort();
            for (column, time) in seen.iter_mut().zip([times[0], times[BURST / 2], times[BURST - 1]]) {
                column.push(time);
            }
            dials.push(dialed);
        }
        let medians = seen.iter().map(|times| millis(median(times)));
        let cells = [json!(format!("ensure_idle_session {ensured}"))].into_iter().chain(medians);
        report.row(cells.chain([json!(median(&dials))]).collect());
    }
    Ok(report)
}

/// A symptom or its remedy.
struct Case {
    name: &'static str,
    options: PoolOptions,
    /// After how long the server closes idle sessions.
    idle_limit: Option<Duration>,
    /// After how long a NAT forgets silent connections.
    nat_limit: Option<Duration>,
    power: Power,
    /// From one request to the next.
    every: Duration,
    lasts: Duration,
}

fn cases() -> Vec<Case> {
    let secs = Duration::from_secs;
    let balanced = Preset::Balanced.options();
    let impatient_server = |name, options| Case {
        name,
        options,
        idle_limit: Some(SHORT_LIMIT),
        nat_limit: None,
        power: Power::Interactive,
        every: secs(7),
        lasts: secs(300),
    };
    let impatient_nat = |name, options, limit, lasts| Case {
        name,
        options,
        idle_limit: None,
        nat_limit: Some(limit),
        power: Power::Interactive,
        every: secs(31),
        lasts,
    };
    let mobile = Preset::Mobile.options();
    let background = |name, options| Case {
        power: Power::Background,
        every: secs(90),
        ..impatient_nat(name, options, secs(60), secs(300))
    };
    let checked = PoolOptions { idle_session_check_interval: secs(5), ..balanced.clone() };
    let beating = |interval| PoolOptions { heartbeat: Heartbeat::Every(interval), ..balanced.clone() };
    let auto = PoolOptions { heartbeat: Heartbeat::Auto, ..balanced.clone() };
    vec![
        impatient_server("server closes after 20 s: balanced", balanced.clone()),
        impatient_server("  check every 5 s", checked.clone()),
        impatient_server("  check every 5 s, ensure 1", PoolOptions { ensure_idle_session: 1, ..checked }),
        impatient_server("  ensure 0", PoolOptions { ensure_idle_session: 0, ..balanced.clone() }),
        Case { idle_limit: None, ..impatient_server("  without the server's limit", balanced.clone()) },
        impatient_nat(
            "NAT forgets after 20 s: no heartbeat",
            PoolOptions { heartbeat: Heartbeat::Off, ..balanced.clone() },
            secs(20),
            secs(300),
        ),
        impatient_nat("  heartbeat 30s", beating(secs(30)), secs(20), secs(300)),
        impatient_nat("  heartbeat 15s", beating(secs(15)), secs(20), secs(300)),
        impatient_nat("  preset nat_traversal", Preset::NatTraversal.options(), secs(20), secs(300)),
        impatient_nat("NAT forgets after 90 s: auto", auto, secs(90), secs(540)),
        impatient_nat("  heartbeat 30s", beating(secs(30)), secs(90), secs(300)),
        background("NAT forgets after 60 s: mobile in background", mobile.clone()),
        background(
            "  heartbeat_background 0",
            PoolOptions { heartbeat_background: Some(Duration::ZERO), ..mobile.clone() },
        ),
        background(
            "  heartbeat_background 45s",
            PoolOptions { heartbeat_background: Some(secs(45)), ..mobile },
        ),
    ]
}

/// All cases beside each other, each on a link of its own; `part` of their time is watched.
fn idle(chain: &Chain, part: u32) -> Result<Report, Failure> {
    let mut report = Report::new(
        "symptoms-idle",
        "symptoms: sessions that others close or forget; a request now and then, and a stream that stays",
        &[
            "what",
            "requests",
            "failed",
            "slow",
            "median ms",
            "longest ms",
            "dials/h",
            "by server",
            "no answer",
            "stream",
        ],
    );
    let cases = cases();
    let rows: Vec<Result<Vec<Value>, Failure>> = std::thread::scope(|scope| {
        let watches: Vec<_> =
            cases.iter().map(|case| scope.spawn(move || watch(chain, case, part))).collect();
        let joined = watches.into_iter().map(|watch| watch.join());
        joined.map(|row| row.unwrap_or_else(|_| Err("a watch panicked".into()))).collect()
    });
    for row in rows {
        report.row(row?);
    }
    Ok(report)
}

fn watch(chain: &Chain, case: &Case, part: u32) -> Result<Vec<Value>, Failure> {
    let link = Link::new(ROUND_TRIP)?;
    if let Some(limit) = case.nat_limit {
        link.forget_after(limit);
    }
    let _server = link.start_server(chain, case.idle_limit)?;
    link.run(async || {
        let client = client(ADDRESS, chain, case.options.clone())?;
        reach_idle(&client, case.options.ensure_idle_session).await?;
        let mut stream = hold(&client, ECHO).await?;
        client.set_conditions(Conditions { power: case.power, ..Conditions::default() });
        let (begin, before) = (now(), client.stats());
        let mut times = Vec::new();
        while now().since(begin) < case.lasts / part {
            sleep(case.every / part).await;
            times.push(try_first_byte(&client, PATIENCE).await);
        }
        let lasted = now().since(begin);
        let stats = client.stats();
        let answered: Vec<Duration> = times.iter().copied().flatten().collect();
        let slow = answered.iter().filter(|&&time| time > SLOW).count();
        let is_alive = stream.write_all(b"x").await.is_ok()
            && tokio::time::timeout(PATIENCE, stream.read_u8()).await.is_ok_and(|read| read.is_ok());
        client.stop().await;
        let dials = (stats.dialed - before.dialed) * 3600 / lasted.as_secs().max(1);
        Ok(vec![
            json!(case.name),
            json!(times.len()),
            json!(times.len() - answered.len()),
            json!(slow),
            millis(median(&answered)),
            millis(answered.iter().max().copied()),
            json!(dials),
            json!(stats.closed_by_server),
            json!(stats.closed_no_answer),
            json!(if is_alive { "lives" } else { "died" }),
        ])
    })
}
