//! The forms a config may have beside our own.

use std::time::Duration;

use serde_json::{Value, json};
use tracing::level_filters::LevelFilter;

use super::*;
use crate::proto::pool::PoolOptions;

#[test]
fn a_bare_outbound_is_a_config() {
    let text =
        "\u{feff}{ \"server\": \"192.0.2.1\", \"password\": \"p\", /* sing-box's */ \"type\": \"anytls\", }";
    let config = parse(text, &Defaults::default()).unwrap().config;
    assert_eq!((config.server.host.to_string().as_str(), config.server.port), ("192.0.2.1", 443));
    let refused = parse("{ \"type\": \"vless\" }", &Defaults::default()).unwrap_err();
    assert_eq!(refused.problems[0].path, "type");
}

const SING_BOX: &str = r#"
// As a subscription gives it.
{
  "log": { "level": "debug", "timestamp": true },
  "dns": { "servers": [{ "tag": "remote", "address": "tls://8.8.8.8", "detour": "select" }], "final": "remote" },
  "inbounds": [
    { "type": "mixed", "tag": "mixed-in", "listen": "127.0.0.1", "listen_port": 2080 },
    {
      "type": "tun", "tag": "tun-in", "interface_name": "tun0", "mtu": 1500,
      "address": ["172.18.0.1/30", "fdfe:dcba:9876::1/126"],
      "auto_route": true, "strict_route": true, "stack": "system",
    },
    { "type": "tun", "tag": "second", "mtu": 1 },
  ],
  "outbounds": [
    { "type": "selector", "tag": "select", "outbounds": ["home", "direct"] },
    {
      "type": "anytls", "tag": "home", "server": "203.0.113.7", "server_port": 8443,
      "password": "8JCsPssfgS8tiRwiMlhARg==", "idle_session_check_interval": "30s",
      "idle_session_timeout": "30s", "min_idle_session": 5, "domain_resolver": "remote",
      "tls": {
        "enabled": true, "server_name": "www.example.com", "alpn": ["h2", "http/1.1"],
        "utls": { "enabled": true, "fingerprint": "chrome" },
      },
    },
    { "type": "direct", "tag": "direct" },
  ],
  "route": { "rules": [{ "ip_is_private": true, "outbound": "direct" }], "auto_detect_interface": true },
  "experimental": { "cache_file": { "enabled": true } },
}"#;

#[test]
fn a_whole_sing_box_config_gives_its_anytls_outbound_and_its_tun() {
    let Parsed { config, warnings } = parse(SING_BOX, &Defaults::default()).unwrap();
    assert_eq!(config.log.level, Some(LevelFilter::DEBUG));
    assert_eq!(config.server.tag.as_deref(), Some("home"));
    assert_eq!((config.server.host.to_string().as_str(), config.server.port), ("203.0.113.7", 8443));
    assert_eq!(config.server.password.expose(), b"8JCsPssfgS8tiRwiMlhARg==");
    assert_eq!(config.server.server_name().to_string(), "www.example.com");
    let pool = PoolOptions {
        idle_session_timeout: Duration::from_secs(30),
        min_idle_session: 5,
        ..PoolOptions::default()
    };
    assert_eq!(config.server.pool, pool);
    assert_eq!((config.tun.name.as_deref(), config.tun.mtu.get()), (Some("tun0"), 1500));
    assert_eq!(config.tun.addresses[0], "172.18.0.1/30".parse().unwrap());
    #[rustfmt::skip] // a table
    let expected = [
        "warning: log.timestamp: has no effect: the app decides how log lines look",
        "warning: inbounds: only inbounds[1] is used, 2 more are not",
        "warning: inbounds[1]: not used: \"auto_route\", \"stack\", \"strict_route\"",
        "warning: outbounds: only outbounds[1] is used, 2 more are not",
        "warning: outbounds[1].tls.utls: has no effect: the ClientHello imitates no browser: no server asks for it, and sing-box advises against it",
        "warning: outbounds[1].domain_resolver: has no effect: the server's name is resolved by the app, outside the tunnel",
        "warning: not used, all traffic goes to the one server: \"dns\", \"experimental\", \"route\"",
    ];
    assert_eq!(lines(&warnings), expected);
}

#[test]
fn a_sing_box_config_must_have_exactly_one_anytls_outbound() {
    let outbound = json!({ "type": "anytls", "server": "example.com", "password": "p" });
    for (outbounds, expected) in [
        (json!([]), Some("error: outbounds: expected an outbound of type anytls")),
        (json!([{ "type": "vless" }]), Some("error: outbounds: expected an outbound of type anytls")),
        (
            json!([outbound, {}, outbound]),
            Some("error: outbounds: expected one outbound of type anytls, found outbounds[0], outbounds[2]"),
        ),
        (json!([outbound, 1]), Some("error: outbounds[1]: expected an object, found a number")),
        (json!([outbound]), None),
        (json!(outbound), None),
    ] {
        let parsed = parse_json(&json!({ "outbounds": outbounds }));
        assert_eq!(parsed.err().map(|refused| refused.problems[0].to_string()).as_deref(), expected);
    }
}

#[test]
fn what_is_not_used_is_enumerated_briefly() {
    let mut config: Value = (0..20).map(|i| (format!("x{i:02}"), json!(1))).collect();
    merge(&mut config, json!({ "outbounds": { "type": "anytls", "server": "h", "password": "p" } }));
    let warnings = parse_json(&config).unwrap().warnings;
    assert_eq!(warnings.len(), 1);
    assert!(warnings[0].message.ends_with("\"x14\", \"x15\" and 4 more"), "{}", warnings[0]);
}

#[test]
fn a_uri_is_a_config() {
    let text = " AnyTLS://p%40ss%3aw%00rd@[2001:db8::1]:8443/\
        ?sni=Front.example&insecure=1&fp=chrome&a%0Ab=c&a_name_of_more_than_32_characters=#My%20%E2%9C%88 \n";
    let Parsed { config, warnings } = parse(text, &Defaults::default()).unwrap();
    let server = Server {
        tag: Some("My ✈".to_owned()),
        host: "2001:db8::1".parse().unwrap(),
        port: 8443,
        password: Secret::new("p@ss:w\0rd"),
        tls: TlsOptions {
            server_name: Some("front.example".parse().unwrap()),
            insecure: true,
            ..TlsOptions::default()
        },
        pool: PoolOptions::default(),
        connect_timeout: Duration::from_secs(10),
    };
    assert_eq!(config, Config::new(server, &Defaults::default()));
    let expected = [
        "warning: uri.fp: unknown parameter, ignored",
        "warning: uri: unknown parameter, ignored",
        "warning: uri: unknown parameter, ignored",
        "warning: uri.insecure: the certificate is not verified: whoever stands between can read everything",
    ];
    assert_eq!(lines(&warnings), expected);
}
