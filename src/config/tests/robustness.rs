//! Whatever comes in: no panic, and no secret out.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::docs::known;
use super::*;

/// Any JSON, with the names that matter more likely than others.
fn any_json() -> impl Strategy<Value = Value> {
    let name = prop_oneof![
        3 => proptest::sample::select(known()).prop_map(|path| path.rsplit('.').next().unwrap().to_owned()),
        1 => Just("outbounds".to_owned()),
        1 => Just("inbounds".to_owned()),
        1 => ".{0,12}",
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[0-9]{0,3}(s|m|ms|h)?".prop_map(Value::from),
        proptest::sample::select(vec![
            "anytls",
            "tun",
            "mobile",
            "auto",
            "1.2",
            "info",
            "10.0.0.1/8",
            "example.com"
        ])
        .prop_map(Value::from),
        ".{0,20}".prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 64, 12, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((name.clone(), inner), 0..12)
                .prop_map(|fields| fields.into_iter().collect()),
        ]
    })
}

/// Letters that no message and no field name has, so that finding one of them is finding the secret.
const SECRET: &str = "[ΑΒΓΔΕΖΗΘ]{8,24}";

/// Text of no kind, URIs and JSON of a sort.
const TEXT: &str =
    r#".{0,200}|anytls://.{0,80}|anytls://p@[a-z.:\[\]%/?&=#0-9]{0,40}|\{[\[\]{}":,/*# \\a-z0-9]{0,80}"#;

/// A refusal has an error, and what is taken has none.
fn assert_severities(parsed: &Result<Parsed, ConfigError>) {
    let problems = match parsed {
        Ok(parsed) => &parsed.warnings,
        Err(refused) => &refused.problems,
    };
    let has_error = problems.iter().any(|problem| problem.severity == Severity::Error);
    assert_eq!(has_error, parsed.is_err(), "{problems:?}");
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused_without_panic(text in TEXT) {
        assert_severities(&parse(&text, &Defaults::default()));
    }

    #[test]
    fn any_json_is_read_or_refused_without_panic(value in any_json(), whole in any::<bool>()) {
        assert_severities(&parse_json(&value));
        let outbound = json!({ "type": "anytls", "server": "h", "password": "p", "tls": value });
        let sing_box = json!({ "outbounds": [outbound], "inbounds": value, "route": value });
        assert_severities(&parse_json(&if whole { sing_box } else { minimal(value) }));
    }

    #[test]
    fn a_config_shows_no_secret(password in SECRET) {
        let config = parse_json(&minimal(json!({ "server": { "password": password } }))).unwrap().config;
        prop_assert_eq!(config.server.password.expose(), password.as_bytes());
        let shown = format!("{config:?} {config:#?} {:?}", Uri::from(&config.server));
        let as_bytes = format!("{:?}", password.as_bytes());
        prop_assert!(!shown.contains(&password) && !shown.contains(&as_bytes), "{}", shown);
    }

    #[test]
    fn a_secret_as_the_value_of_any_field_is_never_shown(
        secret in SECRET,
        path in proptest::sample::select(known()),
        shape in 0..4,
    ) {
        let value = match shape {
            0 => json!(secret),
            1 => json!([secret, 1, { "a": secret }]),
            2 => json!({ "enabled": secret }),
            _ => json!(format!("anytls://{secret}@{secret}:443/?sni={secret}")),
        };
        let shown = match parse_json(&minimal(nested(&path, value))) {
            Ok(parsed) => format!("{:?}", parsed.warnings),
            Err(refused) => format!("{refused} {refused:?}"),
        };
        prop_assert!(!shown.contains(&secret[..16]), "{}: {}", path, shown);
    }

    #[test]
    fn a_secret_in_broken_text_is_never_shown(secret in SECRET, cut in 0..100_usize) {
        let fields = json!({ "server": { "password": secret, "tls": { "client_key": secret } } });
        let text = minimal(fields).to_string();
        let end = (0..=cut.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap();
        for text in [&text[..end], &text[end..], &format!("anytls://{}", &text[end..])] {
            if let Err(refused) = parse(text, &Defaults::default()) {
                prop_assert!(!format!("{refused} {refused:?}").contains(&secret[..16]), "{}", refused);
            }
        }
    }
}
