//! The program as its user sees it: exit codes, problems, and what it never says.
#![allow(clippy::disallowed_methods)] // a test's threads end with it

mod support;

use std::fs;
use std::process::{Command, Output};

use serde_json::json;
use sha2::{Digest, Sha256};
use support::lab::{Lab, PASSWORD, SERVERS, TARGETS};
use support::netns;

/// Runs the program on a config with this text; gives what it printed, on both channels.
fn run(verb: &[&str], config: &str) -> (Option<i32>, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.json");
    fs::write(&path, config).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_anytls-mobile"));
    let Output { status, stdout, stderr } = command.args(verb).arg(path).output().unwrap();
    (status.code(), format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr)))
}

#[test]
fn a_config_with_errors_is_refused_with_all_its_problems() {
    let config = json!({
        "server": { "server_port": 0, "password": "secret", "heartbeat": "often", "tls": { "alpn": [1] } },
        "tun": { "mtu": 100 },
        "colour": "blue",
    });
    for verb in [&["check"][..], &["run", "--tun", "at0", "--config"]] {
        let (code, printed) = run(verb, &config.to_string());
        assert_eq!(code, Some(1), "{printed}");
        for path in [
            "server.server",
            "server.server_port",
            "server.heartbeat",
            "server.tls.alpn[0]",
            "tun.mtu",
            "colour",
        ] {
            assert!(printed.contains(path), "{path} is not in {printed}");
        }
        assert!(!printed.contains("secret"), "{printed}");
    }
}

#[test]
fn a_config_without_errors_is_accepted_with_its_warnings() {
    let good = json!({ "server": { "server": "example.com", "password": "secret" } });
    assert_eq!(run(&["check"], &good.to_string()), (Some(0), "ok\n".to_owned()));

    let mut odd = good;
    odd["colour"] = json!("blue");
    let (code, printed) = run(&["check"], &odd.to_string());
    assert_eq!(code, Some(0));
    assert!(printed.contains("ok, with 1 warning") && printed.contains("colour"), "{printed}");
}

#[test]
fn a_password_in_a_wrong_place_is_not_repeated() {
    let secret = "tr0ub4dor";
    for config in [
        json!({ "server": { "server": "example.com", "password": [secret] } }),
        json!({ "server": { "server": secret, "server_port": secret, "password": "" } }),
        json!({ "server": secret, "log": { "level": secret } }),
        json!({ "server": { "server": "example.com", "password": "x", "heartbeat": secret } }),
        json!(secret),
    ] {
        let (code, printed) = run(&["check"], &config.to_string());
        assert_eq!(code, Some(1), "{printed}");
        assert!(!printed.contains(secret), "{printed}");
    }
    let (code, printed) = run(&["check"], &format!("{{ \"password\": \"{secret}\", }} {secret}"));
    assert_eq!(code, Some(1));
    assert!(!printed.contains(secret), "{printed}");
}

#[test]
fn unknown_words_and_a_missing_file_are_failures() {
    let program = || Command::new(env!("CARGO_BIN_EXE_anytls-mobile"));
    let code = |mut command: Command| command.output().unwrap().status.code();
    let mut missing = program();
    missing.args(["check", "/nonexistent.json"]);
    assert_eq!(code(missing), Some(1));
    let mut unknown = program();
    unknown.args(["chekc"]);
    assert_eq!(code(unknown), Some(2));
    let (status, printed) =
        run(&["run", "--config"], r#"{"server":{"server":"example.com","password":"x"}}"#);
    assert_eq!(status, Some(1));
    assert!(printed.contains("nothing to serve"), "{printed}");
}

/// That it runs: what the numbers are is for `scripts/bench` to say.
#[test]
fn the_memory_benchmark_prints_a_table_and_writes_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_anytls-mobile"));
    command.args(["bench", "memory", "--quick", "--out"]).arg(folder.path());
    let Output { status, stdout, stderr } = command.output().unwrap();
    assert!(status.success(), "{}", String::from_utf8_lossy(&stderr));
    assert!(String::from_utf8_lossy(&stdout).contains("after the first heartbeat"));
    let written = fs::read_to_string(folder.path().join("memory.json")).unwrap();
    let written: serde_json::Value = serde_json::from_str(&written).unwrap();
    assert_eq!(written["rows"].as_array().map(Vec::len), Some(4), "{written}");
}

#[test]
fn the_password_and_its_hash_are_in_no_log() {
    if !netns::available() {
        return;
    }
    let lab = Lab::new();
    let (_, start) = SERVERS[0];
    let Some(server) = lab.start_server(start) else { return };
    let wrong = "wrong horse battery staple";
    for password in [PASSWORD, wrong] {
        let mut config = lab.config(Some(&server), 1500);
        config["server"]["password"] = json!(password);
        let mut program = lab.run_program(&config, "trace");
        let url = format!("http://{}/echo/hello", TARGETS[0]);
        let answer = lab.curl(&[&url]).output().unwrap();
        assert_eq!(answer.status.success(), password == PASSWORD);
        program.signal("TERM");
        program.wait_until_ended();

        let log = program.log();
        assert!(log.contains("DEBUG") && log.contains("203.0.113.9"), "the log says what happens: {log}");
        let hash = Sha256::digest(password);
        let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        let list = format!("{hash:?}");
        let part = list.trim_matches(['[', ']']);
        for secret in [password, &hex, &hex.to_uppercase(), part] {
            assert!(!log.contains(secret), "{secret} is in {log}");
        }
    }
}
