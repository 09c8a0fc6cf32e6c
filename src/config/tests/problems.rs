//! Wrong values, and what is said of them.

use serde_json::{Value, json};

use super::*;

/// Every error, by the path of the field and a value for it.
#[test]
fn each_wrong_value_is_one_error_with_its_path_and_what_was_expected() {
    let long = "x".repeat(256);
    #[rustfmt::skip] // a table
    let cases = [
        ("log", json!(1), "log: expected an object, found a number"),
        ("log.level", json!("loud"), "log.level: expected one of trace, debug, info, warn, warning, error, fatal, panic, off, found a string"),
        ("server", json!("example.com"), "server: expected an object, found a string"),
        ("server", json!(null), "server: expected an AnyTLS outbound"),
        ("server.type", json!("vless"), "server.type: expected one of anytls, found a string"),
        ("server.tag", json!(1), "server.tag: expected a string, found a number"),
        ("server.server", json!(null), "server.server: expected the server's name or address"),
        ("server.server", json!("exa mple"), "server.server: expected a DNS name (in ASCII) or an IP address, found a string"),
        ("server.server_port", json!(0), "server.server_port: expected an integer from 1 to 65535, found a number"),
        ("server.server_port", json!("443"), "server.server_port: expected an integer from 1 to 65535, found a string"),
        ("server.server_port", json!(65536), "server.server_port: expected an integer from 1 to 65535, found a number"),
        ("server.password", json!(""), "server.password: expected the server's password"),
        ("server.password", json!(12345), "server.password: expected a string, found a number"),
        ("server.connect_timeout", json!("-1s"), "server.connect_timeout: expected a duration that is not negative"),
        ("server.preset", json!("fast"), "server.preset: expected one of mobile, high_performance, high_availability, nat_traversal, resource_efficient, balanced, found a string"),
        ("server.idle_session_check_interval", json!("999ms"), "server.idle_session_check_interval: expected at least 1s"),
        ("server.idle_session_check_interval", json!(0), "server.idle_session_check_interval: expected at least 1s"),
        ("server.idle_session_timeout", json!(30), "server.idle_session_timeout: expected a duration such as \"30s\" in quotes, found a number"),
        ("server.idle_session_timeout", json!("30"), "server.idle_session_timeout: expected a unit after each number, as in 30s (ns, us, ms, s, m, h or d)"),
        ("server.min_idle_session", json!(-1), "server.min_idle_session: expected an integer from 0 to 1024, found a number"),
        ("server.max_sessions", json!(1.5), "server.max_sessions: expected an integer from 0 to 1024, found a number"),
        ("server.ensure_idle_session", json!(1_000_000), "server.ensure_idle_session: expected an integer from 0 to 1024, found a number"),
        ("server.heartbeat", json!("1ms"), "server.heartbeat: expected at least 1s, or 0 for none"),
        ("server.heartbeat", json!("often"), "server.heartbeat: expected a duration such as 30s, 5m or 1h30m"),
        ("server.heartbeat_background", json!("1ns"), "server.heartbeat_background: expected at least 1s, or 0 for none"),
        ("server.heartbeat_background", json!("auto"), "server.heartbeat_background: expected a duration such as 30s, 5m or 1h30m"),
        ("server.reuse", json!("yes"), "server.reuse: expected true or false, found a string"),
        ("server", json!({ "max_connection_lifetime": "1h", "connection_lifetime_jitter": "60m" }), "server.connection_lifetime_jitter: expected less than max_connection_lifetime"),
        ("server.detour", json!("direct"), "server.detour: not supported: the server would be reached directly"),
        ("server.routing_mark", json!(255), "server.routing_mark: not supported: connections are kept out of the tunnel by the app, not by a mark"),
        ("server.tls", json!(true), "server.tls: expected an object, found a boolean"),
        ("server.tls.enabled", json!(false), "server.tls.enabled: expected true: AnyTLS always runs over TLS"),
        ("server.tls.server_name", json!("a b"), "server.tls.server_name: expected a DNS name (in ASCII) or an IP address, found a string"),
        ("server.tls.alpn", json!(["h2", 2]), "server.tls.alpn[1]: expected a protocol name of 1 to 255 bytes, found a number"),
        ("server.tls.alpn", json!([""]), "server.tls.alpn[0]: expected a protocol name of 1 to 255 bytes, found a string"),
        ("server.tls.alpn", json!(long), "server.tls.alpn: expected a protocol name of 1 to 255 bytes, found a string"),
        ("server.tls.min_version", json!("1.4"), "server.tls.min_version: expected one of 1.0, 1.1, 1.2, 1.3, found a string"),
        ("server.tls.max_version", json!("1.1"), "server.tls.max_version: expected 1.2 or 1.3: older versions are not spoken"),
        ("server.tls", json!({ "min_version": "1.3", "max_version": "1.2" }), "server.tls.min_version: expected a version not above max_version"),
        ("server.tls.certificate", json!("not PEM"), "server.tls.certificate: expected PEM text, from its BEGIN line to its END line"),
        ("server.tls.certificate", json!(KEY), "server.tls.certificate: expected PEM text, from its BEGIN line to its END line"),
        ("server.tls.certificate", json!(["-----BEGIN CERTIFICATE-----", 7]), "server.tls.certificate[1]: expected a string, found a number"),
        ("server.tls", json!({ "certificate": CERTIFICATE, "certificate_path": "/ca" }), "server.tls.certificate_path: expected either certificate or certificate_path"),
        ("server.tls", json!({ "certificate": CERTIFICATE, "certificate_public_key_sha256": PIN }), "server.tls.certificate_public_key_sha256: expected either pins or certificates to trust: pins stand for the whole verification"),
        ("server.tls.certificate_public_key_sha256", json!([""]), "server.tls.certificate_public_key_sha256[0]: expected a SHA-256 in base64 (44 characters), found a string"),
        ("server.tls.certificate_public_key_sha256", json!([PIN, null]), "server.tls.certificate_public_key_sha256[1]: expected a SHA-256 in base64 (44 characters), found null"),
        ("server.tls.certificate_public_key_sha256", json!(PIN.replace("8=", "9=")), "server.tls.certificate_public_key_sha256: expected a SHA-256 in base64 (44 characters), found a string"),
        ("server.tls.certificate_public_key_sha256", json!(PIN.replace('A', "-")), "server.tls.certificate_public_key_sha256: expected a SHA-256 in base64 (44 characters), found a string"),
        ("server.tls.certificate_public_key_sha256", json!(&PIN[1..]), "server.tls.certificate_public_key_sha256: expected a SHA-256 in base64 (44 characters), found a string"),
        ("server.tls.client_certificate", json!(CERTIFICATE), "server.tls.client_key: expected the key of client_certificate"),
        ("server.tls.client_key_path", json!("/k"), "server.tls.client_certificate: expected the certificate of client_key"),
        ("server.tls", json!({ "client_certificate_path": "/c", "client_key": CERTIFICATE }), "server.tls.client_key: expected PEM text, from its BEGIN line to its END line"),
        ("server.tls.reality", json!({ "enabled": true }), "server.tls.reality: not supported: a server that requires REALITY cannot be reached"),
        ("server.tls.ech", json!({ "enabled": true }), "server.tls.ech: not supported: the server's name would be sent in the clear"),
        ("server.tls.fragment", json!(true), "server.tls.fragment: not supported: the ClientHello would leave in one piece"),
        ("tun.name", json!("sixteen-letters!"), "tun.name: expected an interface name of at most 15 characters, found a string"),
        ("tun.name", json!("a/b"), "tun.name: expected an interface name of at most 15 characters, found a string"),
        ("tun.mtu", json!(1279), "tun.mtu: expected an integer from 1280 to 65535, found a number"),
        ("tun.addresses", json!(["172.19.0.1"]), "tun.addresses[0]: expected a CIDR such as 172.19.0.1/30, found a string"),
        ("tun.addresses", json!("172.19.0.1/33"), "tun.addresses: expected a CIDR such as 172.19.0.1/30, found a string"),
        ("tun.addresses", json!("fd00::1/+64"), "tun.addresses: expected a CIDR such as 172.19.0.1/30, found a string"),
        ("tun.addresses", json!("0.0.0.0/0"), "tun.addresses: expected a CIDR such as 172.19.0.1/30, found a string"),
        ("tun.memory_limit", json!("24 MiB"), "tun.memory_limit: expected a size such as \"24MiB\", from 4194304 to 1073741824 bytes, found a string"),
        ("tun.memory_limit", json!("99999999999GiB"), "tun.memory_limit: expected a size such as \"24MiB\", from 4194304 to 1073741824 bytes, found a string"),
        ("tun.memory_limit", json!(1000), "tun.memory_limit: expected a size such as \"24MiB\", from 4194304 to 1073741824 bytes, found a number"),
        ("tun.eager", json!(1), "tun.eager: expected true or false, found a number"),
        ("dns.mode", json!("local"), "dns.mode: expected one of forward, fake_ip, found a string"),
        ("dns.server", json!("quic://dns.example"), "dns.server: expected a resolver such as 1.1.1.1, tls://1.1.1.1:853 or https://1.1.1.1/dns-query, found a string"),
        ("dns.server", json!("https://dns.example/a b"), "dns.server: expected a resolver such as 1.1.1.1, tls://1.1.1.1:853 or https://1.1.1.1/dns-query, found a string"),
        ("dns.server", json!("https://dns.example/a#b"), "dns.server: expected a resolver such as 1.1.1.1, tls://1.1.1.1:853 or https://1.1.1.1/dns-query, found a string"),
        ("dns.server", json!("https:///dns-query"), "dns.server: expected a resolver such as 1.1.1.1, tls://1.1.1.1:853 or https://1.1.1.1/dns-query, found a string"),
        ("dns.server", json!("tls://dns.example/dns-query"), "dns.server: expected a resolver such as 1.1.1.1, tls://1.1.1.1:853 or https://1.1.1.1/dns-query, found a string"),
        ("dns", json!({ "server": "tls://1.1.1.1", "tls": { "server_name": "a b" } }), "dns.tls.server_name: expected a DNS name (in ASCII) or an IP address, found a string"),
        ("dns.tls", json!({ "server_name": "dns.example" }), "dns.tls: expected a server that begins with tls:// or https://: bare TCP has no encryption"),
        ("dns.fake_ip_exclude", json!(["lan", "192.0.2.1"]), "dns.fake_ip_exclude[1]: expected a DNS name (in ASCII), found a string"),
        ("dns.fake_ip_exclude", json!(["*.lan"]), "dns.fake_ip_exclude[0]: expected a DNS name (in ASCII), found a string"),
        ("dns.fake_ip_exclude", json!([""]), "dns.fake_ip_exclude[0]: expected a DNS name (in ASCII), found a string"),
        ("dns.strategy", json!("ipv5_only"), "dns.strategy: expected one of prefer_ipv4, prefer_ipv6, ipv4_only, ipv6_only, found a string"),
    ];
    for (path, value, expected) in cases {
        let refused = parse_json(&minimal(nested(path, value))).expect_err(expected);
        let errors: Vec<_> =
            refused.problems.iter().filter(|problem| problem.severity == Severity::Error).collect();
        assert_eq!(errors.len(), 1, "{expected}: {refused}");
        assert_eq!(errors[0].to_string(), format!("error: {expected}"));
    }
}

#[test]
fn each_setting_without_effect_is_one_warning() {
    #[rustfmt::skip] // a table
    let cases = [
        ("frobnicate", json!(1), "frobnicate: unknown field, ignored"),
        ("password", json!("x"), "password: unknown field, ignored"),
        ("serve", json!({}), "serve: unknown field, ignored (did you mean server?)"),
        ("server.pasword", json!("x"), "server.pasword: unknown field, ignored (did you mean password?)"),
        ("server.idle-session-timeout", json!("1s"), "server.idle-session-timeout: unknown field, ignored (did you mean idle_session_timeout?)"),
        ("server.line\nbreak", json!(1), "server[\"line\\nbreak\"]: unknown field, ignored"),
        ("server.connection_lifetime_jitter", json!("1s"), "server.connection_lifetime_jitter: has no effect: max_connection_lifetime is off"),
        ("server.min_idle_session_for_age", json!(1), "server.min_idle_session_for_age: has no effect: max_connection_lifetime is off"),
        ("server", json!({ "ensure_idle_session": 0, "ensure_idle_session_create_rate": 1 }), "server.ensure_idle_session_create_rate: has no effect: ensure_idle_session is 0"),
        ("server.min_idle_session", json!(129), "server.min_idle_session: 129 sessions cannot be idle: max_sessions is 128"),
        ("server.max_sessions", json!(1), "server.ensure_idle_session: 2 sessions cannot be idle: max_sessions is 1"),
        ("server.domain_resolver", json!("local"), "server.domain_resolver: has no effect: the server's name is resolved by the app, outside the tunnel"),
        ("server.tcp_fast_open", json!(true), "server.tcp_fast_open: has no effect: sessions are reused, so that a handshake is rare"),
        ("server.tls.insecure", json!(true), "server.tls.insecure: the certificate is not verified: whoever stands between can read everything"),
        ("server.tls.min_version", json!("1.0"), "server.tls.min_version: 1.2 is the oldest version that is spoken"),
        ("server.tls.utls", json!({ "enabled": true, "fingerprint": "chrome" }), "server.tls.utls: has no effect: the ClientHello imitates no browser: no server asks for it, and sing-box advises against it"),
        ("tun.auto_route", json!(true), "tun.auto_route: unknown field, ignored"),
        ("dns", json!({ "server": "tls://1.1.1.1", "tls": { "alpn": "dot" } }), "dns.tls.alpn: has no effect: the server is offered what its transport needs"),
        ("dns", json!({ "server": "https://1.1.1.1", "tls": { "insecure": true } }), "dns.tls.insecure: the certificate is not verified: whoever stands between can read everything"),
        ("log.output", json!("box.log"), "log.output: has no effect: the app decides where log lines go"),
    ];
    for (path, value, expected) in cases {
        let parsed = parse_json(&minimal(nested(path, value))).expect(expected);
        assert_eq!(lines(&parsed.warnings), [format!("warning: {expected}")]);
    }
}

#[test]
fn a_long_field_name_is_cut() {
    let parsed = parse_json(&minimal(json!({ "x".repeat(49): 1 }))).unwrap();
    let expected = format!("warning: [\"{}\"…]: unknown field, ignored", "x".repeat(48));
    assert_eq!(lines(&parsed.warnings), [expected]);
}

#[test]
fn all_problems_come_at_once_errors_first() {
    let text = r#"{
        "colour": "red",
        "server": { "server": "", "server_port": 0, "heartbeat": "x", "tls": { "alpn": [1, 2], "utls": { "enabled": true } } },
        "tun": { "mtu": 100 },
    }"#;
    let refused = parse(text, &Defaults::default()).unwrap_err();
    let expected = "\
error: server.server: expected the server's name or address
error: server.password: expected the server's password
error: server.server_port: expected an integer from 1 to 65535, found a number
error: server.tls.alpn[0]: expected a protocol name of 1 to 255 bytes, found a number
error: server.tls.alpn[1]: expected a protocol name of 1 to 255 bytes, found a number
error: server.heartbeat: expected a duration such as 30s, 5m or 1h30m
error: tun.mtu: expected an integer from 1280 to 65535, found a number
warning: server.tls.utls: has no effect: the ClientHello imitates no browser: no server asks for it, and sing-box advises against it
warning: colour: unknown field, ignored";
    assert_eq!(refused.to_string(), expected);
}

#[test]
fn a_flood_of_problems_is_cut_and_counted_without_losing_an_error() {
    let mut config = minimal(json!({ "tun": { "mtu": 1 } }));
    let flood: serde_json::Map<_, _> = (0..5000).map(|i| (format!("unknown_{i}"), Value::Null)).collect();
    merge(&mut config, json!({ "server": flood }));
    let problems = parse_json(&config).unwrap_err().problems;
    assert_eq!(problems.len(), 102);
    assert_eq!(problems[0].path, "tun.mtu");
    assert_eq!(problems[101].to_string(), "warning: 4900 more problems are not listed");
}

#[test]
fn text_that_is_no_config_is_refused_as_a_whole() {
    for (text, expected) in [
        ("", "expected a JSON object or an anytls:// URI"),
        ("hunter2", "expected a JSON object or an anytls:// URI"),
        ("vless://hunter2@example.com", "expected a JSON object or an anytls:// URI"),
        ("[]", "expected a JSON object or an anytls:// URI"),
        ("// only a comment", "not JSON: EOF while parsing a value at line 1 column 17"),
        ("/**/ \"hunter2\"", "expected a JSON object"),
        (
            "{\n  \"password\": \"hunter2\",\n  hunter2\n}",
            "not JSON: key must be a string at line 3 column 3",
        ),
        ("{\"password\": \"hunter2", "not JSON: EOF while parsing a string at line 1 column 21"),
    ] {
        let refused = parse(text, &Defaults::default()).unwrap_err();
        assert_eq!(refused.to_string(), format!("error: {expected}"), "{text}");
    }
    let long = format!("{{}}{}", " ".repeat(MAX_TEXT_BYTES));
    let refused = parse(&long, &Defaults::default()).unwrap_err();
    assert_eq!(refused.to_string(), "error: expected at most 1048576 bytes");
}
