//! Replays the corpus of the fuzz targets: seeds by hand, and every input that ever crashed.

use std::fs;
use std::path::Path;

#[path = "../fuzz/entry.rs"]
mod entry;

fn replay(target: &str, entry: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(target);
    let mut inputs = 0;
    for file in fs::read_dir(&folder).expect("the corpus is there") {
        let path = file.expect("a readable folder").path();
        println!("{}", path.display()); // shown when it fails
        entry(&fs::read(path).expect("a readable input"));
        inputs += 1;
    }
    assert!(inputs > 0, "{} is empty", folder.display());
}

#[test]
fn auth_corpus_holds() {
    replay("auth", entry::auth);
}

#[test]
fn frames_corpus_holds() {
    replay("frames", entry::frames);
}

#[test]
fn scheme_corpus_holds() {
    replay("scheme", entry::scheme);
}

#[test]
fn settings_corpus_holds() {
    replay("settings", entry::settings);
}

#[test]
fn target_corpus_holds() {
    replay("target", entry::target);
}
