//! Right values, field by field.

use std::time::Duration;

use serde_json::{Value, json};
use tracing::level_filters::LevelFilter;

use super::*;
use crate::proto::pool::{Heartbeat, PoolOptions};

fn server(fields: Value) -> Server {
    let parsed = parse_json(&minimal(json!({ "server": fields }))).unwrap();
    assert_eq!(parsed.warnings, []);
    parsed.config.server
}

fn tls(fields: Value) -> TlsOptions {
    server(json!({ "tls": fields })).tls
}

#[test]
fn the_smallest_config_has_every_default() {
    let Parsed { config, warnings } = parse_json(&minimal(json!({}))).unwrap();
    assert_eq!(warnings, []);
    let expected = Server {
        tag: None,
        host: "example.com".parse().unwrap(),
        port: 443,
        password: Secret::new("secret"),
        tls: TlsOptions::default(),
        pool: PoolOptions::default(),
        connect_timeout: Duration::from_secs(10),
    };
    assert_eq!(config, Config::new(expected, &Defaults::default()));
    assert_eq!(config.server.server_name().to_string(), "example.com");
    assert_eq!(config.tun.mtu.get(), 9000);
    let addresses: Vec<_> =
        config.tun.addresses.iter().map(|a| format!("{}/{}", a.address(), a.prefix_len())).collect();
    assert_eq!(addresses, ["172.19.0.1/30", "fdfe:dcba:9876::1/126"]);
}

#[test]
fn the_platform_gives_the_defaults_that_depend_on_it() {
    let text = minimal(json!({})).to_string();
    let config = parse(&text, &Defaults::ios()).unwrap().config;
    assert_eq!((config.tun.mtu.get(), config.tun.memory_limit), (4064, 12 << 20));
    assert_eq!(config.server.pool.max_sessions, 64);

    let explicit = minimal(json!({ "tun": { "mtu": 1500 }, "server": { "max_sessions": 0 } })).to_string();
    let config = parse(&explicit, &Defaults::ios()).unwrap().config;
    assert_eq!((config.tun.mtu.get(), config.server.pool.max_sessions), (1500, 0));

    let uri = parse("anytls://p@example.com", &Defaults::ios()).unwrap().config;
    assert_eq!((uri.tun.mtu.get(), uri.server.pool.max_sessions), (4064, 64));
}

#[test]
fn every_pool_option_is_read() {
    let server = server(json!({
        "idle_session_check_interval": "1s", "idle_session_timeout": "1h30m", "min_idle_session": 3,
        "min_idle_session_for_age": 4, "ensure_idle_session": 5, "ensure_idle_session_create_rate": 6, "ensure_idle_session_background": 1,
        "heartbeat": "7s", "heartbeat_background": "8m", "max_connection_lifetime": "1d",
        "connection_lifetime_jitter": "1.5h", "synack_timeout": "300ms", "max_sessions": 9, "reuse": false,
        "connect_timeout": "2s", "server_port": 8443, "tag": "home", "type": "anytls",
    }));
    let expected = PoolOptions {
        idle_session_check_interval: Duration::from_secs(1),
        idle_session_timeout: Duration::from_secs(5400),
        min_idle_session: 3,
        min_idle_session_for_age: 4,
        ensure_idle_session: 5,
        ensure_idle_session_background: Some(1),
        ensure_idle_session_create_rate: 6,
        heartbeat: Heartbeat::Every(Duration::from_secs(7)),
        heartbeat_background: Some(Duration::from_secs(480)),
        max_connection_lifetime: Duration::from_secs(86_400),
        connection_lifetime_jitter: Duration::from_secs(5400),
        synack_timeout: Some(Duration::from_millis(300)),
        max_sessions: 9,
        reuse: false,
    };
    assert_eq!(server.pool, expected);
    assert_eq!((server.port, server.tag.as_deref()), (8443, Some("home")));
    assert_eq!(server.connect_timeout, Duration::from_secs(2));
}

#[test]
fn an_explicit_option_wins_over_the_preset_in_any_order() {
    let pool = server(json!({ "ensure_idle_session": 7, "preset": "nat_traversal" })).pool;
    assert_eq!(pool, PoolOptions { ensure_idle_session: 7, ..Preset::NatTraversal.options() });
}

#[test]
fn the_background_heartbeat_follows_the_foreground_unless_given() {
    let every = |secs| Heartbeat::Every(Duration::from_secs(secs));
    let secs = Duration::from_secs;
    for (fields, expected) in [
        (json!({}), (every(30), Some(secs(270)))),
        (json!({ "heartbeat": "20s" }), (every(20), Some(secs(270)))),
        (json!({ "heartbeat": "10m" }), (every(600), Some(secs(600)))),
        (json!({ "heartbeat": "0" }), (Heartbeat::Off, None)),
        (json!({ "heartbeat": 0 }), (Heartbeat::Off, None)),
        (json!({ "heartbeat": "auto" }), (Heartbeat::Auto, None)),
        (json!({ "heartbeat_background": "0s" }), (every(30), Some(Duration::ZERO))),
        (json!({ "heartbeat": "0", "heartbeat_background": "5m" }), (Heartbeat::Off, Some(secs(300)))),
        (json!({ "preset": "balanced" }), (every(30), None)),
        (json!({ "preset": "balanced", "heartbeat": "" }), (every(30), None)),
    ] {
        let pool = server(fields.clone()).pool;
        assert_eq!((pool.heartbeat, pool.heartbeat_background), expected, "{fields}");
    }
}

#[test]
fn zero_is_no_limit_of_sessions_and_the_default_timeout() {
    let server = server(json!({ "max_sessions": 0, "connect_timeout": "0s", "synack_timeout": 0 }));
    assert_eq!((server.pool.max_sessions, server.pool.synack_timeout), (0, None));
    assert_eq!(server.connect_timeout, Duration::from_secs(10));
}

#[test]
fn every_tls_option_is_read() {
    let lines: Vec<_> = CERTIFICATE.lines().collect();
    let options = tls(json!({
        "enabled": true, "server_name": "Front.Example", "disable_sni": true, "alpn": "h2",
        "min_version": "1.2", "max_version": "1.2", "certificate": lines,
        "client_certificate": CERTIFICATE, "client_key": KEY,
    }));
    assert_eq!(options.server_name, Some("front.example".parse().unwrap()));
    assert_eq!((options.disable_sni, options.alpn), (true, vec!["h2".to_owned()]));
    assert_eq!((options.min_version, options.max_version), (TlsVersion::V1_2, TlsVersion::V1_2));
    assert_eq!(options.certificate, Some(Pem::Text(Secret::new(CERTIFICATE.trim_end()))));
    let client = ClientCertificate {
        certificate: Pem::Text(Secret::new(CERTIFICATE)),
        key: Pem::Text(Secret::new(KEY)),
    };
    assert_eq!(options.client, Some(client));

    let files =
        tls(json!({ "certificate_path": "/ca", "client_certificate_path": "/c", "client_key_path": "/k" }));
    assert_eq!(files.certificate, Some(Pem::File("/ca".into())));
    let client = ClientCertificate { certificate: Pem::File("/c".into()), key: Pem::File("/k".into()) };
    assert_eq!(files.client, Some(client));
}

#[test]
fn versions_default_to_the_newest_that_is_allowed() {
    for (fields, expected) in [
        (json!({}), (TlsVersion::V1_3, TlsVersion::V1_3)),
        (json!({ "min_version": "1.2" }), (TlsVersion::V1_2, TlsVersion::V1_3)),
        (json!({ "max_version": "1.2" }), (TlsVersion::V1_2, TlsVersion::V1_2)),
    ] {
        let options = tls(fields.clone());
        assert_eq!((options.min_version, options.max_version), expected, "{fields}");
    }
}

#[test]
fn pins_are_decoded_and_quiet_the_warning_about_insecure() {
    let bytes: [u8; 32] = std::array::from_fn(|index| u8::try_from(index).unwrap());
    assert_eq!(tls(json!({ "certificate_public_key_sha256": PIN })).certificate_public_key_sha256, [bytes]);
    let two =
        json!({ "certificate_public_key_sha256": [PIN, format!("{}8=", "/".repeat(42))], "insecure": true });
    assert_eq!(tls(two).certificate_public_key_sha256, [bytes, [0xff; 32]]);
}

#[test]
fn the_tun_is_read_under_both_families_of_names() {
    let own = json!({
        "name": "tun7", "mtu": 1280, "addresses": ["10.0.0.2/24"], "memory_limit": "24MiB", "eager": true,
    });
    let tun = parse_json(&minimal(json!({ "tun": own }))).unwrap().config.tun;
    let expected = TunOptions {
        name: Some("tun7".to_owned()),
        mtu: Mtu::MIN,
        addresses: vec!["10.0.0.2/24".parse().unwrap()],
        memory_limit: 24 << 20,
        eager: true,
        block_quic: true,
    };
    assert_eq!(tun, expected);

    let theirs = json!({
        "interface_name": "tun7", "mtu": 65535, "address": "10.0.0.2/24", "inet6_address": ["fd00::1/64"],
        "memory_limit": 4_194_304,
    });
    let tun = parse_json(&minimal(json!({ "tun": theirs }))).unwrap().config.tun;
    assert_eq!((tun.name.as_deref(), tun.mtu, tun.memory_limit), (Some("tun7"), Mtu::MAX, 4 << 20));
    assert_eq!(tun.addresses, ["10.0.0.2/24", "fd00::1/64"].map(|text| text.parse().unwrap()));
}

#[test]
fn a_resolver_is_reached_by_tcp_tls_or_https() {
    let https = |path: &str| DnsTransport::Https { path: path.to_owned() };
    for (text, expected) in [
        ("1.0.0.1", (DnsTransport::Tcp, "1.0.0.1", 53)),
        ("1.0.0.1:5353", (DnsTransport::Tcp, "1.0.0.1", 5353)),
        ("tcp://[2606:4700::1]:5353", (DnsTransport::Tcp, "2606:4700::1", 5353)),
        ("tls://dns.example", (DnsTransport::Tls, "dns.example", 853)),
        ("tls://[2606:4700::1]", (DnsTransport::Tls, "2606:4700::1", 853)),
        ("https://dns.example", (https("/dns-query"), "dns.example", 443)),
        ("https://dns.example:8443/", (https("/"), "dns.example", 8443)),
        ("https://[2606:4700::1]:8443/a/b?c=d", (https("/a/b?c=d"), "2606:4700::1", 8443)),
    ] {
        let dns = json!({ "mode": "fake_ip", "server": text, "strategy": "ipv4_only", "block_dot": true });
        let Parsed { config, warnings } = parse_json(&minimal(json!({ "dns": dns }))).unwrap();
        let DnsServer { transport, host, port } = config.dns.server;
        assert_eq!((transport, host.to_string().as_str(), port), expected, "{text}");
        assert_eq!((config.dns.mode, config.dns.strategy), (DnsMode::FakeIp, Some(DnsStrategy::Ipv4Only)));
        assert!(config.dns.block_dot);
        assert_eq!(lines(&warnings), [""; 0]);
    }
}

#[test]
fn a_resolver_has_tls_options_of_its_own() {
    let tls = json!({ "server_name": "dns.example", "min_version": "1.2", "certificate": CERTIFICATE });
    let dns = json!({ "server": "tls://192.0.2.53", "tls": tls });
    let config = parse_json(&minimal(json!({ "dns": dns }))).unwrap().config;
    let expected = TlsOptions {
        server_name: Some("dns.example".parse().unwrap()),
        min_version: TlsVersion::V1_2,
        certificate: Some(Pem::Text(Secret::new(CERTIFICATE))),
        ..TlsOptions::default()
    };
    assert_eq!(config.dns.tls, expected);
    assert_eq!(config.server.tls, TlsOptions::default());
}

#[test]
fn names_without_fake_addresses_are_a_list_of_suffixes() {
    let exclude = |list: Value| {
        let dns = json!({ "dns": { "fake_ip_exclude": list } });
        let names = parse_json(&minimal(dns)).unwrap().config.dns.fake_ip_exclude;
        names.iter().map(|name| name.as_ref().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(exclude(json!(null)), ["local", "lan", "home.arpa", "localhost"]);
    assert_eq!(exclude(json!(["Corp.Example.", ".intra"])), ["corp.example", "intra"]);
    assert_eq!(exclude(json!("lan")), ["lan"]);
    assert_eq!(exclude(json!([])), [""; 0]);
}

#[test]
fn log_levels_have_sing_boxs_names() {
    for (log, expected) in [
        (json!({ "level": "trace" }), Some(LevelFilter::TRACE)),
        (json!({ "level": "warning" }), Some(LevelFilter::WARN)),
        (json!({ "level": "panic" }), Some(LevelFilter::ERROR)),
        (json!({ "level": "debug", "disabled": true }), Some(LevelFilter::OFF)),
        (json!(null), None),
    ] {
        assert_eq!(parse_json(&minimal(json!({ "log": log }))).unwrap().config.log.level, expected);
    }
}

#[test]
fn what_is_off_is_no_problem() {
    let server = server(json!({
        "detour": "", "routing_mark": 0, "bind_interface": null, "network_type": [], "domain_resolver": {},
        "tls": { "utls": { "enabled": false, "fingerprint": "chrome" }, "reality": { "enabled": false },
                 "ech": {}, "fragment": false, "server_name": "", "certificate": "", "alpn": [] },
    }));
    assert_eq!(server.tls, TlsOptions::default());
}
