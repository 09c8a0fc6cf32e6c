//! Replays the corpus of the fuzz targets: seeds by hand, and every input that ever crashed. Then mutates it for a
//! while, the same way every time.

use std::path::{Path, PathBuf};
use std::{env, fs, thread};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

#[path = "../fuzz/entry/mod.rs"]
mod entry;

/// The inputs of a target, in the order of their names.
fn corpus(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(target);
    let files = fs::read_dir(&folder).expect("the corpus is there");
    let mut paths: Vec<PathBuf> = files.map(|file| file.expect("a readable folder").path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "{} is empty", folder.display());
    paths.into_iter().map(|path| (path.clone(), fs::read(path).expect("a readable input"))).collect()
}

fn replay(target: &str, entry: fn(&[u8])) {
    for (path, input) in corpus(target) {
        println!("{}", path.display()); // shown when it fails
        entry(&input);
    }
}

/// Inputs mutated from each target's corpus: what takes a second.
const ROUNDS: u64 = 10_000;

/// Runs inputs mutated from the corpus, a seed each. `FUZZ_SEEDS=10000..900000` runs others instead.
fn mutate(target: &str, entry: fn(&[u8])) {
    let corpus: Vec<Vec<u8>> = corpus(target).into_iter().map(|(_, input)| input).collect();
    let seeds = env::var("FUZZ_SEEDS").ok().map_or(0..ROUNDS, |seeds| {
        let (start, end) = seeds.split_once("..").expect("FUZZ_SEEDS is a range");
        start.parse().expect("a number")..end.parse().expect("a number")
    });
    for seed in seeds {
        let input = Mutator { rng: StdRng::seed_from_u64(seed), corpus: &corpus }.input();
        let round = Round { target, seed, input };
        entry(&round.input);
    }
}

/// Says what to repeat when it fails, and keeps the input.
struct Round<'a> {
    target: &'a str,
    seed: u64,
    input: Vec<u8>,
}

impl Drop for Round<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            let Self { target, seed, input } = self;
            let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{target}_{seed}"));
            let kept = fs::write(&path, input);
            eprintln!("target {target}, seed {seed}, {} ({kept:?})", path.display());
        }
    }
}

struct Mutator<'a> {
    rng: StdRng,
    corpus: &'a [Vec<u8>],
}

impl<'a> Mutator<'a> {
    fn input(&mut self) -> Vec<u8> {
        let mut input = self.pick().to_vec();
        for _ in 0..1 << self.rng.random_range(0..4) {
            self.change(&mut input);
        }
        input.truncate(MAX_INPUT_BYTES);
        input
    }

    fn change(&mut self, input: &mut Vec<u8>) {
        let at = self.rng.random_range(0..=input.len());
        let end = input.len().min(at + (1 << self.rng.random_range(0..8)));
        match self.rng.random_range(0..12) {
            0..4 => {
                if let Some(byte) = input.get_mut(at) {
                    *byte ^= 1 << self.rng.random_range(0..8);
                }
            }
            4 | 5 => {
                if let Some(byte) = input.get_mut(at) {
                    *byte = [0, 1, 0x7f, 0x80, 0xff, self.rng.random()][self.rng.random_range(0..6)];
                }
            }
            6 => drop(input.drain(at..end)),
            7 => input.extend_from_within(at..end),
            8 => {
                let copy = input[at..end].to_vec();
                input.splice(at..at, copy);
            }
            9 => drop(input.splice(at..at, self.piece())),
            10 => drop(input.splice(at..end, self.piece())),
            _ => {
                input.truncate(at);
                input.extend(self.piece());
            }
        }
    }

    /// Some of another input.
    fn piece(&mut self) -> Vec<u8> {
        let input = self.pick();
        let from = self.rng.random_range(0..=input.len());
        let to = self.rng.random_range(from..=input.len());
        input[from..to].to_vec()
    }

    fn pick(&mut self) -> &'a [u8] {
        &self.corpus[self.rng.random_range(0..self.corpus.len())]
    }
}

/// Where libFuzzer stops, too, unless it is told otherwise.
const MAX_INPUT_BYTES: usize = 4096;

/// The tests of each target.
macro_rules! targets {
    ($($target:ident: $entry:expr;)*) => {$(
        mod $target {
            #[test]
            fn corpus_holds() {
                super::replay(stringify!($target), $entry);
            }

            #[test]
            fn mutated_corpus_holds() {
                super::mutate(stringify!($target), $entry);
            }
        }
    )*};
}

targets! {
    auth: crate::entry::wire::auth;
    config: crate::entry::text::config;
    datagrams: crate::entry::wire::datagrams;
    dns: crate::entry::dns::dns;
    frames: crate::entry::wire::frames;
    packets: crate::entry::packets::packets;
    scheme: crate::entry::wire::scheme;
    settings: crate::entry::wire::settings;
    target: crate::entry::wire::target;
    uri: crate::entry::text::uri;
}
