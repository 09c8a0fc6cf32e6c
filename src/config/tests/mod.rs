//! The reader as a whole: text in, config or problems out.

mod docs;
mod forms;
mod problems;
mod robustness;
mod values;

use serde_json::{Value, json};

use super::*;

const PIN: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
/// PEM text that holds a certificate and a key as far as this layer looks: their content is up to TLS.
const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
const KEY: &str = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";

fn parse_json(value: &Value) -> Result<Parsed, ConfigError> {
    parse(&value.to_string(), &Defaults::default())
}

/// Our own form with the two required fields, and `fields` merged in.
fn minimal(fields: Value) -> Value {
    let mut config = json!({ "server": { "server": "example.com", "password": "secret" } });
    merge(&mut config, fields);
    config
}

fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            from.into_iter().for_each(|(name, value)| merge(into.entry(name).or_insert(Value::Null), value));
        }
        (into, from) => *into = from,
    }
}

/// `{ "a": { "b": value } }` for `a.b`.
fn nested(path: &str, value: Value) -> Value {
    path.rsplit('.').fold(value, |value, name| json!({ name: value }))
}

fn lines(problems: &[Problem]) -> Vec<String> {
    problems.iter().map(Problem::to_string).collect()
}
