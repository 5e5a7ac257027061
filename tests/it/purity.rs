//! What is pure stays pure: no client, no clock.

use std::{fs, path::Path};

/// What would bring a client or a clock in.
const CLIENTS: [&str; 5] = ["kube::Client", "kube::Api", "Api<", "Api::", "kube::client"];
const CLOCKS: [&str; 5] = ["Timestamp::now", "Zoned::now", "Instant::now", "SystemTime", "crate::clock"];

fn sources(folder: &Path, found: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push((path.display().to_string(), fs::read_to_string(&path).unwrap()));
        }
    }
}

fn under(folder: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join(folder), &mut found);
    assert!(!found.is_empty(), "{folder} holds no source");
    found
}

fn assert_without(files: &[(String, String)], words: &[&str]) {
    for (path, text) in files {
        for word in words {
            assert!(!text.contains(word), "{path} names {word}");
        }
    }
}

/// That neither has a client is the compiler's to say: their Cargo.toml names none.
#[test]
fn the_api_and_the_repository_name_no_clock() {
    for crate_ in ["api", "repository"] {
        assert_without(&under(&format!("crates/{crate_}/src")), &CLOCKS);
    }
}

#[test]
fn decisions_name_no_client_and_no_clock() {
    const PURE: [&str; 9] =
        ["decide", "prepare", "finish", "fairness", "waiting", "job", "observed", "patch", "duration"];
    let files: Vec<_> = under("src/controller")
        .into_iter()
        .filter(|(path, _)| Path::new(path).file_stem().is_some_and(|stem| PURE.iter().any(|pure| stem == *pure)))
        .collect();
    assert!(
        files.len() >= PURE.len() + 2,
        "a decide.rs has moved: {:?}",
        files.iter().map(|file| &file.0).collect::<Vec<_>>()
    );
    assert_without(&files, &CLIENTS);
    assert_without(&files, &CLOCKS);
}

#[test]
fn the_thinking_about_a_restore_names_no_client_no_clock_and_no_repository() {
    let files = under("src/restore");
    assert_without(&files, &CLIENTS);
    assert_without(&files, &CLOCKS);
    assert_without(&files, &["kube::", "async ", "crate::repository", "crate::worker", "crate::controller"]);
}

#[test]
fn the_audit_chain_names_no_client_and_no_clock() {
    let files = under("src/audit");
    assert_without(&files, &CLIENTS);
    assert_without(&files, &CLOCKS);
    assert_without(&files, &["kube::", "async ", "crate::repository", "crate::worker", "crate::controller"]);
}

#[test]
fn schedules_name_no_client_and_no_clock() {
    let mut files = under("src/schedule");
    // A test measures how long a count takes.
    files.retain(|(path, _)| !path.ends_with("tests.rs"));
    assert_without(&files, &CLIENTS);
    assert_without(&files, &CLOCKS);
    assert_without(&files, &["kube::", "async ", "crate::repository", "crate::worker", "crate::controller"]);
}
