//! The pool options of the outbound object.

use std::time::Duration;

use super::Defaults;
use super::presets::Preset;
use super::section::{Field, Section};
use crate::proto::pool::{Heartbeat, PoolOptions};

/// The largest count of sessions that is taken: a guess at what is still meant, against a mistyped
/// number that would dial a server a million times.
const MAX_SESSIONS: u64 = 1024;

/// The shortest interval that is taken, between checks and between beats. The reference silently makes
/// 30 s of short check intervals; below a second, checks and beats would cost more than what they save.
const MIN_INTERVAL: Duration = Duration::from_secs(1);

pub(super) fn read(outbound: &mut Section<'_>, defaults: &Defaults) -> PoolOptions {
    let preset = outbound.field("preset").choice(&Preset::ALL).unwrap_or(Preset::Mobile);
    let base = PoolOptions { max_sessions: defaults.max_sessions, ..preset.options() };

    let mut duration = |name, default| outbound.field(name).duration().unwrap_or(default);
    let idle_session_timeout = duration("idle_session_timeout", base.idle_session_timeout);
    let max_connection_lifetime = duration("max_connection_lifetime", base.max_connection_lifetime);
    let connection_lifetime_jitter = duration("connection_lifetime_jitter", base.connection_lifetime_jitter);

    let ensure_background = count(&outbound.field("ensure_idle_session_background"));
    let mut count = |name, default| count(&outbound.field(name)).unwrap_or(default);
    let min_idle_session = count("min_idle_session", base.min_idle_session);
    let ensure_idle_session = count("ensure_idle_session", base.ensure_idle_session);
    let min_idle_session_for_age = count("min_idle_session_for_age", base.min_idle_session_for_age);
    let ensure_idle_session_create_rate =
        count("ensure_idle_session_create_rate", base.ensure_idle_session_create_rate);
    let max_sessions = count("max_sessions", base.max_sessions);

    let check_interval =
        interval(&outbound.field("idle_session_check_interval"), |span| span >= MIN_INTERVAL);
    let heartbeat = heartbeat(&outbound.field("heartbeat"));
    let background = interval(&outbound.field("heartbeat_background"), is_off_or_interval);

    let options = PoolOptions {
        idle_session_check_interval: check_interval.unwrap_or(base.idle_session_check_interval),
        idle_session_timeout,
        min_idle_session,
        min_idle_session_for_age,
        ensure_idle_session,
        ensure_idle_session_background: ensure_background.or(base.ensure_idle_session_background),
        ensure_idle_session_create_rate,
        heartbeat: heartbeat.unwrap_or(base.heartbeat),
        heartbeat_background: background.or(match (heartbeat, base.heartbeat_background) {
            // An explicit heartbeat wins over the preset: its background must not beat more often.
            (Some(Heartbeat::Every(interval)), Some(preset)) => Some(preset.max(interval)),
            (Some(Heartbeat::Off | Heartbeat::Auto), _) => None,
            (None | Some(Heartbeat::Every(_)), preset) => preset,
        }),
        max_connection_lifetime,
        connection_lifetime_jitter,
        synack_timeout: outbound.field("synack_timeout").duration().filter(|timeout| !timeout.is_zero()),
        max_sessions,
        reuse: outbound.field("reuse").flag().unwrap_or(base.reuse),
    };
    check(&options, outbound);
    options
}

fn count(field: &Field<'_>) -> Option<usize> {
    field.integer(0..=MAX_SESSIONS).and_then(|count| usize::try_from(count).ok())
}

fn is_off_or_interval(span: Duration) -> bool {
    span.is_zero() || span >= MIN_INTERVAL
}

fn interval(field: &Field<'_>, is_valid: impl Fn(Duration) -> bool) -> Option<Duration> {
    let interval = field.duration()?;
    if !is_valid(interval) {
        let off = if is_valid(Duration::ZERO) { ", or 0 for none" } else { "" };
        field.error(format!("expected at least 1s{off}"));
        return None;
    }
    Some(interval)
}

fn heartbeat(field: &Field<'_>) -> Option<Heartbeat> {
    if field.is_word("auto") {
        return Some(Heartbeat::Auto);
    }
    let interval = interval(field, is_off_or_interval)?;
    Some(if interval.is_zero() { Heartbeat::Off } else { Heartbeat::Every(interval) })
}

/// Reports what contradicts itself, and what can have no effect beside the rest.
fn check(options: &PoolOptions, outbound: &Section<'_>) {
    if options.max_connection_lifetime.is_zero() {
        let needs_lifetime = [
            ("connection_lifetime_jitter", !options.connection_lifetime_jitter.is_zero()),
            ("min_idle_session_for_age", options.min_idle_session_for_age > 0),
        ];
        for (name, _) in needs_lifetime.into_iter().filter(|(_, is_set)| *is_set) {
            outbound.warn(name, "has no effect: max_connection_lifetime is off");
        }
    } else if options.connection_lifetime_jitter >= options.max_connection_lifetime {
        outbound.error("connection_lifetime_jitter", "expected less than max_connection_lifetime");
    } else if options.min_idle_session_for_age > options.ensure_idle_session {
        let ensured = options.ensure_idle_session;
        outbound.warn(
            "min_idle_session_for_age",
            format!("sessions past their lifetime are kept: ensure_idle_session replaces {ensured} only"),
        );
    }
    if options.ensure_idle_session == 0 && options.ensure_idle_session_create_rate > 0 {
        outbound.warn("ensure_idle_session_create_rate", "has no effect: ensure_idle_session is 0");
    }
    if options.max_sessions > 0 {
        for (name, count) in [
            ("min_idle_session", options.min_idle_session),
            ("min_idle_session_for_age", options.min_idle_session_for_age),
            ("ensure_idle_session", options.ensure_idle_session),
        ] {
            if count > options.max_sessions {
                let max = options.max_sessions;
                outbound.warn(name, format!("{count} sessions cannot be idle: max_sessions is {max}"));
            }
        }
    }
}
