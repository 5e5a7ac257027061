//! Fuzzing in every test run: the whole corpus, then mutations of it for a few seconds.
//!
//! `ATLAS_FUZZ_SECONDS` makes it longer, for each target; `ATLAS_FUZZ_SEED` makes it repeat itself.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "targets.rs"]
mod targets;

use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Pieces that mean something to what is fuzzed.
const WORDS: [&str; 24] = [
    "{",
    "}",
    "[",
    "]",
    ":",
    ",",
    "\"",
    "null",
    "true",
    "-1",
    "9223372036854775807",
    "1e999",
    "\\u0000",
    "../",
    "*",
    "\n",
    "\"outcome\":",
    "\"succeeded\"",
    "\"summaryCounts\":",
    "\"failed\":",
    "\"failures\":",
    "\"includeKinds\":",
    "\u{202e}",
    "\"repository\":",
];

/// SplitMix64: small, seeded, good enough to choose with.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(limit.max(1)).unwrap()).unwrap()
    }
}

fn mutate(random: &mut Random, corpus: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = corpus[random.below(corpus.len())].clone();
    for _ in 0..=random.below(6) {
        let at = random.below(bytes.len() + 1);
        match random.below(6) {
            0 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
            1 => bytes.truncate(at),
            2 => {
                let other = &corpus[random.below(corpus.len())];
                let from = random.below(other.len() + 1);
                bytes.splice(at.., other[from..].iter().copied());
            }
            3 => {
                let end = at + random.below(bytes.len() - at + 1).min(64);
                let piece = bytes[at..end].to_vec();
                bytes.splice(at..at, piece);
            }
            4 if at < bytes.len() => bytes[at] = u8::try_from(random.below(256)).unwrap(),
            _ => {
                let word = WORDS[random.below(WORDS.len())].bytes();
                bytes.splice(at..at, word);
            }
        }
    }
    bytes.truncate(100_000);
    bytes
}

fn variable<T: std::str::FromStr>(name: &str, otherwise: T) -> T {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(otherwise)
}

/// Runs a target on its corpus and on what comes of it. A failure leaves its input in a file.
fn fuzz(name: &str, target: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(name);
    let mut files: Vec<PathBuf> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let corpus: Vec<Vec<u8>> = files.iter().map(|file| std::fs::read(file).unwrap()).collect();
    assert!(!corpus.is_empty(), "{} is empty", folder.display());
    let run = |input: &[u8]| {
        if catch_unwind(|| target(input)).is_err() {
            let file = std::env::temp_dir().join(format!("tenantatlas-fuzz-{name}-{}", std::process::id()));
            std::fs::write(&file, input).unwrap();
            panic!(
                "{name} failed on the input in {}: mend it, then add the file to {}",
                file.display(),
                folder.display()
            );
        }
    };
    for input in &corpus {
        run(input);
    }
    let seed = variable("ATLAS_FUZZ_SEED", u64::from(std::process::id()));
    let until = Instant::now() + Duration::from_secs(variable("ATLAS_FUZZ_SECONDS", 2));
    let mut random = Random(seed);
    let mut executions = corpus.len();
    while Instant::now() < until {
        run(&mutate(&mut random, &corpus));
        executions += 1;
    }
    println!("{name}: {executions} executions, seed {seed}");
}

#[test]
fn no_bytes_that_come_from_others_break_a_promise() {
    for (name, target) in targets::TARGETS {
        fuzz(name, target);
    }
}
