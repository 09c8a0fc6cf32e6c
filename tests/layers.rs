//! Reads the sources and holds the layers apart: who may import whom, and where what is special may stand.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The layers, each with those of the crate's modules that it may name. Nobody may name `ffi`.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("budget", &[]),
    ("proto", &["budget"]),
    ("clock", &["platform", "proto"]),
    ("entropy", &[]),
    ("error", &[]),
    ("stats", &[]),
    ("private", &[]),
    ("logging", &["budget", "clock", "platform", "private", "task"]),
    ("task", &["budget"]),
    ("platform", &[]),
    ("tun", &["budget", "clock", "platform", "proto"]),
    ("config", &["budget", "proto"]),
    ("transport", &["budget", "clock", "entropy", "platform", "private", "proto"]),
    ("client", &["budget", "clock", "entropy", "error", "private", "proto", "stats", "task", "transport"]),
    ("netstack", &["budget", "clock", "platform", "proto", "stats", "tun"]),
    ("relay", &["budget", "client", "clock", "netstack", "private", "proto", "transport"]),
    (
        "dns",
        &["budget", "client", "clock", "error", "private", "proto", "relay", "stats", "task", "transport"],
    ),
    (
        "tunnel",
        &[
            "budget",
            "client",
            "clock",
            "config",
            "dns",
            "entropy",
            "error",
            "netstack",
            "private",
            "proto",
            "relay",
            "task",
            "transport",
            "tun",
        ],
    ),
    ("uplink", &["platform"]),
    (
        "ffi",
        &[
            "budget",
            "client",
            "clock",
            "config",
            "error",
            "logging",
            "platform",
            "private",
            "proto",
            "task",
            "transport",
            "tun",
            "tunnel",
        ],
    ),
    ("testserver", &["budget", "client", "clock", "entropy", "proto", "task", "transport"]),
];

/// What the protocol is made of: nothing that waits, connects, or knows the time.
const PROTO_CRATES: &[&str] =
    &["std", "core", "bytes", "md5", "percent_encoding", "rand", "sha2", "thiserror", "tracing"];

const UNSAFE_FILES: &[&str] = &["src/tun/fd.rs"];

struct Source {
    path: String,
    layer: String,
    lines: Vec<String>,
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut sources = Vec::new();
    collect(&root.join("src"), root, &mut sources);
    assert!(sources.len() > 30, "the sources were found");
    sources
}

fn collect(folder: &Path, root: &Path, sources: &mut Vec<Source>) {
    let mut entries: Vec<PathBuf> =
        fs::read_dir(folder).expect("readable").map(|entry| entry.expect("readable").path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            collect(&path, root, sources);
            continue;
        }
        if path.extension().is_none_or(|extension| extension != "rs") {
            continue;
        }
        let relative = path.strip_prefix(root).expect("below the root").display().to_string();
        let layer = relative.split('/').nth(1).expect("below src").trim_end_matches(".rs").to_owned();
        let text = fs::read_to_string(&path).expect("readable");
        sources.push(Source { path: relative, layer, lines: shipped_lines(&text) });
    }
}

/// The lines without comments, and without the tests at the end.
fn shipped_lines(text: &str) -> Vec<String> {
    text.lines()
        .take_while(|line| line.trim() != "#[cfg(test)]")
        .map(|line| line.split("//").next().unwrap_or_default().to_owned())
        .collect()
}

/// The modules of the crate that the line names: `crate::a`, and each of `crate::{a, b::c}`.
fn named_modules(line: &str) -> BTreeSet<String> {
    let mut modules = BTreeSet::new();
    for rest in line.split("crate::").skip(1) {
        let group = rest.strip_prefix('{').map(|group| group.split('}').next().unwrap_or_default());
        let paths = group.map_or_else(|| vec![rest], |group| group.split(',').collect());
        for path in paths {
            let name: String = path.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            modules.insert(name);
        }
    }
    modules
}

fn is_test_file(path: &str) -> bool {
    path.ends_with("/tests.rs") || path.ends_with("/testing.rs") || path.contains("/tests/")
}

#[test]
fn every_layer_imports_only_what_stands_below_it() {
    let mut problems = Vec::new();
    for source in sources().iter().filter(|source| !is_test_file(&source.path)) {
        let Some((_, allowed)) = MAY_IMPORT.iter().find(|(layer, _)| *layer == source.layer) else {
            continue;
        };
        for (number, line) in source.lines.iter().enumerate() {
            for module in named_modules(line) {
                let known = MAY_IMPORT.iter().any(|(layer, _)| *layer == module);
                if known && module != source.layer && !allowed.contains(&module.as_str()) {
                    problems.push(format!(
                        "{}:{}: {} imports {module}",
                        source.path,
                        number + 1,
                        source.layer
                    ));
                }
                if module == "ffi" {
                    problems.push(format!("{}:{}: nobody imports ffi", source.path, number + 1));
                }
            }
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn the_protocol_is_pure() {
    let mut problems = Vec::new();
    for source in sources().iter().filter(|s| s.layer == "proto" && !is_test_file(&s.path)) {
        for (number, line) in source.lines.iter().enumerate() {
            let imports = line.trim().trim_start_matches("pub ");
            if let Some(path) = imports.strip_prefix("use ") {
                let name = path.split([':', ';', ' ']).next().unwrap_or_default();
                let local = ["crate", "self", "super"].contains(&name) || is_module_of(source, name);
                if !local && !PROTO_CRATES.contains(&name) {
                    problems.push(format!("{}:{}: {name}", source.path, number + 1));
                }
            }
            for banned in ["tokio::", "std::net::Tcp", "std::net::Udp", "Instant", "SystemTime", "rand::rng("]
            {
                if line.contains(banned) {
                    problems.push(format!("{}:{}: {banned}", source.path, number + 1));
                }
            }
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

fn is_module_of(source: &Source, name: &str) -> bool {
    source.lines.iter().any(|line| line.trim_end().ends_with(&format!("mod {name};")))
}

#[test]
fn only_the_platform_asks_which_system_it_is() {
    let mut problems = Vec::new();
    for source in sources().iter().filter(|source| source.layer != "platform") {
        for (number, line) in source.lines.iter().enumerate() {
            if line.contains("target_os") || line.contains("cfg(unix") || line.contains("target_vendor") {
                problems.push(format!("{}:{}", source.path, number + 1));
            }
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn unsafe_stands_only_where_it_is_allowed_and_says_why() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut problems = Vec::new();
    for source in sources() {
        let allowed = source.layer == "platform" || UNSAFE_FILES.contains(&source.path.as_str());
        let text = fs::read_to_string(root.join(&source.path)).expect("readable");
        let lines: Vec<&str> = text.lines().collect();
        for (at, line) in lines.iter().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            if !code.contains("unsafe {") && !code.contains("unsafe fn") && !code.contains("unsafe impl") {
                continue;
            }
            if !allowed {
                problems.push(format!("{}:{}: unsafe", source.path, at + 1));
            }
            let reason = lines[at.saturating_sub(6)..=at].iter().any(|line| line.contains("SAFETY:"));
            if !reason && !code.contains("unsafe fn") {
                problems.push(format!("{}:{}: no SAFETY comment", source.path, at + 1));
            }
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn the_test_sees_what_it_looks_for() {
    assert_eq!(named_modules("use crate::client::Stream;"), BTreeSet::from(["client".to_owned()]));
    let group = named_modules("use crate::{proto::frame, tunnel};");
    assert_eq!(group, BTreeSet::from(["proto".to_owned(), "tunnel".to_owned()]));
    assert_eq!(shipped_lines("a // b\n#[cfg(test)]\nmod tests;"), ["a "]);
}
