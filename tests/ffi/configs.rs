//! Configs, URIs, presets.

use anytls_mobile::ffi::{
    ConfigProblem, LogLevel, ServerUri, Severity, TunnelError, build_uri, parse_config, parse_uri, presets,
    version,
};

fn problems(error: TunnelError) -> Vec<ConfigProblem> {
    let TunnelError::Config { problems } = error else { panic!("{error}") };
    problems
}

#[test]
fn a_config_is_summed_up_without_its_secrets() {
    let summary = parse_config(
        r#"{
            "log": { "level": "debug" },
            "server": { "tag": "home", "server": "vpn.example.org", "server_port": 8443, "password": "correct horse",
                        "tls": { "insecure": true } },
            "tun": { "mtu": 1400, "addresses": ["10.7.0.1/24", "fd00::1/64"] },
            "colour": "blue"
        }"#,
    )
    .unwrap();
    assert_eq!(summary.name.as_deref(), Some("home"));
    assert_eq!((summary.server_host.as_str(), summary.server_port), ("vpn.example.org", 8443));
    assert!(summary.is_insecure);
    assert_eq!(summary.log_level, Some(LogLevel::Debug));
    assert_eq!(summary.tun.mtu, 1400);
    let addresses: Vec<_> =
        summary.tun.addresses.iter().map(|a| (a.address.as_str(), a.prefix_length)).collect();
    assert_eq!(addresses, [("10.7.0.1", 24), ("fd00::1", 64)]);
    assert_eq!(summary.tun.dns_servers, ["10.7.0.2", "fd00::2"]);
    assert_eq!(summary.warnings.len(), 2, "{:?}", summary.warnings);
    assert_eq!(
        (summary.warnings[1].severity, summary.warnings[1].path.as_str()),
        (Severity::Warning, "colour")
    );
    assert!(!format!("{summary:?}").contains("correct horse"));
}

#[test]
fn a_family_without_an_address_has_no_dns_server() {
    for (address, server) in [
        ("10.7.0.1/30", "10.7.0.2"),
        ("10.7.0.2/30", "10.7.0.1"),
        ("10.7.0.9/32", "172.19.0.2"), // alone in its network
        ("fd00::1/126", "fd00::2"),
        ("fd00::1/128", "fdfe:dcba:9876::2"),
    ] {
        let config = format!(
            r#"{{"server": {{"server": "192.0.2.1", "password": "x"}}, "tun": {{"addresses": ["{address}"]}}}}"#
        );
        assert_eq!(parse_config(&config).unwrap().tun.dns_servers, [server], "{address}");
    }
}

#[test]
fn all_problems_of_a_config_come_at_once_and_quote_nothing() {
    let error =
        parse_config(r#"{"server": {"server": "hunter2!", "server_port": 0, "password": ["hunter2"]}}"#)
            .unwrap_err();
    let failure = error.failure();
    assert_eq!((failure.code.as_str(), failure.is_retryable), ("config", false));
    let text = format!("{error:?} {failure:?}");
    assert!(!text.contains("hunter2"), "{text}");
    let problems = problems(error);
    let paths: Vec<_> = problems.iter().map(|problem| problem.path.as_str()).collect();
    for path in ["server.server", "server.server_port", "server.password"] {
        assert!(paths.contains(&path), "{path} in {paths:?}");
    }
}

#[test]
fn a_uri_is_taken_apart_and_put_together_again() {
    let text = "anytls://p%40ss%20word@[2001:db8::1]:8443/?sni=example.org&insecure=1#my%20server";
    let parts = parse_uri(text).unwrap();
    let expected = ServerUri {
        password: "p@ss word".to_owned(),
        host: "2001:db8::1".to_owned(),
        port: 8443,
        sni: Some("example.org".to_owned()),
        is_insecure: true,
        name: Some("my server".to_owned()),
    };
    assert_eq!(parts, expected);
    assert_eq!(build_uri(parts.clone()).unwrap(), text);
    assert!(!format!("{parts} {parts:?}").contains("p@ss"));
    assert_eq!(parse_config(text).unwrap().name.as_deref(), Some("my server"));
}

#[test]
fn parts_that_make_no_uri_are_refused_by_their_path() {
    let good = parse_uri("anytls://x@example.org").unwrap();
    let bad = [
        (ServerUri { password: String::new(), ..good.clone() }, "uri.password"),
        (ServerUri { host: "no host".to_owned(), ..good.clone() }, "uri.host"),
        (ServerUri { port: 0, ..good.clone() }, "uri.port"),
        (ServerUri { sni: Some("no name".to_owned()), ..good }, "uri.sni"),
    ];
    for (parts, path) in bad {
        let problems = problems(build_uri(parts).unwrap_err());
        assert_eq!((problems.len(), problems[0].path.as_str()), (1, path));
    }
    assert!(!problems(parse_uri("https://example.org").unwrap_err()).is_empty());
}

#[test]
fn presets_and_the_version_are_told() {
    let presets = presets();
    assert_eq!((presets.len(), presets[0].name.as_str()), (6, "mobile"));
    assert_eq!(presets[0].heartbeat_background.map(|interval| interval.as_secs()), Some(270));
    for preset in presets {
        let config = format!(
            r#"{{"server": {{"server": "192.0.2.1", "password": "x", "preset": "{}"}}}}"#,
            preset.name
        );
        assert!(parse_config(&config).unwrap().warnings.is_empty(), "{}", preset.name);
    }
    assert_eq!(version(), env!("CARGO_PKG_VERSION"));
}
