//! `wire`: what sessions send while nobody uses them, to the byte, IP and TCP headers included.
//!
//! Presets run in fast motion: every time in their options is divided by [`PACE`], so that an hour takes a
//! minute. Beats stay further apart than a delayed acknowledgement takes, so that packets are the same.

use std::time::Duration;

use anytls_mobile::config::Preset;
use anytls_mobile::proto::pool::{Conditions, Heartbeat, PoolOptions, Power};
use serde_json::json;
use tokio::time::sleep;

use super::Report;
use super::client::{client, hold, reach, reach_idle};
use super::link::{ADDRESS, Link};
use super::report::median;
use super::server::{Chain, ECHO};
use crate::Failure;

const PACE: u32 = 60;
const HOUR: Duration = Duration::from_secs(3600);

/// The delayed acknowledgement of a last packet has come by then.
const SETTLE: Duration = Duration::from_millis(250);

const ROUND_TRIP: Duration = Duration::from_millis(10);

/// A session's first beats are padded: writes 1 to 7 of the usual scheme. Some more show what follows.
const BEATS: usize = 12;
const PADDED_BEATS: usize = 7;

const LONG: Duration = Duration::from_secs(60);

pub(super) fn bench(quick: bool) -> Result<Vec<Report>, Failure> {
    let chain = Chain::new()?;
    Ok(vec![steps(&chain)?, presets(&chain, if quick { 30 } else { 1 })?])
}

/// A session's life, step by step.
fn steps(chain: &Chain) -> Result<Report, Failure> {
    let mut report = Report::new(
        "wire-steps",
        "wire: IP bytes and packets of one session, both ways",
        &["what", "bytes", "packets"],
    );
    let link = Link::new(ROUND_TRIP)?;
    let _server = link.start_server(chain, None)?;
    link.run(async || {
        let options = |ensured, heartbeat| PoolOptions {
            ensure_idle_session: ensured,
            heartbeat,
            ..PoolOptions::default()
        };
        let mut seen = link.carried();
        let mut step = async || {
            sleep(SETTLE).await;
            let now = link.carried();
            now - std::mem::replace(&mut seen, now)
        };
        let client = client(ADDRESS, chain, options(1, Heartbeat::Off))?;
        reach_idle(&client, 1).await?;
        let mut steps = vec![("dial: TCP, full TLS 1.3 handshake, authentication", step().await)];
        client.set_options(options(2, Heartbeat::Off));
        reach_idle(&client, 2).await?;
        steps.push(("dial: TCP, resumed handshake, authentication", step().await));
        client.set_conditions(Conditions { is_memory_short: true, ..Conditions::default() });
        reach(&client, LONG, |stats| stats.idle == 0).await?;
        let mut closed = step().await;
        (closed.bytes, closed.packets) = (closed.bytes / 2, closed.packets / 2);

        // One session, whose beats are further apart than they take.
        client.set_options(options(1, Heartbeat::Every(4 * SETTLE)));
        client.set_conditions(Conditions::default());
        reach_idle(&client, 1).await?;
        step().await;
        let mut beats = Vec::new();
        for _ in 0..BEATS {
            let answered = client.stats().beats_answered;
            reach(&client, LONG, |stats| stats.beats_answered > answered).await?;
            beats.push(step().await);
        }
        let (padded, bare) = beats.split_at(PADDED_BEATS);
        let sum = |part: fn(&super::link::Traffic) -> u64| padded.iter().map(part).sum::<u64>();
        let bytes: Vec<u64> = bare.iter().map(|beat| beat.bytes).collect();
        let packets: Vec<u64> = bare.iter().map(|beat| beat.packets).collect();
        for (what, traffic) in steps.into_iter().chain([("close", closed)]) {
            report.row(vec![json!(what), json!(traffic.bytes), json!(traffic.packets)]);
        }
        let padded = (sum(|beat| beat.bytes), sum(|beat| beat.packets));
        report.row(vec![json!("first 7 beats with their answers, padded"), json!(padded.0), json!(padded.1)]);
        let bare = (median(&bytes), median(&packets));
        report.row(vec![json!("each later beat with its answer"), json!(bare.0), json!(bare.1)]);
        client.stop().await;
        Ok(())
    })?;
    Ok(report)
}

/// What to watch for an hour.
struct Case {
    name: String,
    options: PoolOptions,
    power: Power,
    /// Whether a stream is open, that does nothing.
    holds: bool,
}

impl Case {
    fn all() -> Vec<Self> {
        let mut cases: Vec<_> = Preset::ALL
            .into_iter()
            .map(|(name, preset)| Self {
                name: name.to_owned(),
                options: faster(preset.options()),
                power: Power::Interactive,
                holds: false,
            })
            .collect();
        let background = |what: &str, holds| Self {
            name: format!("mobile, background, {what}"),
            options: faster(Preset::Mobile.options()),
            power: Power::Background,
            holds,
        };
        cases.extend([background("one stream open", true), background("no stream", false)]);
        cases
    }
}

fn faster(options: PoolOptions) -> PoolOptions {
    PoolOptions {
        idle_session_check_interval: options.idle_session_check_interval / PACE,
        idle_session_timeout: options.idle_session_timeout / PACE,
        heartbeat: match options.heartbeat {
            Heartbeat::Every(interval) => Heartbeat::Every(interval / PACE),
            other @ (Heartbeat::Off | Heartbeat::Auto) => other,
        },
        heartbeat_background: options.heartbeat_background.map(|interval| interval / PACE),
        ..options
    }
}

/// Each for two hours, the first with padding; `part` of each is watched, and taken for the whole.
fn presets(chain: &Chain, part: u32) -> Result<Report, Failure> {
    let mut report = Report::new(
        "wire-presets",
        format!("wire: an idle hour of each preset, {PACE} times as fast"),
        &[
            "what",
            "sessions",
            "bursts/h",
            "bytes/h first hour",
            "bytes/h then",
            "of each session",
            "packets/h",
        ],
    );
    let cases = Case::all();
    let rows = std::thread::scope(|scope| {
        let watches: Vec<_> = cases.iter().map(|case| scope.spawn(|| watch(chain, case, part))).collect();
        watches
            .into_iter()
            .map(|watch| watch.join().unwrap_or_else(|_| Err("a watch panicked".into())))
            .collect::<Vec<_>>()
    });
    for (case, row) in cases.iter().zip(rows) {
        let Hours { sessions, bursts, first, then } = row?;
        let scale = |count: u64| json!(count * u64::from(part));
        let each = (then.bytes * u64::from(part)).checked_div(sessions);
        report.row(vec![
            json!(case.name),
            json!(sessions),
            scale(bursts),
            scale(first.bytes),
            scale(then.bytes),
            json!(each),
            scale(then.packets),
        ]);
    }
    Ok(report)
}

struct Hours {
    sessions: u64,
    bursts: u64,
    first: super::link::Traffic,
    then: super::link::Traffic,
}

fn watch(chain: &Chain, case: &Case, part: u32) -> Result<Hours, Failure> {
    let link = Link::new(ROUND_TRIP)?;
    let _server = link.start_server(chain, None)?;
    link.run(async || {
        let hour = HOUR / PACE / part;
        let client = client(ADDRESS, chain, case.options.clone())?;
        reach_idle(&client, case.options.ensure_idle_session).await?;
        let _held = if case.holds { Some(hold(&client, ECHO).await?) } else { None };
        client.set_conditions(Conditions { power: case.power, ..Conditions::default() });
        let start = link.carried();
        sleep(hour).await;
        let middle = link.carried();
        let bursts = client.stats().bursts;
        sleep(hour).await;
        let end = link.carried();
        let stats = client.stats();
        client.stop().await;
        Ok(Hours {
            sessions: stats.idle + stats.active,
            bursts: stats.bursts - bursts,
            first: middle - start,
            then: end - middle,
        })
    })
}
