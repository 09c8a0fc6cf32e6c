//! docs/config.md says what the code does.

use std::fs;

use serde_json::json;

use super::*;

fn text() -> String {
    fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/config.md")).unwrap()
}

/// The tables of docs/config.md: the path and the default column of each row.
fn documented() -> Vec<(String, String)> {
    let text = text();
    let mut section = None;
    let mut rows = Vec::new();
    for line in text.lines() {
        if let Some(title) = line.strip_prefix('#') {
            section = title.split('`').nth(1).map(str::to_owned);
        }
        if let (Some(section), Some(row)) = (&section, line.strip_prefix("| `")) {
            let name = row.split('`').next().unwrap_or_default();
            let default = row.split('|').nth(2).unwrap_or_default().trim();
            rows.push((format!("{section}.{name}"), default.to_owned()));
        }
    }
    rows
}

/// The paths of all fields that the reader knows.
pub(super) fn known() -> Vec<String> {
    let findings = Findings::default();
    read("{}", &Defaults::default(), &findings);
    findings.known.take().into_iter().collect()
}

#[test]
fn every_field_that_is_known_is_documented() {
    let text = text();
    let known = known();
    assert!(known.len() > 80, "{known:?}");
    for path in &known {
        let (section, name) = path.rsplit_once('.').unwrap_or(("", path));
        let heading = if section.is_empty() { path } else { section };
        let chapter = text.split("\n## ").find(|chapter| chapter.starts_with(&format!("`{heading}`")));
        let chapter = chapter.unwrap_or_else(|| panic!("docs/config.md has no chapter `{heading}`"));
        assert!(chapter.contains(&format!("`{name}`")), "docs/config.md does not name {path}");
    }
    for (path, _) in documented() {
        assert!(known.contains(&path), "docs/config.md names {path}, which is not read");
    }
}

#[test]
fn documented_defaults_are_the_defaults() {
    let expected = parse_json(&minimal(json!({}))).unwrap().config;
    let mut checked = 0;
    for (path, default) in documented() {
        let Some(literal) = default.strip_prefix('`').and_then(|rest| rest.strip_suffix('`')) else {
            assert!(["—", "required"].contains(&default.as_str()), "{path}: {default}");
            continue;
        };
        let literal = serde_json::from_str(literal).unwrap_or_else(|error| panic!("{path}: {error}"));
        let parsed = parse_json(&minimal(nested(&path, literal))).unwrap();
        assert_eq!(parsed.config, expected, "{path}");
        checked += 1;
    }
    assert!(checked > 30, "only {checked} defaults were found");
}

#[test]
fn the_documented_example_is_valid() {
    let text = text();
    let example = text.split("```json\n").nth(1).unwrap().split("```").next().unwrap();
    assert_eq!(parse(example, &Defaults::default()).unwrap().warnings, []);
}
